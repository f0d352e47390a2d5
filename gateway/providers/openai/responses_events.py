"""What is read of the Responses API's answers, and how their small parts are said as Chat Completions does.

Only shapes and pure conversions live here; `responses_answers` knows the order in which things come.
Follows the Responses API in the OpenAI API reference.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from ...chat import Chunk, Json, Usage


class Text(Struct):
    type: str = ""
    text: str | None = None
    refusal: str | None = None
    annotations: list[Json] | None = None
    logprobs: list[Json] | None = None


class Item(Struct):
    type: str = ""
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    summary: list[Text] | None = None
    content: list[Text] | None = None
    encrypted_content: str | None = None


class _InputDetails(Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _OutputDetails(Struct):
    reasoning_tokens: int | None = None


class UsageSaid(Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class Incomplete(Struct):
    reason: str | None = None


class Response(Struct):
    id: str | None = None
    model: str | None = None
    created_at: float | None = None
    status: str | None = None
    error: Json | None = None
    incomplete_details: Incomplete | None = None
    output: list[Item] | None = None
    usage: UsageSaid | None = None


class Told(Struct):
    """One event of a stream, whatever its type."""

    type: str = ""
    output_index: int = 0
    summary_index: int = 0
    content_index: int = 0
    delta: Any = None
    arguments: str | None = None
    item: Item | None = None
    logprobs: list[Json] | None = None
    annotation: Json | None = None
    response: Raw = Raw(b"{}")
    error: Any = None
    code: Any = None
    message: str | None = None
    param: Any = None

    @property
    def text(self) -> str:
        return self.delta if isinstance(self.delta, str) else ""


decode_event = msgspec.json.Decoder(Told).decode
decode_response = msgspec.json.Decoder(Response).decode


def cited(annotations: list[Json]) -> Chunk:
    """The pages that a text names; other kinds of annotations have no form on Chat Completions."""
    return Chunk(
        annotations=tuple(
            {"type": "url_citation", "url_citation": {k: v for k, v in a.items() if k != "type"}}
            for a in annotations
            if a.get("type") == "url_citation"
        )
    )


def logprobs(tokens: list[Json] | None) -> Json | None:
    """Log probabilities in the form of Chat Completions, which names the bytes of each token."""
    if not tokens:
        return None
    tops = [[_with_bytes(top) for top in token.get("top_logprobs") or ()] for token in tokens]
    return {
        "content": [{**_with_bytes(t), "top_logprobs": o} for t, o in zip(tokens, tops, strict=True)],
        "refusal": None,
    }


def _with_bytes(token: Json) -> Json:
    text = str(token.get("token") or "")
    return {"token": text, "logprob": token.get("logprob"), "bytes": list(text.encode())}


def usage_of(usage: UsageSaid | None) -> Usage | None:
    """Usage in our words; None when the answer counted nothing."""
    if usage is None:
        return None
    read = usage.input_tokens_details or _InputDetails()
    made = usage.output_tokens_details or _OutputDetails()
    return Usage(
        prompt_tokens=usage.input_tokens or 0,
        completion_tokens=usage.output_tokens or 0,
        cached_tokens=read.cached_tokens or 0,
        cache_write_tokens=read.cache_write_tokens or 0,
        reasoning_tokens=made.reasoning_tokens or 0,
    )
