"""The client's side of one request, as plain ASGI: reading the body, writing the answer, noticing it left.

A client that leaves cancels the work for it, in whatever phase that is. Everything happens in the task of
the request; what it waits for is watched from outside.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress

from starlette.types import Message, Receive, Scope, Send

from .. import sse
from ..errors import ErrorKind, RequestError

Header = tuple[str, str]

LINGER_SECONDS = 2.0
LINGER_BYTES = 64 << 20
"""How long, and how much, of a body that is too large is still read and thrown away."""


class ClientGone(Exception):
    """The client left before it had its whole answer."""


class Client:
    """One client during one request."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.status = 0
        """The status that was sent, 0 before that."""
        self._receive = receive
        self._send = send
        self._cut_off: Callable[[], None] | None = scope.get("gateway.abort")
        self.gone = False
        """Whether the client left before it had everything."""
        self._finished = False
        self._task: asyncio.Task[object] | None = None

    async def body(self, limit: int, seconds: float) -> bytes:
        """The whole body, at most `limit` bytes, within `seconds`.

        Raises `RequestError` when it is larger or slower, and `ClientGone`.
        """
        declared = self.headers.get("content-length", "")
        fits = not declared.isdigit() or int(declared) <= limit
        try:
            async with asyncio.timeout(seconds):
                body = await self._read(limit) if fits else None
        except TimeoutError:
            message = f"the body did not arrive within {seconds:g} s"
            raise RequestError(ErrorKind.BAD_REQUEST, message, status=408, code="request_timeout") from None
        if body is None:
            await self._linger()
            raise RequestError(ErrorKind.TOO_LARGE, f"the body is larger than {limit} bytes")
        return body

    async def _linger(self) -> None:
        """Reads on what is not wanted: a client that is cut off while it writes never sees the answer."""
        if "expect" in self.headers:
            return  # it asked first, and has not begun
        size = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while size < LINGER_BYTES:
                    message = await self._receive()
                    size += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return

    async def _read(self, limit: int) -> bytes | None:
        """The body; None as soon as it is larger than `limit`."""
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.gone = True
                raise ClientGone
            piece = message.get("body", b"")
            size += len(piece)
            if size > limit:
                return None
            pieces.append(piece)
            if not message.get("more_body", False):
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def start(self, status: int, headers: Iterable[Header]) -> None:
        """Sends the head of the answer."""
        encoded = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]
        self.status = status
        await self._pass({"type": "http.response.start", "status": status, "headers": encoded})

    async def write(self, data: bytes) -> None:
        """Sends a piece of the body. Waits while the client is slow to take it."""
        await self._pass({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, data: bytes = b"") -> None:
        """Sends the last piece of the body: after it, the end of the connection is nobody's loss."""
        self._finished = True
        await self._pass({"type": "http.response.body", "body": data, "more_body": False})

    async def _pass(self, message: Message) -> None:
        try:
            await self._send(message)
        except (OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "closed" not in str(error):
                raise
            self.gone = True
            raise ClientGone from None

    async def answer(self, status: int, body: bytes, headers: Iterable[Header] = ()) -> None:
        """Sends a whole answer in JSON."""
        kind = [("content-type", "application/json"), ("content-length", str(len(body)))]
        await self.start(status, [*kind, *headers])
        await self.finish(body)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Cancels the block when the client leaves before `finish`, and raises `ClientGone` then."""
        self._task = asyncio.current_task()
        assert self._task is not None
        watcher = asyncio.create_task(self._watch())
        try:
            yield
        except asyncio.CancelledError:
            if self.gone and self._task.uncancel() == 0:
                raise ClientGone from None
            raise
        finally:
            watcher.cancel()

    def abort(self) -> None:
        """Gives up a client that takes nothing, as if it had left."""
        self._leave()
        if self._cut_off is not None:
            self._cut_off()

    def _leave(self) -> None:
        if not self.gone and self._task is not None:
            self.gone = True
            self._task.cancel()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._finished:
            self._leave()


class EventStream:
    """An event stream to a client. The head goes out with the first event, or when silence gets too long.

    Until then the answer may still be an error with a status of its own. In silence comments keep the
    connection alive: the first after `after` seconds, then one every `every` seconds. A client that does
    not take what is sent for `send_timeout` seconds is given up.
    """

    def __init__(
        self,
        client: Client,
        headers: Iterable[Header],
        *,
        after: float,
        every: float,
        send_timeout: float,
    ) -> None:
        self.headers: list[Header] = list(headers)
        """Sent with the head: may be added to while `started` is false."""
        self.started = False
        self._note = "keep-alive"
        self._client = client
        self._every = every
        self._send_timeout = send_timeout
        self._loop = asyncio.get_running_loop()
        self._quiet_until = self._loop.time() + after
        self._writing_since: float | None = None
        self._comment: asyncio.Task[None] | None = None
        first = min(self._quiet_until, self._loop.time() + send_timeout)
        self._timer: asyncio.TimerHandle | None = self._loop.call_at(first, self._tick)

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop()

    async def write(self, data: bytes) -> None:
        """Sends `data`, whole events, after the head if that is still to come."""
        await self._begin()
        self._writing_since = self._loop.time()
        await self._client.write(data)
        self._wrote()

    async def finish(self, data: bytes) -> None:
        """Sends `data` and ends the stream."""
        await self._begin()
        self._writing_since = self._loop.time()
        await self._client.finish(data)
        self._stop()

    def waiting(self, place: int, seconds: float) -> None:
        """Has the next comments say where in a queue the request stands, and how long that will be."""
        self._note = f"queued: place {place}, about {max(seconds, 0):.0f} s"

    def _stop(self) -> None:
        if self._comment is not None:
            self._comment.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _begin(self) -> None:
        if self._comment is not None:
            await self._comment
        if not self.started:
            await self._start()

    async def _start(self) -> None:
        self.started = True
        await self._client.start(200, self.headers)

    def _wrote(self) -> None:
        self._writing_since = None
        self._quiet_until = self._loop.time() + self._every

    def _tick(self) -> None:
        now = self._loop.time()
        if self._writing_since is not None:
            due = self._writing_since + self._send_timeout
            if now >= due:
                self._client.abort()
                return
        else:
            due = self._quiet_until
            if now >= due:
                self._comment = asyncio.create_task(self._keep_alive())
                due = now + self._every
        self._timer = self._loop.call_at(min(due, now + self._send_timeout), self._tick)

    async def _keep_alive(self) -> None:
        self._writing_since = self._loop.time()
        try:
            with suppress(ClientGone):  # who writes next will notice
                if not self.started:
                    await self._start()
                await self._client.write(sse.comment(self._note))
                self._note = "keep-alive"
            self._wrote()
        finally:
            self._comment = None
