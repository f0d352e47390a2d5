"""Every fault of the simulator against every provider, streaming and not: nothing bad ever looks good.

The faults are played by raw sockets; the client reads raw bytes. What a client may see is a whole answer, an
error with a status, or a stream that ends with an error in it: never a cut answer with a normal end, never
HTML, never a traceback, never a hang.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import msgspec
import pytest
import pytest_asyncio

from gateway.simulator import FAULTS, Fault, Simulator, Turn

from .conftest import MODELS, SIMULATED, plain_client, pointed_at, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = "The quick brown fox jumps over the lazy dog."
TURN = Turn(text=TEXT, pieces=4)

HARMLESS = {  # faults that a client must not notice
    "early_hints",
    "no_terminator",
    "unknown_event",
    "drip_bytes",
    "one_byte",
    "double_terminator",
    "after_terminator",
    "close_idle",
    "empty_data",
}
BEFORE = {  # no content has come: the client gets an error with a status of its own
    "status",
    "error_200",
    "empty",
    "redirect",
    "accept_close",
    "close",
    "reset",
    "stall",
    "stall_headers",
    "garbage_status",
    "partial_status",
    "http09",
    "big_header",
    "two_lengths",
    "html_200",
    "json_on_stream",
    "sse_on_json",
    "gzip_bomb",
    "bad_gzip",
    "unknown_encoding",
    "error_event",
    "drip_comments",
}
MIDDLE = {  # content has come: a stream ends with an error in it
    "stall_after",
    "reset_after",
    "close_after",
    "bad_chunk",
    "length_too_large",
    "length_too_small",
    "eof_cut",
    "clean_cut",
    "malformed_event",
    "cut_json",
    "invalid_utf8",
    "half_character",
    "oversized_event",
    "endless",
}
STREAM_ONLY = {  # on an answer that is no stream, these are not played or harm nothing
    "error_event",
    "clean_cut",
    "no_terminator",
    "malformed_event",
    "cut_json",
    "invalid_utf8",
    "half_character",
    "oversized_event",
    "unknown_event",
    "empty_data",
    "drip_comments",
    "endless",
    "double_terminator",
    "after_terminator",
    "json_on_stream",
}
QUICK = """
[timeouts]
first_byte = 0.3
idle = 0.3
content_idle = 0.6
total = 1.5
"""


async def test_every_fault_has_its_place():
    """A new kind of fault has to be thought about here."""
    assert set(FAULTS) == HARMLESS | BEFORE | MIDDLE
    assert not HARMLESS & BEFORE
    assert not (HARMLESS | BEFORE) & MIDDLE


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def quick_url(shared_sim: Simulator) -> AsyncIterator[str]:
    async with serving(pointed_at(shared_sim, QUICK)) as url:
        yield url


@pytest_asyncio.fixture(loop_scope="module")
async def quick(quick_url: str, sim: Simulator) -> AsyncIterator[httpx2.AsyncClient]:
    async with plain_client(quick_url, timeout=20) as made:
        yield made


def body(provider: str, stream: bool) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Hi"}]
    return {"model": MODELS[provider], "messages": messages, "stream": stream, "max_tokens": 1000}


def fault(kind: str, stream: bool) -> Fault:
    return Fault(
        kind=kind,
        turn=Turn(text="Hi") if kind == "drip_bytes" else TURN,
        events=2 if stream and kind in MIDDLE else None,
        every=0.0 if kind == "drip_bytes" else 0.002,
        size=200_000 if kind == "big_header" else 2 << 20,
    )


ALWAYS_STREAMED = ("qwen",)
"""Their answers are streams between them and the gateway, whatever the client wants."""
NO_END_MARK = ("gemini", "qwen")
"""Their finish reason is their end mark."""


def is_harmless(provider: str, kind: str, stream: bool) -> bool:
    streamed = stream or provider in ALWAYS_STREAMED
    if kind in ("length_too_large", "sse_on_json"):
        return streamed  # everything that was needed has come; a stream is what was asked for
    if kind == "no_terminator":
        return provider not in NO_END_MARK
    return kind in HARMLESS


def is_error(raw: Any, provider: str) -> bool:
    error = raw["error"]
    return (
        set(error) == {"message", "type", "param", "code"}
        and error["message"].startswith(f"{provider}: ")
        and "<" not in error["message"]
        and "Traceback" not in error["message"]
    )


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("provider", SIMULATED)
async def test_a_stream(quick: httpx2.AsyncClient, sim: Simulator, provider: str, kind: str):
    if kind == "sse_on_json":
        return  # what a stream is
    sim.script(provider, fault(kind, True))
    answer = await quick.post("/v1/chat/completions", json=body(provider, True))
    if answer.status_code != 200:
        assert kind in BEFORE
        assert answer.headers["content-type"] == "application/json"
        assert is_error(answer.json(), provider)
        return
    assert answer.text.endswith("\n\n")
    events = [e.removeprefix("data: ") for e in answer.text.split("\n\n") if e.startswith("data: ")]
    parsed = [msgspec.json.decode(e) for e in events if e != "[DONE]"]
    text = "".join(c["delta"].get("content") or "" for e in parsed for c in e.get("choices", ()))
    if is_harmless(provider, kind, True):
        said = "Hi" if kind == "drip_bytes" else TEXT
        assert (text, events[-1], events.count("[DONE]")) == (said, "[DONE]", 1)
        return
    assert kind in MIDDLE or kind == "no_terminator"
    assert "[DONE]" not in events
    assert is_error(parsed[-1], provider)
    assert parsed[-1]["error"]["code"] == "stream_interrupted"
    assert text
    assert TEXT.startswith(text) or kind == "endless"
    assert not any(c.get("finish_reason") for e in parsed for c in e.get("choices", ()))


@pytest.mark.parametrize("kind", [k for k in FAULTS if k not in STREAM_ONLY])
@pytest.mark.parametrize("provider", SIMULATED)
async def test_an_answer_that_is_no_stream(
    quick: httpx2.AsyncClient, sim: Simulator, provider: str, kind: str
):
    sim.script(provider, fault(kind, False))
    answer = await quick.post("/v1/chat/completions", json=body(provider, False))
    assert answer.headers["content-type"] == "application/json"
    if is_harmless(provider, kind, False):
        assert answer.status_code == 200
        assert answer.json()["choices"][0]["message"]["content"] in (TEXT, "Hi")
        return
    assert answer.status_code >= 400
    assert is_error(answer.json(), provider)


@pytest.mark.parametrize("provider", SIMULATED)
async def test_health_is_quick_and_counts(quick: httpx2.AsyncClient, sim: Simulator, provider: str):
    before = (await quick.get("/health")).json()["providers"][provider]
    sim.script(provider, Fault(status=500), TURN)
    for _ in range(2):
        await quick.post("/v1/chat/completions", json=body(provider, False))
    seen = (await quick.get("/health")).json()["providers"][provider]
    assert seen["answered"] == before["answered"] + 1
    assert seen["failed"] == before["failed"] + 1
    assert seen["in_flight"] == 0
    assert seen["last_failure"]["kind"]
