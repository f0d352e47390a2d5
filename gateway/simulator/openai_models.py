"""OpenAI's model families as the documents describe them: data only.

Rule of this file: a table and its look-up. Prefixes are tried longest first; a date suffix is part of no
prefix.
"""

from __future__ import annotations

import re

from msgspec import Struct

NONE_TO_MAX = ("none", "low", "medium", "high", "xhigh", "max")
NONE_TO_XHIGH = NONE_TO_MAX[:-1]


class Family(Struct, frozen=True):
    """One family.

    efforts     reasoning_effort values it takes; () is a model that does not reason
    default     the effort when none is asked for
    tools       function tools on chat/completions: "always", or only with effort "none" ("unless_reasoning")
    output      most completion tokens; window: most input tokens
    chat        False: /v1/responses only
    """

    efforts: tuple[str, ...] = ()
    default: str = ""
    tools: str = "always"
    output: int = 128_000
    window: int = 272_000
    chat: bool = True


LOW_TO_XHIGH = ("low", "medium", "high", "xhigh")
_6 = Family(NONE_TO_MAX, "medium", "unless_reasoning")
_6_NO_NONE = Family(LOW_TO_XHIGH, "medium", "unless_reasoning")
_5_5 = Family(NONE_TO_MAX, "medium", "unless_reasoning")
_5_4 = Family(NONE_TO_XHIGH, "none", "unless_reasoning")
_PRO = Family(LOW_TO_XHIGH, "high", "unless_reasoning", chat=False)
_5 = Family(("minimal", "low", "medium", "high"), "medium")
_4_1 = Family(output=32_768, window=1_047_576)
_4O = Family(output=16_384, window=128_000)

MODELS: dict[str, Family] = {
    "gpt-6-astra": _6_NO_NONE,
    "gpt-6.2-astra": _6,
    "gpt-6.1-sol": _6_NO_NONE,
    "gpt-6.2-sol": _6,
    "gpt-6.1-terra": _6,
    "gpt-6-sol": _6,
    "gpt-6-luna": _6,
    "gpt-5.6": _5_5,
    "gpt-5.6-sol": _5_5,
    "gpt-5.6-terra": _5_5,
    "gpt-5.6-luna": _5_5,
    "gpt-5.5": _5_5,
    "gpt-5.5-pro": _PRO,
    "gpt-5.4": _5_4,
    "gpt-5.4-mini": _5_4,
    "gpt-5.4-nano": _5_4,
    "gpt-5.4-pro": _PRO,
    "gpt-5.2": Family(NONE_TO_XHIGH, "none"),
    "gpt-5.2-pro": _PRO,
    "gpt-5.1": Family(("none", "low", "medium", "high"), "none"),
    "gpt-5": _5,
    "gpt-5-mini": _5,
    "gpt-5-nano": _5,
    "o3": Family(("low", "medium", "high"), "medium", output=100_000, window=200_000),
    "gpt-4.1": _4_1,
    "gpt-4.1-mini": _4_1,
    "gpt-4o": _4O,
    "gpt-4o-mini": _4O,
}


class Embedder(Struct, frozen=True):
    """A model for embeddings: how many numbers a vector has, and whether fewer can be asked for."""

    size: int
    shortens: bool = True


EMBEDDERS: dict[str, Embedder] = {
    "text-embedding-3-small": Embedder(1536),
    "text-embedding-3-large": Embedder(3072),
    "text-embedding-ada-002": Embedder(1536, shortens=False),
}
"""Listed, but not for chat."""

SHUTDOWN = {
    **dict.fromkeys(("gpt-4.1", "gpt-4.1-mini", "gpt-4o", "gpt-4o-mini"), "2027-01-14"),
    **dict.fromkeys(("gpt-5", "gpt-5-mini", "gpt-5-nano", "o3"), "2026-12-11"),
    **dict.fromkeys(("gpt-5.1", "gpt-5.4-nano"), "2027-04-01"),
}
"""Days on which models stop, as /v1/models reports them."""

CREATED = 1_790_000_000

_DATE = re.compile(r"-\d{4}-\d{2}-\d{2}$")


def find(model: str) -> Family | None:
    """The family of a model id, with or without a date; None: there is no such model."""
    return MODELS.get(model) or MODELS.get(_DATE.sub("", model))
