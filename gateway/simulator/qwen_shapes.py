"""The shapes of DashScope's native generation request.

Rule of this file: strict structs only; what is wrong beyond the shape is in `qwen_rules.py`. Stricter than
DashScope in one thing: a parameter that its documents lack is an error, so that whoever leaks one hears.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field


class Strict(Struct, forbid_unknown_fields=True, kw_only=True):
    """Base of every known object: an unknown field is an error."""


class CacheControl(Strict):
    type: Literal["ephemeral"]


class Part(Strict):
    """One part of a list content: exactly one of text, image, audio, video, and what goes with it."""

    text: str | None = None
    image: str | None = None
    audio: str | None = None
    video: str | list[str] | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    total_pixels: int | None = None
    fps: float | None = None
    cache_control: CacheControl | None = None


Content = str | list[Part]


class Called(Strict):
    name: str
    arguments: str


class Call(Strict, tag_field="type", tag="function"):
    id: str
    function: Called
    index: int | None = None


class System(Strict, tag_field="role", tag="system"):
    content: Content
    name: str | None = None


class User(Strict, tag_field="role", tag="user"):
    content: Content
    name: str | None = None


class Assistant(Strict, tag_field="role", tag="assistant"):
    content: Content
    name: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[Call] | None = None
    partial: bool | None = None


class ToolMessage(Strict, tag_field="role", tag="tool"):
    content: Content
    tool_call_id: str
    name: str | None = None


Message = System | User | Assistant | ToolMessage


class Input(Strict):
    messages: list[Message]


class Function(Strict):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Strict, tag_field="type", tag="function"):
    function: Function


class Named(Strict):
    name: str


class Choice(Strict, tag_field="type", tag="function"):
    """The one function that has to be called."""

    function: Named


class JsonSchema(Strict):
    name: str
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class Format(Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class Parameters(Strict):
    """`parameters` of the request."""

    result_format: Literal["text", "message"] | None = None
    incremental_output: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str | int | list[int]] | None = None
    seed: int | None = None
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[Tool] | None = None
    tool_choice: str | Choice | None = None
    parallel_tool_calls: bool | None = None
    tool_stream: bool | None = None
    response_format: Format | None = None
    enable_thinking: bool | None = None
    thinking_budget: int | None = None
    reasoning_effort: str | None = None
    preserve_thinking: bool | None = None
    enable_search: bool | None = None
    search_options: dict[str, Any] | None = None
    enable_code_interpreter: bool | None = None
    vl_high_resolution_images: bool | None = None


class Body(Strict):
    """The request body of both native paths."""

    model: str
    input: Input
    parameters: Parameters = field(default_factory=Parameters)
