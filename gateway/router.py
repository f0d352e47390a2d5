"""The router: from a model's name to an answer.

A name stands for a plan, an ordered list of targets, which are asked until one begins to answer: in which
order, how often and after which pauses says `resilience.retry`. Every attempt starts from the client's own
request. What a failure may do stands in `errors.POLICY`. The policies of a single target (limits, keys,
breaker) wrap its `Open` before it gets here.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
from msgspec import Struct

from .chat import ChatRequest
from .embeddings import EmbeddingsRequest
from .errors import ErrorKind, RequestError, UpstreamError
from .exchange import CALLER, NOBODY, Caller, Embed, Embedded, Exchange, Look, Open, Target
from .providers.base import Capabilities, Feature, Provider, needs
from .resilience.clock import Clock, SystemClock
from .resilience.deadline import Deadline
from .resilience.retry import Attempts, GiveUp, Next, RetryBudget, RetryPolicy

log = logging.getLogger("gateway.router")

AUTO = "auto"
TOTAL = 600.0
"""Seconds that a request may take, attempts, pauses and queues together, when nobody says otherwise."""
SOON = 1.0
"""Seconds: targets whose waits differ by less are taken in their order of priority."""
MODEL_NAME = re.compile(r"[A-Za-z0-9._:/@+-]{1,256}")
"""What a model's name may look like, here and in the paths and headers it gets into."""


async def _no_wait(_request: ChatRequest) -> float:
    return 0.0


class Member(Struct, frozen=True, kw_only=True):
    """A provider as the router sees it. `off` is why it cannot be called, None when it can.

    `eta` is how many seconds a request would wait for its limits; `embed` is None without embeddings.
    `default_model` makes it a target of `auto`.
    """

    name: str
    provider: Provider
    open: Open
    preview: Look
    eta: Callable[[ChatRequest], Awaitable[float]] = _no_wait
    capabilities: Callable[[str], Capabilities]
    embed: Embed | None = None
    off: str | None = None
    default_model: str | None = None


class Router:
    """Members in order of priority, named routes, and what models fail over to by their full names.

    `windows` are context windows in tokens by full names, `past_auth` the routes that go on after a refused
    key, `total` is how many seconds a request may take, attempts, pauses and queues together.
    """

    def __init__(
        self,
        members: Sequence[Member],
        routes: Mapping[str, Sequence[Target]] | None = None,
        failover: Mapping[str, Sequence[Target]] | None = None,
        *,
        retry: RetryPolicy | None = None,
        clock: Clock | None = None,
        windows: Mapping[str, int] | None = None,
        past_auth: Collection[str] = (),
        total: float = TOTAL,
    ) -> None:
        self.members = {member.name: member for member in members}
        self.routes = dict(routes or {})
        self._failover = dict(failover or {})
        self._retry = retry or RetryPolicy()
        self._clock = clock or SystemClock()
        self._windows = dict(windows or {})
        self._past_auth = frozenset(past_auth)
        self._total = total
        self._budgets = {name: RetryBudget() for name in self.members}
        self._aliases = {alias: m.name for m in members for alias in m.provider.aliases}

    def __repr__(self) -> str:
        on = [name for name, member in self.members.items() if member.off is None]
        return f"<Router {' '.join(on)}; routes {' '.join(self.routes) or 'none'}>"

    @asynccontextmanager
    async def open(self, request: ChatRequest, caller: Caller = NOBODY) -> AsyncIterator[Exchange]:
        """An answer from the first target that gives one. Raises `RequestError` and `UpstreamError`."""
        plan = self.able(self.plan(request.model), request)
        latest = self._clock.now() + self._total
        if caller.deadline is None or caller.deadline > latest:
            caller = msgspec.structs.replace(caller, deadline=latest, is_hasty=False)
        async with AsyncExitStack() as stack:
            token = CALLER.set(caller)  # for the time of opening: leaving may happen in another context
            try:
                exchange = await self._first(stack, plan, request, caller)
            finally:
                CALLER.reset(token)
            yield exchange

    async def embed(self, request: EmbeddingsRequest) -> Embedded:
        """Vectors from the one target that embeds for this name. Raises `RequestError` and `UpstreamError`.

        Nothing fails over: vectors of another model cannot be compared with those that a client has.
        """
        target = self._embedding_target(request.model)
        member = self.members[target.provider]
        if member.embed is None:
            raise RequestError(ErrorKind.UNSUPPORTED, f"{member.name} has no embeddings", param="model")
        if member.off is not None:
            raise _no_model(f"{target} cannot be called: {member.off}")
        try:
            return await member.embed(msgspec.structs.replace(request, model=target.model))
        except UpstreamError as error:
            raise last_word([(target, error)]) from error.__cause__

    def _embedding_target(self, name: str) -> Target:
        """The target of `name`; of a route, the first that has embeddings. Raises `RequestError`."""
        if name == AUTO and name not in self.routes:
            message = "'auto' has no embeddings, since vectors of several models do not mix: name one model"
            raise RequestError(ErrorKind.UNSUPPORTED, message, param="model")
        plan = self.plan(name)
        if name not in self.routes:
            return plan[0]
        for target in plan:
            if self.members[target.provider].embed is not None:
                return target
        message = f"no target of '{name}' has embeddings"
        raise RequestError(ErrorKind.UNSUPPORTED, message, param="model")

    def plan(self, name: str, *, with_off: bool = False) -> list[Target]:
        """The targets that `name` stands for, in order. Raises `RequestError` when there are none.

        `auto` stands for those that are on; `with_off` adds the others, for people to see.
        """
        if MODEL_NAME.fullmatch(name) is None:
            raise _no_model(f"{name[:80]!r} cannot be the name of a model")
        if name in self.routes:
            return list(self.routes[name])
        if name == AUTO:
            return self._auto(with_off=with_off)
        target = self.target(name)
        return [target, *self._failover.get(str(target), ())]

    def target(self, name: str) -> Target:
        """The one target of `provider/model`, or of a bare name that has a home. Raises `RequestError`."""
        prefix, slash, model = name.partition("/")
        member = self.members.get(self._aliases.get(prefix, prefix)) if slash and model else None
        if member is not None:
            return Target(member.name, model)
        home = next((m for m in self.members.values() if _is_home(m.provider, name)), None)
        if home is not None:
            return Target(home.name, name)
        raise _no_model(f"there is no model {name!r}: name it as provider/model, with one of {self._on()}")

    def able(self, plan: Sequence[Target], request: ChatRequest) -> list[Target]:
        """The targets of `plan` that are on and have what the request needs. Raises when none has."""
        required = needs(request)
        targets, refusals = [], []
        for target in plan:
            refusal = self.refusal(target, required)
            if refusal is None:
                targets.append(target)
            else:
                refusals.append(refusal)
        if not targets:
            raise _nobody(refusals, is_route=len(plan) > 1 or request.model in self.routes)
        return targets

    def _auto(self, *, with_off: bool) -> list[Target]:
        targets = [
            Target(m.name, m.default_model)
            for m in self.members.values()
            if m.default_model is not None and (with_off or m.off is None)
        ]
        if targets:
            return targets
        keys = [
            " or ".join(m.provider.key_names)
            for m in self.members.values()
            if m.provider.key_names and m.provider.spontaneous
        ]
        raise RequestError(
            ErrorKind.UNAVAILABLE,
            f"'auto' has no provider with a key: set {', '.join(keys)}, or ask for demo models by name",
            param="model",
        )

    def refusal(self, target: Target, required: Mapping[Feature, str]) -> RequestError | None:
        """Why `target` would be passed over for a request with these needs, None when it would be asked."""
        off = self.members[target.provider].off
        if off is not None:
            return _no_model(f"{target} cannot be called: {off}")
        return self.lack(target, required)

    def lack(self, target: Target, required: Mapping[Feature, str]) -> RequestError | None:
        """What `target` cannot do of `required`, None when it can do everything."""
        member = self.members[target.provider]
        able = member.capabilities(target.model).features
        for feature, param in required.items():
            if feature not in able:
                words = _FEATURE_WORDS[feature]
                return RequestError(
                    ErrorKind.UNSUPPORTED, f"{target} cannot take {words} ('{param}')", param=param
                )
        return None

    async def _first(
        self, stack: AsyncExitStack, plan: list[Target], request: ChatRequest, caller: Caller
    ) -> Exchange:
        """The first answer that begins, in the order and at the pace that `Attempts` says."""
        if len(plan) > 1:
            plan = await self._by_wait(plan, request)
        now = self._clock.now
        assert caller.deadline is not None
        attempts = Attempts(
            len(plan),
            self._retry,
            Deadline(caller.deadline),
            random=self._clock.random,
            repeats=caller.repeats,
            budget_of=lambda i: self._budgets[plan[i].provider],
            may_follow=lambda error, i: self._may_follow(request.model, plan[step.index], error, plan[i]),
        )
        step = attempts.first(now())
        while True:
            if step.delay > 0:
                await self._clock.sleep(step.delay)
            target, began = plan[step.index], now()
            attempt = msgspec.structs.replace(request, model=target.model)
            try:
                exchange = await stack.enter_async_context(self.members[target.provider].open(attempt))
            except UpstreamError as error:
                following = attempts.after(error, now(), took=now() - began)
                if isinstance(following, GiveUp):
                    raise _verdict(plan, attempts, following) from error.__cause__
                _tell(plan, step, following, error)
                step = following
            else:
                exchange.attempts = attempts.tried
                return exchange

    def _may_follow(self, name: str, failed: Target, error: UpstreamError, target: Target) -> bool:
        """Whether `target` may be asked after `failed` failed with `error`, for a request for `name`."""
        if error.kind is ErrorKind.CONTEXT_LENGTH:
            small, large = self.window(failed), self.window(target)
            return large is not None and (small is None or large > small)
        return error.failover or (error.kind is ErrorKind.AUTH and name in self._past_auth)

    def window(self, target: Target) -> int | None:
        """The context window of `target` in tokens: as set, as the provider tells, as our table says."""
        known = self.members[target.provider].capabilities(target.model).context_window
        return self._windows.get(str(target), known)

    async def _by_wait(self, plan: list[Target], request: ChatRequest) -> list[Target]:
        """The targets by how long each would have to wait for its limits; within a second, as they stand."""
        waits = [
            await self.members[t.provider].eta(msgspec.structs.replace(request, model=t.model)) for t in plan
        ]
        soon = min(waits) + SOON
        order = sorted(range(len(plan)), key=lambda i: waits[i] if waits[i] > soon else 0.0)
        return [plan[i] for i in order]

    def _on(self) -> str:
        return ", ".join(name for name, member in self.members.items() if member.off is None)


_FEATURE_WORDS: dict[Feature, str] = {
    "tools": "tools",
    "custom_tools": "custom tools",
    "images": "images",
    "files": "files",
    "audio": "audio",
    "audio_output": "a wish for audio",
    "json_schema": "a JSON schema",
    "n": "several choices",
}


def _is_home(provider: Provider, name: str) -> bool:
    return provider.owns is not None and provider.owns.match(name) is not None


def _no_model(message: str) -> RequestError:
    return RequestError(ErrorKind.NOT_FOUND, message, param="model")


def _nobody(refusals: list[RequestError], *, is_route: bool) -> RequestError:
    """Why no target of a plan can be asked: the one reason, or all of them."""
    if not is_route or len(refusals) == 1:
        return refusals[0]
    reasons = "; ".join(refusal.message for refusal in refusals)
    unsupported = next((r for r in refusals if r.kind is ErrorKind.UNSUPPORTED), None)
    kind = ErrorKind.UNAVAILABLE if unsupported is None else ErrorKind.UNSUPPORTED
    param = (unsupported or refusals[0]).param
    return RequestError(kind, f"no target can serve this: {reasons}", param=param)


def _tell(plan: list[Target], step: Next, following: Next, error: UpstreamError) -> None:
    """A line for each repetition and each failover, with its reason."""
    before, after = plan[step.index], plan[following.index]
    what = f"retry of {after}" if before == after else f"failover from {before} to {after}"
    log.warning(
        "%s in %.2f s (%s): %s (%s)", what, following.delay, following.reason, error.message, error.kind
    )


def _verdict(plan: Sequence[Target], attempts: Attempts, end: GiveUp) -> UpstreamError:
    """What the client is told when no attempt comes any more."""
    failures = [(plan[failure.index], failure.error) for failure in attempts.failures]
    error = last_word(failures, end.error_index)
    error.attempts = max(attempts.tried, 1)
    if end.retry_after is not None:
        error.retry_after = end.retry_after
    return error


def last_word(failures: list[tuple[Target, UpstreamError]], told: int = -1) -> UpstreamError:
    """The failure that is told, as its provider told it, with what else was tried."""
    error = failures[told][1]
    error.attempts = len(failures)
    others = [f"{target}: {other.code or other.kind}" for target, other in failures if other is not error]
    if others:
        error.message = f"{error.message} (tried before: {', '.join(others)})"
    return error
