"""One request in flight to one target.

`Open` is the contract that everything between client and provider is built from: entering waits for the
first content, so until then another target may still answer; leaving closes. Retry, breakers, limits and
failover wrap the opening; chunks pass outside of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import TypeAlias

import msgspec
from msgspec import Struct

from .chat import ChatRequest, Chunk, Usage, fold
from .embeddings import Embeddings, EmbeddingsRequest
from .limits import Limits


class Target(Struct, frozen=True):
    """A model at a provider, by the names that the settings give them."""

    provider: str
    model: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


class Timings(Struct):
    """When things happened, in seconds after the exchange began; None when they did not.

    `queued` is how many seconds the request had waited before that for its turn at a limit.
    """

    connect: float | None = None
    first_byte: float | None = None
    first_token: float | None = None
    queued: float | None = None


Waiting: TypeAlias = Callable[[int, float], None]
"""Told where a call stands in a queue, 1 being next, and for how many seconds that will be, as far as is
known: when it begins to wait, when it is next, and every few seconds."""


class Caller(Struct, frozen=True):
    """Whose request it is that calls are made for, beside what it asks.

    `deadline` is a moment of the loop's clock at which it has to be over, and `is_hasty` that the client said
    so: to miss it is nobody's failure then. `client` takes turns with others;
    `waiting` is told of queues; `repeats` says that the same target may be asked again after a failure.
    """

    deadline: float | None = None
    client: str = ""
    waiting: Waiting | None = None
    repeats: bool = True
    is_hasty: bool = False


NOBODY = Caller()
CALLER: ContextVar[Caller] = ContextVar("gateway_caller", default=NOBODY)
"""The caller of the request that the current task serves."""


class Exchange(ABC):
    """An answer that has begun.

    `dropped` names the request's fields that this target could not take; `attempts` is how many targets
    were tried for it; `usage` is known at the latest when the answer is whole; `limits` is what the provider
    said of the account's limits.
    """

    target: Target
    dropped: tuple[str, ...] = ()
    attempts: int = 1
    usage: Usage | None = None
    limits: Limits | None = None
    timings: Timings

    @abstractmethod
    async def read(self) -> list[Chunk]:
        """The chunks that arrived together, at least one; the empty list is the end.

        Raises `UpstreamError` when the answer breaks off: what came before is not the whole.
        """

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        while batch := await self.read():
            for chunk in batch:
                yield chunk

    async def collect(self) -> Chunk:
        """The whole answer. Raises `UpstreamError` when it breaks off."""
        chunks: list[Chunk] = []
        while batch := await self.read():
            chunks += batch
        return fold(chunks)


Open: TypeAlias = Callable[[ChatRequest], AbstractAsyncContextManager[Exchange]]


class Embedded(Struct, frozen=True, kw_only=True):
    """An answer to a request for embeddings: whole or not at all.

    `dropped` names the request's fields that the target could not take; the rest is as in `Exchange`.
    """

    target: Target
    embeddings: Embeddings
    dropped: tuple[str, ...] = ()
    attempts: int = 1
    timings: Timings = msgspec.field(default_factory=Timings)

    @property
    def usage(self) -> Usage | None:
        """The tokens of the inputs, None when the provider does not say them."""
        return self.embeddings.usage


Embed: TypeAlias = Callable[[EmbeddingsRequest], Awaitable[Embedded]]


class Preview(Struct, frozen=True, kw_only=True):
    """What an `Open` would send first, to be looked at: secrets are `***`.

    `dropped` names the request's fields that it does not carry.
    """

    method: str
    url: str
    headers: dict[str, str]
    body: bytes = b""
    dropped: tuple[str, ...] = ()


Look: TypeAlias = Callable[[ChatRequest], Preview]
"""Beside each `Open`: what it would send, without sending it. Raises the `UpstreamError` that it would."""
