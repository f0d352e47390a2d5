"""The driver: it runs what a provider says over a transport, within limits of time and size.

This is the innermost `Open`. It decides nothing about what to do after a failure; it only makes sure that
every failure has a kind, that an answer counts as whole only when the provider said so, and that leaving
early closes the call at the provider.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import msgspec
from msgspec import Struct

from .. import __version__, sse
from ..chat import ChatRequest, Chunk
from ..errors import POLICY, ErrorKind, UpstreamError, redact
from ..exchange import Exchange, Target, Timings
from ..providers.base import HttpRequest, ModelInfo, Provider
from .timers import Timeouts, Watchdog
from .transport import Response, Transport

MAX_BODY = 32 << 20
"""Largest answer that is not a stream, in bytes after decompression."""
MAX_ERROR_BODY = 64 << 10
MAX_PAGES = 20
"""Most pages of a provider's list of models that are read."""
DRAIN_SECONDS = 0.1
"""How long the end of a body may take after the end mark, so that the connection can be used again."""
MAX_DRAINED_READS = 8

_CODE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PATH = re.compile(r"[A-Za-z0-9._\[\]-]{1,128}")
"""What an error's code and the path of a field look like; anything else of a provider is not passed on."""

_NOT_UNDERSTOOD = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, sse.TooLarge)


class Failure(Struct, frozen=True):
    """A provider's last failure, for `/health`. `at` in seconds since 1970."""

    kind: ErrorKind
    message: str
    at: float


class Upstream:
    """A provider with its key and address: calls to it, and what is known of them.

    `key` is the secret itself, None where the server wants none; `key_source` is where it came from, to be
    named when the provider refuses it.
    """

    def __init__(
        self,
        name: str,
        provider: Provider,
        transport: Transport,
        *,
        base_url: str | None = None,
        key: str | None = None,
        key_source: str | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self.name = name
        self.provider = provider
        self.in_flight = 0
        self.answered = 0
        self.failed = 0
        self.last_failure: Failure | None = None
        self._transport = transport
        self._base_url = (base_url or provider.base_url).rstrip("/")
        self._key = key
        self._key_source = key_source
        self.timeouts = timeouts or Timeouts()
        self._headers = {
            "accept-encoding": "identity",
            "user-agent": f"local-llm-gateway/{__version__}",
            **(provider.auth(key) if key else {}),
        }

    def __repr__(self) -> str:
        return f"<Upstream {self.name} {self.in_flight} in flight>"

    @asynccontextmanager
    async def open(self, request: ChatRequest) -> AsyncIterator[Exchange]:
        """An answer to `request`, whose model is this provider's own name for it.

        Entering waits for the first content, or for the whole answer when the client does not stream.
        Raises `UpstreamError`.
        """
        self.in_flight += 1
        call = _Call(self, request)
        try:
            await call.begin()
            yield call
        finally:
            self.in_flight -= 1
            await call.close()

    async def models(self) -> list[ModelInfo]:
        """The provider's own list of models. Raises `UpstreamError`."""
        models: list[ModelInfo] = []
        http: HttpRequest | None = self.provider.models_request
        for _ in range(MAX_PAGES):
            if http is None:
                break
            with _understood():
                page = self.provider.parse_models(await self._fetch(http))
            models += page.models
            http = page.following
        return models

    async def _fetch(self, http: HttpRequest) -> bytes:
        """The body that `http` is answered with. Raises `UpstreamError`."""
        watchdog = Watchdog(self.timeouts)
        response: Response | None = None
        try:
            with watchdog:
                response = await self.send(http)
                if not 200 <= response.status < 300:
                    raise await self.error_of(response)
                return await _read_all(response.read, MAX_BODY)
        except UpstreamError as error:
            raise self.named(error) from None
        finally:
            watchdog.close()
            if response is not None:
                await response.aclose()

    async def aclose(self) -> None:
        """Closes every connection."""
        await self._transport.aclose()

    async def send(self, http: HttpRequest) -> Response:
        """The head of the answer to `http`. Raises `UpstreamError`."""
        headers = {**self._headers, **http.headers}
        headers["accept"] = "text/event-stream" if http.stream else "application/json"
        if http.body:
            headers["content-type"] = "application/json"
        return await self._transport.send(http, self._base_url + http.path, headers)

    async def error_of(self, response: Response) -> UpstreamError:
        """The failure that `response` tells. Closes it."""
        try:
            if 300 <= response.status < 400:
                return UpstreamError(
                    ErrorKind.BAD_RESPONSE,
                    f"answered with a redirect ({response.status}), which is never followed",
                    upstream_status=response.status,
                )
            body = await _read_all(response.read, MAX_ERROR_BODY, cut=True)
            return self.provider.parse_error(response.status, response.headers, body)
        finally:
            await response.aclose()

    def named(self, error: UpstreamError) -> UpstreamError:
        """`error` with this provider as the hop that spoke, without its key in the text."""
        error.hop = self.name
        error.message = redact(error.message, self._key)
        if error.kind is ErrorKind.AUTH and self._key_source and self._key_source not in error.message:
            error.message += f" (the key is from {self._key_source})"
        error.code = self._fit(error.code, _CODE) or POLICY[error.kind].code
        error.param = self._fit(error.param, _PATH)
        return error

    def _fit(self, said: str | None, form: re.Pattern[str]) -> str | None:
        """What a provider said, when it has the `form` and no key in it."""
        fits = said is not None and form.fullmatch(said) is not None and redact(said, self._key) == said
        return said if fits else None

    def record(self, error: UpstreamError | None) -> None:
        """Notes how a call ended: None is a whole answer."""
        if error is None:
            self.answered += 1
            return
        self.failed += 1
        self.last_failure = Failure(error.kind, error.message, time.time())


class _Call(Exchange):
    """One exchange with one provider."""

    def __init__(self, upstream: Upstream, request: ChatRequest) -> None:
        self.target = Target(upstream.name, request.model)
        self.timings = Timings()
        self._upstream = upstream
        self._request = request
        self._watchdog = Watchdog(upstream.timeouts)
        self._response: Response | None = None
        self._sent = False
        self._held: list[Chunk] = []  # read while waiting for the first content
        self._decoder = sse.Decoder()
        self._read_event = upstream.provider.event_decoder(request)
        self._finished = False  # a finish reason was seen: the answer is whole
        self._ended = False  # nothing more is to come
        self._broken: UpstreamError | None = None  # raised once the chunks before it are delivered

    async def begin(self) -> None:
        """Sends what the provider's conversation says until something is answered, and waits for content.

        Raises `UpstreamError`.
        """
        try:
            await self._converse()
        except UpstreamError as error:
            raise self._failed(error) from error.__cause__
        except RecursionError:  # from a body that could be decoded, but is too deep to be said anew
            deep = UpstreamError(ErrorKind.BAD_REQUEST, "the request is nested too deeply", param="messages")
            raise self._failed(deep) from None

    async def _converse(self) -> None:
        provider = self._upstream.provider
        conversation = provider.conversation(provider, self._request)
        http = next(conversation)
        while True:
            try:
                await self._attempt(http)
                return
            except UpstreamError as error:
                await self._forget()
                http = conversation.throw(error)  # which lets it pass, or says what to send instead

    async def read(self) -> list[Chunk]:
        if self._held:
            held, self._held = self._held, []
            return held
        try:
            return await self._next()
        except UpstreamError as error:
            raise self._failed(error) from error.__cause__

    async def close(self) -> None:
        """Leaves: the connection is kept when the body is at its end, and closed when it is not."""
        try:
            if self._ended and self._response is not None:
                self._upstream.record(None)
                await _drain(self._response)
        finally:
            self._watchdog.close()
            if self._response is not None:
                await self._response.aclose()

    def _failed(self, error: UpstreamError) -> UpstreamError:
        """`error`, told as the provider's; when nothing was sent, the gateway itself refused."""
        self._upstream.named(error)
        if self._sent:
            self._upstream.record(error)
        else:
            error.hop = "gateway"
        return error

    async def _attempt(self, http: HttpRequest) -> None:
        self.dropped = http.dropped
        self._refuse_losses(http)
        self._sent = True
        with self._watchdog:
            response = self._response = await self._upstream.send(http)
            self.timings.connect = response.connect
            if not 200 <= response.status < 300:
                raise await self._upstream.error_of(response)
        _check_type(http, response)
        if http.stream:
            await self._first_content()
        else:
            self._held = [await self._whole()]

    async def _forget(self) -> None:
        """Leaves an attempt that failed, so that another one starts from nothing."""
        if self._response is not None:
            await self._response.aclose()
        self._response = self._broken = None
        self._held = []
        self._finished = self._ended = False
        self._decoder = sse.Decoder()
        self._read_event = self._upstream.provider.event_decoder(self._request)

    def _refuse_losses(self, http: HttpRequest) -> None:
        if self._request.strict and http.dropped:
            raise UpstreamError(
                ErrorKind.UNSUPPORTED,
                f"'{http.dropped[0]}' cannot be sent to {self.target}, and x-gateway-strict is set",
                param=http.dropped[0],
            )

    async def _first_content(self) -> None:
        """Holds back what arrives until a client would see something of it."""
        while batch := await self._next():
            self._held += batch
            if self._request.stream and any(chunk.has_content for chunk in batch):
                return

    async def _next(self) -> list[Chunk]:
        """The chunks of the next bytes that bring some; the empty list at the end."""
        while not self._ended:
            if self._broken is not None:
                raise self._broken
            try:
                data = await self._bytes()
            except UpstreamError:
                if not self._finished:
                    raise
                data = b""  # the answer was whole: only its end mark got lost
            batch = self._decode(data)
            if batch:
                return batch
        return []

    async def _bytes(self) -> bytes:
        assert self._response is not None
        with self._watchdog:
            data = await self._response.read()
        if data:
            self._watchdog.bytes_arrived()
            if self.timings.first_byte is None:
                self.timings.first_byte = self._watchdog.elapsed
        return data

    def _decode(self, data: bytes) -> list[Chunk]:
        """The chunks that `data` completes; an empty `data` is the end of the body."""
        batch: list[Chunk] = []
        try:
            with _understood():
                for event in self._decoder.feed(data) if data else self._decoder.close():
                    if not event.data.isascii():
                        event.data.decode()  # clients fail on bytes that are no UTF-8, wherever they stand
                    chunk = self._read_event(event)
                    if chunk is not None:
                        batch.append(chunk)
                        self._note(chunk)
                    if self._ended:
                        break
        except UpstreamError as error:
            self._broken = error
        if self._finished and self._broken is not None:
            self._ended = True  # nonsense after a whole answer takes nothing from it
        elif (self._ended or not data) and not self._finished:
            self._ended = False
            self._broken = self._broken or self._broken_off()
        elif not data:
            self._ended = True
        return batch

    def _note(self, chunk: Chunk) -> None:
        if chunk.usage is not None:
            self.usage = chunk.usage
        if chunk.finish_reason is not None:
            self._finished = True
        if chunk.last:
            self._ended = True
        if chunk.has_content:
            self._watchdog.content_arrived()
            if self.timings.first_token is None:
                self.timings.first_token = self._watchdog.elapsed

    async def _whole(self) -> Chunk:
        """The answer that is not a stream, as its one chunk."""
        body = await _read_all(self._bytes, MAX_BODY)
        with _understood():
            if not body.isascii():
                body.decode()
            chunk = self._upstream.provider.parse_response(body, self._request)
        self._note(chunk)
        self._ended = True
        return chunk

    def _broken_off(self) -> UpstreamError:
        """An end without a finish reason: an error that is no event, or the middle of an answer."""
        stray = self._decoder.stray.strip()
        if self._response is not None and stray.startswith((b"{", b"[", b"<")):
            return self._upstream.provider.parse_error(200, self._response.headers, stray)
        return UpstreamError(ErrorKind.INTERRUPTED, "the answer broke off before it was finished")


def _check_type(http: HttpRequest, response: Response) -> None:
    """Raises `UpstreamError` for a body that cannot be what was asked for.

    No type at all is let pass, and so is JSON for a stream: an error may be in it, which is read as one.
    """
    found = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_json = found == "application/json" or found.endswith("+json")
    if found and not is_json and found != "text/event-stream":
        raise UpstreamError(ErrorKind.BAD_RESPONSE, f"answered with {found} instead of its API's format")
    if not http.stream and found == "text/event-stream":
        raise UpstreamError(ErrorKind.BAD_RESPONSE, "answered with a stream that was not asked for")


async def _read_all(read: Callable[[], Awaitable[bytes]], limit: int, *, cut: bool = False) -> bytes:
    """All that `read` gives, at most `limit` bytes: what is more is cut off, or raises `UpstreamError`."""
    body = bytearray()
    while data := await read():
        body += data
        if len(body) > limit:
            if cut:
                return bytes(body[:limit])
            raise UpstreamError(ErrorKind.BAD_RESPONSE, f"the answer is larger than {limit} bytes")
    return bytes(body)


async def _drain(response: Response) -> None:
    """Reads what may follow the end mark, so that the connection can be used again."""
    with suppress(TimeoutError, UpstreamError):
        async with asyncio.timeout(DRAIN_SECONDS):
            for _ in range(MAX_DRAINED_READS):
                if not await response.read():
                    return


@contextmanager
def _understood() -> Iterator[None]:
    """Turns what decoders raise for bytes that are not the provider's API into `UpstreamError`."""
    try:
        yield
    except _NOT_UNDERSTOOD as error:
        raise UpstreamError(ErrorKind.BAD_RESPONSE, f"sent what is not its API's format: {error}") from error
