"""The vault: its bounds, whose turn is whose, and that a client which drops everything loses nothing."""

from __future__ import annotations

import copy
import gc
import tracemalloc
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from sys import getsizeof
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from gateway import app, settings, turns, vault
from gateway.chat import AssistantMessage, ChatRequest, Chunk, ToolCallDelta, decode_request
from gateway.errors import ErrorKind, UpstreamError
from gateway.exchange import Exchange, Target
from gateway.ingress import render
from gateway.providers import PROVIDERS
from gateway.turns import KINDS, STRONG, Written, canonical, is_strong, text_digest
from gateway.vault import KEY, OVERHEAD, PIECE, SHARE, Entry, Remembering, Vault

from .fakes import FakeExchange, chat

EVERYTHING = frozenset(KINDS)
HOME = Target("home", "m")
TOOLS = [{"type": "function", "function": {"name": "f"}}]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def entry(*keys: str, size: int = 0, target: Target = HOME) -> Entry:
    """An entry that takes `size` bytes, or as few as can be."""
    names = getsizeof(target.provider) + getsizeof(target.model)
    filling = max(0, size - names - OVERHEAD - KEY * len(keys))
    return Entry(
        target=target,
        keys=tuple(key.encode() for key in keys),
        said=b"",
        after=b"",
        state={"thinking_blocks": Raw(b"0" * filling)},
        calls={},
    )


# ── the vault itself ───────────────────────────────────────────────────────────────────────────────────


def test_what_was_not_used_for_the_longest_time_goes_first():
    kept = Vault(SHARE * 4000, 100, Clock())
    for number in range(SHARE):
        kept.put(entry(str(number), size=4000))
    assert (kept.entries, kept.bytes) == (SHARE, SHARE * 4000)
    assert kept.find(b"0") is not None
    kept.put(entry("new", size=4000))
    assert kept.find(b"1") is None
    assert kept.find(b"0") is not None
    assert kept.find(b"new") is not None


def test_an_entry_goes_when_nobody_used_it_for_its_age():
    clock = Clock()
    kept = Vault(1 << 20, 10, clock)
    kept.put(entry("a"))
    kept.put(entry("b"))
    clock.now = 9
    assert kept.find(b"a") is not None
    clock.now = 15
    assert kept.find(b"b") is None
    assert kept.find(b"a") is not None
    clock.now = 26
    assert (kept.entries, kept.bytes) == (0, 0)


def test_an_entry_is_found_by_each_of_its_keys_until_another_takes_one():
    kept = Vault(1 << 20, 10, Clock())
    kept.put(entry("a", "b", "b"))
    assert kept.find(b"a") is kept.find(b"b") is not None
    kept.put(entry("b", "c"))
    assert kept.find(b"a") is None
    assert kept.find(b"b") is kept.find(b"c") is not None
    assert kept.entries == 1


def test_an_answer_that_would_push_out_the_others_is_not_kept():
    kept = Vault(SHARE * 4000, 10, Clock())
    kept.put(entry("a", size=4001))
    kept.put(entry("b", size=4000))
    assert kept.find(b"a") is None
    assert kept.find(b"b") is not None


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.lists(st.sampled_from("abcdefgh"), min_size=1), st.integers(0, 12_000)),
        st.tuples(st.just("find"), st.sampled_from("abcdefgh"), st.just(0)),
        st.tuples(st.just("wait"), st.just(""), st.integers(0, 60)),
    ),
    max_size=60,
)


@given(STEPS)
def test_the_bound_is_never_exceeded(steps: list[tuple[str, Any, int]]):
    """In bytes and in time, whatever happens; and what is counted is what is there."""
    clock = Clock()
    kept = Vault(SHARE * 10_000, 50, clock)
    used: dict[bytes, float] = {}
    for kind, what, number in steps:
        if kind == "wait":
            clock.now += number
        elif kind == "put":
            kept.put(entry(*what, size=number))
            used |= dict.fromkeys((key.encode() for key in what), clock.now)
        else:
            found = kept.find(what.encode())
            if found is not None:
                assert clock.now - used[what.encode()] <= 50
                used |= dict.fromkeys(found.keys, clock.now)
        held = {id(e): e for key in "abcdefgh" if (e := kept._entries.get(key.encode(), (None,))[0])}
        assert kept.bytes == sum(e.size for e in held.values()) <= kept.max_bytes
        assert set(kept._first) == {key for e in held.values() for key in e.keys}


def test_nothing_of_what_is_kept_is_shown():
    kept = Vault(1 << 20, 10, Clock())
    kept.put(entry("a", size=5000))
    assert repr(kept) == "<Vault 1 entries 5000 bytes>"


# ── what a turn is known by ────────────────────────────────────────────────────────────────────────────

SAME = [
    ('{"a":1,"b":[1,2]}', '{ "b": [1, 2],\n "a": 1 }'),
    ("", "{}"),
    ('{"a":1.0}', '{"a":1}'),
    ('{"a":"\\u00fc"}', '{"a":"ü"}'),
    (" not JSON ", "not JSON"),
]
OTHER = [('{"a":1}', '{"a":2}'), ('{"a":1}', '{"a":"1"}'), ('{"a":[1,2]}', '{"a":[2,1]}'), ("{}", "null")]


@pytest.mark.parametrize(("one", "two"), SAME)
def test_arguments_written_anew_are_the_same(one: str, two: str):
    assert canonical(one) == canonical(two)


@pytest.mark.parametrize(("one", "two"), OTHER)
def test_other_arguments_are_another_call(one: str, two: str):
    assert canonical(one) != canonical(two)


def test_arguments_of_any_depth_and_size_have_a_form():
    for text in ("[" * 100_000, "1e999", "9" * 5000, '{"a":' * 2000 + "1" + "}" * 2000):
        assert canonical(text)


IDS = {  # an id, the name of its function, and whether another conversation may have the same one
    ("toolu_01A09q90qw90lq917835lq9", "f"): True,
    ("call_00_pJ8yk2pQk1", "get_weather"): True,
    ("call_0", "f"): False,
    ("", "f"): False,
    ("", ""): False,
    ("Xk29dkf0a", "f"): False,
    ("functions.get_weather:0", "get_weather"): False,
    ("call_get_weather_in_the_city_0", "get_weather_in_the_city"): False,
}


@pytest.mark.parametrize(("identity", "expected"), IDS.items())
def test_ids_that_servers_count_are_weak(identity: tuple[str, str], expected: bool):
    assert is_strong(*identity) == expected


def test_texts_differ_in_more_than_white_space():
    assert text_digest(["Let me ", "look."]) == text_digest([" Let\tme look.\u3000\n"])
    assert text_digest(["Let me look."]) != text_digest(["Let us look."])
    assert text_digest(["\ud800"]) != text_digest([])


# ── the layer ──────────────────────────────────────────────────────────────────────────────────────────


class Playing:
    """An `Open` that plays answers, each a list of batches, and remembers what it was asked."""

    def __init__(self, *answers: list[list[Chunk]]) -> None:
        self.answers = list(answers)
        self.asked: list[ChatRequest] = []
        self.gave: list[Exchange] = []

    @asynccontextmanager
    async def __call__(self, request: ChatRequest) -> AsyncIterator[Exchange]:
        self.asked.append(request)
        answer = self.answers.pop(0) if self.answers else [[Chunk(text="ok", finish_reason="stop")]]
        self.gave.append(FakeExchange(HOME, answer))
        yield self.gave[-1]


def strong(name: str) -> str:
    """An id as real APIs make them."""
    return name.rjust(STRONG, "_")


def call(name: str, arguments: str = "{}", **fields: Any) -> dict[str, Any]:
    return counted(strong(name), arguments, **fields)


def counted(call_id: str, arguments: str = "{}", **fields: Any) -> dict[str, Any]:
    """A call with just this id."""
    return {"id": call_id, "type": "function", "function": {"name": "f", "arguments": arguments}, **fields}


def turn(content: str | None, *calls: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **({"tool_calls": [*calls]} if calls else {}), **fields}


def result(name: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": strong(name), "content": "done"}


USER = {"role": "user", "content": "Go."}
BLOCK = {"type": "thinking", "thinking": "", "signature": "c2ln"}
SIGNED = {"google": {"thought_signature": "c2ln"}}


def delta(index: int, arguments: str = "{}", **fields: Any) -> ToolCallDelta:
    return ToolCallDelta(index=index, id=strong(f"c{index}"), name="f", arguments=arguments, **fields)


ANSWER = [
    [Chunk(reasoning="I th"), Chunk(reasoning="ink."), Chunk(extra={"thinking_blocks": [BLOCK]})],
    [Chunk(text="Let me "), Chunk(text="look.")],
    [Chunk(tool_calls=(delta(0, '{"a":1,', extra={"extra_content": SIGNED}),))],
    [Chunk(tool_calls=(ToolCallDelta(index=0, arguments='"b":2}'), delta(1)))],
    [Chunk(finish_reason="tool_calls")],
]
ARGUMENTS = '{"a":1,"b":2}'


async def remembered(kept: Vault, target: Target = HOME, answer: Any = None, **request: Any) -> None:
    """One answer of `target`, read by a client."""
    layer = Remembering(Playing(answer or ANSWER), kept, target.provider, EVERYTHING)
    async with layer(chat(target.model, **{"tools": TOOLS, "messages": [USER], **request})) as exchange:
        await exchange.collect()


async def seen(
    kept: Vault, *messages: dict[str, Any], target: Target = HOME, binds: bool = False, **fields: Any
) -> ChatRequest:
    """What `target` is asked when a client sends `messages`."""
    inner = Playing()
    layer = Remembering(inner, kept, target.provider, EVERYTHING, lambda _model: binds)
    request = chat(target.model, **{"tools": TOOLS, "messages": [USER, *messages], **fields})
    before = copy.deepcopy(request.messages), {**request.wire}
    async with layer(request) as exchange:
        await exchange.collect()
    assert (request.messages, request.wire) == before, "the client's own request is not touched"
    asked = inner.asked[0]
    sent = msgspec.json.decode(asked.wire["messages"])
    for raw, message in zip(sent, asked.messages, strict=True):
        if isinstance(message, AssistantMessage):
            assert msgspec.convert(raw, AssistantMessage) == message, "wire and typed say the same"
    return asked


@pytest.fixture
def kept() -> Vault:
    return Vault(1 << 20, 1000, Clock())


def assistants(request: ChatRequest) -> list[AssistantMessage]:
    return [m for m in request.messages if isinstance(m, AssistantMessage)]


def restored(message: AssistantMessage) -> tuple[bool, bool, list[bool]]:
    """Whether it has its blocks, its reasoning, and which of its calls are signed."""
    calls = [call.extra_content == SIGNED for call in message.tool_calls or ()]
    return message.thinking_blocks == [BLOCK], message.reasoning_content == "I think.", calls


WHOLE = (True, True, [True, False])
NOTHING = (False, False, [False, False])
ONE, TWO = call("c0", ARGUMENTS), call("c1")
RESULTS = (result("c0"), result("c1"))
CLIENTS: dict[str, tuple[list[dict[str, Any]], list[tuple[bool, bool, list[bool]]]]] = {
    "as it came": ([turn("Let me look.", ONE, TWO), *RESULTS], [WHOLE]),
    "null instead of the text": ([turn(None, ONE, TWO), *RESULTS], [WHOLE]),
    "empty instead of the text": ([turn("", ONE, TWO), *RESULTS], [WHOLE]),
    "text in parts": (
        [{**turn(None, ONE, TWO), "content": [{"type": "text", "text": "Let me look. \n"}]}, *RESULTS],
        [WHOLE],
    ),
    "arguments written anew": ([turn("Let me look.", call("c0", '{"b": 2, "a": 1}'), TWO)], [WHOLE]),
    "one call left out": ([turn("Let me look.", ONE), result("c0")], [(True, True, [True])]),
    "the signed call left out": ([turn("Let me look.", TWO), result("c1")], [(True, True, [False])]),
    "calls in another order": ([turn("Let me look.", TWO, ONE), *RESULTS], [(True, True, [False, True])]),
    "cut in two": (
        [turn("Let me look.", ONE), result("c0"), turn(None, TWO), result("c1")],
        [(True, True, [True]), (False, False, [False])],
    ),
    "arguments changed": (
        [turn("Let me look.", call("c0", '{"a":3}')), result("c0")],
        [(False, False, [False])],
    ),
    "another text": ([turn("Something else.", ONE, TWO), *RESULTS], [NOTHING]),
    "another id": ([turn("Let me look.", call("c9", ARGUMENTS)), result("c9")], [(False, False, [False])]),
    "a call of its own": (
        [turn("Let me look.", ONE, TWO, call("mine")), *RESULTS, result("mine")],
        [(False, False, [True, False, False])],
    ),
}


@pytest.mark.parametrize("client", CLIENTS)
async def test_what_clients_make_of_a_turn(kept: Vault, client: str):
    """Whole turns get all, pieces what is theirs, and what is not the turn any more nothing."""
    messages, expected = CLIENTS[client]
    await remembered(kept)
    asked = await seen(kept, *messages)
    assert [restored(message) for message in assistants(asked)] == expected


async def test_two_turns_merged_into_one_keep_the_signatures_of_their_calls(kept: Vault):
    """Whose thoughts would come first is not for us to say."""
    await remembered(kept)
    other = ToolCallDelta(
        index=0, id=strong("x"), name="f", arguments="{}", extra={"extra_content": {"other": 1}}
    )
    await remembered(
        kept, answer=[[Chunk(reasoning="More.", tool_calls=(other,), finish_reason="tool_calls")]]
    )
    asked = await seen(kept, turn(None, ONE, TWO, call("x")), *RESULTS, result("x"))
    (message,) = assistants(asked)
    assert (message.reasoning_content, message.thinking_blocks) == (None, None)
    assert [c.extra_content for c in message.tool_calls or ()] == [SIGNED, None, {"other": 1}]


OWN: dict[str, tuple[dict[str, Any], str, Any]] = {  # what a client brings, and what of it must stay
    "blocks": ({"thinking_blocks": [{"own": 1}]}, "thinking_blocks", [{"own": 1}]),
    "reasoning": ({"reasoning_content": "own"}, "reasoning_content", "own"),
    "reasoning, as others call it": ({"reasoning": "own"}, "reasoning_content", None),
    "a signed text": ({"extra_content": {"own": 1}}, "extra_content", {"own": 1}),
}


@pytest.mark.parametrize("name", OWN)
async def test_what_a_client_brings_itself_stays(kept: Vault, name: str):
    fields, field, value = OWN[name]
    await remembered(kept)
    (message,) = assistants(await seen(kept, turn("Let me look.", ONE, TWO, **fields), *RESULTS))
    assert getattr(message, field) == value


CONVENTIONS: list[dict[str, Any]] = [
    {"extra_content": {"google": {"thought_signature": "b3du"}}},
    {"provider_specific_fields": {"thought_signature": "b3du"}},
    {"function": {"name": "f", "arguments": ARGUMENTS, "thought_signature": "b3du"}},
    {
        "function": {
            "name": "f",
            "arguments": ARGUMENTS,
            "provider_specific_fields": {"thought_signature": "b3du"},
        }
    },
]


@pytest.mark.parametrize("fields", CONVENTIONS)
async def test_a_clients_own_signature_stays_in_any_convention(kept: Vault, fields: dict[str, Any]):
    await remembered(kept)
    (message,) = assistants(await seen(kept, turn("Let me look.", ONE | fields, TWO), *RESULTS))
    assert all(c.extra_content != SIGNED for c in message.tool_calls or ())
    assert message.thinking_blocks == [BLOCK], "each kind by itself"


async def test_fields_that_say_nothing_are_not_the_clients_own(kept: Vault):
    await remembered(kept)
    empty = call("c0", ARGUMENTS, provider_specific_fields={"thought_signature": None}, extra_content=None)
    (message,) = assistants(await seen(kept, turn("Let me look.", empty, TWO, thinking_blocks=[]), *RESULTS))
    assert restored(message) == WHOLE


@pytest.mark.parametrize("other", [Target("home", "m2"), Target("home2", "m")], ids=str)
@pytest.mark.parametrize("fields", [{}, *CONVENTIONS])
async def test_no_other_target_sees_anything_of_it(kept: Vault, other: Target, fields: dict[str, Any]):
    """Neither from the vault nor from the client, in no convention; the words stay."""
    await remembered(kept)
    bringing = turn(
        "Let me look.",
        ONE | fields,
        TWO,
        thinking_blocks=[BLOCK],
        reasoning_content="I think.",
        reasoning="I think.",
        reasoning_details=[{"type": "reasoning.encrypted"}],
        extra_content=SIGNED,
    )
    for sent in (turn("Let me look.", ONE, TWO), bringing):
        asked = await seen(kept, sent, *RESULTS, target=other)
        bare = msgspec.json.decode(asked.wire["messages"])[1]
        assert bare == turn("Let me look.", ONE, TWO)


async def test_state_of_a_turn_that_nobody_remembers_goes_out_as_it_came(kept: Vault):
    sent = turn("Hm.", ONE, thinking_blocks=[BLOCK], extra_content=SIGNED)
    inner = Playing()
    request = chat(tools=TOOLS, messages=[USER, sent, result("c0")])
    async with Remembering(inner, kept, "home", EVERYTHING)(request) as exchange:
        await exchange.collect()
    assert inner.asked == [request]
    assert inner.asked[0] is request


async def test_equal_answers_of_different_conversations_are_not_mistaken(kept: Vault):
    """A turn without calls is known by the conversation before it too."""
    answer = [[Chunk(text="Yes.", reasoning="Paris it is.", finish_reason="stop")]]
    question = {"role": "user", "content": "Is it Paris?"}
    await remembered(kept, answer=answer, messages=[question])
    follow = {"role": "user", "content": "Sure?"}

    async def thought(*before: dict[str, Any], **fields: Any) -> str | None:
        asked = await seen(kept, **{"messages": [*before, turn("Yes."), follow], **fields})
        return assistants(asked)[0].reasoning_content

    assert await thought(question) == "Paris it is."
    parts = [{"type": "text", "text": "Is it Paris?"}]
    assert await thought({"role": "user", "content": parts}) == "Paris it is."
    assert await thought(question, tools=[{"type": "function", "function": {"name": "g"}}]) is None
    assert await thought({"role": "system", "content": "New."}, question) is None
    assert await thought({"role": "developer", "content": "New."}, question) is None
    assert await thought({**question, "name": "somebody else"}) is None
    assert await thought({"role": "user", "content": "Is it Rome?"}) is None
    assert await thought(question, turn("No."), question) is None


SECRET = [[Chunk(text="Hello!", reasoning="The code is 4711.", extra={"thinking_blocks": [BLOCK]})]]
SECRET += [[Chunk(finish_reason="stop", extra_content=SIGNED)]]


@pytest.mark.parametrize("role", ["system", "developer"])
async def test_another_clients_thoughts_stay_its_own(kept: Vault, role: str):
    """Two clients with the same words and instructions of their own."""
    theirs, ours = {"role": role, "content": "The code is 4711."}, {"role": role, "content": "Be kind."}
    await remembered(kept, answer=SECRET, messages=[theirs, USER])
    history = [USER, turn("Hello!"), {"role": "user", "content": "Bye."}]
    (message,) = assistants(await seen(kept, messages=[ours, *history]))
    assert (message.reasoning_content, message.thinking_blocks, message.extra_content) == (None, None, None)
    (message,) = assistants(await seen(kept, messages=[theirs, *history]))
    assert message.reasoning_content == "The code is 4711."
    assert (message.thinking_blocks, message.extra_content) == ([BLOCK], SIGNED)


async def test_instructions_that_come_later_do_not_take_thoughts_away(kept: Vault):
    await remembered(kept, answer=SECRET)
    later = {"role": "system", "content": "Be short."}
    (message,) = assistants(await seen(kept, turn("Hello!"), later, USER))
    assert message.reasoning_content == "The code is 4711."


async def test_equal_questions_with_unknown_parts_are_not_the_same(kept: Vault):
    """What is in a part that we cannot read may be something else every time."""
    asking = {"role": "user", "content": [{"type": "video_url", "video_url": {"url": "https://a.example/"}}]}
    await remembered(kept, answer=SECRET, messages=[asking])
    (message,) = assistants(await seen(kept, messages=[asking, turn("Hello!"), USER]))
    assert message.reasoning_content is None


COUNTED = ["call_0", "functions.f:0", ""]


def thinking(call_id: str, thought: str, *more: ToolCallDelta) -> list[list[Chunk]]:
    made = ToolCallDelta(index=0, id=call_id, name="f", extra={"extra_content": {"of": thought}})
    return [[Chunk(reasoning=thought, tool_calls=(made, *more), finish_reason="tool_calls")]]


@pytest.mark.parametrize("call_id", COUNTED)
async def test_calls_that_servers_count_are_known_in_their_conversation_only(kept: Vault, call_id: str):
    """Ids, names and arguments may all be those of another conversation."""
    for who in ("A", "B"):
        messages = [{"role": "user", "content": who}]
        await remembered(kept, answer=thinking(call_id, who), messages=messages)
    for who in ("A", "B", "C"):
        messages = [{"role": "user", "content": who}, turn(None, counted(call_id, "")), USER]
        (message,) = assistants(await seen(kept, messages=messages))
        assert message.reasoning_content == (None if who == "C" else who)
        signed = (message.tool_calls or [])[0].extra_content
        assert signed == (None if who == "C" else {"of": who})


async def test_every_turn_of_a_loop_may_count_from_0(kept: Vault):
    history: list[Any] = [USER]
    for thought in ("first", "second", "third"):
        await remembered(kept, answer=thinking("call_0", thought), messages=history)
        history += [turn(None, counted("call_0")), {**result(""), "tool_call_id": "call_0"}]
    asked = await seen(kept, messages=history)
    assert [m.reasoning_content for m in assistants(asked)] == ["first", "second", "third"]


async def test_counted_calls_may_be_reordered_and_left_out(kept: Vault):
    other = ToolCallDelta(index=1, id="call_1", name="f", arguments='{"a":1}')
    await remembered(kept, answer=thinking("call_0", "I think.", other))
    first, second = counted("call_0"), counted("call_1", '{ "a": 1.0 }')
    for calls in ([first, second], [second, first], [second]):
        (message,) = assistants(await seen(kept, turn(None, *calls), USER))
        assert message.reasoning_content == "I think."
    (message,) = assistants(await seen(kept, turn(None, first, first), USER))
    assert message.reasoning_content is None, "one of them is of a turn that nobody knows"


async def test_calls_of_one_answer_may_share_their_id(kept: Vault):
    """Their arguments tell them apart."""
    other = ToolCallDelta(index=1, id="", name="f", arguments='{"a":1}')
    await remembered(kept, answer=thinking("", "I think.", other))
    asked = await seen(kept, turn(None, counted("", '{"a": 1}'), counted("")), USER)
    (message,) = assistants(asked)
    assert [c.extra_content for c in message.tool_calls or ()] == [None, {"of": "I think."}]
    assert message.reasoning_content == "I think."


ODD = {
    "a number too large": b"1e400",
    "digits without end": b"9" * 5000,
    "no UTF-8": b'"\xff"',
    "a number as it was written": b"0.1000000000000000055511151231257827",
    "depth": b"[" * 500 + b"]" * 500,
}


def odd(field: bytes, value: bytes, inside: str) -> ChatRequest:
    """A request with a field that nobody knows in the turn, its call, or the function of it."""
    made = call("x")
    places = {"turn": (said := turn(None, made)), "call": made, "function": made["function"]}
    places[inside]["@"] = "@"
    request = chat(tools=TOOLS, messages=[USER, said])
    messages = bytes(request.wire["messages"]).replace(b'"@":"@"', b'"%s":%s' % (field, value))
    return msgspec.structs.replace(request, wire={**request.wire, "messages": Raw(messages)})


@pytest.mark.parametrize("target", [HOME, Target("other", "m")], ids=str)
@pytest.mark.parametrize("inside", ["turn", "call", "function"])
@pytest.mark.parametrize("name", ODD)
async def test_what_nobody_has_to_read_stays_as_it_was_written(
    kept: Vault, name: str, inside: str, target: Target
):
    await remembered(kept, answer=thinking(strong("x"), "I think."))
    layer = Remembering(Playing(), kept, target.provider, EVERYTHING)
    sent = layer.restored(odd(b"zzz", ODD[name], inside))
    assert ODD[name] in bytes(sent.wire["messages"])
    (message,) = assistants(sent)
    assert message.reasoning_content == ("I think." if target == HOME else None)


@pytest.mark.parametrize("inside", ["turn", "call", "function"])
async def test_a_turn_that_cannot_be_taken_apart_stays_as_it_is(kept: Vault, inside: str):
    """A name that is no UTF-8: skipped by who looks for others, and in the way of who wants them all."""
    await remembered(kept, answer=thinking(strong("x"), "I think."))
    request = odd(b"\xff", b"1", inside)
    assert Remembering(Playing(), kept, "home", EVERYTHING).restored(request) is request


async def test_state_of_the_clients_own_that_cannot_be_read_stays(kept: Vault):
    await remembered(kept, answer=thinking(strong("x"), "I think."))
    layer = Remembering(Playing(), kept, "home", EVERYTHING)
    sent = layer.restored(odd(b"reasoning", b"1e400", "turn"))
    assert b'"reasoning":1e400' in bytes(sent.wire["messages"])
    assert assistants(sent)[0].reasoning_content is None


async def test_messages_that_do_not_change_keep_their_bytes(kept: Vault):
    await remembered(kept)
    written = [b'{ "role" : "user", "content": "Go." }', b'{"role":"assistant",  "content":"Hm."}']
    messages = b"[%s,%s,%s]" % (*written, msgspec.json.encode(turn("Let me look.", ONE, TWO)))
    request = decode_request(
        b'{"model":"m","messages":%s,"tools":%s}' % (messages, msgspec.json.encode(TOOLS))
    )
    sent = Remembering(Playing(), kept, "home", EVERYTHING).restored(request)
    assert bytes(sent.wire["messages"]).startswith(b"[" + b",".join(written))
    assert restored(assistants(sent)[1]) == WHOLE


async def test_names_written_with_escapes_are_seen(kept: Vault):
    """The client's own signature, as no client writes it."""
    await remembered(kept)
    own = call("c0", ARGUMENTS)
    own["function"]["thought_signature"] = "b3du"
    request = chat(tools=TOOLS, messages=[USER, turn("Let me look.", own, TWO)])
    hidden = bytes(request.wire["messages"]).replace(b"thought_sig", b"\\u0074hought_sig")
    request = msgspec.structs.replace(request, wire={**request.wire, "messages": Raw(hidden)})
    kind = frozenset(("signatures",))
    sent = Remembering(Playing(), kept, "home", kind).restored(request)
    assert SIGNED not in [c.extra_content for c in assistants(sent)[0].tool_calls or ()]
    other = Remembering(Playing(), kept, "other", kind).restored(request)
    assert b"b3du" not in bytes(other.wire["messages"])


class Counting:
    """Stands in the place of a function, and counts how often it is needed."""

    def __init__(self, real: Any) -> None:
        self.real, self.times = real, 0

    def __call__(self, *args: Any) -> Any:
        self.times += 1
        return self.real(*args)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Counting:
    """How often arguments were read."""
    monkeypatch.setattr(vault, "canonical", counting := Counting(canonical))
    return counting


async def test_arguments_are_read_once_however_often_a_turn_comes_back(kept: Vault, parsed: Counting):
    await remembered(kept)
    assert parsed.times == 2
    same = turn("Let me look.", ONE, TWO)
    for _ in range(3):
        assert restored(assistants(await seen(kept, same))[0]) == WHOLE
    assert parsed.times == 2, "as the model wrote them"
    other = turn("Let me look.", call("c0", '{ "b": 2, "a": 1 }'), TWO)
    for _ in range(3):
        assert restored(assistants(await seen(kept, other))[0]) == WHOLE
    assert parsed.times == 3, "as a client wrote them anew"
    changed = turn("Let me look.", call("c0", '{"a": 2}'), TWO)
    for _ in range(3):
        assert restored(assistants(await seen(kept, changed))[0]) == (False, False, [False, False])
    assert parsed.times == 4, "nor are others compared again and again"


async def test_a_conversation_that_nobody_knows_costs_nothing(
    kept: Vault, parsed: Counting, monkeypatch: pytest.MonkeyPatch
):
    """Neither arguments nor texts nor messages are read, with an empty vault or one of others."""
    monkeypatch.setattr(vault, "Written", taken := Counting(Written))
    monkeypatch.setattr(turns, "digest", digests := Counting(turns.digest))
    history = [turn("Let me look.", ONE, TWO), *RESULTS, turn("Done."), USER]
    await seen(kept, *history)
    assert digests.times == 0
    await remembered(kept, messages=[{"role": "user", "content": "Else."}], answer=thinking("call_0", "B"))
    parsed.times = 0
    await seen(kept, *history)
    assert parsed.times == taken.times == 0


PICTURES = [
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,BBBB"}},
    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}},
    {"type": "file", "file": {"file_id": "file-1"}},
]


async def test_pictures_and_files_tell_conversations_apart(kept: Vault):
    answer = [[Chunk(text="A cat.", reasoning="Whiskers.", finish_reason="stop")]]
    asking = [{"role": "user", "content": [picture]} for picture in PICTURES]
    for question in asking:
        await remembered(kept, answer=answer, messages=[question])
        asked = await seen(kept, messages=[question, turn("A cat."), USER])
        assert assistants(asked)[0].reasoning_content == "Whiskers."
    assert kept.entries == len(PICTURES)


CHANGES: dict[str, tuple[dict[str, Any], bool]] = {
    "nothing": ({}, True),
    "the instructions": ({"messages": [{"role": "system", "content": "New."}, USER]}, False),
    "the tools": ({"tools": [{"type": "function", "function": {"name": "g"}}]}, False),
    "no tools any more": ({"tools": None}, False),
    "the question": ({"messages": [{"role": "user", "content": "Stop."}]}, False),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("binds", [False, True])
async def test_state_bound_to_its_conversation_stays_out_of_any_other(kept: Vault, change: str, binds: bool):
    """Where the API would refuse it: elsewhere it is put back all the same."""
    fields, is_same = CHANGES[change]
    await remembered(kept)
    before = fields.get("messages", [USER])
    history = {**fields, "messages": [*before, turn("Let me look.", ONE, TWO), *RESULTS]}
    (message,) = assistants(await seen(kept, **history, binds=binds))
    assert message.thinking_blocks == ([BLOCK] if is_same or not binds else None)


async def test_what_follows_a_turn_that_lost_its_state_is_not_bound_to_it_any_more(kept: Vault):
    """The second turn was made after a first one with thoughts; without those it is another conversation."""
    await remembered(kept)
    first = [USER, turn("Let me look.", ONE, TWO), *RESULTS]
    second = ToolCallDelta(index=0, id=strong("x"), name="f", arguments="{}")
    answer = [[Chunk(tool_calls=(second,), extra={"thinking_blocks": [BLOCK]}, finish_reason="tool_calls")]]
    layer = Remembering(Playing(answer), kept, "home", EVERYTHING, lambda _model: True)
    async with layer(chat(tools=TOOLS, messages=first)) as exchange:
        await exchange.collect()
    history = [*first, turn(None, call("x")), result("x")]
    both = assistants(await seen(kept, messages=history, binds=True))
    assert [m.thinking_blocks for m in both] == [[BLOCK], [BLOCK]]
    kept._remove(next(iter(kept._entries)))
    neither = assistants(await seen(kept, messages=history, binds=True))
    assert [m.thinking_blocks for m in neither] == [None, None]


async def test_state_is_there_before_the_client_reads_the_end(kept: Vault):
    """A client that leaves at the finish reason may come back at once."""
    layer = Remembering(Playing(ANSWER), kept, "home", EVERYTHING)
    async with layer(chat(tools=TOOLS)) as exchange:
        while batch := await exchange.read():
            if batch[-1].finish_reason:
                break
            assert kept.entries == 0
        assert kept.entries == 1


class Breaking(FakeExchange):
    async def read(self) -> list[Chunk]:
        if batch := await super().read():
            return batch
        raise UpstreamError(ErrorKind.INTERRUPTED, "broke off")


async def test_an_answer_that_breaks_off_leaves_nothing_behind(kept: Vault):
    @asynccontextmanager
    async def breaking(_request: ChatRequest) -> AsyncIterator[Exchange]:
        yield Breaking(HOME, ANSWER[:-1])

    async with Remembering(breaking, kept, "home", EVERYTHING)(chat(tools=TOOLS)) as exchange:
        with pytest.raises(UpstreamError):
            await exchange.collect()
    assert kept.entries == 0


async def test_conversations_without_tools_pass_untouched(kept: Vault):
    inner = Playing([[Chunk(text="Hi", reasoning="Hm.", finish_reason="stop")]])
    request = chat(messages=[USER, turn("Hi", thinking_blocks=[BLOCK]), USER])
    async with Remembering(inner, kept, "home", EVERYTHING)(request) as exchange:
        assert exchange is inner.gave[0]
        await exchange.collect()
    assert inner.asked[0] is request
    assert kept.entries == 0


CARRIED: dict[str, tuple[bool, bool, list[bool]]] = {
    "thinking_blocks": (True, False, [False, False]),
    "reasoning_content": (False, True, [False, False]),
    "signatures": (False, False, [True, False]),
}


@pytest.mark.parametrize("kind", CARRIED)
async def test_what_the_provider_does_not_carry_is_not_kept(kept: Vault, kind: str):
    """Nor are lists beside the text that are no state at all."""
    answer = [[Chunk(extra={"images": [{"type": "image_url"}]})], *ANSWER]
    layer = Remembering(Playing(answer), kept, "home", frozenset((kind,)))
    async with layer(chat(tools=TOOLS, messages=[USER])) as exchange:
        await exchange.collect()
    (message,) = assistants(await seen(kept, turn("Let me look.", ONE, TWO), *RESULTS))
    assert restored(message) == CARRIED[kind]


async def test_calls_of_custom_tools_are_known_by_their_input(kept: Vault):
    made = ToolCallDelta(index=0, id=strong("c0"), name="f", arguments="free text", type="custom")
    await remembered(
        kept, answer=[[Chunk(reasoning="I think.", tool_calls=(made,), finish_reason="tool_calls")]]
    )
    custom = {"id": strong("c0"), "type": "custom", "custom": {"name": "f", "input": "free text"}}
    (message,) = assistants(await seen(kept, turn(None, custom), result("c0")))
    assert message.reasoning_content == "I think."


async def test_an_answer_without_state_is_not_kept(kept: Vault):
    await remembered(kept, answer=[[Chunk(text="Hi", tool_calls=(delta(0),), finish_reason="tool_calls")]])
    assert kept.entries == 0


async def test_an_answer_of_absurd_length_is_not_held_in_memory(kept: Vault, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vault, "MAX_WATCHED", 10)
    await remembered(kept)
    assert kept.entries == 0


HUGE = "x" * (100 * PIECE)
LARGE: dict[str, Chunk] = {
    "text": Chunk(text=HUGE),
    "thoughts": Chunk(reasoning=HUGE),
    "blocks": Chunk(extra={"thinking_blocks": [{"thinking": HUGE}]}),
    "arguments": Chunk(tool_calls=(ToolCallDelta(index=0, arguments=HUGE),)),
    "ids": Chunk(tool_calls=(ToolCallDelta(index=0, id=HUGE),)),
    "names": Chunk(tool_calls=(ToolCallDelta(index=0, name=HUGE),)),
    "signatures": Chunk(tool_calls=(delta(0, extra={"extra_content": {"of": HUGE}}),)),
    "a signature": Chunk(extra_content={"of": HUGE}),
    "many pieces": Chunk(tool_calls=(ToolCallDelta(index=0),) * 100),
}


@pytest.mark.parametrize("what", LARGE)
async def test_whatever_grows_without_end_is_not_held(
    kept: Vault, what: str, monkeypatch: pytest.MonkeyPatch
):
    """Nothing is kept of such an answer, and nothing more is collected of it."""
    monkeypatch.setattr(vault, "MAX_WATCHED", 10 * PIECE)
    layer = Remembering(
        Playing([[Chunk(reasoning="I think."), LARGE[what]], *ANSWER]), kept, "home", EVERYTHING
    )
    async with layer(chat(tools=TOOLS, messages=[USER])) as exchange:
        assert isinstance(exchange, vault.Watched)
        await exchange.collect()
        held = (exchange._texts, exchange._thoughts, exchange._deltas, exchange._lists, exchange._signature)
        assert not any(held)
    assert kept.entries == 0


async def test_a_piece_too_much_at_the_end_is_noticed(kept: Vault, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vault, "MAX_WATCHED", PIECE)
    await remembered(kept, answer=[[Chunk(reasoning="I think."), Chunk(text=HUGE, finish_reason="stop")]])
    assert kept.entries == 0


SHAPES: dict[str, tuple[int, int, int]] = {  # calls of a turn, lengths of their ids and of the model's name
    "no calls": (0, 0, 1),
    "short": (1, 6, 1),
    "many calls": (64, 30, 1),
    "long ids": (16, 10_000, 1),
    "long names": (1, 30, 10_000),
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_what_is_counted_is_not_less_than_what_is_taken(shape: str):
    """Ids may be of any length, and so may be the names of models."""
    number, length, named = SHAPES[shape]
    kept = Vault(2 << 20, 1000, Clock())
    gc.collect()
    tracemalloc.start()
    try:
        for i in range(60):
            calls = tuple(
                ToolCallDelta(
                    index=j, id=f"{i}.{j}".rjust(length, "z"), name="f", extra={"extra_content": {"s": j}}
                )
                for j in range(number)
            )
            answer = [[Chunk(reasoning="x", tool_calls=calls, finish_reason="stop")]]
            model = str(i).rjust(named, "m")
            messages = [{"role": "user", "content": str(i)}]
            await remembered(kept, Target("home", model), answer, messages=messages)
            history = [turn(None, *(counted(c.id) for c in calls)), USER]
            await seen(kept, messages=[*messages, *history], target=Target("home", model))
            del calls, answer, model, messages, history
        assert kept.entries
        counted_bytes = kept.bytes
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        kept._entries.clear()
        kept._first.clear()
        gc.collect()
        taken = before - tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert counted_bytes / 8 < taken <= counted_bytes <= kept.max_bytes


async def test_the_exchange_is_still_the_one_that_was_opened(kept: Vault):
    """Usage that comes with the end, names and times are the inner one's; attempts are the router's."""
    inner = Playing(ANSWER)
    async with Remembering(inner, kept, "home", EVERYTHING)(chat(tools=TOOLS)) as exchange:
        exchange.attempts = 3
        given = inner.gave[0]
        given.dropped = ("seed",)
        await exchange.read()
        assert (exchange.target, exchange.timings) == (given.target, given.timings)
        assert (exchange.dropped, exchange.attempts) == (("seed",), 3)


# ── the law ────────────────────────────────────────────────────────────────────────────────────────────

WORDS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Zs")), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=5,
)
OBJECTS = st.dictionaries(WORDS, VALUES, min_size=1, max_size=3)
LISTS = st.lists(OBJECTS, max_size=2)
CALLS = st.lists(st.tuples(OBJECTS, st.none() | st.just(SIGNED)), max_size=3)
TURNS = st.lists(st.tuples(st.lists(WORDS, max_size=3), WORDS, LISTS, LISTS, CALLS), min_size=1, max_size=4)


def played(number: int, said: Any) -> list[list[Chunk]]:
    """An answer in pieces, each in a batch of its own."""
    pieces, thought, blocks, details, calls = said
    chunks = [Chunk(reasoning=thought)] if thought else []
    chunks += [Chunk(extra={"thinking_blocks": [block]}) for block in blocks]
    chunks += [Chunk(extra={"reasoning_details": [detail]}) for detail in details]
    chunks += [Chunk(text=piece) for piece in pieces]
    for index, (arguments, signature) in enumerate(calls):
        written = msgspec.json.encode(arguments).decode()
        extra = {"extra_content": signature} if signature else None
        first = ToolCallDelta(index=index, id=strong(f"t{number}c{index}"), name="f", extra=extra)
        rest = ToolCallDelta(index=index, arguments=written)
        chunks += [Chunk(tool_calls=(first,)), Chunk(tool_calls=(rest,))]
    return [*([chunk] for chunk in chunks), [Chunk(finish_reason="stop", extra_content=SIGNED)]]


def rewrite(message: dict[str, Any]) -> dict[str, Any]:
    """What is left of a turn with a client that knows OpenAI's fields only, and writes them its own way."""
    kept = {"role": "assistant", "content": message["content"] or None}
    if "tool_calls" in message:
        kept["tool_calls"] = [
            {
                "id": c["id"],
                "type": "function",
                "function": {
                    "name": c["function"]["name"],
                    "arguments": msgspec.json.format(c["function"]["arguments"], indent=1),
                },
            }
            for c in message["tool_calls"]
        ]
    return kept


STATE_FIELDS = ("thinking_blocks", "reasoning_details", "reasoning_content", "extra_content")


def state_of(request: ChatRequest) -> Iterable[Any]:
    for message in assistants(request):
        yield [getattr(message, field) or None for field in STATE_FIELDS]
        yield [c.extra_content for c in message.tool_calls or ()]


async def spoken(turns: list[Any], *, drops: bool) -> list[ChatRequest]:
    """What the target is asked through a whole conversation."""
    inner = Playing(*(played(number, said) for number, said in enumerate(turns)))
    layer = Remembering(inner, Vault(1 << 24, 1000, Clock()), "home", EVERYTHING, lambda _model: True)
    messages: list[Any] = [USER]
    for _ in range(len(turns) + 1):
        request = chat(tools=TOOLS, messages=messages)
        async with layer(request) as exchange:
            body = render.response(request, await exchange.collect(), id="x", model="m", created=1)
        said = msgspec.json.decode(body)["choices"][0]["message"]
        messages = [
            *messages,
            rewrite(said) if drops else said,
            *(result(c["id"]) for c in said.get("tool_calls", ())),
            USER,
        ]
    return inner.asked


@given(TURNS)
async def test_a_client_that_drops_everything_is_served_like_one_that_keeps_everything(turns: list[Any]):
    keeping, dropping = await spoken(turns, drops=False), await spoken(turns, drops=True)
    assert len(keeping) == len(turns) + 1
    assert [[*state_of(request)] for request in dropping] == [[*state_of(request)] for request in keeping]


# ── in a gateway ───────────────────────────────────────────────────────────────────────────────────────


def test_every_provider_carries_kinds_that_there_are():
    assert all(provider.carries <= set(KINDS) for provider in PROVIDERS.values())
    assert all(not p.compatible.carries for p in PROVIDERS.values() if p.compatible is not None)


def test_the_layer_is_put_on_where_something_is_carried_and_nowhere_else():
    made = app.build(settings.parse("", "x"), {})
    for member in made.router.members.values():
        assert isinstance(member.open, Remembering) == bool(member.provider.carries)
    off = app.build(settings.parse("[vault]\nenabled = false", "x"), {})
    assert not any(isinstance(member.open, Remembering) for member in off.router.members.values())


MODELS = {
    "claude-sonnet-5-5": True,
    "claude-opus-5-5-20261001": True,
    "claude-haiku-5-5": True,
    "claude-fable-5-2": True,
    "claude-of-tomorrow": True,
    "claude-sonnet-5": False,
    "claude-opus-4-8": False,
    "claude-haiku-4-5": False,
}


@pytest.mark.parametrize("model", MODELS)
def test_which_models_bind_their_thoughts_to_the_conversation(model: str):
    assert PROVIDERS["anthropic"].binds(model) == MODELS[model]
    assert not PROVIDERS["gemini"].binds(model)
