"""Qwen: how streams and whole answers are read, and what only the driver can show of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gateway.chat import ChatRequest, Chunk, fold
from gateway.errors import ErrorKind, UpstreamError
from gateway.ingress import render
from gateway.providers.qwen.pieces import Growing
from gateway.upstream import Upstream
from tests.fakes import Reply, ScriptedTransport

from .cases import CASES, CLOCK, PNG, decode, request, user
from .qwen_helpers import LISTS, MULTIMODAL, PLUS, QWEN, TEXT, URL_ERROR

KEY = "sim-qwen-key"
RID = "b1-22"
JSON = {"content-type": "application/json"}
STREAM = CASES["stream"]

GOLDEN = {
    2: "test_golden_02_the_third_request_goes_straight_to_the_other_path",
    4: "test_golden_04_the_client_is_told_once",
    5: "test_golden_05_null_in_a_string_is_no_end",
    6: "test_golden_06_content_in_lists",
    7: "test_golden_07_repetitions_are_cut_off",
    8: "test_golden_08_thoughts_then_text",
    9: "test_golden_09_fragments_with_an_index",
    10: "test_golden_10_fragments_without_an_index_that_repeat",
    11: "test_golden_11_a_call_without_arguments_has_empty_ones",
    12: (
        "test_golden_12_throttled_before_any_content_is_a_failure_that_may_be_repeated",
        "test_golden_12_throttled_after_content_is_an_error_in_the_stream",
    ),
    13: "test_golden_13_an_error_in_a_good_answer",
    15: "test_golden_15_an_inspection_that_stops_an_answer",
    17: "test_golden_17_a_client_that_does_not_stream_gets_a_stream_collected",
    18: (
        "test_golden_18_two_answers_in_a_stream",
        "test_golden_18_two_answers_whole",
    ),
    21: "test_golden_21_the_key_is_in_no_message",
    23: "test_golden_23_usage_with_pictures_and_a_cache",
    24: "test_golden_24_an_end_after_nothing_but_null",
}


def frame(finish: str | None = "null", usage: Any = None, index: int | None = None, **message: Any) -> Any:
    choice = {"message": {"role": "assistant", "content": "", **message}, "finish_reason": finish}
    if index is not None:
        choice["index"] = index
    return {"output": {"choices": [choice]}, "usage": usage, "request_id": RID}


def sse(*frames: Any, name: str = "result", status: int = 200) -> list[bytes]:
    """Events as the API sends them: no space after a colon, the status in a comment."""
    return [
        b"id:%d\nevent:%b\n:HTTP_STATUS/%d\ndata:%b\n\n"
        % (i, name.encode(), status, msgspec.json.encode(frame))
        for i, frame in enumerate(frames, 1)
    ]


def failure(code: str, message: str = "No.", status: int = 400) -> bytes:
    (event,) = sse({"code": code, "message": message, "request_id": RID}, name="error", status=status)
    return event


def counts(read: int, said: int, **more: Any) -> dict[str, Any]:
    return {"input_tokens": read, "output_tokens": said, "total_tokens": read + said, **more}


def asked(model: str = PLUS, **fields: Any) -> ChatRequest:
    return request({**STREAM, **fields}, model)


def read(*frames: Any, **fields: Any) -> list[Chunk]:
    return decode(QWEN, asked(**fields), sse(*frames))


def rendered(chunks: Iterable[Chunk], chat: ChatRequest) -> list[dict[str, Any]]:
    """The events of a client's stream, without the end mark."""
    stream = render.Stream(chat, id="x", model="m", created=5)
    events = b"".join([*(stream.render(chunk) for chunk in chunks), stream.end()])
    lines = [line.removeprefix(b"data: ") for line in events.split(b"\n\n") if line]
    assert lines.pop() == b"[DONE]"
    return [msgspec.json.decode(line) for line in lines]


def rebuilt(chunks: Iterable[Chunk], chat: ChatRequest) -> ChatCompletion:
    """The answer as the official SDK puts it together."""
    state = ChatCompletionStreamState()
    for event in rendered(chunks, chat):
        state.handle_chunk(ChatCompletionChunk.model_validate(event))
    return state.current_completion_snapshot


# ── streams ────────────────────────────────────────────────────────────────────────────────────────────


def test_golden_05_null_in_a_string_is_no_end():
    texts = ["H", "e", "l", "l", "o"]
    chunks = read(*(frame(content=text) for text in texts), frame("stop"))
    assert [c.text for c in chunks] == [*texts, ""]
    assert [c.finish_reason for c in chunks] == [None] * 5 + ["stop"]
    events = rendered(chunks, asked())
    ends = [e["choices"][0]["finish_reason"] for e in events if e["choices"]]
    assert ends.count("stop") == 1
    assert ends[-1] == "stop"
    assert {e["id"] for e in events} == {f"chatcmpl-{RID}"}
    for none in (None, ""):
        assert [c.finish_reason for c in read(frame(none, content="a"), frame("stop"))] == [None, "stop"]


def test_golden_06_content_in_lists():
    chunks = read(
        frame(content=[{"text": "He"}]),
        frame(content=[]),
        frame(content=[{"text": "y"}, {"image": "https://x.test/a.png"}]),
        frame("stop", content=[]),
    )
    assert [c.text for c in chunks] == ["He", "y", ""]


def test_golden_07_repetitions_are_cut_off():
    """The second piece waits for the third, which tells that it is no increment."""
    chunks = read(*(frame(content=text) for text in ("He", "Hello", "Hello!")), frame("stop"))
    assert [c.text for c in chunks if c.text] == ["He", "llo!"]
    whole = read(
        *(frame(reasoning_content=text) for text in ("So", "So it", "So it is")),
        frame(reasoning_content="So it is", content=[{"text": "Yes"}]),
        frame("stop", reasoning_content="So it is", content=[{"text": "Yes"}]),
    )
    assert (fold(whole).reasoning, fold(whole).text) == ("So it is", "Yes")


def streamed(pieces: list[str], *, last: bool = False, key: str = "content") -> str:
    """The text of pieces that end with an empty one, or `last`: with the last of them."""
    ends = ["stop" if last and i == len(pieces) else "null" for i in range(1, len(pieces) + 1)]
    frames = [frame(end, **{key: text}) for end, text in zip(ends, pieces, strict=True)]
    whole = fold(read(*frames, *([] if last else [frame("stop")])))
    return whole.text or whole.reasoning


INCREMENTS = [
    ["test", "testtest"],
    ["你好", "你好吗"],
    ["in", "into the"],
    ["no", "non", "e"],
    ["ab", "ab", "abc"],
    ["go", "gogo", "go"],
    ["ha", "ha", "ha!"],
    ["10", "101010", "1010101010"],
    ["0", "00", "000", "0000"],
    ["\n", "\n\n", "\n\n\n"],
    ["--", "----", "------"],
    ["  ", "  return", "\n"],
    ["A", "A", "A", "B"],
    ["ha", "", "haha", "hahaha"],
    ["Yes", "Yes"],
    ["研究", "研究生", "。"],
]


@pytest.mark.parametrize("key", ["content", "reasoning_content"])
@pytest.mark.parametrize("pieces", INCREMENTS)
def test_increments_are_never_cut(pieces: list[str], key: str):
    """Texts double their letters and signs by themselves; in doubt what was asked for is what came."""
    assert streamed(pieces, key=key) == "".join(pieces)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize(
    "pieces",
    [
        ["Hello", "Hello", "Hello world", "Hello world!"],
        ["", "So", "So it", "So it is"],
        ["1", "12", "123", "123 ab", "123 ab c"],
        ["A", "Ab", "Ab c"],
        ["好", "好好的", "好好的。"],
        ["Once", "Once u", "Once up\ufffd", "Once upon", "Once upon a"],
        ["Well", "Well, ", "Well, yes ", "Well, yes", "Well, yes sir"],
    ],
)
def test_repetitions_are_known_by_their_third_step(pieces: list[str], last: bool):
    (text,) = {streamed(pieces, last=last), streamed(pieces, last=last, key="reasoning_content")}
    assert text.replace("\ufffd", "") == pieces[-1]


def test_a_revised_end_adds_what_is_new():
    """What has been said cannot be taken back; a text that has little in common is another one."""
    assert streamed(["It", "It i", "It is 你\ufffd", "It is 你好", "It is 你好吗"]) == "It is 你\ufffd好吗"
    assert streamed(["It", "It i", "It is on", "It is off", "It is off."]) == "It is onff."
    assert streamed(["It", "It i", "It is so", "It", "I", " no"]) == "It is soItI no"


def test_the_last_piece_may_say_that_it_is_the_last():
    """Increments end with an empty piece: a last one that repeats words is a repetition."""
    for pieces, text in [
        (["1", "1"], "11"),
        (["1", "10"], "110"),
        (["Yes", "Yes"], "Yes"),
        (["Yes", "Yes."], "Yes."),
        (["He", "Hello", "Hello"], "Hello"),
        (["He", "Hello", "Other"], "HeHelloOther"),
        (["A", "A"], "AA"),
    ]:
        assert streamed(pieces, last=True) == text
    assert streamed(["He", "Hello", "Other"]) == "HeHelloOther"


def test_only_a_chain_from_the_start_is_held():
    said = [
        c.text for c in read(*(frame(content=t) for t in ("a", "b", "in", "into", "into it")), frame("stop"))
    ]
    assert said == ["a", "b", "in", "into", "into it", ""]
    said = [c.text for c in read(*(frame(content=t) for t in ("in", "into", "x", "y")), frame("stop"))]
    assert said == ["in", "intox", "y", ""]


letters = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=4)
similar = st.text("aA1- 好", min_size=1, max_size=4)


def is_chain(pieces: list[str]) -> bool:
    """Whether the pieces begin like a text that is repeated: two steps that add to words."""
    grew = False
    for before, piece in pairwise(pieces):
        if not piece.startswith(before):
            return False
        longer = piece != before
        if grew and longer and len({c for c in before if c.isalpha()}) > 1:
            return True
        grew = grew or longer
    return False


@given(st.lists(letters | similar, min_size=1, max_size=8))
def test_increments_stay_as_they_are(pieces: list[str]):
    """Increments are delivered whole, as long as they are no such chain."""
    if is_chain(pieces):
        pieces = ["·", *pieces]
    grown = Growing()
    assert "".join([*map(grown.add, pieces), grown.add("", ended=True)]) == "".join(pieces)
    cut = Growing()
    assert "".join([*map(cut.add, pieces), cut.end()]) == "".join(pieces)


@given(st.lists(letters | similar | st.just(""), min_size=1, max_size=8))
def test_repetitions_say_everything_once(pieces: list[str]):
    pieces = ["So", *pieces]
    grown = Growing()
    so_far = ["".join(pieces[: i + 1]) for i in range(len(pieces))]
    assert "".join([*map(grown.add, so_far), grown.add(so_far[-1], ended=True)]) == so_far[-1]


def test_golden_08_thoughts_then_text():
    chunks = read(
        frame(reasoning_content=""),
        frame(reasoning_content="Hm."),
        frame(reasoning_content="", content=""),
        frame(reasoning_content="", content="Hi"),
        frame("stop", reasoning_content=""),
    )
    assert [(c.reasoning, c.text) for c in chunks] == [("Hm.", ""), ("", "Hi"), ("", "")]
    deltas = [e["choices"][0]["delta"] for e in rendered(chunks, asked()) if e["choices"]]
    assert [d for d in deltas if "reasoning_content" in d] == [{"reasoning_content": "Hm."}]


# ── tool calls ─────────────────────────────────────────────────────────────────────────────────────────


def piece(index: int | None, call_id: Any, name: Any, arguments: Any) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value != "absent"}
    placed = {} if index is None else {"index": index}
    return {**placed, "id": call_id, "type": "function", "function": function}


def calling(*events: list[dict[str, Any]], finish: str = "tool_calls") -> list[Chunk]:
    return read(*(frame(tool_calls=event) for event in events), frame(finish, tool_calls=[]))


def called(chunks: Iterable[Chunk]) -> list[tuple[str, str, str]]:
    """(id, name, arguments) of the calls, as the official SDK rebuilds them."""
    message = rebuilt(chunks, asked()).choices[0].message
    return [(c.id, c.function.name, c.function.arguments) for c in message.tool_calls or ()]


CALLS = [("call_x", "get_weather", '{"city":"Rome"}'), ("call_y", "get_time", "{}")]


def test_golden_09_fragments_with_an_index():
    chunks = calling(
        [piece(0, "call_x", "get_weather", None)],
        [piece(0, "", None, '{"city"')],
        [piece(0, "", "", ':"Ro')],
        [piece(0, "", "absent", 'me"}')],
        [piece(1, "call_y", "get_time", "{}")],
    )
    assert called(chunks) == CALLS
    named = [delta for c in chunks for delta in c.tool_calls if delta.id or delta.name]
    assert [(d.index, d.id, d.name) for d in named] == [(0, *CALLS[0][:2]), (1, *CALLS[1][:2])]
    assert fold(chunks).finish_reason == "tool_calls"


def test_calls_that_share_an_index_or_have_none_are_kept_apart():
    """Servers number all parallel calls 0; another id, or without ids another name, is another call."""
    same = [
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"index": 0, "id": "b", "function": {"name": "g", "arguments": '{"y":'}},
        {"index": 0, "id": "", "function": {"arguments": "2}"}},
    ]
    none = [
        {"function": {"name": "f", "arguments": '{"x":1}'}},
        {"function": {"name": "g", "arguments": '{"y":2}'}},
    ]
    for calls in (same, none):
        whole = fold(read(*(frame(tool_calls=[call]) for call in calls), frame("tool_calls")))
        assert [(c.name, c.arguments) for c in whole.tool_calls] == [("f", '{"x":1}'), ("g", '{"y":2}')]


def test_golden_10_fragments_without_an_index_that_repeat():
    first = [piece(None, "call_x", "get_weather", text) for text in ('{"city"', '{"city":"Ro', CALLS[0][2])]
    second = piece(None, "call_y", "get_time", "{}")
    assert called(calling(*([p] for p in first), [first[-1], second], [first[-1], second])) == CALLS
    # by their places, where even the ids are missing
    bare = [{**p, "id": ""} for p in (*first, second)]
    found = called(calling([bare[0]], [bare[1]], [bare[2], bare[3]]))
    assert [call[1:] for call in found] == [call[1:] for call in CALLS]
    assert len({call[0] for call in found}) == 2
    # and increments that have no index either
    assert called(calling([first[0]], [piece(None, "", None, ':"Rome"}')], [second])) == CALLS


def test_calls_of_a_stream_that_repeats_everything():
    chunks = read(
        frame(content="So"),
        frame(content="So be it."),
        frame(content="So be it.", tool_calls=[piece(0, "call_x", "get_weather", '{"city"')]),
        frame(content="So be it.", tool_calls=[piece(0, "call_x", "get_weather", CALLS[0][2])]),
        frame("stop", content="So be it.", tool_calls=[piece(0, "call_x", "get_weather", CALLS[0][2])]),
    )
    assert called(chunks) == CALLS[:1]
    assert fold(chunks).text == "So be it."


@pytest.mark.parametrize("arguments", ["", None])
@pytest.mark.parametrize("finish", ["tool_calls", "stop", "function_call"])
def test_golden_11_a_call_without_arguments_has_empty_ones(arguments: Any, finish: str):
    chunks = calling([piece(0, "call_y", "get_time", arguments)], finish=finish)
    assert called(chunks) == [CALLS[1]]
    assert fold(chunks).finish_reason == "tool_calls"
    whole = frame(finish, tool_calls=[piece(0, "call_y", "get_time", arguments)])
    parsed = QWEN.parse_response(msgspec.json.encode(whole), asked())
    assert [(c.id, c.name, c.arguments) for c in parsed.tool_calls] == [CALLS[1]]


def test_a_call_begins_with_its_name():
    chunks = calling([piece(0, "call_x", None, '{"ci')], [piece(0, "", "get_weather", 'ty":"Rome"}')])
    assert called(chunks) == CALLS[:1]
    assert called(calling([piece(0, "", None, "")])) == []  # a call of nothing is none


@pytest.mark.parametrize("finish", ["tool_calls", "stop"])
@pytest.mark.parametrize(("call_id", "arguments"), [("call_x", ""), ("", "{}")])
def test_a_call_that_never_gets_a_name_is_a_bad_answer(call_id: str, arguments: str, finish: str):
    nameless = [piece(0, call_id, None, arguments)]
    for attempt in (
        lambda: calling(nameless, finish=finish),
        lambda: QWEN.parse_response(msgspec.json.encode(frame(finish, tool_calls=nameless)), asked()),
    ):
        with pytest.raises(UpstreamError) as caught:
            attempt()
        assert caught.value.kind is ErrorKind.BAD_RESPONSE
    assert fold(calling(nameless, finish="length")).finish_reason == "length"  # it says that much is missing


def test_ids_are_made_up_where_there_are_none():
    first, second = (calling([piece(0, "", "f", "{}"), piece(1, None, "f", "{}")]) for _ in range(2))
    ids = [call[0] for call in called(first)]
    assert len(set(ids)) == 2
    assert all(i.startswith("call_") and len(i) == 29 for i in ids)
    assert ids == [call[0] for call in called(second)]  # of the same answer


@pytest.mark.parametrize("index", [0, None])
def test_arguments_tell_by_themselves_whether_they_repeat(index: int | None):
    """Only one of the two readings is JSON; while both are, the fragment waits."""
    for fragments, arguments in [
        (['{"x":', '{"x":1}}'], '{"x":{"x":1}}'),
        (['{"x":', '{"x":1}', "}"], '{"x":{"x":1}}'),
        (['{"x":', '{"x":1}'], '{"x":1}'),
        (['{"x":[', '{"x":[-', '{"x":[-1.', '{"x":[-1.5]}'], '{"x":[-1.5]}'),
        (['{"x":', '{"x":true', "}", "}"], '{"x":{"x":true}}'),
        (['{"x":', '{"x":true', '{"x":true}'], '{"x":true}'),
        (['{"ci', '{"city":"Ro', CALLS[0][2], CALLS[0][2]], CALLS[0][2]),
        (["{}", "{}"], "{}"),
        (['{"x":"', "a", '"}'], '{"x":"a"}'),
    ]:
        first, *more = fragments
        rest = [[piece(index, "", None, text)] for text in more]
        assert called(calling([piece(index, "call_x", "f", first)], *rest)) == [("call_x", "f", arguments)]
        whole = [[piece(index, "call_x", "f", text)] for text in fragments]
        assert called(calling(*whole)) == [("call_x", "f", arguments)]


@pytest.mark.parametrize(("index", "told"), [(0, '{"x":{"x":1'), (None, '{"x":1')])
def test_arguments_that_are_cut_off_or_no_json(index: int | None, told: str):
    """Where JSON does not decide, an index says that these are increments."""
    cut = ['{"x":', '{"x":1']
    events = [[piece(index, "call_x", "f", text)] for text in cut]
    assert fold(calling(*events, finish="length")).tool_calls[0].arguments == told
    python = ["{'x", "{'x': 1}"]
    events = [[piece(index, "call_x", "f", text)] for text in python]
    assert fold(calling(*events)).tool_calls[0].arguments == ("".join(python) if index == 0 else python[1])
    deep = ['{"x":' + "[" * 200_000, '{"x":' + "[" * 200_000 + "1"]  # deeper than any Python reads
    events = [[piece(index, "call_x", "f", text)] for text in deep]
    assert fold(calling(*events)).tool_calls[0].arguments == ("".join(deep) if index == 0 else deep[1])


keys = st.text('ax":{}\\', max_size=3)
objects = st.dictionaries(
    keys,
    st.recursive(
        st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none() | keys,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=2),
        max_leaves=6,
    ),
    max_size=3,
).map(json.dumps)


@given(objects, st.data())
@pytest.mark.parametrize("index", [0, None])
@pytest.mark.parametrize("repeated", [True, False])
def test_arguments_are_the_same_however_they_come(
    index: int | None, repeated: bool, arguments: str, data: st.DataObject
):
    cuts = sorted(data.draw(st.sets(st.integers(1, len(arguments)), max_size=6)) | {0, len(arguments)})
    pieces = [arguments[0 if repeated else a : b] for a, b in pairwise(cuts)]
    events = [[piece(index, "call_x", "f", text)] for text in pieces]
    assert [c.arguments for c in fold(calling(*events)).tool_calls] == [arguments]


fragments = st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=12)


@given(fragments, st.data())
def test_calls_are_the_same_however_they_are_cut(order: list[int], data: st.DataObject):
    """Fragments of three calls in any order, cut anywhere, give the same calls."""
    texts = {i: data.draw(objects) for i in set(order)}
    left, begun, events = dict(texts), set[int](), []
    for i in order:
        size = data.draw(st.integers(0, len(left[i])))
        part, left[i] = left[i][:size], left[i][size:]
        events.append([piece(i, "" if i in begun else f"call_{i}", None if i in begun else f"f{i}", part)])
        begun.add(i)
    events.append([piece(i, "", None, rest) for i, rest in left.items()])
    found = fold(calling(*events)).tool_calls
    assert [(c.id, c.name, c.arguments) for c in found] == [
        (f"call_{i}", f"f{i}", texts[i]) for i in dict.fromkeys(order)
    ]


# ── usage, sources, probabilities ──────────────────────────────────────────────────────────────────────


def test_golden_23_usage_with_pictures_and_a_cache():
    seen = {"input_tokens": 1300, "output_tokens": 30, "image_tokens": 1247, "audio_tokens": 8}
    details = {
        "prompt_tokens_details": {"cached_tokens": 1024, "cache_creation_input_tokens": 64},
        "output_tokens_details": {"reasoning_tokens": 20},
    }
    chunks = read(frame(content="A duck", usage=counts(1300, 9)), frame("stop", usage=seen | details))
    usage = fold(chunks).usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (1300, 30, 1330)
    assert (usage.cached_tokens, usage.cache_write_tokens, usage.reasoning_tokens) == (1024, 64, 20)
    shown = rendered(chunks, asked())[-1]["usage"]
    assert shown["prompt_tokens_details"] == {
        "cached_tokens": 1024,
        "audio_tokens": 8,
        "cache_write_tokens": 64,
        "image_tokens": 1247,
    }
    assert (shown["total_tokens"], shown["completion_tokens_details"]["reasoning_tokens"]) == (1330, 20)


@pytest.mark.parametrize(
    "details", [{"cached_tokens": 5}, {"input_tokens_details": {"cached_tokens": 5, "image_tokens": 3}}]
)
def test_older_places_of_details(details: dict[str, Any]):
    usage = fold(read(frame("stop", content="a", usage=counts(9, 1, **details)))).usage
    assert usage is not None
    assert usage.cached_tokens == 5
    assert (usage.wire is not None) == ("input_tokens_details" in details)


def test_usage_may_come_late_and_be_strange():
    late = {"output": {"choices": []}, "usage": counts(9, 4), "request_id": RID}
    chunks = read(frame(content="a", usage=counts(9, 1)), frame("stop"), late)
    assert [c.usage.completion_tokens for c in chunks if c.usage] == [1, 4]
    assert rendered(chunks, asked())[-1]["usage"]["completion_tokens"] == 4
    strange = fold(read(frame("stop", content="a", usage={"input_tokens": "x", "prompt_tokens_details": 3})))
    assert strange.usage is not None
    assert strange.usage.total_tokens == 0
    assert fold(read(frame("stop", content="a", usage=[3]))).usage is None


def test_sources_are_annotations():
    found = frame(content="Ducks swim.")
    found["output"]["search_info"] = {"search_results": [{"url": "https://x.test/a", "title": "A"}, {}, 3]}
    (annotation,) = fold(read(found, frame("stop"))).annotations
    assert annotation["url_citation"]["url"] == "https://x.test/a"
    for info in (None, 3, {"search_results": 3}):
        found["output"]["search_info"] = info
        assert fold(read(found, frame("stop"))).annotations == ()


def test_probabilities():
    token = {"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": []}
    said = frame(content="a")
    said["output"]["choices"][0]["logprobs"] = {"content": [token]}
    assert fold(read(said, frame("stop"))).logprobs == {"content": [token], "refusal": None}
    for none in ([], 5, "abc", {"a": 1}, None):
        said["output"]["choices"][0]["logprobs"] = {"content": none}
        assert fold(read(said, frame("stop"))).logprobs is None


def test_a_bare_text_is_an_answer_too():
    bare = {"output": {"text": "Hi", "finish_reason": "stop"}, "usage": counts(1, 1), "request_id": RID}
    parsed = QWEN.parse_response(msgspec.json.encode(bare), asked())
    assert (parsed.text, parsed.finish_reason) == ("Hi", "stop")


@pytest.mark.parametrize("whole", [frame("null", content="a"), {"output": {"choices": []}}, {}])
def test_a_whole_answer_has_an_end(whole: Any):
    with pytest.raises(UpstreamError) as caught:
        QWEN.parse_response(msgspec.json.encode(whole), asked())
    assert caught.value.kind is ErrorKind.BAD_RESPONSE


def test_unknown_ends_are_ends():
    assert read(frame("brand_new", content="a"))[0].finish_reason == "stop"
    assert read(frame("length", content="a"))[0].finish_reason == "length"


# ── several choices ────────────────────────────────────────────────────────────────────────────────────

TWO = (
    frame(index=1, content="B", usage=counts(9, 1)),
    frame(index=0, content="A", usage=counts(9, 1)),
    frame(index=0, content="", usage=counts(9, 1)),
    frame(index=1, content="b", usage=counts(9, 2)),
    frame("stop", index=0, usage=counts(9, 3)),
    frame("length", index=1, usage=counts(9, 4)),
)


def test_golden_18_two_answers_in_a_stream():
    chunks = read(*TWO, n=2)
    events = rendered(chunks, asked(n=2))
    *said, last = events
    assert [c["index"] for e in said for c in e["choices"]] == [0, 1, 0, 1, 0, 1]
    assert all(e["model"] == PLUS and e["id"] == f"chatcmpl-{RID}" for e in said)
    assert (last["choices"], last["usage"]["completion_tokens"], last["usage"]["prompt_tokens"]) == ([], 7, 9)
    found = rebuilt(chunks, asked(n=2)).choices
    assert [(c.message.content, c.finish_reason) for c in found] == [("A", "stop"), ("Bb", "length")]
    assert [c.finish_reason for c in chunks if c.finish_reason] == ["stop"]  # when both are there
    assert chunks[-1].finish_reason


def test_golden_18_two_answers_whole():
    chat = asked(n=2, stream=False)
    (chunk,) = decode(QWEN, chat, sse(*TWO, {"output": {"choices": []}, "usage": counts(9, 4)}))
    answer = ChatCompletion.model_validate_json(render.response(chat, chunk, id="x", model="m", created=1))
    assert [(c.index, c.message.content, c.finish_reason) for c in answer.choices] == [
        (0, "A", "stop"),
        (1, "Bb", "length"),
    ]
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (9, 7)
    assert (answer.model, answer.id, chunk.text) == (PLUS, f"chatcmpl-{RID}", "A")


def test_two_answers_of_a_document():
    choices = [frame("stop", index=i, content=text)["output"]["choices"][0] for i, text in enumerate("AB")]
    body = {"output": {"choices": choices}, "usage": counts(9, 6), "request_id": RID}
    for stream in (False, True):
        parsed = QWEN.parse_response(msgspec.json.encode(body), asked(n=2, stream=stream))
        answer = msgspec.json.decode(parsed.wire or b"")
        assert [c["message"]["content"] for c in answer["choices"]] == ["A", "B"]
        assert answer["usage"]["completion_tokens"] == 6


def test_nothing_comes_after_the_end_of_a_choice():
    late = [frame(index=0, content="more"), frame(index=7, content="nobody asked")]
    both = rebuilt(read(*TWO[:5], *late, TWO[5], n=2), asked(n=2)).choices
    assert [c.message.content for c in both] == ["A", "Bb"]


def test_an_answer_that_is_missing_is_not_whole():
    chunks = read(frame("stop", index=0, content="A"), n=2)
    assert all(c.finish_reason is None for c in chunks)
    assert decode(QWEN, asked(n=2, stream=False), sse(frame("stop", index=0, content="A"))) == []


def test_thoughts_and_probabilities_of_each_answer():
    token = {"token": "a", "logprob": -0.1}
    said = [frame(index=i, content="a", reasoning_content=f"r{i}") for i in range(2)]
    for one in said:
        one["output"]["choices"][0]["logprobs"] = {"content": [token]}
    ends = [frame("stop", index=i) for i in range(2)]
    (chunk,) = decode(QWEN, asked(n=2, stream=False), sse(*said, *ends))
    for i, choice in enumerate(msgspec.json.decode(chunk.wire or b"")["choices"]):
        assert choice["message"]["reasoning_content"] == f"r{i}"
        assert choice["logprobs"]["content"] == [token]


# ── through the driver ─────────────────────────────────────────────────────────────────────────────────


def upstream(*replies: Reply) -> tuple[Upstream, ScriptedTransport]:
    transport = ScriptedTransport(*replies)
    return Upstream("qwen", QWEN, transport, key=KEY), transport


async def answered(up: Upstream, chat: ChatRequest) -> list[Chunk]:
    async with up.open(chat) as exchange:
        return [chunk async for chunk in exchange]


async def failing(up: Upstream, chat: ChatRequest) -> tuple[list[Chunk], UpstreamError]:
    """What was delivered, and the error that ended it."""
    chunks: list[Chunk] = []
    with pytest.raises(UpstreamError) as caught:
        async with up.open(chat) as exchange:
            while batch := await exchange.read():
                chunks += batch
    return chunks, caught.value


HELLO = sse(frame(content="Hi", usage=counts(5, 1)), frame("stop", usage=counts(5, 2)))


def refusing(message: str = URL_ERROR, code: str = "InvalidParameter", status: int = 400) -> Reply:
    body = msgspec.json.encode({"code": code, "message": message, "request_id": RID})
    return Reply([body], status=status, headers=JSON)


def wrapped(code: str = "InvalidParameter", message: str = URL_ERROR, status: int = 400) -> Reply:
    """An error answer that is an event: what a call for a stream may be refused with."""
    return Reply([failure(code, message, status)], status=status)


async def test_golden_02_the_third_request_goes_straight_to_the_other_path():
    up, transport = upstream(refusing(), Reply(HELLO), Reply(HELLO), wrapped(), Reply(HELLO))
    for _ in range(2):
        assert fold(await answered(up, asked())).text == "Hi"
    assert [http.path for http, _, _ in transport.sent] == [TEXT, MULTIMODAL, MULTIMODAL]
    contents = [
        msgspec.json.decode(http.body)["input"]["messages"][0]["content"] for http, *_ in transport.sent
    ]
    assert contents == ["Hi", [{"text": "Hi"}], [{"text": "Hi"}]]
    assert up.failed == 0
    assert fold(await answered(up, asked())).text == "Hi"
    assert [http.path for http, _, _ in transport.sent[3:]] == [MULTIMODAL, TEXT]


async def test_golden_04_the_client_is_told_once():
    up, transport = upstream(refusing(), wrapped())
    _, error = await failing(up, asked())
    assert (error.kind, error.status, error.failover) == (ErrorKind.BAD_REQUEST, 400, False)
    assert len(transport.sent) == 2


async def test_golden_12_throttled_before_any_content_is_a_failure_that_may_be_repeated():
    up, _ = upstream(Reply([*sse(frame(reasoning_content="")), failure("Throttling.RateQuota", status=429)]))
    chunks, error = await failing(up, asked())
    assert chunks == []
    assert (error.kind, error.status, error.failover) == (ErrorKind.RATE_LIMIT, 429, True)


async def test_golden_12_throttled_after_content_is_an_error_in_the_stream():
    up, _ = upstream(Reply([*sse(frame(content="Hi")), failure("Throttling.RateQuota", status=429)]))
    chunks, error = await failing(up, asked())
    assert [c.text for c in chunks] == ["Hi"]
    assert error.kind is ErrorKind.RATE_LIMIT
    assert fold(chunks).finish_reason is None


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("as_event", [False, True])
async def test_golden_13_an_error_in_a_good_answer(stream: bool, as_event: bool):
    error = {"code": "Throttling.AllocationQuota", "message": "Slow down.", "request_id": RID}
    reply = Reply(sse(error)) if as_event else Reply([msgspec.json.encode(error)], headers=JSON)
    up, _ = upstream(reply)
    _, found = await failing(up, asked(stream=stream, stream_options=None))
    assert (found.kind, found.message) == (ErrorKind.RATE_LIMIT, "Slow down.")
    with pytest.raises(UpstreamError):
        QWEN.parse_response(msgspec.json.encode(error), asked())


async def test_golden_15_an_inspection_that_stops_an_answer():
    stopped = failure("DataInspectionFailed", "Output data may contain inappropriate content.")
    up, _ = upstream(Reply([*sse(frame(content="Hi", usage=counts(5, 1))), stopped]))
    chunks = await answered(up, asked())
    assert [(c.text, c.finish_reason) for c in chunks] == [("Hi", None), ("", "content_filter")]
    assert fold(chunks).usage is not None
    up, _ = upstream(Reply([stopped]))
    _, error = await failing(up, asked())
    assert (error.kind, error.status, error.failover) == (ErrorKind.CONTENT_FILTER, 400, False)
    assert error.code == "content_policy_violation"
    both = decode(QWEN, asked(n=2), [*sse(frame("stop", index=0, content="A")), stopped])
    assert [c.finish_reason for c in rebuilt(both, asked(n=2)).choices] == ["stop", "content_filter"]


STOPPED = failure("DataInspectionFailed", "Output data may contain inappropriate content.")


@pytest.mark.parametrize("key", ["content", "reasoning_content"])
def test_what_is_held_is_told_when_the_answer_is_stopped(key: str):
    held = [frame(**{key: "1"}), frame(**{key: "12 is held"})]
    whole = fold(decode(QWEN, asked(), [*sse(*held), STOPPED]))
    assert (whole.text + whole.reasoning, whole.finish_reason) == ("112 is held", "content_filter")
    fragments = [frame(tool_calls=[piece(0, "call_x", "f", text)]) for text in ('{"x":', '{"x":1')]
    (call,) = fold(decode(QWEN, asked(), [*sse(*fragments), STOPPED])).tool_calls
    assert call.arguments == '{"x":{"x":1'


def test_what_is_held_of_several_answers_is_told_when_they_are_stopped():
    held = [frame(index=i, content=text) for text in ("1", "12 is held") for i in range(2)]
    events = [*sse(*held, frame("stop", index=1)), STOPPED]
    found = [("112 is held", "content_filter"), ("112 is held", "stop")]
    streamed = rebuilt(decode(QWEN, asked(n=2), events), asked(n=2)).choices
    assert [(c.message.content, c.finish_reason) for c in streamed] == found
    (chunk,) = decode(QWEN, asked(n=2, stream=False), events)
    choices = msgspec.json.decode(chunk.wire or b"")["choices"]
    assert [(c["message"]["content"], c["finish_reason"]) for c in choices] == found


@pytest.mark.parametrize("model", ["qwen3.5-plus", PLUS])
async def test_golden_17_a_client_that_does_not_stream_gets_a_stream_collected(model: str):
    up, transport = upstream(Reply(HELLO))
    chat = request(CASES["plain"], model)
    async with up.open(chat) as exchange:
        whole = await exchange.collect()
    ((http, _, headers),) = transport.sent
    assert (headers["x-dashscope-sse"], headers["accept"]) == ("enable", "text/event-stream")
    assert http.stream
    answer = msgspec.json.decode(render.response(chat, whole, id="x", model=model, created=1))
    assert answer["choices"][0]["message"]["content"] == "Hi"
    assert answer["usage"]["completion_tokens"] == 2
    assert (answer["model"], answer["id"]) == (model, f"chatcmpl-{RID}")


async def test_two_whole_answers_are_one_document():
    up, _ = upstream(Reply(sse(*TWO)))
    async with up.open(asked(n=2, stream=False, stream_options=None)) as exchange:
        whole = await exchange.collect()
    assert len(msgspec.json.decode(whole.wire or b"")["choices"]) == 2


async def test_golden_21_the_key_is_in_no_message():
    up, transport = upstream(refusing(f"Invalid API-key {KEY} provided.", "InvalidApiKey", 401))
    _, error = await failing(up, asked())
    ((_, url, headers),) = transport.sent
    assert url == f"https://dashscope.aliyuncs.com/api/v1{TEXT}"
    assert headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in error.message
    assert "region" in error.message


async def test_golden_24_an_end_after_nothing_but_null():
    up, _ = upstream(Reply(sse(frame(content="Hi"), frame(content=" there"))))
    chunks, error = await failing(up, asked())
    assert fold(chunks).text == "Hi there"
    assert (error.kind, error.code) == (ErrorKind.INTERRUPTED, "stream_interrupted")


async def test_a_picture_and_tools_all_the_way():
    """What a client asks and what it gets, with everything that is particular to the multimodal path."""
    chat = request(
        {
            "messages": [user([{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}])],
            "tools": [CLOCK],
            "stream": True,
        },
        LISTS,
    )
    up, transport = upstream(
        Reply(
            sse(
                frame(content=[{"text": "See"}]),
                frame(content=[], tool_calls=[piece(0, "call_y", "get_time", "")]),
                frame("tool_calls", content=[], tool_calls=[]),
            )
        )
    )
    answer = rebuilt(await answered(up, chat), chat).choices[0]
    assert (answer.message.content, answer.finish_reason) == ("See", "tool_calls")
    assert transport.sent[0][0].path == MULTIMODAL
