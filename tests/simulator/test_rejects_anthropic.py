# ruff: noqa: E501  (tables: one case a line)
"""What the Anthropic stand-in refuses: status, error type and wording."""

from __future__ import annotations

import base64
import json

import pytest

USER = {"role": "user", "content": "Hi"}
TOOL = {"name": "f", "input_schema": {"type": "object", "properties": {}}}
USE = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
USED = {"role": "assistant", "content": [USE]}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "x"}
TEXT = {"type": "text", "text": "x"}
ENABLED = {"type": "enabled", "budget_tokens": 1024}
OBJECT = {"type": "object", "properties": {}, "additionalProperties": False}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}}


def model(name, **fields):
    return {"model": f"claude-{name}", **fields}


def messages(*given, **fields):
    return {"messages": list(given), **fields}


def schema(value):
    return {"output_config": {"format": {"type": "json_schema", "schema": value}}}


def signed(text="", of="claude-opus-4-6", prefix=""):
    import hashlib

    digest = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
    return base64.b64encode(f"sim-anthropic|{of}|{prefix}|{digest}".encode()).decode()


def thought(text="", **how):
    return {"type": "thinking", "thinking": text, "signature": signed(text, **how)}


# fields over {"model": "claude-opus-4-6", "max_tokens": 2000, "messages": [USER]} → part of the message
CASES = [
    ({"foo": 1}, "foo: Extra inputs are not permitted"),
    ({"n": 2}, "n: Extra inputs are not permitted"),
    ({"max_tokens": None}, "max_tokens: Input should be a valid integer"),
    ({"max_tokens": 200_000}, "max_tokens: 200000 > 128000, which is the maximum allowed number of output tokens for"),
    ({"max_tokens": -1}, "max_tokens: Input should be greater than or equal to 0"),
    (messages(), "at least one message is required"),
    (messages({"role": "tool", "content": "x"}), "messages.0.role: Input should be 'user' or 'assistant'"),
    (messages({"role": "assistant", "content": "x"}, USER), 'first message must use the "user" role'),
    (messages({"role": "user", "content": ""}), "messages.0: all messages must have non-empty content"),
    (messages({"role": "user", "content": []}), "messages.0: all messages must have non-empty content"),
    (messages({"role": "user", "content": " \n"}), "text content blocks must contain non-whitespace text"),
    (messages({"role": "user", "content": [{"type": "text", "text": ""}]}), "text content blocks must be non-empty"),
    (messages({"role": "user", "content": [{"type": "input_text"}]}), "messages.0.content.0: Input tag 'input_text' found using 'type'"),
    (messages({"role": "user", "content": [{"type": "text"}]}), "messages.0.content.0.text.text: Field required"),
    (messages({"role": "user", "content": [{**TEXT, "foo": 1}]}), "messages.0.content.0.text.foo: Extra inputs are not permitted"),
    (messages({"role": "user", "content": [USE]}), "`tool_use` blocks are not permitted in user messages"),
    (messages({**USER, "name": "x"}), "messages.0.name: Extra inputs are not permitted"),
    ({"system": " "}, "text content blocks must contain non-whitespace text"),
    (messages(USER, USED, USER), "`tool_use` ids were found without `tool_result` blocks immediately after: t1"),
    (messages(USER, USED), "`tool_use` ids were found without `tool_result` blocks immediately after: t1"),
    (messages(USER, {"role": "assistant", "content": [USE, {**USE, "id": "t2"}]}, {"role": "user", "content": [RESULT]}, {"role": "user", "content": [{**RESULT, "tool_use_id": "t2"}]}), "immediately after: t2"),
    (messages(USER, USED, {"role": "user", "content": [TEXT, RESULT]}), "`tool_result` blocks must come before all other blocks"),
    (messages({"role": "user", "content": [RESULT]}), "messages.0.content.0: unexpected `tool_use_id` found in `tool_result` blocks: t1"),
    (messages(USER, USED, {"role": "user", "content": [RESULT, RESULT]}), "each tool_use must have a single result"),
    (messages(USER, USED, {"role": "user", "content": [RESULT]}, USED, {"role": "user", "content": [RESULT]}), "`tool_use` ids must be unique"),
    (messages(USER, {"role": "assistant", "content": [{**USE, "id": "call|1"}]}), "tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"),
    (messages(USER, {"role": "assistant", "content": [{**USE, "input": "{}"}]}), "tool_use.input: Input should be a valid dictionary"),
    (messages(USER, {"role": "assistant", "content": "Hm"}), "does not support assistant message prefill. The conversation must end with a user message."),
    (messages(USER, {"role": "assistant", "content": "Hm "}, **model("haiku-4-5")), "cannot end with trailing whitespace"),
    (messages(USER, {"role": "system", "content": "x"}), "role 'system' is not supported on this model"),
    (messages({"role": "system", "content": "x"}, USER, **model("opus-5")), 'first message must use the "user" role'),
    (messages(USER, {"role": "system", "content": "x"}, USER, **model("opus-5")), "must follow a user message and precede an assistant message"),
    (messages({"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/jpg", "data": "AAAA"}}]}), "media_type: Input should be 'image/jpeg'"),
    (messages({"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "?"}}]}), "invalid base64 data"),
    (messages({"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "http://x/y.png"}}]}), "Only HTTPS URLs are supported"),
    # sampling
    ({"temperature": 1.7}, "temperature: Input should be less than or equal to 1"),
    ({"temperature": 0.5, "top_p": 0.5}, "`temperature` and `top_p` cannot both be specified"),
    (model("opus-5", temperature=0.5), "`temperature` is not supported on this model"),
    (model("opus-4-8", top_k=5), "`top_k` is not supported on this model"),
    ({"temperature": 0.5, "thinking": ENABLED}, "`temperature` may only be set to 1 when thinking is enabled"),
    ({"top_p": 0.9, "thinking": ENABLED}, "`top_p` must be greater than or equal to 0.95"),
    ({"stop_sequences": ["\n"]}, "each stop sequence must contain non-whitespace"),
    # thinking
    (model("opus-5", thinking=ENABLED), '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive"'),
    (model("fable-5-2", thinking={"type": "disabled"}), '"thinking.type.disabled" is not supported for this model'),
    (model("sonnet-5-5", thinking={"type": "disabled"}), '"thinking.type.disabled" is not supported'),
    (model("opus-5", thinking={"type": "between_tools"}), '"thinking.type.between_tools" is not supported'),
    (model("sonnet-4-5", thinking={"type": "adaptive"}), "adaptive thinking is not supported on this model"),
    ({"thinking": {"type": "enabled", "budget_tokens": 100}}, "budget_tokens: Input should be greater than or equal to 1024"),
    ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "`max_tokens` must be greater than `thinking.budget_tokens`"),
    ({"thinking": {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}}}, "block_binding: Extra inputs are not permitted"),
    ({"output_config": {"effort": "xhigh"}}, "does not support effort level 'xhigh'. Supported levels: high, low, max, medium."),
    (model("haiku-4-5", output_config={"effort": "low"}), "does not support the effort parameter"),
    (model("opus-5", thinking={"type": "disabled"}, output_config={"effort": "max"}), "not supported when thinking is turned off"),
    (messages(USER, USED, {"role": "user", "content": [RESULT]}, thinking=ENABLED, tools=[TOOL]), "Expected `thinking` or `redacted_thinking`, but found `tool_use`"),
    (messages(USER, {"role": "assistant", "content": [{"type": "thinking", "thinking": "", "signature": ""}, TEXT]}, USER), "Invalid `signature` in `thinking` block"),
    (messages(USER, {"role": "assistant", "content": [{"type": "thinking", "thinking": "", "signature": "U0lH"}, TEXT]}, USER), "Invalid `signature` in `thinking` block"),
    (messages(USER, {"role": "assistant", "content": [thought(of="claude-opus-5"), TEXT]}, USER), "Invalid `signature` in `thinking` block"),
    (messages(USER, {"role": "assistant", "content": [{**thought("a"), "thinking": "b"}, TEXT]}, USER), "cannot be modified"),
    (messages(USER, {"role": "assistant", "content": [thought(of="claude-opus-5-5", prefix="0"), TEXT]}, USER, **model("opus-5-5")), "bound to a different conversation"),
    # tools
    ({"tools": [{"name": "a b", "input_schema": {"type": "object"}}]}, "tools.0.custom.name: String should match pattern"),
    ({"tools": [{"name": "f"}]}, "tools.0.custom.input_schema: Field required"),
    ({"tools": [{"name": "f", "input_schema": {}}]}, "tools.0.custom.input_schema.type: Field required"),
    ({"tools": [{"name": "f", "input_schema": {"type": "object", "anyOf": []}}]}, "does not support oneOf, allOf, or anyOf at the top level"),
    ({"tools": [{"type": "function", "function": {}}]}, "tools.0: Input tag 'function' found using 'type'"),
    ({"tools": [TOOL, TOOL]}, "Tool names must be unique"),
    ({"tools": [{**TOOL, "strict": True}]}, "'additionalProperties' must be explicitly set to false"),
    ({"tool_choice": {"type": "auto"}}, "tool_choice may only be specified while providing tools"),
    ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}}, "Tool 'g' not found in provided tools"),
    ({"tools": [TOOL], "tool_choice": {"type": "none", "disable_parallel_tool_use": True}}, "tool_choice.none.disable_parallel_tool_use: Extra inputs"),
    (model("sonnet-5-5", tools=[TOOL], tool_choice={"type": "any"}), 'tool_choice: type "tool" and "any" are not supported for this model.'),
    ({"tools": [TOOL], "tool_choice": {"type": "any"}, "thinking": ENABLED}, "Thinking may not be enabled when tool_choice forces tool use"),
    # structured output
    (schema({"type": "object", "properties": {}}), "'additionalProperties' must be explicitly set to false"),
    (schema({**OBJECT, "properties": {"a": {"type": "integer", "minimum": 1}}}), "For 'integer' type, property 'minimum' is not supported"),
    (schema({**OBJECT, "properties": {"a": {"oneOf": [{"type": "string"}]}}}), "property 'oneOf' is not supported"),
    (schema({**OBJECT, "properties": {"a": {"type": "array", "minItems": 2}}}), "'minItems' values other than 0 or 1"),
    (schema({**OBJECT, "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {**OBJECT, "properties": {"b": {"$ref": "#/$defs/a"}}}}}), "Recursive schemas are not supported"),
    (messages({"role": "user", "content": [TEXT, {**PDF, "citations": {"enabled": True}}]}, **schema(OBJECT)), "citations are not supported together"),
    # the rest
    ({"system": [{**TEXT, "cache_control": {"type": "ephemeral"}}] * 5}, "A maximum of 4 blocks with cache_control may be provided. Found 5."),
    ({"metadata": {"user_id": "a@b.com"}}, "user_id appears to contain an email address"),
    ({"metadata": {"user_id": "+49 123 4567890"}}, "user_id appears to contain a phone number"),
    ({"mcp_servers": []}, "mcp_servers: Extra inputs are not permitted"),
    (messages({"role": "user", "content": "x" * 900_000}, **model("haiku-4-5")), "prompt is too long: 225000 tokens > 200000 maximum"),
    ({"tools": [{"name": "f", "input_schema": {"type": "object", "properties": []}}]}, "JSON schema is invalid. It must match JSON Schema draft 2020-12"),
    (schema({**OBJECT, "pattern": "("}), "JSON schema is invalid"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "expected"), CASES, ids=lambda value: str(value)[:60])
async def test_refused(ask, fields, expected):
    body = {"model": "claude-opus-4-6", "max_tokens": 2000, "messages": [USER], **fields}
    status, headers, answer = await ask("anthropic", body=body)
    made = json.loads(answer)
    assert expected in made["error"]["message"]
    assert (status, made["type"], made["error"]["type"]) == (400, "error", "invalid_request_error")
    assert made["request_id"] == headers["request-id"]


ACCEPTED = [
    messages(USER, USER, {"role": "assistant", "content": "a"}, USER),
    messages(USER, USED, {"role": "user", "content": [RESULT, TEXT]}),
    messages(USER, {"role": "assistant", "content": "Hm"}, **model("haiku-4-5")),
    messages(USER, {"role": "system", "content": "x"}, **model("opus-5")),
    messages(USER, {"role": "system", "content": "x"}, **model("sonnet-5")),
    model("opus-5", temperature=1),
    model("haiku-4-5", temperature=0.3),
    model("opus-5", thinking={"type": "disabled"}, output_config={"effort": "high"}),
    model("sonnet-5-5", thinking={"type": "between_tools"}),
    model("opus-4-5", thinking=ENABLED, output_config={"effort": "high"}),
    {"tools": [TOOL, {"type": "web_search_20260318", "name": "web_search"}], "tool_choice": {"type": "any"}},
    {"system": [TEXT], "metadata": {"user_id": "f00d"}, "service_tier": "auto", "max_tokens": 0},
    schema({**OBJECT, "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}, "required": ["a"]}),
    messages(USER, {"role": "assistant", "content": [thought("a"), USE]}, {"role": "user", "content": [RESULT]}, thinking=ENABLED, tools=[TOOL]),
]  # fmt: skip


@pytest.mark.parametrize("fields", ACCEPTED, ids=lambda value: str(value)[:60])
async def test_accepted(ask, fields):
    body = {"model": "claude-opus-4-6", "max_tokens": 2000, "messages": [USER], **fields}
    status, _, answer = await ask("anthropic", body=body)
    assert status == 200, answer


HEADERS = [
    ({"x-api-key": None}, (401, "authentication_error", "x-api-key header is required")),
    ({"authorization": "Bearer sim-key"}, (401, "authentication_error", "may not both be set")),
    ({"x-api-key": None, "authorization": "Bearer sim-wrong"}, (401, "authentication_error", "Invalid bearer token")),
    ({"x-api-key": "sim-wrong"}, (401, "authentication_error", "invalid x-api-key")),
    ({"x-api-key": "sim-noquota"}, (400, "invalid_request_error", "credit balance is too low")),
    ({"anthropic-version": None}, (400, "invalid_request_error", "anthropic-version: header is required")),
    ({"anthropic-version": "2024-01-01"}, (400, "invalid_request_error", '"2024-01-01" is not a valid version')),
    ({"anthropic-beta": ""}, (400, "invalid_request_error", "Unexpected value(s) `` for the `anthropic-beta` header")),
    ({"anthropic-beta": "skills-1, files-api-1"}, (400, "invalid_request_error", "Unexpected value(s) ` files-api-1`")),
    ({"anthropic-beta": "sparkle-1"}, (400, "invalid_request_error", "Unexpected value(s) `sparkle-1`")),
    ({"content-type": None}, (400, "invalid_request_error", "content-type")),
]  # fmt: skip


@pytest.mark.parametrize(("headers", "expected"), HEADERS)
async def test_headers(ask, headers, expected):
    status, _, body = await ask("anthropic", headers=headers)
    error = json.loads(body)["error"]
    assert (status, error["type"]) == expected[:2]
    assert expected[2] in error["message"]


NEW = [
    ({"temperature": 1}, "temperature: Extra inputs are not permitted"),
    (
        {"messages": [USER, {"role": "assistant", "content": [PDF]}, USER]},
        "not permitted in assistant messages",
    ),
    (
        {"messages": [{"role": "user", "content": [{**TEXT, "citations": [{}]}]}]},
        "`citations` are not permitted",
    ),
]


@pytest.mark.parametrize(("fields", "expected"), NEW)
async def test_version_2026_10_21_takes_less(ask, fields, expected):
    body = {"model": "claude-opus-4-6", "max_tokens": 9, "messages": [USER], **fields}
    status, _, _ = await ask("anthropic", body=body)
    assert status == 200
    status, _, answer = await ask("anthropic", body=body, headers={"anthropic-version": "2026-10-21"})
    assert status == 400
    assert expected in json.loads(answer)["error"]["message"]


async def test_bound_block_is_dropped_on_demand(ask):
    how = {
        "model": "claude-opus-5-5",
        "max_tokens": 99,
        "messages": [
            USER,
            {"role": "assistant", "content": [thought(of="claude-opus-5-5", prefix="0"), TEXT]},
            USER,
        ],
        "thinking": {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}},
    }
    beta = {"anthropic-beta": "thinking-binding-controls-2026-08-01"}
    status, _, body = await ask("anthropic", body=how, headers=beta)
    assert status == 200, body


async def test_paths_models_and_size(ask):
    status, _, body = await ask("anthropic", path="/anthropic/v1/embeddings")
    assert (status, json.loads(body)["error"]["type"]) == (404, "not_found_error")
    status, _, body = await ask("anthropic", body={"model": "claude-2", "max_tokens": 1, "messages": [USER]})
    assert (status, json.loads(body)["error"]["message"]) == (404, "model: claude-2")
    status, _, body = await ask("anthropic", body=b" " * (32 * 2**20 + 1))
    assert (status, json.loads(body)["error"]["type"]) == (413, "request_too_large")
    status, _, body = await ask("anthropic", path="/anthropic/v1/messages/count_tokens")
    assert json.loads(body)["error"]["message"] == "max_tokens: Extra inputs are not permitted"
    status, _, body = await ask("anthropic", path="/anthropic/v1/models")
    assert status == 405
