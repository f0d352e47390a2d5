"""The official OpenAI SDK, unmodified, against every provider: what its users do, they can do here."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from gateway.simulator import Fault, Simulator, ToolCall, Turn, Usage

from ..providers.cases import CLOCK, PDF, PNG, WEATHER
from .conftest import MODELS, NATIVE, SIMULATED

pytestmark = pytest.mark.asyncio(loop_scope="module")
providers = pytest.mark.parametrize("provider", NATIVE)
every = pytest.mark.parametrize("provider", SIMULATED)
HI: list[Any] = [{"role": "user", "content": "Hi"}]
TURN = Turn(text="Grüße, 世界 😀!", usage=Usage(input=12, cached=4, output=9), pieces=3)


@every
async def test_create(client: AsyncOpenAI, sim: Simulator, provider: str):
    sim.script(provider, TURN)
    answer = await client.chat.completions.create(model=MODELS[provider], messages=HI)
    assert answer.choices[0].message.content == TURN.text
    assert answer.choices[0].finish_reason == "stop"
    assert answer.object == "chat.completion"
    assert answer.model
    assert answer._request_id
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (12, 9)
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 4


@every
async def test_create_stream(client: AsyncOpenAI, sim: Simulator, provider: str):
    sim.script(provider, TURN)
    stream = await client.chat.completions.create(
        model=MODELS[provider], messages=HI, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == TURN.text
    assert [c.choices[0].delta.role for c in chunks if c.choices].count("assistant") == 1
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert len({(c.id, c.created, c.model) for c in chunks}) == 1
    assert [bool(c.choices) for c in chunks] == [True] * (len(chunks) - 1) + [False]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 21


@every
async def test_the_stream_helper(client: AsyncOpenAI, sim: Simulator, provider: str):
    sim.script(provider, TURN)
    async with client.chat.completions.stream(model=MODELS[provider], messages=HI) as stream:
        events = [event.type async for event in stream]
        final = await stream.get_final_completion()
    assert "content.delta" in events
    assert "content.done" in events
    assert final.choices[0].message.content == TURN.text


class Person(BaseModel):
    name: str
    age: int
    tags: list[str]


@providers
async def test_parse_with_a_pydantic_model(client: AsyncOpenAI, sim: Simulator, provider: str):
    sim.script(provider, Turn(text='{"name":"Ada","age":36,"tags":["x"]}'))
    answer = await client.chat.completions.parse(model=MODELS[provider], messages=HI, response_format=Person)
    assert answer.choices[0].message.parsed == Person(name="Ada", age=36, tags=["x"])
    sent = json.dumps(sim.calls(provider)[0].json)
    assert '"tags"' in sent  # the schema went out, in the provider's own words


@providers
async def test_json_object(client: AsyncOpenAI, sim: Simulator, provider: str):
    answer = await client.chat.completions.create(
        model=MODELS[provider],
        messages=[{"role": "user", "content": "Answer in JSON"}],
        response_format={"type": "json_object"},
    )
    assert answer.choices[0].finish_reason == "stop"


CALLS = [
    ToolCall(name="get_weather", arguments={"city": "Paris", "days": 2}),
    ToolCall(name="get_time", arguments={}),
]


@pytest.mark.parametrize("streaming", [False, True])
@every
async def test_a_round_trip_of_parallel_tools(
    client: AsyncOpenAI, sim: Simulator, provider: str, streaming: bool
):
    """Two calls, their results, and an answer: ids and arguments hold, in both ways of asking."""
    sim.script(provider, Turn(text="Let me look.", tool_calls=CALLS))
    messages: list[Any] = [{"role": "user", "content": "Weather and time?"}]
    ask: dict[str, Any] = {"model": MODELS[provider], "tools": [WEATHER, CLOCK]}
    if streaming:
        async with client.chat.completions.stream(messages=messages, **ask) as stream:
            said = (await stream.get_final_completion()).choices[0]
    else:
        said = (await client.chat.completions.create(messages=messages, **ask)).choices[0]
    assert said.finish_reason == "tool_calls"
    calls = said.message.tool_calls
    assert calls is not None
    assert [c.function.name for c in calls] == ["get_weather", "get_time"]
    assert [json.loads(c.function.arguments) for c in calls] == [{"city": "Paris", "days": 2}, {}]
    assert len({c.id for c in calls}) == 2
    messages += [
        said.message.model_dump(exclude_none=True),
        *({"role": "tool", "tool_call_id": c.id, "content": f"result of {c.function.name}"} for c in calls),
    ]
    after = await client.chat.completions.create(messages=messages, **ask)
    assert after.choices[0].finish_reason == "stop"
    assert "result of get_weather" in (after.choices[0].message.content or "")
    assert "result of get_time" in (after.choices[0].message.content or "")


@every
async def test_a_forced_tool(client: AsyncOpenAI, sim: Simulator, provider: str):
    answer = await client.chat.completions.create(
        model=MODELS[provider],
        messages=HI,
        tools=[WEATHER, CLOCK],  # type: ignore[list-item]
        tool_choice={"type": "function", "function": {"name": "get_time"}},
    )
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert [c.function.name for c in calls if c.type == "function"] == ["get_time"]


@providers
async def test_images_and_documents_arrive(client: AsyncOpenAI, sim: Simulator, provider: str):
    content: list[Any] = [
        {"type": "text", "text": "What are these?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}},
        {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}", "filename": "a.pdf"}},
    ]
    answer = await client.chat.completions.create(
        model=MODELS[provider], messages=[{"role": "user", "content": content}]
    )
    text = answer.choices[0].message.content or ""
    assert "1 image (image/png" in text
    assert "1 document (application/pdf" in text


@pytest.mark.parametrize("provider", ["anthropic", "gemini", "deepseek"])
async def test_reasoning_is_shown_where_the_provider_shows_it(
    client: AsyncOpenAI, sim: Simulator, provider: str
):
    turn = Turn(text="42", reasoning="Think first.", usage=Usage(input=5, output=30, reasoning=20))
    sim.script(provider, turn, turn)
    ask: dict[str, Any] = {"model": MODELS[provider], "messages": HI, "reasoning_effort": "high"}
    whole = await client.chat.completions.create(**ask)
    assert whole.choices[0].message.model_extra is not None
    assert whole.choices[0].message.model_extra["reasoning_content"] == "Think first."
    assert whole.usage is not None
    assert whole.usage.completion_tokens_details is not None
    assert whole.usage.completion_tokens_details.reasoning_tokens == 20
    stream = await client.chat.completions.create(**ask, stream=True)
    deltas = [c.choices[0].delta async for c in stream if c.choices]
    assert "".join(getattr(d, "reasoning_content", None) or "" for d in deltas) == "Think first."
    assert "".join(d.content or "" for d in deltas) == "42"


@providers
async def test_limits_and_stops(client: AsyncOpenAI, sim: Simulator, provider: str):
    cut = await client.chat.completions.create(
        model=MODELS[provider],
        messages=[{"role": "user", "content": "long " * 50}],
        max_completion_tokens=16,
    )
    assert cut.choices[0].finish_reason == "length"
    taking_stops = {"openai": "openai/gpt-4.1"}  # OpenAI's reasoning models refuse them
    stopped = await client.chat.completions.create(
        model=taking_stops.get(provider, MODELS[provider]),
        messages=[{"role": "user", "content": "one STOP two"}],
        stop=["STOP"],
    )
    assert "two" not in (stopped.choices[0].message.content or "")


@every
async def test_system_and_developer_messages(client: AsyncOpenAI, sim: Simulator, provider: str):
    await client.chat.completions.create(
        model=MODELS[provider],
        messages=[
            {"role": "system", "content": "Rule one."},
            {"role": "developer", "content": "Rule two."},
            {"role": "user", "content": "Hi"},
        ],
    )
    sent = sim.calls(provider)[0].body.decode()
    assert sent.index("Rule one.") < sent.index("Rule two.")


ERRORS: dict[str, tuple[Fault, type[openai.APIStatusError], int]] = {
    "bad request": (Fault(status=400), openai.BadRequestError, 400),
    "wrong key": (Fault(status=401), openai.InternalServerError, 502),
    "no model": (Fault(status=404), openai.NotFoundError, 404),
    "rate limit": (Fault(status=429, headers={"retry-after": "7"}), openai.RateLimitError, 429),
    "server": (Fault(status=500), openai.InternalServerError, 502),
    "overloaded": (Fault(status=503), openai.InternalServerError, 503),
    "html": (Fault(kind="html_200"), openai.InternalServerError, 502),
    "reset": (Fault(kind="reset"), openai.InternalServerError, 502),
    "cut": (Fault(kind="clean_cut", events=0), openai.InternalServerError, 502),
    "error event": (Fault(kind="error_event", status=503), openai.InternalServerError, 503),
}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ERRORS)
@every
async def test_failures_are_the_sdks_own_errors(
    client: AsyncOpenAI, sim: Simulator, provider: str, name: str, streaming: bool
):
    """Before the first token a failure has its own status, also for a stream."""
    fault, kind, status = ERRORS[name]
    if name in ("error event", "cut") and not streaming and provider != "anthropic":
        return  # only a stream can break so; Anthropic is always asked for one
    if provider == "anthropic" and fault.status == 503:
        fault = msgspec.structs.replace(fault, status=529)  # its own word for it
    sim.script(provider, fault)
    with pytest.raises(kind) as caught:
        await client.chat.completions.create(model=MODELS[provider], messages=HI, stream=streaming)
    error = caught.value
    assert error.status_code == status
    assert error.body is not None
    assert error.message.count(f"{provider}: ") == 1
    assert "<" not in error.message
    assert error.response.headers["content-type"] == "application/json"
    if name == "rate limit":
        waits = {"gemini": "38864"}  # its wait stands in the body
        assert error.response.headers["retry-after-ms"] == waits.get(provider, "7000")


@pytest.mark.parametrize(
    "kind", ["reset_after", "close_after", "clean_cut", "malformed_event", "cut_json", "error_event"]
)
@every
async def test_a_stream_that_breaks_raises_in_the_sdk(
    client: AsyncOpenAI, sim: Simulator, provider: str, kind: str
):
    """P23, P25, P33, P35: never a silent end, always an error with the code for it."""
    sim.script(provider, Fault(kind=kind, events=2, turn=TURN))
    stream = await client.chat.completions.create(model=MODELS[provider], messages=HI, stream=True)
    text = ""
    with pytest.raises(openai.APIError) as caught:
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
    assert text
    assert TURN.text.startswith(text)
    assert caught.value.code == "stream_interrupted"


@providers
async def test_the_synchronous_client(url: str, sim: Simulator, provider: str):
    """A thread of a user's program: whole, streamed, the stream helper, parsed, and a round trip of tools."""
    model = MODELS[provider]
    tools: Any = [WEATHER, CLOCK]
    parsed = Turn(text='{"name":"Ada","age":36,"tags":[]}')
    sim.script(provider, TURN, TURN, TURN, parsed, Turn(tool_calls=CALLS))

    def use() -> None:
        with OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as sync:
            chat = sync.chat.completions
            assert chat.create(model=model, messages=HI).choices[0].message.content == TURN.text
            with chat.create(model=model, messages=HI, stream=True) as chunks:
                assert "".join(c.choices[0].delta.content or "" for c in chunks) == TURN.text
            with chat.stream(model=model, messages=HI) as stream:
                final = stream.get_final_completion()
            assert final.choices[0].message.content == TURN.text
            person = chat.parse(model=model, messages=HI, response_format=Person)
            assert person.choices[0].message.parsed == Person(name="Ada", age=36, tags=[])
            said = chat.create(model=model, messages=HI, tools=tools).choices[0].message
            assert said.tool_calls is not None
            results: list[Any] = [
                {"role": "tool", "tool_call_id": c.id, "content": "done"} for c in said.tool_calls
            ]
            history = [*HI, said.model_dump(exclude_none=True), *results]
            after = chat.create(model=model, messages=history, tools=tools)
            assert "done" in (after.choices[0].message.content or "")

    await asyncio.to_thread(use)


async def test_the_demo_models(client: AsyncOpenAI):
    echo = await client.chat.completions.create(model="demo/echo", messages=HI)
    assert echo.choices[0].message.content == "Hi"
    stream = await client.chat.completions.create(model="demo/story", messages=HI, stream=True)
    words = [c.choices[0].delta.content or "" async for c in stream]
    assert "".join(words).startswith("Once there was a lighthouse")
    assert len(words) > 50
    tools: Any = [WEATHER]
    called = await client.chat.completions.create(model="demo/tool", messages=HI, tools=tools)
    calls = called.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].type == "function"
    assert json.loads(calls[0].function.arguments) == {"city": "Hi"}
    told = await client.chat.completions.create(
        model="demo/tool",
        tools=tools,
        messages=[
            *HI,
            called.choices[0].message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": calls[0].id, "content": "18 degrees"},
        ],
    )
    assert told.choices[0].message.content == "The tool said: 18 degrees"


async def test_models(client: AsyncOpenAI):
    listed = [model.id async for model in client.models.list()]
    assert {"pair", "trio", "auto", "demo/echo"} <= set(listed)
    for name in NATIVE:
        assert any(model.startswith(f"{name}/") for model in listed)
    one = next(model for model in listed if model.startswith("anthropic/"))
    assert (await client.models.retrieve(one)).id == one
    assert (await client.models.retrieve(one.partition("/")[2])).owned_by == "anthropic"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("no/such")


async def test_a_base_url_without_v1(url: str, sim: Simulator):
    async with AsyncOpenAI(base_url=url, api_key="any", max_retries=0) as bare:
        answer = await bare.chat.completions.create(model="demo/echo", messages=HI)
    assert answer.choices[0].message.content == "Hi"
