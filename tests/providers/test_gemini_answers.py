"""Gemini: what answers, streams and errors mean. Numbers as in `test_gemini`."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat import Usage, fold
from gateway.errors import ErrorKind, UpstreamError
from gateway.ingress import render
from gateway.providers.gemini import PROVIDER
from gateway.providers.gemini.parts import function_name
from gateway.sse import Decoder

from .cases import CASES, CONTEXT, FIXTURES, decode, request, user
from .gemini_helpers import CHAT, answer, failure, function, stream, text, whole

GOLDEN = {
    17: "test_golden_17_text_thoughts_and_usage",
    18: "test_golden_18_call_ids",
    19: (
        "test_golden_19_ends",
        "test_golden_19_a_blocked_prompt",
        "tests/e2e/test_golden_cases.py::test_a_blocked_prompt_is_an_answer",
    ),
    20: (
        "test_golden_20_an_end_without_output_is_a_failure",
        "test_golden_20_a_missing_signature_found_late_is_replaced_too",
    ),
    21: "test_golden_21_nothing_at_all_is_a_failure",
    22: (
        "test_golden_22_a_stream_as_recorded",
        "test_golden_22_as_a_client_reads_it",
    ),
    23: "test_golden_23_indexes_go_on_across_events",
    24: "test_golden_24_counts_keep_their_last_value",
    25: (
        "test_golden_25_line_ends_and_spaces_do_not_matter",
        "test_contract.py::test_a_stream_may_be_cut_anywhere",
    ),
    27: (
        "test_golden_27_without_finish_reason_nothing_says_that_it_is_finished",
        "tests/e2e/test_golden_cases.py::test_a_break_in_mid_stream_has_no_end",
    ),
    29: (
        "test_golden_29_citations_count_characters",
        "test_golden_29_citations_of_a_stream",
    ),
    31: "test_golden_31_a_full_hop_is_a_length",
}


# ── whole answers ──────────────────────────────────────────────────────────────────────────────────────


def test_golden_17_text_thoughts_and_usage():
    usage = {
        "promptTokenCount": 10,
        "cachedContentTokenCount": 4,
        "candidatesTokenCount": 5,
        "thoughtsTokenCount": 7,
        "totalTokenCount": 22,
    }
    found = whole(
        answer(text("Hm.", thought=True), text("Hel"), text("lo"), usage=usage, finishReason="STOP")
    )
    assert (found.text, found.reasoning, found.finish_reason) == ("Hello", "Hm.", "stop")
    assert found.usage == Usage(prompt_tokens=10, completion_tokens=12, cached_tokens=4, reasoning_tokens=7)
    assert found.usage.total_tokens == 22
    assert found.id == "chatcmpl-r1"


def test_tokens_that_tools_fed_in_are_prompt():
    """The invariant of all providers: prompt and completion add up to the total."""
    usage = {"promptTokenCount": 8, "toolUsePromptTokenCount": 49, "candidatesTokenCount": 12}
    found = whole(answer(text("x"), usage={**usage, "totalTokenCount": 1}, finishReason="STOP")).usage
    assert found == Usage(prompt_tokens=57, completion_tokens=12)


def test_golden_18_call_ids():
    parts = [function(), function(call_id="ab12"), function(call_id="ab12"), function("f", {"a": "é"})]
    found = whole(answer(*parts, finishReason="STOP", finishMessage="Model generated function call(s)."))
    assert found.finish_reason == "tool_calls"
    ids = [call.id for call in found.tool_calls]
    assert len(set(ids)) == 4
    assert ids[1] == "ab12"
    for made_up in (ids[0], ids[2], ids[3]):
        assert made_up.startswith("call_")
        assert len(made_up) == len("call_") + 24
    assert [call.arguments for call in found.tool_calls] == ["{}", "{}", "{}", '{"a":"é"}']
    assert [call.index for call in found.tool_calls] == [0, 1, 2, 3]
    again = whole(answer(*parts, finishReason="STOP"))
    assert [call.id for call in again.tool_calls] == ids, "no randomness"
    other = whole({**answer(*parts, finishReason="STOP"), "responseId": "r2"})
    assert other.tool_calls[0].id != ids[0]


def test_arguments_may_be_text_already_or_spread_over_lines():
    found = whole(answer(function(args='{"a":1}'), function(args=""), finishReason="STOP"))
    assert [call.arguments for call in found.tool_calls] == ['{"a":1}', "{}"]
    body = b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f",\n"args":{ "a":\n1.50 }}}]}}]}'
    assert PROVIDER.parse_response(body, CHAT).tool_calls[0].arguments == '{"a":1.50}'


@pytest.mark.parametrize(
    ("native", "reason"),
    [
        (answer(finishReason="MAX_TOKENS", content={"role": "model"}), "length"),
        (answer(finishReason="SAFETY", content={}, safetyRatings=[{"blocked": True}]), "content_filter"),
        (answer(finishReason="MODEL_ARMOR"), "content_filter"),
        (answer(finishReason="OTHER"), "content_filter"),
        (answer(text("x"), finishReason="OTHER"), "stop"),
        (answer(finishReason="STOP", content={"role": "model", "parts": []}), "stop"),
        (answer(finishReason="STOP", content={"role": "model", "parts": [text("")]}), "stop"),
        (answer(text("x"), finishReason=1), "stop"),
        (answer(text("x"), finishReason=2), "length"),
        (answer(text("x"), finishReason=0), "stop"),
        (answer(text("x"), finishReason=None), "stop"),
        (answer(text("x"), finishReason="FINISH_REASON_UNSPECIFIED"), "stop"),
        (answer(text("x"), finishReason="MADE_UP_IN_2027"), "stop"),
        (answer(text("x"), finishReason="MALFORMED_FUNCTION_CALL"), "stop"),
        (answer(function(), finishReason="TOO_MANY_TOOL_CALLS"), "tool_calls"),
        (answer(function(), finishReason="MAX_TOKENS"), "length"),
    ],
)
def test_golden_19_ends(native: dict[str, Any], reason: str):
    assert whole(native).finish_reason == reason
    assert whole(native).text == ("x" if b'"text":"x"' in msgspec.json.encode(native) else "")
    if native["candidates"][0]["finishReason"] is not None:
        assert fold(stream(native)).finish_reason == reason


@pytest.mark.parametrize("reason", ["SAFETY", "OTHER", "PROHIBITED_CONTENT", "JAILBREAK"])
def test_golden_19_a_blocked_prompt(reason: str):
    native = {"promptFeedback": {"blockReason": reason}, "usageMetadata": {"promptTokenCount": 9}}
    for found in (whole(native), *stream(native)):
        assert found.finish_reason == "content_filter"
        assert reason in found.refusal
        assert found.text == ""
        assert found.usage == Usage(prompt_tokens=9)


@pytest.mark.parametrize(
    "reason",
    [
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MISSING_THOUGHT_SIGNATURE",
        "MALFORMED_RESPONSE",
        "MADE_UP_IN_2027",
    ],
)
def test_golden_20_an_end_without_output_is_a_failure(reason: str):
    """An empty success would leave the client with nothing and no reason."""
    thought = answer(text("Hm.", thought=True))
    for events in ([answer(finishReason=reason)], [thought, answer(finishReason=reason, finishMessage="m!")]):
        error = failure(*events)
        assert error.kind is ErrorKind.BAD_RESPONSE
        assert error.status == 502
        assert error.code == reason.lower()
        assert error.failover
    with pytest.raises(UpstreamError):
        whole(answer(finishReason=reason))


def test_golden_20_a_missing_signature_found_late_is_replaced_too():
    error = failure(answer(finishReason="MISSING_THOUGHT_SIGNATURE"))
    calls = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]
    history = [user("Go"), {"role": "assistant", "tool_calls": calls}, user("Well?")]
    talk = PROVIDER.conversation(PROVIDER, request({"messages": history}, "gemini-3.8-flash"), CONTEXT)
    assert b"thoughtSignature" not in next(talk).body
    assert b"thoughtSignature" in talk.throw(error).body


@pytest.mark.parametrize(
    "native",
    [
        {},
        {"candidates": []},
        {"promptFeedback": {"blockReason": "BLOCKED_REASON_UNSPECIFIED"}},
        answer(),
        answer(finishReason="FINISH_REASON_UNSPECIFIED"),
        answer(text("Hm.", thought=True)),
    ],
)
def test_golden_21_nothing_at_all_is_a_failure(native: dict[str, Any]):
    """Without a native reason there is none in the code either."""
    with pytest.raises(UpstreamError) as caught:
        whole(native)
    assert caught.value.kind is ErrorKind.BAD_RESPONSE
    assert caught.value.code == UpstreamError(ErrorKind.BAD_RESPONSE, "").code
    assert "UNFINISHED" not in caught.value.message


def test_output_before_a_bad_end_is_kept():
    chunks = stream(answer(text("Hel")), answer(finishReason="MALFORMED_FUNCTION_CALL"))
    assert (fold(chunks).text, fold(chunks).finish_reason) == ("Hel", "stop")


def test_only_the_first_candidate_is_read():
    native = answer(text("one"), finishReason="STOP")
    second = {"index": 1, "content": {"parts": [text("two")]}, "finishReason": "STOP"}
    native["candidates"].insert(0, second)
    assert whole(native).text == "one"


def test_names_that_were_changed_for_the_api_come_back():
    name = "3d/render me"
    tools = [{"type": "function", "function": {"name": name}}]
    chat = request({"messages": [user("Hi")], "tools": tools}, "gemini-3.8-flash")
    found = whole(answer(function(function_name(name)), function("get_time"), finishReason="STOP"), chat)
    assert [call.name for call in found.tool_calls] == [name, "get_time"]


def test_pictures_and_code():
    picture = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    parts = [
        {**picture, "thought": True},
        picture,
        {"executableCode": {"language": "PYTHON", "code": "1+1"}},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "2"}},
        {"toolCall": {"unknown": 1}},
    ]
    found = whole(answer(*parts, finishReason="STOP"))
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    assert found.extra == {"images": [image]}
    assert found.text == "\n```python\n1+1\n```\n\n```\n2\n```\n"


def test_logprobs():
    result = {
        "chosenCandidates": [{"token": "é", "logProbability": -0.5}, {"token": "b"}],
        "topCandidates": [{"candidates": [{"token": "é", "logProbability": -0.5}]}],
    }
    found = whole(answer(text("éb"), finishReason="STOP", logprobsResult=result)).logprobs
    best = {"token": "é", "logprob": -0.5, "bytes": [195, 169]}
    assert found == {
        "content": [
            {**best, "top_logprobs": [best]},
            {"token": "b", "logprob": 0.0, "bytes": [98], "top_logprobs": []},
        ],
        "refusal": None,
    }


# ── streams ────────────────────────────────────────────────────────────────────────────────────────────

RECORDED_SHAPE = (
    b'data: {"candidates":[{"content":{"parts":[{"text":"Check.","thought":true}],"role":"model"},"index":0'
    b'}],"usageMetadata":{"promptTokenCount":55,"thoughtsTokenCount":6,"totalTokenCount":61},'
    b'"modelVersion":"gemini-3.8-flash","responseId":"r1"}\r\n\r\n'
    b'data: {"candidates":[{"content":{"parts":[{"functionCall":{"name":"get_x","args":{"a":1}},'
    b'"thoughtSignature":"U0lH"}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":55,'
    b'"candidatesTokenCount":5,"thoughtsTokenCount":7,"totalTokenCount":67},'
    b'"modelVersion":"gemini-3.8-flash","responseId":"r1"}\r\n\r\n'
    b'data: {"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"finishReason":"STOP","index":'
    b'0}],"usageMetadata":{"promptTokenCount":57,"candidatesTokenCount":5,"thoughtsTokenCount":7,'
    b'"totalTokenCount":69},"modelVersion":"gemini-3.8-flash","responseId":"r1"}\r\n\r\n'
)


def test_golden_22_a_stream_as_recorded():
    chunks = decode(PROVIDER, CHAT, [RECORDED_SHAPE])
    assert len(chunks) == 3
    thought, called, end = chunks
    assert (thought.reasoning, thought.text, thought.finish_reason) == ("Check.", "", None)
    (call,) = called.tool_calls
    assert (call.index, call.name, call.arguments) == (0, "get_x", '{"a":1}')
    assert call.id.startswith("call_")
    assert call.extra == {"extra_content": {"google": {"thought_signature": "U0lH"}}}
    assert (end.text, end.finish_reason) == ("", "tool_calls")
    assert end.usage == Usage(prompt_tokens=57, completion_tokens=12, reasoning_tokens=7)
    assert [c.usage for c in chunks[:2]] == [None, None]
    assert not any(c.last for c in chunks)


def test_golden_22_as_a_client_reads_it():
    """Through the ingress: one role, one head of the call, the finish alone, usage, the end mark."""
    chat = request(CASES["stream"], "gemini-3.8-flash")
    out = render.Stream(chat, id="c", model="m", created=1)
    data = b"".join(out.render(chunk) for chunk in decode(PROVIDER, chat, [RECORDED_SHAPE])) + out.end()
    *events, mark = [event.data for event in Decoder().feed(data)]
    assert mark == b"[DONE]"
    *said, counted = [msgspec.json.decode(event) for event in events]
    deltas = [event["choices"][0]["delta"] for event in said]
    (call,) = deltas[2].pop("tool_calls")
    assert deltas == [
        {"role": "assistant", "content": "", "refusal": None},
        {"reasoning_content": "Check."},
        {},
        {},
    ]
    assert call == {
        "index": 0,
        "id": call["id"],
        "type": "function",
        "function": {"name": "get_x", "arguments": '{"a":1}'},
        "extra_content": {"google": {"thought_signature": "U0lH"}},
    }
    assert [event["choices"][0]["finish_reason"] for event in said] == [None, None, None, "tool_calls"]
    usage = counted["usage"]
    assert counted["choices"] == []
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (57, 12, 69)


def test_golden_23_indexes_go_on_across_events():
    chunks = stream(
        answer(function("a"), function("b")),
        answer(function("c", call_id="x")),
        answer(finishReason="STOP"),
    )
    calls = [call for chunk in chunks for call in chunk.tool_calls]
    assert [(call.index, call.name) for call in calls] == [(0, "a"), (1, "b"), (2, "c")]
    assert len({call.id for call in calls}) == 3
    assert chunks[-1].finish_reason == "tool_calls"


def test_golden_24_counts_keep_their_last_value():
    chunks = stream(
        answer(text("a"), usage={"promptTokenCount": 55, "cachedContentTokenCount": 30}),
        answer(text("b"), usage={"promptTokenCount": 257, "candidatesTokenCount": 3}),
        answer(text("c"), usage={"candidatesTokenCount": 5, "cachedContentTokenCount": None}),
        answer(finishReason="STOP"),
    )
    assert chunks[-1].usage == Usage(prompt_tokens=257, completion_tokens=5, cached_tokens=30)


def test_counts_after_the_end_still_count():
    chunks = stream(
        answer(text("a"), usage={"promptTokenCount": 5}, finishReason="STOP"),
        {"usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 2}},
        answer(text("late")),
    )
    assert [c.text for c in chunks] == ["a", ""]
    assert fold(chunks).usage == Usage(prompt_tokens=5, completion_tokens=2)


def test_a_signature_before_the_first_call_is_the_calls():
    """Some answers sign a thought, or a part of its own, instead of the call; text keeps its own."""
    for part in (text("Hm.", thought=True, thoughtSignature="U0lH"), {"thoughtSignature": "U0lH"}):
        chunks = stream(answer(part), answer(function("a"), function("b")), answer(finishReason="STOP"))
        first, second = (call for chunk in chunks for call in chunk.tool_calls)
        assert first.extra == {"extra_content": {"google": {"thought_signature": "U0lH"}}}
        assert second.extra is None
    chunks = stream(answer(text("Hm.", thoughtSignature="U0lH"), function("a")))
    assert chunks[0].tool_calls[0].extra is None


SIGNED = {"google": {"thought_signature": "U0lH"}}


@pytest.mark.parametrize(
    "events",
    [
        [answer(text("Yes.", thoughtSignature="U0lH"))],
        [answer(text("Yes.")), answer(text("", thoughtSignature="U0lH"))],
        [answer(text("Yes.")), answer({"thoughtSignature": "U0lH"})],
        [answer(function(thoughtSignature="T1RI")), answer(text("", thoughtSignature="U0lH"))],
    ],
)
def test_the_signature_of_a_text_comes_with_the_end_and_goes_back(events: list[dict[str, Any]]):
    parts = [part for event in events for part in event["candidates"][0]["content"]["parts"]]
    streamed = fold(stream(*events, answer(finishReason="STOP")))
    found = whole(answer(*parts, finishReason="STOP"))
    assert streamed.extra_content == found.extra_content == SIGNED
    message = {"role": "assistant", "content": found.text, "extra_content": found.extra_content}
    http = PROVIDER.build_request(
        request({"messages": [user("Hi"), message, user("So?")]}, "gemini-3.8-flash")
    )
    sent = msgspec.json.decode(http.body)["contents"][1]["parts"]
    assert sent == [{"text": found.text, "thoughtSignature": "U0lH"}]


@pytest.mark.parametrize(
    "parts",
    [
        [text("Hm.", thought=True, thoughtSignature="U0lH"), text("Yes.")],
        [{"thoughtSignature": "U0lH"}, function()],
        [{"toolCall": {"toolType": "GOOGLE_SEARCH_WEB"}, "thoughtSignature": "U0lH"}, text("Yes.")],
        [{"executableCode": {"code": "1"}, "thoughtSignature": "U0lH"}],
        [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}, "thoughtSignature": "U0lH"}],
    ],
)
def test_signatures_of_other_parts_are_not_the_texts(parts: list[Any]):
    assert whole(answer(*parts, finishReason="STOP")).extra_content is None


def test_golden_25_line_ends_and_spaces_do_not_matter():
    expected = decode(PROVIDER, CHAT, [RECORDED_SHAPE])
    for changed in (
        RECORDED_SHAPE.replace(b"\r\n", b"\n"),
        RECORDED_SHAPE.replace(b"data: ", b"data:"),
        RECORDED_SHAPE.replace(b'"role":"model"', b'\r\ndata: "role":"model"'),
    ):
        assert decode(PROVIDER, CHAT, [changed]) == expected


def test_golden_27_without_finish_reason_nothing_says_that_it_is_finished():
    unspecified = answer(text("Hm.", thought=True), finishReason="FINISH_REASON_UNSPECIFIED")
    chunks = stream(unspecified, answer(text("Hel")), answer(text("lo")))
    assert all(chunk.finish_reason is None and not chunk.last for chunk in chunks)


@pytest.mark.parametrize("reason", ["FINISH_REASON_UNSPECIFIED", 0])
def test_an_unspecified_reason_after_output_is_an_end(reason: Any):
    """It takes nothing away when more comes all the same."""
    assert fold(stream(answer(text("Hel")), answer(finishReason=reason))).finish_reason == "stop"
    assert fold(stream(answer(function()), answer(finishReason=reason))).finish_reason == "tool_calls"
    more = fold(
        stream(answer(text("Hel"), finishReason=reason), answer(text("lo"), finishReason="MAX_TOKENS"))
    )
    assert (more.text, more.finish_reason) == ("Hello", "length")


def grounded(value: str, *segments: dict[str, Any]) -> dict[str, Any]:
    sources = [{"web": {"uri": "https://s.example/1", "title": "One"}}, {"web": {}}, {"retrievedContext": {}}]
    supports = [{"segment": s, "groundingChunkIndices": [0, 1, 2, 9]} for s in segments]
    metadata = {"groundingChunks": sources, "groundingSupports": supports}
    return answer(text("…", thought=True), text(value), finishReason="STOP", groundingMetadata=metadata)


@pytest.mark.parametrize(
    ("segment", "cited"),
    [
        ({"endIndex": 5}, "Über"),  # two bytes for Ü
        ({"endIndex": 8}, "Über "),  # in the middle of a character: it is left out
        ({"startIndex": 6, "endIndex": 10, "text": "😀"}, "😀"),
        ({"partIndex": 1, "startIndex": 6, "endIndex": 10, "text": "😀"}, "😀"),
        ({"startIndex": 0, "endIndex": 3, "text": "Ende"}, "Ende"),  # offsets are wrong, the text is right
        ({"startIndex": 11, "endIndex": 15, "text": "gone"}, "Ende"),
        ({"startIndex": 11, "endIndex": 999}, "Ende"),
    ],
)
def test_golden_29_citations_count_characters(segment: dict[str, Any], cited: str):
    value = "Über 😀 Ende"
    (annotation,) = whole(grounded(value, segment)).annotations
    citation = annotation["url_citation"]
    assert annotation["type"] == "url_citation"
    assert (citation["url"], citation["title"]) == ("https://s.example/1", "One")
    assert value[citation["start_index"] : citation["end_index"]] == cited


def test_golden_29_citations_of_a_stream():
    chunks = decode(PROVIDER, CHAT, [(FIXTURES / "gemini" / "grounding.sse").read_bytes()])
    found = fold(chunks)
    cited = [
        found.text[a["url_citation"]["start_index"] : a["url_citation"]["end_index"]]
        for a in found.annotations
    ]
    assert cited == ["Zürich liegt am See.", "Es hat 450 000 Einwohner.", "Es hat 450 000 Einwohner."]
    assert [a["url_citation"]["title"] for a in found.annotations] == [
        "stadt-zuerich.ch",
        "stadt-zuerich.ch",
        "wikipedia.org",
    ]
    assert not any(chunk.annotations for chunk in chunks[:-1])


def test_golden_31_a_full_hop_is_a_length():
    native = answer(text("x"), finishReason="CONTINUATION", continuationToken="t")
    assert whole(native).finish_reason == "length"


@pytest.mark.parametrize(
    "event",
    [
        {"usageMetadata": {"promptTokenCount": 3}},
        {"candidates": [{"index": 0}]},
        {"candidates": [{"content": None}], "promptFeedback": {"safetyRatings": []}},
        {"candidates": [{"content": {"parts": None}}]},
        {"candidates": [{"safetyRatings": [], "citationMetadata": {}}], "newThing": {}},
    ],
)
def test_events_of_metadata_say_nothing(event: dict[str, Any]):
    assert stream(event) == []


PARTS = st.lists(
    st.one_of(
        st.text(max_size=5).map(text),
        st.text(max_size=5).map(lambda value: text(value, thought=True)),
        st.sampled_from(["a", "b", None]).map(lambda call_id: function("f", {"x": 1}, call_id)),
        st.just(function("g", thoughtSignature="U0lH")),
        st.just({"inlineData": {"mimeType": "image/png", "data": "AAAA"}}),
    ),
    max_size=8,
)


@given(PARTS, st.lists(st.integers(0, 8), max_size=4), st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY"]))
def test_any_stream_folds_to_its_whole_answer(parts: list[Any], cuts: list[int], reason: str):
    places = sorted({0, len(parts), *(cut for cut in cuts if cut < len(parts))})
    groups = [parts[a:b] for a, b in pairwise(places)]
    events = [answer(*group) for group in groups if group]
    end = answer(finishReason=reason, usage={"promptTokenCount": 1})
    folded = fold(stream(*events, end))
    assert folded == whole(answer(*parts, finishReason=reason, usage={"promptTokenCount": 1}))
