"""Anthropic's model families: data only.

Rule of this file: a table and its look-up; what follows from it is in `anthropic_rules.py`.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

TO_MAX = ("low", "medium", "high", "xhigh", "max")


class Family(Struct, frozen=True):
    """One model.

    window, output   most input tokens, most output tokens
    thinks           without being asked: "always" (cannot be turned off), "on", "off"
    disable          "no", "yes", or "to_high": only while the effort is at most high
    between          takes thinking between_tools (effort at most high)
    adaptive         takes thinking adaptive; budget: takes thinking enabled
    efforts          output_config.effort values, () for none
    sampling         "any", or "default": only temperature 1 passes, and neither top_p nor top_k
    prefill          a conversation may end with an assistant message
    forced           tool_choice any and tool are taken
    binds            a thinking block belongs to the exact prefix it was made after
    system_role      a role "system" entry inside messages: "yes", "no" (400), "ignored"
    display          what a thinking block shows when the request does not say
    """

    window: int = 1_000_000
    output: int = 128_000
    thinks: str = "always"
    disable: str = "no"
    between: bool = False
    adaptive: bool = True
    budget: bool = False
    efforts: tuple[str, ...] = TO_MAX
    sampling: str = "default"
    prefill: bool = False
    forced: bool = True
    binds: bool = False
    system_role: str = "yes"
    display: str = "omitted"
    created: str = "2026-06-01T00:00:00Z"


_ALWAYS = Family()
_UNFORCED = replace(_ALWAYS, forced=False)
_BOUND = replace(_UNFORCED, binds=True)
_ON = Family(thinks="on", disable="to_high")
_4_8 = Family(thinks="off", disable="yes")
_4_6 = Family(
    thinks="off",
    disable="yes",
    budget=True,
    efforts=("low", "medium", "high", "max"),
    sampling="any",
    system_role="no",
    display="summarized",
    created="2026-02-01T00:00:00Z",
)
_OPUS_4_5 = Family(
    window=200_000,
    output=64_000,
    thinks="off",
    disable="yes",
    adaptive=False,
    budget=True,
    efforts=("low", "medium", "high"),
    sampling="any",
    prefill=True,
    system_role="no",
    display="summarized",
    created="2025-11-01T00:00:00Z",
)
_4_5 = replace(_OPUS_4_5, efforts=(), created="2025-09-29T00:00:00Z")

MODELS: dict[str, Family] = {
    "claude-fable-5-2": _BOUND,
    "claude-mythos-5-2": _BOUND,
    "claude-haiku-5-5": replace(_ON, binds=True),
    "claude-sonnet-5-5": replace(_BOUND, thinks="on", between=True),
    "claude-fable-5-1": _BOUND,
    "claude-opus-5-5": _BOUND,
    "claude-mythos-5-1": _UNFORCED,
    "claude-sonnet-5": replace(_ON, disable="yes", system_role="ignored"),
    "claude-fable-5": _ALWAYS,
    "claude-mythos-5": _ALWAYS,
    "claude-opus-5": _ON,
    "claude-opus-4-8": _4_8,
    "claude-opus-4-7": replace(_4_8, system_role="no"),
    "claude-mythos-preview": replace(_ALWAYS, budget=True, sampling="any", system_role="no"),
    "claude-opus-4-6": _4_6,
    "claude-sonnet-4-6": _4_6,
    "claude-haiku-4-5": _4_5,
    "claude-haiku-4-5-20251001": _4_5,
    "claude-opus-4-5": _OPUS_4_5,
    "claude-opus-4-5-20251101": _OPUS_4_5,
    "claude-sonnet-4-5": _4_5,
    "claude-sonnet-4-5-20250929": _4_5,
}
"""Newest first, as /v1/models lists them."""
