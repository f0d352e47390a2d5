"""Chunks as a client of Chat Completions reads them, in a stream or whole.

Bytes in, bytes out; no I/O. A chunk that an upstream of the same dialect sent in canonical form goes out as
it came; others are written from templates. Follows the streaming and response objects of the OpenAI API
reference, as its official SDKs read them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from .. import sse
from ..chat import ChatRequest, Chunk, Json, ToolCallDelta, Usage

DONE = b"data: [DONE]\n\n"
_ROLE = b'{"role":"assistant","content":"","refusal":null}'
_encode = msgspec.json.encode


class Stream:
    """One answer as an event stream. `id`, `model` and `created` stand in for what an upstream leaves out."""

    def __init__(self, request: ChatRequest, *, id: str, model: str, created: int) -> None:
        self._asked_usage = request.include_usage
        self._legacy = request.legacy
        self._id, self._model, self._created = id, model, created
        self._head = self._tail = b""
        self._has_role = False
        self._usage: Usage | None = None
        self._usage_sent = False
        self._counts: dict[str, int] = {}  # items so far of each list beside the text

    def render(self, chunk: Chunk) -> bytes:
        """The events for `chunk`: none when it has nothing for the client."""
        if chunk.usage is not None:
            self._usage = chunk.usage
        if not self._head:
            self._learn(chunk)
        if chunk.wire is not None and not self._legacy:
            return self._pass_on(chunk, chunk.wire)
        events = b"" if self._has_role or not chunk.has_content else self._event(_ROLE)
        self._has_role = self._has_role or bool(events)
        if (delta := self._delta(chunk)) is not None:
            events += self._event(delta, _encode(chunk.logprobs))
        if chunk.finish_reason is not None:
            events += self._event(b"{}", finish_reason=_encode(self._reason(chunk.finish_reason)))
        return events

    def end(self) -> bytes:
        """The last events: usage when the client asked for it and it is known, then the end mark."""
        if self._asked_usage and self._usage is not None and not self._usage_sent:
            body = {**self._frame("chat.completion.chunk"), "choices": [], "usage": usage_json(self._usage)}
            return sse.encode(_encode(body)) + DONE
        return DONE

    def _learn(self, chunk: Chunk) -> None:
        """Takes the names from the first chunk that has them; they stay the same for the whole stream."""
        self._id = chunk.id or self._id
        self._model = chunk.model or self._model
        self._created = chunk.created or self._created
        if chunk.has_content or chunk.wire is not None:
            head = _encode({**self._frame("chat.completion.chunk"), "choices": []})
            self._head = b"data: " + head[: -len(b"]}")] + b'{"index":0,"delta":'
            self._tail = b'}],"usage":null}\n\n' if self._asked_usage else b"}]}\n\n"

    def _frame(self, kind: str) -> Json:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}

    def _pass_on(self, chunk: Chunk, wire: bytes) -> bytes:
        if chunk.is_usage:  # it goes to who asked for it
            if not self._asked_usage or self._usage_sent:
                return b""
            self._usage_sent = True
        return sse.encode(dated(chunk, wire, self._created))

    def _event(self, delta: bytes, logprobs: bytes = b"null", finish_reason: bytes = b"null") -> bytes:
        return b"".join(
            (self._head, delta, b',"logprobs":', logprobs, b',"finish_reason":', finish_reason, self._tail)
        )

    def _delta(self, chunk: Chunk) -> bytes | None:
        """The delta of everything but the finish reason; None when there is nothing to say."""
        says_more = chunk.reasoning or chunk.tool_calls or chunk.refusal or chunk.annotations
        if chunk.text and not (
            says_more or chunk.extra or chunk.extra_content
        ):  # nearly every chunk of a stream
            return b'{"content":' + _encode(chunk.text) + b"}"
        delta: Json = {}
        if chunk.reasoning:
            delta["reasoning_content"] = chunk.reasoning
        if chunk.text:
            delta["content"] = chunk.text
        if chunk.refusal:
            delta["refusal"] = chunk.refusal
        self._add_calls(delta, chunk.tool_calls)
        if chunk.annotations:
            delta["annotations"] = self._indexed("annotations", chunk.annotations)
        for name, items in (chunk.extra or {}).items():
            delta[name] = self._indexed(name, items)
        if chunk.extra_content:
            delta["extra_content"] = chunk.extra_content
        return _encode(delta) if delta or chunk.logprobs else None

    def _add_calls(self, delta: Json, calls: tuple[ToolCallDelta, ...]) -> None:
        if not calls:
            return
        if not self._legacy:
            delta["tool_calls"] = [_call_delta(call) for call in calls]
            return
        mine = [call for call in calls if call.index == 0]  # the legacy form has one call
        if mine:
            name = {"name": mine[0].name} if mine[0].name else {}
            delta["function_call"] = {**name, "arguments": "".join(call.arguments for call in mine)}

    def _indexed(self, name: str, items: Iterable[Json]) -> list[Json]:
        """`items` with the `index` that accumulators want of every list of objects in a delta."""
        start = self._counts.get(name, 0)
        indexed = [{"index": i, **item} for i, item in enumerate(items, start)]
        self._counts[name] = start + len(indexed)
        return indexed

    def _reason(self, reason: str) -> str:
        return "function_call" if self._legacy and reason == "tool_calls" else reason


def _call_delta(call: ToolCallDelta) -> Json:
    """A piece of a tool call: id, type and name with the first piece of an index only."""
    content = "input" if call.type == "custom" else "arguments"
    if not (call.id or call.name):
        return {"index": call.index, call.type: {content: call.arguments}, **(call.extra or {})}
    named = {"name": call.name, content: call.arguments}
    return {"index": call.index, "id": call.id, "type": call.type, call.type: named, **(call.extra or {})}


def dated(chunk: Chunk, wire: bytes, created: int) -> bytes:
    """`wire` with the moment that its provider did not know, in seconds since 1970."""
    if chunk.created != 0:
        return wire
    return wire.replace(b'"created":0,', b'"created":%d,' % created, 1)


def response(request: ChatRequest, chunk: Chunk, *, id: str, model: str, created: int) -> bytes:
    """The whole answer as a `chat.completion`."""
    if chunk.wire is not None and not request.legacy:
        return dated(chunk, chunk.wire, created)
    body: Json = {
        "id": chunk.id or id,
        "object": "chat.completion",
        "created": chunk.created or created,
        "model": chunk.model or model,
        "choices": [
            {
                "index": 0,
                "message": _message(request, chunk),
                "logprobs": chunk.logprobs,
                "finish_reason": _whole_reason(request, chunk),
            }
        ],
    }
    if chunk.usage is not None:
        body["usage"] = usage_json(chunk.usage)
    return _encode(body)


def _whole_reason(request: ChatRequest, chunk: Chunk) -> str | None:
    return "function_call" if request.legacy and chunk.finish_reason == "tool_calls" else chunk.finish_reason


def _message(request: ChatRequest, chunk: Chunk) -> Json:
    nothing = None if chunk.tool_calls or chunk.refusal else ""
    message: Json = {
        "role": "assistant",
        "content": chunk.text or nothing,
        "refusal": chunk.refusal or None,
        "annotations": list(chunk.annotations),
    }
    if chunk.reasoning:
        message["reasoning_content"] = chunk.reasoning
    if chunk.tool_calls and request.legacy:
        call = chunk.tool_calls[0]
        message["function_call"] = {"name": call.name, "arguments": call.arguments or "{}"}
    elif chunk.tool_calls:
        message["tool_calls"] = [_whole_call(call) for call in chunk.tool_calls]
    if chunk.extra_content:
        message["extra_content"] = chunk.extra_content
    return {**message, **(chunk.extra or {})}


def _whole_call(call: ToolCallDelta) -> Json:
    content = {"input": call.arguments} if call.type == "custom" else {"arguments": call.arguments or "{}"}
    return {
        "id": call.id,
        "type": call.type,
        call.type: {"name": call.name, **content},
        **(call.extra or {}),
    }


def usage_json(usage: Usage) -> Any:
    """Usage in OpenAI's shape: as a same-dialect upstream sent it, else written out."""
    if usage.wire is not None:
        return usage.wire
    prompt: Json = {"cached_tokens": usage.cached_tokens, "audio_tokens": 0}
    if usage.cache_write_tokens:
        prompt["cache_write_tokens"] = usage.cache_write_tokens
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": prompt,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
