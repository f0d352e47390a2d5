"""The bucket: no minute is ever exceeded, nearly all of it is usable, headers only tighten."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.resilience.bucket import SMOOTH, WINDOW, Taken, TokenBucket


class Call(NamedTuple):
    """One call: after `gap` seconds it takes `share` of the limit, and `used` of that when `held` is over."""

    gap: float
    share: float
    used: float
    held: float
    remaining: float | None


calls = st.lists(
    st.builds(
        Call,
        gap=st.one_of(st.just(0.0), st.floats(0, 5), st.floats(0, 90)),
        share=st.one_of(st.floats(0.001, 0.05), st.floats(0.001, 1.0)),
        used=st.one_of(st.just(1.0), st.just(0.0), st.floats(0, 1)),
        held=st.one_of(st.floats(0, 3), st.floats(0, 150)),
        remaining=st.one_of(st.none(), st.floats(0, 1)),
    ),
    max_size=60,
)


class Run:
    """Plays calls one after another, each as soon as the bucket lets it, and remembers what was used when."""

    def __init__(self, bucket: TokenBucket, now: float) -> None:
        self.bucket, self.now = bucket, now
        self.used: list[list[float]] = []  # moment, amount
        self._open: list[tuple[float, Taken, float, list[float]]] = []

    def play(self, call: Call) -> None:
        limit = self.bucket.limit
        self._until(self.now + call.gap)
        amount = call.share * limit
        while (wait := self.bucket.wait_for(amount, self.now)) > 0:
            assert wait <= 3 * WINDOW
            self._until(self.now + wait)
        entry = [self.now, amount]
        self.used.append(entry)
        taken = self.bucket.take(amount, self.now)
        self._open.append((self.now + call.held, taken, amount * call.used, entry))
        if call.remaining is not None:
            self.bucket.sync(call.remaining * limit, limit, self.now, reset=call.gap)

    def _until(self, now: float) -> None:
        """Lets time pass; calls that end meanwhile are settled."""
        for ending in sorted(self._open, key=lambda ending: ending[0]):
            when, taken, actual, entry = ending
            if when <= now:
                self.bucket.settle(taken, actual, when)
                entry[1] = actual
                self._open.remove(ending)
        self.now = now

    def worst_minute(self) -> float:
        worst = total = 0.0
        first = 0
        for when, amount in self.used:
            total += amount
            while self.used[first][0] < when - WINDOW:
                total -= self.used[first][1]
                first += 1
            worst = max(worst, total)
        return worst

    def lowest_at_the_provider(self, limit: float) -> float:
        """How low a token bucket of the provider's own gets, which counts what was really used."""
        level, at, lowest = limit, 0.0, limit
        for when, amount in self.used:
            level = min(limit, level + limit / WINDOW * (when - at)) - amount
            lowest, at = min(lowest, level), when
        return lowest


@given(
    calls=calls,
    limit=st.sampled_from([1.0, 7.0, 60.0, 40_000.0]),
    burst=st.sampled_from([None, 0.02, 0.5, 1]),
)
def test_no_minute_ever_has_more_than_the_limit(calls, limit, burst):
    """P102 where windows are unknown: whatever is taken, given back and synced, in any 60 seconds."""
    run = Run(TokenBucket(limit, 1000.0, burst=burst), 1000.0)
    for call in calls:
        run.play(call)
    assert run.worst_minute() <= limit * (1 + 1e-6)


@given(calls=calls, limit=st.sampled_from([1.0, 60.0, 40_000.0]))
def test_a_mirrored_bucket_never_asks_more_than_the_providers_has(calls, limit):
    """P102 where the provider has a token bucket: a refund is not worth what flowed over meanwhile."""
    run = Run(TokenBucket(limit, 0.0, mirrors=True), 0.0)
    for call in calls:
        run.play(call)
    assert run.lowest_at_the_provider(limit) >= -limit * 1e-6


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0.01, 1), st.floats(0, 3)), max_size=40))
def test_what_is_known_at_admission_fits_even_after_estimates_that_were_too_low(steps):
    """Debits count from when they are known: the next call sees them."""
    bucket, now, known = TokenBucket(100, 0.0), 0.0, []
    for gap, share, used in steps:
        now += gap
        now += bucket.wait_for(100 * share, now)
        assert sum(a for t, a in known if t >= now - WINDOW) + 100 * share <= 100 + 1e-3
        bucket.settle(bucket.take(100 * share, now), 100 * used * share, now)
        known.append((now, 100 * used * share))


@pytest.mark.parametrize(
    ("limit", "amount"),
    [
        (1, 1),
        (5, 1),
        (10, 1),
        (60, 1),
        (997, 1),
        (60_000, 500),
        (60_000, 4000),
        (60_000, 6000),
        (60_000, 15_000),
    ],
)
@pytest.mark.parametrize(("burst", "mirrors"), [(None, False), (0.5, False), (1.0, False), (None, True)])
def test_nearly_all_of_the_limit_is_usable(limit, amount, burst, mirrors):
    """P103: under saturation, over an hour, at least 95 % of it."""
    bucket, now, used = TokenBucket(limit, 0.0, burst=burst, mirrors=mirrors), 0.0, 0.0
    while True:
        now += bucket.wait_for(amount, now)
        if now >= 3600:
            break
        bucket.take(amount, now)
        used += amount
    assert used >= 0.95 * limit * 60 - amount


@pytest.mark.parametrize("held", [0.5, 10.0, 50.0])
def test_estimates_that_are_three_times_too_high_come_back_to_be_used(held):
    """P103: all but what cannot be known to be free, since calls in flight are charged as estimated."""
    run = Run(TokenBucket(60_000, 0.0), 0.0)
    while run.now < 1200:
        run.play(Call(gap=0.0, share=0.02, used=1 / 3, held=held, remaining=None))
    spent = sum(amount for _, amount in run.used)
    known_to_be_free = WINDOW / (WINDOW + 2 * held)
    assert spent >= 0.9 * known_to_be_free * 60_000 * 20
    assert run.worst_minute() <= 60_000


def test_burst_and_refill_never_add_up_to_more_than_the_limit():
    bucket = TokenBucket(600, 0.0)
    assert bucket.capacity == SMOOTH * 600
    assert bucket.capacity + WINDOW * bucket.refill == pytest.approx(600)


def test_a_mirrored_bucket_is_the_documented_one():
    bucket = TokenBucket(600, 0.0, mirrors=True)
    assert (bucket.capacity, bucket.refill) == (600, 10)


def test_more_than_the_limit_never_goes():
    assert TokenBucket(10, 0.0).wait_for(11, 0.0) == math.inf


def test_more_than_the_burst_goes_when_the_bucket_is_full_and_leaves_it_in_debt():
    bucket = TokenBucket(100, 0.0)
    bucket.take(80, 0.0)
    assert bucket.level(0.0) == -75
    assert bucket.wait_for(1, 0.0) == pytest.approx(76 / (95 / 60))


def test_the_wait_is_exact():
    bucket = TokenBucket(60, 0.0)
    for _ in range(3):
        assert bucket.wait_for(1, 0.0) == 0
        bucket.take(1, 0.0)
    wait = bucket.wait_for(1, 0.0)
    assert bucket.wait_for(1, wait - 0.01) == pytest.approx(0.01)
    assert bucket.wait_for(1, wait) == 0
    assert bucket.wait_for(1, 0.0, ahead=9) == pytest.approx(10 * wait)


def test_the_wait_behind_more_than_a_minute_of_others_counts_the_minutes():
    bucket = TokenBucket(10, 0.0, burst=1.0)
    assert bucket.wait_for(5, 0.0, ahead=25) >= 2 * WINDOW


def test_a_refund_is_there_at_once():
    """P108."""
    bucket = TokenBucket(60, 0.0)
    taken = bucket.take(3, 0.0)
    assert bucket.wait_for(1, 0.0) > 0
    bucket.settle(taken, 1, 0.0)
    assert bucket.wait_for(2, 0.0) == 0


def test_an_estimate_that_was_too_low_is_taken_from_what_comes():
    """P108."""
    bucket = TokenBucket(60, 0.0)
    bucket.settle(bucket.take(1, 0.0), 10, 0.0)
    assert bucket.level(0.0) == 3 - 10
    assert bucket.wait_for(1, 0.0) == pytest.approx(8 / (57 / 60))


def test_a_refund_never_fills_more_than_the_bucket():
    bucket = TokenBucket(60, 0.0, mirrors=True)
    taken = bucket.take(60, 0.0)
    bucket.settle(taken, 0, 59.0)
    assert bucket.level(59.0) == 60


def test_a_mirrored_refund_is_worth_less_the_longer_it_was_away():
    bucket = TokenBucket(60, 0.0, mirrors=True)
    taken = bucket.take(30, 0.0)  # had it not been, the bucket would have been full all the time
    bucket.take(60, 30.0)
    bucket.settle(taken, 0, 30.0)
    assert bucket.level(30.0) == 0


def test_a_mirrored_refund_is_worth_nothing_where_others_had_filled_the_bucket():
    """Neither of the two was ever used, so the provider's bucket was full before all of it was taken."""
    bucket = TokenBucket(60, 0.0, mirrors=True)
    first, second = bucket.take(30, 0.0), bucket.take(30, 0.0)
    bucket.settle(first, 0, 0.0)
    bucket.take(60, 30.0)
    bucket.settle(second, 0, 30.0)
    assert bucket.level(30.0) == 0


@pytest.mark.parametrize("held", [0.5, 10.0])
def test_a_mirrored_bucket_gets_back_what_was_estimated_too_high(held):
    """P103."""
    run = Run(TokenBucket(60_000, 0.0, mirrors=True), 0.0)
    while run.now < 1200:
        run.play(Call(gap=0.0, share=0.02, used=1 / 3, held=held, remaining=None))
    assert sum(amount for _, amount in run.used) >= 0.95 * 60_000 * 20


def test_what_left_the_window_gives_nothing_back_to_it():
    bucket = TokenBucket(60, 0.0, burst=1.0)
    old = bucket.take(60, 0.0)
    bucket.take(60, 90.0)
    bucket.settle(old, 0, 90.0)
    assert bucket.wait_for(60, 90.0) >= 60


# ── headers ────────────────────────────────────────────────────────────────────────────────────────────

number = st.one_of(st.none(), st.floats(), st.integers(-(10**9), 10**9).map(float))


@pytest.mark.parametrize("mirrors", [False, True])
@pytest.mark.parametrize("auto", [False, True])
@given(st.lists(st.tuples(st.floats(0, 30), number, number, number, number), max_size=20))
def test_headers_never_loosen_what_was_given(mirrors, auto, headers):
    """P109: whatever they say, a bucket with them waits as long as one without, and stays a bucket."""
    plain, synced = TokenBucket(60, 0.0, mirrors=mirrors), TokenBucket(60, 0.0, mirrors=mirrors, auto=auto)
    now = 0.0
    for gap, remaining, limit, reset, as_of in headers:
        now += gap
        synced.sync(remaining, limit, now, reset=reset, as_of=as_of)
        assert math.isfinite(synced.level(now))
        assert synced.limit > 0
        if not auto:
            assert synced.limit <= 60
            assert synced.level(now) <= plain.level(now)
            assert synced.wait_for(0.5, now) >= plain.wait_for(0.5, now)


@pytest.mark.parametrize("mirrors", [False, True])
def test_what_is_left_by_the_headers_tightens_at_once(mirrors):
    """P109."""
    bucket = TokenBucket(60, 0.0, mirrors=mirrors)
    bucket.sync(0, 60, 0.0, reset=30)
    assert bucket.wait_for(1, 0.0) > 0
    bucket.sync(60, 60, 0.5, reset=0)
    assert bucket.wait_for(1, 0.5) > 0


def test_where_windows_are_unknown_nothing_goes_before_the_reset():
    """P109: others use the account too, and what they used leaves the window when the provider says so."""
    bucket = TokenBucket(60, 0.0)
    bucket.sync(0, 60, 0.0, reset=30)
    assert bucket.wait_for(1, 0.0) == 30
    assert bucket.wait_for(1, 30.0) == 0


def test_a_lower_limit_counts_at_once_and_a_higher_one_after_the_reset():
    """P109."""
    bucket = TokenBucket(60, 0.0)
    bucket.sync(None, 30, 0.0, reset=20)
    assert bucket.limit == 30
    bucket.sync(None, 60, 19.9, reset=20)
    assert bucket.limit == 30
    bucket.sync(None, 600, 20.0, reset=20)
    assert bucket.limit == 60


def test_only_auto_raises_the_given_limit():
    """P109."""
    for auto, limit in ((False, 60), (True, 600)):
        bucket = TokenBucket(60, 0.0, auto=auto)
        bucket.sync(None, 600, 0.0)
        assert bucket.limit == limit


def test_headers_of_an_earlier_request_are_ignored():
    """P109."""
    bucket = TokenBucket(60, 0.0, mirrors=True)
    bucket.sync(50, 60, 5.0, as_of=4.0)
    bucket.sync(10, 30, 6.0, as_of=3.0)
    assert bucket.limit == 60
    assert bucket.level(6.0) == pytest.approx(51)


@pytest.mark.parametrize("garbage", [None, -1.0, math.nan, math.inf, -math.inf])
def test_garbage_changes_nothing(garbage):
    """P109."""
    bucket = TokenBucket(60, 0.0)
    bucket.sync(garbage, garbage, 0.0, reset=garbage)
    assert (bucket.limit, bucket.level(0.0), bucket.wait_for(3, 0.0)) == (60, 3, 0)


def test_a_daily_limit_in_the_headers_does_not_stop_a_minutes():
    """Some send what is left of the day: it says nothing as long as that is more than what is left here."""
    bucket = TokenBucket(30, 0.0)
    bucket.sync(14_000, 14_400, 0.0, reset=3600)
    assert bucket.wait_for(1, 0.0) == 0


def test_the_ledger_stays_small():
    bucket = TokenBucket(1e9, 0.0)
    for i in range(20_000):
        bucket.take(1, i / 50)
    assert len(bucket._window) <= WINDOW + 2


def test_the_repr_tells_people_where_it_stands():
    assert repr(TokenBucket(60, 0.0)) == "<TokenBucket 3 of 3, 60 a minute>"
