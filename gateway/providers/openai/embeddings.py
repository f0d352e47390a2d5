"""`POST /embeddings` in OpenAI's dialect.

To the same dialect almost everything is identity. OpenAI's own API is always asked for base64: numbers in
JSON are four times as long, and a large answer would not fit. Other servers get the request as it came, since
not all of them know the field; whatever form they answer in, the client gets the one it asked for. Follows
the OpenAI API reference.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from ...embeddings import Embeddings, EmbeddingsRequest, vectors_for
from ..base import Embedder, HttpRequest, json_body
from .answers import parse_usage
from .errors import error_of

PATH = "/embeddings"
MOST = 1024
"""Inputs of one call: 2048 vectors of 3072 numbers are more than is read of one answer."""


def build_request(request: EmbeddingsRequest) -> HttpRequest:
    """The request for OpenAI's own API."""
    return _request({**request.wire, "encoding_format": Raw(b'"base64"')}, request.model)


def build_compatible_request(request: EmbeddingsRequest) -> HttpRequest:
    """The request for a server that speaks the dialect: the client's own."""
    return _request(request.wire, request.model)


def _request(wire: dict[str, Raw], model: str) -> HttpRequest:
    return HttpRequest(path=PATH, body=json_body({**wire, "model": model}))


class _Item(Struct):
    embedding: str | list[float]
    index: int | None = None


class _Answer(Struct):
    data: list[_Item] | None = None
    model: str | None = None
    usage: Raw = Raw(b"null")


_READ = ("object", "data", "model", "usage")
_fields = msgspec.json.Decoder(dict[str, Raw])


def parse(body: bytes, request: EmbeddingsRequest) -> Embeddings:
    """The vectors of an answer, by their indexes. Raises `UpstreamError` for an error inside a 200."""
    answer = msgspec.json.decode(body, type=_Answer)
    if answer.data is None:
        raise error_of(body, hint=200)
    wire = {name: raw for name, raw in _fields.decode(body).items() if name not in _READ}
    return Embeddings(
        vectors=vectors_for(request, [item.embedding for item in _in_order(answer.data)]),
        usage=parse_usage(answer.usage),
        model=answer.model,
        wire=wire,
    )


def _in_order(items: list[_Item]) -> list[_Item]:
    """`items` by their indexes. Servers that say none send them in order."""
    indexes = [item.index for item in items if item.index is not None]
    if not indexes:
        return items
    if sorted(indexes) != list(range(len(items))):
        raise msgspec.ValidationError("the indexes of the vectors are not those of the inputs")
    return sorted(items, key=lambda item: item.index or 0)


EMBEDDER = Embedder(build_request=build_request, parse=parse, most=MOST)
COMPATIBLE = Embedder(build_request=build_compatible_request, parse=parse)
