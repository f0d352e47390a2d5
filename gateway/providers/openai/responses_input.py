"""A conversation as the Responses API reads it: items in the order of the messages.

Only the way from messages to items lives here. A message becomes a message item, each of its tool calls an
item of its own after it, and a tool's result an item that names its call. What other servers and we add to
messages stays behind. Follows "Input items" of the OpenAI API reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from ...chat import AssistantMessage, ChatRequest, Content, Json, Message, Part, ToolCall, ToolMessage
from ..base import unsupported

_SIGNED_ID = "__thought__"  # another gateway's way to carry a signature: in the id of a call


def items(request: ChatRequest) -> list[Json]:
    """The input items of `request`. Raises `UpstreamError` for parts that have no form here."""
    custom = {
        call.id
        for message in request.messages
        if isinstance(message, AssistantMessage)
        for call in message.tool_calls or ()
        if call.custom is not None
    }
    return [
        item
        for place, message in enumerate(request.messages)
        for item in _items(message, f"messages[{place}]", custom)
    ]


def _items(message: Message, path: str, custom: set[str]) -> Iterator[Json]:
    if isinstance(message, ToolMessage):
        kind = "custom_tool_call_output" if message.tool_call_id in custom else "function_call_output"
        output = _content(message.content, path)
        yield {"type": kind, "call_id": _call_id(message.tool_call_id), "output": output}
    elif isinstance(message, AssistantMessage):
        yield from _reasoned(message)
        if said := _said(message, path):
            yield {"type": "message", "role": "assistant", "content": said}
        yield from map(_call, message.tool_calls or ())
    else:
        role = message.__struct_config__.tag
        yield {"type": "message", "role": role, "content": _content(message.content or "", path)}


# ── reasoning ──────────────────────────────────────────────────────────────────────────────────────────

ENCRYPTED = "reasoning.encrypted"
FORMAT = "openai-responses-v1"
"""The type and the format of a reasoning item among `reasoning_details`, as OpenRouter names them."""


def _reasoned(message: AssistantMessage) -> Iterator[Json]:
    """The reasoning items of a turn, which stand before what they led to. Other servers' are left out."""
    for detail in message.reasoning_details or ():
        data, item_id = detail.get("data"), detail.get("id")
        is_ours = detail.get("type") == ENCRYPTED and detail.get("format", FORMAT) == FORMAT
        if is_ours and data and item_id and isinstance(data, str) and isinstance(item_id, str):
            yield {"type": "reasoning", "id": item_id, "summary": [], "encrypted_content": data}


def has_reasoning(request: ChatRequest) -> bool:
    """Whether any turn comes with the reasoning before it."""
    return any(isinstance(m, AssistantMessage) and m.reasoning_details for m in request.messages)


def without_reasoning(request: ChatRequest) -> ChatRequest:
    """The request with no turn's reasoning in it."""
    messages = [
        msgspec.structs.replace(m, reasoning_details=None) if isinstance(m, AssistantMessage) else m
        for m in request.messages
    ]
    return msgspec.structs.replace(request, messages=messages)


# ── turns ──────────────────────────────────────────────────────────────────────────────────────────────


def _said(message: AssistantMessage, path: str) -> list[Json]:
    content = message.content or []
    parts = [Part(type="text", text=content)] if isinstance(content, str) else content
    said = [_part(part, f"{path}.content[{i}]", _ANSWERS) for i, part in enumerate(parts)]
    if message.refusal:
        said.append({"type": "refusal", "refusal": message.refusal})
    return said


def _call(call: ToolCall) -> Json:
    call_id = _call_id(call.id)
    if call.custom is not None:
        custom = call.custom
        return {"type": "custom_tool_call", "call_id": call_id, "name": custom.name, "input": custom.input}
    name, arguments = (call.function.name, call.function.arguments) if call.function else ("", "")
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments or "{}"}


def _call_id(text: str) -> str:
    return text.partition(_SIGNED_ID)[0]


def _content(content: Content, path: str) -> str | list[Json]:
    if isinstance(content, str):
        return content
    return [_part(part, f"{path}.content[{i}]", _QUESTIONS) for i, part in enumerate(content)]


# ── parts ──────────────────────────────────────────────────────────────────────────────────────────────


def _part(part: Part, path: str, forms: dict[str, Callable[[Part], Json]]) -> Json:
    if part.type not in forms:
        raise unsupported(f"a part of type '{part.type}' is not supported with this model and tools", path)
    said = forms[part.type](part)
    if part.prompt_cache_breakpoint is not None and forms is _QUESTIONS:
        said["prompt_cache_breakpoint"] = part.prompt_cache_breakpoint
    return said


def _input_image(part: Part) -> Json:
    assert part.image_url is not None
    picture = part.image_url
    return {"type": "input_image", "image_url": picture.url, "detail": picture.detail or "auto"}


def _input_file(part: Part) -> Json:
    assert part.file is not None
    file = part.file
    named = {"file_id": file.file_id, "filename": file.filename, "file_data": file.file_data}
    return {"type": "input_file", **{name: value for name, value in named.items() if value is not None}}


_QUESTIONS: dict[str, Callable[[Part], Json]] = {
    "text": lambda part: {"type": "input_text", "text": part.text},
    "image_url": _input_image,
    "file": _input_file,
}
_ANSWERS: dict[str, Callable[[Part], Json]] = {
    "text": lambda part: {"type": "output_text", "text": part.text},
    "refusal": lambda part: {"type": "refusal", "refusal": part.refusal},
}
