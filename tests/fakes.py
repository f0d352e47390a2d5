"""Fakes, not mocks: a provider whose dialect is the gateway's own, and a transport that plays a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.chat import ChatRequest, Chunk, decode_request
from gateway.errors import ErrorKind, UpstreamError
from gateway.exchange import Exchange, Target, Timings
from gateway.providers import openai
from gateway.providers.base import HttpRequest


def chat(model: str = "m", **fields: Any) -> ChatRequest:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **fields}
    return decode_request(msgspec.json.encode(body))


OPENAI = openai.PROVIDER


@dataclass
class Reply:
    """What a scripted upstream answers: `pieces` are bytes, seconds to wait, or an error to raise."""

    pieces: Iterable[bytes | float | UpstreamError] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "text/event-stream"})
    connect: float | None = None
    reads: int = 0
    closed: bool = False
    at_end: bool = False

    def __post_init__(self) -> None:
        self._left = list(self.pieces)

    async def read(self) -> bytes:
        self.reads += 1
        while self._left:
            piece = self._left.pop(0)
            if isinstance(piece, UpstreamError):
                raise piece
            if isinstance(piece, float):
                await asyncio.sleep(piece)
                continue
            return piece
        self.at_end = True
        return b""

    async def aclose(self) -> None:
        self.closed = True


class ScriptedTransport:
    """Answers each call with the next of `replies`, and remembers what was sent."""

    def __init__(self, *replies: Reply | UpstreamError) -> None:
        self.replies = list(replies)
        self.sent: list[tuple[HttpRequest, str, dict[str, str]]] = []
        self.closed = False

    async def send(self, http: HttpRequest, url: str, headers: Mapping[str, str]) -> Reply:
        self.sent.append((http, url, dict(headers)))
        reply = self.replies.pop(0)
        if isinstance(reply, UpstreamError):
            raise reply
        return reply

    async def aclose(self) -> None:
        self.closed = True


class FakeExchange(Exchange):
    """An answer of ready chunks."""

    def __init__(self, target: Target, batches: Iterable[list[Chunk]]) -> None:
        self.target = target
        self.timings = Timings()
        self._batches = list(batches)

    async def read(self) -> list[Chunk]:
        return self._batches.pop(0) if self._batches else []


class FakeOpen:
    """An `Open` that fails with the kinds it is given, one a call, and then answers."""

    def __init__(self, name: str, *failures: ErrorKind) -> None:
        self.name = name
        self.failures = list(failures)
        self.asked: list[ChatRequest] = []
        self.left = 0

    @asynccontextmanager
    async def __call__(self, request: ChatRequest) -> AsyncIterator[Exchange]:
        self.asked.append(request)
        if self.failures:
            raise UpstreamError(self.failures.pop(0), "failed", hop=self.name)
        try:
            yield FakeExchange(
                Target(self.name, request.model), [[Chunk(text=self.name, finish_reason="stop")]]
            )
        finally:
            self.left += 1


def sse(*events: Any) -> list[bytes]:
    """Events of an OpenAI stream, each as its own bytes; a string is sent as it is."""
    return [
        b"data: " + (event.encode() if isinstance(event, str) else msgspec.json.encode(event)) + b"\n\n"
        for event in events
    ]


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": fields, "logprobs": None, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


ROLE = delta(role="assistant", content="")
DONE = "[DONE]"
