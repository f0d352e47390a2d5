"""The Gemini stand-in: generateContent, streamGenerateContent, countTokens, models.

Rule of this file: routing and the native form of an answer. What is refused is in `gemini_rules.py` and
`gemini_turns.py`; embeddings are in `gemini_embeddings.py`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from . import gemini_embeddings
from .brain import Ask, AskedTool, tokens, usage_of
from .gemini_models import EMBEDDERS, LATEST, MODELS, Family, find
from .gemini_rules import CHECKS, STATUS, Situation, authenticate, no_such_model, parsed, refuse
from .gemini_shapes import Body, Content, CountBody, Part
from .gemini_turns import check_contents, mint
from .script import ToolCall, Turn
from .wire import Frame, Generation, Headers, Rejected, Reply, Request, paced, verbatim

JSON = "application/json; charset=UTF-8"
SSE = "text/event-stream"
PATH = re.compile(
    r"/(?P<version>v1beta|v1)/(?P<kind>models|tunedModels)(?:/(?P<model>[^/:]+)(?::(?P<method>\w+))?)?"
)
OPERATIONS = {
    "generateContent": "generate",
    "streamGenerateContent": "generate",
    "countTokens": "count_tokens",
    "embedContent": "embeddings",
    "batchEmbedContents": "embeddings",
    None: "models",
}
FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}
RPC = "type.googleapis.com/google.rpc."
QUOTA = "generativelanguage.googleapis.com/generate_content_free_tier_requests"

MESSAGES = {
    400: "Request contains an invalid argument.",
    401: "Request had invalid authentication credentials.",
    403: "The caller does not have permission",
    404: "Requested entity was not found.",
    429: "You exceeded your current quota, please check your plan and billing details. "
    "Please retry in 38.863719904s.",
    500: "An internal error has occurred. Please retry or"
    "report in https://developers.generativeai.google/guide/troubleshooting",
    503: "The model is overloaded. Please try again later.",
    504: "The request timed out. Please try again.",
}
"""Status → message of an error that was scripted by its status alone (section 10)."""


class Gemini:
    """The stand-in; see `wire.StandIn`."""

    name = "gemini"
    base = ""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def operation(self, method: str, path: str) -> str | None:
        found = PATH.fullmatch(path)
        return OPERATIONS.get(found["method"]) if found else None

    def handle(self, request: Request) -> Reply | Generation:
        try:
            return self._handle(request)
        except Rejected as problem:
            if request.path.endswith(":streamGenerateContent") and request.query.get("alt") != "sse":
                problem.wrapped = True
            raise

    def error(self, problem: Rejected) -> Reply:
        return Reply(problem.status, self._headers(JSON), error_body(problem))

    def error_event(self, problem: Rejected) -> bytes:
        return self.event(error_body(problem))

    def event(self, payload: bytes) -> bytes:
        return b"data: %b\r\n\r\n" % payload

    def unknown_event(self) -> bytes:
        return self.event(b'{"sparkle":true}')

    def ping(self) -> bytes:
        return b": keep-alive\r\n\r\n"

    def _handle(self, request: Request) -> Reply | Generation:
        found = PATH.fullmatch(request.path)
        operation = OPERATIONS.get(found["method"]) if found else None
        if (
            found is None
            or operation is None
            or request.method != ("GET" if operation == "models" else "POST")
        ):
            refuse(f"The requested URL {request.path} was not found on this server.", 404)
        key = authenticate(request)
        if operation == "models":
            return self._models(found["version"], found["model"], request)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            refuse("Invalid content type: this endpoint only accepts application/json.")
        if operation == "embeddings":
            check_quota(key)
            asked = (found["model"], found["method"], found["version"])
            return self._json(gemini_embeddings.answer(request.body, *asked))
        family = find(found["model"], found["version"])
        if family is None or found["kind"] != "models":
            no_such_model(found["model"], found["version"])
        here = Situation(found["model"], family)
        if operation == "count_tokens":
            return self._count(request.body, here)
        check_quota(key)
        return self._generation(request, here, found["method"] == "streamGenerateContent")

    def _headers(self, content_type: str) -> Headers:
        return (("content-type", content_type), ("vary", "Origin"), ("x-gemini-service-tier", "standard"))

    def _json(self, value: Any) -> Reply:
        return Reply(headers=self._headers(JSON), body=msgspec.json.encode(value))

    def _models(self, version: str, model: str | None, request: Request) -> Reply:
        known = [*MODELS, *EMBEDDERS, *(LATEST if version == "v1beta" else ())]
        if model is not None:
            if model not in known:
                no_such_model(model, version)
            return self._json(model_card(model))
        size, start = request.query.get("pageSize", "50"), request.query.get("pageToken", "0")
        if not size.isdigit() or not start.isdigit():
            refuse("Invalid page_size or page_token.")
        end = int(start) + min(int(size) or 50, 1000)
        listed: dict[str, Any] = {"models": [model_card(each) for each in known[int(start) : end]]}
        if end < len(known):
            listed["nextPageToken"] = str(end)
        return self._json(listed)

    def _count(self, raw: bytes, here: Situation) -> Reply:
        body = parsed(raw, CountBody)
        if body.generate_content_request is not None and body.contents:
            refuse("Only one of contents and generate_content_request may be set.")
        asked = body.generate_content_request or Body(contents=body.contents)
        ask = checked(asked, here)
        count = max(tokens(ask.read), 1)
        return self._json(
            {"totalTokens": count, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": count}]}
        )

    def _generation(self, request: Request, here: Situation, stream: bool) -> Generation:
        body = parsed(request.body, Body)
        ask = checked(body, here)
        array = stream and request.query.get("alt") != "sse"
        return Generation(
            ask, stream, lambda turn, as_stream: self._render(body, here, ask, turn, as_stream, array)
        )

    def _render(self, body: Body, here: Situation, ask: Ask, turn: Turn, stream: bool, array: bool) -> Reply:
        answer = Answer(body, here, ask, turn, next(self._numbers))
        if not stream:
            whole = verbatim(answer.document() if turn.raw is None else turn.raw)
            return paced(Reply(headers=self._headers(JSON), body=whole), turn)
        frames = list(answer.frames()) if turn.raw is None else self._raw_frames(turn.raw)
        if array:
            frames = as_array(frames)
        return paced(Reply(headers=self._headers(JSON if array else SSE), frames=frames), turn)

    def _raw_frames(self, raw: Any) -> list[Frame]:
        payloads = raw if isinstance(raw, list) else [raw]
        return [
            Frame(each if isinstance(each, bytes) else self.event(verbatim(each)), content=True)
            for each in payloads
        ]


def as_array(frames: list[Frame]) -> list[Frame]:
    """Without alt=sse the stream is one JSON array, sent piece by piece."""
    made = []
    for at, frame in enumerate(frames):
        payload = frame.data.removeprefix(b"data: ").rstrip(b"\r\n")
        tail = b"\n]" if at == len(frames) - 1 else b""
        made.append(frame._replace(data=(b",\r\n" if at else b"[") + payload + tail))
    return made


# --- the answer -----------------------------------------------------------------------------------------


class Answer:
    """One turn in Gemini's form, as a document or as the frames of a stream."""

    def __init__(self, body: Body, here: Situation, ask: Ask, turn: Turn, number: int) -> None:
        self._body = body
        self._here = here
        self._turn = turn
        self._number = number
        self._read, made, self._thought = usage_of(turn, ask)
        self._made = max(made - self._thought, 0)
        self._shown = bool(body.thinking().include_thoughts) and turn.reasoning != ""

    def document(self) -> dict[str, Any]:
        if self._turn.block_reason is not None:
            return self._blocked()
        parts = self._parts()
        candidates = [self._candidate(parts, self._finish(), index) for index in range(self._candidates())]
        return {**self._response(candidates, self._made, self._thought), **self._turn.extra}

    def frames(self) -> Iterator[Frame]:
        if self._turn.block_reason is not None:
            yield event(self._blocked(), end=True)
            return
        done, thought = 0, 0
        for part in self._pieces():
            if part.get("thought"):
                thought = min(thought + tokens(part["text"]), self._thought)
            else:
                thought = self._thought
                done = min(done + tokens(part.get("text", "") or "call"), self._made)
            candidates = [self._candidate([part], None, index) for index in range(self._candidates())]
            yield event(self._response(candidates, done, thought), content=True)
        last = [
            self._candidate(self._last_parts(), self._finish(), index) for index in range(self._candidates())
        ]
        yield event({**self._response(last, self._made, self._thought), **self._turn.extra}, end=True)

    def _candidates(self) -> int:
        return self._body.config().candidate_count or 1

    def _finish(self) -> str:
        return (
            self._turn.finish_native
            or FINISH[self._turn.finished() if not self._turn.refusal else "content_filter"]
        )

    def _candidate(self, parts: list[dict[str, Any]], finish: str | None, index: int) -> dict[str, Any]:
        content = {"parts": parts, "role": "model"} if parts else {"role": "model"}
        if finish == "SAFETY" and not parts:
            content = {}
        candidate: dict[str, Any] = {"content": content}
        if finish is not None:
            candidate["finishReason"] = finish
        candidate["index"] = index
        if finish == "SAFETY":
            rating = {"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": "HIGH", "blocked": True}
            candidate["safetyRatings"] = [rating]
        if finish is not None and self._turn.refusal:
            candidate["finishMessage"] = self._turn.refusal
        elif finish == "STOP" and self._turn.tool_calls:
            candidate["finishMessage"] = "Model generated function call(s)."
        if self._body.config().response_logprobs and parts:
            candidate["logprobsResult"] = logprobs(parts)
        return candidate

    def _response(self, candidates: list[dict[str, Any]], made: int, thought: int) -> dict[str, Any]:
        return {
            "candidates": candidates,
            "usageMetadata": self._usage(made, thought),
            "modelVersion": self._turn.model or self._here.model,
            "responseId": f"sim{self._number:019d}",
        }

    def _blocked(self) -> dict[str, Any]:
        """A prompt that was blocked: status 200 and no candidate."""
        return {
            "promptFeedback": {"blockReason": self._turn.block_reason},
            "usageMetadata": self._usage(0, 0),
            "modelVersion": self._turn.model or self._here.model,
            "responseId": f"sim{self._number:019d}",
        }

    def _usage(self, made: int, thought: int) -> dict[str, Any]:
        """Prompt includes what was cached, candidates exclude thoughts; what is zero is absent."""
        counted = {
            "promptTokenCount": self._read,
            "candidatesTokenCount": made * self._candidates(),
            "thoughtsTokenCount": thought,
            "cachedContentTokenCount": self._turn.usage.cached,
            "totalTokenCount": self._read + made * self._candidates() + thought,
        }
        known: dict[str, Any] = {name: value for name, value in counted.items() if value}
        known["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": self._read}]
        return known

    def _parts(self) -> list[dict[str, Any]]:
        """The parts of a document: thought, text, calls; the signature on the first call, else on the
        text.
        """
        parts: list[dict[str, Any]] = []
        if self._shown:
            parts.append({"text": self._turn.reasoning, "thought": True})
        if self._turn.said():
            signature = self._text_signature()
            signed = {"thoughtSignature": signature} if signature else {}
            parts.append({"text": self._turn.said(), **signed})
        return parts + self._call_parts()

    def _pieces(self) -> list[dict[str, Any]]:
        """The parts of a stream before its last chunk, one a chunk."""
        turn = self._turn
        thoughts = turn.cut(turn.reasoning) if self._shown else []
        return [
            *({"text": piece, "thought": True} for piece in thoughts),
            *({"text": piece} for piece in turn.cut(turn.said())),
            *self._call_parts(),
        ]

    def _last_parts(self) -> list[dict[str, Any]]:
        """The last chunk has an empty text, which carries the signature of a text answer."""
        if self._turn.finished() in ("length", "content_filter") and not self._turn.said():
            return []
        signature = self._text_signature()
        return [{"text": "", "thoughtSignature": signature} if signature else {"text": ""}]

    def _text_signature(self) -> str | None:
        if self._turn.signature is not None:
            return self._turn.signature or None
        if self._turn.tool_calls or not self._here.family.signatures or not self._turn.reasoning:
            return None
        return mint(self._here.model, self._number)

    def _call_parts(self) -> list[dict[str, Any]]:
        return [self._call_part(at, call) for at, call in enumerate(self._turn.tool_calls)]

    def _call_part(self, at: int, call: ToolCall) -> dict[str, Any]:
        """One whole call; arguments that are a string stay one, as some servers send them."""
        made: dict[str, Any] = {"name": call.name, "args": call.arguments}
        if call.id is not None:
            made["id"] = call.id
        signature = call.signature
        if signature is None and at == 0 and self._here.family.signatures:
            signature = mint(self._here.model, self._number)
        return {"functionCall": made, "thoughtSignature": signature} if signature else {"functionCall": made}


def event(value: dict[str, Any], *, content: bool = False, end: bool = False) -> Frame:
    return Frame(b"data: %b\r\n\r\n" % msgspec.json.encode(value), content, end)


def logprobs(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """One token a part."""
    chosen = [{"token": part.get("text", ""), "tokenId": 1, "logProbability": -0.01} for part in parts]
    return {"chosenCandidates": chosen, "topCandidates": [{"candidates": [each]} for each in chosen]}


# --- the request ----------------------------------------------------------------------------------------


def checked(body: Body, here: Situation) -> Ask:
    """The neutral question in a body, after every check. Raises Rejected as Gemini would."""
    for check in CHECKS:
        check(body, here)
    contents = check_contents(body, here)
    ask = understand(body, here, contents)
    if tokens(ask.read) > here.family.window:
        refuse(
            f"The input token count ({tokens(ask.read)}) exceeds the maximum number of tokens allowed "
            f"({here.family.window})."
        )
    return ask


def understand(body: Body, here: Situation, contents: list[Content]) -> Ask:
    config = body.config()
    last = contents[-1]
    asked = next((each for each in reversed(contents) if each.role != "model" and not each.responses()), last)
    schema = (
        config.response_json_schema if config.response_json_schema is not None else config.response_schema
    )
    system = body.system_instruction.parts if body.system_instruction else None
    return Ask(
        text=read(asked.parts or []),
        results=[result(each.response) for each in last.responses()],
        tools=callable_tools(body),
        schema=schema if isinstance(schema, dict) else None,
        json=config.response_mime_type == "application/json" and schema is None,
        media=[media(part) for part in asked.parts or () if part.inline_data or part.file_data],
        reasoning=thinks(body, here.family),
        stops=config.stop_sequences or [],
        limit=config.max_output_tokens,
        read=len(read(system or [])) + sum(len(read(each.parts or [])) for each in contents),
    )


def read(parts: list[Part]) -> str:
    return "".join(part.text for part in parts if part.text and not part.thought)


def result(response: dict[str, Any] | None) -> str:
    """What a function answered: a lone text as it is, anything else as JSON."""
    values = list((response or {}).values())
    if len(values) == 1 and isinstance(values[0], str):
        return values[0]
    return msgspec.json.encode(response).decode()


def media(part: Part) -> tuple[str, int]:
    """(media type, bytes); what is not inline counts 0 bytes."""
    if part.inline_data is not None:
        data = part.inline_data.data
        return part.inline_data.mime_type, len(data) * 3 // 4 - data.count("=", -2)
    assert part.file_data is not None
    return part.file_data.mime_type or "application/file", 0


def callable_tools(body: Body) -> list[AskedTool]:
    config = body.tool_config.function_calling_config if body.tool_config else None
    if config is not None and config.mode == "NONE":
        return []
    names = config.allowed_function_names if config else None
    return [
        AskedTool(each.name, each.parameters_json_schema or each.parameters or {})
        for each in body.declarations()
        if not names or each.name in names
    ]


def thinks(body: Body, family: Family) -> bool:
    """Whether thoughts are made and billed; they are shown only with includeThoughts."""
    if family.thinking == "none":
        return False
    budget = body.thinking().thinking_budget
    if family.thinking == "level" or budget is None:
        return family.default_on or bool(body.thinking().include_thoughts)
    return budget != 0


def check_quota(key: str) -> None:
    if "noquota" in key:
        refuse(MESSAGES[429], 429, details=quota("PerDay", "86400s"))


def quota(period: str, delay: str) -> list[dict[str, Any]]:
    """The details of a 429 (10.1)."""
    violation = {
        "quotaMetric": QUOTA,
        "quotaId": f"GenerateRequests{period}PerProjectPerModel-FreeTier",
        "quotaDimensions": {"location": "global", "model": "gemini"},
        "quotaValue": "20",
    }
    return [
        {"@type": f"{RPC}Help", "links": [{"description": "Learn more about Gemini API quotas", "url": "https://ai.google.dev/gemini-api/docs/rate-limits"}]},
        {"@type": f"{RPC}QuotaFailure", "violations": [violation]},
        {"@type": f"{RPC}RetryInfo", "retryDelay": delay},
    ]  # fmt: skip


def error_body(problem: Rejected) -> bytes:
    details = problem.details
    if details is None and problem.code is not None:
        details = [{"@type": f"{RPC}ErrorInfo", "reason": problem.code, "domain": "googleapis.com"}]
    if details is None and problem.status == 429 and problem.type is None:
        details = quota("PerMinute", "38.863719904s")
    error = {
        "code": problem.status,
        "message": problem.message or MESSAGES.get(problem.status, "Unknown error."),
        "status": problem.type or STATUS.get(problem.status, "UNKNOWN"),
        **({"details": details} if details else {}),
    }
    body = {"error": error}
    return msgspec.json.encode([body] if problem.wrapped else body)


def model_card(model: str) -> dict[str, Any]:
    family = MODELS.get(LATEST.get(model, model))
    card = {
        "name": f"models/{model}",
        "version": "001",
        "displayName": model.replace("-", " ").title(),
        "description": "A stand-in.",
        "inputTokenLimit": family.window if family else 8192,
        "outputTokenLimit": family.output if family else 1,
        "supportedGenerationMethods": ["generateContent", "countTokens"] if family else ["embedContent"],
    }
    if family is None:
        return card
    return {
        **card,
        "temperature": 1,
        "maxTemperature": 2,
        "topP": 0.95,
        "topK": 64,
        "thinking": family.thinking != "none",
    }
