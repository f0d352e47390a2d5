"""The shapes of DeepSeek's /chat/completions request.

Rule of this file: strict structs only; what is wrong beyond the shape is in `deepseek_rules.py`. Stricter
than DeepSeek in one thing: a field that its schema lacks is an error, so that whoever leaks one hears of it.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct


class Strict(Struct, forbid_unknown_fields=True, kw_only=True):
    """Base of every known object: an unknown field is an error."""


class TextPart(Strict, tag_field="type", tag="text"):
    text: str


class ImageUrl(Strict):
    url: str
    detail: Literal["low", "high", "original", "auto"] | None = None


class ImagePart(Strict, tag_field="type", tag="image_url"):
    image_url: ImageUrl


class Called(Strict):
    name: str
    arguments: str


class Call(Strict, tag_field="type", tag="function"):
    id: str
    function: Called


class System(Strict, tag_field="role", tag="system"):
    content: str
    name: str | None = None


class User(Strict, tag_field="role", tag="user"):
    content: str | list[TextPart | ImagePart]
    name: str | None = None


class Assistant(Strict, tag_field="role", tag="assistant"):
    content: str | None = None
    name: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[Call] | None = None
    prefix: bool | None = None


class ToolMessage(Strict, tag_field="role", tag="tool"):
    content: str
    tool_call_id: str


class Function(Strict):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Strict, tag_field="type", tag="function"):
    function: Function


class StreamOptions(Strict):
    include_usage: bool | None = None


class Thinking(Strict):
    type: Literal["enabled", "disabled"]


class Format(Strict):
    type: str


class Body(Strict):
    """The request body of /chat/completions."""

    model: str
    messages: list[System | User | Assistant | ToolMessage]
    thinking: Thinking | None = None
    reasoning_effort: Literal["low", "high", "max"] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    max_tokens: int | None = None
    stop: str | list[str] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    response_format: Format | None = None
    tools: list[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    user_id: str | None = None

    @property
    def thinks(self) -> bool:
        """Whether the model thinks: it does, unless it is told not to."""
        return self.thinking is None or self.thinking.type == "enabled"
