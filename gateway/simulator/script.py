"""The vocabulary of a script: `Turn` (an answer), `Fault` (something going wrong) and the queue they wait in.

Rule of this file: provider-neutral values only. How a turn looks on the wire is decided by a stand-in, how a
fault mangles it by `faults.py`. Both structs are also the JSON that `POST /_simulator/script` takes, so an
unknown field is an error here.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from .kinds import KINDS

Finish = Literal["stop", "length", "tool_calls", "content_filter"]


class ToolCall(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """One call of a tool. `arguments` is an object, or a string that is sent verbatim (also broken JSON).

    `id`: without one the stand-in mints its own; Gemini sends an id only when this is set. `custom`: a call
    of an OpenAI custom tool, whose input is the string in `arguments`. `signature` replaces the minted Gemini
    thought signature ("" sends none).
    """

    name: str
    arguments: dict[str, Any] | str = {}
    id: str | None = None
    custom: bool = False
    signature: str | None = None

    def text(self) -> str:
        """The arguments as JSON text."""
        if isinstance(self.arguments, str):
            return self.arguments
        return msgspec.json.encode(self.arguments).decode()


class Usage(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Neutral token counts: `input` is everything that was read (cached and cache_write are parts of it),
    `output` everything that was produced (reasoning is a part of it). A stand-in converts to its native sums.
    """

    input: int | None = None
    cached: int = 0
    cache_write: int = 0
    output: int | None = None
    reasoning: int | None = None


class Turn(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """A scripted answer.

    Reasoning text is shown as the real API shows it: Anthropic leaves it empty where the display is omitted,
    Gemini shows it with includeThoughts only, OpenAI never.

    text, reasoning, tool_calls, refusal   what is said; each stand-in puts it into its native form
    finish          neutral reason; derived (tool_calls when there are calls, else stop) when absent
    finish_native   the provider's own word, verbatim ("pause_turn", "MALFORMED_FUNCTION_CALL"), beats
    `finish` stop_sequence   the stop sequence that ended the text (Anthropic names it)
    usage           token counts; what is absent is derived at 4 characters a token
    pieces          how the text is cut into stream deltas: characters a piece, or the pieces themselves
                    (which then also are the text when `text` is empty)
    delay_first     seconds before the first byte of the answer
    delay_between   seconds between two stream events
    headers_first   send status and headers before `delay_first`, not after it
    model           the model named in the answer; the asked one when absent
    headers         extra response headers; a name that is already there is replaced
    signature       Anthropic: replaces the minted signature of the thinking block; Gemini: of the text
    redacted_thinking   Anthropic: the data of a redacted_thinking block, sent after the thinking block
    show_reasoning  OpenAI: send `reasoning` as reasoning_content, as compatible servers do (OpenAI hides it)
    cumulative      Qwen: every event repeats all that was said and called so far, although increments were
                    asked for; calls then have no index
    block_reason    Gemini: answer with promptFeedback and no candidate
    extra           native fields merged into the top level of the answer (and of the last stream event)
    raw             verbatim: a native body (JSON value, text or bytes), or for a stream a list of SSE
    payloads
                    (text or JSON values), which must contain its own terminator
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: list[ToolCall] = []
    finish: Finish | None = None
    finish_native: str | None = None
    refusal: str = ""
    stop_sequence: str | None = None
    usage: Usage = Usage()
    pieces: int | list[str] | None = None
    delay_first: float = 0.0
    delay_between: float = 0.0
    headers_first: bool = False
    model: str | None = None
    headers: dict[str, str] = {}
    signature: str | None = None
    redacted_thinking: str = ""
    show_reasoning: bool = False
    cumulative: bool = False
    block_reason: str | None = None
    extra: dict[str, Any] = {}
    raw: Any = None

    def said(self) -> str:
        """The whole visible text."""
        if not self.text and isinstance(self.pieces, list):
            return "".join(self.pieces)
        return self.text

    def finished(self) -> Finish:
        """The neutral finish reason, derived when the script does not say."""
        return self.finish or ("tool_calls" if self.tool_calls else "stop")

    def cut(self, text: str) -> list[str]:
        """`text` as stream pieces; [] for no text."""
        if isinstance(self.pieces, list) and text and text == self.said():
            return self.pieces
        size = self.pieces if isinstance(self.pieces, int) and self.pieces > 0 else 12
        return [text[at : at + size] for at in range(0, len(text), size)]


class Fault(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Something that goes wrong with one call. `kind` is a name from the table of fault kinds (`FAULTS`).

    turn        the answer that is mangled; the default brain's when absent. Cursor: with one, a refused or
                broken call was carried out all the same
    events      content events that are sent unharmed first; absent: the kind's own default
    preamble    with `events=0`: send what comes before the first content event (role chunk, message_start)
    status      HTTP status of the error, or of the in-stream error event; 503 when absent
    type, code, message, param, details   override parts of the native error; absent: what goes with the
    status body        verbatim body of the error response: text, bytes or a JSON value (with `content_type`)
    headers     extra response headers (retry-after, x-should-retry, ...); a name that is there is replaced
    every       seconds between two drips
    size        bytes: of the oversized event, the inflated gzip bomb, the big header
    count       how many early hints or drips; absent: the kind's own default
    location    where a redirect points to
    """

    kind: str = "status"
    turn: Turn | None = None
    events: int | None = None
    preamble: bool = False
    status: int | None = None
    type: str | None = None
    code: str | None = None
    message: str | None = None
    param: str | None = None
    details: Any = None
    body: Any = None
    content_type: str = "application/json"
    headers: dict[str, str] = {}
    every: float = 0.02
    size: int | None = None
    count: int | None = None
    location: str = "http://127.0.0.1:9/elsewhere"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault kind {self.kind!r}; there is: {', '.join(KINDS)}")


Step = Turn | Fault


def parse_step(value: dict[str, Any]) -> Step:
    """A step from its JSON form: with "kind" or "status" it is a fault, else a turn.

    Raises msgspec.ValidationError for an unknown field, a wrong type or an unknown kind.
    """
    kind: type[Turn] | type[Fault] = Fault if "kind" in value or "status" in value else Turn
    return msgspec.convert(value, kind)


class Script(Struct):
    """What is to happen at one operation of one provider: a queue, then what always happens, then the
    brain.
    """

    steps: deque[Step] = field(default_factory=deque)
    always: Step | None = None

    def peek(self) -> Step | None:
        return self.steps[0] if self.steps else self.always

    def pop(self) -> Step | None:
        return self.steps.popleft() if self.steps else self.always
