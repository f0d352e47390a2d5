"""Tools and tool choice on the way to Anthropic, and the names that its answers use for them.

Names are mapped by a pure function of the request, so that the answer's side computes the same map again.
Follows "Tool use" of Anthropic's API reference.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from ...chat import AssistantMessage, ChatRequest, Function, Json, ToolCall, ToolChoice
from ..base import unsupported
from .models import Family
from .schema import NOTHING, Grammar, loose

SEARCH = "web_search"
_SEARCH_TOOL = "web_search_20250305"  # the newest version that every model takes
_MAX_SEARCHES = 5

# ── names ──────────────────────────────────────────────────────────────────────────────────────────────

_VALID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_INVALID_CHARACTER = re.compile(r"[^a-zA-Z0-9_-]")


class ToolNames:
    """The names of one request's tools as Anthropic allows them, and back. Names that it takes stay."""

    def __init__(self, request: ChatRequest) -> None:
        reserved = {SEARCH} if request.web_search_options is not None else set()
        known = list(dict.fromkeys(_names(request)))
        valid = {name for name in known if name not in reserved and _VALID.fullmatch(name)}
        taken = valid | reserved
        self._native: dict[str, str] = {}
        for name in known:
            if name not in valid:
                self._native[name] = _free_name(name, taken)
                taken.add(self._native[name])
        self._original = {native: name for name, native in self._native.items()}

    def native(self, name: str) -> str:
        """`name` as Anthropic takes it."""
        return self._native.get(name, name)

    def original(self, name: str) -> str:
        """The client's name for `name`."""
        return self._original.get(name, name)


def _names(request: ChatRequest) -> Iterator[str]:
    for tool in request.tools or ():
        if tool.function is not None:
            yield tool.function.name
    yield from names_in_history(request)


def names_in_history(request: ChatRequest) -> Iterator[str]:
    """The names of all tools that the conversation has calls of."""
    for message in request.messages:
        if isinstance(message, AssistantMessage):
            yield from (name_of(call) for call in message.tool_calls or ())


def name_of(call: ToolCall) -> str:
    """The name of the tool that `call` is for."""
    named = call.function or call.custom
    return named.name if named else ""


def _free_name(name: str, taken: set[str]) -> str:
    plain = _INVALID_CHARACTER.sub("_", name)[:64] or "tool"
    native, salt = plain, ""
    while native in taken:
        digest = hashlib.sha256(f"{name}{salt}".encode("utf-8", "replace")).hexdigest()[:8]
        native, salt = f"{plain[:55]}_{digest}", f"{salt}+"
    return native


# ── declarations ───────────────────────────────────────────────────────────────────────────────────────


class Tools(NamedTuple):
    """What is declared; whether the client offers any itself; whether a strict one had to be loosened."""

    declared: list[Json]
    offered: bool
    loosened: bool


def declare(request: ChatRequest, names: ToolNames, kin: Family, grammar: Grammar) -> Tools:
    """The tools for the request's body.

    A history with calls needs declarations even when the client offers no tools any more.
    """
    allowed = _allowed_names(request)
    declared: list[Json] = []
    loosened = False
    for i, tool in enumerate(request.tools or ()):
        if tool.type != "function" or tool.function is None:
            raise unsupported(f"tools of type '{tool.type}' are not supported", f"tools[{i}].type")
        if allowed is None or tool.function.name in allowed:
            native, is_weaker = _declaration(tool.function, names, grammar if kin.schemas else None)
            declared.append({**native, "cache_control": tool.cache_control} if tool.cache_control else native)
            loosened |= is_weaker
    if not request.tools:
        declared += [{"name": names.native(n), "input_schema": NOTHING} for n in _past_names(request)]
    if request.web_search_options is not None:
        declared.append(_search_tool(request.web_search_options))
    return Tools(declared, bool(request.tools) or request.web_search_options is not None, loosened)


def _past_names(request: ChatRequest) -> list[str]:
    return list(dict.fromkeys(names_in_history(request)))


def _declaration(function: Function, names: ToolNames, grammar: Grammar | None) -> tuple[Json, bool]:
    native: Json = {"name": names.native(function.name)}
    if function.description:
        native["description"] = function.description
    if not function.strict:
        return {**native, "input_schema": loose(function.parameters)}, False
    schema = (
        grammar.tool(function.parameters or {**NOTHING, "additionalProperties": False}) if grammar else None
    )
    if schema is None or schema.get("type") != "object":
        return {**native, "input_schema": loose(function.parameters)}, True
    return {**native, "input_schema": schema, "strict": True}, False


def _search_tool(options: Json) -> Json:
    tool: Json = {"type": _SEARCH_TOOL, "name": SEARCH, "max_uses": _MAX_SEARCHES}
    location: Any = options.get("user_location")
    if isinstance(location, dict) and isinstance(place := location.get("approximate"), dict):
        known = {key: place[key] for key in ("city", "region", "country", "timezone") if place.get(key)}
        tool["user_location"] = {"type": "approximate", **known}
    return tool


# ── choice ─────────────────────────────────────────────────────────────────────────────────────────────


class Choice(NamedTuple):
    """A tool choice for the body. `instruction` stands in for a choice that the model refuses."""

    native: Json | None = None
    instruction: str | None = None
    lost: bool = False

    @property
    def is_forced(self) -> bool:
        return self.native is not None and self.native["type"] in ("any", "tool")


_NOTHING_CHOSEN = Choice()


def choose(request: ChatRequest, tools: Tools, names: ToolNames, kin: Family) -> Choice:
    """The tool choice for the body; a model that refuses to be forced is asked instead."""
    mode, name = _wanted(request)
    if not tools.offered:
        # Declared for the history's sake only: the client expects no calls.
        native = {"type": "none"} if tools.declared else None
        return Choice(native, lost=mode in ("required", "named"))
    if mode == "none":
        return Choice({"type": "none"})
    single: Json = {"disable_parallel_tool_use": True} if request.parallel_tool_calls is False else {}
    if mode is None:
        return Choice({"type": "auto", **single}) if single else _NOTHING_CHOSEN
    if mode == "auto":
        return Choice({"type": "auto", **single})
    if not kin.forced:
        which = f"the tool `{names.native(name)}`" if name else "one of the tools"
        return Choice({"type": "auto", **single}, f"You must call {which}.", lost=True)
    forced = {"type": "tool", "name": names.native(name)} if name else {"type": "any"}
    return Choice({**forced, **single})


def _wanted(request: ChatRequest) -> tuple[str | None, str]:
    """One of none, auto, required and named, or None when nothing was chosen, and the tool that is named."""
    choice = request.tool_choice
    if choice is None or isinstance(choice, str):
        if choice not in (None, "none", "auto", "required"):
            raise unsupported(f"tool_choice '{choice}' is not supported", "tool_choice")
        return choice, ""
    if choice.allowed_tools is not None:
        return choice.allowed_tools.mode, ""
    if choice.type != "function" or choice.function is None:
        raise unsupported(f"tool_choice of type '{choice.type}' is not supported", "tool_choice.type")
    return "named", choice.function.name


def _allowed_names(request: ChatRequest) -> set[str] | None:
    choice = request.tool_choice
    if not isinstance(choice, ToolChoice) or choice.allowed_tools is None:
        return None
    allowed = {_allowed_name(tool) for tool in choice.allowed_tools.tools}
    if not any(tool.function and tool.function.name in allowed for tool in request.tools or ()):
        raise unsupported("allowed_tools names none of the tools", "tool_choice.allowed_tools")
    return allowed


def _allowed_name(tool: Json) -> str:
    named = tool.get("function")
    return str((named if isinstance(named, dict) else tool).get("name"))
