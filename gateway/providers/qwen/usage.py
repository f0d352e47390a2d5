"""DashScope's counts of tokens, in OpenAI's terms.

The totals include everything on both sides. Details have moved over the years, and stand in either of two
objects or beside the totals. Follows the page "DashScope API reference" of Alibaba Cloud Model Studio.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from ...chat import Json, Usage
from ..base import json_body

PROMPT = ("prompt_tokens_details", "input_tokens_details", "")
OUTPUT = ("output_tokens_details", "completion_tokens_details", "")
"""Where details of either side may stand, the first that has one counts; "" is beside the totals."""
MEDIA = ("image_tokens", "video_tokens", "audio_tokens")


def usage_of(counts: Sequence[Json]) -> Usage | None:
    """The usage of an answer, from the counts of each of its choices: they share their prompt."""
    if not counts:
        return None
    usage = Usage(
        prompt_tokens=max(_count(c, "input_tokens") for c in counts),
        completion_tokens=sum(_count(c, "output_tokens") for c in counts),
        cached_tokens=_count(counts[0], "cached_tokens", PROMPT),
        cache_write_tokens=_count(counts[0], "cache_creation_input_tokens", PROMPT),
        reasoning_tokens=sum(_count(c, "reasoning_tokens", OUTPUT) for c in counts),
    )
    media = {name: n for name in MEDIA if (n := _count(counts[0], name, PROMPT))}
    if not media:
        return usage
    return msgspec.structs.replace(usage, wire=Raw(json_body(canonical(usage, media))))


def canonical(usage: Usage, media: Json | None = None) -> Json:
    """The usage object of OpenAI's clients, with `media` tokens where pictures or recordings were sent."""
    written = {"cache_write_tokens": usage.cache_write_tokens} if usage.cache_write_tokens else {}
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "audio_tokens": 0,
            **written,
            **(media or {}),
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _count(counts: Json, name: str, places: Sequence[str] = ("",)) -> int:
    for place in places:
        found: Any = counts.get(place) if place else counts
        value = found.get(name) if isinstance(found, dict) else None
        if isinstance(value, int):
            return value
    return 0
