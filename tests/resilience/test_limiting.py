"""The layer: every attempt is let through and settled once, by what is known of how it ended."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest

from gateway.chat import ChatRequest, Chunk, Usage
from gateway.errors import ErrorKind, UpstreamError
from gateway.exchange import CALLER, NOBODY, Caller, Exchange, Target
from gateway.limits import Limits, Window
from gateway.resilience.estimate import OUTPUT_TOKENS, Counting, Estimates
from gateway.resilience.limiter import NOTHING, Cost, Limiter, Quota, Reservation
from gateway.resilience.limiting import (
    BLOCKS,
    ENDINGS,
    LONGEST_BLOCK,
    SHORTEST_BLOCK,
    Ending,
    Metered,
    RateLimiting,
    block_of,
    charge,
)

from ..fakes import FakeExchange, chat
from .fakes import FakeClock

TPM, RPM = 1_000_000, 1000
USAGE = Usage(prompt_tokens=700, completion_tokens=90, cached_tokens=100)
TEXT = Chunk(text="x" * 30)  # ten tokens
END = Chunk(finish_reason="stop")
LAST = Chunk(last=True)
REQUEST = chat(max_tokens=50)
RESERVED = Estimates().cost(REQUEST)


class Scripted(FakeExchange):
    """Plays batches; a `Usage` among them is known from then on, an error is raised."""

    def __init__(self, script: Iterable[list[Chunk] | Usage | UpstreamError]) -> None:
        super().__init__(Target("home", "m"), ())
        self.script = list(script)

    async def read(self) -> list[Chunk]:
        while self.script:
            step = self.script.pop(0)
            if isinstance(step, UpstreamError):
                raise step
            if isinstance(step, list):
                return step
            self.usage = step
        return []


class Home:
    """An `Open` of one scripted answer, or of a failure."""

    def __init__(self, *script: list[Chunk] | Usage | UpstreamError, limits: Limits | None = None) -> None:
        self.script, self.limits, self.left = script, limits, 0

    @asynccontextmanager
    async def __call__(self, request: ChatRequest) -> AsyncIterator[Exchange]:
        if self.script and isinstance(self.script[0], UpstreamError):
            raise self.script[0]
        exchange = Scripted(self.script)
        exchange.limits = self.limits
        try:
            yield exchange
        finally:
            self.left += 1


def failure(kind: ErrorKind, **details) -> UpstreamError:
    return UpstreamError(kind, "failed", **{"hop": "home"} | details)


def account(clock: FakeClock | None = None, **quota) -> Limiter:
    """One whose levels say to the token what was charged: nothing flows in while the clock stands."""
    quota = {"rpm": RPM, "input_tpm": TPM, "output_tpm": TPM, "burst": 1.0} | quota
    return Limiter("home", Quota(**quota), clock or FakeClock((0.0,)))


def charged(used: Limiter) -> Cost:
    now = used.snapshot()
    assert (now.in_flight, now.queued) == (0, 0)
    return Cost(
        round(RPM - now.levels["requests"]),
        round(TPM - now.levels["input_tokens"]),
        round(TPM - now.levels["output_tokens"]),
    )


# ── the rules ──────────────────────────────────────────────────────────────────────────────────────────

HELD = Cost(1, 100, 50)


@pytest.mark.parametrize(
    ("ending", "counted", "seen", "stays"),
    [
        (Ending.WHOLE, Cost(1, 70, 20), 10, Cost(1, 70, 20)),
        (Ending.WHOLE, Cost(1, 170, 120), 10, Cost(1, 170, 120)),
        (Ending.CUT, None, 10, HELD),
        (Ending.CUT, None, 80, Cost(1, 100, 80)),
        (Ending.CUT, Cost(1, 70, 1), 10, HELD),
        (Ending.CUT, Cost(1, 170, 120), 10, Cost(1, 170, 120)),
        (Ending.LEFT, None, 10, Cost(1, 100, 10)),
        (Ending.LEFT, None, 80, Cost(1, 100, 80)),
        (Ending.LEFT, Cost(1, 70, 1), 10, Cost(1, 70, 10)),
        (Ending.LEFT, Cost(1, 0, 30), 10, Cost(1, 100, 30)),
        (Ending.REFUSED, None, 0, Cost(1, 0, 0)),
        (Ending.UNSENT, None, 0, NOTHING),
    ],
)
def test_what_a_call_is_charged(ending, counted, seen, stays):
    """P108: never below the prompt and what was seen, once it was sent and its cost is not known."""
    assert charge(ending, HELD, counted, seen) == stays


@pytest.mark.parametrize("kind", ErrorKind)
async def test_what_a_failure_before_any_content_is_charged(kind):
    stays = {
        Ending.UNSENT: NOTHING,
        Ending.REFUSED: Cost(1, 0, 0),
        Ending.CUT: RESERVED,
    }[ENDINGS.get(kind, Ending.CUT)]
    used = account()
    with pytest.raises(UpstreamError):
        async with RateLimiting(Home(failure(kind)), lambda _: used)(REQUEST):
            pass
    assert charged(used) == stays


def test_which_failures_cost_nothing():
    unsent = {kind for kind, ending in ENDINGS.items() if ending is Ending.UNSENT}
    assert unsent == {ErrorKind.UNREACHABLE, ErrorKind.TLS}
    for kind in (ErrorKind.TIMEOUT, ErrorKind.RESET, ErrorKind.SERVER, ErrorKind.INTERRUPTED):
        assert kind not in ENDINGS


async def test_what_the_gateway_itself_refused_is_given_back():
    used = account()
    open_ = RateLimiting(Home(failure(ErrorKind.RATE_LIMIT, hop="gateway", retry_after=9)), lambda _: used)
    with pytest.raises(UpstreamError):
        async with open_(REQUEST):
            pass
    assert charged(used) == NOTHING
    assert used.snapshot().blocked == 0


SEEN = [TEXT]


@pytest.mark.parametrize(
    ("script", "reads", "stays"),
    [
        pytest.param([SEEN, [END], USAGE], 9, Cost(1, 700, 90), id="whole: as counted"),
        pytest.param([USAGE, [TEXT, END]], 1, Cost(1, 700, 90), id="whole, not read to its end"),
        pytest.param([USAGE, [*SEEN * 40, LAST]], 1, Cost(1, 700, 90), id="whole by its end mark alone"),
        pytest.param([USAGE, SEEN * 40], 9, Cost(1, 700, 90), id="whole by its end alone"),
        pytest.param([SEEN, [END]], 9, RESERVED, id="whole, never counted: all that was reserved"),
        pytest.param([SEEN * 40, [END]], 9, Cost(1, RESERVED.input_tokens, 400), id="and more if more came"),
        pytest.param([SEEN, failure(ErrorKind.INTERRUPTED)], 9, RESERVED, id="cut: all that was reserved"),
        pytest.param(
            [SEEN * 40, failure(ErrorKind.INTERRUPTED)],
            9,
            Cost(1, RESERVED.input_tokens, 400),
            id="cut: all that was seen",
        ),
        pytest.param(
            [USAGE, SEEN, failure(ErrorKind.RESET)],
            9,
            Cost(1, 700, 90),
            id="cut: what was counted until then",
        ),
        pytest.param([SEEN, SEEN, [END]], 1, Cost(1, RESERVED.input_tokens, 10), id="left: prompt and seen"),
        pytest.param([USAGE, SEEN, [END]], 1, Cost(1, 700, 90), id="left: the prompt as counted"),
        pytest.param([SEEN], 0, Cost(1, RESERVED.input_tokens, 0), id="left before reading"),
    ],
)
@pytest.mark.parametrize("leaving", ["in peace", "by cancellation"])
async def test_what_an_answer_is_charged(script, reads, stays, leaving):
    """P108, P37: however the one who reads it takes its end."""
    used, home = account(), Home(*script)
    with pytest.raises((UpstreamError, asyncio.CancelledError, StopAsyncIteration)):
        async with RateLimiting(home, lambda _: used)(REQUEST) as exchange:
            for _ in range(reads):
                if not await exchange.read():
                    break
            raise StopAsyncIteration if leaving == "in peace" else asyncio.CancelledError
    assert charged(used) == stays
    assert home.left == 1


async def test_a_failure_that_the_reader_swallowed_is_known_all_the_same():
    used = account()
    async with RateLimiting(Home(SEEN, failure(ErrorKind.RATE_LIMIT, retry_after=7)), lambda _: used)(
        REQUEST
    ) as exchange:
        await exchange.read()
        with pytest.raises(UpstreamError):
            await exchange.read()
    assert charged(used) == RESERVED
    assert used.snapshot().blocked == 7


async def test_a_bug_of_ours_gives_the_permit_back():
    used = account()
    with pytest.raises(ZeroDivisionError):
        async with RateLimiting(Home(SEEN), lambda _: used)(REQUEST):
            _ = 1 / 0
    assert used.snapshot().in_flight == 0


async def test_what_was_read_from_a_cache_is_free_where_the_provider_says_so():
    used = account()
    open_ = RateLimiting(Home([END], USAGE), lambda _: used, Estimates(Counting(cached=False)))
    async with open_(REQUEST) as exchange:
        await exchange.collect()
    assert charged(used) == Cost(1, 600, 90)


async def test_estimates_learn_from_whole_answers_only():
    estimates, used = Estimates(), account()
    for script in ([USAGE, SEEN], [USAGE, SEEN, failure(ErrorKind.RESET)]):
        with pytest.raises((UpstreamError, StopAsyncIteration)):
            async with RateLimiting(Home(*script), lambda _: used, estimates)(REQUEST) as exchange:
                while await exchange.read() and len(script) > 2:
                    pass
                raise StopAsyncIteration
        assert len(estimates) == 0
    async with RateLimiting(Home([END], USAGE), lambda _: used, estimates)(REQUEST) as exchange:
        await exchange.collect()
    assert len(estimates) == 1


# ── blocks ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("stated", "seconds"),
    [
        (None, 5.0),
        (2.0, 2.0),
        (2.5, 2.5),
        (0.05, 0.05),
        (0.0, SHORTEST_BLOCK),
        (3601.0, LONGEST_BLOCK),
        (-1.0, 5.0),
        (math.inf, 5.0),
        (math.nan, 5.0),
    ],
)
def test_a_refusal_blocks_as_long_as_it_says(stated, seconds):
    """P10: never for nothing, never for ever."""
    assert block_of(failure(ErrorKind.RATE_LIMIT, retry_after=stated)) == seconds


@pytest.mark.parametrize(("stated", "seconds"), [(None, 3600.0), (600.0, 600.0), (86_400.0, 3600.0)])
def test_a_quota_blocks_for_an_hour_or_until_its_reset(stated, seconds):
    assert block_of(failure(ErrorKind.QUOTA, retry_after=stated)) == seconds


@pytest.mark.parametrize("kind", [kind for kind in ErrorKind if kind not in BLOCKS])
def test_nothing_else_blocks(kind):
    assert block_of(failure(kind, retry_after=30)) is None


async def test_a_refused_call_keeps_its_request_gets_its_tokens_back_and_closes_the_account():
    """P10: until the stated reset, ±50 ms."""
    clock = FakeClock((0.0,))
    used = account(clock)
    with pytest.raises(UpstreamError):
        async with RateLimiting(Home(failure(ErrorKind.RATE_LIMIT, retry_after=2.5)), lambda _: used)(
            REQUEST
        ):
            pass
    assert charged(used) == Cost(1, 0, 0)
    waiting = asyncio.create_task(_whole(RateLimiting(Home([END], USAGE), lambda _: used)))
    await clock.turn(2.45)
    assert not waiting.done()
    await clock.turn(0.1)
    assert waiting.done()
    assert await waiting == 2.5


async def _whole(open_: RateLimiting) -> float | None:
    async with open_(REQUEST) as exchange:
        await exchange.collect()
        return exchange.timings.queued


# ── around an answer ───────────────────────────────────────────────────────────────────────────────────


async def test_without_limits_an_answer_is_the_inner_one():
    used = Limiter("home", Quota(), FakeClock())
    async with RateLimiting(Home(SEEN, [END], USAGE), lambda _: used)(REQUEST) as exchange:
        assert isinstance(exchange, Scripted)
        assert used.snapshot().in_flight == 1
        assert exchange.timings.queued is None
        await exchange.collect()
    assert used.snapshot().in_flight == 0


async def test_with_limits_an_answer_says_all_that_the_inner_one_says():
    used, limits = account(), Limits(requests=Window(RPM, RPM, 0.0))
    async with RateLimiting(Home(SEEN, [END], USAGE, limits=limits), lambda _: used)(REQUEST) as exchange:
        assert isinstance(exchange, Metered)
        assert (exchange.target, exchange.usage, exchange.limits) == (Target("home", "m"), None, limits)
        whole = await exchange.collect()
        assert (whole.text, whole.finish_reason, exchange.usage) == (TEXT.text, "stop", USAGE)


async def test_the_headers_of_an_answer_are_believed_before_it_is_read():
    used = account(rpm=RPM)
    limits = Limits(requests=Window(RPM, 3, 30.0))
    async with RateLimiting(Home(SEEN, limits=limits), lambda _: used)(REQUEST):
        assert used.snapshot().levels["requests"] == 3


async def test_limits_that_headers_tell_are_kept_from_then_on():
    used = Limiter("home", Quota(mirrors=True), FakeClock())
    limits = Limits(tokens=Window(100_000, 90_000, 6.0))
    home = Home(SEEN, [END], USAGE, limits=limits)
    await _whole(RateLimiting(home, lambda _: used))
    assert used.snapshot().levels == {"tokens": 90_000}
    await _whole(RateLimiting(home, lambda _: used))
    assert used.snapshot().levels == {"tokens": 90_000 - USAGE.total_tokens}


async def test_every_model_goes_on_its_own_account():
    accounts = {"m": account(), "n": account()}
    open_ = RateLimiting(Home([END], USAGE), accounts.__getitem__)
    await _whole(open_)
    assert charged(accounts["m"]).requests == 1
    assert charged(accounts["n"]).requests == 0


async def test_who_waits_at_the_layer_is_told_and_leaves_at_its_deadline():
    clock, told = FakeClock((0.0,)), []
    used = account(clock, concurrency=1)
    CALLER.set(
        Caller(deadline=1010.0, client="c", waiting=lambda place, seconds: told.append((place, seconds)))
    )
    open_ = RateLimiting(Home([END], USAGE), lambda _: used)
    async with open_(REQUEST):
        waiting = asyncio.create_task(_whole(open_))
        await clock.turn(9.9)
        assert told[0] == (1, 2.0)
        assert not waiting.done()
        await clock.turn(0.2)
    with pytest.raises(UpstreamError) as caught:
        await waiting
    assert (caught.value.kind, caught.value.hop) == (ErrorKind.RATE_LIMIT, "gateway")


async def test_whose_call_it_is_reaches_the_account():
    heard = []

    class Listening(Limiter):
        async def reserve(self, cost: Cost, **how) -> Reservation:
            heard.append(how)
            return await super().reserve(cost, **how)

    used = Listening("home", Quota(), FakeClock())
    CALLER.set(Caller(deadline=1010.0, client="c", waiting=print))
    await _whole(RateLimiting(Home([END]), lambda _: used))
    CALLER.set(NOBODY)
    await _whole(RateLimiting(Home([END]), lambda _: used))
    assert heard == [
        {"deadline": 1010.0, "client": "c", "waiting": print},
        {"deadline": None, "client": "", "waiting": None},
    ]


async def test_a_client_that_leaves_the_queue_leaves_nothing():
    """P107."""
    clock, home = FakeClock((0.0,)), Home(SEEN)
    used = account(clock, concurrency=1)
    open_ = RateLimiting(home, lambda _: used)
    async with open_(REQUEST):
        waiting = asyncio.create_task(_whole(open_))
        await clock.settle()
        assert used.snapshot().queued == 1
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert home.left == 1
    assert charged(used) == Cost(1, RESERVED.input_tokens, 0)


async def test_the_smallest_wait_can_be_asked_of_each_target():
    """What a call to a model would cost there is part of the answer."""
    used = account()
    open_ = RateLimiting(Home(), lambda _: used)
    assert await open_.eta(REQUEST) == 0
    assert await open_.eta(chat(max_tokens=OUTPUT_TOKENS, n=128)) == 0
    await used.block(8, "rate_limit")
    assert await open_.eta(REQUEST) == 8
    assert await open_.eta(chat(messages=[{"role": "user", "content": "x" * 4 * TPM}])) == math.inf
