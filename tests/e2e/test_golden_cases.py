"""Golden cases of the notes that only show on the wire; which is which stands in `tests/providers`."""

from __future__ import annotations

from typing import Any

import httpx2
import msgspec
import openai
import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from gateway.simulator import Fault, Simulator, Turn

from ..fakes import DONE, ROLE, delta
from .conftest import MODELS, NO_TLS, SIMULATED, plain_client, pointed_at, serving
from .test_sdk_node import node, run

pytestmark = pytest.mark.asyncio(loop_scope="module")
CHAT = "/v1/chat/completions"
HI: list[Any] = [{"role": "user", "content": "Hi"}]
TOOLS: list[Any] = [{"type": "function", "function": {"name": name}} for name in "fg"]
__all__ = ["node"]  # the fixture


def body(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": HI, **fields}


def events_of(answer: httpx2.Response) -> list[Any]:
    """The events of a stream, decoded; the end mark as text."""
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n") if line.startswith("data: ")]
    return [line if line == DONE else msgspec.json.decode(line) for line in lines]


# ── streams, as the SDKs put them together ─────────────────────────────────────────────────────────────


async def test_a_stream_through_the_python_sdks_helper(client: AsyncOpenAI, sim: Simulator):
    sim.script("openai", Turn(pieces=["a", "b"]))
    async with client.chat.completions.stream(model=MODELS["openai"], messages=HI) as stream:
        chunks = [event.chunk async for event in stream if event.type == "chunk"]
        final = await stream.get_final_completion()
    choices = [chunk.choices[0] for chunk in chunks]
    assert [choice.delta.role for choice in choices] == ["assistant", *[None] * (len(choices) - 1)]
    assert [choice.delta.content for choice in choices if choice.delta.content] == ["a", "b"]
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]
    assert (final.choices[0].message.role, final.choices[0].message.content) == ("assistant", "ab")


def piece(index: int, arguments: str, call_id: str = "", name: str = "") -> dict[str, Any]:
    head = {"id": call_id, "type": "function"} if call_id else {}
    function = {"name": name, "arguments": arguments} if name else {"arguments": arguments}
    return {"index": index, **head, "function": function}


def calling(*pieces: dict[str, Any]) -> Turn:
    """A stream of tool calls, one piece an event."""
    events = [delta(tool_calls=[each]) for each in pieces]
    return Turn(raw=[delta(role="assistant", content=None), *events, delta("tool_calls"), DONE])


CALLS: dict[str, tuple[Turn, list[tuple[str, str, str]]]] = {  # a stream, and the calls that come of it
    "fragments": (
        calling(piece(0, "", "a", "f"), piece(0, '{"a"'), piece(0, ":"), piece(0, "1}")),
        [("a", "f", '{"a":1}')],
    ),
    "interleaved": (
        calling(
            piece(0, "", "a", "f"),
            piece(1, "", "b", "g"),
            piece(0, '{"a"'),
            piece(1, '{"b"'),
            piece(0, ":1}"),
            piece(1, ":2}"),
        ),
        [("a", "f", '{"a":1}'), ("b", "g", '{"b":2}')],
    ),
}


@pytest.mark.parametrize("name", CALLS)
async def test_the_python_sdk_puts_calls_together(client: AsyncOpenAI, sim: Simulator, name: str):
    turn, expected = CALLS[name]
    sim.script("openai", turn)
    async with client.chat.completions.stream(model=MODELS["openai"], messages=HI, tools=TOOLS) as stream:
        said = (await stream.get_final_completion()).choices[0]
    calls = said.message.tool_calls or []
    assert [(c.id, c.function.name, c.function.arguments) for c in calls] == expected
    assert said.finish_reason == "tool_calls"


@pytest.mark.node
@pytest.mark.parametrize("name", [*CALLS, "text"])
async def test_the_node_sdk_puts_streams_together(node: str, url: str, sim: Simulator, name: str):
    turn, calls = CALLS.get(name, (Turn(pieces=["a", "b"]), []))
    sim.script("openai", turn)
    found = await run(node, "golden.mjs", url, MODELS["openai"])
    if name == "text":
        assert found == ["ab", "stop", []]
    else:
        assert found[1:] == ["tool_calls", [list(call) for call in calls]]


async def test_two_choices_through_the_python_sdks_helper(client: AsyncOpenAI, sim: Simulator):
    """The helper fails on a stream whose first chunk is of another choice than 0."""

    def of(index: int, finish: str | None = None, **fields: Any) -> dict[str, Any]:
        return {**ROLE, "choices": [{"index": index, "delta": fields, "finish_reason": finish}]}

    begin = [of(i, role="assistant", content=text) for i, text in ((1, "c"), (0, "a"))]
    more = [of(1, content="d"), of(0, content="b"), of(1, "stop"), of(0, "stop")]
    sim.script("openai", Turn(raw=[*begin, *more, DONE]))
    async with client.chat.completions.stream(model=MODELS["openai"], messages=HI, n=2) as stream:
        final = await stream.get_final_completion()
    assert [(c.message.content, c.finish_reason) for c in final.choices] == [("ab", "stop"), ("cd", "stop")]


@pytest.mark.parametrize("kind", ["reset_after", "clean_cut", "error_event"])
@pytest.mark.parametrize("provider", SIMULATED)
async def test_a_break_in_mid_stream_has_no_end(
    http: httpx2.AsyncClient, sim: Simulator, provider: str, kind: str
):
    """Text, then an error in the stream: no finish reason and no end mark, so nobody takes it for whole."""
    sim.script(provider, Fault(kind=kind, events=3, turn=Turn(pieces=["a", "b", "c", "d", "e"])))
    answer = await http.post(CHAT, json=body(MODELS[provider], stream=True))
    *said, last = events_of(answer)
    assert answer.status_code == 200
    text = "".join(event["choices"][0]["delta"].get("content") or "" for event in said)
    assert text
    assert "abcde".startswith(text)
    assert text != "abcde"
    assert [event["choices"][0]["finish_reason"] for event in said] == [None] * len(said)
    assert set(last) == {"error"}
    assert (last["error"]["code"], last["error"]["param"]) == ("stream_interrupted", None)


@pytest.mark.parametrize("provider", ["anthropic", "gemini"])
async def test_an_overloaded_first_event_is_503_or_the_next_target(sim: Simulator, provider: str):
    status = 529 if provider == "anthropic" else 503
    pair = f"[routes.two]\ntargets = ['{MODELS[provider]}', '{MODELS['openai']}']\n"
    async with serving(pointed_at(sim, pair)) as url, plain_client(url) as http:
        fault = Fault(kind="error_event", status=status, events=0)
        sim.script(provider, fault, fault)
        alone = await http.post(CHAT, json=body(MODELS[provider], stream=True))
        assert (alone.status_code, alone.json()["error"]["code"]) == (503, "upstream_overloaded")
        routed = await http.post(CHAT, json=body("two", stream=True))
    assert (routed.status_code, routed.headers["x-gateway-provider"]) == (200, "openai")
    assert routed.headers["x-gateway-attempts"] == "2"


async def test_a_blocked_prompt_is_an_answer(http: httpx2.AsyncClient, sim: Simulator):
    sim.script("gemini", Turn(block_reason="SAFETY"))
    answer = await http.post(CHAT, json=body(MODELS["gemini"]))
    assert answer.status_code == 200
    (choice,) = answer.json()["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("content_filter", None)
    assert "SAFETY" in choice["message"]["refusal"]


# ── refusals and waits ─────────────────────────────────────────────────────────────────────────────────

LONG = Fault(status=429, headers={"retry-after": "300"})


async def test_a_long_wait_is_told(http: httpx2.AsyncClient, sim: Simulator):
    sim.script("openai", LONG)
    answer = await http.post(CHAT, json=body(MODELS["openai"]))
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert (answer.headers["retry-after"], answer.headers["retry-after-ms"]) == ("300", "300000")


async def test_a_long_wait_is_not_repeated(http: httpx2.AsyncClient, sim: Simulator):
    """The Node SDK ignores a wait above 60 seconds and comes back at once: only this header stops it."""
    sim.script("openai", LONG)
    answer = await http.post(CHAT, json=body(MODELS["openai"]))
    assert answer.headers.get("x-should-retry") == "false"


async def test_billing_fails_over_and_is_never_repeated(url: str, http: httpx2.AsyncClient, sim: Simulator):
    spent = Fault(status=429, type="insufficient_quota", code="credit_balance_exhausted")
    sim.script("openai", spent, spent)
    routed = await http.post(CHAT, json=body("pair"))
    assert (routed.status_code, routed.headers["x-gateway-provider"]) == (200, "anthropic")
    assert len(sim.calls("openai")) == 1
    patient = AsyncOpenAI(
        base_url=f"{url}/v1", api_key="any", http_client=DefaultAsyncHttpxClient(verify=NO_TLS)
    )
    async with patient:  # the SDK's own repeats are on
        with pytest.raises(openai.RateLimitError) as caught:
            await patient.chat.completions.create(model=MODELS["openai"], messages=HI)
    assert (caught.value.type, caught.value.code) == ("insufficient_quota", "insufficient_quota")
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert len(sim.calls("openai")) == 1, "an account without money is left alone for a while"


async def test_a_refused_key_is_the_gateways_affair(sim: Simulator):
    """401 and `invalid_api_key` are for the gateway's own key: the client's is not wrong."""
    key = "sim-canary-0123456789"
    words = f"Incorrect API key provided: {key}"
    sim.script("openai", Fault(status=401, message=words, code="invalid_api_key"))
    async with serving(pointed_at(sim), {"OPENAI_API_KEY": key}) as url, plain_client(url) as http:
        answer = await http.post(CHAT, json=body(MODELS["openai"]))
    error = answer.json()["error"]
    assert answer.status_code == 502
    assert (error["type"], error["code"]) == ("upstream_error", "provider_auth_error")
    assert key not in answer.text
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("path", ["completions", "responses"])
async def test_what_is_not_offered_is_said(http: httpx2.AsyncClient, sim: Simulator, path: str):
    answer = await http.post(f"/v1/{path}", json={"model": MODELS["openai"], "input": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")
    assert not sim.calls()


async def test_a_temperature_that_is_dropped_is_named_or_refused(http: httpx2.AsyncClient, sim: Simulator):
    asked = body("openai/gpt-6-luna", temperature=0.7)
    answer = await http.post(CHAT, json=asked)
    assert (answer.status_code, answer.headers["x-gateway-dropped-params"]) == (200, "temperature")
    assert "temperature" not in sim.calls("openai")[0].json
    strict = await http.post(CHAT, json=asked, headers={"x-gateway-strict": "1"})
    error = strict.json()["error"]
    assert (strict.status_code, error["param"], error["code"]) == (
        400,
        "temperature",
        "unsupported_parameter",
    )
    assert len(sim.calls("openai")) == 1


# ── keeping alive ──────────────────────────────────────────────────────────────────────────────────────


async def test_the_sdk_does_not_see_comments(sim: Simulator):
    """The provider is silent for longer than the SDK reads: comments keep it, and are no chunks."""
    text = pointed_at(sim, "[server]\nkeepalive_after = 0.05\nkeepalive_every = 0.05\n")
    sim.script("openai", Turn(pieces=["a", "b"], delay_first=0.6))
    async with (
        serving(text) as url,
        AsyncOpenAI(
            base_url=f"{url}/v1",
            api_key="any",
            max_retries=0,
            timeout=0.3,
            http_client=DefaultAsyncHttpxClient(verify=NO_TLS),
        ) as impatient,
    ):
        stream = await impatient.chat.completions.create(model=MODELS["openai"], messages=HI, stream=True)
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "ab"
    assert all(chunk.id and chunk.choices for chunk in chunks)
    assert len(sim.calls("openai")) == 1
