"""What goes over the wire: framing, headers, keep-alive comments, failover, leaving early, bad input."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from gateway.providers import PROVIDERS
from gateway.simulator import Fault, Simulator, Turn

from .conftest import MODELS, NATIVE, SIMULATED, plain_client, pointed_at, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
providers = pytest.mark.parametrize("provider", SIMULATED)
CHAT = "/v1/chat/completions"


def body(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}], **fields}


def data_of(text: str) -> list[Any]:
    """The events of a stream, decoded; the end mark and comments as text."""
    events = [event for event in text.split("\n\n") if event]
    return [
        json.loads(event.removeprefix("data: ")) if event.startswith("data: {") else event for event in events
    ]


def text_of(answer: httpx2.Response) -> str:
    """What the model said, streamed or not."""
    if answer.headers["content-type"] == "application/json":
        return str(answer.json()["choices"][0]["message"]["content"])
    choices = [c for e in data_of(answer.text) if isinstance(e, dict) for c in e["choices"]]
    return "".join(c["delta"].get("content") or "" for c in choices)


# ── framing and headers ────────────────────────────────────────────────────────────────────────────────


@providers
async def test_a_stream_is_framed_to_the_letter(http: httpx2.AsyncClient, provider: str):
    answer = await http.post(CHAT, json=body(MODELS[provider], stream=True))
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["x-gateway-provider"] == provider
    assert f"{provider}/{answer.headers['x-gateway-model']}" == MODELS[provider]
    assert answer.headers["x-gateway-attempts"] == "1"
    assert "first_token;dur=" in answer.headers["server-timing"]
    assert answer.text.endswith("data: [DONE]\n\n")
    assert "\r" not in answer.text
    for line in answer.text.splitlines():
        assert line == "" or line.startswith("data: ")


async def test_a_request_id_is_kept_or_made(http: httpx2.AsyncClient):
    given = await http.post(CHAT, json=body("demo/echo"), headers={"x-request-id": "my.id-7"})
    assert given.headers["x-request-id"] == "my.id-7"
    for odd in ("a b", "x" * 200, "ä"):
        made = await http.post(CHAT, json=body("demo/echo"), headers={"x-request-id": odd.encode("latin-1")})
        assert made.headers["x-request-id"].startswith("req_")
    failed = await http.post(CHAT, json=body("nope"), headers={"x-request-id": "my.id-8"})
    assert failed.headers["x-request-id"] == "my.id-8"


async def test_what_a_target_cannot_take_is_named_or_refused(http: httpx2.AsyncClient, sim: Simulator):
    fields = {"seed": 7, "logit_bias": {"1": 2}, "mystery": 1}
    answer = await http.post(CHAT, json=body(MODELS["anthropic"], **fields))
    assert set(answer.headers["x-gateway-dropped-params"].split(", ")) == set(fields)
    calls = len(sim.calls("anthropic"))
    strict = await http.post(
        CHAT, json=body(MODELS["anthropic"], **fields), headers={"x-gateway-strict": "1"}
    )
    assert strict.status_code == 400
    assert strict.json()["error"]["param"] in fields
    assert len(sim.calls("anthropic")) == calls


async def test_the_same_dialect_gets_unknown_fields_and_passes_them_back(
    http: httpx2.AsyncClient, sim: Simulator
):
    """A server by configuration alone: nothing is renamed, nothing dropped, in both directions."""
    sim.script("openai", Turn(text="Hi", extra={"my_field": {"a": [1.5]}}))
    raw = (
        b'{"model":"local/gpt-4.1", "messages":[{"role":"user","content":"H\\u00e9"}],'
        b'"max_tokens":5,"user":"u"}'
    )
    answer = await http.post(CHAT, content=raw, headers={"content-type": "application/json"})
    assert answer.json()["my_field"] == {"a": [1.5]}
    sent = sim.calls("openai")[0]
    assert sent.body == raw.replace(b"local/", b"").replace(b", ", b",")
    assert sent.headers["authorization"] == "Bearer sim-local"


async def test_nothing_of_the_client_goes_upstream_but_its_request(http: httpx2.AsyncClient, sim: Simulator):
    """P83, P85, P86: no header, key or address of a client reaches a provider."""
    headers = {"authorization": "Bearer client-key", "cookie": "c=1", "x-stainless-lang": "py", "x-evil": "1"}
    await http.post(CHAT, json=body(MODELS["openai"], stream=True), headers=headers)
    sent = sim.calls("openai")[0].headers
    assert set(sent) == {
        "host",
        "accept",
        "accept-encoding",
        "authorization",
        "content-length",
        "content-type",
        "user-agent",
    }
    assert sent["authorization"] == "Bearer sim-key"
    assert sent["accept-encoding"] == "identity"


async def test_connections_are_kept_and_used_again(http: httpx2.AsyncClient, sim: Simulator):
    for streaming in (True, False, True, True, False):
        await http.post(CHAT, json=body(MODELS["openai"], stream=streaming))
    assert len({call.connection for call in sim.calls("openai")}) == 1


async def test_a_connection_that_the_provider_closed_is_replaced_unseen(
    http: httpx2.AsyncClient, sim: Simulator
):
    """P21: a stale connection is no failure."""
    sim.script("openai", Fault(kind="close_idle"), Fault(kind="close_idle"))
    for _ in range(4):
        answer = await http.post(CHAT, json=body(MODELS["openai"]))
        assert answer.status_code == 200


# ── failover ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=503),
        Fault(status=429),
        Fault(kind="reset"),
        Fault(kind="html_200"),
        Fault(kind="stall_headers"),
    ],
    ids=lambda f: f.kind if f.status is None else str(f.status),
)
async def test_the_second_target_of_a_route_answers(
    shared_sim: Simulator, sim: Simulator, fault: Fault, streaming: bool
):
    async with serving(
        pointed_at(sim) + "[providers.openai.timeouts]\nfirst_byte = 0.1\ncontent_idle = 0.1\n"
    ) as url:
        sim.script("openai", fault)
        async with plain_client(url) as http:
            answer = await http.post(CHAT, json=body("pair", stream=streaming))
    assert answer.status_code == 200
    assert answer.headers["x-gateway-provider"] == "anthropic"
    assert answer.headers["x-gateway-model"] == "claude-sonnet-5"
    assert answer.headers["x-gateway-attempts"] == "2"
    assert text_of(answer) == "You said: Hi"
    assert [len(sim.calls(name)) for name in ("openai", "anthropic", "gemini")] == [1, 1, 0]


async def test_a_target_that_is_dead_is_passed_over(sim: Simulator):
    """Kill the first target: the next request is served by the second, and the headers say so."""
    async with Simulator() as first:
        text = pointed_at(sim).replace(sim.url("openai"), first.url("openai"))
        async with serving(text) as url, plain_client(url) as http:
            alive = await http.post(CHAT, json=body("pair"))
            assert alive.headers["x-gateway-provider"] == "openai"
            await first.stop()
            after = await http.post(CHAT, json=body("pair"))
            assert (after.status_code, after.headers["x-gateway-provider"]) == (200, "anthropic")
            assert after.headers["x-gateway-attempts"] == "2"
            alone = await http.post(CHAT, json=body(MODELS["openai"]))
            assert (alone.status_code, alone.json()["error"]["code"]) == (502, "upstream_unreachable")


async def test_when_every_target_fails_the_last_ones_error_is_told(http: httpx2.AsyncClient, sim: Simulator):
    for name in NATIVE:
        sim.script(name, Fault(status=429, headers={"retry-after": "3"}))
    answer = await http.post(CHAT, json=body("trio"))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (429, "rate_limit_exceeded")
    assert error["message"].startswith("openai: ")
    assert "tried before: anthropic/claude-sonnet-5" in error["message"]
    assert answer.headers["x-gateway-attempts"] == "3"
    assert answer.headers["retry-after"] == "3"


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_what_another_target_cannot_cure_ends_at_once(
    http: httpx2.AsyncClient, sim: Simulator, status: int
):
    sim.script("openai", Fault(status=status))
    answer = await http.post(CHAT, json=body("pair"))
    assert answer.status_code == (400 if status == 400 else 502)
    assert not sim.calls("anthropic")


# ── keeping alive ──────────────────────────────────────────────────────────────────────────────────────

IMPATIENT = "[server]\nkeepalive_after = 0.03\nkeepalive_every = 0.03\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def impatient_url(shared_sim: Simulator) -> AsyncIterator[str]:
    async with serving(pointed_at(shared_sim, IMPATIENT)) as url:
        yield url


@pytest_asyncio.fixture(loop_scope="module")
async def impatient(impatient_url: str, sim: Simulator) -> AsyncIterator[httpx2.AsyncClient]:
    async with plain_client(impatient_url) as made:
        yield made


async def test_silence_is_filled_with_comments_and_the_answer_follows(
    impatient: httpx2.AsyncClient, sim: Simulator
):
    """Pitfalls 12 and 13: before the first token too, and what the headers would have said is told."""
    sim.script("openai", Turn(text="Hi", delay_first=0.15))
    answer = await impatient.post(CHAT, json=body(MODELS["openai"], stream=True))
    events = data_of(answer.text)
    assert answer.status_code == 200
    assert events[0] == events[1] == ": keep-alive"
    assert ": gateway x-gateway-provider=openai x-gateway-model=gpt-5.4" in answer.text
    assert events[-1] == "data: [DONE]"
    assert "x-gateway-provider" not in answer.headers


async def test_silence_in_the_middle_is_filled_too(impatient: httpx2.AsyncClient, sim: Simulator):
    sim.script("openai", Turn(text="Hello there", pieces=6, delay_between=0.1))
    answer = await impatient.post(CHAT, json=body(MODELS["openai"], stream=True))
    events = data_of(answer.text)
    first = next(i for i, e in enumerate(events) if isinstance(e, dict))
    assert ": keep-alive" in events[first:]
    assert text_of(answer) == "Hello there"


async def test_a_failure_after_the_head_went_out_is_told_in_the_stream(
    impatient: httpx2.AsyncClient, sim: Simulator
):
    """The status is 200 by then; the error keeps the code that it would have had."""
    sim.script("openai", Turn(raw=["{"], delay_first=0.1))
    answer = await impatient.post(CHAT, json=body(MODELS["openai"], stream=True))
    events = data_of(answer.text)
    assert answer.status_code == 200
    assert events[0] == ": keep-alive"
    assert events[-1]["error"]["code"] == "bad_upstream_response"
    assert "[DONE]" not in answer.text


async def test_failover_is_possible_after_the_head_went_out(impatient: httpx2.AsyncClient, sim: Simulator):
    text = pointed_at(
        sim, IMPATIENT + "[routes.pair]\ntargets = ['openai/gpt-5.4', 'gemini/gemini-3.8-flash']\n"
    )
    async with serving(text) as url, plain_client(url) as http:
        sim.script("openai", Turn(raw=["{"], delay_first=0.1))
        answer = await http.post(CHAT, json=body("pair", stream=True))
    assert data_of(answer.text)[0] == ": keep-alive"
    assert "x-gateway-provider=gemini" in answer.text
    assert answer.text.endswith("data: [DONE]\n\n")


async def test_a_client_that_waits_less_hears_sooner(http: httpx2.AsyncClient, sim: Simulator):
    """The SDK says how long it reads: half of that is the longest silence."""
    sim.script("openai", Turn(text="Hi", delay_first=0.15))
    headers = {"x-stainless-read-timeout": "0.1"}
    answer = await http.post(CHAT, json=body(MODELS["openai"], stream=True), headers=headers)
    assert data_of(answer.text)[0] == ": keep-alive"


# ── leaving early ──────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def raw_request(
    url: str, payload: dict[str, Any], path: str = CHAT
) -> AsyncIterator[asyncio.StreamReader]:
    """A client that leaves when the block ends, whatever it has read."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    content = json.dumps(payload).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
    try:
        yield reader
    finally:
        writer.transport.abort()


PHASES: dict[str, tuple[Turn | Fault, bool]] = {  # when the client leaves: what the provider does, streaming
    "waiting for the head": (Fault(kind="stall"), True),
    "waiting for the first token": (Fault(kind="stall_headers"), True),
    "in the middle": (Fault(kind="stall_after", events=1), True),
    "while it flows": (Fault(kind="endless"), True),
    "waiting for a whole answer": (Fault(kind="stall"), False),
    "in the middle of a whole answer": (Fault(kind="stall_after"), False),
}


@pytest.mark.parametrize("phase", PHASES)
@providers
async def test_a_client_that_leaves_cancels_the_call(
    url: str, http: httpx2.AsyncClient, sim: Simulator, provider: str, phase: str
):
    """P40: in every phase, streaming or not, and nobody is blamed for it."""
    step, streaming = PHASES[phase]
    before = (await http.get("/health")).json()["providers"][provider]
    sim.script(provider, step)
    async with raw_request(url, body(MODELS[provider], stream=streaming, max_tokens=1000)) as reader:
        await sim.wait_calls(provider)
        if phase in ("in the middle", "while it flows"):
            await reader.readuntil(b"content")
    call = await sim.wait_closed(provider, timeout=2)
    assert call.peer_closed_at is not None
    async with asyncio.timeout(2):
        while (after := (await http.get("/health")).json()["providers"][provider])["in_flight"]:
            await asyncio.sleep(0.005)
    assert (after["failed"], after["answered"]) == (before["failed"], before["answered"])


async def test_a_client_that_leaves_a_demo_story_ends_it(url: str, http: httpx2.AsyncClient):
    """A model in the process is left as well: its loop gives way."""
    async with raw_request(url, body("demo/story", stream=True, pace=0.01)) as reader:
        await reader.readuntil(b"lighthouse")
    async with asyncio.timeout(2):
        while (health := (await http.get("/health")).json())["in_flight"]:
            await asyncio.sleep(0.005)
    assert health["providers"]["demo"]["in_flight"] == 0


# ── bad input ──────────────────────────────────────────────────────────────────────────────────────────

JSON = {"content-type": "application/json"}
BAD: dict[str, tuple[str, str, dict[str, str], bytes, int, str | None, str | None]] = {
    # name: method, path, headers, body → status, code, param
    "no json": ("POST", CHAT, JSON, b"{", 400, None, None),
    "an array": ("POST", CHAT, JSON, b"[]", 400, None, None),
    "deep": ("POST", CHAT, JSON, b"[" * 100_000, 400, None, None),
    "no model": ("POST", CHAT, JSON, b"{}", 400, "missing_required_parameter", "model"),
    "no messages": (
        "POST",
        CHAT,
        JSON,
        b'{"model":"demo/echo"}',
        400,
        "missing_required_parameter",
        "messages",
    ),
    "empty messages": (
        "POST",
        CHAT,
        JSON,
        b'{"model":"demo/echo","messages":[]}',
        400,
        "empty_array",
        "messages",
    ),
    "wrong type": (
        "POST",
        CHAT,
        JSON,
        b'{"model":"demo/echo","messages":[{"role":"user","content":7}]}',
        400,
        "invalid_type",
        "messages[0].content",
    ),
    "unknown model": (
        "POST",
        CHAT,
        JSON,
        b'{"model":"zz","messages":[{"role":"user","content":"x"}]}',
        404,
        "model_not_found",
        "model",
    ),
    "model that breaks a header": (
        "POST",
        CHAT,
        JSON,
        b'{"model":"openai/a\\r\\nx: y","messages":[{"role":"user","content":"x"}]}',
        404,
        "model_not_found",
        "model",
    ),
    "get": ("GET", CHAT, {}, b"", 405, "method_not_allowed", None),
    "put": ("PUT", CHAT, JSON, b"{}", 405, "method_not_allowed", None),
    "path": ("POST", "/v1/nothing", JSON, b"{}", 404, "unknown_url", None),
    "form": (
        "POST",
        CHAT,
        {"content-type": "application/x-www-form-urlencoded"},
        b"{}",
        415,
        "unsupported_media_type",
        None,
    ),
    "text": ("POST", CHAT, {"content-type": "text/plain"}, b"{}", 415, "unsupported_media_type", None),
    "no type": ("POST", CHAT, {}, b"{}", 415, "unsupported_media_type", None),
    "compressed": (
        "POST",
        CHAT,
        {**JSON, "content-encoding": "gzip"},
        b"{}",
        415,
        "unsupported_media_type",
        None,
    ),
    "too large": ("POST", CHAT, JSON, b" " * ((20 << 20) + 1), 413, "request_too_large", None),
    "post to models": ("POST", "/v1/models", JSON, b"{}", 405, "method_not_allowed", None),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_input_gets_a_clear_answer_and_calls_nobody(
    http: httpx2.AsyncClient, sim: Simulator, name: str
):
    method, path, headers, content, status, code, param = BAD[name]
    answer = await http.request(method, path, content=content, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"].startswith("gateway: ")
    if code is not None:
        assert error["code"] == code
    assert error["param"] == param
    assert not sim.calls()


async def test_a_chunked_body_over_the_limit_is_refused(url: str, sim: Simulator):
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(21):
            yield b" " * (1 << 20)

    async with plain_client(url) as http:
        answer = await http.post(CHAT, content=pieces(), headers=JSON)
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"


async def test_a_body_that_does_not_come_is_not_waited_for(sim: Simulator):
    async with serving(pointed_at(sim, "[server]\nbody_timeout = 0.05\n")) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        request = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        writer.write(f"{request}content-length: 9\r\n\r\n{{".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 2)
        assert head.startswith(b"HTTP/1.1 408")
        assert b"connection: close" in head
        writer.close()
        await writer.wait_closed()


# ── operations ─────────────────────────────────────────────────────────────────────────────────────────


async def test_models_are_served_from_what_providers_say(http: httpx2.AsyncClient, sim: Simulator):
    first = (await http.get("/v1/models")).json()
    assert first["object"] == "list"
    assert {"id", "object", "created", "owned_by"} == set(first["data"][0])
    calls = len(sim.calls())
    assert (await http.get("/models")).json() == (await http.get("/v1/models/")).json() == first
    assert len(sim.calls()) == calls  # kept, not asked again
    for path in ("/v1/models/openai/gpt-5.4", "/v1/models/openai%2Fgpt-5.4", "/models/openai%2Fgpt-5.4"):
        assert (await http.get(path)).json()["id"] == "openai/gpt-5.4"


async def test_models_of_a_provider_that_does_not_answer_are_the_known_ones(sim: Simulator):
    sim.script("anthropic", Fault(status=500), on="models")
    sim.script("gemini", Fault(kind="html_200"), on="models")
    async with serving(pointed_at(sim)) as url, plain_client(url) as http:
        listed = {model["id"] for model in (await http.get("/v1/models")).json()["data"]}
    assert {"anthropic/claude-sonnet-5-5", "gemini/gemini-3.8-flash"} <= listed


async def test_health_answers_from_memory(http: httpx2.AsyncClient, sim: Simulator):
    seen = (await http.get("/health")).json()
    assert seen["status"] == "ok"
    assert set(seen["providers"]) == {*PROVIDERS, "local"}
    assert seen["routes"]["pair"] == ["openai/gpt-5.4", "anthropic/claude-sonnet-5"]
    assert (await http.get("/health/ready")).status_code == 200
    assert not sim.calls()


async def test_a_gateway_with_a_key_wants_it(sim: Simulator):
    """P76: the same answer for a missing and a wrong key; both ways of bringing it; health stays open."""
    environ = {"GATEWAY_API_KEY": "sim-gateway"}
    async with serving(pointed_at(sim), environ) as url, plain_client(url) as http:
        wrong = (
            {},
            {"authorization": "Bearer nope"},
            {"x-api-key": "nöpe".encode()},
            {"authorization": "sim-gateway"},
        )
        refused = [await http.post(CHAT, json=body("demo/echo"), headers=headers) for headers in wrong]
        assert {r.status_code for r in refused} == {401}
        assert len({r.text for r in refused}) == 1
        assert refused[0].json()["error"]["code"] == "invalid_api_key"
        for right in ({"authorization": "Bearer sim-gateway"}, {"x-api-key": "sim-gateway"}):
            assert (await http.post(CHAT, json=body("demo/echo"), headers=right)).status_code == 200
        assert (await http.get("/health")).json() == {"status": "ok"}
        assert "providers" in (await http.get("/health", headers=right)).json()
        assert (await http.get("/v1/models")).status_code == 401
