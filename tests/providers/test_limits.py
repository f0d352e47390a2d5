"""What providers say of an account's limits in the headers of an answer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits import Limits, Window
from gateway.providers import PROVIDERS
from gateway.resilience.limiter import Cost, Limiter, Quota

from ..resilience.fakes import FakeClock

OPENAI, ANTHROPIC = PROVIDERS["openai"], PROVIDERS["anthropic"]
DATE = "Sun, 22 Nov 2026 12:00:00 GMT"


def test_openai():
    found = OPENAI.parse_limits(
        {
            "x-ratelimit-limit-requests": "500",
            "x-ratelimit-remaining-requests": "499",
            "x-ratelimit-reset-requests": "120ms",
            "x-ratelimit-limit-tokens": "30000",
            "x-ratelimit-remaining-tokens": "0",
            "x-ratelimit-reset-tokens": "6m0s",
        }
    )
    assert found == Limits(requests=Window(500, 499, 0.12), tokens=Window(30000, 0, 360))


def test_anthropic_counts_from_the_answers_own_date():
    """Golden 29: the machine's clock may be wrong, the answer's date and reset come from one clock."""
    found = ANTHROPIC.parse_limits(
        {
            "date": DATE,
            "anthropic-ratelimit-requests-limit": "50",
            "anthropic-ratelimit-requests-remaining": "0",
            "anthropic-ratelimit-requests-reset": "2026-11-22T12:00:03Z",
            "anthropic-ratelimit-input-tokens-remaining": "39000",
        }
    )
    assert found == Limits(requests=Window(50, 0, 3), input_tokens=Window(None, 39000, None))


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
def test_no_headers_say_nothing(provider: Any):
    assert provider.parse_limits({}) is None


GARBAGE = st.text(max_size=30) | st.sampled_from(
    ["-1", "1e9", "inf", "nan", "٣", "2026-13-01T00:00:00Z", "0"]
)
NAMES = [
    *(
        f"x-ratelimit-{word}-{what}"
        for word in ("limit", "remaining", "reset")
        for what in ("requests", "tokens")
    ),
    *(f"anthropic-ratelimit-tokens-{word}" for word in ("limit", "remaining", "reset")),
    "date",
]


@given(st.dictionaries(st.sampled_from(NAMES), GARBAGE))
def test_garbage_is_harmless(headers: dict[str, str]):
    for provider in (OPENAI, ANTHROPIC):
        found = provider.parse_limits(headers)
        for window in (found.requests, found.tokens) if found else ():
            if window is not None:
                assert all(n is None or n >= 0 for n in (window.limit, window.remaining, window.reset))


async def test_what_a_provider_tells_holds_back_the_next_call():
    """Golden 29: nothing left for three seconds is a wait of three seconds at most."""
    clock = FakeClock()
    account = Limiter("a", Quota(rpm=50, mirrors=True), clock)
    assert await account.eta(Cost()) == 0
    told = ANTHROPIC.parse_limits(
        {
            "date": DATE,
            "anthropic-ratelimit-requests-limit": "50",
            "anthropic-ratelimit-requests-remaining": "0",
            "anthropic-ratelimit-requests-reset": "2026-11-22T12:00:03Z",
        }
    )
    assert told is not None
    await account.sync(told, clock.now())
    assert 0 < await account.eta(Cost()) <= 3
