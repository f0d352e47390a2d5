"""A run as Cursor tells it: by its stream, which may be read in pieces and twice, and as an object.

What was told stands in one `Reading` for all streams of a run, so that every piece of text gets out exactly
once, wherever a stream broke off and however it was taken up again. Nothing is sent from here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from ...chat import END, ChatRequest, Chunk, Usage
from ...errors import ErrorKind, UpstreamError
from ...sse import Event
from ..base import EventDecoder
from .errors import error_of, failure

# ── a run as an object ─────────────────────────────────────────────────────────────────────────────────

FINISHED, FAILED = "FINISHED", "ERROR"
ENDINGS = {  # how else a run may end → kind, code and message of the failure
    "EXPIRED": (ErrorKind.TIMEOUT, "", "the run expired"),
    "CANCELLED": (ErrorKind.INTERRUPTED, "upstream_cancelled", "the run was cancelled"),
    FAILED: (ErrorKind.SERVER, "", "the run failed"),
}
OVER = frozenset((FINISHED, *ENDINGS))


class RunError(Struct):
    code: str | None = None
    message: str | None = None


class Run(Struct, rename="camel"):
    """A run, as far as it is read: `result` is the whole answer."""

    id: str
    status: str = ""
    created_at: str | None = None
    result: str | None = None
    error: RunError | None = None

    @property
    def created(self) -> int | None:
        """When it was made, in seconds since 1970."""
        try:
            return int(datetime.fromisoformat(self.created_at or "").timestamp())
        except (ValueError, OverflowError, OSError):
            return None

    @property
    def chat_id(self) -> str:
        """The id of the chat completion that it is."""
        return f"chatcmpl-{self.id.removeprefix('run-')}"

    def failed(self, complaint: UpstreamError | None = None) -> UpstreamError | None:
        """Why there is no answer, None when there is one or may still be.

        `complaint` is what a stream of the run said of it, for a run that does not tell itself.
        """
        if self.status == FAILED and self.error is not None:
            return error_of(self.error.code, self.error.message)
        if self.status == FAILED and complaint is not None:
            return complaint
        return failure(*ENDINGS[self.status]) if self.status in ENDINGS else None

    def rest(self, told: str) -> str:
        """What follows `told` in the result. Raises `UpstreamError` when it does not begin with that."""
        whole = self.result or ""
        if whole.startswith(told):
            return whole[len(told) :]
        if whole.strip() == told.strip():
            return ""
        raise UpstreamError(
            ErrorKind.INTERRUPTED, "the stream broke off, and the run's result does not go on from there"
        )


class Created(Struct):
    run: Run


class Agent(Struct, rename="camel"):
    latest_run_id: str | None = None


_RUN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
T = TypeVar("T")


def understood(body: bytes, type: type[T]) -> T:
    """`body` as a `type`. Raises `UpstreamError` when it is none."""
    try:
        return msgspec.json.decode(body, type=type)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamError(ErrorKind.BAD_RESPONSE, f"sent what is not its API's format: {error}") from None


def run_of(run: Run) -> Run:
    """`run`, when its id fits into a path. Raises `UpstreamError`."""
    if _RUN_ID.fullmatch(run.id) is None:
        raise UpstreamError(ErrorKind.BAD_RESPONSE, "named a run by what cannot be an id")
    return run


# ── tokens ─────────────────────────────────────────────────────────────────────────────────────────────


class Counts(Struct, rename="camel"):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


def usage_of(counts: Counts | None) -> Usage | None:
    """The tokens in OpenAI's words. The four counts are disjoint; all zero is not counted yet."""
    if counts is None:
        return None
    read, written = counts.cache_read_tokens or 0, counts.cache_write_tokens or 0
    usage = Usage(
        prompt_tokens=(counts.input_tokens or 0) + read + written,
        completion_tokens=counts.output_tokens or 0,
        cached_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=counts.reasoning_tokens or 0,
    )
    return usage if usage.total_tokens else None


class _RunUsage(Struct):
    id: str
    usage: Counts | None = None


class _AgentUsage(Struct, rename="camel"):
    total_usage: Counts | None = None
    runs: list[_RunUsage] | None = None


def parse_usage(body: bytes, run: str) -> Usage | None:
    """The tokens of a run, or of its agent, which has no other. Raises `UpstreamError`."""
    said = understood(body, _AgentUsage)
    own = next((usage_of(item.usage) for item in said.runs or () if item.id == run), None)
    return own or usage_of(said.total_usage)


# ── a run as a stream ──────────────────────────────────────────────────────────────────────────────────


class _Text(Struct):
    text: str | None = None


class _Status(Struct, rename="camel"):
    run_id: str | None = None


class _Result(Struct, rename="camel"):
    run_id: str | None = None
    status: str | None = None
    text: str | None = None


class _Update(Struct):
    type: str | None = None
    usage: Counts | None = None


class Reading:
    """What a run has told so far, over all streams that it is read from.

    `status` is how it ended, "" until a stream says so; `done`, that the last stream came to its own end;
    `complaint` is the error that a stream told.
    """

    def __init__(self, run: Run | None = None) -> None:
        self.status = ""
        self.done = False
        self.complaint: UpstreamError | None = None
        self.usage: Usage | None = None
        self.last_id = ""
        self._run = run
        self._told: dict[str, list[str]] = {"assistant": [], "thinking": []}
        self._skip = {"assistant": 0, "thinking": 0}  # characters that were told before
        self._resumed_at = ""

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._told["assistant"])

    def resume(self) -> str:
        """Makes ready for another stream: the id of the event that it has to follow, "" for the start.

        Only what the last id stands for is known to be told. When there is none, the stream tells all again,
        perhaps in other pieces: what is known is passed over by its length, for each kind of text.
        """
        self.done = False
        self._resumed_at = self.last_id
        if not self.last_id:
            self._skip = {kind: sum(map(len, told)) for kind, told in self._told.items()}
        return self.last_id

    def forget_id(self) -> None:
        """Gives up an id that the API does not take: the next stream begins at the start."""
        self.last_id = ""

    def read(self, event: Event) -> Chunk | None:
        """What an event adds to the answer; with `last`, it ends its stream. Raises `UpstreamError`."""
        reader = _READERS.get(event.name)
        return reader(self, event) if reader else None

    def final(self, rest: str = "") -> Chunk:
        """The end of a whole answer, after a `rest` of its text."""
        return self._chunk(text=rest, finish_reason="stop", usage=self.usage, last=True)

    def piece(self, text: str) -> Chunk:
        """Text of the answer that came another way, told from now on."""
        self._told["assistant"].append(text)
        return self._chunk(text=text)

    def _chunk(self, **fields: Any) -> Chunk:
        if self._run is None:
            return Chunk(**fields)
        return Chunk(id=self._run.chat_id, created=self._run.created, **fields)

    def _delta(self, event: Event) -> Chunk | None:
        if event.id and event.id == self._resumed_at:  # the event itself, not what follows it
            return None
        text = msgspec.json.decode(event.data, type=_Text).text or ""
        self._mark(event)
        skipped = min(self._skip[event.name], len(text))
        self._skip[event.name] -= skipped
        fresh = text[skipped:]
        if not fresh:
            return None
        self._told[event.name].append(fresh)
        return self._chunk(text=fresh) if event.name == "assistant" else self._chunk(reasoning=fresh)

    def _mark(self, event: Event) -> None:
        """Notes how far the stream was read. Mirrors share the id of an event and may come before it: reading
        on from there would lose the event, so they do not count.
        """
        fits = event.id.isascii() and event.id.isprintable()
        self.last_id = event.id if fits else ""

    def _update(self, event: Event) -> None:
        if b"turn-ended" in event.data:
            update = msgspec.json.decode(event.data, type=_Update)
            if update.type == "turn-ended":
                self.usage = usage_of(update.usage) or self.usage

    def _started(self, event: Event) -> None:
        run_id = msgspec.json.decode(event.data, type=_Status).run_id
        if self._run is None and run_id:
            self._run = Run(run_id)

    def _error(self, event: Event) -> None:
        said = msgspec.json.decode(event.data, type=RunError)
        self.complaint = error_of(said.code, said.message)
        raise self.complaint

    def _result(self, event: Event) -> Chunk:
        said = msgspec.json.decode(event.data, type=_Result)
        self.status, self.done = said.status or "", True
        told, whole = self.text, said.text or ""
        if self.status == FINISHED and len(whole) > len(told) and whole.startswith(told):
            return msgspec.structs.replace(self.piece(whole[len(told) :]), last=True)
        return END

    def _done(self, _event: Event) -> Chunk:
        self.done = True
        return END


_READERS: dict[str, Callable[[Reading, Event], Chunk | None]] = {
    "status": Reading._started,
    "assistant": Reading._delta,
    "thinking": Reading._delta,
    "tool_call": Reading._mark,
    "interaction_update": Reading._update,
    "result": Reading._result,
    "error": Reading._error,
    "done": Reading._done,
}
"""Events by name. Tool calls are the agent's own business; heartbeats and what nobody knows say nothing."""


# ── one stream, one object: the whole answer ───────────────────────────────────────────────────────────


def event_decoder(_request: ChatRequest) -> EventDecoder:
    """A decoder for one whole stream, whose result is the end of the answer."""
    reading = Reading()

    def decode(event: Event) -> Chunk | None:
        chunk = reading.read(event)
        if chunk is None or not chunk.last or not reading.status:
            return chunk
        return _answer(reading, Run("", reading.status), chunk.text)

    return decode


def parse_response(body: bytes, _request: ChatRequest) -> Chunk:
    """A run that is over, as the answer that it is. Raises `UpstreamError` for one without an answer."""
    run = run_of(msgspec.json.decode(body, type=Run))
    return _answer(Reading(run), run, run.result or "")


def _answer(reading: Reading, run: Run, text: str) -> Chunk:
    if (error := run.failed()) is not None:
        raise error
    if run.status != FINISHED:
        raise UpstreamError(ErrorKind.BAD_RESPONSE, "answered with a run that is not over")
    return reading.final(text)
