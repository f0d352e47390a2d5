"""Reading answers of OpenAI's Responses API, and telling them from those of Chat Completions.

A stream and a whole answer go through one reader: a whole one is its items, one after the other. Which API
answered is told by the bytes alone, since a request that one of them refuses may be repeated to the other.
Follows "Streaming events" of the Responses API in the OpenAI API reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from ...chat import END, ChatRequest, Chunk, ToolCallDelta, fold
from ...errors import UpstreamError
from ...sse import Event
from ..base import EventDecoder
from . import answers
from .errors import error_of
from .responses_events import (
    Incomplete,
    Item,
    Response,
    Text,
    Told,
    cited,
    decode_event,
    decode_response,
    logprobs,
    usage_of,
)
from .responses_input import ENCRYPTED, FORMAT

# ── which API answered ─────────────────────────────────────────────────────────────────────────────────


class _Head(Struct):
    type: Any = None
    object: Any = None
    choices: Any = None


_head_decoder = msgspec.json.Decoder(_Head)


def event_decoder(request: ChatRequest) -> EventDecoder:
    """A decoder for one stream of either API: the first event that is one's own settles it."""
    return _Either(request).read


def parse_response(body: bytes, request: ChatRequest) -> Chunk:
    """A whole answer of either API as one chunk. Raises `UpstreamError` for a failure inside a 200."""
    if _head_decoder.decode(body).object == "response":
        return ResponseReader().whole(decode_response(body))
    return answers.parse_response(body, request)


class _Either:
    def __init__(self, request: ChatRequest) -> None:
        self._chat = answers.event_decoder(request)
        self._chosen: EventDecoder | None = None

    def read(self, event: Event) -> Chunk | None:
        if self._chosen is None and event.data and event.data != b"[DONE]":
            self._chosen = self._choose(_head_decoder.decode(event.data))
        return (self._chosen or self._chat)(event)

    def _choose(self, head: _Head) -> EventDecoder | None:
        kind = str(head.type)
        if kind == "error" or kind.startswith("response."):
            return ResponseReader().read
        return self._chat if head.choices else None


INCOMPLETE = {"max_output_tokens": "length", "content_filter": "content_filter"}
"""Why an answer is not whole → the finish reason; any other reason has cut it too ("length")."""
_BREAK = "\n\n"  # between two summaries of thoughts


# ── the reader ─────────────────────────────────────────────────────────────────────────────────────────


class _Call:
    """A function call: its place among the calls of the answer, and whether its arguments came."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.has_arguments = False


class ResponseReader:
    """What has been seen of one answer, so that each thing is said once."""

    def __init__(self) -> None:
        self._calls: dict[int, _Call] = {}  # by the place of the item in the output
        self._details = 0  # reasoning items that have to come back
        self._thought: tuple[int, int] | None = None  # the summary that was last read from
        self._reads: dict[str, Callable[[Told], Chunk | None]] = {
            "response.created": self._created,
            "response.output_text.delta": lambda e: Chunk(text=e.text, logprobs=logprobs(e.logprobs)),
            "response.refusal.delta": lambda e: Chunk(refusal=e.text),
            "response.reasoning_summary_text.delta": lambda e: self._think(
                e.output_index, e.summary_index, e.text
            ),
            "response.reasoning_text.delta": lambda e: self._think(e.output_index, e.content_index, e.text),
            "response.output_text.annotation.added": lambda e: cited([e.annotation] if e.annotation else []),
            "response.output_item.added": self._item_added,
            "response.function_call_arguments.delta": lambda e: self._argue(e.output_index, e.text),
            "response.function_call_arguments.done": lambda e: self._settle(e.output_index, e.arguments),
            "response.output_item.done": self._item_done,
            "response.completed": self._ended,
            "response.incomplete": self._ended,
            "response.failed": self._ended,
            "response.cancelled": self._ended,
            "error": self._failed,
        }

    def read(self, event: Event) -> Chunk | None:
        """The chunk of one event; None when there is nothing in it for a client."""
        if event.data == b"[DONE]":
            return END
        if not event.data:
            return None
        told = decode_event(event.data)
        if told.error is not None:
            raise _failure(told.error)
        read = self._reads.get(told.type)
        chunk = read(told) if read else None
        return None if chunk == Chunk() else chunk

    def whole(self, response: Response) -> Chunk:
        """The chunk of a whole answer. Raises `UpstreamError` for one that failed."""
        said = [self._whole_item(place, item) for place, item in enumerate(response.output or ())]
        return fold([_about(response), *(c for chunks in said for c in chunks), self._finish(response)])

    def _whole_item(self, place: int, item: Item) -> list[Chunk]:
        parts = item.content or []
        if item.type == "message":
            return [chunk for part in parts for chunk in _said(part)]
        if item.type == "reasoning":
            texts = [*enumerate(item.summary or ()), *enumerate(parts)]
            thoughts = [self._think(place, at, part.text) for at, part in texts if part.text]
            return [*thoughts, *filter(None, [self._kept(item)])]
        if item.type == "function_call":
            chunks = (self._begin(place, item), self._settle(place, item.arguments or "{}"))
            return [chunk for chunk in chunks if chunk is not None]
        return []

    # what the events mean

    def _created(self, event: Told) -> Chunk:
        return _about(decode_response(event.response))

    def _think(self, place: int, part: int, text: str) -> Chunk:
        """A thought; each summary is a paragraph of its own."""
        opens = self._thought not in (None, (place, part))
        self._thought = (place, part)
        return Chunk(reasoning=_BREAK + text if opens else text)

    def _item_added(self, event: Told) -> Chunk | None:
        is_call = event.item is not None and event.item.type == "function_call"
        return self._begin(event.output_index, event.item) if is_call and event.item else None

    def _begin(self, place: int, item: Item) -> Chunk | None:
        if place in self._calls:
            return None
        call = self._calls[place] = _Call(len(self._calls))
        delta = ToolCallDelta(index=call.index, id=item.call_id or f"call_{call.index}", name=item.name or "")
        return Chunk(tool_calls=(delta,))

    def _argue(self, place: int, text: str) -> Chunk | None:
        call = self._calls.get(place)
        if call is None or not text:
            return None
        call.has_arguments = True
        return Chunk(tool_calls=(ToolCallDelta(index=call.index, arguments=text),))

    def _settle(self, place: int, arguments: str | None) -> Chunk | None:
        """The arguments of a call that is done, unless they came piece by piece."""
        call = self._calls.get(place)
        return None if call is None or call.has_arguments else self._argue(place, arguments or "")

    def _kept(self, item: Item) -> Chunk | None:
        """A reasoning item in the form in which it comes back with the next turn."""
        if item.encrypted_content is None or item.id is None:
            return None
        detail = {
            "index": self._details,
            "type": ENCRYPTED,
            "data": item.encrypted_content,
            "id": item.id,
            "format": FORMAT,
        }
        self._details += 1
        return Chunk(extra={"reasoning_details": [detail]})

    def _item_done(self, event: Told) -> Chunk | None:
        """The end of an item: a call that nothing was heard of before is said whole."""
        item, place = event.item, event.output_index
        if item is not None and item.type == "reasoning":
            return self._kept(item)
        if item is None or item.type != "function_call":
            return None
        pieces = (self._begin(place, item), self._settle(place, item.arguments or "{}"))
        deltas = tuple(delta for piece in pieces if piece for delta in piece.tool_calls)
        return Chunk(tool_calls=deltas)

    def _ended(self, event: Told) -> Chunk:
        response = decode_response(event.response)
        response.status = response.status or event.type.removeprefix("response.")
        return self._finish(response)

    def _failed(self, event: Told) -> Chunk | None:
        raise _failure({"code": event.code, "message": event.message, "param": event.param})

    def _finish(self, response: Response) -> Chunk:
        """The end of the answer. Raises `UpstreamError` when it failed, or was given up."""
        if response.error or response.status not in ("completed", "incomplete"):
            raise _failure(response.error or {"message": f"gave the answer up ({response.status})"})
        owed = tuple(
            ToolCallDelta(index=call.index, arguments="{}")
            for call in self._calls.values()
            if not call.has_arguments and response.status == "completed"
        )
        reason = "tool_calls" if self._calls else "stop"
        if response.status == "incomplete":
            details = response.incomplete_details or Incomplete()
            reason = INCOMPLETE.get(details.reason or "", "length")
        return Chunk(tool_calls=owed, finish_reason=reason, usage=usage_of(response.usage), last=True)


def _about(response: Response) -> Chunk:
    created = int(response.created_at) if response.created_at else None
    return Chunk(id=response.id, model=response.model, created=created)


def _said(part: Text) -> list[Chunk]:
    """A piece of a message, whole."""
    if part.type == "refusal":
        return [Chunk(refusal=part.refusal or "")]
    return [Chunk(text=part.text or "", logprobs=logprobs(part.logprobs)), cited(part.annotations or [])]


def _failure(error: Any) -> UpstreamError:
    """The failure that an answer ended in; whatever is wrong with a picture is the caller's to mend."""
    if isinstance(error, dict) and error.get("type") is None and "image" in str(error.get("code")):
        error = {**error, "type": "invalid_request_error"}
    return error_of(msgspec.json.encode({"error": error}), hint=200)
