"""Reading Gemini's answers: every event of a stream is a whole `GenerateContentResponse`, with the next
piece in its parts and everything else counted up to now. An answer that does not stream is one such event.

What has to be remembered between events is in `Reader`: that there were tool calls, since "STOP" comes
later; the last value of each count; the text, since citations are bytes into it.
Follows the Gemini API reference (`GenerateContentResponse`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from ...chat import ChatRequest, Chunk, Json, ToolCallDelta, Usage
from ...errors import ErrorKind, UpstreamError
from ...sse import Event
from ..base import EventDecoder
from .errors import parse_error
from .parts import function_name

# ── how answers end ────────────────────────────────────────────────────────────────────────────────────

FINISH_REASONS = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",  # a hop of a long decode is full: the client may ask for more
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "ESCALATION": "content_filter",
}

FILTERED_WHEN_EMPTY = frozenset(("LANGUAGE", "OTHER", "NO_IMAGE", "IMAGE_OTHER", "PUP_LIMITED_DISABLED"))
"""Ends that say little: a good one after output, a refusal without. Any other end without output
(MALFORMED_FUNCTION_CALL, UNEXPECTED_TOOL_CALL and their like) is a failure: an empty success helps nobody."""

UNSPECIFIED = "FINISH_REASON_UNSPECIFIED"
"""On the wire a reason that is none: an end after output, and nothing at all before."""

_BY_NUMBER = {  # some answers give the enum's number
    0: UNSPECIFIED,
    1: "STOP",
    2: "MAX_TOKENS",
    3: "SAFETY",
    4: "RECITATION",
    5: "OTHER",
}


def finish_reason(native: str, detail: str, *, has_calls: bool, has_output: bool) -> str:
    """The client's finish reason, decided after everything was seen. Raises for an end that is a failure."""
    done = "tool_calls" if has_calls else "stop"
    known = FINISH_REASONS.get(native)
    if known is not None:
        return done if known == "stop" else known
    if has_output:
        return done
    if native in FILTERED_WHEN_EMPTY:
        return "content_filter"
    message = f"the answer ended without output: {native}" + (f" ({detail})" if detail else "")
    raise UpstreamError(ErrorKind.BAD_RESPONSE, message, upstream_status=200, code=native.lower())


# ── the fields that are read ───────────────────────────────────────────────────────────────────────────


_ABSENT = Raw(b"")  # `Raw | None` takes nothing but null
_NOTHING = frozenset((b"", b"null"))


class _FunctionCall(Struct, rename="camel"):
    name: str | None = None
    id: str | None = None
    args: Raw = _ABSENT


class _Blob(Struct, rename="camel"):
    mime_type: str | None = None
    data: str | None = None


class _Code(Struct, rename="camel"):
    code: str | None = None
    output: str | None = None
    language: str | None = None


class _Part(Struct, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: _FunctionCall | None = None
    inline_data: _Blob | None = None
    executable_code: _Code | None = None
    code_execution_result: _Code | None = None
    tool_call: Raw = _ABSENT
    tool_response: Raw = _ABSENT

    @property
    def is_bare(self) -> bool:
        """Whether there is nothing in it but a signature."""
        said = self.text or self.inline_data or self.executable_code or self.code_execution_result
        return not (said or self.function_call or self.tool_call or self.tool_response)


class _Content(Struct):
    parts: list[_Part] | None = None


class _Segment(Struct, rename="camel"):
    start_index: int | None = None
    end_index: int | None = None
    part_index: int | None = None
    text: str | None = None


class _Support(Struct, rename="camel"):
    segment: _Segment | None = None
    grounding_chunk_indices: list[int] | None = None


class _Web(Struct):
    uri: str | None = None
    title: str | None = None


class _Source(Struct):
    web: _Web | None = None


class _Grounding(Struct, rename="camel"):
    grounding_supports: list[_Support] | None = None
    grounding_chunks: list[_Source] | None = None


class _Token(Struct, rename="camel"):
    token: str | None = None
    log_probability: float | None = None


class _Top(Struct):
    candidates: list[_Token] | None = None


class _Logprobs(Struct, rename="camel"):
    chosen_candidates: list[_Token] | None = None
    top_candidates: list[_Top] | None = None


class _Candidate(Struct, rename="camel"):
    index: int | None = None
    content: _Content | None = None
    finish_reason: str | int | None = None
    finish_message: str | None = None
    grounding_metadata: _Grounding | None = None
    logprobs_result: _Logprobs | None = None

    @property
    def end(self) -> str | None:
        """The native finish reason by name; None while there is none."""
        reason = self.finish_reason
        return _BY_NUMBER.get(reason, str(reason)) if isinstance(reason, int) else reason


class _Feedback(Struct, rename="camel"):
    block_reason: str | None = None
    block_reason_message: str | None = None


class _Answer(Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: Json | None = None
    model_version: str | None = None
    response_id: str | None = None
    error: Raw = _ABSENT


_decoder = msgspec.json.Decoder(_Answer)


def _decode(data: bytes) -> _Answer:
    """One response. Raises `UpstreamError` when it is an error instead, and msgspec's errors."""
    if data[:1] == b"[":
        raise parse_error(200, {}, data)
    answer = _decoder.decode(data)
    if bytes(answer.error) not in _NOTHING:
        raise parse_error(200, {}, data)
    return answer


# ── streams and whole answers ──────────────────────────────────────────────────────────────────────────


def event_decoder(request: ChatRequest) -> EventDecoder:
    """A decoder for one stream of responses. There is no end mark: the end of the body is the end."""
    return Reader(request).read


def parse_response(body: bytes, request: ChatRequest) -> Chunk:
    """A whole answer. Raises `UpstreamError` for one without any output or reason."""
    answer = _decode(body)
    candidate = _first_candidate(answer)
    if candidate is not None and candidate.end is None:
        candidate.finish_reason = UNSPECIFIED  # for nothing more will come
    chunk = Reader(request).advance(answer)
    if chunk is None or chunk.finish_reason is None:
        message = "the answer has neither output nor a reason to end"
        raise UpstreamError(ErrorKind.BAD_RESPONSE, message, upstream_status=200)
    return chunk


def _first_candidate(answer: _Answer) -> _Candidate | None:
    return next((c for c in answer.candidates or () if not c.index), None)


class Reader:
    """What has been seen of one answer."""

    def __init__(self, request: ChatRequest) -> None:
        self._names = _original_names(request)
        self._counts: Json = {}
        self._pieces: list[str] = []  # the visible text of each part, "" for a part without
        self._call_ids: list[str] = []
        self._has_output = False
        self._finished = False
        self._signed_aside: _Part | None = None  # a part whose signature waits for the first call
        self._text_signature: str | None = None
        self._grounding: _Grounding | None = None

    def read(self, event: Event) -> Chunk | None:
        """The chunk of one event; None when there is nothing in it for a client."""
        return self.advance(_decode(event.data)) if event.data else None

    def advance(self, answer: _Answer) -> Chunk | None:
        """The chunk of one response."""
        if answer.usage_metadata:  # a count that is missing now keeps the value it had
            self._counts |= {name: n for name, n in answer.usage_metadata.items() if n is not None}
        if self._finished:  # only the counts may still change
            return Chunk(usage=self._usage()) if answer.usage_metadata else None
        candidate = _first_candidate(answer)
        if candidate is None:
            return self._blocked(answer)
        chunk = self._said(answer, candidate)
        return chunk if chunk.has_content or chunk.logprobs else None

    def _blocked(self, answer: _Answer) -> Chunk | None:
        """The refusal when the prompt was blocked: there are no candidates then."""
        feedback = answer.prompt_feedback
        if feedback is None or feedback.block_reason in (None, "BLOCKED_REASON_UNSPECIFIED"):
            return None
        self._finished = True
        return Chunk(
            refusal=feedback.block_reason_message or f"The prompt was blocked: {feedback.block_reason}.",
            finish_reason="content_filter",
            usage=self._usage(),
            id=_id(answer),
            model=answer.model_version,
        )

    def _said(self, answer: _Answer, candidate: _Candidate) -> Chunk:
        parts = (candidate.content.parts if candidate.content else None) or []
        texts: list[str] = []
        thoughts: list[str] = []
        images: list[Json] = []
        calls: list[ToolCallDelta] = []
        for part in parts:
            visible = ""
            if part.function_call is not None:
                calls.append(self._call(part, part.function_call, answer.response_id))
            elif part.thought:
                thoughts.append(part.text or "")
            else:
                visible = _visible(part)
                images += _image(part.inline_data)
            self._note_signature(part)
            texts.append(visible)
        self._pieces += texts
        self._grounding = candidate.grounding_metadata or self._grounding
        text = "".join(texts)
        self._has_output = self._has_output or bool(text or calls or images)
        end = self._end(candidate)
        return Chunk(
            text=text,
            reasoning="".join(thoughts),
            tool_calls=tuple(calls),
            annotations=tuple(_annotations(self._grounding, self._pieces)) if end else (),
            extra={"images": images} if images else None,
            extra_content=self._signed_text() if end else None,
            logprobs=_logprobs(candidate.logprobs_result),
            finish_reason=end,
            usage=self._usage() if end else None,
            id=_id(answer),
            model=answer.model_version,
        )

    def _end(self, candidate: _Candidate) -> str | None:
        native = candidate.end
        if native is None or (native == UNSPECIFIED and not self._has_output):
            return None
        self._finished = native != UNSPECIFIED  # after that, more may come all the same
        return finish_reason(
            native,
            candidate.finish_message or "",
            has_calls=bool(self._call_ids),
            has_output=self._has_output,
        )

    def _call(self, part: _Part, call: _FunctionCall, response_id: str | None) -> ToolCallDelta:
        """A call, which always comes whole. Its id is unique in the answer, made up when there is none."""
        index = len(self._call_ids)
        name = call.name or ""
        arguments = _arguments(call.args)
        call_id = call.id
        if not call_id or call_id in self._call_ids:
            seed = "\n".join((response_id or "", str(index), name, arguments))
            call_id = f"call_{hashlib.sha256(seed.encode()).hexdigest()[:24]}"
        self._call_ids.append(call_id)
        signature = part.thought_signature
        if index == 0 and not signature and self._signed_aside is not None:
            signature = self._signed_aside.thought_signature
            self._signed_aside = None
        return ToolCallDelta(
            index=index,
            id=call_id,
            name=self._names.get(name, name),
            arguments=arguments,
            extra={"extra_content": _signed(signature)} if signature else None,
        )

    def _note_signature(self, part: _Part) -> None:
        """Some answers sign a thought, or a part of its own, instead of the first call or of the text."""
        if not part.thought_signature:
            return
        if part.thought or part.is_bare:
            self._signed_aside = part
        elif part.text and part.function_call is None:
            self._text_signature = part.thought_signature

    def _signed_text(self) -> Json | None:
        """The signature of the text, with the end: only then is it clear that no call takes it."""
        aside = self._signed_aside
        of_text = aside.thought_signature if aside is not None and not aside.thought else self._text_signature
        return _signed(of_text) if of_text else None

    def _usage(self) -> Usage | None:
        """The counts so far, in OpenAI's terms: thoughts are completion, what tools fed in is prompt."""
        if not self._counts:
            return None
        thoughts = self._count("thoughtsTokenCount")
        return Usage(
            prompt_tokens=self._count("promptTokenCount") + self._count("toolUsePromptTokenCount"),
            completion_tokens=self._count("candidatesTokenCount") + thoughts,
            cached_tokens=self._count("cachedContentTokenCount"),
            reasoning_tokens=thoughts,
        )

    def _count(self, name: str) -> int:
        value = self._counts.get(name)
        return value if isinstance(value, int) else 0


def _signed(signature: str) -> Json:
    return {"google": {"thought_signature": signature}}


def _id(answer: _Answer) -> str | None:
    return f"chatcmpl-{answer.response_id}" if answer.response_id else None


def _original_names(request: ChatRequest) -> dict[str, str]:
    """Names that the API could not take → what the client calls them."""
    names = (tool.function.name for tool in request.tools or () if tool.function is not None)
    return {sent: name for name in names if (sent := function_name(name)) != name}


def _arguments(args: Raw) -> str:
    """Arguments as JSON text on one line; now and then they come as text already."""
    raw = bytes(args)
    if raw in _NOTHING:
        return "{}"
    if raw[:1] == b'"':
        text: str = msgspec.json.decode(raw)
        return text or "{}"
    return msgspec.json.format(raw, indent=-1).decode()


def _visible(part: _Part) -> str:
    """The text of a part; code that the model ran, and what came of it, as fenced blocks."""
    if (run := part.executable_code) is not None:
        return f"\n```{(run.language or '').lower()}\n{run.code or ''}\n```\n"
    if (result := part.code_execution_result) is not None:
        return f"\n```\n{result.output or ''}\n```\n"
    return part.text or ""


def _image(blob: _Blob | None) -> Iterator[Json]:
    if blob is not None and blob.data and (blob.mime_type or "").startswith("image/"):
        yield {"type": "image_url", "image_url": {"url": f"data:{blob.mime_type};base64,{blob.data}"}}


# ── citations and probabilities ────────────────────────────────────────────────────────────────────────


def _annotations(grounding: _Grounding | None, pieces: list[str]) -> Iterator[Json]:
    """A `url_citation` for each source of each grounded segment, in characters of the whole text."""
    if grounding is None:
        return
    sources = grounding.grounding_chunks or []
    for support in grounding.grounding_supports or ():
        start, end = _span(support.segment or _Segment(), pieces)
        for index in support.grounding_chunk_indices or ():
            web = sources[index].web if 0 <= index < len(sources) else None
            if web is not None and web.uri:
                citation = {"start_index": start, "end_index": end, "url": web.uri, "title": web.title or ""}
                yield {"type": "url_citation", "url_citation": citation}


def _span(segment: _Segment, pieces: list[str]) -> tuple[int, int]:
    """A segment as character offsets. It counts UTF-8 bytes from the start of its part.

    In a stream nobody tells which pieces are one part; the text of the segment says whether it fits.
    """
    text = "".join(pieces)
    data = text.encode()
    first, length = segment.start_index or 0, (segment.end_index or 0) - (segment.start_index or 0)
    for base in (len("".join(pieces[: segment.part_index or 0]).encode()), 0):
        start = base + first
        if not segment.text or data[start : start + length] == segment.text.encode():
            return _characters(data, start), _characters(data, start + length)
    found = text.find(segment.text or "")
    if found < 0:
        return _characters(data, first), _characters(data, first + length)
    return found, found + len(segment.text or "")


def _characters(data: bytes, end: int) -> int:
    return len(data[: max(end, 0)].decode("utf-8", "ignore"))


def _logprobs(result: _Logprobs | None) -> Json | None:
    if result is None or not result.chosen_candidates:
        return None
    tops: list[Any] = list(result.top_candidates or ())
    tops += [None] * (len(result.chosen_candidates) - len(tops))
    content = [
        {**_token(chosen), "top_logprobs": [_token(t) for t in (top.candidates or ())] if top else []}
        for chosen, top in zip(result.chosen_candidates, tops, strict=False)
    ]
    return {"content": content, "refusal": None}


def _token(token: _Token) -> Json:
    text = token.token or ""
    return {"token": text, "logprob": token.log_probability or 0.0, "bytes": list(text.encode())}
