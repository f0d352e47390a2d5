"""What Google's families of models take and refuse: tables, and nothing that reads a request.

A model is known by its generation, read from its id, never by a digit somewhere in the name. An id that
nobody here knows is taken for the newest behaviour: it sends least, so it is refused least.
Follows the Gemini API reference and its guides to thinking and to each generation (November 2026).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ...chat import Json
from ..base import EFFORTS, nearest_effort

OLDEST = (0, 0)
NEWEST = (99, 0)
_GENERATION = re.compile(r"gemini-(\d+)(?:\.(\d+))?(?=-|$)")
_NOT_GEMINI = re.compile(r"gemma-|tunedModels/")  # tuned models have a base of the first generations
_IMAGE = re.compile(r"gemini-.*(-image|banana)")

MAINLINE = re.compile(
    r"gemini-(2\.5|[3-9](\.\d+)?)-(pro|flash|flash-lite|argon|carbon|hydrogen|neon)(-preview)?$"
)
CONTEXT_WINDOW, MAX_OUTPUT = 1_048_576, 65_536
"""Sizes of the mainline in tokens; the provider's own list knows better."""

_LIMITED = re.compile(
    r"gemini-(2\.5|3(\.\d+)?)-(pro|flash|flash-lite)(-preview)?$|gemini-4-(carbon|hydrogen)$"
)


def max_output(model: str) -> int | None:
    """The most tokens that `maxOutputTokens` may say for a bare model id; None when nobody knows.

    Long decodes (`gemini-4-argon`, `gemini-4-neon`) have none: what is over their cap is a budget.
    """
    return MAX_OUTPUT if _LIMITED.match(model) else None


# ── thinking ───────────────────────────────────────────────────────────────────────────────────────────


BUDGETS = {"minimal": 512, "low": 1024, "medium": 8192, "high": 24_576}
"""Effort → budget in tokens, which every model of generation 2.5 takes."""


def _levels(*efforts: str) -> dict[str, str]:
    return {effort: effort.upper() for effort in efforts}


THINKING: tuple[tuple[str, Mapping[str, int | str]], ...] = (  # the first that matches counts
    (r"gemma-|tunedModels/|gemini-1|gemini-2\.0|gemini-2\.5-flash-image", {}),
    (r"gemini-2\.5-pro", {"none": 128, **BUDGETS}),  # never off: this is its least
    (r"gemini-2\.5-", {"none": 0, **BUDGETS}),
    (r"gemini-3-pro", _levels("low", "high")),
    (r"gemini-3\.1-flash-lite-image", _levels("minimal", "high")),
    (r"gemini-3(-|\.1-|\.5-|\.6-)flash", _levels("minimal", "low", "medium", "high")),
    (r"gemini-4-neon", _levels("low", "medium", "high", "xhigh")),
    (r"", _levels("low", "medium", "high")),
)
"""Models → the efforts that they have, each as a budget in tokens or as a level."""
_THINKING = tuple((re.compile(pattern), settings) for pattern, settings in THINKING)


def _settings(model: str) -> Mapping[str, int | str]:
    return next(settings for pattern, settings in _THINKING if pattern.match(model))


class Thinking(NamedTuple):
    """A `thinkingConfig`, None to send none, and whether it says exactly what was asked for."""

    config: Json | None
    exact: bool


def thinking(model: str, effort: str) -> Thinking | None:
    """What `reasoning_effort` becomes for a bare model id; None for a word that nobody knows.

    It snaps to the nearest that the model has. Summaries of the thoughts are asked for with every effort
    but "none".
    """
    settings = _settings(model)
    nearest = nearest_effort(effort, settings or EFFORTS)
    if nearest is None:
        return None
    if not settings:
        return Thinking(None, effort == "none")
    setting = settings[nearest]
    config: Json = {"thinkingBudget" if isinstance(setting, int) else "thinkingLevel": setting}
    if effort == "none":
        return Thinking(config, setting == 0)
    return Thinking({**config, "includeThoughts": True}, nearest == effort)


def can_think(model: str) -> bool:
    """Whether a bare model id takes any `thinkingConfig`."""
    return bool(_settings(model))


# ── what else differs ──────────────────────────────────────────────────────────────────────────────────


class Traits(NamedTuple):
    """A model's place among the families, and what follows from it."""

    generation: tuple[int, int]
    is_gemini: bool
    is_image: bool

    @property
    def takes_system(self) -> bool:
        """Gemma and image models may answer that developer instructions are not enabled."""
        return self.is_gemini and not self.is_image

    @property
    def takes_json_schema(self) -> bool:
        """Older models only know the OpenAPI subset of schemas."""
        return self.generation >= (2, 5)

    @property
    def takes_validated_calls(self) -> bool:
        return self.generation >= (2, 5) and not self.is_image

    @property
    def takes_penalties(self) -> bool:
        return self.is_gemini and self.generation <= (2, 0)

    @property
    def takes_prefill(self) -> bool:
        """Whether the history may end with a turn of the model, to be continued."""
        return self.generation < (4, 0)

    @property
    def fetches_urls(self) -> bool:
        return self.generation >= (2, 5)

    @property
    def is_third_plus(self) -> bool:
        """Since generation 3: call ids, pictures in function results, JSON or search beside functions,
        resolution for each picture, and signatures that have to come back."""
        return self.generation >= (3, 0)


def traits(model: str) -> Traits:
    """The traits of a bare model id."""
    if _NOT_GEMINI.match(model):
        return Traits(OLDEST, is_gemini=False, is_image=False)
    found = _GENERATION.match(model)
    generation = (int(found[1]), int(found[2] or 0)) if found else NEWEST
    return Traits(generation, is_gemini=True, is_image=bool(_IMAGE.match(model)))
