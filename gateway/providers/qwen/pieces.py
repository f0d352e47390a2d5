"""One choice of an answer, event by event: what is new in each, and each thing said once.

Asked for increments, a model may repeat everything instead; fragments of tool calls come with and without
an index, with ids and names that are empty or null from the second one on. Nothing of an event's frame
stands here. Follows the pages "Streaming output" and "Function calling" of Alibaba Cloud Model Studio.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from msgspec import Struct

from ...chat import Json, ToolCallDelta

NO_END = frozenset((None, "", "null"))
"""Finish reasons that are none: while it streams, the API says so in a string."""
FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


class FunctionPiece(Struct):
    name: str | None = None
    arguments: str | None = None


class CallPiece(Struct):
    index: int | None = None
    id: str | None = None
    function: FunctionPiece | None = None

    @property
    def name(self) -> str:
        return (self.function.name if self.function else None) or ""

    @property
    def arguments(self) -> str:
        return (self.function.arguments if self.function else None) or ""


class Message(Struct):
    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    tool_calls: list[CallPiece] | None = None

    @property
    def text(self) -> str:
        """The text, whichever form it has on the path that was taken."""
        if isinstance(self.content, list):
            parts = (p.get("text") for p in self.content if isinstance(p, dict))
            return "".join(text for text in parts if isinstance(text, str))
        return self.content or ""


class ChoicePiece(Struct):
    index: int | None = None
    message: Message | None = None
    finish_reason: str | None = None
    logprobs: Json | None = None


class Said(Struct, frozen=True):
    """What an event says anew of one choice."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: Json | None = None
    finish_reason: str | None = None

    @property
    def has_output(self) -> bool:
        return bool(self.text or self.reasoning or self.tool_calls or self.logprobs)


class Growing:
    """A text that arrives in increments, or, against what was asked for, whole each time.

    A second piece that begins with all of the first may be either; it is held back until the third agrees,
    since to take an increment for a repetition would lose text.
    """

    def __init__(self) -> None:
        self.repeats: bool | None = None  # None while nobody knows
        self._seen = ""  # in increments only the first piece
        self._held = ""

    def add(self, piece: str, *, ended: bool = False) -> str:
        """What is new in `piece`; `ended` says that it is the last one."""
        if self.repeats is None and piece:
            piece = self._decided(piece, ended=ended)
        elif self.repeats and piece:
            piece = self._rest(piece)
        if ended and self._held:
            piece, self._held = self._held + piece, ""
        return piece

    def _decided(self, piece: str, *, ended: bool) -> str:
        if not self._seen:
            self._seen = piece
            return piece
        before, self._held = self._held, ""
        known = before or self._seen
        longer = len(piece) > len(known)
        same = piece == before and _is_worded(piece, 3)  # the text rests while calls arrive
        if not piece.startswith(known) or not (longer or ended or same):
            self.repeats = False
            return before + piece
        if before or (ended and _is_worded(self._seen)):
            self.repeats = True
            return self._rest(piece)
        if longer:
            self._held = piece
            return ""
        self.repeats = False
        return piece

    def _rest(self, piece: str) -> str:
        """The new end of a piece that repeats what was seen; all of one that does not."""
        new = piece.removeprefix(self._seen)
        self._seen = piece if piece.startswith(self._seen) else self._seen + piece
        return new


def _is_worded(text: str, letters: int = 2) -> bool:
    """Whether so many different letters are in it: texts double letters and signs by themselves."""
    return len({letter for letter in text if letter.isalpha()}) >= letters


class _Call(Struct):
    """A call so far. Until its name has come nothing of it is said: accumulators take it at once or never."""

    id: str = ""
    name: str = ""
    arguments: str = ""
    waiting: str = ""
    begun: bool = False


class Calls:
    """The tool calls of one choice, under indexes of our own without gaps."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._begun: list[_Call] = []

    def __bool__(self) -> bool:
        return bool(self._begun)

    def add(self, pieces: list[CallPiece], seed: str, *, repeats: bool) -> list[ToolCallDelta]:
        """What is new in `pieces`. `repeats` says that every event repeats what came before; `seed` makes
        ids, for calls without one, that no other answer has.
        """
        deltas = []
        for place, piece in enumerate(pieces):
            call = self._call(piece, place if len(pieces) > 1 else len(self._calls) - 1)
            new = piece.arguments
            if (piece.index is None or repeats) and new.startswith(call.arguments):
                new = new[len(call.arguments) :]
            call.arguments += new
            call.name = call.name or piece.name
            call.id = call.id or piece.id or ""
            call.waiting += new
            if call.name and (call.waiting or not call.begun):
                deltas.append(self._delta(call, seed))
        return deltas

    def owed(self) -> list[ToolCallDelta]:
        """`{}` for each call that ends without arguments."""
        return [
            ToolCallDelta(index=i, arguments="{}") for i, call in enumerate(self._begun) if not call.arguments
        ]

    def _call(self, piece: CallPiece, place: int) -> _Call:
        """The call that a piece belongs to: by index, else by id, else by its place in the event."""
        if piece.index is not None:
            known = self._by_index.get(piece.index)
        elif piece.id:
            known = next((call for call in self._calls if call.id == piece.id), None)
        else:
            known = self._calls[place] if 0 <= place < len(self._calls) else None
        if known is None or _is_another(known, piece):
            known = _Call()
            self._calls.append(known)
        if piece.index is not None:
            self._by_index[piece.index] = known
        return known

    def _delta(self, call: _Call, seed: str) -> ToolCallDelta:
        arguments, call.waiting = call.waiting, ""
        if call.begun:
            return ToolCallDelta(index=self._begun.index(call), arguments=arguments)
        call.begun = True
        index = len(self._begun)
        self._begun.append(call)
        call.id = call.id or _made_up(seed, index, call.name)
        return ToolCallDelta(index=index, id=call.id, name=call.name, arguments=arguments)


def _is_another(call: _Call, piece: CallPiece) -> bool:
    """Whether a piece that stands where `call` stood begins a new one: some servers number all calls 0."""
    if piece.id and call.id:
        return piece.id != call.id
    return bool(piece.index is None and piece.name and call.name and piece.name != call.name)


def _made_up(seed: str, index: int, name: str) -> str:
    return f"call_{sha256(f'{seed} {index} {name}'.encode('utf-8', 'replace')).hexdigest()[:24]}"


class Choice:
    """What has been seen of one choice."""

    def __init__(self) -> None:
        self.finished: str | None = None
        self.has_output = False
        self._text = Growing()
        self._thoughts = Growing()
        self._calls = Calls()

    def read(self, piece: ChoicePiece, seed: str) -> Said:
        """What `piece` says anew; nothing once the choice has ended."""
        if self.finished is not None:
            return Said()
        message = piece.message or Message()
        end = piece.finish_reason if piece.finish_reason not in NO_END else None
        text = self._text.add(message.text, ended=end is not None)
        said = Said(
            text=text,
            reasoning=self._thoughts.add(
                message.reasoning_content or "", ended=bool(text) or end is not None
            ),
            tool_calls=tuple(self._new_calls(message.tool_calls or [], seed, ending=end is not None)),
            logprobs=_logprobs(piece.logprobs),
            finish_reason=self._end(end),
        )
        self.has_output = self.has_output or said.has_output
        return said

    def finish(self, reason: str) -> None:
        """Ends the choice from outside."""
        self.finished = self.finished or reason

    def _new_calls(self, pieces: list[CallPiece], seed: str, *, ending: bool) -> list[ToolCallDelta]:
        repeats = bool(self._text.repeats or self._thoughts.repeats)
        calls = self._calls.add(pieces, seed, repeats=repeats)
        return [*calls, *self._calls.owed()] if ending else calls

    def _end(self, reason: str | None) -> str | None:
        """The finish reason as clients know it: with calls, an answer that just stops has them run."""
        if reason is None:
            return None
        known = FINISH_REASONS.get(reason, "stop")
        self.finished = "tool_calls" if self._calls and known == "stop" else known
        return self.finished


def _logprobs(found: Json | None) -> Json | None:
    content = found.get("content") if found else None
    return {"content": content, "refusal": None} if content else None
