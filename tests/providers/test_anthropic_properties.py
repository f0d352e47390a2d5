"""Whatever a client's history looks like, the request obeys Anthropic's rules; bytes may come in any pieces.

The checkers here know nothing of the code that they check: they state the API's rules once more.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.providers.anthropic import PROVIDER
from gateway.providers.anthropic.schema import (
    MAX_OPTIONAL,
    MAX_OPTIONAL_OF_ONE,
    Grammar,
    Unrepresentable,
    loose,
    transform,
)

from .cases import CLOCK, FIXTURES, decode, request, user

# ── the order of a conversation ────────────────────────────────────────────────────────────────────────

TEXTS = st.sampled_from(["", " \n", "Hi", "Well \n"])
IDS = st.sampled_from(["a", "b", "a|b", "a/b", "a_b", "a_b_2", "", "é"])
PARTS = st.builds(lambda text: {"type": "text", "text": text}, TEXTS)
CONTENT = TEXTS | st.lists(PARTS, max_size=3)
CALLS = st.builds(
    lambda call_id, name, arguments: {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    },
    IDS,
    st.sampled_from(["f", "f.g", "f_g", "x" * 80]),
    st.sampled_from(["", "{}", '{"a":1}', "[1]", "{"]),
)
THOUGHTS = st.sampled_from(
    [
        {"type": "thinking", "thinking": "Hm", "signature": "S"},
        {"type": "thinking", "thinking": "Hm", "signature": ""},
        {"type": "redacted_thinking", "data": "X"},
        {"type": "thinking"},
    ]
)


def said(role: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"role": st.just(role), **fields})


MESSAGES = st.lists(
    st.one_of(
        said("system", content=CONTENT),
        said("developer", content=CONTENT),
        said("user", content=CONTENT),
        said("tool", content=CONTENT, tool_call_id=IDS),
        said(
            "assistant",
            content=st.none() | CONTENT,
            tool_calls=st.none() | st.lists(CALLS, max_size=3),
            thinking_blocks=st.none() | st.lists(THOUGHTS, max_size=3),
            refusal=st.none() | TEXTS,
        ),
    ),
    min_size=1,
    max_size=9,
)
MODELS = st.sampled_from(
    ["claude-sonnet-5-5", "claude-opus-5", "claude-opus-4-6", "claude-sonnet-4-5", "claude-nova-7"]
)
TAKES_PREFILL = ("claude-sonnet-4-5",)
VALID_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
VALID_ID = re.compile(r"[a-zA-Z0-9_-]+")


def check_conversation(body: dict[str, Any]) -> None:
    messages = body["messages"]
    roles = [message["role"] for message in messages]
    assert roles[0] == "user"
    assert all(one != next for one, next in pairwise(roles))
    assert roles[-1] == "user" or body["model"] in TAKES_PREFILL
    assert all(block["text"].strip() for block in body.get("system", ()))
    seen: set[str] = set()
    owed: list[str] = []
    for message in messages:
        kinds = [block["type"] for block in message["content"]]
        assert kinds
        check_blocks(message["content"])
        calls = [b["id"] for b in message["content"] if b["type"] == "tool_use"]
        answered = [b["tool_use_id"] for b in message["content"] if b["type"] == "tool_result"]
        assert sorted(answered) == sorted(owed)
        assert kinds[: len(answered)] == ["tool_result"] * len(answered)
        assert len(set(calls)) == len(calls)
        assert not seen & set(calls)
        seen |= set(calls)
        owed = calls
        if message["role"] == "assistant":
            assert set(kinds) <= {"text", "tool_use", "thinking", "redacted_thinking"}
            assert kinds[-1] in ("text", "tool_use")
        else:
            assert not calls
    assert not owed
    assert bool(seen) <= bool(body.get("tools"))


def check_blocks(blocks: list[dict[str, Any]]) -> None:
    for block in blocks:
        match block["type"]:
            case "text":
                assert block["text"].strip()
            case "tool_use":
                assert VALID_ID.fullmatch(block["id"])
                assert VALID_NAME.fullmatch(block["name"])
                assert isinstance(block["input"], dict)
            case "tool_result":
                content = block.get("content", "x")
                assert content
                if isinstance(content, list):
                    check_blocks(content)
            case "thinking":
                assert block.keys() == {"type", "thinking", "signature"}
                assert block["signature"]


def check_end(body: dict[str, Any]) -> None:
    last = body["messages"][-1]
    if last["role"] == "assistant":
        assert last["content"][-1]["text"] == last["content"][-1]["text"].rstrip()
        assert body.get("thinking", {}).get("type") != "enabled"


@given(
    MESSAGES,
    MODELS,
    st.sampled_from([None, "none", "low", "max"]),
    st.sampled_from([None, "none", "required"]),
    st.booleans(),
)
def test_any_history_is_sent_in_order(
    messages: list[Any], model: str, effort: str | None, choice: str | None, has_tools: bool
):
    chosen = {"tools": [CLOCK], "tool_choice": choice} if has_tools else {}
    chat = request({"messages": messages, "reasoning_effort": effort, **chosen}, model)
    first = PROVIDER.build_request(chat)
    body = msgspec.json.decode(first.body)
    check_conversation(body)
    check_end(body)
    if body.get("thinking", {}).get("type") == "enabled":
        assert 1024 <= body["thinking"]["budget_tokens"] < body["max_tokens"]
        assert body.get("tool_choice", {}).get("type") not in ("any", "tool")
    assert PROVIDER.build_request(chat) == first


@given(MESSAGES, st.lists(said("user", content=st.just("More")), max_size=2))
def test_a_longer_history_begins_like_the_shorter_one(messages: list[Any], more: list[Any]):
    """Caches and signed thinking hold only for an equal prefix: the past is said the same way each time."""
    grown = [*messages, user("Now"), {"role": "assistant", "content": "Yes"}, *more]
    before = sent([*messages, user("Now")])
    after = sent(grown)
    assert after[: len(before)] == before


def sent(messages: list[Any]) -> list[Any]:
    http = PROVIDER.build_request(request({"messages": messages}, "claude-sonnet-5-5"))
    said: list[Any] = msgspec.json.decode(http.body)["messages"]
    return said


# ── streams ────────────────────────────────────────────────────────────────────────────────────────────

STREAMS = {path.stem: path.read_bytes() for path in sorted((FIXTURES / "anthropic").glob("*.sse"))}
WHOLE = {name: decode(PROVIDER, request({"messages": [user("Hi")]}), [s]) for name, s in STREAMS.items()}


@given(st.sampled_from(sorted(STREAMS)), st.lists(st.floats(0, 1), max_size=12))
def test_golden_25_any_chunking_gives_the_same_chunks(name: str, cuts: list[float]):
    stream = STREAMS[name]
    places = [0, *sorted(int(cut * len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(places)]
    assert decode(PROVIDER, request({"messages": [user("Hi")]}), pieces) == WHOLE[name]


# ── schemas ────────────────────────────────────────────────────────────────────────────────────────────

NAMES = st.sampled_from(["a", "b", "$ref", "type", "anyOf", "required"])
LEAVES: st.SearchStrategy[Any] = st.one_of(
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
    return st.one_of(
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
        *(st.fixed_dictionaries({word: some}) for word in ("anyOf", "oneOf", "allOf")),
    )


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
    assert schema.get("minItems", 0) in (0, 1)
    if kind == "object":
        assert schema["additionalProperties"] is False
        assert set(schema.get("required", ())) <= schema["properties"].keys()
        for node in schema["properties"].values():
            check_schema(node)
    elif "items" in schema:
        check_schema(schema["items"])


@given(SCHEMAS)
def test_a_transformed_schema_has_supported_words_only(schema: dict[str, Any]):
    before = msgspec.json.encode(schema)
    try:
        done = transform({**schema, "$defs": DEFINITIONS})
    except Unrepresentable:
        return
    check_schema(done)
    assert msgspec.json.encode(schema) == before  # the next target gets the client's own
    assert transform(done) == done


@given(SCHEMAS)
def test_a_loose_schema_is_an_object(schema: dict[str, Any]):
    done = loose(schema)
    assert done["type"] == "object"
    assert isinstance(done["properties"], dict)
    assert not any(word in done for word in ("anyOf", "oneOf", "allOf"))


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
