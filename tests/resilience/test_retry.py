"""D2, D3 and D5: which attempt comes next, as exact walks, as laws, and as the figures behind them."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterable
from statistics import quantiles

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import POLICY, ErrorKind, Retry, UpstreamError
from gateway.resilience.deadline import Deadline
from gateway.resilience.retry import (
    SLOW,
    Attempts,
    GiveUp,
    Next,
    RetryBudget,
    RetryPolicy,
    is_refusal,
)

NOW = 1000.0
K = ErrorKind


def failed(
    kind: ErrorKind = K.OVERLOADED,
    wait: float | None = None,
    status: int | None = None,
    code: str | None = None,
) -> UpstreamError:
    return UpstreamError(kind, "no", retry_after=wait, upstream_status=status, code=code)


REFUSED = failed(K.UNAVAILABLE, code="circuit_open")
DOWN, HUNG, LIMITED = failed(K.OVERLOADED), failed(K.TIMEOUT), failed(K.RATE_LIMIT)


def attempts(candidates: int, seconds: float = 600, **more) -> Attempts:
    more.setdefault("random", lambda: 0.5)
    return Attempts(candidates, more.pop("policy", RetryPolicy()), Deadline.after(NOW, seconds), **more)


Walk = list[tuple[int, float]]


def walk(machine: Attempts, errors: Iterable[UpstreamError], took: float = 0.0) -> tuple[Walk, GiveUp]:
    """Every (candidate, delay) until the end, with time passing by the delays and by `took` an attempt."""
    now = NOW
    step: Next | GiveUp = machine.first(now)
    steps = []
    for error in errors:
        assert isinstance(step, Next)
        steps.append((step.index, step.delay))
        now += step.delay + took
        step = machine.after(error, now, took)
        if isinstance(step, GiveUp):
            return steps, step
    raise AssertionError(f"not over after {steps}")


def forever(error: UpstreamError) -> Iterable[UpstreamError]:
    return itertools.repeat(error)


# ── every kind with one, two and three candidates ──────────────────────────────────────────────────────

ALONE = [(0, 0), (0, 0.5), (0, 1.0)]
QUICK = (
    ALONE,
    [(0, 0), (0, 0.125), (1, 0), (0, 0.5)],
    [(0, 0), (0, 0.125), (1, 0), (1, 0.125), (2, 0)],
)
LAST = (ALONE, [(0, 0), (1, 0), (0, 0.5)], [(0, 0), (1, 0), (2, 0), (0, 0.5)])
UNSTATED = (ALONE, [(0, 0), (1, 0), (0, 0.5), (0, 1.0)], [(0, 0), (1, 0), (2, 0), (0, 0.5), (0, 1.0)])
NEXT = ([(0, 0)], [(0, 0), (1, 0)], [(0, 0), (1, 0), (2, 0)])
END = ([(0, 0)], [(0, 0)], [(0, 0)])

WALKS: dict[ErrorKind, tuple[Walk, Walk, Walk]] = {
    K.BAD_REQUEST: END,
    K.UNSUPPORTED: NEXT,
    K.CONTENT_FILTER: END,
    K.CONTEXT_LENGTH: END,
    K.TOO_LARGE: END,
    K.NOT_FOUND: NEXT,
    K.CONFLICT: QUICK,
    K.FORBIDDEN: NEXT,
    K.AUTH: END,
    K.RATE_LIMIT: UNSTATED,
    K.QUOTA: NEXT,
    K.UNREACHABLE: QUICK,
    K.TLS: NEXT,
    K.RESET: QUICK,
    K.TIMEOUT: LAST,
    K.SERVER: QUICK,
    K.OVERLOADED: QUICK,
    K.BAD_RESPONSE: QUICK,
    K.INTERRUPTED: QUICK,
    K.UNAVAILABLE: END,
    K.INTERNAL: END,
}


@pytest.mark.parametrize("candidates", [1, 2, 3])
@pytest.mark.parametrize("kind", ErrorKind)
def test_when_everybody_fails_alike(kind: ErrorKind, candidates: int):
    """The whole failure table: who is asked, in which order, after which pause (chance is 0.5 throughout)."""
    machine = attempts(candidates)
    steps, end = walk(machine, forever(failed(kind)))
    assert steps == WALKS[kind][candidates - 1]
    assert end.error_index == len(steps) - 1
    assert machine.tried == len(steps)
    assert [failure.index for failure in machine.failures] == [index for index, _ in steps]


def test_what_may_be_repeated_may_also_fail_over():
    """Otherwise a request would end at once that a single candidate's rule promises to repeat."""
    assert all(policy.failover for policy in POLICY.values() if policy.retry is not Retry.NO)


@pytest.mark.parametrize("status", [504, 524])
def test_an_answered_timeout_is_an_answer(status: int):
    assert failed(K.TIMEOUT).retry is Retry.LAST
    assert failed(K.TIMEOUT, status=status).retry is Retry.QUICK


@pytest.mark.parametrize("code", ["circuit_open", "blocked"])
def test_a_refusal_is_known_by_its_code(code: str):
    assert is_refusal(failed(K.UNAVAILABLE, code=code))
    assert not is_refusal(failed(K.UNAVAILABLE))
    assert not is_refusal(failed(K.OVERLOADED, code=code))


# ── exact walks ────────────────────────────────────────────────────────────────────────────────────────

MIXED = {
    "two repeats in all": (2, [DOWN, DOWN, HUNG, DOWN], [(0, 0), (0, 0.125), (1, 0), (0, 0.5)]),
    "a hang is never repeated while another waits": (
        2,
        [HUNG, DOWN, DOWN, DOWN],
        [(0, 0), (1, 0), (1, 0.5), (1, 1.0)],
    ),
    "the best is the first that did not hang": (
        3,
        [HUNG, HUNG, LIMITED, DOWN, DOWN],
        [(0, 0), (1, 0), (2, 0), (2, 0.5), (2, 1.0)],
    ),
    "what cannot be repeated is not the best": (
        3,
        [failed(K.NOT_FOUND), failed(K.TLS), DOWN, DOWN, DOWN],
        [(0, 0), (1, 0), (2, 0), (2, 0.5), (2, 1.0)],
    ),
    "a refused request ends it, whatever came before": (
        2,
        [DOWN, DOWN, failed(K.BAD_REQUEST)],
        [(0, 0), (0, 0.125), (1, 0)],
    ),
    "one hang repeated a request, with company": (2, [HUNG, HUNG, HUNG], [(0, 0), (1, 0), (0, 0.5)]),
    "an open circuit costs no attempt": (
        2,
        [REFUSED, DOWN, DOWN, DOWN],
        [(0, 0), (1, 0), (1, 0.5), (1, 1.0)],
    ),
    "whoever is alone after refusals may hang three times": (
        2,
        [HUNG, REFUSED, HUNG, HUNG],
        [(0, 0), (1, 0), (0, 0.5), (0, 1.0)],
    ),
    "a circuit that opens meanwhile": (
        2,
        [DOWN, REFUSED, DOWN, DOWN, DOWN],
        [(0, 0), (0, 0.125), (1, 0), (1, 0.5), (1, 1.0)],
    ),
    "a block is not waited out": (
        2,
        [failed(K.UNAVAILABLE, 1, code="blocked"), DOWN, DOWN, DOWN],
        [(0, 0), (1, 0), (1, 0.5), (1, 1.0)],
    ),
    "all refused": (3, [REFUSED, REFUSED, REFUSED], [(0, 0), (1, 0), (2, 0)]),
}


@pytest.mark.parametrize("case", MIXED)
def test_a_walk(case: str):
    candidates, errors, expected = MIXED[case]
    assert walk(attempts(candidates), errors)[0] == expected


@pytest.mark.parametrize(
    ("kind", "wait", "candidates", "expected"),
    [
        # alone: a stated wait replaces the computed one, for every kind that may be repeated
        (K.RATE_LIMIT, 20, 1, [(0, 0), (0, 21), (0, 21)]),
        (K.OVERLOADED, 20, 1, [(0, 0), (0, 21), (0, 21)]),
        (K.TIMEOUT, 4, 1, [(0, 0), (0, 4.2), (0, 4.2)]),
        (K.RATE_LIMIT, 50, 1, [(0, 0), (0, 51), (0, 51)]),
        (K.RATE_LIMIT, 60, 1, [(0, 0), (0, 60), (0, 60)]),  # what is added stays within the cap as well
        (K.RATE_LIMIT, 60.1, 1, [(0, 0)]),
        (K.RATE_LIMIT, 0.05, 1, [(0, 0), (0, 0.0525), (0, 0.0525)]),
        (K.QUOTA, 1, 1, [(0, 0)]),
        # nothing that can be waited for: as if unstated, never a spin
        (K.RATE_LIMIT, 0, 1, ALONE),
        (K.RATE_LIMIT, -3, 1, ALONE),
        (K.RATE_LIMIT, math.nan, 1, ALONE),
        (K.RATE_LIMIT, math.inf, 1, ALONE),
        # in company: a short wait once on the same, then the next, and back to the best
        (K.RATE_LIMIT, 2, 2, [(0, 0), (0, 2.1), (1, 0), (0, 2.1)]),
        (K.OVERLOADED, 1, 2, [(0, 0), (0, 1.05), (1, 0), (0, 1.05)]),
        (K.RATE_LIMIT, 1, 3, [(0, 0), (0, 1.05), (1, 0), (1, 1.05), (2, 0)]),
        # a long one: the next at once; the second's wait is over when the first's is
        (K.RATE_LIMIT, 2.1, 2, [(0, 0), (1, 0), (0, 2.205), (1, 0)]),
        (K.OVERLOADED, 20, 2, [(0, 0), (1, 0), (0, 21), (1, 0)]),
        (K.RATE_LIMIT, 61, 3, [(0, 0), (1, 0), (2, 0)]),
        (K.TIMEOUT, 1, 2, [(0, 0), (1, 0), (0, 1.05)]),
        (K.QUOTA, 1, 2, [(0, 0), (1, 0)]),  # what may not be repeated is not waited for either
    ],
)
def test_a_stated_wait(kind: ErrorKind, wait: float, candidates: int, expected: Walk):
    """§4.4: up to 10 %, at most 2 s, are added, so that those who were told one moment come at several."""
    steps, _ = walk(attempts(candidates), forever(failed(kind, wait)))
    assert [index for index, _ in steps] == [index for index, _ in expected]
    assert [delay for _, delay in steps] == pytest.approx([delay for _, delay in expected])


def test_a_stated_wait_runs_while_others_are_asked():
    errors = [failed(K.RATE_LIMIT, 20), failed(K.QUOTA), failed(K.RATE_LIMIT, 61)]
    steps, end = walk(attempts(2), errors, took=5)
    assert steps == [(0, 0), (1, 0), (0, pytest.approx(15 * 1.05))]
    assert end.reason == "wait_too_long"


def test_a_failure_without_a_wait_goes_before_a_long_wait():
    errors = [failed(K.RATE_LIMIT, 20), DOWN, DOWN, DOWN]
    assert walk(attempts(2), errors)[0] == [(0, 0), (1, 0), (1, 0.5), (1, 1.0)]


@pytest.mark.parametrize("kind", [K.UNREACHABLE, K.SERVER])
def test_a_slow_failure_is_a_hang(kind: ErrorKind):
    """P1: a target that swallows connections for five seconds does not get another five."""
    assert walk(attempts(2), forever(failed(kind)), took=5)[0] == LAST[1]
    assert walk(attempts(2), forever(failed(kind)), took=SLOW)[0] == QUICK[1]


# ── a single candidate ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", [K.OVERLOADED, K.RATE_LIMIT, K.TIMEOUT, K.UNREACHABLE])
@pytest.mark.parametrize("chance", [0.0, 0.25, 0.999])
def test_alone_it_is_three_attempts_with_full_jitter(kind: ErrorKind, chance: float):
    """D3: base 1 s, U(0, 1) and then U(0, 2), for a 503, a 429 and a timeout alike."""
    steps, end = walk(attempts(1, random=lambda: chance), forever(failed(kind)), took=30)
    assert steps == [(0, 0), (0, chance), (0, 2 * chance)]
    assert end == GiveUp(2, "exhausted", None)


def test_each_pause_draws_anew():
    chance = iter([0.1, 0.9, 0.3])
    machine = attempts(2, random=lambda: next(chance))
    steps, _ = walk(machine, [DOWN, LIMITED, LIMITED, DOWN])
    assert steps == [(0, 0), (0, pytest.approx(0.025)), (1, 0), (0, 0.9)]


@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_the_number_of_attempts_is_a_setting(most: int):
    policy = RetryPolicy(attempts=most)
    assert len(walk(attempts(1, policy=policy), forever(DOWN))[0]) == most
    assert len(walk(attempts(2, policy=policy), forever(LIMITED))[0]) == 2 + most - 1


# ── what forbids a repeat ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("error", [DOWN, HUNG, LIMITED, failed(K.RATE_LIMIT, 1)])
def test_a_client_that_repeats_gets_no_repeats_of_ours(error: UpstreamError):
    """D6: the next candidate still, but nobody twice."""
    assert walk(attempts(1, repeats=False), forever(error)) == (
        [(0, 0)],
        GiveUp(0, "client_retry", error.retry_after),
    )
    assert walk(attempts(3, repeats=False), forever(error))[0] == NEXT[2]


def test_an_empty_budget_goes_on_to_the_next():
    empty = RetryBudget(share=0, rate=0)
    steps, end = walk(attempts(2, budget_of=lambda _: empty), forever(DOWN))
    assert steps == [(0, 0), (1, 0)]
    assert end.reason == "budget"


def test_what_stopped_the_best_is_told():
    empty = RetryBudget(share=0, rate=0)
    machine = attempts(2, budget_of=lambda _: empty)
    assert walk(machine, [DOWN, failed(K.RATE_LIMIT, 90)])[1] == GiveUp(1, "budget", 90)


def test_a_budget_is_the_one_of_the_provider():
    """The first has none left: it is asked once, and what is left for repeats goes to the second."""
    budgets = [RetryBudget(share=0, rate=0), RetryBudget()]
    assert walk(attempts(2, budget_of=budgets.__getitem__), forever(DOWN))[0] == [
        (0, 0),
        (1, 0),
        (1, 0.5),
        (1, 1.0),
    ]


class Counting(RetryBudget):
    def __init__(self) -> None:
        super().__init__()
        self.requests = 0
        self.retries = 0

    def request(self, now: float) -> None:
        self.requests += 1

    def withdraw(self, now: float) -> None:
        self.requests -= 1

    def try_spend(self, now: float) -> bool:
        self.retries += 1
        return True


@pytest.mark.parametrize(
    ("providers", "errors", "requests", "retries"),
    [
        (
            "aa",
            [DOWN, DOWN, DOWN, DOWN],
            {"a": 1},
            {"a": 2},
        ),  # two models of one provider are one request to it
        ("ab", [DOWN, DOWN, DOWN, DOWN], {"a": 1, "b": 1}, {"a": 2, "b": 0}),
        ("ab", [REFUSED, LIMITED, LIMITED, LIMITED], {"a": 0, "b": 1}, {"a": 0, "b": 2}),
        ("aa", [REFUSED, HUNG, HUNG, HUNG], {"a": 1}, {"a": 2}),
        ("aa", [DOWN, DOWN, REFUSED, DOWN], {"a": 1}, {"a": 2}),
        ("ab", [HUNG, failed(K.QUOTA), REFUSED], {"a": 1, "b": 1}, {"a": 1, "b": 0}),
        ("ab", [failed(K.BAD_REQUEST)], {"a": 1, "b": 0}, {"a": 0, "b": 0}),
    ],
)
def test_a_request_counts_once_for_each_provider(
    providers: str, errors: list[UpstreamError], requests: dict[str, int], retries: dict[str, int]
):
    """D5: failover is no retry, and what was refused before it left is no request."""
    budgets = {name: Counting() for name in providers}
    walk(attempts(len(providers), budget_of=lambda i: budgets[providers[i]]), errors)
    assert {name: budget.requests for name, budget in budgets.items()} == requests
    assert {name: budget.retries for name, budget in budgets.items()} == retries


@pytest.mark.parametrize(
    ("candidates", "seconds", "error", "expected", "reason"),
    [
        (1, 10, failed(K.RATE_LIMIT, 20), [(0, 0)], "deadline"),  # P12
        (2, 10, failed(K.RATE_LIMIT, 20), [(0, 0), (1, 0)], "deadline"),
        (2, 1, failed(K.RATE_LIMIT, 1.5), [(0, 0), (1, 0)], "deadline"),
        (1, 0.4, DOWN, [(0, 0)], "deadline"),
        (1, 1.2, DOWN, [(0, 0), (0, 0.5)], "deadline"),
        (2, 0.1, DOWN, [(0, 0), (1, 0)], "deadline"),
    ],
)
def test_no_pause_ends_after_the_deadline(
    candidates: int, seconds: float, error: UpstreamError, expected: Walk, reason: str
):
    """The end comes in the very call that sees it: no time passes in waiting for nothing."""
    steps, end = walk(attempts(candidates, seconds), forever(error))
    assert steps == expected
    assert end.reason == reason


def test_after_the_deadline_nobody_is_asked():
    assert walk(attempts(3, 10), forever(DOWN), took=10) == ([(0, 0)], GiveUp(0, "deadline", None))


# ── what is told at the end ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("errors", "told", "reason"),
    [
        ([DOWN, DOWN, HUNG, DOWN], 3, "exhausted"),
        ([HUNG, REFUSED, failed(K.QUOTA)], 2, "final"),  # a refusal tells less than what a provider said
        ([failed(K.QUOTA), REFUSED], 0, "final"),
        ([HUNG, failed(K.AUTH)], 1, "final"),
        ([REFUSED, failed(K.BAD_REQUEST)], 1, "final"),
        ([failed(K.NOT_FOUND), failed(K.TLS)], 1, "final"),
        ([HUNG, HUNG, HUNG], 2, "hang"),
        ([failed(K.RATE_LIMIT, 90), failed(K.RATE_LIMIT, 80)], 1, "wait_too_long"),
        ([REFUSED, failed(K.UNAVAILABLE, 3, code="blocked")], 1, "refused"),
        ([failed(K.UNAVAILABLE, 3, code="blocked"), REFUSED], 0, "refused"),
    ],
)
def test_the_last_real_error_is_told(errors: list[UpstreamError], told: int, reason: str):
    machine = attempts(2)
    _, end = walk(machine, errors)
    assert (end.error_index, end.reason) == (told, reason)
    assert [failure.error for failure in machine.failures] == errors
    assert [failure.refused for failure in machine.failures] == [is_refusal(error) for error in errors]


def test_refusals_are_no_attempts():
    machine = attempts(3)
    _, end = walk(machine, [failed(K.UNAVAILABLE, wait, code="circuit_open") for wait in (40, 7, None)])
    assert machine.tried == 0
    assert end == GiveUp(1, "refused", 7)


def test_the_shortest_stated_wait_is_told():
    """ "429 + min retry-after": counted from now, not from when it was said."""
    _, end = walk(attempts(2), [failed(K.RATE_LIMIT, 90), failed(K.RATE_LIMIT, 100)], took=5)
    assert end.retry_after == pytest.approx(85)
    assert walk(attempts(1, 10), [failed(K.RATE_LIMIT, 20)])[1].retry_after == 20


def test_reasons_are_words_for_logs():
    machine = attempts(2)
    steps = [machine.first(NOW), *(machine.after(error, NOW) for error in (DOWN, DOWN, LIMITED))]
    assert [step.reason for step in steps] == ["first", "quick", "failover", "backoff"]
    assert machine.after(failed(K.AUTH), NOW).reason == "final"
    assert attempts(1).first(NOW).reason == "first"
    alone = attempts(1)
    alone.first(NOW)
    assert alone.after(failed(K.RATE_LIMIT, 1), NOW).reason == "stated"


# ── arguments of the caller ────────────────────────────────────────────────────────────────────────────


def test_who_may_follow_is_the_callers_word():
    """The second key of a pool after a refused one, a larger window after a full one, and nobody else."""

    def may_follow(error: UpstreamError, index: int) -> bool:
        return index == 2 if error.kind is K.CONTEXT_LENGTH else error.failover

    full = failed(K.CONTEXT_LENGTH)
    assert walk(attempts(3, may_follow=may_follow), [full, full])[0] == [(0, 0), (2, 0)]
    assert walk(attempts(2, may_follow=may_follow), [full]) == ([(0, 0)], GiveUp(0, "final", None))
    errors = [HUNG, full, DOWN, DOWN, DOWN]
    assert walk(attempts(3, may_follow=may_follow), errors)[0] == [(0, 0), (1, 0), (2, 0), (2, 0.5), (2, 1.0)]


def test_who_may_not_follow_is_not_gone_back_to_either():
    def may_follow(error: UpstreamError, index: int) -> bool:
        return index == 1 if error.kind is K.CONTEXT_LENGTH else error.failover

    errors = [DOWN, DOWN, HUNG, failed(K.CONTEXT_LENGTH), HUNG]
    steps, _ = walk(attempts(3, may_follow=may_follow), errors)
    assert steps == [(0, 0), (0, 0.125), (1, 0), (2, 0), (1, 0.5)]


def test_a_failure_nobody_may_follow_is_still_repeated():
    assert walk(attempts(2, may_follow=lambda *_: False), forever(DOWN))[0] == ALONE


def test_refusals_are_the_callers_word():
    full_queue = attempts(2, is_refusal=lambda error: error.hop == "gateway")
    error = UpstreamError(K.RATE_LIMIT, "the queue is full", hop="gateway", retry_after=1)
    assert walk(full_queue, forever(error)) == ([(0, 0), (1, 0)], GiveUp(0, "refused", 1))


def test_nobody_to_ask_is_a_mistake():
    with pytest.raises(ValueError, match="nobody"):
        attempts(0)


# ── laws for any sequence of failures ──────────────────────────────────────────────────────────────────

ERRORS = st.builds(
    failed,
    st.sampled_from(ErrorKind) | st.sampled_from([K.OVERLOADED, K.TIMEOUT, K.RATE_LIMIT, K.UNAVAILABLE]),
    st.none()
    | st.sampled_from([0.0, 0.5, 2.0, 2.5, 20.0, 60.0, 61.0, -1.0, math.inf, math.nan])
    | st.floats(0, 99),
    st.none() | st.sampled_from([429, 500, 503, 504, 529]),
    st.none() | st.sampled_from(["circuit_open", "blocked"]),
)


@settings(max_examples=400, deadline=None)
@given(
    candidates=st.integers(1, 6),
    failures=st.lists(st.tuples(ERRORS, st.floats(0, 40)), min_size=1, max_size=30),
    seconds=st.floats(0.1, 700),
    chance=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=8),
    most=st.integers(1, 4),
    repeats=st.booleans(),
    budget=st.booleans(),
)
def test_bounds(
    candidates: int,
    failures: list[tuple[UpstreamError, float]],
    seconds: float,
    chance: list[float],
    most: int,
    repeats: bool,
    budget: bool,
):
    """P12, P45: whatever fails however: few attempts, no pause past the deadline, an end, the last word."""
    budgets = [RetryBudget(), RetryBudget(share=0, rate=0.1)] if budget else [None, None]
    machine = attempts(
        candidates,
        seconds,
        policy=RetryPolicy(attempts=most),
        random=itertools.cycle(chance).__next__,
        repeats=repeats,
        budget_of=lambda i: budgets[i % 2],
    )
    now, deadline = NOW, NOW + seconds
    asked: list[int] = []
    step: Next | GiveUp = machine.first(now)
    for error, took in itertools.cycle(failures):
        if isinstance(step, GiveUp):
            break
        assert 0 <= step.delay <= 60
        assert not asked or now + step.delay < deadline
        assert not step.delay or step.index in asked, "only who has been asked is waited for"
        asked.append(step.index)
        assert len(asked) <= 2 * candidates + most - 1, "it does not end"
        now += step.delay + took
        step = machine.after(error, now, took)
    assert isinstance(step, GiveUp)

    real = [failure for failure in machine.failures if not failure.refused]
    tries = [sum(failure.index == i for failure in real) for i in range(candidates)]
    assert machine.tried == len(real) == sum(tries)
    assert max(tries) <= (most if repeats else 1)
    assert len(real) <= candidates + (most - 1 if repeats else 0)
    assert asked[0] == 0
    assert [*dict.fromkeys(asked)] == list(range(max(asked) + 1)), "new candidates come in order of priority"
    for place, failure in enumerate(machine.failures):
        assert not failure.refused or failure.index not in asked[place + 1 :]
    told = machine.failures[step.error_index]
    assert told is (real[-1] if real else told)
    assert told.refused is not bool(real)


@given(
    candidates=st.integers(1, 6),
    kinds=st.lists(st.sampled_from([k for k in ErrorKind if POLICY[k].failover]), min_size=12, max_size=12),
)
def test_everybody_is_reached(candidates: int, kinds: list[ErrorKind]):
    """Repeats on the ones before never use up the attempt of a candidate further down."""
    steps, _ = walk(attempts(candidates), [failed(kind) for kind in kinds])
    assert {index for index, _ in steps} == set(range(candidates))


@given(
    st.lists(
        st.sampled_from([HUNG, failed(K.RATE_LIMIT, 2.1), failed(K.OVERLOADED, 30)]), min_size=9, max_size=9
    )
)
def test_after_a_hang_or_a_long_wait_another_is_asked_first(errors: list[UpstreamError]):
    """P5: nobody is asked twice before everybody has been asked once."""
    steps, _ = walk(attempts(4), errors)
    assert [index for index, _ in steps[:4]] == [0, 1, 2, 3]


# ── the budget ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_quiet_provider_gets_five_retries_in_ten_seconds():
    budget = RetryBudget()
    assert [budget.try_spend(NOW) for _ in range(7)] == [True] * 5 + [False] * 2
    assert not budget.try_spend(NOW + 9.9)
    assert [budget.try_spend(NOW + 10.5) for _ in range(6)] == [True] * 5 + [False]


def test_a_busy_one_gets_a_fifth_more():
    budget = RetryBudget()
    for _ in range(100):
        budget.request(NOW)
    assert sum(budget.try_spend(NOW + 1) for _ in range(100)) == 25
    assert not budget.try_spend(NOW + 9)
    assert sum(budget.try_spend(NOW + 3600) for _ in range(100)) == 5


def test_a_withdrawn_request_does_not_count():
    budget = RetryBudget()
    for _ in range(100):
        budget.request(NOW)
        budget.withdraw(NOW)
    budget.withdraw(NOW + 20)  # its quarter of a second has passed: nothing to take it from
    assert sum(budget.try_spend(NOW + 20) for _ in range(10)) == 5


def test_time_that_steps_back_is_taken_for_the_last_moment():
    budget = RetryBudget()
    budget.request(NOW)
    assert sum(budget.try_spend(NOW - 60) for _ in range(9)) == 5
    assert not budget.try_spend(NOW)


@settings(max_examples=300, deadline=None)
@given(
    start=st.floats(-100, 1e7),
    events=st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.1, 0.49, 0.5, 2.0, 9.5, 10.0, 11.0]) | st.floats(0, 12),
            st.integers(0, 12),
            st.integers(0, 6),
        ),
        max_size=60,
    ),
    share=st.sampled_from([0.0, 0.2, 1.0]),
    rate=st.sampled_from([0.0, 0.5, 2.0]),
)
@example(start=0.0, events=[(0.0, 12, 0), (10.1, 0, 6)], share=0.2, rate=0.5)
@example(start=0.0, events=[(0.0, 12, 6), (9.99, 0, 6), (0.02, 0, 6), (9.99, 0, 6)], share=0.2, rate=0.5)
def test_the_budget_holds_for_any_pattern(
    start: float, events: list[tuple[float, int, int]], share: float, rate: float
):
    """P67: retries of the 10 s up to any retry ≤ share · requests of the same 10 s + 10 · rate."""
    budget = RetryBudget(share, rate)
    now, requests, retries = start, [], []
    for gap, new, wanted in events:
        now += gap
        for _ in range(new):
            budget.request(now)
            requests.append(now)
        for _ in range(wanted):
            if budget.try_spend(now):
                retries.append(now)
                within = [sum(now - 10 < moment for moment in moments) for moments in (requests, retries)]
                assert within[1] <= share * within[0] + 10 * rate + 1e-9
    for moment in retries:  # any ten seconds at all, wherever they begin
        those = sum(moment <= other < moment + 10 for other in retries)
        before = sum(moment - 10 < other < moment + 10 for other in requests)
        assert those <= share * before + 10 * rate + 1e-9


@given(st.lists(st.tuples(st.floats(0, 1e6), st.booleans()), max_size=50))
def test_the_budgets_memory_does_not_grow(events: list[tuple[float, bool]]):
    budget = RetryBudget()
    size = len(budget._requests), len(budget._retries)
    for now, new in events:
        (budget.request if new else budget.try_spend)(now)
    assert (len(budget._requests), len(budget._retries)) == size
    assert all(count >= 0 for count in (*budget._requests, *budget._retries))


# ── jitter ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("n", "most"), [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (7, 60), (64, 60), (5000, 60)]
)
def test_the_ceiling_doubles_up_to_the_cap(n: int, most: float):
    assert RetryPolicy().backoff(n, lambda: 0.0) == 0
    assert RetryPolicy().backoff(n, lambda: 0.5) == most / 2
    assert RetryPolicy(base=0.01, cap=0.6).backoff(n, lambda: 0.5) == pytest.approx(most / 200)


def distance(draws: list[float], most: float) -> float:
    """Kolmogorov and Smirnov's: the largest gap between what was drawn and U(0, most)."""
    n = len(draws)
    return max(max((i + 1) / n - x / most, x / most - i / n) for i, x in enumerate(sorted(draws)))


@pytest.mark.parametrize(("n", "most"), [(0, 1), (1, 2), (6, 60)])
def test_jitter_is_full_and_even(n: int, most: float):
    """P68: 4000 draws stay below the 1 % bound of the test; half of the range, or a triangle, would not."""
    chance = random.Random(20)
    draws = [RetryPolicy().backoff(n, chance.random) for _ in range(4000)]
    bound = 1.63 / math.sqrt(4000)
    assert distance(draws, most) < bound
    assert distance([most / 2 + draw / 2 for draw in draws], most) > bound
    assert distance([(a + b) / 2 for a, b in itertools.pairwise(draws)], most) > bound


def pauses(seed: int, steps: int) -> list[float]:
    chance = random.Random(seed)
    return [walk(attempts(1, random=chance.random), forever(DOWN))[0][1][1] for _ in range(steps)]


def test_two_gateways_do_not_synchronise():
    """P68: failing at the same moments, they come back at moments that have nothing to do with each other."""
    one, other = pauses(1, 2000), pauses(2, 2000)
    together = sum(abs(a - b) < 0.01 for a, b in zip(one, other, strict=True))
    assert together < 2000 * 0.03  # by chance: 2 %
    product = sum((a - 0.5) * (b - 0.5) for a, b in zip(one, other, strict=True)) / 2000 * 12
    assert abs(product) < 0.08  # the correlation


def test_a_crowd_that_failed_together_does_not_come_back_together():
    moments = [pauses(seed, 1)[0] for seed in range(1000)]
    busiest = max(sum(int(moment / 0.05) == part for moment in moments) for part in range(20))
    assert busiest < 100  # a twentieth of the time, a twentieth of the crowd: 50


# ── the figures that these rules were chosen for ───────────────────────────────────────────────────────

Primary = Callable[[random.Random], tuple[UpstreamError | None, float]]


def runs(primary: Primary, count: int = 4000) -> tuple[list[float], list[int]]:
    """Seconds to the first token and the candidate that gave it, with a second candidate that always answers.

    A refusal takes 0.1 s; a first token is lognormal with a median of 0.6 s and a 99th percentile near 2 s.
    """
    chance = random.Random(7)
    times, winners = [], []
    for _ in range(count):
        machine = attempts(2, random=chance.random)
        step: Next | GiveUp = machine.first(NOW)
        now = NOW
        error: UpstreamError | None = DOWN
        while error is not None:
            assert isinstance(step, Next)
            winner = step.index
            error, took = (
                primary(chance) if winner == 0 else (None, chance.lognormvariate(math.log(0.6), 0.5))
            )
            now += step.delay + took
            if error is not None:
                step = machine.after(error, now, took)
        times.append(now - NOW)
        winners.append(winner)
    return times, winners


def blip(chance: random.Random) -> tuple[UpstreamError | None, float]:
    return (DOWN, 0.1) if chance.random() < 0.02 else (None, 0.6)


@pytest.mark.parametrize(
    ("primary", "p50", "p99"),
    [
        (lambda _: (DOWN, 0.1), 0.93, 2.29),
        (lambda _: (HUNG, 30.0), 30.6, 32.0),
        (lambda _: (failed(K.RATE_LIMIT, 20), 0.1), 0.7, 2.06),
    ],
    ids=["503", "hang", "429"],
)
def test_the_price_of_a_primary_that_is_down(primary: Primary, p50: float, p99: float):
    """D2's row "quick-once": three retries on the primary would cost 2.5 s, 92 s and 41 s."""
    times, winners = runs(primary)
    cuts = quantiles(times, n=100)
    assert cuts[49] == pytest.approx(p50, abs=0.1)
    assert cuts[98] == pytest.approx(p99, abs=0.4)
    assert set(winners) == {1}


def test_blips_stay_with_the_primary():
    """D2: of 2 % blips, failing over at once would move 2 % of the requests; one quick retry moves 0.04 %."""
    _, winners = runs(blip, 20_000)
    assert 0.999 < winners.count(0) / len(winners) < 1


def outage(rate: float, errors: float, seconds: float = 300) -> tuple[float, float]:
    """Attempts a request, and the share that succeeded, of a lone provider at `rate` requests a second."""
    chance, budget = random.Random(3), RetryBudget()
    order = itertools.count()
    requests = int(rate * seconds)
    queue: list[tuple[float, int, Attempts | None]] = [
        (NOW + i / rate, next(order), None) for i in range(requests)
    ]
    sent = succeeded = 0
    while queue:
        now, _, machine = heapq.heappop(queue)
        if machine is None:
            machine = Attempts(
                1, RetryPolicy(), Deadline.after(now, 600), random=chance.random, budget_of=lambda _: budget
            )
            machine.first(now)
        sent += 1
        if chance.random() >= errors:
            succeeded += 1
        elif isinstance(step := machine.after(DOWN, now), Next):
            heapq.heappush(queue, (now + step.delay, next(order), machine))
    return sent / requests, succeeded / requests


@pytest.mark.parametrize(("rate", "expected"), [(1, 1.73), (5, 1.31), (50, 1.21)])
def test_an_outage_is_not_made_worse(rate: float, expected: float):
    """D5, P45: at five requests a second and more, an outage costs at most 1.3 attempts a request."""
    attempts_a_request, _ = outage(rate, 1.0)
    assert attempts_a_request <= expected
    assert attempts_a_request > 1.15


@pytest.mark.parametrize(("rate", "expected"), [(1, 0.992), (5, 0.983), (50, 0.961)])
def test_a_bad_day_is_mostly_hidden(rate: float, expected: float):
    """D5: with every fifth call failing, a busy provider's budget still saves most of them."""
    _, succeeded = outage(rate, 0.2)
    assert succeeded == pytest.approx(expected, abs=0.02)
    assert succeeded > 0.94
