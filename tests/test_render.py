"""What a client reads: every rule of the stream, for chunks that are written and for those passed on."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat import ChatRequest, Chunk, ToolCallDelta, Usage, fold
from gateway.errors import UpstreamError
from gateway.ingress import render
from gateway.providers.openai import answers as openai_answers
from gateway.sse import Decoder, Event

from .fakes import DONE, ROLE, chat, delta, sse

NAMES: dict[str, Any] = {"id": "chatcmpl-x", "model": "m", "created": 7}
USAGE = Usage(prompt_tokens=3, completion_tokens=2, cached_tokens=1, reasoning_tokens=1)


def stream(request: ChatRequest, *chunks: Chunk) -> list[Any]:
    """The events that a client gets, decoded; the end mark as text."""
    rendered = render.Stream(request, **NAMES)
    data = b"".join(rendered.render(chunk) for chunk in chunks) + rendered.end()
    events = Decoder().feed(data)
    assert all(event.name == "" for event in events)
    return [DONE if e.data == b"[DONE]" else msgspec.json.decode(e.data) for e in events]


def deltas(events: list[Any]) -> list[Any]:
    return [event["choices"][0]["delta"] for event in events if event != DONE and event["choices"]]


ASKED = chat(stream=True, stream_options={"include_usage": True})
PLAIN = chat(stream=True)
HI = [
    Chunk(id="up-1", model="big"),
    Chunk(text="H"),
    Chunk(text="i"),
    Chunk(finish_reason="stop", usage=USAGE),
]


def test_the_canonical_order():
    events = stream(PLAIN, *HI)
    assert deltas(events) == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "H"},
        {"content": "i"},
        {},
    ]
    assert events[-1] == DONE
    assert [e["choices"][0]["finish_reason"] for e in events[:-1]] == [None, None, None, "stop"]
    assert {(e["id"], e["model"], e["created"], e["object"]) for e in events[:-1]} == {
        ("up-1", "big", 7, "chat.completion.chunk")
    }
    assert all("usage" not in e for e in events[:-1])


def test_usage_comes_once_at_the_end_and_only_when_asked_for():
    events = stream(ASKED, *HI)
    assert [e["usage"] for e in events[:-2]] == [None] * 4
    assert events[-2]["choices"] == []
    assert events[-2]["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "total_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 1, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 1,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
    assert all(e == DONE or e["choices"] for e in stream(PLAIN, *HI))


def test_unknown_usage_is_not_made_up():
    assert all(e == DONE or e["choices"] for e in stream(ASKED, Chunk(text="x", finish_reason="stop")))


def test_text_and_finish_in_one_chunk_are_two_events():
    assert deltas(stream(PLAIN, Chunk(text="x", finish_reason="stop")))[1:] == [{"content": "x"}, {}]


def test_tool_calls_say_each_thing_once():
    chunks = [
        Chunk(tool_calls=(ToolCallDelta(index=0, id="a", name="f", extra={"extra_content": {"g": 1}}),)),
        Chunk(tool_calls=(ToolCallDelta(index=0, arguments="{}"), ToolCallDelta(index=1, id="b", name="g"))),
        Chunk(tool_calls=(ToolCallDelta(index=1, id="", arguments="{}"),), finish_reason="tool_calls"),
    ]
    calls = [d["tool_calls"] for d in deltas(stream(PLAIN, *chunks)) if "tool_calls" in d]
    assert calls == [
        [
            {
                "index": 0,
                "id": "a",
                "type": "function",
                "function": {"name": "f", "arguments": ""},
                "extra_content": {"g": 1},
            }
        ],
        [
            {"index": 0, "function": {"arguments": "{}"}},
            {"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": ""}},
        ],
        [{"index": 1, "function": {"arguments": "{}"}}],
    ]


def test_every_list_of_objects_in_a_delta_has_an_index():
    """Clients crash on lists without it when a second one comes."""
    blocks = [Chunk(extra={"thinking_blocks": [{"type": "thinking", "n": n}]}) for n in range(2)]
    notes = Chunk(annotations=({"type": "url_citation"}, {"type": "url_citation"}), finish_reason="stop")
    found = deltas(stream(PLAIN, *blocks, notes))
    assert [d["thinking_blocks"][0]["index"] for d in found if "thinking_blocks" in d] == [0, 1]
    assert [a["index"] for d in found if "annotations" in d for a in d["annotations"]] == [0, 1]


def test_reasoning_and_refusal_have_fields_of_their_own():
    found = deltas(stream(PLAIN, Chunk(reasoning="r"), Chunk(refusal="no", finish_reason="stop")))
    assert found[1:] == [{"reasoning_content": "r"}, {"refusal": "no"}, {}]


LEGACY = msgspec.structs.replace(PLAIN, legacy=True)
CALLS = [
    Chunk(tool_calls=(ToolCallDelta(index=0, id="a", name="f"),)),
    Chunk(tool_calls=(ToolCallDelta(index=0, arguments="{}"),), finish_reason="tool_calls"),
]


def test_who_asked_with_functions_is_answered_so():
    events = stream(LEGACY, *CALLS)
    assert deltas(events)[1:] == [
        {"function_call": {"name": "f", "arguments": ""}},
        {"function_call": {"arguments": "{}"}},
        {},
    ]
    assert events[-2]["choices"][0]["finish_reason"] == "function_call"
    whole = msgspec.json.decode(render.response(LEGACY, fold(CALLS), **NAMES))
    assert whole["choices"][0]["message"]["function_call"] == {"name": "f", "arguments": "{}"}
    assert "tool_calls" not in whole["choices"][0]["message"]
    assert whole["choices"][0]["finish_reason"] == "function_call"


def whole(chunk: Chunk) -> Any:
    return msgspec.json.decode(render.response(chat(), chunk, **NAMES))


def test_a_whole_answer():
    body = whole(fold(HI))
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hi", "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert (body["object"], body["id"], body["model"]) == ("chat.completion", "up-1", "big")
    assert body["usage"]["total_tokens"] == 5


def test_a_whole_answer_has_what_there_is_and_no_empty_lists_of_calls():
    call = ToolCallDelta(index=0, id="a", name="f", extra={"extra_content": {"g": 1}})
    message = whole(Chunk(tool_calls=(call,), finish_reason="tool_calls"))["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {
            "id": "a",
            "type": "function",
            "function": {"name": "f", "arguments": "{}"},
            "extra_content": {"g": 1},
        }
    ]
    empty = whole(Chunk(finish_reason="stop"))
    assert empty["choices"][0]["message"] == {
        "role": "assistant",
        "content": "",
        "refusal": None,
        "annotations": [],
    }
    assert "usage" not in empty
    refused = whole(Chunk(refusal="no", finish_reason="content_filter"))["choices"][0]["message"]
    assert (refused["content"], refused["refusal"]) == (None, "no")
    thought = whole(
        Chunk(text="x", reasoning="r", extra={"thinking_blocks": [{"a": 1}]}, finish_reason="stop")
    )
    assert thought["choices"][0]["message"]["reasoning_content"] == "r"
    assert thought["choices"][0]["message"]["thinking_blocks"] == [{"a": 1}]


# ── the same dialect ───────────────────────────────────────────────────────────────────────────────────


def relay(request: ChatRequest, *events: Any) -> bytes:
    """What a client gets of an OpenAI-dialect upstream's events."""
    read, rendered = openai_answers.event_decoder(request), render.Stream(request, **NAMES)
    chunks = [chunk for event in Decoder().feed(b"".join(sse(*events))) if (chunk := read(event))]
    return b"".join(rendered.render(chunk) for chunk in chunks) + rendered.end()


def relayed(request: ChatRequest, *events: Any) -> list[Any]:
    data = Decoder().feed(relay(request, *events))
    return [DONE if e.data == b"[DONE]" else msgspec.json.decode(e.data) for e in data]


def test_the_same_dialect_passes_byte_for_byte():
    """Fields that nobody here knows travel on, whatever their place."""
    odd = (
        '{"x": [1.50, {"y":null}],  "id":"c1","model":"m","choices":'
        '[{"index":0,"z":"\\u00e9","delta":%s,"finish_reason":%s}],"usage":null}'
    )
    events = [
        odd % ('{"role":"assistant","content":"","w":1}', "null"),
        odd % ('{"content":"ü","v":{"a":[]}}', "null"),
        odd % ('{"reasoning":"r"}', "null"),
        odd % ("{}", '"stop"'),
        '{"id":"c1","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"new":{"k":2}},"tier":"x"}',
        DONE,
    ]
    assert relay(ASKED, *events) == b"".join(sse(*events))
    assert relay(PLAIN, *events) == b"".join(sse(*events[:4], DONE))


def test_usage_on_the_finish_chunk_becomes_its_own_event():
    """Pitfall 5: one usage event with no choices, the server's own numbers with all their fields."""
    numbers = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "prompt_cache_hit_tokens": 1}
    events = [ROLE, {**delta(content="x"), "usage": None}, {**delta("stop"), "usage": numbers}, DONE]
    got = relayed(ASKED, *events)
    assert got[-2] == {**got[-2], "choices": [], "usage": numbers}
    assert got[-3]["usage"] is None
    assert all(e == DONE or (e["choices"] and not e.get("usage")) for e in relayed(PLAIN, *events))


def test_usage_in_every_chunk_is_told_once():
    counting = [
        {**delta(content="x"), "usage": {"prompt_tokens": 1, "completion_tokens": n}} for n in range(3)
    ]
    got = relayed(ASKED, ROLE, *counting, delta("stop"), DONE)
    told = [e["usage"] for e in got if e != DONE and e.get("usage")]
    assert told == [{"prompt_tokens": 1, "completion_tokens": 2}]


MENDED: dict[str, tuple[list[Any], list[Any]]] = {  # deltas of choice 0 as sent → as a client gets them
    "role every time": (
        [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}],
        [{"role": "assistant", "content": "a"}, {"content": "b"}],
    ),
    "role null": (
        [{"role": "assistant", "content": ""}, {"role": None, "content": "b"}],
        [{"role": "assistant", "content": ""}, {"content": "b"}],
    ),
    "no role at all": ([{"content": "a"}], [{"role": "assistant", "content": "a"}]),
    "empty tool calls": (
        [{"role": "assistant", "content": "a", "tool_calls": []}],
        [{"role": "assistant", "content": "a"}],
    ),
    "delta null": ([None], [{"role": "assistant"}]),
}


@pytest.mark.parametrize("name", MENDED)
def test_what_breaks_accumulators_is_mended(name: str):
    sent, expected = MENDED[name]
    events = [{**delta(), "choices": [{"index": 0, "delta": d, "k": 1}]} for d in sent]
    got = relayed(PLAIN, *events, delta("stop"), DONE)
    assert deltas(got)[: len(expected)] == expected
    assert got[0]["choices"][0]["k"] == 1  # the rest is left alone


def calls_of(*pieces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tool calls as a client's accumulator puts them together: strings are joined, indexes are places."""
    events = [delta(tool_calls=piece) for piece in pieces]
    whole: list[dict[str, Any]] = []
    for d in deltas(relayed(PLAIN, ROLE, *events, delta("tool_calls"), DONE)):
        for call in d.get("tool_calls", []):
            if call["index"] == len(whole):
                assert call["id"]
                assert call["type"]
                whole.append({"id": "", "name": "", "arguments": ""})
            entry = whole[call["index"]]
            entry["id"] += call.get("id", "")
            entry["name"] += call["function"].get("name", "")
            entry["arguments"] += call["function"].get("arguments", "")
    return whole


def piece(
    index: int | None, call_id: str | None = None, name: str | None = None, arguments: Any = ""
) -> dict[str, Any]:
    call: dict[str, Any] = {"function": {"name": name, "arguments": arguments}, "type": "function"}
    return {
        **call,
        **({} if index is None else {"index": index}),
        **({} if call_id is None else {"id": call_id}),
    }


TWO = [{"id": "a", "name": "f", "arguments": '{"x":1}'}, {"id": "b", "name": "g", "arguments": "{}"}]
CALL_FORMS: dict[str, list[list[dict[str, Any]]]] = {
    "canonical": [[piece(0, "a", "f")], [piece(0, None, None, '{"x":1}')], [piece(1, "b", "g", "{}")]],
    "interleaved": [
        [piece(0, "a", "f", '{"x"')],
        [piece(1, "b", "g", "{")],
        [piece(0, arguments=":1}")],
        [piece(1, arguments="}")],
    ],
    "every index 0": [[piece(0, "a", "f", '{"x":1}')], [piece(0, "b", "g", "{}")]],
    "counted from 1": [[piece(1, "a", "f", '{"x":')], [piece(2, "b", "g", "{}")], [piece(1, arguments="1}")]],
    "no index": [
        [piece(None, "a", "f", '{"x":')],
        [piece(None, None, None, "1}")],
        [piece(None, "b", "g", "{}")],
    ],
    "id and name again": [
        [piece(0, "a", "f", '{"x":')],
        [piece(0, "a", "f", "1}")],
        [piece(1, "b", "g", "{}")],
    ],
    "empty id and name": [
        [piece(0, "a", "f", '{"x":')],
        [piece(0, "", "", "1}")],
        [piece(1, "b", "g", "{}")],
    ],
    "object arguments": [[piece(0, "a", "f", {"x": 1}), piece(1, "b", "g", {})]],
    "no arguments": [[piece(0, "a", "f", '{"x":1}'), piece(1, "b", "g")]],
    "null arguments": [[piece(0, "a", "f", '{"x":1}'), piece(1, "b", "g", None)]],
    "all in one": [[piece(0, "a", "f", '{"x":1}'), piece(1, "b", "g", "{}")]],
}


@pytest.mark.parametrize("name", CALL_FORMS)
def test_tool_calls_come_together_however_they_were_cut(name: str):
    """Pitfall 7, and what accumulators do with a repeated id."""
    assert calls_of(*CALL_FORMS[name]) == TWO


@given(st.integers(1, 6), st.booleans(), st.booleans())
def test_n_calls_of_one_name_stay_n_calls(n: int, indexed: bool, whole: bool):
    pieces = []
    for i in range(n):
        number = i if indexed else 0
        pieces.append([piece(number, f"id{i}", "f", "{}" if whole else "{")])
        if not whole:
            pieces.append([piece(number, None, None, "}")])
    assert calls_of(*pieces) == [{"id": f"id{i}", "name": "f", "arguments": "{}"} for i in range(n)]


def test_an_end_with_tool_calls_is_an_end_for_tool_calls():
    """Pitfall 8: `stop` after a call would leave it unanswered."""
    got = relayed(PLAIN, ROLE, delta(tool_calls=[piece(0, "a", "f", "{}")]), delta("stop"), DONE)
    assert got[-2]["choices"][0]["finish_reason"] == "tool_calls"


def test_an_unknown_reason_is_one_that_clients_know():
    got = relayed(PLAIN, ROLE, delta(content="x"), delta("eos"), DONE)
    assert got[-2]["choices"][0]["finish_reason"] == "stop"


def test_the_first_choice_begins_when_there_are_several():
    """Golden case 7: an accumulator takes the first chunk for choice 0."""
    second = {**delta(), "choices": [{"index": 1, "delta": {"role": "assistant", "content": "b"}}]}
    first = {**delta(), "choices": [{"index": 0, "delta": {"role": "assistant", "content": "a"}}]}
    ends = [{**delta(), "choices": [{"index": i, "delta": {}, "finish_reason": "stop"}]} for i in (0, 1)]
    got = relayed(chat(stream=True, n=2), second, first, *ends, DONE)
    assert got[0]["choices"][0]["index"] == 0
    text = {0: "", 1: ""}
    for event in got[:-1]:
        for choice in event["choices"]:
            text[choice["index"]] += choice["delta"].get("content", "")
    assert text == {0: "a", 1: "b"}
    ended = [(c["index"], c["finish_reason"]) for e in got[:-1] for c in e["choices"] if c["finish_reason"]]
    assert ended == [(0, "stop"), (1, "stop")]
    assert len([c for e in got[:-1] for c in e["choices"] if c["delta"].get("role")]) == 2


def test_a_chunk_without_choices_is_not_passed_on():
    assert relayed(PLAIN, {"id": "c1", "choices": [], "filter": 1}, ROLE, delta("stop"), DONE)[0] == ROLE


MESSAGES: dict[str, tuple[dict[str, Any], str, dict[str, Any], str]] = {
    "no content": ({"role": "assistant"}, "stop", {"role": "assistant", "content": None}, "stop"),
    "no calls": (
        {"role": "assistant", "content": "x", "tool_calls": []},
        "stop",
        {"role": "assistant", "content": "x"},
        "stop",
    ),
    "calls that stop": (
        {"content": None, "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}]},
        "stop",
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"type": "function", "function": {"name": "f", "arguments": "{}"}, "id": "call_0"}
            ],
        },
        "tool_calls",
    ),
    "unknown end": (
        {"role": "assistant", "content": "x"},
        "eos",
        {"role": "assistant", "content": "x"},
        "stop",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_whole_answer_of_the_same_dialect_is_mended_only_where_it_breaks(name: str):
    sent, reason, expected, ending = MESSAGES[name]
    body = {
        "id": "c",
        "new": {"a": 1},
        "choices": [{"index": 0, "message": sent, "finish_reason": reason, "k": 2}],
    }
    chunk = openai_answers.parse_response(msgspec.json.encode(body), chat())
    got = msgspec.json.decode(render.response(chat(), chunk, **NAMES))
    assert got == {**body, "choices": [{"index": 0, "message": expected, "finish_reason": ending, "k": 2}]}


def test_a_good_whole_answer_passes_byte_for_byte():
    body = (
        b'{"x":1.50, "choices":[{"message":{"content":"\\u00e9","y":0},'
        b'"finish_reason":"stop"}],"usage":{"z":1}}'
    )
    chunk = openai_answers.parse_response(body, chat())
    assert render.response(chat(), chunk, **NAMES) == body


CHUNKS = st.lists(
    st.builds(Chunk, text=st.text(max_size=8), reasoning=st.text(max_size=8), refusal=st.text(max_size=2)),
    max_size=8,
)


@given(CHUNKS, st.booleans())
def test_our_provider_reads_what_our_ingress_writes(chunks: list[Chunk], asked: bool):
    """The law of a dialect: rendered and decoded again, an answer is the same."""
    chunks = [*chunks, Chunk(finish_reason="stop", usage=USAGE)]
    request = ASKED if asked else PLAIN
    rendered = render.Stream(request, **NAMES)
    data = b"".join(rendered.render(chunk) for chunk in chunks) + rendered.end()
    read = openai_answers.event_decoder(request)
    again = fold([c for event in Decoder().feed(data) if (c := read(Event(event.data)))])
    said = fold([*chunks, Chunk()])
    assert (again.text, again.reasoning, again.refusal) == (said.text, said.reasoning, said.refusal)
    assert again.finish_reason == "stop"
    assert (again.usage is not None) == asked


def test_an_empty_finish_reason_is_none_yet():
    """Some servers send one with every chunk: what follows is still part of the answer."""
    got = relayed(
        PLAIN,
        *(
            {**ROLE, "choices": [{**delta()["choices"][0], "delta": {"content": t}, "finish_reason": ""}]}
            for t in "ab"
        ),
        delta("stop"),
        DONE,
    )
    text = "".join(d.get("content") or "" for d in deltas(got))
    assert text == "ab"
    assert [e["choices"][0]["finish_reason"] for e in got[:-1]] == [None, None, "stop"]


def test_a_name_that_comes_later_comes_with_the_first_piece():
    late = [[piece(0, "a", "", '{"x"')], [piece(0, None, "f", ":1}")], [piece(1, "b", "g", "{}")]]
    assert calls_of(*late) == TWO


@pytest.mark.parametrize("field", ["reasoning_details", "annotations", "nobody_knows_it_yet"])
def test_lists_of_objects_are_numbered(field: str):
    """A second list without numbers makes an accumulator fail, whatever its name."""
    event = {**delta(), "choices": [{"index": 0, "delta": {field: [{"t": 1}, {"t": 2}]}}]}
    got = relayed(PLAIN, ROLE, event, event, delta(content="x"), delta("stop"), DONE)
    found = [d[field] for d in deltas(got) if field in d]
    assert [[item["index"] for item in items] for items in found] == [[0, 1], [2, 3]]


def test_lists_that_are_numbered_or_of_no_objects_pass_as_they_are():
    """So do those outside of a delta, which nobody puts together."""
    lists: dict[str, Any] = {"own": [{"index": 7, "t": 1}], "words": ["a"], "none": [], "text": '[{"x":1}]'}
    logprobs = {"content": [{"token": "a", "top_logprobs": [{"token": "b"}]}]}
    choice = {"index": 0, "delta": lists, "logprobs": logprobs, "finish_reason": None}
    event = {**delta(), "choices": [choice], "sources": [{"u": 1}]}
    assert relay(PLAIN, ROLE, event, delta("stop"), DONE) == b"".join(sse(ROLE, event, delta("stop"), DONE))


def test_id_model_and_time_are_those_of_the_first_chunk():
    odd = [{**delta(content="x"), "id": f"other{i}", "model": "", "created": 9} for i in range(2)]
    got = relayed(PLAIN, ROLE, *odd, delta("stop"), DONE)
    assert {(e["id"], e["model"], e["created"]) for e in got[:-1]} == {("c1", "m", 1)}


def test_usage_in_the_role_chunk_takes_nothing_from_it():
    """Some servers count in every event: the role stays, and the last numbers are told."""
    role = {**ROLE, "usage": {"prompt_tokens": 1, "completion_tokens": 0}}
    end = {"id": "c1", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 9}}
    for request in (PLAIN, ASKED):
        got = relayed(request, role, delta(content="x"), delta("stop"), end, DONE)
        assert deltas(got)[0]["role"] == "assistant"
        told = [e["usage"]["completion_tokens"] for e in got if e != DONE and e.get("usage")]
        assert told == ([9] if request is ASKED else [])


@pytest.mark.parametrize("reason", sorted(openai_answers.FAILURES))
def test_an_answer_that_was_given_up_is_no_answer(reason: str):
    """Pitfall 3: a normal end is never made up."""
    with pytest.raises(UpstreamError):
        relayed(PLAIN, ROLE, delta(content="x"), delta(reason))
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": reason}]}
    with pytest.raises(UpstreamError):
        openai_answers.parse_response(msgspec.json.encode(body), chat())


def test_a_call_that_was_cut_off_does_not_become_complete():
    """P38: `{}` is owed by calls that ended, not by those that ran out of tokens."""
    got = relayed(PLAIN, ROLE, delta(tool_calls=[piece(0, "a", "f")]), delta("length"), DONE)
    pieces = [c["function"]["arguments"] for d in deltas(got) for c in d.get("tool_calls", [])]
    assert "".join(pieces) == ""


def test_an_id_for_each_piece_is_still_one_call():
    pieces = [[piece(0, "a", "f", '{"x"')], [piece(0, "other", None, ":1}")], [piece(1, "b", "g", "{}")]]
    assert calls_of(*pieces) == TWO


ODD = {
    "index null": {"choices": [{"index": None, "delta": {"role": "assistant", "content": "a"}}]},
    "text in parts": {
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": [{"type": "text", "text": "a"}]}}]
    },
    "id a number": {"id": 7, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "a"}}]},
    "usage a word": {"usage": "none", "choices": [{"delta": {"role": "assistant", "content": "a"}}]},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_fields_that_nobody_needs_do_not_cost_the_answer(name: str):
    got = relayed(PLAIN, ODD[name], delta("stop"), DONE)
    assert deltas(got)[0]["content"] == "a"
    assert got[-1] == DONE
