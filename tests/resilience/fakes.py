"""A clock that a test turns: time passes only when everybody waits for it, and then at once."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Iterable


class FakeClock:
    """`now` starts at 1000; sleepers wake in order as the clock is turned. `chance` is played in a circle."""

    def __init__(self, chance: Iterable[float] = (0.5,)) -> None:
        self.time = 1000.0
        self.slept: list[float] = []
        self._chance = itertools.cycle(chance)
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self.time

    def random(self) -> float:
        return next(self._chance)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.time + seconds, next(self._order), future))
        await future

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        if event.is_set():
            return True
        alarm = asyncio.ensure_future(self.sleep(seconds))
        waiting = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait((alarm, waiting), return_when=asyncio.FIRST_COMPLETED)
            return event.is_set()
        finally:
            for task in (alarm, waiting):
                task.cancel()
            await asyncio.gather(alarm, waiting, return_exceptions=True)

    async def turn(self, seconds: float) -> None:
        """Lets `seconds` pass: whoever sleeps until then wakes at its own moment, in order."""
        end = self.time + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            when, _, future = heapq.heappop(self._sleepers)
            self.time = max(self.time, when)
            if not future.done():
                future.set_result(None)
                await self.settle()
        self.time = end
        await self.settle()

    async def settle(self) -> None:
        """Lets everybody run who can."""
        for _ in range(50):
            await asyncio.sleep(0)
