"""The DeepSeek stand-in: chat, models and balance.

Rule of this file: routing and the native form of an answer. What is refused is in `deepseek_rules.py`.
Its oddities are always there, in their hardest form: blank lines and comments before an answer, `role` null
after the first chunk, empty ids and names in the further pieces of a call, usage on the last chunk without
`prompt_tokens_details`.
"""

from __future__ import annotations

import itertools
import time
from typing import Any, NoReturn

import msgspec

from .brain import Ask, AskedTool, usage_of
from .deepseek_rules import DATA_URL, LISTED, checked, parts, text_of
from .deepseek_shapes import Body, ImagePart, ToolMessage, User
from .openai import raw_frame, token
from .script import Turn
from .wire import Frame, Generation, Headers, Rejected, Reply, Request, paced, verbatim

FINGERPRINT = "fp_simulator_deepseek"
JSON = "application/json"
SSE = "text/event-stream; charset=utf-8"
COMMENT = b": keep-alive\n\n"
WAITING = 2
"""Comments, or blank lines, before an answer."""

CHAT = ("/chat/completions", "/v1/chat/completions", "/beta/chat/completions")
OPERATIONS = {  # path → method, operation
    **dict.fromkeys(CHAT, ("POST", "generate")),
    "/models": ("GET", "models"),
    "/user/balance": ("GET", "balance"),
}

ERRORS: dict[int, tuple[str, str]] = {
    400: ("invalid_request_error", "Invalid request."),
    401: ("authentication_error", "Authentication Fails, Your api key is invalid"),
    402: ("unknown_error", "Insufficient Balance"),
    404: ("invalid_request_error", "Not Found"),
    422: ("invalid_request_error", "Invalid parameters."),
    429: ("rate_limit_error", "Rate limit reached: too many concurrent requests."),
    500: ("server_error", "Internal server error, please retry later."),
    503: ("service_unavailable_error", "Service is too busy, please retry later."),
}
"""Status → (type, message) of an error that was scripted by its status alone."""


class DeepSeek:
    """The stand-in; see `wire.StandIn`."""

    name = "deepseek"
    base = ""

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
            return self._json({"object": "list", "data": [model_card(model) for model in LISTED]})
        if operation == "balance":
            return self._json(balance("noquota" not in key))
        if "noquota" in key:
            raise Rejected(402)
        body = checked(request.body, beta=request.path.startswith("/beta/"))
        ask = understand(body)
        return Generation(ask, bool(body.stream), lambda turn, stream: self._render(body, ask, turn, stream))

    def error(self, problem: Rejected) -> Reply:
        return Reply(problem.status, self._headers(JSON), error_body(problem))

    def error_event(self, problem: Rejected) -> bytes:
        return self.event(error_body(problem))

    def event(self, payload: bytes) -> bytes:
        return b"data: %b\n\n" % payload

    def unknown_event(self) -> bytes:
        return self.event(b'{"object":"chat.completion.sparkle","sparkle":true,"choices":[]}')

    def ping(self) -> bytes:
        return COMMENT

    def _headers(self, content_type: str) -> Headers:
        return (("content-type", content_type), ("x-ds-trace-id", f"{next(self._numbers):032x}"))

    def _json(self, value: Any) -> Reply:
        return Reply(headers=self._headers(JSON), body=msgspec.json.encode(value))

    def _render(self, body: Body, ask: Ask, turn: Turn, stream: bool) -> Reply:
        answer = Answer(body, ask, turn, next(self._numbers))
        if stream:
            frames = answer.frames() if turn.raw is None else raw_frames(turn.raw)
            return paced(Reply(headers=self._headers(SSE), frames=frames), turn)
        whole = b"\n" * WAITING + msgspec.json.encode(answer.document())
        return paced(
            Reply(headers=self._headers(JSON), body=whole if turn.raw is None else verbatim(turn.raw)), turn
        )


def raw_frames(raw: Any) -> list[Frame]:
    return [raw_frame(payload) for payload in (raw if isinstance(raw, list) else [raw])]


# --- the answer -----------------------------------------------------------------------------------------


class Answer:
    """One turn in DeepSeek's form, as a document or as the frames of a stream."""

    def __init__(self, body: Body, ask: Ask, turn: Turn, number: int) -> None:
        self._body = body
        self._turn = turn
        self._number = number
        self._created = int(time.time())
        self._usage = usage(turn, ask)
        self._reasoning = turn.reasoning if body.thinks or turn.show_reasoning else ""
        self._usage_wanted = bool(body.stream_options and body.stream_options.include_usage)

    def document(self) -> dict[str, Any]:
        said = self._turn.said()
        message: dict[str, Any] = {"role": "assistant", "content": said}
        if self._reasoning:
            message["reasoning_content"] = self._reasoning
        if self._turn.tool_calls:
            message["tool_calls"] = [self._called(at) for at in range(len(self._turn.tool_calls))]
        choice = {
            "index": 0,
            "message": message,
            "logprobs": self._logprobs("content", said) if said else None,
            "finish_reason": self._finish(),
        }
        return {**self._top("chat.completion"), "choices": [choice], "usage": self._usage, **self._turn.extra}

    def frames(self) -> list[Frame]:
        """The events of the stream, after the comments of a request that waits."""
        frames = [Frame(COMMENT)] * WAITING
        frames.append(self._chunk({"role": "assistant", "content": "", "reasoning_content": None}))
        for name, text in (("reasoning_content", self._reasoning), ("content", self._turn.said())):
            frames += [self._piece(name, piece) for piece in self._turn.cut(text)]
        for at in range(len(self._turn.tool_calls)):
            frames += self._call_frames(at)
        return [*frames, self._last(), Frame(b"data: [DONE]\n\n", end=True)]

    def _top(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"sim-ds-{self._number:020d}",
            "object": kind,
            "created": self._created,
            "model": self._turn.model or self._body.model,
            "system_fingerprint": FINGERPRINT,
        }

    def _called(self, at: int) -> dict[str, Any]:
        """A tool call as it stands in a message; a minted id is unique in this process."""
        call = self._turn.tool_calls[at]
        identity = call.id or f"call_ds{self._number:016d}{at}"
        function = {"name": call.name, "arguments": call.text()}
        return {"index": at, "id": identity, "type": "function", "function": function}

    def _finish(self) -> str:
        return self._turn.finish_native or self._turn.finished()

    def _logprobs(self, name: str, piece: str) -> dict[str, Any] | None:
        """Log probabilities with one token a piece, those of thoughts under their own name."""
        if not self._body.logprobs:
            return None
        return {"content": None, name: [token(piece, self._body.top_logprobs or 0)]}

    def _piece(self, name: str, piece: str) -> Frame:
        delta = {"role": None, "content": None, "reasoning_content": None, name: piece}
        return self._chunk(delta, content=True, logprobs=self._logprobs(name, piece))

    def _call_frames(self, at: int) -> list[Frame]:
        """The header of a call with empty arguments, then the arguments in pieces without id and name."""
        whole = self._called(at)
        header = {**whole, "function": {**whole["function"], "arguments": ""}}
        pieces = [
            {"index": at, "id": "", "type": "function", "function": {"name": "", "arguments": piece}}
            for piece in self._turn.cut(self._turn.tool_calls[at].text())
        ]
        return [
            self._chunk({"role": None, "content": None, "tool_calls": [call]}, content=True)
            for call in (header, *pieces)
        ]

    def _last(self) -> Frame:
        value = self._value({"role": None, "content": ""}, self._finish(), None)
        if self._usage_wanted:
            value["usage"] = self._usage
        return self._frame({**value, **self._turn.extra})

    def _chunk(
        self, delta: dict[str, Any], *, content: bool = False, logprobs: dict[str, Any] | None = None
    ) -> Frame:
        return self._frame(self._value(delta, None, logprobs), content)

    def _value(
        self, delta: dict[str, Any], finish: str | None, logprobs: dict[str, Any] | None
    ) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        value = {**self._top("chat.completion.chunk"), "choices": [choice]}
        return {**value, "usage": None} if self._usage_wanted else value

    def _frame(self, value: dict[str, Any], content: bool = False) -> Frame:
        return Frame(b"data: %b\n\n" % msgspec.json.encode(value), content=content)


def usage(turn: Turn, ask: Ask) -> dict[str, Any]:
    read, made, thought = usage_of(turn, ask)
    return {
        "prompt_tokens": read,
        "completion_tokens": made,
        "total_tokens": read + made,
        "completion_tokens_details": {"reasoning_tokens": thought},
        "prompt_cache_hit_tokens": turn.usage.cached,
        "prompt_cache_miss_tokens": read - turn.usage.cached,
    }


# --- the request ----------------------------------------------------------------------------------------


def understand(body: Body) -> Ask:
    """The neutral question in a checked body."""
    last = next((message for message in reversed(body.messages) if isinstance(message, User)), None)
    behind = itertools.takewhile(lambda message: isinstance(message, ToolMessage), reversed(body.messages))
    return Ask(
        text=text_of(last.content) if last else "",
        results=[text_of(message.content) for message in behind][::-1],
        tools=callable_tools(body),
        json=body.response_format is not None and body.response_format.type == "json_object",
        media=[size(part.image_url.url) for part in parts(body) if isinstance(part, ImagePart)],
        reasoning=body.thinks,
        stops=[body.stop] if isinstance(body.stop, str) else body.stop or [],
        limit=body.max_tokens,
        read=sum(len(text_of(message.content)) for message in body.messages),
    )


def callable_tools(body: Body) -> list[AskedTool]:
    """The tools that tool_choice lets the model call."""
    if body.tool_choice == "none":
        return []
    chosen = body.tool_choice["function"]["name"] if isinstance(body.tool_choice, dict) else None
    offered = [tool.function for tool in body.tools or ()]
    return [AskedTool(f.name, f.parameters or {}) for f in offered if chosen in (None, f.name)]


def size(url: str) -> tuple[str, int]:
    """(media type, bytes) of an image; an address counts 0 bytes."""
    found = DATA_URL.fullmatch(url)
    return (
        (found["type"], len(found["data"]) * 3 // 4 - found["data"].count("=", -2))
        if found
        else ("image/url", 0)
    )


def authenticate(request: Request) -> str:
    """The key. Any non-empty one will do, except one that contains `wrong`."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Rejected(401, "Authentication Fails (no api key was given)")
    if "wrong" in key:
        raise Rejected(401, f"Authentication Fails, Your api key: ****{key[-4:]} is invalid")
    return key


def unknown_path() -> NoReturn:
    raise Rejected(404)


def error_body(problem: Rejected) -> bytes:
    kind, message = ERRORS.get(problem.status, ("server_error", "The server had an error."))
    error = {
        "message": problem.message or message,
        "type": problem.type or kind,
        "param": problem.param,
        "code": problem.code or "invalid_request_error",
    }
    more = problem.details if isinstance(problem.details, dict) else {}
    return msgspec.json.encode({"error": {**error, **more}})


def model_card(model: str) -> dict[str, Any]:
    return {"id": model, "object": "model", "owned_by": "deepseek"}


def balance(available: bool) -> dict[str, Any]:
    amount = "1.20" if available else "0.00"
    info = {
        "currency": "USD",
        "total_balance": amount,
        "granted_balance": "0.00",
        "topped_up_balance": amount,
    }
    return {"is_available": available, "balance_infos": [info]}
