"""The golden cases of Anthropic's dialect, by number: whole answers (20 to 22) and streams (23 to 26)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.chat import ChatRequest, Chunk, fold
from gateway.errors import ErrorKind, UpstreamError
from gateway.ingress import render
from gateway.providers.anthropic import PROVIDER
from gateway.sse import Decoder, Event

from .cases import CASES, FIXTURES, decode, request, user

GOLDEN = {
    20: "test_golden_20_everything_at_once",
    21: "test_golden_21_nothing_said",
    22: "test_golden_22_stop_reasons",
    23: (
        "test_golden_23_the_whole_dance",
        "test_golden_23_other_servers",
        "test_golden_23_unknown_things_are_skipped",
        "test_golden_23_as_a_client_reads_it",
    ),
    24: "test_golden_24_server_tools_stay_there",
    25: ("test_golden_25_line_separators_inside_text", "test_contract.py::test_a_stream_may_be_cut_anywhere"),
    26: (
        "test_golden_26_errors_in_a_stream",
        "test_golden_26_an_end_without_a_reason_is_not_one",
        "test_golden_26_usage_adds_up",
        "test_golden_26_nothing_comes_after_the_end",
        "test_golden_26_a_stop_without_a_reason",
        "tests/e2e/test_golden_cases.py::test_an_overloaded_first_event_is_503_or_the_next_target",
        "tests/e2e/test_golden_cases.py::test_a_break_in_mid_stream_has_no_end",
    ),
}


HI = [user("Hi")]
NEWEST = "claude-sonnet-5-5"
SIGNED = {"type": "thinking", "thinking": "Hm.", "signature": "SIG=="}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def parse(message: dict[str, Any], chat: ChatRequest | None = None) -> Chunk:
    return PROVIDER.parse_response(msgspec.json.encode(message), chat or request({"messages": HI}, NEWEST))


def event(type: str, **fields: Any) -> Event:
    return Event(msgspec.json.encode({"type": type, **fields}), type)


def read(*events: Event, chat: ChatRequest | None = None) -> list[Chunk]:
    reader = PROVIDER.event_decoder(chat or request({"messages": HI}, NEWEST))
    return [chunk for e in events if (chunk := reader(e)) is not None]


def start(index: int, type: str, **fields: Any) -> Event:
    return event("content_block_start", index=index, content_block={"type": type, **fields})


def delta(index: int, type: str, **fields: Any) -> Event:
    return event("content_block_delta", index=index, delta={"type": type, **fields})


def stop(index: int) -> Event:
    return event("content_block_stop", index=index)


def ending(reason: str | None, **usage: Any) -> Event:
    return event("message_delta", delta={"stop_reason": reason}, usage=usage)


BEGIN = event("message_start", message={"id": "msg_1", "model": "m", "usage": {"input_tokens": 12}})
STOP = event("message_stop")


# ── 20 to 22: whole answers ────────────────────────────────────────────────────────────────────────────


def test_golden_20_everything_at_once():
    chunk = parse(
        {
            "id": "msg_1",
            "model": "claude-opus-5",
            "content": [
                SIGNED,
                text("Both."),
                {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1.0}},
                {"type": "tool_use", "id": "b", "name": "f", "input": {}},
            ],
            "stop_reason": "tool_use",
            "usage": {
                "input_tokens": 10,
                "cache_read_input_tokens": 90,
                "cache_creation_input_tokens": 5,
                "output_tokens": 20,
                "output_tokens_details": {"thinking_tokens": 7},
            },
        }
    )
    assert (chunk.id, chunk.model, chunk.text, chunk.reasoning) == ("msg_1", "claude-opus-5", "Both.", "Hm.")
    assert chunk.extra == {"thinking_blocks": [SIGNED]}
    assert [(c.index, c.id, c.name, c.arguments) for c in chunk.tool_calls] == [
        (0, "a", "f", '{"x":1.0}'),
        (1, "b", "f", "{}"),
    ]
    assert chunk.finish_reason == "tool_calls"
    usage = chunk.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.cached_tokens, usage.cache_write_tokens) == (105, 90, 5)
    assert (usage.completion_tokens, usage.reasoning_tokens, usage.total_tokens) == (20, 7, 125)


def test_golden_21_nothing_said():
    empty = parse({"content": [], "stop_reason": "end_turn"})
    assert (empty.text, empty.finish_reason, empty.tool_calls) == ("", "stop", ())
    refused = parse(
        {"content": [], "stop_reason": "refusal", "stop_details": {"explanation": "No.", "category": None}}
    )
    assert (refused.text, refused.refusal, refused.finish_reason) == ("", "No.", "content_filter")


SERVER_CALL = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}}


@pytest.mark.parametrize(
    ("reason", "content", "finish"),
    [
        ("max_tokens", [text("a")], "length"),
        ("model_context_window_exceeded", [text("a")], "length"),
        ("compaction", [], "length"),
        ("stop_sequence", [text("a")], "stop"),
        ("pause_turn", [SERVER_CALL], "stop"),
        ("tool_use", [SERVER_CALL], "stop"),
        (None, [text("a")], "stop"),
        ("brand_new", [text("a")], "stop"),
        ("end_turn", [{"type": "tool_use", "id": "a", "name": "f", "input": {}}], "tool_calls"),
        ("max_tokens", [{"type": "tool_use", "id": "a", "name": "f", "input": {}}], "length"),
    ],
)
def test_golden_22_stop_reasons(reason: str | None, content: list[Any], finish: str):
    chunk = parse({"content": content, "stop_reason": reason})
    assert chunk.finish_reason == finish
    assert len(chunk.tool_calls) == sum(block["type"] == "tool_use" for block in content)


@pytest.mark.parametrize("body", [b"{}", b'{"content":null}', b'{"type":"message"}'])
def test_an_answer_without_content_is_none(body: bytes):
    with pytest.raises(UpstreamError) as caught:
        PROVIDER.parse_response(body, request({"messages": HI}, NEWEST))
    assert caught.value.kind is ErrorKind.BAD_RESPONSE


def test_an_error_inside_a_good_answer():
    with pytest.raises(UpstreamError) as caught:
        parse({"type": "error", "error": {"type": "rate_limit_error", "message": "Slow down"}})
    assert (caught.value.kind, caught.value.upstream_status) == (ErrorKind.RATE_LIMIT, 429)


# ── 23 to 26: streams ──────────────────────────────────────────────────────────────────────────────────


DANCE = (
    BEGIN,
    event("ping"),
    start(0, "thinking", thinking="", signature=""),
    delta(0, "thinking_delta", thinking="Check."),
    delta(0, "signature_delta", signature="SIG"),
    delta(0, "signature_delta", signature="=="),
    stop(0),
    start(1, "text", text="Wel"),
    delta(1, "text_delta", text="l"),
    stop(1),
    start(2, "tool_use", id="a", name="f", input={}),
    delta(2, "input_json_delta", partial_json=""),
    delta(2, "input_json_delta", partial_json='{"a"'),
    delta(2, "input_json_delta", partial_json=": 1}"),
    stop(2),
    start(3, "tool_use", id="b", name="f", input={}),
    stop(3),
    ending("tool_use", output_tokens=20),
    STOP,
)


def test_golden_23_the_whole_dance():
    chunks = read(*DANCE)
    said = [
        (c.text, c.reasoning, [(t.index, t.id, t.name, t.arguments) for t in c.tool_calls], c.finish_reason)
        for c in chunks
    ]
    assert said == [
        ("", "", [], None),
        ("", "Check.", [], None),
        ("", "", [], None),
        ("Wel", "", [], None),
        ("l", "", [], None),
        ("", "", [(0, "a", "f", "")], None),
        ("", "", [(0, "", "", '{"a"')], None),
        ("", "", [(0, "", "", ": 1}")], None),
        ("", "", [(1, "b", "f", "")], None),
        ("", "", [(1, "", "", "{}")], None),
        ("", "", [], "tool_calls"),
        ("", "", [], None),
    ]
    assert (chunks[0].id, chunks[0].model, chunks[0].has_content) == ("msg_1", "m", False)
    assert chunks[2].extra == {
        "thinking_blocks": [{"type": "thinking", "thinking": "Check.", "signature": "SIG=="}]
    }
    assert chunks[-1].last
    assert not any(c.last for c in chunks[:-1])
    assert [msgspec.json.decode(c.arguments) for c in fold(chunks).tool_calls] == [{"a": 1}, {}]


def test_golden_23_as_a_client_reads_it():
    """Through the ingress: one role, each thing once, the finish alone, usage, the end mark."""
    chat = request({**CASES["stream"], "messages": HI}, NEWEST)
    out = render.Stream(chat, id="c", model="m", created=1)
    data = b"".join(out.render(chunk) for chunk in read(*DANCE, chat=chat)) + out.end()
    *events, mark = [event.data for event in Decoder().feed(data)]
    assert mark == b"[DONE]"
    *said, counted = [msgspec.json.decode(event) for event in events]
    function = {"type": "function", "function": {"name": "f", "arguments": ""}}
    thought = {"index": 0, "type": "thinking", "thinking": "Check.", "signature": "SIG=="}
    assert [event["choices"][0]["delta"] for event in said] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"reasoning_content": "Check."},
        {"thinking_blocks": [thought]},
        {"content": "Wel"},
        {"content": "l"},
        {"tool_calls": [{"index": 0, "id": "a", **function}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]},
        {"tool_calls": [{"index": 1, "id": "b", **function}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
        {},
    ]
    assert [event["choices"][0]["finish_reason"] for event in said] == [None] * 10 + ["tool_calls"]
    assert (counted["choices"], counted["usage"]["total_tokens"]) == ([], 32)


def test_golden_23_other_servers():
    """Arguments in the first event, blocks that are never closed, no message_stop: complete all the same."""
    chunks = read(
        BEGIN,
        start(0, "tool_use", id="a", name="f", input={"a": 1}),
        stop(0),
        start(1, "tool_use", name="g"),
        ending("tool_use", output_tokens=3),
    )
    answer = fold(chunks)
    assert [(c.id, c.arguments) for c in answer.tool_calls] == [("a", '{"a":1}'), ("call_1", "{}")]
    assert chunks[-1].finish_reason == "tool_calls"
    assert [c.arguments for c in chunks[-1].tool_calls] == ["{}"]


def test_golden_23_unknown_things_are_skipped():
    chunks = read(
        event("brand_new", index=0),
        BEGIN,
        BEGIN,
        start(0, "hologram", data="x"),
        delta(0, "hologram_delta", text="x"),
        delta(7, "input_json_delta", partial_json="{"),
        stop(0),
        stop(9),
        start(1, "thinking", thinking="Unsigned."),
        stop(1),
        start(2, "redacted_thinking", data="X=="),
        stop(2),
        event("message_delta", usage={"output_tokens": 1}),
        ending("end_turn"),
        STOP,
    )
    answer = fold(chunks)
    assert [c.id for c in chunks if c.id] == ["msg_1"]
    assert (answer.text, answer.reasoning, answer.tool_calls) == ("", "Unsigned.", ())
    assert answer.extra == {"thinking_blocks": [{"type": "redacted_thinking", "data": "X=="}]}


def test_golden_24_server_tools_stay_there():
    chat = request({"messages": HI}, NEWEST)
    stream = (FIXTURES / "anthropic" / "server_tool.sse").read_bytes()
    answer = fold(decode(PROVIDER, chat, [stream]))
    assert answer.tool_calls == ()
    assert answer.finish_reason == "stop"
    links = [a["url_citation"] for a in answer.annotations]
    assert [link["url"] for link in links] == ["https://example.org/dom", "https://example.org/höhe"]
    assert [link["title"] for link in links] == ["Kölner Dom", ""]
    assert {answer.text[link["start_index"] : link["end_index"]] for link in links} == {"157 m hoch"}


def test_golden_25_line_separators_inside_text():
    """Cut at every byte, with every line end: the contract test; here, that the text is what it was."""
    chat = request({"messages": HI}, NEWEST)
    stream = (FIXTURES / "anthropic" / "text.sse").read_bytes()
    assert fold(decode(PROVIDER, chat, [stream])).text == "Grüße aus\u2028Köln 🎈!"


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        ("overloaded_error", 529, ErrorKind.OVERLOADED),
        ("api_error", 500, ErrorKind.SERVER),
        ("timeout_error", 504, ErrorKind.TIMEOUT),
        ("rate_limit_error", 429, ErrorKind.RATE_LIMIT),
        ("billing_error", 402, ErrorKind.QUOTA),
        ("permission_error", 403, ErrorKind.AUTH),
        ("request_too_large", 413, ErrorKind.TOO_LARGE),
        ("brand_new_error", 500, ErrorKind.SERVER),
    ],
)
def test_golden_26_errors_in_a_stream(kind: str, status: int, expected: ErrorKind):
    reader = PROVIDER.event_decoder(request({"messages": HI}, NEWEST))
    reader(BEGIN)
    with pytest.raises(UpstreamError) as caught:
        reader(event("error", error={"type": kind, "message": "Oh", "details": None}))
    assert (caught.value.kind, caught.value.upstream_status, caught.value.message) == (expected, status, "Oh")


def test_golden_26_an_end_without_a_reason_is_not_one():
    chunks = read(BEGIN, start(0, "text", text=""), delta(0, "text_delta", text="Half"), stop(0))
    assert not any(c.finish_reason or c.last for c in chunks)


def test_golden_26_usage_adds_up():
    usage = {"input_tokens": 12, "cache_read_input_tokens": 100, "cache_creation_input_tokens": None}
    begin = event("message_start", message={"id": "m", "usage": {**usage, "output_tokens": 1}})
    chunks = read(begin, ending("end_turn", output_tokens=20, output_tokens_details={"thinking_tokens": 7}))
    counted = chunks[-1].usage
    assert counted is not None
    assert (counted.prompt_tokens, counted.cached_tokens, counted.total_tokens) == (112, 100, 132)
    assert counted.reasoning_tokens == 7
    later = read(
        begin, ending(None, output_tokens=5), ending("end_turn"), ending("end_turn", input_tokens=30)
    )
    assert [c.finish_reason for c in later] == [None, "stop", None]
    assert [c.usage and (c.usage.prompt_tokens, c.usage.completion_tokens) for c in later] == [
        None,
        (112, 5),
        (130, 5),
    ]


def test_golden_26_nothing_comes_after_the_end():
    """A client has been told that the answer is complete: calls that it has not seen cannot be added."""
    chunks = read(
        BEGIN,
        start(0, "text", text="All"),
        ending("end_turn", output_tokens=5),
        delta(0, "text_delta", text=" more"),
        stop(0),
        start(1, "text", text="More"),
        delta(1, "text_delta", text="More"),
        stop(1),
        start(2, "tool_use", id="a", name="f", input={}),
        delta(2, "input_json_delta", partial_json="{}"),
        stop(2),
        start(3, "thinking", thinking="Hm.", signature="SIG=="),
        stop(3),
        ending("end_turn", output_tokens=9),
        STOP,
    )
    answer = fold(chunks)
    assert (answer.text, answer.reasoning, answer.tool_calls, answer.extra) == ("All", "", (), None)
    assert [c.finish_reason for c in chunks if c.finish_reason] == ["stop"]
    assert not any(c.has_content for c in chunks[3:])
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 9
    assert answer.last


def test_golden_26_a_stop_without_a_reason():
    (begun, end) = read(BEGIN, STOP)
    assert not begun.has_content
    assert (end.finish_reason, end.last) == ("stop", True)
    assert end.usage is not None


def test_tool_names_are_made_valid_and_given_back():
    long = "x" * 70
    named = [{"type": "function", "function": {"name": n}} for n in ("a.b", "a_b", "a/b", long, "ok")]
    body = {"messages": HI, "tools": named}
    chat = request(body, NEWEST)
    sent = [t["name"] for t in msgspec.json.decode(PROVIDER.build_request(chat).body)["tools"]]
    assert sent[1] == "a_b"
    assert sent[4] == "ok"
    assert sent[3] == "x" * 64
    assert len(set(sent)) == 5
    answer = {
        "content": [{"type": "tool_use", "id": f"t{i}", "name": n, "input": {}} for i, n in enumerate(sent)]
    }
    assert [c.name for c in parse(answer, chat).tool_calls] == ["a.b", "a_b", "a/b", long, "ok"]
    names = [c.name for c in fold(read(start(0, "tool_use", id="t", name=sent[2]), chat=chat)).tool_calls]
    assert names == ["a/b"]
