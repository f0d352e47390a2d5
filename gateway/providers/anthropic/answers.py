"""Reading Anthropic's answers: events of a stream and whole messages.

A whole message is read as the stream of its own blocks, so there is one reading for both. Blocks are told
apart by their type, which is open: what nobody here knows is skipped, and what the provider's own tools did
stays with the provider. Follows "Streaming messages" and "Handling stop reasons" of Anthropic's API
reference.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import Raw, Struct

from ...chat import END, ChatRequest, Chunk, Json, ToolCallDelta, Usage, fold
from ...errors import ErrorKind, UpstreamError
from ...sse import Event
from ..base import EventDecoder
from .errors import error_of
from .tools import ToolNames

FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
    "pause_turn": "stop",
    "compaction": "length",
}

# ── the few fields that are read ───────────────────────────────────────────────────────────────────────


_NULL = Raw(b"null")  # `Raw | None` would take null only


class _Citation(Struct):
    type: str = ""
    url: str | None = None
    title: str | None = None


class _Block(Struct):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = _NULL
    citations: list[_Citation] | None = None


class _OutputDetails(Struct):
    thinking_tokens: int | None = None


class _Usage(Struct):
    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None


class _StopDetails(Struct):
    explanation: str | None = None


class _Message(Struct):
    id: str | None = None
    model: str | None = None
    content: list[_Block] | None = None
    stop_reason: str | None = None
    stop_details: _StopDetails | None = None
    usage: _Usage | None = None
    error: Raw = _NULL


class _Delta(Struct):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    citation: _Citation | None = None
    stop_reason: str | None = None
    stop_details: _StopDetails | None = None


class _Event(Struct):
    type: str = ""
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None


_event_decoder = msgspec.json.Decoder(_Event)
_message_decoder = msgspec.json.Decoder(_Message)

# ── blocks ─────────────────────────────────────────────────────────────────────────────────────────────


class _Open(Struct):
    """A block that has begun: what only its end can tell, or what has to be told whole."""

    block: _Block
    start: int
    """Where its text begins in the answer, in characters."""
    call: int | None = None
    has_arguments: bool = False
    thinking: str = ""
    signature: str = ""
    citations: list[_Citation] = []


class _Reader:
    """What has been seen of one answer."""

    def __init__(self, request: ChatRequest) -> None:
        self._names = ToolNames(request)
        self._open: dict[int, _Open] = {}
        self._calls = 0
        self._length = 0
        self._counted = _Counter()
        self._begun = False
        self._finished = False

    def read(self, event: Event) -> Chunk | None:
        """The chunk of one event; None when there is nothing in it for a client."""
        if not event.data:
            return None
        e = _event_decoder.decode(event.data)
        match e.type:
            case "content_block_delta" if e.delta is not None:
                return self._delta(e.index, e.delta)
            case "content_block_start" if e.content_block is not None:
                return self.start(e.index, e.content_block)
            case "content_block_stop":
                return self.stop(e.index)
            case "message_start" if e.message is not None:
                return self.begin(e.message)
            case "message_delta":
                self._counted.add(e.usage)
                return self._message_delta(e.delta or _Delta())
            case "message_stop":
                return END if self._finished else msgspec.structs.replace(self.finish(None, None), last=True)
            case "error":
                raise error_of(event.data, None)
        return None

    def begin(self, message: _Message) -> Chunk | None:
        """What is known before any content. A server that falls back to another model may begin twice."""
        self._counted.add(message.usage)
        if self._begun:
            return None
        self._begun = True
        return Chunk(id=message.id, model=message.model)

    def start(self, index: int, block: _Block) -> Chunk | None:
        if self._finished:  # a client has been told that nothing follows
            return None
        opened = self._open[index] = _Open(block, self._length, citations=block.citations or [])
        if block.type == "text":
            return self._said(block.text)
        if block.type == "thinking":
            opened.signature = block.signature or ""
            return _thought(opened, block.thinking)
        if block.type != "tool_use":
            return None
        opened.call = call = self._calls
        self._calls += 1
        name = self._names.original(block.name or "")
        return Chunk(tool_calls=(ToolCallDelta(index=call, id=block.id or f"call_{call}", name=name),))

    def _delta(self, index: int, delta: _Delta) -> Chunk | None:
        if self._finished:
            return None
        if delta.type == "text_delta":
            return self._said(delta.text)
        opened = self._open.get(index)
        if opened is None:
            return None
        match delta.type:
            case "input_json_delta":
                return _argument(opened, delta.partial_json)
            case "thinking_delta":
                return _thought(opened, delta.thinking)
            case "signature_delta":
                opened.signature += delta.signature or ""
            case "citations_delta" if delta.citation is not None:
                opened.citations.append(delta.citation)
        return None

    def _said(self, text: str | None) -> Chunk | None:
        if not text:
            return None
        self._length += len(text)
        return Chunk(text=text)

    def stop(self, index: int) -> Chunk | None:
        opened = self._open.pop(index, None)
        if opened is None:
            return None
        if opened.call is not None:
            return None if opened.has_arguments else _whole_arguments(opened.call, opened.block.input)
        if block := _replayable(opened):
            return Chunk(extra={"thinking_blocks": [block]})
        links = tuple(_annotation(c, opened.start, self._length) for c in opened.citations if c.url)
        return Chunk(annotations=links) if links else None

    def _message_delta(self, delta: _Delta) -> Chunk | None:
        if self._finished:
            return Chunk(usage=self._counted.usage)
        return self.finish(delta.stop_reason, delta.stop_details) if delta.stop_reason else None

    def finish(self, reason: str | None, details: _StopDetails | None) -> Chunk:
        """The end of the answer, and of the blocks that were left open."""
        self._finished = True
        closing = [chunk for index in [*self._open] if (chunk := self.stop(index)) is not None]
        refusal = details.explanation if reason == "refusal" and details is not None else None
        ending = Chunk(
            finish_reason=self._finish_reason(reason), refusal=refusal or "", usage=self._counted.usage
        )
        return fold([*closing, ending])

    def _finish_reason(self, reason: str | None) -> str:
        """Calls mean that they are to be run, and without calls there is nothing to run, whatever it says."""
        known = FINISH_REASONS.get(reason or "", "stop")
        if known in ("stop", "tool_calls"):
            return "tool_calls" if self._calls else "stop"
        return known


def _argument(opened: _Open, piece: str | None) -> Chunk | None:
    if opened.call is None or not piece:  # the provider's own tools get arguments too
        return None
    opened.has_arguments = True
    return Chunk(tool_calls=(ToolCallDelta(index=opened.call, arguments=piece),))


def _whole_arguments(call: int, given: Raw) -> Chunk:
    arguments = bytes(given).decode()
    return Chunk(
        tool_calls=(ToolCallDelta(index=call, arguments="{}" if arguments == "null" else arguments),)
    )


def _thought(opened: _Open, text: str | None) -> Chunk | None:
    if not text:
        return None
    opened.thinking += text
    return Chunk(reasoning=text)


def _replayable(opened: _Open) -> Json | None:
    """A block of thoughts as the API takes it back: with its signature, or not at all."""
    if opened.block.type == "redacted_thinking" and opened.block.data:
        return {"type": "redacted_thinking", "data": opened.block.data}
    if opened.block.type == "thinking" and opened.signature:
        return {"type": "thinking", "thinking": opened.thinking, "signature": opened.signature}
    return None


def _annotation(citation: _Citation, start: int, end: int) -> Json:
    link = {"url": citation.url, "title": citation.title or "", "start_index": start, "end_index": end}
    return {"type": "url_citation", "url_citation": link}


class _Counter:
    """Usage over an answer: each report is cumulative, and may leave out what an earlier one said."""

    def __init__(self) -> None:
        self._seen = False
        self._input = self._written = self._read = self._output = self._thinking = 0

    def add(self, usage: _Usage | None) -> None:
        if usage is None:
            return
        self._seen = True
        self._input = _latest(usage.input_tokens, self._input)
        self._written = _latest(usage.cache_creation_input_tokens, self._written)
        self._read = _latest(usage.cache_read_input_tokens, self._read)
        self._output = _latest(usage.output_tokens, self._output)
        if usage.output_tokens_details is not None:
            self._thinking = _latest(usage.output_tokens_details.thinking_tokens, self._thinking)

    @property
    def usage(self) -> Usage | None:
        if not self._seen:
            return None
        return Usage(
            prompt_tokens=self._input + self._written + self._read,
            completion_tokens=self._output,
            cached_tokens=self._read,
            cache_write_tokens=self._written,
            reasoning_tokens=self._thinking,
        )


def _latest(new: int | None, known: int) -> int:
    return known if new is None else new


# ── answers ────────────────────────────────────────────────────────────────────────────────────────────


def event_decoder(request: ChatRequest) -> EventDecoder:
    """A decoder for one stream of events."""
    return _Reader(request).read


def parse_response(body: bytes, request: ChatRequest) -> Chunk:
    """A whole message as one chunk. Raises `UpstreamError` for an error inside a 200."""
    message = _message_decoder.decode(body)
    if message.content is None:
        if bytes(message.error) != b"null":
            raise error_of(body, None)
        raise UpstreamError(ErrorKind.BAD_RESPONSE, "the answer has no content")
    return msgspec.structs.replace(fold(_pieces(message, request)), last=True)


def _pieces(message: _Message, request: ChatRequest) -> Iterator[Chunk]:
    reader = _Reader(request)
    pieces = [reader.begin(message)]
    for index, block in enumerate(message.content or ()):
        pieces += [reader.start(index, block), reader.stop(index)]
    pieces.append(reader.finish(message.stop_reason, message.stop_details))
    return (piece for piece in pieces if piece is not None)
