"""Embeddings at one endpoint: the batches of a request, a few at a time, all of them or none.

What a call says and what its answer means is the provider's `Embedder`; calls leave by `Endpoint.fetch`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..embeddings import LARGE, Embeddings, EmbeddingsRequest, batches, join
from ..errors import ErrorKind, UpstreamError
from ..exchange import Embedded, Target
from ..providers.base import Embedder, HttpRequest
from .endpoint import Endpoint, understood
from .timers import Watchdog

AT_ONCE = 4
"""Most batches of one request that are under way together."""


async def embed(
    endpoint: Endpoint, request: EmbeddingsRequest, ended: Callable[[UpstreamError | None], None]
) -> Embedded:
    """Vectors for every input of `request`, in order. `ended` is told how it went, once something was sent.

    Raises `UpstreamError`: the first one, and then the calls that are still under way are given up.
    """
    try:
        embedder = _embedder(endpoint)
        calls = [(piece, embedder.build_request(piece)) for piece in batches(request, embedder.most)]
        dropped = calls[0][1].dropped
        if request.strict and dropped:
            raise endpoint.too_strict(dropped, request.model)
    except UpstreamError as error:
        endpoint.named(error).hop = "gateway"
        raise
    try:
        async with asyncio.timeout(endpoint.timeouts.total):
            answers = await _all(endpoint, embedder, calls)
    except (UpstreamError, TimeoutError) as error:
        failure = error if isinstance(error, UpstreamError) else Watchdog(endpoint.timeouts).out_of_time()
        ended(endpoint.named(failure))
        raise failure from None
    ended(None)
    return Embedded(target=Target(endpoint.name, request.model), embeddings=join(answers), dropped=dropped)


def _embedder(endpoint: Endpoint) -> Embedder:
    if endpoint.provider.embeddings is None:
        raise UpstreamError(ErrorKind.UNSUPPORTED, f"{endpoint.name} has no embeddings", param="model")
    return endpoint.provider.embeddings


async def _all(
    endpoint: Endpoint, embedder: Embedder, calls: list[tuple[EmbeddingsRequest, HttpRequest]]
) -> list[Embeddings]:
    """The answers to `calls`, in their order. Raises the first failure."""
    turns = asyncio.Semaphore(AT_ONCE)
    reading = asyncio.Lock()  # threads that wait for each other make the event loop wait for all of them

    async def answer(piece: EmbeddingsRequest, http: HttpRequest) -> Embeddings:
        async with turns:
            reply = await endpoint.fetch(http)
            if len(reply.body) <= LARGE:
                return _read(embedder, reply.body, piece)
            async with reading:
                return await asyncio.to_thread(_read, embedder, reply.body, piece)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(answer(*call)) for call in calls]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


def _read(embedder: Embedder, body: bytes, piece: EmbeddingsRequest) -> Embeddings:
    """The answer in `body`. Raises `UpstreamError`."""
    with understood():
        if not body.isascii():
            body.decode()  # fields that nobody reads go on to the client as they are
        return embedder.parse(body, piece)
