"""What OpenAI's /v1/chat/completions refuses, and how it says so.

Rule of this file: a table of checks over the shapes of `openai_shapes.py` that raise Rejected; nothing is
answered here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NoReturn

from msgspec import UNSET

from .checks import Mistake, base64_size, decode, schema_mistake, walk
from .openai_models import Family, find
from .openai_shapes import (
    Assistant,
    AudioPart,
    Body,
    File,
    FilePart,
    Function,
    FunctionCall,
    FunctionTool,
    ImagePart,
    JsonFormat,
    SchemaFormat,
    TextPart,
    ToolMessage,
)
from .wire import Rejected

# --- refusals -------------------------------------------------------------------------------------------


def refuse(message: str, param: str | None = None, code: str | None = None, status: int = 400) -> NoReturn:
    raise Rejected(status, message, type="invalid_request_error", param=param, code=code)


def unsupported_parameter(param: str, hint: str = "") -> NoReturn:
    refuse(
        f"Unsupported parameter: '{param}' is not supported with this model.{hint}",
        param,
        "unsupported_parameter",
    )


TYPE_NAMES = {
    "str": "a string",
    "int": "an integer",
    "float": "a decimal",
    "bool": "a boolean",
    "array": "an array",
    "object": "an object",
    "null": "null",
}
ROLES = "'system', 'assistant', 'user', 'function', 'tool', and 'developer'"


def named(types: str) -> str:
    """`int | null` as OpenAI says it: an integer."""
    parts = [TYPE_NAMES.get(each, each) for each in types.split(" | ") if each != "null" or types == "null"]
    return parts[0] if len(parts) == 1 else f"one of {' or '.join(part.split(' ')[-1] for part in parts)}"


def misshapen(mistake: Mistake) -> NoReturn:
    """Word a decode mistake as OpenAI does."""
    where = mistake.indexed()
    if mistake.kind == "json":
        refuse("We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)")  # fmt: skip  # noqa: E501
    if mistake.kind == "unknown":
        if len(mistake.path) == 1:
            refuse(f"Unrecognized request argument supplied: {where}")
        refuse(f"Unknown parameter: '{where}'.", where, "unknown_parameter")
    if mistake.kind == "missing":
        if where == "model":
            refuse("you must provide a model parameter")
        refuse(f"Missing required parameter: '{where}'.", where, "missing_required_parameter")
    if mistake.kind == "value":
        hint = f" Supported values are: {ROLES}." if where.endswith(".role") else ""
        refuse(f"Invalid value: '{mistake.got}'.{hint}", where, "invalid_value")
    got = "null" if mistake.got == "null" else f"{named(mistake.got)}"
    refuse(
        f"Invalid type for '{where}': expected {named(mistake.expected)}, but got {got} instead.",
        where or None,
        "invalid_type",
    )


# --- checks ---------------------------------------------------------------------------------------------

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)(?:;[^;,]+)*;base64,(?P<data>.*)", re.DOTALL)
IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "n": (1, 128),
    "top_logprobs": (0, 20),
    "max_tokens": (1, 10**9),
    "max_completion_tokens": (1, 10**9),
}
WHOLE = frozenset({"n", "top_logprobs", "max_tokens", "max_completion_tokens"})


def ranges(body: Body, family: Family) -> None:
    for name, (low, high) in RANGES.items():
        value = getattr(body, name)
        if value is None or low <= value <= high:
            continue
        kind = "integer" if name in WHOLE else "decimal"
        side, sign, bound = ("below minimum", ">=", low) if value < low else ("above maximum", "<=", high)
        code = f"{kind}_{side.replace(' minimum', '_min').replace(' maximum', '_max')}_value"
        refuse(
            f"Invalid '{name}': {kind} {side} value. Expected a value {sign} {bound}, but got {value} "
            "instead.",
            name,
            code,
        )
    for token, bias in (body.logit_bias or {}).items():
        if not token.isdigit() or not -100 <= bias <= 100:
            refuse(f"Invalid key or value in 'logit_bias': {token}.", "logit_bias", "invalid_value")


def lengths(body: Body, family: Family) -> None:
    """Empty and too long lists, and the sizes of metadata."""
    if not body.messages:
        empty_array("messages")
    if body.tools is not None and not body.tools:
        empty_array("tools")
    if isinstance(body.stop, list) and len(body.stop) > 4:
        refuse(
            "Invalid 'stop': array too long. Expected an array with maximum length 4, but got an array "
            f"with length {len(body.stop)} instead.",
            "stop",
            "array_above_max_length",
        )
    pairs = body.metadata or {}
    if len(pairs) > 16 or any(len(key) > 64 or len(value) > 512 for key, value in pairs.items()):
        refuse("Invalid 'metadata': at most 16 pairs of 64 and 512 characters.", "metadata", "invalid_value")
    if body.safety_identifier is not None and len(body.safety_identifier) > 128:
        refuse(
            "Invalid 'safety_identifier': string too long.", "safety_identifier", "string_above_max_length"
        )


def empty_array(name: str) -> NoReturn:
    refuse(
        f"Invalid '{name}': empty array. Expected an array with minimum length 1, but got an empty array "
        "instead.",
        name,
        "empty_array",
    )


def needs(body: Body, family: Family) -> None:
    """Parameters that only make sense with another one."""
    if body.stream_options is not None and not body.stream:
        refuse(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            "stream_options",
        )
    if body.top_logprobs is not None and not body.logprobs:
        refuse("The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.", "top_logprobs")
    for name in ("tool_choice", "parallel_tool_calls"):
        if getattr(body, name) not in (None, UNSET) and body.tools is None:
            refuse(
                f"Invalid value for '{name}': '{name}' is only allowed when 'tools' are specified.",
                name,
                "invalid_value",
            )
    if body.function_call is not None and body.functions is None:
        refuse("Invalid value for 'function_call': no function specified.", "function_call", "invalid_value")
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        refuse(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            "max_tokens",
        )
    if body.modalities and "audio" in body.modalities and body.audio is None:
        refuse("Missing required parameter: 'audio'.", "audio", "missing_required_parameter")


def reasoning(body: Body, family: Family) -> None:
    """What a reasoning model refuses, and what only a reasoning model takes."""
    if not family.efforts:
        if body.reasoning_effort is not None:
            refuse("Unrecognized request argument supplied: reasoning_effort")
        return
    if body.max_tokens is not None:
        unsupported_parameter("max_tokens", " Use 'max_completion_tokens' instead.")
    if body.reasoning_effort is not None and body.reasoning_effort not in family.efforts:
        allowed = ", ".join(f"'{effort}'" for effort in family.efforts[:-1])
        refuse(
            f"Unsupported value: 'reasoning_effort' does not support '{body.reasoning_effort}' with this "
            f"model. Supported values are: {allowed}, and '{family.efforts[-1]}'.",
            "reasoning_effort",
            "unsupported_value",
        )
    for name in ("presence_penalty", "frequency_penalty", "stop", "logit_bias", "prediction", "audio"):
        if getattr(body, name) is not None:
            unsupported_parameter(name)
    if body.modalities and "audio" in body.modalities:
        unsupported_parameter("modalities")
    if body.effort(family) != "none":
        sampling(body)


def sampling(body: Body) -> None:
    if body.temperature not in (None, 1):
        refuse(
            f"Unsupported value: 'temperature' does not support {body.temperature:g} with this model. Only "
            "the default (1) value is supported.",
            "temperature",
            "unsupported_value",
        )
    for name in ("top_p", "logprobs", "top_logprobs"):
        if getattr(body, name) not in (None, False):
            unsupported_parameter(name)


def tools_while_reasoning(body: Body, family: Family) -> None:
    """Fact 1 of the document: gpt-5.4 and later take function tools here only with effort "none"."""
    functions = any(isinstance(tool, FunctionTool) for tool in body.tools or ()) or body.functions
    if functions and family.tools == "unless_reasoning" and body.effort(family) != "none":
        refuse(
            f"Function tools with reasoning_effort are not supported for {body.model} in "
            "/v1/chat/completions. To use function tools, use /v1/responses or set reasoning_effort to "
            "'none'.",
            "reasoning_effort",
        )


def limits(body: Body, family: Family) -> None:
    limit = body.limit()
    if limit is not None and limit > family.output:
        name = "max_tokens" if body.max_tokens is not None else "max_completion_tokens"
        refuse(
            f"{name} is too large: {limit}. This model supports at most {family.output} completion tokens, "
            f"whereas you provided {limit}.",
            name,
            "invalid_value",
        )


def tools(body: Body, family: Family) -> None:
    for at, tool in enumerate(body.tools or ()):
        if isinstance(tool, FunctionTool):
            function_shape(tool.function, f"tools[{at}].function")
        elif not NAME.fullmatch(tool.custom.name):
            bad_name(f"tools[{at}].custom.name")
    for at, function in enumerate(body.functions or ()):
        function_shape(function, f"functions[{at}]")
    choice(body)


def function_shape(function: Function, where: str) -> None:
    if not NAME.fullmatch(function.name):
        bad_name(f"{where}.name")
    schema = function.parameters
    well_formed(schema, f"function '{function.name}'", f"{where}.parameters")
    if schema and schema.get("type") != "object":
        refuse(
            f"Invalid schema for function '{function.name}': schema must be a JSON Schema of 'type: "
            f'"object"\', got \'type: "{schema.get("type")}"\'.',
            f"{where}.parameters",
            "invalid_function_parameters",
        )
    if function.strict and schema:
        strict_schema(
            schema, f"function '{function.name}'", f"{where}.parameters", "invalid_function_parameters"
        )


def well_formed(schema: dict[str, Any] | None, owner: str, param: str) -> None:
    mistake = schema_mistake(schema or {})
    if mistake is not None:
        refuse(
            f"Invalid schema for {owner}: {mistake.got or 'value'} is not valid at '{mistake.indexed()}'.",
            param,
            "invalid_function_parameters" if "parameters" in param else None,
        )


def bad_name(where: str) -> NoReturn:
    refuse(
        f"Invalid '{where}': string does not match pattern. Expected a string that matches the pattern "
        "'^[a-zA-Z0-9_-]+$'.",
        where,
        "invalid_value",
    )


def strict_schema(schema: dict[str, Any], owner: str, param: str, code: str | None = None) -> None:
    """strict: every object closed, every property required."""
    for each in walk(schema):
        wanted = each.get("properties")
        if each.get("type") != "object" or not isinstance(wanted, dict | None):
            continue
        if each.get("additionalProperties") is not False:
            refuse(
                f"Invalid schema for {owner}: In context=(), 'additionalProperties' is required to be "
                "supplied and to be false.",
                param,
                code,
            )
        missing = [name for name in wanted or () if name not in each.get("required", ())]
        if missing:
            refuse(
                f"Invalid schema for {owner}: In context=(), 'required' is required to be supplied and to "
                f"be an array including every key in properties. Missing '{missing[0]}'.",
                param,
                code,
            )


def choice(body: Body) -> None:
    """tool_choice is a known word, or names an offered tool."""
    chosen = body.tool_choice
    if isinstance(chosen, str) and chosen not in ("none", "auto", "required"):
        refuse(
            f"Invalid value: '{chosen}'. Supported values are: 'none', 'auto', and 'required'.",
            "tool_choice",
            "invalid_value",
        )
    if not isinstance(chosen, dict):
        return
    kind = str(chosen.get("type"))
    if kind not in ("function", "custom", "allowed_tools") or not isinstance(chosen.get(kind), dict):
        refuse("Invalid value for 'tool_choice'.", "tool_choice", "invalid_value")
    offered = {
        tool.function.name if isinstance(tool, FunctionTool) else tool.custom.name
        for tool in body.tools or ()
    }
    if kind != "allowed_tools" and str(chosen[kind].get("name")) not in offered:
        refuse(
            f"Invalid value for 'tool_choice': tool '{chosen[kind].get('name')}' not found in 'tools'.",
            "tool_choice",
            "invalid_value",
        )


def answer_format(body: Body, family: Family) -> None:
    wanted = body.response_format
    if isinstance(wanted, SchemaFormat):
        if not NAME.fullmatch(wanted.json_schema.name):
            bad_name("response_format.json_schema.name")
        schema = wanted.json_schema.schema
        well_formed(schema, f"response_format '{wanted.json_schema.name}'", "response_format")
        if wanted.json_schema.strict and schema is not None:
            strict_schema(schema, f"response_format '{wanted.json_schema.name}'", "response_format")
    if isinstance(wanted, JsonFormat) and "json" not in all_text(body).lower():
        refuse(
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type "
            "'json_object'.",
            "messages",
        )


def all_text(body: Body) -> str:
    return "\n".join(text_of(message.content) for message in body.messages)


def text_of(content: Any) -> str:
    """The text of any content: a string, parts, or nothing."""
    if isinstance(content, str):
        return content
    return "".join(part.text for part in content or () if isinstance(part, TextPart))


def order(body: Body, family: Family) -> None:
    """Every tool message answers a call of the assistant message before it, and every call is answered."""
    waiting: list[str] = []
    for at, message in enumerate(body.messages):
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in waiting:
                refuse(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceeding "
                    "message with 'tool_calls'.",
                    f"messages.[{at}].role",
                )
            waiting.remove(message.tool_call_id)
            continue
        unanswered(waiting)
        if isinstance(message, Assistant):
            waiting = assistant(message, at)
    unanswered(waiting)


def unanswered(waiting: list[str]) -> None:
    if waiting:
        ids = ", ".join(waiting)
        refuse(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. The following tool_call_ids did not have response messages: {ids}",
            "messages",
        )


def assistant(message: Assistant, at: int) -> list[str]:
    """Check one assistant message; returns the ids that wait for an answer."""
    if message.tool_calls is not None and not message.tool_calls:
        empty_array(f"messages[{at}].tool_calls")
    said = message.content is not None or message.refusal is not None or message.audio is not None
    if not said and not message.tool_calls and message.function_call is None:
        refuse(
            "Invalid value for 'content': expected a string, got null.",
            f"messages.[{at}].content",
        )
    for number, call in enumerate(message.tool_calls or ()):
        name = call.function.name if isinstance(call, FunctionCall) else call.custom.name
        if not NAME.fullmatch(name):
            bad_name(f"messages[{at}].tool_calls[{number}].function.name")
    return [call.id for call in message.tool_calls or ()]


def media(body: Body, family: Family) -> None:
    for at, message in enumerate(body.messages):
        if message.content == []:
            empty_array(f"messages[{at}].content")
        for number, part in enumerate(message.content if isinstance(message.content, list) else ()):
            where = f"messages[{at}].content[{number}]"
            if isinstance(part, ImagePart):
                image(part.image_url.url, f"{where}.image_url.url")
            elif isinstance(part, AudioPart) and base64_size(part.input_audio.data) is None:
                refuse(f"Invalid '{where}.input_audio.data': not base64.", where, "invalid_value")
            elif isinstance(part, FilePart):
                file(part.file, where)


def image(url: str, where: str) -> None:
    if url.startswith(("http://", "https://")):
        return
    found = DATA_URL.fullmatch(url)
    if found is None or found["type"] not in IMAGES or base64_size(found["data"]) is None:
        refuse(
            f"Invalid '{where}'. Expected a valid URL or a base64-encoded data URL with an image MIME type "
            "(e.g. 'data:image/png;base64,aW1nIGJ5dGVzIGhlcmU='), but got a value without it.",
            where,
            "invalid_value",
        )


def file(file: File, where: str) -> None:
    if file.file_id is not None:
        return
    found = DATA_URL.fullmatch(file.file_data or "")
    if found is None or base64_size(found["data"]) is None:
        refuse(
            f"Invalid '{where}.file.file_data'. Expected a base64-encoded data URL with a MIME type.",
            f"{where}.file.file_data",
            "invalid_value",
        )


def window(body: Body, family: Family) -> None:
    read = len(all_text(body)) // 4
    if read > family.window:
        refuse(
            f"Input tokens exceed the configured limit of {family.window} tokens. Your messages resulted in "
            f"{read} tokens. Please reduce the length of the messages.",
            "messages",
            "context_length_exceeded",
        )


CHECKS: tuple[Callable[[Body, Family], None], ...] = (
    lengths,
    ranges,
    reasoning,
    tools_while_reasoning,
    needs,
    limits,
    tools,
    answer_format,
    order,
    media,
    window,
)


def no_such_model(model: str) -> NoReturn:
    refuse(f"The model '{model}' does not exist", "model", "model_not_found", status=404)


def checked(raw: bytes) -> tuple[Body, Family]:
    """The body and the family of its model. Raises Rejected as OpenAI would."""
    body = decode(raw, Body)
    if isinstance(body, Mistake):
        misshapen(body)
    family = find(body.model)
    if family is None:
        no_such_model(body.model)
    if not family.chat:
        refuse(
            "This model is only supported in v1/responses and not in v1/chat/completions.",
            "model",
            status=404,
        )
    for check in CHECKS:
        check(body, family)
    return body, family
