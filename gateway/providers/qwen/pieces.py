"""One choice of an answer, event by event: what is new in each, and each thing said once.

Asked for increments, a model may repeat everything instead; fragments of tool calls come with and without
an index, with ids and names that are empty or null from the second one on. Nothing of an event's frame
stands here. Follows the pages "Streaming output" and "Function calling" of Alibaba Cloud Model Studio.
"""

from __future__ import annotations

from hashlib import sha256
from itertools import takewhile
from operator import eq
from typing import Any

import msgspec
from msgspec import Struct, field

from ...chat import Json, ToolCallDelta
from ...errors import ErrorKind, UpstreamError

NO_END = ("", "null")
"""Finish reasons that are none: while it streams, the API says so in a string."""
FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
CUT_OFF = ("length", "content_filter")
"""Ends that say themselves that something is missing."""


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

    To take an increment for a repetition loses text, and increments are what was asked for. So only a chain
    from the first piece on, each of which begins with all of the one before, is in doubt and held; two steps
    of it that add to words make it a repetition. Where it breaks it was increments, all of it. The counts of
    tokens tell nothing: they are of the whole answer so far both ways.
    """

    def __init__(self) -> None:
        self.repeats: bool | None = None  # None while nobody knows
        self._seen = ""  # in increments only the first piece
        self._held: list[str] = []
        self._grew = False

    @property
    def begun(self) -> bool:
        return bool(self._seen)

    def add(self, piece: str, *, ended: bool = False) -> str:
        """What is new in `piece`; `ended` says that it is the last one."""
        if not self._seen:
            self._seen = piece
            return piece
        if self.repeats is None:
            return self._decided(piece, ended=ended)
        return self._rest(piece) if self.repeats and piece else piece

    def end(self) -> str:
        """What is held, where the end is none of the text's own."""
        return self._decided("", ended=True) if self._held else ""

    def _decided(self, piece: str, *, ended: bool) -> str:
        before = self._held[-1] if self._held else self._seen
        known = self._verdict(before, piece, ended=ended) if piece.startswith(before) else False
        if known is None:
            self._grew = self._grew or piece != before
            self._held.append(before if piece == before else piece)  # a text may rest for many events
            return ""
        self.repeats = known
        held, self._held = self._held, []
        return self._rest(piece) if known else "".join(held) + piece

    def _verdict(self, before: str, piece: str, *, ended: bool) -> bool | None:
        """Whether a piece that goes on with the chain makes it a repetition; None: it may still be either.

        Signs, digits and a single letter are doubled in any text. Increments end with an empty piece, hence
        a last one that repeats words needs no second step.
        """
        if _is_worded(before) and (ended or (self._grew and piece != before)):
            return True
        return False if ended else None

    def _rest(self, piece: str) -> str:
        """The new end of a piece that repeats what was seen; all of one that does not.

        The end of what was seen may be revised, as half a character is. What was said of it stays.
        """
        seen = self._seen
        shared = len(seen) if piece.startswith(seen) else _shared(seen, piece)
        if 2 * shared < len(seen):
            self._seen += piece
            return piece
        if shared < len(piece):
            self._seen = piece
        return piece[shared:]


def _is_worded(text: str) -> bool:
    return len({letter for letter in text if letter.isalpha()}) > 1


def _shared(one: str, other: str) -> int:
    """How many letters both begin with."""
    return sum(takewhile(bool, map(eq, one, other)))


class Arguments(Growing):
    """The arguments of a call, which tell by themselves what they are: only one reading of them is JSON.

    Increments of an object are never the beginning of anything else, and its repetitions put one after the
    other never become a whole one. Hence a fragment waits only while both readings may still become JSON,
    and what is whole at the end is right.
    """

    def __init__(self) -> None:
        super().__init__()
        self.presumed = False  # that they repeat, where JSON does not tell: they are cut off or broken

    def end(self) -> str:
        return self._decided(self._held.pop(), ended=True) if self._held else ""

    def _verdict(self, before: str, piece: str, *, ended: bool) -> bool | None:
        joined, whole = _form("".join([self._seen, *self._held, piece])), _form(piece)
        if not ended:
            joined, whole = min(joined, BEGUN), min(whole, BEGUN)
        if joined != whole:
            return whole > joined
        if ended or (self.presumed and joined == BROKEN):
            return self.presumed
        return super()._verdict(before, piece, ended=False) if joined == BROKEN else None


BROKEN, BEGUN, WHOLE = range(3)
_skip = msgspec.json.Decoder(msgspec.Raw).decode


def _form(text: str) -> int:
    """How much of an object `text` is."""
    if not text.lstrip().startswith("{"):
        return BROKEN
    # msgspec calls a number broken that is only cut off: with another digit it is none
    return _read(text) or (_read(text + "0") if text[-1] in "-+.eE" else BROKEN)


def _read(text: str) -> int:
    try:
        _skip(text.encode("utf-8", "surrogatepass"))
    except (msgspec.DecodeError, RecursionError) as error:
        return BEGUN if "truncated" in str(error) else BROKEN
    return WHOLE


class _Call(Struct):
    """A call so far. Until its name has come nothing of it is said: accumulators take it at once or never."""

    id: str = ""
    name: str = ""
    arguments: Arguments = field(default_factory=Arguments)
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
            if piece.arguments:
                # fragments without an index are documented to repeat, those with one to be increments
                call.arguments.presumed = repeats or piece.index is None
                call.waiting += call.arguments.add(piece.arguments)
            call.name = call.name or piece.name
            call.id = call.id or piece.id or ""
            if call.name and (call.waiting or not call.begun):
                deltas.append(self._delta(call, seed))
        return deltas

    @property
    def nameless(self) -> bool:
        """Whether there is a call that has not said what it calls."""
        return any(not call.name and (call.id or call.arguments.begun) for call in self._calls)

    def end(self) -> list[ToolCallDelta]:
        """What is held, once nothing more comes."""
        ends = [(i, call.arguments.end()) for i, call in enumerate(self._begun)]
        return [ToolCallDelta(index=i, arguments=end) for i, end in ends if end]

    def owed(self) -> list[ToolCallDelta]:
        """`{}` for each call that ends without arguments."""
        return [
            ToolCallDelta(index=i, arguments="{}")
            for i, call in enumerate(self._begun)
            if not call.arguments.begun
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
        reason = piece.finish_reason or ""
        end = None if reason in NO_END else FINISH_REASONS.get(reason, "stop")
        ended = end is not None
        said = Said(
            text=self._text.add(message.text, ended=ended),
            reasoning=self._thoughts.add(message.reasoning_content or "", ended=bool(message.text) or ended),
            tool_calls=tuple(self._new_calls(message.tool_calls or [], seed, end)),
            logprobs=_logprobs(piece.logprobs),
            finish_reason=self._end(end),
        )
        self.has_output = self.has_output or said.has_output
        return said

    def finish(self, reason: str) -> Said:
        """Ends the choice from outside; what was held of it."""
        if self.finished is not None:
            return Said()
        self.finished = reason
        return Said(
            text=self._text.end(),
            reasoning=self._thoughts.end(),
            tool_calls=tuple(self._calls.end()),
            finish_reason=reason,
        )

    def _new_calls(self, pieces: list[CallPiece], seed: str, end: str | None) -> list[ToolCallDelta]:
        """Raises `UpstreamError` for a call without a name, except where the answer itself is cut off."""
        repeats = bool(self._text.repeats or self._thoughts.repeats)
        calls = self._calls.add(pieces, seed, repeats=repeats)
        if end is None:
            return calls
        if self._calls.nameless and end not in CUT_OFF:
            raise UpstreamError(ErrorKind.BAD_RESPONSE, "a tool call has no name", upstream_status=200)
        return [*calls, *self._calls.end(), *self._calls.owed()]

    def _end(self, end: str | None) -> str | None:
        """The finish reason as clients know it: with calls, an answer that just stops has them run."""
        self.finished = "tool_calls" if self._calls and end == "stop" else end
        return self.finished


def _logprobs(found: Json | None) -> Json | None:
    content = found.get("content") if found else None
    return {"content": content, "refusal": None} if content and isinstance(content, list) else None
