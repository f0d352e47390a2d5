"""What a turn of the model carries and OpenAI's clients do not bring back, kept for the next turn.

Thinking blocks, signatures, reasoning: what an API wants back stands in its provider's record (`carries`);
where it travels in a message stands in `KINDS`. Only the keeping lives here: the vault itself (pure, with
the clock as an argument) and the layer that fills it and reads it. Nothing of it is logged or written down,
and state goes back to the target that made it and to no other.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import Raw, Struct

from .chat import (
    AssistantMessage,
    ChatRequest,
    Chunk,
    DeveloperMessage,
    Json,
    Message,
    Part,
    SystemMessage,
    ToolCallDelta,
    fold_tool_calls,
    texts,
)
from .exchange import Exchange, Open, Target

MAX_WATCHED = 16 << 20
"""Characters of one answer that are remembered until it is whole; a longer one is not kept."""
SHARE = 16
"""An entry may take this part of the vault at most: no answer pushes out all the others."""
OVERHEAD, KEY = 1024, 128
"""Bytes that an entry costs beside its state, and that each of its keys does: rather too many."""


# ── where state travels ────────────────────────────────────────────────────────────────────────────────


class Kind(Struct, frozen=True):
    """The fields in which one kind of state stands: of a message, of its calls, of their functions.

    The first of a place is where we put it; the others are conventions of other gateways.
    """

    message: tuple[str, ...] = ()
    call: tuple[str, ...] = ()
    function: tuple[str, ...] = ()


KINDS = {
    "thinking_blocks": Kind(message=("thinking_blocks",)),
    "reasoning_details": Kind(message=("reasoning_details",)),
    "reasoning_content": Kind(message=("reasoning_content", "reasoning")),
    "signatures": Kind(
        message=("extra_content",),
        call=("extra_content", "provider_specific_fields"),
        function=("thought_signature", "provider_specific_fields"),
    ),
}
"""The words of `Provider.carries`."""


def _places(said: Json, kind: Kind) -> Iterable[tuple[Json, tuple[str, ...]]]:
    """Every object of the message `said` that may hold state of this kind, with the fields for it."""
    yield said, kind.message
    for call in said.get("tool_calls") or ():
        yield call, kind.call
        yield call.get("function") or {}, kind.function


def _has(said: Json, kind: Kind) -> bool:
    """Whether the message brings state of this kind. `{"refusal": null}` and the like are none."""
    values = (place.get(field) for place, fields in _places(said, kind) for field in fields)
    return any(any(value.values()) if isinstance(value, dict) else value for value in values)


def _strip(said: Json) -> bool:
    """Takes all state out of the message; returns whether there was any."""
    found = [
        place.pop(field)
        for kind in KINDS.values()
        for place, fields in _places(said, kind)
        for field in fields
        if field in place
    ]
    return bool(found)


# ── the vault ──────────────────────────────────────────────────────────────────────────────────────────


class Entry(Struct, frozen=True):
    """The state of one turn.

    `state` is by kind, as JSON; `calls` are the signatures by the id of their call. `keys` are what the
    turn is found by, `said` is a digest of its text, `after` of all that it answered.
    """

    target: Target
    keys: tuple[bytes, ...]
    said: bytes
    after: bytes
    state: dict[str, Raw]
    calls: dict[str, Raw]

    @property
    def size(self) -> int:
        """About what it takes in memory, in bytes."""
        held = sum(len(bytes(raw)) for raw in (*self.state.values(), *self.calls.values()))
        return held + OVERHEAD + KEY * len(self.keys)


class Vault:
    """Entries by key: at most `max_bytes` of them, each until it was not used for `max_age` seconds.

    An entry counts as used whenever it is looked up, since the turns of one conversation are looked up
    together: they stay and go together too. Where there is no room, the least recently used one goes.
    """

    def __init__(self, max_bytes: int, max_age: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_bytes = max_bytes
        self.max_age = max_age
        self.bytes = 0
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[Entry, float]] = OrderedDict()  # by the first of its keys
        self._first: dict[bytes, bytes] = {}  # any key → the first one of its entry

    def __repr__(self) -> str:
        return f"<Vault {len(self._entries)} entries {self.bytes} bytes>"

    @property
    def entries(self) -> int:
        """How many turns are kept."""
        self._expire()
        return len(self._entries)

    def put(self, entry: Entry) -> None:
        """Keeps `entry` instead of those that share a key with it; one that is too large is not kept."""
        for key in entry.keys:
            if key in self._first:
                self._remove(self._first[key])
        if not entry.keys or entry.size > self.max_bytes // SHARE:
            return
        self._expire()
        self.bytes += entry.size
        while self.bytes > self.max_bytes:
            self._remove(next(iter(self._entries)))
        self._entries[entry.keys[0]] = (entry, self._clock())
        self._first |= dict.fromkeys(entry.keys, entry.keys[0])

    def find(self, key: bytes) -> Entry | None:
        """The entry of this key, which counts as used."""
        self._expire()
        first = self._first.get(key)
        if first is None:
            return None
        entry, _ = self._entries[first]
        self._entries[first] = (entry, self._clock())
        self._entries.move_to_end(first)
        return entry

    def _expire(self) -> None:
        oldest = self._clock() - self.max_age
        while self._entries:
            first, (_, used) = next(iter(self._entries.items()))
            if used >= oldest:
                return
            self._remove(first)

    def _remove(self, first: bytes) -> None:
        entry, _ = self._entries.pop(first)
        self.bytes -= entry.size
        for key in entry.keys:
            self._first.pop(key, None)  # the calls of an answer may share one


# ── what a turn is known by ────────────────────────────────────────────────────────────────────────────


def _digest(*parts: str | bytes) -> bytes:
    return blake2b(msgspec.msgpack.encode(parts), digest_size=16).digest()


def text_digest(pieces: Iterable[str]) -> bytes:
    """A digest of a text, blind to white space: clients trim it."""
    return _digest("".join("".join(pieces).split()))


SILENCE = text_digest(())
"""The digest of no text, be it empty or null."""


def _number(text: str) -> float:
    """A number with a point or an exponent, as a client in JavaScript would write it again: 1.0 is 1."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


_decode_arguments = msgspec.json.Decoder(float_hook=_number).decode


def canonical(arguments: str) -> bytes:
    """A call's arguments, however they are written: sorted, without spaces; none are the empty object."""
    try:
        return msgspec.json.encode(_decode_arguments(arguments or "{}"), order="sorted")
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return arguments.strip().encode("utf-8", "surrogatepass")


def call_key(call_id: str, name: str, arguments: str) -> bytes:
    """What a call is found by: ids alone are not enough, since some servers count from 0 in each answer."""
    return _digest(b"call", call_id, name, canonical(arguments))


def _call_keys(message: AssistantMessage) -> list[bytes]:
    keys = []
    for call in message.tool_calls or ():
        if call.custom is not None:
            keys.append(call_key(call.id, call.custom.name, call.custom.input))
        else:
            name, arguments = (call.function.name, call.function.arguments) if call.function else ("", "")
            keys.append(call_key(call.id, name, arguments))
    return keys


class Thread:
    """A conversation while it is read on: digests of everything so far.

    `so_far` is what was said, without instructions: it tells equal short answers of different conversations
    apart. `frame` is all that a signature may be bound to: instructions, tools and earlier state as well.
    """

    def __init__(self, request: ChatRequest) -> None:
        self._said = blake2b(digest_size=16)
        self._minds: list[str] = []
        told = (text for m in request.messages if _instructs(m) for text in texts(m.content))
        self._frame = _digest(bytes(request.wire.get("tools", b"")), *told)
        self._place = 0

    @property
    def so_far(self) -> bytes:
        return self._said.copy().digest()

    @property
    def frame(self) -> bytes:
        return _digest(self._frame, self.so_far, *self._minds)

    def add(self, message: Message, calls: Iterable[bytes] = ()) -> None:
        """Takes the next message, with the state that it has now and the keys of its calls."""
        self._place += 1
        if _instructs(message):
            return
        content = message.content
        said = [content] if isinstance(content, str) else [*texts(content), *_sketches(content)]
        if isinstance(message, AssistantMessage) and (message.thinking_blocks or message.reasoning_details):
            self._minds.append(str(self._place))
        self._said.update(_digest(str(message.__struct_config__.tag), *said, *calls))


def _instructs(message: Message) -> bool:
    return isinstance(message, SystemMessage | DeveloperMessage)


def _sketches(content: str | list[Part] | None) -> Iterable[str]:
    """Enough to tell one picture or file from another, without reading megabytes for it."""
    for part in content if isinstance(content, list) else ():
        if part.type != "text":
            yield f"{part.type} {len(held := _held(part))} {held[-64:]}"


def _held(part: Part) -> str:
    if part.image_url is not None:
        return part.image_url.url
    if part.input_audio is not None:
        return part.input_audio.data
    return (part.file and (part.file.file_data or part.file.file_id)) or ""


# ── on the way in ──────────────────────────────────────────────────────────────────────────────────────

_turn_decoder = msgspec.json.Decoder(AssistantMessage)


class Restoring:
    """One request, as `target` is to see it: state of its own put back, state of others taken out.

    Of a turn that has state already, the client's stays. What belongs to a turn as a whole goes in front of
    its first piece, however the client cut it, and into no message that is made of several turns: there
    only the signatures of single calls are put back. With `binds`, state which holds for one conversation
    only stays out of any other.
    """

    def __init__(self, vault: Vault, target: Target, request: ChatRequest, *, binds: bool) -> None:
        self.thread = Thread(request)
        self._vault = vault
        self.target = target
        self._request = request
        self._binds = binds
        self._raws: list[Raw] = []
        self._is_changed = False
        self._used: set[bytes] = set()

    def request(self) -> ChatRequest:
        """The request for the target. The client's own is not touched."""
        messages = [self._next(i, message) for i, message in enumerate(self._request.messages)]
        if not self._is_changed:
            return self._request
        wire = {**self._request.wire, "messages": Raw(msgspec.json.encode(self._raws))}
        return msgspec.structs.replace(self._request, messages=messages, wire=wire)

    def _next(self, place: int, message: Message) -> Message:
        calls: list[bytes] = []
        if isinstance(message, AssistantMessage):
            calls = _call_keys(message)
            message = self._turn(place, message, calls)
        self.thread.add(message, calls)
        return message

    def _turn(self, place: int, message: AssistantMessage, calls: list[bytes]) -> AssistantMessage:
        found = self._found(message, calls)
        known = [entry for entry in found if entry is not None]
        if not known:
            return message
        said: Json = msgspec.json.decode(self._raw(place))
        is_foreign = any(entry.target != self.target for entry in known)
        is_stripped = is_foreign and _strip(said)
        told = self._signatures(said, found)
        whole = found[0]
        if whole is not None and not is_foreign and all(entry is whole for entry in found):
            told |= self._whole(said, whole)
        if not (told or is_stripped):
            return message
        self._is_changed = True
        self._raws[place] = Raw(msgspec.json.encode({**said, **told}))
        return _turn_decoder.decode(self._raws[place])

    def _found(self, message: AssistantMessage, calls: list[bytes]) -> list[Entry | None]:
        """The entry of each call; of a turn without any, the one of its place in the conversation."""
        text = text_digest(texts(message.content))
        keys = calls or [turn_key(self.thread, text)]
        return [
            entry if entry is not None and text in (SILENCE, entry.said) else None
            for entry in map(self._vault.find, keys)
        ]

    def _signatures(self, said: Json, found: Sequence[Entry | None]) -> Json:
        """The calls with the signatures that are theirs; nothing where the client brings any."""
        kind = KINDS["signatures"]
        calls = said.get("tool_calls") or []
        own = [
            entry.calls.get(str(call["id"])) if entry is not None and entry.target == self.target else None
            for call, entry in zip(calls, found, strict=False)
        ]
        if not any(own) or _has(said, kind):
            return {}
        signed = [{**c, kind.call[0]: raw} if raw else c for c, raw in zip(calls, own, strict=True)]
        return {"tool_calls": signed}

    def _whole(self, said: Json, entry: Entry) -> Json:
        """What belongs to the turn as a whole, by field, once in a request."""
        if entry.keys[0] in self._used or (self._binds and entry.after != self.thread.frame):
            return {}
        self._used.add(entry.keys[0])
        fresh = ((KINDS[name], raw) for name, raw in entry.state.items())
        return {kind.message[0]: raw for kind, raw in fresh if not _has(said, kind)}

    def _raw(self, place: int) -> Raw:
        """The message at `place` as the client sent it."""
        if not self._raws:
            wire = self._request.wire.get("messages")
            encoded = msgspec.json.encode(self._request.messages) if wire is None else wire
            self._raws = msgspec.json.decode(encoded, type=list[Raw])
        return self._raws[place]


def turn_key(thread: Thread, said: bytes) -> bytes:
    """What a turn without calls is found by: its text alone would be that of other conversations too."""
    return _digest(b"turn", thread.so_far, said)


# ── on the way out ─────────────────────────────────────────────────────────────────────────────────────


class Watched(Exchange):
    """An exchange whose state is put into the vault before the client reads that the answer is whole."""

    def __init__(
        self, inner: Exchange, vault: Vault, target: Target, thread: Thread, carries: frozenset[str]
    ) -> None:
        self._inner = inner
        self._vault = vault
        self._target_asked = target
        self._thread = thread
        self._carries = carries
        self._keeps_thoughts = "reasoning_content" in carries
        self._room = MAX_WATCHED
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._deltas: list[ToolCallDelta] = []
        self._lists: dict[str, list[Any]] = {}
        self._signature: Json | None = None
        self._mirror()

    def _mirror(self) -> None:
        inner = self._inner
        self.target, self.timings = inner.target, inner.timings
        self.usage, self.dropped, self.limits = inner.usage, inner.dropped, inner.limits

    async def read(self) -> list[Chunk]:
        batch = await self._inner.read()
        self._mirror()
        if self._room > 0:
            for chunk in batch:
                self._note(chunk)
        return batch

    def _note(self, chunk: Chunk) -> None:
        if chunk.text:
            self._texts.append(chunk.text)
            self._room -= len(chunk.text)
        if chunk.reasoning and self._keeps_thoughts:
            self._thoughts.append(chunk.reasoning)
            self._room -= len(chunk.reasoning)
        if chunk.tool_calls:
            self._deltas += chunk.tool_calls
            self._room -= sum(len(delta.arguments) for delta in chunk.tool_calls)
        if chunk.extra:
            for name in self._carries & chunk.extra.keys():
                self._lists.setdefault(name, []).extend(chunk.extra[name])
        if chunk.extra_content:
            self._signature = chunk.extra_content
        if chunk.finish_reason is not None:
            self._keep()

    def _keep(self) -> None:
        """Puts what there is into the vault. It may happen again, when more comes after the end."""
        state = {name: _raw_of(items) for name, items in self._lists.items()}
        if self._thoughts:
            state["reasoning_content"] = _raw_of("".join(self._thoughts))
        calls = fold_tool_calls(self._deltas)
        signed: dict[str, Raw] = {}
        if "signatures" in self._carries:
            field = KINDS["signatures"].call[0]
            signed = {c.id: _raw_of(c.extra[field]) for c in calls if c.extra and field in c.extra}
            if self._signature:
                state["signatures"] = _raw_of(self._signature)
        if not (state or signed):
            return
        said = text_digest(self._texts)
        keys = tuple(call_key(c.id, c.name, c.arguments) for c in calls) or (turn_key(self._thread, said),)
        target, frame = self._target_asked, self._thread.frame
        self._vault.put(Entry(target=target, keys=keys, said=said, after=frame, state=state, calls=signed))


def _raw_of(value: Any) -> Raw:
    return Raw(msgspec.json.encode(value))


class Remembering:
    """The layer around one provider's `open`. Conversations without tools pass it untouched."""

    def __init__(
        self,
        inner: Open,
        vault: Vault,
        provider: str,
        carries: frozenset[str],
        binds: Callable[[str], bool] = lambda _model: False,
    ) -> None:
        self._inner = inner
        self._vault = vault
        self._provider = provider
        self._carries = carries
        self._binds = binds

    def restored(self, request: ChatRequest) -> ChatRequest:
        """The request as it is really sent: with the state of earlier turns in it."""
        return request if _is_plain(request) else self._restoring(request).request()

    @asynccontextmanager
    async def __call__(self, request: ChatRequest) -> AsyncIterator[Exchange]:
        """The inner answer to the request with its state restored; what it carries is kept."""
        if _is_plain(request):
            async with self._inner(request) as exchange:
                yield exchange
            return
        restoring = self._restoring(request)
        async with self._inner(restoring.request()) as exchange:
            if request.tools:
                exchange = Watched(exchange, self._vault, restoring.target, restoring.thread, self._carries)
            yield exchange

    def _restoring(self, request: ChatRequest) -> Restoring:
        target = Target(self._provider, request.model)
        return Restoring(self._vault, target, request, binds=self._binds(request.model))


def _is_plain(request: ChatRequest) -> bool:
    """Whether no tools are in it, neither offered nor called."""
    return not (request.tools or any(map(_calls, request.messages)))


def _calls(message: Message) -> bool:
    return isinstance(message, AssistantMessage) and bool(message.tool_calls)
