"""HTTP control of a running simulator, for users: scripts, recorded calls, the table of faults, an index.

Rule of this file: it translates between HTTP and the Python API of `Simulator`, nothing more.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import msgspec
from msgspec import Struct

from .kinds import KINDS
from .script import parse_step
from .standins import STAND_INS
from .wire import Reply

if TYPE_CHECKING:
    from .http import Call
    from .server import Simulator


SECRETS = frozenset({"authorization", "x-api-key", "x-goog-api-key"})
"""Headers whose value is not shown over HTTP, in case somebody pointed a client with a real key here."""


class Order(Struct, forbid_unknown_fields=True):
    """The body of POST /_simulator/script."""

    provider: str
    steps: list[dict[str, Any]]
    on: str = "generate"
    always: bool = False


def answer(simulator: Simulator, call: Call) -> Reply:
    """Answer a request that is under no provider's prefix."""
    path, _, query = call.path.partition("?")
    action = ROUTES.get((call.method, path))
    if action is None:
        return _json({"error": f"unknown path {path}; GET / lists what is here"}, status=404)
    try:
        return action(simulator, call, query)
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, ValueError) as error:
        return _json({"error": str(error)}, status=400)


def _index(simulator: Simulator, call: Call, query: str) -> Reply:
    width = max(map(len, STAND_INS))
    lines = [
        "Stand-ins for provider APIs. Base URLs for clients (any non-empty key will do;",
        "one that contains `wrong` is refused, one that contains `noquota` has no money left):",
        "",
        *(f"  {name.ljust(width)}  {simulator.url(name)}" for name in STAND_INS),
        "",
        *(f"  {method.ljust(4)} {path}" for method, path in ROUTES),
        "",
    ]
    return Reply(headers=(("content-type", "text/plain; charset=utf-8"),), body="\n".join(lines).encode())


def _script(simulator: Simulator, call: Call, query: str) -> Reply:
    order = msgspec.json.decode(call.body, type=Order)
    steps = [parse_step(step) for step in order.steps]
    if order.always:
        simulator.always(order.provider, steps[0] if steps else None, on=order.on)
    else:
        simulator.script(order.provider, *steps, on=order.on)
    return _json({"queued": len(steps)})


def _calls(simulator: Simulator, call: Call, query: str) -> Reply:
    provider = parse_qs(query).get("provider", [None])[0]
    return _json({"calls": [_described(each) for each in simulator.calls(provider)]})


def _described(call: Call) -> dict[str, Any]:
    names = ("provider", "method", "path", "headers", "connection", "bytes_sent", "started_at", "finished_at")
    known = {name: getattr(call, name) for name in (*names, "peer_closed_at", "rejected")}
    known["headers"] = {name: "***" if name in SECRETS else value for name, value in call.headers.items()}
    try:
        return {**known, "body": call.body.decode()}
    except UnicodeDecodeError:
        return {**known, "body_base64": base64.b64encode(call.body).decode()}


def _reset(simulator: Simulator, call: Call, query: str) -> Reply:
    simulator.reset()
    return _json({"reset": True})


def _faults(simulator: Simulator, call: Call, query: str) -> Reply:
    return _json(KINDS)


def _json(value: Any, status: int = 200) -> Reply:
    return Reply(status, (("content-type", "application/json"),), msgspec.json.encode(value))


ROUTES: dict[tuple[str, str], Callable[[Simulator, Call, str], Reply]] = {
    ("GET", "/"): _index,
    ("POST", "/_simulator/script"): _script,
    ("GET", "/_simulator/calls"): _calls,
    ("POST", "/_simulator/reset"): _reset,
    ("GET", "/_simulator/faults"): _faults,
}
