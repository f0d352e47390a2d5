"""Answers that a conversation makes of several calls: every step, every failure, and leaving in between.

The provider here has a conversation of its own for each test; the transport plays a script. What the driver
promises to conversations stands in `providers.base.Step`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from gateway.chat import ChatRequest, Chunk, fold
from gateway.errors import ErrorKind, Retry, UpstreamError
from gateway.providers.base import (
    Context,
    Conversation,
    Fetch,
    Follow,
    HttpRequest,
    Left,
    Pace,
    Provider,
    Reply,
    Wait,
)
from gateway.sse import Event
from gateway.upstream import Timeouts, Upstream
from gateway.upstream.turns import Turns

from .fakes import OPENAI, ScriptedTransport, chat
from .fakes import Reply as Answer

JSON = {"content-type": "application/json"}
STREAM = chat(stream=True)
WHOLE = Chunk(finish_reason="stop", last=True)


def text(event: Event) -> Chunk:
    """What a test's stream says: `end` ends it, `fail` is an error, everything else is text."""
    said = event.data.decode()
    if said == "fail":
        raise UpstreamError(ErrorKind.SERVER, "failed in the stream")
    return Chunk(last=True) if said == "end" else Chunk(text=said)


def events(*words: str) -> list[bytes]:
    return [f"data: {word}\n\n".encode() for word in words]


def get(path: str, **fields: Any) -> HttpRequest:
    return HttpRequest(method="GET", path=path, **fields)


def follow(path: str, **fields: Any) -> Follow:
    return Follow(get(path, stream=True, **fields), text)


def done(body: bytes = b"{}") -> Answer:
    return Answer([body], headers=JSON)


Script = Callable[[Context], Conversation]


def upstream(
    script: Script, *answers: Answer | UpstreamError, **fields: Any
) -> tuple[Upstream, ScriptedTransport]:
    def conversation(_provider: Provider, _request: ChatRequest, context: Context) -> Conversation:
        return script(context)

    timeouts = fields.pop("timeouts", None)
    transport = ScriptedTransport(*answers)
    provider = replace(OPENAI, conversation=conversation, **fields)
    return Upstream("up", provider, transport, key="sim-driver-key", timeouts=timeouts), transport


def paths(transport: ScriptedTransport) -> list[str]:
    return [http.path for http, _, _ in transport.sent]


async def settled(up: Upstream) -> None:
    """Runs what conversations have left to say."""
    await up.aclose()


async def test_an_answer_of_several_calls():
    def script(_context: Context) -> Conversation:
        made: Reply = yield Fetch(HttpRequest(path="/make", body=b"{}"))
        name = msgspec.json.decode(made.body)["id"]
        yield follow(f"/{name}/stream")
        usage: Reply = yield Fetch(get(f"/{name}/usage"))
        yield msgspec.structs.replace(WHOLE, id=usage.body.decode())
        yield Fetch(HttpRequest(path=f"/{name}/archive"))

    up, transport = upstream(
        script, done(b'{"id":"a1"}'), Answer(events("Hel", "lo", "end")), done(b"7"), done()
    )
    async with up.open(STREAM) as exchange:
        assert paths(transport) == ["/make", "/a1/stream"]  # entering waited for the first content
        whole = fold([chunk async for chunk in exchange])
    assert (whole.text, whole.finish_reason, whole.id) == ("Hello", "stop", "7")
    assert up.answered == 1
    await settled(up)
    assert paths(transport) == ["/make", "/a1/stream", "/a1/usage", "/a1/archive"]
    assert all(headers["authorization"] == "Bearer sim-driver-key" for _, _, headers in transport.sent)


async def test_the_same_for_a_client_that_does_not_stream():
    def script(_context: Context) -> Conversation:
        yield follow("/one")
        yield follow("/two")
        yield WHOLE

    up, _ = upstream(script, Answer(events("a", "end")), Answer(events("b", "c")))
    async with up.open(chat()) as exchange:
        whole = await exchange.collect()
    assert (whole.text, whole.finish_reason) == ("abc", "stop")


BROKEN: dict[str, tuple[Answer | UpstreamError, ErrorKind]] = {
    "refused": (Answer([b"{}"], 410, JSON), ErrorKind.BAD_REQUEST),
    "not reached": (UpstreamError(ErrorKind.UNREACHABLE, "no"), ErrorKind.UNREACHABLE),
    "reset": (Answer([*events("x"), UpstreamError(ErrorKind.RESET, "cut")]), ErrorKind.RESET),
    "an error in it": (Answer(events("x", "fail")), ErrorKind.SERVER),
    "no events": (Answer([*events("x"), b'{\n"error":{"code":503}}\n']), ErrorKind.OVERLOADED),
    "silent": (Answer([*events("x"), 5.0]), ErrorKind.TIMEOUT),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_stream_that_fails_is_the_conversations_affair(name: str):
    """Whatever was delivered before: the conversation knows how to go on, and the client sees nothing."""
    answer, kind = BROKEN[name]
    if isinstance(answer, Answer):
        answer.__post_init__()
    caught: list[ErrorKind] = []

    def script(_context: Context) -> Conversation:
        yield follow("/first")
        try:
            yield follow("/broken")
        except UpstreamError as error:
            caught.append(error.kind)
        yield follow("/rest")
        yield WHOLE

    up, transport = upstream(
        script, Answer(events("a", "end")), answer, Answer(events("b")), timeouts=Timeouts(idle=0.05)
    )
    async with up.open(STREAM) as exchange:
        whole = fold([chunk async for chunk in exchange])
    assert caught == [kind]
    assert whole.text in ("ab", "axb")
    assert paths(transport) == ["/first", "/broken", "/rest"]
    assert (up.answered, up.failed) == (1, 0)


async def test_what_a_conversation_lets_pass_is_the_clients():
    def script(_context: Context) -> Conversation:
        yield follow("/broken")

    up, _ = upstream(script, Answer([*events("x"), UpstreamError(ErrorKind.RESET, "cut")]))
    async with up.open(STREAM) as exchange:
        assert (await exchange.read())[0].text == "x"
        with pytest.raises(UpstreamError) as caught:
            await exchange.read()
    assert (caught.value.kind, caught.value.hop) == (ErrorKind.RESET, "up")
    assert (up.answered, up.failed) == (0, 1)


async def test_a_verdict_fails_the_answer_and_is_cleaned_up_after():
    def script(_context: Context) -> Conversation:
        yield follow("/stream")
        yield UpstreamError(ErrorKind.SERVER, "the run failed")
        yield Fetch(HttpRequest(path="/archive"))

    up, transport = upstream(script, Answer(events("x", "end")), done())
    async with up.open(STREAM) as exchange:
        await exchange.read()
        with pytest.raises(UpstreamError, match="the run failed"):
            await exchange.read()
    await settled(up)
    assert paths(transport) == ["/stream", "/archive"]
    assert (up.answered, up.failed) == (0, 1)


async def test_an_end_without_a_last_word_is_no_whole_answer():
    def script(_context: Context) -> Conversation:
        yield follow("/stream")

    up, _ = upstream(script, Answer(events("x", "end")))
    async with up.open(STREAM) as exchange:
        await exchange.read()
        with pytest.raises(UpstreamError) as caught:
            await exchange.read()
    assert caught.value.kind is ErrorKind.INTERRUPTED


async def test_a_piece_of_its_own_is_delivered_in_its_place():
    def script(_context: Context) -> Conversation:
        yield Chunk(text="a")
        yield Wait(0)
        yield Chunk(text="b")
        yield WHOLE

    up, transport = upstream(script)
    async with up.open(STREAM) as exchange:
        assert [c.text async for c in exchange] == ["a", "b", ""]
    assert transport.sent == []


def tidy(log: list[str], first: Any) -> Script:
    """A conversation that says `first`, and notes how it was left."""

    def script(_context: Context) -> Conversation:
        try:
            reply = yield first
            log.append(f"answered {reply.status}" if isinstance(reply, Reply) else "answered")
            yield follow("/stream")
            yield WHOLE
        except Left:
            log.append("left")
            yield Fetch(HttpRequest(path="/cancel"))
            yield Wait(0)
            yield Fetch(HttpRequest(path="/archive"))

    return script


async def test_leaving_in_the_middle_of_a_stream():
    log: list[str] = []
    stream = Answer([*events("x"), 60.0])
    up, transport = upstream(tidy(log, Wait(0)), stream, done(), done())
    async with up.open(STREAM) as exchange:
        await exchange.read()
    assert stream.closed
    await settled(up)
    assert log == ["answered", "left"]
    assert paths(transport) == ["/stream", "/cancel", "/archive"]
    assert transport.closed


async def test_leaving_while_a_call_is_under_way_lets_it_finish():
    """What it made at the provider would otherwise stay there for ever, and be paid for."""
    log: list[str] = []
    made = asyncio.Event()

    class Slow(ScriptedTransport):
        async def send(self, http: HttpRequest, url: str, headers: Any) -> Any:
            answer = await super().send(http, url, headers)
            if http.path == "/make":
                await made.wait()
            return answer

    up, _ = upstream(tidy(log, Fetch(HttpRequest(path="/make"))))
    transport = Slow(done(), done(), done())
    up._endpoint._transport = transport
    opening = asyncio.create_task(up.open(STREAM).__aenter__())
    while not transport.sent:
        await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert log == []
    made.set()
    await settled(up)
    assert log == ["answered 200", "left"]
    assert paths(transport) == ["/make", "/cancel", "/archive"]


async def test_the_overall_limit_counts_over_all_calls():
    log: list[str] = []
    up, transport = upstream(tidy(log, Wait(9)), done(), done(), timeouts=Timeouts(total=0.05))
    with pytest.raises(UpstreamError) as caught:
        async with up.open(STREAM):
            pass
    assert caught.value.kind is ErrorKind.TIMEOUT
    await settled(up)
    assert log == ["left"]
    assert paths(transport) == ["/cancel", "/archive"]


async def test_a_call_that_is_not_worth_waiting_for():
    """Its failure is told, and the answer goes on; the call itself is broken off."""
    caught: list[ErrorKind] = []

    def script(_context: Context) -> Conversation:
        yield follow("/stream")
        try:
            yield Fetch(get("/usage"), within=0.01)
        except UpstreamError as error:
            caught.append(error.kind)
        yield WHOLE

    slow = Answer([60.0], headers=JSON)
    up, _ = upstream(script, Answer(events("x", "end")), slow)
    async with up.open(STREAM) as exchange:
        assert fold([chunk async for chunk in exchange]).text == "x"
    await settled(up)
    assert caught == [ErrorKind.TIMEOUT]
    while not slow.closed:
        await asyncio.sleep(0)


async def test_failures_of_cleaning_up_are_not_the_clients(caplog: pytest.LogCaptureFixture):
    log: list[str] = []
    stream = Answer([*events("x"), 60.0])
    up, _ = upstream(tidy(log, Wait(0)), stream, UpstreamError(ErrorKind.RESET, "cut sim-driver-key"))
    async with up.open(STREAM) as exchange:
        await exchange.read()
    await settled(up)
    assert "cleaning up failed: cut ***" in caplog.text


async def test_what_one_learns_the_next_one_knows():
    seen: list[tuple[str, dict[str, Any]]] = []

    def script(context: Context) -> Conversation:
        seen.append((context.nonce, dict(context.learned)))
        yield Chunk(text="x", finish_reason="stop", last=True)
        context.learned["path"] = "/b"

    up, _ = upstream(script)
    for _ in range(2):
        async with up.open(STREAM) as exchange:
            await exchange.collect()
    assert [learned for _, learned in seen] == [{}, {"path": "/b"}]
    assert seen[0][0] != seen[1][0]


async def test_a_plain_call_is_told_that_it_answered():
    said: list[str] = []

    def script(_context: Context) -> Iterator[HttpRequest]:
        yield HttpRequest(path="/chat")
        said.append("it answered")

    whole = b'{"id":"c","choices":[{"index":0,"message":{"content":"Hi"},"finish_reason":"stop"}]}'
    up, _ = upstream(script, done(whole), done(b"{"))  # type: ignore[arg-type]
    async with up.open(chat()) as exchange:
        assert (await exchange.collect()).text == "Hi"
    assert said == ["it answered"]
    with pytest.raises(UpstreamError):
        async with up.open(chat()):
            pass
    assert said == ["it answered"]


async def test_losses_are_refused_before_anything_is_made():
    def script(_context: Context) -> Conversation:
        yield Fetch(HttpRequest(path="/make", dropped=("seed",)))
        yield follow("/stream", dropped=("seed",))
        yield WHOLE

    up, transport = upstream(script, done(), Answer(events("x")))
    with pytest.raises(UpstreamError) as caught:
        async with up.open(msgspec.structs.replace(STREAM, strict=True)):
            pass
    assert (caught.value.param, caught.value.hop, transport.sent) == ("seed", "gateway", [])
    async with up.open(STREAM) as exchange:
        assert exchange.dropped == ("seed",)


async def test_a_reply_that_is_not_understood_is_a_bad_response():
    def script(_context: Context) -> Conversation:
        made: Reply = yield Fetch(HttpRequest(path="/make"))
        msgspec.json.decode(made.body)

    up, _ = upstream(script, done(b"<html>"))
    with pytest.raises(UpstreamError) as caught:
        async with up.open(STREAM):
            pass
    assert caught.value.kind is ErrorKind.BAD_RESPONSE


async def test_calls_wait_for_their_turn():
    """An API that takes few calls a minute: all calls of all conversations count."""

    def script(_context: Context) -> Conversation:
        yield Fetch(HttpRequest(path="/make"))
        yield WHOLE

    up, transport = upstream(script, done(), done(), done(), pace=Pace(5), timeouts=Timeouts(total=0.05))
    for _ in range(2):
        async with up.open(STREAM):
            pass
    with pytest.raises(UpstreamError) as caught:
        async with up.open(STREAM):
            pass
    assert caught.value.kind in (ErrorKind.RATE_LIMIT, ErrorKind.TIMEOUT)  # which of two equal limits fires
    assert len(transport.sent) == 2


async def test_an_answer_that_began_stands_in_no_line():
    """All calls that an answer needs are taken before its first one, those of cleaning up among them."""
    log: list[str] = []
    up, transport = upstream(
        tidy(log, Fetch(HttpRequest(path="/make"))),
        *(done() for _ in range(2)),
        *(Answer([*events("x"), 60.0]) for _ in range(2)),
        *(done() for _ in range(4)),
        pace=Pace(20, per_answer=4, kept=2),
        timeouts=Timeouts(total=0.05),
    )

    async def chat_and_leave() -> None:
        async with up.open(STREAM) as exchange:
            await exchange.read()

    results = await asyncio.gather(*(chat_and_leave() for _ in range(5)), return_exceptions=True)
    refused = [r for r in results if isinstance(r, UpstreamError)]
    assert [r for r in results if r not in refused] == [None, None]
    assert {r.kind for r in refused} <= {ErrorKind.RATE_LIMIT, ErrorKind.TIMEOUT}
    await settled(up)
    assert sorted(paths(transport)) == sorted(["/make", "/stream", "/cancel", "/archive"] * 2)


@pytest.mark.parametrize("pace", [Pace(20, per_answer=4, kept=2), Pace(5, per_answer=4), Pace(60), Pace(1)])
async def test_no_minute_has_more_calls_than_the_api_takes(pace: Pace):
    """The limiter's own figures: what may come at once, and what comes evenly in a minute after it."""
    limiter = Turns(pace)._limiter
    assert limiter.max_rate + 60 * limiter.max_rate / limiter.time_period <= max(pace.calls, 2)
    assert limiter.max_rate >= pace.per_answer


async def test_each_call_has_its_own_time_for_the_first_byte():
    """The API may take long to make something, and its stream long to begin: neither is the other's fault."""

    def script(_context: Context) -> Conversation:
        for i in range(3):
            yield follow(f"/{i}")
        yield WHOLE

    slow = [Answer([0.06, *events(word, "end")]) for word in "abc"]
    up, _ = upstream(script, *slow, timeouts=Timeouts(first_byte=0.1))
    async with up.open(STREAM) as exchange:
        assert fold([chunk async for chunk in exchange]).text == "abc"


async def test_closing_waits_for_calls_that_are_on_their_way_out():
    """A server that stops cancels its requests and closes at once: what they have to clean up comes then."""
    log: list[str] = []
    up, transport = upstream(tidy(log, Wait(0)), Answer([*events("x"), 60.0]), done(), done())
    reading = asyncio.Event()

    async def chat_on() -> None:
        async with up.open(STREAM) as exchange:
            await exchange.read()
            reading.set()
            await exchange.read()

    task = asyncio.create_task(chat_on())
    await reading.wait()
    task.cancel()
    await up.aclose()
    assert paths(transport) == ["/stream", "/cancel", "/archive"]
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("composed", [True, False])
async def test_who_makes_its_answer_itself_has_tried_everything(composed: bool):
    """To begin again would make, and pay for, a second of what was made at the provider."""

    def script(_context: Context) -> Conversation:
        if composed:
            yield Fetch(HttpRequest(path="/make"))
            yield UpstreamError(ErrorKind.SERVER, "the run failed")
        yield HttpRequest(path="/chat")

    up, _ = upstream(script, done() if composed else Answer([b"{}"], 500, JSON))
    with pytest.raises(UpstreamError) as caught:
        async with up.open(STREAM):
            pass
    assert (caught.value.retry is Retry.NO) == composed
    assert caught.value.failover
