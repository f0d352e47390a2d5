"""OpenAI's errors: billing is told from rate limits, and how long to wait is read wherever it stands.

The common table runs from `errors.json` in the contract test.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.errors import ErrorKind, UpstreamError
from gateway.providers import PROVIDERS
from gateway.providers.openai.errors import duration

from .cases import CASES, decode, request

GOLDEN = {
    11: "test_golden_11_billing_is_no_rate_limit",
    22: ("test_golden_22_durations", "test_golden_22_the_wait_of_a_rate_limit"),
}

OPENAI = PROVIDERS["openai"]


def error(status: int = 429, headers: dict[str, str] | None = None, **fields: Any) -> UpstreamError:
    return OPENAI.parse_error(status, headers or {}, msgspec.json.encode({"error": fields}))


BILLING = (
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
)


@pytest.mark.parametrize("code", BILLING)
def test_golden_11_billing_is_no_rate_limit(code: str):
    """Waiting cures it in no time: whatever the type says, and in the middle of a stream too."""
    for type in ("insufficient_quota", "rate_limit_error", "tokens", None):
        found = error(message="Spent. Please try again in 1s.", type=type, code=code)
        assert (found.kind, found.status, found.type) == (ErrorKind.QUOTA, 429, "insufficient_quota")
        assert (found.code, found.retry_after, found.failover) == (code, None, True)
    event = b"data: " + msgspec.json.encode({"error": {"message": "Spent", "code": code}}) + b"\n\n"
    with pytest.raises(UpstreamError) as caught:
        decode(OPENAI, request(CASES["stream"], "gpt-5.4"), [event])
    assert caught.value.kind is ErrorKind.QUOTA


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360.0),
        ("12ms", 0.012),
        ("1m30.5s", 90.5),
        ("1h0m0s", 3600.0),
        ("garbage", None),
        ("", None),
        ("1s", 1.0),
        ("20ms", 0.02),
        ("59.7s", 59.7),
        ("1h2m3s", 3723.0),
        ("5us", 5e-6),
        ("5µs", 5e-6),
        ("7ns", 7e-9),
        ("60", 60.0),
        ("0.5", 0.5),
        ("-1s", None),
        ("1s!", None),
        ("1 s", None),
        ("1e3s", None),
        ("9" * 400 + "s", None),
    ],
)
def test_golden_22_durations(text: str, seconds: float | None):
    assert duration(text) == (None if seconds is None else pytest.approx(seconds))


RESETS = {"x-ratelimit-reset-requests": "20ms", "x-ratelimit-reset-tokens": "6m0s"}
SAID = "Rate limit reached on tokens per min: Limit 30000, Used 29937. Please try again in 644ms. See x."
WAITS: list[tuple[dict[str, str], dict[str, Any], float | None]] = [
    ({"retry-after": "7", **RESETS}, {"type": "tokens", "message": SAID}, 7.0),
    (RESETS, {"type": "tokens", "message": SAID}, 0.644),
    ({}, {"message": "Please try again in 1m2.5s."}, 62.5),
    ({}, {"message": "Please try again in a while."}, None),
    (RESETS, {"type": "tokens"}, 360.0),
    (RESETS, {"type": "requests"}, 0.02),
    (RESETS, {"type": "rate_limit_error"}, None),
    ({**RESETS, "x-ratelimit-remaining-requests": "0"}, {}, 0.02),
    ({**RESETS, "x-ratelimit-remaining-requests": "0", "x-ratelimit-remaining-tokens": "0"}, {}, 360.0),
    ({"x-ratelimit-reset-tokens": "garbage"}, {"type": "tokens"}, None),
    ({}, {"type": "tokens"}, None),
    ({"x-ratelimit-reset-tokens": "25h"}, {"type": "tokens"}, None),
]


@pytest.mark.parametrize(("headers", "fields", "seconds"), WAITS)
def test_golden_22_the_wait_of_a_rate_limit(
    headers: dict[str, str], fields: dict[str, Any], seconds: float | None
):
    found = error(headers=headers, code="rate_limit_exceeded", **{"message": "Slow down.", **fields})
    assert found.kind is ErrorKind.RATE_LIMIT
    assert found.retry_after == (None if seconds is None else pytest.approx(seconds))


def test_only_a_rate_limit_waits_for_its_limits():
    """They come with every answer: a server that failed says nothing by them."""
    found = error(500, {**RESETS, "x-ratelimit-remaining-tokens": "0"}, message="Please try again in 3s.")
    assert (found.kind, found.retry_after) == (ErrorKind.SERVER, None)
