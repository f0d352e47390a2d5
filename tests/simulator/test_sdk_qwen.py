"""The official dashscope SDK, sync and async, works against the stand-in on both native paths."""

from __future__ import annotations

import asyncio
import json
import logging
from http import HTTPStatus

import dashscope
import pytest
import requests
from dashscope import AioGeneration, AioMultiModalConversation, Generation, Models, MultiModalConversation
from dashscope.v2 import errors

from gateway.simulator import Fault, ToolCall, Turn, Usage

KEY = "sim-qwen-key"
USER = {"role": "user", "content": "Hello there"}
LISTED = {"role": "user", "content": [{"text": "Hello there"}]}
TEXT = {"model": "qwen-plus", "messages": [USER], "result_format": "message", "api_key": KEY}
MULTI = {"model": "qwen3.7-plus", "messages": [LISTED], "api_key": KEY}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(autouse=True)
async def pointed(sim, monkeypatch):
    """The SDK is configured in its module, and keeps its connections there."""
    monkeypatch.setattr(dashscope, "base_http_api_url", sim.url("qwen"))
    yield
    dashscope.close_shared_sync_session()
    await dashscope.close_shared_aio_session()


async def call(api, **fields):
    return await asyncio.to_thread(api.call, **fields)


async def stream(api, **fields):
    return await asyncio.to_thread(lambda: list(api.call(**fields, stream=True)))


def choice(answer):
    return answer.output.choices[0]


async def test_answers_on_both_paths():
    text = await call(Generation, **TEXT)
    assert text.status_code == HTTPStatus.OK
    assert choice(text).message.content == "You said: Hello there"
    assert choice(text).finish_reason == "stop"
    assert text.usage.total_tokens == text.usage.input_tokens + text.usage.output_tokens
    assert text.headers["x-request-id"] == text.request_id
    listed = await call(MultiModalConversation, **MULTI)
    assert choice(listed).message.content == [{"text": "You said: Hello there"}]
    assert choice(listed).message.reasoning_content.startswith("Let me think")
    bare = await call(Generation, **{**TEXT, "result_format": "text"})
    assert (bare.output.text, bare.output.finish_reason) == ("You said: Hello there", "stop")


async def test_increments_on_both_paths():
    chunks = await stream(Generation, **TEXT, incremental_output=True, enable_thinking=True)
    assert "".join(choice(chunk).message.content for chunk in chunks) == "You said: Hello there"
    thoughts = "".join(choice(chunk).message.reasoning_content for chunk in chunks)
    assert thoughts == "Let me think about that. The answer is short."
    assert [choice(chunk).finish_reason for chunk in chunks] == ["null"] * (len(chunks) - 1) + ["stop"]
    counts = [chunk.usage.output_tokens for chunk in chunks]
    assert counts == sorted(counts)
    chunks = await stream(MultiModalConversation, **MULTI, incremental_output=True)
    parts = [part for chunk in chunks for part in choice(chunk).message.content]
    assert "".join(part["text"] for part in parts) == "You said: Hello there"


@pytest.mark.parametrize("how", [{}, {"incremental_output": False}])
async def test_cumulative_streams(how):
    """What the server repeats, and what the SDK itself makes cumulative, ends in the same text."""
    chunks = await stream(Generation, **TEXT, **how)
    texts = [choice(chunk).message.content for chunk in chunks]
    assert texts == ["You said: He", "You said: Hello there", "You said: Hello there"]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(("api", "asked"), [(Generation, TEXT), (MultiModalConversation, MULTI)])
async def test_a_round_trip_of_tools(api, asked, streaming):
    """The SDK puts the fragments of both calls together, and its message is taken as history."""
    user = {"role": "user", "content": "both, please" if api is Generation else [{"text": "both, please"}]}
    fields = {**asked, "messages": [user], "tools": [WEATHER], "parallel_tool_calls": True}
    fields["result_format"] = "message"
    if streaming:
        first = (await stream(api, **fields, incremental_output=False))[-1]
    else:
        first = await call(api, **fields)
    assert choice(first).finish_reason == "tool_calls"
    message = choice(first).message
    assert [each["function"]["name"] for each in message.tool_calls] == ["get_weather"] * 2
    assert [json.loads(each["function"]["arguments"]) for each in message.tool_calls] == [
        {"city": "sample"}
    ] * 2
    results = [
        {"role": "tool", "content": weather, "tool_call_id": each["id"]}
        for weather, each in zip(("sunny", "12"), message.tool_calls, strict=True)
    ]
    second = await call(api, **{**fields, "messages": [user, message, *results]})
    content = choice(second).message.content
    assert (content if api is Generation else content[0]["text"]) == "The tool said: sunny; 12"
    third = await call(api, **{**fields, "messages": [user, message, *results[:1]]})
    assert third.status_code == HTTPStatus.BAD_REQUEST
    assert "did not have response messages" in third.message


async def test_a_picture():
    parts = [{"image": "data:image/png;base64,aGVsbG8="}, {"text": "What?"}]
    made = await call(MultiModalConversation, **{**MULTI, "messages": [{"role": "user", "content": parts}]})
    assert choice(made).message.content[0]["text"] == "I see 1 image (image/png, 5 bytes). You said: What?"
    assert made.usage.image_tokens == 2


async def test_several_choices():
    chunks = await stream(Generation, **TEXT, n=2, incremental_output=True)
    texts = ["", ""]
    for chunk in chunks:
        texts[choice(chunk).index] += choice(chunk).message.content
    assert texts == ["You said: Hello there"] * 2


@pytest.mark.parametrize("streaming", [False, True])
async def test_errors(streaming):
    async def failing(api, **fields):
        if not streaming:
            return await call(api, **fields)
        (only,) = await stream(api, **fields)
        return only

    for api, fields, status, code, words in (
        (MultiModalConversation, {**MULTI, "model": "qwen-plus"}, 400, "InvalidParameter", "url error"),
        (Generation, {**TEXT, "model": "qwen3.7-plus"}, 400, "InvalidParameter", "url error"),
        (Generation, {**TEXT, "model": "gpt-6-luna"}, 404, "ModelNotFound", "gpt-6-luna"),
        (Generation, {**TEXT, "api_key": "sim-wrong"}, 401, "InvalidApiKey", "Invalid API-key"),
        (Generation, {**TEXT, "api_key": "sim-noquota"}, 400, "Arrearage", "good standing"),
        (Generation, {**TEXT, "temperature": 2}, 400, "InvalidParameter", "temperature"),
    ):
        made = await failing(api, **fields)
        assert (made.status_code, made.code) == (status, code)
        assert words in made.message
        assert made.request_id


async def test_scripted_turns_and_faults(sim, caplog):
    sim.script(
        "qwen",
        Turn(text="x", usage=Usage(input=10, cached=4, output=12, reasoning=7)),
        Turn(tool_calls=[ToolCall(name="f", arguments={"a": 1}, id="call_7")]),
        Fault(status=429),
    )
    used = (await call(Generation, **TEXT)).usage
    assert (used.input_tokens, used.output_tokens, used.total_tokens) == (10, 12, 22)
    assert used.prompt_tokens_details["cached_tokens"] == 4
    assert used.output_tokens_details["reasoning_tokens"] == 7
    assert choice(await call(Generation, **TEXT)).message.tool_calls[0]["id"] == "call_7"
    limited = await call(Generation, **TEXT)
    assert (limited.status_code, limited.code) == (429, "Throttling.RateQuota")
    sim.script("qwen", Fault(kind="error_event", status=429, events=1))
    *_, last = await stream(Generation, **TEXT, incremental_output=True)
    assert last.code == "Throttling.RateQuota"
    sim.script("qwen", *[Fault(kind="close")] * 2)
    with caplog.at_level(logging.CRITICAL, "dashscope"), pytest.raises(requests.exceptions.ConnectionError):
        await call(Generation, **TEXT)


async def test_async_clients(sim):
    text = await AioGeneration.call(**TEXT)
    assert choice(text).message.content == "You said: Hello there"
    listed = await AioMultiModalConversation.call(**MULTI)
    assert choice(listed).message.content == [{"text": "You said: Hello there"}]
    pieces = [
        choice(chunk).message.content
        async for chunk in await AioGeneration.call(**TEXT, stream=True, incremental_output=True)
    ]
    assert "".join(pieces) == "You said: Hello there"
    wrong = await AioGeneration.call(**{**TEXT, "temperature": 2})
    assert (wrong.status_code, wrong.code) == (400, "InvalidParameter")
    sim.script("qwen", Fault(kind="error_event", status=503, events=1))
    streamed = await AioMultiModalConversation.call(**MULTI, stream=True, incremental_output=True)
    codes = [chunk.code async for chunk in streamed]
    assert codes == ["", "ModelUnavailable"]


async def test_models():
    page = await asyncio.to_thread(Models.list, page=2, page_size=3, api_key=KEY)
    assert (page.output["page_no"], page.output["page_size"], len(page.output["models"])) == (2, 3, 3)
    one = await asyncio.to_thread(Models.get, "qwen-plus", api_key=KEY)
    assert one.output["model"] == "qwen-plus"
    none = await asyncio.to_thread(Models.get, "nope", api_key=KEY)
    assert none.status_code == HTTPStatus.NOT_FOUND


# --- the client of version 2, which speaks natively by default --------------------------------------------


@pytest.fixture
async def client(sim):
    async with dashscope.AsyncClient(api_key=KEY, base_url=sim.url("qwen"), max_retries=0) as made:
        yield made


async def test_the_new_client(client):
    text = await client.chat.completions.create(model="qwen-plus", messages=[USER])
    assert (choice_of(text).message.content, choice_of(text).finish_reason) == (
        "You said: Hello there",
        "stop",
    )
    picture = {"type": "image", "url": "data:image/png;base64,aGVsbG8=", "max_pixels": 9}
    user = {"role": "user", "content": [picture, {"type": "text", "text": "What?"}]}
    seen = await client.multimodal.chat.create(model="qwen3.7-plus", messages=[user])
    assert choice_of(seen).message.content == "I see 1 image (image/png, 5 bytes). You said: What?"
    assert choice_of(seen).message.reasoning_content
    models = await client.models.list()
    assert (models.page_no, models.page_size, len(models.models)) == (1, 10, 10)


async def test_a_round_trip_of_tools_in_the_new_client(client):
    """Its stream leaves the fragments of a call as they came: by index, further ones without id and name."""
    user = {"role": "user", "content": "both, please"}
    fields = {"model": "qwen-plus", "tools": [WEATHER], "parallel_tool_calls": True}
    calls: dict[int, dict] = {}
    async for chunk in await client.chat.completions.create(**fields, messages=[user], stream=True):
        for piece in choice_of(chunk).delta.tool_calls or ():
            call = calls.setdefault(piece.index, {"id": piece.id, "type": "function"})
            function = call.setdefault("function", {"name": piece.function.name, "arguments": ""})
            function["arguments"] += piece.function.arguments
    assert [call["function"] for call in calls.values()] == [
        {"name": "get_weather", "arguments": '{"city":"sample"}'}
    ] * 2
    said = {"role": "assistant", "content": "", "tool_calls": [*calls.values()]}
    results = [{"role": "tool", "content": "sunny", "tool_call_id": call["id"]} for call in calls.values()]
    answer = await client.chat.completions.create(**fields, messages=[user, said, *results])
    assert choice_of(answer).message.content == "The tool said: sunny; sunny"


async def test_errors_of_the_new_client(sim, client):
    async def ask(model="qwen-plus", **fields):
        made = await client.chat.completions.create(model=model, messages=[USER], **fields)
        return [chunk async for chunk in made] if fields.get("stream") else made

    for streaming in (False, True):
        with pytest.raises(errors.BadRequestError, match="url error"):
            await ask("qwen3.7-plus", stream=streaming)
        with pytest.raises(errors.NotFoundError, match="ModelNotFound"):
            await ask("gpt-6-luna", stream=streaming)
        sim.script("qwen", Fault(status=429))
        with pytest.raises(errors.RateLimitError):
            await ask(stream=streaming)
    sim.script("qwen", Fault(kind="error_event", status=429, events=1), Fault(kind="error_200", status=500))
    with pytest.raises(errors.RateLimitError, match=r"Throttling\.RateQuota"):
        await ask(stream=True)
    with pytest.raises(errors.DashScopeError, match="InternalError"):
        await ask()


def choice_of(answer):
    return answer.choices[0]
