"""One provider at one address with one key: how a call leaves, and what its failures are called.

Everything that names a failure or cuts a body to size is here; in which order calls are made, and what an
answer is, is `call`'s.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypedDict, Unpack
from urllib.parse import urlsplit

import msgspec

from .. import __version__, sse
from ..errors import POLICY, ErrorKind, UpstreamError, redact
from ..providers.base import HttpRequest, Provider, Reply
from .timers import Timeouts, Watchdog
from .transport import Response, Transport
from .turns import Turns

MAX_BODY = 32 << 20
"""Largest answer that is not a stream, in bytes after decompression."""
MAX_ERROR_BODY = 64 << 10

_CODE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PATH = re.compile(r"[A-Za-z0-9._\[\]-]{1,128}")
"""What an error's code and the path of a field look like; anything else of a provider is not passed on."""

_NOT_UNDERSTOOD = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, sse.TooLarge)


class Access(TypedDict, total=False):
    """How one gets at a provider: what is left out is the provider's own, or none.

    `key` is the secret itself; `key_source` is where it came from, to be named when the provider refuses it.
    """

    base_url: str | None
    key: str | None
    key_source: str | None
    timeouts: Timeouts | None


class Endpoint:
    """Where calls to one provider go. `learned` is what its conversations found out about the API."""

    def __init__(self, name: str, provider: Provider, transport: Transport, **access: Unpack[Access]) -> None:
        key = access.get("key")
        self.name = name
        self.provider = provider
        self.timeouts = access.get("timeouts") or Timeouts()
        self.learned: dict[str, Any] = {}
        self._transport = transport
        self._base_url = (access.get("base_url") or provider.base_url).rstrip("/")
        self._key = key
        self._key_source = access.get("key_source")
        self._turns = Turns(provider.pace) if provider.pace else None
        self._headers = {
            "accept-encoding": "identity",
            "user-agent": f"local-llm-gateway/{__version__}",
            **(provider.auth(key) if key else {}),
        }

    async def send(self, http: HttpRequest) -> Response:
        """The head of the answer to `http`. Raises `UpstreamError`."""
        return await self._transport.send(http, self.url(http), self.headers(http))

    def url(self, http: HttpRequest) -> str:
        """Where `http` goes."""
        return self._base_url + http.path

    def headers(self, http: HttpRequest) -> dict[str, str]:
        """The headers that `http` goes with, the key among them."""
        headers = {**self._headers, **http.headers}
        headers["accept"] = "text/event-stream" if http.stream else "application/json"
        if http.body:
            headers["content-type"] = "application/json"
        return headers

    def shown_headers(self, http: HttpRequest) -> dict[str, str]:
        """The headers that `http` would go with, for people to read: the key is `***`."""
        hidden = self.provider.auth("***") if self._key else {}
        return {**self.headers(http), **hidden}

    async def turn(self, calls: int, within: float) -> None:
        """Waits until the API takes so many calls more, where it takes few. Raises `UpstreamError`."""
        if self._turns is not None:
            await self._turns.take(calls, within)

    async def fetch(self, http: HttpRequest, *, in_turn: bool = False) -> Reply:
        """The whole answer to `http`, whose status is a good one; `in_turn` when its turn has come already.

        Raises `UpstreamError`.
        """
        watchdog: Watchdog | None = None
        response: Response | None = None
        try:
            if not in_turn:
                await self.turn(1, self.timeouts.total)
            watchdog = Watchdog(self.timeouts)
            with watchdog:
                response = await self.send(http)
                if not 200 <= response.status < 300:
                    raise await self.error_of(response)
            body = await read_all(partial(_watched, response.read, watchdog), MAX_BODY)
            return Reply(response.status, response.headers, body)
        except UpstreamError as error:
            raise self.named(error) from None
        finally:
            if watchdog is not None:
                watchdog.close()
            if response is not None:
                await response.aclose()

    async def error_of(self, response: Response) -> UpstreamError:
        """The failure that `response` tells. Closes it."""
        try:
            if 300 <= response.status < 400:
                return UpstreamError(
                    ErrorKind.BAD_RESPONSE,
                    f"answered with a redirect ({response.status}), which is never followed",
                    upstream_status=response.status,
                )
            body = await read_all(response.read, MAX_ERROR_BODY, cut=True)
            return self.provider.parse_error(response.status, response.headers, body)
        finally:
            await response.aclose()

    def too_strict(self, dropped: tuple[str, ...], model: str) -> UpstreamError:
        """The refusal of a request to `model` that would lose `dropped`, for a client that wants it whole."""
        message = f"'{dropped[0]}' cannot be sent to {self.name}/{model}, and x-gateway-strict is set"
        return UpstreamError(ErrorKind.UNSUPPORTED, message, param=dropped[0])

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

    async def ping(self) -> float:
        """Seconds that the cheapest call which needs the key takes. Raises `UpstreamError`."""
        began = time.monotonic()
        await self.fetch(self.provider.health_request or self.provider.models_request)
        return time.monotonic() - began

    async def aclose(self) -> None:
        """Closes every connection."""
        await self._transport.aclose()


async def _watched(read: Callable[[], Awaitable[bytes]], watchdog: Watchdog) -> bytes:
    """What `read` gives: from the first bytes on, only silence and the whole have a limit."""
    with watchdog:
        data = await read()
    watchdog.bytes_arrived()
    return data


async def read_all(read: Callable[[], Awaitable[bytes]], limit: int, *, cut: bool = False) -> bytes:
    """All that `read` gives, at most `limit` bytes: what is more is cut off, or raises `UpstreamError`."""
    body = bytearray()
    while data := await read():
        body += data
        if len(body) > limit:
            if cut:
                return bytes(body[:limit])
            raise UpstreamError(ErrorKind.BAD_RESPONSE, f"the answer is larger than {limit} bytes")
    return bytes(body)


@contextmanager
def understood() -> Iterator[None]:
    """Turns what decoders raise for bytes that are not the provider's API into `UpstreamError`."""
    try:
        yield
    except _NOT_UNDERSTOOD as error:
        raise UpstreamError(ErrorKind.BAD_RESPONSE, f"sent what is not its API's format: {error}") from error


def shown(url: str) -> str:
    """`url` without the name and the password that may stand in it."""
    parts = urlsplit(url)
    _, found, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"***@{host}").geturl() if found else url
