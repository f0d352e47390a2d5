"""Embeddings: `batchEmbedContents`, for one input as for many.

Vectors come as they are: those of reduced dimensions are not of length 1. Follows the Gemini API reference
(`BatchEmbedContentsRequest`).
"""

from __future__ import annotations

from functools import partial

import msgspec
from msgspec import Raw, Struct

from ...chat import Json, Usage
from ...embeddings import Embeddings, EmbeddingsRequest, Input, each, numbers, vectors_for
from ..base import Embedder, HttpRequest, json_body, unsupported
from .errors import parse_error
from .paths import model_path
from .requests import GeminiOptions

MOST = 100
_CARRIED = ("model", "input", "dimensions", "encoding_format")


def build_request(request: EmbeddingsRequest, options: GeminiOptions) -> HttpRequest:
    """The native request. Raises `UpstreamError`: UNSUPPORTED for tokens, NOT_FOUND as for a chat."""
    model = request.model.removeprefix("models/")
    path = model_path(model)
    sized = {} if request.dimensions is None else {"outputDimensionality": request.dimensions}
    name = model if model.startswith("tunedModels/") else f"models/{model}"
    contents = [_content(given) for given in request.inputs]
    body = {"requests": [{"model": name, "content": content, **sized} for content in contents]}
    return HttpRequest(
        path=f"/{options.api_version}/{path}:batchEmbedContents",
        body=json_body(body),
        dropped=tuple(
            field for field, raw in request.wire.items() if field not in _CARRIED and bytes(raw) != b"null"
        ),
    )


def _content(given: Input) -> Json:
    if not isinstance(given, str):
        raise unsupported("ids of tokens cannot be embedded: send the text", "input")
    return {"parts": [{"text": given}]}


class _Vector(Struct):
    values: list[float]


class _Usage(Struct, rename="camel"):
    prompt_token_count: int | None = None


class _Answer(Struct, rename="camel"):
    embeddings: Raw = Raw(b"null")
    usage_metadata: _Usage | None = None


_vector = msgspec.json.Decoder(_Vector)


def parse(body: bytes, request: EmbeddingsRequest) -> Embeddings:
    """The vectors of an answer. Only newer models tell the tokens."""
    answer = msgspec.json.decode(body, type=_Answer)
    vectors = each(answer.embeddings, _vector)
    if vectors is None:
        raise parse_error(200, {}, body)
    tokens = answer.usage_metadata.prompt_token_count if answer.usage_metadata else None
    return Embeddings(
        vectors=vectors_for(request, [numbers(vector.values) for vector in vectors]),
        usage=None if tokens is None else Usage(prompt_tokens=tokens),
    )


def embedder(options: GeminiOptions) -> Embedder:
    """Embeddings with these options."""
    return Embedder(build_request=partial(build_request, options=options), parse=parse, most=MOST)
