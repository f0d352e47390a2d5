"""What Gemini's generateContent refuses, and how it says so.

Rule of this file: tables of checks over the shapes of `gemini_shapes.py` that raise Rejected. The order of
contents and the thought signatures are in `gemini_turns.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import msgspec
from msgspec import Struct

from .checks import Mistake, convert, decode, schema_mistake
from .gemini_models import Family
from .gemini_shapes import Body, FunctionDeclaration, camel, camelled, snake
from .wire import Rejected, Request

T = TypeVar("T")

STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class Situation(Struct, frozen=True):
    """What the checks look at beside the body. `model` is as it stands in the path."""

    model: str
    family: Family


def refuse(message: str, status: int = 400, name: str | None = None, details: Any = None) -> NoReturn:
    raise Rejected(status, message, type=name or STATUS[status], details=details)


# --- headers and path -------------------------------------------------------------------------------------


def authenticate(request: Request) -> str:
    """The key. Any non-empty one will do, except one that contains `wrong`."""
    if "key" in request.query:
        refuse("An API key in the URL leaks into logs; this stand-in takes it in x-goog-api-key only.")
    key = request.headers.get("x-goog-api-key", "")
    _, _, bearer = request.headers.get("authorization", "").partition(" ")
    if not key and bearer and not bearer.startswith("ya29."):
        refuse(
            "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie "
            "or other valid authentication credential.",
            401,
        )
    if not key and not bearer:
        refuse(
            "Method doesn't allow unregistered callers (callers without established identity). Please use "
            "API Key or other form of API consumer identity to call this API.",
            403,
        )
    if "wrong" in key:
        info = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "API_KEY_INVALID",
            "domain": "googleapis.com",
            "metadata": {"service": "generativelanguage.googleapis.com"},
        }
        refuse("API key not valid. Please pass a valid API key.", details=[info])
    return key or bearer


def no_such_model(model: str, version: str, method: str = "generateContent") -> NoReturn:
    refuse(
        f"models/{model} is not found for API version {version}, or is not supported for {method}. "
        "Call ListModels to see the list of available models and their supported methods.",
        404,
    )


# --- shapes ---------------------------------------------------------------------------------------------

PROTO = {
    "str": "TYPE_STRING",
    "int": "TYPE_INT32",
    "float": "TYPE_FLOAT",
    "bool": "TYPE_BOOL",
    "array": "list",
}


def parsed(raw: bytes, kind: type[T]) -> T:
    """The body, in camelCase or snake_case. Raises Rejected."""
    found = decode(raw, kind)
    if isinstance(found, Mistake) and found.kind == "unknown" and "_" in str(found.path[-1]):
        found = convert(camelled(msgspec.json.decode(raw)), kind)
    if isinstance(found, Mistake):
        misshapen(found, raw)
    return found


def misshapen(mistake: Mistake, raw: bytes) -> NoReturn:
    """Word a decode mistake as Google's JSON parser does."""
    if mistake.kind == "json":
        refuse(f"Invalid JSON payload received. {mistake.expected}")
    where = snake(mistake.indexed())
    if mistake.kind == "unknown":
        parent = snake(mistake._replace(path=mistake.path[:-1]).indexed())
        at = f" at '{parent}'" if parent else ""
        violation(
            parent,
            f'Invalid JSON payload received. Unknown name "{mistake.path[-1]}"{at}: Cannot find field.',
        )
    kind = next((name for word, name in PROTO.items() if word in mistake.expected.split(" | ")), "message")
    value = msgspec.json.encode(value_at(raw, mistake.path)).decode()
    violation(where, f"Invalid value at '{where}' ({kind}), {value}")


def value_at(raw: bytes, path: tuple[str | int, ...]) -> Any:
    value = msgspec.json.decode(raw)
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def violation(field: str, text: str) -> NoReturn:
    violations = [{"field": field, "description": text}] if field else [{"description": text}]
    refuse(
        text, details=[{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations}]
    )


# --- generationConfig -------------------------------------------------------------------------------------

RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "logprobs": (0, 20),
    "seed": (-(2**31), 2**31 - 1),
    "candidate_count": (1, 8),
}


def ranges(body: Body, here: Situation) -> None:
    config = body.config()
    for name, (low, high) in RANGES.items():
        value = getattr(config, name)
        if value is not None and not low <= value <= high:
            refuse(
                f"* GenerateContentRequest.generation_config.{name}: {name} must be in the range [{low}, "
                f"{high}]."
            )
    limit, most = config.max_output_tokens, here.family.output
    if limit is not None and (limit < 1 or (limit > most and not here.family.long)):
        refuse(
            f"Unable to submit request because it has a maxOutputTokens value of {limit} but the supported "
            f"range is from 1 (inclusive) to {most + 1} (exclusive). Update the value and try again."
        )
    if len(config.stop_sequences or ()) > 5:
        refuse(
            "* GenerateContentRequest.generation_config.stop_sequences: the number of stop sequences must "
            "be at most 5."
        )
    if any(not stop for stop in config.stop_sequences or ()):
        refuse("* GenerateContentRequest.generation_config.stop_sequences: stop sequence must not be empty.")


def family_limits(body: Body, here: Situation) -> None:
    """Parameters that only some families take."""
    config, family = body.config(), here.family
    if not family.penalties and (config.presence_penalty is not None or config.frequency_penalty is not None):
        refuse(f"Penalty is not enabled for models/{here.model}")
    if not family.candidates and (config.candidate_count or 1) > 1:
        refuse("Multiple candidates is not enabled for this model")
    if config.logprobs is not None and not config.response_logprobs:
        refuse("Logprobs is set without response_logprobs")
    if not family.logprobs and config.response_logprobs:
        refuse(f"Logprobs is not enabled for models/{here.model}")
    if not family.system and body.system_instruction is not None:
        refuse(f"Developer instruction is not enabled for models/{here.model}")
    if not family.functions and body.declarations():
        refuse(f"Function calling is not enabled for models/{here.model}")


def thinking(body: Body, here: Situation) -> None:
    """Section 6: what each family takes as thinkingConfig."""
    config, family = body.config().thinking_config, here.family
    if config is None:
        return
    if family.thinking == "none":
        refuse("Thinking is not enabled for this model")
    if config.thinking_level is not None and config.thinking_budget is not None:
        refuse("You can only set only one of thinking budget and thinking level.")
    if config.thinking_level is not None:
        level(config.thinking_level.upper(), family)
    if config.thinking_budget is not None:
        budget(config.thinking_budget, family)


def level(wanted: str, family: Family) -> None:
    if family.thinking == "budget":
        refuse("Thinking level is not supported for this model.")
    if wanted not in family.levels:
        refuse(
            f"Thinking level {wanted} is not supported for this model. Please retry with other thinking "
            "level."
        )


def budget(wanted: int, family: Family) -> None:
    if family.thinking == "level":
        if not family.budget_too:
            refuse("Thinking budget is not supported for this model. Please use thinking level instead.")
        return
    low, high = family.budgets
    if wanted == 0 and not family.off:
        refuse("Budget 0 is invalid. This model only works in thinking mode.")
    if wanted not in (0, -1) and not low <= wanted <= high:
        refuse(f"The thinking budget {wanted} is invalid. Please choose a value between {low} and {high}.")


def answer_format(body: Body, here: Situation) -> None:
    config = body.config()
    if config.response_schema is not None and config.response_json_schema is not None:
        refuse("Only one of response_schema and response_json_schema may be set.")
    wanted = config.response_schema is not None or config.response_json_schema is not None
    if wanted and config.response_mime_type not in ("application/json", "text/x.enum"):
        refuse("response_schema requires response_mime_type to be set to application/json")
    if config.response_mime_type not in (None, "text/plain", "application/json", "text/x.enum"):
        refuse(
            "* GenerateContentRequest.generation_config.response_mime_type: allowed mimetypes are "
            "`text/plain`, `application/json`, `application/xml`, `application/yaml` and `text/x.enum`. Got "
            f"`{config.response_mime_type}`."
        )
    if config.response_mime_type == "application/json" and body.declarations() and not here.family.with_json:
        refuse("Function calling with a response mime type: 'application/json' is unsupported")
    if config.response_schema is not None:
        schema(config.response_schema, "generation_config.response_schema", openapi)
    if config.response_json_schema is not None:
        schema(config.response_json_schema, "generation_config.response_json_schema", json_schema)


# --- tools ------------------------------------------------------------------------------------------------

NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}")


def tools(body: Body, here: Situation) -> None:
    names: list[str] = []
    for at, tool in enumerate(body.tools or ()):
        for number, each in enumerate(tool.function_declarations or ()):
            declaration(each, f"tools[{at}].function_declarations[{number}]")
            names.append(each.name)
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        refuse(f"Duplicate function declaration found: {double}")
    server_tools(body, here, bool(names))


def server_tools(body: Body, here: Situation, functions: bool) -> None:
    """Google's own tools beside functions: Gemini 3 and later only, and only when it is said."""
    included = body.tool_config is not None and body.tool_config.include_server_side_tool_invocations
    if included and here.family.generation < 3:
        refuse("Tool call context circulation is not enabled")
    searches = any(
        tool.google_search is not None or tool.url_context is not None for tool in body.tools or ()
    )
    if searches and functions and not included:
        refuse(
            "Built-in tools and function calling can only be combined with "
            "include_server_side_tool_invocations set to true in tool_config."
            if here.family.generation >= 3
            else "Tool use with function calling is unsupported"
        )


def declaration(each: FunctionDeclaration, where: str) -> None:
    if not NAME.fullmatch(each.name):
        refuse(
            f"* GenerateContentRequest.{where}.name: [FieldPolicy] Invalid function name. Must start with a "
            "letter or an underscore. Must be alphanumeric (a-z, A-Z, 0-9), underscores (_), dots (.), "
            "colons (:), or dashes (-), with a maximum length of 128."
        )
    if each.parameters is not None and each.parameters_json_schema is not None:
        refuse(
            f"* GenerateContentRequest.{where}: only one of parameters and parameters_json_schema may be set."
        )
    if each.parameters is not None:
        schema(each.parameters, f"{where}.parameters", openapi)
        if str(each.parameters.get("type", "")).upper() != "OBJECT":
            refuse(
                f"* GenerateContentRequest.{where}.parameters: functionDeclaration parameters schema should "
                "be of type OBJECT."
            )
    if each.parameters_json_schema is not None:
        schema(each.parameters_json_schema, f"{where}.parameters_json_schema", json_schema)


def calling(body: Body, here: Situation) -> None:
    config = body.tool_config.function_calling_config if body.tool_config else None
    if config is None:
        return
    names = {each.name for each in body.declarations()}
    if not names:
        refuse("Function calling config is set without function_declarations.")
    mode = config.mode or "AUTO"
    if mode not in ("AUTO", "ANY", "NONE", "VALIDATED", "MODE_UNSPECIFIED"):
        violation(
            "tool_config.function_calling_config.mode",
            "Invalid value at 'tool_config.function_calling_config.mode' "
            f'(type.googleapis.com/google.ai.generativelanguage.v1beta.FunctionCallingConfig.Mode), "{mode}"',
        )
    allowed = config.allowed_function_names or ()
    if allowed and mode not in ("ANY", "VALIDATED"):
        refuse("Please set allowed_function_names only when function calling mode is ANY.")
    strange = [name for name in allowed if name not in names]
    if strange:
        refuse(f"allowed_function_names contains `{strange[0]}`, which is not a declared function.")


def cached(body: Body, here: Situation) -> None:
    if body.cached_content is None:
        return
    if not here.family.cache:
        refuse(f"CachedContent is not supported for models/{here.model}")
    if body.system_instruction is not None or body.tools or body.tool_config is not None:
        refuse(
            "CachedContent can not be used with GenerateContent request setting system_instruction, tools "
            "or tool_config. Proposed fix: move those values to CachedContent from GenerateContent request."
        )


# --- schemas (section 4) ------------------------------------------------------------------------------------

OPENAPI = frozenset(
    {
        "type",
        "format",
        "title",
        "description",
        "nullable",
        "enum",
        "default",
        "items",
        "minItems",
        "maxItems",
        "properties",
        "minProperties",
        "maxProperties",
        "required",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "pattern",
        "example",
        "anyOf",
        "propertyOrdering",
    }
)
TYPES = ("STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL")


def schema(value: Any, where: str, channel: Callable[[Any, str], None]) -> None:
    """A schema is well-formed, and is what its channel takes."""
    mistake = schema_mistake(value)
    if mistake is not None:
        at = snake(".".join(filter(None, (where, mistake.indexed()))))
        violation(at, f"Invalid value at '{at}' (message)")
    channel(value, where)


def openapi(schema: Any, where: str) -> None:
    """The OpenAPI subset of `parameters` and `responseSchema`: a protobuf message, so unknown names are
    errors.
    """
    if not isinstance(schema, dict):
        violation(where, f"Invalid value at '{where}' (message)")
    for keyword in schema:
        if camel(keyword) not in OPENAPI:
            violation(
                where,
                f"Invalid JSON payload received. Unknown name \"{keyword}\" at '{where}': Cannot find field.",
            )
    kind = schema.get("type")
    if kind is not None and (not isinstance(kind, str) or kind.upper() not in TYPES):
        shown = msgspec.json.encode(kind).decode()
        violation(
            f"{where}.type",
            f"Invalid value at '{where}.type' "
            f"(type.googleapis.com/google.ai.generativelanguage.v1beta.Type), {shown}",
        )
    contents(schema, str(kind or "").upper(), where)
    inner(schema, where)


def contents(schema: dict[str, Any], kind: str, where: str) -> None:
    """What a schema of this type must have, and must not have."""
    if kind == "OBJECT" and not schema.get("properties"):
        refuse(f"* GenerateContentRequest.{where}.properties: should be non-empty for OBJECT type")
    if kind == "ARRAY" and "items" not in schema:
        refuse(f"* GenerateContentRequest.{where}.items: missing field.")
    values = schema.get("enum")
    if values is not None and (kind != "STRING" or not all(isinstance(value, str) for value in values)):
        refuse(f"* GenerateContentRequest.{where}.enum: only allowed for STRING type")
    for name in schema.get("required") or ():
        if name not in (schema.get("properties") or {}):
            refuse(f"* GenerateContentRequest.{where}.required: property is not defined: {name}")


def inner(schema: dict[str, Any], where: str) -> None:
    for name, each in (schema.get("properties") or {}).items():
        openapi(each, f"{where}.properties[{name}]")
    if "items" in schema:
        openapi(schema["items"], f"{where}.items")
    for at, each in enumerate(schema.get("anyOf") or ()):
        openapi(each, f"{where}.any_of[{at}]")


def json_schema(schema: Any, where: str) -> None:
    """The JSON Schema channel is lenient; a reference may have no siblings but `$` ones."""
    if isinstance(schema, list):
        for each in schema:
            json_schema(each, where)
    if not isinstance(schema, dict):
        return
    if isinstance(schema.get("$ref"), str) and any(not keyword.startswith("$") for keyword in schema):
        refuse(
            f"* GenerateContentRequest.{where}: a schema with $ref may only have siblings that start with $."
        )
    for each in schema.values():
        json_schema(each, where)


CHECKS: tuple[Callable[[Body, Situation], None], ...] = (
    tools,
    calling,
    ranges,
    family_limits,
    thinking,
    answer_format,
    cached,
)
