"""The transport over httpx2: pooled keep-alive connections and one map of its exceptions.

It uses httpx2's transport without its client: no cookies, no redirects, no authentication of its own, no
proxies from the environment. Time limits other than connecting are the driver's.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import httpx2

from ..errors import ErrorKind, UpstreamError
from ..providers.base import HttpRequest

KEEPALIVE = 60.0
"""Seconds that an idle connection is kept: most servers close theirs after 60 to 120."""
MAX_IDLE_CONNECTIONS = 100
MAX_STALE = 10
"""Kept connections that are tried and found closed before the failure counts."""
DECODED = ("identity", "gzip", "deflate")
"""Encodings of a body that can be read, though none is asked for."""


class HttpTransport:
    """Connections to one provider. `connect_timeout` in seconds, TLS included."""

    def __init__(self, tls: Callable[[], ssl.SSLContext], connect_timeout: float) -> None:
        self._tls = tls
        self._connect_timeout = connect_timeout
        self._pool: httpx2.AsyncHTTPTransport | None = None

    async def send(self, http: HttpRequest, url: str, headers: Mapping[str, str]) -> HttpResponse:
        """Sends; once more for each kept connection that turns out to be closed by the other side."""
        for _ in range(MAX_STALE):
            call = _Call(http, url, headers, self._connect_timeout)
            try:
                return await call.send(self._connections())
            except UpstreamError as error:
                if error.kind is not ErrorKind.RESET or call.connect is not None:
                    raise
        return await _Call(http, url, headers, self._connect_timeout).send(self._connections())

    def _connections(self) -> httpx2.AsyncHTTPTransport:
        if self._pool is None:  # built at the first call: it costs tens of milliseconds at start
            with _mapped():
                tls = self._tls()
            self._pool = httpx2.AsyncHTTPTransport(
                verify=tls,
                trust_env=False,
                limits=httpx2.Limits(
                    max_connections=None,
                    max_keepalive_connections=MAX_IDLE_CONNECTIONS,
                    keepalive_expiry=KEEPALIVE,
                ),
            )
        return self._pool

    async def aclose(self) -> None:
        if self._pool is not None:
            await self._pool.aclose()


class _Call:
    """One sending of a request. `connect` is set when a connection had to be made for it."""

    def __init__(self, http: HttpRequest, url: str, headers: Mapping[str, str], timeout: float) -> None:
        self.connect: float | None = None
        self._connecting_since = 0.0
        with _mapped():
            self._request = httpx2.Request(
                http.method,
                url,
                headers=headers,
                content=http.body or None,
                extensions={
                    "timeout": {"connect": timeout, "read": None, "write": None, "pool": None},
                    "trace": self._trace,
                },
            )

    async def send(self, pool: httpx2.AsyncHTTPTransport) -> HttpResponse:
        with _mapped():
            response = await pool.handle_async_request(self._request)
        response.request = self._request
        encoding = response.headers.get("content-encoding", "identity").lower()
        if encoding not in DECODED:
            await response.aclose()
            raise UpstreamError(ErrorKind.BAD_RESPONSE, f"sent a body encoded as {encoding!r}")
        return HttpResponse(response, self.connect)

    async def _trace(self, event: str, _info: Any) -> None:
        if event == "connection.connect_tcp.started":
            self._connecting_since = time.monotonic()
            self.connect = 0.0
        elif event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self.connect = time.monotonic() - self._connecting_since


class HttpResponse:
    """An answer of httpx2, read piece by piece and decompressed in bounded pieces."""

    def __init__(self, response: httpx2.Response, connect: float | None) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = dict(response.headers)
        self.connect = connect
        self._response = response
        self._pieces: AsyncIterator[bytes] = response.aiter_bytes()
        self._closing: asyncio.Task[None] | None = None

    async def read(self) -> bytes:
        with _mapped():
            return await anext(self._pieces, b"")

    async def aclose(self) -> None:
        # In a task of its own: cancelled half-way, the pool would keep the request for ever.
        if self._closing is None:
            self._closing = asyncio.create_task(self._response.aclose())
            _closing.add(self._closing)
            self._closing.add_done_callback(_closing.discard)
        with suppress(httpx2.HTTPError, OSError):  # what fails to close is closed all the same
            await asyncio.shield(self._closing)


_closing: set[asyncio.Task[None]] = set()
"""Closings under way, held here because the loop itself holds no task."""


# ── one exception map ──────────────────────────────────────────────────────────────────────────────────

_KINDS: tuple[tuple[type[Exception], ErrorKind, str], ...] = (  # the first that matches counts
    (httpx2.ConnectTimeout, ErrorKind.UNREACHABLE, "could not be reached: connecting timed out"),
    (httpx2.ConnectError, ErrorKind.UNREACHABLE, "could not be reached"),
    (httpx2.TimeoutException, ErrorKind.TIMEOUT, "did not answer in time"),
    (httpx2.DecodingError, ErrorKind.BAD_RESPONSE, "sent a body that cannot be decompressed"),
    (httpx2.NetworkError, ErrorKind.RESET, "closed the connection"),
    (httpx2.RemoteProtocolError, ErrorKind.BAD_RESPONSE, "broke the HTTP protocol"),
    (httpx2.UnsupportedProtocol, ErrorKind.UNREACHABLE, "has a base URL that is not http or https"),
    (httpx2.InvalidURL, ErrorKind.UNREACHABLE, "has a base URL that cannot be used"),
    (httpx2.HTTPError, ErrorKind.RESET, "failed"),
    (OSError, ErrorKind.RESET, "closed the connection"),
)
_CLOSED = ("disconnected", "peer closed", "incomplete")
"""How the library words an end of the connection that it reports as a protocol error."""


@contextmanager
def _mapped() -> Iterator[None]:
    """Turns what httpx2 and the socket raise into `UpstreamError`."""
    try:
        yield
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise _map(error) from error


def _map(error: Exception) -> UpstreamError:
    tls = _tls_cause(error)
    if tls is not None:
        return UpstreamError(ErrorKind.TLS, f"TLS failed: {tls}")
    text = str(error)
    kind, message = next((kind, message) for type, kind, message in _KINDS if isinstance(error, type))
    if isinstance(error, httpx2.RemoteProtocolError) and any(word in text.lower() for word in _CLOSED):
        kind, message = ErrorKind.RESET, "closed the connection"
    return UpstreamError(kind, f"{message} ({text})" if text else message)


def _tls_cause(error: BaseException | None) -> str | None:
    """What TLS complained about, somewhere among the causes: libraries hide it below empty messages."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        if isinstance(error, ssl.SSLError):
            return error.reason or str(error)
        error = error.__cause__ or error.__context__
    return None
