"""JSON schemas on the way to Anthropic: of tools (12), strict or not, and of answers (15).

The checkers here know nothing of the code that they check: they state the API's rules once more.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.providers.anthropic import PROVIDER
from gateway.providers.anthropic.loose import loose
from gateway.providers.anthropic.schema import (
    MAX_OPTIONAL,
    MAX_OPTIONAL_OF_ONE,
    Grammar,
    Unrepresentable,
    transform,
)

from .anthropic_helpers import NEWEST, build, native, refusal, schema_form

GOLDEN = {
    12: (
        "test_golden_12_declarations",
        "test_golden_12_older_drafts",
        "test_golden_12_data_in_schemas_stays",
        "test_golden_12_a_loose_schema_nested_too_deeply_stays",
        "test_golden_12_strict_tools",
        "test_golden_12_only_so_many_strict_tools",
    ),
    15: (
        "test_golden_15_schema",
        "test_golden_15_words_of_the_subset",
        "test_golden_15_a_schema_that_cannot_be_compiled",
        "test_golden_15_older_models_and_other_forms",
    ),
}


# ── 12: tools ──────────────────────────────────────────────────────────────────────────────────────────


def test_golden_12_declarations():
    loose = {"$schema": "x", "anyOf": [{"$ref": "#/$defs/A"}, {"properties": {"b": {"type": "string"}}}]}
    schema = {**loose, "$defs": {"A": {"properties": {"a": {"type": "integer"}}}}}
    function = {"name": "f", "description": "", "parameters": schema}
    mark = {"type": "ephemeral", "ttl": "1h"}
    (declared,) = native(NEWEST, tools=[{"type": "function", "function": function, "cache_control": mark}])[
        "tools"
    ]
    assert declared == {
        "name": "f",
        "input_schema": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "string"}},
            "$defs": schema["$defs"],
        },
        "cache_control": mark,
    }


SOME = {"type": "string"}
OTHER = {"type": "integer"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"items": [SOME, OTHER]}, {"prefixItems": [SOME, OTHER]}),
        ({"items": [SOME], "additionalItems": False}, {"prefixItems": [SOME], "items": False}),
        (
            {"items": [SOME], "additionalItems": {"items": [OTHER]}},
            {"prefixItems": [SOME], "items": {"prefixItems": [OTHER]}},
        ),
        ({"items": []}, {}),
        ({"items": [SOME], "additionalItems": []}, {"prefixItems": [SOME]}),
        ({"items": [SOME], "prefixItems": [OTHER]}, {"prefixItems": [OTHER]}),
        ({"items": SOME, "additionalItems": False}, {"items": SOME}),
        ({"minimum": 5, "exclusiveMinimum": True}, {"exclusiveMinimum": 5}),
        ({"maximum": 5, "exclusiveMaximum": True}, {"exclusiveMaximum": 5}),
        ({"minimum": 5, "exclusiveMinimum": False}, {"minimum": 5}),
        ({"exclusiveMinimum": True}, {}),
        ({"exclusiveMinimum": 5}, {"exclusiveMinimum": 5}),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "type": "null"}, {"type": "null"}),
        ({"properties": "x", "items": "x", "anyOf": "x"}, {"properties": "x", "items": "x", "anyOf": "x"}),
    ],
)
@pytest.mark.parametrize(
    "around",
    [
        lambda node: {"items": node},
        lambda node: {"items": {"additionalProperties": node}},
        lambda node: {"properties": {"items": node, "exclusiveMinimum": True}},
        lambda node: {"anyOf": [node, {"not": node}]},
        lambda node: {"prefixItems": [True, node]},
        lambda node: {"if": node, "then": {"allOf": [node]}, "else": {"contains": node}},
        lambda node: {"patternProperties": {"^a": node}, "propertyNames": node},
    ],
)
def test_golden_12_older_drafts(old: Any, new: Any, around: Any):
    """What draft 4 and draft 7 said otherwise is refused: it is said in today's words, however deep."""
    given = {"type": "object", "properties": {"p": around(old)}, "$defs": {"D": old}}
    before = msgspec.json.encode(given)
    assert loose(given) == {"type": "object", "properties": {"p": around(new)}, "$defs": {"D": new}}
    assert msgspec.json.encode(given) == before


@pytest.mark.parametrize("word", ["default", "const", "enum", "examples"])
def test_golden_12_data_in_schemas_stays(word: str):
    """Values that look like old schemas are values."""
    value: Any = {"items": [1], "exclusiveMinimum": True, "$schema": "x"}
    node = {word: value if word in ("default", "const") else [value]}
    given = {"type": "object", "properties": {"p": node}}
    assert loose(given) == given


def test_golden_12_a_loose_schema_nested_too_deeply_stays():
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(5000):
        schema = {"type": "array", "items": schema}
    assert loose({"properties": {"p": schema}})["properties"]["p"] is schema


def strict(name: str, parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters, "strict": True}}


def test_golden_12_strict_tools():
    parameters = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}}, "required": ["n"]}
    http = build(NEWEST, tools=[strict("f", parameters)])
    assert msgspec.json.decode(http.body)["tools"] == [
        {
            "name": "f",
            "input_schema": {
                "type": "object",
                "properties": {"n": {"type": "integer", "description": "{maximum: 9}"}},
                "additionalProperties": False,
                "required": ["n"],
            },
            "strict": True,
        }
    ]
    assert http.dropped == ()
    loosened = build("claude-opus-4-0", tools=[strict("f", parameters)])
    assert b'"strict"' not in loosened.body
    assert loosened.dropped == ("tools",)
    free = {"type": "object", "additionalProperties": True}
    assert "strict" not in native(NEWEST, tools=[strict("f", free)])["tools"][0]


def test_golden_12_only_so_many_strict_tools():
    http = build(NEWEST, tools=[strict(f"f{i}", None) for i in range(21)])
    declared = msgspec.json.decode(http.body)["tools"]
    assert ["strict" in d for d in declared] == [True] * 20 + [False]
    assert http.dropped == ("tools",)


# ── 15: answers ────────────────────────────────────────────────────────────────────────────────────────


def test_golden_15_schema():
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {
            "inner": {
                "type": "object",
                "properties": {"n": {"type": "integer", "minimum": 1, "description": "A number"}},
                "required": ["n"],
            },
            "either": {"oneOf": [{"type": "string", "format": "email"}, {"$ref": "#/$defs/B"}]},
            "maybe": {"type": ["string", "null"], "maxLength": 3},
            "kind": {"type": "string", "enum": ["a", "b"], "default": "a"},
            "list": {"type": "array", "items": {"allOf": [{"$ref": "#/$defs/B"}]}, "minItems": 2},
        },
        "required": ["inner", "either", "maybe", "kind", "list", "ghost"],
        "$defs": {"B": {"type": "object", "properties": {}, "additionalProperties": False}},
    }
    http = build(NEWEST, response_format=schema_form(schema))
    body = msgspec.json.decode(http.body)
    assert http.dropped == ()
    assert "tools" not in body
    assert body["output_config"]["format"] == {
        "type": "json_schema",
        "schema": {
            "$defs": {"B": {"type": "object", "properties": {}, "additionalProperties": False}},
            "type": "object",
            "properties": {
                "inner": {
                    "type": "object",
                    "properties": {"n": {"type": "integer", "description": "A number\n\n{minimum: 1}"}},
                    "additionalProperties": False,
                    "required": ["n"],
                },
                "either": {"anyOf": [{"type": "string", "format": "email"}, {"$ref": "#/$defs/B"}]},
                "maybe": {"anyOf": [{"type": "string", "description": "{maxLength: 3}"}, {"type": "null"}]},
                "kind": {"enum": ["a", "b"], "default": "a"},
                "list": {
                    "type": "array",
                    "items": {"$ref": "#/$defs/B"},
                    "description": "{minItems: 2}",
                },
            },
            "additionalProperties": False,
            "required": ["inner", "either", "maybe", "kind", "list"],
        },
    }


@pytest.mark.parametrize(
    ("schema", "compiled"),
    [
        ({"type": "string", "format": "regex"}, {"type": "string", "description": "{format: regex}"}),
        ({"type": "string", "format": "uuid", "$comment": "x"}, {"type": "string", "format": "uuid"}),
        ({"enum": [{"a": 1}], "type": "string"}, {"type": "string", "description": '{enum: [{"a":1}]}'}),
        ({"const": 3, "type": "integer", "title": "T"}, {"const": 3, "title": "T"}),
        (
            {"allOf": [{"type": "string"}, {"enum": ["a"]}], "type": "string"},
            {"allOf": [{"type": "string"}, {"enum": ["a"]}]},
        ),
        ({"type": "array", "minItems": 1}, {"type": "array", "minItems": 1}),
        ({"items": {"type": "null"}}, {"type": "array", "items": {"type": "null"}}),
        ({"type": ["null", "null"]}, {"anyOf": [{"type": "null"}]}),
        ({"type": "string", "format": ["x"]}, {"type": "string", "description": '{format: ["x"]}'}),
        ({"type": "array", "minItems": [1]}, {"type": "array", "description": "{minItems: [1]}"}),
        ({"type": "array", "minItems": True}, {"type": "array", "description": "{minItems: true}"}),
        ({"type": "null", "title": ["T"]}, {"type": "null", "description": '{title: ["T"]}'}),
        ({"type": "null", "description": {"a": 1}}, {"type": "null", "description": '{"a":1}'}),
        (
            {"properties": {}, "additionalProperties": False, "required": [{}]},
            {"type": "object", "properties": {}, "additionalProperties": False, "required": []},
        ),
        (
            {"type": "null", "default": {"type": "object", "properties": {"a": 1}, "required": [{}]}},
            {"type": "null", "default": {"type": "object", "properties": {"a": 1}, "required": [{}]}},
        ),
        (
            {"properties": {}, "additionalProperties": False},
            {"type": "object", "properties": {}, "additionalProperties": False},
        ),
    ],
)
def test_golden_15_words_of_the_subset(schema: Any, compiled: Any):
    assert (
        native(NEWEST, response_format=schema_form(schema))["output_config"]["format"]["schema"] == compiled
    )


NODE = {"$ref": "#/$defs/Node"}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "object"},
        {"type": "object", "properties": {f"p{i}": {"type": "null"} for i in range(11)}},
        {**NODE, "$defs": {"Node": {"type": "object", "properties": {"next": NODE}}}},
        {**NODE, "$defs": {"Node": {"anyOf": [NODE, {"type": "null"}]}}},
        {"$ref": "https://example.org/schema.json"},
        {"type": "object", "properties": {"a": {"type": "null"}}, "anyOf": [{"required": ["a"]}]},
        {"description": "anything"},
        {"allOf": [{"type": "string"}, {"type": "object", "properties": {"a": {"type": "null"}}}]},
        {"type": "array", "items": True},
        {"type": "array", "items": [{"type": "string"}, {"type": "integer"}]},
        {"type": {"x": 1}},
        {"type": ["string", {}]},
        {"type": ["string", {"x": 1}]},
        {"type": ["string", "text"]},
        {"type": 3},
        {"$ref": ["x"]},
    ],
)
def test_golden_15_a_schema_that_cannot_be_compiled(schema: Any):
    """The model is told the schema instead, and the client that it is not held to it."""
    http = build(NEWEST, response_format=schema_form(schema))
    body = msgspec.json.decode(http.body)
    assert "output_config" not in body
    assert msgspec.json.encode(schema).decode() in body["system"][0]["text"]
    assert http.dropped == ("response_format",)


def test_golden_15_older_models_and_other_forms():
    assert "output_config" not in native("claude-opus-4-0", response_format=schema_form({"type": "string"}))
    assert "json_schema" not in PROVIDER.capabilities("claude-opus-4-0").features
    assert "json_schema" in PROVIDER.capabilities("claude-opus-4-1").features
    assert "system" not in native(NEWEST, response_format={"type": "text"})
    assert refusal(response_format={"type": "grammar"}).param == "response_format.type"


# ── any schema ─────────────────────────────────────────────────────────────────────────────────────────

NAMES = st.sampled_from(["a", "b", "$ref", "type", "anyOf", "required"])
WORDS = st.sampled_from(
    [
        "$defs",
        "$id",
        "$ref",
        "additionalItems",
        "additionalProperties",
        "allOf",
        "anyOf",
        "const",
        "default",
        "definitions",
        "description",
        "enum",
        "examples",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "format",
        "items",
        "maximum",
        "minItems",
        "minimum",
        "oneOf",
        "pattern",
        "patternProperties",
        "prefixItems",
        "properties",
        "required",
        "title",
        "type",
    ]
)
ATOMS = st.sampled_from([None, True, False, 0, 1, 2.5, "", "x", "string", "object", "array", "#/$defs/D"])
VALUES: st.SearchStrategy[Any] = st.recursive(
    ATOMS,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(WORDS, values, max_size=3),
    max_leaves=4,
)
WILD = st.dictionaries(WORDS, VALUES, max_size=3)
"""Schemas as nobody should write them: any word may hold anything."""
LEAVES: st.SearchStrategy[Any] = st.one_of(
    WILD,
    st.fixed_dictionaries(
        {"type": st.sampled_from(["string", "integer", "number", "boolean", "null"])},
        optional={
            "minimum": st.integers(),
            "pattern": st.just("^a$"),
            "format": st.sampled_from(["email", "regex"]),
            "description": st.text(max_size=3),
            "title": st.just("T"),
            "default": st.none() | st.integers(),
            "examples": st.just([1]),
            "$comment": st.just("x"),
        },
    ),
    st.fixed_dictionaries({"enum": st.lists(st.none() | st.text(max_size=2) | st.just({}), max_size=3)}),
    st.just({"const": 3, "type": "integer"}),
    st.just({"$ref": "#/$defs/D"}),
    st.just({"$ref": "#/$defs/E"}),
    st.just({"$ref": "elsewhere.json"}),
    st.just({"type": ["string", "null"], "maxLength": 3}),
    st.just({}),
    st.booleans(),
)


def _nested(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(children, max_size=3)
    nested = st.one_of(
        st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.dictionaries(NAMES, children, max_size=3)},
            optional={
                "required": st.lists(NAMES, max_size=3),
                "additionalProperties": st.booleans() | children,
                "patternProperties": st.just({}),
                "minProperties": st.just(1),
            },
        ),
        st.fixed_dictionaries(
            {"type": st.just("array"), "items": children},
            optional={"minItems": st.integers(0, 3), "uniqueItems": st.just(True)},
        ),
        st.fixed_dictionaries({"items": some}, optional={"additionalItems": children}),
        *(st.fixed_dictionaries({word: some}) for word in ("anyOf", "oneOf", "allOf")),
    )
    return nested | st.builds(lambda node, wild: {**node, **wild}, nested, WILD)


SCHEMAS = st.recursive(LEAVES, _nested, max_leaves=6).filter(lambda s: isinstance(s, dict))
DEFINITIONS = {
    "D": {"type": "object", "properties": {}, "additionalProperties": False},
    "E": {"$ref": "#/$defs/D"},
}
KEYWORDS = {
    "type": {"type", "title", "description", "default"},
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems"},
    "string": {"format"},
}
LITERALS = {"enum", "const", "title", "description", "default"}
FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}


def check_schema(schema: dict[str, Any]) -> None:
    for word in ("$defs", "definitions"):
        for node in schema.get(word, {}).values():
            check_schema(node)
    schema = {key: value for key, value in schema.items() if key not in ("$defs", "definitions")}
    assert isinstance(schema.get("title", ""), str)
    assert isinstance(schema.get("description", ""), str)
    if "$ref" in schema:
        assert schema.keys() == {"$ref"}
        assert schema["$ref"].startswith("#/")
    elif schema.keys() & {"enum", "const"}:
        assert schema.keys() <= LITERALS
    elif variants := schema.get("anyOf") or schema.get("allOf"):
        assert schema.keys() <= {"anyOf", "allOf", "title", "description", "default"}
        for node in variants:
            check_schema(node)
            assert "anyOf" in schema or ("$ref" not in node and node.get("type") != "object")
    else:
        check_typed(schema)


def check_typed(schema: dict[str, Any]) -> None:
    kind = schema["type"]
    assert kind in ("object", "array", "string", "integer", "number", "boolean", "null")
    assert schema.keys() <= KEYWORDS["type"] | KEYWORDS.get(kind, set())
    assert schema.get("format", "email") in FORMATS
    assert repr(schema.get("minItems", 0)) in ("0", "1")
    if kind == "object":
        assert schema["additionalProperties"] is False
        assert set(schema.get("required", ())) <= schema["properties"].keys()
        for node in schema["properties"].values():
            check_schema(node)
    elif "items" in schema:
        check_schema(schema["items"])


@given(SCHEMAS)
@example({"allOf": [{"type": "array", "items": {"$ref": "#/$defs/D"}, "$defs": None}]})
def test_a_transformed_schema_has_supported_words_only(schema: dict[str, Any]):
    schema = {**schema, "$defs": DEFINITIONS}
    before = msgspec.json.encode(schema)
    try:
        done = transform(schema)
    except Unrepresentable:
        return
    assert Grammar().tool(schema) in (done, None)
    check_schema(done)
    assert msgspec.json.encode(schema) == before  # the next target gets the client's own
    assert transform(done) == done


@given(SCHEMAS)
def test_a_loose_schema_is_an_object(schema: dict[str, Any]):
    before = msgspec.json.encode(schema)
    done = loose(schema)
    assert done["type"] == "object"
    assert isinstance(done["properties"], dict)
    assert not any(word in done for word in ("anyOf", "oneOf", "allOf"))
    check_renewed(done)
    assert msgspec.json.encode(schema) == before
    assert loose(done) == done


def check_renewed(schema: Any) -> None:
    if not isinstance(schema, dict):
        return
    assert not schema.keys() & {"$schema", "additionalItems"}
    assert not isinstance(schema.get("items"), list)
    assert not any(isinstance(schema.get(word), bool) for word in ("exclusiveMinimum", "exclusiveMaximum"))
    for word in ("properties", "patternProperties", "$defs", "definitions"):
        for node in schema[word].values() if isinstance(schema.get(word), dict) else ():
            check_renewed(node)
    for word in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for node in schema[word] if isinstance(schema.get(word), list) else ():
            check_renewed(node)
    for word in ("items", "additionalProperties"):
        check_renewed(schema.get(word))


def test_a_request_compiles_only_so_much():
    grammar = Grammar()
    optional = {
        "type": "object",
        "properties": {f"p{i}": {"type": "null"} for i in range(MAX_OPTIONAL_OF_ONE)},
    }
    fitting = MAX_OPTIONAL // MAX_OPTIONAL_OF_ONE
    compiled = [grammar.answer(optional) is not None for _ in range(fitting + 1)]
    assert compiled == [True] * fitting + [False]
    unions = {"anyOf": [{"anyOf": [{"type": "null"}]}] * 16}
    assert Grammar().answer(unions) is None
    assert Grammar().answer({"anyOf": unions["anyOf"][:15]}) is not None


def test_a_schema_nested_too_deeply_is_refused():
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(5000):
        schema = {"type": "array", "items": schema}
    assert Grammar().answer(schema) is None
