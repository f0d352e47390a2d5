"""One account at a provider: who may call it now, and who waits for how long.

An account is what the provider counts as one: a provider, a class of models, a key. A reservation covers
everything that is limited there at once: requests, tokens, calls in flight. Who cannot be let through stands
in one queue that nobody overtakes: its head waits for what lacks most, all others wait for the head. Time,
pauses and chance come from a `Clock`; what an answer cost is said by `estimate` and `limiting`.

`Account` is what callers rely on. `Limiter` keeps it in this process.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from math import inf
from typing import Annotated, Protocol, TypeAlias

from msgspec import Meta, Struct, field

from ..errors import ErrorKind, UpstreamError
from ..exchange import Waiting
from ..limits import Limits, Window
from .bucket import SMOOTH, Taken, TokenBucket
from .clock import Clock

log = logging.getLogger("gateway.resilience")

CONCURRENCY = 64
"""Calls in flight that an account may have when nobody says otherwise."""
MAX_QUEUE = 1000
MAX_MODELS = 256
"""Models of one provider and key that have accounts of their own."""
MAX_WAIT = 30.0
"""Seconds that a call waits for its turn when nobody says otherwise."""
SPREAD = 0.1
"""A stated wait is drawn out by up to this share of itself,"""
MOST_SPREAD = 2.0
"""and by at most this many seconds, so that not everybody who was told it comes back at once."""
PACED_SECONDS = 10.0
"""How long after a block calls are let through a few at a time."""
TELL_SECONDS = 5.0
"""How often who waits is told where it stands."""
SHORTEST_PAUSE = 0.001
"""Seconds: less than this a timer cannot keep, and rounding may never get there."""
SHRINK_SECONDS = 1.0
"""Refusals within so many seconds are one sign that too many calls are in flight."""
FULL_WAIT = 2.0
"""Seconds that a call is supposed to wait for room among those in flight, of which none has ended yet."""
UNKNOWN_WAIT = 1.0
"""Seconds after which to ask again when nobody knows how long calls in flight will take."""
_HOLD_WEIGHT = 0.1
_AMOUNT: TypeAlias = Annotated[int, Meta(gt=0)]


class Quota(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an account may use a minute; None where nothing is known but what the provider's headers say.

    `burst` is the share of a limit that may go out at once. `mirrors` says that the provider documents a
    token bucket, `auto` that its headers may raise what stands here, `adaptive` that the calls in flight it
    takes change: they are halved by each refusal and grow again.
    """

    rpm: _AMOUNT | None = None
    tpm: _AMOUNT | None = None
    input_tpm: _AMOUNT | None = None
    output_tpm: _AMOUNT | None = None
    concurrency: _AMOUNT | None = CONCURRENCY
    burst: Annotated[float, Meta(gt=0, le=1)] | None = None
    mirrors: bool = False
    auto: bool = False
    adaptive: bool = False
    max_queue: Annotated[int, Meta(ge=0)] = MAX_QUEUE
    max_wait: Annotated[float, Meta(ge=0, le=3600)] = MAX_WAIT


class Cost(Struct, frozen=True):
    """What a call takes of each dimension: before it an estimate, after it what was used."""

    requests: int = 1
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


NOTHING = Cost(requests=0)

DIMENSIONS = {  # field of `Cost` and of `Limits` → field of `Quota`, and how it is called in a sentence
    "requests": ("rpm", "requests"),
    "tokens": ("tpm", "tokens"),
    "input_tokens": ("input_tpm", "input tokens"),
    "output_tokens": ("output_tpm", "output tokens"),
}


class Reservation(Struct, kw_only=True, eq=False):
    """A call that was let through, to be settled once. `waited` is in seconds, None when it did not wait."""

    cost: Cost
    at: float
    waited: float | None = None
    taken: dict[str, Taken] = field(default_factory=dict)
    settled: bool = False
    parts: tuple[Reservation, ...] = ()


class Snapshot(Struct, frozen=True, kw_only=True):
    """An account for `/health`: what may be used a minute and what is left, by dimension.

    `blocked` is how many seconds it still is, `reason` why; `violations` counts refusals, whoever refused.
    """

    limits: dict[str, float]
    levels: dict[str, float]
    in_flight: int
    concurrency: int | None
    queued: int
    blocked: float
    reason: str | None
    violations: dict[str, int]


class Account(Protocol):
    """What may be asked of an account, wherever it is kept. Times are in seconds of one clock."""

    async def reserve(
        self, cost: Cost, *, deadline: float | None = None, client: str = "", waiting: Waiting | None = None
    ) -> Reservation:
        """Lets a call through, at its turn. `client` says whose it is: clients take turns.

        Raises `UpstreamError` at once when it could not go before `deadline`, a moment of the clock, or
        before the account's own longest wait is over; and when it could never go.
        """

    async def settle(self, reservation: Reservation, spent: Cost) -> None:
        """Ends a call, however it ended: what it spent stands, the rest is free again. Once is enough."""

    async def block(self, seconds: float, reason: str) -> None:
        """Lets nobody through for so long: the provider refused a call. A shorter block changes nothing."""

    async def sync(self, limits: Limits, as_of: float) -> None:
        """Believes what the answer to a call sent at `as_of` says of the limits, where that is tighter."""

    async def eta(self, cost: Cost) -> float:
        """Seconds that a call would wait if it came now; infinite when it could never go."""

    @property
    def counts_tokens(self) -> bool:
        """Whether tokens are limited: if not, nobody needs to count them."""

    def snapshot(self) -> Snapshot:
        """How it is now."""


# ── the queue ──────────────────────────────────────────────────────────────────────────────────────────


class _Waiter:
    """One call in the queue."""

    __slots__ = ("client", "cost", "event", "until", "waiting")

    def __init__(self, cost: Cost, client: str, until: float, waiting: Waiting | None) -> None:
        self.cost, self.client, self.until, self.waiting = cost, client, until, waiting
        self.event = asyncio.Event()


class _Line:
    """Calls in the order in which they are served: clients take turns, each client's own are first come.

    The head stays the head until it leaves, whoever else comes.
    """

    def __init__(self) -> None:
        self._turns: OrderedDict[str, deque[_Waiter]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[_Waiter]:
        for line in self._turns.values():
            yield from line

    @property
    def head(self) -> _Waiter | None:
        return next(iter(self._turns.values()))[0] if self._turns else None

    def add(self, waiter: _Waiter) -> None:
        self._turns.setdefault(waiter.client, deque()).append(waiter)
        self._length += 1

    def leave(self, waiter: _Waiter, *, served: bool) -> None:
        """Takes it out. Once a client was served, all others have their turn first."""
        line = self._turns[waiter.client]
        line.remove(waiter)
        self._length -= 1
        if not line:
            del self._turns[waiter.client]
        elif served:
            self._turns.move_to_end(waiter.client)

    def before(self, waiter: _Waiter) -> list[Cost]:
        """What is served before it."""
        return self._before(waiter.client, self._turns[waiter.client].index(waiter))

    def before_newcomer(self, client: str) -> list[Cost]:
        """What would be served before one more call of `client`."""
        return self._before(client, len(self._turns.get(client, ())))

    def _before(self, client: str, place: int) -> list[Cost]:
        costs: list[Cost] = []
        rounds = place + 1
        for name, line in self._turns.items():
            if name == client:
                rounds = place
            costs += [waiter.cost for waiter in islice(line, rounds)]
        return costs


# ── the account ────────────────────────────────────────────────────────────────────────────────────────


class Limiter:
    """An account that is kept in this process. `name` is what refusals and the log call it."""

    def __init__(self, name: str, quota: Quota, clock: Clock, *, learns_only: bool = False) -> None:
        self.name = name
        self._learns_only = learns_only  # nobody set a limit: none is a reason to refuse for good
        self.violations: Counter[str] = Counter()
        self._quota = quota
        self._clock = clock
        self._buckets: dict[str, TokenBucket] = {}
        self._line = _Line()
        self._in_flight = 0
        self._cap = inf if quota.concurrency is None else float(quota.concurrency)
        self._hold: float | None = None  # seconds that a call is in flight, on average
        self._blocked_until = self._shrunk_until = -inf
        self._reason: str | None = None
        self._pacing: TokenBucket | None = None
        for dimension, (setting, _) in DIMENSIONS.items():
            limit = getattr(quota, setting)
            if limit is not None:
                # full from the first moment of the clock, which need not run yet
                self._buckets[dimension] = self._bucket(limit, 0.0, auto=quota.auto)

    def __repr__(self) -> str:
        levels = "".join(f" {name} {b!r}" for name, b in self._buckets.items())
        return f"<Limiter {self.name} {self._in_flight} in flight, {len(self._line)} queued{levels}>"

    @property
    def counts_tokens(self) -> bool:
        """As `Account` says."""
        return len(self._buckets) > ("requests" in self._buckets)

    @property
    def is_idle(self) -> bool:
        """Whether nothing would be lost with it but what can be learned again."""
        return not (self._in_flight or self._line or self.blocked)

    @property
    def is_adaptive(self) -> bool:
        """Whether refusals lower how many may be in flight."""
        return self._quota.adaptive

    @property
    def blocked(self) -> float:
        """Seconds until calls are let through again."""
        return max(0.0, self._blocked_until - self._clock.now())

    async def reserve(
        self, cost: Cost, *, deadline: float | None = None, client: str = "", waiting: Waiting | None = None
    ) -> Reservation:
        """Lets a call through, at its turn, as `Account` says. Raises `UpstreamError`."""
        now = self._clock.now()
        if not self._line and self._is_free and self._known(cost, (), now) <= 0:
            return self._admit(cost, now)
        self._check_size(cost)
        if len(self._line) >= self._quota.max_queue:
            ahead = self._line.before_newcomer(client)
            raise self._refusal("queue_full", "too many calls wait already", self._expected(cost, ahead, now))
        until = now + self._quota.max_wait
        waiter = _Waiter(cost, client, until if deadline is None else min(until, deadline), waiting)
        self._line.add(waiter)
        served = False
        try:
            await self._turn(waiter)
            served = True
            ended = self._clock.now()
            return self._admit(cost, ended, ended - now)
        finally:
            self._line.leave(waiter, served=served)
            self._wake()

    async def settle(self, reservation: Reservation, spent: Cost) -> None:
        """Ends a call: what it spent stands, the rest is free again. A second time changes nothing."""
        if reservation.settled:
            return
        reservation.settled = True
        now = self._clock.now()
        for dimension, taken in reservation.taken.items():
            self._buckets[dimension].settle(taken, getattr(spent, dimension), now)
        self._in_flight -= 1
        held = now - reservation.at
        self._hold = held if self._hold is None else self._hold + _HOLD_WEIGHT * (held - self._hold)
        if self._quota.concurrency is not None and self._cap < self._quota.concurrency:
            self._cap = min(self._quota.concurrency, self._cap + 1 / self._cap)
        self._wake()

    async def block(self, seconds: float, reason: str) -> None:
        """Lets nobody through for a while, as `Account` says."""
        self.close(seconds, reason)

    def close(self, seconds: float, reason: str) -> None:
        """The same, for who does not wait."""
        now = self._clock.now()
        self._violated(reason, f"refused a call, blocked for {seconds:.3g} s")
        if self._quota.adaptive:
            self.shrink()
        until = now + seconds + self._clock.random() * min(MOST_SPREAD, SPREAD * seconds)
        if until <= self._blocked_until:
            return
        self._blocked_until, self._reason = until, reason
        self._pacing = TokenBucket(60 * self._few, until, burst=1 / 60, mirrors=True)
        for waiter in self._line:
            waiter.event.set()

    def shrink(self) -> None:
        """Lets half as many be in flight, once for all refusals of a moment."""
        now = self._clock.now()
        if now >= self._shrunk_until:
            self._shrunk_until = now + SHRINK_SECONDS
            self._cap = max(1.0, min(self._cap, max(self._in_flight, 1)) / 2)

    async def sync(self, limits: Limits, as_of: float) -> None:
        """Believes the provider's headers where they are tighter. A limit that nobody set is learned."""
        now = self._clock.now()
        for dimension in DIMENSIONS:
            window: Window | None = getattr(limits, dimension)
            if window is None:
                continue
            bucket = self._buckets.get(dimension)
            if bucket is None:
                if not window.limit or window.limit < 0:
                    continue
                bucket = self._buckets[dimension] = self._bucket(window.limit, now, auto=True)
            bucket.sync(window.remaining, window.limit, now, reset=window.reset, as_of=as_of)
        self._wake()

    async def eta(self, cost: Cost) -> float:
        """Seconds that a call would wait if it came now; infinite when it could never go."""
        return self._expected(cost, self._line.before_newcomer(""), self._clock.now())

    def snapshot(self) -> Snapshot:
        """How it is now."""
        now = self._clock.now()
        blocked = max(0.0, self._blocked_until - now)
        return Snapshot(
            limits={name: bucket.limit for name, bucket in self._buckets.items()},
            levels={name: bucket.level(now) for name, bucket in self._buckets.items()},
            in_flight=self._in_flight,
            concurrency=None if self._cap == inf else int(self._cap),
            queued=len(self._line),
            blocked=blocked,
            reason=self._reason if blocked else None,
            violations=dict(self.violations),
        )

    # ── letting through ────────────────────────────────────────────────────────────────────────────────

    @property
    def _is_free(self) -> bool:
        return self._in_flight + 1 <= self._cap

    @property
    def _few(self) -> float:
        """How many calls go at once after a block."""
        requests = self._buckets.get("requests")
        many = requests.limit if requests is not None else self._cap if self._cap < inf else CONCURRENCY
        return max(1.0, SMOOTH * many)

    def _bucket(self, limit: float, now: float, *, auto: bool) -> TokenBucket:
        quota = self._quota
        return TokenBucket(limit, now, burst=quota.burst, mirrors=quota.mirrors, auto=auto)

    def _admit(self, cost: Cost, now: float, waited: float | None = None) -> Reservation:
        self._in_flight += 1
        taken = {name: b.take(getattr(cost, name), now) for name, b in self._buckets.items()}
        if self._pacing is not None:
            self._pacing.take(1, now)
        return Reservation(cost=cost, at=now, waited=waited, taken=taken)

    def _known(self, cost: Cost, before: Sequence[Cost], now: float) -> float:
        """Seconds until limits and blocks let `cost` through after what is `before` it."""
        wait = self._blocked_until - now
        if wait < -PACED_SECONDS:
            self._pacing = None
        if self._pacing is not None:
            free_at = max(now, self._blocked_until)
            wait = max(wait, free_at - now + self._pacing.wait_for(1, free_at, len(before)))
        for name, bucket in self._buckets.items():
            ahead = sum(getattr(other, name) for other in before) if before else 0
            wait = max(wait, bucket.wait_for(getattr(cost, name), now, ahead))
        return wait

    def _expected(self, cost: Cost, before: list[Cost], now: float) -> float:
        """Seconds until `cost` goes, with a guess at how soon calls in flight make room."""
        too_many = self._in_flight + len(before) + 1 - self._cap
        hold = FULL_WAIT * self._cap if self._hold is None else self._hold
        guess = too_many * hold / self._cap if too_many > 0 else 0.0
        return max(0.0, guess, self._known(cost, before, now))

    # ── waiting ────────────────────────────────────────────────────────────────────────────────────────

    async def _turn(self, waiter: _Waiter) -> None:
        """Returns when it is this one's turn. Raises `UpstreamError` as soon as it cannot be in time."""
        now = self._clock.now()
        wait = self._known(waiter.cost, self._line.before(waiter), now)
        while True:
            is_head = self._line.head is waiter
            if is_head and wait <= 0 and self._is_free:
                return
            left = waiter.until - now
            if left <= 0 or wait > left:
                self._check_size(waiter.cost)
                seconds = max(wait, self._expected(waiter.cost, self._line.before(waiter), now))
                raise self._refusal("wait_too_long", "this call would wait too long", seconds)
            pause = min(left, wait) if is_head and wait > 0 else left
            if waiter.waiting is not None:
                before = self._line.before(waiter)
                waiter.waiting(len(before) + 1, self._expected(waiter.cost, before, now))
                pause = min(pause, TELL_SECONDS)
            waiter.event.clear()
            await self._clock.wait(waiter.event, max(SHORTEST_PAUSE, pause))
            now = self._clock.now()
            if self._line.head is waiter:
                wait = self._known(waiter.cost, (), now)
            else:  # what those before it need was looked at when it came; only a block is news
                wait = self._blocked_until - now

    def _wake(self) -> None:
        if self._line and (head := self._line.head):
            head.event.set()

    # ── refusing ───────────────────────────────────────────────────────────────────────────────────────

    def _check_size(self, cost: Cost) -> None:
        """Raises `UpstreamError` for what is more than a whole limit: it could never go."""
        for name, bucket in () if self._learns_only else self._buckets.items():
            amount = getattr(cost, name)
            if amount > bucket.limit:
                _, words = DIMENSIONS[name]
                message = (
                    f"this call is estimated at {amount} {words}, and {self.name} may use "
                    f"{bucket.limit:g} a minute"
                )
                self._violated("too_large", message)
                # as a kind that other targets are tried after; for the client it is the size all the same
                raise UpstreamError(
                    ErrorKind.UNSUPPORTED, message, hop="gateway", status=413, code="request_too_large"
                )

    def _refusal(self, reason: str, words: str, seconds: float) -> UpstreamError:
        seconds = seconds if seconds > 0 else UNKNOWN_WAIT
        self._violated(reason, f"{words} ({seconds:.3g} s)")
        is_spent = self._reason == ErrorKind.QUOTA and self._blocked_until > self._clock.now()
        kind = ErrorKind.QUOTA if is_spent else ErrorKind.RATE_LIMIT
        what = "has no quota left" if is_spent else "is at its limit"
        message = f"{self.name} {what}: {words} ({seconds:.0f} s)"
        return UpstreamError(kind, message, hop="gateway", retry_after=seconds)

    def _violated(self, reason: str, words: str) -> None:
        self.violations[reason] += 1
        log.warning("%s: %s: %s", self.name, reason, words)


class _Both:
    """The account of one model within that of its key.

    `own` learns limits and is blocked, `whole` has what is set and the calls in flight.
    """

    def __init__(self, own: Limiter, whole: Limiter) -> None:
        self._own = own
        self._whole = whole

    @property
    def counts_tokens(self) -> bool:
        return self._own.counts_tokens or self._whole.counts_tokens

    async def reserve(
        self, cost: Cost, *, deadline: float | None = None, client: str = "", waiting: Waiting | None = None
    ) -> Reservation:
        own = await self._own.reserve(cost, deadline=deadline, client=client, waiting=waiting)
        try:
            whole = await self._whole.reserve(cost, deadline=deadline, client=client, waiting=waiting)
        except BaseException:
            await self._own.settle(own, NOTHING)
            raise
        waits = [part.waited for part in (own, whole) if part.waited is not None]
        return Reservation(cost=cost, at=own.at, waited=sum(waits) if waits else None, parts=(own, whole))

    async def settle(self, reservation: Reservation, spent: Cost) -> None:
        own, whole = reservation.parts
        await self._own.settle(own, spent)
        await self._whole.settle(whole, spent)

    async def block(self, seconds: float, reason: str) -> None:
        self._own.close(seconds, reason)
        if self._whole.is_adaptive:
            self._whole.shrink()

    async def sync(self, limits: Limits, as_of: float) -> None:
        await self._own.sync(limits, as_of)

    async def eta(self, cost: Cost) -> float:
        return max(await self._own.eta(cost), await self._whole.eta(cost))

    def snapshot(self) -> Snapshot:
        return self._own.snapshot()


class Accounts:
    """The accounts of one provider and key.

    What is set holds for all models together, as do the calls in flight; models that match a pattern of
    `classes` (the shell's, `gpt-5*`, the first that matches counts) have an account apart. What is learned
    from headers, and a refusal, is each model's own: providers count so.
    """

    def __init__(
        self,
        name: str,
        quota: Quota,
        clock: Clock,
        classes: Mapping[str, Quota] | None = None,
        *,
        max_models: int = MAX_MODELS,
    ) -> None:
        self._name = name
        self._clock = clock
        self._max_models = max_models
        self._learning = Quota(
            concurrency=None, mirrors=True, auto=True, max_queue=quota.max_queue, max_wait=quota.max_wait
        )
        self._rest = Limiter(name, quota, clock)
        self._classes = {
            pattern: Limiter(f"{name}/{pattern}", own, clock) for pattern, own in (classes or {}).items()
        }
        self._models: OrderedDict[str, Limiter] = OrderedDict()

    def __call__(self, model: str) -> Account:
        """The account that calls to `model` go on."""
        for pattern, limiter in self._classes.items():
            if fnmatchcase(model, pattern):
                return limiter
        own = self._models.get(model)
        if own is None:
            own = self._new(model)
        else:
            self._models.move_to_end(model)
        return self._rest if own is None else _Both(own, self._rest)

    def close(self, seconds: float, reason: str) -> None:
        """Lets nobody through, whatever the model: what is spent is spent for all of them."""
        for limiter in self._all():
            limiter.close(seconds, reason)

    def snapshot(self) -> dict[str, Snapshot]:
        """How they are now, by name, for `/health`."""
        return {limiter.name: limiter.snapshot() for limiter in self._all()}

    def _all(self) -> list[Limiter]:
        return [self._rest, *self._classes.values(), *self._models.values()]

    def _new(self, model: str) -> Limiter | None:
        """What is learned of a model, as long as there is room: names of models come from clients."""
        if len(self._models) >= self._max_models:
            idle = next((name for name, limiter in self._models.items() if limiter.is_idle), None)
            if idle is None:
                return None
            del self._models[idle]
        own = Limiter(f"{self._name}/{model}", self._learning, self._clock, learns_only=True)
        self._models[model] = own
        return own
