"""The OpenAI stand-in's /v1/responses.

Rule of this file: what a call asks, and the native form of an answer; what is refused is in
`openai_responses_rules.py`. A thought is shown as a summary when the call asks for one, and comes encrypted
when it asks for that. Of a turn, `finish_native` "failed" ends the answer in an error, any other word is the
reason why it is incomplete.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from .brain import Ask, AskedTool, usage_of
from .openai_responses_rules import (
    ENCRYPTED,
    LOGPROBS,
    all_text,
    allowed_names,
    checked,
    encrypted,
    text_of,
)
from .openai_responses_shapes import (
    Call,
    CustomOutput,
    FunctionOutput,
    InputFile,
    InputImage,
    JsonFormat,
    Message,
    SchemaFormat,
)
from .openai_rules import DATA_URL
from .script import Turn
from .wire import Frame, Generation, Headers, Reply, paced, verbatim

PATH = "/v1/responses"
JSON = "application/json"
SSE = "text/event-stream; charset=utf-8"
PADDING = "abcdefghijklmnop"
REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""A turn's finish → why the response is incomplete; any other finish completes it."""


def generation(raw: bytes, numbers: Iterator[int], headers: Callable[[str], Headers]) -> Generation:
    """The call in `raw`. Raises Rejected; `headers` gives those of an answer by its content type."""
    call = checked(raw)
    ask = understand(call)

    def render(turn: Turn, stream: bool) -> Reply:
        answer = Answer(call, ask, turn, next(numbers))
        if stream:
            frames = answer.frames() if turn.raw is None else raw_frames(turn.raw)
            return paced(Reply(headers=headers(SSE), frames=frames), turn)
        whole = verbatim(answer.document() if turn.raw is None else turn.raw)
        return paced(Reply(headers=headers(JSON), body=whole), turn)

    return Generation(ask, bool(call.body.stream), render)


def raw_frames(raw: Any) -> list[Frame]:
    """Verbatim payloads: bytes as they are, an object under the name of its type, text after `data: `."""
    frames = []
    for payload in raw if isinstance(raw, list) else [raw]:
        if isinstance(payload, bytes):
            frames.append(Frame(payload, content=True))
            continue
        kind = payload.get("type") if isinstance(payload, dict) else None
        name = b"event: %b\n" % kind.encode() if kind else b""
        frames.append(Frame(b"%bdata: %b\n\n" % (name, verbatim(payload)), content=True))
    return frames


# --- the request ----------------------------------------------------------------------------------------


def understand(call: Call) -> Ask:
    """The neutral question in a checked call."""
    body = call.body
    users = [item for item in call.items if isinstance(item, Message) and item.role == "user"]
    last = users[-1].content if users else ""
    outputs = itertools.takewhile(
        lambda item: isinstance(item, FunctionOutput | CustomOutput), reversed(call.items)
    )
    results = [text_of(item.output) for item in outputs if isinstance(item, FunctionOutput | CustomOutput)]
    wanted = body.text.format if body.text else None
    return Ask(
        text=text_of(last),
        results=results[::-1],
        tools=callable_tools(call),
        parallel=body.parallel_tool_calls is not False,
        schema=wanted.schema if isinstance(wanted, SchemaFormat) else None,
        json=isinstance(wanted, JsonFormat),
        media=[found for part in last if (found := medium(part))] if isinstance(last, list) else [],
        reasoning=bool(call.family.efforts) and call.effort != "none",
        limit=body.max_output_tokens,
        read=len(all_text(call)),
    )


def callable_tools(call: Call) -> list[AskedTool]:
    """The tools that tool_choice lets the model call."""
    if call.body.tool_choice == "none":
        return []
    names = allowed_names(call.body.tool_choice)
    return [
        AskedTool(tool.name, tool.parameters or {})
        for tool in call.tools
        if names is None or tool.name in names
    ]


def medium(part: Any) -> tuple[str, int] | None:
    """(media type, bytes) of a part that is not text; a reference that is not inline counts 0 bytes."""
    if not isinstance(part, InputImage | InputFile):
        return None
    is_image = isinstance(part, InputImage)
    url = part.image_url if isinstance(part, InputImage) else part.file_data
    found = DATA_URL.fullmatch(url or "")
    if found is None:
        return "image/url" if is_image else "application/file", 0
    data = found["data"]
    return found["type"], len(data) * 3 // 4 - data.count("=", -2)


# --- the answer -----------------------------------------------------------------------------------------


class Answer:
    """One turn in the form of this API, as a document or as the frames of a stream."""

    def __init__(self, call: Call, ask: Ask, turn: Turn, number: int) -> None:
        self._call = call
        self._turn = turn
        self._number = number
        self._created = int(time.time())
        self._usage = usage(turn, ask)
        options = call.body.stream_options
        self._obfuscate = not (options and options.include_obfuscation is False)
        self._sequence = itertools.count()
        self._output = list(self._items())

    def document(self) -> dict[str, Any]:
        return {**self._response(self._status(), self._output), **self._turn.extra}

    def frames(self) -> list[Frame]:
        """The events of the stream, in the order of the items."""
        frames = [
            self._frame(f"response.{status}", response=self._response("in_progress", []))
            for status in ("created", "in_progress")
        ]
        for place, item in enumerate(self._output):
            frames += self._item_frames(place, item)
        status = self._status()
        whole = {**self._response(status, self._output), **self._turn.extra}
        return [*frames, self._frame(f"response.{status}", response=whole)._replace(end=True)]

    def _status(self) -> str:
        native = self._turn.finish_native
        if native is not None:
            return "failed" if native == "failed" else "incomplete"
        return "incomplete" if self._turn.finished() in REASONS else "completed"

    def _response(self, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        body = self._call.body
        reason = self._turn.finish_native or REASONS.get(self._turn.finished())
        failed = {"code": "server_error", "message": "The model failed to answer."}
        return {
            "id": f"resp_sim{self._number:032d}",
            "object": "response",
            "created_at": self._created,
            "status": status,
            "background": False,
            "error": failed if status == "failed" else None,
            "incomplete_details": {"reason": reason} if status == "incomplete" else None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata or {},
            "model": self._turn.model or body.model,
            "output": output,
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": self._call.effort or None, "summary": self._summary_wanted()},
            "service_tier": "default",
            "store": body.store is not False,
            "temperature": 1.0 if body.temperature is None else body.temperature,
            "text": msgspec.to_builtins(body.text) if body.text else {"format": {"type": "text"}},
            "tool_choice": body.tool_choice or "auto",
            "tools": body.tools or [],
            "top_p": 1.0 if body.top_p is None else body.top_p,
            "truncation": "disabled",
            "usage": None if status == "in_progress" else self._usage,
        }

    def _summary_wanted(self) -> str | None:
        return self._call.body.reasoning.summary if self._call.body.reasoning else None

    def _items(self) -> Iterator[dict[str, Any]]:
        """The output: a thought, what is said, and the calls."""
        turn, number = self._turn, self._number
        if turn.reasoning:
            shown = [{"type": "summary_text", "text": turn.reasoning}] if self._summary_wanted() else []
            item = {"type": "reasoning", "id": f"rs_sim{number:020d}", "summary": shown}
            if ENCRYPTED in (self._call.body.include or ()):
                item["encrypted_content"] = encrypted(self._call.body.model, str(item["id"]))
            yield item
        if turn.said() or turn.refusal or not turn.tool_calls:
            content = [{"type": "refusal", "refusal": turn.refusal}] if turn.refusal else []
            if turn.said() or not turn.refusal:
                content.insert(0, self._text(turn.said()))
            head = {"type": "message", "id": f"msg_sim{number:020d}", "role": "assistant"}
            yield {**head, "status": "completed", "content": content}
        for at, call in enumerate(turn.tool_calls):
            yield {
                "type": "function_call",
                "id": f"fc_sim{number:016d}{at}",
                "call_id": call.id or f"call_sim{number:016d}{at}",
                "name": call.name,
                "arguments": call.text(),
                "status": "completed",
            }

    def _text(self, text: str) -> dict[str, Any]:
        return {
            "type": "output_text",
            "text": text,
            "annotations": [],
            "logprobs": self._logprobs(self._turn.cut(text)),
        }

    def _logprobs(self, pieces: list[str]) -> list[dict[str, Any]]:
        """Log probabilities with one token a piece, when they were asked for."""
        if LOGPROBS not in (self._call.body.include or ()):
            return []
        others = self._call.body.top_logprobs or 0
        tokens = [{"token": piece, "logprob": -0.01, "bytes": list(piece.encode())} for piece in pieces]
        return [{**each, "top_logprobs": [each][:others]} for each in tokens]

    # the stream of one item

    def _item_frames(self, place: int, item: dict[str, Any]) -> list[Frame]:
        kind = item["type"]
        opened: dict[str, dict[str, Any]] = {
            "reasoning": {"summary": []},
            "message": {"status": "in_progress", "content": []},
            "function_call": {"status": "in_progress", "arguments": ""},
        }
        where = {"item_id": item["id"], "output_index": place}
        inside = {
            "reasoning": self._summary_frames,
            "message": self._part_frames,
            "function_call": self._call_frames,
        }
        first = self._frame("response.output_item.added", output_index=place, item={**item, **opened[kind]})
        between = list(inside[kind](item, where))
        last = self._frame("response.output_item.done", output_index=place, item=item)
        return [first._replace(content=kind == "function_call"), *between, last]

    def _summary_frames(self, item: dict[str, Any], where: dict[str, Any]) -> Iterator[Frame]:
        for at, part in enumerate(item["summary"]):
            place = {**where, "summary_index": at}
            base = "response.reasoning_summary"
            yield self._frame(f"{base}_part.added", **place, part={**part, "text": ""})
            for piece in self._turn.cut(part["text"]):
                yield self._delta(f"{base}_text.delta", **place, delta=piece)
            yield self._frame(f"{base}_text.done", **place, text=part["text"])
            yield self._frame(f"{base}_part.done", **place, part=part)

    def _part_frames(self, item: dict[str, Any], where: dict[str, Any]) -> Iterator[Frame]:
        for at, part in enumerate(item["content"]):
            place = {**where, "content_index": at}
            key = "text" if part["type"] == "output_text" else "refusal"
            base = f"response.{part['type']}"
            empty = {**part, key: "", **({"logprobs": []} if key == "text" else {})}
            yield self._frame("response.content_part.added", **place, part=empty)
            for piece in self._turn.cut(part[key]):
                more = {"logprobs": self._logprobs([piece])} if key == "text" else {}
                yield self._delta(f"{base}.delta", **place, delta=piece, **more)
            more = {"logprobs": part["logprobs"]} if key == "text" else {}
            yield self._frame(f"{base}.done", **place, **{key: part[key]}, **more)
            yield self._frame("response.content_part.done", **place, part=part)

    def _call_frames(self, item: dict[str, Any], where: dict[str, Any]) -> Iterator[Frame]:
        base, arguments = "response.function_call_arguments", item["arguments"]
        for piece in self._turn.cut(arguments):
            yield self._delta(f"{base}.delta", **where, delta=piece)
        yield self._frame(f"{base}.done", **where, name=item["name"], arguments=arguments)

    def _delta(self, kind: str, **fields: Any) -> Frame:
        if self._obfuscate:
            fields["obfuscation"] = PADDING[: 16 - len(fields["delta"]) % 16]
        return self._frame(kind, **fields)._replace(content=True)

    def _frame(self, kind: str, **fields: Any) -> Frame:
        value = {"type": kind, "sequence_number": next(self._sequence), **fields}
        return Frame(b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode(value)))


def usage(turn: Turn, ask: Ask) -> dict[str, Any]:
    read, made, thought = usage_of(turn, ask)
    return {
        "input_tokens": read,
        "input_tokens_details": {
            "cached_tokens": turn.usage.cached,
            "cache_write_tokens": turn.usage.cache_write,
        },
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": read + made,
    }
