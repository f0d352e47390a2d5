"""JSON Schema as the Gemini API takes it. Pure data in, data out; nothing of requests or answers.

There are two channels. `parametersJsonSchema` and `responseJsonSchema` take a listed part of JSON Schema;
`parameters` and `responseSchema`, all that the oldest models know, take a part of OpenAPI's. A keyword
outside the list is an error there, so it is left out, and what it says for a reader moves into the
description. Follows the Gemini API reference (`Schema`, `FunctionDeclaration`).
"""

from __future__ import annotations

from typing import Any

from ...chat import Json
from ..base import as_text, unsupported

JSON_KEYWORDS = frozenset(
    (
        *("$id", "$defs", "$ref", "$anchor", "type", "format", "description", "enum", "items"),
        *("prefixItems", "minItems", "maxItems", "minimum", "maximum", "anyOf", "oneOf", "properties"),
        *("additionalProperties", "required", "propertyOrdering"),
    )
)
"""What the JSON Schema channel takes. (`title` is listed too, and refused by some models.)"""

OPENAPI_KEYWORDS = frozenset(
    (
        *("type", "format", "description", "nullable", "enum", "items", "minItems", "maxItems"),
        *("minimum", "maximum", "anyOf", "properties", "required", "propertyOrdering"),
    )
)

HINTS = (  # keywords that are not taken, and worth telling the model about
    *("minLength", "maxLength", "pattern", "not", "if", "then", "else", "patternProperties"),
    *("propertyNames", "uniqueItems", "multipleOf", "exclusiveMinimum", "exclusiveMaximum"),
    *("minProperties", "maxProperties", "contains", "dependentRequired", "default"),
)

MAX_NODES = 20_000
"""Largest schema, counted after references were put in place: a few lines can stand for millions."""

_DEFS = "#/$defs/"
_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def json_schema(schema: Json, param: str) -> Json:
    """`schema` for the JSON Schema channel. Raises `UNSUPPORTED` for `param` when it is too large."""
    return _Cleaner(schema, param, is_openapi=False).clean(schema)


def openapi_schema(schema: Json, param: str) -> Json:
    """`schema` for the OpenAPI channel, references put in place."""
    return _Cleaner(schema, param, is_openapi=True).clean(schema)


def is_empty(schema: Json) -> bool:
    """Whether a function with these parameters takes none: an object without properties is refused."""
    says_more = schema.keys() - {"type", "description", "properties", "required", "additionalProperties"}
    return not (says_more or schema.get("properties") or schema.get("additionalProperties"))


class _Cleaner:
    """One schema on its way into one channel."""

    def __init__(self, root: Json, param: str, *, is_openapi: bool) -> None:
        self._root = root
        self._param = param
        self._is_openapi = is_openapi
        self._definition_names = {n for key in ("definitions", "$defs") for n in _dict(root.get(key))}
        self._nodes = 0
        self._open: list[str] = []  # references that are being put in place: a circle ends there

    def clean(self, schema: Any) -> Json:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise unsupported("the schema is too large for this API", self._param)
        if not isinstance(schema, dict):  # true, false, or no schema at all: anything
            return {}
        depth = len(self._open)
        try:
            schema = self._in_place(schema)
            if "$ref" in schema:
                return self._reference(schema)
            return self._plain(schema)
        finally:
            del self._open[depth:]

    # references

    def _in_place(self, schema: Json) -> Json:
        """`schema` with `allOf` merged, and with references that cannot stay put in place."""
        while True:
            ref = schema.get("$ref")
            if isinstance(ref, str) and not self._is_kept(ref):
                beside = {key: value for key, value in schema.items() if key != "$ref"}
                schema = _merge(beside, self._target(ref))
            elif isinstance(schema.get("allOf"), list):
                schema = self._without_all_of(schema)
            else:
                return schema

    def _without_all_of(self, schema: Json) -> Json:
        merged = {key: value for key, value in schema.items() if key != "allOf"}
        for part in schema["allOf"]:
            if not isinstance(part, dict):
                continue
            if isinstance(ref := part.get("$ref"), str):
                if len(schema["allOf"]) == 1 and "$ref" not in merged and self._is_kept(ref):
                    return _merge(merged, part)
                part = _merge({k: v for k, v in part.items() if k != "$ref"}, self._target(ref))
            merged = _merge(merged, part)
        return merged

    def _is_kept(self, ref: str) -> bool:
        """Whether `ref` can stay: one to a definition, or one that is no pointer (an anchor or an id)."""
        if self._is_openapi:
            return False
        if (pointer := ref.replace("#/definitions/", _DEFS)).startswith(_DEFS):
            return pointer[len(_DEFS) :] in self._definition_names
        return ref != "#" and not ref.startswith("#/")

    def _target(self, ref: str) -> Json:
        """What `ref` points to; nothing for a circle or a pointer into the void."""
        if ref in self._open or not ref.startswith("#"):
            return {}
        self._open.append(ref)
        node: Any = self._root
        for step in ref[1:].split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict):
                node = node.get(name)
            elif isinstance(node, list) and name.isdigit() and int(name) < len(node):
                node = node[int(name)]
            else:
                return {}
        return node if isinstance(node, dict) else {}

    def _reference(self, schema: Json) -> Json:
        """A kept reference. Beside it only keywords with `$` are allowed, so a description goes around it."""
        ref = schema["$ref"]
        if not isinstance(ref, str):
            return {}
        result: Json = {"$ref": ref.replace("#/definitions/", _DEFS)}
        if isinstance(description := schema.get("description"), str):
            result = {"description": description, "anyOf": [result]}
        return result | self._definitions(schema)

    def _definitions(self, schema: Json) -> Json:
        if self._is_openapi:
            return {}
        found = _dict(schema.get("definitions")) | _dict(schema.get("$defs"))
        return {"$defs": {name: self.clean(value) for name, value in found.items()}} if found else {}

    # everything else

    def _plain(self, schema: Json) -> Json:
        hints = _hints(schema)
        result: Json = {}
        for key, value in _tidy(schema, hints).items():
            if key in JSON_KEYWORDS:
                self._keyword(result, key, value)
        result |= self._definitions(schema)
        if self._is_openapi:
            result = _openapi(result, hints)
        declared = result.get("properties")
        if "required" in result:
            result["required"] = [n for n in result["required"] if declared is None or n in declared]
            if not result["required"]:
                del result["required"]
        if hints:
            text = ", ".join(hints)
            result["description"] = f"{result['description']} ({text})" if "description" in result else text
        return result

    def _keyword(self, result: Json, key: str, value: Any) -> None:
        """Takes one keyword over, when it is one and its value has the form that it has to have."""
        if key == "properties" and isinstance(value, dict):
            result[key] = {name: self.clean(sub) for name, sub in value.items() if sub is not False}
        elif key in ("anyOf", "oneOf", "prefixItems") and isinstance(value, list):
            if value:
                result[key] = [self.clean(sub) for sub in value]
        elif key == "items" and isinstance(value, dict | bool):
            result[key] = self.clean(value)
        elif key == "additionalProperties" and isinstance(value, dict | bool):
            result[key] = value if isinstance(value, bool) else self.clean(value)
        elif (kind := _FORMS.get(key)) and _is_a(value, kind):
            result[key] = value


def _dict(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


_FORMS: dict[str, type | tuple[type, ...]] = {  # keyword → the form of a value that is taken as it is
    "$id": str,
    "$anchor": str,
    "type": (str, list),
    "format": str,
    "description": str,
    "enum": list,
    "minItems": int,
    "maxItems": int,
    "minimum": (int, float),
    "maximum": (int, float),
    "required": list,
    "propertyOrdering": list,
}


def _is_a(value: Any, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _merge(one: Json, other: Json) -> Json:
    """Both schemas at once: properties and required names of both, else the first word counts."""
    merged = {**other, **one}
    for name in ("properties", "$defs", "definitions"):
        if isinstance(one.get(name), dict) and isinstance(other.get(name), dict):
            merged[name] = {**other[name], **one[name]}
    for name in ("required", "allOf"):
        if isinstance(one.get(name), list) and isinstance(other.get(name), list):
            merged[name] = one[name] + other[name]
    return merged


def _hints(schema: Json) -> list[str]:
    """What goes into the description, as `keyword: value`."""
    found = [f"{key}: {as_text(schema[key])}" for key in HINTS if key in schema]
    if isinstance(schema.get("format"), str) and schema.get("type", "string") not in ("number", "integer"):
        found.append(f"format: {schema['format']}")
    return found


def _tidy(schema: Json, hints: list[str]) -> Json:
    """`schema` with the forms of other drafts and dialects said in the API's way."""
    tidy = dict(schema)
    if "const" in tidy:
        tidy.setdefault("enum", [tidy["const"]])
    if isinstance(tidy.get("enum"), list):
        _tidy_enum(tidy, hints)
    if isinstance(tidy.get("items"), list):  # a tuple, before draft 2020-12
        tidy.setdefault("prefixItems", tidy.pop("items"))
    if tidy.get("nullable") is True and isinstance(tidy.get("type"), str):
        tidy["type"] = [tidy["type"], "null"]
    if isinstance(tidy.get("type"), list):
        tidy["type"] = [kind for kind in tidy["type"] if isinstance(kind, str)] or None
    if tidy.get("type") not in ("number", "integer"):
        tidy.pop("format", None)
    if isinstance(tidy.get("required"), list):
        tidy["required"] = list(dict.fromkeys(n for n in tidy["required"] if isinstance(n, str)))
    return tidy


def _tidy_enum(schema: Json, hints: list[str]) -> None:
    """Enums are lists of strings or numbers: null becomes a type, anything else is only told."""
    values: list[Any] = schema.pop("enum")
    plain = [v for v in values if _is_a(v, (str, int, float))]
    kinds = list(dict.fromkeys(_TYPES[type(v)] for v in values if type(v) in _TYPES))
    if "type" not in schema and kinds:
        schema["type"] = kinds[0] if len(kinds) == 1 else kinds
    if plain and len(plain) == len([v for v in values if v is not None]):
        schema["enum"] = plain
    elif any(v is not None for v in values):
        hints.append(f"one of: {as_text(values)}")


_NULL = {"nullable": True}
"""What the type "null" becomes in the OpenAPI channel."""


def _openapi(schema: Json, hints: list[str]) -> Json:
    """A cleaned schema without what only JSON Schema has: lists of types, null, `oneOf`, tuples."""
    kinds = _listed(schema.get("type"))
    types = [kind for kind in dict.fromkeys(kinds) if kind != "null"]
    choices = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if len(types) > 1 and not choices:
        choices = [_complete({"type": kind}, {}, hints) for kind in types]
    some = [choice for choice in choices if choice != _NULL]
    result = dict(some[0]) if len(some) == 1 else {}  # one choice is none
    result |= {key: value for key, value in schema.items() if key in _TAKEN_OVER}
    if len(some) > 1:
        result["anyOf"] = some
    if len(types) == 1:
        result["type"] = types[0]
    if "null" in kinds or _NULL in choices:
        result["nullable"] = True
    return _complete(result, schema, hints)


_TAKEN_OVER = OPENAPI_KEYWORDS - {"type", "anyOf", "nullable"}


def _listed(kinds: Any) -> list[str]:
    return kinds if isinstance(kinds, list) else [kinds] if kinds else []


def _complete(result: Json, schema: Json, hints: list[str]) -> Json:
    """What the OpenAPI channel wants said: items of arrays, the order of properties, enums of strings.

    An object without properties is refused there, also deep inside: it becomes anything, with a hint.
    """
    if result.get("type") == "array" and "items" not in result:
        tuple_items = schema.get("prefixItems") or [{"type": "string"}]
        result["items"] = tuple_items[0] if len(tuple_items) == 1 else {"anyOf": tuple_items}
    if "enum" in result and not all(isinstance(value, str) for value in result["enum"]):
        hints.append(f"one of: {as_text(result.pop('enum'))}")
    if result.get("properties"):
        return {"type": "object", "propertyOrdering": list(result["properties"]), **result}
    if result.get("type") == "object":
        hints.append(f"type: {result.pop('type')}")
    return {key: value for key, value in result.items() if key not in _OF_PROPERTIES}


_OF_PROPERTIES = frozenset(("properties", "required", "propertyOrdering"))
