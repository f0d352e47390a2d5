"""Turns at an API that takes few calls a minute: one after the other, never more than that in any minute."""

from __future__ import annotations

import asyncio

from aiolimiter import AsyncLimiter

from ..errors import ErrorKind, UpstreamError
from ..providers.base import Pace

BURST = 0.4
"""The part of a minute's calls that may be made at once; the rest comes evenly over the minute."""


class Turns:
    """Who asks for less goes first: calls of answers that have begun go before answers that have not."""

    def __init__(self, pace: Pace) -> None:
        burst = max(pace.per_answer, int(pace.calls * BURST), 1)
        self._calls = pace.calls
        self._limiter = AsyncLimiter(burst, 60 * burst / max(pace.calls - burst, 1))

    async def take(self, calls: int, within: float) -> None:
        """Waits for the turn of so many calls, `within` seconds at most. Raises `UpstreamError`."""
        try:
            async with asyncio.timeout(within):
                await self._limiter.acquire(calls)
        except TimeoutError:
            message = f"its {self._calls} calls a minute left no turn in {max(within, 0):.3g} s"
            raise UpstreamError(ErrorKind.RATE_LIMIT, message) from None
