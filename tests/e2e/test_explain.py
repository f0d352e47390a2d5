"""`x-gateway-explain: 1` over HTTP: the exact request, and nobody called."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from gateway.simulator import Simulator

from .conftest import KEYS, MODELS, SIMULATED, plain_client, pointed_at, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
CHAT = "/v1/chat/completions"
EXPLAIN = {"x-gateway-explain": "1"}


def body(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}], **fields}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("provider", SIMULATED)
async def test_what_is_explained_is_what_then_arrives(
    http: httpx2.AsyncClient, sim: Simulator, provider: str, streaming: bool
):
    asked = body(MODELS[provider], stream=streaming, seed=7, user="u", max_tokens=50)
    answer = await http.post(CHAT, json=asked, headers=EXPLAIN)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    assert sim.calls(provider) == []
    assert not any(key in answer.text for key in KEYS.values())
    found = answer.json()
    (plan,) = found["targets"]
    assert (found["stream"], plan["target"], plan["outcome"]) == (streaming, MODELS[provider], "called")

    real = await http.post(CHAT, json=asked)
    assert real.status_code == 200
    (call,) = sim.calls(provider)
    sent, shown = json.loads(call.body), plan["request"]
    assert shown["body"] == sent
    assert shown["method"] == call.method
    assert shown["url"].endswith(call.path)
    secret = {name for name, value in shown["headers"].items() if "***" in value}
    assert len(secret) == 1
    for name, value in shown["headers"].items():
        assert call.headers[name] == value.replace("***", "sim-key")
    dropped = real.headers.get("x-gateway-dropped-params", "")
    assert plan["dropped"] == [name for name in dropped.split(", ") if name]


async def test_a_plan_is_shown_in_order(http: httpx2.AsyncClient, sim: Simulator):
    found = (await http.post(CHAT, json=body("trio"), headers=EXPLAIN)).json()
    assert found["kind"] == "route"
    assert [plan["outcome"] for plan in found["targets"]] == ["called", "failover", "failover"]
    assert found["targets"][0]["target"] == "anthropic/claude-sonnet-5"
    assert all(not sim.calls(name) for name in SIMULATED)


async def test_what_nobody_can_serve_is_explained_with_the_error_of_the_call(http: httpx2.AsyncClient):
    asked = body("demo/echo", n=2)
    found = await http.post(CHAT, json=asked, headers=EXPLAIN)
    real = await http.post(CHAT, json=asked)
    assert (found.status_code, real.status_code) == (200, 400)
    assert found.json()["error"] == real.json()["error"]


async def test_strict_is_heeded(http: httpx2.AsyncClient):
    asked = body(MODELS["anthropic"], seed=7)
    found = (await http.post(CHAT, json=asked, headers={**EXPLAIN, "x-gateway-strict": "1"})).json()
    real = (await http.post(CHAT, json=asked, headers={"x-gateway-strict": "1"})).json()
    (plan,) = found["targets"]
    assert found["error"] == plan["error"] == real["error"]
    assert plan["dropped"] == ["seed"]
    assert "request" not in plan


BAD: dict[str, bytes] = {
    "no JSON": b"{",
    "a wrong field": b'{"model":"demo/echo","messages":[{"role":"user","content":"x"}],"n":"two"}',
    "no messages": b'{"model":"demo/echo","messages":[]}',
    "no such model": b'{"model":"nope","messages":[{"role":"user","content":"x"}]}',
    "no model's name": b'{"model":"a b","messages":[{"role":"user","content":"x"}]}',
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_request_is_refused_as_ever(http: httpx2.AsyncClient, name: str):
    headers = {"content-type": "application/json"}
    explained = await http.post(CHAT, content=BAD[name], headers={**headers, **EXPLAIN})
    plain = await http.post(CHAT, content=BAD[name], headers=headers)
    assert explained.status_code == plain.status_code
    assert 400 <= plain.status_code < 500
    assert explained.json() == plain.json()


@pytest.mark.parametrize("value", ["", "0", "true", "11", "1, 1"])
async def test_any_other_value_is_no(http: httpx2.AsyncClient, value: str):
    answer = await http.post(CHAT, json=body("demo/echo"), headers={"x-gateway-explain": value})
    assert answer.json()["object"] == "chat.completion"


async def test_the_door_is_the_same(sim: Simulator):
    async with serving(pointed_at(sim), {"GATEWAY_API_KEY": "sim-door"}) as url, plain_client(url) as http:
        assert (await http.post(CHAT, json=body("demo/echo"), headers=EXPLAIN)).status_code == 401
        known = {**EXPLAIN, "authorization": "Bearer sim-door"}
        answer = await http.post(CHAT, json=body("openai/gpt-5.4"), headers=known)
        assert answer.status_code == 200
        assert "sim-door" not in answer.text


# ── sizes in the list of models ────────────────────────────────────────────────────────────────────────


async def test_models_show_the_sizes_that_are_known(http: httpx2.AsyncClient, sim: Simulator):
    entries = {entry["id"]: entry for entry in (await http.get("/v1/models")).json()["data"]}
    sized = entries[MODELS["gemini"]]
    assert (sized["context_window"], sized["max_output_tokens"]) == (1_048_576, 65_536)
    one = (await http.get(f"/v1/models/{MODELS['gemini']}")).json()
    assert one == sized
    for name in ("demo/echo", "pair"):
        assert set(entries[name]) == {"id", "object", "created", "owned_by"}
