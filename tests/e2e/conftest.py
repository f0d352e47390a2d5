"""A gateway and a simulator on real sockets, one pair a test module, in the module's own loop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest_asyncio
import uvicorn
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from starlette.types import Receive, Scope, Send

from gateway import app, server, settings
from gateway.simulator import Simulator

NATIVE = ("openai", "anthropic", "gemini")
SIMULATED = (*NATIVE, "deepseek", "qwen")
AGENTS = "cursor"
"""It answers by agents: no tools, several calls, tests of its own."""
MODELS = {  # a model of each that takes everything the tests ask for
    "openai": "openai/gpt-5.4",
    "anthropic": "anthropic/claude-sonnet-5",
    "gemini": "gemini/gemini-3.8-flash",
    "deepseek": "deepseek/deepseek-flash",
    "qwen": "qwen/qwen3.7-plus",
}
KEYS = {
    "OPENAI_API_KEY": "sim-key",
    "ANTHROPIC_API_KEY": "sim-key",
    "GEMINI_API_KEY": "sim-key",
    "DEEPSEEK_API_KEY": "sim-key",
    "DASHSCOPE_API_KEY": "sim-key",
    "CURSOR_API_KEY": "sim-key",
}

BASE = """
[providers.demo.options]
pace = 0.0
[timeouts]
first_byte = 5
[routes.pair]
targets = ["openai/gpt-5.4", "anthropic/claude-sonnet-5"]
[routes.trio]
targets = ["anthropic/claude-sonnet-5", "gemini/gemini-3.8-flash", "openai/gpt-5.4"]
"""


NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients that speak plain HTTP: loading the system's authorities for each would be most of the suite."""


def plain_client(url: str, **options: Any) -> httpx2.AsyncClient:
    """A client of a gateway on loopback."""
    return httpx2.AsyncClient(base_url=url, verify=NO_TLS, **options)


ONCE = """
[retry]
attempts = 1
[breaker]
failures = 100
"""
"""For tests of what a single failure is told like: no target is asked twice, and none is left alone."""


def pointed_at(sim: Simulator, text: str = BASE) -> str:
    """Settings that send every native provider to the simulator, `ONCE` if they say nothing of retries."""
    names = (*SIMULATED, AGENTS)
    places = "".join(f'[providers.{name}]\nbase_url = "{sim.url(name)}"\n' for name in names)
    local = (
        f'[providers.local]\ntype = "openai"\nbase_url = "{sim.url("openai")}"\napi_key = "env:LOCAL_KEY"\n'
    )
    return text + places + local + ("" if "[retry]" in text else ONCE)


class Renewable:
    """A gateway behind a server that can be made anew: without blocks, open circuits, what it learned."""

    def __init__(self, text: str, environ: Mapping[str, str]) -> None:
        self._make = lambda: app.build(settings.parse(text, "test"), environ)
        self.gateway = self._make()
        self._served, self.gateway.app = self.gateway.app, self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._served(scope, receive, send)

    async def renew(self) -> None:
        await self.gateway.core.aclose()
        self.gateway = self._make()
        self._served = self.gateway.app


SERVED: dict[str, Renewable] = {}
"""The gateways that run, by their addresses."""


@asynccontextmanager
async def serving(text: str, environ: Mapping[str, str] | None = None) -> AsyncIterator[str]:
    """A gateway with these settings on a free port, under the real server: its address."""
    chosen = {**KEYS, "LOCAL_KEY": "sim-local", **(environ or {})}
    renewable = Renewable(text, chosen)
    sock = server.listen("127.0.0.1", 0)
    running = uvicorn.Server(server.uvicorn_config(renewable.gateway))
    task = asyncio.create_task(running.serve(sockets=[sock]))
    while not running.started:
        await asyncio.sleep(0.005)
    address = server.url_of(sock)
    SERVED[address] = renewable
    try:
        yield address
    finally:
        del SERVED[address]
        running.should_exit = True
        await task
        await renewable.gateway.core.aclose()
        sock.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_sim() -> AsyncIterator[Simulator]:
    async with Simulator() as sim:
        yield sim


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(shared_sim: Simulator) -> AsyncIterator[str]:
    async with serving(pointed_at(shared_sim)) as address:
        yield address


@pytest_asyncio.fixture(loop_scope="module")
async def sim(shared_sim: Simulator, url: str) -> AsyncIterator[Simulator]:
    """The module's simulator, with nothing scripted and nothing recorded, and its gateways like new."""
    shared_sim.reset()
    for renewable in SERVED.values():
        await renewable.renew()
    yield shared_sim
    shared_sim.reset()


@pytest_asyncio.fixture(loop_scope="module")
async def client(url: str, sim: Simulator) -> AsyncIterator[AsyncOpenAI]:
    """The official SDK, which repeats nothing by itself."""
    async with AsyncOpenAI(
        base_url=f"{url}/v1",
        api_key="any",
        max_retries=0,
        http_client=DefaultAsyncHttpxClient(verify=NO_TLS),
    ) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def http(url: str, sim: Simulator) -> AsyncIterator[httpx2.AsyncClient]:
    async with plain_client(url, timeout=10) as made:
        yield made
