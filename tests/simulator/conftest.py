"""What the simulator's tests share: a running simulator, and a raw client that shows every byte."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from gateway.simulator import Simulator

PATHS = {
    "openai": ("/openai/v1/chat/completions", "/openai/v1/chat/completions"),
    "anthropic": ("/anthropic/v1/messages", "/anthropic/v1/messages"),
    "gemini": (
        "/gemini/v1beta/models/gemini-3.8-flash:generateContent",
        "/gemini/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse",
    ),
    "qwen": ("/qwen/api/v1/services/aigc/text-generation/generation",) * 2,
}
HEADERS = {
    "openai": {"authorization": "Bearer sim-key"},
    "anthropic": {"x-api-key": "sim-key", "anthropic-version": "2023-06-01"},
    "gemini": {"x-goog-api-key": "sim-key"},
    "qwen": {"authorization": "Bearer sim-qwen-key"},
}
BODIES = {
    "openai": {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Hello"}]},
    "anthropic": {
        "model": "claude-opus-4-6",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Hello"}],
    },
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]},
    "qwen": {
        "model": "qwen-plus",
        "input": {"messages": [{"role": "user", "content": "Hello"}]},
        "parameters": {"result_format": "message", "incremental_output": True},
    },
}


def request(
    provider: str, *, stream: bool = False, path: str | None = None, body=None, headers=None
) -> bytes:
    """A whole HTTP request. `headers` replace the usual ones; a value of None leaves one out."""
    wanted = {"host": "sim", "content-type": "application/json", **HEADERS[provider], **(headers or {})}
    value = BODIES[provider] if body is None else body
    if stream and provider in ("openai", "anthropic"):
        value = {**value, "stream": True}
    if stream and provider == "qwen":
        wanted["x-dashscope-sse"] = "enable"
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    wanted["content-length"] = str(len(data))
    lines = [f"{name}: {text}\r\n" for name, text in wanted.items() if text is not None]
    return f"POST {path or PATHS[provider][stream]} HTTP/1.1\r\n{''.join(lines)}\r\n".encode() + data


class Raw:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.error: BaseException | None = None

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def until(self, mark: bytes) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(mark), 5)

    async def rest(self) -> bytes:
        """Everything until the end; a reset is kept in `error`."""
        data = b""
        try:
            while piece := await asyncio.wait_for(self.reader.read(1 << 20), 5):
                data += piece
        except ConnectionError as error:
            self.error = error
        return data

    async def silent(self, seconds: float = 0.03) -> bool:
        """Nothing arrives, and nobody closes."""
        try:
            await asyncio.wait_for(self.reader.read(1), seconds)
        except TimeoutError:
            return True
        return False

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body) of one well-framed response; chunks are joined."""
        head = (await self.until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
        if "content-length" in headers:
            body = await self.reader.readexactly(int(headers["content-length"]))
        else:
            body = b""
            while size := int(await self.until(b"\r\n"), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.until(b"\r\n")
        return int(head[0].split()[1]), headers, body


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


@pytest.fixture
async def connect(sim):
    """Open raw connections to the simulator; they are closed at the end."""
    opened: list[Raw] = []

    async def open_one() -> Raw:
        raw = Raw(*await asyncio.open_connection(sim.host, sim.port, limit=1 << 22))
        opened.append(raw)
        return raw

    yield open_one
    for raw in opened:
        raw.writer.close()
        with contextlib.suppress(ConnectionError):
            await raw.writer.wait_closed()


@pytest.fixture
def ask(connect):
    """Send one request on its own connection and return (status, headers, body)."""

    async def one(provider: str, **how):
        raw = await connect()
        raw.send(request(provider, **how))
        return await raw.response()

    return one
