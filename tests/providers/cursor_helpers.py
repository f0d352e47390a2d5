"""Cursor's side of a conversation, played by hand: replies, events and failures into the generator."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.chat import ChatRequest, Chunk, fold
from gateway.errors import ErrorKind, UpstreamError
from gateway.providers import PROVIDERS
from gateway.providers.base import Context, Fetch, Follow, HttpRequest, Left, Reply, Wait
from gateway.providers.cursor import configure
from gateway.providers.cursor.requests import CursorOptions
from gateway.sse import Decoder, Event

from .cases import request, user

CURSOR = PROVIDERS["cursor"]
NONCE = "6f0c1d9e-2d1b-4c9a-9a53-0e6c5a1f7b11"
AGENT = f"bc-{NONCE}"
HI = request({"messages": [user("Hi")], "stream": True}, "auto")

# ── what the API says ──────────────────────────────────────────────────────────────────────────────────

CREATED = {
    "agent": {"id": AGENT},
    "run": {"id": "run-1", "status": "CREATING", "createdAt": "2026-11-22T10:00:00Z"},
}
RUNNING: dict[str, Any] = {"id": "run-1", "status": "RUNNING"}
USAGE = {"inputTokens": 100, "outputTokens": 20, "cacheReadTokens": 3000, "cacheWriteTokens": 7}
NO_USAGE: dict[str, Any] = {"totalUsage": dict.fromkeys(USAGE, 0), "runs": []}

Said = tuple[str, str, Any]
"""An event: name, id, data."""


def finished(text: str) -> dict[str, Any]:
    return {"id": "run-1", "status": "FINISHED", "result": text}


def said(name: str, number: int | None = None, /, **data: Any) -> Said:
    return name, "" if number is None else f"1713033006000-{number}", data


def twin(name: str, number: int, text: str) -> list[Said]:
    """A piece of text, and the mirror that has the same id."""
    kind = {"assistant": "text-delta", "thinking": "thinking-delta"}[name]
    return [said(name, number, text=text), said("interaction_update", number, type=kind, text=text)]


STATUS = said("status", runId="run-1", status="RUNNING")
DONE = said("done", 9)


def result(status: str = "FINISHED", **fields: Any) -> list[Said]:
    return [said("result", 9, runId="run-1", status=status, **fields), DONE]


TURN_ENDED = said("interaction_update", 8, type="turn-ended", usage={**USAGE, "reasoningTokens": 5})
HAPPY = [
    STATUS,
    *twin("thinking", 0, "hm"),
    *twin("assistant", 1, "Hello"),
    *twin("assistant", 2, " world"),
    TURN_ENDED,
    *result(text="Hello world"),
]


def api(status: int, code: str, message: str = "no") -> UpstreamError:
    """A refusal of the API, as the driver makes it."""
    body = msgspec.json.encode({"error": {"code": code, "message": message}})
    return CURSOR.parse_error(status, {}, body)


def lost(kind: ErrorKind = ErrorKind.RESET) -> UpstreamError:
    """A failure of the network."""
    return UpstreamError(kind, "gone")


# ── the calls of a script ───────────────────────────────────────────────────────────────────────────────

MADE = ("POST", CREATED)
STREAM, RUN, USED, ARCHIVE, CANCEL, FIND = (
    "GET /A/run/stream",
    "GET /A/run",
    "GET /A/usage?runId=run-1",
    "POST /A/archive",
    "POST /A/run/cancel",
    "GET /A",
)
END: list[tuple[str, Any]] = [(ARCHIVE, {})]
SILENCE = lost(ErrorKind.TIMEOUT)

# ── playing ────────────────────────────────────────────────────────────────────────────────────────────

_PARTS = {AGENT: "A", "/v1/agents": "", "/v1": "", "/runs/run-1": "/run"}


def label(http: HttpRequest) -> str:
    """A call in short: "POST" makes the agent, "GET /A/run/stream" reads its run."""
    path = http.path
    for part, short in _PARTS.items():
        path = path.replace(part, short)
    return f"{http.method} {path}".strip()


@dataclass
class Cut:
    """A stream that says `events` and then fails with `error`; without one it just ends."""

    events: Iterable[Said] = ()
    error: UpstreamError | None = None


@dataclass
class Leaves:
    """The client leaves during this step, which has `outcome` all the same when it is a `Fetch`."""

    outcome: Any = None


@dataclass
class Played:
    """What a conversation did: its steps in short, the calls themselves, and what the client got."""

    steps: list[str] = field(default_factory=list)
    calls: list[HttpRequest] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    error: UpstreamError | None = None

    @property
    def answer(self) -> Chunk:
        return fold(self.chunks)

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks)

    @property
    def reasoning(self) -> str:
        return "".join(chunk.reasoning for chunk in self.chunks)

    @property
    def resumed_after(self) -> list[str]:
        """The event ids with which streams were asked for, "" for none."""
        return [http.headers.get("last-event-id", "") for http in self.calls if http.stream]

    @property
    def body(self) -> Any:
        """What the last agent was made with."""
        posts = [http for http in self.calls if label(http) == "POST"]
        return msgspec.json.decode(posts[-1].body)


Answering = Callable[[str, HttpRequest], Any]


def play(
    answering: Answering | list[tuple[str, Any]],
    chat: ChatRequest = HI,
    *,
    learned: dict[str, Any] | None = None,
    **options: Any,
) -> Played:
    """Runs a conversation as the driver does. A script is a list of calls and their outcomes, in order.

    A dict is a body, an `UpstreamError` a failure, a list or a `Cut` the events of a stream.
    """
    script = answering if isinstance(answering, list) else None
    player = _Player(_scripted(script) if isinstance(answering, list) else answering)
    provider = configure(CursorOptions(**options))
    context = Context(nonce=NONCE, learned={} if learned is None else learned)
    talk = provider.conversation(provider, chat, context)
    outcome: Any = None
    try:
        while True:
            step = talk.throw(outcome) if isinstance(outcome, BaseException) else talk.send(outcome)
            outcome = player.do(step)
    except StopIteration:
        pass
    except UpstreamError as error:
        assert player.played.error is None
        player.played.error = error
    assert not script, f"not asked for: {script}"
    return player.played


def _scripted(script: list[tuple[str, Any]]) -> Answering:
    def answer(asked: str, _http: HttpRequest) -> Any:
        assert script, f"not in the script: {asked}"
        expected, outcome = script.pop(0)
        assert asked == expected
        return outcome

    return answer


class _Player:
    """The driver's side: `over` is when the client has its answer, its error, or has left."""

    def __init__(self, answering: Answering) -> None:
        self.played = Played()
        self._answering = answering
        self._over = False
        self._leaving = False

    def do(self, step: Any) -> Any:
        if self._leaving:  # it left during the call before: what is said first is not done any more
            self._leaving, self._over = False, True
            return Left()
        if isinstance(step, Wait):
            self.played.steps.append(f"wait {step.seconds:g}")
            return None
        if isinstance(step, Fetch | Follow):
            return self._call(step)
        assert not self._over
        if isinstance(step, UpstreamError):
            self._over, self.played.error = True, step
            self.played.steps.append("error")
            return None
        assert isinstance(step, Chunk)
        self._deliver(step)
        if step.last:
            assert step.finish_reason
            self._over = True
            self.played.steps.append("end")
        return None

    def _call(self, step: Fetch | Follow) -> Any:
        asked = label(step.http)
        self.played.steps.append(asked)
        self.played.calls.append(step.http)
        outcome = self._answering(asked, step.http)
        leaves = isinstance(outcome, Leaves)
        outcome = outcome.outcome if isinstance(outcome, Leaves) else outcome
        if isinstance(step, Fetch):
            self._leaving = leaves
            return outcome if isinstance(outcome, UpstreamError) else _reply(outcome)
        assert not self._over
        told = self._follow(step, outcome)
        if not leaves:
            return told
        self._over = True
        return Left()

    def _follow(self, step: Follow, outcome: Any) -> UpstreamError | None:
        if isinstance(outcome, UpstreamError):
            return outcome
        cut = outcome if isinstance(outcome, Cut) else Cut(outcome or ())
        for event in events(cut.events):
            try:
                chunk = step.read(event)
            except UpstreamError as error:
                return error
            except msgspec.MsgspecError as error:
                return UpstreamError(ErrorKind.BAD_RESPONSE, str(error))
            if chunk is not None:
                self._deliver(chunk)
                if chunk.last:
                    return None
        return cut.error

    def _deliver(self, chunk: Chunk) -> None:
        assert not any(c.finish_reason for c in self.played.chunks)
        self.played.chunks.append(chunk)


def _reply(body: Any) -> Reply:
    data = body if isinstance(body, bytes) else msgspec.json.encode(body if body is not None else {})
    return Reply(status=200, headers={}, body=data)


def wire(told: Iterable[Said]) -> bytes:
    """The events as they go over the wire."""
    return b"".join(
        (f"id: {id}\n" if id else "").encode()
        + f"event: {name}\n".encode()
        + b"data: "
        + (data if isinstance(data, bytes) else msgspec.json.encode(data))
        + b"\n\n"
        for name, id, data in told
    )


def events(told: Iterable[Said]) -> list[Event]:
    """The events as they come off the wire: an id holds for those after it that have none."""
    return Decoder().feed(wire(told))


def waits(played: Played) -> list[float]:
    return [float(step.removeprefix("wait ")) for step in played.steps if step.startswith("wait")]


def without_waits(played: Played) -> list[str]:
    return [step for step in played.steps if not re.match("wait", step)]
