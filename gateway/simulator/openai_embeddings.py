"""OpenAI's /v1/embeddings: what it refuses, and its answer.

Rule of this file: everything about this one path; the models are in `openai_models.py`.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from .brain import tokens
from .checks import Mistake, decode
from .openai_models import EMBEDDERS, Embedder, find
from .openai_rules import misshapen, no_such_model, refuse
from .vectors import in_base64, unit, vector
from .wire import Rejected

PATH = "/v1/embeddings"
MOST_INPUTS = 2048
MOST_TOKENS = 8192
MOST_TOGETHER = 300_000
REFERENCE = "Please check the API reference: https://platform.openai.com/docs/api-reference."


class Body(Struct, forbid_unknown_fields=True):
    """The request. `input` is a text, texts, tokens, or lists of tokens."""

    input: str | list[str | int | list[int]]
    model: str
    dimensions: int | None = None
    encoding_format: str | None = None
    user: str | None = None

    def items(self) -> list[str | list[int]]:
        """One for each vector."""
        if isinstance(self.input, str):
            return [self.input]
        if all(isinstance(item, int) for item in self.input):
            return [[item for item in self.input if isinstance(item, int)]]
        return [item for item in self.input if not isinstance(item, int)]


def answer(raw: bytes) -> dict[str, Any]:
    """The answer to a body. Raises Rejected as the real API would."""
    body = decode(raw, Body)
    if isinstance(body, Mistake):
        if body.path[:1] == ("input",) and body.kind != "missing":
            bad_input()
        misshapen(body)
    embedder = EMBEDDERS.get(body.model)
    if embedder is None:
        if find(body.model) is not None:
            refuse("You are not allowed to generate embeddings from this model", status=403)
        no_such_model(body.model)
    check_form(body, embedder)
    counts = check_input(body)
    size = body.dimensions or embedder.size
    vectors = [shortened(item, embedder, size) for item in body.items()]
    written = [in_base64(each) if body.encoding_format == "base64" else each for each in vectors]
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": at, "embedding": each} for at, each in enumerate(written)],
        "model": body.model,
        "usage": {"prompt_tokens": sum(counts), "total_tokens": sum(counts)},
    }


def shortened(item: str | list[int], embedder: Embedder, size: int) -> list[float]:
    """The first numbers of the whole vector, at length 1 again."""
    whole = vector(item if isinstance(item, str) else str(item), embedder.size)
    return whole if size == embedder.size else unit(whole[:size])


def bad_input() -> None:
    refuse(f"'$.input' is invalid. {REFERENCE}")


def check_form(body: Body, embedder: Embedder) -> None:
    if body.encoding_format not in (None, "float", "base64"):
        refuse(
            f"Invalid value: '{body.encoding_format}'. Supported values are: 'float' and 'base64'.",
            "encoding_format",
            "invalid_value",
        )
    if body.dimensions is None:
        return
    if not embedder.shortens:
        refuse("This model does not support specifying dimensions.")
    if not 1 <= body.dimensions <= embedder.size:
        refuse(
            f"Invalid value for 'dimensions' = {body.dimensions}. Must be at least 1 and less than or equal "
            f"to {embedder.size}."
        )


def check_input(body: Body) -> list[int]:
    """Tokens of each item."""
    items = body.items()
    mixed = isinstance(body.input, list) and len({type(item) for item in body.input}) != 1
    if mixed or any(not item for item in items) or not items:
        bad_input()
    if len(items) > MOST_INPUTS:
        refuse(
            f"Invalid 'input': array too long. Expected an array with maximum length {MOST_INPUTS}, but got "
            f"an array with length {len(items)} instead.",
            "input",
            "array_above_max_length",
        )
    counts = [tokens(item) if isinstance(item, str) else len(item) for item in items]
    if max(counts) > MOST_TOKENS:
        refuse(
            f"This model's maximum context length is {MOST_TOKENS} tokens, however you requested "
            f"{max(counts)} tokens ({max(counts)} in your prompt; 0 for the completion). Please reduce your "
            "prompt; or completion length."
        )
    if sum(counts) > MOST_TOGETHER:
        name = "max_tokens_per_request"
        message = f"Requested {sum(counts)} tokens, max {MOST_TOGETHER} tokens per request"
        raise Rejected(400, message, type=name, code=name)
    return counts
