"""The stand-in's reasoning items: encrypted when asked for, and verified when they come back."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from gateway.simulator import ToolCall, Turn

ASK = {"role": "user", "content": "Weather?"}
TURN = Turn(reasoning="Hm.", tool_calls=[ToolCall(name="get_weather", id="call_1")])
INCLUDE: Any = ["reasoning.encrypted_content"]
MODEL = "gpt-6-luna"


@pytest.fixture
async def client(sim):
    async with openai.AsyncOpenAI(base_url=sim.url("openai"), api_key="sim-key", max_retries=0) as made:
        yield made


async def answer(sim, client, *, stream: bool = False, **fields: Any) -> list[dict[str, Any]]:
    """The output items of a turn with a thought and a call."""
    sim.script("openai", TURN)
    made = await client.responses.create(model=MODEL, input=[ASK], stream=stream, **fields)
    if stream:
        events = [event async for event in made]
        items = [event.item for event in events if event.type == "response.output_item.done"]
    else:
        items = made.output
    return [item.model_dump(exclude_none=True) for item in items]


@pytest.mark.parametrize("stream", [False, True])
async def test_thoughts_come_encrypted_when_asked_for_and_go_back(sim, client, stream):
    bare = await answer(sim, client, stream=stream)
    assert "encrypted_content" not in bare[0]
    items = await answer(sim, client, stream=stream, include=INCLUDE)
    assert items[0]["encrypted_content"]
    told = {"type": "function_call_output", "call_id": "call_1", "output": "18"}
    made = await client.responses.create(model=MODEL, input=[ASK, *items, told], store=False)
    assert made.status == "completed"


def mangled(thought: dict[str, Any], call: dict[str, Any], how: str) -> list[dict[str, Any]]:
    return {
        "changed": [{**thought, "encrypted_content": "Y2hhbmdlZA=="}, call],
        "of another item": [{**thought, "id": "rs_other"}, call],
        "without its content": [{k: v for k, v in thought.items() if k != "encrypted_content"}, call],
        "after what it led to": [call, thought],
    }[how]


REFUSALS = {
    "changed": (400, "could not be verified", "invalid_encrypted_content"),
    "of another item": (400, "could not be verified", "invalid_encrypted_content"),
    "without its content": (404, "Items are not persisted", None),
    "after what it led to": (400, "without its required following item", None),
}


@pytest.mark.parametrize("how", REFUSALS)
async def test_thoughts_that_are_not_as_they_were_are_refused(sim, client, how):
    status, words, code = REFUSALS[how]
    thought, call = await answer(sim, client, include=INCLUDE)
    told = {"type": "function_call_output", "call_id": "call_1", "output": "18"}
    with pytest.raises(openai.APIStatusError, match=words) as caught:
        await client.responses.create(model=MODEL, input=[ASK, *mangled(thought, call, how), told])
    assert (caught.value.status_code, caught.value.code) == (status, code)


async def test_thoughts_of_another_model_are_refused(sim, client):
    items = await answer(sim, client, include=INCLUDE)
    told = {"type": "function_call_output", "call_id": "call_1", "output": "18"}
    with pytest.raises(openai.BadRequestError, match="could not be verified"):
        await client.responses.create(model="gpt-5.5", input=[ASK, *items, told])
