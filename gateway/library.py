"""The providers as a Python library: `async with gateway.open_provider("anthropic") as provider: …`.

The same way as through the gateway, without HTTP in between: settings, plan, the router's checks, the
upstream. Nothing is listened on, and nothing is retried elsewhere: a provider here is that provider.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol, TypeAlias, runtime_checkable
from weakref import WeakSet

import msgspec
from msgspec import Struct

from .app import connect
from .chat import REQUEST_FIELDS, ChatRequest, Chunk, Json
from .errors import ErrorKind, GatewayError, RequestError, SettingsError, UpstreamError
from .exchange import Open
from .intake import read_request
from .providers import PROVIDERS
from .providers.base import Capabilities, ModelInfo
from .router import Router
from .settings import (
    ProviderPlan,
    ProviderSettings,
    SecretRef,
    Settings,
    canonical,
    find,
    load,
    wrong_address,
)
from .upstream import Upstream

__all__ = [
    "Answer",
    "Capabilities",
    "ChatRequest",
    "Chunk",
    "GatewayError",
    "LLMProvider",
    "ModelInfo",
    "ProviderHealth",
    "RequestError",
    "SettingsError",
    "UpstreamError",
    "open_provider",
]

log = logging.getLogger("gateway.library")

Prompt: TypeAlias = str | Sequence[Mapping[str, Any]] | ChatRequest
"""What to answer: a text is one user message, a list is messages in OpenAI's shape."""


class Answer(Chunk, frozen=True, omit_defaults=True, repr_omit_defaults=True, kw_only=True):
    """A whole answer: `text`, `reasoning`, `tool_calls`, `finish_reason`, `usage`, `model`.

    `dropped` names the fields of the request that the provider could not take.
    """

    dropped: tuple[str, ...] = ()


class ProviderHealth(Struct, frozen=True):
    """How a provider is: `latency` in seconds is that of the cheapest call which needs the key.

    `error` says why it failed.
    """

    ok: bool
    latency: float | None = None
    error: str | None = None


@runtime_checkable
class LLMProvider(Protocol):
    """A provider of models. Methods that call it raise `UpstreamError` for its failures.

    Once the block of `open_provider` was left they raise `RuntimeError`.
    """

    @property
    def name(self) -> str:
        """Its name in the settings."""

    async def models(self) -> list[ModelInfo]:
        """The models it says it has, sizes in tokens where they are known."""

    def capabilities(self, model: str | None = None) -> Capabilities:
        """What `model`, or the default one, can do. Calls nobody."""

    async def generate(
        self, prompt: Prompt, *, model: str | None = None, strict: bool = False, **fields: Any
    ) -> Answer:
        """The whole answer to `prompt`.

        `model` is the provider's own name for it, its default model without. `fields` are those of a chat
        completion (`temperature`, `tools`, `response_format` …); `strict` refuses what would be dropped.
        Raises `RequestError` for a request that cannot be asked, `UpstreamError` for a failure.
        """

    def generate_stream(
        self, prompt: Prompt, *, model: str | None = None, strict: bool = False, **fields: Any
    ) -> AsyncGenerator[Chunk, None]:
        """The answer to `prompt` piece by piece, as `generate` takes it.

        Ending early, with `aclose` or by dropping it, closes the call at the provider. Raises `UpstreamError`
        also in the middle: what came before is not the whole then.
        """

    async def health(self) -> ProviderHealth:
        """Whether the provider can be reached and takes the key. Never raises for its failure."""


@asynccontextmanager
async def open_provider(
    name: str,
    *,
    api_key: str | None = None,
    base_url: str | None = None,
    config: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[LLMProvider]:
    """The provider of this name, built in or of the settings, ready to be asked; leaving closes it.

    What others still ask of it or read from it then raises `UpstreamError`: their answers are not whole.

    `api_key` and `base_url` win over settings and environment. Settings are those given, those of the file
    `config`, or those that `gateway serve` would find. Raises `SettingsError` for a name that nobody has,
    a mistake in the settings, or a missing key.
    """
    environ = os.environ if environ is None else environ
    if settings is None:
        settings = load(find(os.fspath(config) if config is not None else None, environ))
    name = canonical(name)
    settings = _with_address(settings, name, base_url)
    if api_key is not None:
        settings, environ = _with_key(settings, name), {**environ, _KEY: api_key}
    core = connect(settings, environ)
    plan = next(plan for plan in core.plans if plan.name == name)
    if plan.off is not None:
        cure = "; pass api_key, or set it" if plan.settings.enabled and api_key is None else ""
        raise SettingsError(f"{name}: {plan.off}{cure}")
    alone = Router([core.router.members[name]], retry=settings.retry)
    provider = _Provider(plan, core.provided[name].upstream, alone.open)
    try:
        yield provider
    finally:
        await provider.aclose()
        await core.aclose()


_KEY = "api_key"
"""Where a key that was passed stands: under this name beside the variables of the environment."""


def _entry(settings: Settings, name: str) -> ProviderSettings:
    """What the settings say about the provider. Raises `SettingsError` when there is none of this name."""
    entries = {canonical(given): entry for given, entry in settings.providers.items()}
    if name not in entries and name not in PROVIDERS:
        known = ", ".join(dict.fromkeys([*PROVIDERS, *entries]))
        raise SettingsError(f"there is no provider {name!r}; known: {known}")
    return entries.get(name, ProviderSettings())


def _with_entry(settings: Settings, name: str, entry: ProviderSettings) -> Settings:
    others = {given: other for given, other in settings.providers.items() if canonical(given) != name}
    return msgspec.structs.replace(settings, providers={**others, name: entry})


def _with_address(settings: Settings, name: str, base_url: str | None) -> Settings:
    entry = _entry(settings, name)
    if base_url is None:
        return settings
    if (wrong := wrong_address(base_url)) is not None:
        raise SettingsError(f"base_url: {wrong}")
    return _with_entry(settings, name, msgspec.structs.replace(entry, base_url=base_url))


def _with_key(settings: Settings, name: str) -> Settings:
    entry = msgspec.structs.replace(_entry(settings, name), api_key=SecretRef("env", _KEY))
    return _with_entry(settings, name, entry)


class _Provider:
    """The one implementation of `LLMProvider`, over an `Open`."""

    def __init__(self, plan: ProviderPlan, upstream: Upstream, open: Open) -> None:
        self.name = plan.name
        self._plan = plan
        self._upstream = upstream
        self._open = open
        self._streams: WeakSet[_Stream] = WeakSet()
        self._block = _Block(self.name)

    def __repr__(self) -> str:
        return f"<LLMProvider {self.name} {self._upstream.in_flight} in flight>"

    async def models(self) -> list[ModelInfo]:
        chosen = self._plan.settings.models
        async with self._block.use():
            listed = await self._upstream.models() if chosen is None else [ModelInfo(id=m) for m in chosen]
        return [self._sized(model) for model in listed]

    def _sized(self, model: ModelInfo) -> ModelInfo:
        usual = self._upstream.capabilities(model.id)
        return msgspec.structs.replace(
            model, context_window=usual.context_window, max_output=usual.max_output
        )

    def capabilities(self, model: str | None = None) -> Capabilities:
        return self._upstream.capabilities(model or self._default_model())

    async def generate(
        self, prompt: Prompt, *, model: str | None = None, strict: bool = False, **fields: Any
    ) -> Answer:
        request = self._request(prompt, model, strict=strict, stream=False, fields=fields)
        async with self._block.use(), self._open(request) as exchange:
            whole = await exchange.collect()
            said = {name: getattr(whole, name) for name in Chunk.__struct_fields__}
            said["model"] = whole.model or exchange.target.model
            return Answer(**said, dropped=exchange.dropped)

    def generate_stream(
        self, prompt: Prompt, *, model: str | None = None, strict: bool = False, **fields: Any
    ) -> AsyncGenerator[Chunk, None]:
        self._block.check()
        request = self._request(prompt, model, strict=strict, stream=True, fields=fields)
        stream = _Stream(self._block, self._stream(request))
        self._streams.add(stream)
        return stream

    async def _stream(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        async with self._open(request) as exchange:
            if exchange.dropped:
                log.warning("%s does not take %s", exchange.target, ", ".join(exchange.dropped))
            while batch := await exchange.read():
                for chunk in batch:
                    yield chunk

    async def health(self) -> ProviderHealth:
        try:
            async with self._block.use():
                return ProviderHealth(ok=True, latency=await self._upstream.ping())
        except UpstreamError as error:
            return ProviderHealth(ok=False, error=error.message)

    async def aclose(self) -> None:
        """Closes what is open: calls of other tasks, streams that are not read just now, the connections."""
        await self._block.leave()
        for stream in list(self._streams):
            await stream.abandon()
        await self._upstream.aclose()

    def _default_model(self) -> str:
        if self._plan.default_model is None:
            message = f"{self.name} has no default model: name one with model="
            raise RequestError(ErrorKind.BAD_REQUEST, message, param="model")
        return self._plan.default_model

    def _request(
        self, prompt: Prompt, model: str | None, *, strict: bool, stream: bool, fields: Mapping[str, Any]
    ) -> ChatRequest:
        """The request as it would have come over HTTP. Raises `RequestError`."""
        for name in ("stream", "messages"):
            if name in fields:
                raise TypeError(f"{name} is not a field here: generate_stream streams, the prompt is first")
        if isinstance(prompt, ChatRequest):
            body = _fields(prompt)
            model, strict = model or prompt.model, strict or prompt.strict
        else:
            said = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
            body = {"messages": said}
        body |= {**fields, "model": f"{self.name}/{model or self._default_model()}"}
        if stream:
            body["stream"] = True
        return read_request(_encoded(body), strict=strict)


class _Block:
    """What runs inside of one block of `open_provider`, and has to end with it."""

    def __init__(self, name: str) -> None:
        self.left = False
        self._name = name
        self._under_way: dict[asyncio.Timeout, asyncio.Future[None]] = {}

    def check(self) -> None:
        """Raises `RuntimeError` after the block."""
        if self.left:
            raise RuntimeError(f"{self._name} is closed: the block of open_provider was left")

    @asynccontextmanager
    async def use(self) -> AsyncIterator[None]:
        """What `leave` breaks off, whichever task it is in: it raises `UpstreamError` then."""
        self.check()
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(None) as limit:
                self._under_way[limit] = over
                try:
                    yield
                finally:
                    del self._under_way[limit]
        except TimeoutError:
            if not limit.expired():
                raise
            raise _broken_off() from None
        finally:
            over.set_result(None)

    async def leave(self) -> None:
        """Breaks off what is in use, and waits until it is."""
        self.left = True
        under_way = dict(self._under_way)
        for limit in under_way:
            limit.reschedule(0)
        if under_way:
            await asyncio.wait(under_way.values())


def _broken_off() -> UpstreamError:
    """What is told of an answer that the end of the block came before."""
    message = "the block of open_provider was left before the answer was whole"
    return UpstreamError(ErrorKind.INTERRUPTED, message, hop="gateway")


class _Stream(AsyncGenerator[Chunk, None]):
    """A stream that ends as if it were whole only when it is, or when its reader closed it."""

    def __init__(self, block: _Block, chunks: AsyncGenerator[Chunk, None]) -> None:
        self._block = block
        self._chunks = chunks
        self._over = False

    async def asend(self, _value: None = None, /) -> Chunk:
        if self._over:
            raise StopAsyncIteration
        if self._block.left:
            raise _broken_off()
        async with self._block.use():
            chunk = await anext(self._chunks, None)
        if chunk is None:
            self._over = True
            raise StopAsyncIteration
        return chunk

    async def athrow(self, typ: Any, val: Any = None, _tb: Any = None, /) -> Chunk:
        return await self._chunks.athrow(val if isinstance(val, BaseException) else typ)

    async def aclose(self) -> None:
        await self._chunks.aclose()
        self._over = True

    async def abandon(self) -> None:
        """Closes the call, not the stream: whoever reads on learns that this is not its end."""
        with suppress(RuntimeError):  # another task is closing it
            await self._chunks.aclose()


def _encoded(body: Json) -> bytes:
    """`body` as it goes over HTTP. Raises `RequestError` for what cannot be said there."""
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError:
        name = next(name for name, value in body.items() if not _encodes({name: value}))
        message = f"'{name}' has half of a surrogate pair, which is no character"
        raise RequestError(ErrorKind.BAD_REQUEST, message, param=name) from None


def _encodes(value: Json) -> bool:
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        return False
    return True


def _fields(request: ChatRequest) -> Json:
    """The fields of a ready request but for `stream`: as they were sent, or as they were set by hand."""
    fields: Json = dict(request.wire) or {
        name: value for name in REQUEST_FIELDS if (value := getattr(request, name)) is not None
    }
    fields.pop("stream", None)
    return fields
