"""What DashScope's models take: tables by name, and nothing that reads a request.

A name that nobody here knows is taken for the newest of its family where it has one, else for a model that
takes what all take. Follows the model pages of Alibaba Cloud Model Studio (November 2026).
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Literal, TypeAlias

from ..base import ALL_FEATURES, Capabilities, Feature, nearest_effort

# ── the two paths ──────────────────────────────────────────────────────────────────────────────────────

Path: TypeAlias = Literal["text", "multimodal"]

PATHS: dict[Path, str] = {
    "text": "/services/aigc/text-generation/generation",
    "multimodal": "/services/aigc/multimodal-generation/generation",
}
OTHER: dict[Path, Path] = {"text": "multimodal", "multimodal": "text"}

HOMES: tuple[tuple[str, Path], ...] = (  # the first that matches counts
    (r".*(-vl|qvq|-omni|-ocr)|qvq", "multimodal"),
    (r"qwen3\.[67]-max", "text"),
    (r"qwen3\.([5-9]|\d\d)|qwen[4-9]", "multimodal"),
    (r"kimi-k(2\.([5-9]|\d\d)|[3-9])", "multimodal"),
    (r"", "text"),
)
_HOMES = tuple((re.compile(pattern), path) for pattern, path in HOMES)


def home(model: str) -> Path:
    """The path that serves `model`, as far as its name tells."""
    return next(path for pattern, path in _HOMES if pattern.match(model))


# ── thinking ───────────────────────────────────────────────────────────────────────────────────────────


class Thinking(StrEnum):
    """How a model is told to think: by level, by budget, by a switch only; always, or not at all."""

    LEVEL = "level"
    BUDGET = "budget"
    SWITCH = "switch"
    ALWAYS = "always"
    NEVER = "never"


THINKING: tuple[tuple[str, Thinking], ...] = (  # the first that matches counts
    (r"qwq|qvq|.*-thinking", Thinking.ALWAYS),
    (r".*-instruct|.*-coder|.*-ocr|qwen-(turbo|max|long)|qwen3\.[5-7]-omni", Thinking.NEVER),
    (r"qwen3\.([89]|\d\d)|qwen[4-9]|glm-5|deepseek-v4", Thinking.LEVEL),
    (r"qwen3\.[5-7]|qwen3-max|qwen-(plus|flash)", Thinking.BUDGET),
    (r"qwen3-", Thinking.SWITCH),
    (r"", Thinking.NEVER),
)
_THINKING = tuple((re.compile(pattern), kind) for pattern, kind in THINKING)
SWITCHABLE = frozenset((Thinking.LEVEL, Thinking.BUDGET, Thinking.SWITCH))

LEVELS = ("low", "medium", "high", "xhigh")
BUDGETS = {"low": 1024, "medium": 8192, "high": 32_768}
"""Effort → most tokens to think, of our own choosing: every model of the class takes them."""


def thinking(model: str) -> Thinking:
    """How `model` is told to think."""
    return next(kind for pattern, kind in _THINKING if pattern.match(model))


def depth(kind: Thinking, effort: str) -> tuple[dict[str, str | int], bool]:
    """The fields that say how much to think, and whether they say what `effort` does.

    A word that is new goes out as it is where there are words, and says nothing where there are none.
    """
    if kind is Thinking.LEVEL:
        level = nearest_effort(effort, LEVELS) or effort
        return {"reasoning_effort": level}, level == effort
    if kind is Thinking.BUDGET and (nearest := nearest_effort(effort, BUDGETS)) is not None:
        return {"thinking_budget": BUDGETS[nearest]}, nearest == effort
    return {}, False


# ── what else differs ──────────────────────────────────────────────────────────────────────────────────

_COUNTS_THOUGHTS = re.compile(r"qwen3\.[5-7]-(plus|flash)|qwen3\.7-max|qwen3\.([89]|\d\d)|qwen[4-9]|deepseek")
_TEXT_ONLY = re.compile(
    r"qwen-(plus|max|flash|turbo|long)|qwen3-(max|coder)|qwen3\.[67]-max|qwq|qwen(2\.5|3)-\d|deepseek|glm-\d"
)
_HEARS = re.compile(r".*(omni|audio|-asr)")

FEATURES: frozenset[Feature] = ALL_FEATURES - {"custom_tools", "files", "audio", "audio_output", "images"}


def counts_thoughts(model: str) -> bool:
    """Whether `model` takes `max_completion_tokens`, the limit that includes thoughts."""
    return _COUNTS_THOUGHTS.match(model) is not None


def capabilities(model: str) -> Capabilities:
    """What a model can do, as far as its name tells. Nobody says sizes."""
    features = set(FEATURES)
    if not _TEXT_ONLY.match(model) or home(model) == "multimodal":
        features.add("images")
    if _HEARS.match(model):
        features.add("audio")
    if thinking(model) is Thinking.ALWAYS:
        features -= {"n", "json_schema"}
    return Capabilities(frozenset(features))


MODELS = (
    "qwen3.8-max",
    "qwen3.8-flash",
    "qwen3.8-omni-flash",
    "qwen3.7-max",
    "qwen3.7-plus",
    "qwen3.7-flash",
    "qwen3.6-plus",
    "qwen3.6-flash",
    "qwen3.6-max-preview",
    "qwen3.5-plus",
    "qwen3.5-flash",
    "qwen3.5-omni-plus",
    "qwen3-max",
    "qwen-plus",
    "qwen-flash",
    "qwen-turbo",
    "qwen-max",
    "qwen-long",
    "qwen3-coder-plus",
    "qwen3-coder-flash",
    "qwen3-vl-plus",
    "qwen3-vl-flash",
    "qwq-plus",
    "qvq-max",
)
