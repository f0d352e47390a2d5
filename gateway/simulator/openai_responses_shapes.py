"""The shapes of OpenAI's /v1/responses request.

Rule of this file: strict structs only; what is wrong beyond the shape is in `openai_responses_rules.py`. What
the real API has and the simulator does not (stored conversations, background, hosted tools) is left out.
"""

from __future__ import annotations

from typing import Any, Literal

from .openai_models import Family
from .openai_shapes import Breakpoint, Strict


class InputText(Strict, tag_field="type", tag="input_text"):
    text: str
    prompt_cache_breakpoint: Breakpoint | None = None


class InputImage(Strict, tag_field="type", tag="input_image"):
    detail: Literal["auto", "low", "high", "original"]
    image_url: str | None = None
    file_id: str | None = None
    prompt_cache_breakpoint: Breakpoint | None = None


class InputFile(Strict, tag_field="type", tag="input_file"):
    file_data: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    filename: str | None = None
    detail: Literal["auto", "low", "high"] | None = None
    prompt_cache_breakpoint: Breakpoint | None = None


class OutputText(Strict, tag_field="type", tag="output_text"):
    text: str
    annotations: list[dict[str, Any]] | None = None
    logprobs: list[dict[str, Any]] | None = None


class Refusal(Strict, tag_field="type", tag="refusal"):
    refusal: str


Asked = InputText | InputImage | InputFile
Answered = OutputText | Refusal
Status = Literal["in_progress", "completed", "incomplete"]


class Message(Strict, tag_field="type", tag="message"):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Asked | Answered]
    id: str | None = None
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCall(Strict, tag_field="type", tag="function_call"):
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: Status | None = None


class FunctionOutput(Strict, tag_field="type", tag="function_call_output"):
    call_id: str
    output: str | list[Asked]
    id: str | None = None
    status: Status | None = None


class CustomCall(Strict, tag_field="type", tag="custom_tool_call"):
    call_id: str
    name: str
    input: str
    id: str | None = None


class CustomOutput(Strict, tag_field="type", tag="custom_tool_call_output"):
    call_id: str
    output: str | list[Asked]
    id: str | None = None


class Reasoned(Strict, tag_field="type", tag="reasoning"):
    id: str
    summary: list[dict[str, Any]]
    content: list[dict[str, Any]] | None = None
    encrypted_content: str | None = None
    status: Status | None = None


Item = Message | FunctionCall | FunctionOutput | CustomCall | CustomOutput | Reasoned


class FunctionTool(Strict, tag_field="type", tag="function"):
    name: str
    parameters: dict[str, Any] | None
    strict: bool | None
    description: str | None = None


class TextFormat(Strict, tag_field="type", tag="text"):
    pass


class JsonFormat(Strict, tag_field="type", tag="json_object"):
    pass


class SchemaFormat(Strict, tag_field="type", tag="json_schema"):
    name: str
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class Text(Strict):
    format: TextFormat | JsonFormat | SchemaFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(Strict):
    effort: str | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    mode: Literal["standard", "pro"] | None = None
    context: Literal["auto", "current_turn", "all_turns"] | None = None


class StreamOptions(Strict):
    include_obfuscation: bool | None = None


class Body(Strict):
    """The request body of responses; items and tools are read one by one, so that a mistake has its place."""

    model: str
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: Text | None = None
    reasoning: Reasoning | None = None
    store: bool | None = None
    include: list[str] | None = None
    metadata: dict[str, str] | None = None
    previous_response_id: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    safety_identifier: str | None = None
    truncation: Literal["auto", "disabled"] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    moderation: dict[str, Any] | None = None
    user: str | None = None


class Call(Strict):
    """A checked call: the body, and what its lists were read as."""

    body: Body
    family: Family
    items: list[Item]
    tools: list[FunctionTool]

    @property
    def effort(self) -> str:
        """The effort in force: asked for, or the model's default ("" on a model that does not reason)."""
        asked = self.body.reasoning.effort if self.body.reasoning else None
        return asked or self.family.default
