"""OpenAI's Responses API: how answers, streams and failures are read."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat import ChatRequest, Chunk, ToolCallDelta, Usage, fold
from gateway.errors import ErrorKind, UpstreamError
from gateway.providers import PROVIDERS
from gateway.sse import Event

from .cases import WEATHER, decode, request, user

GOLDEN = {
    20: "test_golden_20_calls_are_counted_by_themselves",
    21: ("test_golden_21_an_answer_that_is_not_whole", "test_golden_21_an_answer_that_failed_is_an_error"),
}

OPENAI = PROVIDERS["openai"]
STREAMED = request({"messages": [user("Weather?")], "tools": [WEATHER], "stream": True}, "gpt-6-luna")


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
