"""Decoding requests, saying the legacy form in the modern one, and folding answers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat import (
    AssistantMessage,
    ChatRequest,
    Chunk,
    InvalidRequest,
    ToolCallDelta,
    ToolMessage,
    Usage,
    decode_request,
    fold,
    modern,
    texts,
)

HI: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def decode(**fields: Any) -> ChatRequest:
    return decode_request(msgspec.json.encode({**HI, **fields}))


def messages(*items: Any) -> dict[str, Any]:
    return {"messages": list(items)}


def part(**fields: Any) -> dict[str, Any]:
    return messages({"role": "user", "content": [fields]})


WRONG: list[tuple[bytes | dict[str, Any], str | None]] = [  # a body, and the path of what is wrong with it
    (b"", None),
    (b"{", None),
    (b"[]", None),
    (b"null", None),
    (b'{"model":"\xff"}', None),
    (b"[" * 100_000, None),
    (b'{"model":"m","messages":[{"role":"user","content":"x"}]} x', None),
    (b'{"model":NaN}', None),
    (b'\xef\xbb\xbf{"model":"m"}', None),
    ("é".encode("utf-16"), None),
    (b"{}", "model"),
    (b'{"model":"m"}', "messages"),
    ({"model": ""}, "model"),
    ({"model": 3}, "model"),
    ({"messages": []}, "messages"),
    ({"messages": "Hi"}, "messages"),
    (messages({"content": "Hi"}), "messages[0].role"),
    (messages({"role": "king", "content": "Hi"}), "messages[0].role"),
    (messages({"role": "user"}), "messages[0].content"),
    (messages({"role": "user", "content": None}), "messages[0].content"),
    (messages({"role": "user", "content": 3}), "messages[0].content"),
    (messages({"role": "tool", "content": "x"}), "messages[0].tool_call_id"),
    (messages({"role": "function", "content": "x"}), "messages[0].name"),
    (messages({"role": "assistant", "tool_calls": [{"id": "1"}]}), "messages[0].tool_calls[0].function"),
    (messages({"role": "assistant", "tool_calls": [{}]}), "messages[0].tool_calls[0].id"),
    (part(text="x"), "messages[0].content[0].type"),
    (part(type="text"), "messages[0].content[0].text"),
    (part(type="image_url"), "messages[0].content[0].image_url"),
    (part(type="image_url", image_url="http://x"), "messages[0].content[0].image_url"),
    (part(type="input_audio", input_audio={"data": "x"}), "messages[0].content[0].input_audio.format"),
    ({"temperature": 2.5}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": -0.1}, "top_p"),
    ({"n": 0}, "n"),
    ({"n": 1.5}, "n"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"presence_penalty": 3}, "presence_penalty"),
    ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"stream": "yes"}, "stream"),
    ({"stop": {"a": 1}}, "stop"),
    ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
    (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": "x"}}]},
        "tools[0].function.parameters",
    ),
    ({"tools": [{"type": "custom"}]}, "tools[0].custom"),
    ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
    ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.allowed_tools"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": "json"}, "response_format"),
    ({"metadata": {"a": 1}}, "metadata[...]"),
    ({"logit_bias": {"1": "x"}}, "logit_bias[...]"),
]


@pytest.mark.parametrize(("body", "param"), WRONG)
def test_a_bad_body_is_refused_with_the_path_of_the_field(body: bytes | dict[str, Any], param: str | None):
    raw = body if isinstance(body, bytes) else msgspec.json.encode({**HI, **body})
    with pytest.raises(InvalidRequest) as caught:
        decode_request(raw)
    assert caught.value.param == param
    assert caught.value.message


def test_every_role_and_part_is_taken():
    request = decode_request(
        msgspec.json.encode(
            {
                "model": "m",
                "messages": [
                    {"role": "system", "content": "a", "name": "n"},
                    {"role": "developer", "content": [{"type": "text", "text": "b"}]},
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "c", "prompt_cache_breakpoint": {"mode": "explicit"}},
                            {"type": "image_url", "image_url": {"url": "https://x", "detail": "original"}},
                            {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
                            {"type": "file", "file": {"file_id": "f"}},
                            {"type": "video_url", "video_url": {"url": "https://x"}},
                        ],
                    },
                    {
                        "role": "assistant",
                        "content": [{"type": "refusal", "refusal": "no"}],
                        "reasoning_content": "r",
                        "annotations": [],
                        "parsed": None,
                        "tool_calls": [
                            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                            {"id": "2", "type": "custom", "custom": {"name": "c", "input": "x"}},
                        ],
                    },
                    {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "d"}]},
                    {"role": "tool", "tool_call_id": "2", "content": "e"},
                ],
            }
        )
    )
    assert [type(m).__name__ for m in request.messages] == [
        "SystemMessage",
        "DeveloperMessage",
        "UserMessage",
        "AssistantMessage",
        "ToolMessage",
        "ToolMessage",
    ]
    assert texts(request.messages[2].content) == ["c"]


def test_the_wire_keeps_each_field_as_it_was_sent():
    body = b'{ "model" : "m", "messages":[{"role":"user", "content":"H\\u00e9"}], "x": {"b" :1, "a":2.50} }'
    wire = decode_request(body).wire
    assert bytes(wire["messages"]) == b'[{"role":"user", "content":"H\\u00e9"}]'
    assert bytes(wire["x"]) == b'{"b" :1, "a":2.50}'


def test_of_a_field_that_comes_twice_the_last_one_counts_everywhere():
    request = decode_request(b'{"model":"a","messages":[{"role":"user","content":"x"}],"model":"b"}')
    assert request.model == "b"
    assert bytes(request.wire["model"]) == b'"b"'


def test_a_client_cannot_set_the_gateways_own_fields():
    own = {"gateway:wire": {}, "gateway:strict": True, "gateway:legacy": True, "wire": 1, "strict": True}
    request = decode(**own)
    assert (request.strict, request.legacy) == (False, False)
    assert set(request.wire) == {*HI, *own}


def test_derived_values():
    assert decode(max_tokens=1, max_completion_tokens=2).max_output_tokens == 2
    assert decode(max_tokens=1).max_output_tokens == 1
    assert decode(stop="a").stop_list == ["a"]
    assert decode(stop=["a", "b"]).stop_list == ["a", "b"]
    assert decode().stop_list == []
    assert decode(stream=True, stream_options={"include_usage": True}).include_usage
    assert not decode(stream_options={"include_usage": True}).include_usage


def test_legacy_functions_are_said_as_tools():
    request = modern(
        decode_request(
            msgspec.json.encode(
                {
                    "model": "m",
                    "messages": [
                        {"role": "user", "content": "x"},
                        {
                            "role": "assistant",
                            "content": None,
                            "function_call": {"name": "f", "arguments": "{}"},
                        },
                        {"role": "function", "name": "f", "content": "result"},
                    ],
                    "functions": [{"name": "f", "parameters": {"type": "object"}}],
                    "function_call": {"name": "f"},
                    "seed": 7,
                }
            )
        )
    )
    assert request.legacy
    assert request.tools is not None
    assert request.tools[0].function is not None
    assert request.tools[0].function.name == "f"
    said, result = request.messages[1:]
    assert isinstance(said, AssistantMessage)
    assert isinstance(result, ToolMessage)
    assert said.tool_calls is not None
    assert said.tool_calls[0].id == result.tool_call_id
    assert result.content == "result"
    wire = {name: msgspec.json.decode(raw) for name, raw in request.wire.items()}
    assert set(wire) == {"model", "messages", "tools", "tool_choice", "seed"}
    assert wire["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert wire["messages"][2] == {
        "role": "tool",
        "content": "result",
        "tool_call_id": "call_legacy_1",
        "name": "f",
    }


def test_what_is_not_legacy_stays_as_it_was_sent():
    """One function message must not cost the others their fields."""
    odd = {"role": "user", "content": [{"type": "video_url", "video_url": {"url": "x"}}], "mood": 1}
    said = {
        "role": "assistant",
        "content": "x",
        "audio": {"id": "a"},
        "function_call": {"name": "f", "arguments": "{}"},
    }
    result = {"role": "function", "name": "f", "content": "r", "extra": 2}
    function = {"name": "f", "parameters": {}, "mystery": True}
    chat = modern(decode(messages=[odd, said, result], functions=[function]))
    wire = {name: msgspec.json.decode(raw) for name, raw in chat.wire.items()}
    call = {"id": "call_legacy_1", "type": "function", "function": said.pop("function_call")}
    assert wire["messages"] == [
        odd,
        {**said, "tool_calls": [call]},
        {**result, "role": "tool", "tool_call_id": "call_legacy_1"},
    ]
    assert wire["tools"] == [{"type": "function", "function": function}]


def test_functions_and_tools_at_once_are_refused():
    tool = {"type": "function", "function": {"name": "f"}}
    with pytest.raises(InvalidRequest) as caught:
        modern(decode(functions=[{"name": "f"}], tools=[tool]))
    assert caught.value.param == "functions"


def test_a_modern_request_is_left_alone():
    request = decode(tools=[{"type": "function", "function": {"name": "f"}}])
    assert modern(request) is request


DELTAS = st.builds(
    Chunk,
    text=st.text(max_size=5),
    reasoning=st.text(max_size=5),
    tool_calls=st.lists(
        st.builds(ToolCallDelta, index=st.integers(0, 2), arguments=st.text(max_size=3)), max_size=2
    ).map(tuple),
)


@given(st.lists(DELTAS, max_size=10), st.integers(0, 10))
def test_folding_in_two_steps_is_folding_in_one(chunks: list[Chunk], cut: int):
    whole = fold([*chunks, Chunk()])
    twice = fold([fold([*chunks[:cut], Chunk()]), fold([*chunks[cut:], Chunk()])])
    assert (whole.text, whole.reasoning) == (twice.text, twice.reasoning)
    assert whole.text == "".join(chunk.text for chunk in chunks)


def test_fold_puts_an_answer_together():
    chunks = [
        Chunk(id="1", model="m"),
        Chunk(reasoning="r"),
        Chunk(text="a", logprobs={"content": [{"token": "a"}], "refusal": None}),
        Chunk(tool_calls=(ToolCallDelta(index=0, id="c0", name="f", extra={"x": 1}),)),
        Chunk(tool_calls=(ToolCallDelta(index=1, id="c1", name="g", arguments="{"),)),
        Chunk(tool_calls=(ToolCallDelta(index=1, arguments="}"),)),
        Chunk(text="b", logprobs={"content": [{"token": "b"}], "refusal": None}, extra={"t": [{"n": 1}]}),
        Chunk(extra={"t": [{"n": 2}]}, usage=Usage(prompt_tokens=1)),
        Chunk(finish_reason="tool_calls", usage=Usage(prompt_tokens=2), last=True),
    ]
    assert fold(chunks) == Chunk(
        id="1",
        model="m",
        text="ab",
        reasoning="r",
        tool_calls=(
            ToolCallDelta(index=0, id="c0", name="f", arguments="{}", extra={"x": 1}),
            ToolCallDelta(index=1, id="c1", name="g", arguments="{}"),
        ),
        logprobs={"content": [{"token": "a"}, {"token": "b"}], "refusal": None},
        extra={"t": [{"n": 1}, {"n": 2}]},
        finish_reason="tool_calls",
        usage=Usage(prompt_tokens=2),
        last=True,
    )
