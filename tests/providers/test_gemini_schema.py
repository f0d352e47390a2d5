"""Gemini: schemas after cleaning, in both channels."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import ErrorKind, UpstreamError
from gateway.providers.gemini.schema import (
    HINTS,
    JSON_KEYWORDS,
    MAX_NODES,
    OPENAPI_KEYWORDS,
    json_schema,
    openapi_schema,
)

STRING = {"type": "string"}
NODE = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}


def clean(schema: dict[str, Any]) -> dict[str, Any]:
    return json_schema(schema, "p")


def openapi(schema: dict[str, Any]) -> dict[str, Any]:
    return openapi_schema(schema, "p")


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"$schema": "x", "title": "T", "examples": [1], "$comment": "c", **STRING}, STRING),
        ({"const": 3}, {"type": "integer", "enum": [3]}),
        ({"const": True}, {"type": "boolean", "description": "one of: [true]"}),
        ({"const": None}, {"type": "null"}),
        ({"enum": ["a", None]}, {"type": ["string", "null"], "enum": ["a"]}),
        ({"enum": [1, "a"]}, {"type": ["integer", "string"], "enum": [1, "a"]}),
        ({**STRING, "format": "email"}, {**STRING, "description": "format: email"}),
        ({"type": "integer", "format": "int64"}, {"type": "integer", "format": "int64"}),
        (
            {**STRING, "description": "A name", "minLength": 1, "pattern": "^a"},
            {**STRING, "description": "A name (minLength: 1, pattern: ^a)"},
        ),
        ({"type": "number", "exclusiveMinimum": 0}, {"type": "number", "description": "exclusiveMinimum: 0"}),
        ({"not": {"const": 1}}, {"description": 'not: {"const":1}'}),
        ({**STRING, "nullable": True}, {"type": ["string", "null"]}),
        ({"type": ["string", "null"]}, {"type": ["string", "null"]}),
        ({"type": "array", "items": [STRING, {}]}, {"type": "array", "prefixItems": [STRING, {}]}),
        ({"type": "array", "items": True}, {"type": "array", "items": {}}),
        ({"oneOf": [STRING, True]}, {"oneOf": [STRING, {}]}),
        ({"additionalProperties": {"title": "T", **STRING}}, {"additionalProperties": STRING}),
        (
            {"properties": {"title": STRING, "$schema": STRING, "no": False}, "required": ["title", "x"]},
            {"properties": {"title": STRING, "$schema": STRING}, "required": ["title"]},
        ),
        ({"properties": 3, "anyOf": {}, "enum": "x", "type": {}, "minimum": "1", "required": [1]}, {}),
        (
            {"allOf": [{"properties": {"a": STRING}, "required": ["a"]}, {"properties": {"b": STRING}}]},
            {"properties": {"b": STRING, "a": STRING}, "required": ["a"]},
        ),
    ],
)
def test_keywords(schema: dict[str, Any], expected: dict[str, Any]):
    assert clean(schema) == expected


def test_properties_keep_their_order():
    """Models write an object's keys in the order of the schema."""
    schema = {"properties": {"b": {}, "a": {}, "c": {}}}
    assert list(clean(schema)["properties"]) == ["b", "a", "c"]
    assert openapi(schema)["propertyOrdering"] == ["b", "a", "c"]


def test_references_to_definitions_stay():
    schema = {"$ref": "#/$defs/Node", "$defs": {"Node": NODE}}
    assert clean(schema) == schema
    old = {"properties": {"n": {"$ref": "#/definitions/Node"}}, "definitions": {"Node": STRING}}
    expected = {"properties": {"n": {"$ref": "#/$defs/Node"}}, "$defs": {"Node": STRING}}
    assert clean(old) == expected


def test_a_description_goes_around_a_reference():
    """Beside `$ref` only keywords with `$` are allowed."""
    schema = {"$defs": {"A": STRING}, "properties": {"a": {"$ref": "#/$defs/A", "description": "D"}}}
    expected = {"description": "D", "anyOf": [{"$ref": "#/$defs/A"}]}
    assert clean(schema)["properties"]["a"] == expected
    wrapped = {"$defs": {"A": STRING}, "properties": {"a": {"allOf": [{"$ref": "#/$defs/A"}]}}}
    assert clean(wrapped)["properties"]["a"] == {"$ref": "#/$defs/A"}


@pytest.mark.parametrize("ref", ["#/properties/a", "#/properties/list/anyOf/0"])
def test_other_pointers_are_put_in_place(ref: str):
    schema = {"properties": {"a": STRING, "list": {"anyOf": [STRING]}, "b": {"$ref": ref}}}
    assert clean(schema)["properties"]["b"] == STRING


@pytest.mark.parametrize("ref", ["#/$defs/Gone", "#/properties/x/y", "#/anyOf/7", 3, "#"])
def test_pointers_into_the_void_mean_anything(ref: Any):
    assert clean({"properties": {"b": {"$ref": ref}}})["properties"]["b"] in ({}, {"properties": {"b": {}}})


def test_circles_end():
    circle = {"$defs": {"Node": NODE}, "allOf": [{"$ref": "#/$defs/Node"}, {"$ref": "#/$defs/Node"}]}
    assert clean(circle)["properties"] == {"next": {"$ref": "#/$defs/Node"}}
    loop = {
        "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"allOf": [{"$ref": "#/$defs/A"}]}},
        "$ref": "#/$defs/A",
    }
    assert openapi(loop) == {}
    tree = {"properties": {"name": STRING, "child": {"$ref": "#/$defs/T"}}}
    found = openapi({"$ref": "#/$defs/T", "$defs": {"T": tree}})
    assert found["properties"] == {"name": STRING, "child": {}}
    assert openapi({"$ref": "#/$defs/Node", "$defs": {"Node": NODE}}) == {
        "type": "object",
        "properties": {"next": {}},
        "propertyOrdering": ["next"],
    }


def test_a_schema_that_grows_without_bounds_is_refused():
    """Each definition doubles the one before: twenty lines stand for a million schemas."""
    defs: dict[str, Any] = {"D0": STRING}
    for i in range(20):
        ref = {"$ref": f"#/$defs/D{i}"}
        defs[f"D{i + 1}"] = {"type": "object", "properties": {"a": ref, "b": ref}}
    with pytest.raises(UpstreamError) as caught:
        openapi({"$defs": defs, "$ref": "#/$defs/D20"})
    assert caught.value.kind is ErrorKind.UNSUPPORTED
    assert caught.value.param == "p"
    assert MAX_NODES < 2**20


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": ["string", "null"]}, {"type": "string", "nullable": True}),
        (
            {"type": ["string", "array"]},
            {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
        ),
        ({"anyOf": [STRING, {"type": "null"}]}, {"type": "string", "nullable": True}),
        (
            {"oneOf": [STRING, {"type": "integer"}], "description": "D"},
            {"anyOf": [STRING, {"type": "integer"}], "description": "D"},
        ),
        ({"const": "x"}, {"type": "string", "enum": ["x"]}),
        ({"enum": [1, 2]}, {"type": "integer", "description": "one of: [1,2]"}),
        ({"type": "array"}, {"type": "array", "items": STRING}),
        (
            {"type": "array", "prefixItems": [STRING, {"type": "integer"}]},
            {"type": "array", "items": {"anyOf": [STRING, {"type": "integer"}]}},
        ),
        (
            {"type": "object", "properties": {}, "required": ["x"], "additionalProperties": False},
            {"description": "type: object"},
        ),
        (
            {"properties": {"map": {"type": "object", "description": "D"}, "x": STRING}},
            {
                "type": "object",
                "properties": {"map": {"description": "D (type: object)"}, "x": STRING},
                "propertyOrdering": ["map", "x"],
            },
        ),
        (
            {"type": "array", "items": {"type": ["object", "null"]}},
            {"type": "array", "items": {"nullable": True, "description": "type: object"}},
        ),
        (
            {"anyOf": [{"type": "object", "properties": {}}, STRING]},
            {"anyOf": [{"description": "type: object"}, STRING]},
        ),
        ({"type": "object", "propertyOrdering": ["x"]}, {"description": "type: object"}),
        ({"anyOf": [{"type": "null"}]}, {"nullable": True}),
        (
            {"anyOf": [{"anyOf": [STRING, {"type": "integer"}]}, {"type": "null"}]},
            {"anyOf": [STRING, {"type": "integer"}], "nullable": True},
        ),
        (
            {"$defs": {"A": STRING}, "properties": {"a": {"$ref": "#/$defs/A", "description": "D"}}},
            {
                "type": "object",
                "properties": {"a": {"type": "string", "description": "D"}},
                "propertyOrdering": ["a"],
            },
        ),
    ],
)
def test_the_openapi_channel(schema: dict[str, Any], expected: dict[str, Any]):
    assert openapi(schema) == expected


# ── any schema ─────────────────────────────────────────────────────────────────────────────────────────

JUNK = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["a", "#", "#/$defs/a"]))
NAMES = st.sampled_from(["a", "b", "title", "$ref"])
KEYWORDS = sorted(
    JSON_KEYWORDS | OPENAPI_KEYWORDS | set(HINTS) | {"$schema", "title", "const", "allOf", "x-y"}
)
MANY = ("anyOf", "oneOf", "allOf", "prefixItems")
NAMED = ("properties", "$defs", "definitions", "patternProperties")
TYPES = ["string", "null", "array", "object", "integer"]


def schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    special: dict[str, st.SearchStrategy[Any]] = {
        **dict.fromkeys(MANY, st.lists(inner, max_size=3)),
        **dict.fromkeys(NAMED, st.dictionaries(NAMES, inner, max_size=3)),
        "items": inner | st.lists(inner, max_size=2),
        "type": st.sampled_from(TYPES) | st.lists(st.sampled_from(TYPES), max_size=3),
        "$ref": st.sampled_from(["#", "#/$defs/a", "#/definitions/b", "#/properties/a", "#x", "http://x"]),
        "enum": st.lists(JUNK, max_size=3),
        "required": st.lists(NAMES, max_size=3),
    }
    known = st.fixed_dictionaries({}, optional={key: special.get(key, JUNK) for key in KEYWORDS})
    odd = st.dictionaries(st.sampled_from(KEYWORDS), JUNK | inner, max_size=4)
    return st.one_of(known, odd)


SCHEMAS = schemas(st.recursive(st.booleans() | st.just({"type": "string"}), schemas, max_leaves=8))


def check(schema: Any, keywords: frozenset[str]) -> None:
    assert isinstance(schema, dict)
    assert schema.keys() <= keywords
    if "$ref" in schema:
        assert all(key.startswith("$") for key in schema)
    assert isinstance(schema.get("description", ""), str)
    for key in ("anyOf", "oneOf", "prefixItems"):
        for sub in schema.get(key, ()):
            check(sub, keywords)
    for key in ("properties", "$defs"):
        for sub in schema.get(key, {}).values():
            check(sub, keywords)
    for key in ("items", "additionalProperties"):
        if not isinstance(schema.get(key, True), bool):
            check(schema[key], keywords)
    assert set(schema.get("required", ())) <= set(schema.get("properties", schema.get("required", ())))


@settings(max_examples=40, deadline=None)  # the schemas are large
@given(SCHEMAS)
def test_only_keywords_of_the_json_channel_are_left(schema: Any):
    check(clean(schema), JSON_KEYWORDS)


@settings(max_examples=40, deadline=None)  # the schemas are large
@given(SCHEMAS)
def test_only_keywords_of_the_openapi_channel_are_left(schema: Any):
    found = openapi(schema)
    check(found, OPENAPI_KEYWORDS)
    check_openapi(found)


def check_openapi(schema: dict[str, Any]) -> None:
    assert isinstance(schema.get("type", ""), str)
    assert schema.get("type") != "null"
    assert all(isinstance(value, str) for value in schema.get("enum", ()))
    assert "items" in schema or schema.get("type") != "array"
    assert schema.get("properties", True)
    assert "type" in schema or "properties" not in schema
    assert "properties" in schema or schema.get("type") != "object"
    for sub in (*schema.get("anyOf", ()), *schema.get("properties", {}).values()):
        check_openapi(sub)
    if "items" in schema:
        check_openapi(schema["items"])


@settings(max_examples=40, deadline=None)  # the schemas are large
@given(SCHEMAS)
def test_the_clients_schema_is_left_alone(schema: Any):
    """Every attempt translates from the original."""
    before = msgspec.json.encode(schema)
    clean(schema)
    openapi(schema)
    assert msgspec.json.encode(schema) == before
