"""The Anthropic stand-in: /v1/messages, count_tokens, models.

Rule of this file: routing and the native form of an answer. What is refused is in `anthropic_rules.py` and
`anthropic_turns.py`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec

from .anthropic_models import MODELS, TO_MAX, Family
from .anthropic_rules import (
    ANSWERED,
    READ,
    Situation,
    authenticate,
    betas_of,
    family_of,
    forces,
    misshapen,
    refuse,
    system_texts,
    version_of,
)
from .anthropic_shapes import (
    Adaptive,
    Base64,
    BetweenTools,
    Body,
    Countable,
    Disabled,
    Document,
    Enabled,
    Image,
    PlainText,
    Text,
    ToolResult,
)
from .anthropic_turns import Said, signature, understood
from .brain import Ask, AskedTool, tokens, usage_of
from .checks import Mistake, decode
from .script import Turn
from .wire import Frame, Generation, Headers, Rejected, Reply, Request, paced, verbatim

JSON = "application/json"
SSE = "text/event-stream; charset=utf-8"
MAX_BODY = 32 * 2**20
PAGE = 20

ERRORS: dict[int, tuple[str, str]] = {
    400: ("invalid_request_error", "Invalid request"),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "Your account has a billing problem."),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "Not Found"),
    409: ("conflict_error", "The request conflicts with the current state of the resource."),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "This request would exceed your account's rate limit. Please try again later."),
    500: ("api_error", "Internal server error"),
    504: ("timeout_error", "The request timed out."),
    529: ("overloaded_error", "Overloaded"),
}
"""Status → (type, message) of an error that was scripted by its status alone (8.1)."""

STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
METHODS = {"generate": "POST", "count_tokens": "POST", "models": "GET"}


class Anthropic:
    """The stand-in; see `wire.StandIn`."""

    name = "anthropic"
    base = ""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def operation(self, method: str, path: str) -> str | None:
        if path == "/v1/messages":
            return "generate"
        if path == "/v1/messages/count_tokens":
            return "count_tokens"
        return "models" if path == "/v1/models" or path.startswith("/v1/models/") else None

    def handle(self, request: Request) -> Reply | Generation:
        operation = self.operation(request.method, request.path)
        if operation is None:
            refuse("Not Found", 404, "not_found_error")
        if request.method != METHODS[operation]:
            refuse("Method Not Allowed", 405)
        key = authenticate(request)
        version, betas = version_of(request), betas_of(request)
        if operation == "models":
            return self._models(request)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
            refuse("content-type: this endpoint only accepts `application/json`")
        if len(request.body) > MAX_BODY:
            refuse("Request exceeds the maximum size", 413, "request_too_large")
        if operation == "count_tokens":
            return self._count(request.body, version, betas)
        if "noquota" in key:
            refuse(
                "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing "
                "to upgrade or purchase credits."
            )
        return self._generation(request.body, version, betas)

    def error(self, problem: Rejected) -> Reply:
        number = f"req_sim{next(self._numbers):020d}"
        limits = () if problem.status >= 500 else limit_headers(int(time.time()))
        headers = (("content-type", JSON), ("request-id", number), *limits)
        return Reply(problem.status, headers, error_body(problem, number))

    def error_event(self, problem: Rejected) -> bytes:
        return b"event: error\ndata: %b\n\n" % error_body(problem, f"req_sim{next(self._numbers):020d}")

    def event(self, payload: bytes) -> bytes:
        """The name of an event is the type in its payload, as far as there is one."""
        try:
            name = msgspec.json.decode(payload, type=Typed).type
        except (msgspec.MsgspecError, UnicodeDecodeError):
            name = "content_block_delta"
        return b"event: %b\ndata: %b\n\n" % (name.encode(), payload)

    def unknown_event(self) -> bytes:
        return self.event(b'{"type":"sparkle","sparkle":true}')

    def ping(self) -> bytes:
        return PING.data

    def _headers(self, content_type: str) -> Headers:
        return (
            ("content-type", content_type),
            ("request-id", f"req_sim{next(self._numbers):020d}"),
            ("anthropic-organization-id", "00000000-0000-4000-8000-000000000000"),
            *limit_headers(int(time.time())),
        )

    def _json(self, value: Any) -> Reply:
        return Reply(headers=self._headers(JSON), body=msgspec.json.encode(value))

    def _models(self, request: Request) -> Reply:
        wanted = request.path.removeprefix("/v1/models").lstrip("/")
        if wanted:
            return self._json(model_card(wanted, family_of(wanted)))
        ids, more = page(list(MODELS), request.query)
        cards = [model_card(model, MODELS[model]) for model in ids]
        first, last = (ids[0], ids[-1]) if ids else (None, None)
        return self._json({"data": cards, "has_more": more, "first_id": first, "last_id": last})

    def _count(self, raw: bytes, version: str, betas: tuple[str, ...]) -> Reply:
        body = decode(raw, Countable)
        if isinstance(body, Mistake):
            misshapen(body)
        ask = checked(body, Situation(family_of(body.model), version, betas))
        return self._json({"input_tokens": max(tokens(ask.read), 1)})

    def _generation(self, raw: bytes, version: str, betas: tuple[str, ...]) -> Generation:
        body = decode(raw, Body)
        if isinstance(body, Mistake):
            misshapen(body)
        here = Situation(family_of(body.model), version, betas)
        for check in ANSWERED:
            check(body, here)
        ask = checked(body, here)
        return Generation(
            ask, bool(body.stream), lambda turn, stream: self._render(body, here, ask, turn, stream)
        )

    def _render(self, body: Body, here: Situation, ask: Ask, turn: Turn, stream: bool) -> Reply:
        answer = Answer(body, here, ask, turn, next(self._numbers))
        if stream:
            frames = list(answer.frames()) if turn.raw is None else self._raw_frames(turn.raw)
            return paced(Reply(headers=self._headers(SSE), frames=frames), turn)
        whole = verbatim(answer.document() if turn.raw is None else turn.raw)
        return paced(Reply(headers=self._headers(JSON), body=whole), turn)

    def _raw_frames(self, raw: Any) -> list[Frame]:
        payloads = raw if isinstance(raw, list) else [raw]
        return [
            Frame(each, content=True)
            if isinstance(each, bytes)
            else Frame(self.event(verbatim(each)), content=True)
            for each in payloads
        ]


class Typed(msgspec.Struct):
    """Just the type of an event."""

    type: str = "content_block_delta"


# --- the answer -----------------------------------------------------------------------------------------


def frame(kind: str, fields: dict[str, Any], *, content: bool = False, end: bool = False) -> Frame:
    data = b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode({"type": kind, **fields}))
    return Frame(data, content, end)


PING = frame("ping", {})


class Answer:
    """One turn in Anthropic's form, as a document or as the frames of a stream."""

    def __init__(self, body: Body, here: Situation, ask: Ask, turn: Turn, number: int) -> None:
        self._body = body
        self._here = here
        self._turn = turn
        self._id = f"msg_sim{number:020d}"
        self._number = number
        self._usage = usage(turn, ask)

    def document(self) -> dict[str, Any]:
        return {**self._message(self._blocks(), self._usage), **self._stop(), **self._turn.extra}

    def _message(self, content: list[dict[str, Any]], counted: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._turn.model or self._body.model,
            "content": content,
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
            "usage": counted,
        }

    def _stop(self) -> dict[str, Any]:
        turn = self._turn
        reason = turn.finish_native or STOPS[turn.finished()]
        if turn.refusal:
            reason = turn.finish_native or "refusal"
        if reason == "end_turn" and turn.stop_sequence is not None:
            reason = "stop_sequence"
        details = {"type": "refusal", "category": None, "explanation": turn.refusal or None}
        return {
            "stop_reason": reason,
            "stop_sequence": turn.stop_sequence if reason == "stop_sequence" else None,
            "stop_details": details if reason == "refusal" else None,
        }

    def _blocks(self) -> list[dict[str, Any]]:
        turn = self._turn
        blocks: list[dict[str, Any]] = []
        if turn.reasoning or turn.signature:
            blocks.append(self._thinking())
        if turn.redacted_thinking:
            blocks.append({"type": "redacted_thinking", "data": turn.redacted_thinking})
        if turn.said():
            blocks.append({"type": "text", "text": turn.said()})
        for at, call in enumerate(turn.tool_calls):
            blocks.append(
                {
                    "type": "tool_use",
                    "id": call.id or f"toolu_sim{self._number:018d}{at}",
                    "name": call.name,
                    "input": arguments(call.text()),
                    "caller": {"type": "direct"},
                }
            )
        return blocks

    def _thinking(self) -> dict[str, Any]:
        """The block a client must give back unchanged; its text is empty where the display is omitted."""
        asked = self._body.thinking
        display = asked.display if isinstance(asked, Adaptive | Enabled) else None
        text = "" if (display or self._here.family.display) == "omitted" else self._turn.reasoning
        signed = (
            signature(self._body, text, self._here) if self._turn.signature is None else self._turn.signature
        )
        return {"type": "thinking", "thinking": text, "signature": signed}

    def frames(self) -> Iterator[Frame]:
        started = {**self._usage, "output_tokens": 1}
        started.pop("output_tokens_details", None)
        yield frame("message_start", {"message": self._message([], started)})
        calls = iter(self._turn.tool_calls)
        for index, block in enumerate(self._blocks()):
            text = next(calls).text() if block["type"] == "tool_use" else ""
            yield from self._block_frames(index, block, text)
        if not self._blocks():
            yield PING
        counted = {key: value for key, value in self._usage.items() if key in DELTA_USAGE}
        yield frame("message_delta", {"delta": self._stop(), "usage": counted, **self._turn.extra})
        yield frame("message_stop", {}, end=True)

    def _block_frames(self, index: int, block: dict[str, Any], text: str) -> Iterator[Frame]:
        kind = block["type"]
        empty = {**block, **EMPTY.get(kind, {})}
        yield frame(
            "content_block_start", {"index": index, "content_block": empty}, content=kind == "tool_use"
        )
        if index == 0:
            yield PING
        for delta in self._deltas(block, text):
            content = not delta["type"].startswith("signature")
            yield frame("content_block_delta", {"index": index, "delta": delta}, content=content)
        yield frame("content_block_stop", {"index": index})

    def _deltas(self, block: dict[str, Any], text: str) -> Iterator[dict[str, Any]]:
        turn = self._turn
        if block["type"] == "text":
            yield from ({"type": "text_delta", "text": piece} for piece in turn.cut(block["text"]))
        elif block["type"] == "thinking":
            yield from (
                {"type": "thinking_delta", "thinking": piece} for piece in turn.cut(block["thinking"])
            )
            yield {"type": "signature_delta", "signature": block["signature"]}
        elif block["type"] == "tool_use":
            pieces = [] if text == "{}" else turn.cut(text)
            yield from ({"type": "input_json_delta", "partial_json": piece} for piece in ("", *pieces))


EMPTY: dict[str, dict[str, Any]] = {
    "text": {"text": ""},
    "thinking": {"thinking": "", "signature": ""},
    "tool_use": {"input": {}},
}
"""What a block's start event shows instead of what its deltas bring."""

DELTA_USAGE = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
    "output_tokens_details",
)
"""Which counts the last message_delta repeats."""


def arguments(text: str) -> Any:
    """`input` of a finished tool_use: JSON that was cut is not an object and becomes an empty one."""
    try:
        value = msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return value


def usage(turn: Turn, ask: Ask) -> dict[str, Any]:
    """input_tokens excludes what was read from and written to the cache; output_tokens includes thinking."""
    read, made, thought = usage_of(turn, ask)
    stated = turn.usage
    counted: dict[str, Any] = {
        "input_tokens": max(read - stated.cached - stated.cache_write, 0),
        "cache_creation_input_tokens": stated.cache_write,
        "cache_read_input_tokens": stated.cached,
        "cache_creation": {"ephemeral_5m_input_tokens": stated.cache_write, "ephemeral_1h_input_tokens": 0},
        "output_tokens": made,
        "service_tier": "standard",
        "inference_geo": "not_available",
    }
    return {**counted, "output_tokens_details": {"thinking_tokens": thought}} if thought else counted


# --- the request ----------------------------------------------------------------------------------------


def checked(body: Countable, here: Situation) -> Ask:
    """The neutral question in a body, after every check. Raises Rejected as Anthropic would."""
    for check in READ:
        check(body, here)
    systems = system_texts(body)
    ask = understand(body, here, understood(body, here))
    ask.read += sum(len(text) for text in systems)
    if tokens(ask.read) > here.family.window:
        refuse(f"prompt is too long: {tokens(ask.read)} tokens > {here.family.window} maximum")
    return ask


def understand(body: Countable, here: Situation, said: list[Said]) -> Ask:
    last = next((one for one in reversed(said) if one.role == "user"), said[-1])
    results = [text_of(block) for block in last.blocks if isinstance(block, ToolResult)]
    choice = body.tool_choice
    wanted = body.output_config.format if body.output_config else None
    stops, limit = (body.stop_sequences or [], body.max_tokens) if isinstance(body, Body) else ([], None)
    return Ask(
        text="".join(block.text for block in last.blocks if isinstance(block, Text)),
        results=results,
        tools=callable_tools(body),
        parallel=not (choice and choice.disable_parallel_tool_use),
        schema=wanted.schema if wanted else None,
        media=[found for block in last.blocks if (found := media(block))],
        reasoning=thinks(body, here.family, bool(results)),
        stops=stops,
        limit=limit,
        read=sum(len(text_of(block)) for one in said for block in one.blocks),
    )


def text_of(block: Any) -> str:
    """What can be read in a block."""
    if isinstance(block, Text):
        return block.text
    if isinstance(block, ToolResult):
        content = block.content or ""
        if isinstance(content, str):
            return content
        return "".join(each.get("text", "") for each in content)
    return ""


def callable_tools(body: Countable) -> list[AskedTool]:
    choice = body.tool_choice
    if choice is not None and choice.type == "none":
        return []
    offered = [
        AskedTool(each["name"], each["input_schema"]) for each in body.tools or () if "input_schema" in each
    ]
    return [tool for tool in offered if choice is None or choice.name in (None, tool.name)]


def media(block: Any) -> tuple[str, int] | None:
    """(media type, bytes) of an image or document; what is not inline counts 0 bytes."""
    if not isinstance(block, Image | Document):
        return None
    source = block.source
    if isinstance(source, Base64):
        return source.media_type, len(source.data) * 3 // 4 - source.data.count("=", -2)
    if isinstance(source, PlainText):
        return source.media_type, len(source.data.encode())
    return ("image/url" if isinstance(block, Image) else "application/file"), 0


def thinks(body: Countable, family: Family, after_tools: bool) -> bool:
    """Whether a thinking block comes first: by the request's form, else by the family's default (section
    7).
    """
    asked = body.thinking
    if forces(body) or isinstance(asked, Disabled):
        return False
    if isinstance(asked, BetweenTools):
        return after_tools
    return asked is not None or family.thinks != "off"


def error_body(problem: Rejected, number: str) -> bytes:
    kind, message = ERRORS.get(problem.status, ("api_error", "Internal server error"))
    error: dict[str, Any] = {"type": problem.type or kind, "message": problem.message or message}
    details = (
        problem.details
        if problem.details is not None
        else {"error_code": problem.code}
        if problem.code
        else None
    )
    if details is not None:
        error["details"] = details
    return msgspec.json.encode({"type": "error", "error": error, "request_id": number})


@lru_cache(2)
def limit_headers(now: int) -> Headers:
    """The four token buckets; resets are RFC 3339 (section 10). `now`: seconds since the epoch."""
    reset = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + 1))
    numbers = {
        "requests": (4000, 3999),
        "tokens": (2_400_000, 2_400_000),
        "input-tokens": (2_000_000, 2_000_000),
        "output-tokens": (400_000, 400_000),
    }
    return tuple(
        (f"anthropic-ratelimit-{name}-{key}", value)
        for name, (limit, left) in numbers.items()
        for key, value in (("limit", str(limit)), ("remaining", str(left)), ("reset", reset))
    )


def page(ids: list[str], query: dict[str, str]) -> tuple[list[str], bool]:
    """One page of the models list, and whether there is more in its direction."""
    given = query.get("limit", str(PAGE))
    if not given.isdigit() or not 1 <= int(given) <= 1000:
        refuse("limit: Input should be between 1 and 1000")
    limit = int(given)
    for name in ("after_id", "before_id"):
        if name in query and query[name] not in ids:
            refuse(f"{name}: no such model")
    if "before_id" in query:
        ids = ids[: ids.index(query["before_id"])]
        return ids[-limit:], len(ids) > limit
    if "after_id" in query:
        ids = ids[ids.index(query["after_id"]) + 1 :]
    return ids[:limit], len(ids) > limit


def model_card(model: str, family: Family) -> dict[str, Any]:
    return {
        "type": "model",
        "id": model,
        "display_name": model.replace("-", " ").title(),
        "created_at": family.created,
        "deprecated_at": None,
        "retires_at": None,
        "lifecycle": "active",
        "line": model.split("-")[1],
        "max_input_tokens": family.window,
        "max_tokens": family.output,
        "capabilities": capabilities(family),
    }


def capabilities(family: Family) -> dict[str, Any]:
    yes = {"supported": True}
    types = {
        "adaptive": family.adaptive,
        "between_tools": family.between,
        "disabled": family.disable != "no",
        "enabled": family.budget,
    }
    return {
        **dict.fromkeys(
            ("batch", "citations", "code_execution", "image_input", "pdf_input", "structured_outputs"), yes
        ),
        "context_management": {"supported": False},
        "server_tools": {"supported": False},
        "effort": {
            "supported": bool(family.efforts),
            **{level: {"supported": level in family.efforts} for level in TO_MAX},
        },
        "thinking": {
            "supported": True,
            "types": {name: {"supported": supported} for name, supported in types.items()},
        },
    }
