"""The official google-genai SDK, sync and async, works against the stand-in."""

from __future__ import annotations

import asyncio

import httpx2
import pytest
from google import genai
from google.genai import errors, types
from pydantic import BaseModel

from gateway.simulator import Fault, ToolCall, Turn, Usage

MODEL = "gemini-3.8-flash"
WEATHER = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(
            name="get_weather",
            parameters_json_schema={
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        )
    ]
)


def made(sim, version=None):
    # its own HTTP client: with a transport given it leaves alone the aiohttp that Qwen's SDK brings along
    own = {"transport": httpx2.AsyncHTTPTransport()}
    options = types.HttpOptions(base_url=sim.url("gemini"), api_version=version, async_client_args=own)
    return genai.Client(api_key="sim-key", http_options=options)


@pytest.fixture
async def client(sim):
    whole = made(sim)
    yield whole.aio
    await whole.aio.aclose()
    whole.close()


async def test_answer(client):
    answer = await client.models.generate_content(model=MODEL, contents="Hello there")
    assert answer.text == "You said: Hello there"
    assert answer.candidates[0].finish_reason == "STOP"
    used = answer.usage_metadata
    assert used.thoughts_token_count > 0
    assert used.total_token_count == (
        used.prompt_token_count + used.candidates_token_count + used.thoughts_token_count
    )


async def test_stream_shows_thoughts_when_asked(client):
    config = types.GenerateContentConfig(thinking_config=types.ThinkingConfig(include_thoughts=True))
    text, thought, last = "", "", None
    async for chunk in await client.models.generate_content_stream(model=MODEL, contents="Hi", config=config):
        for part in chunk.candidates[0].content.parts:
            if part.thought:
                thought += part.text
            else:
                text += part.text or ""
        last = chunk
    assert text == "You said: Hi"
    assert thought.startswith("Let me think")
    assert last.candidates[0].finish_reason == "STOP"
    assert last.candidates[0].content.parts[0].thought_signature


async def test_tool_round_trip_needs_the_signature(client):
    config = types.GenerateContentConfig(
        tools=[WEATHER], automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True)
    )
    user = types.Content(role="user", parts=[types.Part(text="both please")])
    first = await client.models.generate_content(model=MODEL, contents=[user], config=config)
    turn = first.candidates[0].content
    calls = [part.function_call for part in turn.parts]
    assert [call.name for call in calls] == ["get_weather"] * 2
    assert [bool(part.thought_signature) for part in turn.parts] == [True, False]
    results = [
        types.Part.from_function_response(name=call.name, response={"output": "sunny"}) for call in calls
    ]
    contents = [user, turn, types.Content(role="user", parts=results)]
    second = await client.models.generate_content(model=MODEL, contents=contents, config=config)
    assert second.text == "The tool said: sunny; sunny"
    turn.parts[0].thought_signature = None
    with pytest.raises(errors.ClientError, match="missing a thought_signature"):
        await client.models.generate_content(model=MODEL, contents=contents, config=config)
    turn.parts[0].thought_signature = b"skip_thought_signature_validator"
    again = await client.models.generate_content(model=MODEL, contents=contents, config=config)
    assert again.text == second.text


async def test_structured_output(client):
    class Person(BaseModel):
        name: str
        age: int

    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=Person)
    answer = await client.models.generate_content(model=MODEL, contents="Hi", config=config)
    assert isinstance(answer.parsed, Person)


async def test_scripted_turns_and_faults(sim, client):
    sim.script(
        "gemini",
        Turn(finish_native="MALFORMED_FUNCTION_CALL"),
        Turn(block_reason="SAFETY"),
        Turn(text="x", usage=Usage(input=10, cached=4, output=12, reasoning=7)),
        Turn(tool_calls=[ToolCall(name="f", arguments={"a": 1}, id="abcd1234")]),
        Fault(status=429),
        Fault(status=503),
    )

    async def ask():
        return await client.models.generate_content(model=MODEL, contents="Hi")

    assert (await ask()).candidates[0].finish_reason == "MALFORMED_FUNCTION_CALL"
    blocked = await ask()
    assert blocked.prompt_feedback.block_reason == "SAFETY"
    assert not blocked.candidates
    used = (await ask()).usage_metadata
    assert (used.prompt_token_count, used.cached_content_token_count) == (10, 4)
    assert (used.candidates_token_count, used.thoughts_token_count, used.total_token_count) == (5, 7, 22)
    assert (await ask()).function_calls[0].id == "abcd1234"
    with pytest.raises(errors.ClientError, match="RESOURCE_EXHAUSTED") as limited:
        await ask()
    assert any(
        each.get("retryDelay") == "38.863719904s" for each in limited.value.details["error"]["details"]
    )
    with pytest.raises(errors.ServerError, match="overloaded"):
        await ask()


async def test_count_tokens_and_models(client):
    assert (await client.models.count_tokens(model=MODEL, contents="Hello there")).total_tokens == 3
    names = [model.name async for model in await client.models.list(config={"page_size": 5})]
    assert f"models/{MODEL}" in names
    assert len(names) == len(set(names)) > 20
    assert (await client.models.get(model=MODEL)).output_token_limit == 65_536
    with pytest.raises(errors.ClientError, match="ListModels"):
        await client.models.generate_content(model="gemini-embedding-2", contents="Hi")


async def test_sync_client_on_both_versions(sim):
    def use(version: str) -> tuple[str, str]:
        with made(sim, version) as client:
            whole = client.models.generate_content(model=MODEL, contents="Hi").text
            stream = client.models.generate_content_stream(model=MODEL, contents="Hi")
            return whole, "".join(chunk.text or "" for chunk in stream)

    for version in ("v1", "v1beta"):
        assert await asyncio.to_thread(use, version) == ("You said: Hi",) * 2
