"""Helpers for strict stand-ins: decoding into strict Structs, and what a decode error says, taken apart.

Rule of this file: no provider's wording; each stand-in words a `Mistake` as its own API does.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

T = TypeVar("T")

_PATH = re.compile(r" - at `(?P<where>key in )?\$(?P<path>[^`]*)`$")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>[^`]*)`")
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]*)`")
_TYPE = re.compile(r"Expected `(?P<expected>[^`]*)`, got `(?P<got>[^`]*)`")
_VALUE = re.compile(r"Invalid (?:enum )?value (?P<value>.*)$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|(\[\.\.\.\])")


class Mistake(NamedTuple):
    """What is wrong with a JSON body. `path` leads to the field, which is its last step."""

    kind: Literal["json", "unknown", "missing", "type", "value"]
    path: tuple[str | int, ...] = ()
    expected: str = ""
    got: str = ""

    def dotted(self) -> str:
        """messages.0.content"""
        return ".".join(str(step) for step in self.path)

    def indexed(self) -> str:
        """messages[0].content"""
        return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path).lstrip(".")


def decode(body: bytes, kind: type[T]) -> T | Mistake:
    """The body as `kind`, or the first mistake in it."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        return explain(str(error))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Mistake("json", expected=str(error))


def convert(value: Any, kind: type[T], path: tuple[str | int, ...] = ()) -> T | Mistake:
    """A decoded value as `kind`, or the first mistake in it, found at `path` below the root."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        found = explain(str(error))
        return found._replace(path=(*path, *found.path))


def explain(message: str) -> Mistake:
    """A msgspec validation message, taken apart."""
    path: tuple[str | int, ...] = ()
    if at := _PATH.search(message):
        path = tuple(_steps(at["path"]))
        message = message[: at.start()]
    if found := _UNKNOWN.match(message):
        return Mistake("unknown", (*path, found["name"]))
    if found := _MISSING.match(message):
        return Mistake("missing", (*path, found["name"]))
    if found := _TYPE.match(message):
        return Mistake("type", path, expected=found["expected"], got=found["got"])
    if found := _VALUE.match(message):
        return Mistake("value", path, got=found["value"].strip("'\""))
    return Mistake("type", path, expected=message)


def _steps(path: str) -> Iterator[str | int]:
    for name, index, _ in _STEP.findall(path):
        if name:
            yield name
        elif index:
            yield int(index)


class SchemaShape(msgspec.Struct):
    """The types that the keywords of a JSON schema have; keywords that are not here may be anything."""

    type: str | list[str] | None = None
    properties: dict[str, SchemaShape | bool] | None = None
    required: list[str] | None = None
    items: SchemaShape | bool | None = None
    prefix_items: list[SchemaShape | bool] | None = msgspec.field(name="prefixItems", default=None)
    additional: SchemaShape | bool | None = msgspec.field(name="additionalProperties", default=None)
    enum: list[Any] | None = None
    any_of: list[SchemaShape | bool] | None = msgspec.field(name="anyOf", default=None)
    one_of: list[SchemaShape | bool] | None = msgspec.field(name="oneOf", default=None)
    all_of: list[SchemaShape | bool] | None = msgspec.field(name="allOf", default=None)
    ref: str | None = msgspec.field(name="$ref", default=None)
    defs: dict[str, SchemaShape | bool] | None = msgspec.field(name="$defs", default=None)
    definitions: dict[str, SchemaShape | bool] | None = None
    format: str | None = None
    pattern: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    multiple_of: float | None = msgspec.field(name="multipleOf", default=None)
    min_items: int | None = msgspec.field(name="minItems", default=None)
    max_items: int | None = msgspec.field(name="maxItems", default=None)
    min_length: int | None = msgspec.field(name="minLength", default=None)
    max_length: int | None = msgspec.field(name="maxLength", default=None)


def schema_mistake(schema: Any) -> Mistake | None:
    """What is wrong with the form of a JSON schema; None: it is well-formed."""
    found = convert(schema, SchemaShape)
    if isinstance(found, Mistake):
        return found
    for each in walk(schema):
        try:
            re.compile(pattern if isinstance(pattern := each.get("pattern"), str) else "")
        except re.error:
            return Mistake("value", ("pattern",), got=str(each["pattern"]))
    return None


def base64_size(data: str) -> int | None:
    """Bytes that standard base64 decodes to; None when it is not base64 or empty."""
    try:
        return len(base64.b64decode(data, validate=True)) or None
    except (binascii.Error, ValueError):
        return None


def walk(value: Any) -> Iterator[dict[str, Any]]:
    """Every object inside a JSON value, itself included, outermost first."""
    waiting = [value]
    while waiting:
        each = waiting.pop(0)
        if isinstance(each, dict):
            yield each
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
