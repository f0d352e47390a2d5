"""JSON schemas for tools that are not strict: almost any will do, in the words of draft 2020-12.

Clients and the libraries behind them still write older drafts, and what those say otherwise is refused.
Follows "Tool use" of Anthropic's API reference and the migration notes of JSON Schema.
"""

from __future__ import annotations

from typing import Any

from ...chat import Json
from .schema import mapping

NOTHING: Json = {"type": "object", "properties": {}}

_VARIANTS = ("anyOf", "oneOf", "allOf")


def loose(schema: Json | None) -> Json:
    """`schema` as the input of a tool that is not strict: almost any, but its root is a plain object.

    Variants at the root become one object that may have the properties of each of them.
    """
    if not schema:
        return NOTHING
    try:
        root = mapping(_renewed(schema))
    except RecursionError:  # as it is: the API may know what to do with a schema nested so deeply
        root = schema
    properties: Json = {}
    for word in _VARIANTS:
        nodes = root.get(word)
        for node in nodes if isinstance(nodes, list) else ():
            properties |= mapping(_resolved(node, root).get("properties"))
    properties |= mapping(root.get("properties"))
    plain = {key: value for key, value in root.items() if key not in _VARIANTS}
    return {**plain, "type": "object", "properties": properties}


def _resolved(node: Any, root: Json) -> Json:
    reference = mapping(node).get("$ref")
    if not isinstance(reference, str):
        return mapping(node)
    word, _, name = reference.removeprefix("#/").partition("/")
    return mapping(mapping(root.get(word)).get(name))


# ── older drafts ───────────────────────────────────────────────────────────────────────────────────────

_HOLD_ONE = frozenset(
    (
        "additionalItems",
        "additionalProperties",
        "contains",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    )
)
_HOLD_LISTS = frozenset((*_VARIANTS, "items", "prefixItems"))
_HOLD_NAMED = frozenset(("$defs", "definitions", "dependentSchemas", "patternProperties", "properties"))
_EXCLUSIVE = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}


def _renewed(node: Any) -> Any:
    """`node` in the words of draft 2020-12. Only schemas are looked into: examples and literals are data."""
    if not isinstance(node, dict):
        return node
    done = {word: _child(word, value) for word, value in node.items() if word != "$schema"}
    _renew_tuple(done)
    _renew_limits(done)
    return done


def _child(word: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_renewed(node) for node in value] if word in _HOLD_LISTS else value
    if word in _HOLD_NAMED and isinstance(value, dict):
        return {name: _renewed(node) for name, node in value.items()}
    return _renewed(value) if word in _HOLD_ONE else value


def _renew_tuple(node: Json) -> None:
    """Draft 7 lists the places of a tuple in `items`, and says in `additionalItems` what follows them."""
    following = node.pop("additionalItems", None)
    if isinstance(places := node.get("items"), list):
        del node["items"]
        if places:
            node.setdefault("prefixItems", places)
        if isinstance(following, dict | bool):
            node["items"] = following


def _renew_limits(node: Json) -> None:
    """Draft 4 says with a boolean that a limit is exclusive, later ones put the limit there."""
    for exclusive, limit in _EXCLUSIVE.items():
        if isinstance(flag := node.get(exclusive), bool):
            del node[exclusive]
            if flag and limit in node:
                node[exclusive] = node.pop(limit)
