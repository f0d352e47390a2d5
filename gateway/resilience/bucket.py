"""One limit of a provider, "so much a minute", as arithmetic: no clock, no waiting, no queue.

Time comes in as seconds that only go forward, amounts are requests or tokens. Two kinds of provider:

- One that documents a token bucket is mirrored: capacity is the limit, refill is a sixtieth of it a second.
- Any other may count in windows that nobody tells. A small bucket spreads what is let through, and a ledger
  of the last minute holds the law: what was let through in any 60 seconds is never more than the limit.

Estimates are taken and settled later. What a settled amount was too much is given back where that breaks
neither rule. Headers of the provider only tighten; loosening has to wait for the reset that came with them.
"""

from __future__ import annotations

from math import ceil, inf, isfinite

from msgspec import Struct

WINDOW = 60.0
"""Seconds that a limit is counted over."""
SMOOTH = 0.05
"""Share of a limit that may go out at once where the provider does not say: the rest is usable steadily."""
LONGEST_RESET = 3600.0
"""A reset further away than these seconds is believed no longer than that."""
_TINY = 1e-6
"""Amounts below this are rounding: waiting for them would not end."""


class Taken(Struct):
    """What was taken and not settled yet: `amount` at `at` seconds. The rest is the bucket's own."""

    amount: float
    at: float
    ends: int = 0
    roof: float = 0.0


class TokenBucket:
    """`limit` a minute, full at `now`.

    `burst` is the share of the limit that may go out at once: all of it where a bucket is mirrored, `SMOOTH`
    elsewhere, if it is not set. `auto` says that headers may raise the limit above the one given here.
    """

    def __init__(
        self,
        limit: float,
        now: float,
        *,
        burst: float | None = None,
        mirrors: bool = False,
        auto: bool = False,
    ) -> None:
        self._given = inf if auto else limit
        self._burst = burst
        self._mirrors = mirrors
        self._at = now
        self._credits = 0.0  # everything ever given back
        self._window: dict[int, float] = {}  # the second in which it leaves the window → amount
        self._used = 0.0  # the sum of the window
        self._expired = 0  # the second up to which the window is cleared
        self._synced = -inf
        self._tight_until = -inf
        self._shape(limit)
        self._level = self.capacity

    def __repr__(self) -> str:
        return f"<TokenBucket {self._level:.6g} of {self.capacity:.6g}, {self.limit:.6g} a minute>"

    def level(self, now: float) -> float:
        """What could be taken at `now`; below zero after more was used than was taken."""
        return min(self.capacity, self._level + self.refill * max(0.0, now - self._at))

    def wait_for(self, amount: float, now: float, ahead: float = 0.0) -> float:
        """Seconds until `amount` can be taken after `ahead` was; infinite for more than the limit.

        More than the capacity goes out when the bucket is full, and leaves it in debt.
        """
        if amount > self.limit:
            return inf
        short = ahead + min(amount, self.capacity) - self.level(now)
        wait = short / self.refill if short > _TINY else 0.0
        return wait if self._mirrors else max(wait, self._window_wait(ahead + amount, now))

    def take(self, amount: float, now: float) -> Taken:
        """Takes `amount`, whether it is there or not: ask `wait_for` first."""
        self._advance(now)
        self._level -= amount
        if self._mirrors:
            return Taken(amount, now, roof=self._level - self._credits)
        ends = _next_second(now + WINDOW)
        self._enter(amount, ends)
        return Taken(amount, now, ends)

    def settle(self, taken: Taken, actual: float, now: float) -> None:
        """Makes of what was taken what was used: gives the rest back, or takes what it was more. Once."""
        surplus, taken.amount = taken.amount - actual, actual
        self._advance(now)
        if surplus < 0:
            self._level += surplus
            if not self._mirrors:
                self._enter(-surplus, _next_second(now + WINDOW))
        elif surplus > 0:
            self._give_back(taken, surplus, now)

    def sync(
        self,
        remaining: float | None,
        limit: float | None,
        now: float,
        *,
        reset: float | None = None,
        as_of: float | None = None,
    ) -> None:
        """Believes a provider's headers as far as they tighten. `reset` is in seconds from now.

        `as_of` is when the request they answer was sent: older than the last ones they say nothing new.
        What is absent or no number of the kind is left out.
        """
        as_of = now if as_of is None else as_of
        if as_of < self._synced or not (_is_amount(remaining) or _is_amount(limit)):
            return
        self._synced = as_of
        self._advance(now)
        seconds = min(reset, LONGEST_RESET) if reset is not None and _is_amount(reset) else WINDOW
        if limit is not None and _is_amount(limit) and limit > 0:
            self._bound(limit, now, now + seconds)
        if remaining is None or not _is_amount(remaining):
            return
        self._level = min(self._level, remaining)
        foreign = self.limit - self._used - remaining
        if foreign > 0 and not self._mirrors:
            self._enter(foreign, ceil(now + min(seconds, WINDOW)))

    def _shape(self, limit: float) -> None:
        """The bucket that keeps to `limit`."""
        self.limit = limit
        usual = 1.0 if self._mirrors else SMOOTH
        burst = min(1.0, usual if self._burst is None else self._burst)
        self.capacity = limit * burst
        # what a larger burst than usual lets out beyond the limit the ledger holds back: with a refill made
        # smaller by all of it, most of the limit could never be used
        self.refill = (limit if self._mirrors else limit * (1.0 - min(burst, SMOOTH))) / WINDOW

    def _bound(self, limit: float, now: float, reset: float) -> None:
        """Lowers the limit at once; raises it, as far as the given one, when the last reset has passed."""
        if limit < self.limit:
            self._tight_until = max(self._tight_until, reset)
        elif now < self._tight_until:
            return
        self._shape(min(limit, self._given))
        self._level = min(self._level, self.capacity)

    def _advance(self, now: float) -> None:
        self._level = self.level(now)
        self._at = max(self._at, now)
        if not self._mirrors:
            self._expire(now)

    def _give_back(self, taken: Taken, surplus: float, now: float) -> None:
        if self._mirrors:
            # Had it never been taken, the provider's bucket may have been full since, and what flowed into
            # it lost: that much is not there now. `roof` and what came after bound how full ours was.
            room = self.capacity - (taken.roof + self._credits + self.refill * (now - taken.at))
            surplus = max(0.0, min(surplus, room))
            self._credits += surplus
        elif taken.ends in self._window:
            self._enter(-surplus, taken.ends)
        self._level = min(self.capacity, self._level + surplus)

    def _enter(self, amount: float, ends: int) -> None:
        self._window[ends] = self._window.get(ends, 0.0) + amount
        self._used += amount

    def _expire(self, now: float) -> None:
        """Forgets what is out of the window. Whole seconds keep it small and err on the safe side."""
        second = int(now)
        if second > self._expired:
            self._expired = second
            self._window = {ends: amount for ends, amount in self._window.items() if ends > second}
            self._used = sum(self._window.values())

    def _window_wait(self, amount: float, now: float) -> float:
        """Seconds until the window has room for `amount`, which may be that of several requests."""
        self._expire(now)
        excess = self._used + amount - self.limit
        if excess <= _TINY:
            return 0.0
        last = now
        for ends in sorted(self._window):
            excess -= self._window[ends]
            last = ends
            if excess <= _TINY:
                return last - now
        return last - now + WINDOW * ceil((excess - _TINY) / self.limit)


def _next_second(moment: float) -> int:
    """The first whole second after `moment`."""
    return int(moment) + 1


def _is_amount(number: float | None) -> bool:
    return number is not None and isfinite(number) and number >= 0
