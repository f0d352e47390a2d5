"""The default brain and its schema instances: deterministic, and valid for what was asked."""

from __future__ import annotations

import base64
import json

import pytest

from gateway.simulator.brain import Ask, AskedTool, answer, usage_of
from gateway.simulator.schema import instance
from gateway.simulator.script import Turn, Usage, parse_step

SCHEMAS = [
    ({}, {}),
    ({"type": "string"}, "sample"),
    ({"type": "string", "minLength": 8}, "samplexx"),
    ({"type": "string", "maxLength": 3}, "sam"),
    ({"type": "string", "format": "date"}, "2026-01-02"),
    ({"type": "string", "pattern": "^[A-Z]{3}$"}, "ABC"),
    ({"type": "string", "pattern": "^\\d{5}$"}, "12345"),
    ({"type": "integer"}, 1),
    ({"type": "integer", "minimum": 3, "multipleOf": 5}, 5),
    ({"type": "integer", "exclusiveMaximum": 0}, -1),
    ({"type": "number", "exclusiveMinimum": 7}, 8),
    ({"type": "number", "minimum": 0, "maximum": 0.5}, 0.5),
    ({"type": "boolean"}, True),
    ({"type": "null"}, None),
    ({"type": ["null", "string"]}, "sample"),
    ({"type": "STRING", "nullable": True}, "sample"),
    ({"const": 7}, 7),
    ({"enum": ["a", "b"]}, "a"),
    ({"type": "integer", "default": 4}, 4),
    ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, 1),
    ({"oneOf": [{"type": "boolean"}]}, True),
    ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [1, 1]),
    ({"type": "array", "maxItems": 0}, []),
    ({"prefixItems": [{"type": "integer"}, {"type": "string"}]}, [1, "sample"]),
    ({"properties": {"a": {"type": "integer"}}, "required": ["a", "b"]}, {"a": 1, "b": "sample"}),
    ({"allOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"b": {"const": 2}}}]}, {"a": 1, "b": 2}),
    ({"$ref": "#/$defs/x", "$defs": {"x": {"type": "integer"}}}, 1),
    ({"additionalProperties": {"type": "integer"}, "type": "object", "required": ["k"]}, {"k": 1}),
    (True, {}),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "expected"), SCHEMAS, ids=lambda value: str(value)[:50])
def test_instance(schema, expected):
    assert instance(schema) == expected


def test_a_cycle_ends():
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}
    assert "next" in instance({"$ref": "#/$defs/node", "$defs": {"node": node}})
    assert instance({"$ref": "#"}) is not None
    assert instance({"properties": {"a": {"$ref": "#"}}, "required": ["a"]})["a"]["a"]


TOOL = AskedTool("f", {"type": "object", "properties": {"a": {"type": "integer"}}})


def test_answers():
    assert answer(Ask(text="Hi")).text == "You said: Hi"
    assert json.loads(answer(Ask(text="Hi", json=True)).text) == {"echo": "Hi"}
    assert json.loads(answer(Ask(schema={"type": "object", "properties": {"a": {"const": 1}}})).text) == {
        "a": 1
    }
    assert answer(Ask(results=["sunny", "12"], tools=[TOOL])).text == "The tool said: sunny; 12"
    assert answer(Ask(text="Hi", reasoning=True)).reasoning
    assert answer(Ask(text="a STOP b", stops=["b", "STOP"])).text == "You said: a "


def test_tool_calls():
    assert [call.arguments for call in answer(Ask(tools=[TOOL])).tool_calls] == [{"a": 1}]
    other = AskedTool("g")
    both = Ask(text="Both!", tools=[TOOL, other])
    assert [call.name for call in answer(both).tool_calls] == ["f", "g"]
    assert len(answer(Ask(text="in parallel", tools=[TOOL])).tool_calls) == 2
    assert len(answer(Ask(text="both", tools=[TOOL, other], parallel=False)).tool_calls) == 1
    assert answer(Ask(text="x", tools=[AskedTool("c", custom=True)])).tool_calls[0].arguments == "x"


def test_limit_counts_reasoning_first():
    cut = answer(Ask(text="Hi", limit=2))
    assert (cut.text, cut.finish) == ("You said", "length")
    cut = answer(Ask(text="Hi", reasoning=True, limit=3))
    assert (cut.text, len(cut.reasoning), cut.finish) == ("", 12, "length")
    assert usage_of(cut, Ask(read=10)) == (3, 3, 3)
    assert answer(Ask(tools=[TOOL], limit=1)).tool_calls == []


def test_usage_is_derived_or_stated():
    assert usage_of(Turn(text="x" * 8, reasoning="y" * 4), Ask(read=9)) == (3, 3, 1)
    assert usage_of(Turn(usage=Usage(input=1, output=2, reasoning=0)), Ask()) == (1, 2, 0)


def test_pieces():
    assert Turn(text="abcd", pieces=3).cut("abcd") == ["abc", "d"]
    turn = Turn(pieces=["a", "b"])
    assert turn.said() == "ab"
    assert turn.cut("ab") == ["a", "b"]
    assert Turn(text="x", pieces=["x"]).cut("other text") == ["other text"]
    assert Turn().cut("") == []


def test_steps_from_json():
    assert parse_step({"text": "a", "pieces": 1}) == Turn(text="a", pieces=1)
    assert parse_step({"status": 500}).kind == "status"


PIXEL = base64.b64encode(b"x" * 68).decode()
PDF = base64.b64encode(b"%PDF").decode()
SEEN = "I see 1 image (image/png, 68 bytes) and 1 document (application/pdf, 4 bytes). You said: look"
MEDIA = {
    "openai": {
        "model": "gpt-4.1",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                    {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}"}},
                ],
            }
        ],
    },
    "anthropic": {
        "model": "claude-opus-4-6",
        "max_tokens": 100,
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
                    {
                        "type": "document",
                        "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                    },
                    {"type": "text", "text": "look"},
                ],
            }
        ],
    },
    "gemini": {
        "contents": [
            {
                "parts": [
                    {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
                    {"inlineData": {"mimeType": "application/pdf", "data": PDF}},
                    {"text": "look"},
                ]
            }
        ]
    },
}


@pytest.mark.parametrize("provider", MEDIA)
async def test_media_is_named_with_its_size(ask, provider):
    _, _, body = await ask(provider, body=MEDIA[provider])
    assert SEEN in body.decode()


LIMITED = {
    "openai": ({"model": "gpt-4.1", "max_tokens": 2}, b'"finish_reason":"length"'),
    "anthropic": ({"model": "claude-opus-4-6", "max_tokens": 2}, b'"stop_reason":"max_tokens"'),
    "gemini": ({"generationConfig": {"maxOutputTokens": 2}}, b'"finishReason":"MAX_TOKENS"'),
}
STOPPED = {
    "openai": ({"model": "gpt-4.1", "stop": "ll"}, b'"You said: He"'),
    "anthropic": (
        {"model": "claude-opus-4-6", "max_tokens": 99, "stop_sequences": ["ll"]},
        b'"stop_sequence":"ll"',
    ),
    "gemini": ({"generationConfig": {"stopSequences": ["ll"]}}, b'"You said: He"'),
}


@pytest.mark.parametrize("provider", LIMITED)
async def test_limits_and_stops_natively(ask, provider):
    key = "contents" if provider == "gemini" else "messages"
    words = (
        [{"parts": [{"text": "Hello"}]}] if provider == "gemini" else [{"role": "user", "content": "Hello"}]
    )
    for fields, expected in (LIMITED[provider], STOPPED[provider]):
        _, _, body = await ask(provider, body={key: words, **fields})
        assert expected in body
