"""The library: how providers are opened, what may be asked of them, and that nothing stays open."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest

import gateway
from gateway import members, open_provider
from gateway.chat import ChatRequest, UserMessage
from gateway.errors import ErrorKind, RequestError, SettingsError, UpstreamError
from gateway.providers import PROVIDERS
from gateway.settings import Settings, parse

from .fakes import DONE, ROLE, Reply, ScriptedTransport, chat, delta, sse

JSON = {"content-type": "application/json"}
NONE = Settings()


def whole(text: str = "Hi", **message: Any) -> Reply:
    said = {"role": "assistant", "content": text, **message}
    choice = {"index": 0, "message": said, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return Reply([msgspec.json.encode({"id": "c", "choices": [choice], "usage": usage})], headers=JSON)


def streamed(*texts: str) -> Reply:
    return Reply(sse(ROLE, *(delta(content=text) for text in texts), delta("stop"), DONE))


@pytest.fixture
def transport(monkeypatch: pytest.MonkeyPatch) -> ScriptedTransport:
    """What every provider that is opened sends through."""
    scripted = ScriptedTransport()
    monkeypatch.setattr(members, "transport_for", lambda *_arguments, **_options: scripted)
    return scripted


KEYED: dict[str, Any] = {"settings": NONE, "environ": {"OPENAI_API_KEY": "sim-environ-key"}}


def sent(transport: ScriptedTransport, number: int = 0) -> Any:
    return msgspec.json.decode(transport.sent[number][0].body)


# ── asking ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_text_is_answered(transport: ScriptedTransport):
    transport.replies = [whole("Hello")]
    async with open_provider("openai", **KEYED) as provider:
        answer = await provider.generate("Say hi", model="gpt-4.1", temperature=0.5)
    assert (answer.text, answer.finish_reason, answer.model) == ("Hello", "stop", "gpt-4.1")
    assert answer.usage is not None
    assert answer.usage.total_tokens == 5
    assert answer.dropped == ()
    assert isinstance(answer, gateway.Chunk)
    messages = [{"role": "user", "content": "Say hi"}]
    assert sent(transport) == {"model": "gpt-4.1", "messages": messages, "temperature": 0.5}
    assert transport.closed


async def test_the_default_model_is_asked_when_none_is_named(transport: ScriptedTransport):
    transport.replies = [whole(), whole()]
    chosen = parse("[providers.openai]\ndefault_model = 'gpt-4.1-mini'\n", "test")
    async with open_provider("openai", settings=chosen, environ=KEYED["environ"]) as provider:
        await provider.generate("x")
        assert provider.capabilities() == PROVIDERS["openai"].capabilities("gpt-4.1-mini")
    async with open_provider("openai", **KEYED) as provider:
        await provider.generate("x")
    assert [sent(transport, n)["model"] for n in (0, 1)] == [
        "gpt-4.1-mini",
        PROVIDERS["openai"].default_model,
    ]


MESSAGES = [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}]
PROMPTS: dict[str, Any] = {
    "messages": MESSAGES,
    "any sequence": tuple(MESSAGES),
    "a decoded request": chat("gpt-4.1", messages=MESSAGES, stream=True, my_field=[1.5]),
}


@pytest.mark.parametrize("name", PROMPTS)
async def test_messages_and_requests_are_answered(transport: ScriptedTransport, name: str):
    transport.replies = [whole()]
    async with open_provider("openai", **KEYED) as provider:
        model = None if isinstance(PROMPTS[name], ChatRequest) else "gpt-4.1"
        assert (await provider.generate(PROMPTS[name], model=model)).text == "Hi"
    body = sent(transport)
    assert (body["model"], body["messages"]) == ("gpt-4.1", MESSAGES)
    assert "stream" not in body
    assert body.get("my_field") == ([1.5] if model is None else None)


async def test_a_request_made_by_hand_is_asked_with_all_its_fields(transport: ScriptedTransport):
    transport.replies = [streamed("Hi")]
    request = ChatRequest(model="gpt-4.1", messages=[UserMessage(content="Hi")], seed=3, stop="END")
    async with open_provider("openai", **KEYED) as provider:
        assert [c.text async for c in provider.generate_stream(request) if c.text] == ["Hi"]
    body = sent(transport)
    assert (body["seed"], body["stop"], body["stream"]) == (3, "END", True)
    assert body["messages"] == [{"role": "user", "content": "Hi"}]


async def test_tools_are_called(transport: ScriptedTransport):
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    transport.replies = [whole("", tool_calls=[call])]
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    async with open_provider("openai", **KEYED) as provider:
        answer = await provider.generate("x", model="gpt-4.1", tools=tools)
    (made,) = answer.tool_calls
    assert (made.id, made.name, made.arguments) == ("call_1", "f", '{"a":1}')


async def test_what_is_dropped_is_named_or_refused(
    transport: ScriptedTransport, caplog: pytest.LogCaptureFixture
):
    transport.replies = [whole(), streamed("Hi")]
    async with open_provider("openai", **KEYED) as provider:
        answer = await provider.generate("x", model="gpt-6-luna", temperature=0.5)
        assert answer.dropped == ("temperature",)
        with caplog.at_level(logging.WARNING, "gateway.library"):
            assert [c async for c in provider.generate_stream("x", model="gpt-6-luna", temperature=0.5)]
        assert "openai/gpt-6-luna does not take temperature" in caplog.text
        with pytest.raises(UpstreamError) as caught:
            await provider.generate("x", model="gpt-6-luna", temperature=0.5, strict=True)
    assert caught.value.param == "temperature"
    assert len(transport.sent) == 2


INVALID: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a wrong field": ("x", {"n": "two"}, "n"),
    "out of range": ("x", {"temperature": 3}, "temperature"),
    "no messages": ([], {}, "messages"),
    "no content": ([{"role": "user"}], {}, "messages[0].content"),
    "a model's name": ("x", {"model": "a b"}, "model"),
    "half a character": ("\ud800", {}, "messages"),
    "half a character in a field": ("x", {"user": "\ud800"}, "user"),
    "half a character in a field's name": ("x", {"metadata": {"\udfff": "x"}}, "metadata"),
}


@pytest.mark.parametrize("name", INVALID)
async def test_what_cannot_be_asked_is_refused_as_over_http(transport: ScriptedTransport, name: str):
    prompt, fields, param = INVALID[name]
    async with open_provider("openai", **KEYED) as provider:
        for ask in (provider.generate, first_piece(provider)):
            with pytest.raises(RequestError) as caught:
                await ask(prompt, **fields)
            assert caught.value.param == param
    assert transport.sent == []


def first_piece(provider: gateway.LLMProvider) -> Any:
    async def ask(prompt: Any, **fields: Any) -> gateway.Chunk:
        async with aclosing(provider.generate_stream(prompt, **fields)) as stream:
            return await anext(stream)

    return ask


async def test_what_a_model_cannot_do_is_not_asked_of_it():
    async with open_provider("demo", settings=NONE, environ={}) as provider:
        with pytest.raises(RequestError) as caught:
            await provider.generate("x", model="echo", n=2)
    assert caught.value.kind is ErrorKind.UNSUPPORTED


async def test_without_a_model_where_there_is_no_default_one_is_asked_for():
    async with open_provider("demo", settings=NONE, environ={}) as provider:
        with pytest.raises(RequestError, match="demo has no default model"):
            await provider.generate("x")


@pytest.mark.parametrize("field", ["stream", "messages"])
async def test_the_library_decides_about_stream_and_messages(field: str):
    async with open_provider("demo", settings=NONE, environ={}) as provider:
        with pytest.raises(TypeError, match=field):
            await provider.generate("x", model="echo", **{field: True})


# ── streaming, and leaving early ───────────────────────────────────────────────────────────────────────


async def test_a_stream_comes_piece_by_piece(transport: ScriptedTransport):
    transport.replies = [streamed("Hel", "lo")]
    async with open_provider("openai", **KEYED) as provider:
        chunks = [chunk async for chunk in provider.generate_stream("x", model="gpt-4.1")]
    assert [chunk.text for chunk in chunks if chunk.text] == ["Hel", "lo"]
    assert chunks[-1].finish_reason == "stop" or chunks[-2].finish_reason == "stop"


async def test_a_break_in_the_middle_is_raised_after_what_came(transport: ScriptedTransport):
    transport.replies = [Reply([*sse(ROLE, delta(content="Hel")), UpstreamError(ErrorKind.RESET, "gone")])]
    got = []
    async with open_provider("openai", **KEYED) as provider:
        with pytest.raises(UpstreamError, match="gone"):
            async for chunk in provider.generate_stream("x", model="gpt-4.1"):
                got.append(chunk.text)  # noqa: PERF401  (what came before the error is what is looked at)
    assert "".join(got) == "Hel"


async def test_leaving_the_block_of_a_stream_closes_the_call(transport: ScriptedTransport):
    reply = streamed("a", "b", "c")
    transport.replies = [reply]
    async with open_provider("openai", **KEYED) as provider:
        async with aclosing(provider.generate_stream("x", model="gpt-4.1")) as stream:
            async for _ in stream:
                break
        assert (reply.closed, reply.at_end) == (True, False)
        assert not transport.closed


async def test_leaving_the_loop_alone_closes_the_call_as_well(transport: ScriptedTransport):
    reply = streamed("a", "b", "c")
    transport.replies = [reply]
    async with open_provider("openai", **KEYED) as provider:
        async for _ in provider.generate_stream("x", model="gpt-4.1"):
            break
        async with asyncio.timeout(5):
            while not reply.closed:
                await asyncio.sleep(0)
        assert not reply.at_end


async def test_leaving_the_provider_closes_streams_that_are_still_held(transport: ScriptedTransport):
    reply = streamed("a", "b", "c")
    transport.replies = [reply]
    async with open_provider("openai", **KEYED) as provider:
        stream = provider.generate_stream("x", model="gpt-4.1")
        await anext(stream)
        assert not reply.closed
    assert reply.closed
    assert await asyncio.gather(anext(stream), return_exceptions=True) == [INTERRUPTED]
    assert await asyncio.gather(anext(stream), return_exceptions=True) == [INTERRUPTED]


class Interrupted:
    """Equal to the error that says that the answer is not whole."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UpstreamError) and (other.kind, other.hop) == (
            ErrorKind.INTERRUPTED,
            "gateway",
        )

    __hash__ = None  # type: ignore[assignment]


INTERRUPTED = Interrupted()


async def read_with_pauses(
    stream: AsyncGenerator[gateway.Chunk, None], read: asyncio.Event, go_on: asyncio.Event
) -> None:
    async for _ in stream:
        read.set()
        await go_on.wait()


async def test_who_reads_on_after_the_block_learns_that_it_is_not_the_end(transport: ScriptedTransport):
    reply = streamed("a", "b", "c")
    transport.replies = [reply]
    read, go_on = asyncio.Event(), asyncio.Event()
    async with open_provider("openai", **KEYED) as provider:
        stream = provider.generate_stream("x", model="gpt-4.1")
        reader = asyncio.create_task(read_with_pauses(stream, read, go_on))
        await read.wait()
    assert (reply.closed, reply.at_end) == (True, False)
    go_on.set()
    assert await asyncio.gather(reader, return_exceptions=True) == [INTERRUPTED]


@pytest.mark.parametrize("way", ["a stream", "a whole answer", "models"])
async def test_what_waits_for_the_provider_ends_with_the_block(transport: ScriptedTransport, way: str):
    first = sse(ROLE, delta(content="a")) if way == "a stream" else []
    reply = Reply([*first, 60.0], headers=JSON if way != "a stream" else {})
    transport.replies = [reply]
    read, go_on = asyncio.Event(), asyncio.Event()
    go_on.set()
    async with open_provider("openai", **KEYED) as provider:
        ways: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            "a stream": lambda: read_with_pauses(provider.generate_stream("x"), read, go_on),
            "a whole answer": lambda: provider.generate("x"),
            "models": provider.models,
        }
        asking = asyncio.create_task(ways[way]())
        async with asyncio.timeout(5):
            while reply.reads <= len(first):
                await asyncio.sleep(0)
    assert reply.closed
    assert await asyncio.gather(asking, return_exceptions=True) == [INTERRUPTED]
    assert asking.cancelling() == 0


async def test_health_that_is_cut_off_by_the_end_of_the_block_is_not_good(transport: ScriptedTransport):
    reply = Reply([60.0], headers=JSON)
    transport.replies = [reply]
    async with open_provider("openai", **KEYED) as provider:
        asking = asyncio.create_task(provider.health())
        async with asyncio.timeout(5):
            while not reply.reads:
                await asyncio.sleep(0)
    assert not (await asking).ok


async def test_a_stream_that_was_never_begun_is_no_empty_answer(transport: ScriptedTransport):
    async with open_provider("openai", **KEYED) as provider:
        stream = provider.generate_stream("x", model="gpt-4.1")
        closed = provider.generate_stream("x", model="gpt-4.1")
        await closed.aclose()
    assert [chunk async for chunk in closed] == []  # whoever closed it knows
    with pytest.raises(UpstreamError) as caught:
        await anext(stream)
    assert caught.value.kind is ErrorKind.INTERRUPTED
    assert transport.sent == []
    await stream.aclose()
    assert [chunk async for chunk in stream] == []


async def test_a_stream_that_was_whole_stays_whole_after_the_block(transport: ScriptedTransport):
    transport.replies = [streamed("Hi")]
    async with open_provider("openai", **KEYED) as provider:
        stream = provider.generate_stream("x", model="gpt-4.1")
        assert [chunk.text async for chunk in stream if chunk.text] == ["Hi"]
    assert [chunk async for chunk in stream] == []


async def test_an_error_thrown_into_a_stream_closes_the_call(transport: ScriptedTransport):
    reply = streamed("a", "b")
    transport.replies = [reply]
    async with open_provider("openai", **KEYED) as provider:
        stream = provider.generate_stream("x", model="gpt-4.1")
        await anext(stream)
        with pytest.raises(KeyError):
            await stream.athrow(KeyError("x"))
        assert reply.closed
        assert [chunk async for chunk in stream] == []


async def test_after_the_block_nothing_is_opened(transport: ScriptedTransport):
    async with open_provider("openai", **KEYED) as provider:
        pass
    for ask in (lambda: provider.generate("x"), first_piece(provider), provider.models, provider.health):
        with pytest.raises(RuntimeError, match="openai is closed: the block of open_provider was left"):
            await (ask("x") if ask.__name__ == "ask" else ask())
    assert provider.capabilities("gpt-4.1").features
    assert transport.sent == []


async def test_a_cancelled_answer_closes_the_call(transport: ScriptedTransport):
    reply = Reply([60.0], headers=JSON)
    transport.replies = [reply]
    async with open_provider("openai", **KEYED) as provider:
        task = asyncio.create_task(provider.generate("x", model="gpt-4.1"))
        while not reply.reads:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert reply.closed


# ── models and health ──────────────────────────────────────────────────────────────────────────────────


async def test_models_have_sizes_where_they_are_known(transport: ScriptedTransport):
    page = b'{"data":[{"id":"a","context_length":7},{"id":"b"}]}'
    transport.replies = [Reply([page], headers=JSON)]
    async with open_provider("openai", **KEYED) as provider:
        models = await provider.models()
        assert [(m.id, m.context_window) for m in models] == [("a", 7), ("b", None)]
        assert provider.capabilities("a").context_window == 7


async def test_a_list_of_the_settings_is_the_list(transport: ScriptedTransport):
    chosen = parse("[providers.anthropic]\nmodels = ['claude-sonnet-5-5']\n", "test")
    async with open_provider("anthropic", api_key="sim-key", settings=chosen, environ={}) as provider:
        (model,) = await provider.models()
    assert (model.id, model.context_window, model.max_output) == ("claude-sonnet-5-5", 1_000_000, 128_000)
    assert transport.sent == []


async def test_health_says_how_it_is_and_never_raises(transport: ScriptedTransport):
    refused = Reply([b'{"error":{"message":"bad key: sim-environ-key"}}'], 401, JSON)
    transport.replies = [Reply([b'{"data":[]}'], headers=JSON), refused]
    async with open_provider("openai", **KEYED) as provider:
        good, bad = await provider.health(), await provider.health()
    assert (good.ok, good.error) == (True, None)
    assert good.latency is not None
    assert 0 <= good.latency < 5
    assert (bad.ok, bad.latency) == (False, None)
    assert bad.error is not None
    assert bad.error.endswith("(the key is from OPENAI_API_KEY)")
    assert "sim-environ-key" not in bad.error


# ── opening ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_key_and_an_address_that_are_passed_win(transport: ScriptedTransport):
    transport.replies = [whole()]
    options = {"api_key": " sim-passed-key\n", "base_url": "http://127.0.0.1:1/v1"}
    async with open_provider("openai", **KEYED, **options) as provider:
        await provider.generate("x", model="gpt-4.1")
        assert "sim-passed-key" not in repr(provider)
    _, url, headers = transport.sent[0]
    assert url == "http://127.0.0.1:1/v1/chat/completions"
    assert headers["authorization"] == "Bearer sim-passed-key"


async def test_an_alias_names_the_provider(transport: ScriptedTransport):
    async with open_provider("google", settings=NONE, environ={"GEMINI_API_KEY": "sim-key"}) as provider:
        assert provider.name == "gemini"
        assert isinstance(provider, gateway.LLMProvider)


LOCAL = '[providers.local]\ntype = "openai"\nbase_url = "http://127.0.0.1:1/v1"\ndefault_model = "org/m"\n'


async def test_a_server_of_the_settings_is_opened_by_its_name(transport: ScriptedTransport, tmp_path: Path):
    transport.replies = [whole()] * 3
    path = tmp_path / "own.toml"
    path.write_text(LOCAL)
    ways: tuple[dict[str, Any], ...] = (
        {"config": path, "environ": {}},
        {"settings": parse(LOCAL, "test"), "environ": {}},
        {"environ": {"GATEWAY_CONFIG": str(path)}},
    )
    for options in ways:
        transport.replies = [whole()]
        async with open_provider("local", **options) as provider:
            assert (await provider.generate("x")).model == "org/m"
    assert "authorization" not in transport.sent[0][2]


async def test_failover_of_the_settings_is_not_for_one_provider(transport: ScriptedTransport):
    """A provider here is that provider: what another one would answer is the gateway's business."""
    transport.replies = [UpstreamError(ErrorKind.SERVER, "no")]
    once = "[retry]\nattempts = 1\n"
    chosen = parse(once + '[models."openai/gpt-4.1"]\nfailover = ["demo/echo"]\n', "test")
    async with open_provider("openai", settings=chosen, environ=KEYED["environ"]) as provider:
        with pytest.raises(UpstreamError, match="no"):
            await provider.generate("x", model="gpt-4.1")


OFF = parse("[providers.openai]\nenabled = false\n", "test")
CANNOT: dict[str, tuple[str, dict[str, Any], str]] = {
    "no key": ("openai", {}, "openai: OPENAI_API_KEY is not set; pass api_key, or set it"),
    "an empty key": ("openai", {"api_key": " "}, "openai: api_key is not set"),
    "a dirty key": ("openai", {"api_key": "a b"}, "openai: api_key has characters that cannot be in a key"),
    "no such provider": ("opnai", {}, f"there is no provider 'opnai'; known: {', '.join(PROVIDERS)}"),
    "no such provider, with a key": ("opnai", {"api_key": "k"}, "there is no provider 'opnai'"),
    "switched off": ("openai", {"settings": OFF, "environ": KEYED["environ"]}, "openai: switched off"),
    "a query": (
        "openai",
        {"api_key": "k", "base_url": "http://h/v1?k=1"},
        "base_url: an address has no query",
    ),
    "two users": ("openai", {"api_key": "k", "base_url": "http://a@b@h/v1"}, "base_url: cannot be read"),
    "no address": ("openai", {"api_key": "k", "base_url": "localhost"}, "base_url: expected an address"),
    "no such file": ("demo", {"config": "nope.toml", "settings": None}, "nope.toml: no such file"),
}


@pytest.mark.parametrize("name", CANNOT)
async def test_what_cannot_be_opened_is_one_clear_line(name: str):
    provider, options, words = CANNOT[name]
    with pytest.raises(SettingsError) as caught:
        async with open_provider(provider, **{"settings": NONE, "environ": {}, **options}):
            pass
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


def test_importing_the_package_loads_nothing():
    """`gateway serve --help` and every tool that asks for the version start as fast as Python does."""
    code = (
        "import sys, gateway; print(sorted(m for m in sys.modules if m.startswith(('gateway', 'msgspec'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['gateway']"


def test_every_exported_name_is_there_and_no_other():
    for name in gateway.__all__:
        assert getattr(gateway, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        gateway.nope  # noqa: B018
