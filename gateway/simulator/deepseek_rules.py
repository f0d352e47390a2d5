"""What DeepSeek's /chat/completions refuses, and how it says so.

Rule of this file: a table of checks over the shapes of `deepseek_shapes.py` that raise Rejected; nothing is
answered here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NoReturn

from .checks import Mistake, base64_size, decode, schema_mistake, walk
from .deepseek_shapes import Assistant, Body, ImagePart, TextPart, ToolMessage, User
from .wire import Rejected

MODELS = {  # id → whether it sees
    "deepseek-flash": True,
    "deepseek-v4-pro": False,
    "deepseek-v4-flash": True,
    "deepseek-v4-flash-vision-exp": True,
}
LISTED = ("deepseek-flash", "deepseek-v4-pro")
MAX_OUTPUT, WINDOW = 393_216, 1_048_576
MAX_STOPS, MAX_TOOLS, MAX_IMAGES = 16, 128, 600
UNPARSED = "Failed to deserialize the JSON body into the target type: "
NO_REASONING = "The `reasoning_content` in the thinking mode must be passed back to the API."
VARIANTS = {  # the field that chooses between shapes → the shapes, as DeepSeek names them
    "role": "one of `system`, `user`, `assistant`, `tool`",
    "tools": "`function`",
    "tool_calls": "`function`",
    "content": "`text` or `image_url`",
    "thinking": "`enabled` or `disabled`",
    "reasoning_effort": "one of `low`, `high`, `max`",
    "detail": "one of `low`, `high`, `original`, `auto`",
}
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
USER_ID = re.compile(r"[a-zA-Z0-9_-]{1,512}")
DATA_URL = re.compile(r"data:(?P<type>image/(?:png|jpeg|gif|webp));base64,(?P<data>.*)", re.DOTALL)
RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "top_logprobs": (0, 20),
    "max_tokens": (1, MAX_OUTPUT),
}


def refuse(message: str, status: int = 400) -> NoReturn:
    raise Rejected(status, message, type="invalid_request_error", code="invalid_request_error")


def misshapen(mistake: Mistake) -> NoReturn:
    """Word a decode mistake as DeepSeek's deserializer does."""
    where = mistake.indexed()
    if mistake.kind == "json":
        refuse(f"Failed to parse the request body as JSON: {mistake.expected}")
    if mistake.kind == "unknown":
        refuse(f"{UNPARSED}unknown field `{mistake.path[-1]}` at {where}")
    if mistake.kind == "missing":
        refuse(f"{UNPARSED}missing field `{mistake.path[-1]}`")
    if mistake.kind == "value":
        steps = [step for step in mistake.path if step in VARIANTS]
        expected = VARIANTS[str(steps[-1])] if steps else "another value"
        refuse(f"{UNPARSED}{where}: unknown variant `{mistake.got}`, expected {expected}")
    refuse(f"{UNPARSED}{where}: invalid type: {mistake.got}, expected {mistake.expected}")


# --- checks ---------------------------------------------------------------------------------------------


def model(body: Body, beta: bool) -> None:
    if body.model not in MODELS:
        refuse("Model Not Exist")


def ranges(body: Body, beta: bool) -> None:
    for name, (low, high) in RANGES.items():
        value = getattr(body, name)
        if value is not None and not low <= value <= high:
            refuse(f"Invalid {name} value, the valid range of {name} is [{low:g}, {high:g}]", 422)
    if isinstance(body.stop, list) and len(body.stop) > MAX_STOPS:
        refuse(f"Invalid stop value, at most {MAX_STOPS} sequences are allowed", 422)
    if body.top_logprobs is not None and not body.logprobs:
        refuse("Invalid top_logprobs value, logprobs must be true to use it", 422)
    if body.stream_options is not None and not body.stream:
        refuse("stream_options should be set along with stream = true")
    if body.user_id is not None and not USER_ID.fullmatch(body.user_id):
        refuse("Invalid user_id value, at most 512 characters of [a-zA-Z0-9_-] are allowed", 422)


def thinking(body: Body, beta: bool) -> None:
    """What a thinking model does not take: forced calls, and turns whose thoughts were not replayed."""
    if not body.thinks:
        return
    if isinstance(body.tool_choice, dict) or body.tool_choice == "required":
        refuse("Thinking mode does not support this tool_choice")
    if body.tools and any(isinstance(m, Assistant) and not m.reasoning_content for m in body.messages):
        refuse(NO_REASONING)


def tools(body: Body, beta: bool) -> None:
    offered = [tool.function for tool in body.tools or ()]
    if len(offered) > MAX_TOOLS:
        refuse(f"Invalid tools value, at most {MAX_TOOLS} tools are allowed", 422)
    for at, function in enumerate(offered):
        if not NAME.fullmatch(function.name):
            refuse(f"Invalid 'tools[{at}].function.name': it has to match '^[a-zA-Z0-9_-]+$'.")
        if schema_mistake(function.parameters or {}) is not None:
            refuse(f"Invalid schema for function '{function.name}'")
    strict = [function for function in offered if function.strict]
    if strict and not beta:
        refuse("Strict mode of functions is only available with base_url https://api.deepseek.com/beta")
    if strict and len(strict) < len(offered):
        refuse("In strict mode every function has to be strict")
    for function in strict:
        closed(function.name, function.parameters or {})


def closed(name: str, schema: dict[str, Any]) -> None:
    """strict: every object closed, every property required."""
    for each in walk(schema):
        wanted = each.get("properties")
        if each.get("type") != "object" or not isinstance(wanted, dict | None):
            continue
        required = each.get("required")
        missing = set(wanted or ()) - set(required if isinstance(required, list) else ())
        if missing or each.get("additionalProperties") is not False:
            refuse(f"Invalid schema for function '{name}': strict mode requires closed objects")


def choice(body: Body, beta: bool) -> None:
    """tool_choice is a known word, or names an offered tool."""
    chosen = body.tool_choice
    if chosen is None:
        return
    if not body.tools:
        refuse("tool_choice is only allowed when tools are given")
    if isinstance(chosen, str):
        if chosen not in ("none", "auto", "required"):
            refuse(f"tool_choice: unknown variant `{chosen}`, expected one of `none`, `auto`, `required`")
        return
    function = chosen.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if chosen.get("type") != "function" or name not in {tool.function.name for tool in body.tools}:
        refuse("tool_choice names no function of tools")


def answer_format(body: Body, beta: bool) -> None:
    wanted = body.response_format.type if body.response_format else "text"
    if wanted not in ("text", "json_object"):
        refuse("This response_format type is unavailable now")
    if wanted == "json_object" and "json" not in all_text(body).lower():
        refuse(
            "Prompt must contain the word 'json' in some form to use 'response_format' of type 'json_object'."
        )


def prefix(body: Body, beta: bool) -> None:
    for at, message in enumerate(body.messages):
        if isinstance(message, Assistant) and message.prefix:
            if not beta:
                refuse("prefix is only available with base_url https://api.deepseek.com/beta")
            if at != len(body.messages) - 1:
                refuse("prefix is only allowed in the last message")


def order(body: Body, beta: bool) -> None:
    """Every tool message answers a call of the turn before it, and every call is answered."""
    if not body.messages:
        refuse("Empty input messages")
    waiting: list[str] = []
    for message in body.messages:
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in waiting:
                refuse(
                    "Messages with role 'tool' must be a response to a preceding message with 'tool_calls'"
                )
            waiting.remove(message.tool_call_id)
            continue
        unanswered(waiting)
        if isinstance(message, Assistant):
            waiting = [call.id for call in message.tool_calls or ()]
            if message.content is None and not waiting:
                refuse("Invalid assistant message: content or tool_calls must be set")
    unanswered(waiting)


def unanswered(waiting: list[str]) -> None:
    if waiting:
        refuse(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            "'tool_call_id'. (insufficient tool messages following tool_calls message)"
        )


def images(body: Body, beta: bool) -> None:
    found = [part.image_url.url for part in parts(body) if isinstance(part, ImagePart)]
    if found and not MODELS[body.model]:
        refuse(f"The model {body.model} does not support image input")
    if len(found) > MAX_IMAGES:
        refuse(f"At most {MAX_IMAGES} images are allowed")
    for url in found:
        data = DATA_URL.fullmatch(url)
        if not url.startswith(("http://", "https://")) and (data is None or not base64_size(data["data"])):
            refuse("Invalid image_url")


def parts(body: Body) -> list[TextPart | ImagePart]:
    lists = [m.content for m in body.messages if isinstance(m, User) and isinstance(m.content, list)]
    return [part for content in lists for part in content]


def text_of(content: str | list[TextPart | ImagePart] | None) -> str:
    """The text of any content: a string, parts, or nothing."""
    if isinstance(content, str):
        return content
    return "".join(part.text for part in content or () if isinstance(part, TextPart))


def all_text(body: Body) -> str:
    return "\n".join(text_of(message.content) for message in body.messages)


def window(body: Body, beta: bool) -> None:
    read = len(all_text(body)) // 4
    if read > WINDOW:
        refuse(
            f"This model's maximum context length is {WINDOW} tokens. However, you requested {read} tokens. "
            "Please reduce the length of the messages or completion."
        )


CHECKS: tuple[Callable[[Body, bool], None], ...] = (
    model,
    ranges,
    order,
    thinking,
    tools,
    choice,
    answer_format,
    prefix,
    images,
    window,
)


def checked(raw: bytes, *, beta: bool) -> Body:
    """The body; `beta` says that it came to the beta address. Raises Rejected as DeepSeek would."""
    body = decode(raw, Body)
    if isinstance(body, Mistake):
        misshapen(body)
    for check in CHECKS:
        check(body, beta)
    return body
