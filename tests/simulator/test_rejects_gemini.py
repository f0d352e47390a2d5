# ruff: noqa: E501  (tables: one case a line)
"""What the Gemini stand-in refuses: status, status name and wording."""

from __future__ import annotations

import base64
import json

import pytest

USER = {"role": "user", "parts": [{"text": "Hi"}]}
MODEL = {"role": "model", "parts": [{"text": "Hello"}]}
SIGNED = base64.b64encode(b"sim-gemini|m|1").decode()
SENTINEL = "skip_thought_signature_validator"


def call(name="f", signature=SIGNED):
    part = {"functionCall": {"name": name, "args": {}}}
    return {**part, "thoughtSignature": signature} if signature else part


def response(name="f", **more):
    return {"functionResponse": {"name": name, "response": {"output": "x"}, **more}}


def turn(role, *parts):
    return {"role": role, "parts": list(parts)}


def contents(*given, **fields):
    return {"contents": list(given), **fields}


def config(**fields):
    return {"generationConfig": fields}


def declare(*declarations, **fields):
    return {"tools": [{"functionDeclarations": list(declarations)}], **fields}


def parameters(**schema):
    return declare({"name": "f", "parameters": schema})


def calling(**fields):
    return {"toolConfig": {"functionCallingConfig": fields}}


F = {"name": "f"}
ARRAY = {"type": "OBJECT", "properties": {"a": {"type": "ARRAY"}}}
ALL = "gemini-3.8-flash"
COUNT = (
    "Please ensure that the number of function response parts is equal to the number of function call parts"
)

# (model, fields over {"contents": [USER]}, part of the message)
CASES = [
    (ALL, {"foo": 1}, 'Unknown name "foo": Cannot find field.'),
    (ALL, config(foo=1), "Unknown name \"foo\" at 'generation_config': Cannot find field."),
    (ALL, contents(turn("user", {"text": "x", "foo": 1})), "Unknown name \"foo\" at 'contents[0].parts[0]'"),
    (ALL, config(temperature="hot"), "Invalid value at 'generation_config.temperature' (TYPE_FLOAT), \"hot\""),
    (ALL, contents(), "contents is not specified"),
    (ALL, contents(turn("user")), "contents[0].parts: contents.parts must not be empty"),
    (ALL, contents(turn("user", {})), "required oneof field 'data' must have one initialized field"),
    (ALL, contents(turn("user", {"text": "x", "inlineData": {}})), "oneof field 'data' is already set"),
    (ALL, contents(turn("assistant", {"text": "x"})), "Please use a valid role: user, model."),
    (ALL, contents(turn("user", {"inlineData": {"mimeType": "image/png", "data": "?"}})), "Base64 decoding failed"),
    (ALL, contents(turn("user", {"inlineData": {"data": "AAAA"}})), "must have a mimeType"),
    # order
    (ALL, contents(MODEL, USER), "first content has the role user"),
    (ALL, contents(USER, MODEL, turn("model", call())), "function call turn comes immediately after a user turn"),
    (ALL, contents(USER, turn("user", response())), "function response turn comes immediately after a function call turn"),
    (ALL, contents(USER, turn("model", call()), USER), COUNT),
    (ALL, contents(USER, turn("model", call())), COUNT),
    (ALL, contents(USER, turn("model", call(), call("g", None)), turn("user", response())), COUNT),
    (ALL, contents(USER, turn("model", call(), call("g", None)), turn("user", response("g"), response())), COUNT),
    (ALL, contents(USER, turn("model", call()), turn("user", response(), {"text": "x"})), COUNT),
    ("gemini-4-carbon", contents(USER, MODEL), "does not continue a model turn"),
    # signatures
    (ALL, contents(USER, turn("model", call(signature=None)), turn("user", response())), "Function call is missing a thought_signature in functionCall parts. This is required"),
    (ALL, contents(USER, turn("model", call(signature="U0lH")), turn("user", response())), "Corrupted thought signature."),
    (ALL, contents(USER, turn("model", call(signature="?")), turn("user", response())), "Base64 decoding failed"),
    ("gemini-2.5-flash", contents(USER, turn("model", call(signature="U0lH")), turn("user", response())), "Corrupted thought signature."),
    # responses
    ("gemini-2.5-flash", contents(USER, turn("model", call()), turn("user", response(parts=[{}]))), "`function_response.parts` is not supported for this model"),
    (ALL, contents(USER, turn("model", call()), turn("user", response(response={"a": {"$ref": "x"}}))), "$ref"),
    # generationConfig
    (ALL, config(temperature=2.5), "must be in the range [0, 2]"),
    (ALL, config(seed=2**40), "seed must be in the range"),
    (ALL, config(maxOutputTokens=70_000), "maxOutputTokens value of 70000 but the supported range is from 1 (inclusive) to 65537 (exclusive)"),
    (ALL, config(stopSequences=list("abcdef")), "at most 5"),
    (ALL, config(stopSequences=[""]), "must not be empty"),
    ("gemini-2.5-flash", config(presencePenalty=0), "Penalty is not enabled for models/gemini-2.5-flash"),
    (ALL, config(candidateCount=2), "Multiple candidates is not enabled"),
    (ALL, config(responseLogprobs=True), "Logprobs is not enabled for models/gemini-3.8-flash"),
    ("gemini-2.5-flash-image", {"systemInstruction": USER}, "Developer instruction is not enabled for models/gemini-2.5-flash-image"),
    # thinking
    ("gemini-2.0-flash", config(thinkingConfig={}), "Thinking is not enabled for this model"),
    (ALL, config(thinkingConfig={"thinkingLevel": "LOW", "thinkingBudget": 1}), "only one of thinking budget and thinking level"),
    (ALL, config(thinkingConfig={"thinkingLevel": "MINIMAL"}), "Thinking level MINIMAL is not supported for this model"),
    (ALL, config(thinkingConfig={"thinkingLevel": "XHIGH"}), "Thinking level XHIGH is not supported"),
    ("gemini-2.5-pro", config(thinkingConfig={"thinkingLevel": "LOW"}), "Thinking level is not supported for this model"),
    ("gemini-2.5-pro", config(thinkingConfig={"thinkingBudget": 0}), "Budget 0 is invalid. This model only works in thinking mode."),
    ("gemini-2.5-flash-lite", config(thinkingConfig={"thinkingBudget": 100}), "choose a value between 512 and 24576"),
    ("gemini-4-argon", config(thinkingConfig={"thinkingBudget": 100}), "Thinking budget is not supported for this model"),
    # answer format
    (ALL, config(responseSchema={}, responseJsonSchema={}), "Only one of response_schema and response_json_schema"),
    (ALL, config(responseJsonSchema={"type": "object"}), "requires response_mime_type"),
    (ALL, config(responseMimeType="text/html"), "allowed mimetypes are"),
    ("gemini-2.5-flash", declare(F, **config(responseMimeType="application/json")), "Function calling with a response mime type: 'application/json' is unsupported"),
    # tools
    (ALL, declare({"name": "1f"}), "Invalid function name. Must start with a letter or an underscore"),
    (ALL, declare(F, F), "Duplicate function declaration found: f"),
    (ALL, declare({**F, "parameters": ARRAY, "parametersJsonSchema": {}}), "only one of parameters and parameters_json_schema"),
    (ALL, parameters(type="object", properties={"a": {"type": "string"}}, additionalProperties=False), "Unknown name \"additionalProperties\" at 'tools[0].function_declarations[0].parameters'"),
    (ALL, parameters(type="OBJECT", properties={"a": {"$ref": "#/x"}}), 'Unknown name "$ref"'),
    (ALL, parameters(type="OBJECT", properties={}), "should be non-empty for OBJECT type"),
    (ALL, parameters(type="OBJECT", properties={"a": {"type": ["string", "null"]}}), "Invalid value at"),
    (ALL, parameters(**ARRAY), "items: missing field"),
    (ALL, parameters(type="OBJECT", properties={"a": {"type": "INTEGER", "enum": ["1"]}}), "enum: only allowed for STRING type"),
    (ALL, declare({**F, "parametersJsonSchema": {"$ref": "#/$defs/a", "description": "x"}}), "may only have siblings that start with $"),
    (ALL, calling(mode="AUTO"), "Function calling config is set without function_declarations"),
    (ALL, declare(F, **calling(mode="AUTO", allowedFunctionNames=["f"])), "only when function calling mode is ANY"),
    (ALL, declare(F, **calling(mode="ANY", allowedFunctionNames=["g"])), "`g`, which is not a declared function"),
    (ALL, declare(F, **calling(mode="any")), "Invalid value at 'tool_config.function_calling_config.mode'"),
    (ALL, {"tools": [{"functionDeclarations": [F]}, {"googleSearch": {}}]}, "include_server_side_tool_invocations"),
    ("gemini-2.5-flash", {"toolConfig": {"includeServerSideToolInvocations": True}}, "Tool call context circulation is not enabled"),
    (ALL, declare(F, cachedContent="cachedContents/1"), "CachedContent can not be used with"),
    ("gemini-4-carbon", {"cachedContent": "cachedContents/1"}, "CachedContent is not supported"),
    (ALL, contents(turn("user", {"text": "x" * 4_300_000})), "The input token count (1075000) exceeds the maximum number of tokens allowed (1048576)."),
    (ALL, parameters(type="OBJECT", properties=[]), "Invalid value at 'tools[0].function_declarations[0].parameters.properties' (message)"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "fields", "expected"), CASES, ids=lambda value: str(value)[:60])
async def test_refused(ask, model, fields, expected):
    path = f"/gemini/v1beta/models/{model}:generateContent"
    status, _, answer = await ask("gemini", path=path, body={"contents": [USER], **fields})
    error = json.loads(answer)["error"]
    assert expected in error["message"]
    assert (status, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")


ACCEPTED = [
    (ALL, contents(USER, USER, MODEL, USER)),
    (ALL, contents(USER, MODEL)),
    (ALL, contents(USER, turn("model", call(signature=SENTINEL)), turn("user", response()))),
    (ALL, contents(USER, turn("model", call(signature=base64.b64encode(SENTINEL.encode()).decode())), turn("user", response()))),
    (ALL, contents(USER, turn("model", call(signature=None)), turn("user", response()), MODEL, USER)),
    (ALL, contents(USER, turn("model", call(), call("g", None)), turn("user", response(), response("g")), USER)),
    ("gemini-2.5-flash", contents(USER, turn("model", call(signature=None)), turn("user", response()))),
    ("gemini-2.5-flash", config(thinkingConfig={"thinkingBudget": 0, "includeThoughts": True}, candidateCount=2)),
    (ALL, config(thinkingConfig={"thinkingBudget": 100})),
    ("gemini-4-neon", config(thinkingConfig={"thinkingLevel": "XHIGH"}, maxOutputTokens=200_000)),
    (ALL, declare({**F, "parametersJsonSchema": {"type": "object", "additionalProperties": False}}, **calling(mode="VALIDATED"))),
    (ALL, parameters(type="OBJECT", properties={"a": {"type": "STRING", "nullable": True}}, required=["a"])),
    (ALL, {"system_instruction": {"parts": [{"text": "x"}]}, "generation_config": {"max_output_tokens": 5}}),
    (ALL, {"tools": [{"functionDeclarations": [F]}, {"googleSearch": {}}], "toolConfig": {"includeServerSideToolInvocations": True}}),
    (ALL, {"safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}], "serviceTier": "flex"}),
]  # fmt: skip


@pytest.mark.parametrize(("model", "fields"), ACCEPTED, ids=lambda value: str(value)[:60])
async def test_accepted(ask, model, fields):
    path = f"/gemini/v1beta/models/{model}:generateContent"
    status, _, answer = await ask("gemini", path=path, body={"contents": [USER], **fields})
    assert status == 200, answer


HEADERS = [
    ({"x-goog-api-key": None}, (403, "PERMISSION_DENIED", "unregistered callers")),
    ({"x-goog-api-key": None, "authorization": "Bearer sim-key"}, (401, "UNAUTHENTICATED", "invalid authentication credentials")),
    ({"x-goog-api-key": "sim-wrong"}, (400, "INVALID_ARGUMENT", "API key not valid")),
    ({"x-goog-api-key": "sim-noquota"}, (429, "RESOURCE_EXHAUSTED", "exceeded your current quota")),
    ({"content-type": None}, (400, "INVALID_ARGUMENT", "content type")),
]  # fmt: skip


@pytest.mark.parametrize(("headers", "expected"), HEADERS)
async def test_headers(ask, headers, expected):
    status, _, body = await ask("gemini", headers=headers)
    error = json.loads(body)["error"]
    assert (status, error["status"]) == expected[:2]
    assert expected[2] in error["message"]
    if "wrong" in str(headers):
        assert error["details"][0]["reason"] == "API_KEY_INVALID"


async def test_key_in_the_url_is_refused_without_an_echo(ask):
    path = f"/gemini/v1beta/models/{ALL}:generateContent?key=sim-secret"
    status, _, body = await ask("gemini", path=path, headers={"x-goog-api-key": None})
    assert status == 400
    assert b"sim-secret" not in body


@pytest.mark.parametrize(
    "path",
    ["v1beta/models/nope:generateContent", "v1/models/gemini-flash-latest:generateContent", "v1beta/tunedModels/x:generateContent"],
)  # fmt: skip
async def test_unknown_models(ask, path):
    status, _, body = await ask("gemini", path=f"/gemini/{path}")
    assert (status, json.loads(body)["error"]["status"]) == (404, "NOT_FOUND")
    assert "Call ListModels" in json.loads(body)["error"]["message"]


async def test_unknown_paths_and_the_array_form_of_an_error(ask):
    status, _, body = await ask("gemini", path="/gemini/v1beta/models/x:embedContent")
    assert (status, json.loads(body)["error"]["status"]) == (404, "NOT_FOUND")
    status, _, body = await ask("gemini", path=f"/gemini/v1beta/models/{ALL}:streamGenerateContent", body={})
    assert (status, json.loads(body)[0]["error"]["code"]) == (400, 400)
