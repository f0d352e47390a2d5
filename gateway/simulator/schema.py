"""A JSON value that satisfies a JSON schema, for the default brain.

Rule of this file: pure and deterministic; draft 2020-12 and Gemini's OpenAPI subset (type names in upper
case, `nullable`). Constraints that would need a solver (`not`, `if`, hard patterns) are not tried for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]
Maker = Callable[[Schema, Schema, int], Any]

DEEPEST = 6
"""Levels down to which optional properties are filled in; below it only required ones, so that cycles end."""

FLOOR = 40
"""Levels at which even what is required ends: such a schema has no finite instance."""

FORMATS = {
    "date-time": "2026-01-02T03:04:05Z",
    "date": "2026-01-02",
    "time": "03:04:05Z",
    "duration": "PT1H",
    "email": "someone@example.com",
    "hostname": "example.com",
    "uri": "https://example.com/",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "uuid": "12345678-1234-4234-8234-123456789012",
}
TRIES = (
    *("sample", "a", "A", "1", "12", "123", "12345", "ab", "AB", "abc", "ABC", "a1", "A1", "abc-123"),
    *("ABC-123", "ABC123", "x_1", "03:04", "1.0", "1.0.0", "+491234567", "12345-6789", "#a1b2c3"),
    *FORMATS.values(),
)
"""Strings that are tried against a `pattern`."""


def instance(schema: Schema | bool, root: Schema | None = None, depth: int = 0) -> Any:
    """A value for `schema`; `root` is where its `$ref`s start."""
    if not isinstance(schema, dict) or depth > FLOOR:
        return {}
    root = schema if root is None else root
    schema = _resolved(schema, root)
    for keyword in ("const", "default"):
        if keyword in schema:
            return schema[keyword]
    if schema.get("enum"):
        return schema["enum"][0]
    for keyword in ("anyOf", "oneOf"):
        if schema.get(keyword):
            rest = {key: value for key, value in schema.items() if key != keyword}
            return instance(_merged(rest, _first(schema[keyword], root)), root, depth + 1)
    return MAKERS.get(_type(schema), _null)(schema, root, depth)


def _first(choices: list[Any], root: Schema) -> Schema:
    """The first choice that is not null."""
    resolved = [_resolved(choice, root) for choice in choices if isinstance(choice, dict)] or [{}]
    return next((choice for choice in resolved if _type(choice) != "null"), resolved[0])


def _resolved(schema: Schema, root: Schema, hops: int = 8) -> Schema:
    """Follow local references and merge allOf."""
    target = schema.get("$ref")
    if isinstance(target, str) and hops:
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return _resolved(_merged(_lookup(root, target), rest), root, hops - 1)
    for part in schema.get("allOf") or ():
        schema = _merged(schema, _resolved(part, root, hops - 1) if hops and isinstance(part, dict) else {})
    return schema


def _lookup(root: Schema, target: str) -> Schema:
    found: Any = root
    for step in target.removeprefix("#").strip("/").split("/"):
        if step and isinstance(found, dict):
            found = found.get(step.replace("~1", "/").replace("~0", "~"), {})
    return found if isinstance(found, dict) else {}


def _merged(one: Schema, other: Schema) -> Schema:
    both = {**one, **other}
    for key in ("properties", "$defs"):
        if key in one and key in other:
            both[key] = {**one[key], **other[key]}
    if "required" in one and "required" in other:
        both["required"] = [*one["required"], *other["required"]]
    return both


def _type(schema: Schema) -> str:
    named = schema.get("type")
    if isinstance(named, list):
        named = next((name for name in named if name != "null"), "null")
    if isinstance(named, str):
        return named.lower()
    for keyword, implied in (("properties", "object"), ("items", "array"), ("prefixItems", "array")):
        if keyword in schema:
            return implied
    return "object" if not schema else "string"


def _object(schema: Schema, root: Schema, depth: int) -> dict[str, Any]:
    required = schema.get("required") or []
    wanted = schema.get("properties") or {}
    made = {
        name: instance(each, root, depth + 1)
        for name, each in wanted.items()
        if name in required or depth < DEEPEST
    }
    more = schema.get("additionalProperties")
    for name in required:
        if name not in made:
            made[name] = instance(more, root, depth + 1) if isinstance(more, dict) else "sample"
    return made


def _array(schema: Schema, root: Schema, depth: int) -> list[Any]:
    made = [instance(each, root, depth + 1) for each in schema.get("prefixItems") or ()]
    least = int(schema.get("minItems") or 0)
    wanted = max(least, 1 if depth < DEEPEST and schema.get("maxItems", 1) else 0)
    items = schema.get("items", {"type": "string"})
    while len(made) < wanted:
        made.append(instance(items if isinstance(items, dict) else {"type": "string"}, root, depth + 1))
    return made


def _string(schema: Schema, root: Schema, depth: int) -> str:
    least, most = int(schema.get("minLength") or 0), int(schema.get("maxLength") or 10**6)
    pattern = schema.get("pattern")
    if isinstance(pattern, str):
        return next(
            (text for text in TRIES if re.search(pattern, text) and least <= len(text) <= most), "sample"
        )
    text = FORMATS.get(str(schema.get("format")), "sample")
    return text.ljust(least, "x")[:most]


def _number(schema: Schema, root: Schema, depth: int) -> float:
    step = _bound(schema, "multipleOf", 1) or 1
    low = max(_bound(schema, "minimum", -math.inf), _bound(schema, "exclusiveMinimum", -math.inf) + step)
    high = min(_bound(schema, "maximum", math.inf), _bound(schema, "exclusiveMaximum", math.inf) - step)
    value = min(max(step, low), high)
    rounded = math.ceil(value / step) * step
    return rounded if rounded <= high else value


def _bound(schema: Schema, keyword: str, other: float) -> float:
    """A numeric keyword; `other` when it is absent, or a boolean as in draft 4."""
    value = schema.get(keyword)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else other


def _integer(schema: Schema, root: Schema, depth: int) -> int:
    return int(_number(schema, root, depth))


def _boolean(schema: Schema, root: Schema, depth: int) -> bool:
    return True


def _null(schema: Schema, root: Schema, depth: int) -> None:
    return None


MAKERS: dict[str, Maker] = {
    "object": _object,
    "array": _array,
    "string": _string,
    "number": _number,
    "integer": _integer,
    "boolean": _boolean,
    "null": _null,
}
