"""The gateway as a process: what it prints, how it starts and ends, and what a user's mistake looks like."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.simulator import Fault, Simulator

from .conftest import plain_client, pointed_at

ROOT = Path(__file__).parents[2]
GATEWAY = [sys.executable, "-m", "gateway"]
CLEAN = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
CHAT = "/v1/chat/completions"
STORY = {"model": "demo/story", "messages": [{"role": "user", "content": "Hi"}]}


def run(*arguments: str, cwd: Path = ROOT, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*GATEWAY, *arguments],
        cwd=cwd,
        env={**CLEAN, "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


class Process:
    """A running command, and what it has printed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.printed = ""
        self.logged = ""

    async def until(self, pattern: str) -> re.Match[str]:
        """Reads what is printed until `pattern` is in it."""
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            while (found := re.search(pattern, self.printed)) is None:
                piece = await self.process.stdout.read(4096)
                assert piece, f"ended without {pattern!r}: {self.printed}"
                self.printed += piece.decode()
        return found

    async def end(self, sign: signal.Signals) -> int:
        self.process.send_signal(sign)
        assert self.process.stderr is not None
        async with asyncio.timeout(20):
            self.logged = (await self.process.stderr.read()).decode()
            return await self.process.wait()


@asynccontextmanager
async def started(*arguments: str, **environ: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *GATEWAY,
        *arguments,
        cwd=ROOT,
        env={**CLEAN, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Process(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_the_first_run_without_any_key():
    """It says where it listens, what is on and why the rest is not; what it tells to paste works."""
    async with started("serve", "--port", "0") as gateway:
        url = (await gateway.until(r"listens on (http://127\.0\.0\.1:\d+)"))[1]
        await gateway.until("api_key=")
        assert re.search(r"demo +on +no key needed: demo/echo, demo/story, demo/tool", gateway.printed)
        for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
            assert re.search(rf"off +{name}.* is not set", gateway.printed)

        curl = re.search(r"^  (curl .*\n.*)$", gateway.printed, re.MULTILINE)
        assert curl is not None
        asked = await asyncio.to_thread(
            subprocess.run, ["bash", "-c", f"{curl[1]} -sS"], capture_output=True, text=True, check=True
        )
        assert asked.stdout.startswith("data: {")
        assert asked.stdout.endswith("data: [DONE]\n\n")

        snippet = gateway.printed.partition("nothing installed\n")[2].partition("\n\n")[0]
        ran = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", snippet], capture_output=True, text=True, check=True
        )
        assert ran.stdout.startswith("Once there was a lighthouse")
        assert url in snippet
        assert await gateway.end(signal.SIGINT) == 0
    assert "Traceback" not in gateway.logged


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_a_stream_end(sign: signal.Signals):
    async with started("serve", "--port", "0") as gateway:
        url = (await gateway.until(r"listens on (\S+)"))[1]
        async with (
            plain_client(url) as http,
            http.stream("POST", CHAT, json={**STORY, "stream": True, "max_tokens": 20}) as stream,
        ):
            lines = stream.aiter_lines()
            await anext(lines)
            ending = asyncio.create_task(gateway.end(sign))
            rest = [line async for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert await ending == 0
    assert "Traceback" not in gateway.logged


async def test_what_does_not_end_in_time_is_told_so(tmp_path: Path):
    """P61: after the drain time a stream ends with an error in it, not as if it were whole."""
    config = tmp_path / "g.toml"
    config.write_text("[server]\ndrain_timeout = 1\n[providers.demo.options]\npace = 0.3\n")
    async with started("serve", "--port", "0", "--config", str(config)) as gateway:
        url = (await gateway.until(r"listens on (\S+)"))[1]
        async with (
            plain_client(url, timeout=20) as http,
            http.stream("POST", CHAT, json={**STORY, "stream": True}) as stream,
        ):
            lines = stream.aiter_lines()
            await anext(lines)
            ending = asyncio.create_task(gateway.end(signal.SIGTERM))
            rest = [line async for line in lines if line]
        assert '"error"' in rest[-1]
        assert "shutting down" in rest[-1]
        assert await ending == 0
    assert "Traceback" not in gateway.logged


async def test_a_second_signal_ends_it_at_once():
    async with started("serve", "--port", "0") as gateway:
        url = (await gateway.until(r"listens on (\S+)"))[1]
        async with plain_client(url) as http:
            body = {**STORY, "stream": True, "pace": 5}
            waiting = asyncio.create_task(http.post(CHAT, json=body))
            while not (await http.get("/health")).json()["in_flight"]:
                await asyncio.sleep(0.01)
            gateway.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.2)  # two signals at once are one
            assert await gateway.end(signal.SIGTERM) == 0
            await asyncio.gather(waiting, return_exceptions=True)
    assert "Traceback" not in gateway.logged


def test_a_port_that_is_taken_is_one_line():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        for command in (("serve", "--port", str(port)), ("simulate", "--port", str(port))):
            done = run(*command)
            assert done.returncode == 2
            assert done.stdout == ""
            assert done.stderr.count("\n") == 1
            assert str(port) in done.stderr


MISTAKES: dict[str, tuple[tuple[str, ...], str, dict[str, str], str]] = {
    "unknown key": (("serve",), "[server]\nprot = 1\n", {}, "gateway.toml: server.prot: unknown key"),
    "not toml": (("serve",), "[server\n", {}, "gateway.toml: not valid TOML"),
    "a password that ends the address": (
        ("serve",),
        "[providers.openai]\nbase_url = 'http://me:x/y@host/v1'\n",
        {},
        "gateway.toml: providers.openai.base_url: cannot be read as an address",
    ),
    "no such file": (("serve", "--config", "nope.toml"), "", {}, "nope.toml: no such file"),
    "open to all": (("serve", "--host", "0.0.0.0"), "", {}, "set GATEWAY_API_KEY"),
    "no such host": (
        ("serve", "--host", "no.invalid"),
        "",
        {"GATEWAY_API_KEY": "k"},
        "cannot listen on no.invalid",
    ),
    "named key is missing": (
        ("serve",),
        "[server]\napi_key = 'env:NOPE'\n",
        {},
        "server.api_key: NOPE is not set",
    ),
    "dirty key": (("serve",), "", {"GATEWAY_API_KEY": "a\tb"}, "GATEWAY_API_KEY has characters"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(name: str, tmp_path: Path):
    arguments, text, environ, words = MISTAKES[name]
    (tmp_path / "gateway.toml").write_text(text)
    done = run(*arguments, cwd=tmp_path, **environ)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("gateway: ")
    assert words in done.stderr


def test_help_version_and_wrong_options():
    assert run("--version").stdout.startswith("gateway ")
    for command in ((), ("serve",), ("simulate",)):
        assert run(*command, "--help").returncode == 0
    wrong = run("serve", "--prt", "1")
    assert wrong.returncode == 2
    assert "No such option" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    assert "reset_after" in run("simulate", "--faults").stdout


async def test_the_simulator_command_serves_a_gateway():
    """What it prints is a settings file that works."""
    async with started("simulate", "--port", "0") as simulator:
        await simulator.until(r"gemini\]\n +base_url")
        config = re.sub(
            r"^  ", "", simulator.printed[simulator.printed.index("  [providers") :], flags=re.MULTILINE
        )
        path = Path(os.environ.get("TMPDIR", "/tmp")) / f"gateway-test-{os.getpid()}.toml"
        path.write_text(config)
        try:
            keys = {"OPENAI_API_KEY": "sim-key", "ANTHROPIC_API_KEY": "sim-key", "GEMINI_API_KEY": "sim-key"}
            async with started("serve", "--port", "0", "--config", str(path), **keys) as gateway:
                url = (await gateway.until(r"listens on (\S+)"))[1]
                async with plain_client(url) as http:
                    answer = await http.post(CHAT, json={**STORY, "model": "claude-sonnet-5"})
                assert answer.json()["choices"][0]["message"]["content"] == "You said: Hi"
                assert await gateway.end(signal.SIGTERM) == 0
        finally:
            path.unlink()
        assert await simulator.end(signal.SIGINT) == 0
        assert simulator.logged == ""


async def test_no_key_is_in_what_is_printed_or_logged(tmp_path: Path):
    """P78: with everything logged, through success and failure, no canary shows."""
    canaries = {
        "OPENAI_API_KEY": "sim-canary-openai",
        "ANTHROPIC_API_KEY": "sim-canary-anthropic",
        "GEMINI_API_KEY": "sim-canary-gemini",
        "GATEWAY_API_KEY": "sim-canary-gateway",
        "LOCAL_KEY": "sim-canary-local",
    }
    models = ("openai/gpt-5.4", "anthropic/claude-sonnet-5", "gemini/gemini-3.8-flash", "local/gpt-4.1")
    config = tmp_path / "g.toml"
    async with Simulator() as sim:
        config.write_text(pointed_at(sim, "[log]\nlevel = 'debug'\n"))
        told = ""
        async with started("serve", "--port", "0", "--config", str(config), **canaries) as gateway:
            url = (await gateway.until(r"listens on (\S+)"))[1]
            headers = {"authorization": "Bearer sim-canary-gateway"}
            async with plain_client(url, headers=headers) as http:
                for model in models:
                    name = "openai" if model.startswith("local") else model.partition("/")[0]
                    key = "LOCAL_KEY" if model.startswith("local") else f"{name.upper()}_API_KEY"
                    echo = Fault(status=401, message=f"bad key: {canaries[key]}")
                    for step in (None, echo, Fault(kind="reset"), Fault(kind="html_200")):
                        if step is not None:
                            sim.script(name, step)
                        for streaming in (False, True):
                            body = {**STORY, "model": model, "stream": streaming}
                            answer = await http.post(CHAT, json=body)
                            told += answer.text + str(answer.headers)
                told += (await http.get("/health")).text + (await http.get("/v1/models")).text
                wrong = await http.post(CHAT, json=STORY, headers={"authorization": "Bearer nope"})
                told += wrong.text
            await gateway.end(signal.SIGTERM)
        told += gateway.printed + gateway.logged
    assert "claude-sonnet-5" in gateway.logged
    for canary in canaries.values():
        assert canary not in told
    assert "lighthouse" not in gateway.logged  # and no prompt or answer either
