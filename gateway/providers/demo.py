"""The demo provider: three small deterministic models that run in the process, without key or network.

They go the same way as every other provider: a request is built, an event stream comes back in bytes,
and it is decoded. The stream's own format is the gateway's `Chunk`, one as JSON in each event.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from .. import sse
from ..chat import (
    REQUEST_FIELDS,
    AssistantMessage,
    ChatRequest,
    Chunk,
    Function,
    Json,
    Message,
    ToolCallDelta,
    ToolChoice,
    ToolMessage,
    Usage,
    UserMessage,
    decode_request,
    fold,
    texts,
)
from ..errors import ErrorKind, UpstreamError
from .base import (
    Capabilities,
    EventDecoder,
    Headers,
    HttpRequest,
    LocalAnswer,
    ModelInfo,
    ModelPage,
    Options,
    Provider,
    dropped,
    json_body,
    plain_error,
)

STORY = (
    "Once there was a lighthouse that stood between two seas. Every night ships came from one side and "
    "asked the way in one tongue, and from the other side harbours answered, each in a tongue of its own. "
    "The keeper learned them all. She kept no cargo and read no letters; she only turned the lamp, so that "
    "each ship was understood and each harbour was asked politely. When one harbour closed its gates in a "
    "storm, she swung the beam to the next, and the sailors hardly noticed. In the morning the seas were "
    "calm, the log book was full, and nobody had drowned."
)


class DemoOptions(Options, frozen=True, forbid_unknown_fields=True):
    """`pace`: seconds between two tokens; a request may bring its own as a field of this name"""

    pace: float = 0.02


_USED = {"model", "messages", "stream", "stream_options", "tools", "tool_choice"} | {
    "max_tokens",
    "max_completion_tokens",
    "functions",
    "function_call",
}
IGNORES = frozenset(REQUEST_FIELDS) - _USED


def build_request(request: ChatRequest) -> HttpRequest:
    """The request to the models below. Raises `UpstreamError` for a model that is not there."""
    if request.model not in MODELS:
        raise UpstreamError(
            ErrorKind.NOT_FOUND,
            f"there is no demo model {request.model!r}; there are {', '.join(MODELS)}",
            param="model",
        )
    if "pace" in request.wire:
        _pace(request.wire["pace"])
    lost = tuple(name for name in dropped(request, IGNORES) if name != "pace")
    body = {name: raw for name, raw in request.wire.items() if name in _USED or name == "pace"}
    return HttpRequest(
        path="/answer",
        body=json_body({**body, "model": request.model}),
        stream=bool(request.stream),
        dropped=lost,
    )


def parse_response(body: bytes, _request: ChatRequest) -> Chunk:
    """The whole answer."""
    return msgspec.json.decode(body, type=Chunk)


def event_decoder(_request: ChatRequest) -> EventDecoder:
    """Each event is a chunk."""
    decoder = msgspec.json.Decoder(Chunk)
    return lambda event: decoder.decode(event.data)


def parse_error(status: int, headers: Headers, body: bytes) -> UpstreamError:
    """There is no server that could fail: only the status speaks."""
    return plain_error(status, headers, body)


# ── the models ─────────────────────────────────────────────────────────────────────────────────────────


class Answer(Struct):
    """What a model says."""

    text: str = ""
    calls: Sequence[ToolCallDelta] = ()


def _last_text(messages: Sequence[Message]) -> str:
    said = next((m for m in reversed(messages) if isinstance(m, UserMessage)), None)
    return "\n".join(texts(said.content)) if said else ""


def _echo(request: ChatRequest) -> Answer:
    return Answer(text=_last_text(request.messages))


def _story(_request: ChatRequest) -> Answer:
    return Answer(text=STORY)


def _tool(request: ChatRequest) -> Answer:
    """Calls the first of the caller's tools, or the one that was chosen, then tells what it said."""
    last = request.messages[-1]
    if isinstance(last, ToolMessage):
        return Answer(text="The tool said: " + "\n".join(texts(last.content)))
    wanted = request.tool_choice
    named = wanted.function.name if isinstance(wanted, ToolChoice) and wanted.function else None
    functions = [t.function for t in request.tools or () if t.function]
    chosen = next((f for f in functions if named in (None, f.name)), None)
    if chosen is None or wanted == "none":
        return Answer(text="Send me a function in `tools`, and I will call it.")
    turn = sum(isinstance(m, AssistantMessage) for m in request.messages)
    call = ToolCallDelta(
        index=0,
        id=f"call_demo_{turn}",
        name=chosen.name,
        arguments=_arguments(chosen, _last_text(request.messages)),
    )
    return Answer(calls=[call])


def _arguments(function: Function, text: str) -> str:
    return json_body(_example(function.parameters or {"type": "object"}, text)).decode()


MAX_DEPTH = 20


def _example(schema: Any, text: str, depth: int = 0) -> Any:
    """A small value that fits the common parts of a JSON schema; of a strange one, something."""
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return text
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0] if kind else "string"
    if kind == "object":
        return _example_object(schema, text, depth)
    if kind == "array":
        return [_example(schema.get("items", {}), text, depth + 1)]
    if kind in ("integer", "number"):
        least = schema.get("minimum", 1)
        return least if isinstance(least, int | float) else 1
    return {"boolean": True, "null": None}.get(str(kind), text)


def _example_object(schema: Json, text: str, depth: int) -> Json:
    properties = schema.get("properties")
    known: Json = properties if isinstance(properties, dict) else {}
    required = schema.get("required")
    wanted = required if isinstance(required, list) and required else list(known)[:1]
    return {str(name): _example(known.get(str(name), {}), text, depth + 1) for name in wanted}


MODELS: dict[str, Callable[[ChatRequest], Answer]] = {"echo": _echo, "story": _story, "tool": _tool}


# ── the stream ─────────────────────────────────────────────────────────────────────────────────────────


MAX_PACE = 60.0


def _pace(raw: Raw) -> float:
    """The seconds in a request's own `pace`. Raises `UpstreamError` when that is something else."""
    try:
        seconds: float = msgspec.json.decode(raw, type=Annotated[float, Meta(ge=0, le=MAX_PACE)])
        return seconds
    except msgspec.ValidationError:
        message = f"'pace' has to be a number of seconds, from 0 to {MAX_PACE:g}"
        raise UpstreamError(ErrorKind.BAD_REQUEST, message, param="pace", code="invalid_value") from None


def answer(http: HttpRequest, pace: float) -> LocalAnswer:
    """The answer to `http`: for a stream one event a token with `pace` seconds before it, else the whole."""
    request = decode_request(http.body)
    seconds = _pace(request.wire["pace"]) if "pace" in request.wire else pace
    chunks = list(_chunks(request))
    if not http.stream:
        yield seconds * len(chunks), msgspec.json.encode(fold(chunks))
        return
    for chunk in chunks:
        yield seconds, sse.encode(msgspec.json.encode(chunk))


MAX_TOKENS = 4096
"""Tokens that an answer has at most."""


def _chunks(request: ChatRequest) -> Iterator[Chunk]:
    said = MODELS[request.model](request)
    limit = min(MAX_TOKENS, MAX_TOKENS if request.max_output_tokens is None else request.max_output_tokens)
    pieces = list(islice(_tokens(said.text), limit + 1))
    finish = "tool_calls" if said.calls else "stop"
    if len(pieces) > limit:
        pieces, finish = pieces[:limit], "length"
    yield Chunk(model=request.model)
    for piece in pieces:
        yield Chunk(text=piece)
    for call in said.calls:
        yield Chunk(tool_calls=(call,))
    prompt = sum(len(text) for message in request.messages for text in texts(message.content))
    usage = Usage(
        prompt_tokens=-(-prompt // CHARACTERS_A_TOKEN), completion_tokens=len(pieces) + len(said.calls)
    )
    yield Chunk(finish_reason=finish, usage=usage, last=True)


CHARACTERS_A_TOKEN = 4


def _tokens(text: str) -> Iterator[str]:
    """The tokens of this small world: words with the space before them, long ones in pieces."""
    return (match[0] for match in re.finditer(r"\s{0,50}\S{1,50}|\s{1,50}", text))


# ── the record ─────────────────────────────────────────────────────────────────────────────────────────


def parse_models(body: bytes) -> ModelPage:
    """The list as `configure` gives it: it never comes from a network."""
    return ModelPage(msgspec.json.decode(body, type=list[ModelInfo]))


def configure(options: DemoOptions) -> Provider:
    """The provider at the options' pace."""
    return replace(PROVIDER, local=partial(_local, pace=options.pace))


def _local(http: HttpRequest, pace: float) -> LocalAnswer:
    if http.method == "GET":
        return [(0.0, json_body([ModelInfo(id=model, owned_by="demo") for model in MODELS]))]
    return answer(http, pace)


PROVIDER = Provider(
    name="demo",
    base_url="local:",
    auth=lambda _key: {},
    build_request=build_request,
    parse_response=parse_response,
    event_decoder=event_decoder,
    parse_error=parse_error,
    models_request=HttpRequest(method="GET", path="/models"),
    parse_models=parse_models,
    capabilities=lambda _model: Capabilities(features=frozenset(("tools",))),
    models=tuple(MODELS),
    options=DemoOptions,
    configure=configure,
    local=partial(_local, pace=DemoOptions().pace),
)
