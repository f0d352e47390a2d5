"""One exchange: what a provider's conversation says is done, and what it is answered with is delivered.

Two kinds of conversation run here. The common one says a call that brings the answer: until the client has
seen something of it the conversation may say another, afterwards a failure is the client's. The other makes
its answer of several calls and is told of everything, to the end; what it says after that, or after its
client has left, is run in the background.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import msgspec

from .. import sse
from ..chat import ChatRequest, Chunk
from ..errors import ErrorKind, UpstreamError
from ..exchange import CALLER, Exchange, Target, Timings
from ..providers.base import (
    Context,
    Conversation,
    Fetch,
    Follow,
    HttpRequest,
    Left,
    Pace,
    Reply,
    Step,
    Wait,
)
from .endpoint import MAX_BODY, Endpoint, read_all, understood
from .timers import Timeouts, Watchdog
from .transport import Response

log = logging.getLogger("gateway.upstream")

DRAIN_SECONDS = 0.1
"""How long the end of a body may take after the end mark, so that the connection can be used again."""
MAX_DRAINED_READS = 8
CLEAN_UP_SECONDS = 60.0
"""How long a conversation may clean up behind a client that left, once its call under way has ended."""
_NOTHING = Chunk()


class Call(Exchange):
    """One exchange with one provider. `ended` is told how: None is a whole answer."""

    def __init__(
        self,
        endpoint: Endpoint,
        request: ChatRequest,
        context: Context,
        ended: Callable[[UpstreamError | None], None],
        timeouts: Timeouts,
    ) -> None:
        self.target = Target(endpoint.name, request.model)
        self.timings = Timings()
        provider = endpoint.provider
        self._endpoint = endpoint
        self._request = request
        self._record = ended
        self._conversation: Conversation | None = provider.conversation(provider, request, context)
        caller = CALLER.get()
        self._watchdog = Watchdog(timeouts, caller.deadline, is_hasty=caller.is_hasty)
        self._fetching: asyncio.Task[Reply] | None = None
        self._response: Response | None = None
        self._sent = False
        self._pace = provider.pace
        self._turns = self._kept = 0  # calls whose turn has come already: of the answer, of cleaning up
        self._said: list[Chunk] = []  # what the conversation itself adds to the answer
        self._held: list[Chunk] = []  # read while waiting for the first content
        self._decoder = sse.Decoder()
        self._read_event = provider.event_decoder(request)
        self._size = 0  # bytes of an answer that is collected
        self._begun = False  # something was given away: a plain call cannot be made again
        self._composed = False  # the conversation makes the answer itself
        self._following = False  # what is read is one stream of several: its end is not the answer's
        self._finished = False  # a finish reason was seen: the answer is whole
        self._ended = False  # nothing more is to come
        self._verdict: UpstreamError | None = None  # the conversation's own word that there is no answer
        self._broken: UpstreamError | None = None  # raised once the chunks before it are delivered

    async def begin(self) -> None:
        """Does what the conversation says until something is answered, and waits for content.

        Raises `UpstreamError`.
        """
        try:
            with sayable():
                first = self._resumed(None)
            await self._perform(first)
            await self._first_content()
            self._begun = True
            if not self._composed:
                self._resumed(None)  # it answered: what was learned on the way can be noted
        except UpstreamError as error:
            raise self._failed(error) from error.__cause__

    async def read(self) -> list[Chunk]:
        if self._held:
            held, self._held = self._held, []
            return held
        try:
            return await self._next()
        except UpstreamError as error:
            raise self._failed(error) from error.__cause__

    async def close(self) -> None:
        """Leaves: the connection is kept when the body is at its end, and closed when it is not."""
        try:
            if self._ended:
                self._record(None)
                if self._response is not None:
                    await _drain(self._response)
        finally:
            self._watchdog.close()
            if self._response is not None:
                await self._response.aclose()

    # ── the conversation ───────────────────────────────────────────────────────────────────────────────

    def _resumed(self, outcome: Reply | UpstreamError | Left | None) -> Step | None:
        """What the conversation says after `outcome`, None when it is over. Raises what it lets pass."""
        conversation, self._conversation = self._conversation, None
        if conversation is None:
            if isinstance(outcome, Exception):
                raise outcome
            return None
        try:
            if isinstance(outcome, Exception):
                said = conversation.throw(outcome)
            elif outcome is None:
                said = next(conversation)  # at the start it reads the request, of which not all was read yet
            else:
                with understood():
                    said = conversation.send(outcome)
        except StopIteration:
            return None
        self._conversation = conversation
        return said

    async def _perform(self, step: Step | None) -> None:
        """Does what is said until there is something to read. Raises `UpstreamError`."""
        while True:
            outcome: Reply | UpstreamError | None = None
            if isinstance(step, Chunk):
                self._said, self._composed, self._following = [step], True, False
                return
            if isinstance(step, UpstreamError):
                self._verdict = step
                raise step
            if step is None:
                raise self._broken_off()
            try:
                if isinstance(step, HttpRequest):
                    await self._open(step)
                    return
                if isinstance(step, Follow):
                    self._composed, self._following, self._read_event = True, True, step.read
                    await self._open(step.http)
                    return
                outcome = await self._do(step)
            except UpstreamError as error:
                if self._watchdog.spent:
                    raise
                await self._forget()
                outcome = error
            step = self._resumed(outcome)

    async def _do(self, step: Fetch | Wait) -> Reply | None:
        self._composed = True
        within = None
        if isinstance(step, Fetch):
            within = step.within
            await self._prepare(step.http, within)
        left = self._watchdog.left
        try:
            async with asyncio.timeout(left if within is None else min(left, within)):
                if isinstance(step, Wait):
                    await asyncio.sleep(step.seconds)
                    return None
                return await self._fetch(step.http)
        except TimeoutError:
            if within is None or within > left:
                raise self._watchdog.out_of_time() from None
            if self._fetching is not None:
                self._fetching.cancel()
                self._fetching = None
            raise UpstreamError(ErrorKind.TIMEOUT, f"did not answer within {within:g} s") from None

    async def _fetch(self, http: HttpRequest) -> Reply:
        """The answer to a call that goes on when this one is given up."""
        self._fetching = asyncio.create_task(self._endpoint.fetch(http, in_turn=True))
        try:
            reply = await asyncio.shield(self._fetching)
        except UpstreamError:
            self._fetching = None
            raise
        self._fetching = None
        return reply

    async def _open(self, http: HttpRequest) -> None:
        """Sends, and gets ready to read. Raises `UpstreamError` for an answer that is none."""
        await self._prepare(http)
        self.dropped = http.dropped
        self._watchdog.call_begins(whole=not http.stream)
        with self._watchdog:
            response = self._response = await self._endpoint.send(http)
            if self.timings.connect is None:
                self.timings.connect = response.connect
            self.limits = self._endpoint.provider.parse_limits(response.headers) or self.limits
            if not 200 <= response.status < 300:
                raise await self._endpoint.error_of(response)
        _check_type(http, response)
        if not http.stream:
            self._said = [await self._whole()]
            self._ended = True

    async def _prepare(self, http: HttpRequest, within: float | None = None) -> None:
        """Refuses what a strict client does not want left out, and waits for the call's turn.

        Raises `UpstreamError`.
        """
        if self._request.strict and http.dropped:
            raise self._endpoint.too_strict(http.dropped, self.target.model)
        if self._pace is not None:
            left = self._watchdog.left
            await self._turn(self._pace, left if within is None else min(left, within))
        self._sent = True

    async def _turn(self, pace: Pace, within: float) -> None:
        if not self._sent:  # all that this answer will need, before anything of it is made
            await self._endpoint.turn(pace.per_answer, within)
            self._turns, self._kept = pace.per_answer - pace.kept, pace.kept
        if self._turns == 0:
            await self._endpoint.turn(1, within)
            self._turns = 1
        self._turns -= 1

    async def _forget(self) -> None:
        """Leaves a call that failed or is over, so that another one starts from nothing."""
        if self._response is not None:
            await self._response.aclose()
        self._response = self._broken = None
        self._decoder = sse.Decoder()
        if not self._composed:
            self._held = []
            self._finished = self._ended = False
            self._read_event = self._endpoint.provider.event_decoder(self._request)

    def clean_up(self) -> asyncio.Task[None] | None:
        """What the conversation has left to say when nobody waits for an answer any more, under way."""
        if self._conversation is None:
            return None
        if self._fetching is not None:
            return asyncio.create_task(self._clean_up(self._fetching))
        with suppress(Left, UpstreamError):
            step = self._resumed(None if self._ended or self._verdict else Left())
            if step is not None:
                return asyncio.create_task(self._clean_up(step))
        return None

    async def _clean_up(self, first: Step | asyncio.Task[Reply]) -> None:
        """Runs what is left to say: calls and pauses, nothing that would be an answer."""
        try:
            step: Step | None
            if isinstance(first, asyncio.Task):
                self._resumed(await _outcome(first))
                step = self._resumed(Left())
            else:
                step = first
            async with asyncio.timeout(CLEAN_UP_SECONDS):
                while isinstance(step, (Fetch, Wait)):
                    step = self._resumed(await _outcome(self._aside(step)))
        except Left:
            pass
        except (UpstreamError, TimeoutError) as error:
            log.warning("%s: cleaning up failed: %s", self.target, str(error) or "no time left")

    async def _aside(self, step: Fetch | Wait) -> Reply | None:
        if isinstance(step, Fetch):
            in_turn = self._kept > 0
            self._kept -= in_turn
            return await self._endpoint.fetch(step.http, in_turn=in_turn)
        await asyncio.sleep(step.seconds)
        return None

    # ── reading ────────────────────────────────────────────────────────────────────────────────────────

    async def _first_content(self) -> None:
        """Holds back what arrives until a client would see something of it."""
        while batch := await self._next():
            self._held += batch
            if self._request.stream and any(chunk.has_content for chunk in batch):
                return

    async def _next(self) -> list[Chunk]:
        """The chunks of the next bytes that bring some; the empty list at the end."""
        while True:
            if self._said:
                said, self._said = self._said, []
                for chunk in said:
                    self._note(chunk)
                return said
            if self._ended:
                return []
            try:
                batch = await self._arrived()
            except UpstreamError as error:
                await self._recover(error)
            else:
                if batch:
                    return batch

    async def _recover(self, error: UpstreamError) -> None:
        """Lets the conversation say what to do about a failure. Raises it when that is nothing."""
        if error is self._verdict or self._watchdog.spent or (self._begun and not self._composed):
            raise error
        await self._forget()
        await self._perform(self._resumed(error))

    async def _arrived(self) -> list[Chunk]:
        """The chunks that the next bytes complete, if any. Raises `UpstreamError`."""
        if self._broken is not None:
            raise self._broken
        if self._response is None:  # a piece was delivered, or a stream is over
            await self._perform(self._resumed(None))
            return []
        try:
            data = await self._bytes()
        except UpstreamError:
            if not self._finished or self._composed:
                raise
            data = b""  # the answer was whole: only its end mark got lost
        batch = self._decode(data)
        if not self._composed:
            self._judge(at_end=not data)
        elif not data or (batch and batch[-1].last):
            batch = await self._turned(batch)
        return batch

    async def _turned(self, batch: list[Chunk]) -> list[Chunk]:
        """The last chunks of a stream that is over, which is left: its end mark is not the answer's."""
        if self._broken is None and self._strays():
            self._broken = self._broken_off()
        if self._broken is None:
            await self._forget()
        open_ended = [msgspec.structs.replace(chunk, last=False) for chunk in batch]
        return [chunk for chunk in open_ended if chunk != _NOTHING]

    def _strays(self) -> bool:
        """Whether the bytes of a stream that were no events may be an error of their own."""
        return self._decoder.stray.strip().startswith((b"{", b"[", b"<"))

    async def _bytes(self) -> bytes:
        assert self._response is not None
        with self._watchdog:
            data = await self._response.read()
        if data:
            self._watchdog.bytes_arrived()
            self._count(len(data))
            if self.timings.first_byte is None:
                self.timings.first_byte = self._watchdog.elapsed
        return data

    def _count(self, size: int) -> None:
        """Keeps an answer that is collected for a client within bounds. Raises `UpstreamError`."""
        if not self._request.stream:
            self._size += size
            if self._size > MAX_BODY:
                raise UpstreamError(ErrorKind.BAD_RESPONSE, f"the answer is larger than {MAX_BODY} bytes")

    def _decode(self, data: bytes) -> list[Chunk]:
        """The chunks that `data` completes; an empty `data` is the end of the body."""
        batch: list[Chunk] = []
        try:
            with understood():
                for event in self._decoder.feed(data) if data else self._decoder.close():
                    if not event.data.isascii():
                        event.data.decode()  # clients fail on bytes that are no UTF-8, wherever they stand
                    chunk = self._read_event(event)
                    if chunk is not None:
                        batch.append(chunk)
                        self._note(chunk)
                        if chunk.last:
                            break
        except UpstreamError as error:
            self._broken = error
        return batch

    def _judge(self, *, at_end: bool) -> None:
        """Whether a plain call's answer is over, and whether it is whole then."""
        if self._finished and self._broken is not None:
            self._ended = True  # nonsense after a whole answer takes nothing from it
        elif (self._ended or at_end) and not self._finished:
            self._ended = False
            self._broken = self._broken or self._broken_off()
        elif at_end:
            self._ended = True

    def _note(self, chunk: Chunk) -> None:
        if chunk.usage is not None:
            self.usage = chunk.usage
        if chunk.finish_reason is not None:
            self._finished = True
        if chunk.last and not self._following:
            self._ended = True
        if chunk.has_content:
            self._watchdog.content_arrived()
            if self.timings.first_token is None:
                self.timings.first_token = self._watchdog.elapsed

    async def _whole(self) -> Chunk:
        """The answer that is not a stream, as its one chunk."""
        body = await read_all(self._bytes, MAX_BODY)
        with understood():
            if not body.isascii():
                body.decode()
            return self._endpoint.provider.parse_response(body, self._request)

    def _broken_off(self) -> UpstreamError:
        """An end without a finish reason: an error that is no event, or the middle of an answer."""
        if self._response is not None and self._strays():
            stray = self._decoder.stray.strip()
            return self._endpoint.provider.parse_error(200, self._response.headers, stray)
        return UpstreamError(ErrorKind.INTERRUPTED, "the answer broke off before it was finished")

    def _failed(self, error: UpstreamError) -> UpstreamError:
        """`error`, told as the provider's; when nothing was sent, the gateway itself refused."""
        self._endpoint.named(error)
        if self._sent:
            error.conclusive = error is self._verdict or (self._composed and self._watchdog.spent)
            self._record(error)
        else:
            error.hop = "gateway"
        return error


@contextmanager
def sayable() -> Iterator[None]:
    """Turns what a body raises that could be decoded, but not be said anew, into `UpstreamError`."""
    try:
        yield
    except RecursionError:
        raise _unsayable("the request is nested too deeply", "messages") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _unsayable(f"the request has a value that cannot be read: {error}", None) from None


def _unsayable(message: str, param: str | None) -> UpstreamError:
    return UpstreamError(ErrorKind.BAD_REQUEST, message, param=param)


async def _outcome(doing: Awaitable[Reply | None]) -> Reply | UpstreamError | None:
    """What `doing` ends with, a failure as a value."""
    try:
        return await doing
    except UpstreamError as error:
        return error


def _check_type(http: HttpRequest, response: Response) -> None:
    """Raises `UpstreamError` for a body that cannot be what was asked for.

    No type at all is let pass, and so is JSON for a stream: an error may be in it, which is read as one.
    """
    found = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_json = found == "application/json" or found.endswith("+json")
    if found and not is_json and found != "text/event-stream":
        raise UpstreamError(ErrorKind.BAD_RESPONSE, f"answered with {found} instead of its API's format")
    if not http.stream and found == "text/event-stream":
        raise UpstreamError(ErrorKind.BAD_RESPONSE, "answered with a stream that was not asked for")


async def _drain(response: Response) -> None:
    """Reads what may follow the end mark, so that the connection can be used again."""
    with suppress(TimeoutError, UpstreamError):
        async with asyncio.timeout(DRAIN_SECONDS):
            for _ in range(MAX_DRAINED_READS):
                if not await response.read():
                    return
