"""The default answer when nothing is scripted: deterministic, derived from the request alone.

Rule of this file: neutral in (`Ask`), neutral out (`Turn`). A stand-in describes the request as an Ask; which
tools may be called has been decided there. One token is four characters.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from .schema import instance
from .script import ToolCall, Turn, Usage

CHARACTERS_A_TOKEN = 4
THOUGHT = "Let me think about that. The answer is short."


class AskedTool(Struct, frozen=True):
    """A tool that may be called. `custom`: it takes free text instead of arguments by schema."""

    name: str
    schema: dict[str, Any] = {}
    custom: bool = False


class Ask(Struct):
    """What a request asks for, neutrally.

    text        the last user message's text
    results     texts of the tool results that end the conversation; then no tool is called again
    tools       tools that may be called now; parallel: several calls are allowed
    schema      JSON schema of the wanted answer; json: any JSON object is wanted
    media       (media type, bytes) of each image and document in the last user message
    reasoning   a reasoning text comes first
    stops       stop sequences; limit: tokens the answer may have, reasoning included
    read        characters that were read, for the token count
    """

    text: str = ""
    results: list[str] = field(default_factory=list)
    tools: list[AskedTool] = field(default_factory=list)
    parallel: bool = True
    schema: dict[str, Any] | None = None
    json: bool = False
    media: list[tuple[str, int]] = field(default_factory=list)
    reasoning: bool = False
    stops: list[str] = field(default_factory=list)
    limit: int | None = None
    read: int = 0


def tokens(text: str | int) -> int:
    """Tokens of a text, or of a number of characters."""
    size = text if isinstance(text, int) else len(text)
    return -(-size // CHARACTERS_A_TOKEN)


def usage_of(turn: Turn, ask: Ask) -> tuple[int, int, int]:
    """(input, output, reasoning) tokens: what the turn states, the rest derived. Reasoning is part of
    output.
    """
    stated = turn.usage
    thought = tokens(turn.reasoning) if stated.reasoning is None else stated.reasoning
    said = turn.said() + turn.refusal + "".join(call.name + call.text() for call in turn.tool_calls)
    read = max(tokens(ask.read), 1) if stated.input is None else stated.input
    return read, tokens(said) + thought if stated.output is None else stated.output, thought


def answer(ask: Ask) -> Turn:
    """The turn that an Ask gets from the brain."""
    turn = _reply(ask)
    if ask.reasoning:
        turn = replace(turn, reasoning=THOUGHT)
    return _limited(_stopped(turn, ask.stops), ask.limit)


def _reply(ask: Ask) -> Turn:
    if ask.tools and not ask.results:
        return Turn(tool_calls=_calls(ask))
    if ask.schema is not None:
        return Turn(text=_dump(instance(ask.schema)))
    if ask.json:
        return Turn(text=_dump({"echo": ask.text}))
    if ask.results:
        return Turn(text="The tool said: " + "; ".join(ask.results))
    if ask.media:
        return Turn(text=f"I see {_media(ask.media)}. You said: {ask.text}")
    return Turn(text=f"You said: {ask.text}")


def _calls(ask: Ask) -> list[ToolCall]:
    """One call; two when the text asks for "both" or "parallel" and that is allowed."""
    words = ask.text.lower()
    twice = ask.parallel and ("both" in words or "parallel" in words)
    chosen = ask.tools[:2] if twice else ask.tools[:1]
    if twice and len(chosen) == 1:
        chosen = chosen * 2
    return [_call(tool, ask.text) for tool in chosen]


def _call(tool: AskedTool, text: str) -> ToolCall:
    if tool.custom:
        return ToolCall(name=tool.name, arguments=text or "sample", custom=True)
    made = instance(tool.schema)
    return ToolCall(name=tool.name, arguments=made if isinstance(made, dict) else {})


def _media(media: list[tuple[str, int]]) -> str:
    """`1 image (image/png, 68 bytes)`, and so on for documents and audio, joined with "and"."""
    groups: dict[str, list[str]] = {}
    for kind, size in media:
        noun = {"image": "image", "audio": "audio clip", "video": "video"}.get(kind.split("/")[0], "document")
        groups.setdefault(noun, []).append(f"{kind}, {size} bytes")
    return " and ".join(
        f"{len(items)} {noun}{'s' if len(items) > 1 else ''} ({'; '.join(items)})"
        for noun, items in groups.items()
    )


def _stopped(turn: Turn, stops: list[str]) -> Turn:
    """Cut the text before the first stop sequence in it."""
    found = [(turn.text.index(stop), stop) for stop in stops if stop in turn.text]
    if not found:
        return turn
    at, stop = min(found)
    return replace(turn, text=turn.text[:at], stop_sequence=stop)


def _limited(turn: Turn, limit: int | None) -> Turn:
    """Cut to `limit` tokens: reasoning first, then text; a call of a tool that does not fit is not made."""
    if limit is None:
        return turn
    room = limit * CHARACTERS_A_TOKEN
    calls = sum(len(call.name) + len(call.text()) for call in turn.tool_calls)
    if len(turn.reasoning) + len(turn.text) + calls <= room:
        return turn
    left = room - len(turn.reasoning)
    return replace(
        turn,
        reasoning=turn.reasoning[:room],
        text=turn.text[: max(left, 0)],
        tool_calls=[],
        finish="length",
        stop_sequence=None,
        usage=Usage(output=limit, reasoning=min(tokens(turn.reasoning), limit)),
    )


def _dump(value: Any) -> str:
    return msgspec.json.encode(value).decode()
