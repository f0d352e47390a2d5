"""The server itself: keep-alive, recording, control over HTTP."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.simulator import Fault, Simulator, Turn, serve

from .conftest import BODIES, request


async def test_calls_are_recorded(sim, ask):
    await ask("openai", path="/openai/v1/chat/completions?x=1&y=%20", headers={"X-Many": "a"})
    (call,) = sim.calls("openai")
    assert (call.method, call.path) == ("POST", "/openai/v1/chat/completions?x=1&y=%20")
    assert call.headers["x-many"] == "a"
    assert call.json == BODIES["openai"]
    assert call.bytes_sent > 500
    assert call.started_at <= call.finished_at
    assert call.peer_closed_at is None
    assert sim.calls("gemini") == []
    assert sim.calls() == [call]
    assert repr(call).startswith("<Call POST /openai/v1/chat/completions?x=1&y=%20 finished")


async def test_keep_alive_shows_in_the_connection_number(sim, connect):
    one, two = await connect(), await connect()
    for raw in (one, two, one):
        raw.send(request("anthropic"))
        assert (await raw.response())[0] == 200
    first, second, third = (call.connection for call in sim.calls())
    assert first == third != second


async def test_connection_close_is_honoured(connect):
    raw = await connect()
    raw.send(request("openai", headers={"connection": "close"}))
    assert (await raw.response())[0] == 200
    assert await raw.rest() == b""


@pytest.mark.parametrize("abort", [False, True])
async def test_peer_closing_mid_stream_is_seen(sim, connect, abort):
    sim.script("openai", Fault(kind="stall_after"))
    raw = await connect()
    raw.send(request("openai", stream=True))
    await raw.until(b"data: ")
    (call,) = sim.calls("openai")
    assert call.peer_closed_at is None
    raw.writer.transport.abort() if abort else raw.writer.close()
    assert await sim.wait_closed("openai", timeout=1) is call
    assert call.peer_closed_at >= call.started_at
    assert call.finished_at is None


async def test_waiting(sim, connect):
    with pytest.raises(LookupError):
        await sim.wait_closed("openai")
    with pytest.raises(TimeoutError):
        await sim.wait_calls("openai", timeout=0.01)
    sim.script("openai", Fault(kind="stall"))
    waiting = asyncio.create_task(sim.wait_calls("openai"))
    raw = await connect()
    raw.send(request("openai"))
    assert len(await waiting) == 1
    with pytest.raises(TimeoutError):
        await sim.wait_closed("openai", timeout=0.01)


async def test_request_in_pieces_and_in_chunks(connect):
    raw = await connect()
    for at, byte in enumerate(request("gemini")):
        raw.send(bytes([byte]))
        if at % 50 == 0:
            await asyncio.sleep(0)
    assert (await raw.response())[0] == 200
    head, _, body = request("openai", headers={"content-length": None}).partition(b"\r\n\r\n")
    head = head.rpartition(b"\r\ncontent-length")[0] + b"\r\ntransfer-encoding: chunked"
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    raw.send(head + b"\r\n\r\n" + chunks)
    assert (await raw.response())[0] == 200


async def test_second_request_may_come_while_the_first_is_answered(sim, connect):
    sim.script("openai", Turn(text="slow", delay_first=0.02))
    raw = await connect()
    raw.send(request("openai"))
    await sim.wait_calls("openai")
    raw.send(request("anthropic"))
    assert b"slow" in (await raw.response())[2]
    assert b"msg_sim" in (await raw.response())[2]


async def test_expect_continue_and_nonsense(connect):
    raw = await connect()
    raw.send(request("openai", headers={"expect": "100-continue"}))
    assert (await raw.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    assert (await raw.response())[0] == 200
    raw.send(b"\x16\x03\x01 hello\r\n\r\n")
    assert (await raw.response())[0] == 400
    assert await raw.rest() == b""


async def test_stopping_drops_what_is_open():
    async with Simulator(keep=2) as sim:
        sim.always("openai", Fault(kind="stall"))
        _, writer = await asyncio.open_connection(sim.host, sim.port)
        writer.write(request("openai"))
        await sim.wait_calls("openai")
        assert "1 connections 1 calls" in repr(sim)
    assert "stopped" in repr(sim)
    writer.close()
    with pytest.raises(ConnectionError):
        await asyncio.open_connection(sim.host, sim.port)


async def test_recording_is_bounded_and_can_be_off(ask, sim, connect):
    async with Simulator(keep=0) as quiet:
        reader, writer = await asyncio.open_connection(quiet.host, quiet.port)
        writer.write(request("openai", headers={"connection": "close"}))
        assert b" 200 " in await reader.read()
        assert quiet.calls() == []
        writer.close()


async def test_a_mistake_of_ours_is_a_500_that_says_so(sim, ask, caplog):
    sim.script("openai", Turn(tool_calls="no list"))
    status, _, body = await ask("openai")
    assert status == 500
    assert "the stand-in stumbled" in json.loads(body)["error"]["message"]
    assert "stumbled" in caplog.text
    assert (await ask("openai"))[0] == 200


async def test_reset_forgets(sim, ask):
    sim.script("openai", Fault(status=500))
    sim.always("gemini", Fault(kind="accept_close"))
    await ask("anthropic")
    sim.reset()
    assert sim.calls() == []
    assert (await ask("openai"))[0] == 200
    assert (await ask("gemini"))[0] == 200


def test_unknown_provider():
    with pytest.raises(KeyError):
        Simulator().script("sparkle", Turn())


# --- control over HTTP ------------------------------------------------------------------------------------


@pytest.fixture
def control(connect):
    async def one(method, path, body=b""):
        raw = await connect()
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        raw.send(
            f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data
        )
        status, headers, answer = await raw.response()
        return status, json.loads(answer) if "json" in headers["content-type"] else answer.decode()

    return one


async def test_script_over_http(sim, control, ask):
    steps = [{"text": "Hi", "tool_calls": [{"name": "f"}]}, {"status": 418}, {"kind": "reset"}]
    assert await control("POST", "/_simulator/script", {"provider": "openai", "steps": steps}) == (
        200,
        {"queued": 3},
    )
    assert b'"Hi"' in (await ask("openai"))[2]
    assert (await ask("openai"))[0] == 418
    status, listed = await control("GET", "/_simulator/calls?provider=openai")
    assert (status, len(listed["calls"])) == (200, 2)
    assert listed["calls"][0]["headers"]["authorization"] == "***"
    assert json.loads(listed["calls"][0]["body"]) == BODIES["openai"]
    assert await control("POST", "/_simulator/reset") == (200, {"reset": True})
    assert sim.calls() == []


async def test_standing_step_over_http(control, ask):
    order = {"provider": "openai", "steps": [{"status": 500}], "always": True}
    await control("POST", "/_simulator/script", order)
    assert [(await ask("openai"))[0] for _ in range(2)] == [500, 500]


@pytest.mark.parametrize(
    ("order", "why"),
    [
        ({"provider": "openai", "steps": [{"txt": "Hi"}]}, "unknown field `txt`"),
        ({"provider": "openai", "steps": [{"kind": "sparkle"}]}, "unknown fault kind 'sparkle'"),
        ({"provider": "sparkle", "steps": []}, "no stand-in 'sparkle'"),
        ({"steps": []}, "missing required field `provider`"),
        (b"{", "truncated"),
    ],
)
async def test_bad_orders(control, order, why):
    status, answer = await control("POST", "/_simulator/script", order)
    assert status == 400
    assert why in answer["error"]


async def test_index_table_and_unknown_path(sim, control):
    status, text = await control("GET", "/")
    assert status == 200
    assert sim.url("gemini") in text
    assert "/_simulator/faults" in text
    status, table = await control("GET", "/_simulator/faults")
    assert "RST" in table["reset"]
    assert (await control("GET", "/nope"))[0] == 404


async def test_serve_runs_until_cancelled():
    ready: asyncio.Future[Simulator] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(port=0, ready=ready.set_result))
    sim = await ready
    assert sim.url("openai").endswith(f":{sim.port}/openai/v1")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
