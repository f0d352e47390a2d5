"""A conversation as the one text that an agent takes, and the pictures beside it.

The API has neither roles nor a system prompt: a single message of a user goes as it is, anything else is
written out under headings.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...chat import (
    AssistantMessage,
    ChatRequest,
    DeveloperMessage,
    Json,
    Message,
    Part,
    SystemMessage,
    UserMessage,
)
from ..base import data_url, unsupported

PREAMBLE = "Answer directly in text. Do not create or edit files, run commands, or browse unless asked."
INSTRUCTIONS, HISTORY, LAST = "[Instructions]", "[Conversation so far]", "[Reply to this last message]"

MAX_IMAGES = 5
MAX_IMAGE = 15_000_000
"""Largest picture in bytes."""
IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")


# ── text ───────────────────────────────────────────────────────────────────────────────────────────────


def text(request: ChatRequest, *, preamble: bool) -> str:
    """What the agent is told. Raises `UNSUPPORTED` for what is neither text nor picture."""
    messages = [(message, _words(message, f"messages[{i}]")) for i, message in enumerate(request.messages)]
    if len(messages) == 1 and isinstance(messages[0][0], UserMessage):
        return messages[0][1]
    rules = [words for message, words in messages if isinstance(message, SystemMessage | DeveloperMessage)]
    turns = [turn for turn in messages if not isinstance(turn[0], SystemMessage | DeveloperMessage)]
    names = _tool_names(request)
    sections = {
        INSTRUCTIONS: [PREAMBLE, *rules] if preamble else rules,
        HISTORY: [line for turn in turns[:-1] for line in _lines(*turn, names)],
        LAST: [line for turn in turns[-1:] for line in _last_lines(*turn, names)],
    }
    filled = {head: [line for line in lines if line] for head, lines in sections.items()}
    return "\n\n".join("\n".join((head, *lines)) for head, lines in filled.items() if lines)


def _words(message: Message, path: str) -> str:
    if not isinstance(message.content, list):
        return message.content or getattr(message, "refusal", None) or ""
    pieces = []
    for j, part in enumerate(message.content):
        if part.type in ("text", "refusal"):
            pieces.append(part.text or part.refusal or "")
        elif part.type != "image_url":
            raise unsupported(f"content of type '{part.type}' is not supported", f"{path}.content[{j}]")
    return "\n".join(pieces)


def _tool_names(request: ChatRequest) -> dict[str, str]:
    """The names of the tools that were called, by the ids of the calls."""
    calls = [c for m in request.messages if isinstance(m, AssistantMessage) for c in m.tool_calls or ()]
    return {call.id: called.name for call in calls if (called := call.function or call.custom) is not None}


def _lines(message: Message, words: str, names: dict[str, str]) -> Iterator[str]:
    """A turn with who said it before it."""
    if isinstance(message, UserMessage):
        yield f"User: {words}"
    elif isinstance(message, AssistantMessage):
        if words:
            yield f"Assistant: {words}"
        for call in message.tool_calls or ():
            if call.function is not None:
                yield f"Assistant called {call.function.name}: {call.function.arguments or '{}'}"
            elif call.custom is not None:
                yield f"Assistant called {call.custom.name}: {call.custom.input}"
    else:
        call_id = getattr(message, "tool_call_id", "")
        yield f"Tool result ({names.get(call_id) or message.name or call_id}): {words}"


def _last_lines(message: Message, words: str, names: dict[str, str]) -> Iterator[str]:
    """The last turn: a user's stands for itself."""
    if isinstance(message, UserMessage):
        yield words
    else:
        yield from _lines(message, words, names)


# ── pictures ───────────────────────────────────────────────────────────────────────────────────────────


def images(request: ChatRequest, lost: list[str]) -> list[Json]:
    """The pictures of the last message of a user; those of other messages are put on `lost`.

    Raises `UNSUPPORTED` for too many, too large ones, and kinds that the API does not take.
    """
    messages = request.messages
    last = max((i for i, m in enumerate(messages) if isinstance(m, UserMessage)), default=-1)
    found = []
    for i, message in enumerate(messages):
        parts = message.content if isinstance(message.content, list) else []
        for j, part in enumerate(parts):
            path = f"messages[{i}].content[{j}]"
            if part.type == "image_url" and i != last:
                lost.append(path)
            elif part.type == "image_url":
                found.append(_image(part, path))
                if len(found) > MAX_IMAGES:
                    raise unsupported(f"more than {MAX_IMAGES} images are not supported", path)
    return found


def _image(part: Part, path: str) -> Json:
    url = part.image_url.url if part.image_url is not None else ""
    if url.lower().startswith(("https://", "http://")):
        return {"url": url}
    inside = data_url(url)
    if inside is None:
        raise unsupported("an image is a base64 data URL or an address on the web", path)
    if inside.media_type not in IMAGE_TYPES:
        raise unsupported(f"images of type '{inside.media_type}' are not supported", path)
    if len(inside.data) * 3 // 4 > MAX_IMAGE:
        raise unsupported(f"images of more than {MAX_IMAGE} bytes are not supported", path)
    return {"data": inside.data, "mimeType": inside.media_type}
