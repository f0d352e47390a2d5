"""Time and chance, as something that is handed in: a test plays both, and nothing sleeps there."""

from __future__ import annotations

import asyncio
import random
from typing import Protocol


class Clock(Protocol):
    """Seconds that only go forward, pauses, and random numbers from 0 up to but not including 1."""

    def now(self) -> float:
        """Seconds since some moment in the past, the same one for the life of the clock."""

    async def sleep(self, seconds: float) -> None:
        """Returns after `seconds`; at once for none or fewer, but never without letting others run."""

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Returns when `event` is set (True) or after `seconds` (False), whichever is first."""

    def random(self) -> float:
        """A number from 0 up to but not including 1."""


class SystemClock:
    """The running loop's own time."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await event.wait()
        except TimeoutError:
            return event.is_set()
        return True

    def random(self) -> float:
        return random.random()  # noqa: S311 - spreads retries; nothing is kept secret by it
