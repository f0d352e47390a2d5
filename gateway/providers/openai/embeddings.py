"""`POST /embeddings` in OpenAI's dialect.

To the same dialect almost everything is identity. OpenAI's own API is always asked for base64: numbers in
JSON are four times as long, and a large answer would not fit. Other servers get the request as it came, since
not all of them know the field; whatever form they answer in, the client gets the one it asked for. Follows
the OpenAI API reference.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Raw, Struct

from ...embeddings import Embeddings, EmbeddingsRequest, Vector, each, numbers, vectors_for
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


_READ = ("object", "data", "model", "usage")
_NULL = Raw(b"null")
_fields = msgspec.json.Decoder(dict[str, Raw])
_item = msgspec.json.Decoder(_Item)
_model = msgspec.json.Decoder(str | None)


def parse(body: bytes, request: EmbeddingsRequest) -> Embeddings:
    """The vectors of an answer, by their indexes. Raises `UpstreamError` for an error inside a 200."""
    fields = _fields.decode(body)
    items = each(fields.get("data", _NULL), _item)
    if items is None:
        raise error_of(body, hint=200)
    return Embeddings(
        vectors=vectors_for(request, _in_order(items)),
        usage=parse_usage(fields.get("usage", _NULL).copy()),
        model=_model.decode(fields.get("model", _NULL)),
        wire={name: raw.copy() for name, raw in fields.items() if name not in _READ},
    )


def _in_order(items: Iterable[_Item]) -> list[Vector]:
    """The vectors of `items` by their indexes. Servers that say none send them in order."""
    found = [(item.index, _vector(item)) for item in items]
    indexes = [index for index, _ in found if index is not None]
    if indexes:
        if sorted(indexes) != list(range(len(found))):
            raise msgspec.ValidationError("the indexes of the vectors are not those of the inputs")
        found.sort(key=lambda pair: pair[0] or 0)
    return [vector for _, vector in found]


def _vector(item: _Item) -> Vector:
    return item.embedding if isinstance(item.embedding, str) else numbers(item.embedding)


EMBEDDER = Embedder(build_request=build_request, parse=parse, most=MOST)
COMPATIBLE = Embedder(build_request=build_compatible_request, parse=parse)
