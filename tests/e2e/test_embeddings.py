"""`POST /v1/embeddings` over real sockets: the official SDK as its users use it, and what may go wrong."""

from __future__ import annotations

import asyncio
import base64
import logging
import struct
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from gateway.simulator import FAULTS, Fault, Simulator
from gateway.simulator.vectors import unit, vector

from .conftest import plain_client, pointed_at, serving
from .test_faults import QUICK, STREAM_ONLY, is_error, is_harmless
from .test_http import raw_request

pytestmark = pytest.mark.asyncio(loop_scope="module")
PATH = "/v1/embeddings"
MODELS = {
    "openai": "openai/text-embedding-3-small",
    "gemini": "gemini/gemini-embedding-2",
    "local": "local/text-embedding-3-small",
}
STAND_IN = {"openai": "openai", "gemini": "gemini", "local": "openai"}
every = pytest.mark.parametrize("provider", MODELS)


def expected(provider: str, text: str, size: int) -> list[float]:
    """The stand-in's vector: Gemini's is cut, OpenAI's is of length 1 again."""
    if provider == "gemini":
        return vector(text, 3072)[:size]
    return unit(vector(text, 1536)[:size])


def body(provider: str, given: Any = "a", **fields: Any) -> dict[str, Any]:
    return {"model": MODELS[provider], "input": given, "dimensions": 4, **fields}


# ── the SDK ────────────────────────────────────────────────────────────────────────────────────────────


@every
async def test_the_official_sdk_embeds(client: AsyncOpenAI, sim: Simulator, provider: str):
    """Which asks for base64 when nobody says anything, and decodes it."""
    texts = ["one", "two", "drei 😀"]
    answer = await client.embeddings.create(model=MODELS[provider], input=texts, dimensions=8)
    assert [item.embedding for item in answer.data] == [expected(provider, text, 8) for text in texts]
    assert [(item.index, item.object) for item in answer.data] == [(i, "embedding") for i in range(3)]
    assert (answer.object, answer.model) == ("list", MODELS[provider].partition("/")[2])
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0


@every
async def test_a_whole_vector(client: AsyncOpenAI, sim: Simulator, provider: str):
    size = 3072 if provider == "gemini" else 1536
    answer = await client.embeddings.create(model=MODELS[provider], input="text", encoding_format="float")
    assert answer.data[0].embedding == vector("text", size)


@pytest.mark.parametrize("given", [[5, 6, 7], [[5, 6, 7], [8]]])
@pytest.mark.parametrize("provider", ["openai", "local"])
async def test_tokens(client: AsyncOpenAI, sim: Simulator, provider: str, given: Any):
    answer = await client.embeddings.create(model=MODELS[provider], input=given, dimensions=2)
    assert len(answer.data) == (2 if isinstance(given[0], list) else 1)
    assert sim.calls("openai")[0].json["input"] == given


@every
async def test_base64_and_numbers_are_the_same_vectors(
    http: httpx2.AsyncClient, sim: Simulator, provider: str
):
    """Golden cases openai 14 and gemini 30, by hand; numbers are what a client gets that asks for nothing."""
    plain, coded, numbers = [
        (await http.post(PATH, json=body(provider, ["a", "b"], **form))).json()["data"]
        for form in ({}, {"encoding_format": "base64"}, {"encoding_format": "float"})
    ]
    assert plain == numbers
    for item, other in zip(coded, numbers, strict=True):
        raw = base64.b64decode(item["embedding"], validate=True)
        assert list(struct.unpack(f"<{len(raw) // 4}f", raw)) == other["embedding"]


async def test_250_inputs_are_three_batches_for_gemini(client: AsyncOpenAI, sim: Simulator):
    """Golden case 30."""
    texts = [f"text {i}" for i in range(250)]
    answer = await client.embeddings.create(model=MODELS["gemini"], input=texts, dimensions=4)
    assert [item.embedding for item in answer.data] == [expected("gemini", text, 4) for text in texts]
    assert [item.index for item in answer.data] == list(range(250))
    batches = [call.json["requests"] for call in sim.calls("gemini")]
    assert sorted(map(len, batches)) == [50, 100, 100]
    assert {each["outputDimensionality"] for batch in batches for each in batch} == {4}
    assert answer.usage.prompt_tokens == sum(-(-len(text) // 4) for text in texts)


async def test_as_many_as_may_be(client: AsyncOpenAI, sim: Simulator):
    texts = [str(i) for i in range(2048)]
    answer = await client.embeddings.create(model=MODELS["openai"], input=texts, dimensions=2)
    assert [item.embedding for item in answer.data] == [expected("openai", text, 2) for text in texts]
    assert [len(call.json["input"]) for call in sim.calls("openai")] == [1024, 1024]


async def test_a_model_that_does_not_count_tokens(client: AsyncOpenAI, sim: Simulator):
    answer = await client.embeddings.create(model="gemini-embedding-001", input="a", dimensions=1)
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (0, 0)


# ── the wire ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", [PATH, "/embeddings"])
@every
async def test_headers_say_who_answered(http: httpx2.AsyncClient, sim: Simulator, provider: str, path: str):
    answer = await http.post(path, json=body(provider), headers={"x-request-id": "mine-1"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    told = {name: answer.headers.get(f"x-gateway-{name}") for name in ("provider", "model", "attempts")}
    name, _, model = MODELS[provider].partition("/")
    assert told == {"provider": name, "model": model, "attempts": "1"}
    assert answer.headers["x-request-id"] == "mine-1"
    assert "x-gateway-dropped-params" not in answer.headers


async def test_a_compatible_server_gets_the_clients_own_words(http: httpx2.AsyncClient, sim: Simulator):
    await http.post(PATH, json=body("local", user="u"))
    assert sim.calls("openai")[0].json == {
        "model": "text-embedding-3-small",
        "input": "a",
        "dimensions": 4,
        "user": "u",
    }


async def test_what_is_dropped_is_named_or_refused(http: httpx2.AsyncClient, sim: Simulator):
    asked = body("gemini", user="u")
    answer = await http.post(PATH, json=asked)
    assert (answer.status_code, answer.headers["x-gateway-dropped-params"]) == (200, "user")
    strict = await http.post(PATH, json=asked, headers={"x-gateway-strict": "1"})
    error = strict.json()["error"]
    assert (strict.status_code, error["param"], error["code"]) == (400, "user", "unsupported_parameter")
    assert len(sim.calls("gemini")) == 1


async def test_one_line_in_the_log(
    http: httpx2.AsyncClient, sim: Simulator, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.INFO, "gateway.access"):
        await http.post(PATH, json=body("gemini"), headers={"x-request-id": "mine-2"})
        await http.post(PATH, json={"model": "auto", "input": "a"}, headers={"x-request-id": "mine-3"})
    lines = [record.getMessage() for record in caplog.records if "mine-" in record.getMessage()]
    assert len(lines) == 2
    assert "200 mine-2 gemini/gemini-embedding-2 embeddings -> gemini/gemini-embedding-2" in lines[0]
    assert "tokens=1+0" in lines[0]
    assert "400 mine-3 auto embeddings" in lines[1]


async def test_models_that_embed_are_listed(client: AsyncOpenAI, sim: Simulator):
    names = {model.id async for model in client.models.list()}
    assert set(MODELS.values()) <= names


# ── what is refused ────────────────────────────────────────────────────────────────────────────────────

BAD: dict[str, tuple[Any, int, str | None, str | None]] = {  # body → status, param, code
    "empty": ({"model": "gpt-x", "input": []}, 400, "input", "empty_array"),
    "no input": ({"model": "gpt-x"}, 400, "input", "missing_required_parameter"),
    "chat": ({"model": "gpt-x", "messages": []}, 400, "input", "missing_required_parameter"),
    "auto": ({"model": "auto", "input": "a"}, 400, "model", "unsupported_parameter"),
    "none there": ({"model": "claude-x", "input": "a"}, 400, "model", "unsupported_parameter"),
    "demo": ({"model": "demo/echo", "input": "a"}, 400, "model", "unsupported_parameter"),
    "nobody": ({"model": "x", "input": "a"}, 404, "model", "model_not_found"),
    "tokens": ({"model": MODELS["gemini"], "input": [1]}, 400, "input", "unsupported_parameter"),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_requests_are_refused_here(http: httpx2.AsyncClient, sim: Simulator, name: str):
    asked, status, param, code = BAD[name]
    answer = await http.post(PATH, json=asked)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (status, param, code)
    assert error["message"].startswith("gateway: ")
    assert answer.headers["x-request-id"]
    assert not sim.calls()


async def test_what_is_no_json_by_name_or_nature(http: httpx2.AsyncClient, sim: Simulator):
    kinds = [
        ("text/plain", b"{}", 415),
        ("application/json", b"{", 400),
        ("application/json", b"[" * 99_999, 400),
    ]
    for kind, content, status in kinds:
        answer = await http.post(PATH, content=content, headers={"content-type": kind})
        assert answer.status_code == status
    assert (await http.get(PATH)).status_code == 405


async def test_explain_calls_nobody(http: httpx2.AsyncClient, sim: Simulator):
    answer = await http.post(PATH, json=body("openai"), headers={"x-gateway-explain": "1"})
    assert answer.status_code == 400
    assert not sim.calls()


async def test_the_providers_own_refusal_keeps_its_words(client: AsyncOpenAI, sim: Simulator):
    with pytest.raises(openai.BadRequestError, match=r"openai: .*less than or equal to 1536"):
        await client.embeddings.create(model=MODELS["openai"], input="a", dimensions=9999)
    with pytest.raises(openai.NotFoundError, match="openai: "):
        await client.embeddings.create(model="openai/text-embedding-9", input="a")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(shared_sim: Simulator) -> AsyncIterator[httpx2.AsyncClient]:
    """A gateway with a key of its own, a small limit, and a provider that lacks its key."""
    text = pointed_at(shared_sim, '[server]\nmax_body = "1 KiB"\n')
    environ = {"GATEWAY_API_KEY": "sim-own-key", "GEMINI_API_KEY": ""}
    async with serving(text, environ) as url, plain_client(url, timeout=10) as made:
        yield made


async def test_the_gateways_key_and_its_limits(guarded: httpx2.AsyncClient, sim: Simulator):
    key = {"authorization": "Bearer sim-own-key"}
    assert (await guarded.post(PATH, json=body("openai"))).status_code == 401
    assert (await guarded.post(PATH, json=body("openai"), headers=key)).status_code == 200
    assert (await guarded.post(PATH, json=body("openai", "x" * 2000), headers=key)).status_code == 413
    off = await guarded.post(PATH, json=body("gemini"), headers=key)
    assert (off.status_code, "GEMINI_API_KEY" in off.text) == (404, True)


# ── what goes wrong ────────────────────────────────────────────────────────────────────────────────────


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def quick(shared_sim: Simulator) -> AsyncIterator[httpx2.AsyncClient]:
    async with serving(pointed_at(shared_sim, QUICK)) as url, plain_client(url, timeout=20) as made:
        yield made


KEPT = {"accept_close", "close", "reset"}
"""Faults of a connection before any byte: on one that was kept from before, the call is made once more."""


@pytest.mark.parametrize("kind", [k for k in FAULTS if k not in STREAM_ONLY | {"sse_on_json"}])
@pytest.mark.parametrize("provider", ["openai", "gemini"])
async def test_every_fault(quick: httpx2.AsyncClient, sim: Simulator, provider: str, kind: str):
    """A vector is right, or there is an error that names the provider: nothing in between."""
    size = 200_000 if kind == "big_header" else 2 << 20
    every = 0.0 if kind == "drip_bytes" else 0.002
    sim.script(provider, Fault(kind=kind, every=every, size=size), on="embeddings")
    answer = await quick.post(PATH, json=body(provider))
    assert answer.headers["content-type"] == "application/json"
    assert kind in KEPT or (answer.status_code == 200) == is_harmless(provider, kind, stream=False)
    if answer.status_code == 200:
        assert answer.json()["data"][0]["embedding"] == expected(provider, "a", 4)
    else:
        assert is_error(answer.json(), provider)


async def test_one_failed_batch_fails_all(http: httpx2.AsyncClient, sim: Simulator):
    sim.script("gemini", Fault(status=503), on="embeddings")
    answer = await http.post(PATH, json=body("gemini", [str(i) for i in range(250)]))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "upstream_overloaded")
    assert answer.headers["x-gateway-provider"] == "gemini"


async def test_a_wait_is_told(http: httpx2.AsyncClient, sim: Simulator):
    sim.script("openai", Fault(status=429, headers={"retry-after": "7"}), on="embeddings")
    answer = await http.post(PATH, json=body("openai"))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")


@every
async def test_a_client_that_leaves_cancels_the_calls(
    url: str, http: httpx2.AsyncClient, sim: Simulator, provider: str
):
    before = (await http.get("/health")).json()["providers"][provider]
    stand_in = STAND_IN[provider]
    sim.always(stand_in, Fault(kind="stall"), on="embeddings")
    many = [str(i) for i in range(250)]
    async with raw_request(url, body(provider, many), PATH):
        await sim.wait_calls(stand_in, 3 if provider == "gemini" else 1)
        seen = (await http.get("/health")).json()
        assert (seen["in_flight"], seen["providers"][provider]["in_flight"]) == (1, 1)
    for call in sim.calls(stand_in):
        async with asyncio.timeout(2):
            await call.wait_over()
        assert call.peer_closed_at is not None
    async with asyncio.timeout(2):
        while (seen := (await http.get("/health")).json())["in_flight"]:
            await asyncio.sleep(0.005)
    after = seen["providers"][provider]
    assert (after["failed"], after["answered"], after["in_flight"]) == (
        before["failed"],
        before["answered"],
        0,
    )
