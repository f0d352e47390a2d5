"""Server-sent events without I/O: bytes in, events out, whatever way the bytes are cut.

Follows the event stream part of the HTML standard (WHATWG), on bytes: only CR, LF and CRLF end a line,
so U+2028 inside JSON stays what it is. What the standard leaves to the reader is bounded here.
"""

from __future__ import annotations

from typing import NamedTuple

MAX_EVENT = 1 << 20
"""Largest line and largest event in bytes."""

_BOM = b"\xef\xbb\xbf"
_FIELDS = frozenset((b"data", b"event", b"id", b"retry"))


class Event(NamedTuple):
    """One event: `data` as bytes (several data lines joined by LF), `name` "" when it had none."""

    data: bytes
    name: str = ""
    id: str = ""


class TooLarge(ValueError):
    """A line or an event over the limit."""


class Decoder:
    """Reads one event stream.

    `stray` collects lines that belong to no event stream (at most one event's worth): an upstream that
    answers with plain JSON or HTML under the wrong content type can be understood from it.
    """

    def __init__(self, max_event: int = MAX_EVENT) -> None:
        self.stray = b""
        self._max = max_event
        self._tail = bytearray()  # an unfinished line
        self._started = False
        self._after_cr = False  # the last byte was CR: an LF that follows belongs to it
        self._data: list[bytes] = []
        self._size = 0
        self._name = ""
        self._id = ""

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes, in order. Raises `TooLarge`."""
        if self._after_cr and data:
            self._after_cr = False
            if data[0] == 10:
                data = data[1:]
        if not data:
            return []
        if b"\n" not in data and b"\r" not in data:
            self._keep(data)
            return []
        self._after_cr = data[-1] == 13
        lines = (bytes(self._tail) + data).splitlines() if self._tail else data.splitlines()
        self._tail.clear()
        if data[-1] not in (10, 13):
            self._keep(lines.pop())
        if not self._started:
            self._started = True
            lines[0] = lines[0].removeprefix(_BOM)
        events: list[Event] = []
        for line in lines:
            self._line(line, events)
        return events

    def close(self) -> list[Event]:
        """What an end of the body leaves: the last event, when only its blank line is missing."""
        events: list[Event] = []
        if self._tail:
            line, self._tail = bytes(self._tail), bytearray()
            self._line(line, events)
        self._dispatch(events)
        return events

    def _keep(self, data: bytes) -> None:
        if len(self._tail) + len(data) > self._max:
            raise TooLarge(f"a line of the event stream is longer than {self._max} bytes")
        self._tail += data

    def _line(self, line: bytes, events: list[Event]) -> None:
        if line.startswith(b"data:"):
            self._add(line, line[6:] if line[5:6] == b" " else line[5:])
        elif not line:
            self._dispatch(events)
        elif line[0] != 58:  # a colon begins a comment
            self._field(line)

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"event":
            self._name = value.decode("utf-8", "replace")
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        elif name == b"data":
            self._add(line, b"")
        elif name not in _FIELDS and len(self.stray) + len(line) < self._max:
            self.stray += line + b"\n"

    def _add(self, line: bytes, data: bytes) -> None:
        self._size += len(line)
        if self._size > self._max:
            raise TooLarge(f"an event is larger than {self._max} bytes")
        self._data.append(data)

    def _dispatch(self, events: list[Event]) -> None:
        if self._data:
            data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            events.append(Event(data, self._name, self._id))
            self._data = []
            self._size = 0
        self._name = ""


def encode(data: bytes) -> bytes:
    """`data`, one line, as an event without a name."""
    return b"data: " + data + b"\n\n"


def comment(text: str) -> bytes:
    """`text` as a comment: readers skip it, and it keeps a quiet connection alive."""
    return b": " + text.replace("\r", " ").replace("\n", " ").encode() + b"\n\n"
