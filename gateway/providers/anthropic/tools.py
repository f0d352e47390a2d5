"""Tools and tool choice on the way to Anthropic, and the names that its answers use for them.

Names are mapped by a pure function of the request, so that the answer's side computes the same map again.
Follows "Tool use" of Anthropic's API reference.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from ...chat import AssistantMessage, ChatRequest, Function, Json, ToolCall
from ..base import ToolWish, unsupported
from .loose import NOTHING, loose
from .models import Family
from .parts import cached
from .schema import Grammar

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
    """What is declared; whether the client offers any itself; which of its fields are not said whole."""

    declared: list[Json]
    offered: bool
    lost: list[str]


def declare(request: ChatRequest, wish: ToolWish, names: ToolNames, kin: Family, grammar: Grammar) -> Tools:
    """The tools for the request's body.

    A history with calls needs declarations even when the client offers no tools any more.
    """
    # a choice that names its tool needs no other taken away: caches and signed thoughts hold for equal tools
    shown = None if _only(wish) and kin.forced else wish.names
    declared: list[Json] = []
    lost: list[str] = []
    for i, tool in enumerate(request.tools or ()):
        if tool.type != "function" or tool.function is None:
            raise unsupported(f"tools of type '{tool.type}' are not supported", f"tools[{i}].type")
        if shown is None or tool.function.name in shown:
            native, is_weaker = _declaration(tool.function, names, grammar if kin.schemas else None)
            declared.append(cached(native, tool.cache_control))
            lost += ["tools"] if is_weaker else []
    if not request.tools:
        declared += [{"name": names.native(n), "input_schema": NOTHING} for n in _past_names(request)]
    if request.web_search_options is not None:
        declared.append(search := _search_tool(request.web_search_options))
        lost += ["web_search_options"] if _says_more(request.web_search_options, search) else []
    return Tools(declared, bool(request.tools) or request.web_search_options is not None, lost)


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


def _says_more(options: Json, tool: Json) -> bool:
    """Whether a client's search options ask for something that the tool has no word for."""
    said = tool.keys() & {"user_location"}
    return any(value and key not in said for key, value in options.items())


# ── choice ─────────────────────────────────────────────────────────────────────────────────────────────


class Choice(NamedTuple):
    """A tool choice for the body. `instruction` stands in for a choice that the model refuses."""

    native: Json | None = None
    instruction: str | None = None
    lost: bool = False

    @property
    def is_forced(self) -> bool:
        return self.native is not None and self.native["type"] in ("any", "tool")


def _only(wish: ToolWish) -> str | None:
    """The one tool that has to be called, if there is one."""
    return wish.names[0] if wish.mode == "required" and wish.names and len(wish.names) == 1 else None


def choose(request: ChatRequest, wish: ToolWish, tools: Tools, names: ToolNames, kin: Family) -> Choice:
    """The tool choice for the body; a model that refuses to be forced is asked instead."""
    if not tools.offered:
        # Declared for the history's sake only: the client expects no calls.
        native = {"type": "none"} if tools.declared else None
        return Choice(native, lost=wish.mode == "required")
    if wish.mode == "none":
        return Choice({"type": "none"})
    single: Json = {"disable_parallel_tool_use": True} if request.parallel_tool_calls is False else {}
    if wish.mode is None and not single:
        return Choice()
    if wish.mode != "required":
        return Choice({"type": "auto", **single})
    only = _only(wish)
    if not kin.forced:
        which = f"the tool `{names.native(only)}`" if only else "one of the tools"
        return Choice({"type": "auto", **single}, f"You must call {which}.", lost=True)
    forced = {"type": "tool", "name": names.native(only)} if only else {"type": "any"}
    return Choice({**forced, **single})
