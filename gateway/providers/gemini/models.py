"""What Google's families of models take and refuse: tables, and nothing that reads a request.

A model is known by its generation, read from its id, never by a digit somewhere in the name. An id that
nobody here knows is taken for the newest behaviour: it sends least, so it is refused least.
Follows the Gemini API reference and its guides to thinking and to each generation (November 2026).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ...chat import Json

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


# ── thinking ───────────────────────────────────────────────────────────────────────────────────────────


class Budget(NamedTuple):
    """Thinking is limited in tokens. `off` is what "none" becomes: 0, or the least that is possible."""

    off: int


BUDGETS = {"minimal": 512, "low": 1024, "medium": 8192, "high": 24_576}
"""Budgets that every model of generation 2.5 takes."""

_LEVELS = {"MINIMAL": 1, "LOW": 2, "MEDIUM": 3, "HIGH": 4, "XHIGH": 5}
_EFFORTS = {"none": 0, "minimal": 1, "low": 2, "medium": 3, "high": 4, "xhigh": 5, "max": 6}

THINKING: tuple[tuple[str, Budget | tuple[str, ...]], ...] = (  # the first that matches counts
    (r"gemma-|tunedModels/|gemini-1|gemini-2\.0|gemini-2\.5-flash-image", ()),
    (r"gemini-2\.5-pro", Budget(off=128)),
    (r"gemini-2\.5-", Budget(off=0)),
    (r"gemini-3-pro", ("LOW", "HIGH")),
    (r"gemini-3\.1-flash-lite-image", ("MINIMAL", "HIGH")),
    (r"gemini-3(-|\.1-|\.5-|\.6-)flash", ("MINIMAL", "LOW", "MEDIUM", "HIGH")),
    (r"gemini-4-neon", ("LOW", "MEDIUM", "HIGH", "XHIGH")),
    (r"", ("LOW", "MEDIUM", "HIGH")),
)
_THINKING = tuple((re.compile(pattern), control) for pattern, control in THINKING)


class Thinking(NamedTuple):
    """A `thinkingConfig`, None to send none, and whether it says exactly what was asked for."""

    config: Json | None
    exact: bool


def thinking(model: str, effort: str) -> Thinking | None:
    """What `reasoning_effort` becomes for a bare model id; None for a word that nobody knows.

    Levels snap to the nearest that the model has, of two to the lower one. Summaries of the thoughts are
    asked for with every effort but "none".
    """
    if effort not in _EFFORTS:
        return None
    control = next(control for pattern, control in _THINKING if pattern.match(model))
    shown = {} if effort == "none" else {"includeThoughts": True}
    if isinstance(control, Budget):
        if effort == "none":
            return Thinking({"thinkingBudget": control.off}, control.off == 0)
        budget = BUDGETS.get(effort, BUDGETS["high"])
        return Thinking({"thinkingBudget": budget, **shown}, effort in BUDGETS)
    if not control:
        return Thinking(None, effort == "none")
    wanted = _EFFORTS[effort]
    level = min(control, key=lambda level: (abs(_LEVELS[level] - wanted), _LEVELS[level]))
    return Thinking({"thinkingLevel": level, **shown}, _LEVELS[level] == wanted)


def can_think(model: str) -> bool:
    """Whether a bare model id takes any `thinkingConfig`."""
    return thinking(model, "high") != Thinking(None, exact=False)


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
