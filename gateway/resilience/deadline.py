"""When a request has to be over: a moment on the clock, and how it follows from what the client said.

Pure: the time is an argument and nothing waits here. Headers come with names in lower case. One deadline
spans queue, attempts and pauses, so that the client hears a real error before its own timer fires and it
sends (and pays for) the whole prompt again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

AHEAD = 1.0
"""Seconds before the client's own timer at which its answer is due."""
MARGIN = 0.01
"""Seconds: less than this before the deadline is as good as nothing. Timers fire a little early at times."""

_SECONDS = re.compile(r"[0-9]{1,12}(?:\.[0-9]{0,12})?|\.[0-9]{1,12}")
_COUNT = re.compile(r"[0-9]{1,6}")


class Deadline(Struct, frozen=True):
    """The moment, in seconds of the clock that `now` comes from, at which a request has to be over."""

    at: float

    @classmethod
    def after(cls, now: float, seconds: float) -> Deadline:
        """The deadline `seconds` from `now`."""
        return cls(now + seconds)

    def left(self, now: float) -> float:
        """Seconds until then, never below zero."""
        return max(0.0, self.at - now)

    def allows(self, now: float, delay: float = 0.0) -> bool:
        """Whether an attempt may begin `delay` seconds from `now`: something must be left for it by then."""
        return now + delay + MARGIN <= self.at


def deadline_of(
    headers: Mapping[str, str], *, now: float, stream: bool, total: float, ahead: float = AHEAD
) -> Deadline:
    """The earliest of `total` seconds, `x-gateway-timeout`, and a moment before the client's own timer.

    The SDKs' `x-stainless-read-timeout: T` is the whole wait of a request that is not streamed: its answer is
    due `ahead` seconds before T, or after half of T where that is later. A streamed one restarts that timer
    with every chunk, so there it says nothing. Garbage in it is ignored, since no person wrote it. Raises
    `ValueError`, with words for the client, when `x-gateway-timeout` is not a number of seconds above zero.
    """
    seconds = [total]
    asked = headers.get("x-gateway-timeout")
    if asked is not None:
        seconds.append(_asked(asked))
    patience = _seconds(headers.get("x-stainless-read-timeout", ""))
    if patience is not None and not stream:
        seconds.append(max(patience - ahead, patience / 2))
    return Deadline.after(now, min(seconds))


def retry_count(headers: Mapping[str, str]) -> int:
    """How often the SDK has sent this request before, from `x-stainless-retry-count`; garbage is 0."""
    text = headers.get("x-stainless-retry-count", "").strip()
    return int(text) if _COUNT.fullmatch(text) else 0


def _asked(text: str) -> float:
    seconds = _seconds(text)
    if seconds is None:
        raise ValueError(f"'x-gateway-timeout' has to be a number of seconds above 0, not {text[:40]!r}")
    return seconds


def _seconds(text: str) -> float | None:
    """A plain decimal number above zero; `float` would also take "inf", "nan" and "1_0"."""
    text = text.strip()
    seconds = float(text) if _SECONDS.fullmatch(text) else 0.0
    return seconds if seconds > 0 else None
