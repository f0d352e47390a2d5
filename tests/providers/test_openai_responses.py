"""OpenAI's Responses API: when a request goes there, what it becomes, and how the answers are read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import AsyncOpenAI

from gateway.chat import ChatRequest, Chunk, ToolCallDelta, Usage, fold
from gateway.errors import ErrorKind, UpstreamError
from gateway.providers import PROVIDERS
from gateway.providers.base import HttpRequest
from gateway.providers.openai import family
from gateway.providers.openai.responses import build_request
from gateway.simulator import Fault, Simulator, Turn
from gateway.simulator import ToolCall as Called
from gateway.simulator.openai_responses import generation
from gateway.sse import Event

from ..e2e.conftest import pointed_at, serving
from .cases import CASES, CLOCK, PDF, PNG, SAMPLES, WEATHER, call, decode, request, user

OPENAI = PROVIDERS["openai"]
COMPATIBLE = OPENAI.compatible
assert COMPATIBLE is not None
CUSTOM = {"type": "custom", "custom": {"name": "shell"}}
TOOLS: dict[str, Any] = {"messages": [user("Weather?")], "tools": [WEATHER]}
STREAMED = request({**TOOLS, "stream": True}, "gpt-6-luna")


def goes_to_responses(chat: ChatRequest) -> bool:
    return OPENAI.build_request(chat).path == "/responses"


def sent(model: str, **fields: Any) -> HttpRequest:
    """What the driver would send first."""
    chat = request({**TOOLS, **fields}, model)
    return next(OPENAI.conversation(OPENAI, chat))


def body_of(http: HttpRequest) -> dict[str, Any]:
    assert http.path == "/responses"
    return msgspec.json.decode(http.body)


# ── when ───────────────────────────────────────────────────────────────────────────────────────────────

WHEN: list[tuple[str, dict[str, Any], bool]] = [
    ("gpt-6-luna", {}, True),
    ("gpt-5.6", {}, True),
    ("gpt-5.6-sol", {"tool_choice": "none"}, True),
    ("gpt-5.5-2026-04-23", {}, True),
    ("gpt-9", {}, True),
    ("gpt-10.1-new", {}, True),
    ("gpt-6-luna", {"reasoning_effort": "none"}, False),  # golden 17
    ("gpt-6-astra", {"reasoning_effort": "none"}, True),  # which this model does not have
    ("gpt-5.4", {}, False),
    ("gpt-5.4-mini", {"reasoning_effort": "low"}, True),
    ("gpt-5.4", {"reasoning_effort": "minimal"}, True),
    ("gpt-5.2", {"reasoning_effort": "high"}, False),
    ("gpt-5", {}, False),
    ("o3", {}, False),
    ("gpt-4.1", {}, False),
    ("gpt-4o", {}, False),
    ("gpt-6-luna", {"tools": None}, False),
    ("gpt-6-luna", {"tools": [CUSTOM]}, False),
    ("gpt-6-luna", {"tools": [WEATHER, CUSTOM]}, False),
    ("gpt-6-luna", {"n": 2}, False),
    ("gpt-5.4-pro", {}, True),
    ("gpt-5.5-pro-2026-04-23", {"tools": None}, True),
    ("gpt-5.4-pro", {"reasoning_effort": "none"}, True),
]


@pytest.mark.parametrize(("model", "fields", "expected"), WHEN)
def test_when_a_request_goes_to_responses(model: str, fields: dict[str, Any], expected: bool):
    assert goes_to_responses(request({**TOOLS, **fields}, model)) is expected
    assert (sent(model, **fields).path == "/responses") is expected


def test_golden_17_tools_without_reasoning_stay_on_chat():
    http = sent("gpt-5.6", reasoning_effort="none")
    assert http.path == "/chat/completions"
    assert msgspec.json.decode(http.body)["tools"] == [WEATHER]


def test_a_compatible_server_is_never_asked_there():
    chat = request(TOOLS, "gpt-6-luna")
    assert next(COMPATIBLE.conversation(COMPATIBLE, chat)).path == "/chat/completions"


REFUSAL = (
    b'{"error":{"message":"Function tools with reasoning_effort are not supported for gpt-5.3 in '
    b"/v1/chat/completions. To use function tools, use /v1/responses or set reasoning_effort to 'none'.\","
    b'"type":"invalid_request_error","param":"reasoning_effort","code":null}}'
)


def test_the_refusal_of_chat_sends_a_request_there_once():
    """A model that the rule does not know is believed when it says so itself."""
    error = OPENAI.parse_error(400, {}, REFUSAL)
    talk = OPENAI.conversation(OPENAI, request(TOOLS, "gpt-5.3"))
    assert next(talk).path == "/chat/completions"
    assert talk.throw(error).path == "/responses"
    with pytest.raises(UpstreamError):
        talk.throw(error)


@pytest.mark.parametrize("fields", [{"n": 2}, {"tools": [WEATHER, CUSTOM]}])
def test_a_refusal_passes_when_it_cannot_be_said_there(fields: dict[str, Any]):
    talk = OPENAI.conversation(OPENAI, request({**TOOLS, **fields}, "gpt-5.3"))
    next(talk)
    with pytest.raises(UpstreamError, match="Function tools"):
        talk.throw(OPENAI.parse_error(400, {}, REFUSAL))


def test_another_error_passes():
    talk = OPENAI.conversation(OPENAI, request(TOOLS, "gpt-5.3"))
    next(talk)
    with pytest.raises(UpstreamError, match="no"):
        talk.throw(OPENAI.parse_error(400, {}, b'{"error":{"message":"no"}}'))


# ── what ───────────────────────────────────────────────────────────────────────────────────────────────


def test_golden_16_a_function_tool_and_reasoning():
    """The whole request, as a reviewer reads it."""
    http = sent("gpt-5.6", max_tokens=100, stream=True, parallel_tool_calls=False, tool_choice="auto")
    function = WEATHER["function"]
    assert isinstance(function, dict)
    assert (http.method, http.stream, http.dropped) == ("POST", True, ())
    assert body_of(http) == {
        "parallel_tool_calls": False,
        "model": "gpt-5.6",
        "input": [{"type": "message", "role": "user", "content": "Weather?"}],
        "store": False,
        "max_output_tokens": 100,
        "tools": [{"type": "function", **function, "strict": False}],
        "tool_choice": "auto",
        "reasoning": {"summary": "auto"},
        "stream": True,
        "stream_options": {"include_obfuscation": False},
    }


def test_golden_16_a_conversation_with_every_kind_of_part():
    picture = f"data:image/png;base64,{PNG}"
    document = {"file_data": f"data:application/pdf;base64,{PDF}", "filename": "a.pdf"}
    marked = {"type": "text", "text": "What?", "prompt_cache_breakpoint": {"mode": "explicit"}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "In French."}]},
        user([marked, {"type": "image_url", "image_url": {"url": picture}}]),
        user(
            [
                {"type": "image_url", "image_url": {"url": "https://x", "detail": "low"}},
                {"type": "file", "file": document},
            ]
        ),
        {
            "role": "assistant",
            "content": "Let me see.",
            "reasoning_content": "r",
            "tool_calls": [
                call("call_1__thought__AB==", "get_weather", '{"city":"Paris"}'),
                call("call_2", "get_time", ""),
                {"id": "call_3", "type": "custom", "custom": {"name": "shell", "input": "ls"}},
            ],
        },
        {"role": "tool", "tool_call_id": "call_1__thought__AB==", "content": "18"},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "noon"}]},
        {"role": "tool", "tool_call_id": "call_3", "content": "a.txt"},
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
    ]
    assert body_of(sent("gpt-6-luna", messages=messages))["input"] == [
        {"type": "message", "role": "system", "content": "Be brief."},
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "In French."}]},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "What?", "prompt_cache_breakpoint": {"mode": "explicit"}},
                {"type": "input_image", "image_url": picture, "detail": "auto"},
            ],
        },
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_image", "image_url": "https://x", "detail": "low"},
                {"type": "input_file", "filename": "a.pdf", "file_data": document["file_data"]},
            ],
        },
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
        {
            "type": "function_call",
            "call_id": "call_1",
            "name": "get_weather",
            "arguments": '{"city":"Paris"}',
        },
        {"type": "function_call", "call_id": "call_2", "name": "get_time", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "call_3", "name": "shell", "input": "ls"},
        {"type": "function_call_output", "call_id": "call_1", "output": "18"},
        {
            "type": "function_call_output",
            "call_id": "call_2",
            "output": [{"type": "input_text", "text": "noon"}],
        },
        {"type": "custom_tool_call_output", "call_id": "call_3", "output": "a.txt"},
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
    ]


SCHEMA = {"name": "n", "description": "d", "schema": {"type": "object"}, "strict": True}
NAMED = {"type": "function", "function": {"name": "get_weather"}}
FLAT = {"type": "function", "name": "get_weather"}
SAID: list[tuple[dict[str, Any], dict[str, Any]]] = [  # of the request → in the body
    (
        {"response_format": {"type": "json_schema", "json_schema": SCHEMA}, "verbosity": "low"},
        {"text": {"format": {"type": "json_schema", **SCHEMA}, "verbosity": "low"}},
    ),
    ({"response_format": {"type": "json_object"}}, {"text": {"format": {"type": "json_object"}}}),
    ({"tool_choice": NAMED}, {"tool_choice": FLAT}),
    (
        {
            "tool_choice": {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [NAMED, FLAT]},
            }
        },
        {"tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [FLAT, FLAT]}},
    ),
    (
        {"tools": [CLOCK]},
        {
            "tools": [
                {
                    "type": "function",
                    "name": "get_time",
                    "parameters": {"type": "object", "properties": {}},
                    "strict": False,
                }
            ]
        },
    ),
    ({"reasoning_effort": "high"}, {"reasoning": {"effort": "high", "summary": "auto"}}),
    ({"max_completion_tokens": 60, "max_tokens": 50}, {"max_output_tokens": 60}),
    (
        {"stream": True, "stream_options": {"include_obfuscation": True}},
        {"stream": True, "stream_options": {"include_obfuscation": True}},
    ),
    *(
        ({name: SAMPLES[name]}, {name: SAMPLES[name]})
        for name in (
            "metadata",
            "service_tier",
            "user",
            "safety_identifier",
            "prompt_cache_key",
            "prompt_cache_retention",
            "prompt_cache_options",
            "moderation",
            "parallel_tool_calls",
        )
    ),
]


@pytest.mark.parametrize(("fields", "expected"), SAID)
def test_where_a_field_is_said(fields: dict[str, Any], expected: dict[str, Any]):
    http = sent("gpt-6-luna", **fields)
    assert expected.items() <= body_of(http).items()
    assert http.dropped == ()


DROPPED = (
    *("stop", "seed", "presence_penalty", "frequency_penalty", "logit_bias", "prediction"),
    *("modalities", "audio", "store", "web_search_options", "temperature", "top_p", "logprobs"),
)


@pytest.mark.parametrize("field", DROPPED)
def test_what_has_no_field_is_named(field: str):
    http = sent("gpt-6-luna", **{field: SAMPLES[field]})
    assert http.dropped == (field,)
    assert body_of(http) == {**body_of(sent("gpt-6-luna"))}


def test_no_field_is_dropped_in_silence():
    """A field changes the request, or is named."""
    for field in SAMPLES.keys() - {"model", "n", "tools"}:
        more = {"logprobs": True} if field == "top_logprobs" else {}
        before, after = sent("gpt-6-luna", **more), sent("gpt-6-luna", **more, **{field: SAMPLES[field]})
        assert before.body != after.body or field in after.dropped, field
    assert sent("gpt-6-luna", top_secret_knob=3).dropped == ("top_secret_knob",)


def test_what_asks_nothing_is_left_out_without_a_word():
    http = sent(
        "gpt-6-luna", temperature=1, top_p=1, logprobs=False, stop=None, n=1, metadata=None, seed=None
    )
    assert body_of(http) == body_of(sent("gpt-6-luna"))
    assert http.dropped == ()


@pytest.mark.parametrize(
    ("model", "asked", "effort"),
    [
        ("gpt-6-astra", "none", "low"),
        ("gpt-6-astra", "max", "xhigh"),
        ("gpt-6-luna", "minimal", "low"),
        ("gpt-5.5-pro", "none", "low"),
        ("gpt-5.5-pro", "max", "xhigh"),
    ],
)
def test_an_effort_that_the_model_lacks_becomes_the_nearest(model: str, asked: str, effort: str):
    http = sent(model, reasoning_effort=asked)
    assert body_of(http)["reasoning"]["effort"] == effort
    assert http.dropped == ("reasoning_effort",)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_limit_below_the_least_is_raised_and_named(name: str):
    http = sent("gpt-6-luna", **{name: 5})
    assert body_of(http)["max_output_tokens"] == 16
    assert http.dropped == (name,)


def test_a_model_that_does_not_reason_keeps_its_sampling():
    """Only the safety net gets here."""
    chat = request({**TOOLS, "temperature": 0.3, "logprobs": True, "top_logprobs": 2}, "gpt-4.1")
    http = build_request(chat, family(chat.model))
    assert http.dropped == ()
    body = body_of(http)
    assert (body["temperature"], body["top_logprobs"]) == (0.3, 2)
    assert body["include"] == ["message.output_text.logprobs"]
    assert "reasoning" not in body


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": [CUSTOM]}, "tools[0].type"),
        ({"tool_choice": {"type": "custom", "custom": {"name": "shell"}}}, "tool_choice.type"),
        (
            {"messages": [user([{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}])]},
            "messages[0].content[0]",
        ),
    ],
)
def test_what_cannot_be_said_is_refused_by_its_name(fields: dict[str, Any], param: str):
    with pytest.raises(UpstreamError) as caught:
        sent("gpt-5.5-pro", **fields)
    assert (caught.value.kind, caught.value.param) == (ErrorKind.UNSUPPORTED, param)


@pytest.mark.parametrize("case", CASES)
def test_the_simulator_takes_every_case(case: str):
    """Two readings of the documents agree: what is built here is what the strict stand-in accepts."""
    chat = request(CASES[case], "gpt-5.5-pro")
    http = next(OPENAI.conversation(OPENAI, chat))
    assert generation(http.body, iter([1]), lambda _: ()).ask


# ── answers ────────────────────────────────────────────────────────────────────────────────────────────


def said(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps({"type": kind, **fields}).encode())


def response(status: str, *output: Any, **fields: Any) -> dict[str, Any]:
    usage = {
        "input_tokens": 20,
        "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 2},
        "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 29,
    }
    head = {"id": "resp_1", "object": "response", "created_at": 1795355742, "model": "gpt-5.6-sol"}
    return {**head, "status": status, "error": None, "output": list(output), "usage": usage, **fields}


def function(number: int, name: str, arguments: str) -> dict[str, Any]:
    item = {"type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number}", "name": name}
    return {**item, "arguments": arguments, "status": "completed"}


THOUGHTS = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "First."}, {"type": "summary_text", "text": "Then."}],
}
CITED = {"type": "url_citation", "url": "https://x", "title": "X", "start_index": 0, "end_index": 2}
LOGGED = {"token": "ü", "logprob": -0.1, "top_logprobs": [{"token": "u", "logprob": -2.0}]}
TEXT = {"type": "output_text", "text": "Grüße", "annotations": [CITED], "logprobs": [LOGGED]}
MESSAGE = {"type": "message", "id": "msg_1", "role": "assistant", "content": [TEXT]}
OUTPUT = (THOUGHTS, MESSAGE, function(1, "get_weather", '{"city":"Rome"}'), function(2, "get_time", ""))
CREATED = said("response.created", response=response("in_progress", usage=None))
STREAM = b"".join(
    (
        CREATED,
        said("response.in_progress", response=response("in_progress", usage=None)),
        said("response.output_item.added", output_index=0, item={"type": "reasoning", "summary": []}),
        said("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="Fir"),
        said("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="st."),
        said("response.reasoning_summary_text.delta", output_index=0, summary_index=1, delta="Then."),
        said("response.output_item.done", output_index=0, item=THOUGHTS),
        said("response.output_text.delta", output_index=1, delta="Gr", logprobs=[]),
        said("response.output_text.delta", output_index=1, delta="üße", logprobs=[LOGGED]),
        said("response.output_text.annotation.added", output_index=1, annotation=CITED),
        said("response.output_text.done", output_index=1, text="Grüße"),
        said("response.output_item.added", output_index=2, item=function(1, "get_weather", "")),
        said("response.function_call_arguments.delta", output_index=2, delta='{"city"'),
        said("response.output_item.added", output_index=3, item=function(2, "get_time", "")),
        said("response.function_call_arguments.delta", output_index=2, delta=':"Rome"}'),
        said("response.function_call_arguments.done", output_index=2, arguments='{"city":"Rome"}'),
        said("response.sparkle.delta", delta={"new": True}),
        said("response.output_item.done", output_index=2, item=OUTPUT[2]),
        said("response.function_call_arguments.done", output_index=3, arguments=""),
        said("response.output_item.done", output_index=3, item=OUTPUT[3]),
        said("response.completed", response=response("completed", *OUTPUT)),
    )
)
ANSWER = Chunk(
    text="Grüße",
    reasoning="First.\n\nThen.",
    tool_calls=(
        ToolCallDelta(index=0, id="call_1", name="get_weather", arguments='{"city":"Rome"}'),
        ToolCallDelta(index=1, id="call_2", name="get_time", arguments="{}"),
    ),
    annotations=({"type": "url_citation", "url_citation": {k: v for k, v in CITED.items() if k != "type"}},),
    logprobs={
        "content": [
            {
                "token": "ü",
                "logprob": -0.1,
                "bytes": [195, 188],
                "top_logprobs": [{"token": "u", "logprob": -2.0, "bytes": [117]}],
            }
        ],
        "refusal": None,
    },
    finish_reason="tool_calls",
    usage=Usage(
        prompt_tokens=20, completion_tokens=9, cached_tokens=8, cache_write_tokens=2, reasoning_tokens=5
    ),
    id="resp_1",
    model="gpt-5.6-sol",
    created=1795355742,
    last=True,
)


def whole(answer: dict[str, Any], chat: ChatRequest = STREAMED) -> Chunk:
    return OPENAI.parse_response(json.dumps(answer).encode(), chat)


def ended(*events: bytes) -> list[Chunk]:
    return decode(OPENAI, STREAMED, [CREATED, *events])


def test_a_stream_folds_to_the_whole_answer():
    assert fold(decode(OPENAI, STREAMED, [STREAM])) == ANSWER
    assert whole(response("completed", *OUTPUT)) == ANSWER


def test_a_stream_may_be_cut_anywhere():
    expected = decode(OPENAI, STREAMED, [STREAM])
    for cut in range(len(STREAM)):
        assert decode(OPENAI, STREAMED, [STREAM[:cut], STREAM[cut:]]) == expected
    assert decode(OPENAI, STREAMED, [STREAM[i : i + 1] for i in range(len(STREAM))]) == expected


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_a_stream_may_be_cut_in_many_places(cuts: list[int]):
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[a:b] for a, b in pairwise(edges)]
    assert fold(decode(OPENAI, STREAMED, pieces)) == ANSWER


def test_golden_20_calls_are_counted_by_themselves():
    """Reasoning at 0, the call at 1: the client sees call 0, opened once and then only argued."""
    chunks = ended(
        said("response.output_item.added", output_index=0, item={"type": "reasoning", "summary": []}),
        said("response.output_item.added", output_index=1, item=function(7, "f", "")),
        said("response.function_call_arguments.delta", output_index=1, delta='{"a"'),
        said("response.function_call_arguments.delta", output_index=1, delta=":1}"),
        said("response.completed", response=response("completed")),
    )
    assert [delta for chunk in chunks for delta in chunk.tool_calls] == [
        ToolCallDelta(index=0, id="call_7", name="f"),
        ToolCallDelta(index=0, arguments='{"a"'),
        ToolCallDelta(index=0, arguments=":1}"),
    ]
    assert (chunks[-1].finish_reason, chunks[-1].last) == ("tool_calls", True)


@pytest.mark.parametrize(
    ("events", "arguments"),
    [
        ([], "{}"),
        ([said("response.function_call_arguments.done", output_index=1, arguments='{"a":1}')], '{"a":1}'),
        ([said("response.output_item.done", output_index=1, item=function(1, "f", '{"a":1}'))], '{"a":1}'),
        ([said("response.output_item.done", output_index=1, item=function(1, "f", ""))], "{}"),
    ],
)
@pytest.mark.parametrize("opened", [True, False])
def test_arguments_that_never_came_in_pieces(events: list[bytes], arguments: str, opened: bool):
    first = [said("response.output_item.added", output_index=1, item=function(1, "f", ""))] if opened else []
    end = said("response.completed", response=response("completed"))
    calls = fold(ended(*first, *events, end)).tool_calls
    if opened or b"output_item.done" in b"".join(events):
        assert calls == (ToolCallDelta(index=0, id="call_1", name="f", arguments=arguments),)
    else:
        assert calls == ()


INCOMPLETE = [
    ("max_output_tokens", "length"),
    ("content_filter", "content_filter"),
    ("steered", "length"),
    (None, "length"),
]


@pytest.mark.parametrize(("reason", "finish"), INCOMPLETE)
def test_golden_21_an_answer_that_is_not_whole(reason: str | None, finish: str):
    answer = response("incomplete", MESSAGE, incomplete_details=reason and {"reason": reason})
    last = ended(said("response.incomplete", response=answer))[-1]
    assert (last.finish_reason, last.last) == (finish, True)
    assert last.usage == ANSWER.usage
    assert whole(answer).finish_reason == finish
    assert whole(answer).text == "Grüße"


FAILURES = [
    ({"code": "server_error", "message": "sorry"}, ErrorKind.SERVER),
    ({"code": "rate_limit_exceeded", "message": "slow"}, ErrorKind.RATE_LIMIT),
    ({"code": "invalid_prompt", "message": "no"}, ErrorKind.CONTENT_FILTER),
    ({"code": "context_length_exceeded", "message": "long"}, ErrorKind.CONTEXT_LENGTH),
    ({"code": "invalid_image_url", "message": "gone"}, ErrorKind.BAD_REQUEST),
    ({"code": "insufficient_quota", "message": "money"}, ErrorKind.QUOTA),
    ({"code": "new", "message": "what"}, ErrorKind.SERVER),
]


@pytest.mark.parametrize(("error", "kind"), FAILURES)
def test_golden_21_an_answer_that_failed_is_an_error(error: dict[str, Any], kind: ErrorKind):
    failed = response("failed", error=error)
    for fails in (
        lambda: ended(said("response.failed", response=failed)),
        lambda: ended(said("error", param=None, sequence_number=3, **error)),
        lambda: ended(said("error", error=error)),
        lambda: decode(OPENAI, STREAMED, [said("error", **error)]),
        lambda: whole(failed),
    ):
        with pytest.raises(UpstreamError) as caught:
            fails()
        assert (caught.value.kind, caught.value.message) == (kind, error["message"])


@pytest.mark.parametrize("status", ["cancelled", "in_progress", "queued", None])
def test_an_answer_that_was_given_up_is_an_error(status: str | None):
    with pytest.raises(UpstreamError, match="gave the answer up"):
        whole({**response("completed"), "status": status})


def test_what_nobody_knows_yet_is_skipped():
    answer = response("completed", {"type": "sparkle", "content": [{"type": "sparkle"}]}, MESSAGE, usage=None)
    assert whole(answer) == msgspec.structs.replace(
        ANSWER, tool_calls=(), reasoning="", finish_reason="stop", usage=None
    )


def test_an_error_that_is_only_a_text():
    with pytest.raises(UpstreamError, match="sorry"):
        ended(said("error", error="sorry"))


def test_a_refusal():
    refused = {"type": "message", "content": [{"type": "refusal", "refusal": "I cannot."}]}
    streamed = fold(
        ended(
            said("response.refusal.delta", output_index=0, delta="I "),
            said("response.refusal.delta", output_index=0, delta="cannot."),
            said("response.completed", response=response("completed", refused)),
        )
    )
    assert streamed == whole(response("completed", refused))
    assert (streamed.refusal, streamed.finish_reason) == ("I cannot.", "stop")


def test_the_bytes_tell_which_api_answered():
    """The same decoder reads a stream of Chat Completions, whatever was asked."""
    delta = {"role": "assistant", "content": 'a "type":"response.created" b'}
    chat = {"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}]}
    end = {**chat, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    pieces = [b"data: %b\n\n" % json.dumps(value).encode() for value in (chat, end)]
    read = decode(OPENAI, STREAMED, [*pieces, b"data: [DONE]\n\n"])
    assert fold(read).text == delta["content"]
    assert (read[0].wire is not None, read[-1].last) == (True, True)
    message = {"message": {"role": "assistant", "content": "x"}, "finish_reason": "stop", "index": 0}
    assert whole({"id": "c", "object": "chat.completion", "choices": [message]}).text == "x"


def test_a_stream_that_only_says_done_is_not_whole():
    assert [chunk.finish_reason for chunk in ended(b"data: [DONE]\n\n")] == [None, None]
    read = OPENAI.event_decoder(STREAMED)
    assert read(Event(CREATED.split(b"data: ")[1].strip())) is not None
    assert read(Event(b"")) is None


# ── end to end ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator() as running:
        yield running


@pytest.fixture
async def client(sim: Simulator) -> AsyncIterator[AsyncOpenAI]:
    async with (
        serving(pointed_at(sim)) as url,
        AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as made,
    ):
        yield made


@pytest.mark.parametrize("streaming", [True, False])
async def test_tools_round_trip_on_a_model_that_reasons(sim: Simulator, client: AsyncOpenAI, streaming: bool):
    """The official SDK: two parallel calls, their results, the answer, on a model that Chat refuses them."""
    arguments = ({"city": "Paris"}, {"city": "Rome"})
    calls = [Called(name="get_weather", arguments=a) for a in arguments]
    sim.script("openai", Turn(reasoning="Two cities.", tool_calls=calls, pieces=3))
    messages: list[Any] = [user("Weather in Paris and Rome?")]
    tools: Any = [WEATHER, CLOCK]

    async def ask() -> Any:
        if not streaming:
            return await client.chat.completions.create(
                model="openai/gpt-6-luna", messages=messages, tools=tools
            )
        async with client.chat.completions.stream(
            model="openai/gpt-6-luna",
            messages=messages,
            tools=tools,
            stream_options={"include_usage": True},
        ) as stream:
            return await stream.get_final_completion()

    first = await ask()
    choice = first.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert [json.loads(c.function.arguments) for c in choice.message.tool_calls] == list(arguments)
    assert choice.message.reasoning_content == "Two cities."
    assert first.usage.completion_tokens_details.reasoning_tokens > 0
    messages.append(choice.message.model_dump(exclude_none=True, exclude={"parsed"}))
    for asked in messages[1]["tool_calls"]:
        asked["function"].pop("parsed_arguments", None)
        messages.append({"role": "tool", "tool_call_id": asked["id"], "content": f"sun in {asked['id']}"})
    second = await ask()
    assert second.choices[0].message.content.startswith("The tool said: sun in call_")
    assert second.choices[0].finish_reason == "stop"
    assert [c.path for c in sim.calls("openai")] == ["/openai/v1/responses"] * 2


@pytest.mark.parametrize("streaming", [True, False])
async def test_the_safety_net(sim: Simulator, client: AsyncOpenAI, streaming: bool):
    """A refusal that the rule did not foresee: the client gets its answer, and hears of what was lost."""
    refusal = json.loads(REFUSAL)["error"]["message"]
    sim.script("openai", Fault(status=400, message=refusal), Turn(text="Here."))
    raw = await client.chat.completions.with_raw_response.create(
        model="openai/gpt-5.2", messages=[user("x")], tools=[WEATHER], seed=7, stream=streaming
    )
    answer = raw.parse()
    text = (
        "".join([c.choices[0].delta.content or "" async for c in answer])
        if streaming
        else answer.choices[0].message.content
    )
    assert text == "Here."
    assert raw.headers["x-gateway-dropped-params"] == "seed"
    paths = ["/openai/v1/chat/completions", "/openai/v1/responses"]
    assert [c.path for c in sim.calls("openai")] == paths
