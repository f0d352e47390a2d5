"""Requests to Gemini and its answers in few words, for its tests."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.chat import Chunk
from gateway.errors import ErrorKind, UpstreamError
from gateway.providers.base import HttpRequest
from gateway.providers.gemini import PROVIDER, build_request
from gateway.sse import Event

from .cases import request, user

FLASH = "gemini-3.8-flash"


def build(body: dict[str, Any], model: str = FLASH) -> HttpRequest:
    return build_request(request(body, model))


def sent(body: dict[str, Any], model: str = FLASH) -> dict[str, Any]:
    return msgspec.json.decode(build(body, model).body)


def contents(*messages: dict[str, Any], model: str = FLASH) -> list[Any]:
    return sent({"messages": list(messages)}, model)["contents"]


def config(body: dict[str, Any], model: str = FLASH) -> dict[str, Any]:
    return sent({"messages": [user("Hi")], **body}, model).get("generationConfig", {})


def refusal(body: dict[str, Any], model: str = FLASH) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        build(body, model)
    assert caught.value.kind is ErrorKind.UNSUPPORTED
    return caught.value


def system(text: str, role: str = "system") -> dict[str, Any]:
    return {"role": role, "content": text}


def assistant(content: Any = None, *calls: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **({"tool_calls": list(calls)} if calls else {}), **more}


def tool(call_id: str, content: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def says(role: str, *texts: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"text": text} for text in texts]}


def image(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def inline(media_type: str, data: str) -> dict[str, Any]:
    return {"inlineData": {"mimeType": media_type, "data": data}}


def remote(media_type: str, uri: str) -> dict[str, Any]:
    return {"fileData": {"mimeType": media_type, "fileUri": uri}}


def form(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}


# ── answers ────────────────────────────────────────────────────────────────────────────────────────────

CHAT = request({"messages": [user("Hi")]}, "gemini-3.8-flash")


def answer(*parts: dict[str, Any], usage: dict[str, Any] | None = None, **candidate: Any) -> dict[str, Any]:
    """One response of the API. `parts=...` is left to the caller when the content itself is odd."""
    content = {"content": {"role": "model", "parts": list(parts)}} if parts else {}
    found: dict[str, Any] = {"candidates": [{**content, "index": 0, **candidate}], "responseId": "r1"}
    return {**found, "usageMetadata": usage} if usage is not None else found


def whole(native: dict[str, Any], chat: Any = CHAT) -> Chunk:
    return PROVIDER.parse_response(msgspec.json.encode(native), chat)


def stream(*events: dict[str, Any]) -> list[Chunk]:
    read = PROVIDER.event_decoder(CHAT)
    chunks = [read(Event(msgspec.json.encode(event))) for event in events]
    return [chunk for chunk in chunks if chunk is not None]


def text(value: str, **more: Any) -> dict[str, Any]:
    return {"text": value, **more}


def function(name: str = "f", args: Any = None, call_id: str | None = None, **more: Any) -> dict[str, Any]:
    return {"functionCall": {"name": name, "args": args, "id": call_id}, **more}


def failure(*events: dict[str, Any]) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        stream(*events)
    return caught.value
