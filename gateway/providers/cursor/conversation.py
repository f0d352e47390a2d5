"""A chat as calls to Cursor: an agent made for it alone, its run read to the end, and the agent put away.

Here stands what comes after what, and how often: a generator that says steps and is told how they went. The
same agent is never made twice, whatever is lost on the way, because its id is ours; and no agent is left at
work that nobody reads. How texts are put together again stands in `run`.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeAlias, TypeVar

import msgspec

from ...chat import ChatRequest, Chunk
from ...errors import ErrorKind, UpstreamError
from ..base import Context, Conversation, Fetch, Follow, HttpRequest, Left, Provider, Reply, Step, Wait
from . import requests
from .errors import AGENT_EXISTS, BAD_EVENT_ID, EXPIRED_STREAM
from .models import MODELS_REQUEST, PARAMETERS, Listed, by_name, wants_parameters
from .requests import CursorOptions
from .run import FINISHED, OVER, Agent, Created, Reading, Run, parse_usage, run_of, understood

T = TypeVar("T")
Steps: TypeAlias = Generator[Step, Any, T]

# ── how often, and how long to wait: seconds ───────────────────────────────────────────────────────────

POSTS = (0.0, 1.0, 2.0)
"""Pauses before each try to make the agent."""
STREAMS = (0.0, 0.5, 2.0, 4.0, 8.0, 16.0)
"""Pauses before each stream of a run."""
POLLS = (2.0, 3.0, 5.0, 8.0, 12.0, 15.0)
"""Pauses between looks at a run that is not streamed any more; the last one holds on."""
MAX_POLLS = 480  # two hours
MAX_BAD_POLLS = 5
"""Looks in a row that may fail."""
FIRST_RUNS = (0.0, 2.0, 2.0, 2.0, 2.0)
"""Pauses before each look for the run of an agent that was made a moment ago."""
CLEARINGS = (0.0, 2.0)
"""Pauses before each try to cancel and to put away."""
LONGEST_PAUSE = 60.0
USAGE_SECONDS = 2.0
"""How long the end of an answer waits for its number of tokens, when the stream did not tell."""

# ── what a failure means ───────────────────────────────────────────────────────────────────────────────

UNCERTAIN = frozenset(
    (
        ErrorKind.RESET,
        ErrorKind.TIMEOUT,
        ErrorKind.SERVER,
        ErrorKind.OVERLOADED,
        ErrorKind.INTERRUPTED,
        ErrorKind.BAD_RESPONSE,
    )
)
"""After these the API may have done what it was asked to, unless it answered that the caller is wrong."""
CUT = frozenset((ErrorKind.RESET, ErrorKind.UNREACHABLE, ErrorKind.INTERRUPTED, ErrorKind.RATE_LIMIT))
"""Failures that say nothing about the run: its stream is simply taken up again."""
FINAL = frozenset((ErrorKind.AUTH, ErrorKind.QUOTA, ErrorKind.UNSUPPORTED))
FINAL_CODES = frozenset(("not_found", "run_not_found", "agent_not_found"))


def _is_final(error: UpstreamError) -> bool:
    """Whether asking again is no use, nor asking otherwise."""
    return error.kind in FINAL or error.code in FINAL_CODES or error.upstream_status == 404


def _may_have_worked(error: UpstreamError) -> bool:
    return error.kind in UNCERTAIN and not 400 <= (error.upstream_status or 0) < 500


def _pause(usual: float, error: UpstreamError | None) -> float:
    """The pause in seconds that was asked for, within reason, when it is longer than the usual one."""
    asked = error.retry_after if error is not None else None
    return max(usual, min(asked or 0.0, LONGEST_PAUSE))


# ── the conversation ───────────────────────────────────────────────────────────────────────────────────


def conversation(
    options: CursorOptions, _provider: Provider, request: ChatRequest, context: Context
) -> Conversation:
    """One chat. What it says after the end of the answer, its failure or `Left` puts the agent away."""
    chat = _Chat(options, request, context)
    try:
        try:
            final = yield from chat.answer()
        except UpstreamError as error:
            if not chat.posted:
                raise
            yield error
        else:
            yield final
    except Left:
        pass
    yield from chat.clear_away()


class _Chat:
    """One chat and what is known of its agent. `posted`: an agent may have been made."""

    def __init__(self, options: CursorOptions, request: ChatRequest, context: Context) -> None:
        self.posted = False
        self._options = options
        self._request = request
        self._nonce = context.nonce
        self._learned = context.learned
        self._agent = requests.agent_id(context.nonce)
        self._run: Run | None = None
        self._over = False

    def answer(self) -> Steps[Chunk]:
        """Everything up to the last piece of the answer, which is returned. Raises `UpstreamError`."""
        http = yield from self._asked()
        try:
            self._run = yield from self._made(http)
        except UpstreamError as error:
            resolved = yield from self._resolved(http, error)
            if resolved is None:
                raise
            http = resolved
            self._run = yield from self._made(http)
        reading = Reading(self._run)
        yield from self._read(self._run, reading, http.dropped)
        self._over = True
        if reading.usage is None:
            reading.usage = yield from self._usage(self._run)
        return reading.final()

    # ── making the agent ───────────────────────────────────────────────────────────────────────────────

    def _asked(self) -> Steps[HttpRequest]:
        """The request that makes the agent; for a parameter of its model it takes the list of models."""
        http = self._request_for(self._listed())
        if self._listed() is None and wants_parameters(self._request):
            try:
                yield from self._learn(tuple(name for name in http.dropped if name not in PARAMETERS))
            except UpstreamError:
                return http  # an effort is no reason to fail: it is named as dropped
            http = self._request_for(self._listed())
        return http

    def _request_for(self, model: Listed | None) -> HttpRequest:
        return requests.build_request(self._request, self._options, nonce=self._nonce, model=model)

    def _listed(self) -> Listed | None:
        models: dict[str, Listed] = self._learned.get("models", {})
        return models.get(self._request.model)

    def _learn(self, dropped: tuple[str, ...]) -> Steps[None]:
        reply: Reply = yield Fetch(msgspec.structs.replace(MODELS_REQUEST, dropped=dropped))
        try:
            self._learned["models"] = by_name(reply.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise UpstreamError(ErrorKind.BAD_RESPONSE, f"its list of models is none: {error}") from None

    def _resolved(self, http: HttpRequest, error: UpstreamError) -> Steps[HttpRequest | None]:
        """The request under the model's own id, when it was refused because of another name; else None."""
        if error.kind is not ErrorKind.NOT_FOUND:
            return None
        try:
            yield from self._learn(http.dropped)
        except UpstreamError:
            return None
        again = self._request_for(self._listed())
        return None if again.body == http.body else again

    def _made(self, http: HttpRequest) -> Steps[Run]:
        """The run of the new agent: asked for again under the same id until it is certain to be there."""
        failure: UpstreamError | None = None
        for usual in POSTS:
            if failure is not None:
                yield Wait(_pause(usual, failure))
            try:
                reply: Reply = yield Fetch(http)
                self.posted = True
                return run_of(understood(reply.body, Created).run)
            except UpstreamError as error:
                failure = error
            if failure.code == AGENT_EXISTS:
                self.posted = True
                run = yield from self._found(FIRST_RUNS)
            elif _may_have_worked(failure):
                self.posted = True
                run = yield from self._found((0.0,))
            else:
                raise failure
            if run is not None:
                return run
        assert failure is not None
        raise failure

    def _found(self, pauses: tuple[float, ...]) -> Steps[Run | None]:
        """The run of our agent, None when there is none to be found."""
        for pause in pauses:
            if pause:
                yield Wait(pause)
            try:
                reply: Reply = yield Fetch(requests.get_agent(self._agent))
                if run_id := understood(reply.body, Agent).latest_run_id:
                    return run_of(Run(run_id))
            except UpstreamError as error:
                if error.upstream_status == 404:
                    return None
        return None

    # ── reading the run ────────────────────────────────────────────────────────────────────────────────

    def _read(self, run: Run, reading: Reading, dropped: tuple[str, ...]) -> Steps[None]:
        """Delivers the run to its end: by streams as long as they hold, else by its result."""
        failure: UpstreamError | None = None
        for i, usual in enumerate(STREAMS):
            if i:
                yield Wait(_pause(usual, failure))
            failure = None
            try:
                yield Follow(
                    requests.stream_run(self._agent, run.id, reading.resume(), dropped), reading.read
                )
            except UpstreamError as error:
                failure = error
            if (yield from self._is_read(run, reading, failure)):
                return
            if failure is not None and failure.code == EXPIRED_STREAM:
                break
        yield from self._polled(run, reading)

    def _is_read(self, run: Run, reading: Reading, failure: UpstreamError | None) -> Steps[bool]:
        """Whether the run is at its end after a stream that ended, or failed. Raises `UpstreamError`."""
        if reading.status == FINISHED:
            return True
        if failure is None and not reading.done:
            return False
        if failure is not None:
            if _is_final(failure):
                raise failure
            if failure.code == BAD_EVENT_ID and reading.last_id:
                reading.forget_id()
                return False
            if failure.kind in CUT:
                return False
        try:
            now = yield from self._look(run)
        except UpstreamError as error:
            if _is_final(error):
                raise
            now = Run(run.id)
        return (yield from self._is_ended(now, reading))

    def _is_ended(self, run: Run, reading: Reading) -> Steps[bool]:
        """Whether `run` is over: then what is left of its text is delivered. Raises its failure."""
        if run.status not in OVER:
            run = Run(run.id, reading.status)  # which a look may lag behind
        if run.status not in OVER:
            return False
        self._over = True
        if (error := run.failed(reading.complaint)) is not None:
            raise error
        if rest := run.rest(reading.text):
            yield reading.piece(rest)
        return True

    def _polled(self, run: Run, reading: Reading) -> Steps[None]:
        """Looks at the run until it is over."""
        bad = 0
        failure: UpstreamError | None = None
        for i in range(MAX_POLLS):
            yield Wait(_pause(POLLS[min(i, len(POLLS) - 1)], failure))
            failure = None
            try:
                now = yield from self._look(run)
            except UpstreamError as error:
                bad += 1
                if _is_final(error) or bad == MAX_BAD_POLLS:
                    raise
                failure = error
            else:
                bad = 0
                if (yield from self._is_ended(now, reading)):
                    return
        raise UpstreamError(ErrorKind.TIMEOUT, "the run did not come to an end")

    def _look(self, run: Run) -> Steps[Run]:
        reply: Reply = yield Fetch(requests.get_run(self._agent, run.id))
        return understood(reply.body, Run)

    def _usage(self, run: Run) -> Steps[Any]:
        """The tokens of the run, when they can be had: an answer does not fail for want of a number."""
        try:
            reply: Reply = yield Fetch(requests.get_usage(self._agent, run.id), USAGE_SECONDS)
            return parse_usage(reply.body, run.id)
        except UpstreamError:
            return None

    # ── putting the agent away ─────────────────────────────────────────────────────────────────────────

    def clear_away(self) -> Steps[None]:
        """Ends the run if it may still be at work, and puts the agent away. What cannot be done is let be."""
        if not self.posted:
            return
        if self._run is None:
            self._run = yield from self._found((0.0,))
            if self._run is None:
                return
        if not self._over:
            yield from self._insisted(requests.cancel_run(self._agent, self._run.id))
        if (http := requests.clean_up(self._agent, self._options.cleanup)) is not None:
            yield from self._insisted(http)

    def _insisted(self, http: HttpRequest) -> Steps[None]:
        """Makes a call, and once more when it did not get through."""
        failure: UpstreamError | None = None
        for usual in CLEARINGS:
            if failure is not None:
                yield Wait(_pause(usual, failure))
            try:
                yield Fetch(http)
                return
            except UpstreamError as error:
                failure = error
                if not _may_have_worked(error) and error.kind not in CUT:
                    return
