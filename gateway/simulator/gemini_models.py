"""Gemini's model families: data only.

Rule of this file: a table and its look-up; what follows from it is in `gemini_rules.py`.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

LOW_TO_HIGH = ("LOW", "MEDIUM", "HIGH")
MINIMAL_TO_HIGH = ("MINIMAL", *LOW_TO_HIGH)


class Family(Struct, frozen=True):
    """One family. Its defaults are those of Gemini 3.

    generation      the whole number of the generation
    thinking        "level", "budget", or "none" (any thinkingConfig is refused)
    levels          thinkingLevel values; budgets: least and most thinkingBudget
    off             budget 0 turns thinking off; default_on: thinks without being asked
    budget_too      a level model that tolerates thinkingBudget
    penalties, candidates, logprobs, system, cache, functions   what is taken
    signatures      the first functionCall of a turn needs a thought signature
    response_parts  media inside functionResponse
    with_json       function tools together with a JSON answer format
    prefill         the conversation may end with a model turn
    long            long decode: maxOutputTokens may be above `output`
    """

    generation: int = 3
    thinking: str = "level"
    levels: tuple[str, ...] = LOW_TO_HIGH
    budgets: tuple[int, int] = (0, 0)
    off: bool = False
    default_on: bool = True
    budget_too: bool = True
    penalties: bool = False
    candidates: bool = False
    logprobs: bool = False
    system: bool = True
    cache: bool = True
    functions: bool = True
    signatures: bool = True
    response_parts: bool = True
    with_json: bool = True
    prefill: bool = True
    long: bool = False
    window: int = 1_048_576
    output: int = 65_536


_3 = Family()
_3_MINIMAL = Family(levels=MINIMAL_TO_HIGH)
_4 = Family(generation=4, budget_too=False, cache=False, prefill=False)
_2_5 = Family(
    generation=2,
    thinking="budget",
    levels=(),
    budgets=(0, 24_576),
    off=True,
    candidates=True,
    logprobs=True,
    signatures=False,
    response_parts=False,
    with_json=False,
)
_2_0 = replace(_2_5, thinking="none", default_on=False, penalties=True, output=8_192)
_IMAGE = replace(_2_0, penalties=False, system=False, functions=False, window=65_536, output=32_768)

MODELS: dict[str, Family] = {
    "gemini-4-argon": replace(_4, long=True),
    "gemini-4-carbon": _4,
    "gemini-4-hydrogen": _4,
    "gemini-4-neon": replace(_4, levels=(*LOW_TO_HIGH, "XHIGH"), long=True),
    "gemini-3.8-flash": _3,
    "gemini-3.7-flash": _3,
    "gemini-3.6-flash": _3_MINIMAL,
    "gemini-3.5-flash": _3_MINIMAL,
    "gemini-3.5-flash-lite": _3_MINIMAL,
    "gemini-3.1-pro-preview": _3,
    "gemini-3.1-pro-preview-customtools": _3,
    "gemini-3.1-flash-lite": _3_MINIMAL,
    "gemini-3-flash-preview": _3_MINIMAL,
    "gemini-3-pro-image": replace(_3, system=False, functions=False),
    "gemini-3.1-flash-image": replace(_3, system=False, functions=False),
    "gemini-3.1-flash-lite-image": replace(_3, levels=("MINIMAL", "HIGH"), system=False, functions=False),
    "gemini-2.5-pro": replace(_2_5, budgets=(128, 32_768), off=False, logprobs=False),
    "gemini-2.5-flash": _2_5,
    "gemini-2.5-flash-lite": replace(_2_5, budgets=(512, 24_576), default_on=False),
    "gemini-2.5-flash-image": _IMAGE,
    "gemini-2.0-flash": _2_0,
    "gemma-4-31b-it": replace(_2_0, system=False, window=131_072),
}

LATEST = {"gemini-flash-latest": "gemini-3.8-flash", "gemini-pro-latest": "gemini-3.1-pro-preview"}
"""Moving aliases, which exist on v1beta only."""


class Embedder(Struct, frozen=True):
    """A model for embeddings. `counts`: it tells the tokens; `media`: it takes more than text."""

    counts: bool
    media: bool
    size: int = 3072


EMBEDDERS: dict[str, Embedder] = {
    "gemini-embedding-2": Embedder(counts=True, media=True),
    "gemini-embedding-001": Embedder(counts=False, media=False),
}
"""Listed, but not for generateContent."""


def find(model: str, version: str) -> Family | None:
    """The family of a model on this API version; None: there is no such model for generateContent."""
    return MODELS.get(LATEST.get(model, model) if version == "v1beta" else model)
