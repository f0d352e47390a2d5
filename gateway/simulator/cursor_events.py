"""What a Cursor run tells on its stream: a turn as moments, and their framing.

Rule of this file: pure; times are seconds after the start of the run, and nobody looks at a clock here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from .brain import Ask, tokens, usage_of
from .script import ToolCall, Turn
from .wire import Frame, verbatim

HEARTBEAT = b"event: heartbeat\ndata: {}\n\n"
Event = tuple[str, Any]


class Moment(NamedTuple):
    """What happens at one time under one id. `due`: seconds, on the clock of whoever asks for the moments."""

    id: str
    due: float
    frames: tuple[Frame, ...]

    @property
    def data(self) -> bytes:
        return b"".join(frame.data for frame in self.frames)


def encoded(name: str, payload: bytes, identity: str = "") -> bytes:
    """One event; without an identity it has no id line."""
    start = f"id: {identity}\n" if identity else ""
    return b"%bevent: %b\ndata: %b\n\n" % (start.encode(), name.encode(), payload)


def status_event(run_id: str, status: str) -> bytes:
    return encoded("status", msgspec.json.encode({"runId": run_id, "status": status}))


def raw_frames(raw: list[Any]) -> list[Frame]:
    """Verbatim events: bytes as they are, {"event", "data", "id"} as an event, the rest after `data: `."""
    return [Frame(_raw(each), content=True) for each in raw]


def _raw(each: Any) -> bytes:
    if isinstance(each, bytes):
        return each
    if isinstance(each, dict) and "event" in each:
        payload = verbatim(each.get("data", {}))
        return encoded(str(each["event"]), payload, str(each.get("id", "")))
    return b"data: %b\n\n" % verbatim(each)


# --- from a turn to moments -----------------------------------------------------------------------------


def told(turn: Turn, usage: dict[str, int] | None, prefix: str) -> list[Moment]:
    """The moments of a turn until its end, the first after `delay_first` seconds where the run waits so long.

    Ids are `{prefix}-{number}`; the twins of one happening share theirs. `usage`: of the turn-ended event,
    which is left out without one.
    """
    wait = turn.delay_first if turn.headers_first else 0.0
    return [
        moment(f"{prefix}-{number}", wait + number * turn.delay_between, events)
        for number, events in enumerate(_happenings(turn, usage))
    ]


def moment(identity: str, due: float, events: list[Event]) -> Moment:
    frames = tuple(
        Frame(
            encoded(name, msgspec.json.encode(data), identity),
            content=name in ("assistant", "thinking", "tool_call"),
            end=name == "done",
        )
        for name, data in events
    )
    return Moment(identity, due, frames)


def _happenings(turn: Turn, usage: dict[str, int] | None) -> Iterator[list[Event]]:
    for piece in turn.cut(turn.reasoning):
        yield [("thinking", {"text": piece}), _update("thinking-delta", text=piece)]
    if turn.reasoning:
        yield [_update("thinking-completed", thinkingDurationMs=1)]
    for number, call in enumerate(turn.tool_calls, 1):
        yield from _call(call, call.id or f"call_{number}")
    for piece in turn.cut(spoken(turn)):
        yield [("assistant", {"text": piece}), _update("text-delta", text=piece)]
    yield [_update("token-delta", tokens=tokens(spoken(turn)))]
    if usage is not None:
        yield [_update("turn-ended", usage=usage)]


def spoken(turn: Turn) -> str:
    """The whole final reply."""
    return turn.said() or turn.refusal


def _update(kind: str, **fields: Any) -> Event:
    return "interaction_update", {"type": kind, **fields}


def _call(call: ToolCall, identity: str) -> Iterator[list[Event]]:
    """A call of one of Cursor's own tools: it runs, and it is done, at two moments."""
    try:
        arguments = msgspec.json.decode(call.text())
    except (msgspec.DecodeError, RecursionError):
        arguments = call.text()
    known = {"callId": identity, "name": call.name, "args": arguments}
    tool = {"type": call.name, "args": arguments}
    result = {"status": "success", "value": {}}
    both = {"callId": identity, "modelCallId": f"model_{identity}"}
    yield [
        ("tool_call", {**known, "status": "running"}),
        _update("tool-call-started", **both, toolCall=tool),
    ]
    yield [
        ("tool_call", {**known, "status": "completed", "result": result}),
        _update("tool-call-completed", **both, toolCall={**tool, "result": result}),
    ]


# --- tokens ---------------------------------------------------------------------------------------------


def tokens_of(turn: Turn, ask: Ask) -> dict[str, int] | None:
    """Cursor's disjoint counts of a turn, as in turn-ended; None when nothing was recorded, which is when the
    turn states zeros.
    """
    read, made, thought = usage_of(turn, ask)
    if not read and not made:
        return None
    stated = turn.usage
    return {
        "inputTokens": read - stated.cached - stated.cache_write,
        "outputTokens": made,
        "cacheReadTokens": stated.cached,
        "cacheWriteTokens": stated.cache_write,
        "reasoningTokens": thought,
    }


def summed(counts: list[dict[str, int] | None]) -> dict[str, int]:
    """The counts of the usage call: four sums, and their total. Zeros: not recorded."""
    names = ("inputTokens", "outputTokens", "cacheWriteTokens", "cacheReadTokens")
    sums = {name: sum(each[name] for each in counts if each) for name in names}
    return {**sums, "totalTokens": sum(sums.values())}


def ending(identity: str, due: float, result: dict[str, Any]) -> list[Moment]:
    """The terminal moments: the result, and `done` under the same id, so that who saw only the first can
    resume between them.
    """
    return [moment(identity, due, [("result", result)]), moment(identity, due, [("done", {})])]
