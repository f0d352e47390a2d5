"""What broke once: each case was found by attacking a running gateway, and is kept here."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from gateway.simulator import Fault, Simulator, Turn
from gateway.upstream import http as http_module

from .conftest import MODELS, NATIVE, plain_client, pointed_at, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
CHAT = "/v1/chat/completions"


def body(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}], **fields}


@asynccontextmanager
async def raw_server(answer: Any) -> AsyncIterator[tuple[str, list[int]]]:
    """A server that plays `answer(connection number, request number)`: bytes to send, or None to reset."""
    seen: list[int] = []
    numbers = iter(range(1, 1000))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = next(numbers)
        try:
            for count in range(1, 100):
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(
                    int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                )
                seen.append(number)
                data = answer(number, count)
                if data is None:
                    sock = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    writer.transport.abort()
                    return
                writer.write(data)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", seen


def whole(text: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    data = json.dumps({"id": "c", "choices": [choice]}).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    return head.encode() + data


async def test_any_number_of_stale_connections_is_no_failure():
    """P21: a load balancer may have forgotten all of them."""
    async with raw_server(lambda _number, count: whole("ok") if count == 1 else None) as (url, seen):
        text = f'[providers.local]\ntype = "openai"\nbase_url = "{url}"\n'
        async with serving(text) as gateway, plain_client(gateway) as http:
            first = await asyncio.gather(*(http.post(CHAT, json=body("local/m")) for _ in range(4)))
            assert {r.status_code for r in first} == {200}
            again = await http.post(CHAT, json=body("local/m"))
    assert again.status_code == 200
    assert len(set(seen)) == len({*seen[:4]}) + 1  # in the end a fresh one answered


async def test_leaving_while_a_call_is_closed_leaves_nothing_in_the_pool(sim: Simulator, url: str):
    """P43, P46: the pool keeps no request of a client that is gone."""
    transports: list[Any] = []
    original = http_module.HttpTransport._connections

    def watched(self: Any) -> Any:
        if self not in transports:
            transports.append(self)
        return original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_module.HttpTransport, "_connections", watched)
        async with serving(pointed_at(sim)) as gateway:
            host, _, port = gateway.removeprefix("http://").partition(":")
            for delay in range(60):
                sim.script("openai", Fault(status=500))
                _, writer = await asyncio.open_connection(host, int(port))
                data = json.dumps(body(MODELS["openai"])).encode()
                head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                writer.write(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
                await sim.wait_calls("openai", delay + 1)
                for _ in range(delay % 12):
                    await asyncio.sleep(0)
                writer.transport.abort()
            async with asyncio.timeout(5), plain_client(gateway) as http:
                while (await http.get("/health")).json()["in_flight"]:
                    await asyncio.sleep(0.01)
            for transport in transports:
                assert transport._pool._pool._requests == []


async def test_a_client_that_does_not_read_is_given_up_at_the_end_too(sim: Simulator):
    """P42: also when all that is left is the last piece."""
    text = pointed_at(sim, "[server]\nsend_timeout = 0.2\nkeepalive_after = 60\n")
    async with serving(text) as gateway:
        host, _, port = gateway.removeprefix("http://").partition(":")
        sim.script("openai", Turn(text="x" * 20_000_000, pieces=500_000))
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
        data = json.dumps(body(MODELS["openai"], stream=True)).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        request = f"{head}content-length: {len(data)}\r\n\r\n".encode() + data
        await asyncio.get_running_loop().sock_sendall(sock, request)
        await sim.wait_calls("openai")
        async with asyncio.timeout(5), plain_client(gateway) as http:
            while (health := (await http.get("/health")).json())["in_flight"]:
                await asyncio.sleep(0.02)
        sock.close()
        assert health["providers"]["openai"]["in_flight"] == 0
        assert health["providers"]["openai"]["failed"] == 0


@pytest.mark.parametrize("provider", NATIVE)
async def test_a_key_is_in_no_field_of_an_error(sim: Simulator, provider: str):
    """P80: not in the code or the path of a field either, plain or encoded."""
    key = "sim-canary-0123456789"
    names = dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "LOCAL_KEY"), key)
    async with serving(pointed_at(sim), names) as gateway, plain_client(gateway) as http:
        sim.script(provider, Fault(status=400, message=f"no {key}", code=f"c-{key}", param=key))
        answer = await http.post(CHAT, json=body(MODELS[provider]))
    assert answer.status_code == 400
    assert key not in answer.text


async def test_a_wrong_key_with_a_large_body_is_still_told_so(sim: Simulator):
    environ = {"GATEWAY_API_KEY": "right"}
    async with serving(pointed_at(sim), environ) as url, plain_client(url) as http:
        answer = await http.post(CHAT, json=body("demo/echo", user="x" * (12 << 20)))
    assert answer.status_code == 401


async def exchange(url: str, data: bytes, *, leave: bool = False) -> bytes:
    """Sends raw bytes and returns all that comes back until the end."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    try:
        return b"" if leave else await asyncio.wait_for(reader.read(), 5)
    finally:
        if leave:
            await asyncio.sleep(0.05)
            writer.transport.abort()
        else:
            writer.close()
            await writer.wait_closed()


def post(payload: dict[str, Any], *headers: str) -> bytes:
    data = json.dumps(payload).encode()
    lines = [f"POST {CHAT} HTTP/1.1", "host: x", "content-type: application/json", *headers]
    return "\r\n".join([*lines, f"content-length: {len(data)}", "", ""]).encode() + data


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\0" * 100,
        b"POST /v1/models HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nbroken header\r\n\r\n",
    ],
    ids=["a TLS greeting", "HTTP/2", "an unknown version", "zeros", "a bad length", "a bad header"],
)
async def test_what_is_no_http_is_refused_in_the_same_shape(url: str, data: bytes):
    head, _, text = (await exchange(url, data)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(text)["error"]["message"].startswith("gateway: ")


async def test_an_upgrade_is_declined_and_the_body_is_read(url: str, sim: Simulator):
    """Java's HttpClient offers HTTP/2 with every request; its body follows in pieces of any size."""
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    answer = await exchange(url, post(body("demo/echo"), *offer))
    assert answer.startswith(b"HTTP/1.1 200")
    assert b'"content":"Hi"' in answer
    long = {**body("demo/echo"), "user": "x" * 300_000}
    assert (await exchange(url, post(long, *offer))).startswith(b"HTTP/1.1 200")
    get = b"GET /health HTTP/1.1\r\nhost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    assert (await exchange(url, get)).startswith(b"HTTP/1.1 200")


async def test_a_second_request_on_a_busy_connection_is_not_taken_up(url: str, sim: Simulator):
    """The first is answered whole, then the connection closes: nothing runs that nobody waits for."""
    answer = await exchange(url, post(body(MODELS["openai"])) + post(body(MODELS["gemini"])))
    assert answer.count(b"HTTP/1.1 200") == 1
    assert not sim.calls("gemini")


async def test_a_client_that_leaves_is_noticed_with_a_second_request_waiting(
    url: str, http: httpx2.AsyncClient, sim: Simulator
):
    for streaming in (False, True):
        sim.script("openai", Fault(kind="stall"))
        await exchange(url, post(body(MODELS["openai"], stream=streaming)) * 2, leave=True)
        call = await sim.wait_closed("openai", timeout=2)
        assert call.peer_closed_at is not None
    async with asyncio.timeout(2):
        while (await http.get("/health")).json()["in_flight"]:
            await asyncio.sleep(0.005)


DEMO_MISTAKES: list[dict[str, Any]] = [
    {"pace": "x"},
    {"pace": -1},
    {"pace": 1e9},
]
ODD_SCHEMAS: list[Any] = [
    {"enum": {}},
    {"type": "object", "properties": "xy"},
    {"type": "object", "required": 5},
    {"type": "object", "required": [{}]},
    {"type": ["string", {}]},
    {"type": {}},
    {"type": "integer", "minimum": "x"},
    {"items": 3, "type": "array"},
]


@pytest.mark.parametrize("fields", DEMO_MISTAKES)
async def test_a_mistake_towards_a_demo_model_is_the_clients(
    http: httpx2.AsyncClient, fields: dict[str, Any]
):
    answer = await http.post(CHAT, json=body("demo/echo", **fields))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "pace")


@pytest.mark.parametrize("schema", ODD_SCHEMAS)
async def test_any_schema_gets_some_arguments(http: httpx2.AsyncClient, schema: Any):
    parameters = schema if schema.get("type") == "object" else {"type": "object", "properties": {"a": schema}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    answer = await http.post(CHAT, json=body("demo/tool", tools=tools))
    assert answer.status_code == 200
    json.loads(answer.json()["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"])


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_demo_answer_is_bounded(http: httpx2.AsyncClient, streaming: bool):
    """P56: megabytes of words are not said back, and hold nobody up."""
    for text in ("a " * 1_000_000, "x" * 2_000_000, "\n" * 2_000_000):
        messages = [{"role": "user", "content": text}]
        answer = await http.post(CHAT, json={**body("demo/echo", stream=streaming), "messages": messages})
        assert answer.status_code == 200
        assert '"length"' in answer.text


@pytest.mark.parametrize("depth", [400, 900, 970, 975, 980, 1000, 5000])
@pytest.mark.parametrize("model", ["demo/tool", *MODELS.values()])
async def test_no_depth_is_a_failure_of_the_gateway(http: httpx2.AsyncClient, model: str, depth: int):
    """P54: what is too deep to be said anew is the client's mistake, wherever that is noticed."""
    schema = '{"properties":{"a":' * depth + "{}" + "}}" * depth
    text = (
        f'{{"model":"{model}","messages":[{{"role":"user","content":"x"}}],'
        f'"tools":[{{"type":"function","function":{{"name":"f","parameters":{schema}}}}}]}}'
    )
    answer = await http.post(CHAT, content=text, headers={"content-type": "application/json"})
    assert answer.status_code in (200, 400)


async def test_long_names_and_many_fields_stay_short_in_what_we_say(http: httpx2.AsyncClient):
    many = {f"unknown_{i}": 1 for i in range(5000)}
    answer = await http.post(CHAT, json=body("demo/echo", **many))
    assert len(answer.headers["x-gateway-dropped-params"]) < 1000
    assert answer.headers["x-gateway-dropped-params"].endswith(", ...")
    long = await http.post(CHAT, json=body("x" * 1_000_000))
    assert len(long.content) < 1000


async def test_a_provider_with_a_broken_list_does_not_take_the_others(sim: Simulator):
    sim.script("gemini", Fault(kind="invalid_utf8"), on="models")
    sim.script("anthropic", Turn(raw=["no list"]), on="models")
    async with serving(pointed_at(sim)) as gateway, plain_client(gateway) as http:
        listed = await http.get("/v1/models")
    assert listed.status_code == 200
    assert any(m["id"].startswith("openai/") for m in listed.json()["data"])


ODD = {  # fields that are read late, or by some providers only
    "top_k": "{}",
    "thinking": '{{"type":{}}}',
    "enable_thinking": "{}",
    "extra_body": '{{"google":{{"x":{}}}}}',
    "fast": "{}",
    "nobody_knows": "{}",
    "metadata": '{{"a":{}}}',
    "response_format": '{{"type":"json_schema","json_schema":{{"name":"x","schema":{{"x":{}}}}}}}',
}


@pytest.mark.parametrize("value", ["1e400", "9" * 5000, '"\udcff"'], ids=["1e400", "long", "no utf-8"])
@pytest.mark.parametrize("model", ["demo/tool", *MODELS.values()])
async def test_no_value_is_a_failure_of_the_gateway(http: httpx2.AsyncClient, model: str, value: str):
    """P55: numbers that nobody can hold and bytes that are no text, wherever they stand."""
    message = f'{{"role":"user","content":"x","odd":{value},"partial":{value},"prefix":{value}}}'
    for name, pattern in ODD.items():
        for messages in ('{"role":"user","content":"x"}', message):
            text = f'{{"model":"{model}","messages":[{messages}],"{name}":{pattern.format(value)}}}'
            data = text.encode("utf-8", "surrogateescape")
            answer = await http.post(CHAT, content=data, headers={"content-type": "application/json"})
            assert answer.status_code in (200, 400), (name, answer.text)
            if "\udcff" in value:
                assert answer.status_code == 400
