"""Cursor's agents and runs, which go on by the clock whether anybody listens or not.

Rule of this file: state and what it looks like as JSON; no request, no HTTP. A run is a list of moments with
the times at which they are due, so nothing has to run in the background: whoever looks is told how far it is.
`now` is always seconds on one monotonic clock.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from .brain import Ask
from .cursor_events import Moment, ending, spoken, summed, tokens_of, told
from .cursor_shapes import AgentBody
from .script import Fault, Turn
from .wire import Rejected

RETENTION = 86_400
"""Seconds after its end for which a run can be streamed."""
KEEP = 10_000
"""Agents that are remembered; the oldest is forgotten."""
CENTS_A_TOKEN = 0.0004
NEVER_ENDING = ("CREATING", "RUNNING")


def iso(wall: float) -> str:
    """Seconds since the epoch as Cursor writes them."""
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Run:
    """One run. It is being created while `delay_first` of its turn passes, unless that is a silence of the
    stream (`headers_first`), and then plays the turn.

    stamp       milliseconds since the epoch at its creation, different for every run
    fault       what goes wrong with its next stream call
    cancelled   when that was, in seconds on the clock of `now`
    """

    def __init__(self, identity: str, agent_id: str, turn: Turn, ask: Ask, now: float, stamp: int) -> None:
        self.id = identity
        self.agent_id = agent_id
        self.turn = turn
        self.fault: Fault | None = None
        self.cancelled: float | None = None
        self.stamp = stamp
        self.tokens = tokens_of(turn, ask)
        self._made = now
        self._starts = now if turn.headers_first else now + turn.delay_first
        self._final = turn.finish_native or "FINISHED"
        self._ends = math.inf
        self.moments = self._played()

    def __repr__(self) -> str:
        return f"<Run {self.id} of {self.agent_id} {len(self.moments)} moments>"

    def _played(self) -> list[Moment]:
        """The moments on our clock, with the end of the turn, if it has one."""
        usage = self.tokens if self._final == "FINISHED" else None
        moments = [
            each._replace(due=self._starts + each.due) for each in told(self.turn, usage, str(self.stamp))
        ]
        if self._final in NEVER_ENDING:
            return moments
        self._ends = moments[-1].due + self.turn.delay_between
        return moments + self._end(len(moments), self._ends)

    def _end(self, number: int, due: float) -> list[Moment]:
        known = self.document(due)
        names = ("status", "durationMs", "error")
        fields = {name: known[name] for name in names if name in known}
        text: dict[str, Any] = {"text": known["result"]} if "result" in known else {}
        extra: dict[str, Any] = self.turn.extra if self.cancelled is None else {}
        result = {"runId": self.id, **fields, **text, **extra}
        return ending(f"{self.stamp}-{number}", due, result)

    # --- by the clock -----------------------------------------------------------------------------------

    def status(self, now: float) -> str:
        if self.cancelled is not None:
            return "CANCELLED"
        if now >= self._ends:
            return self._final
        return "CREATING" if now < self._starts else "RUNNING"

    def status_at(self, at: int, now: float) -> str:
        """The status that a stream opens with: running, as long as something comes before the end."""
        status = self.status(now)
        return "RUNNING" if status != "CREATING" and at < len(self.moments) - 2 else status

    def over(self, now: float) -> bool:
        return self.cancelled is not None or now >= self._ends

    def expired(self, now: float) -> bool:
        """Its stream is no longer kept."""
        return self.over(now) and now - self.moments[-1].due > RETENTION

    def due(self, now: float) -> int:
        """How many of its moments have come."""
        return bisect_right(self.moments, now, key=lambda each: each.due)

    def silence(self, at: int, now: float) -> float:
        """Seconds until the moment of this number; 0: it has come, infinite: there is none."""
        return max(self.moments[at].due - now, 0.0) if at < len(self.moments) else math.inf

    def after(self, event_id: str) -> int | None:
        """The number of the moment that comes after this event id; None: there was no such event."""
        return next((at for at, each in enumerate(self.moments, 1) if each.id == event_id), None)

    def cancel(self, now: float) -> None:
        """Stop here: what is not due yet never comes."""
        del self.moments[self.due(now) :]
        self.cancelled = now
        self.moments += self._end(len(self.moments), now)

    # --- as JSON ------------------------------------------------------------------------------------------

    def document(self, now: float, *, listed: bool = False) -> dict[str, Any]:
        """The run as its call shows it; in a list it has no result."""
        status, over = self.status(now), self.over(now)
        ended = min(now, self._ends if self.cancelled is None else self.cancelled)
        made = self.stamp / 1000
        known: dict[str, Any] = {
            "id": self.id,
            "agentId": self.agent_id,
            "status": status,
            "createdAt": iso(made),
            "updatedAt": iso(made + ended - self._made),
        }
        if over:
            known["durationMs"] = round((ended - self._made) * 1000)
        if status == "FINISHED" and not listed:
            known["result"] = spoken(self.turn)
        if status == "ERROR":
            known["error"] = {"code": "internal_error", "message": "The run failed."}
        return {**known, **self.turn.extra} if over and self.cancelled is None else known

    def counted(self, now: float) -> dict[str, int] | None:
        """The tokens that have been recorded: those of a run that came to its own end."""
        return self.tokens if self.over(now) and self.cancelled is None else None


class Agent:
    """One agent. `archived` and `deleted` say what was done to it; its runs are oldest first."""

    def __init__(self, identity: str, body: AgentBody, stamp: int) -> None:
        self.id = identity
        self.name = body.name or f"Agent {identity[3:11]}"
        self.archived = False
        self.deleted = False
        self.runs: list[Run] = []
        self.stamp = stamp
        self._body = body

    def __repr__(self) -> str:
        state = "deleted" if self.deleted else "archived" if self.archived else "kept"
        return f"<Agent {self.id} {state} {len(self.runs)} runs>"

    def busy(self, now: float) -> bool:
        return any(not run.over(now) for run in self.runs)

    def run(self, identity: str) -> Run:
        """Raises Rejected when it has no such run."""
        for run in self.runs:
            if run.id == identity:
                return run
        raise Rejected(404, f"Run {identity} was not found", code="run_not_found")

    def document(self, now: float) -> dict[str, Any]:
        body = self._body
        status = "ARCHIVED" if self.archived else "ACTIVE" if self.busy(now) else "IDLE"
        made = iso(self.stamp / 1000)
        known: dict[str, Any] = {
            "id": self.id,
            "name": self.name,
            "status": status,
            "env": body.env or {"type": "cloud"},
            "repos": body.repos,
            "url": f"https://cursor.com/agents/{self.id}",
            "createdAt": made,
            "updatedAt": max((run.document(now)["updatedAt"] for run in self.runs), default=made),
        }
        if body.metadata:
            known["metadata"] = body.metadata
        return {**known, "latestRunId": self.runs[-1].id} if self.runs else known

    def usage(self, runs: list[Run], now: float) -> dict[str, Any]:
        """The tokens and the cost of these runs."""
        each = [
            {"id": run.id, "usage": (counts := summed([run.counted(now)])), "cost": cost(counts)}
            for run in runs
        ]
        total = summed([run.counted(now) for run in runs])
        return {"totalUsage": total, "cost": cost(total), "runs": each}


def cost(counts: dict[str, int]) -> dict[str, float]:
    cents = round(counts["totalTokens"] * CENTS_A_TOKEN, 4)
    return {"rawCostCents": cents, "chargedCents": cents}


class Agents:
    """All agents of one account, also those that were deleted: their ids stay taken."""

    def __init__(self) -> None:
        self._known: dict[str, Agent] = {}

    def __iter__(self) -> Iterator[Agent]:
        return iter(self._known.values())

    def __contains__(self, identity: str) -> bool:
        return identity in self._known

    def add(self, agent: Agent) -> None:
        self._known[agent.id] = agent
        if len(self._known) > KEEP:
            del self._known[next(iter(self._known))]

    def find(self, identity: str) -> Agent:
        """Raises Rejected when there is none, or none any more."""
        agent = self._known.get(identity)
        if agent is None or agent.deleted:
            raise Rejected(404, f"Agent {identity} was not found", code="agent_not_found")
        return agent

    def newest(self, *, archived: bool) -> list[Agent]:
        """Those that a list shows, newest first."""
        return [
            each for each in reversed(self._known.values()) if not each.deleted and archived >= each.archived
        ]
