"""Chat through agents, over real sockets: one answer of many calls, and no agent left behind.

The simulator keeps agents as the real API does, and is asked what they were told to do, in which order.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import msgspec
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from gateway.simulator import Fault, Simulator, Turn

from .conftest import plain_client, pointed_at, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "Hi"}]
HELLO = Turn(text="Hello world", reasoning="hm", pieces=["Hello ", "world"])
ENDLESS = Turn(text="Hello", finish_native="RUNNING")
"""A run that talks and never ends, until somebody cancels it."""
FAST = """
[timeouts]
first_byte = 5
[providers.cursor.timeouts]
idle = 0.3
[server]
keepalive_after = 0.05
keepalive_every = 0.05
[providers.cursor.options]
calls_per_minute = 10000
[routes.pair]
targets = ["openai/gpt-5.4", "cursor/auto"]
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(shared_sim: Simulator) -> AsyncIterator[str]:
    async with serving(pointed_at(shared_sim, FAST)) as address:
        yield address


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def nothing_left_behind(sim: Simulator) -> AsyncIterator[None]:
    """Whatever happened: no agent is still at work, and each was put away."""
    yield
    agents = sim.stand_in("cursor").agents
    await until(lambda: all(agent.archived for agent in agents))
    loop = asyncio.get_running_loop()
    assert not [run for agent in agents for run in agent.runs if run.status(loop.time()) == "RUNNING"]


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.005)


def body(stream: bool = False, **fields: Any) -> dict[str, Any]:
    return {"model": "cursor/auto", "messages": HI, "stream": stream, **fields}


def called(sim: Simulator) -> list[str]:
    """What was asked of the API, in order, without ids."""
    return [f"{call.method} {call.path.split('?')[0].rpartition('/')[2]}" for call in sim.calls("cursor")]


async def texts(client: AsyncOpenAI) -> tuple[str, str]:
    """A streamed answer: its text and its thoughts."""
    stream = await client.chat.completions.create(model="cursor/auto", messages=HI, stream=True)
    text, thoughts = [], []
    async for chunk in stream:
        delta = chunk.choices[0].delta
        text.append(delta.content or "")
        thoughts.append(getattr(delta, "reasoning_content", None) or "")
    return "".join(text), "".join(thoughts)


async def test_a_chat_is_an_agent_of_its_own(client: AsyncOpenAI, sim: Simulator):
    sim.script("cursor", HELLO, HELLO)
    answer = await client.chat.completions.create(model="cursor/auto", messages=HI)
    assert answer.choices[0].message.content == "Hello world"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    assert await texts(client) == ("Hello world", "hm")
    await until(lambda: len(sim.calls("cursor")) == 6)
    assert sorted(called(sim)) == ["GET stream"] * 2 + ["POST agents"] * 2 + ["POST archive"] * 2
    assert len({agent.id for agent in sim.stand_in("cursor").agents}) == 2


@pytest.mark.parametrize("kind", ["reset_after", "close_after", "clean_cut"])
async def test_a_cut_stream_is_taken_up_where_it_broke_off(client: AsyncOpenAI, sim: Simulator, kind: str):
    """Golden 5: the client sees every word once."""
    sim.script("cursor", Fault(kind=kind, events=2, turn=HELLO))
    assert await texts(client) == ("Hello world", "hm")
    streams = [call for call in sim.calls("cursor") if call.path.endswith("/stream")]
    assert len(streams) == 2
    assert "last-event-id" in streams[1].headers


async def test_a_stream_that_is_not_there_yet(client: AsyncOpenAI, sim: Simulator):
    """Golden 4: the run was made a moment ago, and its stream says it is unavailable."""
    slow = Turn(text="Hello world", pieces=["Hello ", "world"], delay_between=0.05)
    early = Fault(kind="error_event", code="stream_unavailable", preamble=True, turn=slow)
    sim.script("cursor", early)
    assert (await texts(client))[0] == "Hello world"


async def test_silence_is_looked_into_and_the_stream_taken_up_again(client: AsyncOpenAI, sim: Simulator):
    """Golden 16: a run that says nothing is asked how it is, and listened to again."""
    slow = Turn(text="Hello world", pieces=["Hello ", "world"], delay_between=0.5)
    sim.script("cursor", Fault(kind="stall_after", events=1, turn=slow))
    assert (await texts(client))[0] == "Hello world"
    assert any(call.method == "GET" and "/runs/" in call.path for call in sim.calls("cursor"))


async def test_a_lost_answer_does_not_make_two_agents(client: AsyncOpenAI, sim: Simulator):
    """Golden 8: the API made the agent, and the connection was reset before it said so."""
    sim.script("cursor", Fault(kind="reset", turn=HELLO))
    assert (await texts(client))[0] == "Hello world"
    assert len(list(sim.stand_in("cursor").agents)) == 1


async def test_leaving_while_the_agent_is_made(sim: Simulator, http: httpx2.AsyncClient):
    """Golden 11: the call is let finish, then the run is cancelled and the agent put away."""
    sim.script("cursor", Turn(text="late", delay_first=0.2, finish_native="RUNNING"))
    with pytest.raises(httpx2.ReadTimeout):
        await http.post(CHAT, json=body(), timeout=0.1)
    await until(lambda: "POST archive" in called(sim))
    (agent,) = sim.stand_in("cursor").agents
    assert agent.archived
    assert agent.runs[0].cancelled is not None


@pytest.mark.parametrize("refused", [False, True], ids=["taken", "409"])
async def test_leaving_in_the_middle_of_the_answer(http: httpx2.AsyncClient, sim: Simulator, refused: bool):
    """Golden 12: cancelled within a second, archived after; that there is nothing to cancel is fine."""
    sim.script("cursor", ENDLESS)
    if refused:
        over = Fault(status=409, code="run_not_cancellable", turn=Turn())
        sim.script("cursor", over, on="cancel")
    async with http.stream("POST", CHAT, json=body(stream=True)) as answer:
        async for line in answer.aiter_lines():
            if "Hello" in line:
                break
    loop = asyncio.get_running_loop()
    left = loop.time()
    await until(lambda: "POST cancel" in called(sim))
    assert loop.time() - left < 1
    await until(lambda: "POST archive" in called(sim))


@pytest.mark.parametrize(("text", "streaming"), [("", False), ("", True), ("Half", False), ("Half", True)])
async def test_a_run_that_fails(http: httpx2.AsyncClient, sim: Simulator, text: str, streaming: bool):
    """Golden 13: before any text a 502, after it an error in the stream."""
    wrong = {"error": {"code": "internal_error", "message": "the VM is gone"}}
    sim.script("cursor", Turn(text=text, finish_native="ERROR", extra=wrong))
    answer = await http.post(CHAT, json=body(streaming))
    if streaming and text:
        *_, last, end = answer.text.split("\n\n")
        assert (answer.status_code, end) == (200, "")
        error = msgspec.json.decode(last.removeprefix("data: "))["error"]
        assert error["code"] == "stream_interrupted"
    else:
        assert answer.status_code == 502
        error = answer.json()["error"]
    assert "the VM is gone" in error["message"]


async def test_a_quiet_run_keeps_the_client_company(http: httpx2.AsyncClient, sim: Simulator):
    """Golden 15: heartbeats are no silence of the provider, and the client sees comments meanwhile."""
    sim.stand_in("cursor").heartbeat = 0.05
    sim.script("cursor", Turn(text="at last", delay_first=0.6, headers_first=True))
    answer = await http.post(CHAT, json=body(stream=True))
    assert answer.text.count(": keep-alive") >= 2
    assert "at last" in answer.text
    assert called(sim).count("GET stream") == 1


async def test_what_it_cannot_take_is_named(http: httpx2.AsyncClient, sim: Simulator):
    """Golden 18 and 20: refused without a call, or dropped and named; strict clients are refused first."""
    tool = {"type": "function", "function": {"name": "f"}}
    refused = await http.post(CHAT, json=body(tools=[tool]))
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tools")
    strict = {"x-gateway-strict": "1"}
    refused = await http.post(CHAT, json=body(temperature=0.5), headers=strict)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "temperature")
    assert sim.calls("cursor") == []
    for streaming in (False, True):
        answer = await http.post(CHAT, json=body(streaming, temperature=0.5, stop=["x"], max_tokens=5))
        assert answer.headers["x-gateway-dropped-params"] == "temperature, stop, max_tokens"


async def test_too_many_calls(http: httpx2.AsyncClient, sim: Simulator):
    """Golden 17: an error whose body has a text where others have an object."""
    sim.script("cursor", Fault(status=429, headers={"retry-after": "60"}))
    answer = await http.post(CHAT, json=body())
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"


async def test_only_who_names_it_gets_it(http: httpx2.AsyncClient, sim: Simulator):
    """Golden 27: `auto` never comes here; a route that says so may."""
    down = Fault(status=503)
    sim.always("openai", down)
    routed = await http.post(CHAT, json=body(model="pair"))
    assert routed.headers["x-gateway-provider"] == "cursor"
    for name in ("anthropic", "gemini", "deepseek", "qwen"):
        sim.always(name, down)
    before = len(sim.calls("cursor"))
    await until(lambda: "POST archive" in called(sim))
    failed = await http.post(CHAT, json=body(model="auto"))
    assert failed.status_code == 503
    assert len(sim.calls("cursor")) <= before + 1  # the archive of the agent before


async def test_its_key_is_in_no_log(
    http: httpx2.AsyncClient, sim: Simulator, caplog: pytest.LogCaptureFixture
):
    """Golden 26, with an API that repeats the key in its refusal."""
    caplog.set_level(logging.DEBUG)
    sim.script("cursor", Fault(status=401, message="bad key sim-key, crsr_0123456789abcdef"))
    answer = await http.post(CHAT, json=body())
    assert answer.status_code == 502
    for text in (answer.text, caplog.text):
        assert "crsr_0123456789abcdef" not in text


async def test_calls_keep_the_pace_of_the_api(shared_sim: Simulator, sim: Simulator):
    """Five calls a minute are one chat: the next is told to come back, and no agent is made for it."""
    slow = FAST.replace("10000", "5").replace("idle = 0.3", "idle = 0.3\ntotal = 0.5")
    sim.script("cursor", HELLO, HELLO)
    async with serving(pointed_at(shared_sim, slow)) as address, plain_client(address) as http:
        assert (await http.post(CHAT, json=body())).status_code == 200
        late = await http.post(CHAT, json=body())
        assert (late.status_code, late.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        await until(lambda: len(called(sim)) == 3)
        assert called(sim) == ["POST agents", "GET stream", "POST archive"]


async def test_many_who_leave_at_once_leave_no_agent_behind(http: httpx2.AsyncClient, sim: Simulator):
    sim.always("cursor", ENDLESS)

    async def leave() -> None:
        async with http.stream("POST", CHAT, json=body(stream=True)) as answer:
            async for line in answer.aiter_lines():
                if "Hello" in line:
                    return

    await asyncio.gather(*(leave() for _ in range(12)))
    await until(lambda: called(sim).count("POST archive") == 12)
    assert called(sim).count("POST cancel") == 12


async def test_stopping_the_gateway_leaves_no_agent_behind(shared_sim: Simulator, sim: Simulator):
    sim.always("cursor", ENDLESS)
    usual = FAST.replace("calls_per_minute = 10000", "calls_per_minute = 20")
    async with (
        serving(pointed_at(shared_sim, usual)) as address,
        plain_client(address) as http,
        http.stream("POST", CHAT, json=body(stream=True)) as answer,
    ):
        async for line in answer.aiter_lines():
            if "Hello" in line:
                break
    assert {"POST cancel", "POST archive"} <= {*called(sim)}


@pytest.mark.parametrize("times", [1, 2])
async def test_an_effort_that_the_model_takes_is_no_loss(shared_sim: Simulator, sim: Simulator, times: int):
    """A strict client is refused for what really gets lost, whatever the gateway knows of the models yet."""
    async with serving(pointed_at(shared_sim, FAST)) as address, plain_client(address) as http:
        for _ in range(times):
            asked = body(model="cursor/gpt-5.6-sol", reasoning_effort="high")
            answer = await http.post(CHAT, json=asked, headers={"x-gateway-strict": "1"})
            assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("value", ["1e400", "9" * 5000], ids=["1e400", "long"])
async def test_no_value_is_a_failure_of_the_gateway(http: httpx2.AsyncClient, sim: Simulator, value: str):
    """P55, for what is read here only."""
    message = f'{{"role":"user","content":"x","odd":{value}}}'
    text = f'{{"model":"cursor/gpt-5.6-sol","fast":{value},"messages":[{message}]}}'
    answer = await http.post(CHAT, content=text, headers={"content-type": "application/json"})
    assert answer.status_code in (200, 400)


async def test_a_result_that_is_longer_than_what_was_streamed_is_told_whole(
    client: AsyncOpenAI, sim: Simulator
):
    told = {"text": "Hello "}
    result = {"runId": "run-1", "status": "FINISHED", "text": "Hello world"}
    raw = [
        {"event": "assistant", "id": "1-0", "data": told},
        {"event": "result", "id": "2-0", "data": result},
    ]
    sim.script("cursor", Turn(raw=raw))
    assert (await texts(client))[0] == "Hello world"
