"""The Cursor stand-in: the life of agents and runs, their streams, and the passing of time."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from gateway.simulator import Simulator, ToolCall, Turn
from gateway.simulator.cursor_agents import KEEP, RETENTION
from gateway.simulator.http import steps_of
from gateway.simulator.wire import Rejected

from .cursor_client import AID, ANSWER, HELLO, PNG, Client, Desk, events_of, names, text_of


@pytest.fixture
def cursor(connect):
    return Client(connect)


@pytest.fixture
def desk():
    return Desk()


SLOW = Turn(text="abcd", pieces=1, delay_between=0.5)


# --- the life of an agent ---------------------------------------------------------------------------------


async def test_a_whole_life(sim, cursor):
    sim.script("cursor", ANSWER)
    status, headers, made = await cursor.call(
        "POST", "/v1/agents", {**HELLO, "agentId": AID, "name": "gw 1", "metadata": {"r": "1"}, "repos": []}
    )
    agent, run = made["agent"], made["run"]
    assert (status, len(headers["x-request-id"])) == (201, 32)
    assert (agent["id"], agent["name"], agent["status"], agent["metadata"]) == (
        AID,
        "gw 1",
        "ACTIVE",
        {"r": "1"},
    )
    assert agent["latestRunId"] == run["id"]
    assert re.fullmatch(r"run-[0-9a-f-]{36}", run["id"])
    assert (run["agentId"], run["status"]) == (AID, "CREATING")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", run["createdAt"])

    path = f"/v1/agents/{AID}"
    assert text_of(await cursor.listen(f"{path}/runs/{run['id']}")) == "Hello world"
    _, _, ended = await cursor.call("GET", f"{path}/runs/{run['id']}")
    assert (ended["status"], ended["result"]) == ("FINISHED", "Hello world")
    assert ended["durationMs"] >= 0
    _, _, shown = await cursor.call("GET", path)
    assert (shown["status"], shown["latestRunId"], shown["repos"], shown["env"]) == (
        "IDLE",
        run["id"],
        [],
        {"type": "cloud"},
    )

    _, _, followed = await cursor.call("POST", f"{path}/runs", {"prompt": {"text": "More"}})
    assert list(followed) == ["run"]
    assert text_of(await cursor.listen(f"{path}/runs/{followed['run']['id']}")) == "You said: More"
    _, _, runs = await cursor.call("GET", f"{path}/runs")
    assert [each["id"] for each in runs["items"]] == [followed["run"]["id"], run["id"]]
    assert all("result" not in each for each in runs["items"])

    for _ in range(2):
        assert (await cursor.call("POST", f"{path}/archive"))[::2] == (200, {"id": AID})
        assert (await cursor.call("GET", path))[2]["status"] == "ARCHIVED"
    assert (await cursor.call("POST", f"{path}/runs", HELLO))[2]["error"]["code"] == "agent_archived"
    await cursor.call("POST", f"{path}/unarchive")
    assert (await cursor.call("GET", path))[2]["status"] == "IDLE"
    assert (await cursor.call("DELETE", path))[::2] == (200, {"id": AID})
    status, _, gone = await cursor.call("GET", path)
    assert (status, gone["error"]["code"]) == (404, "agent_not_found")
    (left,) = sim.stand_in("cursor").agents
    assert (left.id, left.deleted, left.archived, len(left.runs)) == (AID, True, False, 2)
    assert "deleted 2 runs" in repr(left)
    assert "moments" in repr(left.runs[0])


async def test_an_agent_exists_once(sim, cursor):
    await cursor.create({**HELLO, "agentId": AID})
    sim.script("cursor", ANSWER)
    status, _, body = await cursor.call("POST", "/v1/agents", {**HELLO, "agentId": AID}, idempotency_key="k")
    assert (status, body["error"]["code"]) == (409, "agent_id_conflict")
    _agent, run = await cursor.create()
    assert (await cursor.call("GET", run))[2]["result"] == "Hello world", "a refused call takes no step"
    assert len(list(sim.stand_in("cursor").agents)) == 2


async def test_lists_come_in_pages(cursor):
    made = [(await cursor.create())[0].removeprefix("/v1/agents/") for _ in range(5)]
    await cursor.call("POST", f"/v1/agents/{made[4]}/archive")
    await cursor.call("DELETE", f"/v1/agents/{made[0]}")
    seen, at = [], ""
    while True:
        _, _, page = await cursor.call("GET", f"/v1/agents?limit=2&cursor={at}")
        seen += [agent["id"] for agent in page["items"]]
        if "nextCursor" not in page:
            break
        at = page["nextCursor"]
    assert seen == [made[3], made[2], made[1]]
    _, _, page = await cursor.call("GET", "/v1/agents?includeArchived=true")
    assert [agent["id"] for agent in page["items"]] == [made[4], made[3], made[2], made[1]]
    for query in ("limit=0", "limit=101", "limit=x", "limit=%C2%B2", "cursor=bc-x", "includeArchived=1"):
        status, _, body = await cursor.call("GET", f"/v1/agents?{query}")
        assert (status, body["error"]["code"]) == (400, "validation_error"), query


async def test_models_and_who(cursor):
    _, _, models = await cursor.call("GET", "/v1/models")
    by_id = {item["id"]: item for item in models["items"]}
    composer = by_id["composer-2.5"]
    assert "composer" in composer["aliases"]
    assert [each["value"] for each in composer["parameters"][0]["values"]] == ["true", "false"]
    assert [variant["params"] for variant in composer["variants"] if variant["isDefault"]] == [
        [{"id": "fast", "value": "true"}]
    ]
    assert {"id", "displayName"} == by_id["grok-4.6"].keys()
    assert [each["id"] for each in by_id["claude-opus-4-6"]["parameters"]] == ["effort", "thinking"]
    assert (await cursor.call("GET", "/v1/me"))[2]["userEmail"]


# --- the stream -------------------------------------------------------------------------------------------


async def test_the_order_of_events(sim, cursor):
    sim.script("cursor", ANSWER)
    _, run = await cursor.create()
    _, headers, _ = await cursor.call("GET", f"{run}/stream")
    assert headers["x-cursor-stream-retention-seconds"] == "86400"
    events = await cursor.listen(run)
    assert names(events) == [
        *("status", "thinking", "thinking-delta", "thinking-completed"),
        *("assistant", "text-delta", "assistant", "text-delta", "token-delta"),
        *("turn-ended", "result", "done"),
    ]  # fmt: skip
    ids = [identity for _, identity, _ in events]
    assert ids[0] is None
    assert all(re.fullmatch(r"\d{13}-\d+", identity) for identity in ids[1:])
    for one, two in ((1, 2), (4, 5), (6, 7), (10, 11)):
        assert ids[one] == ids[two], "twins share their id"
    assert len(set(ids[1:])) == len(ids) - 1 - 4
    assert events[0][2] == {"runId": run.rpartition("/")[2], "status": "RUNNING"}
    assert (text_of(events, "thinking"), text_of(events)) == ("hm", "Hello world")
    assert events[5][2] == {"type": "text-delta", "text": "Hello "}
    assert events[9][2]["usage"] == {
        "inputTokens": 30,
        "outputTokens": 9,
        "cacheReadTokens": 60,
        "cacheWriteTokens": 10,
        "reasoningTokens": 2,
    }
    assert (events[10][2]["status"], events[10][2]["text"]) == ("FINISHED", "Hello world")
    assert events[11][2] == {}


async def test_resuming_at_every_id_gives_exactly_the_rest(sim, cursor):
    sim.script(
        "cursor", Turn(text="one two three", reasoning="so", pieces=2, tool_calls=[ToolCall(name="shell")])
    )
    _, run = await cursor.create()
    _, *events = await cursor.listen(run)
    for identity in {each[1] for each in events}:
        last = max(at for at, each in enumerate(events) if each[1] == identity)
        rest = events[last + 1 :] or events[-1:]
        assert (await cursor.listen(run, identity))[1:] == rest


async def test_an_unknown_event_id_is_refused(cursor):
    (_, run), (_, other) = await cursor.create(), await cursor.create()
    foreign = (await cursor.listen(other))[-1][1]
    for last in ("x", foreign, "1713033006000-0"):
        status, _, body = await cursor.call("GET", f"{run}/stream", last_event_id=last)
        assert (status, body["error"]["code"]) == (400, "invalid_last_event_id")


async def test_only_the_result(sim, cursor):
    sim.script("cursor", Turn(text="Hello", pieces=[]))
    _, run = await cursor.create()
    events = await cursor.listen(run)
    assert text_of(events) == ""
    assert events[-2][2]["text"] == "Hello"


async def test_tools_of_its_own(sim, cursor):
    calls = [
        ToolCall(name="shell", arguments={"command": "ls"}),
        ToolCall(name="edit", arguments="{", id="c2"),
    ]
    sim.script("cursor", Turn(text="Done", tool_calls=calls))
    _, run = await cursor.create()
    events = await cursor.listen(run)
    tools = [data for kind, _, data in events if kind == "tool_call"]
    assert [(each["callId"], each["name"], each["status"]) for each in tools] == [
        ("call_1", "shell", "running"),
        ("call_1", "shell", "completed"),
        ("c2", "edit", "running"),
        ("c2", "edit", "completed"),
    ]
    assert (tools[0]["args"], tools[2]["args"]) == ({"command": "ls"}, "{")
    assert "result" in tools[1]
    assert names(events).count("tool-call-started") == names(events).count("tool-call-completed") == 2
    assert events[-2][2]["status"] == "FINISHED"


async def test_verbatim_answers(sim, cursor):
    raw = [{"event": "assistant", "id": "1-0", "data": {"text": "x"}}, "half", b": comment\n\n", {"any": 1}]
    sim.script("cursor", Turn(raw=raw), Turn(raw={"odd": 1}, headers={"X-Odd": "1"}), Turn(refusal="No."))
    _, run = await cursor.create()
    _, _, body = await cursor.call("GET", f"{run}/stream")
    assert (
        body
        == b'id: 1-0\nevent: assistant\ndata: {"text":"x"}\n\ndata: half\n\n: comment\n\ndata: {"any":1}\n\n'
    )
    status, headers, body = await cursor.call("POST", "/v1/agents", HELLO)
    assert (status, headers["x-odd"], body) == (201, "1", {"odd": 1})
    _, run = await cursor.create()
    assert text_of(await cursor.listen(run)) == "No."


async def test_the_brain_sees_prompt_images_and_efforts(cursor):
    _, run = await cursor.create({"prompt": {"text": "Look", "images": [PNG, {"url": "https://x/y.png"}]}})
    assert (
        text_of(await cursor.listen(run))
        == "I see 2 images (image/png, 5 bytes; image/url, 0 bytes). You said: Look"
    )
    for params, thought in (([("effort", "low")], True), ([("thinking", "false")], False)):
        model = {"id": "claude-opus-4-6", "params": [{"id": name, "value": value} for name, value in params]}
        _, run = await cursor.create({**HELLO, "model": model})
        assert bool(text_of(await cursor.listen(run), "thinking")) is thought


# --- time ---------------------------------------------------------------------------------------------------


def test_a_run_goes_on_while_nobody_listens(desk):
    run = desk.create(Turn(text="ab", pieces=1, delay_first=10, delay_between=1))
    seen = []
    for passed in (0, 10, 1, 1, 1, 1, 1):
        desk.clock.now += passed
        seen.append(desk.json("GET", run)["status"])
    assert seen == ["CREATING", *["RUNNING"] * 4, "FINISHED", "FINISHED"]
    assert desk.json("GET", run)["durationMs"] == 14_000


def play(desk, reply, until=None):
    """What a live stream sends, on our clock: (seconds since now, event name)."""
    started, found = desk.clock.now, []
    for step in steps_of(reply):
        if isinstance(step, float):
            desk.clock.now += max(step, 0.001)
        elif b"event: " in step:
            events = events_of(step.partition(b"\r\n")[2].rpartition(b"\r\n")[0])
            found += [(round(desk.clock.now - started, 1), name) for name in names(events)]
        if until is not None and desk.clock.now - started > until:
            break
    return found


def test_a_live_stream_follows_the_run(desk):
    run = desk.create(Turn(text="ab", pieces=1, delay_first=2, delay_between=1))
    assert play(desk, desk.call("GET", f"{run}/stream")) == [
        *((0.0, "status"), (2.0, "status")),
        *((2.0, "assistant"), (2.0, "text-delta"), (3.0, "assistant"), (3.0, "text-delta")),
        *((4.0, "token-delta"), (5.0, "turn-ended"), (6.0, "result"), (6.0, "done")),
    ]  # fmt: skip


def test_heartbeats_in_a_silence(desk):
    run = desk.create(Turn(text="a", delay_first=50, headers_first=True))
    assert desk.json("GET", run)["status"] == "RUNNING"
    found = play(desk, desk.call("GET", f"{run}/stream"))
    assert [(round(at), name) for at, name in found[:5]] == [
        (0, "status"),
        (15, "heartbeat"),
        (30, "heartbeat"),
        (45, "heartbeat"),
        (50, "assistant"),
    ]
    assert b"id:" not in desk.cursor.ping()


def test_cancelling_stops_a_run_and_its_open_streams(desk):
    run = desk.create(SLOW)
    steps = iter(steps_of(desk.call("GET", f"{run}/stream")))
    data = b""
    while b'{"text":"b"}' not in data:
        step = next(steps)
        if isinstance(step, float):
            desk.clock.now += step
        else:
            data += step
    assert desk.json("POST", f"{run}/cancel") == {"id": run.rpartition("/")[2]}
    rest = b"".join(step for step in steps if isinstance(step, bytes))
    assert b'{"text":"c"}' not in rest
    assert rest.count(b"event: result") == rest.count(b"event: done") == rest.count(b'"CANCELLED"') == 1
    ended = desk.json("GET", run)
    assert ended["status"] == "CANCELLED"
    assert "result" not in ended
    desk.clock.now += 100
    assert desk.json("GET", run) == ended, "what is over stays as it is"
    with pytest.raises(Rejected) as caught:
        desk.call("POST", f"{run}/cancel")
    assert (caught.value.status, caught.value.code) == (409, "run_not_cancellable")
    agent = run.partition("/runs")[0]
    assert desk.json("GET", f"{agent}/usage")["totalUsage"]["totalTokens"] == 0


def test_one_run_at_a_time(desk):
    run = desk.create(SLOW)
    agent = run.partition("/runs")[0]
    assert desk.json("GET", agent)["status"] == "ACTIVE"
    with pytest.raises(Rejected) as caught:
        desk.call("POST", f"{agent}/runs", HELLO)
    assert (caught.value.status, caught.value.code) == (409, "agent_busy")
    desk.clock.now += 100
    assert desk.json("POST", f"{agent}/runs", HELLO, ANSWER)["run"]["agentId"] == agent.rpartition("/")[2]


def test_deleting_stops_what_runs(desk):
    run = desk.create(SLOW)
    desk.call("DELETE", run.partition("/runs")[0])
    (agent,) = desk.cursor.agents
    assert agent.runs[0].cancelled == desk.clock.now
    with pytest.raises(Rejected):
        desk.call("GET", run)


def test_a_stream_is_kept_for_a_day(desk):
    run = desk.create(ANSWER)
    desk.clock.now += RETENTION - 1
    desk.call("GET", f"{run}/stream")
    desk.clock.now += 2
    with pytest.raises(Rejected) as caught:
        desk.call("GET", f"{run}/stream")
    assert caught.value.status == 410
    assert json.loads(desk.cursor.error(caught.value).body)["error"]["code"] == "stream_expired"
    assert desk.json("GET", run)["result"] == "Hello world"


def test_a_run_may_never_end(desk):
    run = desk.create(Turn(text="a", finish_native="RUNNING"))
    desk.clock.now += 10_000
    assert desk.json("GET", run)["status"] == "RUNNING"
    found = play(desk, desk.call("GET", f"{run}/stream"), until=40)
    assert [name for _, name in found][-2:] == ["heartbeat", "heartbeat"]
    desk.call("POST", f"{run}/cancel")
    assert desk.json("GET", run)["status"] == "CANCELLED"


def test_event_ids_and_memory_are_bounded(desk):
    ids = {desk.json("POST", "/v1/agents", HELLO, Turn())["run"]["createdAt"] for _ in range(3)}
    assert len(ids) == 3
    first = next(iter(desk.cursor.agents))
    for _ in range(KEEP):
        desk.call("POST", "/v1/agents", HELLO, Turn())
    assert len(list(desk.cursor.agents)) == KEEP
    assert first.id not in desk.cursor.agents


async def test_open_streams_end_with_the_simulator():
    async with Simulator() as sim:
        sim.script("cursor", Turn(text="a", finish_native="RUNNING"))
        _, writer = await asyncio.open_connection(sim.host, sim.port)
        body = json.dumps({**HELLO, "agentId": AID}).encode()
        writer.write(
            b"POST /cursor/v1/agents HTTP/1.1\r\nauthorization: Bearer k\r\ncontent-length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        await sim.wait_calls("cursor")
        run = next(iter(sim.stand_in("cursor").agents)).runs[0].id
        path = f"/cursor/v1/agents/{AID}/runs/{run}/stream"
        writer.write(f"GET {path} HTTP/1.1\r\nauthorization: Bearer k\r\n\r\n".encode())
        await sim.wait_calls("cursor", 2)
        before = asyncio.all_tasks()
    writer.close()
    assert len(before) > len(asyncio.all_tasks()) == 1


async def test_simulators_share_no_agents(sim, cursor):
    await cursor.create()
    assert list(Simulator().stand_in("cursor").agents) == []
    sim.reset()
    assert list(sim.stand_in("cursor").agents) == []
