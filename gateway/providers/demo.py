"""The demo provider: three small deterministic models that run in the process, without key or network.

They go the same way as every other provider: a request is built, an event stream comes back in bytes,
and it is decoded. The stream's own format is the gateway's `Chunk`, one as JSON in each event.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct

from .. import sse
from ..chat import (
    REQUEST_FIELDS,
    AssistantMessage,
    ChatRequest,
    Chunk,
    Function,
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


def _example(schema: Any, text: str) -> Any:
    """A small value that fits the common parts of a JSON schema."""
    if not isinstance(schema, dict):
        return text
    if schema.get("enum"):
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    make = _EXAMPLES.get(kind[0] if isinstance(kind, list) and kind else str(kind), _example_text)
    return make(schema, text)


def _example_text(_schema: dict[str, Any], text: str) -> Any:
    return text


def _example_object(schema: dict[str, Any], text: str) -> Any:
    properties = schema.get("properties") or {}
    wanted = schema.get("required") or list(properties)[:1]
    return {name: _example(properties.get(name, {}), text) for name in wanted}


def _example_array(schema: dict[str, Any], text: str) -> Any:
    return [_example(schema.get("items", {}), text)]


def _example_number(schema: dict[str, Any], _text: str) -> Any:
    return schema.get("minimum", 1)


_EXAMPLES: dict[str, Callable[[dict[str, Any], str], Any]] = {
    "object": _example_object,
    "array": _example_array,
    "integer": _example_number,
    "number": _example_number,
    "boolean": lambda _schema, _text: True,
    "null": lambda _schema, _text: None,
}

MODELS: dict[str, Callable[[ChatRequest], Answer]] = {"echo": _echo, "story": _story, "tool": _tool}


# ── the stream ─────────────────────────────────────────────────────────────────────────────────────────


class _Pace(Struct):
    pace: float | None = None


def answer(http: HttpRequest, pace: float) -> LocalAnswer:
    """The answer to `http`: for a stream one event a token with `pace` seconds before it, else the whole."""
    request = decode_request(http.body)
    own = msgspec.json.decode(http.body, type=_Pace).pace
    seconds = max(0.0, pace if own is None else own)
    chunks = list(_chunks(request))
    if not http.stream:
        yield seconds * len(chunks), msgspec.json.encode(fold(chunks))
        return
    for chunk in chunks:
        yield seconds, sse.encode(msgspec.json.encode(chunk))


def _chunks(request: ChatRequest) -> Iterator[Chunk]:
    said = MODELS[request.model](request)
    pieces = _tokens(said.text)
    limit = request.max_output_tokens
    finish = "tool_calls" if said.calls else "stop"
    if limit is not None and limit < len(pieces):
        pieces, finish = pieces[:limit], "length"
    yield Chunk(model=request.model)
    for piece in pieces:
        yield Chunk(text=piece)
    for call in said.calls:
        yield Chunk(tool_calls=(call,))
    prompt = sum(len(_tokens(text)) for message in request.messages for text in texts(message.content))
    usage = Usage(prompt_tokens=prompt, completion_tokens=len(pieces) + len(said.calls))
    yield Chunk(finish_reason=finish, usage=usage, last=True)


def _tokens(text: str) -> list[str]:
    """The tokens of this small world: words with the space before them."""
    return re.findall(r"\s*\S+|\s+$", text)


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
    ignores=IGNORES,
)
