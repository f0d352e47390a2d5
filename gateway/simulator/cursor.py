"""The Cursor stand-in: Cloud Agents API v1, with the life of agents and runs.

Rule of this file: routing, what a call does, and which call a scripted fault hits. What is refused in a body
is in `cursor_rules.py`, agents and runs are in `cursor_agents.py`, the events in `cursor_events.py`.

A step for "generate" is taken by the call that starts a run (POST /v1/agents, POST /v1/agents/{id}/runs):
- a turn is what the run plays; `delay_first` holds back the answer of that call, or with `headers_first` is
  a silence of the stream; `finish_native` is the status that the run ends with (RUNNING: it never ends);
- a fault of `STREAM_KINDS` lets the run be made and hits its next stream call, any other hits this call. One
  of `REFUSALS` without a turn leaves nothing behind; with one, everything was done and the answer got lost.
Every other call has its own script, named in `ROUTES`.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from .brain import Ask
from .brain import answer as brain_answer
from .cursor_agents import RETENTION, Agent, Agents, Run
from .cursor_events import HEARTBEAT, encoded, raw_frames, status_event
from .cursor_models import listed, thinks
from .cursor_rules import checked_agent, checked_run, flag, page_size, refuse
from .cursor_shapes import Image, RunBody
from .script import Fault, Step, Turn
from .wire import Deed, Frame, Generation, Headers, Rejected, Reply, Request, verbatim

JSON = "application/json; charset=utf-8"
STREAM: Headers = (
    ("content-type", "text/event-stream; charset=utf-8"),
    ("x-cursor-stream-retention-seconds", str(RETENTION)),
)
OWN_PROMPT = 32_000
"""Characters that an agent reads before the first word of its user: its own prompt and its tools."""
TICK = 0.02
"""Seconds after which an open stream looks whether its run was cancelled."""

REFUSALS = {
    "status", "error_200", "empty", "redirect", "accept_close", "close", "reset", "stall",
    "garbage_status", "partial_status", "http09", "html_200",
}  # fmt: skip
STREAM_KINDS = {
    "stall_after", "reset_after", "close_after", "bad_chunk", "eof_cut", "json_on_stream", "error_event",
    "clean_cut", "no_terminator", "malformed_event", "cut_json", "invalid_utf8", "half_character",
    "oversized_event", "unknown_event", "empty_data", "drip_comments", "drip_bytes", "one_byte",
    "endless", "double_terminator", "after_terminator",
}  # fmt: skip
ABOUT_THE_STREAM = {"stream_unavailable", "unauthorized", "forbidden", "not_found"}
"""Codes of an error event that say nothing about the run; any other is the end of it."""

ERRORS: dict[int, tuple[str, str]] = {
    400: ("validation_error", "Invalid request."),
    401: ("unauthorized", "Invalid or missing API key."),
    402: ("plan_required", "A paid plan is required."),
    403: ("role_forbidden", "You may not do this."),
    404: ("not_found", "Not found."),
    409: ("agent_busy", "The agent has an active run."),
    410: ("stream_expired", "The stream of this run has expired."),
    429: ("rate_limit_exceeded", "Rate limit exceeded. Please try again later."),
    500: ("internal_error", "Internal error."),
}
"""Status → (code, message) of an error that was scripted by its status alone; above 500: upstream_error."""


class Cursor:
    """The stand-in; see `wire.StandIn`. It keeps state, so every simulator has its own.

    heartbeat   seconds of silence after which a stream sends one
    clock       seconds, monotonic
    """

    name = "cursor"
    base = ""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.agents = Agents()
        self.heartbeat = 15.0
        self._clock = clock
        self._epoch = time.time() - clock()
        self._stamp = 0
        self._numbers = count(1)

    def operation(self, method: str, path: str) -> str | None:
        found = _route(method, path)
        return found[0].operation if found else None

    def handle(self, request: Request) -> Reply | Generation | Deed:
        found = _route(request.method, request.path)
        if found is None:
            raise Rejected(404)
        key = authenticate(request)
        route, names = found
        if route.operation == "generate" and "noquota" in key:
            raise Rejected(429, "You have reached your usage limit.", code="usage_limit_exceeded")
        return route.call(self, request, **names)

    def error(self, problem: Rejected) -> Reply:
        return Reply(problem.status, self._headers(("content-type", JSON)), error_body(problem))

    def error_event(self, problem: Rejected) -> bytes:
        """The error, and the `done` that follows it at once."""
        code, message = described(problem)
        return encoded("error", msgspec.json.encode({"code": code, "message": message})) + encoded(
            "done", b"{}"
        )

    def event(self, payload: bytes) -> bytes:
        return encoded("assistant", payload)

    def unknown_event(self) -> bytes:
        return encoded("sparkle", b'{"sparkle":true}')

    def ping(self) -> bytes:
        return HEARTBEAT

    def _headers(self, *more: tuple[str, str]) -> Headers:
        return (*more, ("x-request-id", f"{next(self._numbers):032x}"))

    def _json(self, value: Any, status: int = 200) -> Reply:
        return Reply(status, self._headers(("content-type", JSON)), msgspec.json.encode(value))

    # --- starting a run ----------------------------------------------------------------------------------

    def create(self, request: Request) -> Deed:
        body = checked_agent(request.body)
        identity = body.agent_id or f"bc-{uuid.uuid4()}"
        if identity in self.agents:
            raise Rejected(409, f"Agent {identity} already exists", code="agent_id_conflict")
        agent = Agent(identity, body, self._now_stamp())
        return Deed(partial(self._begin, agent, understand(body)))

    def follow_up(self, request: Request, agent_id: str) -> Deed:
        agent = self.agents.find(agent_id)
        body = checked_run(request.body)
        if agent.archived:
            raise Rejected(409, f"Agent {agent_id} is archived", code="agent_archived")
        if agent.busy(self._clock()):
            raise Rejected(409, code="agent_busy")
        return Deed(partial(self._begin, agent, understand(body)))

    def _begin(self, agent: Agent, ask: Ask, step: Step | None) -> tuple[Generation, Step]:
        """Start the run that the step says, and what is left of the step for this call."""
        fault = step if isinstance(step, Fault) else None
        turn = played(step, ask)
        now, new = self._clock(), not agent.runs
        run = Run(f"run-{uuid.uuid4()}", agent.id, turn, ask, now, self._now_stamp())
        if done(fault):
            agent.runs.append(run)
            if agent.id not in self.agents:
                self.agents.add(agent)
        if fault is not None and fault.kind in STREAM_KINDS:
            run.fault, fault = fault, None
        shown: dict[str, Any] = {"run": {**run.document(now), "status": "CREATING"}}
        if new:
            shown = {"agent": {**agent.document(now), "status": "ACTIVE", "latestRunId": run.id}, **shown}
        created = self._json(shown, 201)
        if turn.raw is not None and not isinstance(turn.raw, list):
            created = replace(created, body=verbatim(turn.raw))
        opening = replace(turn, delay_first=0.0 if turn.headers_first else turn.delay_first)

        def render(turn: Turn, stream: bool) -> Reply:
            return self._stream_of(run, 0) if stream else replace(created, first=turn.delay_first)

        return Generation(ask, False, render), replace(fault, turn=opening) if fault else opening

    # --- looking at a run --------------------------------------------------------------------------------

    def stream(self, request: Request, agent_id: str, run_id: str) -> Deed:
        run = self.agents.find(agent_id).run(run_id)
        if run.expired(self._clock()):
            raise Rejected(410)
        last = request.headers.get("last-event-id")
        at = run.after(last) if last else 0
        if at is None:
            refuse(f"Unknown Last-Event-ID '{last}'", "invalid_last_event_id")
        return Deed(partial(self._listen, run, at))

    def _listen(self, run: Run, at: int, step: Step | None) -> tuple[Generation, Step]:
        """A step for this very call goes before the fault that waits with the run."""
        fault = step if isinstance(step, Fault) else None
        if fault is None:
            fault, run.fault = run.fault, None
        now = self._clock()
        left = run.silence(at, now) if run.turn.headers_first and not run.over(now) else 0.0
        turn = replace(run.turn, delay_first=min(left, run.turn.delay_first))

        def render(turn: Turn, stream: bool) -> Reply:
            return self._stream_of(run, at) if stream else self._json(run.document(self._clock()))

        return Generation(Ask(), True, render), replace(fault, turn=turn) if fault else turn

    def _stream_of(self, run: Run, at: int) -> Reply:
        """The stream from moment number `at` on: live, and as the frames that a fault mangles."""
        headers = self._headers(*STREAM)
        between = run.turn.delay_between
        if isinstance(run.turn.raw, list):
            return Reply(headers=headers, frames=raw_frames(run.turn.raw), between=between)
        frames = [Frame(status_event(run.id, run.status_at(at, self._clock())))]
        frames += [frame for moment in run.moments[at:] for frame in moment.frames]
        return Reply(headers=headers, frames=frames, between=between, live=partial(self._live, run, at))

    def _live(self, run: Run, at: int) -> Iterator[bytes | float]:
        """What has come, then what comes as time goes on, and heartbeats while nothing does."""
        heard = self._clock()
        status = run.status_at(at, heard)
        yield status_event(run.id, status)
        while True:
            now = self._clock()
            if status == "CREATING" and run.status(now) != status:
                status = run.status_at(at, now)
                yield status_event(run.id, status)
            come, over = run.moments[at : run.due(now)], run.over(now)
            for moment in come:
                yield moment.data
            at += len(come)
            if over:
                return
            if come:
                heard = now
            elif now - heard >= self.heartbeat:
                heard = now
                yield HEARTBEAT
            yield float(min(run.silence(at, now), self.heartbeat, TICK))

    def poll(self, request: Request, agent_id: str, run_id: str) -> Reply:
        return self._json(self.agents.find(agent_id).run(run_id).document(self._clock()))

    def runs(self, request: Request, agent_id: str) -> Reply:
        now = self._clock()
        known = {run.id: run.document(now, listed=True) for run in reversed(self.agents.find(agent_id).runs)}
        return self._page(request, known)

    def usage(self, request: Request, agent_id: str) -> Reply:
        agent = self.agents.find(agent_id)
        wanted = request.query.get("runId")
        runs = agent.runs if wanted is None else [agent.run(wanted)]
        return self._json(agent.usage(runs, self._clock()))

    # --- agents -------------------------------------------------------------------------------------------

    def list_agents(self, request: Request) -> Reply:
        now = self._clock()
        agents = self.agents.newest(archived=flag(request.query, "includeArchived"))
        return self._page(request, {agent.id: agent.document(now) for agent in agents})

    def show(self, request: Request, agent_id: str) -> Reply:
        return self._json(self.agents.find(agent_id).document(self._clock()))

    def _page(self, request: Request, known: dict[str, Any]) -> Reply:
        """One page of these; the cursor is the id that it starts with."""
        identities, size, start = list(known), page_size(request.query), 0
        if cursor := request.query.get("cursor"):
            if cursor not in known:
                refuse("cursor: invalid value")
            start = identities.index(cursor)
        items = [known[identity] for identity in identities[start : start + size]]
        rest = identities[start + size : start + size + 1]
        return self._json({"items": items, "nextCursor": rest[0]} if rest else {"items": items})

    def cancel(self, request: Request, agent_id: str, run_id: str) -> Deed:
        run = self.agents.find(agent_id).run(run_id)
        if run.over(self._clock()):
            raise Rejected(409, f"Run {run_id} is terminal", code="run_not_cancellable")
        return self._deed(run.id, lambda: run.cancel(self._clock()))

    def archive(self, request: Request, agent_id: str) -> Deed:
        return self._deed(agent_id, partial(setattr, self.agents.find(agent_id), "archived", True))

    def unarchive(self, request: Request, agent_id: str) -> Deed:
        return self._deed(agent_id, partial(setattr, self.agents.find(agent_id), "archived", False))

    def delete(self, request: Request, agent_id: str) -> Deed:
        return self._deed(agent_id, partial(self._delete, self.agents.find(agent_id)))

    def _delete(self, agent: Agent) -> None:
        agent.deleted = True
        now = self._clock()
        for run in agent.runs:
            if not run.over(now):
                run.cancel(now)

    def _deed(self, identity: str, act: Callable[[], None]) -> Deed:
        """A call that changes something and says whose id it was."""

        def do(step: Step | None) -> tuple[Reply, Step | None]:
            if done(step):
                act()
            return self._json({"id": identity}), step

        return Deed(do)

    # --- the rest -----------------------------------------------------------------------------------------

    def models(self, request: Request) -> Reply:
        return self._json({"items": listed()})

    def me(self, request: Request) -> Reply:
        made = "2026-01-01T00:00:00.000Z"
        return self._json({"apiKeyName": "simulator", "createdAt": made, "userEmail": "sim@example.org"})

    def _now_stamp(self) -> int:
        """Milliseconds since the epoch, never the same twice."""
        self._stamp = max(self._stamp + 1, int((self._epoch + self._clock()) * 1000))
        return self._stamp


# --- where a call goes ----------------------------------------------------------------------------------


class Route(NamedTuple):
    method: str
    path: re.Pattern[str]
    operation: str
    """Its name in a script."""
    call: Callable[..., Reply | Generation | Deed]


def _at(method: str, path: str, operation: str, call: Callable[..., Reply | Generation | Deed]) -> Route:
    pattern = path.replace("{agent}", "(?P<agent_id>[^/]+)").replace("{run}", "(?P<run_id>[^/]+)")
    return Route(method, re.compile(pattern), operation, call)


ROUTES = (
    _at("POST", "/v1/agents", "generate", Cursor.create),
    _at("POST", "/v1/agents/{agent}/runs", "generate", Cursor.follow_up),
    _at("GET", "/v1/agents/{agent}/runs/{run}/stream", "stream", Cursor.stream),
    _at("GET", "/v1/agents/{agent}/runs/{run}", "run", Cursor.poll),
    _at("POST", "/v1/agents/{agent}/runs/{run}/cancel", "cancel", Cursor.cancel),
    _at("GET", "/v1/agents/{agent}/runs", "runs", Cursor.runs),
    _at("GET", "/v1/agents/{agent}/usage", "usage", Cursor.usage),
    _at("POST", "/v1/agents/{agent}/archive", "archive", Cursor.archive),
    _at("POST", "/v1/agents/{agent}/unarchive", "unarchive", Cursor.unarchive),
    _at("DELETE", "/v1/agents/{agent}", "delete", Cursor.delete),
    _at("GET", "/v1/agents/{agent}", "agent", Cursor.show),
    _at("GET", "/v1/agents", "agents", Cursor.list_agents),
    _at("GET", "/v1/models", "models", Cursor.models),
    _at("GET", "/v1/me", "me", Cursor.me),
)


def _route(method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    for route in ROUTES:
        if route.method == method and (found := route.path.fullmatch(path)):
            return route, found.groupdict()
    return None


def authenticate(request: Request) -> str:
    """The key, from Bearer or as the user of Basic. Any will do, except one that contains `wrong`."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    key = given.strip() if scheme.lower() == "bearer" else ""
    if scheme.lower() == "basic":
        try:
            key = base64.b64decode(given.strip(), validate=True).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError, ValueError):
            key = ""
    if not key:
        raise Rejected(401)
    if "wrong" in key:
        raise Rejected(401, "This API key does not exist.", code="api_key_not_found")
    return key


# --- what a step does -----------------------------------------------------------------------------------


def done(step: Step | None) -> bool:
    """Whether the call does what it is for under this step."""
    return not isinstance(step, Fault) or step.kind not in REFUSALS or step.turn is not None


def played(step: Step | None, ask: Ask) -> Turn:
    """The turn that a run plays under this step."""
    if not isinstance(step, Fault):
        return step or brain_answer(ask)
    turn = step.turn or brain_answer(ask)
    problem = Rejected(step.status or 503, step.message or "", code=step.code)
    code, message = described(problem)
    if step.kind != "error_event" or code in ABOUT_THE_STREAM or turn.finish_native:
        return turn
    failed = {"error": {"code": code, "message": message}}
    return replace(turn, finish_native="ERROR", extra={**failed, **turn.extra})


def understand(body: RunBody) -> Ask:
    """The neutral question in a checked body."""
    text = body.prompt.text
    params = {each.id: each.value for each in body.model.params} if body.model else {}
    return Ask(
        text=text,
        media=[_size(image) for image in body.prompt.images],
        reasoning=thinks(params),
        read=OWN_PROMPT + len(text),
    )


def _size(image: Image) -> tuple[str, int]:
    """(media type, bytes) of an image; an address counts 0 bytes."""
    if image.data is None or image.mime_type is None:
        return "image/url", 0
    return image.mime_type, len(base64.b64decode(image.data))


# --- errors ---------------------------------------------------------------------------------------------


def described(problem: Rejected) -> tuple[str, str]:
    """(code, message) of an error."""
    code, message = ERRORS.get(problem.status, ("upstream_error", "An upstream service failed."))
    return problem.code or code, problem.message or message


def error_body(problem: Rejected) -> bytes:
    """One of the three forms: the rate limiter in front says `error` as a string, the gate that looks at keys
    and paths has no envelope, everything behind them has.
    """
    code, message = described(problem)
    if problem.status == 429 and problem.code is None:
        return msgspec.json.encode({"error": "Too Many Requests", "message": message})
    more = problem.details if isinstance(problem.details, dict) else {}
    known = {"code": code, "message": message, **more}
    return msgspec.json.encode(known if problem.status == 401 or code == "not_found" else {"error": known})
