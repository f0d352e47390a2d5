"""Reading answers in OpenAI's dialect, from OpenAI or from any server that speaks it.

What such a server sends goes on to the client as it came, fields that we do not know included: an event
that already has the canonical form of Chat Completions (one role, gapless tool call indexes, ids and names
once, known finish reasons) is passed on byte for byte; one that breaks a client's accumulator is mended,
and only where it has to be. Follows the streaming section of the OpenAI API reference.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ...chat import END, ChatRequest, Chunk, Json, ToolCallDelta, Usage
from ...errors import ErrorKind, UpstreamError
from ...sse import Event
from ..base import EventDecoder
from .errors import error_of

FINISH_REASONS = {  # as upstreams say it → as clients know it
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "function_call": "tool_calls",
    "max_tokens": "length",
}


# ── the few fields that are read ───────────────────────────────────────────────────────────────────────


class _Function(Struct):
    name: str | UnsetType | None = UNSET
    arguments: str | Json | None = None


class _Custom(Struct):
    name: str | UnsetType | None = UNSET
    input: str | None = None


class _Call(Struct):
    index: int | None = None
    id: str | UnsetType | None = UNSET
    type: str | None = None
    function: _Function | None = None
    custom: _Custom | None = None

    @property
    def name(self) -> str:
        named = self.function or self.custom
        return (named.name or "") if named else ""

    @property
    def arguments(self) -> str:
        if self.custom is not None:
            return self.custom.input or ""
        arguments = self.function.arguments if self.function else None
        return _arguments(arguments)


class _Delta(Struct):
    role: str | UnsetType | None = UNSET
    content: str | list[Any] | UnsetType | None = UNSET
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | UnsetType | None = UNSET
    annotations: list[Json] | None = None
    reasoning_details: list[Json] | None = None
    thinking_blocks: list[Json] | None = None
    images: list[Json] | None = None
    audio: Json | None = None

    @property
    def text(self) -> str:
        """The text; some servers send it in parts."""
        if isinstance(self.content, list):
            parts = (p.get("text") for p in self.content if isinstance(p, dict))
            return "".join(text for text in parts if isinstance(text, str))
        return self.content or ""

    @property
    def thoughts(self) -> str:
        return self.reasoning_content or self.reasoning or ""


class _Choice(Struct):
    place: int | None = msgspec.field(default=None, name="index")
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None
    logprobs: Json | None = None

    @property
    def index(self) -> int:
        return self.place or 0

    @property
    def end(self) -> str | None:
        """The finish reason; some servers send an empty one until there is one."""
        return self.finish_reason or None


_ABSENT = Raw(b"")
_NOTHING = (b"", b"null")


class _Answer(Struct):
    id: str | int | None = None
    model: str | None = None
    created: int | float | None = None
    choices: list[_Choice] | None = None
    usage: Raw = _ABSENT
    error: Raw = _ABSENT


class _PromptDetails(Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _CompletionDetails(Struct):
    reasoning_tokens: int | None = None


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


_answer_decoder = msgspec.json.Decoder(_Answer)
_usage_decoder = msgspec.json.Decoder(_Usage)


def parse_usage(raw: Raw) -> Usage | None:
    """Usage as the upstream counted it; None when there is none."""
    if bytes(raw) in _NOTHING:
        return None
    try:
        usage = _usage_decoder.decode(raw)
    except msgspec.ValidationError:
        return None  # numbers that nobody can read are no reason to lose an answer
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        prompt_tokens=usage.prompt_tokens or 0,
        completion_tokens=usage.completion_tokens or 0,
        cached_tokens=(prompt.cached_tokens if prompt else 0) or 0,
        cache_write_tokens=(prompt.cache_write_tokens if prompt else 0) or 0,
        reasoning_tokens=(completion.reasoning_tokens if completion else 0) or 0,
        wire=Raw(msgspec.json.format(raw, indent=-1)) if b"\n" in bytes(raw) else raw.copy(),
    )


def _arguments(value: str | Json | None) -> str:
    """Arguments as text: some servers send the object itself."""
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    return value or ""


# ── streams ────────────────────────────────────────────────────────────────────────────────────────────


def event_decoder(_request: ChatRequest) -> EventDecoder:
    """A decoder for one stream of `chat.completion.chunk` events."""
    return ChunkReader().read


class _Step(NamedTuple):
    """What one event means for one choice: whether it is the first, its tool calls under our indexes.

    `calls` go by the pieces that were sent, None for one that says nothing yet, and then what was owed.
    """

    choice: _Choice
    is_first: bool
    calls: tuple[ToolCallDelta | None, ...]
    finish_reason: str | None


class ChunkReader:
    """What has been seen of one stream, so that each thing is said once."""

    def __init__(self) -> None:
        self._begun: set[int] = set()
        self._finished: set[int] = set()
        self._calls: dict[int, _Calls] = {}
        self._ending: str | None = None  # how choice 0 ended
        self._head: Json = {}  # what is the same in every chunk
        self._listed: dict[str, int] = {}  # items so far of each list of objects

    def read(self, event: Event) -> Chunk | None:
        """The chunk of one event; None when there is nothing in it for a client."""
        data = event.data
        if data == b"[DONE]":
            return END
        if not data:
            return None
        answer = _answer_decoder.decode(data)
        if bytes(answer.error) not in _NOTHING:
            raise error_of(data, hint=200)
        usage = parse_usage(answer.usage)
        choices = answer.choices or []
        canonical = self._keeps_head(answer) and _is_one_line(data) and usage is None
        canonical = canonical and self._is_canonical(choices) and not _has_bare_lists(data, choices)
        begins_elsewhere = not self._begun
        steps = [self._advance(c) if c.index not in self._finished else None for c in choices]
        taken = [step for step in steps if step is not None]
        if not taken:
            return self._usage_only(answer, data, usage)
        if not canonical:
            opening = begins_elsewhere and taken[0].choice.index != 0
            data = self._mend(data, steps, opening)
            if opening:
                self._begun.add(0)
        ended = self._ending if self._begun <= self._finished else None  # all choices, not only the first
        return _chunk(answer, taken, data, usage, ended)

    def _keeps_head(self, answer: _Answer) -> bool:
        """Whether id, model and time are those of the first chunk that had them."""
        keeps = True
        for name in ("id", "model", "created"):
            value = getattr(answer, name)
            known = self._head.setdefault(name, value) if value else self._head.get(name)
            keeps = keeps and known == value
        return keeps

    @staticmethod
    def _usage_only(answer: _Answer, data: bytes, usage: Usage | None) -> Chunk | None:
        if usage is None:
            return None
        wire = data if not answer.choices and _is_one_line(data) else None
        return Chunk(usage=usage, wire=wire, is_usage=wire is not None, model=answer.model)

    def _is_canonical(self, choices: list[_Choice]) -> bool:
        if not choices or (not self._begun and choices[0].index != 0):
            return False
        return all(self._is_canonical_choice(choice) for choice in choices)

    def _is_canonical_choice(self, choice: _Choice) -> bool:
        delta, index = choice.delta, choice.index
        if delta is None or index in self._finished:
            return False
        if delta.role != (UNSET if index in self._begun else "assistant"):
            return False
        calls = self._calls.get(index)
        if isinstance(delta.content, list) or choice.finish_reason == "":
            return False
        if choice.end is not None and (delta.tool_calls or not _is_known_end(choice.end, calls)):
            return False
        if delta.tool_calls is UNSET:
            return True
        return bool(delta.tool_calls and (calls or _Calls()).takes(delta.tool_calls))

    def _advance(self, choice: _Choice) -> _Step:
        index = choice.index
        is_first = index not in self._begun
        self._begun.add(index)
        deltas: tuple[ToolCallDelta | None, ...] = ()
        calls = self._calls.get(index)
        if choice.delta and choice.delta.tool_calls:
            calls = calls or self._calls.setdefault(index, _Calls())
            deltas = calls.add(choice.delta.tool_calls)
        reason = choice.end
        if reason is not None:
            self._finished.add(index)
            reason = _end(reason, bool(calls))
            deltas += calls.owed() if calls and reason == "tool_calls" else ()
            self._ending = reason if index == 0 else self._ending
        return _Step(choice, is_first, deltas, reason)

    def _mend(self, data: bytes, steps: list[_Step | None], opening: bool) -> bytes:
        """The event in canonical form, everything else in it left alone."""
        body: Json = msgspec.json.decode(data)
        body |= {name: value for name, value in self._head.items() if value}
        if "usage" in body:
            body["usage"] = None
        pairs = zip(body["choices"], steps, strict=True)
        choices = [self._mend_choice(choice, step) for choice, step in pairs if step is not None]
        if opening:  # accumulators want choice 0 to begin
            first = {"role": "assistant", "content": ""}
            choices.insert(0, {"index": 0, "delta": first, "logprobs": None, "finish_reason": None})
        body["choices"] = choices
        return msgspec.json.encode(body)

    def _mend_choice(self, choice: Json, step: _Step) -> Json:
        delta: Json = choice.get("delta") or {}
        delta.pop("role", None)
        sent = delta.pop("tool_calls", None) or []
        if isinstance(delta.get("content"), list):
            delta["content"] = (step.choice.delta or _Delta()).text
        for name, items in delta.items():
            if isinstance(items, list):
                delta[name] = [self._numbered(f"{step.choice.index} {name}", item) for item in items]
        if step.is_first:
            delta = {"role": "assistant", **delta}
        pieces = [_mend_piece(call, d) for call, d in zip(sent, step.calls, strict=False) if d is not None]
        owed = [d for d in step.calls[len(sent) :] if d is not None]
        pieces += [{"index": d.index, "function": {"arguments": d.arguments}} for d in owed]
        if pieces:
            delta["tool_calls"] = pieces
        return {**choice, "index": step.choice.index, "delta": delta, "finish_reason": step.finish_reason}

    def _numbered(self, place: str, item: Any) -> Any:
        """An object of a list with the `index` that accumulators want; anything else as it is."""
        if not isinstance(item, dict) or "index" in item:
            return item
        number = self._listed[place] = self._listed.get(place, -1) + 1
        return {"index": number, **item}


def _chunk(answer: _Answer, steps: list[_Step], data: bytes, usage: Usage | None, ended: str | None) -> Chunk:
    main = next((step for step in steps if step.choice.index == 0), None)
    said = (main.choice.delta if main else None) or _Delta()
    return Chunk(
        text=said.text,
        reasoning=said.thoughts,
        refusal=said.refusal or "",
        tool_calls=tuple(d for d in main.calls if d is not None) if main else (),
        annotations=tuple(said.annotations or ()),
        logprobs=main.choice.logprobs if main else None,
        finish_reason=ended,
        usage=usage,
        id=None if answer.id is None else str(answer.id),
        model=answer.model,
        created=int(answer.created) if answer.created else None,
        wire=data,
        opaque=any(_is_said(step) if step is main else _says_more(step) for step in steps),
    )


def _says_more(step: _Step) -> bool:
    delta = step.choice.delta or _Delta()
    return bool(delta.text or delta.thoughts or step.calls or step.finish_reason)


def _is_said(step: _Step) -> bool:
    """Whether a client sees something of the first choice that the typed fields do not say."""
    delta = step.choice.delta or _Delta()
    return bool(delta.audio or delta.images or delta.reasoning_details or delta.thinking_blocks)


def _mend_piece(call: Json, delta: ToolCallDelta) -> Json:
    mended = {**call, "index": delta.index}
    named: Json = dict(call.get(delta.type) or {})
    named["input" if delta.type == "custom" else "arguments"] = delta.arguments
    if delta.id:
        mended |= {"id": delta.id, "type": delta.type}
        named["name"] = delta.name
    else:
        for name in ("id", "type"):
            mended.pop(name, None)
        named.pop("name", None)
    mended[delta.type] = named
    return mended


def _has_bare_lists(data: bytes, choices: list[_Choice]) -> bool:
    """Whether a delta has a list of objects without the `index` that accumulators want, whatever its name."""
    found = data.count(b"[{")
    if found <= 1:  # that of the choices, in nearly every event
        return False
    if found <= 1 + sum(bool(choice.delta and choice.delta.tool_calls) for choice in choices):
        return False
    deltas = (choice.get("delta") or {} for choice in msgspec.json.decode(data)["choices"])
    lists = (items for delta in deltas for items in delta.values() if isinstance(items, list))
    return any(isinstance(item, dict) and "index" not in item for items in lists for item in items)


def _is_one_line(data: bytes) -> bool:
    """Whether `data` can stand in a client's event as it is."""
    return b"\n" not in data and b"\r" not in data


def _is_known_end(reason: str, calls: _Calls | None) -> bool:
    if FINISH_REASONS.get(reason) != reason:
        return False
    return calls is None or reason in ("length", "content_filter") or (reason != "stop" and calls.is_complete)


FAILURES = frozenset(("abort", "aborted", "cancelled", "error"))
"""Finish reasons of answers that were given up: a client must not take them for whole."""


def _end(reason: str, has_calls: bool) -> str:
    """`reason` as clients know it: an answer with tool calls that just stops has ended to have them run.

    Raises `UpstreamError` for an answer that was given up.
    """
    if reason in FAILURES:
        raise UpstreamError(ErrorKind.SERVER, f"gave the answer up (finish_reason {reason!r})", code=reason)
    known = FINISH_REASONS.get(reason, "stop")
    return "tool_calls" if has_calls and known == "stop" else known


class _Calls:
    """The tool calls of one choice: our index, counted from 0 without gaps, for each of the upstream's."""

    def __init__(self) -> None:
        self._ids: list[str] = []  # by our index
        self._ours: dict[int, int] = {}  # upstream's index → ours
        self._without_arguments: set[int] = set()
        self._unnamed: dict[int, str] = {}  # arguments of calls whose name has not come yet

    @property
    def is_complete(self) -> bool:
        """Whether every call has had arguments, if only `{}`."""
        return not self._without_arguments

    def takes(self, calls: list[_Call]) -> bool:
        """Whether `calls` are in canonical form after those before."""
        known = len(self._ids)
        for call in calls:
            if call.index is None or not _is_plain(call):
                return False
            if call.index < known and self._ours.get(call.index) == call.index:
                if not _is_unnamed(call):
                    return False
            elif call.index == known and call.id and call.name and call.type:
                known += 1
            else:
                return False
        return True

    def add(self, calls: list[_Call]) -> tuple[ToolCallDelta | None, ...]:
        """`calls` under our indexes; only the first piece of an index has an id and a name.

        A call without a name yet is held back: accumulators take the name with the first piece or never.
        """
        return tuple(self._add(call) for call in calls)

    def _add(self, call: _Call) -> ToolCallDelta | None:
        index, new = self._place(call.index, str(call.id or ""), bool(call.name))
        kind = call.type or ("custom" if call.custom else "function")
        if call.arguments or kind == "custom":
            self._without_arguments.discard(index)
        elif new:
            self._without_arguments.add(index)
        held = self._unnamed.pop(index, "" if new else None)
        if held is None:
            return ToolCallDelta(index=index, arguments=call.arguments, type=kind)
        if not call.name:
            self._unnamed[index] = held + call.arguments
            return None
        return ToolCallDelta(
            index=index, id=self._ids[index], name=call.name, arguments=held + call.arguments, type=kind
        )

    def owed(self) -> tuple[ToolCallDelta, ...]:
        """`{}` for each call that ends without arguments."""
        owed = sorted(self._without_arguments - self._unnamed.keys())
        return tuple(ToolCallDelta(index=i, arguments="{}") for i in owed)

    def _place(self, index: int | None, call_id: str, named: bool) -> tuple[int, bool]:
        """Our index for a piece, and whether it begins a call.

        A new id and a name under an index that is taken are a new call: some servers number every call 0,
        while others give each piece an id of its own. A piece without an index belongs to the call with its
        id, and without an id to the last one.
        """
        count = len(self._ids)
        if index is None:
            if call_id in self._ids:
                return self._ids.index(call_id), False
            if not call_id and count:
                return count - 1, False
        elif (known := self._ours.get(index)) is not None and (
            not named or call_id in ("", self._ids[known])
        ):
            return known, False
        self._ours[count if index is None else index] = count
        self._ids.append(call_id or f"call_{count}")
        return count, True


def _is_plain(call: _Call) -> bool:
    """Whether the arguments of a piece are text, as clients join it."""
    return call.function is None or isinstance(call.function.arguments, str)


def _is_unnamed(call: _Call) -> bool:
    """Whether a piece says neither id nor name, not even as null."""
    named = call.function or call.custom
    return call.id is UNSET and (named is None or named.name is UNSET)


# ── whole answers ──────────────────────────────────────────────────────────────────────────────────────


def parse_response(body: bytes, _request: ChatRequest) -> Chunk:
    """A `chat.completion` as one chunk. Raises `UpstreamError` for an error inside a 200."""
    answer = _answer_decoder.decode(body)
    if bytes(answer.error) not in _NOTHING:
        raise error_of(body, hint=200)
    if not answer.choices:
        raise UpstreamError(ErrorKind.BAD_RESPONSE, "the answer has no choices")
    choice = answer.choices[0]
    said = choice.message or _Delta()
    calls = [delta for delta in _Calls().add(said.tool_calls or []) if delta is not None]
    usage = parse_usage(answer.usage)
    wire = body if _is_one_line(body) else msgspec.json.format(body, indent=-1)
    return Chunk(
        text=said.text,
        reasoning=said.thoughts,
        refusal=said.refusal or "",
        tool_calls=tuple(msgspec.structs.replace(c, arguments=c.arguments or "{}") for c in calls),
        annotations=tuple(said.annotations or ()),
        logprobs=choice.logprobs,
        finish_reason=_end(choice.end or "stop", bool(calls)),
        usage=usage,
        id=None if answer.id is None else str(answer.id),
        model=answer.model,
        created=int(answer.created) if answer.created else None,
        wire=wire if all(_is_whole(c) for c in answer.choices) else _mend_response(wire),
        opaque=len(answer.choices) > 1 or said.audio is not None,
        last=True,
    )


def _is_whole(choice: _Choice) -> bool:
    message = choice.message
    if message is None or message.content is UNSET or choice.end is None:
        return False
    calls = message.tool_calls
    if calls is not UNSET and not calls:
        return False
    known = FINISH_REASONS.get(choice.end) == choice.end
    return known and all(
        c.id and c.function and isinstance(c.function.arguments, str) and c.function.arguments
        for c in (calls or ())
        if c.type != "custom"
    )


def _mend_response(body: bytes) -> bytes:
    answer: Json = msgspec.json.decode(body)
    for choice in answer["choices"]:
        message = choice.get("message") or {}
        choice["message"] = {"role": "assistant", "content": None, **message}
        calls = choice["message"].pop("tool_calls", None)
        if calls:
            choice["message"]["tool_calls"] = [_mend_call(i, call) for i, call in enumerate(calls)]
        choice["finish_reason"] = _end(choice.get("finish_reason") or "stop", bool(calls))
    return msgspec.json.encode(answer)


def _mend_call(index: int, call: Json) -> Json:
    call["id"] = call.get("id") or f"call_{index}"
    if (function := call.get("function")) is not None:
        function["arguments"] = _arguments(function.get("arguments")) or "{}"
    return call
