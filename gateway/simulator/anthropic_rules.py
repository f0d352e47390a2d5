"""What Anthropic's /v1/messages refuses besides the order of messages, and how it says so (sections 1 to 4,
7).

Rule of this file: tables of checks over the shapes of `anthropic_shapes.py` that raise Rejected. The order of
messages and blocks is in `anthropic_turns.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NoReturn

from msgspec import Struct

from .anthropic_models import MODELS, Family
from .anthropic_shapes import (
    BETAS,
    SERVER_TOOLS,
    Adaptive,
    BetweenTools,
    Body,
    Countable,
    CustomTool,
    Disabled,
    Enabled,
    Text,
)
from .checks import Mistake, convert, schema_mistake, walk
from .wire import Rejected, Request

OLD, NEW = "2023-06-01", "2026-10-21"
"""The two values of anthropic-version. NEW takes no sampling parameter on any model."""

KNOWN_BETAS = (
    "prompt-caching-",
    "pdfs-",
    "token-counting-",
    "extended-cache-ttl-",
    "structured-outputs-",
    "files-api-",
    "skills-",
    "code-execution-",
    "fine-grained-tool-streaming-",
    "interleaved-thinking-",
    "thinking-binding-controls-2026-08-01",
    "server-side-fallback-2026-07-01",
    "context-management-",
    "mcp-client-",
    "context-1m-",
    "effort-",
)
BINDING_BETA = "thinking-binding-controls-2026-08-01"


class Situation(Struct, frozen=True):
    """What the checks look at beside the body."""

    family: Family
    version: str
    betas: tuple[str, ...]


def refuse(message: str, status: int = 400, type: str = "invalid_request_error") -> NoReturn:
    raise Rejected(status, message, type=type)


# --- headers --------------------------------------------------------------------------------------------


def authenticate(request: Request) -> str:
    """The key. Any non-empty one will do, except one that contains `wrong`."""
    key = request.headers.get("x-api-key", "")
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    if key and bearer:
        refuse("x-api-key and authorization headers may not both be set", 401, "authentication_error")
    if not key and (scheme.lower() != "bearer" or not bearer.strip()):
        refuse("x-api-key header is required", 401, "authentication_error")
    if "wrong" in key + bearer:
        refuse("invalid x-api-key" if key else "Invalid bearer token", 401, "authentication_error")
    return key or bearer


def version_of(request: Request) -> str:
    version = request.headers.get("anthropic-version")
    if version is None:
        refuse("anthropic-version: header is required")
    if version not in (OLD, NEW):
        refuse(f'anthropic-version: "{version}" is not a valid version')
    return version


def betas_of(request: Request) -> tuple[str, ...]:
    given = request.headers.get("anthropic-beta")
    if given is None:
        return ()
    names = tuple(given.split(","))
    unknown = [name for name in names if not name or not name.startswith(KNOWN_BETAS)]
    if unknown:
        listed = ", ".join(f"`{name}`" for name in unknown)
        refuse(
            f"Unexpected value(s) {listed} for the `anthropic-beta` header. Please consult our documentation "
            "or try again without the header."
        )
    return names


# --- shapes ---------------------------------------------------------------------------------------------

TYPES = {
    "str": "a valid string",
    "int": "a valid integer",
    "float": "a valid number",
    "bool": "a valid boolean",
    "array": "a valid list",
    "object": "a valid dictionary",
}


def misshapen(mistake: Mistake) -> NoReturn:
    """Word a decode mistake as Anthropic does."""
    where = mistake.dotted()
    prefix = f"{where}: " if where else ""
    if mistake.kind == "json":
        refuse("The request body is not valid JSON: " + mistake.expected)
    if mistake.kind == "unknown":
        refuse(f"{prefix}Extra inputs are not permitted")
    if mistake.kind == "missing":
        refuse(f"{prefix}Field required")
    if mistake.kind == "value":
        refuse(f"{prefix}Input '{mistake.got}' does not match any of the expected values")
    wanted = next((text for name, text in TYPES.items() if name in mistake.expected.split(" | ")), "valid")
    refuse(f"{prefix}Input should be {wanted}")


# --- what is read (messages and count_tokens) -------------------------------------------------------------


def fields(body: Countable, here: Situation) -> None:
    for name, beta in BETAS.items():
        if getattr(body, name, None) is not None and not any(each.startswith(beta) for each in here.betas):
            refuse(f"{name}: Extra inputs are not permitted")


def thinking(body: Countable, here: Situation) -> None:
    """Which form of thinking the family takes (4.1 and the table of 7)."""
    asked, family = body.thinking, here.family
    if isinstance(asked, Adaptive):
        if not family.adaptive:
            refuse("adaptive thinking is not supported on this model")
        if asked.block_binding is not None and BINDING_BETA not in here.betas:
            refuse("thinking.adaptive.block_binding: Extra inputs are not permitted")
    elif isinstance(asked, Enabled):
        budget(body, asked, here)
    elif isinstance(asked, BetweenTools) and not family.between:
        refuse('"thinking.type.between_tools" is not supported for this model.')
    elif isinstance(asked, Disabled) and family.disable == "no":
        hint = ' Use "thinking.type.between_tools".' if family.between else ""
        refuse(f'"thinking.type.disabled" is not supported for this model.{hint}')


def budget(body: Countable, asked: Enabled, here: Situation) -> None:
    if not here.family.budget:
        refuse(
            '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and '
            '"output_config.effort" to control thinking behavior.'
        )
    if asked.budget_tokens < 1024:
        refuse("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
    if isinstance(body, Body) and asked.budget_tokens >= body.max_tokens:
        refuse("`max_tokens` must be greater than `thinking.budget_tokens`.")
    if forces(body):
        refuse("Thinking may not be enabled when tool_choice forces tool use.")
    if body.messages and body.messages[-1].role == "assistant":
        refuse("Assistant message prefill is not supported when thinking is enabled.")


def effort(body: Countable, here: Situation) -> None:
    wanted = body.output_config.effort if body.output_config else None
    if wanted is None:
        return
    efforts = here.family.efforts
    if not efforts:
        refuse("This model does not support the effort parameter.")
    if wanted not in efforts:
        levels = ", ".join(sorted(efforts))
        refuse(f"This model does not support effort level '{wanted}'. Supported levels: {levels}.")
    off = isinstance(body.thinking, BetweenTools) or (
        isinstance(body.thinking, Disabled) and here.family.disable == "to_high"
    )
    if off and wanted in ("xhigh", "max"):
        refuse(f"effort level '{wanted}' is not supported when thinking is turned off on this model.")


NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")


def tools(body: Countable, here: Situation) -> None:
    names: list[str] = []
    for at, given in enumerate(body.tools or ()):
        kind = given.get("type", "custom")
        if kind == "custom" or kind is None:
            tool = convert(given, CustomTool, ("tools", at, "custom"))
            if isinstance(tool, Mistake):
                misshapen(tool)
            custom(tool, f"tools.{at}.custom")
            names.append(tool.name)
        elif not isinstance(kind, str) or not kind.startswith(SERVER_TOOLS):
            refuse(
                f"tools.{at}: Input tag '{kind}' found using 'type' does not match any of the expected tags"
            )
    if len(set(names)) < len(names):
        refuse("tools: Tool names must be unique.")
    if sum(bool(given.get("strict")) for given in body.tools or ()) > 20:
        refuse("tools: at most 20 strict tools are allowed. Schema is too complex for compilation.")


def custom(tool: CustomTool, where: str) -> None:
    if not NAME.fullmatch(tool.name):
        refuse(f"{where}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    if tool.input_schema.get("type") != "object":
        wrong = "Input should be 'object'" if "type" in tool.input_schema else "Field required"
        refuse(f"{where}.input_schema.type: {wrong}")
    if any(keyword in tool.input_schema for keyword in ("anyOf", "oneOf", "allOf")):
        refuse(f"{where}.input_schema: input_schema does not support oneOf, allOf, or anyOf at the top level")
    well_formed(tool.input_schema, f"{where}.input_schema")
    if tool.strict:
        subset(tool.input_schema, where)


def well_formed(schema: dict[str, Any], where: str) -> None:
    if schema_mistake(schema) is not None:
        refuse(f"{where}: JSON schema is invalid. It must match JSON Schema draft 2020-12.")


def forces(body: Countable) -> bool:
    return body.tool_choice is not None and body.tool_choice.type in ("any", "tool")


def tool_choice(body: Countable, here: Situation) -> None:
    choice = body.tool_choice
    if choice is None:
        return
    if not body.tools:
        refuse("tool_choice may only be specified while providing tools.")
    if choice.type == "none" and choice.disable_parallel_tool_use is not None:
        refuse("tool_choice.none.disable_parallel_tool_use: Extra inputs are not permitted")
    if choice.type == "tool" and choice.name is None:
        refuse("tool_choice.tool.name: Field required")
    if choice.type != "tool" and choice.name is not None:
        refuse(f"tool_choice.{choice.type}.name: Extra inputs are not permitted")
    if forces(body) and not here.family.forced:
        refuse('tool_choice: type "tool" and "any" are not supported for this model.')
    if choice.name is not None and choice.name not in {tool.get("name") for tool in body.tools}:
        refuse(f"Tool '{choice.name}' not found in provided tools")


# --- schemas (3.4) ----------------------------------------------------------------------------------------

KEYWORDS = frozenset(
    {
        "type",
        "enum",
        "const",
        "anyOf",
        "allOf",
        "$ref",
        "$defs",
        "definitions",
        "default",
        "required",
        "properties",
        "additionalProperties",
        "format",
        "items",
        "minItems",
        "pattern",
        "title",
        "description",
        "$schema",
        "examples",
    }
)
FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)


def subset(schema: dict[str, Any], where: str) -> None:
    """The JSON schema subset of structured outputs and strict tools."""
    for each in schemas(schema):
        unknown = [keyword for keyword in each if keyword not in KEYWORDS]
        if unknown:
            kind = each.get("type", "schema")
            refuse(f"{where}: For '{kind}' type, property '{unknown[0]}' is not supported")
        if each.get("type") == "object" and each.get("additionalProperties") is not False:
            refuse(f"{where}: For 'object' type, 'additionalProperties' must be explicitly set to false")
        if each.get("minItems", 0) not in (0, 1):
            refuse(f"{where}: For 'array' type, 'minItems' values other than 0 or 1 are not supported")
        if each.get("format", "date") not in FORMATS:
            refuse(f"{where}: String format '{each['format']}' is not supported")
        if not str(each.get("$ref", "#")).startswith("#"):
            refuse(f"{where}: External $ref is not supported")
    if recursive(schema):
        refuse(f"{where}: Recursive schemas are not supported")


def schemas(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Every schema inside a schema: the values of maps such as `properties`, not the maps."""
    found, waiting = [], [schema]
    while waiting:
        each = waiting.pop()
        found.append(each)
        for keyword, value in each.items():
            if keyword in ("properties", "$defs", "definitions", "patternProperties") and isinstance(
                value, dict
            ):
                waiting += [inner for inner in value.values() if isinstance(inner, dict)]
            elif keyword in ("anyOf", "allOf", "oneOf", "prefixItems") and isinstance(value, list):
                waiting += [inner for inner in value if isinstance(inner, dict)]
            elif keyword == "items" and isinstance(value, dict):
                waiting.append(value)
    return found


def recursive(schema: dict[str, Any]) -> bool:
    """A definition that can reach itself, or a reference to the root."""
    definitions = {
        f"#/{key}/{name}": {str(each["$ref"]) for each in walk(value) if "$ref" in each}
        for key in ("$defs", "definitions")
        for name, value in (schema.get(key) or {}).items()
    }
    if any(each.get("$ref") == "#" for each in walk(schema)):
        return True
    for start in definitions:
        seen: set[str] = set()
        waiting = list(definitions[start])
        while waiting:
            target = waiting.pop()
            if target == start:
                return True
            if target not in seen:
                seen.add(target)
                waiting += definitions.get(target, ())
    return False


def output_format(body: Countable, here: Situation) -> None:
    wanted = body.output_config.format if body.output_config else None
    if wanted is None:
        return
    well_formed(wanted.schema, "output_config.format.schema")
    subset(wanted.schema, "output_config.format.schema")
    everything = [message.content for message in body.messages]
    if any((each.get("citations") or {}) == {"enabled": True} for each in walk(everything)):
        refuse("output_config.format: citations are not supported together with a structured output format")


def caching(body: Countable, here: Situation) -> None:
    places = [body.system, body.tools, [message.content for message in body.messages]]
    marks = sum("cache_control" in each and each["cache_control"] is not None for each in walk(places))
    marks += body.cache_control is not None
    if marks > 4:
        refuse(f"A maximum of 4 blocks with cache_control may be provided. Found {marks}.")


# --- how it is answered (messages only) ---------------------------------------------------------------------


def sampling(body: Body, here: Situation) -> None:
    for name in ("temperature", "top_p", "top_k"):
        if getattr(body, name) is not None and here.version == NEW:
            refuse(f"{name}: Extra inputs are not permitted")
    for name in ("temperature", "top_p"):
        value = getattr(body, name)
        if value is not None and not 0 <= value <= 1:
            bound = "greater than or equal to 0" if value < 0 else "less than or equal to 1"
            refuse(f"{name}: Input should be {bound}")
    if here.family.sampling == "default":
        default_sampling(body)
    if body.temperature is not None and body.top_p is not None:
        refuse("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")
    if isinstance(body.thinking, Enabled):
        sampling_while_thinking(body)


def default_sampling(body: Body) -> None:
    """Models that take no sampling parameter but the default."""
    if body.temperature not in (None, 1):
        refuse("`temperature` is not supported on this model; only the default (1) is accepted.")
    for name in ("top_p", "top_k"):
        if getattr(body, name) is not None:
            refuse(f"`{name}` is not supported on this model.")


def sampling_while_thinking(body: Body) -> None:
    if body.temperature not in (None, 1):
        refuse("`temperature` may only be set to 1 when thinking is enabled.")
    if body.top_k is not None:
        refuse("`top_k` must be unset when thinking is enabled.")
    if body.top_p is not None and body.top_p < 0.95:
        refuse("`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled.")


EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
PHONE = re.compile(r"\+?[\d ().-]{7,20}")


def numbers(body: Body, here: Situation) -> None:
    if body.max_tokens < 0:
        refuse("max_tokens: Input should be greater than or equal to 0")
    if body.max_tokens > here.family.output:
        refuse(
            f"max_tokens: {body.max_tokens} > {here.family.output}, which is the maximum allowed number of "
            f"output tokens for {body.model}"
        )
    if any(not stop.strip() for stop in body.stop_sequences or ()):
        refuse("stop_sequences: each stop sequence must contain non-whitespace")


def metadata(body: Body, here: Situation) -> None:
    user = body.metadata.user_id if body.metadata else None
    if user and EMAIL.search(user):
        refuse("metadata.user_id: user_id appears to contain an email address")
    if user and PHONE.fullmatch(user) and sum(letter.isdigit() for letter in user) >= 7:
        refuse("metadata.user_id: user_id appears to contain a phone number")


READ: tuple[Callable[[Countable, Situation], None], ...] = (
    fields,
    thinking,
    effort,
    tools,
    tool_choice,
    output_format,
    caching,
)
ANSWERED: tuple[Callable[[Body, Situation], None], ...] = (numbers, sampling, metadata)


def family_of(model: str) -> Family:
    family = MODELS.get(model)
    if family is None:
        refuse(f"model: {model}", 404, "not_found_error")
    return family


def system_texts(body: Countable) -> list[str]:
    """The texts of `system`; each must have something in it."""
    if body.system is None or isinstance(body.system, str):
        texts = [body.system] if body.system else []
    else:
        texts = []
        for at, given in enumerate(body.system):
            block = convert(given, Text, ("system", at))
            if isinstance(block, Mistake):
                misshapen(block)
            texts.append(block.text)
    if any(not text.strip() for text in texts):
        refuse("system: text content blocks must contain non-whitespace text")
    return texts
