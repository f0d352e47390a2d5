"""What Anthropic's model families take and refuse, as data. Rules that use it live with the requests.

A row says where a family differs from the newest behaviour, which an unknown id is taken to have: thinking
cannot be turned off, and sampling parameters, prefill and forced tool choice are refused.
Follows the model pages and migration guides of Anthropic's API reference (November 2026).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

from ..base import EFFORTS, Capabilities, Feature

Thinking: TypeAlias = Literal[
    "always",  # cannot be turned off
    "switchable",  # on unless {"type": "disabled"}
    "between_tools",  # on; at the least it can be kept to the pauses between tool calls
    "optional",  # off unless {"type": "adaptive"}
    "budget",  # off unless {"type": "enabled", "budget_tokens": N}
    "never",
]

BUDGETS = {"minimal": 1024, "low": 2048, "medium": 10_000, "high": 16_384, "xhigh": 32_768, "max": 32_768}
"""Thinking tokens, for models that take a budget instead of an effort."""
MIN_BUDGET = 1024


class Family(NamedTuple):
    """Models that behave alike. Sizes in tokens, None when they are not known."""

    models: str
    context: int | None
    max_output: int | None
    thinking: Thinking
    default_output: int = 128_000
    """What an absent limit becomes: the API has no default of its own."""
    efforts: tuple[str, ...] = EFFORTS[2:]
    sampling: bool = False
    prefill: bool = False
    forced: bool = False
    """Whether `tool_choice` may be "any" or name a tool."""
    schemas: bool = True
    """Whether answers and strict tools can be held to a JSON schema."""
    hides: bool = True
    """Whether thinking comes back without its text unless the text is asked for."""

    def effort(self, wanted: str) -> str:
        """The effort that stands for `wanted`: the next one up, or the highest there is.

        Not the nearest, as elsewhere: without an "xhigh" of its own, a model is told "max".
        """
        above = EFFORTS[EFFORTS.index(wanted) :]
        return next((effort for effort in above if effort in self.efforts), self.efforts[-1])


NEWEST = Family("", None, None, "always", default_output=16_384)

_M, _K, _OUT = 1_000_000, 200_000, 128_000


def _old(
    models: str,
    max_output: int | None,
    default_output: int,
    thinking: Thinking = "budget",
    efforts: tuple[str, ...] = (),
    schemas: bool = True,
) -> Family:
    """A family from before adaptive thinking: everything that newer ones refuse, it takes."""
    return Family(
        models,
        _K,
        max_output,
        thinking,
        default_output,
        efforts,
        sampling=True,
        prefill=True,
        forced=True,
        schemas=schemas,
        hides=False,
    )


FAMILIES = (  # the first that matches counts
    Family(r"claude-(fable|mythos)-5-\d{1,2}\b", _M, _OUT, "always"),
    Family(r"claude-(fable|mythos)-5\b", _M, _OUT, "always", forced=True),
    Family(r"claude-mythos-preview\b", _M, _OUT, "always", forced=True),
    Family(r"claude-opus-5-\d{1,2}\b", _M, _OUT, "always"),
    Family(r"claude-opus-5\b", _M, _OUT, "switchable", forced=True),
    Family(r"claude-sonnet-5-\d{1,2}\b", _M, _OUT, "between_tools"),
    Family(r"claude-sonnet-5\b", _M, _OUT, "switchable", forced=True),
    Family(r"claude-haiku-5\b", _M, _OUT, "switchable", forced=True),
    Family(r"claude-opus-4-[789]\b", _M, _OUT, "optional", forced=True),
    Family(
        r"claude-(opus|sonnet)-4-6\b",
        _M,
        _OUT,
        "optional",
        efforts=("low", "medium", "high", "max"),
        sampling=True,
        forced=True,
        hides=False,
    ),
    _old(r"claude-opus-4-5\b", 64_000, 64_000, efforts=("low", "medium", "high")),
    _old(r"claude-(sonnet|haiku)-4-5\b", 64_000, 64_000),
    _old(r"claude-opus-4-1\b", 32_000, 32_000),
    _old(r"claude-opus-4(-0)?(-\d{8})?$", 32_000, 32_000, schemas=False),
    # These refuse a prompt and a limit that do not fit into the window together: a small default is safe.
    _old(r"claude-(sonnet-4(-0)?(-\d{8})?$|3-7-)", None, 4096, schemas=False),
    _old(r"claude-(instant|[123])\b", None, 4096, "never", schemas=False),
)
_FAMILIES = tuple((re.compile(family.models), family) for family in FAMILIES)


@lru_cache(maxsize=256)
def family(model: str) -> Family:
    """The family of `model`; the newest behaviour, of unknown size, for an id that nobody here knows."""
    return next((kin for pattern, kin in _FAMILIES if pattern.match(model)), NEWEST)


_BINDING = re.compile(r"claude-[a-z]+-5-\d{1,2}\b")


def binds(model: str) -> bool:
    """Whether the signatures of `model` hold only for exactly the conversation before them."""
    return family(model) is NEWEST or _BINDING.match(model) is not None


_FEATURES: frozenset[Feature] = frozenset(("tools", "images", "files", "json_schema"))


def capabilities(model: str) -> Capabilities:
    """What `model` can do, as far as its id tells."""
    kin = family(model)
    return Capabilities(
        features=_FEATURES if kin.schemas else _FEATURES - {"json_schema"},
        context_window=kin.context,
        max_output=kin.max_output,
    )
