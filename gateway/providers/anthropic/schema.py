"""JSON schemas in the subset that Anthropic compiles into a grammar, for structured answers and strict tools.

What the subset lacks but a reader understands (`minimum`, `pattern`) goes into the description. What it
cannot express at all (recursion, maps, open objects) raises `Unrepresentable`: the caller falls back to
something weaker. Follows "Structured outputs" of Anthropic's API reference and the transformation
that its own SDK makes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from ...chat import Json
from ..base import as_text

FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")
)
_TYPES = frozenset(("object", "array", "string", "integer", "number", "boolean", "null"))
_DEFINITIONS = ("$defs", "definitions")
_SILENT = frozenset(("$schema", "$id", "$comment", "$anchor"))  # notes for tools, nothing for a model
_NOTES = ("title", "default", "description")
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
        f"#/{word}/{name}": node for word in _DEFINITIONS for name, node in mapping(schema.get(word)).items()
    }
    try:
        _refuse_recursion(definitions)
        return _Transformer(definitions).node(schema)
    except RecursionError:
        raise Unrepresentable("nested too deeply") from None


def mapping(value: Any) -> Json:
    """`value` when it is an object, an empty one otherwise."""
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
            definitions = {word: rest[word] for word in _DEFINITIONS if word in rest}
            return self.node({**rest, **only[0], **definitions})  # what references mean
        done = self._take_definitions(rest)
        if (reference := rest.pop("$ref", None)) is not None:
            if not isinstance(reference, str) or reference not in self._definitions:
                raise Unrepresentable("a reference out of the schema")
            return {**done, "$ref": reference}
        self._take_kind(rest, done)
        return _described(done, rest)

    def _take_definitions(self, rest: Json) -> Json:
        taken = {word: mapping(rest.pop(word)) for word in _DEFINITIONS if word in rest}
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
        elif isinstance(kind, str) and kind in _TYPES:
            done["type"] = kind
            self._take_type(rest, done, kind)
        else:
            raise Unrepresentable("no type")

    def _take_type(self, rest: Json, done: Json, kind: str) -> None:
        if kind == "object":
            self._take_object(rest, done)
        elif kind == "array":
            self._take_array(rest, done)
        elif kind == "string" and _is_one_of(rest.get("format"), FORMATS):
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
        if not all(_is_one_of(kind, _TYPES) for kind in kinds):
            raise Unrepresentable("a union of no types")
        shared = {key: rest.pop(key) for key in [*rest] if key not in _NOTES}
        done["anyOf"] = [
            {"type": "null"} if kind == "null" else self.node({**shared, "type": kind})
            for kind in dict.fromkeys(kinds)
        ]

    def _take_object(self, rest: Json, done: Json) -> None:
        properties = mapping(rest.pop("properties", None))
        extra = rest.pop("additionalProperties", None)
        if rest.get("patternProperties") or (isinstance(extra, dict) and extra):
            raise Unrepresentable("a map")
        if not properties and extra is not False:
            raise Unrepresentable("an object that may hold anything")
        done["properties"] = {name: self.node(node) for name, node in properties.items()}
        done["additionalProperties"] = False
        required = rest.pop("required", None)
        if isinstance(required, list):
            done["required"] = [name for name in required if _is_one_of(name, properties)]

    def _take_array(self, rest: Json, done: Json) -> None:
        if "items" in rest:
            done["items"] = self.node(rest.pop("items"))
        if type(rest.get("minItems")) is int and rest["minItems"] in (0, 1):
            done["minItems"] = rest.pop("minItems")


def _is_one_of(value: Any, known: Collection[str]) -> bool:
    return isinstance(value, str) and value in known


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
    if isinstance(rest.get("title"), str):
        done["title"] = rest.pop("title")
    if "default" in rest:
        done["default"] = rest.pop("default")
    description = rest.pop("description", None)
    notes = ", ".join(f"{key}: {as_text(value)}" for key, value in rest.items())
    told = [text for text in (description, notes and f"{{{notes}}}") if text]
    return {**done, "description": "\n\n".join(map(as_text, told))} if told else done


def _count(node: Json) -> tuple[int, int]:
    """Optional properties and unions in a schema of the subset."""
    optional = len(node.get("properties", {}).keys() - set(node.get("required", ())))
    unions = 1 if "anyOf" in node else 0
    for inner in _subschemas(node):
        more_optional, more_unions = _count(inner)
        optional, unions = optional + more_optional, unions + more_unions
    return optional, unions


def _subschemas(node: Json) -> Iterator[Json]:
    for word in ("properties", *_DEFINITIONS):
        yield from node.get(word, {}).values()
    for word in ("anyOf", "allOf"):
        yield from node.get(word, ())
    if "items" in node:
        yield node["items"]
