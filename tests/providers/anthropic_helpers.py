"""Requests to Anthropic in few words, for its tests."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.errors import ErrorKind, UpstreamError
from gateway.providers.anthropic import PROVIDER
from gateway.providers.base import HttpRequest, Provider

from .cases import request, user

HI = [user("Hi")]
NEWEST = "claude-sonnet-5-5"
OLD = "claude-sonnet-4-5"
SIGNED = {"type": "thinking", "thinking": "Hm.", "signature": "SIG=="}


def build(model: str, provider: Provider = PROVIDER, **body: Any) -> HttpRequest:
    return provider.build_request(request({"messages": HI, **body}, model))


def native(model: str, provider: Provider = PROVIDER, **body: Any) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(build(model, provider, **body).body)
    return decoded


def refusal(model: str = NEWEST, **body: Any) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        build(model, **body)
    assert caught.value.kind is ErrorKind.UNSUPPORTED
    return caught.value


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def assistant(content: Any = None, *calls: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": content,
        **({"tool_calls": list(calls)} if calls else {}),
        **more,
    }


def tool(call_id: str, content: Any = "ok") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def image(url: str) -> list[dict[str, Any]]:
    return [user([{"type": "image_url", "image_url": {"url": url, "detail": "low"}}])]


def schema_form(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}


def configured(**options: Any) -> Provider:
    assert PROVIDER.configure is not None
    return PROVIDER.configure(msgspec.convert(options, PROVIDER.options))
