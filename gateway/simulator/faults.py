"""What each kind of fault does to an answer: pure functions from a reply to the steps that are played.

Rule of this file: one function a kind, found in `PLAYS`; it may know HTTP framing, never a socket or a
provider. `kinds.py` has the names and the words.
"""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct
from msgspec.structs import replace

from .http import CHUNKED, LAST_CHUNK, End, Step, chunk, head, length, steps_of
from .script import Fault
from .wire import Frame, Rejected, Reply, StandIn

HTML = (
    b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head>"
    b"<body><center><h1>502 Bad Gateway</h1></center><hr><center>cloud</center></body></html>\n"
)
EARLY_HINT = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n"
CLOSE = ("connection", "close")


class Scene(Struct, frozen=True):
    """One fault to play.

    reply    the unharmed answer, without its first delay, which is `delay` (seconds)
    render   the same answer rendered as a stream (True) or as one document (False)
    problem  the native error that goes with the fault, and error the response that carries it
    """

    fault: Fault
    stand_in: StandIn
    reply: Reply
    render: Callable[[bool], Reply]
    problem: Rejected
    error: Reply
    delay: float = 0.0

    def parts(self) -> list[Frame]:
        """The frames of the answer; a document counts as two content events, its halves."""
        if self.reply.frames is not None:
            return self.reply.frames
        middle = len(self.reply.body) // 2
        return [Frame(self.reply.body[:middle], content=True), Frame(self.reply.body[middle:], content=True)]

    def before(self, default: int = 1) -> list[bytes]:
        """What is sent unharmed: everything up to and with the N-th content event."""
        wanted = default if self.fault.events is None else self.fault.events
        frames = self.parts()
        if wanted <= 0:
            preamble = itertools.takewhile(lambda frame: not frame.content, frames)
            return [frame.data for frame in preamble] if self.fault.preamble else []
        contents = [at for at, frame in enumerate(frames) if frame.content][:wanted]
        return [frame.data for frame in frames[: contents[-1] + 1]] if contents else []

    def after(self, default: int = 1) -> list[bytes]:
        """The rest of the unharmed answer."""
        return [frame.data for frame in self.parts()][len(self.before(default)) :]

    def head(self, *framing: tuple[str, str]) -> bytes:
        return head(self.reply, *framing)


Play = Callable[[Scene], Iterable[Step]]


def play(scene: Scene) -> Iterable[Step]:
    """The steps of a fault. The delays of its turn come first: a slow provider can also break."""
    steps = PLAYS[scene.fault.kind](scene)
    return itertools.chain((scene.delay,), steps) if scene.delay else steps


# --- an answer of its own -------------------------------------------------------------------------------


def _status(scene: Scene) -> Iterable[Step]:
    return steps_of(scene.error)


def _error_200(scene: Scene) -> Iterable[Step]:
    return [head(scene.error, length(len(scene.error.body)), status=200), scene.error.body]


def _empty(scene: Scene) -> Iterable[Step]:
    return [scene.head(length(0))]


def _redirect(scene: Scene) -> Iterable[Step]:
    reply = Reply(status=307, headers=(("location", scene.fault.location), *scene.fault.headers.items()))
    return [head(reply, length(0))]


# --- the connection -------------------------------------------------------------------------------------


def _ends(how: End) -> Play:
    return lambda scene: iter((how,))


def _stall_headers(scene: Scene) -> Iterable[Step]:
    framing = CHUNKED if scene.reply.frames is not None else length(len(scene.reply.body))
    return iter((scene.head(framing), End.STALL))


def _cut(how: End) -> Play:
    def steps(scene: Scene) -> Iterator[Step]:
        if scene.reply.frames is None:
            yield scene.head(length(len(scene.reply.body)))
            yield b"".join(scene.before())
        else:
            yield scene.head(CHUNKED)
            yield from _spaced(scene, [chunk(data) for data in scene.before()])
        yield how

    return steps


def _spaced(scene: Scene, pieces: list[bytes]) -> Iterator[Step]:
    for piece in pieces:
        yield piece
        if scene.reply.between:
            yield scene.reply.between


# --- HTTP that is not HTTP ------------------------------------------------------------------------------


def _says(data: bytes) -> Play:
    return lambda scene: iter((data, End.CLOSE))


def _big_header(scene: Scene) -> Iterable[Step]:
    padding = ("x-padding", "x" * (scene.fault.size or 200 * 1024))
    return steps_of(replace(scene.reply, headers=(*scene.reply.headers, padding)))


def _two_lengths(scene: Scene) -> Iterable[Step]:
    body = scene.render(False).body
    return iter((scene.head(length(len(body)), length(len(body) + 7)) + body, End.CLOSE))


def _bad_chunk(scene: Scene) -> Iterator[Step]:
    yield scene.head(CHUNKED)
    yield from map(chunk, scene.before())
    yield b"zz\r\nnot a chunk\r\n"
    yield End.CLOSE


def _early_hints(scene: Scene) -> Iterator[Step]:
    for _ in range(50 if scene.fault.count is None else scene.fault.count):
        yield EARLY_HINT
    yield from steps_of(scene.reply)


def _whole(scene: Scene) -> bytes:
    return b"".join(frame.data for frame in scene.parts())


def _length_too_large(scene: Scene) -> Iterable[Step]:
    body = _whole(scene)
    return iter((scene.head(length(len(body) + 100)) + body, End.CLOSE))


def _length_too_small(scene: Scene) -> Iterable[Step]:
    body = _whole(scene)
    return iter((scene.head(length(len(body) // 2)) + body, End.CLOSE))


def _eof_cut(scene: Scene) -> Iterator[Step]:
    yield scene.head(CLOSE)
    yield from scene.before()
    yield End.CLOSE


# --- content that is not what was asked for -------------------------------------------------------------


def _html_200(scene: Scene) -> Iterable[Step]:
    reply = Reply(headers=(("content-type", "text/html; charset=utf-8"),))
    return [head(reply, length(len(HTML))), HTML]


def _json_on_stream(scene: Scene) -> Iterable[Step]:
    return steps_of(scene.render(False))


def _sse_on_json(scene: Scene) -> Iterable[Step]:
    return steps_of(scene.render(True))


def _encoded(scene: Scene, encoding: str, body: bytes) -> Iterable[Step]:
    return [scene.head(("content-encoding", encoding), length(len(body))), body]


def _gzip_bomb(scene: Scene) -> Iterable[Step]:
    size = scene.fault.size or 64 * 2**20
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = b" " * 2**20
    packed = [packer.compress(block[: min(len(block), size - at)]) for at in range(0, size, len(block))]
    return _encoded(scene, "gzip", b"".join((*packed, packer.flush())))


def _bad_gzip(scene: Scene) -> Iterable[Step]:
    return _encoded(scene, "gzip", gzip.compress(_whole(scene))[:10] + b"this is not deflate")


def _unknown_encoding(scene: Scene) -> Iterable[Step]:
    return _encoded(scene, "sparkle", _whole(scene))


# --- the stream itself ----------------------------------------------------------------------------------


def _chunked(scene: Scene, pieces: Iterable[bytes]) -> Iterable[Step]:
    """A well-framed chunked answer of these pieces, with the pauses of the turn."""
    steps: list[bytes] = [scene.head(CHUNKED), *map(chunk, pieces), LAST_CHUNK]
    return _spaced(scene, steps) if scene.reply.between else steps


def _error_event(scene: Scene) -> Iterable[Step]:
    if scene.reply.frames is None:
        return _error_200(scene)
    return _chunked(scene, [*scene.before(0), scene.stand_in.error_event(scene.problem)])


def _clean_cut(scene: Scene) -> Iterable[Step]:
    return _chunked(scene, scene.before())


def _no_terminator(scene: Scene) -> Iterable[Step]:
    if scene.reply.frames is None:
        return _chunked(scene, scene.before())
    return _chunked(scene, [frame.data for frame in scene.reply.frames if not frame.end])


def _in_the_middle(make: Callable[[Scene], bytes]) -> Play:
    """N content events, the strange event, then the rest. A document becomes the strange event alone."""

    def steps(scene: Scene) -> Iterable[Step]:
        if scene.reply.frames is None:
            return _chunked(scene, [*scene.before(), make(scene)])
        return _chunked(scene, [*scene.before(), make(scene), *scene.after()])

    return steps


def _at_the_end(make: Callable[[Scene], bytes]) -> Play:
    return lambda scene: _chunked(scene, [*scene.before(), make(scene)])


def _event(payload: bytes) -> Callable[[Scene], bytes]:
    return lambda scene: scene.stand_in.event(payload) if scene.reply.frames is not None else payload


def _cut_json(scene: Scene) -> bytes:
    return scene.stand_in.event(b'{"id":"cut","choices":[{"ind').rstrip(b"\r\n")


def _half_character(scene: Scene) -> bytes:
    return scene.stand_in.event(b'{"text":"gr\xc3').rstrip(b"\r\n")


def _oversized(scene: Scene) -> bytes:
    size = scene.fault.size or 2 * 2**20
    return _event(b'{"type":"padding","padding":"' + b"x" * size + b'"}')(scene)


def _drip_comments(scene: Scene) -> Iterator[Step]:
    ping = scene.stand_in.ping() if scene.reply.frames is not None else b"\n"
    yield scene.head(CHUNKED)
    yield from map(chunk, scene.before(0))
    for _ in itertools.count() if scene.fault.count is None else range(scene.fault.count):
        yield scene.fault.every
        yield chunk(ping)
    yield from map(chunk, scene.after(0))
    yield LAST_CHUNK


def _bytewise(pause: bool) -> Play:
    def steps(scene: Scene) -> Iterator[Step]:
        for whole in steps_of(replace(scene.reply, between=0.0)):
            assert isinstance(whole, bytes)
            for at in range(len(whole)):
                yield whole[at : at + 1]
                if pause:
                    yield scene.fault.every

    return steps


def _endless(scene: Scene) -> Iterator[Step]:
    contents = [frame for frame in scene.parts() if frame.content]
    yield scene.head(CHUNKED)
    yield from map(chunk, scene.before())
    while contents:
        yield chunk(contents[0].data)
        if scene.reply.between:
            yield scene.reply.between


def _double_terminator(scene: Scene) -> Iterable[Step]:
    twice = [frame.data for frame in scene.parts() if frame.end] or [_whole(scene)]
    return _chunked(scene, [*(frame.data for frame in scene.parts()), *twice])


def _after_terminator(scene: Scene) -> Iterable[Step]:
    more = [frame.data for frame in scene.parts() if frame.content][:2]
    return _chunked(scene, [*(frame.data for frame in scene.parts()), *more])


def _close_idle(scene: Scene) -> Iterator[Step]:
    yield from steps_of(scene.reply)
    yield End.CLOSE


PLAYS: dict[str, Play] = {
    "status": _status,
    "error_200": _error_200,
    "empty": _empty,
    "redirect": _redirect,
    "accept_close": _ends(End.CLOSE),
    "close": _ends(End.CLOSE),
    "reset": _ends(End.RESET),
    "stall": _ends(End.STALL),
    "stall_headers": _stall_headers,
    "stall_after": _cut(End.STALL),
    "reset_after": _cut(End.RESET),
    "close_after": _cut(End.CLOSE),
    "garbage_status": _says(b"HTTP/1.1 abc Nonsense\r\n\r\n"),
    "partial_status": _says(b"HTTP/1.1 20"),
    "http09": _says(HTML),
    "big_header": _big_header,
    "two_lengths": _two_lengths,
    "bad_chunk": _bad_chunk,
    "early_hints": _early_hints,
    "length_too_large": _length_too_large,
    "length_too_small": _length_too_small,
    "eof_cut": _eof_cut,
    "html_200": _html_200,
    "json_on_stream": _json_on_stream,
    "sse_on_json": _sse_on_json,
    "gzip_bomb": _gzip_bomb,
    "bad_gzip": _bad_gzip,
    "unknown_encoding": _unknown_encoding,
    "error_event": _error_event,
    "clean_cut": _clean_cut,
    "no_terminator": _no_terminator,
    "malformed_event": _in_the_middle(_event(b'{"id": "broken", "choices": [}')),
    "cut_json": _at_the_end(_cut_json),
    "invalid_utf8": _in_the_middle(_event(b'{"text":"\xff\xfe\xc3("}')),
    "half_character": _at_the_end(_half_character),
    "oversized_event": _in_the_middle(_oversized),
    "unknown_event": _in_the_middle(lambda scene: scene.stand_in.unknown_event()),
    "empty_data": _in_the_middle(_event(b"")),
    "drip_comments": _drip_comments,
    "drip_bytes": _bytewise(pause=True),
    "one_byte": _bytewise(pause=False),
    "endless": _endless,
    "double_terminator": _double_terminator,
    "after_terminator": _after_terminator,
    "close_idle": _close_idle,
}
