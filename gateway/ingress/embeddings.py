"""The OpenAI ingress for embeddings: `POST /v1/embeddings`.

It decodes, asks the router, and renders; it knows no provider. Follows the OpenAI API reference.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from typing import Any

import msgspec
from msgspec import Raw

from ..embeddings import LARGE
from ..errors import ErrorKind, RequestError
from ..exchange import Embedded
from ..intake import read_embeddings
from .client import Client, Header
from .service import Call, Service, answer_headers

PIECE = 256 << 10
"""Bytes of an answer that are sent together, or a little more: a large one is a hundred million."""
NUMBER_BYTES = 20
"""What a number takes in JSON, about."""


class EmbeddingsService(Service):
    """`POST /v1/embeddings`."""

    async def _serve(self, client: Client, call: Call) -> None:
        call.way = "embeddings"
        strict = client.headers.get("x-gateway-strict") == "1"
        request = read_embeddings(await self._body(client), strict=strict)
        call.model = request.model
        if client.headers.get("x-gateway-explain") == "1":  # who sends it wants nobody to be called
            message = "x-gateway-explain is for chat completions only"
            raise RequestError(ErrorKind.BAD_REQUEST, message, code="unsupported_header")
        async with client.watched():
            embedded = await self._router.embed(request)
            call.exchange = embedded
            await self._send(client, await render(embedded), answer_headers(call, embedded))

    async def _send(self, client: Client, pieces: list[bytes], headers: list[Header]) -> None:
        """Sends an answer piece by piece. A client that takes nothing for long is given up."""
        size = sum(map(len, pieces))
        kind = [("content-type", "application/json"), ("content-length", str(size))]
        await client.start(200, [*kind, *headers])
        for piece in pieces[:-1]:
            await self._taken(client, client.write(piece))
        await self._taken(client, client.finish(pieces[-1]))

    async def _taken(self, client: Client, writing: Awaitable[None]) -> None:
        timer = asyncio.get_running_loop().call_later(self._limits.send_timeout, client.abort)
        try:
            await writing
        finally:
            timer.cancel()


async def render(embedded: Embedded) -> list[bytes]:
    """The answer as a client reads it, in pieces; a large one is written in a thread."""
    vectors = embedded.embeddings.vectors
    size = sum(len(v) if isinstance(v, str) else len(v) * NUMBER_BYTES for v in vectors)
    if size <= LARGE:
        return list(_pieces(embedded))
    return await asyncio.to_thread(lambda: list(_pieces(embedded)))


def _pieces(embedded: Embedded) -> Iterator[bytes]:
    """Tokens that nobody tells are 0: the shape needs a number."""
    answer = embedded.embeddings
    encode = msgspec.json.encode
    written = bytearray(b'{"object":"list","data":[')
    for index, vector in enumerate(answer.vectors):
        said = vector if isinstance(vector, str) else list(vector)
        item = {"object": "embedding", "index": index, "embedding": said}
        written += (b"," if index else b"") + encode(item)
        if len(written) >= PIECE:
            yield bytes(written)
            written.clear()
    tokens = embedded.usage.prompt_tokens if embedded.usage is not None else 0
    rest: dict[str, Any] = {
        "model": answer.model or embedded.target.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens, **_said(embedded)},
        **answer.wire,
    }
    yield bytes(written + b"]," + encode(rest)[1:])


def _said(embedded: Embedded) -> dict[str, Raw]:
    """The usage object of an upstream of the same dialect, field by field as it came."""
    if embedded.usage is None or embedded.usage.wire is None:
        return {}
    return msgspec.json.decode(embedded.usage.wire, type=dict[str, Raw])
