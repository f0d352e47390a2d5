"""A provider as the rest of the gateway calls it: answers, its models, how it is.

`Upstream.open` is the innermost `Open`. It decides nothing about what to do after a failure; it only makes
sure that every failure has a kind, that an answer counts as whole only when the provider said so, and that
leaving early closes the call at the provider.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Unpack

import msgspec
from msgspec import Struct

from ..chat import ChatRequest
from ..embeddings import EmbeddingsRequest
from ..errors import ErrorKind, UpstreamError
from ..exchange import Embedded, Exchange, Preview
from ..providers.base import Capabilities, Context, Fetch, Follow, HttpRequest, ModelInfo, Provider
from .call import Call, sayable
from .embed import embed
from .endpoint import Access, Endpoint, shown, understood
from .timers import Timeouts
from .transport import Transport

PROBE_SECONDS = 10.0
"""How long a provider that kept failing may take for its first byte when it is tried again."""
MAX_PAGES = 20
"""Most pages of a provider's list of models that are read."""
FAREWELL_SECONDS = 5.0
"""How long closing waits for what conversations still have to clean up at the provider."""
_CALLERS = frozenset(
    (
        ErrorKind.BAD_REQUEST,
        ErrorKind.UNSUPPORTED,
        ErrorKind.CONTENT_FILTER,
        ErrorKind.CONTEXT_LENGTH,
        ErrorKind.TOO_LARGE,
    )
)
NOBODY = "00000000-0000-4000-8000-000000000000"
"""The nonce of a conversation that is only looked at."""
LEAVING_SECONDS = 1.0
"""How long closing waits for calls that are on their way out."""


class Failure(Struct, frozen=True):
    """A provider's last failure, for `/health`. `at` in seconds since 1970."""

    kind: ErrorKind
    message: str
    at: float


class Upstream:
    """A provider with its key and address: calls to it, and what is known of them."""

    def __init__(self, name: str, provider: Provider, transport: Transport, **access: Unpack[Access]) -> None:
        self.name = name
        self.provider = provider
        self.in_flight = 0
        self.answered = 0
        self.failed = 0
        self.last_failure: Failure | None = None
        self._endpoint = Endpoint(name, provider, transport, **access)
        self._listed: dict[str, ModelInfo] = {}
        self._clean_ups: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Upstream {self.name} {self.in_flight} in flight>"

    @asynccontextmanager
    async def open(self, request: ChatRequest) -> AsyncIterator[Exchange]:
        """An answer to `request`, whose model is this provider's own name for it, with usual patience.

        Entering waits for the first content, or for the whole answer when the client does not stream.
        Raises `UpstreamError`.
        """
        async with self._answer(request, self._endpoint.timeouts) as exchange:
            yield exchange

    @asynccontextmanager
    async def probe(self, request: ChatRequest) -> AsyncIterator[Exchange]:
        """The same with less patience for the first byte: for a provider that kept failing."""
        usual = self._endpoint.timeouts
        hasty = msgspec.structs.replace(usual, first_byte=min(usual.first_byte, PROBE_SECONDS))
        async with self._answer(request, hasty) as exchange:
            yield exchange

    @asynccontextmanager
    async def _answer(self, request: ChatRequest, timeouts: Timeouts) -> AsyncIterator[Exchange]:
        self.in_flight += 1
        call = Call(self._endpoint, request, self._context(), self.record, timeouts)
        try:
            await call.begin()
            yield call
        finally:
            self.in_flight -= 1
            if (clean_up := call.clean_up()) is not None:
                self._clean_ups.add(clean_up)
                clean_up.add_done_callback(self._clean_ups.discard)
            await call.close()

    async def embed(self, request: EmbeddingsRequest) -> Embedded:
        """Vectors for `request`, whose model is this provider's own name for it. Raises `UpstreamError`."""
        self.in_flight += 1
        try:
            return await embed(self._endpoint, request, self.record)
        finally:
            self.in_flight -= 1

    def _context(self) -> Context:
        return Context(str(uuid.uuid4()), self._endpoint.learned)

    async def models(self) -> list[ModelInfo]:
        """The provider's own list of models. Raises `UpstreamError`."""
        models: list[ModelInfo] = []
        http: HttpRequest | None = self.provider.models_request
        for _ in range(MAX_PAGES):
            if http is None:
                break
            with understood():
                page = self.provider.parse_models((await self._endpoint.fetch(http)).body)
            models += page.models
            http = page.following
        self._listed = {model.id: model for model in models}
        return models

    def capabilities(self, model: str) -> Capabilities:
        """What `model` can do. Sizes are those of the provider's last list, else those of our table."""
        known = self.provider.capabilities(model)
        listed = self._listed.get(model)
        if listed is None:
            return known
        return Capabilities(
            known.features,
            listed.context_window or known.context_window,
            listed.max_output or known.max_output,
        )

    def preview(self, request: ChatRequest) -> Preview:
        """What `open` would send first, with the key hidden. Calls nobody.

        Raises the `UpstreamError` that `open` would raise before it sends anything.
        """
        try:
            http = self._first_call(request)
            if request.strict and http.dropped:
                raise self._endpoint.too_strict(http.dropped, request.model)
        except UpstreamError as error:
            self._endpoint.named(error).hop = "gateway"
            raise
        headers = self._endpoint.shown_headers(http)
        if self.provider.key_names:  # nobody calls without a key, so one is shown where it is still missing
            headers |= self.provider.auth("***")
        return Preview(
            method=http.method,
            url=shown(self._endpoint.url(http)),
            headers=headers,
            body=http.body,
            dropped=http.dropped,
        )

    def _first_call(self, request: ChatRequest) -> HttpRequest:
        """The first call that carries `request`. Raises `UpstreamError`."""
        context = Context(NOBODY, self._endpoint.learned)
        with sayable():
            first = next(self.provider.conversation(self.provider, request, context))
            http = first.http if isinstance(first, (Fetch, Follow)) else first
            if isinstance(http, UpstreamError):
                raise http
            if not isinstance(http, HttpRequest) or http.method == "GET":  # it asks about something before
                http = self.provider.build_request(request)
        return http

    async def ping(self) -> float:
        """Seconds that the cheapest call which needs the key takes. Raises `UpstreamError`."""
        return await self._endpoint.ping()

    async def aclose(self) -> None:
        """Closes every connection, once what is left to clean up at the provider is done or late."""
        loop = asyncio.get_running_loop()
        leave, end = loop.time() + LEAVING_SECONDS, loop.time() + FAREWELL_SECONDS
        while self.in_flight and loop.time() < leave:  # noqa: ASYNC110 - bounded, and at the very end only
            await asyncio.sleep(0.005)  # who was cancelled a moment ago still has to say so
        while self._clean_ups and loop.time() < end:
            await asyncio.wait(self._clean_ups, timeout=end - loop.time())
        for late in self._clean_ups:
            late.cancel()
        await asyncio.gather(*self._clean_ups, return_exceptions=True)
        await self._endpoint.aclose()

    def record(self, error: UpstreamError | None) -> None:
        """Notes how a call ended: None is a whole answer. The caller's mistakes are not this provider's."""
        if error is None:
            self.answered += 1
        if error is None or error.is_callers or error.kind in _CALLERS:
            return
        self.failed += 1
        self.last_failure = Failure(error.kind, error.message, time.time())
