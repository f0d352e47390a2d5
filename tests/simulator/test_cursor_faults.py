"""What can go wrong at the Cursor stand-in, and how a test says so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gateway.simulator import FAULTS, Fault, ToolCall, Turn, Usage
from gateway.simulator.cursor import REFUSALS, ROUTES, STREAM_KINDS

from .cursor_client import AID, ANSWER, HELLO, Client, events_of, names, text_of


@pytest.fixture
def cursor(connect):
    return Client(connect)


# --- what can go wrong --------------------------------------------------------------------------------------


async def test_stream_unavailable_right_after_create(sim, cursor):
    sim.script("cursor", Fault(kind="error_event", code="stream_unavailable", preamble=True, turn=ANSWER))
    _, run = await cursor.create()
    assert [name for name, _, _ in await cursor.listen(run)] == ["status", "error", "done"]
    assert text_of(await cursor.listen(run)) == "Hello world"


@pytest.mark.parametrize("kind", ["reset_after", "close_after", "clean_cut", "eof_cut"])
async def test_a_cut_stream_goes_on_where_it_was_cut(sim, cursor, kind):
    sim.script("cursor", Fault(kind=kind, events=2, turn=ANSWER))
    _, run = await cursor.create()
    data = await (await cursor.send("GET", f"{run}/stream", connection="close")).rest()
    assert b'{"text":"Hello "}' in data
    assert b'"world"' not in data
    last = re.findall(rb"id: (\S+)\n", data)[-1].decode()
    events = await cursor.listen(run, last)
    assert events[0][0] == "status"
    assert text_of(events) == "world"
    assert sim.calls("cursor")[-1].headers["last-event-id"] == last


async def test_a_refused_resume(sim, cursor):
    sim.script("cursor", ANSWER)
    _, run = await cursor.create()
    last = (await cursor.listen(run))[1][1]
    sim.script("cursor", Fault(status=400, code="invalid_last_event_id"), on="stream")
    status, _, body = await cursor.call("GET", f"{run}/stream", last_event_id=last)
    assert (status, body["error"]["code"]) == (400, "invalid_last_event_id")
    assert text_of(await cursor.listen(run)) == "Hello world"


async def test_an_expired_stream_leaves_the_result_to_the_poll(sim, cursor):
    sim.script("cursor", Fault(kind="reset_after", turn=ANSWER))
    sim.script("cursor", Fault(status=410), on="stream")
    _, run = await cursor.create()
    status, _, body = await cursor.call("GET", f"{run}/stream")
    assert (status, body["error"]["code"]) == (410, "stream_expired")
    assert (await cursor.call("GET", run))[2]["result"] == "Hello world"


@pytest.mark.parametrize(("turn", "agents"), [(None, 0), (ANSWER, 1)])
@pytest.mark.parametrize("kind", sorted(REFUSALS - {"accept_close", "stall"}))
async def test_a_lost_answer_may_have_made_the_agent(sim, cursor, kind, turn, agents):
    """Without a turn the request got lost, with one only its answer did."""
    sim.script("cursor", Fault(kind=kind, turn=turn))
    body = {**HELLO, "agentId": AID}
    await (await cursor.send("POST", "/v1/agents", body, connection="close")).rest()
    assert len(list(sim.stand_in("cursor").agents)) == agents
    status, _, _answer = await cursor.call("POST", "/v1/agents", body)
    assert status == (409 if agents else 201)
    _, _, agent = await cursor.call("GET", f"/v1/agents/{AID}")
    _, _, run = await cursor.call("GET", f"/v1/agents/{AID}/runs/{agent['latestRunId']}")
    assert run["result"] == ("Hello world" if agents else "You said: Hello")


async def test_the_same_agent_after_an_outage(sim, cursor):
    sim.script("cursor", Fault(status=503), ANSWER)
    status, _, body = await cursor.call("POST", "/v1/agents", {**HELLO, "agentId": AID})
    assert (status, body["error"]["code"]) == (503, "upstream_error")
    _, run = await cursor.create({**HELLO, "agentId": AID})
    assert (await cursor.call("GET", run))[2]["result"] == "Hello world"
    assert [each.json["agentId"] for each in sim.calls("cursor") if each.body] == [AID, AID]


@pytest.mark.parametrize("status", ["ERROR", "EXPIRED", "CANCELLED"])
@pytest.mark.parametrize("text", ["", "Half"])
async def test_runs_that_fail(sim, cursor, status, text):
    error = {"code": "upstream_error", "message": "The model is down."}
    sim.script(
        "cursor", Turn(text=text, finish_native=status, extra={"error": error} if status == "ERROR" else {})
    )
    _agent, run = await cursor.create()
    events = await cursor.listen(run)
    assert text_of(events) == text
    assert "turn-ended" not in names(events)
    assert (events[-2][0], events[-2][2]["status"], events[-1][0]) == ("result", status, "done")
    _, _, ended = await cursor.call("GET", run)
    assert ended["status"] == status
    assert ended.get("error") == events[-2][2].get("error") == (error if status == "ERROR" else None)
    assert "result" not in ended
    assert (await cursor.call("POST", f"{run}/cancel"))[2]["error"]["code"] == "run_not_cancellable"
    sim.script("cursor", Turn(finish_native="ERROR"))
    _, run = await cursor.create()
    assert (await cursor.call("GET", run))[2]["error"]["code"] == "internal_error"


async def test_an_error_event_about_the_run_ends_it(sim, cursor):
    sim.script(
        "cursor", Fault(kind="error_event", code="resource_exhausted", message="m", events=1, turn=ANSWER)
    )
    _, run = await cursor.create()
    events = await cursor.listen(run)
    assert (events[-2][0], events[-2][2]) == ("error", {"code": "resource_exhausted", "message": "m"})
    assert text_of(events, "thinking") == "hm"
    _, _, ended = await cursor.call("GET", run)
    assert (ended["status"], ended["error"]) == ("ERROR", {"code": "resource_exhausted", "message": "m"})


async def test_heartbeats_for_a_while(sim, cursor):
    sim.script("cursor", Fault(kind="drip_comments", count=3, every=0.001, preamble=True, turn=ANSWER))
    _, run = await cursor.create()
    events = await cursor.listen(run)
    assert names(events)[:5] == ["status", "heartbeat", "heartbeat", "heartbeat", "thinking"]
    assert text_of(events) == "Hello world"
    sim.stand_in("cursor").heartbeat = 0.005
    sim.script("cursor", Turn(text="a", delay_first=0.03, headers_first=True))
    _, run = await cursor.create()
    found = names(await cursor.listen(run))
    assert 2 <= found.count("heartbeat") <= 6
    assert found.index("assistant") > found.index("heartbeat")


@pytest.mark.parametrize(
    ("finish", "status"), [(None, "FINISHED"), ("RUNNING", "RUNNING"), ("EXPIRED", "EXPIRED")]
)
async def test_silence_and_what_the_poll_says_then(sim, cursor, finish, status):
    sim.script("cursor", Fault(kind="stall_after", turn=Turn(text="a", finish_native=finish)))
    _, run = await cursor.create()
    raw = await cursor.send("GET", f"{run}/stream")
    await raw.until(b"event: assistant")
    await raw.until(b"\r\n")
    assert await raw.silent()
    assert (await cursor.call("GET", run))[2]["status"] == status


async def test_usage(sim, cursor):
    sim.script("cursor", ANSWER)
    agent, run = await cursor.create()
    _, _, used = await cursor.call("GET", f"{agent}/usage?runId={run.rpartition('/')[2]}")
    tokens = {
        "inputTokens": 30,
        "outputTokens": 9,
        "cacheWriteTokens": 10,
        "cacheReadTokens": 60,
        "totalTokens": 109,
    }
    assert used["totalUsage"] == used["runs"][0]["usage"] == tokens
    assert used["runs"][0]["id"] == run.rpartition("/")[2]
    assert used["cost"]["chargedCents"] > 0
    _, _, followed = await cursor.call("POST", f"{agent}/runs", HELLO)
    assert followed["run"]["id"]
    _, _, used = await cursor.call("GET", f"{agent}/usage")
    assert len(used["runs"]) == 2
    assert used["totalUsage"]["inputTokens"] > 8000, "an agent reads its own prompt, too"


async def test_usage_that_is_nowhere(sim, cursor):
    sim.script("cursor", Turn(text="Hi", usage=Usage(input=0, output=0)))
    sim.script("cursor", Fault(status=403, code="feature_unavailable"), on="usage")
    agent, run = await cursor.create()
    assert "turn-ended" not in names(await cursor.listen(run))
    status, _, body = await cursor.call("GET", f"{agent}/usage")
    assert (status, body["error"]["code"]) == (403, "feature_unavailable")
    assert (await cursor.call("GET", f"{agent}/usage"))[2]["totalUsage"]["totalTokens"] == 0


async def test_a_create_that_takes_its_time(sim, cursor):
    """The agent is there before its client hears of it."""
    sim.script("cursor", Turn(text="a", delay_first=0.05))
    raw = await cursor.send("POST", "/v1/agents", {**HELLO, "agentId": AID})
    assert await raw.silent(0.005)
    _, _, agent = await cursor.call("GET", f"/v1/agents/{AID}")
    assert agent["status"] == "ACTIVE"
    _, _, run = await cursor.call("GET", f"/v1/agents/{AID}/runs/{agent['latestRunId']}")
    assert run["status"] == "CREATING"
    assert (await cursor.call("POST", f"/v1/agents/{AID}/runs/{run['id']}/cancel"))[0] == 200


async def test_a_client_that_leaves(sim, cursor):
    sim.script("cursor", Turn(text="a", finish_native="RUNNING"))
    _, run = await cursor.create()
    raw = await cursor.send("GET", f"{run}/stream")
    await raw.until(b"event: assistant")
    raw.writer.close()
    assert (await sim.wait_closed("cursor")).peer_closed_at


@pytest.mark.parametrize("operation", ["archive", "delete", "cancel", "unarchive"])
@pytest.mark.parametrize("turn", [None, Turn()])
async def test_other_calls_fail_on_their_own(sim, cursor, operation, turn):
    sim.script("cursor", Turn(text="a", finish_native="RUNNING"))
    agent, run = await cursor.create()
    if operation == "unarchive":
        await cursor.call("POST", f"{agent}/archive")
    sim.script("cursor", Fault(status=500, turn=turn), on=operation)
    path = {"delete": agent, "cancel": f"{run}/cancel"}.get(operation, f"{agent}/{operation}")
    status, _, body = await cursor.call("DELETE" if operation == "delete" else "POST", path)
    assert (status, body["error"]["code"]) == (500, "internal_error")
    (known,) = sim.stand_in("cursor").agents
    states = {
        "archive": known.archived,
        "delete": known.deleted,
        "cancel": known.runs[0].cancelled is not None,
        "unarchive": not known.archived,
    }
    assert states[operation] is (turn is not None), "with a turn it happened all the same"


@pytest.mark.parametrize("kind", FAULTS)
async def test_every_kind_hits_the_call_that_it_is_for(sim, cursor, kind):
    """Scripted for "generate": the create call or the stream; nothing else is disturbed."""
    sim.script("cursor", Fault(kind=kind, every=0.0, size=70_000, count=3, status=500))
    raw = await cursor.send("POST", "/v1/agents", {**HELLO, "agentId": AID})
    await sim.wait_calls("cursor")
    known = list(sim.stand_in("cursor").agents)
    assert len(known) == (kind not in REFUSALS)
    if kind in STREAM_KINDS:
        assert (await raw.response())[0] == 201
        run = f"/v1/agents/{AID}/runs/{known[0].runs[0].id}"
        raw = await cursor.send("GET", f"{run}/stream")
        await sim.wait_calls("cursor", 2)
        head = await raw.until(b"\r\n\r\n")
        assert b" 200 " in head
        raw.writer.close()
        _, _, body = await cursor.call("GET", f"{run}/stream")
        assert body.endswith(b"event: done\ndata: {}\n\n")
        assert sim.calls("cursor")[1].over()
    raw.writer.close()
    assert (await sim.wait_closed("cursor")).over()
    assert not REFUSALS & STREAM_KINDS
    assert FAULTS.keys() >= REFUSALS | STREAM_KINDS


@pytest.mark.parametrize(
    "kind", ["malformed_event", "invalid_utf8", "unknown_event", "empty_data", "oversized_event"]
)
async def test_strange_events_have_the_native_framing(sim, cursor, kind):
    sim.script("cursor", Fault(kind=kind, turn=ANSWER, events=2))
    _, run = await cursor.create()
    _, _, body = await cursor.call("GET", f"{run}/stream")
    before, after = re.split(rb"\n\nevent: (?:assistant|sparkle)\ndata: ", body)[0::1][:2]
    assert b'{"text":"Hello "}' in before
    assert b'{"text":"world"}' in after


@pytest.mark.parametrize(
    ("kind", "dones"), [("no_terminator", 0), ("double_terminator", 2), ("after_terminator", 1)]
)
async def test_ends(sim, cursor, kind, dones):
    sim.script("cursor", Fault(kind=kind, turn=ANSWER))
    _, run = await cursor.create()
    _, _, body = await cursor.call("GET", f"{run}/stream")
    assert body.count(b"event: done") == dones
    assert body.count(b"event: result") == 1
    assert (b"event: assistant" in body.partition(b"event: result")[2]) is (kind == "after_terminator")


async def test_wrong_content_for_the_call(sim, cursor):
    sim.script("cursor", Fault(kind="json_on_stream", turn=ANSWER), Fault(kind="sse_on_json", turn=ANSWER))
    _, run = await cursor.create()
    _, headers, body = await cursor.call("GET", f"{run}/stream")
    assert body["result"] == "Hello world"
    _, headers, body = await cursor.call("POST", "/v1/agents", HELLO)
    assert headers["content-type"].startswith("text/event-stream")
    assert text_of(events_of(body)) == "Hello world"


async def test_faults_of_turns_that_wait(sim, cursor):
    turn = Turn(text="abc", pieces=1, delay_first=0.02, headers_first=True, delay_between=0.001)
    sim.script("cursor", Fault(kind="reset_after", turn=turn))
    _, run = await cursor.create()
    raw = await cursor.send("GET", f"{run}/stream")
    assert await raw.silent(0.005)
    sim.script("cursor", Fault(kind="big_header", size=9000, turn=turn))
    assert (await cursor.create())[1], "the silence is not that of the create call"


# --- scripts and records ------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.operation}")
async def test_every_call_has_a_script_of_its_own(sim, cursor, route):
    sim.script("cursor", Turn(finish_native="RUNNING" if route.operation == "cancel" else None))
    _, run = await cursor.create({**HELLO, "agentId": AID})
    agent_in, run_in = "(?P<agent_id>[^/]+)", "(?P<run_id>[^/]+)"
    path = route.path.pattern.replace(agent_in, AID).replace(run_in, run.rpartition("/")[2])
    sim.script("cursor", Fault(status=418), on=route.operation)
    assert (await cursor.call(route.method, path, HELLO))[0] == 418
    assert (sim.calls("cursor")[-1].method, sim.calls("cursor")[-1].path) == (route.method, f"/cursor{path}")
    assert len(list(sim.stand_in("cursor").agents)) == 1
    assert sim.url("cursor").endswith("/cursor")


def recipes() -> list[str]:
    """The scripts that the document shows."""
    text = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text()
    part = text.partition("## Cursor's agents")[2].partition("\n## ")[0]
    return re.findall(r"^\| .* \| `(.*)` \|$", part, re.MULTILINE)


def test_what_the_document_shows_can_be_scripted():
    """Every recipe has steps that exist, for a call that exists."""
    known = {"Fault": Fault, "Turn": Turn, "ToolCall": ToolCall, "Usage": Usage, "turn": ANSWER}
    assert len(recipes()) > 15
    for recipe in recipes():
        steps, on = eval(f"record({recipe})", {"record": lambda *s, on="generate": (s, on), **known})
        assert all(isinstance(step, Turn | Fault) for step in steps)
        assert on in {route.operation for route in ROUTES}


async def test_scripted_over_http(sim, cursor, connect):
    steps = [
        {"text": "Hi", "pieces": [], "finish_native": "EXPIRED"},
        {"kind": "error_event", "code": "stream_unavailable"},
    ]
    data = json.dumps({"provider": "cursor", "steps": steps}).encode()
    raw = await connect()
    raw.send(
        b"POST /_simulator/script HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data)
    )
    assert (await raw.response())[0] == 200
    assert (await cursor.listen((await cursor.create())[1]))[-2][2]["status"] == "EXPIRED"
    _, run = await cursor.create()
    assert [name for name, _, _ in await cursor.listen(run)] == ["error", "done"]
    assert text_of(await cursor.listen(run)) == "You said: Hello"
