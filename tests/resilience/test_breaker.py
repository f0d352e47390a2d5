"""Circuit breakers: the transitions one by one and in any order, bounds, and the layer in every outcome."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from gateway.chat import ChatRequest, Chunk, Usage
from gateway.errors import ErrorKind, Level, UpstreamError
from gateway.exchange import Exchange, Target, Timings
from gateway.limits import Limits
from gateway.resilience import breaker as module
from gateway.resilience.breaker import (
    Attempt,
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreaking,
    Circuits,
    FailureRate,
    Permit,
    State,
)

from ..fakes import FakeExchange, FakeOpen, chat
from .fakes import FakeClock

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN
EXACT = BreakerPolicy(jitter=0.0)


def new(**policy: Any) -> CircuitBreaker:
    return CircuitBreaker(BreakerPolicy(**{"jitter": 0.0, **policy}), lambda: 0.5)


def admitted(breaker: CircuitBreaker, now: float) -> Permit:
    permit = breaker.admit(now)
    assert permit is not None
    return permit


def fail(breaker: CircuitBreaker, now: float, times: int = 1, wait: float = 0.0) -> None:
    for permit in [admitted(breaker, now) for _ in range(times)]:
        breaker.failed(permit, now, "server 500", wait)


def succeed(breaker: CircuitBreaker, now: float) -> None:
    breaker.succeeded(admitted(breaker, now), now)


def half_open(**policy: Any) -> tuple[CircuitBreaker, Permit]:
    """A breaker that opened at 0 and whose probe went at 60."""
    breaker = new(**policy)
    fail(breaker, 0, 3)
    return breaker, admitted(breaker, 60)


# ── transitions, one by one ────────────────────────────────────────────────────────────────────────────


PLAYS = {
    # verdicts of calls made one after the other, a second apart                state   failures
    "": (CLOSED, 0),
    "FF": (CLOSED, 2),
    "FFF": (OPEN, 3),
    "FFSFF": (CLOSED, 2),  # a whole answer resets
    "FFCF": (OPEN, 3),  # one that only began does not
    "FFAF": (OPEN, 3),  # nor does one without a verdict
    "AAAAAA": (CLOSED, 0),  # which is no failure either
    "DDD": (OPEN, 3),  # a provider that always dies after its first content
    "DDSD": (CLOSED, 1),
}
VERDICTS: dict[str, Callable[[CircuitBreaker, Permit, float], None]] = {
    "F": lambda b, p, now: b.failed(p, now, "x"),
    "S": lambda b, p, now: (b.first_content(p, now), b.succeeded(p, now))[1],
    "C": lambda b, p, now: (b.first_content(p, now), b.abandoned(p, now))[1],
    "D": lambda b, p, now: (b.first_content(p, now), b.failed(p, now, "x"))[1],
    "A": lambda b, p, now: b.abandoned(p, now),
}


@pytest.mark.parametrize("play", PLAYS)
def test_from_closed(play: str):
    breaker = new()
    for now, verdict in enumerate(play):
        VERDICTS[verdict](breaker, admitted(breaker, now), now)
    shown = breaker.snapshot(len(play))
    assert (shown.state, shown.failures) == PLAYS[play]


@pytest.mark.parametrize(
    ("verdict", "state", "failures", "admits"),
    [
        ("S", CLOSED, 0, True),
        ("C", CLOSED, 2, True),
        ("F", OPEN, 4, False),
        ("D", OPEN, 3, False),  # one failure after the probe's content is enough
        ("A", HALF_OPEN, 3, True),  # the next probe may go
    ],
)
def test_from_half_open(verdict: str, state: State, failures: int, admits: bool):
    breaker, probe = half_open()
    VERDICTS[verdict](breaker, probe, 61)
    shown = breaker.snapshot(61)
    assert (shown.state, shown.failures) == (state, failures)
    assert (breaker.admit(61) is not None) is admits


def test_an_open_circuit_admits_nobody_until_it_is_due_and_then_one():
    breaker = new()
    fail(breaker, 0, 3)
    assert breaker.admit(59.999) is None
    assert (breaker.state(59.999), breaker.retry_at(59.999)) == (OPEN, 60)
    assert (breaker.state(60), breaker.retry_at(60)) == (HALF_OPEN, 60)
    assert admitted(breaker, 60).is_probe
    assert not admitted(new(), 60).is_probe


def test_of_a_hundred_at_half_open_exactly_one_goes():
    breaker = new()
    fail(breaker, 0, 3)
    permits = [breaker.admit(60) for _ in range(100)]
    assert [permit is None for permit in permits] == [False] + [True] * 99


def test_the_lease_of_a_probe_that_hangs_ends_by_itself():
    breaker, first = half_open()
    assert (breaker.admit(69.9), breaker.retry_at(69.9)) == (None, 70)
    second = admitted(breaker, 70)
    assert second.is_probe
    breaker.abandoned(first, 71)  # its lease is not the second one's
    assert breaker.admit(71) is None
    breaker.abandoned(second, 72)
    assert breaker.admit(72) is not None


def test_a_probe_that_is_slower_than_its_lease_still_closes():
    """Else a model that is slow to begin would never come back while others keep asking."""
    breaker, first = half_open()
    second = admitted(breaker, 70)
    breaker.first_content(first, 75)
    assert breaker.state(75) is CLOSED
    breaker.failed(second, 76, "x")  # it went before the circuit closed
    assert breaker.state(76) is CLOSED
    breaker.succeeded(first, 77)
    assert breaker.snapshot(77).failures == 0


def test_the_first_of_two_probes_that_fails_opens_again():
    breaker, first = half_open()
    second = admitted(breaker, 70)
    breaker.failed(first, 75, "x")
    breaker.first_content(second, 76)
    assert (breaker.state(76), breaker.retry_at(76)) == (OPEN, 135)


def test_results_of_calls_from_before_a_change_are_ignored():
    breaker = new()
    early = [admitted(breaker, 0) for _ in range(9)]
    for permit in early[:3]:
        breaker.failed(permit, 0, "x")
    for permit, verdict in zip(early[3:6], "FSD", strict=True):
        VERDICTS[verdict](breaker, permit, 1)
    assert (breaker.state(1), breaker.retry_at(1), breaker.snapshot(1).failures) == (OPEN, 60, 3)
    probe = admitted(breaker, 60)
    for permit, verdict in zip(early[6:], "FSA", strict=True):
        VERDICTS[verdict](breaker, permit, 61)
    assert (breaker.state(61), breaker.admit(61)) == (HALF_OPEN, None)
    breaker.first_content(probe, 62)
    assert breaker.state(62) is CLOSED


def test_a_permit_is_good_for_one_verdict():
    breaker = new()
    permit = admitted(breaker, 0)
    for _ in range(5):
        breaker.failed(permit, 0, "x")
    breaker.succeeded(permit, 0)
    assert breaker.snapshot(0).failures == 1


def test_one_failure_may_be_enough():
    breaker = new(failures=1)
    fail(breaker, 0)
    probe = admitted(breaker, 60)
    breaker.first_content(probe, 61)
    assert (breaker.state(61), breaker.snapshot(61).failures) == (CLOSED, 0)
    breaker.failed(probe, 62, "x")
    assert breaker.state(62) is OPEN


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 54), (0.5, 60), (0.75, 63), (1 - 2**-53, 66)])
def test_the_time_that_it_is_open_is_spread(chance: float, seconds: float):
    breaker = CircuitBreaker(BreakerPolicy(), lambda: chance)
    fail(breaker, 0, 3)
    assert breaker.retry_at(0) == pytest.approx(seconds)


def reopened(breaker: CircuitBreaker, times: int) -> list[float]:
    """For how long it is open each of so many times, with a failing probe between them."""
    fail(breaker, 0, 3)
    now, seconds = 0.0, []
    for _ in range(times):
        seconds.append(breaker.retry_at(now) - now)
        now = breaker.retry_at(now)
        fail(breaker, now)
    return seconds


def test_each_time_it_opens_again_may_take_longer_up_to_a_bound():
    assert reopened(new(), 4) == [60, 60, 60, 60]
    assert reopened(new(reopen_factor=2), 8) == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert reopened(new(reopen_factor=100), 300)[-1] == 3600


def test_a_whole_answer_forgets_how_often_it_opened_and_a_first_content_does_not():
    for verdict, seconds in (("C", 120), ("S", 60)):
        breaker, probe = half_open(reopen_factor=2)
        VERDICTS[verdict](breaker, probe, 61)
        fail(breaker, 62, 3 if verdict == "S" else 1)
        assert breaker.retry_at(62) == 62 + seconds


def test_of_all_waits_that_failures_ask_for_the_longest_counts():
    breaker = new()
    for wait in (10, 300, 20):
        fail(breaker, 0, wait=wait)
    assert breaker.retry_at(0) == 300
    short = new()
    fail(short, 0, 3, wait=30)
    assert short.retry_at(0) == 60
    endless = new()
    fail(endless, 0, 3, wait=1e9)
    assert endless.retry_at(0) == module.LONGEST_ASKED


def test_a_whole_answer_forgets_the_waits():
    breaker = new()
    fail(breaker, 0, wait=300)
    succeed(breaker, 1)
    fail(breaker, 2, 3)
    assert breaker.retry_at(2) == 62


def test_failures_that_alternate_open_it_by_their_rate():
    def play(breaker: CircuitBreaker, verdicts: str, every: float = 1) -> State:
        for i, verdict in enumerate(verdicts):
            if permit := breaker.admit(i * every):
                VERDICTS[verdict](breaker, permit, i * every)
        return breaker.state(len(verdicts) * every)

    assert play(new(), "SF" * 20) is CLOSED  # off by default
    rated = {"rate_threshold": 0.5}
    assert play(new(**rated), "SF" * 9) is CLOSED  # too few calls
    assert play(new(**rated), "SF" * 10) is OPEN
    assert play(new(**rated), "SFA" * 10) is OPEN  # without a verdict it is no call
    assert play(new(**rated), "SSF" * 20) is CLOSED
    assert play(new(**rated), "SF" * 20, every=4) is CLOSED  # at no time 20 within the window
    assert play(new(**rated, rate_min_calls=10), "SF" * 20, every=4) is OPEN


def test_a_rate_forgets_what_is_older_than_its_window():
    rate = FailureRate(60)
    rate.add(0, failed=True)
    rate.add(4.9, failed=False)
    rate.add(5, failed=False)
    assert [rate.counts(now) for now in (59.9, 60, 64.9, 65)] == [(3, 1), (1, 0), (1, 0), (0, 0)]


def test_the_rate_starts_anew_when_the_circuit_closes():
    breaker = new(rate_threshold=0.5, rate_min_calls=4, open_seconds=5)
    for verdict in "SFSF":
        VERDICTS[verdict](breaker, admitted(breaker, 0), 0)
    assert breaker.state(0) is OPEN
    succeed(breaker, 5)
    fail(breaker, 6, 2)
    assert breaker.state(6) is CLOSED


def test_each_change_is_told_once_with_its_reason():
    changes: list[tuple[State, State, str]] = []
    breaker = CircuitBreaker(EXACT, lambda: 0.5, lambda *change: changes.append(change))
    fail(breaker, 0, 3)
    fail(breaker, 60)
    breaker.first_content(probe := admitted(breaker, 120), 121)
    breaker.failed(probe, 122, "interrupted")
    succeed(breaker, 200)
    assert changes == [
        (CLOSED, OPEN, "3 failures in a row, the last one: server 500"),
        (OPEN, HALF_OPEN, "a probe goes to see whether it answers again"),
        (HALF_OPEN, OPEN, "the probe failed: server 500"),
        (OPEN, HALF_OPEN, "a probe goes to see whether it answers again"),
        (HALF_OPEN, CLOSED, "the probe's answer began"),
        (CLOSED, OPEN, "failed again: interrupted"),
        (OPEN, HALF_OPEN, "a probe goes to see whether it answers again"),
        (HALF_OPEN, CLOSED, "the probe was answered"),
    ]


def test_the_snapshot():
    breaker = new()
    assert msgspec.to_builtins(breaker.snapshot(7)) == {
        "state": "closed",
        "failures": 0,
        "retry_in": None,
        "reason": None,
        "changed_ago": None,
    }
    fail(breaker, 10, 3)
    assert msgspec.to_builtins(breaker.snapshot(30)) == {
        "state": "open",
        "failures": 3,
        "retry_in": 40,
        "reason": "server 500",
        "changed_ago": 20,
    }
    assert breaker.snapshot(80).retry_in == 0
    succeed(breaker, 90)
    shown = breaker.snapshot(91)
    assert (shown.reason, shown.retry_in, shown.changed_ago) == (None, None, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"failures": 0},
        {"open_seconds": 0},
        {"open_seconds": 3601},
        {"jitter": 1},
        {"reopen_factor": 0.5},
        {"rate_threshold": 1.5},
        {"probe_lease": 0},
        {"open": 60},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, BreakerPolicy)


# ── transitions in any order ───────────────────────────────────────────────────────────────────────────


class AnyOrder(RuleBasedStateMachine):
    """The breaker against what it promises, told by what happened and not by how it is done.

    Each permit is remembered with the number of changes there had been when it went: `age`.
    """

    permits = Bundle("permits")

    def __init__(self) -> None:
        super().__init__()
        self.policy = BreakerPolicy(open_seconds=60, jitter=0.1, probe_lease=10)
        self.chance = 0.5
        self.changes: list[tuple[State, State]] = []
        self.breaker = CircuitBreaker(
            self.policy, lambda: self.chance, lambda old, new, _reason: self.changes.append((old, new))
        )
        self.now = 1000.0
        self.opened_at = 0.0
        self.leases: dict[int, float] = {}  # of probes without a verdict, by the id of their permit
        self.kept: list[Permit] = []  # so that no id is used twice
        self.ages: dict[int, int] = {}
        self.streak = 0

    @rule(seconds=st.floats(0.01, 90))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(chance=st.floats(0, 1, exclude_max=True))
    def spin(self, chance: float) -> None:
        self.chance = chance

    @rule(target=permits, calls=st.integers(1, 5))
    def admit(self, calls: int) -> Permit:
        """Several at once; the last permit is played on, a stale one when there is none."""
        got = Permit(-7)
        for _ in range(calls):
            before = self.breaker.state(self.now)
            due = self.breaker.retry_at(self.now)
            has_probe_out = any(end > self.now for end in self.leases.values())
            permit = self.breaker.admit(self.now)
            assert (permit is not None) is (due <= self.now)
            assert (permit is not None) is (before is not OPEN and not has_probe_out)
            if permit is None:
                assert before is not CLOSED
                continue
            if before is CLOSED:
                assert not permit.is_probe
            else:
                assert permit.is_probe
                assert self.now >= self.opened_at + 54 - 1e-6
                self.leases[id(permit)] = self.now + self.policy.probe_lease
            self.kept.append(permit)
            self.ages[id(permit)] = len(self.changes)
            got = permit
        return got

    def counts(self, permit: Permit) -> bool:
        """Whether the permit's next verdict may change anything."""
        return self.ages.get(id(permit)) == len(self.changes)

    def told(
        self, permit: Permit, tell: Callable[[], None], *, is_last: bool = True
    ) -> list[tuple[State, State]]:
        """What changed by telling; a permit that is stale or has its verdict must change nothing."""
        counts, before = self.counts(permit), self.breaker.snapshot(self.now)
        lease = self.leases.get(id(permit)) if counts else None
        seen = len(self.changes)
        tell()
        if not counts:
            assert self.breaker.snapshot(self.now) == before
            assert len(self.changes) == seen
        if is_last:
            self.ages.pop(id(permit), None)
            if lease is not None:
                self.leases.pop(id(permit), None)
        changed = self.changes[seen:]
        if changed:
            self.leases.clear()
        return changed

    @rule(permit=permits)
    def first_content(self, permit: Permit) -> None:
        was_half_open = self.breaker.state(self.now) is HALF_OPEN
        counts = self.counts(permit)
        changed = self.told(permit, lambda: self.breaker.first_content(permit, self.now), is_last=False)
        if counts and was_half_open:
            assert changed == [(HALF_OPEN, CLOSED)]
            self.ages[id(permit)] = len(self.changes)
            self.streak = self.policy.failures - 1
        else:
            assert changed == []

    @rule(permit=permits)
    def succeeded(self, permit: Permit) -> None:
        was_half_open = self.breaker.state(self.now) is HALF_OPEN
        counts = self.counts(permit)
        changed = self.told(permit, lambda: self.breaker.succeeded(permit, self.now))
        assert changed == ([(HALF_OPEN, CLOSED)] if counts and was_half_open else [])
        if counts:
            self.streak = 0

    @rule(permit=permits)
    def failed(self, permit: Permit) -> None:
        was, counts = self.breaker.state(self.now), self.counts(permit)
        changed = self.told(permit, lambda: self.breaker.failed(permit, self.now, "x"))
        if not counts:
            return
        self.streak += 1
        opens = was is HALF_OPEN or self.streak >= self.policy.failures
        assert changed == ([(was, OPEN)] if opens else [])
        if opens:
            self.opened_at = self.now
            assert 54 - 1e-6 <= self.breaker.retry_at(self.now) - self.now <= 66 + 1e-6

    @rule(permit=permits)
    def abandoned(self, permit: Permit) -> None:
        changed = self.told(permit, lambda: self.breaker.abandoned(permit, self.now))
        assert changed == []

    @invariant()
    def nobody_is_locked_out(self) -> None:
        """However it got here: after the longest time open, or a lease, somebody may go."""
        assert self.breaker.retry_at(self.now) - self.now <= 66 + 1e-6

    @invariant()
    def agrees(self) -> None:
        shown = self.breaker.snapshot(self.now)
        assert shown.state is not CLOSED or shown.failures == self.streak < self.policy.failures
        assert (shown.state is CLOSED) is (shown.retry_in is None)


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase


# ── the breakers of one provider ───────────────────────────────────────────────────────────────────────


def circuits(*, max_models: int = 10, **policy: Any) -> Circuits:
    return Circuits("up", BreakerPolicy(**{"jitter": 0.0, **policy}), lambda: 0.5, max_models=max_models)


def fail_model(these: Circuits, model: str, now: float, times: int = 3, level: Level = "model") -> None:
    for _ in range(times):
        these.admit(model, now).failed(level, now, "server 500")


def is_refused(these: Circuits, model: str, now: float) -> bool:
    try:
        these.admit(model, now).abandoned(now)
    except UpstreamError:
        return True
    return False


def test_a_models_failures_are_its_own_and_the_providers_are_everybodys():
    these = circuits()
    fail_model(these, "a", 0)
    assert (is_refused(these, "a", 0), is_refused(these, "b", 0)) == (True, False)
    fail_model(these, "b", 0, level="provider")
    assert is_refused(these, "b", 0)
    assert is_refused(these, "never heard of", 0)


def test_a_refusal_says_what_and_when():
    these = circuits()
    fail_model(these, "a", 0)
    fail_model(these, "b", 20, level="provider")
    with pytest.raises(UpstreamError) as caught:
        these.admit("a", 30)
    error = caught.value
    assert (error.kind, error.status, error.code) == (ErrorKind.UNAVAILABLE, 503, "circuit_open")
    assert (error.hop, error.retry_after) == ("gateway", 50)  # the later of the two
    assert error.message == "up keeps failing (server 500) and is not asked for another 50.0 s"
    fail_model(these, "b", 80, times=1, level="none")
    with pytest.raises(UpstreamError, match="up/a keeps failing"):
        fail_model(these, "a", 80, times=2)


def test_a_model_that_refuses_keeps_the_providers_probe_for_others():
    these = circuits()
    fail_model(these, "c", 0, level="provider")
    attempt = these.admit("a", 60)
    attempt.first_content(60)
    attempt.succeeded(60)
    fail_model(these, "a", 60)
    fail_model(these, "b", 100, level="provider")
    fail_model(these, "a", 160, times=1)  # the provider's probe, and a's: it failed at a
    assert is_refused(these, "a", 161)
    probe = these.admit("b", 161)
    assert probe.is_probe
    assert is_refused(these, "c", 161)


def test_state_and_retry_in_tell_what_a_call_would_meet():
    these = circuits()
    assert (these.state("a", 0), these.retry_in("a", 0)) == (CLOSED, 0)
    fail_model(these, "a", 0)
    assert (these.state("a", 10), these.retry_in("a", 10)) == (OPEN, 50)
    assert (these.state("b", 10), these.retry_in("b", 10)) == (CLOSED, 0)
    assert (these.state("a", 60), these.retry_in("a", 60)) == (HALF_OPEN, 0)
    these.admit("a", 60)
    assert (these.state("a", 60), these.retry_in("a", 60)) == (HALF_OPEN, 10)


def test_names_of_models_do_not_pile_up_and_push_out_nothing_that_failed():
    these = circuits(max_models=10)
    fail_model(these, "open", 0)
    fail_model(these, "failing", 0, times=2)
    for i in range(5000):
        these.admit(f"made-up-{i}", 1).failed("none", 1, "not_found")
    assert repr(these).endswith(" 10 models>")
    assert is_refused(these, "open", 2)
    fail_model(these, "failing", 2, times=1)
    assert is_refused(these, "failing", 2)
    assert set(these.snapshot(2).models) == {"open", "failing"}


def test_models_that_fail_on_purpose_push_out_closed_ones_and_never_an_open_one():
    these = circuits(max_models=10)
    fail_model(these, "open", 0)
    for i in range(5000):
        fail_model(these, f"made-up-{i}", 1, times=1)
    assert repr(these).endswith(" 10 models>")
    assert is_refused(these, "open", 2)


def test_when_all_are_open_a_new_model_goes_unwatched_until_one_is_due():
    these = circuits(max_models=3)
    for model in "abc":
        fail_model(these, model, 0)
    fail_model(these, "d", 1, times=9)  # never refused: it is not watched
    assert [is_refused(these, model, 59) for model in "abcd"] == [True, True, True, False]
    fail_model(these, "d", 60)
    assert is_refused(these, "d", 61)
    assert set(these.snapshot(61).models) == {"b", "c", "d"}  # of those that were due, the first one went


def test_one_that_is_due_for_its_probe_outlives_a_closed_one():
    these = circuits(max_models=2)
    fail_model(these, "due", 0)
    fail_model(these, "closed", 60, times=2)
    fail_model(these, "new", 61, times=1)
    assert set(these.snapshot(61).models) == {"due", "new"}


def test_what_was_not_used_for_the_longest_time_goes_first():
    these = circuits(max_models=2)
    fail_model(these, "a", 0, times=2)
    fail_model(these, "b", 0, times=2)
    these.admit("a", 1).abandoned(1)
    these.admit("c", 1)
    assert set(these.snapshot(1).models) == {"a"}


def test_a_model_with_failures_in_its_rate_is_not_forgotten_before_one_without():
    these = circuits(max_models=2, rate_threshold=0.5)
    fail_model(these, "a", 0, times=1)
    these.admit("a", 0).succeeded(0)
    these.admit("b", 0).succeeded(0)
    these.admit("c", 1).abandoned(1)
    assert set(these.snapshot(1).models) == {"a"}
    assert set(these.snapshot(100).models) == set()


def test_a_change_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "gateway.resilience")
    these = circuits()
    fail_model(these, "a", 0)
    for _ in range(9):
        assert is_refused(these, "a", 1)
    these.admit("a", 60).succeeded(61)
    fail_model(these, "a", 62, level="provider")
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        (
            "WARNING",
            "circuit of up/a: open, was closed: 3 failures in a row, the last one: server 500",
        ),
        (
            "INFO",
            "circuit of up/a: half_open, was open: a probe goes to see whether it answers again",
        ),
        ("INFO", "circuit of up/a: closed, was half_open: the probe was answered"),
        ("WARNING", "circuit of up: open, was closed: 3 failures in a row, the last one: server 500"),
    ]


# ── the layer ──────────────────────────────────────────────────────────────────────────────────────────


class Scripted(FakeExchange):
    """An answer whose batches may also be errors to raise, or an event to wait for."""

    async def read(self) -> list[Chunk]:
        batch: Any = await super().read()
        if isinstance(batch, BaseException):
            raise batch
        if isinstance(batch, asyncio.Event):
            await batch.wait()
            return await self.read()
        self.usage = Usage(completion_tokens=len(self._batches))
        return batch


class ScriptedOpen:
    """An `Open` that plays one script: what entering raises or waits for, then what is read."""

    def __init__(self, entering: BaseException | asyncio.Event | None = None, *batches: Any) -> None:
        self.entering = entering
        self.batches = batches
        self.leaving: asyncio.Event | None = None
        self.entered = self.left = 0

    @asynccontextmanager
    async def __call__(self, request: ChatRequest) -> AsyncIterator[Exchange]:
        self.entered += 1
        try:
            if isinstance(self.entering, asyncio.Event):
                await self.entering.wait()
            elif self.entering is not None:
                raise self.entering
            yield Scripted(Target("up", request.model), self.batches)
            if self.leaving is not None:
                await self.leaving.wait()
        finally:
            self.left += 1


def error(kind: ErrorKind, **fields: Any) -> UpstreamError:
    return UpstreamError(kind, "said by the provider", hop="up", **fields)


class Bench:
    """A layer around whatever open a test puts in, with its clock."""

    def __init__(self, **policy: Any) -> None:
        self.clock = FakeClock()
        self.inner: Any = ScriptedOpen()
        self.circuits = circuits(**policy)
        self.layer = CircuitBreaking(lambda request: self.inner(request), self.circuits, self.clock)

    async def call(self, inner: Any, model: str = "m") -> None:
        """One call, read to its end."""
        self.inner = inner
        async with self.layer(chat(model)) as exchange:
            await exchange.collect()

    async def broken(self, *errors: UpstreamError, model: str = "m") -> None:
        for each in errors:
            with pytest.raises(UpstreamError):
                await self.call(ScriptedOpen(each), model)

    async def opened(self) -> None:
        """A circuit of the model "m" that is due for its probe."""
        await self.broken(*[error(ErrorKind.SERVER)] * 3)
        self.clock.time += 60

    def failures(self, model: str = "m") -> tuple[int, int]:
        """In a row: the provider's, the model's."""
        shown = self.layer.snapshot()
        return shown.provider.failures, shown.models[model].failures if model in shown.models else 0


SERVER = error(ErrorKind.SERVER)
TEXT = [Chunk(text="hi")]
OUTCOMES = {
    # entering, what is read                                        provider's and model's failures after 1+1
    "refused": (error(ErrorKind.UNREACHABLE), (), (2, 1)),
    "no TLS": (error(ErrorKind.TLS), (), (2, 1)),
    "500": (SERVER, (), (1, 2)),
    "no first byte": (error(ErrorKind.TIMEOUT), (), (1, 2)),
    "400": (error(ErrorKind.BAD_REQUEST), (), (1, 1)),
    "429": (error(ErrorKind.RATE_LIMIT), (), (1, 1)),
    "401": (error(ErrorKind.AUTH), (), (1, 1)),
    "404": (error(ErrorKind.NOT_FOUND), (), (1, 1)),
    "our own bug": (TypeError("oops"), (), (1, 1)),
    "cancelled": (asyncio.CancelledError(), (), (1, 1)),
    "whole": (None, (TEXT, TEXT), (0, 0)),
    "broken off": (None, (TEXT, error(ErrorKind.INTERRUPTED)), (1, 2)),
    "unreachable later": (None, (TEXT, error(ErrorKind.UNREACHABLE)), (1, 2)),
    "filtered later": (None, (TEXT, error(ErrorKind.CONTENT_FILTER)), (1, 1)),
    "our own bug later": (None, (TEXT, TypeError("oops")), (1, 1)),
    "cancelled later": (None, (TEXT, asyncio.CancelledError()), (1, 1)),
}


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_what_each_outcome_counts(outcome: str):
    """After one failure at each level, since a neutral outcome must not reset them either."""
    entering, batches, expected = OUTCOMES[outcome]
    bench = Bench()
    await bench.broken(error(ErrorKind.UNREACHABLE), error(ErrorKind.SERVER))
    inner = ScriptedOpen(entering, *batches)
    try:
        await bench.call(inner)
    except (UpstreamError, TypeError, asyncio.CancelledError) as raised:
        assert raised is entering or raised in batches, "passed on as it was"
    else:
        assert outcome == "whole"
    assert bench.failures() == expected
    assert inner.entered == inner.left == 1


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_what_each_outcome_of_a_probe_leads_to(outcome: str):
    entering, batches, _ = OUTCOMES[outcome]
    bench = Bench()
    await bench.opened()
    with suppress(UpstreamError, TypeError, asyncio.CancelledError):
        await bench.call(ScriptedOpen(entering, *batches))
    level = entering.level if isinstance(entering, UpstreamError) else "none"
    fails = level == "model" or outcome in ("broken off", "unreachable later")
    began = entering is None
    state = OPEN if fails else CLOSED if began else HALF_OPEN
    assert (bench.layer.state("m"), bench.layer.retry_in("m")) == (state, 60 if fails else 0)


async def test_a_provider_that_cannot_be_reached_is_shut_for_all_its_models():
    bench = Bench()
    for model in "abc":
        await bench.broken(error(ErrorKind.UNREACHABLE), model=model)
    inner = ScriptedOpen(None, TEXT)
    with pytest.raises(UpstreamError) as caught:
        await bench.call(inner, "d")
    assert (caught.value.code, inner.entered) == ("circuit_open", 0)


async def test_an_open_circuit_answers_without_calling():
    bench = Bench()
    await bench.broken(*[error(ErrorKind.SERVER, upstream_status=500)] * 3)
    bench.clock.time += 12.5
    inner = ScriptedOpen(None, TEXT)
    with pytest.raises(UpstreamError) as caught:
        await bench.call(inner)
    assert inner.entered == 0
    assert (caught.value.retry_after, caught.value.code) == (47.5, "circuit_open")
    assert caught.value.message == "up/m keeps failing (server 500) and is not asked for another 47.5 s"
    assert bench.clock.slept == []


async def test_what_a_provider_says_is_not_told_to_others():
    bench = Bench()
    await bench.broken(*[SERVER] * 3)
    with pytest.raises(UpstreamError) as caught:
        await bench.call(ScriptedOpen())
    assert "said by" not in caught.value.message
    assert "said by" not in str(bench.layer.snapshot())


async def test_of_two_hundred_at_half_open_exactly_one_reaches_the_provider():
    bench = Bench()
    await bench.opened()
    inner = ScriptedOpen(asyncio.Event(), TEXT)
    calls = [asyncio.create_task(bench.call(inner)) for _ in range(200)]
    await bench.clock.settle()
    assert inner.entered == 1
    inner.entering.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert results.count(None) == 1
    assert {r.code for r in results if r is not None} == {"circuit_open"}
    assert {r.retry_after for r in results if r is not None} == {10}
    assert bench.layer.state("m") is CLOSED


async def test_a_long_answer_does_not_keep_others_waiting():
    """From its first content on, others may call, while one more failure is enough."""
    bench = Bench()
    await bench.opened()
    ending = asyncio.Event()
    long = asyncio.create_task(bench.call(ScriptedOpen(None, TEXT, ending, error(ErrorKind.INTERRUPTED))))
    await bench.clock.settle()
    assert bench.layer.state("m") is CLOSED
    async with bench.layer(chat()):
        pass
    ending.set()
    with pytest.raises(UpstreamError, match="said by"):
        await long
    assert bench.layer.state("m") is OPEN


async def test_a_first_content_lets_everybody_to_the_provider_again():
    bench = Bench()
    await bench.broken(*[error(ErrorKind.UNREACHABLE)] * 3)
    bench.clock.time += 60
    bench.inner = ScriptedOpen(None, TEXT)
    async with bench.layer(chat("a")), bench.layer(chat("b")) as exchange:
        await exchange.read()
    await bench.broken(error(ErrorKind.UNREACHABLE))  # nothing was read to its end: one more is enough
    assert bench.layer.state("a") is OPEN


@pytest.mark.parametrize("phase", ["entering", "reading", "leaving"])
async def test_a_call_that_is_cancelled_gives_its_permit_back(phase: str):
    bench = Bench()
    await bench.opened()
    forever = asyncio.Event()
    inner = ScriptedOpen(forever if phase == "entering" else None, TEXT, forever)
    if phase == "leaving":
        inner.batches, inner.leaving = (TEXT,), forever

    async def call() -> None:
        bench.inner = inner
        async with bench.layer(chat()) as exchange:
            await exchange.read()
            if phase == "reading":
                await exchange.read()

    task = asyncio.create_task(call())
    await bench.clock.settle()
    assert inner.entered == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert inner.left == 1
    assert bench.layer.retry_in("m") == 0
    assert bench.layer.state("m") is (HALF_OPEN if phase == "entering" else CLOSED)
    assert bench.failures() == (0, 3 if phase == "entering" else 2)


async def test_three_clients_that_leave_are_no_failures():
    bench = Bench()
    for _ in range(9):
        bench.inner = ScriptedOpen(None, TEXT, TEXT)
        async with bench.layer(chat()) as exchange:
            await exchange.read()
    assert bench.failures() == (0, 0)
    assert bench.layer.state("m") is CLOSED


async def test_a_reader_that_is_closed_in_the_middle_is_no_failure():
    """GeneratorExit: what an ASGI server does to a body that nobody reads any more."""
    bench = Bench()
    bench.inner = ScriptedOpen(None, TEXT, TEXT)

    async def body() -> AsyncIterator[Chunk]:
        async with bench.layer(chat()) as exchange:
            async for chunk in exchange:
                yield chunk

    reading: Any = body()
    await anext(reading)
    await reading.aclose()
    assert bench.inner.left == 1
    assert bench.failures() == (0, 0)


async def test_an_error_of_the_reader_is_not_the_providers():
    """What is raised inside of the block, even of the same type, was not raised by reading."""
    bench = Bench()
    for _ in range(3):
        bench.inner = ScriptedOpen(None, TEXT)
        with pytest.raises(UpstreamError, match="said by"):
            async with bench.layer(chat()):
                raise SERVER
    assert bench.failures() == (0, 0)


async def test_a_provider_that_dies_after_every_first_content_is_shut():
    bench = Bench()
    for _ in range(3):
        with pytest.raises(UpstreamError, match="said by"):
            await bench.call(ScriptedOpen(None, TEXT, error(ErrorKind.INTERRUPTED)))
    with pytest.raises(UpstreamError, match="keeps failing"):
        await bench.call(ScriptedOpen(None, TEXT))


async def test_the_wait_that_a_failure_asks_for_is_kept():
    bench = Bench()
    await bench.broken(*[error(ErrorKind.SERVER, retry_after=100)] * 3)
    assert bench.layer.retry_in("m") == 100


async def test_a_probe_goes_its_own_way():
    clock, usual, probing = FakeClock(), ScriptedOpen(SERVER), FakeOpen("probing")
    layer = CircuitBreaking(usual, circuits(), clock, probing=probing)
    for _ in range(3):
        with pytest.raises(UpstreamError):
            await layer(chat()).__aenter__()
    clock.time += 60
    async with layer(chat()) as exchange:
        assert (await exchange.collect()).text == "probing"
    assert (usual.entered, len(probing.asked), probing.left) == (3, 1, 1)


async def test_the_exchange_passes_everything_on():
    bench = Bench()
    inner = Scripted(Target("up", "m"), [TEXT, TEXT])
    inner.timings, inner.dropped, inner.attempts = Timings(connect=0.1), ("seed",), 2

    @asynccontextmanager
    async def opening(_request: ChatRequest) -> AsyncIterator[Exchange]:
        yield inner

    bench.inner = opening
    async with bench.layer(chat()) as exchange:
        assert (exchange.target, exchange.timings) == (inner.target, inner.timings)
        assert (exchange.dropped, exchange.attempts, exchange.usage) == (("seed",), 2, None)
        assert await exchange.read() == TEXT
        assert exchange.usage == Usage(completion_tokens=1)
        inner.limits = Limits()
        assert exchange.limits is inner.limits
        exchange.dropped, exchange.usage, exchange.limits = (), None, None
        assert (inner.dropped, inner.usage, inner.limits) == ((), None, None)
        assert [await exchange.read(), await exchange.read(), await exchange.read()] == [TEXT, [], []]


def test_reprs_are_for_people():
    these = circuits()
    fail_model(these, "a", 0)
    attempt = these.admit("b", 0)
    assert isinstance(attempt, Attempt)
    layer = CircuitBreaking(FakeOpen("x"), these, FakeClock())
    assert repr(layer) == "<CircuitBreaking <Circuits <CircuitBreaker closed 0 failures> 2 models>>"
    assert repr(Permit(3, is_probe=True)) == "<Permit probe of generation 3>"
