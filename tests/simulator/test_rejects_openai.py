# ruff: noqa: E501  (tables: one case a line)
"""What the OpenAI stand-in refuses: status, type, code, param and wording."""

from __future__ import annotations

import json

import pytest

USER = {"role": "user", "content": "Hi"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
TOOL = {"type": "function", "function": {"name": "f"}}
CLOSED = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
OLD = {"model": "gpt-4.1"}


def strict(schema):
    return {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}


# fields over {"model": "gpt-6-luna", "messages": [USER]} → (status, param, code, part of the message)
CASES = [
    ({"foo": 1}, (400, None, None, "Unrecognized request argument supplied: foo")),
    ({"messages": [{**USER, "foo": 1}]}, (400, "messages[0].foo", "unknown_parameter", "Unknown parameter: 'messages[0].foo'")),
    ({"messages": [USER, {"role": "assistant", "content": "a", "reasoning_content": "b"}]}, (400, "messages[1].reasoning_content", "unknown_parameter", "Unknown")),
    ({"model": None}, (400, "model", "invalid_type", "Invalid type for 'model': expected a string, but got null instead.")),
    ({"messages": []}, (400, "messages", "empty_array", "Invalid 'messages': empty array")),
    ({"messages": [{"role": "user", "content": []}]}, (400, "messages[0].content", "empty_array", "empty array")),
    ({"messages": "Hi"}, (400, "messages", "invalid_type", "expected an array, but got a string instead")),
    ({"messages": [{"role": "user", "content": None}]}, (400, "messages[0].content", "invalid_type", "but got null instead")),
    ({"messages": [{"role": "robot", "content": "x"}]}, (400, "messages[0].role", "invalid_value", "Supported values are: 'system'")),
    ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, (400, "messages[0].content[0].type", "invalid_value", "'video'")),
    ({"temperature": "hot", **OLD}, (400, "temperature", "invalid_type", "expected a decimal, but got a string instead")),
    ({"temperature": 3, **OLD}, (400, "temperature", "decimal_above_max_value", "Expected a value <= 2, but got 3")),
    ({"n": 0, **OLD}, (400, "n", "integer_below_min_value", "Expected a value >= 1, but got 0")),
    ({"model": "gpt-3.5-turbo"}, (404, "model", "model_not_found", "The model 'gpt-3.5-turbo' does not exist")),
    ({"model": "gpt-5.5-pro"}, (404, "model", None, "only supported in v1/responses")),
    ({"max_tokens": 5}, (400, "max_tokens", "unsupported_parameter", "Use 'max_completion_tokens' instead")),
    ({"temperature": 0.7}, (400, "temperature", "unsupported_value", "does not support 0.7 with this model")),
    ({"top_p": 0.5}, (400, "top_p", "unsupported_parameter", "'top_p' is not supported")),
    ({"logprobs": True}, (400, "logprobs", "unsupported_parameter", "'logprobs' is not supported")),
    ({"stop": ["x"]}, (400, "stop", "unsupported_parameter", "'stop' is not supported with this model")),
    ({"presence_penalty": 0}, (400, "presence_penalty", "unsupported_parameter", "not supported")),
    ({"logit_bias": {"1": 1}}, (400, "logit_bias", "unsupported_parameter", "not supported")),
    ({"reasoning_effort": "minimal"}, (400, "reasoning_effort", "unsupported_value", "Supported values are: 'none', 'low', 'medium', 'high', 'xhigh', and 'max'.")),
    ({"reasoning_effort": "none", "model": "gpt-6-astra"}, (400, "reasoning_effort", "unsupported_value", "does not support 'none'")),
    ({"reasoning_effort": "low", **OLD}, (400, None, None, "Unrecognized request argument supplied: reasoning_effort")),
    ({"tools": [TOOL]}, (400, "reasoning_effort", None, "Function tools with reasoning_effort are not supported for gpt-6-luna in /v1/chat/completions. To use function tools, use /v1/responses or set reasoning_effort to 'none'.")),
    ({"tools": [TOOL], "model": "gpt-5.4", "reasoning_effort": "low"}, (400, "reasoning_effort", None, "not supported for gpt-5.4 in")),
    ({"stream_options": {"include_usage": True}}, (400, "stream_options", None, "only allowed when 'stream' is enabled")),
    ({"top_logprobs": 2, **OLD}, (400, "top_logprobs", None, "only allowed when 'logprobs' is enabled")),
    ({"tool_choice": "auto", **OLD}, (400, "tool_choice", "invalid_value", "only allowed when 'tools' are specified")),
    ({"parallel_tool_calls": True, **OLD}, (400, "parallel_tool_calls", "invalid_value", "only allowed when 'tools'")),
    ({"parallel_tool_calls": None, "tools": [TOOL], **OLD}, (400, "parallel_tool_calls", "invalid_type", "expected a boolean")),
    ({"tools": [], **OLD}, (400, "tools", "empty_array", "Invalid 'tools': empty array")),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}], **OLD}, (400, "tools[0].function.name", "invalid_value", "'^[a-zA-Z0-9_-]+$'")),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}], **OLD}, (400, "tools[0].function.parameters", "invalid_function_parameters", "Invalid schema for function 'f'")),
    ({"tools": [TOOL], "tool_choice": "must", **OLD}, (400, "tool_choice", "invalid_value", "'none', 'auto', and 'required'")),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}, **OLD}, (400, "tool_choice", "invalid_value", "'g' not found")),
    ({"response_format": strict({"type": "object", "properties": {}})}, (400, "response_format", None, "'additionalProperties' is required to be supplied and to be false")),
    ({"response_format": strict(CLOSED)}, (400, "response_format", None, "Missing 'a'")),
    ({"response_format": {"type": "json_object"}}, (400, "messages", None, "must contain the word 'json'")),
    ({"stop": list("abcde"), **OLD}, (400, "stop", "array_above_max_length", "maximum length 4")),
    ({"max_tokens": 50_000, **OLD}, (400, "max_tokens", "invalid_value", "supports at most 32768 completion tokens")),
    ({"messages": [USER, {"role": "tool", "tool_call_id": "call_1", "content": "x"}]}, (400, "messages.[1].role", None, "must be a response to a preceeding message with 'tool_calls'")),
    ({"messages": [USER, CALLED, USER]}, (400, "messages", None, "did not have response messages: call_1")),
    ({"messages": [USER, CALLED]}, (400, "messages", None, "did not have response messages: call_1")),
    ({"messages": [USER, {"role": "assistant"}]}, (400, "messages.[1].content", None, "expected a string, got null")),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,?"}}]}]}, (400, "messages[0].content[0].image_url.url", "invalid_value", "base64-encoded data URL")),
    ({"messages": [{"role": "user", "content": "x" * 1_200_000}]}, (400, "messages", "context_length_exceeded", "exceed the configured limit of 272000 tokens")),
    ({"metadata": {"k" * 65: "v"}}, (400, "metadata", "invalid_value", "metadata")),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": []}}}], **OLD}, (400, "tools[0].function.parameters", "invalid_function_parameters", "not valid at 'properties'")),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "expected"), CASES, ids=lambda value: str(value)[:60])
async def test_refused(ask, fields, expected):
    status, _, body = await ask("openai", body={"model": "gpt-6-luna", "messages": [USER], **fields})
    error = json.loads(body)["error"]
    assert (status, error["param"], error["code"]) == expected[:3]
    assert error["type"] == "invalid_request_error"
    assert expected[3] in error["message"]


ACCEPTED = [
    {"tools": [TOOL], "reasoning_effort": "none"},
    {"tools": [TOOL], "model": "gpt-5.4"},
    {"tools": [TOOL], "model": "gpt-5"},
    {"tools": [{"type": "custom", "custom": {"name": "c"}}]},
    {"temperature": 1, "model": "gpt-6-sol"},
    {"temperature": 0.2, "top_p": 0.5, "reasoning_effort": "none"},
    {"model": "gpt-5.5-2026-04-23"},
    {"messages": [USER, CALLED, {"role": "tool", "tool_call_id": "call_1", "content": "x"}, USER]},
    {"functions": [{"name": "f"}], "function_call": "auto", **OLD},
    {"messages": [{"role": "user", "content": "as json"}], "response_format": {"type": "json_object"}},
    {"prediction": None, "stop": None, "seed": 7, "user": "u", "store": False, "prompt_cache_key": "k"},
]


@pytest.mark.parametrize("fields", ACCEPTED, ids=lambda value: str(value)[:60])
async def test_accepted(ask, fields):
    status, _, body = await ask("openai", body={"model": "gpt-6-luna", "messages": [USER], **fields})
    assert status == 200, body


HEADERS = [
    ({"authorization": None}, (401, "invalid_request_error", None, "You didn't provide an API key")),
    ({"authorization": "Basic x"}, (401, "invalid_request_error", None, "You didn't provide an API key")),
    ({"authorization": "Bearer sim-wrong"}, (401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided: sim******ng.")),
    ({"authorization": "Bearer sim-noquota"}, (429, "insufficient_quota", "insufficient_quota", "exceeded your current quota")),
    ({"content-type": None}, (400, "invalid_request_error", "unsupported_content_type", "only accepts 'application/json'")),
]  # fmt: skip


@pytest.mark.parametrize(("headers", "expected"), HEADERS)
async def test_headers(ask, headers, expected):
    status, _, body = await ask("openai", headers=headers)
    error = json.loads(body)["error"]
    assert (status, error["type"], error["code"]) == expected[:3]
    assert expected[3] in error["message"]


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"\xff", b"", b"[" * 100_000])
async def test_bodies_that_are_no_object(ask, body):
    status, _, answer = await ask("openai", body=body)
    assert status == 400
    assert json.loads(answer)["error"]["type"] == "invalid_request_error"


async def test_missing_model_and_unknown_path(ask):
    _, _, body = await ask("openai", body={"messages": [USER]})
    assert json.loads(body)["error"]["message"] == "you must provide a model parameter"
    status, _, body = await ask("openai", path="/openai/v1/edits")
    assert (status, json.loads(body)["error"]["code"]) == (404, "unknown_url")


async def test_error_before_the_first_byte_of_a_stream_is_plain_json(ask):
    status, headers, _ = await ask("openai", stream=True, body={"model": "nope", "messages": [USER]})
    assert (status, headers["content-type"]) == (404, "application/json")
