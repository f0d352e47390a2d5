"""Cursor's models: the list to show, the names that stand for them, and the parameters that they take.

Follows `GET /v1/models` of the Cloud Agents API.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from ...chat import ChatRequest, Json
from ..base import EFFORTS, HttpRequest, ModelInfo, ModelPage, as_text, nearest_effort

USUAL = "auto"
UNNAMED = frozenset((USUAL, "default"))
"""Names that leave the choice to Cursor: no model is named to it."""
MODELS_REQUEST = HttpRequest(method="GET", path="/v1/models")
MAX_NAMES = 2000
"""Most names of models that are remembered."""

PARAMETERS = {  # field of a request → what a model may call it
    "reasoning_effort": ("effort", "reasoning_effort", "reasoning", "thinking"),
    "fast": ("fast",),
}


class _Value(Struct):
    value: str | None = None


class _Parameter(Struct):
    id: str
    values: list[_Value] | None = None


class _Model(Struct):
    id: str
    aliases: list[str] | None = None
    parameters: list[_Parameter] | None = None


class _Models(Struct):
    items: list[_Model]


class Listed(Struct, frozen=True):
    """A model of the list: its own id, and the values that each of its parameters takes."""

    id: str
    parameters: dict[str, tuple[str, ...]]


def parse_models(body: bytes) -> ModelPage:
    """The list, after the name that leaves the choice to Cursor. Aliases are understood, not listed."""
    ids = [model.id for model in msgspec.json.decode(body, type=_Models).items]
    return ModelPage([ModelInfo(id=id, owned_by="cursor") for id in dict.fromkeys([USUAL, *ids])])


def by_name(body: bytes) -> dict[str, Listed]:
    """The models of the list by id and by alias; where one's alias is another's id, the id wins."""
    models = msgspec.json.decode(body, type=_Models).items
    listed = {model.id: _listed(model) for model in models}
    aliases = {alias: listed[model.id] for model in models for alias in model.aliases or ()}
    return dict(list({**listed, **{a: m for a, m in aliases.items() if a not in listed}}.items())[:MAX_NAMES])


def _listed(model: _Model) -> Listed:
    values = {
        parameter.id: tuple(v.value for v in parameter.values or () if v.value is not None)
        for parameter in model.parameters or ()
    }
    return Listed(model.id, values)


def wants_parameters(request: ChatRequest) -> bool:
    """Whether it takes the list of models to say all of `request`."""
    return request.model not in UNNAMED and any(_asked(request, name) is not None for name in PARAMETERS)


def parameters(request: ChatRequest, model: Listed | None) -> tuple[list[Json], set[str]]:
    """The `params` of a model for `request`, and the fields that are said in full with them."""
    params: list[Json] = []
    said: set[str] = set()
    for field, names in PARAMETERS.items():
        wanted = _asked(request, field)
        if model is None or wanted is None:
            continue
        for name in names:
            value = _nearest(wanted, model.parameters.get(name, ()))
            if value is not None:
                params.append({"id": name, "value": value})
                said |= {field} if value == wanted else set()
                break
    return params, said


def _asked(request: ChatRequest, field: str) -> str | None:
    value: Any = msgspec.json.decode(request.wire[field]) if field in request.wire else None
    return None if value is None else as_text(value)


def _nearest(wanted: str, values: Iterable[str]) -> str | None:
    """What stands for `wanted` among the `values` of a parameter; for an effort it may be the next best."""
    if wanted in values:
        return wanted
    efforts = [value for value in values if value in EFFORTS and (value != "none" or wanted == "none")]
    return nearest_effort(wanted, efforts) if efforts else None
