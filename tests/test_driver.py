"""The driver with a scripted transport: when an answer counts as whole, and what each failure is called."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from gateway.chat import ChatRequest, Chunk, fold
from gateway.errors import ErrorKind, UpstreamError
from gateway.providers.base import Capabilities, HttpRequest
from gateway.upstream import Timeouts, Upstream
from gateway.upstream import call as module

from .fakes import DONE, OPENAI, ROLE, Reply, ScriptedTransport, chat, delta, sse

JSON = {"content-type": "application/json"}
USAGE = {"id": "c1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}
WHOLE = {
    "id": "c1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


def upstream(*replies: Reply | UpstreamError, **options: Any) -> tuple[Upstream, ScriptedTransport]:
    transport = ScriptedTransport(*replies)
    options.setdefault("key", "sim-driver-key")
    return Upstream("up", OPENAI, transport, **options), transport


async def answer(up: Upstream, request: ChatRequest) -> Chunk:
    async with up.open(request) as exchange:
        return await exchange.collect()


async def failure(up: Upstream, request: ChatRequest) -> UpstreamError:
    """How opening fails: nothing may have been delivered before."""
    with pytest.raises(UpstreamError) as caught:
        async with up.open(request):
            pass
    return caught.value


STREAM = chat(stream=True)


async def test_a_whole_stream():
    reply = Reply(sse(ROLE, delta(content="H"), delta(content="i"), delta("stop"), USAGE, DONE))
    up, transport = upstream(reply)
    async with up.open(STREAM) as exchange:
        chunks = [chunk async for chunk in exchange]
    assert fold(chunks).text == "Hi"
    assert exchange.usage is not None
    assert exchange.usage.prompt_tokens == 3
    assert str(exchange.target) == "up/m"
    assert exchange.timings.first_byte is not None
    assert exchange.timings.first_token is not None
    _, url, headers = transport.sent[0]
    assert url == "https://api.openai.com/v1/chat/completions"
    assert headers["authorization"] == "Bearer sim-driver-key"
    assert headers["accept-encoding"] == "identity"
    assert (reply.at_end, reply.closed) == (True, True)  # read to its end, so the connection can be kept
    assert (up.answered, up.failed, up.in_flight) == (1, 0, 0)


async def test_a_whole_answer_that_is_no_stream():
    up, _ = upstream(Reply([msgspec.json.encode(WHOLE)], headers=JSON))
    whole = await answer(up, chat())
    assert (whole.text, whole.finish_reason) == ("Hi", "stop")


async def test_chunks_that_arrive_together_are_delivered_together():
    up, _ = upstream(
        Reply([b"".join(sse(ROLE, delta(content="a"), delta(content="b"))), *sse(delta("stop"), DONE)])
    )
    async with up.open(STREAM) as exchange:
        assert len(await exchange.read()) == 3
        assert [c.finish_reason for c in await exchange.read()] == ["stop"]


async def test_entering_waits_for_the_first_content():
    reply = Reply([*sse(ROLE), b": ping\n\n", *sse(delta(content="x"), delta("stop"), DONE)])
    up, _ = upstream(reply)
    async with up.open(STREAM):
        assert reply.reads == 3


FIRST: dict[str, tuple[Reply | UpstreamError, ErrorKind]] = {  # a failure before any content, as it is called
    "nothing": (Reply(), ErrorKind.INTERRUPTED),
    "role only": (Reply(sse(ROLE)), ErrorKind.INTERRUPTED),
    "done only": (Reply(sse(ROLE, DONE)), ErrorKind.INTERRUPTED),
    "html": (Reply([b"<html>"], headers={"content-type": "text/html"}), ErrorKind.BAD_RESPONSE),
    "json without error": (Reply([msgspec.json.encode(WHOLE)], headers=JSON), ErrorKind.BAD_RESPONSE),
    "json with error": (Reply([b'{"error":{"code":429,"message":"x"}}'], headers=JSON), ErrorKind.RATE_LIMIT),
    "error event": (
        Reply(sse({"error": {"message": "x", "type": "overloaded_error"}})),
        ErrorKind.OVERLOADED,
    ),
    "raw error": (Reply([b'{\n"error":{"code":503,\n"message":"x"}}\n']), ErrorKind.OVERLOADED),
    "html as stream": (Reply([b"<html>\n</html>\n"]), ErrorKind.BAD_RESPONSE),
    "broken json": (Reply([b"data: {\n\n"]), ErrorKind.BAD_RESPONSE),
    "bad utf-8": (Reply([b'data: {"id":"\xff"}\n\n']), ErrorKind.BAD_RESPONSE),
    "bad utf-8 in a field nobody reads": (
        Reply([b'data: {"x":"\xff","choices":[{"delta":{"role":"assistant","content":"a"}}]}\n\n']),
        ErrorKind.BAD_RESPONSE,
    ),
    "too deep": (Reply([b"data: " + b'{"a":' * 5000 + b"\n\n"]), ErrorKind.BAD_RESPONSE),
    "too large": (Reply([b"data: " + b"x" * (2 << 20)]), ErrorKind.BAD_RESPONSE),
    "reset": (UpstreamError(ErrorKind.RESET, "closed"), ErrorKind.RESET),
    "reset after the head": (Reply([UpstreamError(ErrorKind.RESET, "closed")]), ErrorKind.RESET),
    "500": (Reply([b"oops"], 500, {}), ErrorKind.SERVER),
    "529": (Reply([b""], 529, {}), ErrorKind.OVERLOADED),
    "401": (Reply([b""], 401, {}), ErrorKind.AUTH),
    "redirect": (Reply([b""], 307, {"location": "http://evil"}), ErrorKind.BAD_RESPONSE),
}


@pytest.mark.parametrize("name", FIRST)
async def test_failures_before_content(name: str):
    reply, kind = FIRST[name]
    if isinstance(reply, Reply):
        reply.__post_init__()
    up, _ = upstream(reply)
    error = await failure(up, STREAM)
    assert error.kind is kind
    assert error.hop == "up"
    assert error.failover == (kind is not ErrorKind.AUTH)
    assert "<" not in error.message
    assert (up.failed, up.answered, up.in_flight) == (1, 0, 0)
    assert up.last_failure is not None
    assert up.last_failure.kind is kind
    if isinstance(reply, Reply):
        assert reply.closed


UNARY: dict[str, tuple[Reply, ErrorKind]] = {
    "empty": (Reply([b""], headers=JSON), ErrorKind.BAD_RESPONSE),
    "cut": (Reply([b'{"choices":['], headers=JSON), ErrorKind.BAD_RESPONSE),
    "no choices": (Reply([b'{"choices":[]}'], headers=JSON), ErrorKind.BAD_RESPONSE),
    "error in 200": (Reply([b'{"error":{"type":"server_error"}}'], headers=JSON), ErrorKind.SERVER),
    "stream": (Reply(sse(ROLE)), ErrorKind.BAD_RESPONSE),
    "html": (Reply([b"<p>"], headers={"content-type": "text/html"}), ErrorKind.BAD_RESPONSE),
}


@pytest.mark.parametrize("name", UNARY)
async def test_failures_of_an_answer_that_is_no_stream(name: str):
    reply, kind = UNARY[name]
    reply.__post_init__()
    up, _ = upstream(reply)
    assert (await failure(up, chat())).kind is kind


BROKEN: dict[str, list[bytes | float | UpstreamError]] = {  # what follows a first piece of text
    "end": [],
    "end mark without a reason": sse(DONE),
    "reset": [UpstreamError(ErrorKind.RESET, "closed")],
    "broken event": [b'data: {"choices":[{"delta":{"con\n\n'],
    "error event": sse({"error": {"message": "boom"}}),
    "half an event": [b'data: {"choices":[{"delta":{"con'],
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_break_in_the_middle_never_looks_like_the_end(name: str):
    """Pitfall 2: what came is delivered, then an error, whichever way the bytes were cut."""
    for together in (False, True):
        pieces = [*sse(ROLE, delta(content="Hel")), *BROKEN[name]]
        if together and all(isinstance(p, bytes) for p in pieces):
            pieces = [b"".join(pieces)]  # type: ignore[arg-type]
        up, _ = upstream(Reply(pieces))
        got: list[Chunk] = []
        async with up.open(STREAM) as exchange:
            with pytest.raises(UpstreamError) as caught:
                while batch := await exchange.read():
                    got += batch
        assert fold([*got, Chunk()]).text == "Hel"
        assert caught.value.hop == "up"
        assert (up.failed, up.answered) == (1, 0)


WHOLE_ANYWAY: dict[str, list[bytes | float | UpstreamError]] = {  # what follows a finish reason
    "no end mark": [],
    "reset": [UpstreamError(ErrorKind.RESET, "closed")],
    "nonsense": [b"data: {\n\n"],
    "two end marks": sse(DONE, DONE),
    "more content": sse(delta(content="late"), DONE),
    "content after the end mark": sse(DONE, delta(content="late")),
}


@pytest.mark.parametrize("name", WHOLE_ANYWAY)
async def test_after_the_finish_reason_the_answer_is_whole(name: str):
    """P26, P36: a lost end mark is no failure, and nothing is added to a finished answer."""
    for together in (False, True):
        pieces = [*sse(ROLE, delta(content="Hi"), delta("stop")), *WHOLE_ANYWAY[name]]
        if together and all(isinstance(p, bytes) for p in pieces):
            pieces = [b"".join(pieces)]  # type: ignore[arg-type]
        up, _ = upstream(Reply(pieces))
        whole = await answer(up, STREAM)
        assert (whole.text, whole.finish_reason) == ("Hi", "stop")
        assert (up.failed, up.answered) == (0, 1)


async def test_leaving_early_closes_the_call_and_blames_nobody():
    reply = Reply(sse(ROLE, delta(content="a"), delta(content="b"), delta("stop")))
    up, _ = upstream(reply)
    async with up.open(STREAM) as exchange:
        await exchange.read()
    assert (reply.closed, reply.at_end) == (True, False)
    assert (up.failed, up.answered, up.in_flight) == (0, 0, 0)


async def test_a_cancelled_wait_closes_the_call():
    reply = Reply([*sse(ROLE), 60.0])
    up, _ = upstream(reply)
    task = asyncio.create_task(failure(up, STREAM))
    while reply.reads < 2:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reply.closed
    assert (up.failed, up.in_flight) == (0, 0)


TIMERS = {  # which limit ends what, and what it is told as
    "first byte": ({"first_byte": 0.01}, [60.0], "no byte within 0.01 s"),
    "idle": ({"idle": 0.01}, [*sse(ROLE), 60.0], "no byte for 0.01 s"),
    "content": ({"content_idle": 0.03}, [*[b": ping\n\n", 0.01] * 20, 60.0], "no content for 0.03 s"),
    "total": ({"total": 0.03}, [*sse(ROLE), *[b": ping\n\n", 0.01] * 20], "longer than 0.03 s"),
}


@pytest.mark.parametrize("name", TIMERS)
async def test_each_time_limit_ends_the_wait(name: str):
    limits, pieces, words = TIMERS[name]
    up, _ = upstream(Reply(pieces), timeouts=Timeouts(**limits))
    error = await failure(up, STREAM)
    assert error.kind is ErrorKind.TIMEOUT
    assert words in error.message


async def test_a_slow_client_is_not_a_silent_provider():
    """Time in which nobody waits for the provider does not count."""
    up, _ = upstream(
        Reply([*sse(ROLE, delta(content="a")), *sse(delta(content="b")), *sse(delta("stop"))]),
        timeouts=Timeouts(first_byte=0.3, idle=0.3, content_idle=0.3),
    )
    async with up.open(STREAM) as exchange:
        while await exchange.read():
            await asyncio.sleep(0.35)
    assert up.answered == 1


async def test_an_answer_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_BODY", 10)
    up, _ = upstream(Reply([b'{"choices', b'":[]}      '], headers=JSON))
    error = await failure(up, chat())
    assert (error.kind, "larger than 10 bytes" in error.message) == (ErrorKind.BAD_RESPONSE, True)


async def test_only_the_beginning_of_an_error_is_read():
    """P7: ten megabytes of error page are not read."""
    reply = Reply([b"x" * (1 << 16)] * 160, 500, {})
    up, _ = upstream(reply)
    assert (await failure(up, STREAM)).kind is ErrorKind.SERVER
    assert reply.reads == 2


async def test_the_key_is_not_in_what_is_told():
    body = b'{"error":{"message":"Incorrect API key provided: sim-driver-key","code":"invalid_api_key"}}'
    up, _ = upstream(Reply([body], 401, JSON))
    error = await failure(up, STREAM)
    assert "sim-driver-key" not in error.message
    assert "***" in error.message


async def test_a_refused_key_is_named_by_its_place():
    up, _ = upstream(Reply([b'{"error":{"message":"bad key"}}'], 401, JSON), key_source="MY_KEY")
    assert (await failure(up, STREAM)).message == "bad key (the key is from MY_KEY)"


async def test_strict_refuses_what_would_be_dropped_and_sends_nothing():
    up, transport = upstream()
    request = msgspec.structs.replace(chat("gpt-6-luna", temperature=0.5), strict=True)
    error = await failure(up, request)
    assert (error.kind, error.param, error.hop) == (ErrorKind.UNSUPPORTED, "temperature", "gateway")
    assert transport.sent == []
    assert up.failed == 0


async def test_what_is_dropped_is_told():
    up, _ = upstream(Reply([msgspec.json.encode(WHOLE)], headers=JSON))
    async with up.open(chat("gpt-6-luna", temperature=0.5)) as exchange:
        assert exchange.dropped == ("temperature",)


async def test_models_are_listed_and_failures_named():
    page = b'{"data":[{"id":"a","created":5,"owned_by":"x"},{"id":"b"}]}'
    up, transport = upstream(
        Reply([page], headers=JSON), Reply([b"no"], 401, JSON), Reply([b"no"], headers=JSON)
    )
    assert [m.id for m in await up.models()] == ["a", "b"]
    assert transport.sent[0][0].method == "GET"
    for kind in (ErrorKind.AUTH, ErrorKind.BAD_RESPONSE):
        with pytest.raises(UpstreamError) as caught:
            await up.models()
        assert caught.value.kind is kind


async def test_sizes_come_from_the_providers_list_where_it_tells_them():
    page = b'{"data":[{"id":"a","context_length":4096},{"id":"b"}]}'
    up, _ = upstream(Reply([page], headers=JSON))
    table = Capabilities(frozenset(("tools",)), context_window=100, max_output=50)
    up.provider = replace(up.provider, capabilities=lambda _model: table)
    assert up.capabilities("a") == table
    await up.models()
    assert up.capabilities("a") == Capabilities(frozenset(("tools",)), context_window=4096, max_output=50)
    assert up.capabilities("b") == table
    assert up.capabilities("elsewhere") == table


async def test_the_cheapest_call_tells_how_a_provider_is():
    up, transport = upstream(Reply([b"{}"], headers=JSON), Reply([b"no"], 401, JSON))
    assert await up.ping() >= 0
    assert transport.sent[0][0] == OPENAI.models_request
    with pytest.raises(UpstreamError) as caught:
        await up.ping()
    assert caught.value.kind is ErrorKind.AUTH
    cheaper = HttpRequest(method="GET", path="/me")
    transport = ScriptedTransport(Reply([b"{}"], headers=JSON))
    await Upstream("up", replace(OPENAI, health_request=cheaper), transport).ping()
    assert transport.sent[0][0] == cheaper


def test_a_preview_is_what_would_be_sent_without_the_key():
    """Nothing is scripted: a call would fail."""
    up, _ = upstream()
    seen, built = up.preview(STREAM), OPENAI.build_request(STREAM)
    assert (seen.method, seen.body, seen.dropped) == (built.method, built.body, built.dropped)
    assert seen.url == "https://api.openai.com/v1/chat/completions"
    assert seen.headers["authorization"] == "Bearer ***"
    assert "sim-driver-key" not in repr(seen)


async def test_what_is_collected_for_a_client_is_bounded(monkeypatch: pytest.MonkeyPatch):
    """An API may have to be asked for a stream by a client that wants none; a stream itself has no bound."""
    monkeypatch.setattr(module, "MAX_BODY", 1000)

    def reply() -> Reply:
        return Reply(sse(*(delta(content="x" * 50) for _ in range(20)), delta("stop"), DONE))

    def streamed(request: ChatRequest) -> HttpRequest:
        return msgspec.structs.replace(OPENAI.build_request(request), stream=True)

    up = Upstream("up", replace(OPENAI, build_request=streamed), ScriptedTransport(reply(), reply()))
    error = await failure(up, chat())
    assert (error.kind, "larger than 1000 bytes" in error.message) == (ErrorKind.BAD_RESPONSE, True)
    async with up.open(STREAM) as exchange:
        assert len(fold([chunk async for chunk in exchange]).text) == 1000
