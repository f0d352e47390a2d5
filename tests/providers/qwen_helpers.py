"""What the tests of Qwen share: names of models, requests and what becomes of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.errors import ErrorKind, UpstreamError
from gateway.providers import PROVIDERS
from gateway.providers.base import HttpRequest
from gateway.providers.qwen import configure
from gateway.providers.qwen.errors import parse_error
from gateway.providers.qwen.models import PATHS
from gateway.providers.qwen.requests import QwenOptions

from .cases import PNG, request, user

QWEN = PROVIDERS["qwen"]
PLUS, LISTS, LEVELS, CODER, ALWAYS = (
    "qwen-plus",
    "qwen3.7-plus",
    "qwen3.8-max",
    "qwen3-coder-plus",
    "qwq-plus",
)
TEXT, MULTIMODAL = PATHS["text"], PATHS["multimodal"]
URL_ERROR = "url error, please check url！"  # noqa: RUF001  (the full-width mark is theirs)
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
NAMED = {"type": "function", "function": {"name": "get_time"}}


def build(model: str = LISTS, options: QwenOptions | None = None, **fields: Any) -> HttpRequest:
    provider = configure(options) if options else QWEN
    return provider.build_request(request({"messages": [user("Hi")], **fields}, model))


def body(model: str = LISTS, options: QwenOptions | None = None, **fields: Any) -> dict[str, Any]:
    return msgspec.json.decode(build(model, options, **fields).body)


def parameters(model: str = LISTS, options: QwenOptions | None = None, **fields: Any) -> dict[str, Any]:
    """The parameters, without those that every request has."""
    found = body(model, options, **fields)["parameters"]
    assert found.pop("result_format") == "message"
    assert found.pop("incremental_output") is True
    return found


def messages(model: str, *said: dict[str, Any]) -> list[dict[str, Any]]:
    return body(model, messages=list(said))["input"]["messages"]


def refusal(model: str = LISTS, options: QwenOptions | None = None, **fields: Any) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        build(model, options, **fields)
    assert caught.value.kind is ErrorKind.UNSUPPORTED
    return caught.value


def refused(message: str = URL_ERROR, status: int = 400, code: str = "InvalidParameter") -> UpstreamError:
    return parse_error(status, {}, msgspec.json.encode({"code": code, "message": message}))
