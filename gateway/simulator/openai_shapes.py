"""The shapes of OpenAI's /v1/chat/completions request.

Rule of this file: strict structs only; what is wrong beyond the shape is in `openai_rules.py`.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from .openai_models import Family


class Strict(Struct, forbid_unknown_fields=True, kw_only=True):
    """Base of every known object: an unknown field is an error."""


class Breakpoint(Strict):
    mode: Literal["explicit"]
    ttl: Literal["30m", "12h"] | None = None


class TextPart(Strict, tag_field="type", tag="text"):
    text: str
    prompt_cache_breakpoint: Breakpoint | None = None


class ImageUrl(Strict):
    url: str
    detail: Literal["auto", "low", "high", "original"] | None = None


class ImagePart(Strict, tag_field="type", tag="image_url"):
    image_url: ImageUrl
    prompt_cache_breakpoint: Breakpoint | None = None


class Audio(Strict):
    data: str
    format: Literal["wav", "mp3"]


class AudioPart(Strict, tag_field="type", tag="input_audio"):
    input_audio: Audio
    prompt_cache_breakpoint: Breakpoint | None = None


class File(Strict):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class FilePart(Strict, tag_field="type", tag="file"):
    file: File
    prompt_cache_breakpoint: Breakpoint | None = None


class RefusalPart(Strict, tag_field="type", tag="refusal"):
    refusal: str


class CalledFunction(Strict):
    name: str
    arguments: str


class FunctionCall(Strict, tag_field="type", tag="function"):
    id: str
    function: CalledFunction


class CalledCustom(Strict):
    name: str
    input: str


class CustomCall(Strict, tag_field="type", tag="custom"):
    id: str
    custom: CalledCustom


class AudioId(Strict):
    id: str


class System(Strict, tag_field="role", tag="system"):
    content: str | list[TextPart]
    name: str | None = None


class Developer(Strict, tag_field="role", tag="developer"):
    content: str | list[TextPart]
    name: str | None = None


class User(Strict, tag_field="role", tag="user"):
    content: str | list[TextPart | ImagePart | AudioPart | FilePart]
    name: str | None = None


class Assistant(Strict, tag_field="role", tag="assistant"):
    content: str | list[TextPart | RefusalPart] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[FunctionCall | CustomCall] | None = None
    function_call: CalledFunction | None = None
    audio: AudioId | None = None
    annotations: list[dict[str, Any]] | None = None


class ToolMessage(Strict, tag_field="role", tag="tool"):
    content: str | list[TextPart]
    tool_call_id: str


class FunctionMessage(Strict, tag_field="role", tag="function"):
    content: str | None
    name: str


Message = System | Developer | User | Assistant | ToolMessage | FunctionMessage


class Function(Strict):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Strict, tag_field="type", tag="function"):
    function: Function


class Custom(Strict):
    name: str
    description: str | None = None
    format: dict[str, Any] | None = None


class CustomTool(Strict, tag_field="type", tag="custom"):
    custom: Custom


class StreamOptions(Strict):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class JsonSchema(Strict):
    name: str
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class TextFormat(Strict, tag_field="type", tag="text"):
    pass


class JsonFormat(Strict, tag_field="type", tag="json_object"):
    pass


class SchemaFormat(Strict, tag_field="type", tag="json_schema"):
    json_schema: JsonSchema


class Body(Strict):
    """The request body of chat/completions."""

    model: str
    messages: list[Message]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, int] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    seed: int | None = None
    tools: list[FunctionTool | CustomTool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | UnsetType = UNSET
    functions: list[Function] | None = None
    function_call: str | dict[str, Any] | None = None
    response_format: TextFormat | JsonFormat | SchemaFormat | None = None
    reasoning_effort: str | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    modalities: list[Literal["text", "audio"]] | None = None
    audio: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    prompt_cache_options: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None
    moderation: dict[str, Any] | None = None

    def effort(self, family: Family) -> str:
        """The effort in force: asked for, or the model's default ("" on a model that does not reason)."""
        return self.reasoning_effort or family.default

    def limit(self) -> int | None:
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens
