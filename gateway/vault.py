"""What a turn of the model carries and OpenAI's clients do not bring back, kept for the next turn.

Thinking blocks, signatures, reasoning: what an API wants back stands in its provider's record (`carries`);
where it travels in a message stands in `KINDS`. Only the keeping lives here: the vault itself (pure, with
the clock as an argument) and the layer that fills it and reads it. Nothing of it is logged or written down,
and state goes back to the target that made it and to no other.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from sys import getsizeof
from typing import TypeAlias

import msgspec
from msgspec import Raw, Struct

from .chat import AssistantMessage, ChatRequest, Chunk, Json, Message, ToolCallDelta, fold_tool_calls
from .exchange import Exchange, Open, Target
from .turns import (
    KINDS,
    SIGNATURE,
    SILENCE,
    UNREADABLE,
    Thread,
    Turn,
    Written,
    call_key,
    canonical,
    digest,
    raw_of,
    text_digest,
    turn_key,
)

MAX_WATCHED = 16 << 20
"""Characters of one answer that are remembered until it is whole; a longer one is not kept."""
SHARE = 16
"""An entry may take this part of the vault at most: no answer pushes out all the others."""
OVERHEAD, KEY = 1024, 1024
"""Bytes that an entry costs beside its state, and that each of its keys does: rather too many."""
PIECE = 256
"""The same for each piece of a call that is held until the answer is whole."""


# ── the vault ──────────────────────────────────────────────────────────────────────────────────────────


class Entry(Struct, frozen=True):
    """The state of one turn.

    `state` is by kind, as JSON; `calls` are the signatures, None for a call without one, by a digest of all
    that the call says. `keys` are what the turn is found by, `said` is a digest of its text, `after` of all
    that it answered. `spelled` is what it has learned: how the arguments of a call were written last.
    """

    target: Target
    keys: tuple[bytes, ...]
    said: bytes
    after: bytes
    state: dict[str, Raw]
    calls: dict[bytes, Raw | None]
    spelled: dict[bytes, tuple[int, bytes]] = msgspec.field(default_factory=dict)

    @property
    def size(self) -> int:
        """About what it takes in memory, in bytes."""
        held = sum(len(bytes(raw)) for raw in (*self.state.values(), *self.calls.values()) if raw is not None)
        names = getsizeof(self.target.provider) + getsizeof(self.target.model) + sum(map(len, self.calls))
        return held + names + OVERHEAD + KEY * len(self.keys)

    def call(self, key: bytes, arguments: str) -> bytes | None:
        """Which of its calls this is, by `key` and arguments; None for one that it did not make.

        Arguments are read only when they are written in another way than the last time: all turns of a
        long conversation come back with every request.
        """
        written = hash(arguments)
        before, made = self.spelled.get(key, (None, b""))
        if before != written:
            made = digest(key, canonical(arguments))
            self.spelled[key] = (written, made)
        return made if made in self.calls else None


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


# ── on the way in ──────────────────────────────────────────────────────────────────────────────────────

_Found: TypeAlias = tuple[Entry | None, bytes]
"""The entry of a call, and which of its calls it is."""


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
        knows = self._vault.entries > 0
        messages = [self._next(i, m, knows=knows) for i, m in enumerate(self._request.messages)]
        if not self._is_changed:
            return self._request
        wire = {**self._request.wire, "messages": raw_of(self._raws)}
        return msgspec.structs.replace(self._request, messages=messages, wire=wire)

    def _next(self, place: int, message: Message, *, knows: bool) -> Message:
        if not isinstance(message, AssistantMessage):
            self.thread.add(message)
            return message
        turn = Turn(message)
        if knows:
            turn.message = self._turn(place, turn)
        self.thread.add(turn)
        return turn.message

    def _turn(self, place: int, turn: Turn) -> AssistantMessage:
        found = self._found(turn)
        known = [entry for entry, _ in found if entry is not None]
        if not known:
            return turn.message
        try:
            said = Written(self._raw(place))
            is_foreign = any(entry.target != self.target for entry in known)
            is_stripped = is_foreign and said.strip()
            signed = self._signatures(said, found)
            whole = known[0]
            is_whole = not is_foreign and len(known) == len(found) and all(e is whole for e in known)
            thought = self._whole(said, whole) if is_whole else {}
        except UNREADABLE:
            return turn.message
        if not (is_stripped or signed or thought):
            return turn.message
        said.fields |= thought
        for call, raw in signed:
            call[SIGNATURE] = raw
        self._is_changed = True
        self._raws[place] = said.raw()
        return said.typed(turn.message)

    def _found(self, turn: Turn) -> list[_Found]:
        """The entry of each call; of a turn without any, the one of its place in the conversation."""
        calls = turn.calls()
        if not calls:
            return [(self._vault.find(turn_key(self.thread, turn.said)), b"")]
        found: list[_Found] = []
        seen: set[bytes] = set()
        for call in calls:
            entry, made = self._found_call(turn, *call)
            is_new = made not in seen  # of two calls that say the same, one is of a turn that we do not know
            found.append((entry, made) if is_new else (None, b""))
            seen.add(made)
        return found

    def _found_call(self, turn: Turn, call_id: str, name: str, arguments: str) -> _Found:
        key = call_key(self.thread, call_id, name)
        entry = self._vault.find(key)
        if entry is None or turn.said not in (SILENCE, entry.said):
            return None, b""
        made = entry.call(key, arguments)
        return (None, b"") if made is None else (entry, made)

    def _signatures(self, said: Written, found: list[_Found]) -> list[tuple[dict[str, Raw], Raw]]:
        """The calls that get their signatures back, with these; none where the client brings any."""
        own = [
            entry.calls.get(made) if entry is not None and entry.target == self.target else None
            for entry, made in found
        ]
        if not any(own) or said.has(KINDS["signatures"]):
            return []
        return [(call, raw) for call, raw in zip(said.calls, own, strict=True) if raw is not None]

    def _whole(self, said: Written, entry: Entry) -> dict[str, Raw]:
        """What belongs to the turn as a whole, by field, once in a request."""
        if entry.keys[0] in self._used or (self._binds and entry.after != self.thread.frame):
            return {}
        fresh = {KINDS[name]: raw for name, raw in entry.state.items() if not said.has(KINDS[name])}
        self._used.add(entry.keys[0])
        return {kind.message[0]: raw for kind, raw in fresh.items()}

    def _raw(self, place: int) -> Raw:
        """The message at `place` as the client sent it."""
        if not self._raws:
            wire = self._request.wire.get("messages")
            encoded = msgspec.json.encode(self._request.messages) if wire is None else wire
            self._raws = msgspec.json.decode(encoded, type=list[Raw])
        return self._raws[place]


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
        self._keeps_signatures = "signatures" in carries
        self._room = MAX_WATCHED
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._deltas: list[ToolCallDelta] = []
        self._lists: dict[str, list[Raw]] = {}
        self._signature: Raw | None = None
        self._mirror()

    def _mirror(self) -> None:
        inner = self._inner
        self.target, self.timings = inner.target, inner.timings
        self.usage, self.dropped, self.limits = inner.usage, inner.dropped, inner.limits

    async def read(self) -> list[Chunk]:
        batch = await self._inner.read()
        self._mirror()
        for chunk in batch:
            if self._room >= 0:
                self._note(chunk)
        return batch

    def _note(self, chunk: Chunk) -> None:
        self._room -= len(chunk.text)
        if chunk.text:
            self._texts.append(chunk.text)
        if chunk.reasoning and self._keeps_thoughts:
            self._thoughts.append(chunk.reasoning)
            self._room -= len(chunk.reasoning)
        for delta in chunk.tool_calls:
            self._note_call(delta)
        for name in self._carries & (chunk.extra or {}).keys():
            self._lists.setdefault(name, []).extend(map(self._taken, (chunk.extra or {})[name]))
        if chunk.extra_content:
            self._signature = self._taken(chunk.extra_content)
        if self._room < 0:
            for held in (self._texts, self._thoughts, self._deltas, self._lists):
                held.clear()
            self._signature = None
        elif chunk.finish_reason is not None:
            self._keep()

    def _note_call(self, delta: ToolCallDelta) -> None:
        self._room -= PIECE + len(delta.id) + len(delta.name) + len(delta.arguments)
        signature = (delta.extra or {}).get(SIGNATURE)
        extra = {SIGNATURE: self._taken(signature)} if signature and self._keeps_signatures else None
        self._deltas.append(msgspec.structs.replace(delta, extra=extra))

    def _taken(self, value: Json) -> Raw:
        raw = raw_of(value)
        self._room -= len(bytes(raw)) + PIECE
        return raw

    def _keep(self) -> None:
        """Puts what there is into the vault. It may happen again, when more comes after the end."""
        state = {name: raw_of(items) for name, items in self._lists.items()}
        if self._thoughts:
            state["reasoning_content"] = raw_of("".join(self._thoughts))
        if self._signature is not None and self._keeps_signatures:
            state["signatures"] = self._signature
        if not state and not any(delta.extra for delta in self._deltas):
            return
        said = text_digest(self._texts)
        calls: dict[bytes, Raw | None] = {}
        spelled: dict[bytes, tuple[int, bytes]] = {}
        for made in fold_tool_calls(self._deltas):
            key = call_key(self._thread, made.id, made.name)
            whole = digest(key, canonical(made.arguments))
            calls.setdefault(whole, (made.extra or {}).get(SIGNATURE))
            spelled[key] = (hash(made.arguments), whole)
        self._vault.put(
            Entry(
                target=self._target_asked,
                keys=tuple(spelled) or (turn_key(self._thread, said),),
                said=said,
                after=self._thread.frame,
                state=state,
                calls=calls,
                spelled=spelled,
            )
        )


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
        sent, target, thread = restoring.request(), restoring.target, restoring.thread
        del restoring  # it holds the messages once more
        async with self._inner(sent) as exchange:
            if request.tools:
                exchange = Watched(exchange, self._vault, target, thread, self._carries)
            yield exchange

    def _restoring(self, request: ChatRequest) -> Restoring:
        target = Target(self._provider, request.model)
        return Restoring(self._vault, target, request, binds=self._binds(request.model))


def _is_plain(request: ChatRequest) -> bool:
    """Whether no tools are in it, neither offered nor called."""
    return not (request.tools or any(map(_calls, request.messages)))


def _calls(message: Message) -> bool:
    return isinstance(message, AssistantMessage) and bool(message.tool_calls)
