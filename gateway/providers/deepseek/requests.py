"""Chat requests as DeepSeek takes them: its schema and nothing else, with whether to think always said.

Follows the pages "Chat Completion", "Thinking Mode", "Tool Calls" and "JSON Output" of api-docs.deepseek.com.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Struct

from ...chat import (
    AssistantMessage,
    ChatRequest,
    Content,
    Json,
    Message,
    Part,
    ToolCall,
    ToolChoice,
    ToolMessage,
    UserMessage,
)
from ...errors import ErrorKind, UpstreamError
from ..base import (
    Feature,
    HttpRequest,
    Options,
    ToolWish,
    dropped,
    json_body,
    refuse_several_and_audio,
    tool_wish,
    unsupported,
)

# ── the tables ─────────────────────────────────────────────────────────────────────────────────────────

PATH = "/chat/completions"
BETA_PATH = "/beta/chat/completions"
"""Where strict tools and the continuation of a prefix are understood."""

MODELS = ("deepseek-flash", "deepseek-v4-pro")
SEEING = re.compile(r"deepseek-(v\d+-)?flash")
CONTEXT_WINDOW, MAX_OUTPUT = 1_048_576, 393_216  # tokens
FEATURES: frozenset[Feature] = frozenset(("tools",))

RETIRED = {  # since 2026-07-24 → the model that took its place, and whether it thinks
    "deepseek-chat": ("deepseek-flash", False),
    "deepseek-reasoner": ("deepseek-flash", True),
}
EFFORTS = {"minimal": "low", "low": "low", "medium": "high", "high": "high", "xhigh": "high", "max": "max"}
ENABLED, DISABLED = {"type": "enabled"}, {"type": "disabled"}
PLACEHOLDER = " "
"""What stands for a thought that the client did not replay: nothing at all would be refused."""

OWN_FIELDS = ("thinking", "user_id")
"""DeepSeek's own, which a client may send as they are."""
PASSED = ("stream", "temperature", "top_p", "stop", "logprobs", "top_logprobs", "response_format")
IGNORES = frozenset(
    (
        "messages.cache_control",
        "messages.prompt_cache_breakpoint",
        "tools.cache_control",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "seed",
        "parallel_tool_calls",
        "verbosity",
        "prediction",
        "store",
        "metadata",
        "service_tier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "prompt_cache_options",
        "web_search_options",
        "moderation",
    )
)
MAX_STOPS, MAX_TOOLS = 16, 128
SCHEMA_PROMPT = "Answer with one JSON object and nothing else. It has to match this JSON schema:\n"


class DeepSeekOptions(Options, frozen=True, forbid_unknown_fields=True):
    """`aliases`: whether the retired names `deepseek-chat` and `deepseek-reasoner` stand for `deepseek-flash`
    `emulate_json_schema`: whether a JSON schema is put in words, as a best effort, instead of being refused
    """

    aliases: bool = False
    emulate_json_schema: bool = False


_DEFAULTS = DeepSeekOptions()


# ── requests ───────────────────────────────────────────────────────────────────────────────────────────


def build_request(request: ChatRequest, options: DeepSeekOptions = _DEFAULTS) -> HttpRequest:
    """The native request. Raises `UNSUPPORTED` and, for a retired model, `NOT_FOUND`."""
    refuse_several_and_audio(request)
    if len(request.stop_list) > MAX_STOPS:
        raise unsupported(f"more than {MAX_STOPS} stop sequences are not supported", "stop")
    lost = [name for name in dropped(request, IGNORES) if name not in OWN_FIELDS]
    model, thinks = _model(request.model, options, lost)
    wish = tool_wish(request)
    tools = _tools(request, wish, lost)
    forced = bool(tools) and wish.mode == "required"
    thinking = _thinking(request, thinks, forced, lost)
    is_on = _is_on(thinking["thinking"])
    messages = _messages(request, model, repair=is_on and bool(tools))
    body: Json = {"model": model, "messages": messages, **thinking}
    body |= {name: raw for name, raw in request.wire.items() if name in PASSED and bytes(raw) != b"null"}
    if request.max_output_tokens is not None:
        body["max_tokens"] = request.max_output_tokens
    if request.stream:
        body["stream_options"] = {"include_usage": True}
    body |= _schema_in_words(request, messages, options, lost)
    body |= _tool_fields(request, tools, wish, forced and is_on, lost)
    body |= _user_id(request, lost)
    lost += _without_effect(request, model, is_on)
    return HttpRequest(
        path=BETA_PATH if _is_beta(messages, tools) else PATH,
        body=json_body(body),
        stream=bool(request.stream),
        dropped=tuple(dict.fromkeys(lost)),
    )


def _model(name: str, options: DeepSeekOptions, lost: list[str]) -> tuple[str, bool]:
    """The model's own name, and whether it thinks when nobody says."""
    if name not in RETIRED:
        return name, True
    if not options.aliases:
        raise UpstreamError(ErrorKind.NOT_FOUND, f"the model '{name}' was retired", param="model")
    lost.append("model")
    return RETIRED[name]


def _own(request: ChatRequest, name: str) -> Any:
    """A field of DeepSeek's own; None when the client sent none."""
    return msgspec.json.decode(request.wire[name]) if name in request.wire else None


def _is_on(thinking: Any) -> bool:
    return not (isinstance(thinking, dict) and thinking.get("type") == "disabled")


def _thinking(request: ChatRequest, default: bool, forced: bool, lost: list[str]) -> Json:
    """`thinking` and `reasoning_effort`. The client's own object wins; a forced call excludes thinking."""
    effort, own = request.reasoning_effort, _own(request, "thinking")
    if own is None:
        wanted = default if effort is None else effort != "none"
        own = ENABLED if wanted and not forced else DISABLED
        if wanted and forced and effort is None:
            lost.append("thinking")
    fields: Json = {"thinking": own}
    if _is_on(own) and effort not in (None, "none"):
        fields["reasoning_effort"] = EFFORTS.get(effort or "", effort)  # a new word goes out as it is
    said = fields.get("reasoning_effort") if _is_on(own) else "none"
    if effort is not None and effort != said:
        lost.append("reasoning_effort")
    return fields


def _without_effect(request: ChatRequest, model: str, is_on: bool) -> Iterable[str]:
    """What is accepted and then ignored: sampling while thinking, and most of `top_p` on flash."""
    if is_on and request.temperature not in (None, 1):
        yield "temperature"
    top_p = request.top_p
    counts = not is_on
    if SEEING.match(model):
        counts = is_on and top_p is not None and top_p >= 0.95
    if top_p not in (None, 1) and not counts:
        yield "top_p"


def _user_id(request: ChatRequest, lost: list[str]) -> Json:
    """Who is asking, as a hash: no name leaves the house. A `user_id` that the client chose goes as it is."""
    given = {name: getattr(request, name) for name in ("safety_identifier", "user")}
    names = [name for name, value in given.items() if value]
    own = _own(request, "user_id")
    if own is not None:
        lost += names
        return {"user_id": own}
    if not names:
        return {}
    lost += (name for name in names[1:] if given[name] != given[names[0]])
    return {"user_id": f"gw-{sha256(given[names[0]].encode('utf-8', 'replace')).hexdigest()[:32]}"}


def _schema_in_words(
    request: ChatRequest, messages: list[Json], options: DeepSeekOptions, lost: list[str]
) -> Json:
    """`response_format` for a JSON schema: refused, or said in the system prompt by option."""
    form = request.response_format
    if form is None or form.type != "json_schema" or form.json_schema is None:
        return {}
    if not options.emulate_json_schema:
        raise unsupported("response_format 'json_schema' is not supported", "response_format")
    lost.append("response_format")
    words = SCHEMA_PROMPT + json_body(form.json_schema.schema or {}).decode()
    if messages[0]["role"] == "system":
        messages[0]["content"] = f"{messages[0]['content']}\n\n{words}"
    else:
        messages.insert(0, {"role": "system", "content": words})
    return {"response_format": {"type": "json_object"}}


# ── tools ──────────────────────────────────────────────────────────────────────────────────────────────


def _tools(request: ChatRequest, wish: ToolWish, lost: list[str]) -> list[Json]:
    """The functions on offer. `strict` only counts when all have it: else it is taken out and named."""
    functions = []
    for i, tool in enumerate(request.tools or ()):
        if tool.type != "function" or tool.function is None:
            raise unsupported(f"tools of type '{tool.type}' are not supported", f"tools[{i}].type")
        functions.append(tool.function)
    if len(functions) > MAX_TOOLS:
        raise unsupported(f"more than {MAX_TOOLS} tools are not supported", "tools")
    if _is_limited(request):
        functions = [function for function in functions if function.name in (wish.names or ())]
    strict = [bool(function.strict) for function in functions]
    if any(strict) and not all(strict):
        lost.append("tools.function.strict")
    mark = True if all(strict) else None
    return [{"type": "function", "function": msgspec.structs.replace(f, strict=mark)} for f in functions]


def _is_limited(request: ChatRequest) -> bool:
    return isinstance(request.tool_choice, ToolChoice) and request.tool_choice.allowed_tools is not None


def _tool_fields(
    request: ChatRequest, tools: list[Json], wish: ToolWish, impossible: bool, lost: list[str]
) -> Json:
    """`tools` and `tool_choice`; `impossible` is a forced call while the client insists on thinking."""
    choice: Any = wish.mode if _is_limited(request) else request.tool_choice
    if not tools:
        lost += ["tool_choice"] if wish.mode == "required" else []
        return {}
    if impossible:
        lost.append("tool_choice")
        choice = "auto"
    return {"tools": tools} if choice is None else {"tools": tools, "tool_choice": choice}


def _is_beta(messages: list[Json], tools: list[Json]) -> bool:
    return "prefix" in messages[-1] or any(tool["function"].strict for tool in tools)


# ── messages ───────────────────────────────────────────────────────────────────────────────────────────


class _Sent(Struct):
    """What a message may say beyond OpenAI's fields."""

    prefix: Any = None


_ROLES = {"developer": "system"}  # everything else keeps its name


def _messages(request: ChatRequest, model: str, *, repair: bool) -> list[Json]:
    """The messages; `repair` gives every turn of the model the thought that DeepSeek wants replayed."""
    sees = SEEING.match(model) is not None
    messages = [_message(m, f"messages[{i}]", sees, repair) for i, m in enumerate(request.messages)]
    last = msgspec.json.decode(request.wire["messages"], type=list[_Sent])[-1]
    if last.prefix is True and messages[-1]["role"] == "assistant":
        messages[-1]["prefix"] = True
    return messages


def _message(message: Message, path: str, sees: bool, repair: bool) -> Json:
    role = str(message.__struct_config__.tag)
    said: Json = {"role": _ROLES.get(role, role)}
    if isinstance(message, UserMessage):
        said["content"] = _parts(message.content, path, sees)
    else:
        said["content"] = _text(message.content, path)
    if isinstance(message, ToolMessage):
        return {**said, "tool_call_id": message.tool_call_id}
    if message.name is not None:
        said["name"] = message.name
    return _turn(said, message, path, repair) if isinstance(message, AssistantMessage) else said


def _turn(said: Json, message: AssistantMessage, path: str, repair: bool) -> Json:
    """A turn of the model: its thought, what it said and what it called."""
    if said["content"] is None and not message.tool_calls:
        said["content"] = message.refusal or ""
    thought = message.reasoning_content or (PLACEHOLDER if repair else None)
    if thought is not None:
        said["reasoning_content"] = thought
    if message.tool_calls:
        calls = enumerate(message.tool_calls)
        said["tool_calls"] = [_call(call, f"{path}.tool_calls[{i}]") for i, call in calls]
    return said


def _call(call: ToolCall, path: str) -> Json:
    if call.function is None:
        raise unsupported(f"tool calls of type '{call.type}' are not supported", path)
    function = {"name": call.function.name, "arguments": call.function.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _text(content: Content | None, path: str) -> str | None:
    """The content of a message that may only be text: DeepSeek wants it as one string."""
    if content is None or isinstance(content, str):
        return content
    return "\n".join(_said(part, f"{path}.content[{i}]") for i, part in enumerate(content))


def _said(part: Part, path: str) -> str:
    text = part.refusal if part.type == "refusal" else part.text if part.type == "text" else None
    if text is None:
        raise unsupported(f"parts of type '{part.type}' are only possible in messages of a user", path)
    return text


def _parts(content: Content, path: str, sees: bool) -> str | list[Part]:
    """The content of a user's message: text, and pictures for a model that sees."""
    if isinstance(content, str):
        return content
    for i, part in enumerate(content):
        if part.type != "text" and not (part.type == "image_url" and sees):
            raise unsupported(f"parts of type '{part.type}' are not supported", f"{path}.content[{i}]")
    return [Part(type=part.type, text=part.text, image_url=part.image_url) for part in content]
