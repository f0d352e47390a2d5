"""One turn in DashScope's native form: a document, or the events of a stream.

Rule of this file: the answer only; it reads a checked request and refuses nothing. Its oddities are always
there, in their hardest form: content is text on the one path and a list on the other, [] when empty; the
finish reason of an unfinished event is the string "null"; the multimodal path names no total; a call whose
arguments are empty starts with null; further pieces of a call have an empty id and no name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct, field

from .brain import Ask, tokens, usage_of
from .openai import token
from .qwen_rules import Asked
from .script import ToolCall, Turn
from .wire import Frame, verbatim

UNFINISHED = "null"


def identity(number: int) -> str:
    """A request id."""
    return f"{number:08x}-5a11-9000-8000-{number:012x}"


def sse(number: int, payload: bytes, name: str = "result", status: int = 200) -> bytes:
    """One event: no space after a colon, and the status in a comment."""
    return b"id:%d\nevent:%b\n:HTTP_STATUS/%d\ndata:%b\n\n" % (number, name.encode(), status, payload)


def raw_frames(raw: Any) -> list[Frame]:
    """Verbatim payloads as events; bytes as they are."""
    payloads = raw if isinstance(raw, list) else [raw]
    return [
        Frame(each if isinstance(each, bytes) else sse(number, verbatim(each)), content=True)
        for number, each in enumerate(payloads, 1)
    ]


class Said(Struct):
    """What one message holds: a piece, or all so far. `calls` are native objects by position of the call."""

    text: str = ""
    reasoning: str = ""
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    logprobs: list[dict[str, Any]] = field(default_factory=list)

    def add(self, piece: Said) -> None:
        """Take a piece in; a call becomes whole, without its index."""
        self.text += piece.text
        self.reasoning += piece.reasoning
        self.logprobs = [*self.logprobs, *piece.logprobs]
        for at, call in piece.calls.items():
            function = call["function"]
            known = self.calls.get(at)
            if known is None:
                start = {"name": function["name"], "arguments": function["arguments"] or ""}
                self.calls[at] = {"id": call["id"], "type": "function", "function": start}
            else:
                whole = known["function"]["arguments"] + function["arguments"]
                self.calls[at] = {**known, "function": {**known["function"], "arguments": whole}}

    def size(self) -> int:
        """Characters of text and calls."""
        functions = [call["function"] for call in self.calls.values()]
        called = sum(len(function["name"]) + len(function["arguments"]) for function in functions)
        return len(self.text) + called


class Answer:
    """One turn, as it is answered to one request."""

    def __init__(self, asked: Asked, ask: Ask, turn: Turn, number: int) -> None:
        self._asked = asked
        self._ask = ask
        self._turn = turn
        self._number = number
        self._parameters = asked.body.parameters
        self._text = turn.said() or turn.refusal
        shown = asked.thinks or turn.show_reasoning
        self._reasoning = turn.reasoning if shown and asked.messages else ""
        self._thinker = shown or asked.family.thinking != "none"
        self._choices = self._parameters.n or 1
        self._read, self._made, self._thought = usage_of(turn, ask)

    @property
    def filtered(self) -> bool:
        """A filter stops this answer: there is no finish reason for that, it ends in an error."""
        return self._turn.finish == "content_filter" and self._turn.finish_native is None

    # --- a document ---------------------------------------------------------------------------------------

    def document(self) -> dict[str, Any]:
        calls = {at: self._called(at) for at in range(len(self._turn.tool_calls))}
        whole = Said(self._text, self._reasoning, calls, self._logprobs(self._text))
        if not self._asked.messages:
            output: dict[str, Any] = {"finish_reason": self._finish(), "text": self._text}
        else:
            choices = [self._choice(whole, self._finish(), at, True) for at in range(self._choices)]
            bare = {} if self._asked.multimodal else {"text": None, "finish_reason": None}
            output = {**bare, "choices": choices}
        usage = self._usage(self._made * self._choices, self._thought * self._choices)
        return merged(self._value(output, usage), self._turn.extra)

    def _value(self, output: dict[str, Any], usage: dict[str, Any]) -> dict[str, Any]:
        if self._turn.model is not None:
            output["model_name"] = self._turn.model
        return {"output": output, "usage": usage, "request_id": identity(self._number)}

    def _choice(self, said: Said, finish: str, at: int, whole: bool) -> dict[str, Any]:
        content: Any = said.text
        if self._asked.multimodal:
            content = [{"text": said.text}] if said.text else []
        message: dict[str, Any] = {"content": content, "role": "assistant"}
        if self._thinker:
            message["reasoning_content"] = said.reasoning
        if said.calls or whole:
            message["tool_calls"] = list(said.calls.values())
        choice: dict[str, Any] = {"message": message, "finish_reason": finish}
        if said.logprobs:
            choice["logprobs"] = {"content": said.logprobs}
        return {**choice, "index": at} if self._choices > 1 else choice

    def _called(self, at: int) -> dict[str, Any]:
        """A whole call; a minted id is unique in this process."""
        call = self._turn.tool_calls[at]
        function = {"name": call.name, "arguments": call.text()}
        minted = call.id or f"call_{self._number:016x}{at}"
        return {"index": at, "id": minted, "type": "function", "function": function}

    def _finish(self) -> str:
        return self._turn.finish_native or self._turn.finished()

    def _logprobs(self, piece: str) -> list[dict[str, Any]]:
        """Log probabilities with one token a piece."""
        wanted = self._parameters.logprobs and piece
        return [token(piece, self._parameters.top_logprobs or 0)] if wanted else []

    def _usage(self, made: int, thought: int) -> dict[str, Any]:
        """The counts so far: input and output contain all the others."""
        prompt = {"cached_tokens": self._turn.usage.cached}
        if self._turn.usage.cache_write:
            prompt["cache_creation_input_tokens"] = self._turn.usage.cache_write
        usage: dict[str, Any] = {"input_tokens": self._read, "output_tokens": made}
        if not self._asked.multimodal:
            usage["total_tokens"] = self._read + made
        for kind in ("image", "video", "audio"):
            sizes = [tokens(size) for media, size in self._ask.media if media.startswith(kind)]
            if sizes:
                usage[f"{kind}_tokens"] = min(sum(sizes), self._read)
        details = {"reasoning_tokens": thought}
        return {**usage, "prompt_tokens_details": prompt, "output_tokens_details": details}

    # --- a stream -----------------------------------------------------------------------------------------

    def frames(self) -> list[Frame]:
        """The events: every piece for every choice in turn, then the end of every choice."""
        cumulative = self._turn.cumulative or not self._parameters.incremental_output
        so_far, frames = Said(), list[Frame]()
        for piece in self._pieces():
            so_far.add(piece)
            shown = so_far if cumulative else piece
            frames += self._events(shown, so_far, UNFINISHED, len(frames))
        if self.filtered:
            return frames
        return [*frames, *self._events(so_far if cumulative else Said(), None, self._finish(), len(frames))]

    def failed(self, error: bytes) -> Frame:
        """The error event that ends a filtered answer."""
        return Frame(sse(1, error, "error", 400), end=True)

    def _pieces(self) -> Iterator[Said]:
        for piece in self._turn.cut(self._reasoning):
            yield Said(reasoning=piece)
        for piece in self._turn.cut(self._text):
            yield Said(text=piece, logprobs=self._logprobs(piece))
        for at, call in enumerate(self._turn.tool_calls if self._asked.messages else ()):
            for fragment in self._fragments(at, call):
                yield Said(calls={at: fragment})

    def _fragments(self, at: int, call: ToolCall) -> Iterator[dict[str, Any]]:
        """The start of a call, then further arguments."""
        whole = self._called(at)
        text = whole["function"]["arguments"]
        pieces = [text] if nested(call) and not self._parameters.tool_stream else self._turn.cut(text)
        first = pieces[0] if text else None
        yield {**whole, "function": {"name": call.name, "arguments": first}}
        for piece in pieces[1:]:
            yield {"index": at, "id": "", "type": "function", "function": {"arguments": piece}}

    def _events(self, shown: Said, so_far: Said | None, finish: str, sent: int) -> list[Frame]:
        """One event a choice. `so_far` counts the tokens; None: the answer is complete."""
        last = so_far is None
        usage = self._usage(self._made, self._thought)
        if so_far is not None:
            thought = min(tokens(so_far.reasoning), self._thought)
            usage = self._usage(min(thought + tokens(so_far.size()), self._made), thought)
        frames = []
        for at in range(self._choices):
            output: dict[str, Any] = {"choices": [self._choice(shown, finish, at, False)]}
            if not self._asked.messages:
                output = {"finish_reason": finish, "text": shown.text}
            value = self._value(output, usage)
            if last and at == self._choices - 1:
                value = merged(value, self._turn.extra)
            event = sse(sent + at + 1, msgspec.json.encode(value))
            frames.append(Frame(event, content=not last, end=last))
        return frames


def nested(call: ToolCall) -> bool:
    """Whether an argument is of a complex type."""
    values = call.arguments.values() if isinstance(call.arguments, dict) else ()
    return any(isinstance(value, dict | list) for value in values)


def merged(value: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """The value with the extra fields; inside `output` and `usage` they are added, not put in their place."""
    both = {name: each for name, each in value.items() if isinstance(each, dict)}
    deep = {
        name: {**both[name], **each} if name in both and isinstance(each, dict) else each
        for name, each in extra.items()
    }
    return {**value, **deep}
