# ruff: noqa: E501  (tables: one case a line)
"""What the Qwen stand-in refuses and takes, on which path a model lives, and who may come."""

from __future__ import annotations

import json
import random

import pytest

from gateway.simulator.brain import answer
from gateway.simulator.qwen import PATHS, Qwen
from gateway.simulator.qwen_models import MODELS
from gateway.simulator.qwen_rules import URL_ERROR
from gateway.simulator.wire import Rejected, Request

from .test_robust import mutated

HEADERS = {"authorization": "Bearer sim-qwen-key", "content-type": "application/json"}
STREAM = {**HEADERS, "x-dashscope-sse": "enable"}
TEXT, MULTI = PATHS
USER = {"role": "user", "content": "Hi"}
LISTED = {"role": "user", "content": [{"text": "Hi"}]}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLED = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "x"}
TOOL = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}},
}
NAMED = {"type": "function", "function": {"name": "f"}}
MESSAGE = {"result_format": "message"}
THINK = {"enable_thinking": True, "incremental_output": True}
PNG = "data:image/png;base64,aGVsbG8="
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}


def body(model="qwen-plus", messages=(USER,), **parameters):
    return {"model": model, "input": {"messages": list(messages)}, "parameters": parameters}


def multi(*messages, model="qwen3.7-plus", **parameters):
    return body(model, messages or (LISTED,), **parameters)


def say(*parts):
    return {"role": "user", "content": list(parts)}


def handle(value, *, path=None, headers=HEADERS, method="POST", stand_in=None, query=None):
    if path is None:
        family = MODELS.get(value["model"]) if isinstance(value, dict) else None
        path = MULTI if family and family.path == "multimodal-generation" else TEXT
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return (stand_in or Qwen()).handle(Request(method, path, query or {}, headers, data))


def refused(value, **how) -> Rejected:
    with pytest.raises(Rejected) as caught:
        handle(value, **how)
    return caught.value


# the whole body → part of the message; every one is 400 InvalidParameter
REFUSED = [
    (b"{", "Required body invalid"),
    ({"model": "qwen-plus", "parameters": {}}, "Required parameter(input)"),
    ({"model": "qwen-plus", "input": {}}, "Required parameter(input.messages)"),
    ({"model": "qwen-plus", "input": {"messages": [USER], "prompt": "Hi"}}, "not permitted: input.prompt"),
    ({**body(), "stream": True}, "not permitted: stream"),
    (body(messages=[]), "[] is too short - 'messages'"),
    # roles and order
    (body(messages=[{"role": "developer", "content": "x"}]), "'developer' is not one of ['system', 'assistant', 'user', 'tool'] - 'input.messages.0.role'"),
    (body(messages=[USER, RESULT]), "must be a response to a preceeding message"),
    (body(messages=[USER, CALLED, {**RESULT, "tool_call_id": "call_2"}]), "must be a response to a preceeding message"),
    (body(messages=[USER, CALLED, RESULT, RESULT]), "must be a response to a preceeding message"),
    (body(messages=[USER, CALLED, USER]), "did not have response messages: message[2].role"),
    (body(messages=[USER, CALLED]), "did not have response messages: message[2].role"),
    (body(messages=[USER, {**CALLED, "content": None}, RESULT]), "got null: input.messages.1.content"),
    (body(messages=[USER, {**CALLED, "tool_calls": [{**CALL, "function": {"name": "f", "arguments": ""}}]}, RESULT]), "must be in JSON format"),
    (body(messages=[USER, {**CALLED, "tool_calls": [{**CALL, "function": {"name": "f", "arguments": '{"a": '}}]}, RESULT]), "must be in JSON format"),
    (body(messages=[USER, {**CALLED, "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "3"}}]}, RESULT]), "must be in JSON format"),
    (body(messages=[{"role": "assistant", "content": "a", "partial": True}, USER]), "partial is only supported in the last message"),
    # content
    (body(messages=[LISTED]), "An error during model pre-process"),
    (body(messages=[{"role": "system", "content": [{"text": "x"}]}, USER]), "An error during model pre-process"),
    (body(messages=[{"role": "user", "content": ""}]), "Content length must be greater than 0"),
    (multi(USER), "valid list: input.messages.0.content"),
    (multi(say({"type": "text", "text": "x"})), "not permitted: input.messages.0.content.0.type"),
    (multi(say({"image_url": "x"})), "not permitted"),
    (multi(say({"text": "x", "image": PNG})), "exactly one of text, image, audio, video"),
    (multi(say({"cache_control": {"type": "ephemeral"}})), "exactly one of"),
    (multi(say({"text": "x", "cache_control": {"type": "persistent"}})), "['ephemeral']"),
    (multi(say({"text": "x", "min_pixels": 3})), "not permitted: input.messages.0.content.0.min_pixels"),
    (multi(say({"image": PNG, "total_pixels": 2})), "not permitted: input.messages.0.content.0.total_pixels"),
    (multi(say({"image": PNG, "fps": 2})), "not permitted: input.messages.0.content.0.fps"),
    (multi({"role": "system", "content": [{"image": PNG}]}, LISTED), "does not support image in this message"),
    (multi(say({"audio": "https://x/a.wav"})), "does not support audio"),
    (multi(say({"image": PNG}), model="qwen-sim-moved"), "does not support image"),
    (multi(say({"image": "aGVsbG8="})), "does not appear to be valid"),
    (multi(say({"image": "data:image/png;base64,!"})), "does not appear to be valid"),
    (multi(say({"image": "data:audio/wav;base64,aGVsbG8="})), "does not appear to be valid"),
    (multi(say({"video": ["https://x/1.png", "file:///x"]})), "does not appear to be valid"),
    (multi(say({"image": "oss://x/y.png"})), "X-DashScope-OssResourceResolve"),
    # ranges
    (body(temperature=2), "Range of temperature should be [0.0, 2.0)"),
    (body(temperature=-0.1), "temperature"),
    (body(temperature="hot"), "valid float, got str: parameters.temperature"),
    (body(top_p=0), "Range of top_p should be (0.0, 1.0]"),
    (body(top_p=1.01), "top_p"),
    (body(seed=2**31), "Range of seed should be [0, 2147483647]"),
    (body(seed=-1), "seed"),
    (body(n=0), "Range of n should be [1, 4]"),
    (body(n=5, **MESSAGE), "n should be [1, 4]"),
    (body(logprobs=True, top_logprobs=6), "Range of top_logprobs should be [0, 5]"),
    (body(presence_penalty=2.1), "presence_penalty"),
    (body(repetition_penalty=0), "repetition_penalty"),
    (body(max_tokens=0), "Range of max_tokens should be [1, 32768]"),
    (body(max_tokens=40_000), "max_tokens"),
    (body(max_completion_tokens=5), "does not support max_completion_tokens"),
    (body(model="qwen-turbo", messages=[{"role": "user", "content": "x" * 600_000}]), "Range of input length should be [1, 129024]"),
    # parameters that the documents lack
    *((body(**{name: 1}), f"not permitted: parameters.{name}") for name in ("frequency_penalty", "logit_bias", "user", "stream", "metadata", "max_output_tokens")),
    # tools
    (body(tools=[TOOL]), 'result_format parameter must be "message"'),
    (multi(tools=[TOOL], result_format="text"), 'result_format parameter must be "message"'),
    (body(tools=[{"type": "custom", "custom": {"name": "f"}}], **MESSAGE), "'custom' is not one of ['function'] - 'parameters.tools.0.type'"),
    (body(tools=[{"type": "function", "function": {"name": "a b"}}], **MESSAGE), "tools.0.function.name"),
    (body(tools=[{"type": "function", "function": {"name": "f", "parameters": {"properties": []}}}], **MESSAGE), "The schema is not valid"),
    (body(tools=[TOOL], tool_choice="required", **MESSAGE), "tool_choice is one of the strings that should be ['none', 'auto']"),
    (body(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "g"}}, **MESSAGE), "is not in tools"),
    (body(tools=[TOOL], tool_choice={"type": "custom"}, **MESSAGE), "'custom' is not one of ['function']"),
    (multi(tools=[TOOL], tool_choice=NAMED), "does not support being set to required or object in thinking mode"),
    (multi(tools=[TOOL], tool_choice="required"), "in thinking mode"),
    # thinking
    (body(enable_thinking=True), "parameter.enable_thinking must be set to false for non-streaming calls"),
    (multi(model="qwen3.5-plus"), "must be set to false for non-streaming calls"),
    (body(model="qwen3-235b-a22b-thinking-2507"), "must be set to false for non-streaming calls"),
    (body(model="qwen3-235b-a22b-thinking-2507", enable_thinking=False), "restricted to True"),
    (body(model="qwq-plus"), "only support stream mode"),
    (multi(model="qwen3.8-omni-flash"), "only support stream mode"),
    (body(thinking_budget=0), "must be a positive integer and not greater than 81920"),
    (body(thinking_budget=100_000), "not greater than 81920"),
    (body(model="qwen-max", thinking_budget=10), "not greater than 0"),
    (body(reasoning_effort="high"), "does not support reasoning_effort"),
    (multi(model="qwen3.8-max", reasoning_effort="max"), "'max' is not one of ['low', 'medium', 'high', 'xhigh']"),
    (multi(LISTED, {"role": "assistant", "content": [{"text": "a"}], "partial": True}), "partial is not supported when enable_thinking is true"),
    # several choices
    (body(n=2, tools=[TOOL], **MESSAGE), "n must be 1 when tools are given"),
    (multi(n=2), "n must be 1 when enable_thinking is true"),
    (body(n=2), 'must be "message" when n is greater than 1'),
    # formats
    (body(response_format={"type": "json_object"}), "must contain the word 'json'"),
    (body(response_format=SCHEMA), "must contain the word 'json'"),
    (body(messages=[{"role": "user", "content": "JSON"}], response_format={"type": "json_schema"}), "Required parameter(parameters.response_format.json_schema)"),
    (body(messages=[{"role": "user", "content": "JSON"}], response_format={**SCHEMA, "json_schema": {"name": "x", "schema": {"properties": 3}}}), "The schema is not valid"),
    (body(response_format={"type": "xml"}), "'xml' is not one of ['text', 'json_object', 'json_schema']"),
    (multi(say({"text": "JSON"}), response_format={"type": "json_object"}), "not supported when enable_thinking is true"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "words"), REFUSED, ids=lambda value: str(value)[:70])
def test_refused(value, words):
    problem = refused(value)
    assert (problem.status, problem.code) == (400, "InvalidParameter")
    assert words in problem.message
    made = json.loads(Qwen().error(problem).body)
    assert list(made) == ["code", "message", "request_id"]
    assert made["message"] == problem.message


@pytest.mark.parametrize("model", ["qwen-turbo", "qwen-max", "qwen3-coder-plus"])
@pytest.mark.parametrize("value", [True, False])
def test_models_without_thinking_refuse_both_values(model, value):
    problem = refused(body(model, enable_thinking=value))
    assert (problem.status, problem.code) == (400, "InvalidParameter.NotSupportEnableThinking")


@pytest.mark.parametrize("model", ["qwen-plus", "qwen3-vl-plus", "qwen3.5-plus"])
def test_older_models_think_in_increments_only(model):
    made = multi if MODELS[model].path == "multimodal-generation" else body
    with pytest.raises(Rejected, match='incremental_output parameter must be "true"'):
        handle(made(model=model, enable_thinking=True), headers=STREAM)
    assert handle(made(model=model, **THINK), headers=STREAM).ask.reasoning


TAKEN = [
    body(),
    {"model": "qwen-plus", "input": {"messages": [USER]}},
    body(messages=[{"role": "system", "content": "x"}, USER, CALLED, {**RESULT, "name": "f", "content": ""}]),
    body(messages=[USER, {**CALLED, "reasoning_content": "x", "tool_calls": [{**CALL, "index": 0}]}, RESULT]),
    body(messages=[USER, {"role": "assistant", "content": "```", "partial": True}]),
    body(temperature=0, top_p=1, top_k=5, seed=2**31 - 1, repetition_penalty=1.1, presence_penalty=-2),
    body(temperature=1.99, stop=["x", 3, [4, 5]], max_tokens=32_768, enable_search=True, search_options={}),
    body(tools=[TOOL], tool_choice=NAMED, parallel_tool_calls=True, tool_stream=True, **MESSAGE),
    body(tools=[TOOL], tool_choice="none", enable_thinking=False, **MESSAGE),
    body(n=4, logprobs=True, top_logprobs=5, **MESSAGE),
    body("qwen3-max", n=2),
    body("deepseek-v4-pro", enable_thinking=True, reasoning_effort="high", thinking_budget=9, max_completion_tokens=50),
    body(messages=[{"role": "user", "content": "as json"}], response_format=SCHEMA),
    body(response_format={"type": "text"}),
    multi(),
    multi(say({"text": "x", "cache_control": {"type": "ephemeral"}}, {"image": PNG, "min_pixels": 3, "max_pixels": 9})),
    multi(say({"video": ["https://x/1.png", PNG], "fps": 2}), vl_high_resolution_images=True),
    multi(LISTED, {**CALLED, "content": []}, {**RESULT, "content": [{"text": "x"}]}, preserve_thinking=True),
    multi(LISTED, CALLED, RESULT, tools=[TOOL]),
    multi(model="qwen3.8-max", reasoning_effort="xhigh", enable_code_interpreter=True),
    multi(tools=[TOOL], tool_choice=NAMED, enable_thinking=False, n=1),
]  # fmt: skip


@pytest.mark.parametrize("value", TAKEN, ids=lambda value: str(value)[:70])
def test_taken(value):
    made = handle(value)
    for stream in (False, True):
        assert made.render(answer(made.ask), stream).status == 200


# --- paths and accounts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_a_model_lives_on_one_path(model):
    """Also those whose name says otherwise, and the one that lives nowhere."""
    open_at = []
    for path, message in ((TEXT, USER), (MULTI, LISTED)):
        try:
            handle(body(model, [message], incremental_output=True), path=path, headers=STREAM)
            open_at.append(path)
        except Rejected as problem:
            assert (problem.status, problem.code, problem.message) == (400, "InvalidParameter", URL_ERROR)
    assert open_at == [path for path, name in PATHS.items() if name == MODELS[model].path]


def test_the_moved_models_are_where_no_name_says():
    assert MODELS["qwen-sim-moved"].path == "multimodal-generation"
    assert MODELS["qwen4-sim-moved"].path == "text-generation"
    assert MODELS["qwen-sim-nowhere"].path == ""


def test_unknown_models_and_paths():
    problem = refused(body("gpt-6-luna"))
    assert (problem.status, problem.code) == (404, "ModelNotFound")
    assert "gpt-6-luna" in problem.message
    assert refused(body(), path="/v1/chat/completions").status == 404
    assert refused(body(), method="GET").status == 404
    assert refused(body(), path="/api/v1/models").status == 404
    assert Qwen().operation("POST", TEXT) == Qwen().operation("POST", MULTI) == "generate"
    assert Qwen().operation("GET", "/api/v1/models") == "models"


async def test_keys(ask):
    for headers, message in (
        ({"authorization": "Bearer sim-wrong"}, "Invalid API-key provided."),
        ({"authorization": None}, "No API-key provided."),
        ({"authorization": "Basic c2lt"}, "No API-key provided."),
    ):
        status, _, data = await ask("qwen", headers=headers)
        made = json.loads(data)
        assert (status, made["code"], made["message"]) == (401, "InvalidApiKey", message)
    status, _, data = await ask("qwen", headers={"authorization": "Bearer sim-noquota"})
    assert (status, json.loads(data)["code"]) == (400, "Arrearage")


async def test_a_refused_stream_is_refused_in_an_event(ask):
    status, headers, data = await ask("qwen", stream=True, body=body(temperature=3))
    assert (status, headers["content-type"]) == (400, "text/event-stream;charset=UTF-8")
    start, end = (
        b'id:1\nevent:error\n:HTTP_STATUS/400\ndata:{"code":"InvalidParameter","message":"',
        b'"}\n\n',
    )
    assert data.startswith(start)
    assert data.endswith(end)
    assert headers["x-request-id"].encode() in data
    assert (await ask("qwen", stream=True, headers={"authorization": "Bearer sim-wrong"}))[2].startswith(b"{")


def test_oss_addresses_need_their_header():
    value = multi(say({"image": "oss://x/y.png"}))
    assert handle(value, headers={**HEADERS, "x-dashscope-ossresourceresolve": "enable"}).ask.media


def test_mutations_are_answered_or_refused():
    luck, stand_in, answered = random.Random("qwen"), Qwen(), 0
    known = [value for value in (*TAKEN, *(case[0] for case in REFUSED)) if isinstance(value, dict)]
    known = [value for value in known if len(json.dumps(value)) < 20_000]
    for _ in range(1500):
        value = luck.choice(known)
        path = MULTI if MODELS[value["model"]].path == "multimodal-generation" else TEXT
        try:
            made = handle(
                mutated(value, luck), path=path, headers=luck.choice((HEADERS, STREAM)), stand_in=stand_in
            )
            for stream in (False, True):
                made.render(answer(made.ask), stream)
            answered += 1
        except Rejected as problem:
            reply = stand_in.error(problem)
            assert json.loads(reply.body.rpartition(b"data:")[2])["message"]
    assert answered > 20
