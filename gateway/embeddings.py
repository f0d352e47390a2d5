"""The vocabulary of embeddings: what a client asks, in OpenAI's shape, and the vectors that come back.

Only data and pure functions over it live here: no rule of any provider, no HTTP. As with chat, `wire` keeps
every top-level field exactly as it was sent.

Follows the OpenAI API reference for `POST /v1/embeddings` (November 2026).
"""

from __future__ import annotations

import binascii
import math
import struct
from array import array
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from .chat import InvalidRequest, Usage, decode_with_wire

MAX_INPUTS = 2048
"""Most inputs of one request."""
FLOAT_BYTES = 4
LARGE = 1 << 20
"""Bytes of an answer from which on reading and writing it is a thread's work."""

_Token: TypeAlias = Annotated[int, Meta(ge=0)]
Input: TypeAlias = str | list[int]
"""What one vector is made of: a text, or the ids of its tokens."""
Vector: TypeAlias = "str | array[float]"
"""The numbers themselves, or base64 of them as 32-bit floats, least significant byte first.

No lists: to free the millions of numbers of a large answer one by one takes long, wherever it happens.
"""


# ── what a client sends ────────────────────────────────────────────────────────────────────────────────


class EmbeddingsRequest(Struct, frozen=True, kw_only=True):
    """One request in OpenAI's shape. `dimensions` is how many numbers a vector shall have.

    The last fields are the gateway's own and never come from the body: `wire` holds each top-level field as
    the client sent it; `strict` says that nothing may be dropped.
    """

    model: str
    input: str | list[str | _Token | list[_Token]]
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None

    # Under names that no client sends; `decode_embeddings` overwrites them all the same.
    wire: dict[str, Raw] = msgspec.field(default_factory=dict, name="gateway:wire")
    strict: bool = msgspec.field(default=False, name="gateway:strict")

    @property
    def inputs(self) -> list[Input]:
        """One item for each vector that is asked for, whichever form `input` came in."""
        if isinstance(self.input, str):
            return [self.input]
        if isinstance(self.input[0], int):
            return [[token for token in self.input if isinstance(token, int)]]
        return [item for item in self.input if not isinstance(item, int)]


_decoder = msgspec.json.Decoder(EmbeddingsRequest)


def decode_embeddings(body: bytes) -> EmbeddingsRequest:
    """The request in `body`. Raises `InvalidRequest` with the path of the first bad field."""
    request, wire = decode_with_wire(_decoder, body)
    for name, value in (("wire", wire), ("strict", False)):
        msgspec.structs.force_setattr(request, name, value)
    if not request.model:
        raise InvalidRequest("'model' is empty", "model", "missing_required_parameter")
    _check_input(request.input)
    return request


def _check_input(given: str | list[str | int | list[int]]) -> None:
    """What types alone cannot say. Raises `InvalidRequest`."""
    if not given:
        code = "invalid_value" if given == "" else "empty_array"
        raise InvalidRequest("'input' is empty", "input", code)
    if isinstance(given, str):
        return
    kind = type(given[0])
    if kind is not int and len(given) > MAX_INPUTS:
        message = f"'input' has {len(given)} items, and at most {MAX_INPUTS} are taken"
        raise InvalidRequest(message, "input", "array_above_max_length")
    for i, item in enumerate(given):
        path = f"input[{i}]"
        if type(item) is not kind:
            message = f"'{path}': the items of 'input' have to be of one kind: texts, tokens, lists of tokens"
            raise InvalidRequest(message, path, "invalid_type")
        if item in ("", []):
            code = "invalid_value" if item == "" else "empty_array"
            raise InvalidRequest(f"'{path}' is empty", path, code)


def batches(request: EmbeddingsRequest, most: int | None) -> list[EmbeddingsRequest]:
    """The request in pieces of at most `most` inputs each, in order; the request itself when it fits."""
    inputs = request.inputs
    if most is None or len(inputs) <= most:
        return [request]
    return [_piece(request, inputs[at : at + most]) for at in range(0, len(inputs), most)]


def _piece(request: EmbeddingsRequest, inputs: list[Input]) -> EmbeddingsRequest:
    wire = {**request.wire, "input": Raw(msgspec.json.encode(inputs))}
    return msgspec.structs.replace(request, input=inputs, wire=wire)


# ── what a provider answers ────────────────────────────────────────────────────────────────────────────

_T = TypeVar("_T")
_split = msgspec.json.Decoder(list[Raw] | None)


def each(data: Raw, decoder: msgspec.json.Decoder[_T]) -> Iterator[_T] | None:
    """The items of a JSON list, decoded one by one; None for null. Raises what decoders raise.

    Decoded in one go, a large list would stop every other thread as long.
    """
    items = _split.decode(data)
    return None if items is None else map(decoder.decode, items)


def numbers(values: Sequence[float]) -> array[float]:
    """`values` as a vector."""
    return array("d", values)


class Embeddings(Struct, frozen=True, kw_only=True):
    """Vectors in the order of the inputs, in the form that the request asks for.

    `usage` is None when the provider does not say it. `wire` are the other top-level fields of an answer in
    OpenAI's dialect, as they came.
    """

    vectors: list[Vector]
    usage: Usage | None = None
    model: str | None = None
    wire: dict[str, Raw] = {}


def vectors_for(request: EmbeddingsRequest, vectors: Sequence[Vector]) -> list[Vector]:
    """`vectors`, in whatever form a provider sent them, in the form that `request` asks for.

    Raises `msgspec.ValidationError` when there is not one for each input, or one is no vector at all.
    """
    if len(vectors) != len(request.inputs):
        count = len(request.inputs)
        raise msgspec.ValidationError(f"{len(vectors)} vectors for {count} inputs")
    form = _as_base64 if request.encoding_format == "base64" else _as_numbers
    return [form(vector) for vector in vectors]


def _as_base64(vector: Vector) -> str:
    if not isinstance(vector, str):
        return to_base64(vector)
    _bytes(vector)  # what cannot be read here could not be read by the client either
    return vector


def _as_numbers(vector: Vector) -> array[float]:
    if isinstance(vector, str):
        return from_base64(vector)
    if not vector:
        raise msgspec.ValidationError("a vector is empty")
    return vector


def to_base64(values: Sequence[float]) -> str:
    """Numbers as 32-bit floats, least significant byte first, in base64.

    Raises `msgspec.ValidationError` when there are none, or one is too large.
    """
    if not values:
        raise msgspec.ValidationError("a vector is empty")
    try:
        packed = struct.pack(f"<{len(values)}f", *values)
    except OverflowError:
        raise msgspec.ValidationError("a vector has a number that 32 bits cannot hold") from None
    return binascii.b2a_base64(packed, newline=False).decode("ascii")


def from_base64(text: str) -> array[float]:
    """The numbers that `to_base64` wrote. Raises `msgspec.ValidationError` for anything else."""
    packed = _bytes(text)
    values = struct.unpack(f"<{len(packed) // FLOAT_BYTES}f", packed)
    if not all(map(math.isfinite, values)):  # JSON has no word for it
        raise msgspec.ValidationError("a vector has a number that is none")
    return numbers(values)


def _bytes(text: str) -> bytes:
    try:
        packed = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:  # not base64, or not ASCII
        raise msgspec.ValidationError(f"a vector is not base64: {error}") from None
    if not packed or len(packed) % FLOAT_BYTES:
        raise msgspec.ValidationError(f"a vector of {len(packed)} bytes is not made of 32-bit floats")
    return packed


def join(pieces: Sequence[Embeddings]) -> Embeddings:
    """The answer that the batches of a request make together. A single one is returned as it is.

    Tokens are added up; they are not known when those of one batch are not.
    """
    if len(pieces) == 1:
        return pieces[0]
    tokens = [piece.usage.prompt_tokens for piece in pieces if piece.usage is not None]
    return Embeddings(
        vectors=[vector for piece in pieces for vector in piece.vectors],
        usage=Usage(prompt_tokens=sum(tokens)) if len(tokens) == len(pieces) else None,
        model=pieces[0].model,
        wire=pieces[0].wire,
    )
