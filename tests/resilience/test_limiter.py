"""The account: nobody overtakes, nobody waits in vain, and whoever leaves leaves nothing behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import ErrorKind, UpstreamError
from gateway.limits import Limits, Window
from gateway.resilience.clock import Clock, SystemClock
from gateway.resilience.limiter import (
    DIMENSIONS,
    NOTHING,
    PACED_SECONDS,
    TELL_SECONDS,
    Account,
    Accounts,
    Cost,
    Limiter,
    Quota,
    Reservation,
)

from .fakes import FakeClock

ONE = Cost()


def limiter(clock: Clock | None = None, **quota) -> Limiter:
    return Limiter("home", Quota(**quota), FakeClock((0.0,)) if clock is None else clock)


def tokens(count: int) -> Cost:
    return Cost(1, count, 0)


class Crowd:
    """Callers at one account. Each call is a task; who was let through stands in `served`, in order."""

    def __init__(self, account: Limiter, clock: FakeClock) -> None:
        self.account, self.clock = account, clock
        self.served: list[tuple[float, str]] = []
        self.got: dict[str, Reservation] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def call(self, name: str, cost: Cost = ONE, **how) -> asyncio.Task[None]:
        """Returns when the call was let through, refused, or waits."""
        task = self.tasks[name] = asyncio.create_task(self._call(name, cost, how))
        await self.clock.settle()
        return task

    async def _call(self, name: str, cost: Cost, how: dict) -> None:
        self.got[name] = await self.account.reserve(cost, **how)
        self.served.append((self.clock.now() - 1000, name))

    async def end(self, name: str, spent: Cost = ONE) -> None:
        await self.account.settle(self.got[name], spent)
        await self.clock.settle()

    @property
    def names(self) -> list[str]:
        return [name for _, name in self.served]


@asynccontextmanager
async def crowd(chance: float = 0.0, **quota) -> AsyncIterator[Crowd]:
    """A crowd that is sent home at the end; nobody may be left in the queue then."""
    clock = FakeClock((chance,))
    people = Crowd(Limiter("home", Quota(**quota), clock), clock)
    try:
        yield people
    finally:
        for task in people.tasks.values():
            task.cancel()
        await asyncio.gather(*people.tasks.values(), return_exceptions=True)
        assert people.account.snapshot().queued == 0


async def refusal(account: Limiter, cost: Cost = ONE, **how) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await account.reserve(cost, **how)
    assert caught.value.hop == "gateway"
    return caught.value


def test_a_limiter_is_an_account():
    account: Account = limiter()
    assert repr(account) == "<Limiter home 0 in flight, 0 queued>"
    assert "requests <TokenBucket" in repr(limiter(rpm=60))


def test_an_account_can_be_made_before_the_clock_runs():
    account = Limiter("home", Quota(rpm=60), SystemClock())

    async def run() -> dict[str, float]:
        await account.settle(await account.reserve(ONE), ONE)
        return account.snapshot().levels

    assert asyncio.run(run())["requests"] == pytest.approx(2, abs=0.5)


def test_dimensions_are_called_the_same_everywhere():
    for name, (setting, _) in DIMENSIONS.items():
        assert hasattr(ONE, name)
        assert hasattr(Limits(), name)
        assert hasattr(Quota(), setting)


# ── letting through ────────────────────────────────────────────────────────────────────────────────────


async def test_without_limits_only_calls_in_flight_are_counted():
    account = limiter(concurrency=2)
    first = await account.reserve(tokens(10**9))
    assert (first.taken, first.waited) == ({}, None)
    assert not account.counts_tokens
    assert account.snapshot().in_flight == 1
    await account.settle(first, ONE)
    assert account.snapshot().in_flight == 0


async def test_without_any_cap_everybody_goes():
    account = limiter(concurrency=None)
    for _ in range(1000):
        await account.reserve(ONE)
    assert (account.snapshot().in_flight, account.snapshot().concurrency) == (1000, None)


async def test_settling_twice_changes_nothing():
    account = limiter(rpm=60, tpm=1000)
    reservation = await account.reserve(tokens(10))
    await account.settle(reservation, NOTHING)
    before = account.snapshot()
    await account.settle(reservation, tokens(500))
    assert account.snapshot() == before


@pytest.mark.parametrize(
    ("quota", "cost", "wait"),
    [
        ({"rpm": 60}, ONE, 0.0),
        ({"rpm": 60, "tpm": 6000}, tokens(600), 300 / 95),
        ({"rpm": 60, "input_tpm": 6000}, tokens(600), 300 / 95),
        ({"rpm": 60, "output_tpm": 6000}, Cost(1, 9999, 600), 300 / 95),
        ({"rpm": 60, "tpm": 6000}, Cost(1, 300, 300), 300 / 95),
    ],
)
async def test_every_dimension_has_to_have_room(quota, cost, wait):
    """The account is used first so that what lacks most says how long: requests have room."""
    account = limiter(**quota)
    await account.reserve(Cost(1, 300, 300 if "output_tpm" in quota else 0))
    assert await account.eta(cost) == pytest.approx(wait, abs=1e-6)


async def test_one_reservation_takes_of_all_dimensions_or_of_none():
    async with crowd(rpm=60, tpm=6000) as people:
        account = people.account
        await people.call("a", tokens(300))
        before = account.snapshot().levels
        await people.call("b", tokens(300))
        assert account.snapshot().levels == before
        await people.clock.turn(4)
        assert people.names == ["a", "b"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 8), st.integers(1, 900), st.sampled_from([0.0, 0.3, 1.0]), st.floats(0.1, 40)),
        max_size=25,
    ),
    st.sampled_from([False, True]),
)
def test_no_minute_has_more_than_the_limits_whoever_comes_when(arrivals, blocked):
    """P102, through the queue: requests and tokens, with refunds, refusals and a block in between."""

    async def run() -> None:
        clock = FakeClock((0.3,))
        account = Limiter("home", Quota(rpm=12, tpm=1000, concurrency=4), clock)
        used: list[tuple[float, int]] = []

        async def call(amount: int, share: float, held: float) -> None:
            try:
                reservation = await account.reserve(tokens(amount))
            except UpstreamError:
                return
            at = clock.now()
            try:
                await clock.sleep(held)
            finally:
                used.append((at, int(amount * share)))
                await account.settle(reservation, tokens(int(amount * share)))

        tasks = []
        for number, (gap, amount, share, held) in enumerate(arrivals):
            await clock.turn(gap)
            tasks.append(asyncio.create_task(call(amount, share, held)))
            if blocked and number == 5:
                await account.block(7, "rate_limit")
        await clock.turn(300)
        assert all(task.done() for task in tasks)
        for at, _ in used:
            window = [amount for when, amount in used if at - 60 <= when <= at]
            assert len(window) <= 12
            assert sum(window) <= 1000
        assert account.snapshot().in_flight == 0

    asyncio.run(run())


async def test_nearly_all_of_a_limit_is_used_by_a_queue():
    """P103, through the queue."""
    async with crowd(rpm=60, max_wait=3600, concurrency=None) as people:
        for number in range(300):
            people.tasks[str(number)] = asyncio.create_task(people._call(str(number), ONE, {}))
        await people.clock.turn(240)
        assert len(people.served) >= 0.95 * 60 * 4


# ── the queue ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_large_request_is_served_next_and_nobody_overtakes_it():
    """P104: eight tenths of the limit, with small ones behind it that would have fitted all the time."""
    async with crowd(tpm=1000, max_wait=600) as people:
        await people.call("before", tokens(500))
        await people.call("large", tokens(800))
        for number in range(20):
            await people.call(f"small{number}", tokens(10))
        assert people.names == ["before"]
        await people.clock.turn(62)
        assert people.names[1] == "large"
        await people.clock.turn(120)
        assert people.names[2:] == [f"small{number}" for number in range(20)]


async def test_whoever_comes_while_others_wait_goes_behind_them():
    """P104: also when there is room for the newcomer alone."""
    async with crowd(tpm=6000, concurrency=2) as people:
        await people.call("a", tokens(300))
        await people.call("b", tokens(200))
        await people.clock.turn(1)  # room for 95
        await people.call("c", tokens(1))
        assert people.names == ["a"]
        await people.clock.turn(5)
        assert people.names == ["a", "b"]
        await people.end("a")
        assert people.names == ["a", "b", "c"]


async def test_more_than_the_limit_is_refused_at_once():
    """P105: with a kind that lets other targets try, and a status that says what is wrong."""
    account = limiter(tpm=1000)
    error = await refusal(account, tokens(1001))
    assert (error.status, error.code, error.failover) == (413, "request_too_large", True)
    assert "1001 tokens" in error.message
    assert await account.eta(tokens(1001)) == float("inf")
    assert account.violations == {"too_large": 1}


async def test_who_waits_is_refused_when_headers_make_the_limit_too_small():
    """P105."""
    async with crowd(tpm=1000, max_wait=100) as people:
        await people.call("a", tokens(500))
        task = await people.call("b", tokens(400))
        await people.account.sync(Limits(tokens=Window(300, None, None)), people.clock.now())
        await people.clock.settle()
        assert isinstance(task.exception(), UpstreamError)
        assert task.exception().status == 413


@pytest.mark.parametrize(("quota", "deadline"), [({"max_wait": 4.0}, None), ({"max_wait": 30.0}, 1004.0)])
async def test_who_would_wait_too_long_is_refused_at_once_and_told_how_long(quota, deadline):
    """P106: with the seconds after which it would really have been let through, ±10 %."""
    async with crowd(rpm=60, **quota) as people:
        for number in range(3 + 3):
            await people.call(str(number))
        began = people.clock.now()
        error = await refusal(people.account, deadline=deadline)
        assert people.clock.now() == began
        assert (error.kind, error.status, error.failover) == (ErrorKind.RATE_LIMIT, 429, True)
        await people.clock.turn(error.retry_after - 0.01)
        assert len(people.served) == 6
        assert await people.account.eta(ONE) <= 0.1 * error.retry_after
        assert people.account.violations == {"wait_too_long": 1}


async def test_a_call_in_flight_that_does_not_end_is_waited_for_no_longer_than_allowed():
    """P106: nobody knew how long it would take."""
    async with crowd(concurrency=1, max_wait=30) as people:
        await people.call("a")
        task = await people.call("b")
        await people.clock.turn(29.9)
        assert not task.done()
        await people.clock.turn(0.2)
        assert task.exception().retry_after == 2.0
        await people.end("a")
        await people.call("c")
        assert people.names == ["a", "c"]


async def test_a_deadline_that_has_passed_is_refused_at_once():
    async with crowd(concurrency=1) as people:
        await people.call("a")
        error = await refusal(people.account, deadline=people.clock.now())
        assert error.kind is ErrorKind.RATE_LIMIT


async def test_the_queue_has_an_end():
    """P107."""
    async with crowd(concurrency=1, max_queue=3) as people:
        await people.call("in")
        for number in range(3):
            await people.call(str(number))
        error = await refusal(people.account)
        assert (error.status, people.account.violations) == (429, {"queue_full": 1})
        assert error.retry_after > 0
        assert people.account.snapshot().queued == 3


async def test_what_could_never_go_is_told_so_before_the_queue_is_looked_at():
    """P105: it would come back for nothing."""
    async with crowd(concurrency=1, max_queue=0, tpm=1000) as people:
        await people.call("in")
        assert (await refusal(people.account, tokens(1001))).status == 413
        assert (await refusal(people.account, tokens(1))).status == 429


async def test_two_hundred_who_leave_leave_nothing():
    """P107: no place, no permit, no token, no task."""
    async with crowd(rpm=600, tpm=60_000, concurrency=1) as people:
        await people.call("in", tokens(10))
        for number in range(200):
            people.tasks[str(number)] = asyncio.create_task(people._call(str(number), tokens(1), {}))
        await people.clock.settle()
        levels = people.account.snapshot().levels
        assert people.account.snapshot().queued == 200
        waiting = [task for name, task in people.tasks.items() if name != "in"]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        now = people.account.snapshot()
        assert (now.queued, now.in_flight, now.levels) == (0, 1, levels)
        assert len(asyncio.all_tasks()) == 1
        await people.end("in", tokens(10))
        await people.call("next")
        assert people.names == ["in", "next"]


async def test_when_the_head_leaves_the_next_one_goes():
    """P107: it may have waited for nothing but the head."""
    async with crowd(tpm=1000, max_wait=600) as people:
        await people.call("a", tokens(50))
        head = await people.call("head", tokens(1000))
        await people.clock.turn(5)
        await people.call("b", tokens(1))
        head.cancel()
        await people.clock.settle()
        assert people.names == ["a", "b"]


async def test_who_leaves_in_the_moment_it_is_let_through_keeps_nothing():
    async with crowd(concurrency=1) as people:
        await people.call("a")
        b = await people.call("b")
        await people.call("c")
        await people.account.settle(people.got["a"], ONE)  # b is woken, and not run yet
        b.cancel()
        await people.clock.settle()
        assert people.names == ["a", "c"]
        assert people.account.snapshot().in_flight == 1


async def test_more_calls_than_may_be_in_flight_wait_here_and_nowhere_else():
    """P22."""
    async with crowd(concurrency=64) as people:
        most = 0

        async def call() -> None:
            nonlocal most
            reservation = await people.account.reserve(ONE)
            most = max(most, people.account.snapshot().in_flight)
            await people.clock.sleep(1)
            await people.account.settle(reservation, ONE)

        calls = [asyncio.create_task(call()) for _ in range(300)]
        for _ in range(300):
            await people.clock.turn(0.1)
        assert all(call.done() and call.exception() is None for call in calls)
        assert most == 64


async def test_clients_take_turns():
    """P107: one with a hundred calls does not keep another from its first."""
    async with crowd(concurrency=1) as people:
        await people.call("in")
        for number in range(4):
            await people.call(f"a{number}", client="a")
        for number in range(2):
            await people.call(f"b{number}", client="b")
        await people.call("c0", client="c")
        for _ in range(7):
            await people.end(people.names[-1])
        assert people.names == ["in", "a0", "b0", "c0", "a1", "b1", "a2", "a3"]


async def test_a_client_whose_head_leaves_keeps_its_turn():
    """P107."""
    async with crowd(concurrency=1) as people:
        await people.call("in")
        head = await people.call("a0", client="a")
        await people.call("a1", client="a")
        await people.call("b0", client="b")
        head.cancel()
        await people.end("in")
        await people.end("a1")
        assert people.names == ["in", "a1", "b0"]


async def test_a_refund_wakes_who_waits_at_once():
    """P108."""
    async with crowd(tpm=6000) as people:
        await people.call("a", tokens(300))
        await people.call("b", tokens(300))
        await people.end("a", tokens(0))
        assert people.served == [(0.0, "a"), (0.0, "b")]


async def test_a_call_that_ends_wakes_who_waits_at_once():
    async with crowd(concurrency=1) as people:
        await people.call("a")
        await people.call("b")
        await people.clock.turn(3)
        await people.end("a")
        assert people.served == [(0.0, "a"), (3.0, "b")]
        assert people.got["b"].waited == 3.0


async def test_who_waits_is_told_where_it_stands():
    told: list[tuple[float, int, float]] = []
    async with crowd(concurrency=1) as people:
        await people.call("a")
        await people.clock.turn(10)
        await people.end("a")  # calls take ten seconds
        for name in ("b", "c", "d"):
            await people.call(
                name,
                waiting=lambda place, s, n=name: n == "d" and told.append((people.clock.now(), place, s)),
            )
        await people.clock.turn(TELL_SECONDS)
        await people.end("b")
        await people.clock.turn(TELL_SECONDS)
        await people.end("c")
        assert people.names == ["a", "b", "c", "d"]
    assert [(when - 1010, place) for when, place, _ in told] == [(0, 2), (5, 2), (5, 1), (10, 1)]
    assert [seconds for *_, seconds in told] == [20, 20, 9.5, 9.5]  # once a call took five


async def test_the_wait_that_is_told_is_the_one_that_comes():
    told: list[tuple[int, float]] = []
    async with crowd(rpm=60) as people:
        for number in range(5):
            await people.call(str(number))
        await people.call("me", waiting=lambda place, seconds: told.append((place, seconds)))
        place, seconds = told[0]
        assert place == 3
        await people.clock.turn(seconds - 0.01)
        assert "me" not in people.names
        await people.clock.turn(0.02)
        assert "me" in people.names


async def test_the_shortest_wait_can_be_asked_without_entering():
    async with crowd(rpm=60) as people:
        for number in range(5):
            await people.call(str(number))
        assert await people.account.eta(ONE) == pytest.approx(3 * 60 / 57)
        assert people.account.snapshot().queued == 2


# ── blocks ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_nobody_goes_before_a_block_is_over():
    async with crowd() as people:
        await people.account.block(8, "rate_limit")
        await people.call("a")
        assert people.account.snapshot().blocked == 8
        assert people.account.snapshot().reason == "rate_limit"
        await people.clock.turn(7.9)
        assert people.names == []
        await people.clock.turn(0.1)
        assert people.served == [(8.0, "a")]
        assert people.account.snapshot().reason is None


@pytest.mark.parametrize(("seconds", "extra"), [(8, 0.8), (1, 0.1), (60, 2.0)])
async def test_a_stated_wait_is_drawn_out_a_little(seconds, extra):
    """P111: U(0, 10 %), 2 s at most, so that several gateways do not come back as one."""
    for chance in (0.0, 0.5, 0.999):
        account = limiter(FakeClock((chance,)))
        await account.block(seconds, "rate_limit")
        assert account.snapshot().blocked == pytest.approx(seconds + chance * extra)


async def test_a_shorter_block_does_not_end_a_longer_one():
    account = limiter()
    await account.block(60, "quota")
    await account.block(5, "rate_limit")
    assert (account.snapshot().blocked, account.snapshot().reason) == (60, "quota")
    await account.block(90, "rate_limit")
    assert account.snapshot().blocked == 90


async def test_who_cannot_wait_until_a_block_is_over_is_told_at_once():
    """P106: whoever waits already, and whoever comes."""
    async with crowd(concurrency=1, max_wait=10) as people:
        await people.call("a")
        waiting = [await people.call(name) for name in ("b", "c")]
        await people.account.block(40, "rate_limit")
        await people.clock.settle()
        for task in waiting:
            assert task.exception().retry_after == pytest.approx(40)
        assert (await refusal(people.account)).retry_after == pytest.approx(40)


@pytest.mark.parametrize(
    ("quota", "few"),
    [
        ({"concurrency": 64}, 3),
        ({"rpm": 600, "mirrors": True}, 30),
        ({"rpm": 600}, 30),
        ({"concurrency": 4}, 1),
    ],
)
async def test_after_a_block_calls_go_a_few_at_a_time(quota, few):
    """P111: all wait for the same moment, and are let through at most `few` at once and a second."""
    async with crowd(max_wait=100, **quota) as people:
        await people.account.block(20, "rate_limit")
        for number in range(100):
            people.tasks[str(number)] = asyncio.create_task(people._call(str(number), ONE, {}))
        await people.clock.turn(19.9)
        assert people.names == []
        await people.clock.turn(0.1)
        for _ in range(3):
            for _ in people.tasks:  # each wakes the next
                await people.clock.settle()
            for name in people.names:
                await people.end(name)
            await people.clock.turn(1)
        assert sum(when == 20 for when, _ in people.served) == few
        for start, _ in people.served:
            assert sum(start <= when < start + 1 for when, _ in people.served) <= 2 * few + 1
        assert len(people.served) > few


async def test_some_time_after_a_block_calls_go_as_before():
    async with crowd(concurrency=64) as people:
        await people.account.block(5, "rate_limit")
        await people.clock.turn(5 + PACED_SECONDS + 0.1)
        for number in range(64):
            await people.call(str(number))
        assert len(people.served) == 64


async def test_where_concurrency_changes_a_refusal_halves_it_and_answers_raise_it():
    async with crowd(concurrency=8, adaptive=True) as people:
        for number in range(8):
            await people.call(str(number))
        await people.account.block(1, "rate_limit")
        assert people.account.snapshot().concurrency == 4
        for number in range(4):
            await people.end(str(number))
        assert 4 <= people.account.snapshot().concurrency <= 5
        await people.clock.turn(1 + PACED_SECONDS + 1)
        for number in range(4, 200):
            await people.end(str(number))
            await people.call(str(number + 4))
        assert people.account.snapshot().concurrency == 8


async def test_every_violation_is_logged_once_and_counted(caplog):
    caplog.set_level(logging.WARNING, logger="gateway.resilience")
    account = limiter(rpm=60)
    await account.block(60, "rate_limit")
    await refusal(account)
    assert account.snapshot().violations == {"rate_limit": 1, "wait_too_long": 1}
    assert [record.message.split(": ")[:2] for record in caplog.records] == [
        ["home", "rate_limit"],
        ["home", "wait_too_long"],
    ]


# ── headers ────────────────────────────────────────────────────────────────────────────────────────────


async def test_limits_that_nobody_set_are_learned():
    account = limiter(mirrors=True)
    assert not account.counts_tokens
    headers = Limits(
        requests=Window(50, 49, 1.0), output_tokens=Window(8000, 8000, 0.0), tokens=Window(None, 5)
    )
    await account.sync(headers, 1000.0)
    assert account.snapshot().limits == {"requests": 50, "output_tokens": 8000}
    assert account.snapshot().levels == {"requests": 49, "output_tokens": 8000}
    assert account.counts_tokens
    await account.settle(await account.reserve(Cost(1, 5, 5)), Cost(1, 5, 5))
    assert account.snapshot().levels == {"requests": 48, "output_tokens": 7995}


@pytest.mark.parametrize("limit", [None, 0, -5])
async def test_a_limit_that_is_none_is_not_learned(limit):
    account = limiter()
    await account.sync(Limits(requests=Window(limit, 0, 60.0)), 1000.0)
    assert account.snapshot().limits == {}


async def test_headers_in_flight_hold_back_who_comes():
    """P109: what others used of the account is not there."""
    account = limiter(rpm=60)
    await account.sync(Limits(requests=Window(60, 0, 12.0)), 1000.0)
    assert await account.eta(ONE) == pytest.approx(12.0)


async def test_a_call_that_was_let_through_before_a_limit_was_learned_is_settled_all_the_same():
    account = limiter()
    reservation = await account.reserve(ONE)
    await account.sync(Limits(tokens=Window(1000, 900, 60.0)), 1000.0)
    before = account.snapshot().levels
    await account.settle(reservation, tokens(500))
    assert account.snapshot().levels == before


# ── the accounts of a provider ─────────────────────────────────────────────────────────────────────────


async def test_models_of_a_class_share_an_account_of_their_own():
    accounts = Accounts("home", Quota(rpm=60), FakeClock(), {"big-*": Quota(rpm=6), "*-mini": Quota()})
    assert accounts("big-1") is accounts("big-2")
    assert accounts("big-mini") is accounts("big-1")
    assert accounts("a-mini") is accounts("b-mini")
    assert set(accounts.snapshot()) == {"home", "home/big-*", "home/*-mini"}


async def test_what_is_learned_of_a_model_is_its_own_and_the_rest_is_shared():
    clock = FakeClock()
    accounts = Accounts("home", Quota(concurrency=2), clock, max_models=2)
    await accounts("one").block(60, "rate_limit")
    assert await accounts("one").eta(Cost()) >= 60
    assert await accounts("two").eta(Cost()) == 0
    await accounts("two").sync(Limits(requests=Window(10, 0, 30)), clock.now())
    assert await accounts("two").eta(Cost()) > 0
    assert await accounts("three").eta(Cost()) == 0
    assert await accounts("one").eta(Cost()) >= 60, "one that is blocked does not make room for others"
    held = [await accounts("three").reserve(Cost()) for _ in range(2)]
    assert await accounts("four").eta(Cost()) > 0, "calls in flight are those of the key, whatever the model"
    await accounts("three").settle(held[0], Cost())
    assert await accounts("four").eta(Cost()) == 0
    accounts.close(3600, "quota")
    assert all([await accounts(name).eta(Cost()) >= 3600 for name in ("one", "three", "five")])


async def test_a_call_that_is_refused_by_the_key_takes_nothing_of_its_model():
    clock = FakeClock()
    accounts = Accounts("home", Quota(concurrency=1, max_wait=0), clock)
    held = await accounts("one").reserve(Cost())
    with pytest.raises(UpstreamError):
        await accounts("one").reserve(Cost())
    await accounts("one").settle(held, Cost())
    seen = accounts.snapshot()
    assert {name: found.in_flight for name, found in seen.items()} == {"home": 0, "home/one": 0}


async def test_models_beyond_the_bound_share_an_account():
    accounts = Accounts("home", Quota(), FakeClock(), max_models=1)
    await accounts("one").block(60, "rate_limit")
    assert accounts("two") is accounts("three")
    assert await accounts("two").eta(Cost()) == 0


def test_refusals_of_one_moment_lower_what_may_be_in_flight_once():
    clock = FakeClock()
    account = Limiter("home", Quota(concurrency=64, adaptive=True), clock)
    for _ in range(64):
        account._in_flight += 1
    for _ in range(10):
        account.shrink()
    assert account.snapshot().concurrency == 32
    account._cap, account._in_flight, clock.time = 2, 60, clock.time + 5
    account.shrink()
    assert account.snapshot().concurrency == 1, "it is never raised by a refusal"
