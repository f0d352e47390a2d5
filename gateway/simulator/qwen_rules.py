"""What DashScope's native generation refuses, and how it says so.

Rule of this file: a table of checks over the shapes of `qwen_shapes.py` and the families of `qwen_models.py`
that raise Rejected; nothing is answered here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, NoReturn

import msgspec
from msgspec import Struct

from .brain import tokens
from .checks import Mistake, base64_size, decode, schema_mistake
from .qwen_models import LEVELS, MODELS, Family
from .qwen_shapes import Assistant, Body, Choice, Content, Part, System, ToolMessage, User
from .wire import Rejected

ALGO = "<400> InternalError.Algo.InvalidParameter: "
"""What the model's server puts before its words; the gateway before it has none."""
URL_ERROR = "url error, please check url！"  # noqa: RUF001  (the full-width mark is theirs)
NO_BODY = "Required body invalid, please check the request body format."
NO_STREAM = "This model only support stream mode, please enable the stream parameter to access the model."
NO_UNARY_THOUGHTS = "parameter.enable_thinking must be set to false for non-streaming calls"
NO_CUMULATIVE = 'The incremental_output parameter must be "true" when enable_thinking is true'
NO_FORCE = "The tool_choice parameter does not support being set to required or object in thinking mode"
NO_CALL = 'messages with role "tool" must be a response to a preceeding message with "tool_calls".'
NO_RESULT = (
    'An assistant message with "tool_calls" must be followed by tool messages responding to each '
    '"tool_call_id". The following tool_call_ids did not have response messages: '
)
NOT_JSON = 'The "function.arguments" parameter of the code model must be in JSON format.'
NO_WORD = (
    "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
)
NO_JSON_THOUGHTS = "Json mode response is not supported when enable_thinking is true"
VARIANTS = {  # the field that chooses between shapes → what it may be
    "messages": "['system', 'assistant', 'user', 'tool']",
    "tools": "['function']",
    "tool_calls": "['function']",
    "tool_choice": "['function']",
    "result_format": "['text', 'message']",
    "response_format": "['text', 'json_object', 'json_schema']",
    "cache_control": "['ephemeral']",
}
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
DATA_URL = re.compile(r"data:(?P<type>(?:image|audio|video)/[a-z0-9.+-]+);base64,(?P<data>.*)", re.DOTALL)
BESIDE = {  # what may stand beside a part's own key → the keys it goes with
    "min_pixels": {"image", "video"},
    "max_pixels": {"image", "video"},
    "total_pixels": {"video"},
    "fps": {"video"},
}


class Range(NamedTuple):
    """An interval; `ends` has a round bracket where the end is left out."""

    low: float
    high: float
    ends: str = "[]"

    def holds(self, value: float) -> bool:
        above = value > self.low if self.ends[0] == "(" else value >= self.low
        below = value < self.high if self.ends[1] == ")" else value <= self.high
        return above and below

    def __str__(self) -> str:
        return f"{self.ends[0]}{self.low}, {self.high}{self.ends[1]}"


RANGES = {
    "temperature": Range(0.0, 2.0, "[)"),
    "top_p": Range(0.0, 1.0, "(]"),
    "top_k": Range(0, 2**31 - 1),
    "repetition_penalty": Range(0.0, float("inf"), "()"),
    "presence_penalty": Range(-2.0, 2.0),
    "seed": Range(0, 2**31 - 1),
    "n": Range(1, 4),
    "top_logprobs": Range(0, 5),
}


class Asked(Struct, frozen=True):
    """A request that has the right shape, and how it came.

    multimodal  it came to the multimodal path, where content is a list of parts
    oss         the header that resolves oss:// addresses was set
    """

    body: Body
    family: Family
    multimodal: bool
    stream: bool
    oss: bool

    @property
    def thinks(self) -> bool:
        """Whether the model thinks first: told so, or by itself."""
        told = self.body.parameters.enable_thinking
        return self.family.thinking == "always" or (self.family.thinking == "on" if told is None else told)

    @property
    def messages(self) -> bool:
        """The answer comes as choices with messages, not as bare text."""
        wanted = self.body.parameters.result_format
        return self.multimodal or (self.family.message if wanted is None else wanted == "message")


def refuse(message: str, code: str = "InvalidParameter", status: int = 400) -> NoReturn:
    raise Rejected(status, message, code=code)


def invalid(message: str) -> NoReturn:
    refuse(ALGO + message)


def lacks(where: str) -> NoReturn:
    refuse(f"Required parameter({where}) missing or invalid, please check the request parameters.")


def misshapen(mistake: Mistake) -> NoReturn:
    where = mistake.dotted()
    if mistake.kind == "json":
        refuse(NO_BODY)
    if mistake.kind == "missing":
        lacks(where)
    if mistake.kind == "unknown":
        invalid(f"Extra inputs are not permitted: {where}")
    if mistake.kind == "value":
        steps = [step for step in mistake.path if step in VARIANTS]
        invalid(f"'{mistake.got}' is not one of {VARIANTS[str(steps[-1])]} - '{where}'")
    expected = mistake.expected.removesuffix(" | null")
    invalid(f"Input should be a valid {expected}, got {mistake.got}: {where}")


# --- checks ---------------------------------------------------------------------------------------------


def ranges(asked: Asked) -> None:
    family, parameters = asked.family, asked.body.parameters
    known = {
        **RANGES,
        "max_tokens": Range(1, family.output),
        "max_completion_tokens": Range(1, family.output),
    }
    for name, allowed in known.items():
        value = getattr(parameters, name)
        if value is not None and not allowed.holds(value):
            invalid(f"Range of {name} should be {allowed}")
    if parameters.max_completion_tokens is not None and not family.completion:
        invalid("This model does not support max_completion_tokens.")


def thinking(asked: Asked) -> None:
    """Whether it thinks, how much, and that it streams its thoughts."""
    family, parameters = asked.family, asked.body.parameters
    if parameters.enable_thinking is not None and family.thinking == "none":
        refuse(
            f"The model {asked.body.model} does not support enable_thinking.",
            "InvalidParameter.NotSupportEnableThinking",
        )
    if parameters.enable_thinking is False and family.thinking == "always":
        invalid("The value of the enable_thinking parameter is restricted to True.")
    if (budget := parameters.thinking_budget) is not None and not 0 < budget <= family.budget:
        invalid(
            f"The thinking_budget parameter must be a positive integer and not greater than {family.budget}"
        )
    if parameters.reasoning_effort is not None:
        if not family.levels:
            invalid("This model does not support reasoning_effort.")
        if parameters.reasoning_effort not in LEVELS:
            invalid(f"'{parameters.reasoning_effort}' is not one of {[*LEVELS]} - 'reasoning_effort'")


def streaming(asked: Asked) -> None:
    if asked.family.stream_only and not asked.stream:
        refuse(NO_STREAM)
    if asked.thinks and asked.family.stream_thoughts:
        if not asked.stream:
            refuse(NO_UNARY_THOUGHTS)
        if not asked.body.parameters.incremental_output:
            invalid(NO_CUMULATIVE)


def contents(asked: Asked) -> None:
    """Text on the one path, lists of parts on the other."""
    if not asked.body.input.messages:
        invalid("[] is too short - 'messages'")
    for at, message in enumerate(asked.body.input.messages):
        where = f"input.messages.{at}.content"
        if isinstance(message, User) and not message.content:
            refuse("Role must be user or assistant and Content length must be greater than 0")
        if not asked.multimodal:
            if not isinstance(message.content, str):
                refuse("An error during model pre-process.")
            continue
        if isinstance(message.content, str):
            if isinstance(message, User | System):
                invalid(f"Input should be a valid list: {where}")
            continue
        for number, part in enumerate(message.content):
            one_part(asked, part, f"{where}.{number}", isinstance(message, User))


def one_part(asked: Asked, part: Part, where: str, user: bool) -> None:
    own = [key for key in ("text", "image", "audio", "video") if getattr(part, key) is not None]
    if len(own) != 1:
        invalid(f"Input should have exactly one of text, image, audio, video: {where}")
    key = own[0]
    for beside, owners in BESIDE.items():
        if getattr(part, beside) is not None and key not in owners:
            invalid(f"Extra inputs are not permitted: {where}.{beside}")
    if key == "text":
        return
    if not user or key not in asked.family.sees:
        invalid(f"This model does not support {key} in this message: {where}")
    for url in addresses(part):
        address(asked, key, url)


def addresses(part: Part) -> list[str]:
    """The addresses of a part's media; a video may be a list of frames."""
    if isinstance(part.video, list):
        return part.video
    return [url for url in (part.image, part.audio, part.video) if url is not None]


def address(asked: Asked, key: str, url: str) -> None:
    if url.startswith("oss://"):
        if not asked.oss:
            invalid(
                "The provided URL does not appear to be valid. oss:// needs X-DashScope-OssResourceResolve."
            )
        return
    if url.startswith(("http://", "https://")):
        return
    found = DATA_URL.fullmatch(url)
    kinds = ("video", "image") if key == "video" else (key,)
    if found is None or not found["type"].startswith(kinds) or base64_size(found["data"]) is None:
        invalid(f"The provided URL does not appear to be valid. The {key} cannot be read.")


def order(asked: Asked) -> None:
    """Every tool message answers a call of the turn before it, and every call is answered."""
    waiting: list[str] = []
    for at, message in enumerate(asked.body.input.messages):
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in waiting:
                invalid(NO_CALL)
            waiting.remove(message.tool_call_id)
            continue
        if waiting:
            invalid(f"{NO_RESULT}message[{at}].role")
        if isinstance(message, Assistant):
            waiting = [call.id for call in message.tool_calls or ()]
            for call in message.tool_calls or ():
                arguments(call.function.arguments)
    if waiting:
        invalid(f"{NO_RESULT}message[{len(asked.body.input.messages)}].role")


def arguments(text: str) -> None:
    """Replayed arguments are parsed; those of a call without any are "{}", never ""."""
    try:
        if isinstance(msgspec.json.decode(text), dict):
            return
    except (msgspec.DecodeError, RecursionError):
        pass
    invalid(NOT_JSON)


def partial(asked: Asked) -> None:
    """partial continues the last message, without thinking."""
    messages = asked.body.input.messages
    for at, message in enumerate(messages):
        if isinstance(message, Assistant) and message.partial:
            if at != len(messages) - 1:
                invalid("partial is only supported in the last message")
            if asked.thinks:
                invalid("partial is not supported when enable_thinking is true")


def tools(asked: Asked) -> None:
    parameters = asked.body.parameters
    offered = parameters.tools or []
    if offered and (not asked.messages or parameters.result_format == "text"):
        invalid('The result_format parameter must be "message" when tools are given')
    for at, tool in enumerate(offered):
        if not NAME.fullmatch(tool.function.name):
            invalid(f"String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$': tools.{at}.function.name")
        if schema_mistake(tool.function.parameters or {}) is not None:
            invalid(f"The schema is not valid: tools.{at}.function.parameters")


def choice(asked: Asked) -> None:
    """tool_choice is auto, none, or an offered function while the model does not think."""
    chosen = asked.body.parameters.tool_choice
    forced = isinstance(chosen, Choice) or chosen == "required"
    if forced and asked.thinks:
        invalid(NO_FORCE)
    if isinstance(chosen, str) and chosen not in ("none", "auto"):
        invalid("tool_choice is one of the strings that should be ['none', 'auto']")
    if isinstance(chosen, Choice):
        offered = {tool.function.name for tool in asked.body.parameters.tools or ()}
        if chosen.function.name not in offered:
            invalid(f"The function {chosen.function.name} of tool_choice is not in tools")


def answer_format(asked: Asked) -> None:
    wanted = asked.body.parameters.response_format
    if wanted is None or wanted.type == "text":
        return
    if asked.thinks:
        invalid(NO_JSON_THOUGHTS)
    if "json" not in all_text(asked.body).lower():
        invalid(NO_WORD)
    if wanted.type == "json_schema":
        if wanted.json_schema is None:
            lacks("parameters.response_format.json_schema")
        if schema_mistake(wanted.json_schema.schema) is not None:
            invalid("The schema is not valid: response_format.json_schema.schema")


def several(asked: Asked) -> None:
    """Several choices: as messages, without thoughts and without tools."""
    if (asked.body.parameters.n or 1) == 1:
        return
    if asked.body.parameters.tools:
        invalid("The parameter n must be 1 when tools are given")
    if asked.thinks:
        invalid("The parameter n must be 1 when enable_thinking is true")
    if not asked.messages:
        invalid('The result_format parameter must be "message" when n is greater than 1')


def window(asked: Asked) -> None:
    if tokens(all_text(asked.body)) > asked.family.window:
        invalid(f"Range of input length should be [1, {asked.family.window}]")


def text_of(content: Content) -> str:
    """The text of any content: a string, or parts."""
    if isinstance(content, str):
        return content
    return "".join(part.text for part in content if part.text is not None)


def all_text(body: Body) -> str:
    return "\n".join(text_of(message.content) for message in body.input.messages)


CHECKS: tuple[Callable[[Asked], None], ...] = (
    ranges,
    thinking,
    streaming,
    contents,
    order,
    partial,
    tools,
    choice,
    answer_format,
    several,
    window,
)


def checked(raw: bytes, path: str, *, stream: bool, oss: bool) -> Asked:
    """The request; `path` is the path's own word. Raises Rejected as DashScope would."""
    body = decode(raw, Body)
    if isinstance(body, Mistake):
        misshapen(body)
    family = MODELS.get(body.model)
    if family is None:
        refuse(
            f"The model `{body.model}` does not exist or you do not have access to it.", "ModelNotFound", 404
        )
    if family.path != path:
        refuse(URL_ERROR)
    asked = Asked(body, family, path == "multimodal-generation", stream, oss)
    for check in CHECKS:
        check(asked)
    return asked
