"""What would be sent for a request, to whom and why, without calling anyone.

Everything is asked of the router and of the targets' own previews: nothing about providers is known here.
The same explanation answers `x-gateway-explain: 1` as JSON and `gateway explain` as text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Literal, TypeAlias

import msgspec
from msgspec import Raw, Struct

from .chat import ChatRequest, Json
from .errors import GatewayError, RequestError, UpstreamError
from .exchange import Look, Preview, Target
from .providers.base import Feature, needs
from .router import AUTO, Router, last_word

Kind: TypeAlias = Literal["model", "bare name", "route", "auto"]
"""What the model's name is: `provider/model`, a name that has a home, a route of the settings, `auto`."""

Outcome: TypeAlias = Literal["called", "failover", "skipped", "refused", "unreached"]
"""What becomes of a target: called first; called when those before it fail; passed over by the router; not
called because the request cannot be said in its API; never come to, since a refusal before it ends it."""


class NativeRequest(Struct, frozen=True, omit_defaults=True):
    """The call as it would leave. Secrets in `headers` are `***`; `body` is exact."""

    method: str
    url: str
    headers: dict[str, str]
    body: Raw | None = None


class TargetPlan(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One target of the plan. Sizes in tokens; `error` is in OpenAI's shape.

    A target that is skipped for want of a key has its `request` all the same.
    """

    target: str
    outcome: Outcome
    reason: str | None = None
    context_window: int | None = None
    max_output_tokens: int | None = None
    dropped: tuple[str, ...]
    request: NativeRequest | None = None
    error: Json | None = None


class Explanation(
    Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="object", tag="explanation"
):
    """The plan for one request. `error` is what the client would get when no target can be called."""

    model: str
    kind: Kind
    stream: bool
    strict: bool
    targets: list[TargetPlan]
    error: Json | None = None


def explain(router: Router, request: ChatRequest) -> Explanation:
    """What `router.open(request)` would do. Raises the same `RequestError` for a name that nobody has."""
    required = needs(request)
    targets: list[TargetPlan] = []
    refusals: list[tuple[Target, UpstreamError]] = []
    is_called = is_over = False
    for target in router.plan(request.model, with_off=True):
        found, refusal = _look(router, target, request, required)
        if found.outcome == "called" and (is_called or is_over):
            found = msgspec.structs.replace(found, outcome="unreached" if is_over else "failover")
        elif refusal is not None and not (is_called or is_over):
            refusals.append((target, refusal))
            is_over = not refusal.failover
        is_called = is_called or found.outcome == "called"
        targets.append(found)
    return Explanation(
        model=request.model,
        kind=_kind(router, request.model),
        stream=bool(request.stream),
        strict=request.strict,
        targets=targets,
        error=None if is_called else _shape(_verdict(router, request, refusals)),
    )


def _look(
    router: Router, target: Target, request: ChatRequest, required: Mapping[Feature, str]
) -> tuple[TargetPlan, UpstreamError | None]:
    """The target by itself; and its refusal, when it would be asked and cannot say the request."""
    member = router.members[target.provider]
    passed_over, lack = router.refusal(target, required), router.lack(target, required)
    attempt = msgspec.structs.replace(request, model=target.model)
    seen, refusal = (None, None) if lack is not None else _preview(member.preview, attempt)
    error = lack or refusal
    outcome: Outcome = "called" if error is None else "refused"
    reason = None if error is None else error.message
    if passed_over is not None:
        outcome, reason = "skipped", member.off or passed_over.message
    size = member.capabilities(target.model)
    plan = TargetPlan(
        target=str(target),
        outcome=outcome,
        reason=reason,
        context_window=size.context_window,
        max_output_tokens=size.max_output,
        dropped=seen.dropped if seen else (),
        request=_native(seen) if seen and refusal is None else None,
        error=_shape(error),
    )
    return plan, refusal if passed_over is None else None


def _preview(look: Look, attempt: ChatRequest) -> tuple[Preview | None, UpstreamError | None]:
    """What would be sent, or why it is not; both, when only a strict client does not want it so."""
    try:
        return look(attempt), None
    except UpstreamError as refusal:
        if attempt.strict:
            return _preview(look, msgspec.structs.replace(attempt, strict=False))[0], refusal
        return None, refusal


def _native(seen: Preview) -> NativeRequest:
    return NativeRequest(seen.method, seen.url, seen.headers, Raw(seen.body) if seen.body else None)


def _shape(error: GatewayError | None) -> Json | None:
    if error is None:
        return None
    shape: Json = error.body()["error"]
    return shape


def _verdict(
    router: Router, request: ChatRequest, refusals: list[tuple[Target, UpstreamError]]
) -> GatewayError:
    """The error that ends the request when no target is called."""
    try:
        router.able(router.plan(request.model), request)
    except RequestError as error:
        return error
    return last_word(refusals)


def _kind(router: Router, name: str) -> Kind:
    if name in router.routes:
        return "route"
    if name == AUTO:
        return "auto"
    return "bare name" if router.target(name).model == name else "model"


# ── for people ─────────────────────────────────────────────────────────────────────────────────────────

_KINDS: dict[Kind, str] = {
    "model": "one model at one provider",
    "bare name": "a bare name, which goes to its home provider",
    "route": "a route of the settings",
    "auto": "every provider that is on, in order of priority",
}
_OUTCOMES: dict[Outcome, str] = {
    "called": "called first",
    "failover": "called when those before it fail",
    "skipped": "skipped",
    "refused": "refused before anything is sent",
    "unreached": "not reached: the refusal before it ends the request",
}
_NOT_SET = " is not set"
_LONG = re.compile(r'"((?:data:[^",]{0,100},)?[A-Za-z0-9+/=_\\-]{24})[A-Za-z0-9+/=_\\-]{176,}"')
"""A string of JSON that is base64, or a data URL with it, and how it begins."""


def text(explanation: Explanation) -> str:
    """The explanation for a terminal: the plan, the first request, what is lost. Base64 is shortened."""
    stream = "streamed" if explanation.stream else "not streamed"
    strict = ", strict" if explanation.strict else ""
    more = len(explanation.targets) > 1 and explanation.kind in ("model", "bare name")
    kind = _KINDS[explanation.kind] + (", then what it fails over to" if more else "")
    lines = [f"{explanation.model}: {kind} ({stream}{strict})", ""]
    for number, plan in enumerate(explanation.targets, 1):
        lines += _rows(number, plan)
    if explanation.error is not None and len(explanation.targets) > 1:
        lines += ["", f"As things are, the answer is an error: {explanation.error['message']}"]
    shown = first_request(explanation)
    if shown is not None:
        lines += ["", f"What goes to {shown.target}", "", *_request_lines(shown)]
        lost = ", ".join(shown.dropped)
        lines += ["", f"Lost or changed on the way: {lost}" if lost else "Nothing is lost."]
    return "\n".join("".join(c if c.isprintable() else "?" for c in line) for line in lines)


def first_request(explanation: Explanation) -> TargetPlan | None:
    """The target whose request is the first to leave; without one, the first that only lacks its key."""
    shown = [plan for plan in explanation.targets if plan.request is not None]
    return next((plan for plan in shown if plan.outcome == "called"), shown[0] if shown else None)


def is_servable(explanation: Explanation, providers: Collection[str]) -> bool:
    """Whether the request can be served, now or once the keys of `providers` are there."""
    return any(
        plan.request is not None
        and (plan.outcome == "called" or (plan.outcome == "skipped" and _provider(plan) in providers))
        for plan in explanation.targets
    )


def _provider(plan: TargetPlan) -> str:
    return plan.target.partition("/")[0]


def _rows(number: int, plan: TargetPlan) -> Iterator[str]:
    sizes = ((plan.context_window, "context"), (plan.max_output_tokens, "answer"))
    known = ", ".join(f"{words} {tokens:,}" for tokens, words in sizes if tokens is not None)
    reason = plan.reason or ""
    if plan.outcome == "skipped" and reason.endswith(_NOT_SET):
        words = f"would need {reason.removesuffix(_NOT_SET)}"
    else:
        words = _OUTCOMES[plan.outcome] + (f": {reason}" if reason else "")
    yield f"{number:3}. {plan.target}  {words}"
    if known:
        yield f"     tokens: {known}"
    if plan.reason and plan.error is not None and plan.reason not in str(plan.error["message"]):
        yield f"     and: {plan.error['message']}"
    if plan.dropped:
        yield f"     would lose or change: {', '.join(plan.dropped)}"


def _request_lines(plan: TargetPlan) -> Iterator[str]:
    request = plan.request
    assert request is not None
    yield f"{request.method} {request.url}"
    yield from (f"{name}: {value}" for name, value in request.headers.items())
    if request.body is not None:
        yield ""
        yield from _LONG.sub(_shortened, msgspec.json.format(request.body, indent=2).decode()).split("\n")


def _shortened(found: re.Match[str]) -> str:
    return f'"{found[1]}…" ({len(found[0]) - 2:,} characters)'
