"""OpenAI's Chat Completions, and any server that speaks it.

To the same dialect almost everything is identity: the client's fields go out as they came, those that
nobody here knows included. What is changed, and why, stands in the tables below; they hold for OpenAI's
own API only, and so does the way to its Responses API (`responses`). `PROVIDER.compatible` is the variant
for everybody else's: there nothing is renamed and nothing dropped. Follows the OpenAI API reference and its
guide to reasoning models.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Raw, Struct

from ...chat import ChatRequest, Json
from ...errors import UpstreamError
from ...limits import Metering
from ..base import (
    INSIDE,
    Context,
    Conversation,
    HttpRequest,
    ModelInfo,
    ModelPage,
    Options,
    Provider,
    json_body,
    nearest_effort,
)
from . import embeddings, responses, responses_answers
from .answers import event_decoder, parse_response
from .errors import parse_error, parse_limits
from .responses_input import has_reasoning, without_reasoning

PATH = "/chat/completions"

# ── what OpenAI's own models refuse ────────────────────────────────────────────────────────────────────


class Family(NamedTuple):
    """How a family of reasoning models takes `reasoning_effort`."""

    models: str
    default: str
    efforts: tuple[str, ...]


FAMILIES = (  # the first that matches counts
    Family(r"gpt-6(\.\d+)?-astra", "medium", ("low", "medium", "high", "xhigh")),
    Family(r"gpt-6\.1-sol", "medium", ("low", "medium", "high", "xhigh", "max")),
    Family(r"gpt-5\.1", "none", ("none", "low", "medium", "high")),
    Family(r"gpt-5\.[24]", "none", ("none", "low", "medium", "high", "xhigh")),
    Family(r"gpt-5(-|$)", "medium", ("minimal", "low", "medium", "high")),
    Family(r"o\d", "medium", ("low", "medium", "high")),
    Family(r"gpt-([5-9]|\d\d)", "medium", ("none", "low", "medium", "high", "xhigh", "max")),
)
_FAMILIES = tuple((re.compile(f.models), f) for f in FAMILIES)

REFUSED_WHILE_REASONING = ("temperature", "top_p", "logprobs", "top_logprobs")
REFUSED_BY_REASONING_MODELS = (
    "presence_penalty",
    "frequency_penalty",
    "stop",
    "logit_bias",
    "prediction",
    "modalities",
    "audio",
)


def family(model: str) -> Family | None:
    """The reasoning family of `model`; None for models that do not reason."""
    return next((f for pattern, f in _FAMILIES if pattern.match(model)), None)


def _apply_model_rules(wire: dict[str, Raw], request: ChatRequest) -> list[str]:
    """Changes `wire` to what the model takes; returns the fields that are not carried as they were sent."""
    kin = family(request.model)
    if kin is None:
        return []
    lost = []
    effort = request.reasoning_effort or kin.default
    if request.reasoning_effort is not None:
        nearest = nearest_effort(effort, kin.efforts) or effort  # a word that is new goes out as it is
        if nearest != effort:
            wire["reasoning_effort"] = Raw(json_body(nearest))
            lost.append("reasoning_effort")
        effort = nearest
    refused = REFUSED_BY_REASONING_MODELS + (REFUSED_WHILE_REASONING if effort != "none" else ())
    for name in refused:
        if name in wire and not _is_default(name, request):
            lost.append(name)
        wire.pop(name, None)
    return lost


def _is_default(name: str, request: ChatRequest) -> bool:
    value = getattr(request, name)
    return not value or (name in ("temperature", "top_p") and value == 1) or value == ["text"]


# ── requests ───────────────────────────────────────────────────────────────────────────────────────────

_OWN_FIELDS = {  # what gateways and client libraries add to a request, by where it stands
    "message": (
        "reasoning_content",
        "reasoning",
        "reasoning_details",
        "thinking_blocks",
        "images",
        "extra_content",
        "provider_specific_fields",
        "annotations",
        "parsed",
        "cache_control",
    ),
    "call": ("index", "extra_content", "provider_specific_fields"),
    "function": ("parsed_arguments", "thought_signature", "provider_specific_fields"),
    "part": ("cache_control",),
    "tool": ("cache_control",),
}
_SIGNED_ID = "__thought__"  # another gateway's way to carry a signature: in the id of a call
_MARKS = (
    _SIGNED_ID.encode(),
    *(f'"{name}"'.encode() for name in dict.fromkeys(n for group in _OWN_FIELDS.values() for n in group)),
)


def build_request(request: ChatRequest) -> HttpRequest:
    """The request for OpenAI's own API, on the Responses API where the model takes it only there."""
    kin = family(request.model)
    if responses.needs_responses(request, kin):
        return responses.build_request(request, kin)
    wire = _wire(request, include_obfuscation=False)
    if request.max_output_tokens is not None:
        wire.pop("max_tokens", None)
        wire["max_completion_tokens"] = Raw(json_body(request.max_output_tokens))
    for name in ("messages", "tools"):
        if name in wire and any(mark in bytes(wire[name]) for mark in _MARKS):
            wire[name] = _CLEANED[name](wire[name])
    lost = _apply_model_rules(wire, request)
    lost += [name for name in ("messages.cache_control", "tools.cache_control") if INSIDE[name](request)]
    return HttpRequest(path=PATH, body=json_body(wire), stream=bool(request.stream), dropped=tuple(lost))


def build_compatible_request(request: ChatRequest) -> HttpRequest:
    """The request for a server that speaks the dialect: the client's own, with usage asked for."""
    return HttpRequest(path=PATH, body=json_body(_wire(request)), stream=bool(request.stream))


def _wire(request: ChatRequest, *, include_obfuscation: bool | None = None) -> dict[str, Raw]:
    """The client's fields for this model. Usage is always asked for: the gateway meters by it."""
    wire = {"model": Raw(json_body(request.model)), **request.wire}
    wire["model"] = Raw(json_body(request.model))
    options = wire.pop("stream_options", None)
    if request.stream:
        known: Json = (msgspec.json.decode(options) if options is not None else None) or {}
        chosen = {} if include_obfuscation is None else {"include_obfuscation": include_obfuscation}
        wire["stream_options"] = Raw(json_body({**chosen, **known, "include_usage": True}))
    return wire


def _clean_messages(messages: Raw) -> Raw:
    """Messages without what clients replay of us and of themselves: OpenAI refuses what it does not know."""
    cleaned: list[Json] = msgspec.json.decode(messages)
    for message in cleaned:
        _drop(message, "message")
        if isinstance(message.get("tool_call_id"), str):
            message["tool_call_id"] = message["tool_call_id"].partition(_SIGNED_ID)[0]
        for call in message.get("tool_calls") or ():
            _drop(call, "call")
            _drop(call.get("function") or {}, "function")
            call["id"] = call["id"].partition(_SIGNED_ID)[0]
        if isinstance(message.get("content"), list):
            for part in message["content"]:
                _drop(part, "part")
    return Raw(json_body(cleaned))


def _clean_tools(tools: Raw) -> Raw:
    cleaned: list[Json] = msgspec.json.decode(tools) or []
    for tool in cleaned:
        _drop(tool, "tool")
    return Raw(json_body(cleaned))


def _drop(item: Json, place: str) -> None:
    for name in _OWN_FIELDS[place]:
        item.pop(name, None)


_CLEANED = {"messages": _clean_messages, "tools": _clean_tools}


def conversation(provider: Provider, request: ChatRequest, _context: Context) -> Conversation:
    """One call, and another one for each refusal that there is a cure for.

    It turns out that the model wants the Responses API; or replayed reasoning is not what the model said to
    this key, or not any more: the conversation goes on without it.
    """
    http = provider.build_request(request)
    while True:
        try:
            yield http
        except UpstreamError as error:
            if http.path == PATH and responses.is_refusal(error) and responses.can_say(request):
                pass
            elif http.path == responses.PATH and responses.is_unfit(error) and has_reasoning(request):
                request = without_reasoning(request)
            else:
                raise
        else:
            return
        http = responses.build_request(request, family(request.model))


# ── models ─────────────────────────────────────────────────────────────────────────────────────────────


class _Model(Struct):
    id: str
    created: int | float | None = None
    owned_by: str | None = None
    context_length: int | None = None
    max_model_len: int | None = None


class _Models(Struct):
    data: list[_Model] | None = None


def parse_models(body: bytes) -> ModelPage:
    """The list of `GET /models`; some servers tell the context window in it."""
    models = msgspec.json.decode(body, type=_Models).data or []
    return ModelPage(
        [
            ModelInfo(
                id=m.id,
                created=int(m.created or 0),
                owned_by=m.owned_by or "",
                context_window=m.context_length or m.max_model_len,
            )
            for m in models
        ]
    )


# ── the record ─────────────────────────────────────────────────────────────────────────────────────────


HeaderValue = Annotated[str, Meta(pattern=r"^[!-~]+$")]


class OpenAIOptions(Options, frozen=True, forbid_unknown_fields=True):
    """`organization`: the organization that calls are billed to, when a key has several
    `project`: the project that calls are billed to
    """

    organization: HeaderValue | None = None
    project: HeaderValue | None = None


def _auth(options: OpenAIOptions) -> Callable[[str], dict[str, str]]:
    chosen = {"openai-organization": options.organization, "openai-project": options.project}
    extra = {name: value for name, value in chosen.items() if value}

    def auth(key: str) -> dict[str, str]:
        return {"authorization": f"Bearer {key}", **extra}

    return auth


def configure(options: OpenAIOptions) -> Provider:
    """The provider with these options."""
    return replace(PROVIDER, auth=_auth(options), compatible=replace(_COMPATIBLE, auth=_auth(options)))


_COMPATIBLE = Provider(
    name="openai-compatible",
    base_url="",
    auth=_auth(OpenAIOptions()),
    build_request=build_compatible_request,
    parse_response=parse_response,
    event_decoder=event_decoder,
    parse_error=parse_error,
    parse_limits=parse_limits,
    models_request=HttpRequest(method="GET", path="/models"),
    parse_models=parse_models,
    embeddings=embeddings.COMPATIBLE,
)

PROVIDER = replace(
    _COMPATIBLE,
    name="openai",
    metering=Metering(mirrors=True, max_tokens=True),
    base_url="https://api.openai.com/v1",
    build_request=build_request,
    parse_response=responses_answers.parse_response,
    event_decoder=responses_answers.event_decoder,
    conversation=conversation,
    embeddings=embeddings.EMBEDDER,
    key_names=("OPENAI_API_KEY",),
    owns=re.compile(r"(gpt-|o\d|chatgpt-|text-embedding-(\d-|ada-))"),  # others have v4, and 004
    models=(
        "gpt-6.2-sol",
        "gpt-6-luna",
        "gpt-6.1-terra",
        "gpt-5.6-sol",
        "gpt-5.5",
        "gpt-5.4",
        "gpt-5.4-mini",
        "text-embedding-3-large",
        "text-embedding-3-small",
    ),
    default_model="gpt-6-luna",
    carries=frozenset(("reasoning_details",)),
    options=OpenAIOptions,
    configure=configure,
    compatible=_COMPATIBLE,
)
