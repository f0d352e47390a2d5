"""The stand-in for Qwen: DashScope's native API, both generation paths and the models.

Rule of this file: routing, errors and what a request asks for. What is refused is in `qwen_rules.py`, the
native form of an answer in `qwen_answers.py`.
"""

from __future__ import annotations

import itertools
from typing import Any, NoReturn

import msgspec

from .brain import THOUGHT, Ask, AskedTool, tokens
from .qwen_answers import Answer, identity, raw_frames, sse
from .qwen_models import MODELS, card
from .qwen_rules import DATA_URL, Asked, addresses, all_text, checked, lacks, refuse, text_of
from .qwen_shapes import Choice, ToolMessage, User
from .script import Turn
from .wire import Generation, Headers, Rejected, Reply, Request, paced, verbatim

JSON = "application/json"
SSE = "text/event-stream;charset=UTF-8"
AIGC = "/api/v1/services/aigc/"
PATHS = {f"{AIGC}{name}/generation": name for name in ("text-generation", "multimodal-generation")}
OPERATIONS = {  # path → method, operation
    **dict.fromkeys(PATHS, ("POST", "generate")),
    "/api/v1/models": ("GET", "models"),
}
MAX_PAGE = 100

CODES = {
    400: "InvalidParameter",
    401: "InvalidApiKey",
    403: "AccessDenied",
    404: "ModelNotFound",
    409: "Conflict",
    429: "Throttling.RateQuota",
    503: "ModelUnavailable",
    504: "ModelServingError",
}
"""Status → code of an error that was scripted by its status alone; else InternalError."""
WORDS = {
    "InvalidParameter": "Required parameter(s) missing or invalid, please check the request parameters.",
    "InvalidApiKey": "Invalid API-key provided.",
    "Arrearage": "Access denied, please make sure your account is in good standing.",
    "DataInspectionFailed": "Output data may contain inappropriate content.",
    "AccessDenied": "Access denied.",
    "ModelNotFound": "Model can not be found.",
    "Conflict": "Model instance already exists, please specify a suffix.",
    "Throttling.RateQuota": "Requests rate limit exceeded, please try again later.",
    "Throttling.BurstRate": "Request rate increased too quickly. Please adjust your client logic.",
    "Throttling.AllocationQuota": "Allocated quota exceeded, please increase your quota limit.",
    "PostpaidBillOverdue": "The postpaid bill is overdue.",
    "ModelUnavailable": "Model is unavailable, please try again later.",
    "ModelServingError": "Too many requests in route. Please try again later.",
    "InternalError": "An internal error has occured, please try again later or contact service support.",
}
"""Code → message of an error whose script gives none; else that of InternalError."""


class Qwen:
    """The stand-in; see `wire.StandIn`."""

    name = "qwen"
    base = "/api/v1"

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def operation(self, method: str, path: str) -> str | None:
        return OPERATIONS[path][1] if path in OPERATIONS else None

    def handle(self, request: Request) -> Reply | Generation:
        method, operation = OPERATIONS.get(request.path, ("", ""))
        if request.method != method:
            unknown_path()
        key = authenticate(request)
        if operation == "models":
            return self._models(request.query)
        stream = request.headers.get("x-dashscope-sse") == "enable"
        oss = request.headers.get("x-dashscope-ossresourceresolve") == "enable"
        try:
            if "noquota" in key:
                refuse(WORDS["Arrearage"], "Arrearage")
            asked = checked(request.body, PATHS[request.path], stream=stream, oss=oss)
        except Rejected as problem:
            problem.wrapped = stream
            raise
        ask = understand(asked)
        return Generation(ask, stream, lambda turn, stream: self._render(asked, ask, turn, stream))

    def error(self, problem: Rejected) -> Reply:
        request_id = self._mint()
        body = error_body(problem, request_id)
        if problem.wrapped:
            event = sse(1, body, "error", problem.status)
            return Reply(problem.status, headers(SSE, request_id), event)
        return Reply(problem.status, headers(JSON, request_id), body)

    def error_event(self, problem: Rejected) -> bytes:
        return sse(1, error_body(problem, self._mint()), "error", problem.status)

    def event(self, payload: bytes) -> bytes:
        return sse(1, payload)

    def unknown_event(self) -> bytes:
        return sse(1, b'{"sparkle":true}', "sparkle")

    def ping(self) -> bytes:
        return b":heartbeat\n\n"

    def _mint(self) -> str:
        return identity(next(self._numbers))

    def _models(self, query: dict[str, str]) -> Reply:
        page, size = counted(query, "page_no", 1, 2**31 - 1), counted(query, "page_size", 10, MAX_PAGE)
        wanted = query.get("model")
        found = [card(model) for model in MODELS if wanted in (None, model)]
        shown = found[(page - 1) * size : page * size]
        output = {"models": shown, "total": len(found), "page_no": page, "page_size": size}
        request_id = self._mint()
        body = msgspec.json.encode({"output": output, "request_id": request_id})
        return Reply(headers=headers(JSON, request_id), body=body)

    def _render(self, asked: Asked, ask: Ask, turn: Turn, stream: bool) -> Reply:
        number = next(self._numbers)
        answer = Answer(asked, ask, turn, number)
        if stream:
            frames = answer.frames() if turn.raw is None else raw_frames(turn.raw)
            if answer.filtered and turn.raw is None:
                frames.append(answer.failed(error_body(inspected(), identity(number))))
            return paced(Reply(headers=headers(SSE, identity(number)), frames=frames), turn)
        if answer.filtered and turn.raw is None:
            return paced(self.error(inspected()), turn)
        body = msgspec.json.encode(answer.document()) if turn.raw is None else verbatim(turn.raw)
        return paced(Reply(headers=headers(JSON, identity(number)), body=body), turn)


def headers(content_type: str, request_id: str) -> Headers:
    return (
        ("content-type", content_type),
        ("x-request-id", request_id),
        ("x-dashscope-call-gateway", "true"),
        ("x-dashscope-finished", "true"),
        ("x-dashscope-timeout", "298"),
    )


# --- the request ----------------------------------------------------------------------------------------


def understand(asked: Asked) -> Ask:
    """The neutral question in a checked request."""
    messages, parameters = asked.body.input.messages, asked.body.parameters
    last = next((message for message in reversed(messages) if isinstance(message, User)), None)
    behind = itertools.takewhile(lambda message: isinstance(message, ToolMessage), reversed(messages))
    media = seen(last)
    wanted = parameters.response_format
    return Ask(
        text=text_of(last.content) if last else "",
        results=[text_of(message.content) for message in behind][::-1],
        tools=callable_tools(asked),
        parallel=parameters.parallel_tool_calls is True,
        schema=wanted.json_schema.schema if wanted and wanted.json_schema else None,
        json=wanted is not None and wanted.type == "json_object",
        media=media,
        reasoning=asked.thinks,
        stops=stops(parameters.stop),
        limit=limit(asked),
        read=len(all_text(asked.body)) + sum(size for _, size in media),
    )


def seen(message: User | None) -> list[tuple[str, int]]:
    """(media type, bytes) of the media in a message; an address counts 0 bytes."""
    if message is None or isinstance(message.content, str):
        return []
    found = []
    for part in message.content:
        kind = "image" if part.image is not None else "audio" if part.audio is not None else "video"
        for url in addresses(part):
            data = DATA_URL.fullmatch(url)
            size = len(data["data"]) * 3 // 4 - data["data"].count("=", -2) if data else 0
            found.append((data["type"] if data else f"{kind}/url", size))
    return found


def stops(stop: str | list[str | int | list[int]] | None) -> list[str]:
    """The stop sequences that are text; those of token ids stop nothing here."""
    if isinstance(stop, str):
        return [stop]
    return [each for each in stop or () if isinstance(each, str) and each]


def limit(asked: Asked) -> int | None:
    """Tokens of the answer with its thoughts: max_tokens leaves the thoughts out."""
    parameters = asked.body.parameters
    if parameters.max_completion_tokens is not None or parameters.max_tokens is None:
        return parameters.max_completion_tokens
    return parameters.max_tokens + (tokens(THOUGHT) if asked.thinks else 0)


def callable_tools(asked: Asked) -> list[AskedTool]:
    """The tools that tool_choice lets the model call."""
    parameters = asked.body.parameters
    if parameters.tool_choice == "none":
        return []
    chosen = parameters.tool_choice.function.name if isinstance(parameters.tool_choice, Choice) else None
    offered = [tool.function for tool in parameters.tools or ()]
    return [AskedTool(f.name, f.parameters or {}) for f in offered if chosen in (None, f.name)]


def authenticate(request: Request) -> str:
    """The key. Any non-empty one will do, except one that contains `wrong`."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Rejected(401, "No API-key provided.")
    if "wrong" in key:
        raise Rejected(401)
    return key


def counted(query: dict[str, str], name: str, default: int, most: int) -> int:
    """A number of the query between 1 and `most`."""
    text = query.get(name, str(default))
    value = int(text) if text.isascii() and text.isdecimal() and len(text) < 11 else 0
    if not 1 <= value <= most:
        lacks(name)
    return value


# --- errors ---------------------------------------------------------------------------------------------


def unknown_path() -> NoReturn:
    raise Rejected(404, "The requested path does not exist.", code="NotFound")


def inspected() -> Rejected:
    """What DashScope says instead of a finish reason when a filter stops the answer."""
    return Rejected(400, code="DataInspectionFailed")


def error_body(problem: Rejected, request_id: str) -> bytes:
    code = problem.code or CODES.get(problem.status, "InternalError")
    message = problem.message or WORDS.get(code, WORDS["InternalError"])
    error: dict[str, Any] = {"code": code, "message": message, "request_id": request_id}
    if problem.type:
        error["type"] = problem.type
    more = problem.details if isinstance(problem.details, dict) else {}
    return msgspec.json.encode({**error, **more})
