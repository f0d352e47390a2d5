"""Which attempt comes next: backoff, the retry budget, and the walk over the candidates of one request.

Pure: time and random numbers are arguments, all times are in seconds, and nothing sleeps, sends or logs
here. What a kind of failure may do stands in `errors.POLICY`; how a walk goes in `Attempts`. Only the opening
of an answer is ever repeated: who has received content from a candidate asks here no more.

    a failure ─┬─ refused before it left (open circuit, block) ── next candidate, as if it had not been asked
               ├─ may not fail over or be repeated ────────────── give up
               ├─ somebody is still to be asked ─┬─ quick, or a short stated wait, once ── the same again
               │                                 └─ anything else ──────────────────────── next candidate
               └─ nobody is left ── back off, then the best of those whose failure may be repeated
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

from msgspec import Meta, Struct

from ..errors import ErrorKind, Retry, UpstreamError
from .deadline import Deadline

SHORT = 2.0
"""Longest stated wait, in seconds, that is waited out while another candidate could be asked instead."""
SLOW = 2.0
"""A failure that took longer than this many seconds is no blip: its target is treated as one that hung."""
SPREAD = 0.1
"""A stated wait is drawn out by up to this share of itself,"""
MOST_SPREAD = 2.0
"""and by at most this many seconds."""


class RetryPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """At most `attempts` a target, and one for each candidate plus `attempts - 1` in all.

    Pauses grow from `base` and never exceed `cap` seconds; a quick retry waits up to `quick` seconds.
    """

    attempts: Annotated[int, Meta(ge=1, le=10)] = 3
    base: Annotated[float, Meta(gt=0, le=3600)] = 1.0
    cap: Annotated[float, Meta(gt=0, le=3600)] = 60.0
    quick: Annotated[float, Meta(ge=0, le=60)] = 0.25

    def backoff(self, n: int, random: Callable[[], float]) -> float:
        """Seconds before repeat number `n`, from 0: full jitter, U(0, min(cap, base · 2^n))."""
        return random() * min(self.cap, self.base * 2.0 ** min(n, 64))


# ── what may be repeated ───────────────────────────────────────────────────────────────────────────────


REFUSALS = frozenset(("circuit_open", "blocked"))
"""Codes of `UNAVAILABLE` with which a target is refused before anything leaves for it."""


def is_refusal(error: UpstreamError) -> bool:
    """Whether nothing was sent: the target's circuit is open, or its limits have no room in time."""
    if error.kind in (ErrorKind.RATE_LIMIT, ErrorKind.QUOTA):
        return error.hop == "gateway"
    return error.kind is ErrorKind.UNAVAILABLE and error.code in REFUSALS


# ── the budget ─────────────────────────────────────────────────────────────────────────────────────────


class RetryBudget:
    """How many retries one provider gets, so that an outage is not made worse by those who wait for its end.

    The law: of any retry at moment t, the retries in the 10 s up to and with it are at most
    `share` · (requests in the 10 s up to t) + `rate` · 10. By default that is 20 % and 5. Thus in any 10 s at
    all, retries ≤ 20 % of the requests in the 20 s that end with them, + 5.

    Memory is fixed: counts for each quarter of a second. Where their edges blur the window, retries count for
    up to a quarter longer and requests for up to a quarter less, so the law holds without tolerance.
    Moments are monotonic seconds; one that lies before the last is taken for the last.
    """

    WINDOW = 10.0
    _SLOTS = 40
    _WIDTH = WINDOW / _SLOTS

    def __init__(self, share: float = 0.2, rate: float = 0.5) -> None:
        self.share = share
        self.rate = rate
        size = self._SLOTS + 1
        self._requests = [0] * size
        self._retries = [0] * size
        self._slot: int | None = None

    def request(self, now: float) -> None:
        """Counts a request that is sent to the provider for the first time."""
        self._requests[self._turn(now)] += 1

    def withdraw(self, now: float) -> None:
        """Takes back the request just counted: it was refused before it left."""
        here = self._turn(now)
        self._requests[here] = max(0, self._requests[here] - 1)

    def try_spend(self, now: float) -> bool:
        """Takes one retry, or says that there is none to take now."""
        here = self._turn(now)
        oldest = (here + 1) % len(self._requests)
        requests = sum(self._requests) - self._requests[oldest]
        if sum(self._retries) + 1 > self.share * requests + self.rate * self.WINDOW:
            return False
        self._retries[here] += 1
        return True

    def _turn(self, now: float) -> int:
        """The place of the current slot, after clearing those that time has passed over."""
        size = len(self._requests)
        slot = math.floor(now / self._WIDTH)
        last = slot if self._slot is None else self._slot
        for passed in range(max(last, slot - size) + 1, slot + 1):
            self._requests[passed % size] = self._retries[passed % size] = 0
        self._slot = max(last, slot)
        return self._slot % size


# ── the walk ───────────────────────────────────────────────────────────────────────────────────────────

Why = Literal["first", "failover", "quick", "stated", "backoff"]
End = Literal["final", "refused", "exhausted", "deadline", "budget", "client_retry", "wait_too_long", "hang"]


class Next(Struct, frozen=True):
    """Ask candidate `index` after `delay` seconds. `reason` is a word for logs."""

    index: int
    delay: float
    reason: Why


class GiveUp(Struct, frozen=True):
    """No attempt comes any more. `error_index` is the place in `Attempts.failures` of the one to tell.

    `retry_after` is how many seconds from now the first candidate that stated a wait may be asked again, None
    when none did. `reason` is a word for logs.
    """

    error_index: int
    reason: End
    retry_after: float | None


class Failure(Struct, frozen=True):
    """What candidate `index` failed with; `refused` when nothing was sent to it."""

    index: int
    error: UpstreamError
    refused: bool


class _Candidate(Struct, eq=False):
    """What is known of one target during one request."""

    index: int
    tries: int = 0
    asked: bool = False
    refused: bool = False
    rule: Retry = Retry.NO
    ready: float | None = None
    """When the wait that its last failure stated is over."""
    fresh: bool = True
    """Whether its one repeat at once has not been taken."""
    counted: RetryBudget | None = None
    """The budget that counted this candidate's request."""

    def wait(self, now: float) -> float | None:
        return None if self.ready is None else max(0.0, self.ready - now)

    def is_last_resort(self, now: float) -> bool:
        return self.rule is Retry.LAST or (self.wait(now) or 0.0) > SHORT


def _fails_over(error: UpstreamError, index: int) -> bool:
    return error.failover


def _no_budget(index: int) -> RetryBudget | None:
    return None


class Attempts:
    """The walk of one request over its candidates, by priority: `first`, then `after` each failure.

    It ends after at most `policy.attempts` attempts on a candidate, and `policy.attempts - 1` repeats in all:
    every candidate can be reached whatever the ones before it did. No pause ends after `deadline`.

    `repeats` is False when the client itself is repeating: then nobody is asked twice. `budget_of(i)` is the
    retry budget of candidate i's provider, or None. `may_follow(error, i)` tells whether candidate i may be
    asked after `error` of another; when none may and the failure cannot be repeated, the request is over. A
    route that fails over on a refused key, the next key of a pool, a larger context window: they are that
    function's answers.

    Raises `ValueError` when there are no candidates.
    """

    def __init__(
        self,
        candidates: int,
        policy: RetryPolicy,
        deadline: Deadline,
        *,
        random: Callable[[], float],
        repeats: bool = True,
        budget_of: Callable[[int], RetryBudget | None] = _no_budget,
        is_refusal: Callable[[UpstreamError], bool] = is_refusal,
        may_follow: Callable[[UpstreamError, int], bool] = _fails_over,
    ) -> None:
        if candidates < 1:
            raise ValueError("there is nobody to ask")
        self.failures: list[Failure] = []
        """Everything that went wrong, in order, refusals included."""
        self._candidates = [_Candidate(index) for index in range(candidates)]
        self._current = self._candidates[0]
        self._policy = policy
        self._deadline = deadline
        self._random = random
        self._repeats = repeats
        self._budget_of = budget_of
        self._is_refusal = is_refusal
        self._may_follow = may_follow
        self._pauses = 0
        self._hangs_repeated = 0

    @property
    def tried(self) -> int:
        """Attempts so far, the one under way included; what was refused is none."""
        return sum(candidate.tries for candidate in self._candidates)

    def first(self, now: float) -> Next:
        """The first attempt."""
        return self._ask(self._candidates[0], "first", now)

    def after(self, error: UpstreamError, now: float, took: float = 0.0) -> Next | GiveUp:
        """What comes after the current attempt failed with `error`.

        `took` is how many seconds it had run, without what it waited in a queue of ours.
        """
        current = self._current
        refused = self._is_refusal(error)
        self.failures.append(Failure(current.index, error, refused))
        self._note(error, now, took, refused=refused)
        others = [c for c in self._candidates if c is not current]
        others = [c for c in others if refused or self._may_follow(error, c.index)]
        unasked = next((c for c in others if not c.asked), None)
        if unasked is None:
            return self._back_off([current, *others], now)
        if again := self._at_once(now):
            return again
        if not self._deadline.allows(now):
            return self._give_up("deadline", now)
        return self._ask(unasked, "failover", now)

    def _note(self, error: UpstreamError, now: float, took: float, *, refused: bool) -> None:
        current = self._current
        stated = error.retry_after
        current.ready = now + stated if stated and 0 < stated < math.inf else None
        if refused:
            current.refused = True
            current.tries -= 1
            if current.counted is not None and not current.tries:
                current.counted.withdraw(now)
                current.counted = None
            return
        current.rule = error.retry
        if current.rule is Retry.QUICK and took > SLOW:
            current.rule = Retry.LAST

    def _at_once(self, now: float) -> Next | None:
        """The one repeat that a candidate gets while others wait to be asked."""
        current = self._current
        if not current.fresh or current.is_last_resort(now):
            return None
        if current.ready is not None and current.rule is not Retry.NO:
            step = self._repeat(current, "stated", now)
        elif current.rule is Retry.QUICK:
            step = self._repeat(current, "quick", now)
        else:
            return None
        if not isinstance(step, Next):
            return None
        current.fresh = False
        return step

    def _back_off(self, pool: list[_Candidate], now: float) -> Next | GiveUp:
        """The best of `pool` after a pause: those that hung or ask for a long wait come after the others."""
        able = [c for c in pool if not c.refused and c.rule is not Retry.NO]
        obstacles: list[End] = []
        for candidate in sorted(able, key=lambda c: (c.is_last_resort(now), c.index)):
            step = self._repeat(candidate, "backoff" if candidate.ready is None else "stated", now)
            if isinstance(step, Next):
                self._pauses += 1
                self._hangs_repeated += candidate.rule is Retry.LAST
                return step
            obstacles.append(step)
        if obstacles:
            return self._give_up(obstacles[0], now)
        return self._give_up("refused" if all(c.refused for c in self._candidates) else "final", now)

    def _repeat(self, candidate: _Candidate, reason: Why, now: float) -> Next | End:
        """Another attempt on `candidate`, or what forbids it; the budget comes last, since asking spends."""
        if (spent := self._spent(candidate, now)) is not None:
            return spent
        delay = self._delay(candidate, reason, now)
        if not self._deadline.allows(now, delay):
            return "deadline"
        budget = self._budget_of(candidate.index)
        if budget is not None and not budget.try_spend(now):
            return "budget"
        return self._ask(candidate, reason, now, delay)

    def _spent(self, candidate: _Candidate, now: float) -> End | None:
        most = self._policy.attempts
        repeated = sum(c.tries - 1 for c in self._candidates if c.tries)
        company = sum(not c.refused for c in self._candidates) > 1
        if not self._repeats:
            return "client_retry"
        if repeated >= most - 1:  # thus no candidate is asked more than `most` times
            return "exhausted"
        if candidate.rule is Retry.LAST and company and self._hangs_repeated:
            return "hang"
        return "wait_too_long" if (candidate.wait(now) or 0.0) > self._policy.cap else None

    def _delay(self, candidate: _Candidate, reason: Why, now: float) -> float:
        wait = candidate.wait(now)
        if wait is not None:  # never earlier than stated, a little later, so that not all come at one moment
            return min(self._policy.cap, wait + self._random() * min(SPREAD * wait, MOST_SPREAD))
        if reason == "quick":
            return self._random() * self._policy.quick
        return self._policy.backoff(self._pauses, self._random)

    def _ask(self, candidate: _Candidate, reason: Why, now: float, delay: float = 0.0) -> Next:
        if not candidate.asked:
            self._count(candidate, now)
        candidate.asked = True
        candidate.tries += 1
        self._current = candidate
        return Next(candidate.index, delay, reason)

    def _count(self, candidate: _Candidate, now: float) -> None:
        """A request counts once for each provider, however many of its models and keys it goes to."""
        budget = self._budget_of(candidate.index)
        if budget is not None and not any(c.counted is budget for c in self._candidates):
            budget.request(now)
            candidate.counted = budget

    def _give_up(self, reason: End, now: float) -> GiveUp:
        """The end, with the last thing that a provider said; with the first to be free where all refused."""
        real = [place for place, failure in enumerate(self.failures) if not failure.refused]
        waits = [wait for c in self._candidates if (wait := c.wait(now)) is not None]
        told = real[-1] if real else min(range(len(self.failures)), key=self._ready)
        return GiveUp(told, reason, min(waits, default=None))

    def _ready(self, place: int) -> float:
        ready = self._candidates[self.failures[place].index].ready
        return math.inf if ready is None else ready
