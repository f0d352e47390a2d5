"""HTTP/1.1 on a raw asyncio transport: parse requests with httptools, play the steps of an answer, record a
call.

Rule of this file: bytes and connections only; nothing here knows a provider, a script or a fault. An answer
is an iterable of steps: bytes are written, a float is a pause in seconds, an `End` says how it stops.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Iterable
from enum import Enum
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Protocol, cast

import httptools
import msgspec

from .wire import Reply

MAX_BODY = 256 * 2**20
AT_ONCE = 64 * 2**10
"""Bytes of an answer up to which it is written without waiting for the peer to read."""
SETTLE = 0.005
"""Seconds between the last byte and an RST, so that the peer can read what was sent before."""


class End(Enum):
    """How an answer stops, when it is not simply complete."""

    CLOSE = "FIN"
    RESET = "RST"
    STALL = "silence until the peer leaves"


Step = bytes | float | End


class Call:
    """One recorded call. Times are `time.monotonic()` seconds.

    path            as it came, with the query
    headers         lower-case names; several of one name are joined with ", "
    connection      a number for each accepted connection: equal numbers mean that keep-alive was used
    started_at      the request line was read
    finished_at     our part is over: the answer is written, or the fault has closed the connection
    peer_closed_at  the peer closed the connection while the answer was under way; else None
    """

    __slots__ = (
        "_sent",
        "_transport",
        "_waiters",
        "body",
        "connection",
        "finished_at",
        "headers",
        "method",
        "path",
        "peer_closed_at",
        "provider",
        "rejected",
        "started_at",
    )

    def __init__(self, method: str, path: str, headers: dict[str, str], body: bytes, connection: int) -> None:
        self.provider = ""
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body
        self.connection = connection
        self.started_at = time.monotonic()
        self.finished_at: float | None = None
        self.peer_closed_at: float | None = None
        self.rejected: str | None = None
        """Why the stand-in refused the request; None when it did not."""
        self._sent = 0
        self._transport: asyncio.Transport | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def __repr__(self) -> str:
        state = "peer closed" if self.peer_closed_at else "finished" if self.finished_at else "open"
        return f"<Call {self.method} {self.path} {state} {self.bytes_sent} bytes>"

    @property
    def json(self) -> Any:
        """The body as JSON. Raises msgspec.DecodeError when it is none."""
        return msgspec.json.decode(self.body)

    @property
    def bytes_sent(self) -> int:
        """Bytes of the answer, head and framing included, that have left this process."""
        return self._sent - (self._transport.get_write_buffer_size() if self._transport else 0)

    def over(self) -> bool:
        return self.finished_at is not None or self.peer_closed_at is not None

    def _wrote(self, count: int) -> None:
        self._sent += count

    def _finish(self) -> None:
        if not self.over():
            self.finished_at = time.monotonic()
        self._wake()

    def _peer_closed(self) -> None:
        if not self.over():
            self.peer_closed_at = time.monotonic()
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def wait_over(self) -> None:
        """Return when the answer is finished or the peer has closed."""
        if not self.over():
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter


class App(Protocol):
    """What a connection asks. The simulator is one; kept apart so that this file stays about HTTP."""

    def closes_early(self, method: str, path: str) -> bool:
        """True: close now, the request line was enough."""

    def closed_early(self, call: Call) -> None:
        """That was done to this call."""

    def answer(self, call: Call) -> Iterable[Step]:
        """The steps of the answer; a list of bytes is written at once, an iterator is played step by step."""


class Connection(asyncio.Protocol):
    """One accepted connection. Requests are answered one after the other; bytes that come early wait.

    A peer that closes its writing side has left: its answer stops there.
    """

    def __init__(self, app: App, number: int, alive: set[Connection]) -> None:
        self._app = app
        self._number = number
        self._alive = alive
        self._parser = httptools.HttpRequestParser(self)
        self._call: Call | None = None
        self._task: asyncio.Task[None] | None = None
        self._early_bytes = b""
        self._writable: asyncio.Future[None] | None = None
        self._gone = asyncio.Event()
        self.refused: bool | None = None
        """Set before the connection is made: close it at once, with RST when True."""
        self._new_message()

    # --- what asyncio calls -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._alive.add(self)
        if self.refused is not None:
            self._drop(reset=self.refused)

    def data_received(self, data: bytes) -> None:
        if self._call is not None:
            self._early_bytes += data
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:  # a mistake of ours: asyncio reports it and closes
            raise
        except httptools.HttpParserUpgrade:
            self._transport.close()
        except httptools.HttpParserError:
            self._malformed()

    def _malformed(self) -> None:
        if self._call is None and not self._transport.is_closing():
            self._transport.write(BAD_REQUEST)
        self._transport.close()

    def eof_received(self) -> None:
        if self._call is not None:
            self._call._peer_closed()

    def connection_lost(self, exc: Exception | None) -> None:
        self._alive.discard(self)
        self._gone.set()
        if self._call is not None:
            self._call._peer_closed()
            self._call._transport = None
        if self._task is not None:
            self._task.cancel()
        self.resume_writing()

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # --- what httptools calls -----------------------------------------------------------------------------

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._headers:
            self._line_is_complete()
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        if not self._headers:
            self._line_is_complete()
        if self._headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > MAX_BODY:
            self._transport.abort()
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._transport.is_closing():
            return
        if self._call is not None:  # pipelined in one packet: not supported
            self._transport.abort()
            return
        call = self._new_call(b"".join(self._body))
        call.started_at = self._started
        call._transport = self._transport
        self._call = call
        keep = self._parser.should_keep_alive()
        self._new_message()
        self._start(call, self._app.answer(call), keep)

    # --- the request --------------------------------------------------------------------------------------

    def _new_message(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0
        self._started = 0.0

    def _new_call(self, body: bytes) -> Call:
        method = self._parser.get_method().decode("latin-1")
        return Call(method, self._url.decode("latin-1"), self._headers, body, self._number)

    def _line_is_complete(self) -> None:
        self._started = time.monotonic()
        method = self._parser.get_method().decode("latin-1")
        if self._app.closes_early(method, self._url.decode("latin-1")):
            call = self._new_call(b"")
            self._app.closed_early(call)
            call._finish()
            self._transport.close()

    # --- the answer ---------------------------------------------------------------------------------------

    def _start(self, call: Call, steps: Iterable[Step], keep: bool) -> None:
        if isinstance(steps, list):
            data = b"".join(steps)
            if len(data) <= AT_ONCE:
                call._wrote(len(data))
                self._transport.write(data)
                self._finish(call, keep)
                return
            steps = [data]
        self._task = asyncio.get_running_loop().create_task(self._perform(call, steps, keep))

    async def _perform(self, call: Call, steps: Iterable[Step], keep: bool) -> None:
        try:
            await self._play(call, steps, keep)
        except Exception:  # a mistake of ours: the peer must not wait for it
            self._transport.abort()
            raise

    async def _play(self, call: Call, steps: Iterable[Step], keep: bool) -> None:
        for step in steps:
            if isinstance(step, bytes):
                call._wrote(len(step))
                self._transport.write(step)
                # without a pause a generator that never waits would not notice that its peer has left
                await (self._writable or asyncio.sleep(0))
            elif isinstance(step, float):
                await asyncio.sleep(step)
            else:
                await self._end(call, step)
                return
        self._finish(call, keep)

    async def _end(self, call: Call, how: End) -> None:
        if how is End.STALL:
            await asyncio.get_running_loop().create_future()
        call._finish()
        if how is End.RESET:
            await asyncio.sleep(SETTLE)
        self._drop(reset=how is End.RESET)

    def _drop(self, *, reset: bool) -> None:
        if reset:
            sock = cast("socket.socket", self._transport.get_extra_info("socket"))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        else:
            self._transport.close()

    def _finish(self, call: Call, keep: bool) -> None:
        call._finish()
        call._transport = None
        self._call = self._task = None
        if not keep:
            self._transport.close()
        elif self._early_bytes and not self._transport.is_closing():
            data, self._early_bytes = self._early_bytes, b""
            self.data_received(data)

    async def gone(self) -> None:
        """Wait until the connection is closed."""
        await self._gone.wait()

    def shut(self) -> asyncio.Task[None] | None:
        """Drop the connection at once. Returns the task to wait for, if one was playing an answer."""
        task = self._task
        self._transport.abort()
        if task is not None:
            task.cancel()
        return task


BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


# --- rendering ------------------------------------------------------------------------------------------


def head(reply: Reply, *framing: tuple[str, str], status: int | None = None) -> bytes:
    """Status line and headers, with the framing headers at the end."""
    code = reply.status if status is None else status
    lines = [_status_line(code), *(f"{name}: {value}\r\n" for name, value in (*reply.headers, *framing))]
    lines.append(f"date: {_date(int(time.time()))}\r\n\r\n" if not _has_date(reply) else "\r\n")
    return "".join(lines).encode("latin-1")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
CHUNKED = ("transfer-encoding", "chunked")


def length(size: int) -> tuple[str, str]:
    return ("content-length", str(size))


def steps_of(reply: Reply) -> Iterable[Step]:
    """The steps of an answer that nothing goes wrong with."""
    if reply.live is not None:
        return _lively(reply, reply.live())
    if reply.frames is None:
        whole = [head(reply, length(len(reply.body))), reply.body]
        return _paced(whole, reply) if reply.first else whole
    frames = [head(reply, CHUNKED), *(chunk(frame.data) for frame in reply.frames), LAST_CHUNK]
    return _paced(frames, reply) if reply.first or reply.between else frames


def _lively(reply: Reply, events: Iterable[bytes | float]) -> Iterable[Step]:
    yield head(reply, CHUNKED)
    for each in events:
        yield chunk(each) if isinstance(each, bytes) else each
    yield LAST_CHUNK


def _paced(pieces: list[bytes], reply: Reply) -> Iterable[Step]:
    """`first` seconds, the head with the first frame, then `between` seconds before each further frame."""
    if reply.head_first:
        yield pieces[0]
    yield reply.first
    yield b"".join(pieces[reply.head_first : 2])
    for piece in pieces[2:-1]:
        yield reply.between
        yield piece
    if len(pieces) > 2:
        yield pieces[-1]


@lru_cache(64)
def _status_line(code: int) -> str:
    try:
        phrase = HTTPStatus(code).phrase
    except ValueError:
        phrase = "Overloaded" if code == 529 else "Status"
    return f"HTTP/1.1 {code} {phrase}\r\n"


@lru_cache(2)
def _date(second: int) -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(second))


def _has_date(reply: Reply) -> bool:
    return any(name == "date" for name, _ in reply.headers)
