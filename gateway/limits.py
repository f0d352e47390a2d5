"""What a provider tells of an account's limits, and how it counts: data only."""

from __future__ import annotations

from msgspec import Struct


class Window(Struct, frozen=True):
    """A limit as a provider tells it: how much it is, what is left, seconds until all of it is free again."""

    limit: int | None = None
    remaining: int | None = None
    reset: float | None = None


class Limits(Struct, frozen=True):
    """What a provider says of its limits in the headers of an answer; None for what it does not say."""

    requests: Window | None = None
    tokens: Window | None = None
    input_tokens: Window | None = None
    output_tokens: Window | None = None


class Metering(Struct, frozen=True):
    """How a provider counts, as its documents tell.

    `mirrors`: it keeps a token bucket itself, all of a minute's limit at once. `adaptive`: it limits the
    calls in flight, to a number that changes. `max_tokens`: a request counts with all that it may answer.
    `cached`: tokens that were read from a cache count.
    """

    mirrors: bool = False
    adaptive: bool = False
    max_tokens: bool = False
    cached: bool = True


USUAL = Metering()
"""What is supposed where nothing is documented."""
