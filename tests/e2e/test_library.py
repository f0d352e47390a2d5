"""The library against the simulator: every provider, and every snippet of its documentation as it stands."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
from pathlib import Path

import pytest

from gateway import open_provider
from gateway.settings import Settings, parse
from gateway.simulator import Simulator, Turn

from .conftest import KEYS, MODELS, SIMULATED, pointed_at

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROOT = Path(__file__).parents[2]


def chosen(sim: Simulator) -> Settings:
    return parse(pointed_at(sim), "test")


@pytest.mark.parametrize("name", SIMULATED)
async def test_every_provider_answers_streaming_and_not(sim: Simulator, name: str):
    model = MODELS[name].partition("/")[2]
    async with open_provider(name, settings=chosen(sim), environ=KEYS) as provider:
        answer = await provider.generate("Hi", model=model)
        assert (answer.text, answer.finish_reason) == ("You said: Hi", "stop")
        assert answer.usage is not None
        assert answer.usage.completion_tokens > 0
        chunks = [chunk async for chunk in provider.generate_stream("Hi", model=model)]
        assert "".join(chunk.text for chunk in chunks) == "You said: Hi"
        assert (await provider.health()).ok
        assert model in [listed.id for listed in await provider.models()]
    assert len({call.connection for call in sim.calls(name)}) == 1


@pytest.mark.parametrize("name", SIMULATED)
async def test_a_key_that_is_refused_shows_in_the_health(sim: Simulator, name: str):
    async with open_provider(name, api_key="sim-wrong-key", settings=chosen(sim), environ={}) as provider:
        health = await provider.health()
    assert (health.ok, health.latency) == (False, None)
    assert (health.error or "").endswith("(the key is from api_key)")
    assert "sim-wrong-key" not in (health.error or "")


async def test_a_server_that_is_not_there_is_unwell():
    address = {"base_url": "http://127.0.0.1:9/v1", "settings": Settings(), "environ": KEYS}
    async with open_provider("openai", **address) as provider:
        health = await provider.health()
    assert (health.ok, health.latency) == (False, None)
    assert "could not be reached" in (health.error or "")


async def test_leaving_a_stream_early_hangs_up_at_the_provider(sim: Simulator):
    """Whichever way: with a block around it, by a break alone, or with the provider's own block."""
    endless = Turn(text="word " * 2000, pieces=5, delay_between=0.01)
    for way in ("block", "break", "provider"):
        sim.reset()
        sim.script("openai", endless)
        async with open_provider("openai", settings=chosen(sim), environ=KEYS) as provider:
            stream = provider.generate_stream("Hi", model="gpt-4.1")
            if way == "block":
                async with contextlib.aclosing(stream):
                    assert await anext(stream)
            else:
                assert await anext(stream)
            if way == "break":
                del stream
            if way != "provider":
                await hung_up(sim)
        await hung_up(sim)


async def hung_up(sim: Simulator) -> None:
    (call,) = sim.calls("openai")
    async with asyncio.timeout(5):
        await call.wait_over()
    assert call.peer_closed_at is not None


def snippets(path: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)


async def ran(code: str) -> str:
    """What a snippet prints, run as it stands, in a thread of its own with its own loop."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        await asyncio.to_thread(exec, compile(code, "snippet", "exec"), {"__name__": "__main__"})
    return printed.getvalue()


PRINTED = (  # what each snippet of docs/library.md prints, in parts
    ["You said: Say hi\n", "stop", "tokens, dropped: ()\n", "You said: Tell me a story"],
    ["Rain in "],
    ["You"],
    ["deepseek 0.", "deepseek-flash 1048576 393216\n", "True\n", "n deepseek/deepseek-flash cannot take"],
    [],
)


async def test_the_snippets_of_the_documentation_run(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    path = tmp_path / "gateway.toml"
    path.write_text(pointed_at(sim))
    for name, value in {**KEYS, "GATEWAY_CONFIG": str(path)}.items():
        monkeypatch.setenv(name, value)
    found = snippets(ROOT / "docs" / "library.md")
    for code, parts in zip(found, PRINTED, strict=True):
        printed = await ran(code)
        for part in parts:
            assert part in printed


async def test_readmes_snippet_runs_without_a_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("GATEWAY_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gateway.toml").write_text("[providers.demo.options]\npace = 0.0\n")
    (code,) = (code for code in snippets(ROOT / "README.md") if "open_provider" in code)
    assert (await ran(code)).startswith("Once there was a lighthouse")
