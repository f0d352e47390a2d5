"""The simulator's server: one port, a path prefix a provider, scripts, recordings, and HTTP control.

Rule of this file: it joins the parts (`http`, `script`, `brain`, `faults`, the stand-ins) and knows none of
their details. Loopback only unless the caller says otherwise; nothing here leaves this machine.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from itertools import count
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, unquote

from msgspec.structs import replace

from . import control
from .brain import answer as brain_answer
from .faults import Scene, play
from .http import Call, Connection, steps_of
from .http import Step as WireStep
from .script import Fault, Script, Step, Turn
from .standins import STAND_INS, own
from .wire import Deed, Generation, Rejected, Reply, Request, StandIn, verbatim

KEEP = 10_000

logger = logging.getLogger(__name__)


class Simulator:
    """Stand-ins for provider APIs on one loopback port.

    `async with Simulator() as sim:` listens from entering to leaving. `port=0` takes any free port; `keep`
    is how many calls are recorded at most (0: none, for load tests). Use it from one event loop only.
    """

    def __init__(self, port: int = 0, host: str = "127.0.0.1", *, keep: int = KEEP) -> None:
        self.host = host
        self.port = port
        self._recorded: deque[Call] = deque(maxlen=keep)
        self._scripts: dict[tuple[str, str], Script] = {}
        self._stand_ins = own()
        self._alive: set[Connection] = set()
        self._numbers = count(1)
        self._watching = False
        self._refusals: list[bool] = []
        self._arrival: asyncio.Future[None] | None = None
        self._server: asyncio.Server | None = None

    def __repr__(self) -> str:
        state = f"on {self.host}:{self.port}" if self._server else "stopped"
        return f"<Simulator {state} {len(self._alive)} connections {len(self._recorded)} calls>"

    # --- life -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, self.host, self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        if self._server is None:
            return
        self._server.close()
        tasks = [task for connection in list(self._alive) if (task := connection.shut())]
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(connection.gone() for connection in list(self._alive)))
        await self._server.wait_closed()
        self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # --- what a test says and asks
    # ---------------------------------------------------------------------------

    @property
    def providers(self) -> tuple[str, ...]:
        """The names of the stand-ins."""
        return tuple(STAND_INS)

    def url(self, provider: str) -> str:
        """What a client of this provider sets as its base URL. Raises KeyError for an unknown provider."""
        return f"http://{self.host}:{self.port}/{provider}{STAND_INS[provider].base}"

    def stand_in(self, provider: str) -> StandIn:
        """The stand-in itself, to look at the state it keeps. Raises KeyError for an unknown provider."""
        return self._stand_ins[provider]

    def script(self, provider: str, *steps: Step, on: str = "generate") -> None:
        """Queue steps, one a call; when the queue is empty the default brain answers.

        `on` names the operation ("generate", "count_tokens", "models", or another of a stand-in's calls); for
        all but "generate" only faults make sense. A request that the stand-in refuses takes no step.
        """
        self._script(provider, on).steps.extend(steps)
        self._watch()

    def always(self, provider: str, step: Step | None, *, on: str = "generate") -> None:
        """What every call gets while the queue is empty: an outage, or one answer for a load test. None: the
        brain.
        """
        self._script(provider, on).always = step
        self._watch()

    def refuse(self, connections: int = 1, *, reset: bool = False) -> None:
        """Close the next accepted connections at once (FIN, or RST), before anything is read."""
        self._refusals += [reset] * connections

    def calls(self, provider: str | None = None) -> list[Call]:
        """The recorded calls of one provider, or of all, oldest first."""
        return [call for call in self._recorded if provider is None or call.provider == provider]

    async def wait_calls(self, provider: str, number: int = 1, timeout: float = 5.0) -> list[Call]:
        """Wait until so many calls were recorded. Raises TimeoutError after `timeout` seconds."""
        async with asyncio.timeout(timeout):
            while len(self.calls(provider)) < number:
                self._arrival = self._arrival or asyncio.get_running_loop().create_future()
                await asyncio.shield(self._arrival)
        return self.calls(provider)

    async def wait_closed(self, provider: str, timeout: float = 5.0) -> Call:
        """Wait until the last call's peer has closed or its answer is finished, and return that call.

        Raises TimeoutError after `timeout` seconds, LookupError when there is no call.
        """
        calls = self.calls(provider)
        if not calls:
            raise LookupError(f"no call of {provider} was recorded")
        async with asyncio.timeout(timeout):
            await calls[-1].wait_over()
        return calls[-1]

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._alive)

    def reset(self) -> None:
        """Forget scripts, standing steps, refusals, recorded calls and what stand-ins keep; connections stay
        open.
        """
        self._stand_ins = own()
        self._recorded.clear()
        self._scripts.clear()
        self._refusals.clear()
        self._watching = False

    # --- what a connection asks
    # ------------------------------------------------------------------------------

    def closes_early(self, method: str, path: str) -> bool:
        if not self._watching:
            return False
        stand_in, rest = self._find(path)
        if stand_in is None:
            return False
        operation = stand_in.operation(method, unquote(rest))
        script = self._scripts.get((stand_in.name, operation or ""))
        step = script.peek() if script else None
        return isinstance(step, Fault) and step.kind == "accept_close"

    def closed_early(self, call: Call) -> None:
        stand_in, rest = self._find(call.path)
        assert stand_in is not None
        self._next(stand_in.name, stand_in.operation(call.method, unquote(rest)))
        self._record(call, stand_in.name)

    def answer(self, call: Call) -> Iterable[WireStep]:
        stand_in, rest = self._find(call.path)
        if stand_in is None:
            return steps_of(control.answer(self, call))
        try:
            return self._answer(call, stand_in, rest)
        except Exception as error:  # a mistake of ours: say so where it is seen
            logger.exception("the %s stand-in stumbled over %r", stand_in.name, call)
            return steps_of(stand_in.error(Rejected(500, f"the stand-in stumbled: {error!r}")))

    def _answer(self, call: Call, stand_in: StandIn, rest: str) -> Iterable[WireStep]:
        self._record(call, stand_in.name)
        query = (
            dict(parse_qsl(call.path.partition("?")[2], keep_blank_values=True)) if "?" in call.path else {}
        )
        request = Request(call.method, unquote(rest), query, call.headers, call.body)
        try:
            outcome = stand_in.handle(request)
        except Rejected as problem:
            call.rejected = problem.message or str(problem.status)
            return steps_of(stand_in.error(problem))
        step = self._next(stand_in.name, stand_in.operation(request.method, request.path))
        if isinstance(outcome, Deed):
            outcome, step = outcome.do(step)
        return _act(stand_in, outcome, step)

    # --- inside ---------------------------------------------------------------------------------------------

    def _accept(self) -> asyncio.Protocol:
        connection = Connection(self, next(self._numbers), self._alive)
        if self._refusals:
            connection.refused = self._refusals.pop(0)
        return connection

    def _find(self, path: str) -> tuple[StandIn | None, str]:
        """The stand-in that a raw path belongs to, and the rest of the path without its query."""
        prefix, slash, rest = path.partition("?")[0].lstrip("/").partition("/")
        return self._stand_ins.get(prefix), slash + rest

    def _script(self, provider: str, operation: str) -> Script:
        if provider not in STAND_INS:
            raise KeyError(f"no stand-in {provider!r}; there is: {', '.join(STAND_INS)}")
        return self._scripts.setdefault((provider, operation), Script())

    def _watch(self) -> None:
        """Look at request lines only while some script closes a connection there."""
        steps = (step for script in self._scripts.values() for step in (*script.steps, script.always))
        self._watching = any(isinstance(step, Fault) and step.kind == "accept_close" for step in steps)

    def _next(self, provider: str, operation: str | None) -> Step | None:
        script = self._scripts.get((provider, operation or ""))
        return script.pop() if script else None

    def _record(self, call: Call, provider: str) -> None:
        call.provider = provider
        self._recorded.append(call)
        if self._arrival is not None:
            self._arrival.set_result(None)
            self._arrival = None


def _act(stand_in: StandIn, outcome: Reply | Generation, step: Step | None) -> Iterable[WireStep]:
    """The steps of one valid call under this script step."""
    if isinstance(step, Fault):
        return play(_scene(stand_in, outcome, step))
    if isinstance(outcome, Reply):
        return steps_of(outcome)
    turn = step or brain_answer(outcome.ask)
    return steps_of(_with_headers(outcome.render(turn, outcome.stream), turn.headers))


def _scene(stand_in: StandIn, outcome: Reply | Generation, fault: Fault) -> Scene:
    problem = Rejected(
        fault.status or 503,
        fault.message or "",
        type=fault.type,
        code=fault.code,
        param=fault.param,
        details=fault.details,
    )
    error = stand_in.error(problem)
    if fault.body is not None:
        error = replace(error, body=verbatim(fault.body), headers=_typed(error, fault.content_type))
    render = _renderer(outcome, fault)
    reply = render(isinstance(outcome, Generation) and outcome.stream)
    return Scene(
        fault=fault,
        stand_in=stand_in,
        reply=reply,
        render=render,
        problem=problem,
        error=_with_headers(error, fault.headers),
        delay=fault.turn.delay_first if fault.turn else 0.0,
    )


def _renderer(outcome: Reply | Generation, fault: Fault) -> Callable[[bool], Reply]:
    if isinstance(outcome, Reply):
        fixed = _with_headers(outcome, fault.headers)
        return lambda stream: fixed
    turn = fault.turn or brain_answer(outcome.ask)
    headers = {**turn.headers, **fault.headers}
    generation = outcome
    return lambda stream: replace(
        _with_headers(generation.render(turn, stream), headers), first=0.0, live=None
    )


def _typed(reply: Reply, content_type: str) -> tuple[tuple[str, str], ...]:
    return (("content-type", content_type), *(pair for pair in reply.headers if pair[0] != "content-type"))


def _with_headers(reply: Reply, headers: dict[str, str]) -> Reply:
    """The reply with these headers added; a name that is there is replaced."""
    if not headers:
        return reply
    new = {name.lower(): value for name, value in headers.items()}
    return replace(reply, headers=(*(pair for pair in reply.headers if pair[0] not in new), *new.items()))


async def serve(
    host: str = "127.0.0.1", port: int = 8090, *, ready: Callable[[Simulator], None] | None = None
) -> None:
    """Run until cancelled. `ready` is called once with the listening simulator.

    The last 1000 calls are kept for the control API. Raises OSError when the port is taken.
    """
    async with Simulator(port, host, keep=1000) as simulator:
        if ready is not None:
            ready(simulator)
        await asyncio.get_running_loop().create_future()


__all__ = ["Simulator", "Turn", "serve"]
