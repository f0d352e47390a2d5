"""Chat requests as Anthropic's `POST /v1/messages`.

The body is built from what is understood, never from leftovers: the API refuses fields that it does not
know. A field that the model cannot take is left out or brought within its bounds, and named in `dropped`.
Follows "Messages", "Extended thinking", "Effort" and "Structured outputs" of Anthropic's API reference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from ...chat import ChatRequest, Json
from ..base import (
    EFFORTS,
    HttpRequest,
    Options,
    dropped,
    json_body,
    refuse_several_and_audio,
    tool_wish,
    top_k,
    unsupported,
)
from .messages import Conversation, ended, translate
from .models import BUDGETS, MIN_BUDGET, family
from .parts import EPHEMERAL, text_block
from .schema import Grammar
from .tools import Choice, ToolNames, choose, declare

PATH = "/v1/messages"

IGNORES = frozenset(
    (
        "messages.name",
        "messages.image_url.detail",
        "messages.prompt_cache_breakpoint",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "metadata",
        "moderation",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "seed",
        "store",
        "top_logprobs",
        "verbosity",
    )
)
"""Fields that the API has no place for, whatever the model."""

LARGE = 21_333
"""Answers that may be longer, in tokens, take over ten minutes: they are always streamed."""
NO_SAMPLING_SINCE = "2026-10-21"
"""The API version from which on no model takes sampling parameters."""

SERVICE_TIERS = {"auto": "auto", "default": "standard_only"}
LEAST_THINKING: dict[str, Json] = {  # what "none" is said as; for the others it is their default
    "always": {"output_config": {"effort": "low"}},
    "switchable": {"thinking": {"type": "disabled"}},
    "between_tools": {"thinking": {"type": "between_tools"}},
}
JSON_ONLY = "Respond only with a single JSON object, without a code fence or any other text around it."
SCHEMA_ONLY = (
    "Respond only with a single JSON value that matches the JSON schema below, without a code fence or any"
    " other text around it.\n"
)
_MAX_CACHE_MARKS = 4


class AnthropicOptions(Options, frozen=True, forbid_unknown_fields=True):
    """`version`: the version of the API; from 2026-10-21 on no model takes sampling parameters
    `beta`: names of betas to take part in
    `automatic_cache`: whether the API caches every prompt by itself
    """

    version: str = "2023-06-01"
    beta: tuple[str, ...] = ()
    automatic_cache: bool = False

    def headers(self) -> dict[str, str]:
        """The headers of every call; an empty list of betas would be refused."""
        beta = ",".join(dict.fromkeys(name.strip() for name in self.beta if name.strip()))
        return {"anthropic-version": self.version, **({"anthropic-beta": beta} if beta else {})}


class _Draft:
    """A body in the making, and which of the request's fields it could not take as they are."""

    def __init__(self, request: ChatRequest, options: AnthropicOptions) -> None:
        self.request, self.options = request, options
        self.kin = family(request.model)
        self.names = ToolNames(request)
        self.grammar = Grammar()
        self.body: Json = {"model": request.model}
        self.lost: list[str] = []
        self.instructions: list[str] = []
        self.choice = Choice()
        self.conversation: Conversation = translate(request, self.names)

    @property
    def max_tokens(self) -> int:
        return int(self.body["max_tokens"])

    @property
    def thinking(self) -> str | None:
        """The type of thinking that is asked for."""
        kind: str | None = self.body.get("thinking", {}).get("type")
        return kind


def build_request(request: ChatRequest, options: AnthropicOptions | None = None) -> HttpRequest:
    """The native request. Raises `UpstreamError` for what the API has no words for."""
    options = options or AnthropicOptions()
    refuse_several_and_audio(request)
    draft = _Draft(request, options)
    for step in _STEPS:
        step(draft)
    # top_k is no field of OpenAI's, so it counts as unknown even when it was understood
    lost = [name for name in dropped(request, IGNORES) if name != "top_k" or name not in draft.body]
    return HttpRequest(
        path=PATH,
        headers=options.headers(),
        body=json_body(draft.body),
        stream="stream" in draft.body,
        dropped=tuple(dict.fromkeys([*lost, *draft.lost])),
    )


# ── the steps, in order: later ones look at what earlier ones have put into the body ───────────────────


def _limit(draft: _Draft) -> None:
    kin, request = draft.kin, draft.request
    wanted = request.max_output_tokens
    limit = kin.default_output if wanted is None else wanted
    if kin.max_output is not None and limit > kin.max_output:
        limit = kin.max_output
        draft.lost.append("max_tokens" if request.max_completion_tokens is None else "max_completion_tokens")
    draft.body["max_tokens"] = limit
    if request.stream or limit > LARGE:
        draft.body["stream"] = True


def _answer_form(draft: _Draft) -> None:
    form = draft.request.response_format
    if form is None or form.type == "text":
        return
    schema = form.json_schema.schema if form.json_schema else None
    if form.type not in ("json_object", "json_schema"):
        raise unsupported(f"response_format '{form.type}' is not supported", "response_format.type")
    if form.type == "json_object" or schema is None:
        draft.instructions.append(JSON_ONLY)
        return
    compiled = draft.grammar.answer(schema) if draft.kin.schemas else None
    if compiled is not None:
        draft.body["output_config"] = {"format": {"type": "json_schema", "schema": compiled}}
    else:
        draft.instructions.append(SCHEMA_ONLY + json_body(schema).decode())
        draft.lost.append("response_format")


def _tools(draft: _Draft) -> None:
    wish = tool_wish(draft.request)
    tools = declare(draft.request, wish, draft.names, draft.kin, draft.grammar)
    draft.choice = choose(draft.request, wish, tools, draft.names, draft.kin)
    if tools.declared:
        draft.body["tools"] = tools.declared
    if draft.choice.native:
        draft.body["tool_choice"] = draft.choice.native
    if draft.choice.instruction:
        draft.instructions.append(draft.choice.instruction)
    draft.lost += tools.lost
    if draft.choice.lost:
        draft.lost.append("tool_choice")


def _thinking(draft: _Draft) -> None:
    effort, kin = draft.request.reasoning_effort, draft.kin
    if effort is None:
        return
    if effort == "none":
        draft.body = _with(draft.body, LEAST_THINKING.get(kin.thinking, {}))
        changed = kin.thinking == "always"
    elif effort not in EFFORTS or kin.thinking == "never":
        changed = True
    else:
        changed = _think(draft, effort)
    if changed:
        draft.lost.append("reasoning_effort")


def _think(draft: _Draft, effort: str) -> bool:
    """Asks for thinking with `effort`; returns whether that is something else than was wanted."""
    kin = draft.kin
    added: Json = {}
    changed = False
    if kin.efforts:
        added["output_config"] = {"effort": kin.effort(effort)}
        changed = kin.effort(effort) != effort
    if kin.thinking != "budget":
        added["thinking"] = {"type": "adaptive", **({"display": "summarized"} if kin.hides else {})}
    elif (budget := _budget(effort, draft.max_tokens)) >= MIN_BUDGET and _may_think(draft):
        added["thinking"] = {"type": "enabled", "budget_tokens": budget}
    else:
        changed = True
    draft.body = _with(draft.body, added)
    return changed


def _budget(effort: str, max_tokens: int) -> int:
    """Tokens to think with: a quarter of the limit is for the answer, unless too few are left to think."""
    return min(BUDGETS[effort], max(MIN_BUDGET, max_tokens * 3 // 4), max_tokens - 1)


def _may_think(draft: _Draft) -> bool:
    """Whether thinking by budget goes together with the rest: what it forbids was asked for outright."""
    said = draft.conversation
    return not (draft.choice.is_forced or said.ends_with_assistant or said.lacks_thinking)


def _with(body: Json, added: Json) -> Json:
    config = {**body.get("output_config", {}), **added.get("output_config", {})}
    return {**body, **added, **({"output_config": config} if config else {})}


def _sampling(draft: _Draft) -> None:
    """Of temperature and top_p a model takes one; while it thinks, hardly any."""
    takes_any = draft.kin.sampling and draft.options.version < NO_SAMPLING_SINCE
    thinks = draft.thinking in ("adaptive", "enabled")
    temperature, top_p = draft.request.temperature, draft.request.top_p
    sent: Json = {}
    if takes_any and not thinks:
        if temperature is not None:
            sent["temperature"] = min(temperature, 1.0)
        if (most := top_k(draft.request)) is not None:
            sent["top_k"] = most
    if takes_any and top_p is not None and "temperature" not in sent and (not thinks or top_p >= 0.95):
        sent["top_p"] = top_p
    draft.body |= sent
    for name, value in (("temperature", temperature), ("top_p", top_p)):
        if value not in (None, 1, sent.get(name)):  # 1 is the default: nothing is lost without it
            draft.lost.append(name)


def _stop(draft: _Draft) -> None:
    stops = [stop for stop in draft.request.stop_list if stop.strip()]
    if stops:
        draft.body["stop_sequences"] = stops
    if any(stop and not stop.strip() for stop in draft.request.stop_list):
        draft.lost.append("stop")


def _account(draft: _Draft) -> None:
    request = draft.request
    if who := request.safety_identifier or request.user:
        # It must not tell who the person is, and nobody knows what clients put in here.
        digest = hashlib.sha256(who.encode("utf-8", "replace")).hexdigest()
        draft.body["metadata"] = {"user_id": digest}
    tier = request.service_tier
    if tier in SERVICE_TIERS:
        draft.body["service_tier"] = SERVICE_TIERS[tier]
    elif tier is not None:
        draft.lost.append("service_tier")


def _say(draft: _Draft) -> None:
    system = [*draft.conversation.system, *map(text_block, draft.instructions)]
    if system:
        draft.body["system"] = system
    draft.body["messages"] = ended(draft.conversation, prefill=draft.kin.prefill)


def _cache(draft: _Draft) -> None:
    """Of too many marks the last ones stay: what they cover, the earlier ones cover in part."""
    marked = [block for block in _markable(draft.body) if "cache_control" in block]
    for block in marked[:-_MAX_CACHE_MARKS]:
        del block["cache_control"]
    if len(marked) > _MAX_CACHE_MARKS:
        draft.lost.append("cache_control")
    elif draft.options.automatic_cache and len(marked) < _MAX_CACHE_MARKS:
        draft.body["cache_control"] = EPHEMERAL


def _markable(body: Json) -> Iterator[Json]:
    """What may carry a mark, in the order of the prompt."""
    yield from body.get("tools", ())
    yield from body.get("system", ())
    for block in (block for message in body["messages"] for block in message["content"]):
        if isinstance(inner := block.get("content"), list):
            yield from inner
        yield block


_STEPS: tuple[Callable[[_Draft], None], ...] = (
    _limit,
    _answer_form,
    _tools,
    _thinking,
    _sampling,
    _stop,
    _account,
    _say,
    _cache,
)
