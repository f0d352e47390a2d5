"""The vocabulary: what a client asks, in OpenAI's shape, and what a provider answers, in ours.

Only data and pure functions over it live here: no rule of any provider, no HTTP, no clock.

A request is wide, decoded once and mostly passed on, so it keeps the clients' shape (OpenAI's Chat
Completions) and, in `wire`, every top-level field exactly as it was sent. An answer is hot, narrow and
framed differently by everyone, so it has a small shape of its own: a stream of `Chunk`s. An answer that
does not stream is a stream of one chunk, and `fold` makes any stream one.

Follows the OpenAI API reference for `POST /v1/chat/completions` (November 2026).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

Json: TypeAlias = dict[str, Any]
T = TypeVar("T")


# ── what a client sends ────────────────────────────────────────────────────────────────────────────────


class ImageUrl(Struct, frozen=True, omit_defaults=True):
    """A picture by address: `https://…`, or `data:image/png;base64,…` with the picture inside."""

    url: str
    detail: str | None = None


class InputAudio(Struct, frozen=True, omit_defaults=True):
    """A recording: base64 `data` in `format` ("wav", "mp3")."""

    data: str
    format: str


class File(Struct, frozen=True, omit_defaults=True):
    """A document: a data URL in `file_data`, or the id of one uploaded to the provider before."""

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class Part(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One piece of a message. `type` is open: a server may know kinds that we do not."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | None = None
    input_audio: InputAudio | None = None
    file: File | None = None
    cache_control: Json | None = None
    prompt_cache_breakpoint: Json | None = None


Content: TypeAlias = str | list[Part]

PART_FIELDS = {  # type of part → the field that has to be there
    "text": "text",
    "refusal": "refusal",
    "image_url": "image_url",
    "input_audio": "input_audio",
    "file": "file",
}


class FunctionCall(Struct, frozen=True, omit_defaults=True):
    """The call of a function: `arguments` is JSON as text, as the model wrote it."""

    name: str
    arguments: str = ""


class CustomCall(Struct, frozen=True, omit_defaults=True):
    """The call of a custom tool, whose input is free text."""

    name: str
    input: str = ""


class ToolCall(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A tool call that an assistant message carries."""

    id: str
    type: str = "function"
    function: FunctionCall | None = None
    custom: CustomCall | None = None
    extra_content: Json | None = None
    provider_specific_fields: Json | None = None


class SystemMessage(Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="role", tag="system"):
    content: Content
    name: str | None = None
    cache_control: Json | None = None


class DeveloperMessage(
    Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="role", tag="developer"
):
    content: Content
    name: str | None = None
    cache_control: Json | None = None


class UserMessage(Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="role", tag="user"):
    content: Content
    name: str | None = None
    cache_control: Json | None = None


class AssistantMessage(
    Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="role", tag="assistant"
):
    """A turn of the model, with what clients replay of our own extensions."""

    content: Content | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: FunctionCall | None = None
    reasoning_content: str | None = None
    thinking_blocks: list[Json] | None = None
    reasoning_details: list[Json] | None = None
    extra_content: Json | None = None
    cache_control: Json | None = None


class ToolMessage(Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="role", tag="tool"):
    content: Content
    tool_call_id: str
    name: str | None = None
    cache_control: Json | None = None


class FunctionMessage(
    Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="role", tag="function"
):
    """A function's result in the legacy form; `modern` turns it into a `ToolMessage`."""

    content: str | None
    name: str


Message: TypeAlias = (
    SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage
)


class Function(Struct, frozen=True, omit_defaults=True):
    """A function that the model may call; no `parameters` means that it takes none."""

    name: Annotated[str, Meta(min_length=1)]
    description: str | None = None
    parameters: Json | None = None
    strict: bool | None = None


class CustomTool(Struct, frozen=True, omit_defaults=True):
    name: Annotated[str, Meta(min_length=1)]
    description: str | None = None
    format: Json | None = None


class Tool(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A tool on offer. `type` is open: "function" and "custom" are OpenAI's."""

    type: str
    function: Function | None = None
    custom: CustomTool | None = None
    cache_control: Json | None = None


class Name(Struct, frozen=True):
    name: str


class AllowedTools(Struct, frozen=True):
    mode: Literal["auto", "required"]
    tools: list[Json]


class ToolChoice(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A choice that names tools; the plain ones are strings ("none", "auto", "required")."""

    type: str
    function: Name | None = None
    custom: Name | None = None
    allowed_tools: AllowedTools | None = None


class JsonSchema(Struct, frozen=True, omit_defaults=True):
    name: str
    description: str | None = None
    schema: Json | None = None
    strict: bool | None = None


class ResponseFormat(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The form of the answer: `type` is "text", "json_object" or "json_schema"."""

    type: str
    json_schema: JsonSchema | None = None


class StreamOptions(Struct, frozen=True, omit_defaults=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


_Penalty: TypeAlias = Annotated[float, Meta(ge=-2, le=2)]


class ChatRequest(Struct, frozen=True, kw_only=True):
    """One request in OpenAI's shape: typed where an adapter has to understand it.

    The last fields are the gateway's own and never come from the body: `wire` holds each top-level field
    as the client sent it, so that an upstream of the same dialect gets it byte for byte; `strict` says
    that nothing may be dropped; `legacy` that the client spoke in `functions` and wants its answer so.
    """

    model: str
    messages: list[Message]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    stop: str | list[str] | None = None
    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=0)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    seed: int | None = None
    tools: list[Tool] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: list[Function] | None = None
    function_call: str | Name | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    modalities: list[str] | None = None
    audio: Json | None = None
    prediction: Json | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: Json | None = None
    web_search_options: Json | None = None
    moderation: Json | None = None

    # Under names that no client sends; `decode_request` overwrites them all the same.
    wire: dict[str, Raw] = msgspec.field(default_factory=dict, name="gateway:wire")
    strict: bool = msgspec.field(default=False, name="gateway:strict")
    legacy: bool = msgspec.field(default=False, name="gateway:legacy")

    @property
    def include_usage(self) -> bool:
        """Whether the client asked for the usage chunk at the end of a stream."""
        return bool(self.stream and self.stream_options and self.stream_options.include_usage)

    @property
    def max_output_tokens(self) -> int | None:
        """The client's limit in tokens: the current field wins over the deprecated one."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def stop_list(self) -> list[str]:
        """`stop` as a list, whichever form it came in."""
        if self.stop is None:
            return []
        return [self.stop] if isinstance(self.stop, str) else self.stop


REQUEST_FIELDS = tuple(f.name for f in msgspec.structs.fields(ChatRequest) if ":" not in f.encode_name)


class InvalidRequest(Exception):
    """A body that is no such request: `param` is the path of the field, None when it is no JSON."""

    def __init__(self, message: str, param: str | None, code: str | None = None) -> None:
        super().__init__(message)
        self.message, self.param, self.code = message, param, code


_request_decoder = msgspec.json.Decoder(ChatRequest)
_wire_decoder = msgspec.json.Decoder(dict[str, Raw])
_message_decoder = msgspec.json.Decoder(Message)
_MISSING = "Object missing required field `"


def decode_request(body: bytes) -> ChatRequest:
    """The chat request in `body`. Raises `InvalidRequest` with the path of the first bad field."""
    request, wire = decode_with_wire(_request_decoder, body)
    for name, value in (("wire", wire), ("strict", False), ("legacy", False)):
        msgspec.structs.force_setattr(request, name, value)
    _check(request)
    return request


def decode_with_wire(decoder: msgspec.json.Decoder[T], body: bytes) -> tuple[T, dict[str, Raw]]:
    """`body` as `decoder` reads it, and its top-level fields as they were sent. Raises `InvalidRequest`."""
    try:
        if not body.isascii():
            body.decode()  # decoders look at what they read only, and the rest is passed on as it is
        return decoder.decode(body), _wire_decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}", None) from None


def _invalid(text: str) -> InvalidRequest:
    """A decoder's complaint ("Expected `int`, got `str` - at `$.n`") as our error."""
    reason, _, place = text.partition(" - at `$")
    path = place.rstrip("`").lstrip(".")
    if reason.startswith(_MISSING):
        field = reason[len(_MISSING) : -1]
        path = f"{path}.{field}" if path else field
        return InvalidRequest(f"missing required field '{path}'", path, "missing_required_parameter")
    if not path:
        return InvalidRequest(f"the body has to be a JSON object: {reason}", None)
    code = "invalid_type" if ", got " in reason else "invalid_value"
    return InvalidRequest(f"'{path}': {reason.replace('`', '')}", path, code)


def _check(request: ChatRequest) -> None:
    """What types alone cannot say. Raises `InvalidRequest`."""
    if not request.model:
        raise InvalidRequest("'model' is empty", "model", "missing_required_parameter")
    if not request.messages:
        raise InvalidRequest("'messages' has to have at least one message", "messages", "empty_array")
    for i, message in enumerate(request.messages):
        _check_message(message, f"messages[{i}]")
    for i, tool in enumerate(request.tools or ()):
        if tool.type in ("function", "custom") and getattr(tool, tool.type) is None:
            raise _absent(f"tools[{i}].{tool.type}")
    choice = request.tool_choice
    if isinstance(choice, ToolChoice) and getattr(choice, choice.type, "open") is None:
        raise _absent(f"tool_choice.{choice.type}")
    form = request.response_format
    if form is not None and form.type == "json_schema" and form.json_schema is None:
        raise _absent("response_format.json_schema")
    if request.top_logprobs is not None and not request.logprobs:
        raise InvalidRequest("'top_logprobs' needs 'logprobs': true", "top_logprobs", "invalid_value")


def _check_message(message: Message, path: str) -> None:
    if isinstance(message.content, list):
        for i, part in enumerate(message.content):
            field = PART_FIELDS.get(part.type)
            if field is not None and getattr(part, field) is None:
                raise _absent(f"{path}.content[{i}].{field}")
    if isinstance(message, AssistantMessage):
        for i, call in enumerate(message.tool_calls or ()):
            if call.type in ("function", "custom") and getattr(call, call.type) is None:
                raise _absent(f"{path}.tool_calls[{i}].{call.type}")


def _absent(path: str) -> InvalidRequest:
    return InvalidRequest(f"missing required field '{path}'", path, "missing_required_parameter")


def texts(content: Content | None) -> list[str]:
    """The text pieces of a message's content, in order; other parts are left out."""
    if content is None:
        return []
    if isinstance(content, str):
        return [content]
    return [part.text for part in content if part.type == "text" and part.text is not None]


def modern(request: ChatRequest) -> ChatRequest:
    """The request with legacy `functions`, `function_call` and role "function" said as tools.

    Legacy calls have no ids: each gets one from its place in the conversation, which its result shares.
    Everything else stays as it was sent. Raises `InvalidRequest` for functions and tools at once.
    """
    speaks_legacy = request.functions is not None or request.function_call is not None
    if not speaks_legacy and not any(_is_legacy(m) for m in request.messages):
        return request
    if request.functions is not None and request.tools is not None:
        raise InvalidRequest("'functions' and 'tools' do not go together", "functions", "invalid_value")
    messages, raw_messages = _modern_messages(request)
    changes: Json = {"legacy": speaks_legacy, "messages": messages}
    wire = {name: raw for name, raw in request.wire.items() if name not in ("functions", "function_call")}
    wire["messages"] = Raw(msgspec.json.encode(raw_messages))
    if request.functions is not None:
        changes["tools"] = [Tool(type="function", function=f) for f in request.functions]
        functions: list[Raw] = msgspec.json.decode(request.wire["functions"], type=list[Raw])
        wire["tools"] = Raw(msgspec.json.encode([{"type": "function", "function": f} for f in functions]))
    if request.function_call is not None:
        choice = request.function_call
        changes["tool_choice"] = (
            choice if isinstance(choice, str) else ToolChoice(type="function", function=choice)
        )
        wire["tool_choice"] = Raw(msgspec.json.encode(changes["tool_choice"]))
    return msgspec.structs.replace(request, functions=None, function_call=None, wire=wire, **changes)


def _is_legacy(message: Message) -> bool:
    return isinstance(message, FunctionMessage) or (
        isinstance(message, AssistantMessage) and message.function_call is not None
    )


def _modern_messages(request: ChatRequest) -> tuple[list[Message], list[Raw]]:
    """The messages, typed and as they are sent on: only legacy ones are said anew."""
    messages = list(request.messages)
    raws: list[Raw] = msgspec.json.decode(request.wire["messages"], type=list[Raw])
    last_id = "call_legacy"
    for i, message in enumerate(messages):
        if not _is_legacy(message):
            continue
        said: Json = msgspec.json.decode(raws[i])
        if isinstance(message, AssistantMessage):
            last_id = f"call_legacy_{i}"
            said["tool_calls"] = [{"id": last_id, "type": "function", "function": said.pop("function_call")}]
        else:
            said |= {"role": "tool", "tool_call_id": last_id, "content": said.get("content") or ""}
        raws[i] = Raw(msgspec.json.encode(said))
        messages[i] = _message_decoder.decode(raws[i])
    return messages, raws


# ── what a provider answers ────────────────────────────────────────────────────────────────────────────


class Usage(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Tokens of one answer, counted OpenAI's way.

    `prompt_tokens` includes those read from and written to a cache; `completion_tokens` includes
    reasoning. `wire` is the usage object of a same-dialect upstream, as it came.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    wire: Raw | None = None

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class ToolCallDelta(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A piece of a tool call. The first piece of `index` carries `id` and `name`, later ones neither."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""
    type: str = "function"
    extra: Json | None = None  # our extensions beside the call, such as a thought signature


class Chunk(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A piece of an answer (of `choices[0]`), or a whole one.

    `wire` is the chunk as JSON in canonical OpenAI form when the upstream speaks that dialect: it goes to
    the client as it is. `opaque` says that the wire has content which the typed fields do not describe
    (other choices, audio), `is_usage` that it is the event which only reports usage. `extra` are lists of
    objects beside the text that clients know by convention (such as `thinking_blocks`), by field name;
    `extra_content` is the object of that name, where the signature of a text travels. `last` says that the
    upstream's own end mark was seen.
    """

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    annotations: tuple[Json, ...] = ()
    extra: dict[str, list[Json]] | None = None
    extra_content: Json | None = None
    logprobs: Json | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    id: str | None = None
    model: str | None = None
    created: int | None = None
    wire: bytes | None = None
    opaque: bool = False
    is_usage: bool = False
    last: bool = False

    @property
    def has_content(self) -> bool:
        """Whether a client would see something: until then, another target may still answer."""
        return bool(
            self.text
            or self.reasoning
            or self.tool_calls
            or self.finish_reason
            or self.refusal
            or self.opaque
            or self.extra
            or self.extra_content
            or self.annotations
        )


END = Chunk(last=True)
"""What a decoder returns for an end mark that carries nothing else."""


def fold(chunks: Iterable[Chunk]) -> Chunk:
    """The whole answer that `chunks` are the pieces of. A single chunk is returned as it is."""
    pieces = list(chunks)
    if len(pieces) == 1:
        return pieces[0]
    extra: dict[str, list[Json]] = {}
    for piece in pieces:
        for name, items in (piece.extra or {}).items():
            extra.setdefault(name, []).extend(items)
    return Chunk(
        text="".join(p.text for p in pieces),
        reasoning="".join(p.reasoning for p in pieces),
        refusal="".join(p.refusal for p in pieces),
        tool_calls=fold_tool_calls(delta for p in pieces for delta in p.tool_calls),
        annotations=tuple(a for p in pieces for a in p.annotations),
        extra=extra or None,
        extra_content=_latest(pieces, "extra_content"),
        logprobs=_fold_logprobs(pieces),
        finish_reason=_latest(pieces, "finish_reason"),
        usage=_latest(pieces, "usage"),
        id=_first(pieces, "id"),
        model=_first(pieces, "model"),
        created=_first(pieces, "created"),
        opaque=any(p.opaque for p in pieces),
        last=any(p.last for p in pieces),
    )


def fold_tool_calls(deltas: Iterable[ToolCallDelta]) -> tuple[ToolCallDelta, ...]:
    """Whole tool calls in the order of their index. A call without any arguments gets `{}`."""
    calls: dict[int, list[ToolCallDelta]] = {}
    for delta in deltas:
        calls.setdefault(delta.index, []).append(delta)
    return tuple(_whole_call(index, calls[index]) for index in sorted(calls))


def _whole_call(index: int, deltas: list[ToolCallDelta]) -> ToolCallDelta:
    arguments = "".join(d.arguments for d in deltas)
    first = deltas[0]
    return ToolCallDelta(
        index=index,
        id=next((d.id for d in deltas if d.id), ""),
        name=next((d.name for d in deltas if d.name), ""),
        arguments=arguments or ("{}" if first.type == "function" else ""),
        type=first.type,
        extra=next((d.extra for d in deltas if d.extra), None),
    )


def _fold_logprobs(pieces: list[Chunk]) -> Json | None:
    found = [p.logprobs for p in pieces if p.logprobs]
    if not found:
        return None
    names = dict.fromkeys(name for logprobs in found for name in logprobs)
    return {
        name: [x for logprobs in found for x in logprobs.get(name) or ()]
        if any(logprobs.get(name) is not None for logprobs in found)
        else None
        for name in names
    }


def _first(pieces: list[Chunk], field: str) -> Any:
    return next((v for p in pieces if (v := getattr(p, field)) is not None), None)


def _latest(pieces: list[Chunk], field: str) -> Any:
    return _first(pieces[::-1], field)
