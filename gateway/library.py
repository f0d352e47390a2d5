"""The providers as a Python library: `async with gateway.open_provider("anthropic") as provider: …`.

The same way as through the gateway, without HTTP in between: settings, plan, the router's checks, the
upstream. Nothing is listened on, and nothing is retried elsewhere: a provider here is that provider.
"""

from __future__ import annotations

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
from .settings import ProviderPlan, ProviderSettings, SecretRef, Settings, canonical, find, load
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
    """A provider of models. Methods that call it raise `UpstreamError` for its failures."""

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
    provider = _Provider(plan, core.upstreams[name], Router([core.router.members[name]]).open)
    try:
        yield provider
    finally:
        await provider.aclose()


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
    if not base_url.startswith(("http://", "https://")):
        raise SettingsError("base_url: expected an address that begins with http:// or https://")
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
        self._streams: WeakSet[AsyncGenerator[Chunk, None]] = WeakSet()

    def __repr__(self) -> str:
        return f"<LLMProvider {self.name} {self._upstream.in_flight} in flight>"

    async def models(self) -> list[ModelInfo]:
        chosen = self._plan.settings.models
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
        async with self._open(request) as exchange:
            whole = await exchange.collect()
            said = {name: getattr(whole, name) for name in Chunk.__struct_fields__}
            said["model"] = whole.model or exchange.target.model
            return Answer(**said, dropped=exchange.dropped)

    def generate_stream(
        self, prompt: Prompt, *, model: str | None = None, strict: bool = False, **fields: Any
    ) -> AsyncGenerator[Chunk, None]:
        request = self._request(prompt, model, strict=strict, stream=True, fields=fields)
        stream = self._stream(request)
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
            return ProviderHealth(ok=True, latency=await self._upstream.ping())
        except UpstreamError as error:
            return ProviderHealth(ok=False, error=error.message)

    async def aclose(self) -> None:
        """Closes what is open: streams that were not read to their end, then the connections."""
        for stream in list(self._streams):
            with suppress(RuntimeError):  # another task is reading it: it ends with its connection
                await stream.aclose()
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
        return read_request(msgspec.json.encode(body), strict=strict)


def _fields(request: ChatRequest) -> Json:
    """The fields of a ready request but for `stream`: as they were sent, or as they were set by hand."""
    fields: Json = dict(request.wire) or {
        name: value for name in REQUEST_FIELDS if (value := getattr(request, name)) is not None
    }
    fields.pop("stream", None)
    return fields
