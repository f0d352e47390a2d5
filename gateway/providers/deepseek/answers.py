"""Reading DeepSeek's answers: OpenAI's dialect, after two things are mended in the bytes.

Follows the page "Chat Completion" of api-docs.deepseek.com.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from ...chat import (
    ChatRequest,
    Chunk,
)
from ...errors import ErrorKind, UpstreamError
from ...sse import Event
from ..base import (
    EventDecoder,
    json_body,
)
from ..openai import answers

GAVE_UP = frozenset(("insufficient_system_resource", "aborted"))
"""Finish reasons of answers that the server abandoned: under a status of 200, and nothing like a stop."""
_SUSPICIOUS = tuple(f'"{reason}"'.encode() for reason in GAVE_UP)
_CACHE_HITS = b'"prompt_cache_hit_tokens"'


class _Choice(Struct):
    finish_reason: str | None = None


class _Answer(Struct):
    choices: list[_Choice] | None = None


def _readable(data: bytes) -> bytes:
    """`data` in OpenAI's words. Raises `UpstreamError` for an answer that the server gave up."""
    if any(mark in data for mark in _SUSPICIOUS):
        for choice in msgspec.json.decode(data, type=_Answer).choices or ():
            if choice.finish_reason in GAVE_UP:
                raise UpstreamError(
                    ErrorKind.OVERLOADED,
                    f"gave the answer up (finish_reason '{choice.finish_reason}')",
                    code="insufficient_system_resource",
                )
    return _with_cached_tokens(data) if _CACHE_HITS in data else data


def _with_cached_tokens(data: bytes) -> bytes:
    """The answer with the cache hits also where OpenAI's clients look for them; the rest byte for byte."""
    fields = msgspec.json.decode(data, type=dict[str, Raw])
    usage: Any = msgspec.json.decode(fields.get("usage", b"null"))
    if not isinstance(usage, dict) or usage.get("prompt_cache_hit_tokens") is None:
        return data
    details = usage.get("prompt_tokens_details")
    known = details if isinstance(details, dict) else {}
    usage["prompt_tokens_details"] = {"cached_tokens": usage["prompt_cache_hit_tokens"], **known}
    return json_body({**fields, "usage": usage})


def parse_response(body: bytes, request: ChatRequest) -> Chunk:
    """A whole answer; blank lines before it kept the connection alive. Raises `UpstreamError`."""
    return answers.parse_response(_readable(body.strip()), request)


def event_decoder(request: ChatRequest) -> EventDecoder:
    """A decoder for one stream."""
    read = answers.event_decoder(request)

    def decode(event: Event) -> Chunk | None:
        data = _readable(event.data)
        return read(event if data is event.data else event._replace(data=data))

    return decode
