"""The models that Cursor's /v1/models lists: data only.

Rule of this file: a table and its look-up. A few of the real list, one of each make: with a switch, with
efforts, with none.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class Model(Struct, frozen=True):
    """One model. `parameters`: id → the values it takes, the first of which is the default."""

    name: str
    aliases: tuple[str, ...] = ()
    parameters: dict[str, tuple[str, ...]] = {}


MODELS: dict[str, Model] = {
    "composer-2.5": Model("Composer 2.5", ("composer", "composer-latest"), {"fast": ("true", "false")}),
    "claude-opus-4-6": Model(
        "Claude Opus 4.6",
        ("opus", "opus-4.6"),
        {"effort": ("high", "medium", "low"), "thinking": ("true", "false")},
    ),
    "gpt-5.6-sol": Model(
        "GPT-5.6 Sol", ("gpt-5.6",), {"reasoning": ("medium", "none", "low", "high", "extra-high")}
    ),
    "grok-4.6": Model("Grok 4.6"),
}

THOUGHTS = {"effort": (), "thinking": ("false",), "reasoning": ("none",)}
"""Parameters that make a model think, and the values that do not."""


def thinks(params: dict[str, str]) -> bool:
    """Whether these parameters of a request ask for thoughts."""
    return any(name in THOUGHTS and value not in THOUGHTS[name] for name, value in params.items())


def listed() -> list[dict[str, Any]]:
    """The items of GET /v1/models; what a model lacks is left out."""
    return [_item(identity, model) for identity, model in MODELS.items()]


def _item(identity: str, model: Model) -> dict[str, Any]:
    item: dict[str, Any] = {"id": identity, "displayName": model.name}
    if model.aliases:
        item["aliases"] = model.aliases
    if model.parameters:
        item["parameters"] = [
            {
                "id": name,
                "displayName": name.capitalize(),
                "values": [{"value": value, "displayName": value.capitalize()} for value in values],
            }
            for name, values in model.parameters.items()
        ]
        item["variants"] = _variants(model)
    return item


def _variants(model: Model) -> list[dict[str, Any]]:
    """The variant of each value of the first parameter, the others at their defaults."""
    first, *others = model.parameters.items()
    rest = [{"id": name, "value": values[0]} for name, values in others]
    return [
        {
            "params": [{"id": first[0], "value": value}, *rest],
            "displayName": f"{model.name} {first[0]} {value}",
            "isDefault": value == first[1][0],
        }
        for value in first[1]
    ]
