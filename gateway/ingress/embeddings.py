"""The OpenAI ingress for embeddings: `POST /v1/embeddings`.

It decodes, asks the router, and renders; it knows no provider. Follows the OpenAI API reference.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from msgspec import Raw

from ..errors import ErrorKind, RequestError
from ..exchange import Embedded
from ..intake import read_embeddings
from .client import Client
from .service import Call, Service, answer_headers

AT_ONCE = 64
"""Vectors that are written before others get their turn: a large answer is a hundred million bytes."""


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
            await client.answer(200, await render(embedded), answer_headers(call, embedded))


async def render(embedded: Embedded) -> bytes:
    """The answer as a client reads it. Tokens that nobody tells are 0: the shape needs a number."""
    answer = embedded.embeddings
    encode = msgspec.json.encode
    written = bytearray(b'{"object":"list","data":[')
    for index, vector in enumerate(answer.vectors):
        item = {"object": "embedding", "index": index, "embedding": vector}
        written += (b"," if index else b"") + encode(item)
        if index % AT_ONCE == AT_ONCE - 1:
            await asyncio.sleep(0)
    tokens = embedded.usage.prompt_tokens if embedded.usage is not None else 0
    rest: dict[str, Any] = {
        "model": answer.model or embedded.target.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens, **_said(embedded)},
        **answer.wire,
    }
    return bytes(written + b"]," + encode(rest)[1:])


def _said(embedded: Embedded) -> dict[str, Raw]:
    """The usage object of an upstream of the same dialect, field by field as it came."""
    if embedded.usage is None or embedded.usage.wire is None:
        return {}
    return msgspec.json.decode(embedded.usage.wire, type=dict[str, Raw])
