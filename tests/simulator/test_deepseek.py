# ruff: noqa: E501  (tables: one case a line)
"""The DeepSeek stand-in: what it refuses, how it answers, and that OpenAI's SDK reads it."""

from __future__ import annotations

import json
import random

import openai
import pytest

from gateway.simulator import Fault, ToolCall, Turn
from gateway.simulator.brain import answer
from gateway.simulator.deepseek import DeepSeek
from gateway.simulator.script import Usage
from gateway.simulator.wire import Rejected, Request

from .test_robust import mutated

USER = {"role": "user", "content": "Hi"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
THOUGHT = {**CALLED, "reasoning_content": " "}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "x"}
TOOL = {"type": "function", "function": {"name": "f"}}
CLOSED = {"type": "object", "properties": {}, "additionalProperties": False, "required": []}
OPEN = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
STRICT = {"type": "function", "function": {"name": "f", "strict": True, "parameters": CLOSED}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}}
OFF = {"thinking": {"type": "disabled"}}
PRO = {"model": "deepseek-v4-pro"}
PREFIX = {"role": "assistant", "content": "```", "prefix": True}
HEADERS = {"authorization": "Bearer sim-key", "content-type": "application/json"}
BETA = "/beta/chat/completions"


def handle(stand_in: DeepSeek, fields, path="/chat/completions", method="POST", headers=HEADERS):
    body = (
        fields
        if isinstance(fields, bytes)
        else json.dumps({"model": "deepseek-flash", "messages": [USER], **fields}).encode()
    )
    return stand_in.handle(Request(method, path, {}, headers, body))


# fields over {"model": "deepseek-flash", "messages": [USER]} → status, part of the message
REFUSED = [
    ({"tools": [TOOL], "messages": [USER, CALLED, RESULT]}, 400, "The `reasoning_content` in the thinking mode must be passed back to the API."),
    ({"tools": [TOOL], "messages": [USER, {**CALLED, "reasoning_content": ""}, RESULT]}, 400, "must be passed back"),
    ({"tools": [TOOL], "tool_choice": "required"}, 400, "does not support this tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}}, 400, "does not support this tool_choice"),
    ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, 400, "unknown variant `custom`, expected `function`"),
    ({"messages": [{"role": "developer", "content": "x"}]}, 400, "unknown variant `developer`, expected one of `system`, `user`, `assistant`, `tool`"),
    ({"messages": [{"role": "system", "content": [PICTURE]}]}, 400, "expected str"),
    ({"messages": [{"role": "user", "content": [{"type": "file"}]}]}, 400, "unknown variant `file`, expected `text` or `image_url`"),
    ({"messages": [{"role": "user", "content": [PICTURE]}], **PRO}, 400, "does not support image input"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "ftp://x"}}]}]}, 400, "Invalid image_url"),
    ({"messages": [{"role": "user", "content": [PICTURE] * 601}]}, 400, "At most 600 images"),
    ({"tools": [STRICT]}, 400, "only available with base_url https://api.deepseek.com/beta"),
    ({"messages": [USER, PREFIX]}, 400, "prefix is only available with base_url"),
    ({"model": "deepseek-chat"}, 400, "Model Not Exist"),
    ({"model": 3}, 400, "model: invalid type: int, expected str"),
    ({"temperature": "hot"}, 400, "invalid type: str, expected float"),
    ({"max_completion_tokens": 5}, 400, "unknown field `max_completion_tokens`"),
    ({"tools": [{"type": "function", "function": {}}]}, 400, "missing field `name`"),
    (b"{", 400, "Failed to parse the request body as JSON"),
    ({"thinking": {"type": "maybe"}}, 400, "unknown variant `maybe`, expected `enabled` or `disabled`"),
    ({"reasoning_effort": "xhigh"}, 400, "unknown variant `xhigh`, expected one of `low`, `high`, `max`"),
    ({"temperature": 3}, 422, "the valid range of temperature is [0, 2]"),
    ({"max_tokens": 393_217}, 422, "max_tokens"),
    ({"stop": ["x"] * 17}, 422, "stop"),
    ({"top_logprobs": 2}, 422, "logprobs must be true"),
    ({"stream_options": {"include_usage": True}}, 400, "along with stream = true"),
    ({"user_id": "ann@example.org"}, 422, "user_id"),
    ({"tools": [TOOL] * 129}, 422, "at most 128 tools"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, 400, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": []}}}]}, 400, "Invalid schema for function 'f'"),
    ({"tool_choice": "auto"}, 400, "only allowed when tools are given"),
    ({"tools": [TOOL], "tool_choice": "any"}, 400, "unknown variant `any`"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}, **OFF}, 400, "names no function"),
    ({"response_format": {"type": "json_schema"}}, 400, "This response_format type is unavailable now"),
    ({"response_format": {"type": "json_object"}}, 400, "must contain the word 'json'"),
    ({"messages": []}, 400, "Empty input messages"),
    ({"messages": [USER, RESULT]}, 400, "must be a response to a preceding message"),
    ({"messages": [USER, CALLED, USER]}, 400, "insufficient tool messages"),
    ({"messages": [USER, {"role": "assistant"}, USER]}, 400, "content or tool_calls must be set"),
    ({"messages": [{"role": "user", "content": "x" * 4_300_000}]}, 400, "maximum context length is 1048576 tokens"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "status", "words"), REFUSED, ids=lambda value: str(value)[:60])
def test_refused(fields, status, words):
    with pytest.raises(Rejected) as caught:
        handle(DeepSeek(), fields)
    assert caught.value.status == status
    assert words in caught.value.message
    error = json.loads(DeepSeek().error(caught.value).body)["error"]
    assert error["type"] == error["code"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"tools": [STRICT, {"type": "function", "function": {"name": "g"}}]},
            "every function has to be strict",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "strict": True, "parameters": OPEN}}]},
            "closed objects",
        ),
        ({"messages": [PREFIX, USER]}, "only allowed in the last message"),
    ],
)
def test_refused_on_beta_too(fields, words):
    with pytest.raises(Rejected, match=words):
        handle(DeepSeek(), fields, BETA)


TAKEN = [
    ({"tools": [TOOL], "messages": [USER, THOUGHT, RESULT]}, "/chat/completions"),
    ({"messages": [USER, CALLED, RESULT]}, "/v1/chat/completions"),
    ({"tools": [TOOL], "messages": [USER, CALLED, RESULT], **OFF}, "/chat/completions"),
    ({"tools": [TOOL], "tool_choice": "required", **OFF}, "/chat/completions"),
    ({"tools": [STRICT]}, BETA),
    ({"messages": [USER, PREFIX]}, BETA),
    ({"messages": [{"role": "user", "content": [PICTURE]}]}, "/chat/completions"),
    ({"response_format": {"type": "json_object"}, "messages": [{"role": "user", "content": "JSON"}]}, "/chat/completions"),
    ({"stop": "x", "user_id": "gw-1", "max_tokens": 393_216, "presence_penalty": 1}, "/chat/completions"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "path"), TAKEN, ids=lambda value: str(value)[:60])
def test_taken(fields, path):
    made = handle(DeepSeek(), fields, path)
    for stream in (False, True):
        assert made.render(answer(made.ask), stream).status == 200


@pytest.fixture
async def client(sim):
    async with openai.AsyncOpenAI(base_url=sim.url("deepseek"), api_key="sim-key", max_retries=0) as made:
        yield made


ASKED = {"model": "deepseek-flash", "messages": [USER]}
ANSWER = Turn(text="It is 4.", reasoning="Two and two.", usage=Usage(input=30, cached=20, output=12))


async def test_a_whole_answer_comes_after_blank_lines(sim, client):
    sim.script("deepseek", ANSWER)
    raw = await client.chat.completions.with_raw_response.create(**ASKED)
    assert raw.text.startswith("\n\n{")
    assert len(raw.headers["x-ds-trace-id"]) == 32
    assert not [name for name in raw.headers if "ratelimit" in name]
    made = raw.parse()
    message = made.choices[0].message
    assert (message.content, message.model_extra["reasoning_content"]) == ("It is 4.", "Two and two.")
    assert made.usage.model_extra == {"prompt_cache_hit_tokens": 20, "prompt_cache_miss_tokens": 10}
    assert sim.url("deepseek").endswith("/deepseek")


async def lines(client, **fields):
    """The lines of a stream, its events decoded."""
    raw = await client.chat.completions.with_raw_response.create(**ASKED, stream=True, **fields)
    found = [line async for line in raw.http_response.aiter_lines() if line]
    return [json.loads(line[6:]) if line.startswith("data: {") else line for line in found]


async def test_a_stream_comes_after_comments_and_ends_with_its_usage(sim, client):
    sim.script("deepseek", ANSWER)
    *waiting, _ = (found := await lines(client, stream_options={"include_usage": True}))[:3]
    assert waiting == [": keep-alive"] * 2
    events = [event for event in found if isinstance(event, dict)]
    deltas = [event["choices"][0]["delta"] for event in events]
    assert deltas[0]["role"] == "assistant"
    assert all(delta["role"] is None for delta in deltas[1:])
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "Two and two."
    assert "".join(delta["content"] or "" for delta in deltas) == "It is 4."
    assert events[-1]["choices"][0]["finish_reason"] == "stop"
    assert events[-1]["usage"]["prompt_cache_hit_tokens"] == 20
    assert all(event["usage"] is None for event in events[:-1])
    assert found[-1] == "data: [DONE]"


async def test_further_pieces_of_a_call_have_empty_ids_and_names(sim, client):
    sim.script("deepseek", Turn(tool_calls=[ToolCall(name="f", arguments={"a": "b" * 20})]))
    found = await lines(client, tools=[TOOL])
    calls = [e["choices"][0]["delta"].get("tool_calls") for e in found if isinstance(e, dict)]
    first, *others = [call[0] for call in calls if call]
    assert first["id"].startswith("call_ds")
    assert first["function"] == {"name": "f", "arguments": ""}
    assert all((piece["id"], piece["function"]["name"]) == ("", "") for piece in others)
    assert json.loads("".join(piece["function"]["arguments"] for piece in others)) == {"a": "b" * 20}
    assert "usage" not in found[-2]


async def test_a_turn_says_how_it_ends_and_may_be_verbatim(sim, client):
    sim.script(
        "deepseek",
        Turn(text="Hi", finish_native="insufficient_system_resource"),
        Turn(raw=["[DONE]"]),
        Turn(raw={"choices": []}),
    )
    found = await lines(client)
    assert found[-2]["choices"][0]["finish_reason"] == "insufficient_system_resource"
    assert await lines(client) == ["data: [DONE]"]
    assert (await client.chat.completions.create(**ASKED)).choices == []


async def test_without_thinking_there_is_no_thought(sim, client):
    sim.script("deepseek", ANSWER)
    made = await client.chat.completions.create(**ASKED, extra_body={"thinking": {"type": "disabled"}})
    assert "reasoning_content" not in made.choices[0].message.model_extra
    made = await client.chat.completions.create(**ASKED, tools=[TOOL], tool_choice="none")
    assert made.choices[0].message.content == "You said: Hi"
    assert made.choices[0].message.model_extra["reasoning_content"]


async def test_log_probabilities(client):
    made = await client.chat.completions.create(**ASKED, logprobs=True, top_logprobs=2)
    assert len(made.choices[0].logprobs.content[0].top_logprobs) == 2
    found = await lines(client, logprobs=True)
    named = [e["choices"][0]["logprobs"] for e in found if isinstance(e, dict)]
    assert any(each and each["content"] is None and each["reasoning_content"] for each in named)


async def test_pictures_and_results_are_seen(client):
    picture = {"role": "user", "content": [PICTURE, {"type": "text", "text": "x"}]}
    address = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x"}}]}
    for message, seen in ((picture, "image/png, 5 bytes"), (address, "image/url, 0 bytes")):
        made = await client.chat.completions.create(model="deepseek-flash", messages=[message])
        assert seen in made.choices[0].message.content
    made = await client.chat.completions.create(model="deepseek-flash", messages=[USER, CALLED, RESULT])
    assert made.choices[0].message.content == "The tool said: x"


async def test_models_and_balance(client):
    assert [model.id async for model in client.models.list()] == ["deepseek-flash", "deepseek-v4-pro"]
    paid = await client.get("/user/balance", cast_to=object)
    assert paid["is_available"] is True
    assert paid["balance_infos"][0]["total_balance"] == "1.20"
    poor = await client.with_options(api_key="sim-noquota").get("/user/balance", cast_to=object)
    assert poor["is_available"] is False


async def test_accounts_and_paths(client):
    with pytest.raises(openai.APIStatusError) as caught:
        await client.with_options(api_key="sim-noquota").chat.completions.create(**ASKED)
    assert (caught.value.status_code, caught.value.body["message"]) == (402, "Insufficient Balance")
    with pytest.raises(openai.AuthenticationError, match=r"\*\*\*\*rong is invalid"):
        await client.with_options(api_key="sim-wrong").chat.completions.create(**ASKED)
    with pytest.raises(openai.NotFoundError):
        await client.get("/nowhere", cast_to=object)
    with pytest.raises(Rejected) as refused:
        handle(DeepSeek(), {}, headers={})
    assert refused.value.status == 401
    with pytest.raises(Rejected):
        handle(DeepSeek(), {}, method="GET")


@pytest.mark.parametrize(
    ("status", "type"), [(402, "unknown_error"), (429, "rate_limit_error"), (418, "server_error")]
)
async def test_scripted_failures_have_the_native_form(sim, client, status, type):
    sim.script("deepseek", Fault(status=status, details={"hint": 1}))
    with pytest.raises(openai.APIStatusError) as caught:
        await client.chat.completions.create(**ASKED)
    assert caught.value.status_code == status
    assert (caught.value.body["type"], caught.value.body["hint"]) == (type, 1)


@pytest.mark.parametrize("kind", ["error_event", "unknown_event", "drip_comments"])
async def test_faults_inside_a_stream(sim, client, kind):
    sim.script("deepseek", Fault(kind=kind, events=1, count=2))
    found = await lines(client)
    if kind == "error_event":
        assert found[-1]["error"]["code"] == "invalid_request_error"
    if kind == "unknown_event":
        assert any(isinstance(e, dict) and e["object"] == "chat.completion.sparkle" for e in found)
    if kind == "drip_comments":
        assert found.count(": keep-alive") > 2


def test_mutations_are_answered_or_refused():
    luck, stand_in, answered = random.Random("deepseek"), DeepSeek(), 0
    known = [{**ASKED, **fields} for fields, path in TAKEN if path != BETA]
    for _ in range(1500):
        body = json.dumps(mutated(luck.choice(known), luck)).encode()
        try:
            made = handle(stand_in, body)
            for stream in (False, True):
                made.render(answer(made.ask), stream)
            answered += 1
        except Rejected as problem:
            assert json.loads(stand_in.error(problem).body)["error"]["message"]
    assert answered > 10
