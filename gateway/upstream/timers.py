"""The time limits of one exchange, watched by one timer.

Reading a chunk only moves a number; the timer looks at the numbers when it fires and sets itself again.
Time in which nobody waits for the provider (a slow client is being written to) does not count as silence.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from msgspec import Struct

from ..errors import ErrorKind, UpstreamError


class Timeouts(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits in seconds. `connect` includes TLS; `first_byte` counts from the start of each streamed call.

    `idle` is for any bytes, `content_idle` for bytes that bring content: comments and pings do not.
    """

    connect: float = 5
    first_byte: float = 30
    idle: float = 60
    content_idle: float = 300
    total: float = 600


_REASONS = {
    "first_byte": "sent no byte within",
    "idle": "sent no byte for",
    "content_idle": "sent no content for",
    "total": "the answer took longer than",
}


class Watchdog:
    """Ends a wait for the provider that takes too long: `with watchdog: await …`.

    Everything happens in the task that made it. Leaving raises `UpstreamError(TIMEOUT)` when a limit was
    passed; `close` has to be called at the end. `deadline` is a moment of the loop's clock at which the whole
    has to be over, whatever the limits say; to miss it is no failure of the provider when that `is_hasty`.
    """

    def __init__(self, timeouts: Timeouts, deadline: float | None = None, *, is_hasty: bool = False) -> None:
        self._timeouts = timeouts
        self._loop = asyncio.get_running_loop()
        self._start = self._call = self._since = self._loop.time()
        self._end = self._start + timeouts.total
        self._is_hurried = False
        if deadline is not None and deadline < self._end:
            self._end, self._is_hurried = deadline, is_hasty
        self._patience = timeouts.first_byte
        self._waited = 0.0  # seconds of waiting since the last content
        self._has_bytes = False
        self._waiting = False
        self._expired: str | None = None
        self._cancelling = 0
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._loop.time() - self._start

    @property
    def left(self) -> float:
        """Seconds until the whole may take no longer."""
        return self._end - self._loop.time()

    @property
    def spent(self) -> bool:
        """Whether the whole may take no longer."""
        return self.left <= 0

    def call_begins(self, *, whole: bool = False) -> None:
        """Another call of the same exchange: its first byte is waited for anew.

        Of an answer that comes as a `whole` the first byte is the last: what it is given is the time of an
        answer without content.
        """
        limits = self._timeouts
        self._patience = max(limits.first_byte, limits.content_idle) if whole else limits.first_byte
        self._call = self._loop.time()
        self._has_bytes = False

    def bytes_arrived(self) -> None:
        self._has_bytes = True

    def content_arrived(self) -> None:
        self._waited = 0.0

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        self._since = self._loop.time()
        self._waiting = True
        self._set()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._waiting = False
        self._waited += self._loop.time() - self._since
        reason, self._expired = self._expired, None
        if reason is None or self._task is None:
            return
        if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise self._too_late(reason) from None

    def out_of_time(self) -> UpstreamError:
        """The failure to be whole in time, for a wait that this object does not watch."""
        return self._too_late(self._reason("total"))

    def _too_late(self, reason: str) -> UpstreamError:
        error = UpstreamError(ErrorKind.TIMEOUT, reason)
        error.is_callers = self._is_hurried and self.spent
        return error

    def _reason(self, limit: str) -> str:
        known = {"total": self._end - self._start, "first_byte": self._patience}
        seconds = known[limit] if limit in known else getattr(self._timeouts, limit)
        return f"{_REASONS[limit]} {seconds:g} s"

    def close(self) -> None:
        """Stops the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _deadline(self) -> tuple[float, str]:
        """When the first limit is passed, on the loop's clock, and which one it is."""
        limits = self._timeouts
        total = (self._end, "total")
        if not self._has_bytes:
            return min((self._call + self._patience, "first_byte"), total)
        idle = (self._since + limits.idle, "idle")
        content = (self._since + limits.content_idle - self._waited, "content_idle")
        return min(idle, content, total)

    def _set(self) -> None:
        when, _ = self._deadline()
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._fire)

    def _fire(self) -> None:
        self._timer = None
        if not self._waiting or self._expired is not None:
            return  # the next wait sets it again
        when, limit = self._deadline()
        if self._loop.time() < when:
            self._timer = self._loop.call_at(when, self._fire)
            return
        self._expired = self._reason(limit)
        assert self._task is not None
        self._task.cancel()
