"""What a provider is: a record of values and pure functions.

A provider never touches a socket, a clock, a random number or the environment. It says what to send, and
reads what came back; `upstream` does the I/O. Everything that the rest of the gateway knows about a
provider is a field of this record: nothing outside this package compares provider names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import mktime_tz, parsedate_tz
from typing import Any, Literal, NamedTuple, TypeAlias
from urllib.parse import quote

import msgspec
from msgspec import Raw, Struct

from ..chat import REQUEST_FIELDS, ChatRequest, Chunk, FunctionMessage, Json, Part
from ..embeddings import Embeddings, EmbeddingsRequest
from ..errors import ErrorKind, UpstreamError, kind_of_status
from ..limits import USUAL, Limits, Metering, Window
from ..sse import Event

Headers: TypeAlias = Mapping[str, str]
"""Response headers: names in lower case."""

Feature: TypeAlias = Literal[
    "tools", "custom_tools", "images", "files", "audio", "audio_output", "json_schema", "n"
]
"""What a request may need that cannot be left out without changing what was asked for."""

ALL_FEATURES: frozenset[Feature] = frozenset(
    ("tools", "custom_tools", "images", "files", "audio", "audio_output", "json_schema", "n")
)


class Capabilities(Struct, frozen=True):
    """What a model can do. Sizes in tokens, None when they are not known."""

    features: frozenset[Feature] = ALL_FEATURES
    context_window: int | None = None
    max_output: int | None = None


class HttpRequest(Struct, frozen=True, kw_only=True):
    """What a provider wants sent: no host, no key. `path` is appended to the base URL.

    `stream` says that server-sent events are expected back; `dropped` names the fields of the chat
    request that this one does not carry.
    """

    method: str = "POST"
    path: str
    headers: dict[str, str] = {}
    body: bytes = b""
    stream: bool = False
    dropped: tuple[str, ...] = ()


class ModelInfo(Struct, frozen=True, omit_defaults=True):
    """A model of a provider's list. `created` in seconds since 1970, sizes in tokens."""

    id: str
    created: int = 0
    owned_by: str = ""
    context_window: int | None = None
    max_output: int | None = None


class ModelPage(Struct, frozen=True):
    """One page of a provider's list, and the request for the next one, if there is one."""

    models: list[ModelInfo]
    following: HttpRequest | None = None


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """A provider's own settings (`[providers.NAME.options]`): none, unless it defines some.

    The docstring of a subclass says what each is, on a line of its own: the documentation prints it.
    """


EventDecoder: TypeAlias = Callable[[Event], Chunk | None]
LocalAnswer: TypeAlias = Iterable[tuple[float, bytes]]


# ── conversations ──────────────────────────────────────────────────────────────────────────────────────


class Context(Struct, frozen=True):
    """What a conversation is given beside the request, since it may not look for it itself.

    `nonce` is a new random UUID for each conversation. `learned` belongs to the provider's upstream and
    lives as long as it: what one conversation finds out about the API, the next one need not.
    """

    nonce: str
    learned: dict[str, Any] = {}


class Reply(Struct, frozen=True):
    """What a `Fetch` was answered with, read to its end. Header names are in lower case."""

    status: int
    headers: Headers
    body: bytes


class Fetch(Struct, frozen=True):
    """A call beside the answer: the conversation is sent its `Reply`, or the `UpstreamError`.

    It is not broken off when the client leaves: what it made at the provider has to be cleared away.
    `within` is for one that is not worth a longer wait than these seconds, its turn included.
    """

    http: HttpRequest
    within: float | None = None


class Follow(Struct, frozen=True):
    """A stream that is a piece of the answer: what `read` makes of its events is delivered at once.

    At its end, which is also a chunk with `last`, the conversation is sent None; however it fails, and
    however much was delivered, the `UpstreamError`.
    """

    http: HttpRequest
    read: EventDecoder


class Wait(Struct, frozen=True):
    """A pause in seconds."""

    seconds: float


class Pace(Struct, frozen=True):
    """How many calls a minute an API takes, whatever minute one looks at.

    `per_answer` of them are taken at once before an answer's first call, so that no answer begins which then
    has to stand in line behind others; `kept` of these are for cleaning up.
    """

    calls: int
    per_answer: int = 1
    kept: int = 0


class Left(Exception):
    """Thrown into a conversation when nobody waits for its answer any more: what is left is to clean up."""


Step: TypeAlias = HttpRequest | Fetch | Follow | Wait | Chunk | UpstreamError
"""What a conversation may say. The common one is an `HttpRequest`: the call that brings the answer. When it
fails before any content came, the `UpstreamError` is thrown in, and the conversation may say another step or
let the error pass; once it answers, the conversation is resumed and has to end.

With the other steps it makes the answer itself: a `Chunk` is a piece of it, the last one has `last`; an
`UpstreamError` is its failure. What it says after either is cleaning up, and runs behind the client's back.
"""
Conversation: TypeAlias = Generator[Step, Any, None]


def _one_call(provider: Provider, request: ChatRequest, _context: Context) -> Conversation:
    yield provider.build_request(request)


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedder:
    """How an API is asked for embeddings. `most` is how many inputs one call takes, None for any number.

    `build_request` is given no more than that, and raises `UpstreamError` as the one for chat does. `parse`
    gives one vector for each input of the request, see `embeddings.vectors_for`; it may raise msgspec's
    errors, and `UpstreamError` for an error inside a good answer.
    """

    build_request: Callable[[EmbeddingsRequest], HttpRequest]
    parse: Callable[[bytes, EmbeddingsRequest], Embeddings]
    most: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One API: where it is, what it can do, how to ask it and how to read it.

    `auth` gives the headers that carry a key. `build_request` raises `UpstreamError`: UNSUPPORTED for what
    cannot be said in this API, NOT_FOUND for what cannot be a model's name in it. `parse_response`,
    `parse_models` and decoders may raise msgspec's errors: bytes that are not what the API promises.
    Decoders raise `UpstreamError` for an error event.

    `conversation` is for what needs more than one call: a generator of steps, see `Step`.

    `local` answers in the process instead of over the network: it yields seconds to wait and bytes of
    an event stream. `compatible` is the variant for foreign servers that speak the same dialect.
    """

    name: str
    base_url: str
    auth: Callable[[str], dict[str, str]]
    build_request: Callable[[ChatRequest], HttpRequest]
    parse_response: Callable[[bytes, ChatRequest], Chunk]
    event_decoder: Callable[[ChatRequest], EventDecoder]
    parse_error: Callable[[int, Headers, bytes], UpstreamError]
    models_request: HttpRequest
    parse_models: Callable[[bytes], ModelPage]
    capabilities: Callable[[str], Capabilities] = lambda _model: Capabilities()
    embeddings: Embedder | None = None
    conversation: Callable[[Provider, ChatRequest, Context], Conversation] = _one_call
    key_names: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    owns: re.Pattern[str] | None = None
    """Bare model names that have their home here."""
    models: tuple[str, ...] = ()
    """Well-known models, for when the provider's own list cannot be had."""
    default_model: str | None = None
    spontaneous: bool = True
    """Whether `auto` may choose it; where not, only a route or its own name leads there."""
    timeouts: Mapping[str, float] = field(default_factory=dict)
    """Limits in seconds that differ from the gateway's own, by their names in the settings."""
    pace: Pace | None = None
    """For an API that takes so few calls that they have to wait for their turn."""
    parse_limits: Callable[[Headers], Limits | None] = lambda _headers: None
    """What the headers of an answer say of the account's limits. Never raises."""
    metering: Metering = USUAL
    """How the API counts what its limits are about."""
    health_request: HttpRequest | None = None
    """The cheapest call that needs the key; the list of models where there is none cheaper."""
    carries: frozenset[str] = frozenset()
    """The state of a turn that the API wants back with the next one, in the words of `vault.KINDS`."""
    binds: Callable[[str], bool] = lambda _model: False
    """Whether a model's state holds only for exactly the conversation that came before it."""
    options: type[Options] = Options
    configure: Callable[[Any], Provider] | None = None
    local: Callable[[HttpRequest], LocalAnswer] | None = None
    compatible: Provider | None = None

    def __repr__(self) -> str:
        return f"<Provider {self.name} {self.base_url}>"


# ── what a request needs ───────────────────────────────────────────────────────────────────────────────

_PART_NEEDS: dict[str, Feature] = {"image_url": "images", "file": "files", "input_audio": "audio"}


def needs(request: ChatRequest) -> dict[Feature, str]:
    """The features without which `request` cannot be served, each with the path of the field that asks."""
    found: dict[Feature, str] = {}
    for feature, path in (*_tool_needs(request), *_form_needs(request), *_part_needs(request)):
        found.setdefault(feature, path)
    return found


def _tool_needs(request: ChatRequest) -> Iterator[tuple[Feature, str]]:
    for i, tool in enumerate(request.tools or ()):
        if tool.type == "custom":
            yield "custom_tools", f"tools[{i}].type"
        elif request.tool_choice != "none":
            yield "tools", "tools"


def _form_needs(request: ChatRequest) -> Iterator[tuple[Feature, str]]:
    if request.n is not None and request.n > 1:
        yield "n", "n"
    if request.response_format is not None and request.response_format.type == "json_schema":
        yield "json_schema", "response_format"
    if request.audio or "audio" in (request.modalities or ()):
        yield "audio_output", "modalities"


def _part_needs(request: ChatRequest) -> Iterator[tuple[Feature, str]]:
    for i, message in enumerate(request.messages):
        if isinstance(message.content, list):
            for j, part in enumerate(message.content):
                if part.type in _PART_NEEDS:
                    yield _PART_NEEDS[part.type], f"messages[{i}].content[{j}]"


# ── helpers that several providers share ───────────────────────────────────────────────────────────────

_EMPTY = frozenset((b"null", b"[]", b"{}", b'""'))
_NEUTRAL = _EMPTY | {b"false", b"0", b"0.0"}
_MEANT_WHEN_EMPTY = frozenset(("web_search_options", "parallel_tool_calls"))
_MEANT_WHEN_ZERO = frozenset(("seed",))
_NEUTRAL_BY_FIELD = {"n": b"1", "modalities": b'["text"]', "service_tier": b'"auto"'}


def dropped(request: ChatRequest, ignores: Iterable[str]) -> tuple[str, ...]:
    """Which of `ignores` the client really set, plus fields that nobody here knows.

    `ignores` are fields of the request, and of what is in it by the names of `INSIDE`. A value that asks for
    nothing (null, false, zero, an empty list, `n: 1`) is not a loss.
    """
    unwanted = set(ignores)
    lost = [
        name
        for name, raw in request.wire.items()
        if (name in unwanted or name not in REQUEST_FIELDS) and not _asks_nothing(name, raw)
    ]
    return (*lost, *(name for name, is_set in INSIDE.items() if name in unwanted and is_set(request)))


def _parts(request: ChatRequest) -> Iterator[Part]:
    return (part for m in request.messages if isinstance(m.content, list) for part in m.content)


def _has_detail(request: ChatRequest) -> bool:
    return any(p.image_url is not None and p.image_url.detail not in (None, "auto") for p in _parts(request))


def _has_marks(request: ChatRequest) -> bool:
    return any(part.cache_control for part in _parts(request)) or any(
        getattr(message, "cache_control", None) for message in request.messages
    )


INSIDE: dict[str, Callable[[ChatRequest], bool]] = {
    "messages.name": lambda r: any(m.name for m in r.messages if not isinstance(m, FunctionMessage)),
    "messages.image_url.detail": _has_detail,
    "messages.cache_control": _has_marks,
    "messages.prompt_cache_breakpoint": lambda r: any(p.prompt_cache_breakpoint for p in _parts(r)),
    "tools.cache_control": lambda r: any(tool.cache_control for tool in r.tools or ()),
}
"""Wishes inside of messages and tools that not every API has words for, and whether a request has them."""


def _asks_nothing(name: str, raw: Raw) -> bool:
    value = bytes(raw).replace(b" ", b"")
    if name in _MEANT_WHEN_EMPTY:
        return value == b"null"
    if name in _MEANT_WHEN_ZERO or name not in REQUEST_FIELDS:
        return value in _EMPTY
    return value in _NEUTRAL or value == _NEUTRAL_BY_FIELD.get(name)


def unsupported(message: str, param: str) -> UpstreamError:
    """The refusal to translate `param`, which this API has no words for."""
    return UpstreamError(ErrorKind.UNSUPPORTED, message, param=param)


def json_body(value: Any) -> bytes:
    """`value` as JSON. Keys keep their order: equal requests are equal bytes, which caches count on."""
    return msgspec.json.encode(value)


def path_segment(model: str) -> str:
    """`model` as one segment of a URL path. Raises `UpstreamError` for what would leave the segment."""
    if model in (".", "..") or not model:
        raise UpstreamError(ErrorKind.NOT_FOUND, f"there is no model {model!r}", param="model")
    return quote(model, safe="")


def refuse_several_and_audio(request: ChatRequest) -> None:
    """Raises `UNSUPPORTED` for several choices and for spoken answers, which most APIs cannot give."""
    if request.n is not None and request.n > 1:
        raise unsupported("more than one answer (n) is not supported", "n")
    if request.audio or "audio" in (request.modalities or ()):
        raise unsupported("audio answers are not supported", "modalities")


EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""The words of `reasoning_effort`, from nothing to everything."""


def nearest_effort(effort: str, allowed: Iterable[str]) -> str | None:
    """The effort of `allowed` closest to `effort`, of two the lower one; None for a word nobody knows.

    Only who asks for "none" gets "none": less thinking is not the same as none at all.
    """
    if effort not in EFFORTS:
        return None
    wanted = EFFORTS.index(effort)
    steps = [EFFORTS.index(e) for e in allowed if e != "none" or effort == "none"]
    return EFFORTS[min(steps, key=lambda step: (abs(step - wanted), step))]


ToolMode: TypeAlias = Literal["none", "auto", "required"]
_MODES: dict[str, ToolMode] = {"none": "none", "auto": "auto", "required": "required"}


class ToolWish(NamedTuple):
    """Which tools may or must be called: `mode` is None when the client said nothing.

    `names` are the functions that the choice is limited to, None when it is not.
    """

    mode: ToolMode | None = None
    names: tuple[str, ...] | None = None


def tool_wish(request: ChatRequest) -> ToolWish:
    """`tool_choice` in one form. Raises `UNSUPPORTED` for what is none of it, or names no tool on offer."""
    choice = request.tool_choice
    if choice is None:
        return ToolWish()
    if isinstance(choice, str):
        if choice not in _MODES:
            raise unsupported(f"tool_choice '{choice}' is not supported", "tool_choice")
        return ToolWish(_MODES[choice])
    offered = {tool.function.name for tool in request.tools or () if tool.function is not None}
    if choice.function is not None:
        if offered and choice.function.name not in offered:
            raise unsupported(f"'{choice.function.name}' is none of the tools", "tool_choice.function.name")
        return ToolWish("required", (choice.function.name,))
    if choice.allowed_tools is None:
        raise unsupported(f"tool_choice of type '{choice.type}' is not supported", "tool_choice.type")
    names = tuple(n for n in map(_allowed_name, choice.allowed_tools.tools) if n in offered)
    if not names:
        raise unsupported("allowed_tools names none of the tools", "tool_choice.allowed_tools")
    return ToolWish(choice.allowed_tools.mode, tuple(name for name in names if name))


def _allowed_name(tool: Json) -> str | None:
    named = tool.get("function", tool)
    name = named.get("name") if isinstance(named, dict) else None
    return name if isinstance(name, str) else None


def top_k(request: ChatRequest) -> int | None:
    """`top_k`, which is no field of OpenAI's but one that clients send; None unless it is a number over 0."""
    value: Any = msgspec.json.decode(request.wire["top_k"]) if "top_k" in request.wire else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def as_text(value: Any) -> str:
    """A JSON value for people to read: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


class DataUrl(Struct, frozen=True):
    """The contents of a `data:` URL: its media type in lower case, without parameters, and its base64."""

    media_type: str
    data: str


_DATA_URL = re.compile(r"data:([^;,]*)((?:;[^;,]*)*),", re.IGNORECASE)


def data_url(url: str) -> DataUrl | None:
    """What a base64 data URL holds; None when `url` is an address. `image/jpg` is read as `image/jpeg`."""
    match = _DATA_URL.match(url)
    if match is None or ";base64" not in match[2].lower():
        return None
    media_type = match[1].strip().lower().replace("image/jpg", "image/jpeg") or "text/plain"
    return DataUrl(media_type, url[match.end() :])


def parse_arguments(text: str) -> dict[str, Any]:
    """A tool call's arguments as an object, as native APIs want them.

    Nothing is the empty object; JSON that is no object goes under "value", text that is no JSON under
    "_raw": a model's slip in the history must not end the conversation.
    """
    if not text.strip():
        return {}
    try:
        value = msgspec.json.decode(text.encode("utf-8", "replace"))
    except (msgspec.DecodeError, RecursionError):
        return {"_raw": text}
    return value if isinstance(value, dict) else {"value": value}


def limit_headers(patterns: Mapping[str, str]) -> dict[str, tuple[str, str, str]]:
    """The headers of limits by the field of `Limits` they are for, from patterns with `{}` in them."""
    return {
        name: (p.format("limit"), p.format("remaining"), p.format("reset")) for name, p in patterns.items()
    }


def limits_of(
    headers: Headers,
    names: Mapping[str, tuple[str, str, str]],
    seconds: Callable[[str], float | None],
) -> Limits | None:
    """The limits in the headers that `names` lists, None when they tell none.

    `seconds` reads the text of a reset; a number below zero or garbage says nothing.
    """
    found = {}
    for name, (limit, remaining, reset) in names.items():
        if limit in headers or remaining in headers:
            until = seconds(headers[reset]) if headers.get(reset) else None
            window = Window(_count(headers.get(limit)), _count(headers.get(remaining)), until)
            if window.limit is not None or window.remaining is not None:
                found[name] = window
    return Limits(**found) if found else None


def _count(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 16 else None


def plain_error(status: int, headers: Headers, body: bytes, message: str = "") -> UpstreamError:
    """The error that a status alone tells: for bodies that are HTML, empty or strange."""
    usual = f"answered with status {status}" if status >= 400 else "sent what is not its API's format"
    return UpstreamError(
        kind_of_status(status),
        message or usual,
        upstream_status=status,
        retry_after=retry_after(headers),
    )


def retry_after(headers: Headers) -> float | None:
    """The wait in seconds that the headers of an error ask for; None when they say none.

    `retry-after-ms` wins over `retry-after`; a date counts from the answer's own. Garbage, anything below
    zero and more than a day say nothing.
    """
    for name, unit in (("retry-after-ms", 0.001), ("x-ms-retry-after-ms", 0.001), ("retry-after", 1.0)):
        if (text := headers.get(name)) is not None:
            seconds = _seconds(text, headers.get("date", ""))
            if seconds is not None and 0 <= seconds * unit <= 86_400:
                return seconds * unit
    return None


def _seconds(text: str, now: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        pass
    until, since = parsedate_tz(text), parsedate_tz(now)
    try:
        return float(mktime_tz(until) - mktime_tz(since)) if until and since else None
    except (ValueError, OverflowError):  # a year that no calendar has
        return None
