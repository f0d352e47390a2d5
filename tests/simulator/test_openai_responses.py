"""The stand-in's /v1/responses: the official SDK works against it, and what is wrong is refused natively."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from gateway.simulator import Fault, ToolCall, Turn

from .conftest import request

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": False}
NESTED = {"type": "function", "function": {"name": "get_weather"}}
MODEL = "gpt-6-luna"
PATH = "/openai/v1/responses"
PICTURE = "data:image/png;base64,aW1n"


@pytest.fixture
async def client(sim):
    async with openai.AsyncOpenAI(base_url=sim.url("openai"), api_key="sim-key", max_retries=0) as made:
        yield made


async def test_answer(client):
    made = await client.responses.create(model=MODEL, input="Hello there", reasoning={"summary": "auto"})
    assert made.output_text == "You said: Hello there"
    assert (made.status, made.error, made.incomplete_details) == ("completed", None, None)
    assert made.output[0].summary[0].text
    assert made.usage.total_tokens == made.usage.input_tokens + made.usage.output_tokens
    assert made.usage.output_tokens_details.reasoning_tokens > 0


async def test_stream(client):
    stream = await client.responses.create(model=MODEL, input="Hello there", stream=True)
    events = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == "You said: Hello there" == events[-1].response.output_text


async def test_the_stream_helper_rebuilds_parallel_calls_and_the_round_trip_ends(client):
    asked: list[Any] = [{"role": "user", "content": "both please"}]
    async with client.responses.stream(model=MODEL, input=asked, tools=[WEATHER]) as stream:
        async for _ in stream:
            pass
        first = await stream.get_final_response()
    calls = [item for item in first.output if item.type == "function_call"]
    assert [json.loads(call.arguments).keys() for call in calls] == [{"city"}, {"city"}]
    assert calls[0].call_id != calls[1].call_id
    said = [
        {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments}
        for call in calls
    ]
    told = [
        {"type": "function_call_output", "call_id": call.call_id, "output": f"sunny {at}"}
        for at, call in enumerate(calls)
    ]
    second = await client.responses.create(model=MODEL, input=[*asked, *said, *told], tools=[WEATHER])
    assert second.output_text == "The tool said: sunny 0; sunny 1"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("turn", "status", "reason"),
    [
        (Turn(text="x", finish="length"), "incomplete", "max_output_tokens"),
        (Turn(text="x", finish="content_filter"), "incomplete", "content_filter"),
        (Turn(text="x", finish_native="steered"), "incomplete", "steered"),
        (Turn(finish_native="failed"), "failed", None),
        (Turn(refusal="No."), "completed", None),
    ],
)
async def test_how_an_answer_ends(sim, client, turn, status, reason, stream):
    sim.script("openai", turn)
    made = await client.responses.create(model=MODEL, input="x", stream=stream)
    if stream:
        last = [event async for event in made][-1]
        assert last.type == f"response.{status}"
        made = last.response
    assert made.status == status
    assert (made.incomplete_details.reason if made.incomplete_details else None) == reason
    assert (made.error is not None) == (status == "failed")


async def test_scripts_and_faults_are_those_of_chat(sim, client):
    raw = {"type": "response.completed", "response": {"output": []}}
    sim.script(
        "openai",
        Turn(tool_calls=[ToolCall(name="f", id="call_1", arguments={"a": 1})], model="other"),
        Fault(status=429, message="slow"),
        Fault(kind="clean_cut", events=1),
        Fault(kind="error_event", events=1, message="later"),
        Turn(raw=[raw, "[DONE]", b": end\n\n"]),
    )
    made = await client.responses.create(model=MODEL, input="x")
    assert (made.model, made.output[0].call_id, made.output[0].arguments) == ("other", "call_1", '{"a":1}')
    with pytest.raises(openai.RateLimitError, match="slow"):
        await client.responses.create(model=MODEL, input="x")
    cut = [event async for event in await client.responses.create(model=MODEL, input="x", stream=True)]
    assert cut[-1].type == "response.output_text.delta"
    with pytest.raises(openai.APIError, match="later"):
        async for _ in await client.responses.create(model=MODEL, input="x", stream=True):
            pass
    last = [event async for event in await client.responses.create(model=MODEL, input="x", stream=True)]
    assert [event.type for event in last] == ["response.completed"]


def message(*content: Any, role: str = "user") -> dict[str, Any]:
    return {"input": [{"type": "message", "role": role, "content": list(content)}]}


def formatted(**form: Any) -> dict[str, Any]:
    return {"text": {"format": form}}


ACCEPTED: list[dict[str, Any]] = [
    {"input": [{"role": "user", "content": "x"}]},
    {"model": "gpt-5.5-pro"},
    {"model": "gpt-4.1", "temperature": 0.5, "top_logprobs": 2, "include": ["message.output_text.logprobs"]},
    {"tools": [WEATHER], "tool_choice": {"type": "function", "name": "get_weather"}},
    {
        "tools": [{**WEATHER, "parameters": None, "strict": None}],
        "tool_choice": {
            "type": "allowed_tools",
            "mode": "auto",
            "tools": [{"type": "function", "name": "get_weather"}],
        },
    },
    {"reasoning": {"effort": "none"}, "temperature": 0.5},
    message({"type": "input_image", "image_url": PICTURE, "detail": "auto"}),
    message({"type": "input_image", "image_url": "https://x/y.png", "detail": "low"}),
    message({"type": "input_file", "file_data": "data:application/pdf;base64,aW1n", "filename": "a.pdf"}),
    message({"type": "output_text", "text": "x"}, {"type": "refusal", "refusal": "x"}, role="assistant"),
    formatted(type="json_schema", name="n", schema=SCHEMA),
    {**formatted(type="json_object"), "instructions": "Answer in JSON."},
    {"store": False, "metadata": {"a": "b"}, "service_tier": "flex", "max_output_tokens": 16},
]
MISSING, UNKNOWN, VALUE = "missing_required_parameter", "unknown_parameter", "invalid_value"
REFUSED: list[tuple[dict[str, Any], tuple[int, str | None, str | None, str]]] = [
    ({"stop": "x"}, (400, "stop", UNKNOWN, "Unknown parameter: 'stop'.")),
    ({"seed": 1}, (400, "seed", UNKNOWN, "Unknown parameter: 'seed'.")),
    ({"n": 1}, (400, "n", UNKNOWN, "Unknown parameter: 'n'.")),
    ({"messages": []}, (400, "messages", "unsupported_parameter", "has moved to 'input'")),
    ({"max_tokens": 5}, (400, "max_tokens", "unsupported_parameter", "has moved to 'max_output_tokens'")),
    ({"model": None}, (400, "model", "invalid_type", "expected a string")),
    ({"model": "gpt-2"}, (404, "model", "model_not_found", "does not exist")),
    ({"max_output_tokens": 5}, (400, "max_output_tokens", "integer_below_min_value", ">= 16")),
    ({"max_output_tokens": 10**8}, (400, "max_output_tokens", VALUE, "too large")),
    ({"top_p": 2}, (400, "top_p", "decimal_above_max_value", "<= 1")),
    ({"tools": [NESTED]}, (400, "tools[0].name", MISSING, "Missing required parameter: 'tools[0].name'.")),
    ({"tools": [{"type": "function", "name": "f"}]}, (400, "tools[0].parameters", MISSING, "Missing")),
    ({"tools": [{**WEATHER, "x": 1}]}, (400, "tools[0].x", UNKNOWN, "Unknown parameter")),
    ({"tools": [{"type": "sparkle"}]}, (400, "tools[0].type", VALUE, "sparkle")),
    ({"tools": [{**WEATHER, "name": "a b"}]}, (400, "tools[0].name", VALUE, "pattern")),
    (
        {"tools": [{**WEATHER, "strict": True}]},
        (400, "tools[0].parameters", "invalid_function_parameters", "additionalProperties"),
    ),
    ({"tool_choice": "some"}, (400, "tool_choice", VALUE, "Supported values")),
    ({"tool_choice": {"type": "function"}}, (400, "tool_choice.name", MISSING, "Missing")),
    ({"tool_choice": {"type": "function", "name": "f"}}, (400, "tool_choice", VALUE, "not found")),
    ({"tool_choice": {"type": "x"}}, (400, "tool_choice.type", VALUE, "tool_choice")),
    ({"tool_choice": {"type": "allowed_tools"}}, (400, "tool_choice.mode", MISSING, "Missing")),
    ({"input": [{"content": "x"}]}, (400, "input[0].type", MISSING, "Missing")),
    ({"input": [{"type": "sparkle"}]}, (400, "input[0].type", VALUE, "sparkle")),
    ({"input": [{"role": "tool", "content": "x"}]}, (400, "input[0].role", VALUE, "tool")),
    (
        {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]},
        (400, "input", None, "No tool call found for function call output with call_id c."),
    ),
    (
        {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]},
        (400, "input", None, "No tool output found for function call c."),
    ),
    (message({"type": "text", "text": "x"}), (400, "input[0].content[0].type", VALUE, "text")),
    (
        message({"type": "output_text", "text": "x"}),
        (400, "input[0].content[0]", VALUE, "'input_text', 'input_image' and 'input_file'"),
    ),
    (
        message({"type": "input_image", "detail": "auto"}),
        (400, "input[0].content[0].image_url", MISSING, "Missing"),
    ),
    (
        message({"type": "input_image", "detail": "auto", "image_url": "x"}),
        (400, "input[0].content[0].image_url", VALUE, "Expected a valid URL"),
    ),
    (
        message({"type": "input_file", "file_data": "x"}),
        (400, "input[0].content[0].file_data", VALUE, "base64"),
    ),
    ({"reasoning": {"effort": "minimal"}}, (400, "reasoning.effort", "unsupported_value", "'max'.")),
    (
        {"model": "gpt-4.1", "reasoning": {"effort": "low"}},
        (400, "reasoning.effort", "unsupported_parameter", "Unsupported"),
    ),
    ({"temperature": 0.5}, (400, "temperature", "unsupported_parameter", "Unsupported")),
    (
        {"include": ["message.output_text.logprobs"]},
        (400, "include", "unsupported_parameter", "Unsupported"),
    ),
    ({"include": ["x"]}, (400, "include[0]", VALUE, "x")),
    ({"stream_options": {}}, (400, "stream_options", None, "only allowed when 'stream'")),
    (
        {"previous_response_id": "resp_1"},
        (400, "previous_response_id", "previous_response_not_found", "not found"),
    ),
    (formatted(type="json_object"), (400, "input", None, "must contain the word 'json'")),
    (formatted(type="json_schema", name="a b", schema={}), (400, "text.format.name", VALUE, "pattern")),
    (
        formatted(type="json_schema", name="n", schema=SCHEMA, strict=True),
        (400, "text.format.schema", "invalid_json_schema", "additionalProperties"),
    ),
    ({"metadata": {"a" * 65: "b"}}, (400, "metadata", VALUE, "metadata")),
    ({"input": "x" * 1_200_000}, (400, "input", "context_length_exceeded", "context window")),
]


@pytest.mark.parametrize("fields", ACCEPTED)
async def test_accepted(ask, fields):
    status, _, body = await ask("openai", path=PATH, body={"model": MODEL, "input": "x", **fields})
    assert status == 200, body
    assert json.loads(body)["object"] == "response"


@pytest.mark.parametrize(("fields", "expected"), REFUSED, ids=lambda value: str(value)[:60])
async def test_refused(ask, fields, expected):
    status, _, body = await ask("openai", path=PATH, body={"model": MODEL, "input": "x", **fields})
    error = json.loads(body)["error"]
    assert (status, error["param"], error["code"]) == expected[:3], error
    assert expected[3] in error["message"]
    assert error["type"] == "invalid_request_error"


async def test_frames_are_named_and_nothing_follows_the_terminal_event(connect):
    raw = await connect()
    raw.send(request("openai", path=PATH, body={"model": MODEL, "input": "x", "stream": True}))
    _, headers, body = await raw.response()
    assert headers["content-type"].startswith("text/event-stream")
    events = body.decode().strip().split("\n\n")
    for event in events:
        name, data = event.split("\n")
        assert name.removeprefix("event: ") == json.loads(data.removeprefix("data: "))["type"]
    assert b"[DONE]" not in body
    assert '"obfuscation"' in body.decode()


async def test_log_probabilities_pictures_and_limits(client):
    logged = await client.responses.create(
        model="gpt-4.1", input="x", top_logprobs=1, include=["message.output_text.logprobs"]
    )
    assert logged.output[0].content[0].logprobs[0].top_logprobs
    parts = [
        {"type": "input_image", "image_url": PICTURE, "detail": "auto"},
        {"type": "input_file", "file_id": "file_1"},
        {"type": "input_text", "text": "what?"},
    ]
    seen = await client.responses.create(model=MODEL, input=[{"role": "user", "content": parts}])
    assert "1 image (image/png, 3 bytes) and 1 document" in seen.output_text
    cut = await client.responses.create(model="gpt-4.1", input="word " * 99, max_output_tokens=16)
    assert cut.incomplete_details.reason == "max_output_tokens"
    silent = await client.responses.create(model=MODEL, input="x", tools=[WEATHER], tool_choice="none")
    assert silent.output_text == "You said: x"
