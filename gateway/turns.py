"""A turn of the model in a request: where state travels in it, and what the turn is known by.

Only pure functions of messages live here, and digests of them; what is kept by them is in `vault`. All of it
is made to be asked of every message of a conversation with every request: what costs is done when somebody
needs it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from hashlib import blake2b
from secrets import token_bytes
from typing import Any, TypeAlias

import msgspec
from msgspec import Raw, Struct

from .chat import (
    AssistantMessage,
    ChatRequest,
    DeveloperMessage,
    Json,
    Message,
    Part,
    SystemMessage,
    ToolCall,
    texts,
)

STRONG = 16
"""Characters of an id that no other conversation has. Shorter ones are those of servers that count."""


# ── where state travels ────────────────────────────────────────────────────────────────────────────────


class Kind(Struct, frozen=True):
    """The fields in which one kind of state stands: of a message, of its calls, of their functions.

    The first of a place is where we put it; the others are conventions of other gateways.
    """

    message: tuple[str, ...] = ()
    call: tuple[str, ...] = ()
    function: tuple[str, ...] = ()


KINDS = {
    "thinking_blocks": Kind(message=("thinking_blocks",)),
    "reasoning_details": Kind(message=("reasoning_details",)),
    "reasoning_content": Kind(message=("reasoning_content", "reasoning")),
    "signatures": Kind(
        message=("extra_content",),
        call=("extra_content", "provider_specific_fields"),
        function=("thought_signature", "provider_specific_fields"),
    ),
}
"""The words of `Provider.carries`."""
SIGNATURE = KINDS["signatures"].call[0]


_Fields: TypeAlias = dict[str, Raw]

NULL = Raw(b"null")
_OF_MESSAGE = ("thinking_blocks", "reasoning_details", "reasoning_content", "extra_content")
_OF_CALL = ("extra_content", "provider_specific_fields")
"""Where state stands in the typed forms of a turn and of its calls."""

_fields = msgspec.json.Decoder(_Fields).decode
_some_fields = msgspec.json.Decoder(_Fields | None).decode
_list_of_fields = msgspec.json.Decoder(list[_Fields] | None).decode


class Written:
    """A turn as its client wrote it. State in it can be changed; all that is not state keeps its bytes.

    Raises what the decoder does (`UNREADABLE`) for what the decoder of the request had no need to read.
    """

    def __init__(self, raw: Raw) -> None:
        self.fields = _fields(raw)
        self._has_calls = False

    @cached_property
    def calls(self) -> list[_Fields]:
        self._has_calls = True
        return _list_of_fields(self.fields.get("tool_calls", NULL)) or []

    @cached_property
    def functions(self) -> list[_Fields]:
        return [_some_fields(call.get("function", NULL)) or {} for call in self.calls]

    def _places(self, kind: Kind) -> Iterable[tuple[_Fields, tuple[str, ...]]]:
        """Every object that may hold state of this kind, with the fields for it."""
        yield self.fields, kind.message
        if kind.call:
            yield from ((call, kind.call) for call in self.calls)
            yield from ((function, kind.function) for function in self.functions)

    def has(self, kind: Kind) -> bool:
        """Whether the client brings state of this kind."""
        return any(_says(place.get(field)) for place, fields in self._places(kind) for field in fields)

    def strip(self) -> bool:
        """Takes all state out; returns whether there was any."""
        found = [
            place.pop(field)
            for kind in KINDS.values()
            for place, fields in self._places(kind)
            for field in fields
            if field in place
        ]
        return bool(found)

    def raw(self) -> Raw:
        """The turn as it is now."""
        if self._has_calls and self.calls:
            pairs = zip(self.calls, self.functions, strict=True)
            calls = [{**call, "function": function} if function else call for call, function in pairs]
            return raw_of({**self.fields, "tool_calls": calls})
        return raw_of(self.fields)

    def typed(self, message: AssistantMessage) -> AssistantMessage:
        """The same for `message`, which is the turn as it came."""
        now = _decoded(self.fields, _OF_MESSAGE)
        if self._has_calls and message.tool_calls:
            pairs = zip(message.tool_calls, self.calls, strict=True)
            now["tool_calls"] = [
                msgspec.structs.replace(call, **_decoded(written, _OF_CALL)) for call, written in pairs
            ]
        return msgspec.structs.replace(message, **now)


UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


def _says(raw: Raw | None) -> bool:
    """Whether a field has state in it. `{"refusal": null}` and the like are none."""
    if raw is None:
        return False
    try:
        value = msgspec.json.decode(raw)
    except UNREADABLE:
        return True
    return any(value.values()) if isinstance(value, dict) else bool(value)


def _decoded(fields: _Fields, names: Iterable[str]) -> Json:
    return {name: msgspec.json.decode(fields.get(name, NULL)) for name in names}


def raw_of(value: Any) -> Raw:
    return Raw(msgspec.json.encode(value))


# ── what a turn is known by ────────────────────────────────────────────────────────────────────────────


def digest(*parts: str | bytes) -> bytes:
    return blake2b(msgspec.msgpack.encode(parts), digest_size=16).digest()


def text_digest(pieces: Iterable[str]) -> bytes:
    """A digest of a text, blind to white space: clients trim it."""
    text = "".join(pieces).strip().encode("utf-8", "surrogatepass")
    return digest(text.translate(None, b" \t\n\r\v\f"))


SILENCE = text_digest(())
"""The digest of no text, be it empty or null."""


def _number(text: str) -> float:
    """A number with a point or an exponent, as a client in JavaScript would write it again: 1.0 is 1."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


_decode_arguments = msgspec.json.Decoder(float_hook=_number).decode


def canonical(arguments: str) -> bytes:
    """A call's arguments, however they are written: sorted, without spaces; none are the empty object."""
    try:
        return msgspec.json.encode(_decode_arguments(arguments or "{}"), order="sorted")
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return arguments.strip().encode("utf-8", "surrogatepass")


class Thread:
    """A conversation while it is read on: digests of everything so far, made when somebody asks for them.

    `so_far` is tools, instructions and what was said: what is found by its place is found in no other
    conversation. `frame` is all that a signature may be bound to: instructions that came later and earlier
    state as well.
    """

    def __init__(self, request: ChatRequest) -> None:
        self._said = blake2b(digest_size=16)
        self._minds = blake2b(digest_size=16)
        self._place = 0
        self._unread: list[Message | Turn] = []
        self._tools: Raw | None = request.wire.get("tools", NULL)
        self._told = [text for m in request.messages if _instructs(m) for text in texts(m.content)]

    @property
    def so_far(self) -> bytes:
        if self._tools is not None:
            self._said.update(digest(bytes(self._tools)))
            self._tools = None
        for item in self._unread:
            self._said.update(digest(*_spoken(item)))
        self._unread.clear()
        return self._said.copy().digest()

    @property
    def frame(self) -> bytes:
        return digest(self._instructions, self.so_far, self._minds.digest())

    @cached_property
    def _instructions(self) -> bytes:
        return digest(*self._told)

    def add(self, item: Message | Turn) -> None:
        """Takes the next message, with the state that it has now."""
        self._place += 1
        self._unread.append(item)
        said = item.message if isinstance(item, Turn) else item
        if isinstance(said, AssistantMessage) and (said.thinking_blocks or said.reasoning_details):
            self._minds.update(self._place.to_bytes(8, "big"))


class Turn:
    """A turn of the model in a request."""

    def __init__(self, message: AssistantMessage) -> None:
        self.message = message

    @cached_property
    def said(self) -> bytes:
        return text_digest(texts(self.message.content))

    def calls(self) -> list[tuple[str, str, str]]:
        """Id, name and arguments of each call."""
        return [_said_of(call) for call in self.message.tool_calls or ()]


def _said_of(call: ToolCall) -> tuple[str, str, str]:
    if call.custom is not None:
        return call.id, call.custom.name, call.custom.input
    return (call.id, call.function.name, call.function.arguments) if call.function else (call.id, "", "")


def turn_key(thread: Thread, said: bytes) -> bytes:
    """What a turn without calls is found by: its text alone would be that of other conversations too."""
    return digest(b"turn", thread.so_far, said)


def call_key(thread: Thread, call_id: str, name: str) -> bytes:
    """What a call is found by; where its id says too little, in its place in the conversation only."""
    return digest(b"call", call_id, name, b"" if is_strong(call_id, name) else thread.so_far)


def is_strong(call_id: str, name: str) -> bool:
    """Whether an id is of one conversation: some servers count from 0, after the name of the function."""
    return len(call_id.replace(name, "", 1)) >= STRONG


def _spoken(item: Message | Turn) -> Iterable[str | bytes]:
    if isinstance(item, Turn):
        yield "assistant"
        yield item.said
        for call in item.calls():
            yield from call
        return
    yield str(item.__struct_config__.tag)
    yield item.name or ""
    content = item.content
    yield from [content] if isinstance(content, str) else _pieces(content)


def _instructs(message: Message) -> bool:
    return isinstance(message, SystemMessage | DeveloperMessage)


def _pieces(content: list[Part] | None) -> Iterable[str | bytes]:
    for part in content or ():
        if part.type != "text":
            yield part.type.encode()
        held = part.text if part.type == "text" else part.refusal or _held(part)
        # what we cannot read is told apart from everything, even from itself
        yield token_bytes(16) if held is None else held


def _held(part: Part) -> str | None:
    if part.image_url is not None:
        return part.image_url.url
    if part.input_audio is not None:
        return part.input_audio.data
    return part.file.file_data or part.file.file_id if part.file is not None else None
