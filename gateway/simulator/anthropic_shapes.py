"""The shapes of Anthropic's Messages request.

Rule of this file: strict structs and the tables that say which block goes where. Content blocks and tools are
dispatched by hand, because the API names the block's type in the path of an error.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct


class Strict(Struct, forbid_unknown_fields=True, kw_only=True):
    """Base of every known object: an unknown field is an error."""


class CacheControl(Strict):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class Base64(Strict, tag_field="type", tag="base64"):
    media_type: str
    data: str


class Url(Strict, tag_field="type", tag="url"):
    url: str


class FileId(Strict, tag_field="type", tag="file"):
    file_id: str


class PlainText(Strict, tag_field="type", tag="text"):
    media_type: Literal["text/plain"]
    data: str


class Content(Strict, tag_field="type", tag="content"):
    content: str | list[dict[str, Any]]


class CitationsOn(Strict):
    enabled: bool | None = None


class Text(Strict):
    type: Literal["text"]
    text: str
    citations: list[dict[str, Any]] | None = None
    cache_control: CacheControl | None = None


class Image(Strict):
    type: Literal["image"]
    source: Base64 | Url | FileId
    cache_control: CacheControl | None = None


class Document(Strict):
    type: Literal["document"]
    source: Base64 | Url | FileId | PlainText | Content
    title: str | None = None
    context: str | None = None
    citations: CitationsOn | None = None
    cache_control: CacheControl | None = None


class SearchResult(Strict):
    type: Literal["search_result"]
    source: str
    title: str
    content: list[Text]
    citations: CitationsOn | None = None
    cache_control: CacheControl | None = None


class ToolUse(Strict):
    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]
    caller: dict[str, Any] | None = None
    cache_control: CacheControl | None = None


class ToolResult(Strict):
    type: Literal["tool_result"]
    tool_use_id: str
    content: str | list[dict[str, Any]] | None = None
    is_error: bool | None = None
    cache_control: CacheControl | None = None


class Thinking(Strict):
    type: Literal["thinking"]
    thinking: str
    signature: str


class RedactedThinking(Strict):
    type: Literal["redacted_thinking"]
    data: str


class ServerBlock(Struct):
    """Blocks of server tools are echoed verbatim: only their type is known here."""

    type: str


Block = (
    Text | Image | Document | SearchResult | ToolUse | ToolResult | Thinking | RedactedThinking | ServerBlock
)

SERVER_BLOCKS = dict.fromkeys(
    (
        "server_tool_use",
        "web_search_tool_result",
        "web_fetch_tool_result",
        "code_execution_tool_result",
        "bash_code_execution_tool_result",
        "text_editor_code_execution_tool_result",
        "tool_search_tool_result",
        "advisor_tool_result",
        "mcp_tool_use",
        "mcp_tool_result",
        "container_upload",
        "compaction",
        "fallback",
    ),
    ServerBlock,
)
_COMMON: dict[str, type[Block]] = {
    "text": Text,
    "image": Image,
    "document": Document,
    "search_result": SearchResult,
    "tool_result": ToolResult,
    "tool_use": ToolUse,
    "thinking": Thinking,
    "redacted_thinking": RedactedThinking,
}
BLOCKS: dict[str, type[Block]] = {**_COMMON, **SERVER_BLOCKS}
"""Every block type there is."""

PLACES: dict[str, frozenset[str]] = {
    "user": frozenset({"text", "image", "document", "search_result", "tool_result", "container_upload"}),
    "assistant": frozenset({"text", "tool_use", "thinking", "redacted_thinking", "document", *SERVER_BLOCKS}),
    "system": frozenset({"text"}),
    "tool_result": frozenset({"text", "image", "document", "search_result"}),
}
"""Which block types may stand where."""


class Message(Strict):
    role: str
    content: str | list[dict[str, Any]]


class CustomTool(Strict):
    name: str
    input_schema: dict[str, Any]
    type: Literal["custom"] | None = None
    description: str | None = None
    strict: bool | None = None
    cache_control: CacheControl | None = None
    eager_input_streaming: bool | None = None
    defer_loading: bool | None = None
    allowed_callers: list[str] | None = None
    input_examples: list[dict[str, Any]] | None = None


SERVER_TOOLS = (
    "web_search_",
    "web_fetch_",
    "code_execution_",
    "bash_",
    "text_editor_",
    "computer_",
    "memory_",
    "tool_search_tool_",
    "advisor_",
    "mcp_toolset",
)
"""How the types of server tools begin; what else is in them is not checked."""


class ToolChoice(Strict):
    type: Literal["auto", "any", "none", "tool"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class BlockBinding(Strict):
    prefix_mismatch_behavior: Literal["drop_block", "error"]


class Adaptive(Strict, tag_field="type", tag="adaptive"):
    display: Literal["summarized", "omitted"] | None = None
    block_binding: BlockBinding | None = None


class Enabled(Strict, tag_field="type", tag="enabled"):
    budget_tokens: int
    display: Literal["summarized", "omitted"] | None = None


class Disabled(Strict, tag_field="type", tag="disabled"):
    pass


class BetweenTools(Strict, tag_field="type", tag="between_tools"):
    pass


class Format(Strict):
    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(Strict):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: Format | None = None


class Metadata(Strict):
    user_id: str | None = None


class Countable(Strict):
    """The body of count_tokens: what is read."""

    model: str
    messages: list[Message]
    system: str | list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Adaptive | Enabled | Disabled | BetweenTools | None = None
    output_config: OutputConfig | None = None
    cache_control: CacheControl | None = None
    context_management: dict[str, Any] | None = None


class Body(Countable, kw_only=True):
    """The body of /v1/messages."""

    max_tokens: int
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    container: str | dict[str, Any] | None = None
    inference_geo: str | None = None
    speed: Literal["standard", "fast"] | None = None
    diagnostics: dict[str, Any] | None = None
    fallbacks: list[dict[str, Any]] | None = None
    mcp_servers: list[dict[str, Any]] | None = None


BETAS = {
    "context_management": "context-management-",
    "fallbacks": "server-side-fallback-",
    "mcp_servers": "mcp-client-",
}
"""Top-level fields that exist only under a beta."""
