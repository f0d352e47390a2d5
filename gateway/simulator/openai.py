"""The OpenAI stand-in: chat/completions, embeddings and models.

Rule of this file: routing and the native form of an answer. What is refused is in `openai_rules.py`;
/v1/responses is in `openai_responses.py`, /v1/embeddings in `openai_embeddings.py`.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import msgspec

from . import openai_embeddings, openai_responses
from .brain import Ask, AskedTool, usage_of
from .openai_models import CREATED, EMBEDDERS, MODELS, SHUTDOWN, Family, find
from .openai_rules import DATA_URL, checked, no_such_model, refuse, text_of
from .openai_shapes import (
    AudioPart,
    Body,
    FilePart,
    FunctionTool,
    ImagePart,
    JsonFormat,
    SchemaFormat,
    ToolMessage,
    User,
)
from .script import Turn
from .wire import Frame, Generation, Headers, Rejected, Reply, Request, paced, verbatim

FINGERPRINT = "fp_simulator"
JSON = "application/json"
SSE = "text/event-stream; charset=utf-8"
PADDING = "abcdefghijklmnopqrstuvwxyz"

LIMITS: Headers = (
    ("openai-version", "2020-10-01"),
    ("openai-organization", "org-simulator"),
    ("openai-processing-ms", "12"),
    ("x-ratelimit-limit-requests", "10000"),
    ("x-ratelimit-limit-tokens", "2000000"),
    ("x-ratelimit-remaining-requests", "9999"),
    ("x-ratelimit-remaining-tokens", "1999000"),
    ("x-ratelimit-reset-requests", "6ms"),
    ("x-ratelimit-reset-tokens", "30ms"),
)

ERRORS: dict[int, tuple[str, str | None, str]] = {
    400: ("invalid_request_error", None, "Invalid request."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("invalid_request_error", "insufficient_permissions", "You have insufficient permissions."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist"),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests. Please try again in 6ms."),
    500: ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
    503: ("service_unavailable_error", "server_is_overloaded", "Our servers are currently overloaded."),
}
"""Status → (type, code, message) of an error that was scripted by its status alone (B4)."""

FINISH = {"stop": "stop", "length": "length", "tool_calls": "tool_calls", "content_filter": "content_filter"}


class OpenAI:
    """The stand-in; see `wire.StandIn`."""

    name = "openai"
    base = "/v1"

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def operation(self, method: str, path: str) -> str | None:
        if path in ("/v1/chat/completions", openai_responses.PATH):
            return "generate"
        if path == openai_embeddings.PATH:
            return "embeddings"
        return "models" if path == "/v1/models" or path.startswith("/v1/models/") else None

    def handle(self, request: Request) -> Reply | Generation:
        operation = self.operation(request.method, request.path)
        if operation is None or request.method != ("GET" if operation == "models" else "POST"):
            unknown_path(request)
        key = authenticate(request)
        if operation == "models":
            return self._models(request.path)
        if "noquota" in key:
            raise Rejected(
                429,
                "You exceeded your current quota, please check your plan and billing details. For more "
                "information on this error, read the docs: "
                "https://platform.openai.com/docs/guides/error-codes/api-errors.",
                type="insufficient_quota",
                code="insufficient_quota",
            )
        content_type(request)
        if operation == "embeddings":
            return self._json(openai_embeddings.answer(request.body))
        if request.path == openai_responses.PATH:
            return openai_responses.generation(request.body, self._numbers, self._headers)
        body, family = checked(request.body)
        ask = understand(body, family)
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
        return b": keep-alive\n\n"

    def _headers(self, content_type: str) -> Headers:
        return (
            ("content-type", content_type),
            ("x-request-id", f"req_sim{next(self._numbers):024d}"),
            *LIMITS,
        )

    def _models(self, path: str) -> Reply:
        wanted = path.removeprefix("/v1/models").lstrip("/")
        if not wanted:
            return self._json(
                {"object": "list", "data": [model_card(model) for model in (*MODELS, *EMBEDDERS)]}
            )
        if find(wanted) is None and wanted not in EMBEDDERS:
            no_such_model(wanted)
        return self._json(model_card(wanted))

    def _json(self, value: Any) -> Reply:
        return Reply(headers=self._headers(JSON), body=msgspec.json.encode(value))

    def _render(self, body: Body, ask: Ask, turn: Turn, stream: bool) -> Reply:
        answer = Answer(body, ask, turn, next(self._numbers))
        if stream:
            frames = self._raw_frames(turn.raw) if turn.raw is not None else answer.frames()
            return paced(Reply(headers=self._headers(SSE), frames=frames), turn)
        whole = verbatim(answer.document() if turn.raw is None else turn.raw)
        return paced(Reply(headers=self._headers(JSON), body=whole), turn)

    def _raw_frames(self, raw: Any) -> list[Frame]:
        payloads = raw if isinstance(raw, list) else [raw]
        return [raw_frame(payload) for payload in payloads]


def raw_frame(payload: Any) -> Frame:
    """A verbatim payload as an event: bytes as they are, text after `data: `, anything else as JSON."""
    if isinstance(payload, bytes):
        return Frame(payload, content=True)
    text = verbatim(payload)
    return Frame(b"data: %b\n\n" % text, content=text != b"[DONE]", end=text == b"[DONE]")


# --- the answer -----------------------------------------------------------------------------------------


class Answer:
    """One turn in OpenAI's form, as a document or as the frames of a stream."""

    def __init__(self, body: Body, ask: Ask, turn: Turn, number: int) -> None:
        self._body = body
        self._turn = turn
        self._legacy = body.functions is not None
        self._id = f"chatcmpl-sim{number:020d}"
        self._number = number
        self._created = int(time.time())
        self._usage = usage(turn, ask)
        self._choices = body.n or 1
        options = body.stream_options
        self._usage_wanted = bool(options and options.include_usage)
        self._obfuscate = not (options and options.include_obfuscation is False)

    def document(self) -> dict[str, Any]:
        return {
            **self._top("chat.completion"),
            "choices": [self._choice(index) for index in range(self._choices)],
            "usage": self._usage,
            **self._turn.extra,
        }

    def _top(self, kind: str) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._turn.model or self._body.model,
            "service_tier": "default",
            "system_fingerprint": FINGERPRINT,
        }

    def _choice(self, index: int) -> dict[str, Any]:
        said = self._turn.said()
        message: dict[str, Any] = {
            "role": "assistant",
            "content": said if said or not (self._turn.tool_calls or self._turn.refusal) else None,
            "refusal": self._turn.refusal or None,
            "annotations": [],
        }
        if self._turn.show_reasoning:
            message["reasoning_content"] = self._turn.reasoning
        if self._turn.tool_calls and self._legacy:
            message["function_call"] = self._called(0)["function"]
        elif self._turn.tool_calls:
            message["tool_calls"] = [self._called(at) for at in range(len(self._turn.tool_calls))]
        return {
            "index": index,
            "message": message,
            "logprobs": self._logprobs([said]) if said else None,
            "finish_reason": self._finish(),
        }

    def _called(self, at: int) -> dict[str, Any]:
        """A tool call as it stands in a message; a minted id is unique in this process."""
        call = self._turn.tool_calls[at]
        identity = call.id or f"call_sim{self._number:016d}{at}"
        if call.custom:
            text = call.arguments if isinstance(call.arguments, str) else call.text()
            return {"id": identity, "type": "custom", "custom": {"name": call.name, "input": text}}
        return {"id": identity, "type": "function", "function": {"name": call.name, "arguments": call.text()}}

    def _finish(self) -> str:
        neutral = self._turn.finished()
        return self._turn.finish_native or (
            "function_call" if neutral == "tool_calls" and self._legacy else FINISH[neutral]
        )

    def _logprobs(self, pieces: list[str]) -> dict[str, Any] | None:
        """Log probabilities with one token a piece, when they were asked for."""
        if not self._body.logprobs:
            return None
        return {"content": [token(piece, self._body.top_logprobs or 0) for piece in pieces], "refusal": None}

    def frames(self) -> list[Frame]:
        """The events of the stream; the choices of n > 1 are interleaved."""
        choices = range(self._choices)
        frames = [
            self._chunk(index, delta, None, content, logprobs)
            for delta, content, logprobs in self._deltas()
            for index in choices
        ]
        frames += [self._chunk(index, {}, self._finish(), False, None) for index in choices]
        if self._usage_wanted:
            frames.append(
                self._frame({**self._top("chat.completion.chunk"), "choices": [], "usage": self._usage})
            )
        return [*frames, Frame(b"data: [DONE]\n\n", end=True)]

    def _deltas(self) -> list[tuple[dict[str, Any], bool, dict[str, Any] | None]]:
        """(delta, is it content, logprobs) in the order OpenAI sends them."""
        turn = self._turn
        calls = [] if self._legacy else self._call_deltas()
        silent = bool(turn.tool_calls) and not turn.said() and not turn.show_reasoning
        role = {"role": "assistant", "content": None if silent else "", "refusal": None}
        deltas: list[tuple[dict[str, Any], bool, dict[str, Any] | None]] = [(role, False, None)]
        if len(turn.tool_calls) == 1 and silent and calls:
            # a single call rides on the role chunk
            deltas = [({**role, **calls.pop(0)}, True, None)]
        if turn.show_reasoning:
            deltas += [({"reasoning_content": piece}, True, None) for piece in turn.cut(turn.reasoning)]
        deltas += [({"content": piece}, True, self._logprobs([piece])) for piece in turn.cut(turn.said())]
        deltas += [({"refusal": piece}, True, None) for piece in turn.cut(turn.refusal)]
        if self._legacy and turn.tool_calls:
            deltas.append(({"function_call": self._called(0)["function"]}, True, None))
        return deltas + [(delta, True, None) for delta in calls]

    def _call_deltas(self) -> list[dict[str, Any]]:
        """Per call: the header with empty arguments, then the arguments in pieces."""
        deltas: list[dict[str, Any]] = []
        for at, call in enumerate(self._turn.tool_calls):
            whole = self._called(at)
            key, text = ("custom", "input") if call.custom else ("function", "arguments")
            header = {**whole, "index": at, key: {**whole[key], text: ""}}
            deltas.append({"tool_calls": [header]})
            deltas += [
                {"tool_calls": [{"index": at, key: {text: piece}}]} for piece in self._turn.cut(call.text())
            ]
        return deltas

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        finish: str | None,
        content: bool,
        logprobs: dict[str, Any] | None,
    ) -> Frame:
        value = {
            **self._top("chat.completion.chunk"),
            "choices": [{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}],
        }
        if self._usage_wanted:
            value["usage"] = None
        if finish is not None:
            value |= self._turn.extra
        return self._frame(value, content)

    def _frame(self, value: dict[str, Any], content: bool = False) -> Frame:
        if self._obfuscate:
            value["obfuscation"] = PADDING[: 3 + len(value["choices"]) + 5 * content]
        return Frame(b"data: %b\n\n" % msgspec.json.encode(value), content=content)


def token(piece: str, others: int) -> dict[str, Any]:
    one: dict[str, Any] = {"token": piece, "logprob": -0.01, "bytes": list(piece.encode())}
    tops = [one, *({"token": f"?{at}", "logprob": -9.0 - at, "bytes": None} for at in range(1, others))]
    return {**one, "top_logprobs": tops[:others]}


def usage(turn: Turn, ask: Ask) -> dict[str, Any]:
    read, made, thought = usage_of(turn, ask)
    prompt = {"cached_tokens": turn.usage.cached, "audio_tokens": 0}
    if turn.usage.cache_write:
        prompt["cache_write_tokens"] = turn.usage.cache_write
    return {
        "prompt_tokens": read,
        "completion_tokens": made,
        "total_tokens": read + made,
        "prompt_tokens_details": prompt,
        "completion_tokens_details": {
            "reasoning_tokens": thought,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


# --- the request ----------------------------------------------------------------------------------------


def understand(body: Body, family: Family) -> Ask:
    """The neutral question in a checked body."""
    last = next((message for message in reversed(body.messages) if isinstance(message, User)), None)
    results: list[str] = []
    for message in reversed(body.messages):
        if not isinstance(message, ToolMessage):
            break
        results.insert(0, text_of(message.content))
    wanted = body.response_format
    return Ask(
        text=text_of(last.content) if last else "",
        results=results,
        tools=callable_tools(body),
        parallel=body.parallel_tool_calls is not False and body.functions is None,
        schema=wanted.json_schema.schema or {} if isinstance(wanted, SchemaFormat) else None,
        json=isinstance(wanted, JsonFormat),
        media=media_of(last.content) if last else [],
        reasoning=bool(family.efforts) and body.effort(family) != "none",
        stops=[body.stop] if isinstance(body.stop, str) else body.stop or [],
        limit=body.limit(),
        read=sum(len(text_of(message.content)) for message in body.messages),
    )


def callable_tools(body: Body) -> list[AskedTool]:
    """The tools that tool_choice lets the model call."""
    if body.functions is not None:
        offered = [AskedTool(each.name, each.parameters or {}) for each in body.functions]
        chosen: Any = body.function_call
        named = chosen.get("name") if isinstance(chosen, dict) else None
        return [] if chosen == "none" else [tool for tool in offered if named in (None, tool.name)]
    offered = [
        AskedTool(each.function.name, each.function.parameters or {})
        if isinstance(each, FunctionTool)
        else AskedTool(each.custom.name, custom=True)
        for each in body.tools or ()
    ]
    return allowed(offered, body.tool_choice)


def allowed(offered: list[AskedTool], choice: str | dict[str, Any] | None) -> list[AskedTool]:
    if choice == "none":
        return []
    if not isinstance(choice, dict):
        return offered
    kind = choice["type"]
    if kind == "allowed_tools":
        tools = choice[kind].get("tools", ())
        names = {tool.get(tool.get("type"), {}).get("name") for tool in tools}
    else:
        names = {choice[kind].get("name")}
    return [tool for tool in offered if tool.name in names]


def media_of(content: Any) -> list[tuple[str, int]]:
    """(media type, bytes) of what is not text; a reference that is not inline counts 0 bytes."""
    found: list[tuple[str, int]] = []
    for part in content if isinstance(content, list) else ():
        if isinstance(part, ImagePart):
            found.append(data_size(part.image_url.url, "image/url"))
        elif isinstance(part, AudioPart):
            found.append((f"audio/{part.input_audio.format}", len(part.input_audio.data) * 3 // 4))
        elif isinstance(part, FilePart):
            found.append(data_size(part.file.file_data or "", "application/file"))
    return found


def data_size(url: str, other: str) -> tuple[str, int]:
    parsed = DATA_URL.fullmatch(url)
    if parsed is None:
        return other, 0
    data = parsed["data"]
    return parsed["type"], len(data) * 3 // 4 - data.count("=", -2)


def authenticate(request: Request) -> str:
    """The key. Any non-empty one will do, except one that contains `wrong`."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Rejected(
            401,
            "You didn't provide an API key. You need to provide your API key in an Authorization header "
            "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
            type="invalid_request_error",
        )
    if "wrong" in key:
        raise Rejected(
            401,
            f"Incorrect API key provided: {key[:3]}{'*' * 6}{key[-2:]}. You can find your API key at "
            "https://platform.openai.com/account/api-keys.",
            type="invalid_request_error",
            code="invalid_api_key",
        )
    return key


def content_type(request: Request) -> None:
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() != JSON:
        refuse(
            f"Unsupported content type: '{given}'. This API method only accepts 'application/json' "
            f"requests, but you specified the header 'Content-Type: {given}'. Please try again with a "
            "supported content type.",
            code="unsupported_content_type",
        )


def unknown_path(request: Request) -> None:
    refuse(
        f"Unknown request URL: {request.method} {request.path}. Please check the URL for typos, or see the "
        "docs at https://platform.openai.com/docs/api-reference/.",
        code="unknown_url",
        status=404,
    )


def error_body(problem: Rejected) -> bytes:
    default = ERRORS.get(problem.status, ("server_error", None, "The server had an error."))
    # a problem without a type was scripted by its status: what goes with the status fills the gaps
    scripted = problem.type is None
    error = {
        "message": problem.message or default[2],
        "type": problem.type or default[0],
        "param": problem.param,
        "code": problem.code if problem.code or not scripted else default[1],
    }
    more = problem.details if isinstance(problem.details, dict) else {}
    return msgspec.json.encode({"error": {**error, **more}})


def model_card(model: str) -> dict[str, Any]:
    return {
        "id": model,
        "object": "model",
        "created": CREATED,
        "owned_by": "system",
        "shutdown_date": SHUTDOWN.get(model),
    }
