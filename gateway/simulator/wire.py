"""What server, stand-ins and faults say to each other: Request, Frame, Reply, Generation, Rejected, StandIn.

Rule of this file: values and the contract only; no socket, no provider's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from .brain import Ask
from .script import Step, Turn

Headers = tuple[tuple[str, str], ...]


class Request(Struct, frozen=True):
    """One HTTP request below a provider's prefix. `path` starts with "/", is percent-decoded and has no
    query.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


class Frame(NamedTuple):
    """One event of a stream as bytes. `content`: it carries content; `end`: it is (part of) the
    terminator.
    """

    data: bytes
    content: bool = False
    end: bool = False


class Reply(Struct, frozen=True):
    """An answer before it is framed as HTTP: a body, or the frames of a stream (then `body` is unused).

    `first`: seconds before the first byte, or with `head_first` between the head and what follows it;
    `between`: seconds between two frames. `live()`: a stream that is not known beforehand, event by event,
    with seconds to wait in between; `frames` are then what a fault mangles.
    """

    status: int = 200
    headers: Headers = ()
    body: bytes = b""
    frames: list[Frame] | None = None
    first: float = 0.0
    between: float = 0.0
    head_first: bool = False
    live: Callable[[], Iterator[bytes | float]] | None = None


class Generation(Struct, frozen=True):
    """A valid generation call: what is asked, and how a turn is answered natively.

    `render(turn, stream)` makes the reply; `stream` is what the client asked for, and only a fault says
    otherwise.
    """

    ask: Ask
    stream: bool
    render: Callable[[Turn, bool], Reply]


class Deed(Struct, frozen=True):
    """A valid call that changes something, which happens only under the step that is scripted for it.

    `do(step)` is called once; it returns the answer and what of the step hits this call.
    """

    do: Callable[[Step | None], tuple[Reply | Generation, Step | None]]


class Rejected(Exception):
    """A request that the real API refuses. Everything but the status may be "" or None: the native
    default.
    """

    def __init__(
        self,
        status: int,
        message: str = "",
        *,
        type: str | None = None,
        code: str | None = None,
        param: str | None = None,
        details: Any = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.code = code
        self.param = param
        self.details = details
        self.wrapped = False
        """Gemini: the error comes as an array with one element; Qwen: as an event, for a stream was asked."""


def paced(reply: Reply, turn: Turn) -> Reply:
    """The reply with the delays of its turn."""
    if not turn.delay_first and not turn.delay_between:
        return reply
    return replace(reply, first=turn.delay_first, between=turn.delay_between, head_first=turn.headers_first)


def verbatim(body: Any) -> bytes:
    """Bytes and text as they are, anything else as JSON."""
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else msgspec.json.encode(body)


class StandIn(Protocol):
    """The contract of a stand-in: pure functions, so one instance serves every connection. One that keeps
    state changes it in a `Deed`, and every simulator has its own.

    To add one: a file with a class of this shape, and its name in `standins.py`.
    """

    name: str
    """The path prefix: everything under `/{name}` comes here."""
    base: str
    """What a client's base URL has after the prefix ("/v1" for OpenAI, "" where the client adds the
    version).
    """

    def operation(self, method: str, path: str) -> str | None:
        """Which script a call takes its steps from: "generate", "count_tokens", "models"; None: unknown
        path.
        """

    def handle(self, request: Request) -> Reply | Generation | Deed:
        """Answer at once, or describe the generation call. Raises Rejected for what the real API refuses."""

    def error(self, problem: Rejected) -> Reply:
        """The native error response."""

    def error_event(self, problem: Rejected) -> bytes:
        """The native error inside a stream that has begun."""

    def event(self, payload: bytes) -> bytes:
        """One stream event with this payload, in native framing."""

    def unknown_event(self) -> bytes:
        """A stream event of a type that no client knows yet."""

    def ping(self) -> bytes:
        """What keeps a silent stream alive: a native ping, or a comment."""
