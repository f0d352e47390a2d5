"""Asking OpenAI's Responses API: for what its models refuse on Chat Completions.

From gpt-5.4 on, function tools and reasoning do not go together on Chat Completions, and some models are
not on it at all. Only requests live here, and when they are needed; `responses_answers` reads what comes
back. Each call stands for itself: nothing is stored, nothing refers to an earlier one.
Follows the OpenAI API reference for `POST /v1/responses`.
"""

from __future__ import annotations

import re
from typing import Protocol

from msgspec import Raw

from ...chat import REQUEST_FIELDS, ChatRequest, Json, ResponseFormat, Tool, ToolChoice
from ...errors import UpstreamError
from ..base import HttpRequest, dropped, json_body, nearest_effort, unsupported
from .responses_input import items

PATH = "/responses"
REFUSAL = "Function tools with reasoning_effort are not supported"
"""How Chat Completions begins to say that a request has to come here."""

UNFIT = ("encrypted content", "encrypted_content", "without its required following item")
"""How this API says that replayed reasoning is not its own, or stands in the wrong place."""

_VERSION = re.compile(r"gpt-(\d+)(?:\.(\d+))?(?![\d.a-z])")
_SINCE = (5, 4)
_ONLY_HERE = re.compile(r"(gpt-\d+(\.\d+)?|o\d)-pro(-|$)")
_PRO_EFFORTS = ("low", "medium", "high", "xhigh")

SAME = (  # fields that both APIs have, under one name
    "model",
    "temperature",
    "top_p",
    "top_logprobs",
    "parallel_tool_calls",
    "metadata",
    "service_tier",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "moderation",
)
RENAMED = (  # fields that are said in another place here
    "messages",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "tools",
    "tool_choice",
    "logprobs",
    "response_format",
    "reasoning_effort",
    "verbosity",
)
IGNORES = (
    *(name for name in REQUEST_FIELDS if name not in SAME + RENAMED),
    "messages.name",
    "messages.cache_control",
    "tools.cache_control",
)
REFUSED_WHILE_REASONING = ("temperature", "top_p", "logprobs", "top_logprobs")
MIN_OUTPUT = 16
"""The lowest limit of tokens that this API takes."""
_LOGPROBS = "message.output_text.logprobs"
_REASONING = "reasoning.encrypted_content"


class Kin(Protocol):
    """What has to be known of a family of reasoning models: its efforts, and the one it has by itself."""

    @property
    def default(self) -> str: ...

    @property
    def efforts(self) -> tuple[str, ...]: ...


# ── when ───────────────────────────────────────────────────────────────────────────────────────────────


def needs_responses(request: ChatRequest, kin: Kin | None) -> bool:
    """Whether `request` is one that its model, of the family `kin`, takes here only."""
    if _ONLY_HERE.match(request.model):
        return True
    if not _is_recent(request.model) or not can_say(request):
        return False
    return any(tool.type == "function" for tool in request.tools or ()) and _effort(request, kin) != "none"


def can_say(request: ChatRequest) -> bool:
    """Whether nothing of weight would be lost: one answer, and no tools but functions."""
    return (request.n or 1) == 1 and all(tool.type == "function" for tool in request.tools or ())


def is_refusal(error: UpstreamError) -> bool:
    """Whether Chat Completions says by `error` that the request has to come here."""
    return error.upstream_status == 400 and REFUSAL in error.message


def is_unfit(error: UpstreamError) -> bool:
    """Whether this API refuses the reasoning that was sent back with earlier turns."""
    words = f"{error.code} {error.message}".lower()
    return error.upstream_status == 400 and any(mark in words for mark in UNFIT)


def _is_recent(model: str) -> bool:
    version = _VERSION.match(model)
    return version is not None and (int(version[1]), int(version[2] or 0)) >= _SINCE


def _effort(request: ChatRequest, kin: Kin | None) -> str | None:
    """The effort in force: what was asked for as the model takes it, or its default; None if it has none."""
    return _asked_effort(request, kin) or (kin.default if kin else None)


def _asked_effort(request: ChatRequest, kin: Kin | None) -> str | None:
    effort = request.reasoning_effort
    if effort is None or kin is None:
        return effort
    efforts = _PRO_EFFORTS if _ONLY_HERE.match(request.model) else kin.efforts
    return nearest_effort(effort, efforts) or effort  # a word that is new goes out as it is


# ── what ───────────────────────────────────────────────────────────────────────────────────────────────


def build_request(request: ChatRequest, kin: Kin | None) -> HttpRequest:
    """The request for a model of the family `kin`. Raises `UpstreamError` for what cannot be said here."""
    if request.n is not None and request.n > 1:
        raise unsupported("more than one answer (n) is not supported with this model", "n")
    refused = _refused(request, kin)
    body: Json = {name: request.wire[name] for name in SAME if name in request.wire and name not in refused}
    body |= {"model": request.model, "input": items(request), "store": False}
    body |= _limits(request) | _tools(request) | _reasoning(request, kin) | _text(request)
    asked_logprobs = bool(request.logprobs) and "logprobs" not in refused
    if include := [_LOGPROBS] * asked_logprobs + [_REASONING] * (kin is not None):
        body["include"] = include
    if request.stream:
        options = request.stream_options
        hidden = bool(options and options.include_obfuscation)
        body |= {"stream": True, "stream_options": {"include_obfuscation": hidden}}
    unsaid = (name for name in refused if _is_meant(name, request))
    lost = (*dropped(request, IGNORES), *unsaid, *_raised(request))
    if _asked_effort(request, kin) != request.reasoning_effort:
        lost += ("reasoning_effort",)
    stream = bool(request.stream)
    return HttpRequest(path=PATH, body=json_body(_without_nulls(body)), stream=stream, dropped=lost)


def _refused(request: ChatRequest, kin: Kin | None) -> tuple[str, ...]:
    reasons = kin is not None and (_effort(request, kin) != "none" or _ONLY_HERE.match(request.model))
    return tuple(n for n in REFUSED_WHILE_REASONING if n in request.wire) if reasons else ()


def _is_meant(name: str, request: ChatRequest) -> bool:
    value = getattr(request, name)
    return bool(value) and not (name in ("temperature", "top_p") and value == 1)


def _without_nulls(body: Json) -> Json:
    return {name: v for name, v in body.items() if not (isinstance(v, Raw) and bytes(v) == b"null")}


def _limits(request: ChatRequest) -> Json:
    limit = request.max_output_tokens
    return {} if limit is None else {"max_output_tokens": max(limit, MIN_OUTPUT)}


def _raised(request: ChatRequest) -> tuple[str, ...]:
    """The field of a limit that is too low for this API."""
    limit = request.max_output_tokens
    if limit is None or limit >= MIN_OUTPUT:
        return ()
    return ("max_tokens" if request.max_completion_tokens is None else "max_completion_tokens",)


def _reasoning(request: ChatRequest, kin: Kin | None) -> Json:
    """Thoughts are shown as summaries; a model that does not reason takes no word about it."""
    effort = _asked_effort(request, kin)
    if kin is None and effort is None:
        return {}
    return {"reasoning": {**({"effort": effort} if effort else {}), "summary": "auto"}}


def _text(request: ChatRequest) -> Json:
    text: Json = {}
    if request.response_format is not None:
        text["format"] = _format(request.response_format)
    if request.verbosity is not None:
        text["verbosity"] = request.verbosity
    return {"text": text} if text else {}


def _format(wanted: ResponseFormat) -> Json:
    """The form of the answer, flat. A schema is not strict unless the client says so, as on Chat."""
    schema = wanted.json_schema
    if schema is None:
        return {"type": wanted.type}
    named = {"description": schema.description, "schema": schema.schema or {}, "strict": schema.strict}
    return {"type": wanted.type, "name": schema.name, **{k: v for k, v in named.items() if v is not None}}


def _tools(request: ChatRequest) -> Json:
    found: Json = {}
    if request.tools:
        found["tools"] = [_tool(tool, i) for i, tool in enumerate(request.tools)]
    choice = request.tool_choice
    if isinstance(choice, str):
        found["tool_choice"] = choice
    elif choice is not None:
        found["tool_choice"] = _choice(choice)
    return found


def _tool(tool: Tool, place: int) -> Json:
    """A function, flat. Without a word about it this API would take it for a strict one, Chat does not."""
    function = tool.function
    if tool.type != "function" or function is None:
        raise unsupported(f"a tool of type '{tool.type}' is not supported here", f"tools[{place}].type")
    flat: Json = {"type": "function", "name": function.name}
    if function.description is not None:
        flat["description"] = function.description
    parameters = {"type": "object", "properties": {}} if function.parameters is None else function.parameters
    return {**flat, "parameters": parameters, "strict": bool(function.strict)}


def _choice(choice: ToolChoice) -> Json:
    if choice.function is not None:
        return {"type": "function", "name": choice.function.name}
    if choice.allowed_tools is None:
        raise unsupported(f"tool_choice of type '{choice.type}' is not supported", "tool_choice.type")
    allowed = choice.allowed_tools
    return {
        "type": "allowed_tools",
        "mode": allowed.mode,
        "tools": [_flat(tool) for tool in allowed.tools],
    }


def _flat(tool: Json) -> Json:
    """A tool that is named in a list of allowed ones: its name beside its type."""
    named = tool.get(str(tool.get("type")))
    return {"type": tool.get("type"), **named} if isinstance(named, dict) else tool
