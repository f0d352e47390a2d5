"""Messages as DashScope takes them: content as one text on the text path, as a list on the multimodal one.

What cannot be said on a path is refused by its place; what has no effect there is named as lost.
Follows the pages "DashScope API reference" and "Context cache" of Alibaba Cloud Model Studio.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from ...chat import (
    AssistantMessage,
    ChatRequest,
    Content,
    FunctionMessage,
    Json,
    Message,
    Part,
    ToolCall,
    ToolMessage,
)
from ..base import unsupported

MEDIA = frozenset(("image_url", "input_audio", "video", "video_url"))
"""Types of parts that only the multimodal path can carry; the last two are no types of OpenAI's."""
SIDE_FIELDS = ("min_pixels", "max_pixels", "fps")
"""What may stand beside a picture or a video, as the client sends it."""
EPHEMERAL = {"type": "ephemeral"}
OSS = "oss://"
SHARPEST = frozenset(("high", "original"))

_ROLES = {"developer": "system"}  # everything else keeps its name
_ADDRESSES = ("http://", "https://", "data:", OSS)


def has_media(request: ChatRequest) -> bool:
    """Whether a message has a picture, a recording or a video."""
    return any(part.type in MEDIA for message in request.messages for part in _parts_of(message))


def _parts_of(message: Message) -> list[Part]:
    return message.content if isinstance(message.content, list) else []


class _Sent(Struct):
    """What a message may say beyond OpenAI's fields, and its parts with theirs."""

    content: Any = None
    partial: Any = None


class Messages:
    """The messages of a request in native form, and what was found on the way.

    `lost` collects the names of what is not carried; `is_sharp` says that a picture wants its full
    resolution, `is_stored` that an address is one of the API's own storage, `is_partial` that the last turn
    of the model is to be continued.
    """

    def __init__(self, request: ChatRequest, *, lists: bool, thoughts: bool) -> None:
        self.lost: list[str] = []
        self.is_sharp = self.is_stored = self.is_partial = False
        self._lists = lists
        self._thoughts = thoughts
        self._sent = msgspec.json.decode(request.wire["messages"], type=list[_Sent])
        self.native = [self._message(i, message) for i, message in enumerate(request.messages)]
        if self._sent[-1].partial is True and self.native[-1]["role"] == "assistant":
            self.native[-1]["partial"] = self.is_partial = True

    @property
    def says_json(self) -> bool:
        """Whether the prompt has the word that the API wants to read before it answers in JSON."""
        return any("json" in text.lower() for m in self.native for text in _texts(m["content"]))

    def add_to_system(self, words: str) -> None:
        """Puts `words` at the end of the first message when it is the system's, else before it."""
        first = self.native[0]
        if first["role"] != "system":
            self.native.insert(0, {"role": "system", "content": [{"text": words}] if self._lists else words})
        elif isinstance(first["content"], list):
            first["content"].append({"text": words})
        else:
            first["content"] = f"{first['content']}\n\n{words}"

    def _message(self, i: int, message: Message) -> Json:
        path = f"messages[{i}]"
        role = str(message.__struct_config__.tag)
        said: Json = {"role": _ROLES.get(role, role)}
        if isinstance(message, (ToolMessage, FunctionMessage)):
            return said | self._result(i, message, path)
        if message.name is not None:
            self.lost.append("messages.name")
        said["content"] = self._content(i, message.content, path)
        self._cache_to_end(said, message.cache_control)
        if isinstance(message, AssistantMessage):
            said |= self._turn(message, said["content"], path)
        return said

    def _result(self, i: int, message: ToolMessage | FunctionMessage, path: str) -> Json:
        """A tool's result: always one text."""
        content = message.content
        if isinstance(content, list):
            content = "\n".join(self._text(part, f"{path}.content[{j}]") for j, part in enumerate(content))
        said: Json = {"content": content or ""}
        if isinstance(message, ToolMessage):
            said["tool_call_id"] = message.tool_call_id
            if message.cache_control:
                self.lost.append("messages.cache_control")
        return said | ({"name": message.name} if message.name else {})

    def _turn(self, message: AssistantMessage, content: Any, path: str) -> Json:
        """A turn of the model. Null content is refused now and then: nothing is said as nothing."""
        said: Json = {}
        if content in (None, "", [], [{"text": ""}]):
            said["content"] = self._native_text(message.refusal) if message.refusal else ""
        if self._thoughts and message.reasoning_content:
            said["reasoning_content"] = message.reasoning_content
        if message.tool_calls:
            calls = enumerate(message.tool_calls)
            said["tool_calls"] = [_call(call, f"{path}.tool_calls[{j}]") for j, call in calls]
        return said

    def _native_text(self, text: str) -> Any:
        return [{"text": text}] if self._lists else text

    def _content(self, i: int, content: Content | None, path: str) -> Any:
        if content is None or isinstance(content, str):
            return self._native_text(content) if content is not None else None
        parts = [(part, f"{path}.content[{j}]") for j, part in enumerate(content)]
        if not self._lists:
            if any(part.cache_control or part.prompt_cache_breakpoint for part in content):
                self.lost.append("messages.cache_control")
            return "\n".join(self._text(part, place) for part, place in parts)
        return [self._part(part, self._sent[i].content[j], place) for j, (part, place) in enumerate(parts)]

    def _cache_to_end(self, said: Json, mark: Json | None) -> None:
        """A mark for a whole message stands on its last part; one text has no place for it."""
        if not mark:
            return
        if isinstance(said["content"], list) and said["content"]:
            said["content"][-1]["cache_control"] = mark
        else:
            self.lost.append("messages.cache_control")

    def _text(self, part: Part, place: str) -> str:
        text = part.refusal if part.type == "refusal" else part.text if part.type == "text" else None
        if text is None:
            raise unsupported(f"parts of type '{part.type}' are not supported here", place)
        return text

    def _part(self, part: Part, sent: Any, place: str) -> Json:
        """One part of a list, with the client's mark that the prompt is to be cached up to here."""
        native = self._media(part, sent, place) if part.type in MEDIA else {"text": self._text(part, place)}
        mark = part.cache_control or (EPHEMERAL if part.prompt_cache_breakpoint else None)
        return native | ({"cache_control": mark} if mark else {})

    def _media(self, part: Part, sent: Json, place: str) -> Json:
        name, source = self._source(part, sent, place)
        sources = source if isinstance(source, list) else [source]
        self.is_stored = self.is_stored or any(str(url).startswith(OSS) for url in sources)
        return {name: source, **{field: sent[field] for field in SIDE_FIELDS if field in sent}}

    def _source(self, part: Part, sent: Json, place: str) -> tuple[str, Any]:
        if part.image_url is not None:
            detail = part.image_url.detail
            self.is_sharp = self.is_sharp or detail in SHARPEST
            if detail == "low":
                self.lost.append("messages.content.image_url.detail")
            return "image", part.image_url.url
        if part.input_audio is not None:
            data = part.input_audio.data
            is_address = data.startswith(_ADDRESSES)
            return "audio", data if is_address else f"data:audio/{part.input_audio.format};base64,{data}"
        video = sent.get(part.type)
        source = video.get("url") if isinstance(video, dict) else video
        if not source:
            raise unsupported(f"'{part.type}' has to hold an address, or a list of them", place)
        return "video", source


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, list):
        yield from (part["text"] for part in content if "text" in part)
    elif content:
        yield content


def _call(call: ToolCall, path: str) -> Json:
    """A call; one without arguments has empty ones, since nothing at all breaks the next turn."""
    if call.function is None:
        raise unsupported(f"tool calls of type '{call.type}' are not supported", path)
    arguments = call.function.arguments if call.function.arguments.strip() else "{}"
    function = {"name": call.function.name, "arguments": arguments}
    return {"id": call.id, "type": "function", "function": function}
