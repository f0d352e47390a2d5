"""What is sent to Cursor: the request that makes an agent, and the small ones around its run.

An agent has no sampling, no limits, no tools of the caller's and no output format: what a chat request says
of these is dropped by name, or refused where the answer would be another one without it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from ...chat import ChatRequest, Json
from ..base import (
    HttpRequest,
    Options,
    dropped,
    json_body,
    refuse_several_and_audio,
    unsupported,
)
from . import prompt
from .models import UNNAMED, Listed, parameters

AGENTS = "/v1/agents"
NOBODY = "00000000-0000-0000-0000-000000000000"
"""What stands for the random part of an agent's id where no agent is made."""
NAME = "gw"
"""How the names of our agents begin, on Cursor's dashboard."""
CALLS_PER_MINUTE = 20

IGNORES = frozenset(
    (
        "messages.name",
        "messages.image_url.detail",
        "messages.cache_control",
        "messages.prompt_cache_breakpoint",
        "temperature",
        "top_p",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "seed",
        "stop",
        "max_tokens",
        "max_completion_tokens",
        "reasoning_effort",  # unless the model has a parameter for it
        "verbosity",
        "user",
        "safety_identifier",
        "metadata",
        "store",
        "service_tier",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_retention",
        "prompt_cache_options",
        "moderation",
    )
)


class CursorOptions(Options, frozen=True, forbid_unknown_fields=True):
    """`mode`: what agents are started as: `agent` answers, `plan` tends to draft plans
    `preamble`: whether a written-out conversation begins with the advice to answer in text alone
    `cleanup`: what becomes of an agent after its answer: `archive`, `delete` or `keep`
    `calls_per_minute`: calls of all kinds that the account may make, from 5 on; a chat takes four at once
    `repository`: the address of a repository to work in, for accounts that allow no agent without one
    """

    mode: Literal["agent", "plan"] = "agent"
    preamble: bool = True
    cleanup: Literal["archive", "delete", "keep"] = "archive"
    calls_per_minute: Annotated[int, Meta(ge=5)] = CALLS_PER_MINUTE
    repository: str | None = None


DEFAULTS = CursorOptions()


# ── the request that makes an agent ────────────────────────────────────────────────────────────────────


def build_request(
    request: ChatRequest,
    options: CursorOptions = DEFAULTS,
    *,
    nonce: str = NOBODY,
    model: Listed | None = None,
) -> HttpRequest:
    """The request that makes an agent of the id `agent_id(nonce)` and starts its run.

    `model` is what the list says of the model, None when nobody has asked. Raises `UNSUPPORTED`.
    """
    _refuse(request)
    params, said = parameters(request, model)
    lost = [name for name in dropped(request, IGNORES) if name not in said]
    if request.tool_choice not in (None, "none", "auto") and not request.tools:
        lost.append("tool_choice")
    agent = agent_id(nonce)
    body: Json = {"agentId": agent, "name": f"{NAME} {nonce[:8]}", "mode": options.mode}
    if request.model not in UNNAMED:
        body["model"] = {"id": model.id if model else request.model}
        body["model"] |= {"params": params} if params else {}
    body["prompt"] = {"text": prompt.text(request, preamble=options.preamble)}
    if images := prompt.images(request, lost):
        body["prompt"]["images"] = images
    if options.repository is not None:
        body |= {"repos": [{"url": options.repository}], "autoCreatePR": False}
    return HttpRequest(
        path=AGENTS,
        headers={"idempotency-key": agent},
        body=json_body(body),
        dropped=tuple(dict.fromkeys(lost)),
    )


def _refuse(request: ChatRequest) -> None:
    """Raises `UNSUPPORTED` for what cannot be left out."""
    if request.tools and request.tool_choice != "none":
        raise unsupported("an agent has tools of its own and cannot be given any", "tools")
    refuse_several_and_audio(request)
    form = request.response_format
    if form is not None and form.type != "text":
        raise unsupported(f"response_format '{form.type}' is not supported", "response_format")
    if request.logprobs:
        raise unsupported("log probabilities are not supported", "logprobs")
    if request.web_search_options is not None:
        raise unsupported("web_search_options are not supported", "web_search_options")


# ── the requests around a run ──────────────────────────────────────────────────────────────────────────


def agent_id(nonce: str) -> str:
    """An id that we choose: to make the same agent twice is refused, so that every call may be repeated."""
    return f"bc-{nonce}"


def get_agent(agent: str) -> HttpRequest:
    return HttpRequest(method="GET", path=f"{AGENTS}/{agent}")


def get_run(agent: str, run: str) -> HttpRequest:
    return HttpRequest(method="GET", path=_run_path(agent, run))


def stream_run(agent: str, run: str, after: str, dropped: tuple[str, ...]) -> HttpRequest:
    """The events of a run: those that came after the event with the id `after`, all when it is empty."""
    return HttpRequest(
        method="GET",
        path=f"{_run_path(agent, run)}/stream",
        headers={"last-event-id": after} if after else {},
        stream=True,
        dropped=dropped,
    )


def get_usage(agent: str, run: str) -> HttpRequest:
    return HttpRequest(method="GET", path=f"{AGENTS}/{agent}/usage?runId={run}")


def cancel_run(agent: str, run: str) -> HttpRequest:
    return HttpRequest(path=f"{_run_path(agent, run)}/cancel")


def clean_up(agent: str, cleanup: str) -> HttpRequest | None:
    """The request that clears an agent away, None when it is kept."""
    return {
        "archive": HttpRequest(path=f"{AGENTS}/{agent}/archive"),
        "delete": HttpRequest(method="DELETE", path=f"{AGENTS}/{agent}"),
    }.get(cleanup)


def _run_path(agent: str, run: str) -> str:
    return f"{AGENTS}/{agent}/runs/{run}"
