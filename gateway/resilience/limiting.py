"""The layer that keeps a provider's limits: a call is let through, opened, and settled however it ends.

What a call is charged when it is over stands in `charge`, which ending a failure is in `ENDINGS`, and which
refusals of a provider close the account, for how long, in `BLOCKS`. When and whether a call may go is the
account's business, what it may cost that of `estimate`.

It belongs innermost, around what sends: every attempt that leaves has to be counted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from math import isfinite

from ..chat import ChatRequest, Chunk, Usage
from ..errors import ErrorKind, UpstreamError
from ..exchange import CALLER, Exchange, Open
from .estimate import Estimates, size_of, tokens_in
from .limiter import NOTHING, Account, Cost, Reservation

ONE_CALL = Cost()
"""What a call costs where tokens are not limited."""

BLOCKS = {ErrorKind.RATE_LIMIT: 5.0, ErrorKind.QUOTA: 3600.0}
"""Refusals that close an account, and for how many seconds when the provider does not say."""
SHORTEST_BLOCK = 0.05
LONGEST_BLOCK = 3600.0


# ── what a call is charged ─────────────────────────────────────────────────────────────────────────────


class Ending(StrEnum):
    """How a call ended, for those who count."""

    WHOLE = "whole"
    """The answer was whole, and the provider said what it cost."""
    CUT = "cut"
    """It was sent, and nobody knows what it cost: cut off, lost, or without a count."""
    LEFT = "left"
    """The client left while it was answered."""
    REFUSED = "refused"
    """The provider looked at it and did no work."""
    UNSENT = "unsent"
    """Nothing left for the provider."""


_UNSENT = (ErrorKind.UNREACHABLE, ErrorKind.TLS)
_REFUSED = (
    ErrorKind.BAD_REQUEST,
    ErrorKind.UNSUPPORTED,
    ErrorKind.CONTEXT_LENGTH,
    ErrorKind.TOO_LARGE,
    ErrorKind.NOT_FOUND,
    ErrorKind.AUTH,
    ErrorKind.RATE_LIMIT,
    ErrorKind.QUOTA,
    ErrorKind.OVERLOADED,
)
ENDINGS = dict.fromkeys(_UNSENT, Ending.UNSENT) | dict.fromkeys(_REFUSED, Ending.REFUSED)
"""Failures before any content. Every other may have cost what was asked for: `Ending.CUT`."""


def charge(ending: Ending, reserved: Cost, counted: Cost | None, seen: int) -> Cost:
    """What stays charged of `reserved`. `counted` is the provider's count as far as it came, `seen` tokens
    are what the client got.

    ========  ========  =======================================  ========================================
    ending    requests  input                                    output
    ========  ========  =======================================  ========================================
    WHOLE     1         as counted                               as counted
    CUT       1         as reserved; as counted if that is more  as reserved; as seen or counted if more
    LEFT      1         as counted, else as reserved             as seen or counted, whichever is more
    REFUSED   1         0                                        0
    UNSENT    0         0                                        0
    ========  ========  =======================================  ========================================
    """
    if ending is Ending.UNSENT:
        return NOTHING
    if ending is Ending.REFUSED:
        return ONE_CALL
    if ending is Ending.WHOLE and counted is not None:
        return counted
    known = counted or NOTHING
    output = max(seen, known.output_tokens)
    if ending is Ending.LEFT:
        return Cost(1, known.input_tokens or reserved.input_tokens, output)
    return Cost(1, max(reserved.input_tokens, known.input_tokens), max(reserved.output_tokens, output))


def block_of(error: UpstreamError) -> float | None:
    """For how many seconds `error` closes the account, None when it does not."""
    usual = BLOCKS.get(error.kind)
    if usual is None or error.hop == "gateway":
        return None
    stated = error.retry_after
    seconds = usual if stated is None or not isfinite(stated) or stated < 0 else stated
    return min(LONGEST_BLOCK, max(SHORTEST_BLOCK, seconds))


# ── the layer ──────────────────────────────────────────────────────────────────────────────────────────


class _Meter:
    """What is known of one call until it is over."""

    __slots__ = ("begun", "broken", "finished", "seen", "usage")

    def __init__(self) -> None:
        self.seen = 0  # bytes
        self.begun = self.finished = False
        self.broken: UpstreamError | None = None
        self.usage: Usage | None = None

    @property
    def ending(self) -> Ending:
        if self.broken is not None and not self.begun:
            if self.broken.hop == "gateway":
                return Ending.UNSENT
            return ENDINGS.get(self.broken.kind, Ending.CUT)
        if self.finished:
            return Ending.CUT if self.usage is None else Ending.WHOLE
        return Ending.CUT if self.broken is not None else Ending.LEFT


class Metered(Exchange):
    """An exchange that is measured while it is read."""

    def __init__(self, inner: Exchange, meter: _Meter) -> None:
        self._inner = inner
        self._meter = meter
        self.attempts = inner.attempts
        self._mirror()

    def _mirror(self) -> None:
        inner = self._inner
        self.target, self.timings, self.dropped = inner.target, inner.timings, inner.dropped
        self.usage, self.limits = inner.usage, inner.limits
        self._meter.usage = inner.usage

    async def read(self) -> list[Chunk]:
        meter = self._meter
        try:
            batch = await self._inner.read()
        except UpstreamError as error:
            meter.broken = error
            raise
        finally:
            self._mirror()
        for chunk in batch:
            meter.seen += size_of(chunk)
            if chunk.finish_reason is not None or chunk.last:
                meter.finished = True
        if not batch:
            meter.finished = True
        return batch


class RateLimiting:
    """The layer around one provider's `open`: nothing leaves for it that its limits have no room for.

    `account` says which account the calls to a model go on; whose call it is, `exchange.CALLER`.
    `close` closes all accounts at once, when what is spent is spent for every model.
    """

    def __init__(
        self,
        inner: Open,
        account: Callable[[str], Account],
        estimates: Estimates | None = None,
        close: Callable[[float, str], None] | None = None,
    ) -> None:
        self._inner = inner
        self._account = account
        self._estimates = Estimates() if estimates is None else estimates
        self._close = close

    @asynccontextmanager
    async def __call__(self, request: ChatRequest) -> AsyncIterator[Exchange]:
        """The inner answer, once there is room for it. `timings.queued` says how long that took, in seconds.

        Raises `UpstreamError` of the hop "gateway" for a call that is not let through, with the seconds
        after which it would be.
        """
        account = self._account(request.model)
        caller = CALLER.get()
        reservation = await account.reserve(
            self._cost(account, request),
            deadline=caller.deadline,
            client=caller.client,
            waiting=caller.waiting,
        )
        meter = _Meter()
        try:
            async with self._inner(request) as exchange:
                meter.begun = True
                exchange.timings.queued = reservation.waited
                if exchange.limits is not None:
                    await account.sync(exchange.limits, reservation.at)
                yield Metered(exchange, meter) if account.counts_tokens else exchange
        except UpstreamError as error:
            meter.broken = error
            raise
        finally:
            await self._settle(account, reservation, request, meter)

    async def eta(self, request: ChatRequest) -> float:
        """Seconds that `request` would wait here if it came now; infinite when it could never go."""
        account = self._account(request.model)
        return await account.eta(self._cost(account, request))

    def _cost(self, account: Account, request: ChatRequest) -> Cost:
        return self._estimates.cost(request) if account.counts_tokens else ONE_CALL

    async def _settle(
        self, account: Account, reservation: Reservation, request: ChatRequest, meter: _Meter
    ) -> None:
        ending = meter.ending
        counted = None if meter.usage is None else self._estimates.spent(meter.usage)
        if ending is Ending.WHOLE and meter.usage is not None:
            self._estimates.learn(request, meter.usage)
        seconds = None if meter.broken is None else block_of(meter.broken)
        if meter.broken is not None and seconds is not None:
            reason = str(meter.broken.kind)
            if (
                self._close is not None
                and meter.broken.kind is ErrorKind.QUOTA
                and not meter.broken.is_models
            ):
                self._close(seconds, reason)
            else:
                await account.block(seconds, reason)
        await account.settle(reservation, charge(ending, reservation.cost, counted, tokens_in(meter.seen)))
