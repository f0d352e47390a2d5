"""The official OpenAI SDK, sync and async, works against the stand-in."""

from __future__ import annotations

import asyncio
import json

import openai
import pytest
from pydantic import BaseModel

from gateway.simulator import Fault, ToolCall, Turn

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 3}},
            "required": ["city", "days"],
        },
    },
}
USER = [{"role": "user", "content": "Hello there"}]


@pytest.fixture
async def client(sim):
    async with openai.AsyncOpenAI(base_url=sim.url("openai"), api_key="sim-key", max_retries=0) as made:
        yield made


async def test_answer(client):
    raw = await client.chat.completions.with_raw_response.create(model="gpt-4.1", messages=USER)
    made = raw.parse()
    assert made.choices[0].message.content == "You said: Hello there"
    assert made.choices[0].finish_reason == "stop"
    assert made.usage.total_tokens == made.usage.prompt_tokens + made.usage.completion_tokens
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.headers["x-ratelimit-reset-requests"] == "6ms"


async def test_stream(client):
    text, last = "", None
    stream = await client.chat.completions.create(
        model="gpt-6-luna", messages=USER, stream=True, stream_options={"include_usage": True}
    )
    async for chunk in stream:
        assert chunk.usage is None or not chunk.choices
        text += chunk.choices[0].delta.content or "" if chunk.choices else ""
        last = chunk
    assert text == "You said: Hello there"
    assert last.usage.completion_tokens_details.reasoning_tokens > 0


async def test_accumulator_rebuilds_parallel_tool_calls(client):
    messages = [{"role": "user", "content": "both please"}]
    async with client.chat.completions.stream(model="gpt-4.1", messages=messages, tools=[WEATHER]) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_completion()
    calls = final.choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["get_weather", "get_weather"]
    assert json.loads(calls[1].function.arguments)["days"] >= 3
    assert calls[0].id != calls[1].id
    assert final.choices[0].finish_reason == "tool_calls"


async def test_tool_round_trip(client):
    first = await client.chat.completions.create(model="gpt-4.1", messages=USER, tools=[WEATHER])
    call = first.choices[0].message.tool_calls[0]
    messages = [
        *USER,
        first.choices[0].message.model_dump(include={"role", "content", "tool_calls"}),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    second = await client.chat.completions.create(model="gpt-4.1", messages=messages, tools=[WEATHER])
    assert second.choices[0].message.content == "The tool said: sunny"


async def test_structured_output(client):
    class Person(BaseModel):
        name: str
        age: int

    made = await client.chat.completions.parse(model="gpt-6-luna", messages=USER, response_format=Person)
    assert isinstance(made.choices[0].message.parsed, Person)


async def test_models(client):
    listed = [model.id async for model in client.models.list()]
    assert "gpt-6-luna" in listed
    assert (await client.models.retrieve("gpt-4.1")).id == "gpt-4.1"
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        await client.models.retrieve("gpt-3.5-turbo")


async def test_scripted_turn_and_faults(sim, client):
    sim.script(
        "openai",
        Turn(
            text="Hi",
            tool_calls=[ToolCall(name="f", id="call_1")],
            pieces=1,
            finish="length",
        ),
        Fault(status=429, code="insufficient_quota", message="no money"),
        Fault(kind="error_event", events=1, message="later"),
    )
    made = await client.chat.completions.create(model="gpt-4.1", messages=USER)
    assert made.choices[0].message.content == "Hi"
    assert made.choices[0].message.tool_calls[0].id == "call_1"
    assert made.choices[0].finish_reason == "length"
    with pytest.raises(openai.RateLimitError, match="no money"):
        await client.chat.completions.create(model="gpt-4.1", messages=USER)
    with pytest.raises(openai.APIError, match="later"):
        async for _ in await client.chat.completions.create(model="gpt-4.1", messages=USER, stream=True):
            pass
    assert len(sim.calls("openai")) == 3


async def test_several_choices_and_logprobs(client):
    made = await client.chat.completions.create(
        model="gpt-4.1", messages=USER, n=2, logprobs=True, top_logprobs=2
    )
    assert [choice.index for choice in made.choices] == [0, 1]
    assert len(made.choices[1].logprobs.content[0].top_logprobs) == 2


async def test_sync_client(sim):
    def use() -> tuple[str, str]:
        with openai.OpenAI(base_url=sim.url("openai"), api_key="sim-key", max_retries=0) as client:
            whole = client.chat.completions.create(model="gpt-4.1", messages=USER)
            stream = client.chat.completions.create(model="gpt-4.1", messages=USER, stream=True)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
            return whole.choices[0].message.content, text

    assert await asyncio.to_thread(use) == ("You said: Hello there",) * 2
