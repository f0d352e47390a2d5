"""D4: the one moment by which a request has to be over, and how it follows from what the client said."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.resilience.deadline import MARGIN, Deadline, deadline_of, retry_count

NOW = 1000.0


TOTAL = 600.0


def seconds(headers: dict[str, str], *, stream: bool = False, total: float = TOTAL) -> float:
    return deadline_of(headers, now=NOW, stream=stream, total=total).left(NOW)


def test_a_deadline_is_a_moment():
    deadline = Deadline.after(NOW, 5)
    assert deadline == Deadline(1005)
    assert deadline.left(NOW) == 5
    assert deadline.left(NOW + 4) == 1
    assert deadline.left(NOW + 6) == 0


@pytest.mark.parametrize(
    ("now", "delay", "allowed"),
    [
        (NOW, 0, True),
        (NOW, 4.9, True),
        (NOW, 5, False),  # the pause would end at the deadline: nothing is left for the attempt
        (NOW, 5.1, False),
        (NOW + 4.9, 0, True),
        (NOW + 5 - MARGIN / 2, 0, False),  # a timer that fired early does not begin another attempt
        (NOW + 5, 0, False),
        (NOW + 9, 0, False),
    ],
)
def test_what_a_deadline_allows(now: float, delay: float, allowed: bool):
    assert Deadline.after(NOW, 5).allows(now, delay) is allowed


@pytest.mark.parametrize(
    ("headers", "whole", "streamed"),
    [
        ({}, 600, 600),
        ({"x-stainless-read-timeout": "600"}, 599, 600),
        ({"x-stainless-read-timeout": "20"}, 19, 600),
        ({"x-stainless-read-timeout": " 5.5 "}, 4.5, 600),
        ({"x-stainless-read-timeout": "2"}, 1, 600),
        ({"x-stainless-read-timeout": "1.9"}, 0.95, 600),
        ({"x-stainless-read-timeout": "0.2"}, 0.1, 600),
        ({"x-stainless-read-timeout": "9000"}, 600, 600),
        ({"x-gateway-timeout": "30"}, 30, 30),
        ({"x-gateway-timeout": ".5"}, 0.5, 0.5),
        ({"x-gateway-timeout": "2."}, 2, 2),
        ({"x-gateway-timeout": "9000"}, 600, 600),
        ({"x-gateway-timeout": "30", "x-stainless-read-timeout": "20"}, 19, 30),
        ({"x-gateway-timeout": "10", "x-stainless-read-timeout": "20"}, 10, 10),
    ],
)
def test_the_smallest_wins(headers: dict[str, str], whole: float, streamed: float):
    assert seconds(headers) == pytest.approx(whole)
    assert seconds(headers, stream=True) == pytest.approx(streamed)


def test_the_total_is_a_setting():
    assert seconds({}, total=7) == 7
    assert seconds({"x-gateway-timeout": "8"}, total=7) == 7


GARBAGE = ["", " ", "0", "0.0", "-1", "+5", "nan", "inf", "infinity", "1e3", "1_0", "5s", "5,5", "5\n6"]
GARBAGE += ["\u0665", "1" * 400, "x" * 4000]


@pytest.mark.parametrize("text", GARBAGE)
def test_garbage_of_an_sdk_is_ignored(text: str):
    assert seconds({"x-stainless-read-timeout": text}) == 600


@pytest.mark.parametrize("text", GARBAGE)
def test_garbage_that_somebody_asked_for_is_told(text: str):
    with pytest.raises(
        ValueError, match=r"'x-gateway-timeout' has to be a number of seconds above 0"
    ) as told:
        seconds({"x-gateway-timeout": text})
    assert len(str(told.value)) < 200


@given(asked=st.text(), patience=st.text(), stream=st.booleans(), total=st.floats(0.001, 86_400))
def test_any_header_leaves_a_time_that_is_real(asked: str, patience: str, stream: bool, total: float):
    headers = {"x-gateway-timeout": asked, "x-stainless-read-timeout": patience}
    try:
        deadline = deadline_of(headers, now=0.0, stream=stream, total=total)
    except ValueError:
        del headers["x-gateway-timeout"]
        deadline = deadline_of(headers, now=0.0, stream=stream, total=total)
    assert 0 < deadline.at <= total
    assert math.isfinite(deadline.at)


@given(patience=st.floats(0.001, 10_000))
def test_the_answer_is_due_before_the_clients_timer_fires(patience: float):
    """P44: the SDK hears an error, and does not send the prompt again because it heard nothing."""
    left = seconds({"x-stainless-read-timeout": f"{patience:.6f}"}, total=20_000)
    assert 0 < left < patience
    assert left == pytest.approx(patience - 1 if patience >= 2 else patience / 2, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "count"),
    [(None, 0), ("0", 0), ("1", 1), (" 2 ", 2), ("", 0), ("-1", 0), ("1.5", 0), ("²", 0), ("9" * 5000, 0)],
)
def test_retry_count(text: str | None, count: int):
    headers = {} if text is None else {"x-stainless-retry-count": text}
    assert retry_count(headers) == count
