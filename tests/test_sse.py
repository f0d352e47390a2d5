"""The event stream decoder against the standard's rules, whatever way the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sse import Decoder, Event, TooLarge, comment, encode


def decode(*pieces: bytes) -> list[Event]:
    decoder = Decoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events + decoder.close()


VECTORS = {  # after the event stream tests of the web platform
    "one": (b"data: a\n\n", [Event(b"a")]),
    "no space": (b"data:a\n\n", [Event(b"a")]),
    "one space only": (b"data:  a\n\n", [Event(b" a")]),
    "two lines": (b"data: a\ndata: b\n\n", [Event(b"a\nb")]),
    "empty data": (b"data:\n\n", [Event(b"")]),
    "data without colon": (b"data\n\n", [Event(b"")]),
    "two empty lines of data": (b"data\ndata\n\n", [Event(b"\n")]),
    "name": (b"event: ping\ndata: a\n\n", [Event(b"a", "ping")]),
    "name is forgotten": (b"event: x\ndata: a\n\ndata: b\n\n", [Event(b"a", "x"), Event(b"b")]),
    "name without data": (b"event: x\n\ndata: b\n\n", [Event(b"b")]),
    "id stays": (b"id: 1\ndata: a\n\ndata: b\n\n", [Event(b"a", "", "1"), Event(b"b", "", "1")]),
    "id with NUL": (b"id: 1\0\ndata: a\n\n", [Event(b"a")]),
    "comment": (b": x\ndata: a\n: y\n\n", [Event(b"a")]),
    "only comments": (b": x\n\n:\n\n", []),
    "retry": (b"retry: 10\ndata: a\n\n", [Event(b"a")]),
    "byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [Event(b"a")]),
    "second mark is no mark": (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
    "unknown field": (b"x: y\ndata: a\n\n", [Event(b"a")]),
    "spaced field is unknown": (b" data: x\ndata: a\n\n", [Event(b"a")]),
    "CRLF": (b"data: a\r\n\r\ndata: b\r\n\r\n", [Event(b"a"), Event(b"b")]),
    "CR": (b"data: a\r\rdata: b\r\r", [Event(b"a"), Event(b"b")]),
    "mixed": (b"data: a\r\ndata: b\rdata: c\n\n", [Event(b"a\nb\nc")]),
    "line separators stay": ("data: a\u2028b\x85\x0c\n\n".encode(), [Event("a\u2028b\x85\x0c".encode())]),
    "last without blank line": (b"data: a\n\ndata: b\n", [Event(b"a"), Event(b"b")]),
    "last without newline": (b"data: a\n\ndata: b", [Event(b"a"), Event(b"b")]),
    "nothing": (b"", []),
}


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_whole_and_byte_by_byte(name: str):
    stream, expected = VECTORS[name]
    assert decode(stream) == expected
    assert decode(*(stream[i : i + 1] for i in range(len(stream)))) == expected


LINES = st.lists(
    st.sampled_from(
        [b"data: ", b"data:", b"event: e", b"id: 7", b": c", b"", b"", "data: ü€😀".encode(), b"x"]
    )
)


@given(LINES, st.sampled_from([b"\n", b"\r\n", b"\r"]), st.lists(st.integers(0, 200)))
def test_the_cut_does_not_matter(lines: list[bytes], newline: bytes, cuts: list[int]):
    """P30: any split of a stream gives the same events."""
    stream = newline.join(lines) + newline
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[a:b] for a, b in pairwise(places)]
    assert decode(*pieces) == decode(stream)


@given(st.lists(st.binary().filter(lambda b: b"\n" not in b and b"\r" not in b)))
def test_what_is_encoded_is_decoded(items: list[bytes]):
    stream = b"".join(encode(item) for item in items)
    assert decode(stream) == [Event(item) for item in items]


def test_comments_cannot_break_out():
    assert decode(comment("a\n\ndata: x\r\rdata: y") + encode(b"z")) == [Event(b"z")]


@pytest.mark.parametrize(
    "pieces",
    [
        [b"data: " + b"x" * 200 + b"\n\n"],
        [b"data: " + b"x" * 60, b"x" * 60],
        [b"data: " + b"x" * 60 + b"\n", b"data: " + b"x" * 60 + b"\n"],
        [b"x" * 101],
        [b"data\n" * 30],
    ],
    ids=["line", "unfinished line", "event of several lines", "no field", "bare fields"],
)
def test_a_line_or_event_over_the_limit_is_refused(pieces: list[bytes]):
    """P34: what a provider sends cannot fill the memory."""
    decoder = Decoder(max_event=100)
    with pytest.raises(TooLarge):
        for piece in pieces:
            decoder.feed(piece)


def test_many_events_under_the_limit_pass():
    decoder = Decoder(max_event=100)
    assert len(decoder.feed(b"data: xxxxxxxxxx\n\n" * 1000)) == 1000


def test_what_is_no_event_stream_is_kept_for_a_look():
    """An error as plain JSON under the wrong type can still be read."""
    decoder = Decoder()
    assert decoder.feed(b'[{\n  "error": {"code": 503}\n') == []
    assert decoder.feed(b"}]") == []
    assert decoder.close() == []
    assert decoder.stray == b'[{\n  "error": {"code": 503}\n}]\n'
