"""The official Anthropic SDK, sync and async, works against the stand-in."""

from __future__ import annotations

import asyncio

import anthropic
import pytest
from pydantic import BaseModel

from gateway.simulator import Fault, ToolCall, Turn, Usage

USER = [{"role": "user", "content": "Hello there"}]
WEATHER = {
    "name": "get_weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture
async def client(sim):
    async with anthropic.AsyncAnthropic(
        base_url=sim.url("anthropic"), api_key="sim-key", max_retries=0
    ) as made:
        yield made


async def test_answer(client):
    raw = await client.messages.with_raw_response.create(
        model="claude-opus-4-6", max_tokens=100, messages=USER
    )
    made = await raw.parse()
    assert made.content[0].text == "You said: Hello there"
    assert made.stop_reason == "end_turn"
    assert raw.headers["request-id"].startswith("req_")
    assert raw.headers["anthropic-ratelimit-tokens-reset"].endswith("Z")


async def test_always_on_model_thinks_with_empty_text(client):
    made = await client.messages.create(model="claude-opus-5-5", max_tokens=100, messages=USER)
    assert [block.type for block in made.content] == ["thinking", "text"]
    assert made.content[0].thinking == ""
    assert made.content[0].signature
    assert made.usage.output_tokens_details.thinking_tokens > 0


async def test_stream_accumulates(client):
    async with client.messages.stream(
        model="claude-opus-5",
        max_tokens=1000,
        messages=[{"role": "user", "content": "both please"}],
        tools=[WEATHER],
        thinking={"type": "adaptive", "display": "summarized"},
    ) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_message()
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert [block.type for block in final.content] == ["thinking", "tool_use", "tool_use"]
    assert final.content[0].thinking.startswith("Let me think")
    assert final.content[1].input == {"city": "sample"}
    assert final.stop_reason == "tool_use"


async def test_thinking_goes_round_and_is_bound_to_its_prefix(client):
    how = {"model": "claude-haiku-5-5", "max_tokens": 1000, "tools": [WEATHER]}
    first = await client.messages.create(messages=USER, **how)
    result = {"type": "tool_result", "tool_use_id": first.content[-1].id, "content": "sunny"}
    tail = [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    second = await client.messages.create(messages=[*USER, *tail], **how)
    assert second.content[-1].text == "The tool said: sunny"
    with pytest.raises(anthropic.BadRequestError, match="bound to a different conversation"):
        await client.messages.create(messages=[{"role": "user", "content": "Other"}, *tail], **how)


async def test_structured_output(client):
    class Person(BaseModel):
        name: str
        age: int

    made = await client.messages.parse(
        model="claude-sonnet-4-6", max_tokens=100, messages=USER, output_format=Person
    )
    assert isinstance(made.parsed_output, Person)


async def test_usage_excludes_what_was_cached(sim, client):
    sim.script(
        "anthropic", Turn(text="a", usage=Usage(input=105, cached=90, cache_write=5, output=20, reasoning=7))
    )
    used = (await client.messages.create(model="claude-opus-4-6", max_tokens=9, messages=USER)).usage
    assert (used.input_tokens, used.cache_read_input_tokens, used.cache_creation_input_tokens) == (10, 90, 5)
    assert (used.output_tokens, used.output_tokens_details.thinking_tokens) == (20, 7)


async def test_scripted_faults(sim, client):
    sim.script(
        "anthropic",
        Fault(status=529),
        Fault(status=429, headers={"retry-after": "7"}, code="enforced_spend_limit_reached"),
        Fault(kind="error_event", status=529, events=1),
        Turn(text="x", redacted_thinking="ENC", finish_native="pause_turn", tool_calls=[ToolCall(name="f")]),
        Turn(refusal="no"),
    )
    how = {"model": "claude-opus-4-6", "max_tokens": 9, "messages": USER}
    with pytest.raises(anthropic.APIStatusError, match="Overloaded") as caught:
        await client.messages.create(**how)
    assert caught.value.status_code == 529
    assert "anthropic-ratelimit-requests-limit" not in caught.value.response.headers
    with pytest.raises(anthropic.RateLimitError) as limited:
        await client.messages.create(**how)
    assert limited.value.response.headers["retry-after"] == "7"
    assert limited.value.body["error"]["details"] == {"error_code": "enforced_spend_limit_reached"}
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        async for _ in await client.messages.create(stream=True, **how):
            pass
    paused = await client.messages.create(**how)
    assert [block.type for block in paused.content] == ["redacted_thinking", "text", "tool_use"]
    assert paused.stop_reason == "pause_turn"
    refused = await client.messages.create(**how)
    assert (refused.stop_reason, refused.stop_details.explanation) == ("refusal", "no")


async def test_count_tokens_and_models(client):
    counted = await client.messages.count_tokens(model="claude-opus-5", messages=USER)
    assert counted.input_tokens == 3
    listed = [model.id async for model in client.models.list(limit=5)]
    assert len(listed) == len(set(listed)) > 15
    model = await client.models.retrieve("claude-opus-5")
    assert model.capabilities.thinking.types.enabled.supported is False
    assert model.max_tokens == 128_000


async def test_sync_client(sim):
    def use() -> tuple[str, str]:
        with anthropic.Anthropic(base_url=sim.url("anthropic"), api_key="sim-key", max_retries=0) as client:
            how = {"model": "claude-opus-4-6", "max_tokens": 50, "messages": USER}
            whole = client.messages.create(**how).content[0].text
            with client.messages.stream(**how) as stream:
                return whole, "".join(stream.text_stream)

    assert await asyncio.to_thread(use) == ("You said: Hello there",) * 2
