"""What a user's app does not notice: bad days of providers, on real sockets, with all policies on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from gateway.simulator import Fault, Simulator, Turn

from .conftest import plain_client, pointed_at, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "Hi"}]
OPENAI, ANTHROPIC, GEMINI = "openai/gpt-5.4", "anthropic/claude-sonnet-5", "gemini/gemini-3.8-flash"
DOWN = Fault(status=503)
FAST = """
[retry]
base = 0.02
quick = 0.01
[breaker]
open_seconds = 0.3
jitter = 0.0
[timeouts]
first_byte = 0.3
content_idle = 0.3
[routes.pair]
targets = ["openai/gpt-5.4", "anthropic/claude-sonnet-5"]
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(shared_sim: Simulator) -> AsyncIterator[str]:
    async with serving(pointed_at(shared_sim, FAST)) as address:
        yield address


def body(model: str = OPENAI, stream: bool = False, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": HI, "stream": stream, **fields}


async def ask(http: httpx2.AsyncClient, model: str = OPENAI, **headers: str) -> httpx2.Response:
    return await http.post(CHAT, json=body(model), headers=headers)


async def circuits(http: httpx2.AsyncClient, provider: str = "openai") -> dict[str, Any]:
    found: dict[str, Any] = (await http.get("/health")).json()["providers"][provider]
    return found


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_blip_is_not_noticed(http: httpx2.AsyncClient, sim: Simulator, streaming: bool):
    sim.script("openai", DOWN, Fault(kind="html_200"), Turn(text="here"))
    answer = await http.post(CHAT, json=body(stream=streaming))
    assert (answer.status_code, "here" in answer.text) == (200, True)
    assert answer.headers["x-gateway-attempts"] == "3"


async def test_a_single_target_is_asked_three_times(http: httpx2.AsyncClient, sim: Simulator):
    sim.always("openai", DOWN)
    answer = await ask(http)
    assert (answer.status_code, len(sim.calls("openai"))) == (503, 3)
    assert answer.headers["x-should-retry"] == "false"


async def test_with_a_second_target_the_first_is_asked_twice(http: httpx2.AsyncClient, sim: Simulator):
    """P2: once more after a moment, then the next."""
    sim.always("openai", DOWN)
    answer = await ask(http, "pair")
    assert (answer.status_code, answer.headers["x-gateway-provider"]) == (200, "anthropic")
    assert (answer.headers["x-gateway-attempts"], len(sim.calls("openai"))) == ("3", 2)


async def test_a_hang_is_not_waited_for_twice(http: httpx2.AsyncClient, sim: Simulator):
    """P5."""
    sim.always("openai", Fault(kind="stall"))
    answer = await ask(http, "pair")
    assert (answer.status_code, answer.headers["x-gateway-provider"]) == (200, "anthropic")
    assert len(sim.calls("openai")) == 1


async def test_the_callers_mistakes_are_asked_once(http: httpx2.AsyncClient, sim: Simulator):
    """P14: nothing is repeated, and no circuit counts it."""
    sim.always("openai", Fault(status=400))
    for _ in range(4):
        assert (await ask(http, "pair")).status_code == 400
    assert (len(sim.calls("openai")), len(sim.calls("anthropic"))) == (4, 0)
    assert (await circuits(http))["circuits"] == {}


async def test_three_failures_open_a_circuit_and_a_probe_closes_it(http: httpx2.AsyncClient, sim: Simulator):
    """P66: open after three; then not asked; after a while one probe, whose first token closes it."""
    sim.script("openai", DOWN, DOWN, DOWN)
    await ask(http)
    refused = await ask(http)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "circuit_open")
    assert 0 < int(refused.headers["retry-after-ms"]) <= 300
    assert refused.headers["x-should-retry"] == "false"
    assert len(sim.calls("openai")) == 3
    assert (await circuits(http))["circuits"]["gpt-5.4"]["state"] == "open"
    other = await ask(http, "pair")
    assert (other.headers["x-gateway-provider"], other.headers["x-gateway-attempts"]) == ("anthropic", "1")
    async with asyncio.timeout(5):
        while (await ask(http)).status_code != 200:
            await asyncio.sleep(0.02)
    assert len(sim.calls("openai")) == 4


async def test_of_many_at_once_one_is_the_probe(http: httpx2.AsyncClient, sim: Simulator):
    sim.script("openai", DOWN, DOWN, DOWN, Turn(text="back", delay_first=0.2, headers_first=True))
    await ask(http)
    async with asyncio.timeout(5):
        while (await circuits(http))["circuits"]["gpt-5.4"]["state"] == "open":
            await asyncio.sleep(0.02)
    answers = await asyncio.gather(*(ask(http, "pair") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(sim.calls("openai")) == 4


async def test_a_client_that_leaves_is_no_failure_of_the_provider(http: httpx2.AsyncClient, sim: Simulator):
    sim.always("openai", Turn(text="slow", delay_first=5.0, headers_first=True))
    for _ in range(4):
        with pytest.raises(httpx2.ReadTimeout):
            await http.post(CHAT, json=body(), timeout=0.05)
    assert (await circuits(http))["circuits"] == {}


async def test_a_rate_limit_goes_elsewhere_and_closes_the_account(http: httpx2.AsyncClient, sim: Simulator):
    sim.script("openai", Fault(status=429, headers={"retry-after": "40"}))  # longer than anybody waits
    for _ in range(2):
        answer = await ask(http, "pair")
        assert (answer.status_code, answer.headers["x-gateway-provider"]) == (200, "anthropic")
    assert len(sim.calls("openai")) == 1
    alone = await ask(http)
    assert (alone.status_code, alone.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 35 <= int(alone.headers["retry-after"]) <= 43
    account = (await circuits(http))["accounts"][OPENAI]
    assert (account["reason"], account["blocked"] > 35) == ("rate_limit", True)
    assert (await ask(http, "openai/gpt-4.1")).status_code == 200, "another model has limits of its own"


async def test_a_short_stated_wait_is_waited_out(http: httpx2.AsyncClient, sim: Simulator):
    sim.script("openai", Fault(status=429, headers={"retry-after-ms": "50"}), Turn(text="now"))
    answer = await ask(http, "pair")
    assert (answer.status_code, answer.headers["x-gateway-provider"]) == (200, "openai")
    assert len(sim.calls("openai")) == 2


async def test_near_a_limit_requests_wait_their_turn(shared_sim: Simulator, sim: Simulator):
    limits = "[providers.openai]\nrpm = 600\nburst = 2\n"
    text = pointed_at(shared_sim, FAST).replace("[providers.openai]\n", limits)
    async with serving(text) as address, plain_client(address, timeout=10) as http:
        answers = await asyncio.gather(*(ask(http) for _ in range(6)))
    assert {answer.status_code for answer in answers} == {200}
    waited = [int(answer.headers.get("x-gateway-queued-ms", "0")) for answer in answers]
    assert sum(ms > 0 for ms in waited) >= 3
    assert len(sim.calls("openai")) == 6


async def test_several_keys_take_turns_and_a_refused_one_is_left_alone(shared_sim: Simulator, sim: Simulator):
    text = pointed_at(shared_sim, FAST).replace(
        "[providers.openai]\n", '[providers.openai]\napi_keys = ["env:KEY_A", "env:KEY_B"]\n'
    )
    keys = {"KEY_A": "sim-key-a", "KEY_B": "sim-key-b"}
    async with serving(text, keys) as address, plain_client(address) as http:
        for _ in range(4):
            assert (await ask(http)).status_code == 200
        used = [call.headers["authorization"] for call in sim.calls("openai")]
        assert sorted(used) == ["Bearer sim-key-a"] * 2 + ["Bearer sim-key-b"] * 2
        sim.script("openai", Fault(status=401))
        assert (await ask(http)).status_code == 200
        for _ in range(3):
            await ask(http)
        later = [call.headers["authorization"] for call in sim.calls("openai")][-4:]
        assert len(set(later)) == 1
        seen = (await circuits(http))["keys"]
        assert sorted(key["quarantined"] > 0 for key in seen) == [False, True]
        assert "sim-key" not in str(seen)


async def test_the_clients_own_deadline_holds(http: httpx2.AsyncClient, sim: Simulator):
    """P44: an error before the client's timer fires, and nobody is asked again."""
    sim.always("openai", Fault(kind="stall"))
    answer = await ask(http, **{"x-gateway-timeout": "0.1"})
    assert (answer.status_code, len(sim.calls("openai"))) == (504, 1)
    for wrong in ("0", "-1", "soon", "nan"):
        answer = await ask(http, **{"x-gateway-timeout": wrong})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "x-gateway-timeout")


async def test_who_is_repeated_by_its_sdk_is_not_repeated_here(http: httpx2.AsyncClient, sim: Simulator):
    sim.always("openai", DOWN)
    assert (await ask(http, **{"x-stainless-retry-count": "1"})).status_code == 503
    assert len(sim.calls("openai")) == 1


async def test_all_targets_down_is_told_with_reasons(http: httpx2.AsyncClient, sim: Simulator):
    """P113."""
    for name in ("openai", "anthropic"):
        sim.always(name, DOWN)
    for _ in range(3):
        await ask(http, "pair")
    before = len(sim.calls("openai")) + len(sim.calls("anthropic"))
    answer = await ask(http, "pair")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (503, "circuit_open")
    assert OPENAI in error["message"]
    assert ANTHROPIC in error["message"]
    assert int(answer.headers["retry-after"]) == 1
    assert len(sim.calls("openai")) + len(sim.calls("anthropic")) == before


@pytest.mark.parametrize("model", [ANTHROPIC, GEMINI])
async def test_an_overloaded_first_event_is_repeated_and_counts(
    http: httpx2.AsyncClient, sim: Simulator, model: str
):
    provider, _, name = model.partition("/")
    sim.always(provider, Fault(kind="error_event"))
    answer = await http.post(CHAT, json=body(model, stream=True))
    assert answer.status_code in (502, 503)  # as each names its own fault
    assert len(sim.calls(provider)) == 3
    assert (await circuits(http, provider))["circuits"][name]["state"] == "open"


@pytest.mark.parametrize("model", [ANTHROPIC, GEMINI])
async def test_an_end_in_the_middle_is_not_repeated_and_counts(
    http: httpx2.AsyncClient, sim: Simulator, model: str
):
    """P23, P25: content has gone out, so nobody is asked again; the circuit counts it all the same."""
    provider, _, name = model.partition("/")
    for failures in (1, 2):
        sim.script(provider, Fault(kind="clean_cut", events=3, turn=Turn(text="a b c d e f", pieces=6)))
        answer = await http.post(CHAT, json=body(model, stream=True))
        assert "stream_interrupted" in answer.text
        assert len(sim.calls(provider)) == failures
        assert (await circuits(http, provider))["circuits"][name]["failures"] >= failures


async def test_an_empty_answer_is_asked_for_again(http: httpx2.AsyncClient, sim: Simulator):
    """A malformed call without any content is a slip of the model, and a 502 when it keeps to it."""
    slip = Turn(text="", finish_native="MALFORMED_FUNCTION_CALL")
    sim.script("gemini", slip, Turn(text="better"))
    answer = await ask(http, GEMINI)
    assert (answer.status_code, "better" in answer.text, len(sim.calls("gemini"))) == (200, True, 2)
    sim.always("gemini", slip)
    assert (await ask(http, GEMINI)).status_code == 502


async def test_an_account_without_money_is_left_alone(http: httpx2.AsyncClient, sim: Simulator):
    sim.always("deepseek", Fault(status=402))
    for _ in range(2):
        answer = await ask(http, "deepseek/deepseek-flash")
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "insufficient_quota")
        assert answer.headers["x-should-retry"] == "false"
    assert (await ask(http, "deepseek/deepseek-v4-pro")).status_code == 429, "nor is there for other models"
    assert len(sim.calls("deepseek")) == 1
    account = (await circuits(http, "deepseek"))["accounts"]["deepseek"]
    assert (account["reason"], account["blocked"] > 3500) == ("quota", True)


async def test_a_refusal_without_a_wait_leaves_fewer_in_flight(http: httpx2.AsyncClient, sim: Simulator):
    """An API that limits calls in flight and says no wait: repeated after a pause, with fewer at once."""
    sim.script("deepseek", Fault(status=429))
    before = (await circuits(http, "deepseek"))["accounts"]["deepseek"]["concurrency"]
    await http.post(CHAT, json=body("deepseek/deepseek-flash"), headers={"x-gateway-timeout": "0.2"})
    accounts = (await circuits(http, "deepseek"))["accounts"]
    assert accounts["deepseek"]["concurrency"] < before
    assert accounts["deepseek/deepseek-flash"]["blocked"] > 0


TOO_LONG = Fault(status=400, code="context_length_exceeded", message="maximum context length is 10 tokens")


@pytest.mark.parametrize(("window", "served"), [(400_000, False), (900_000, True)])
async def test_a_prompt_that_is_too_long_goes_to_a_larger_window_only(
    shared_sim: Simulator, sim: Simulator, window: int, served: bool
):
    text = pointed_at(shared_sim, FAST) + (
        f'[models."{OPENAI}"]\ncontext_window = 400000\n[models."{ANTHROPIC}"]\ncontext_window = {window}\n'
    )
    sim.always("openai", TOO_LONG)
    async with serving(text) as address, plain_client(address) as http:
        answer = await ask(http, "pair")
    assert answer.status_code == (200 if served else 400)
    assert (len(sim.calls("openai")), len(sim.calls("anthropic"))) == (1, int(served))
    if not served:
        assert answer.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize("goes_on", [True, False])
async def test_a_refused_key_ends_the_request_unless_the_route_says_otherwise(
    shared_sim: Simulator, sim: Simulator, goes_on: bool
):
    """P13: a wrong key is not cured by another's answer, and would stay unnoticed."""
    setting = f"failover_on_auth = {str(goes_on).lower()}\n"
    text = pointed_at(shared_sim, FAST.replace("[routes.pair]\n", "[routes.pair]\n" + setting))
    sim.always("openai", Fault(status=401))
    async with serving(text) as address, plain_client(address) as http:
        answer = await ask(http, "pair")
    assert answer.status_code == (200 if goes_on else 502)
    assert len(sim.calls("openai")) == 1


async def test_a_clients_haste_is_no_failure_of_the_provider(http: httpx2.AsyncClient, sim: Simulator):
    """Its own deadline is over: nobody else is kept from the model for that."""
    sim.always("openai", Turn(text="in time", delay_first=0.15, headers_first=True))
    for _ in range(4):
        assert (await ask(http, **{"x-gateway-timeout": "0.05"})).status_code == 504
    found = await circuits(http)
    assert (found["circuits"], found["failed"]) == ({}, 0)
    assert (await ask(http)).status_code == 200


async def test_a_refused_key_does_not_hide_that_the_other_has_to_wait(shared_sim: Simulator, sim: Simulator):
    text = pointed_at(shared_sim, FAST).replace(
        "[providers.openai]\n", '[providers.openai]\napi_keys = ["env:KEY_A", "env:KEY_B"]\n'
    )
    keys = {"KEY_A": "sim-key-a", "KEY_B": "sim-key-b"}
    async with serving(text, keys) as address, plain_client(address) as http:
        sim.script("openai", Fault(status=401), Fault(status=429, headers={"retry-after": "20"}))
        sim.always("openai", Fault(status=401))
        first = await ask(http, "pair")
        assert (first.status_code, first.headers["x-gateway-provider"]) == (200, "anthropic")


async def test_an_answer_that_comes_whole_may_take_longer_for_its_first_byte(
    shared_sim: Simulator, sim: Simulator
):
    """D22: it has no byte before it is whole, and some take minutes."""
    slow = FAST.replace("content_idle = 0.3", "content_idle = 5")
    sim.always("openai", Turn(text="thought through", delay_first=0.6))
    async with serving(pointed_at(shared_sim, slow)) as address, plain_client(address) as http:
        answer = await ask(http)
        assert (answer.status_code, len(sim.calls("openai"))) == (200, 1)
        streamed = await http.post(CHAT, json=body(stream=True))
        assert streamed.status_code == 504
