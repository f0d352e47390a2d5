"""A tool loop of five turns with thinking on, as a normal user of the official SDK writes it.

The stand-ins are as strict as the APIs about what a turn has to bring back; what a client drops, the gateway
has to know. Without the vault each of these loops loses it, and a test here says so.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from gateway.providers import PROVIDERS
from gateway.simulator import Fault, Simulator, ToolCall, Turn

from ..providers.cases import CLOCK, WEATHER
from .conftest import BASE, NO_TLS, SIMULATED, plain_client, pointed_at, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

OFF = BASE + "[vault]\nenabled = false\n"
TURNS = 5
MODELS = (
    "openai/gpt-6-luna",  # takes tools on the Responses API only
    "anthropic/claude-sonnet-5",
    "anthropic/claude-sonnet-5-5",  # its signatures hold for one conversation only
    "anthropic/claude-haiku-4-5",  # thinks by a budget, and refuses a loop without its thoughts
    "gemini/gemini-3.8-flash",
    "deepseek/deepseek-flash",
)
STATELESS = ("qwen/qwen3.7-plus",)  # nothing has to come back there: the loop works all the same
ALL = [*MODELS, *(model for model in STATELESS if model.partition("/")[0] in {*PROVIDERS} & {*SIMULATED})]

every = pytest.mark.parametrize("model", ALL)


def provider_of(model: str) -> str:
    return model.partition("/")[0]


# ── what a stand-in was given ──────────────────────────────────────────────────────────────────────────


def blocks(body: dict[str, Any]) -> list[str]:
    turns = [m["content"] for m in body["messages"] if m["role"] == "assistant"]
    return [turn[0]["signature"] for turn in turns if turn[0]["type"] == "thinking"]


def signatures(body: dict[str, Any]) -> list[str]:
    turns = [c["parts"] for c in body["contents"] if c["role"] == "model"]
    signed = [[p["thoughtSignature"] for p in parts if "thoughtSignature" in p] for parts in turns]
    return [found[0] for found in signed if found and not found[0].startswith("c2tpcF")]


def thoughts(body: dict[str, Any]) -> list[str]:
    turns = [m["reasoning_content"] for m in body["messages"] if m["role"] == "assistant"]
    return [thought for thought in turns if thought.strip()]


def items(body: dict[str, Any]) -> list[str]:
    return [item["encrypted_content"] for item in body["input"] if item["type"] == "reasoning"]


STATE: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "openai": items,
    "anthropic": blocks,
    "gemini": signatures,
    "deepseek": thoughts,
}


def state(sim: Simulator, provider: str, at: int = -1) -> list[str]:
    """The state of earlier turns in one call to a stand-in, oldest first: real ones only."""
    return STATE[provider](sim.calls(provider)[at].json)


# ── a normal user ──────────────────────────────────────────────────────────────────────────────────────


async def rebuilt(client: AsyncOpenAI, ask: dict[str, Any]) -> dict[str, Any]:
    """The next turn, of which only what OpenAI's documents name is kept."""
    said = (await client.chat.completions.create(**ask)).choices[0].message
    turn: dict[str, Any] = {"role": "assistant", "content": said.content}
    if said.tool_calls:
        turn["tool_calls"] = [
            {
                "id": c.id,
                "type": "function",
                "function": {"name": c.function.name, "arguments": c.function.arguments},
            }
            for c in said.tool_calls
            if c.type == "function"
        ]
    return turn


async def streamed(client: AsyncOpenAI, ask: dict[str, Any]) -> dict[str, Any]:
    """The same from a stream, put together as in OpenAI's own examples."""
    text, calls = "", {}
    async for chunk in await client.chat.completions.create(**ask, stream=True):
        delta = chunk.choices[0].delta
        text += delta.content or ""
        for piece in delta.tool_calls or ():
            assert piece.function is not None
            call = calls.setdefault(
                piece.index,
                {
                    "id": piece.id,
                    "type": "function",
                    "function": {"name": piece.function.name, "arguments": ""},
                },
            )
            call["function"]["arguments"] += piece.function.arguments or ""
    return {"role": "assistant", "content": text or None} | (
        {"tool_calls": [*calls.values()]} if calls else {}
    )


async def as_given(client: AsyncOpenAI, ask: dict[str, Any]) -> Any:
    """The SDK's own message, which keeps everything that it does not know."""
    return (await client.chat.completions.create(**ask)).choices[0].message


async def rewritten(client: AsyncOpenAI, ask: dict[str, Any]) -> dict[str, Any]:
    """A framework that parses arguments and writes them anew, and trims texts."""
    turn = await streamed(client, ask)
    turn["content"] = (turn["content"] or "").strip()
    for call in turn.get("tool_calls", ()):
        arguments = json.loads(call["function"]["arguments"])
        call["function"]["arguments"] = json.dumps(arguments, indent=2, sort_keys=True)
    return turn


WAYS = {"rebuilt": rebuilt, "streamed": streamed, "as given": as_given, "rewritten": rewritten}


def calls_of(turn: Any) -> list[str]:
    calls = turn.get("tool_calls") if isinstance(turn, dict) else turn.tool_calls
    return [call["id"] if isinstance(call, dict) else call.id for call in calls or ()]


def results(turn: Any) -> list[dict[str, Any]]:
    return [{"role": "tool", "tool_call_id": c, "content": f"result of {c}"} for c in calls_of(turn)]


def step(number: int) -> Turn:
    """Thoughts, a text, and two calls at once."""
    return Turn(
        text=f"Step {number}. ",
        reasoning=f"Thought {number}.",
        tool_calls=[
            ToolCall(name="get_weather", arguments={"days": number, "city": "Paris"}),
            ToolCall(name="get_time", arguments={}),
        ],
    )


DONE = Turn(text="Done.", reasoning="Thought at the end.")


class Loop:
    """A conversation: each `turn` is one call of the model, with the results of its calls."""

    def __init__(self, client: AsyncOpenAI, way: str) -> None:
        self.client = client
        self.messages: list[Any] = [
            {"role": "system", "content": "Use the tools."},
            {"role": "user", "content": "Weather and time, five times."},
        ]
        self._next = WAYS[way]

    async def turn(self, model: str) -> Any:
        said = await self._next(
            self.client,
            {
                "model": model,
                "messages": self.messages,
                "tools": [WEATHER, CLOCK],
                "reasoning_effort": "high",
            },
        )
        self.messages += [said, *results(said)]
        return said


@asynccontextmanager
async def sdk(address: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{address}/v1",
        api_key="any",
        max_retries=0,
        http_client=DefaultAsyncHttpxClient(verify=NO_TLS),
    ) as made:
        yield made


# ── the loop ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", WAYS)
@every
async def test_five_turns_of_parallel_calls(client: AsyncOpenAI, sim: Simulator, model: str, way: str):
    """Every turn brings back what every turn before it carried, each call is made once."""
    provider = provider_of(model)
    sim.script(provider, *map(step, range(TURNS)), DONE, Turn(text="Welcome."))
    loop = Loop(client, way)
    for number in range(TURNS):
        said = await loop.turn(model)
        assert len(calls_of(said)) == 2
        if provider in STATE:
            assert len(state(sim, provider)) == number
    await loop.turn(model)
    loop.messages.append({"role": "user", "content": "Thank you."})
    await loop.turn(model)
    assert len(sim.calls(provider)) == TURNS + 2, "nothing was refused and sent again"
    if provider in STATE:
        found = state(sim, provider)
        assert len(found) == TURNS + 1, "the answer without calls too"
        assert len(set(found)) == TURNS + 1, "each turn has its own"


@pytest.mark.parametrize("way", ["rebuilt", "streamed"])
@pytest.mark.parametrize("model", MODELS)
async def test_without_the_vault_the_state_is_gone(sim: Simulator, model: str, way: str):
    """The same loop with the vault off: the conversation goes on, with stand-ins or without thinking."""
    provider = provider_of(model)
    sim.script(provider, step(0), step(1), DONE)
    async with serving(pointed_at(sim, OFF)) as address, sdk(address) as made:
        loop = Loop(made, way)
        for _ in range(3):
            await loop.turn(model)
        async with plain_client(address) as http:
            assert (await http.get("/health")).json()["vault"] is None
    assert state(sim, provider) == []


@pytest.mark.parametrize("model", MODELS)
async def test_an_explanation_shows_what_is_put_back(
    client: AsyncOpenAI, sim: Simulator, http: Any, model: str
):
    provider = provider_of(model)
    sim.script(provider, step(0), DONE)
    loop = Loop(client, "rebuilt")
    await loop.turn(model)
    asked = {
        "model": model,
        "messages": loop.messages,
        "tools": [WEATHER, CLOCK],
        "reasoning_effort": "high",
    }
    explained = await http.post("/v1/chat/completions", json=asked, headers={"x-gateway-explain": "1"})
    await loop.turn(model)
    assert explained.json()["targets"][0]["request"]["body"] == sim.calls(provider)[-1].json
    assert state(sim, provider)


async def test_health_shows_how_much_is_kept(client: AsyncOpenAI, sim: Simulator, http: Any):
    before = (await http.get("/health")).json()["vault"]
    sim.script("gemini", step(0))
    await Loop(client, "rebuilt").turn("gemini/gemini-3.8-flash")
    after = (await http.get("/health")).json()["vault"]
    assert after["entries"] == before["entries"] + 1
    assert after["bytes"] > before["bytes"]


@pytest.mark.parametrize("limit", ["max_bytes = 1000", "max_age = 0.000001"])
async def test_the_limits_are_those_of_the_settings(sim: Simulator, limit: str):
    """With no room or no time nothing is kept."""
    sim.script("deepseek", step(0), step(1))
    async with serving(pointed_at(sim, f"{BASE}[vault]\n{limit}\n")) as address, sdk(address) as made:
        loop = Loop(made, "rebuilt")
        await loop.turn("deepseek/deepseek-flash")
        await loop.turn("deepseek/deepseek-flash")
    assert state(sim, "deepseek") == []


# ── another model in the middle ────────────────────────────────────────────────────────────────────────

CLAUDE, GEMINI = "anthropic/claude-sonnet-5", "gemini/gemini-3.8-flash"


@pytest.mark.parametrize("way", WAYS)
async def test_switching_models_sends_nobodys_state_to_another(client: AsyncOpenAI, sim: Simulator, way: str):
    sim.script("anthropic", step(0), step(3), step(4))
    sim.script("gemini", step(1), step(2))
    loop = Loop(client, way)
    for model in (CLAUDE, GEMINI, GEMINI, CLAUDE, CLAUDE):
        await loop.turn(model)
    assert [len(state(sim, "gemini", at)) for at in (0, 1)] == [0, 1]
    assert [len(state(sim, "anthropic", at)) for at in (0, 1, 2)] == [0, 1, 2]
    assert len(sim.calls("anthropic")) == 3, "nothing was refused and sent again"
    assert len(sim.calls("gemini")) == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("anthropic/claude-sonnet-5", "anthropic/claude-opus-5"),
        ("openai/gpt-6-luna", "openai/gpt-5.5"),
        ("gemini/gemini-3.8-flash", "gemini/gemini-3.1-pro-preview"),
        ("deepseek/deepseek-flash", "anthropic/claude-sonnet-5"),
        ("anthropic/claude-sonnet-5", "deepseek/deepseek-flash"),
    ],
)
async def test_a_client_that_keeps_everything_may_switch_too(
    client: AsyncOpenAI, sim: Simulator, first: str, second: str
):
    """What it brings of the other model is taken out before that one could refuse it."""
    for number, model in enumerate((first, second, first)):
        sim.script(provider_of(model), step(number))
    loop = Loop(client, "as given")
    for model in (first, second):
        await loop.turn(model)
    assert state(sim, provider_of(second)) == []
    await loop.turn(first)
    assert len(state(sim, provider_of(first))) == 1
    assert len(sim.calls()) == 3, "nothing was refused and sent again"


@pytest.mark.parametrize("way", WAYS)
async def test_failover_in_the_middle_of_a_loop(client: AsyncOpenAI, sim: Simulator, way: str):
    """The first target of a route fails for two turns; each target sees its own turns signed."""
    sim.script("anthropic", step(0), Fault(status=529), Fault(status=529), step(3), step(4))
    sim.script("gemini", step(1), step(2))
    loop = Loop(client, way)
    for _ in range(TURNS):
        await loop.turn("trio")
    assert [len(state(sim, "gemini", at)) for at in (0, 1)] == [0, 1]
    assert [len(state(sim, "anthropic", at)) for at in range(5)] == [0, 1, 1, 1, 2]


async def test_a_changed_instruction_costs_thoughts_and_no_second_call(client: AsyncOpenAI, sim: Simulator):
    """Signatures that hold for one conversation only are not tried on another: a clock in the system text."""
    sim.script("anthropic", step(0), step(1), step(2))
    loop = Loop(client, "rebuilt")
    for number in range(3):
        loop.messages[0] = {"role": "system", "content": f"It is {number} o'clock."}
        await loop.turn("anthropic/claude-sonnet-5-5")
    assert state(sim, "anthropic") == []
    assert len(sim.calls("anthropic")) == 3


async def test_stale_reasoning_does_not_end_the_conversation(client: AsyncOpenAI, sim: Simulator):
    """A client that brings reasoning of another key: the call is made once more without it."""
    sim.script("openai", step(0), step(1))
    loop = Loop(client, "rebuilt")
    first = await loop.turn("openai/gpt-6-luna")
    first["reasoning_details"] = [
        {
            "index": 0,
            "type": "reasoning.encrypted",
            "data": "c2ltLW9sZA==",
            "id": "rs_old",
            "format": "openai-responses-v1",
        }
    ]
    second = await loop.turn("openai/gpt-6-luna")
    assert len(calls_of(second)) == 2
    assert [len(state(sim, "openai", at)) for at in range(3)] == [0, 1, 0]


# ── clients that do not know of each other ─────────────────────────────────────────────────────────────


def said_by(who: str, text: str) -> list[dict[str, Any]]:
    return [{"role": "system", "content": f"You serve {who}."}, {"role": "user", "content": text}]


@pytest.mark.parametrize("model", MODELS)
async def test_the_same_words_under_other_instructions(client: AsyncOpenAI, sim: Simulator, model: str):
    """Another client said the same and got the same answer: its thoughts are nobody else's."""
    provider = provider_of(model)
    ask: dict[str, Any] = {"model": model, "tools": [WEATHER], "reasoning_effort": "high"}
    sim.script(provider, Turn(text="Hello!", reasoning="Whom B trusts."), DONE, DONE)
    await client.chat.completions.create(**ask, messages=said_by("B", "Hi"))
    history = [{"role": "assistant", "content": "Hello!"}, {"role": "user", "content": "Bye"}]
    await client.chat.completions.create(**ask, messages=[*said_by("A", "Hi"), *history])
    assert state(sim, provider) == []
    await client.chat.completions.create(**ask, messages=[*said_by("B", "Hi"), *history])
    assert len(state(sim, provider)) == 1


async def test_a_server_that_counts_its_calls_from_0(client: AsyncOpenAI, sim: Simulator):
    """Ids, names and arguments are the same in every conversation; thoughts are not."""
    ask: dict[str, Any] = {"model": "deepseek/deepseek-flash", "tools": [CLOCK]}
    call = {"id": "call_0", "type": "function", "function": {"name": "get_time", "arguments": "{}"}}
    turn = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_0", "content": "12:00"},
    ]
    counted = ToolCall(name="get_time", arguments={}, id="call_0")
    sim.script("deepseek", *(Turn(reasoning=f"Thought of {who}.", tool_calls=[counted]) for who in "AB"))
    for who in "AB":
        await client.chat.completions.create(**ask, messages=said_by(who, "What time is it?"))
    for who in "AB":
        await client.chat.completions.create(**ask, messages=[*said_by(who, "What time is it?"), *turn])
        assert state(sim, "deepseek") == [f"Thought of {who}."]


@pytest.mark.parametrize("odd", [b"1e400", b"9" * 5000])
async def test_an_unknown_field_is_none_of_our_business(
    client: AsyncOpenAI, sim: Simulator, http: Any, odd: bytes
):
    """Whatever is in it: the turn has its thoughts again, and the call is answered."""
    sim.script("deepseek", step(0), DONE)
    loop = Loop(client, "rebuilt")
    await loop.turn("deepseek/deepseek-flash")
    loop.messages[2]["zzz"] = "odd"
    asked = {"model": "deepseek/deepseek-flash", "messages": loop.messages, "tools": [WEATHER, CLOCK]}
    body = json.dumps(asked).encode().replace(b'"odd"', odd)
    answer = await http.post(
        "/v1/chat/completions", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 200
    assert state(sim, "deepseek") == ["Thought 0."]
