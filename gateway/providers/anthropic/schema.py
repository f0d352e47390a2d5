"""JSON schemas in the subset that Anthropic compiles into a grammar, for structured answers and strict tools.

What the subset lacks but a reader understands (`minimum`, `pattern`) goes into the description. What it
cannot express at all (recursion, maps, open objects) raises `Unrepresentable`: the caller falls back to
something weaker. Follows "Structured outputs" of Anthropic's API reference and the transformation
that its own SDK makes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ...chat import Json

FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")
)
_TYPES = frozenset(("object", "array", "string", "integer", "number", "boolean", "null"))
_DEFINITIONS = ("$defs", "definitions")
_SILENT = frozenset(("$schema", "$id", "$comment", "$anchor"))  # notes for tools, nothing for a model
_KEPT = ("title", "default")
_VARIANTS = {"anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf"}  # word → the supported one
_OBJECT_ONLY = ("properties", "required", "additionalProperties", "patternProperties")

MAX_OPTIONAL_OF_ONE = 10
MAX_OPTIONAL, MAX_UNIONS, MAX_STRICT_TOOLS = 24, 16, 20
"""What one request may have compiled, all of its schemas together."""


class Unrepresentable(Exception):
    """A schema that the subset has no words for."""


class Grammar:
    """What one request may still have compiled."""

    def __init__(self) -> None:
        self._optional, self._unions, self._tools = MAX_OPTIONAL, MAX_UNIONS, MAX_STRICT_TOOLS

    def answer(self, schema: Json) -> Json | None:
        """`schema` for the whole answer; None when it cannot be compiled."""
        try:
            compiled = transform(schema)
        except Unrepresentable:
            return None
        optional, unions = _count(compiled)
        if optional > min(self._optional, MAX_OPTIONAL_OF_ONE) or unions > self._unions:
            return None
        self._optional -= optional
        self._unions -= unions
        return compiled

    def tool(self, schema: Json) -> Json | None:
        """`schema` for a strict tool; None when it cannot be compiled, or when there are too many."""
        if not self._tools or (compiled := self.answer(schema)) is None:
            return None
        self._tools -= 1
        return compiled


def transform(schema: Json) -> Json:
    """`schema` in the subset. Raises `Unrepresentable`."""
    definitions = {
        f"#/{word}/{name}": node for word in _DEFINITIONS for name, node in _mapping(schema.get(word)).items()
    }
    try:
        _refuse_recursion(definitions)
        return _Transformer(definitions).node(schema)
    except RecursionError:
        raise Unrepresentable("nested too deeply") from None


def _mapping(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _refuse_recursion(definitions: Json) -> None:
    links = {name: set(_references(node)) for name, node in definitions.items()}
    while leaves := [name for name, targets in links.items() if not targets & links.keys()]:
        for name in leaves:
            del links[name]
    if links:
        raise Unrepresentable("recursive")


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


class _Transformer:
    def __init__(self, definitions: Json) -> None:
        self._definitions = definitions

    def node(self, schema: Any) -> Json:
        if not isinstance(schema, dict):
            raise Unrepresentable("a schema that is no object")
        rest = {key: value for key, value in schema.items() if key not in _SILENT}
        if isinstance(only := rest.get("allOf"), list) and len(only) == 1 and isinstance(only[0], dict):
            del rest["allOf"]
            return self.node({**rest, **only[0]})
        done = self._take_definitions(rest)
        if (reference := rest.pop("$ref", None)) is not None:
            if reference not in self._definitions:
                raise Unrepresentable("a reference out of the schema")
            return {**done, "$ref": reference}
        self._take_kind(rest, done)
        return _described(done, rest)

    def _take_definitions(self, rest: Json) -> Json:
        taken = {word: _mapping(rest.pop(word)) for word in _DEFINITIONS if word in rest}
        return {
            word: {name: self.node(node) for name, node in nodes.items()} for word, nodes in taken.items()
        }

    def _take_kind(self, rest: Json, done: Json) -> None:
        """Moves what says which values are meant from `rest` to `done`."""
        if _take_literals(rest, done):
            rest.pop("type", None)
            return
        variants = _variants(rest)
        if variants is not None:
            self._take_variants(rest, done, *variants)
            return
        kind = rest.pop("type", None) or _implied_type(rest)
        if isinstance(kind, list):
            self._take_union(rest, done, kind)
        elif kind not in _TYPES:
            raise Unrepresentable("no type")
        else:
            done["type"] = kind
            self._take_type(rest, done, kind)

    def _take_type(self, rest: Json, done: Json, kind: str) -> None:
        if kind == "object":
            self._take_object(rest, done)
        elif kind == "array":
            self._take_array(rest, done)
        elif kind == "string" and rest.get("format") in FORMATS:
            done["format"] = rest.pop("format")

    def _take_variants(self, rest: Json, done: Json, word: str, nodes: list[Any]) -> None:
        rest.pop("type", None)
        if any(key in rest for key in _OBJECT_ONLY):
            # Every object is closed: an inner one would forbid the properties that stand outside of it.
            raise Unrepresentable("properties beside variants")
        variants = [self.node(node) for node in nodes]
        if word == "allOf" and any("$ref" in v or v.get("type") == "object" for v in variants):
            raise Unrepresentable("a sum of objects")
        done[word] = variants

    def _take_union(self, rest: Json, done: Json, kinds: list[Any]) -> None:
        shared = {key: rest.pop(key) for key in [*rest] if key not in (*_KEPT, "description")}
        done["anyOf"] = [
            {"type": "null"} if kind == "null" else self.node({**shared, "type": kind}) for kind in kinds
        ]

    def _take_object(self, rest: Json, done: Json) -> None:
        properties = _mapping(rest.pop("properties", None))
        extra = rest.pop("additionalProperties", None)
        if rest.get("patternProperties") or (isinstance(extra, dict) and extra):
            raise Unrepresentable("a map")
        if not properties and extra is not False:
            raise Unrepresentable("an object that may hold anything")
        done["properties"] = {name: self.node(node) for name, node in properties.items()}
        done["additionalProperties"] = False
        required = rest.pop("required", None)
        if isinstance(required, list):
            done["required"] = [name for name in required if name in properties]

    def _take_array(self, rest: Json, done: Json) -> None:
        if "items" in rest:
            done["items"] = self.node(rest.pop("items"))
        if rest.get("minItems") in (0, 1):
            done["minItems"] = rest.pop("minItems")


def _take_literals(rest: Json, done: Json) -> bool:
    enum = rest.get("enum")
    if isinstance(enum, list) and enum and all(map(_is_primitive, enum)):
        done["enum"] = rest.pop("enum")
    if "const" in rest and _is_primitive(rest["const"]):
        done["const"] = rest.pop("const")
    return bool(done.keys() & {"enum", "const"})


def _is_primitive(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _variants(rest: Json) -> tuple[str, list[Any]] | None:
    """The variants of a schema, and the supported word for them; one word of them is understood."""
    for word, said_as in _VARIANTS.items():
        if isinstance(rest.get(word), list) and rest[word]:
            return said_as, rest.pop(word)
    return None


def _implied_type(rest: Json) -> str | None:
    if "properties" in rest:
        return "object"
    return "array" if "items" in rest else None


def _described(done: Json, rest: Json) -> Json:
    """`done` with what is left over of the schema told in its description."""
    for word in _KEPT:
        if word in rest:
            done[word] = rest.pop(word)
    description = rest.pop("description", None)
    notes = ", ".join(f"{key}: {_shown(value)}" for key, value in rest.items())
    told = [text for text in (description, notes and f"{{{notes}}}") if text]
    return {**done, "description": "\n\n".join(map(str, told))} if told else done


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _count(node: Any) -> tuple[int, int]:
    """Optional properties and unions in a schema of the subset."""
    if isinstance(node, list):
        children, optional, unions = node, 0, 0
    elif isinstance(node, dict):
        properties = node.get("properties") if node.get("type") == "object" else None
        optional = len(_mapping(properties).keys() - set(node.get("required") or ()))
        unions = 1 if isinstance(node.get("anyOf"), list) else 0
        children = list(node.values())
    else:
        return 0, 0
    for child in children:
        more_optional, more_unions = _count(child)
        optional, unions = optional + more_optional, unions + more_unions
    return optional, unions


# ── tools that are not strict ──────────────────────────────────────────────────────────────────────────

NOTHING: Json = {"type": "object", "properties": {}}


def loose(schema: Json | None) -> Json:
    """`schema` as the input of a tool that is not strict: almost any, but its root is a plain object.

    Variants at the root become one object that may have the properties of each of them.
    """
    if not schema:
        return NOTHING
    properties: Json = {}
    for word in _VARIANTS:
        nodes = schema.get(word)
        for node in nodes if isinstance(nodes, list) else ():
            properties |= _mapping(_resolved(node, schema).get("properties"))
    properties |= _mapping(schema.get("properties"))
    plain = {key: value for key, value in schema.items() if key != "$schema" and key not in _VARIANTS}
    return {**plain, "type": "object", "properties": properties}


def _resolved(node: Any, root: Json) -> Json:
    reference = _mapping(node).get("$ref")
    if not isinstance(reference, str):
        return _mapping(node)
    word, _, name = reference.removeprefix("#/").partition("/")
    return _mapping(_mapping(root.get(word)).get(name))
