"""Conversations on the way to Anthropic: system texts apart, turns that alternate, results where they belong.

The API refuses a conversation that breaks one of its rules of order, and clients' histories break them all
the time; what can be mended without changing what was said is mended here, the same way each time, because
caches and signed thinking hold only for an equal prefix. Follows "Messages" and "Tool use" of Anthropic's
API reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import NamedTuple

from msgspec import Struct

from ...chat import (
    AssistantMessage,
    ChatRequest,
    DeveloperMessage,
    Json,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from ..base import parse_arguments
from .parts import WORDS, blocks_of, cached, cached_to_end, text_block
from .tools import ToolNames, name_of

EMPTY = "."
"""What a user turn without words says: blank texts are refused, and dropping it would change the order."""
CONTINUE = "Continue."
"""What follows a last turn of the assistant, on models that refuse to carry it on."""
NO_RESULT = "(no result)"
THINKING = ("thinking", "redacted_thinking")

# ── thinking ───────────────────────────────────────────────────────────────────────────────────────────


def _thinking(blocks: Iterable[Json]) -> Iterator[Json]:
    """The blocks that the API will take back: signed, and with nothing that others added to them."""
    for block in blocks:
        if block.get("type") == "thinking" and _is_text(block.get("signature")):
            thought = block.get("thinking")
            yield {
                "type": "thinking",
                "thinking": thought if isinstance(thought, str) else "",
                "signature": block["signature"],
            }
        elif block.get("type") == "redacted_thinking" and _is_text(block.get("data")):
            yield {"type": "redacted_thinking", "data": block["data"]}


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def is_thinking(block: Json) -> bool:
    """Whether `block` is thought rather than said."""
    return block["type"] in THINKING


# ── turns ──────────────────────────────────────────────────────────────────────────────────────────────


class _Turn(Struct):
    """A turn of one side; `results` stand before everything else."""

    role: str
    results: list[Json] = []
    blocks: list[Json] = []

    def message(self) -> Json:
        return {"role": self.role, "content": self.results + self.blocks or [text_block(EMPTY)]}


_INVALID_CHARACTER = re.compile(r"[^a-zA-Z0-9_-]")
_THOUGHT_MARK = "__thought__"
"""What stands in ids before the signatures that LiteLLM keeps there: thousands of characters, not for us."""


def _bare(call_id: str) -> str:
    return call_id.partition(_THOUGHT_MARK)[0]


class _Turns:
    """Turns in the order that the API demands, built from messages in any order.

    Each call has one result in the turn that follows it; calls whose results are missing get one that says
    so, results of no call are left out. Ids are made valid and unique: some servers count from 0 each turn.
    """

    def __init__(self, names: ToolNames) -> None:
        self._names = names
        self._turns: list[_Turn] = []
        self._ids: set[str] = set()
        self._owed: dict[str, list[str]] = {}  # the client's id → ours, of calls without a result yet

    def user(self, blocks: list[Json]) -> None:
        self._user_turn().blocks.extend(blocks)

    def assistant(self, blocks: list[Json], calls: list[ToolCall], mark: Json | None) -> None:
        if not blocks and not calls:
            return
        if not self._turns or self._turns[-1].role == "user":
            self._settle()
            self._turns.append(_Turn("assistant"))
        blocks = [*blocks, *map(self._call, calls)]
        if not is_thinking(blocks[-1]):
            blocks = cached_to_end(blocks, mark)
        self._turns[-1].blocks.extend(blocks)

    def _call(self, call: ToolCall) -> Json:
        known = _bare(call.id)
        native = self._unique(_INVALID_CHARACTER.sub("_", known) or "call")
        self._owed.setdefault(known, []).append(native)
        given = {"input": call.custom.input} if call.custom is not None else {}
        arguments = parse_arguments(call.function.arguments) if call.function is not None else given
        return {
            "type": "tool_use",
            "id": native,
            "name": self._names.native(name_of(call)),
            "input": arguments,
        }

    def _unique(self, wanted: str) -> str:
        native, number = wanted, 2
        while native in self._ids:
            native, number = f"{wanted}_{number}", number + 1
        self._ids.add(native)
        return native

    def result(self, call_id: str, blocks: str | list[Json], mark: Json | None) -> None:
        waiting = self._owed.get(_bare(call_id))
        if not waiting:
            return
        content = {"content": blocks} if blocks else {}
        result = {"type": "tool_result", "tool_use_id": waiting.pop(0), **content}
        self._user_turn().results.append(cached(result, mark))

    def _user_turn(self) -> _Turn:
        """The user's turn that is open, or a new one."""
        self._close_assistant()
        if not self._turns or self._turns[-1].role == "assistant":
            self._turns.append(_Turn("user"))
        return self._turns[-1]

    def _close_assistant(self) -> None:
        """A turn cannot end in a thought, so one of thoughts only is none."""
        if self._turns and self._turns[-1].role == "assistant":
            blocks = self._turns[-1].blocks
            while blocks and is_thinking(blocks[-1]):
                blocks.pop()
            if not blocks:
                self._turns.pop()

    def _settle(self) -> None:
        missing = [native for waiting in self._owed.values() for native in waiting]
        self._owed.clear()
        if missing:
            self._user_turn().results.extend(_missing(native) for native in missing)

    def finish(self) -> list[Json]:
        """The messages. The first is the user's; the last may be the assistant's."""
        self._settle()
        self._close_assistant()
        if not self._turns or self._turns[0].role == "assistant":
            self._turns.insert(0, _Turn("user"))
        return [turn.message() for turn in self._turns]


def _missing(call_id: str) -> Json:
    return {"type": "tool_result", "tool_use_id": call_id, "is_error": True, "content": NO_RESULT}


# ── the conversation ───────────────────────────────────────────────────────────────────────────────────


class Conversation(NamedTuple):
    """System texts and messages, as blocks."""

    system: list[Json]
    messages: list[Json]

    @property
    def ends_with_assistant(self) -> bool:
        return bool(self.messages[-1]["role"] == "assistant")

    @property
    def lacks_thinking(self) -> bool:
        """Whether a turn of the tool loop that it is in came without the thoughts before its calls."""
        turns = reversed([(message["role"], message["content"][0]) for message in self.messages])
        loop = takewhile(lambda turn: turn[0] == "assistant" or turn[1]["type"] == "tool_result", turns)
        return any(role == "assistant" and not is_thinking(first) for role, first in loop)


def translate(request: ChatRequest, names: ToolNames) -> Conversation:
    """The request's messages. Raises `UpstreamError` for content that the API has no place for."""
    system: list[Json] = []
    turns = _Turns(names)
    for i, message in enumerate(request.messages):
        path = f"messages[{i}]"
        match message:
            case SystemMessage() | DeveloperMessage():
                system += cached_to_end(blocks_of(message.content, path, WORDS), message.cache_control)
            case UserMessage():
                turns.user(cached_to_end(blocks_of(message.content, path), message.cache_control))
            case ToolMessage():
                turns.result(message.tool_call_id, _result(message, path), message.cache_control)
            case AssistantMessage():
                turns.assistant(_assistant(message, path), message.tool_calls or [], message.cache_control)
    messages = turns.finish()
    if system and not any(
        isinstance(m, UserMessage | ToolMessage | AssistantMessage) for m in request.messages
    ):
        messages = [{"role": "user", "content": [system.pop()]}]
    return Conversation(system, messages)


def _assistant(message: AssistantMessage, path: str) -> list[Json]:
    thoughts = _thinking(message.thinking_blocks or ())
    return [*thoughts, *blocks_of(message.content, path, WORDS), *blocks_of(message.refusal, path)]


def _result(message: ToolMessage, path: str) -> str | list[Json]:
    if isinstance(message.content, str):
        return message.content if message.content.strip() else ""
    return blocks_of(message.content, path)


def ended(conversation: Conversation, *, prefill: bool) -> list[Json]:
    """The messages with an end that the model takes.

    With `prefill` it carries a last turn of the assistant on, which must not end in white space; without,
    the user asks it to continue.
    """
    messages = conversation.messages
    if not conversation.ends_with_assistant:
        return messages
    if not prefill:
        return [*messages, {"role": "user", "content": [text_block(CONTINUE)]}]
    *before, last = messages
    *blocks, text = last["content"]
    return [*before, {**last, "content": [*blocks, {**text, "text": text["text"].rstrip()}]}]
