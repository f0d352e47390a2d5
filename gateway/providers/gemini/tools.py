"""Functions on offer, and which of them may be called, as Gemini's `tools` and `toolConfig`.

Follows the Gemini API reference (`Tool`, `ToolConfig`) and its guide to function calling.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...chat import ChatRequest, Json
from ..base import ToolWish, unsupported
from .models import Traits
from .parts import function_name
from .schema import is_empty, json_schema, openapi_schema

MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}


def declarations(request: ChatRequest, wish: ToolWish, traits: Traits) -> Iterator[Json]:
    """The functions that may be called. Raises `UNSUPPORTED` for tools of another type.

    Names go with a mode that forces a call only, so a choice among some of them leaves the others out.
    """
    for i, tool in enumerate(request.tools or ()):
        if tool.type != "function" or tool.function is None:
            raise unsupported(f"this API has no tools of type {tool.type!r}", f"tools[{i}].type")
        function = tool.function
        if wish.mode == "auto" and wish.names is not None and function.name not in wish.names:
            continue
        declaration: Json = {"name": function_name(function.name)}
        if function.description:
            declaration["description"] = function.description
        if function.parameters:
            declaration |= _parameters(function.parameters, traits, f"tools[{i}].function.parameters")
        yield declaration


def _parameters(schema: Json, traits: Traits, path: str) -> Json:
    if traits.takes_json_schema:
        field, cleaned = "parametersJsonSchema", json_schema(schema, path)
    else:
        field, cleaned = "parameters", openapi_schema(schema, path)
    return {} if is_empty(cleaned) else {field: cleaned}


def tool_fields(
    request: ChatRequest, wish: ToolWish, traits: Traits, functions: list[Json], lost: list[str]
) -> Json:
    """`tools` and `toolConfig`. Adds what finds no place in them to `lost`.

    Search beside functions is for generation 3 and later; it has to be announced in the configuration.
    """
    searches = request.web_search_options is not None and (traits.is_third_plus or not functions)
    if request.web_search_options or (request.web_search_options is not None and not searches):
        lost.append("web_search_options")  # its options, where and how much to search, have no words here
    tools: list[Json] = [{"functionDeclarations": functions}] if functions else []
    if searches:
        tools.append({"googleSearch": {}})
    if not functions:
        if wish.mode == "required":
            lost.append("tool_choice")
        return {"tools": tools}
    if request.parallel_tool_calls is False:
        lost.append("parallel_tool_calls")
    config: Json = {}
    if calling := _calling(request, wish, traits):
        config["functionCallingConfig"] = calling
    if searches:
        config["includeServerSideToolInvocations"] = True
    return {"tools": tools, "toolConfig": config}


def _calling(request: ChatRequest, wish: ToolWish, traits: Traits) -> Json:
    if wish.mode == "required" and wish.names is not None:
        return {"mode": "ANY", "allowedFunctionNames": [function_name(name) for name in wish.names]}
    if wish.mode in (None, "auto") and traits.takes_validated_calls and _is_strict(request):
        return {"mode": "VALIDATED"}  # for the whole request, and without any demand on the schemas
    return {"mode": MODES[wish.mode]} if wish.mode else {}


def _is_strict(request: ChatRequest) -> bool:
    return any(tool.function is not None and tool.function.strict for tool in request.tools or ())
