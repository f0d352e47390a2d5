"""What the tests of the Cursor stand-in share: a client on raw sockets, a stand-in on its own clock."""

from __future__ import annotations

import json

from gateway.simulator import Turn, Usage
from gateway.simulator.cursor import Cursor
from gateway.simulator.wire import Deed, Request

AID = "bc-6f0c1d9e-2d1b-4c9a-9a53-0e6c5a1f7b11"
KEY = {"authorization": "Bearer sim-cursor-key"}
HELLO = {"prompt": {"text": "Hello"}}
PNG = {"data": "aGVsbG8=", "mimeType": "image/png"}
ANSWER = Turn(
    text="Hello world",
    reasoning="hm",
    pieces=["Hello ", "world"],
    usage=Usage(input=100, cached=60, cache_write=10, output=9, reasoning=2),
)


class Client:
    """Cursor's calls, each on its own connection."""

    def __init__(self, connect) -> None:
        self._connect = connect

    async def send(self, method, path, body=None, **headers):
        """Send one request; returns the connection. A header of None is left out."""
        raw = await self._connect()
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        wanted = {"host": "sim", **KEY, "content-length": len(data)}
        wanted |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = "".join(f"{name}: {value}\r\n" for name, value in wanted.items() if value is not None)
        raw.send(f"{method} /cursor{path} HTTP/1.1\r\n{lines}\r\n".encode() + data)
        return raw

    async def call(self, method, path, body=None, **headers):
        """The same, and read the answer: (status, headers, body), which is decoded when it is JSON."""
        status, got, data = await (await self.send(method, path, body, **headers)).response()
        return status, got, json.loads(data) if "json" in got.get("content-type", "") else data

    async def create(self, body=HELLO):
        """Create an agent; returns (path of the agent, path of its run)."""
        status, _, made = await self.call("POST", "/v1/agents", body)
        assert status == 201, made
        agent = f"/v1/agents/{made['agent']['id']}"
        return agent, f"{agent}/runs/{made['run']['id']}"

    async def listen(self, run, last=None):
        """The events of a stream that ends."""
        status, headers, body = await self.call("GET", f"{run}/stream", last_event_id=last)
        assert status == 200, body
        assert headers["content-type"].startswith("text/event-stream")
        return events_of(body)


def events_of(body: bytes) -> list[tuple[str, str | None, dict]]:
    """(name, id, data) of each event."""
    found = []
    for event in body.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in event.split("\n"))
        found.append((fields["event"], fields.get("id"), json.loads(fields["data"])))
    return found


def text_of(events, name="assistant") -> str:
    return "".join(data["text"] for kind, _, data in events if kind == name)


def names(events) -> list[str]:
    return [data["type"] if kind == "interaction_update" else kind for kind, _, data in events]


class Clock:
    """Time that stands still until it is told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Desk:
    """A stand-in without a server, on a clock of its own."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.cursor = Cursor(self.clock)

    def call(self, method, path, body=None, step=None):
        """The reply of one call under a step, a turn or none."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        outcome = self.cursor.handle(Request(method, path, {}, KEY, data))
        if isinstance(outcome, Deed):
            outcome, step = outcome.do(step)
        return outcome.render(step, outcome.stream) if hasattr(outcome, "render") else outcome

    def json(self, *call):
        return json.loads(self.call(*call).body)

    def create(self, turn, body=HELLO):
        """The path of the run of a new agent."""
        made = self.json("POST", "/v1/agents", body, turn)
        return f"/v1/agents/{made['agent']['id']}/runs/{made['run']['id']}"
