"""Several keys of one provider: which of them a call takes, and which is left alone for a while.

A key that the provider refused is asked last until its quarantine is over; one whose account has no room yet
comes after those that have. A failure that another key may cure goes to the next key, every other one is
the caller's to judge. Nothing of a key but the name of its place is known here.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from msgspec import Struct

from ..chat import ChatRequest
from ..errors import ErrorKind, UpstreamError
from ..exchange import Exchange
from .clock import Clock
from .limiting import RateLimiting

log = logging.getLogger("gateway.resilience")

QUARANTINE = 600.0
"""Seconds that a refused key is asked after all others."""
CURED_BY_ANOTHER = frozenset((ErrorKind.AUTH, ErrorKind.QUOTA, ErrorKind.RATE_LIMIT))
"""Failures that are one key's own."""


class Key(Struct):
    """A key: `source` is where it came from; `until` is the moment that its quarantine ends at."""

    source: str
    open: RateLimiting
    until: float = 0.0


class KeySnapshot(Struct, frozen=True):
    """A key for `/health`: where it is from, and for how many seconds it is still asked last."""

    source: str
    quarantined: float


class Rotating:
    """The layer over one provider's keys: they take turns, those that can answer at once first."""

    def __init__(self, name: str, keys: Sequence[Key], clock: Clock) -> None:
        self._name = name
        self._keys = list(keys)
        self._clock = clock
        self._turn = 0

    def __repr__(self) -> str:
        return f"<Rotating {self._name} {len(self._keys)} keys>"

    @asynccontextmanager
    async def __call__(self, request: ChatRequest) -> AsyncIterator[Exchange]:
        """An answer with the first key that gives one. Raises the last key's `UpstreamError`."""
        async with AsyncExitStack() as stack:
            yield await self._first(stack, await self._order(request), request)

    async def eta(self, request: ChatRequest) -> float:
        """Seconds that `request` would wait here if it came now."""
        return min([await key.open.eta(request) for key in self._keys])

    def snapshot(self) -> list[KeySnapshot]:
        """How the keys are now."""
        now = self._clock.now()
        return [KeySnapshot(key.source, max(0.0, key.until - now)) for key in self._keys]

    async def _first(self, stack: AsyncExitStack, keys: list[Key], request: ChatRequest) -> Exchange:
        told: UpstreamError | None = None
        for key in keys:
            try:
                exchange = await stack.enter_async_context(key.open(request))
            except UpstreamError as error:
                self._judge(key, error)
                if told is None or told.kind is ErrorKind.AUTH:
                    told = error  # a key that is refused says nothing of what another one has to wait for
                if error.kind not in CURED_BY_ANOTHER:
                    raise
                if key is keys[-1]:
                    raise told from error.__cause__
            else:
                key.until = 0.0
                return exchange
        raise AssertionError("there is no provider without a key")

    def _judge(self, key: Key, error: UpstreamError) -> None:
        if error.kind is ErrorKind.AUTH and error.hop != "gateway":
            if not key.until:
                log.error("%s refuses the key from %s: %s", self._name, key.source, error.message)
            key.until = self._clock.now() + QUARANTINE

    async def _order(self, request: ChatRequest) -> list[Key]:
        """The keys, the next in turn first; then by quarantine and by how long they would have to wait."""
        if len(self._keys) == 1:
            return self._keys
        now = self._clock.now()
        self._turn = (self._turn + 1) % len(self._keys)
        keys = self._keys[self._turn :] + self._keys[: self._turn]
        ranks = [(key.until > now, await key.open.eta(request)) for key in keys]
        return [key for _, key in sorted(zip(ranks, keys, strict=True), key=lambda pair: pair[0])]
