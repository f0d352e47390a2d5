"""The transport that stays in the process: it runs a provider's own `local` answer at its own pace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from ..providers.base import HttpRequest, LocalAnswer


class LocalTransport:
    """Calls `answer` instead of a network."""

    def __init__(self, answer: Callable[[HttpRequest], LocalAnswer]) -> None:
        self._answer = answer

    async def send(self, http: HttpRequest, _url: str, _headers: Mapping[str, str]) -> LocalResponse:
        return LocalResponse(http, self._answer(http))

    async def aclose(self) -> None:
        """Nothing is open."""


class LocalResponse:
    """An answer that arrives piece by piece, each after its own number of seconds."""

    def __init__(self, http: HttpRequest, pieces: LocalAnswer) -> None:
        self.status = 200
        self.headers: Mapping[str, str] = {
            "content-type": "text/event-stream" if http.stream else "application/json"
        }
        self.connect: float | None = None
        self._pieces = iter(pieces)

    async def read(self) -> bytes:
        seconds, data = next(self._pieces, (0.0, b""))
        await asyncio.sleep(seconds)  # at 0 too: a loop that never waits cannot be cancelled
        return data

    async def aclose(self) -> None:
        self._pieces = iter(())
