"""What OpenAI's /v1/responses refuses, and how it says so.

Rule of this file: a table of checks over the shapes of `openai_responses_shapes.py` that raise Rejected;
nothing is answered here.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, NoReturn

from .checks import Mistake, base64_size, convert, decode
from .openai_models import find
from .openai_responses_shapes import (
    Answered,
    Asked,
    Body,
    Call,
    CustomCall,
    CustomOutput,
    FunctionCall,
    FunctionOutput,
    FunctionTool,
    InputFile,
    InputImage,
    InputText,
    Item,
    JsonFormat,
    Message,
    OutputText,
    Reasoned,
    SchemaFormat,
)
from .openai_rules import (
    DATA_URL,
    NAME,
    bad_name,
    function_shape,
    image,
    misshapen,
    no_such_model,
    refuse,
    strict_schema,
    unsupported_parameter,
    well_formed,
)
from .openai_shapes import Function

MOVED = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
}
"""Fields of chat/completions → where they stand here."""
RANGES: dict[str, tuple[str, float, float]] = {
    "max_output_tokens": ("integer", 16, 10**9),
    "top_logprobs": ("integer", 0, 20),
    "temperature": ("decimal", 0, 2),
    "top_p": ("decimal", 0, 1),
}
INCLUDES = ("message.output_text.logprobs", "reasoning.encrypted_content")
LOGPROBS, ENCRYPTED = INCLUDES
REQUIRED = ("type", "name", "parameters", "strict")
"""Keys that a function tool has to have, if only as null."""


def checked(raw: bytes) -> Call:
    """The call, with its items and tools read. Raises Rejected as OpenAI would."""
    body = decode(raw, Body)
    if isinstance(body, Mistake):
        wrong(body)
    family = find(body.model)
    if family is None:
        no_such_model(body.model)
    call = Call(body=body, family=family, items=items(body), tools=tools(body))
    for check in CHECKS:
        check(call)
    return call


def wrong(mistake: Mistake) -> NoReturn:
    """Word a decode mistake: this API names what it does not know, and where it is said here."""
    where = mistake.indexed()
    if mistake.kind == "unknown" and where in MOVED:
        refuse(
            f"Unsupported parameter: '{where}'. In the Responses API, this parameter has moved to "
            f"'{MOVED[where]}'. Try again with the new parameter. See the API documentation for more "
            "information: https://platform.openai.com/docs/api-reference/responses/create.",
            where,
            "unsupported_parameter",
        )
    if mistake.kind == "unknown":
        refuse(f"Unknown parameter: '{where}'.", where, "unknown_parameter")
    if mistake.kind == "missing":
        missing(where)
    misshapen(mistake)


def missing(where: str) -> NoReturn:
    refuse(f"Missing required parameter: '{where}'.", where, "missing_required_parameter")


def read(value: Any, kind: Any, path: tuple[str | int, ...]) -> Any:
    found = convert(value, kind, path)
    if isinstance(found, Mistake):
        wrong(found)
    return found


def items(body: Body) -> list[Item]:
    """The input as items. Only a message may do without its type."""
    if isinstance(body.input, str):
        return [Message(role="user", content=body.input)]
    found: list[Item] = []
    for at, item in enumerate(body.input):
        typed = {"type": "message", **item} if "role" in item else item
        found.append(read(typed, Item, ("input", at)))
    return found


def tools(body: Body) -> list[FunctionTool]:
    found = []
    for at, tool in enumerate(body.tools or ()):
        for name in REQUIRED if tool.get("type", "function") == "function" else ():
            if name not in tool:
                missing(f"tools[{at}].{name}")
        found.append(read(tool, FunctionTool, ("tools", at)))
    return found


# --- checks ---------------------------------------------------------------------------------------------


def ranges(call: Call) -> None:
    for name, (kind, low, high) in RANGES.items():
        value = getattr(call.body, name)
        if value is None or low <= value <= high:
            continue
        side, sign, bound = ("below minimum", ">=", low) if value < low else ("above maximum", "<=", high)
        refuse(
            f"Invalid '{name}': {kind} {side} value. Expected a value {sign} {bound}, but got {value} "
            "instead.",
            name,
            f"{kind}_{side.replace(' minimum', '_min').replace(' maximum', '_max')}_value",
        )


def limits(call: Call) -> None:
    body = call.body
    if body.max_output_tokens is not None and body.max_output_tokens > call.family.output:
        refuse(
            f"max_output_tokens is too large: {body.max_output_tokens}. This model supports at most "
            f"{call.family.output} output tokens.",
            "max_output_tokens",
            "invalid_value",
        )
    pairs = body.metadata or {}
    if len(pairs) > 16 or any(len(key) > 64 or len(value) > 512 for key, value in pairs.items()):
        refuse("Invalid 'metadata': at most 16 pairs of 64 and 512 characters.", "metadata", "invalid_value")
    if all_text(call) and len(all_text(call)) // 4 > call.family.window:
        refuse(
            "Your input exceeds the context window of this model. Please adjust your input and try again.",
            "input",
            "context_length_exceeded",
        )


def needs(call: Call) -> None:
    """Parameters that only make sense with another one, or with something that was stored."""
    body = call.body
    if body.stream_options is not None and not body.stream:
        refuse("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    if body.previous_response_id is not None:
        refuse(
            f"Previous response with id '{body.previous_response_id}' not found.",
            "previous_response_id",
            "previous_response_not_found",
        )
    for at, name in enumerate(body.include or ()):
        if name not in INCLUDES:
            refuse(f"Invalid value: '{name}'.", f"include[{at}]", "invalid_value")


def reasoning(call: Call) -> None:
    asked, efforts = call.body.reasoning, call.family.efforts
    if not efforts:
        if asked is not None and asked.effort is not None:
            unsupported_parameter("reasoning.effort")
        return
    if asked is not None and asked.effort is not None and asked.effort not in efforts:
        allowed = ", ".join(f"'{effort}'" for effort in efforts[:-1])
        refuse(
            f"Unsupported value: '{asked.effort}' is not supported with the '{call.body.model}' model. "
            f"Supported values are: {allowed}, and '{efforts[-1]}'.",
            "reasoning.effort",
            "unsupported_value",
        )
    if call.effort == "none":
        return
    for name in ("temperature", "top_p", "top_logprobs"):
        if getattr(call.body, name) is not None:
            unsupported_parameter(name)
    if LOGPROBS in (call.body.include or ()):
        unsupported_parameter("include")


def functions(call: Call) -> None:
    for at, tool in enumerate(call.tools):
        function_shape(
            Function(name=tool.name, parameters=tool.parameters, strict=tool.strict), f"tools[{at}]"
        )
    chosen = call.body.tool_choice
    if isinstance(chosen, str) and chosen not in ("none", "auto", "required"):
        refuse(
            f"Invalid value: '{chosen}'. Supported values are: 'none', 'auto', and 'required'.",
            "tool_choice",
            "invalid_value",
        )
    named = allowed_names(chosen)
    if named is not None and not named <= {tool.name for tool in call.tools}:
        refuse("Tool choice 'function' not found in 'tools' parameter.", "tool_choice", "invalid_value")


def allowed_names(choice: str | dict[str, Any] | None) -> set[str] | None:
    """The names that a choice is limited to; None: it is not limited."""
    if not isinstance(choice, dict):
        return None
    if choice.get("type") == "allowed_tools":
        if choice.get("mode") not in ("auto", "required"):
            missing("tool_choice.mode")
        return {str(tool.get("name")) for tool in choice.get("tools", ())}
    if choice.get("type") != "function":
        refuse("Invalid value for 'tool_choice.type'.", "tool_choice.type", "invalid_value")
    if "name" not in choice:
        missing("tool_choice.name")
    return {str(choice["name"])}


def answer_format(call: Call) -> None:
    wanted = call.body.text.format if call.body.text else None
    if isinstance(wanted, SchemaFormat):
        if not NAME.fullmatch(wanted.name):
            bad_name("text.format.name")
        owner = f"response_format '{wanted.name}'"
        well_formed(wanted.schema, owner, "text.format.schema")
        if wanted.strict:
            strict_schema(wanted.schema, owner, "text.format.schema", "invalid_json_schema")
    if isinstance(wanted, JsonFormat) and "json" not in all_text(call).lower():
        refuse(
            "Response input messages must contain the word 'json' in some form to use 'text.format' of type "
            "'json_object'.",
            "input",
        )


def order(call: Call) -> None:
    """Every output answers a call before it, and every call is answered."""
    waiting: list[str] = []
    for item in call.items:
        if isinstance(item, FunctionCall | CustomCall):
            waiting.append(item.call_id)
        elif isinstance(item, FunctionOutput | CustomOutput):
            if item.call_id not in waiting:
                refuse(f"No tool call found for function call output with call_id {item.call_id}.", "input")
            waiting.remove(item.call_id)
    if waiting:
        refuse(f"No tool output found for function call {waiting[0]}.", "input")


def thoughts(call: Call) -> None:
    """Reasoning items are ours, of this model, and stand before what they led to. None is stored here."""
    for item, after in zip(call.items, [*call.items[1:], None], strict=True):
        if not isinstance(item, Reasoned):
            continue
        if item.encrypted_content is None:
            refuse(
                f"Item with id '{item.id}' not found. Items are not persisted when `store` is set to false. "
                "Try again with `store` set to true, or remove this item from your input.",
                "input",
                status=404,
            )
        if item.encrypted_content != encrypted(call.body.model, item.id):
            refuse(
                f"The encrypted content for item {item.id} could not be verified. Reason: Encrypted content "
                "could not be decrypted or parsed.",
                None,
                "invalid_encrypted_content",
            )
        is_said = isinstance(after, Message) and after.role == "assistant"
        if not (is_said or isinstance(after, FunctionCall | CustomCall | Reasoned)):
            refuse(
                f"Item '{item.id}' of type 'reasoning' was provided without its required following item.",
                "input",
            )


def encrypted(model: str, item_id: str) -> str:
    """The encrypted content of a reasoning item of `model`."""
    return base64.b64encode(f"sim-openai|{model}|{item_id}".encode()).decode()


def parts(call: Call) -> None:
    """The parts of a message fit its role, and what they carry can be read."""
    for at, item in enumerate(call.items):
        if not isinstance(item, Message) or isinstance(item.content, str):
            continue
        fits: Any = Answered if item.role == "assistant" else Asked
        for number, part in enumerate(item.content):
            where = f"input[{at}].content[{number}]"
            if not isinstance(part, fits):
                names = [each.__struct_config__.tag for each in fits.__args__]
                supported = ", ".join(f"'{name}'" for name in names[:-1]) + f" and '{names[-1]}'"
                kind = part.__struct_config__.tag
                refuse(f"Invalid value: '{kind}'. Supported values are: {supported}.", where, "invalid_value")
            media(part, where)


def media(part: Asked | Answered, where: str) -> None:
    if isinstance(part, InputImage):
        if part.image_url is None and part.file_id is None:
            missing(f"{where}.image_url")
        if part.image_url is not None:
            image(part.image_url, f"{where}.image_url")
    if isinstance(part, InputFile) and part.file_id is None and part.file_url is None:
        found = DATA_URL.fullmatch(part.file_data or "")
        if found is None or base64_size(found["data"]) is None:
            refuse(
                f"Invalid '{where}.file_data'. Expected a base64-encoded data URL with a MIME type.",
                f"{where}.file_data",
                "invalid_value",
            )


def text_of(content: str | list[Any]) -> str:
    """The text of a message's content, or of a tool's output."""
    if isinstance(content, str):
        return content
    return "".join(part.text for part in content if isinstance(part, InputText | OutputText))


def all_text(call: Call) -> str:
    said = [text_of(item.content) for item in call.items if isinstance(item, Message)]
    told = [text_of(item.output) for item in call.items if isinstance(item, FunctionOutput | CustomOutput)]
    return "\n".join([call.body.instructions or "", *said, *told])


CHECKS: tuple[Callable[[Call], None], ...] = (
    ranges,
    reasoning,
    needs,
    limits,
    functions,
    answer_format,
    order,
    thoughts,
    parts,
)
