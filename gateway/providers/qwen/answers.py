"""Reading DashScope's answers: every event has the next piece in it and the counts so far; a whole answer is
one such event. An answer of several choices goes to the client in canonical form, since chunks tell of the
first choice only.

There is no end mark and no model; the request id names the answer. How a choice grows stands in `pieces`.
Follows the page "DashScope API reference" of Alibaba Cloud Model Studio (November 2026).
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from ...chat import ChatRequest, Chunk, Json, Usage, fold_tool_calls
from ...errors import ErrorKind, UpstreamError
from ...sse import Event
from ..base import EventDecoder, json_body
from .errors import parse_error
from .pieces import Choice, ChoicePiece, Message, Said
from .usage import canonical, usage_of


class _Output(Struct):
    choices: list[ChoicePiece] | None = None
    text: str | None = None
    finish_reason: str | None = None
    search_info: Any = None

    @property
    def pieces(self) -> list[ChoicePiece]:
        """The choices; some paths know one text only, whatever form was asked for."""
        if self.choices is None and self.text is not None:
            return [ChoicePiece(message=Message(content=self.text), finish_reason=self.finish_reason)]
        return self.choices or []


_ABSENT = Raw(b"")


class _Answer(Struct):
    output: _Output | None = None
    usage: Any = None
    request_id: str | None = None
    code: str | int | None = None
    error: Raw = _ABSENT


_decoder = msgspec.json.Decoder(_Answer)


def _decode(data: bytes) -> _Answer:
    """One answer or event. Raises `UpstreamError` when it is an error instead, and msgspec's errors."""
    answer = _decoder.decode(data)
    has_output = answer.output is not None and bool(answer.output.pieces)
    if not has_output and (answer.code or bytes(answer.error) not in (b"", b"null")):
        raise parse_error(200, {}, data)
    return answer


# ── streams and whole answers ──────────────────────────────────────────────────────────────────────────


def event_decoder(request: ChatRequest) -> EventDecoder:
    """A decoder for one stream. There is no end mark: the end of the body is the end."""
    return _reader(request).read


def parse_response(body: bytes, request: ChatRequest) -> Chunk:
    """A whole answer. Raises `UpstreamError` for an error in it, and for one that broke off."""
    reader = _reader(msgspec.structs.replace(request, stream=False))
    chunk = reader.advance(_decode(body))
    if chunk is None or chunk.finish_reason is None:
        raise UpstreamError(ErrorKind.BAD_RESPONSE, "the answer is not finished", upstream_status=200)
    return msgspec.structs.replace(chunk, tool_calls=fold_tool_calls(chunk.tool_calls))


def _reader(request: ChatRequest) -> Reader:
    return Several(request, request.n) if request.n is not None and request.n > 1 else Reader(request)


class Reader:
    """What has been seen of one answer."""

    def __init__(self, request: ChatRequest) -> None:
        self._request = request
        self._id: str | None = None
        self._choices: dict[int, Choice] = {0: Choice()}
        self._counts: dict[int, Json] = {}  # the last counts, by the choice they came with
        self._sources: list[Json] = []

    def read(self, event: Event) -> Chunk | None:
        """The chunk of one event; None when there is nothing in it for a client."""
        if not event.data:
            return None
        try:
            if event.name == "error":
                raise parse_error(200, {}, event.data)
            answer = _decode(event.data)
        except UpstreamError as error:
            if error.kind is not ErrorKind.CONTENT_FILTER or not self._has_output:
                raise
            return self._cut_short()  # what was said stays said
        return self.advance(answer)

    def advance(self, answer: _Answer) -> Chunk | None:
        """The chunk of one event or of a whole answer."""
        self._id = self._id or (f"chatcmpl-{answer.request_id}" if answer.request_id else None)
        output = answer.output or _Output()
        pieces = output.pieces
        if isinstance(answer.usage, dict):
            self._counts[self._counted(pieces)] = answer.usage
        self._sources = _results(output.search_info) or self._sources
        if self._finished:  # only the counts may still change
            return self._recounted() if isinstance(answer.usage, dict) else None
        said = {
            index: choice.read(piece, self._id or "")
            for piece in pieces
            if (choice := self._choices.get(index := piece.index or 0)) is not None
        }
        return self._chunk(said)

    @property
    def _finished(self) -> bool:
        return all(choice.finished for choice in self._choices.values())

    @property
    def _has_output(self) -> bool:
        return any(choice.has_output for choice in self._choices.values())

    def _counted(self, pieces: list[ChoicePiece]) -> int:
        """The choice that an event's counts belong to."""
        return next((piece.index or 0 for piece in pieces), max(self._counts, default=0))

    def _usage(self) -> Usage | None:
        return usage_of([self._counts[index] for index in sorted(self._counts)])

    def _recounted(self) -> Chunk | None:
        return Chunk(usage=self._usage())

    def _cut_short(self) -> Chunk | None:
        """The end of an answer that the inspection of contents has stopped."""
        return self._chunk({index: c.finish("content_filter") for index, c in self._choices.items()})

    def _chunk(self, said: dict[int, Said]) -> Chunk | None:
        new = said.get(0, Said())
        if not (new.has_output or new.finish_reason):
            return None
        return self._told(new, self._choices[0].finished)

    def _told(self, new: Said, ended: str | None) -> Chunk:
        """What is new of the first choice; `ended` is the finish reason once everything is there."""
        return Chunk(
            text=new.text,
            reasoning=new.reasoning,
            tool_calls=new.tool_calls,
            annotations=tuple(map(_citation, self._sources)) if ended else (),
            logprobs=new.logprobs,
            finish_reason=ended,
            usage=self._usage() if ended else None,
            id=self._id,
        )


class Several(Reader):
    """An answer of several choices. A client that streams gets each event in canonical form, any other one
    the whole answer when every choice has ended.
    """

    def __init__(self, request: ChatRequest, n: int) -> None:
        super().__init__(request)
        self._choices = {index: Choice() for index in range(n)}
        self._begun: set[int] = set()
        self._all: dict[int, list[Said]] = {index: [] for index in self._choices}

    def _chunk(self, said: dict[int, Said]) -> Chunk | None:
        new = {index: s for index, s in said.items() if s.has_output or s.finish_reason}
        ended = self._choices[0].finished if self._finished else None
        if not new:
            return None
        if self._request.stream:
            wire = self._wire("chat.completion.chunk", self._deltas(new))
            told = self._told(new.get(0, Said()), ended)
            return msgspec.structs.replace(told, wire=wire, created=0, opaque=bool(new.keys() - {0}))
        for index, one in new.items():
            self._all[index].append(one)
        return self._whole(ended) if ended else None

    def _recounted(self) -> Chunk | None:
        return super()._recounted() if self._request.stream else None  # the whole answer has been said

    def _deltas(self, new: dict[int, Said]) -> list[Json]:
        """The choices of an event: each begins with its role, and the first of all is the first."""
        choices = []
        for index in sorted(new.keys() | ({0} - self._begun)):
            one = new.get(index, Said())
            delta = _fields(one, whole=False)
            if index not in self._begun:
                self._begun.add(index)
                delta = {"role": "assistant", "content": "", **delta}
            choices.append(_choice(index, "delta", delta, one))
        return choices

    def _whole(self, ended: str) -> Chunk:
        answers = {index: _joined(pieces) for index, pieces in self._all.items()}
        choices = [
            _choice(index, "message", {"role": "assistant", "refusal": None, **_fields(one, whole=True)}, one)
            for index, one in answers.items()
        ]
        told = self._told(answers[0], ended)
        usage = {} if told.usage is None else {"usage": told.usage.wire or canonical(told.usage)}
        return msgspec.structs.replace(
            told,
            text=answers[0].text,
            reasoning=answers[0].reasoning,
            logprobs=answers[0].logprobs,
            wire=self._wire("chat.completion", choices, **usage),
            created=0,
            opaque=True,
        )

    def _wire(self, kind: str, choices: list[Json], **more: Any) -> bytes:
        # nobody here knows the time, and the API does not say it
        head = {"id": self._id or "", "object": kind, "created": 0, "model": self._request.model}
        return json_body({**head, "choices": choices, **more})


def _choice(index: int, form: str, content: Json, said: Said) -> Json:
    return {"index": index, form: content, "logprobs": said.logprobs, "finish_reason": said.finish_reason}


def _fields(said: Said, *, whole: bool) -> Json:
    fields: Json = {"content": said.text} if said.text or whole else {}
    return fields | ({"reasoning_content": said.reasoning} if said.reasoning else {})


def _joined(pieces: list[Said]) -> Said:
    content = [token for piece in pieces for token in (piece.logprobs or {}).get("content", [])]
    return Said(
        text="".join(piece.text for piece in pieces),
        reasoning="".join(piece.reasoning for piece in pieces),
        logprobs={"content": content, "refusal": None} if content else None,
        finish_reason=pieces[-1].finish_reason if pieces else None,
    )


# ── sources ────────────────────────────────────────────────────────────────────────────────────────────


def _results(info: Any) -> list[Json]:
    """The pages that were searched, as far as they have an address."""
    results = info.get("search_results") if isinstance(info, dict) else None
    found = results if isinstance(results, list) else []
    return [page for page in found if isinstance(page, dict) and page.get("url")]


def _citation(page: Json) -> Json:
    """A source. Which words it stands behind is not said: it spans none."""
    citation = {"start_index": 0, "end_index": 0, "url": page["url"], "title": page.get("title") or ""}
    return {"type": "url_citation", "url_citation": citation}
