"""The shapes of Gemini's generateContent request.

Rule of this file: strict structs in camelCase. As with every protobuf API nothing is required by shape; what
must be there is in `gemini_rules.py`. `camelled` turns the snake_case form, which the API takes too, into
this one.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class Strict(Struct, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    """Base of every known object: an unknown field is an error."""


class Blob(Strict):
    mime_type: str = ""
    data: str = ""
    display_name: str | None = None


class FileData(Strict):
    mime_type: str | None = None
    file_uri: str = ""
    display_name: str | None = None


class FunctionCall(Strict):
    name: str = ""
    args: dict[str, Any] | None = None
    id: str | None = None


class FunctionResponse(Strict):
    name: str = ""
    response: dict[str, Any] | None = None
    id: str | None = None
    parts: list[dict[str, Any]] | None = None
    will_continue: bool | None = None
    scheduling: str | None = None


class Part(Strict):
    text: str | None = None
    inline_data: Blob | None = None
    file_data: FileData | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None
    executable_code: dict[str, Any] | None = None
    code_execution_result: dict[str, Any] | None = None
    tool_call: dict[str, Any] | None = None
    tool_response: dict[str, Any] | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    part_metadata: dict[str, Any] | None = None
    video_metadata: dict[str, Any] | None = None
    media_resolution: dict[str, Any] | None = None


DATA = (
    "text",
    "inline_data",
    "file_data",
    "function_call",
    "function_response",
    "executable_code",
    "code_execution_result",
    "tool_call",
    "tool_response",
)
"""The fields of a part of which exactly one is set."""


class Content(Strict):
    role: str | None = None
    parts: list[Part] | None = None

    def calls(self) -> list[FunctionCall]:
        return [part.function_call for part in self.parts or () if part.function_call is not None]

    def responses(self) -> list[FunctionResponse]:
        return [part.function_response for part in self.parts or () if part.function_response is not None]


class FunctionDeclaration(Strict):
    name: str = ""
    description: str | None = None
    parameters: dict[str, Any] | None = None
    parameters_json_schema: Any = None
    response: dict[str, Any] | None = None
    response_json_schema: Any = None
    behavior: str | None = None


class Tool(Strict):
    function_declarations: list[FunctionDeclaration] | None = None
    google_search: dict[str, Any] | None = None
    google_search_retrieval: dict[str, Any] | None = None
    google_maps: dict[str, Any] | None = None
    code_execution: dict[str, Any] | None = None
    url_context: dict[str, Any] | None = None
    computer_use: dict[str, Any] | None = None
    file_search: dict[str, Any] | None = None
    mcp_servers: list[dict[str, Any]] | None = None


class CallingConfig(Strict):
    mode: str | None = None
    allowed_function_names: list[str] | None = None


class ToolConfig(Strict):
    function_calling_config: CallingConfig | None = None
    retrieval_config: dict[str, Any] | None = None
    include_server_side_tool_invocations: bool | None = None


class SafetySetting(Strict):
    category: str = ""
    threshold: str = ""


class ThinkingConfig(Strict):
    include_thoughts: bool | None = None
    thinking_budget: int | None = None
    thinking_level: str | None = None


class GenerationConfig(Strict):
    temperature: float | None = None
    top_p: float | None = None
    top_k: float | None = None
    candidate_count: int | None = None
    max_output_tokens: int | None = None
    stop_sequences: list[str] | None = None
    response_logprobs: bool | None = None
    logprobs: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    response_mime_type: str | None = None
    response_schema: dict[str, Any] | None = None
    response_json_schema: Any = None
    response_modalities: list[str] | None = None
    media_resolution: str | None = None
    speech_config: dict[str, Any] | None = None
    image_config: dict[str, Any] | None = None
    thinking_config: ThinkingConfig | None = None


class Body(Strict):
    """The body of generateContent and streamGenerateContent."""

    contents: list[Content] | None = None
    system_instruction: Content | None = None
    tools: list[Tool] | None = None
    tool_config: ToolConfig | None = None
    safety_settings: list[SafetySetting] | None = None
    generation_config: GenerationConfig | None = None
    cached_content: str | None = None
    service_tier: str | None = None
    labels: dict[str, str] | None = None
    store: bool | None = None
    continuation_token: str | None = None
    model: str | None = None

    def config(self) -> GenerationConfig:
        return self.generation_config or GenerationConfig()

    def declarations(self) -> list[FunctionDeclaration]:
        return [each for tool in self.tools or () for each in tool.function_declarations or ()]

    def thinking(self) -> ThinkingConfig:
        return self.config().thinking_config or ThinkingConfig()


class CountBody(Strict):
    """The body of countTokens; only `generate_content_request` counts system instruction and tools."""

    contents: list[Content] | None = None
    generate_content_request: Body | None = None


FREE = frozenset(
    {
        "args",
        "response",
        "parameters",
        "parametersJsonSchema",
        "responseSchema",
        "responseJsonSchema",
        "labels",
    }
)
"""Fields whose content is the user's own: no name in them is ours to change."""


def camelled(value: Any) -> Any:
    """A JSON value with the names of known objects in camelCase."""
    if isinstance(value, list):
        return [camelled(each) for each in value]
    if not isinstance(value, dict):
        return value
    renamed = {camel(name): each for name, each in value.items()}
    return {name: each if name in FREE else camelled(each) for name, each in renamed.items()}


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
