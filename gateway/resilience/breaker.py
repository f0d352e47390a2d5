"""Circuit breakers: a target that keeps failing is left alone for a while, then asked by one call at a time.

Three parts, each on top of the one before. `CircuitBreaker` is one state machine: time is an argument of
every method, chance one of the constructor, and everything that changes its state stands in it. `Circuits`
are the breakers of one provider: its own, and one for each model. `CircuitBreaking` is the layer that asks
them around an `Open`. Which failure counts where is not decided here: that is handed in as `level_of`.
One event loop: nothing here waits between looking and acting.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from enum import StrEnum
from functools import partial
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from ..chat import ChatRequest, Chunk, Usage
from ..errors import ErrorKind, Level, UpstreamError
from ..exchange import Exchange, Open, Target
from ..limits import Limits
from .clock import Clock

log = logging.getLogger("gateway.resilience")

LONGEST_OPEN = 3600.0
"""Seconds, but for jitter, that a circuit is open at most: nothing is given up for good."""
LONGEST_ASKED = 600.0
"""Seconds for which a failing provider's own word keeps the probe back, at most."""
MOST_REOPENINGS = 100
"""How many of them make the next time longer: no number gets too large for a float."""
MAX_MODELS = 1000
"""Breakers that one provider's models have at most: clients choose the names."""
RATE_SLOTS = 12
"""Parts of `rate_window` that are counted as one, and forgotten as one."""
CIRCUIT_OPEN = "circuit_open"
"""The code of the error that a call gets which is not made."""

_Positive = Annotated[float, Meta(gt=0, le=86_400)]


class BreakerPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """When a circuit opens, and for how long; times in seconds.

    It opens at `failures` in a row, for `open_seconds` give or take the share `jitter`; each further time
    that it opens before an answer was whole takes `reopen_factor` times as long. With a `rate_threshold` it
    opens as well when that share of at least `rate_min_calls` calls within `rate_window` failed. A probe
    that has no verdict after `probe_lease` no longer keeps the next one from going.
    """

    failures: Annotated[int, Meta(ge=1)] = 3
    open_seconds: Annotated[float, Meta(gt=0, le=LONGEST_OPEN)] = 60.0
    jitter: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    reopen_factor: Annotated[float, Meta(ge=1, le=100)] = 1.0
    rate_threshold: Annotated[float, Meta(gt=0, le=1)] | None = None
    rate_window: _Positive = 60.0
    rate_min_calls: Annotated[int, Meta(ge=1)] = 20
    probe_lease: _Positive = 10.0


class State(StrEnum):
    """What a circuit does with a call: make it, refuse it, make one to see."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


Changed: TypeAlias = Callable[[State, State, str], None]
"""Is told of a change once it has happened: the old state, the new one, why."""


class BreakerSnapshot(Struct, frozen=True, kw_only=True):
    """A breaker as `/health` shows it.

    `failures` in a row; `retry_in` seconds until the next call may go, None while all may; `reason` of the
    last failure, None after a whole answer; `changed_ago` in seconds, None when it never changed.
    """

    state: State
    failures: int
    retry_in: float | None
    reason: str | None
    changed_ago: float | None


# ── one breaker ────────────────────────────────────────────────────────────────────────────────────────

_SPENT = -1


class Permit:
    """Leave to make one call. Good for one verdict, which counts as long as the circuit did not change."""

    __slots__ = ("generation", "is_probe")

    def __init__(self, generation: int, *, is_probe: bool = False) -> None:
        self.generation = generation
        self.is_probe = is_probe

    def __repr__(self) -> str:
        return f"<Permit {'probe ' if self.is_probe else ''}of generation {self.generation}>"


class CircuitBreaker:
    """One circuit. `now` is in seconds on a clock that only goes forward; `random` gives 0 up to 1.

    =========  ================  =================  ================  ===================  ==============
    state      admit             first_content      succeeded         failed               abandoned
    =========  ================  =================  ================  ===================  ==============
    CLOSED     a permit                             failures = 0      one more; OPEN when
                                                                      that is enough
    OPEN       None until due,
               then HALF_OPEN
               with the probe
    HALF_OPEN  None while the    CLOSED, with one   CLOSED, with no   OPEN                 the next probe
               probe is out,     failure less than  failures                               may go
               else the probe    is enough
    =========  ================  =================  ================  ===================  ==============

    A change of state starts a new generation, and what permits of an earlier one tell is ignored; only the
    permit whose first content closed the circuit comes along, since how its answer ends is about the new
    state. That a first content closes at all is for long answers, which must not keep others waiting; that
    it resets no failures is for providers that always die right after it.

    A probe whose lease ran out is no longer waited for, but it is still of this generation: what it brings
    counts. Else one that is slower than its lease could never close the circuit while others keep coming.
    """

    def __init__(
        self,
        policy: BreakerPolicy,
        random: Callable[[], float],
        changed: Changed = lambda _old, _new, _reason: None,
    ) -> None:
        self._policy = policy
        self._random = random
        self._changed = changed
        self._state = State.CLOSED
        self._generation = 0
        self._failures = 0
        self._openings = 0  # since an answer was whole
        self._until = 0.0  # OPEN: when the first probe may go; HALF_OPEN: when the probe's lease ends
        self._asked_until = 0.0  # the longest wait that a failure asked for
        self._probe: Permit | None = None
        self._reason: str | None = None
        self._changed_at: float | None = None
        self._rate = None if policy.rate_threshold is None else FailureRate(policy.rate_window)

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self._state} {self._failures} failures>"

    def admit(self, now: float) -> Permit | None:
        """Leave for one call, None when it may not be made. Every permit wants its verdict."""
        if self._state is State.CLOSED:
            return Permit(self._generation)
        if self.retry_at(now) > now:
            return None
        if self._state is State.OPEN:
            self._change(State.HALF_OPEN, now, "a probe goes to see whether it answers again")
        self._until = now + self._policy.probe_lease
        self._probe = Permit(self._generation, is_probe=True)
        return self._probe

    def retry_at(self, now: float) -> float:
        """When the next call may go: `now` when it may at once.

        While a probe is out that is the end of its lease, though its answer may come before.
        """
        return now if self._state is State.CLOSED else max(now, self._until)

    def first_content(self, permit: Permit, now: float) -> None:
        """The call's answer began. It still wants its verdict."""
        if permit.generation == self._generation and self._state is State.HALF_OPEN:
            self._failures = self._policy.failures - 1
            self._change(State.CLOSED, now, "the probe's answer began")
            permit.generation = self._generation

    def succeeded(self, permit: Permit, now: float) -> None:
        """The call's answer is whole."""
        if not self._accepts(permit):
            return
        if self._state is State.HALF_OPEN:
            self._change(State.CLOSED, now, "the probe was answered")
        self._failures = self._openings = 0
        self._asked_until = 0.0
        self._reason = None
        if self._rate is not None:
            self._rate.add(now, failed=False)

    def failed(self, permit: Permit, now: float, reason: str, wait: float = 0.0) -> None:
        """The call failed for `reason`, in a few words; `wait` is how many seconds the other side asks for.

        Of several such waits the longest counts, and a circuit that opens stays open until it is over.
        """
        if not self._accepts(permit):
            return
        self._failures += 1
        self._reason = reason
        self._asked_until = max(self._asked_until, now + min(wait, LONGEST_ASKED))
        if self._rate is not None:
            self._rate.add(now, failed=True)
        if (cause := self._cause(now)) is not None:
            self._open(now, f"{cause}: {reason}")

    def abandoned(self, permit: Permit, now: float) -> None:
        """The call ended without telling anything of the other side. After a verdict this does nothing."""
        if self._accepts(permit) and permit is self._probe:
            self._until = now

    def state(self, now: float) -> State:
        """What a call at `now` would meet: a circuit that is due for its probe is half-open."""
        if self._state is State.OPEN and self._until <= now:
            return State.HALF_OPEN
        return self._state

    def is_blank(self, now: float) -> bool:
        """Whether it knows of no failure, so that a new one would do as well."""
        if self._rate is not None and self._rate.counts(now)[1]:
            return False
        return self._state is State.CLOSED and self._failures == 0

    def snapshot(self, now: float) -> BreakerSnapshot:
        """How it is at `now`."""
        return BreakerSnapshot(
            state=self.state(now),
            failures=self._failures,
            retry_in=None if self._state is State.CLOSED else self.retry_at(now) - now,
            reason=self._reason,
            changed_ago=None if self._changed_at is None else now - self._changed_at,
        )

    def _accepts(self, permit: Permit) -> bool:
        """Whether this permit's verdict counts. No further one does."""
        is_current = permit.generation == self._generation
        permit.generation = _SPENT
        return is_current

    def _cause(self, now: float) -> str | None:
        """Why the circuit has to open after a failure, None when it has not to."""
        policy = self._policy
        if self._state is State.HALF_OPEN:
            return "the probe failed"
        if self._failures >= policy.failures:
            return "failed again" if self._openings else f"{self._failures} failures in a row, the last one"
        if self._rate is None or policy.rate_threshold is None:
            return None
        calls, failures = self._rate.counts(now)
        if calls < policy.rate_min_calls or failures < policy.rate_threshold * calls:
            return None
        return f"{failures} of {calls} calls failed, the last one"

    def _open(self, now: float, reason: str) -> None:
        policy = self._policy
        longer = policy.reopen_factor ** min(self._openings, MOST_REOPENINGS)
        seconds = min(policy.open_seconds * longer, LONGEST_OPEN)
        seconds *= 1 + policy.jitter * (2 * self._random() - 1)
        self._openings += 1
        self._until = max(now + seconds, self._asked_until)
        self._change(State.OPEN, now, reason)

    def _change(self, new: State, now: float, reason: str) -> None:
        old, self._state = self._state, new
        self._generation += 1
        self._changed_at = now
        self._probe = None
        if self._rate is not None:
            self._rate.clear()
        self._changed(old, new, reason)


class FailureRate:
    """Calls and failures of the last `window` seconds, to a part of it: whole slots are forgotten."""

    __slots__ = ("_seconds", "_slots")

    def __init__(self, window: float) -> None:
        self._seconds = window / RATE_SLOTS
        self._slots: OrderedDict[int, tuple[int, int]] = OrderedDict()

    def add(self, now: float, *, failed: bool) -> None:
        """Counts one call."""
        slot = self._forget(now)
        calls, failures = self._slots.get(slot, (0, 0))
        self._slots[slot] = (calls + 1, failures + failed)

    def counts(self, now: float) -> tuple[int, int]:
        """How many calls there were, and how many of them failed."""
        self._forget(now)
        return sum(calls for calls, _ in self._slots.values()), sum(f for _, f in self._slots.values())

    def clear(self) -> None:
        """Starts anew."""
        self._slots.clear()

    def _forget(self, now: float) -> int:
        """Drops the slots that are too old; returns the present one."""
        slot = int(now // self._seconds)
        while self._slots and next(iter(self._slots)) <= slot - RATE_SLOTS:
            self._slots.popitem(last=False)
        return slot


# ── the breakers of one provider ───────────────────────────────────────────────────────────────────────

"""Whose failure it is: nobody's here, one model's, or that of the provider, which could not be reached."""


class CircuitsSnapshot(Struct, frozen=True):
    """A provider's breakers as `/health` shows them: of the models, those that failed of late."""

    provider: BreakerSnapshot
    models: dict[str, BreakerSnapshot]


class Attempt:
    """One call that was admitted at both levels. `is_probe`: at one of them it is the one that goes to see.

    Content, and the answer's end, are told to both; a failure to its own level, while the other one gets
    its permit back. Once the answer has begun the provider was reached: what fails then is the model's.
    """

    __slots__ = ("_begun", "_model", "_model_permit", "_provider", "_provider_permit", "is_probe")

    def __init__(self, provider: CircuitBreaker, model: CircuitBreaker, now: float) -> None:
        provider_permit, model_permit = provider.admit(now), model.admit(now)
        assert provider_permit is not None
        assert model_permit is not None
        self._provider, self._provider_permit = provider, provider_permit
        self._model, self._model_permit = model, model_permit
        self._begun = False
        self.is_probe = provider_permit.is_probe or model_permit.is_probe

    def first_content(self, now: float) -> None:
        """Its answer began."""
        self._begun = True
        self._provider.first_content(self._provider_permit, now)
        self._model.first_content(self._model_permit, now)

    def succeeded(self, now: float) -> None:
        """Its answer is whole."""
        self._provider.succeeded(self._provider_permit, now)
        self._model.succeeded(self._model_permit, now)

    def failed(self, level: Level, now: float, reason: str, wait: float = 0.0) -> None:
        """It failed at `level`; the rest is as in `CircuitBreaker.failed`."""
        if level == "provider" and not self._begun:
            self._provider.failed(self._provider_permit, now, reason, wait)
        elif level != "none":
            self._model.failed(self._model_permit, now, reason, wait)
        self.abandoned(now)

    def abandoned(self, now: float) -> None:
        """It ended without a verdict. After a verdict this does nothing."""
        self._provider.abandoned(self._provider_permit, now)
        self._model.abandoned(self._model_permit, now)


NameChanged: TypeAlias = Callable[[str, State, State, str], None]
"""`Changed` with the name of what changed before it: "provider" or "provider/model"."""

_LOG_LEVELS = {State.CLOSED: logging.INFO, State.OPEN: logging.WARNING, State.HALF_OPEN: logging.INFO}


def log_change(name: str, old: State, new: State, reason: str) -> None:
    """A line in the log for each change."""
    log.log(_LOG_LEVELS[new], "circuit of %s: %s, was %s: %s", name, new, old, reason)


class Circuits:
    """The breakers of one provider: its own, and one for each of the last `max_models` models.

    Clients choose the models' names, so a new name must not cost what is known of others. For room the least
    recently used model goes that has nothing to forget; else one that is closed; else one that is due for its
    probe. An open circuit is never given up before that: when all are open, a new model goes unwatched.
    """

    def __init__(
        self,
        provider: str,
        policy: BreakerPolicy,
        random: Callable[[], float],
        *,
        changed: NameChanged = log_change,
        max_models: int = MAX_MODELS,
    ) -> None:
        self._name = provider
        self._policy = policy
        self._random = random
        self._changed = changed
        self._max_models = max_models
        self._provider = self._new(provider)
        self._models: OrderedDict[str, CircuitBreaker] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Circuits {self._provider!r} {len(self._models)} models>"

    def admit(self, model: str, now: float) -> Attempt:
        """One call to `model`, which wants its verdict.

        Raises `UpstreamError` with the code `circuit_open` when it may not be made; `retry_after` is when.
        """
        known = self._models.get(model)
        refusing = self._latest(known, now)
        if refusing.retry_at(now) > now:
            raise self._refusal(model, refusing, now)
        return Attempt(self._provider, self._kept(model, known, now), now)

    def retry_in(self, model: str, now: float) -> float:
        """Seconds until a call to `model` may go, 0 when it may at once."""
        return self._latest(self._models.get(model), now).retry_at(now) - now

    def state(self, model: str, now: float) -> State:
        """What a call to `model` would meet at `now`; HALF_OPEN and 0 seconds left: it would be the probe."""
        known = self._models.get(model)
        states = {self._provider.state(now), State.CLOSED if known is None else known.state(now)}
        return next(state for state in (State.OPEN, State.HALF_OPEN, State.CLOSED) if state in states)

    def snapshot(self, now: float) -> CircuitsSnapshot:
        """How they are at `now`."""
        models = {name: b.snapshot(now) for name, b in self._models.items() if not b.is_blank(now)}
        return CircuitsSnapshot(self._provider.snapshot(now), models)

    def _new(self, name: str) -> CircuitBreaker:
        return CircuitBreaker(
            self._policy, self._random, lambda old, new, reason: self._changed(name, old, new, reason)
        )

    def _latest(self, known: CircuitBreaker | None, now: float) -> CircuitBreaker:
        """Of a model's breaker and its provider's the one that lets a call through later."""
        if known is None or known.retry_at(now) <= self._provider.retry_at(now):
            return self._provider
        return known

    def _kept(self, model: str, known: CircuitBreaker | None, now: float) -> CircuitBreaker:
        """The breaker of `model`, the last to go now; a new one when it is not known."""
        if known is not None:
            self._models.move_to_end(model)
            return known
        breaker = self._new(str(Target(self._name, model)))
        if self._has_room(now):
            self._models[model] = breaker
        return breaker

    def _has_room(self, now: float) -> bool:
        if len(self._models) < self._max_models:
            return True
        for may_go in _EXPENDABLE:
            for model, breaker in self._models.items():
                if may_go(breaker, now):
                    del self._models[model]
                    return True
        return False

    def _refusal(self, model: str, refusing: CircuitBreaker, now: float) -> UpstreamError:
        seconds = refusing.retry_at(now) - now
        what = self._name if refusing is self._provider else str(Target(self._name, model))
        reason = refusing.snapshot(now).reason
        return UpstreamError(
            ErrorKind.UNAVAILABLE,
            f"{what} keeps failing ({reason}) and is not asked for another {seconds:.1f} s",
            hop="gateway",
            code=CIRCUIT_OPEN,
            retry_after=seconds,
        )


_EXPENDABLE: tuple[Callable[[CircuitBreaker, float], bool], ...] = (
    lambda breaker, now: breaker.is_blank(now),
    lambda breaker, now: breaker.state(now) is State.CLOSED,
    lambda breaker, now: breaker.retry_at(now) <= now,
)
"""What goes for the room of a new model: the first kind there is of, the least recently used of it."""


# ── the layer ──────────────────────────────────────────────────────────────────────────────────────────


class Guarded(Exchange):
    """An exchange whose end is told to `finish`. What changes meanwhile is looked up when it is asked for."""

    def __init__(self, inner: Exchange, finish: Callable[[UpstreamError | None], None]) -> None:
        self.target, self.timings, self.attempts = inner.target, inner.timings, inner.attempts
        self._inner = inner
        self._finish = finish

    @property
    def usage(self) -> Usage | None:
        return self._inner.usage

    @usage.setter
    def usage(self, usage: Usage | None) -> None:
        self._inner.usage = usage

    @property
    def dropped(self) -> tuple[str, ...]:
        return self._inner.dropped

    @dropped.setter
    def dropped(self, dropped: tuple[str, ...]) -> None:
        self._inner.dropped = dropped

    @property
    def limits(self) -> Limits | None:
        return self._inner.limits

    @limits.setter
    def limits(self, limits: Limits | None) -> None:
        self._inner.limits = limits

    async def read(self) -> list[Chunk]:
        try:
            batch = await self._inner.read()
        except UpstreamError as error:
            self._finish(error)
            raise
        if not batch:
            self._finish(None)
        return batch


class CircuitBreaking:
    """The layer around one provider's `open`: calls that would only fail again are not made.

    What counts as a failure, and whose it is, stands in `errors.POLICY`. No failure is a client
    that leaves, whatever cancels the call, and any exception of another type, which is our own bug: they give
    the permit back without a verdict. `probing` is opened instead of `inner` for a probe: the same target
    with less patience, since a first byte that comes after `probe_lease` is waited for by nobody else.
    """

    def __init__(
        self,
        inner: Open,
        circuits: Circuits,
        clock: Clock,
        *,
        probing: Open | None = None,
    ) -> None:
        self._inner = inner
        self._probing = inner if probing is None else probing
        self._circuits = circuits
        self._clock = clock

    def __repr__(self) -> str:
        return f"<CircuitBreaking {self._circuits!r}>"

    @asynccontextmanager
    async def __call__(self, request: ChatRequest) -> AsyncIterator[Exchange]:
        """The inner answer. Raises `UpstreamError`; as `Circuits.admit` does, for a call that is not made."""
        attempt = self._circuits.admit(request.model, self._clock.now())
        finish = partial(self._finish, attempt)
        open_ = self._probing if attempt.is_probe else self._inner
        async with AsyncExitStack() as stack:
            stack.callback(lambda: attempt.abandoned(self._clock.now()))
            try:
                exchange = await stack.enter_async_context(open_(request))
            except UpstreamError as error:
                finish(error)
                raise
            attempt.first_content(self._clock.now())
            yield Guarded(exchange, finish)

    def retry_in(self, model: str) -> float:
        """Seconds until a call to `model` may go, 0 when it may at once."""
        return self._circuits.retry_in(model, self._clock.now())

    def state(self, model: str) -> State:
        """What a call to `model` would meet now."""
        return self._circuits.state(model, self._clock.now())

    def snapshot(self) -> CircuitsSnapshot:
        """How the breakers are now, for `/health`."""
        return self._circuits.snapshot(self._clock.now())

    def _finish(self, attempt: Attempt, error: UpstreamError | None) -> None:
        now = self._clock.now()
        if error is None:
            attempt.succeeded(now)
        else:
            attempt.failed(error.level, now, _reason(error), error.retry_after or 0.0)


def _reason(error: UpstreamError) -> str:
    """The failure in a word: what a provider says may be about one client and is shown to others."""
    return str(error.kind) if error.upstream_status is None else f"{error.kind} {error.upstream_status}"
