"""What a provider tells of an account's limits. Only data: who keeps to them is elsewhere."""

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
