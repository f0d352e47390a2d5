"""Every kind of fault, as a raw socket client sees it."""

from __future__ import annotations

import asyncio
import json
import zlib

import pytest

from gateway.simulator import FAULTS, Fault, Turn
from gateway.simulator.faults import PLAYS

from .conftest import request

TURN = Turn(text="one two three", pieces=["one ", "two ", "three"])
PROVIDERS = ("openai", "anthropic", "gemini", "qwen")
ENDS = {
    "openai": b"[DONE]",
    "anthropic": b"message_stop",
    "gemini": b'"finishReason"',
    "qwen": b'"finish_reason":"stop"',
}
ERRORS = {
    "openai": b'{"error":',
    "anthropic": b'event: error\ndata: {"type":"error"',
    "gemini": b'{"error":',
    "qwen": b'event:error\n:HTTP_STATUS/500\ndata:{"code":"InternalError"',
}
PINGS = {"anthropic": b"event: ping", "qwen": b":heartbeat"}


def complaint(provider, body):
    """The message of a native error body."""
    value = json.loads(body)
    return value["message"] if provider == "qwen" else value["error"]["message"]


def test_every_kind_has_words_and_a_play():
    assert list(FAULTS) == list(PLAYS)


def test_an_unknown_kind_is_refused_at_once():
    with pytest.raises(ValueError, match="unknown fault kind 'sparkle'"):
        Fault(kind="sparkle")


@pytest.fixture(params=PROVIDERS)
def provider(request):
    return request.param


@pytest.fixture
def play(sim, connect, provider):
    """Script a fault, send one request, return the raw connection."""

    async def one(kind, *, stream=True, **how):
        sim.script(provider, Fault(kind=kind, turn=how.pop("turn", TURN), **how))
        raw = await connect()
        raw.send(request(provider, stream=stream))
        return raw

    return one


@pytest.fixture
def whole(play):
    """The same, and read the response as well-framed HTTP."""

    async def one(kind, **how):
        return await (await play(kind, **how)).response()

    return one


# --- an answer of its own ---------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503, 504, 529, 599])
async def test_status_has_the_native_body(whole, provider, status):
    got, headers, body = await whole("status", status=status, headers={"Retry-After": "2.5"}, message="m")
    assert got == status
    assert headers["retry-after"] == "2.5"
    assert headers["content-type"].startswith("application/json")
    assert complaint(provider, body) == "m"


@pytest.mark.parametrize(("status", "mark"), [(429, b"rate_limit"), (503, b"overloaded")])
async def test_status_alone_has_what_goes_with_it(sim, connect, status, mark):
    for name in ("openai", "anthropic", "gemini"):
        sim.script(name, Fault(status=status, message="m" if name == "openai" else None))
        raw = await connect()
        raw.send(request(name))
        got, _, body = await raw.response()
        assert got == status
        assert mark in body or (name, status) in (("gemini", 429), ("anthropic", 503))


async def test_status_with_a_verbatim_body(whole):
    got, headers, body = await whole("status", status=502, body="<html>", content_type="text/html")
    assert (got, headers["content-type"], body) == (502, "text/html", b"<html>")
    _, _, body = await whole("status", status=500, body=b"x" * 10_000_000)
    assert len(body) == 10_000_000
    _, _, body = await whole("status", status=500, body=[{"error": 1}])
    assert body == b'[{"error":1}]'


async def test_error_200_empty_redirect_and_html(whole, provider):
    status, _, body = await whole("error_200", message="m")
    assert (status, complaint(provider, body)) == (200, "m")
    assert (await whole("empty"))[::2] == (200, b"")
    status, headers, _ = await whole("redirect", location="http://127.0.0.1:9/x")
    assert (status, headers["location"]) == (307, "http://127.0.0.1:9/x")
    status, headers, body = await whole("html_200")
    assert (status, headers["content-type"][:9], body[:9]) == (200, "text/html", b"<!DOCTYPE")


async def test_wrong_content_type_for_the_request(whole):
    _, headers, body = await whole("json_on_stream", stream=True)
    assert headers["content-type"].startswith("application/json")
    assert b"one two three" in body
    _, headers, body = await whole("sse_on_json", stream=False)
    assert headers["content-type"].startswith("text/event-stream")
    assert b"data:" in body


# --- the connection ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "reset"), [("close", False), ("reset", True)])
async def test_gone_before_any_byte(play, kind, reset):
    raw = await play(kind)
    assert await raw.rest() == b""
    assert (raw.error is not None) is reset


async def test_closed_before_the_body_was_read(sim, connect, provider):
    sim.script(provider, Fault(kind="accept_close"))
    raw = await connect()
    raw.send(request(provider).partition(b"\r\n")[0] + b"\r\nhost: x\r\nx-more: 1\r\n")
    assert await raw.rest() == b""
    assert [call.body for call in sim.calls(provider)] == [b""]
    assert sim.calls(provider)[0].finished_at


@pytest.mark.parametrize("reset", [False, True])
async def test_refused_connections(sim, connect, reset):
    sim.refuse(2, reset=reset)
    for _ in range(2):
        raw = await connect()
        assert await raw.rest() == b""
        assert (raw.error is not None) is reset
    raw = await connect()
    raw.send(request("openai"))
    assert (await raw.response())[0] == 200


async def test_stalls(play, provider):
    assert await (await play("stall")).silent()
    raw = await play("stall_headers")
    assert b" 200 " in await raw.until(b"\r\n\r\n")
    assert await raw.silent()
    raw = await play("stall_after", events=2)
    await raw.until(b"two ")
    await raw.until(b"\r\n\r\n\r\n" if provider == "gemini" else b"\n\n\r\n")
    assert await raw.silent()


@pytest.mark.parametrize(("kind", "reset"), [("reset_after", True), ("close_after", False)])
async def test_cut_after_content(play, kind, reset):
    raw = await play(kind, events=2)
    data = await raw.rest()
    assert b"two " in data
    assert b"three" not in data
    assert not data.endswith(b"0\r\n\r\n")
    assert (raw.error is not None) is reset


async def test_cut_document(play):
    raw = await play("close_after", stream=False)
    head, _, body = (await raw.rest()).partition(b"\r\n\r\n")
    promised = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    assert 0 < len(body) < promised


async def test_preamble_alone(play, provider):
    data = await (await play("close_after", events=0, preamble=True)).rest()
    assert b"one" not in data
    assert {"openai": b'"role":"assistant"', "anthropic": b"message_start"}.get(provider, b"") in data


# --- HTTP that is not HTTP --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "start"),
    [("garbage_status", b"HTTP/1.1 abc"), ("partial_status", b"HTTP/1.1 20"), ("http09", b"<!DOCTYPE")],
)
async def test_nonsense(play, kind, start):
    assert (await (await play(kind)).rest()).startswith(start)


async def test_framing_faults(play):
    raw = await play("big_header", size=100_000)
    status, headers, _ = await raw.response()
    assert (status, len(headers["x-padding"])) == (200, 100_000)
    data = await (await play("two_lengths")).rest()
    assert data.lower().count(b"content-length:") == 2
    data = await (await play("bad_chunk")).rest()
    assert b"one" in data
    assert data.endswith(b"zz\r\nnot a chunk\r\n")
    raw = await play("early_hints", count=3)
    for _ in range(3):
        assert (await raw.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 103 ")
    assert (await raw.response())[0] == 200


@pytest.mark.parametrize("stream", [True, False])
async def test_lying_lengths(play, stream, provider):
    for kind, right in (("length_too_large", 1), ("length_too_small", -1)):
        head, _, body = (await (await play(kind, stream=stream)).rest()).partition(b"\r\n\r\n")
        promised = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        assert (promised > len(body)) == (right > 0)
        assert b"three" in body
        assert ENDS[provider] in body or not stream


async def test_end_of_file_as_end_of_body(play):
    head, _, body = (await (await play("eof_cut")).rest()).partition(b"\r\n\r\n")
    assert b"content-length" not in head
    assert b"transfer-encoding" not in head
    assert b"one" in body
    assert b"two" not in body


# --- encodings --------------------------------------------------------------------------------------------


async def test_encodings(whole):
    _, headers, body = await whole("gzip_bomb", size=4 * 2**20)
    assert headers["content-encoding"] == "gzip"
    assert len(body) < 10_000
    assert len(zlib.decompress(body, 31)) == 4 * 2**20
    _, headers, body = await whole("bad_gzip")
    with pytest.raises(zlib.error):
        zlib.decompress(body, 31)
    _, headers, _ = await whole("unknown_encoding")
    assert headers["content-encoding"] == "sparkle"


# --- the stream -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("events", [0, 2])
async def test_error_event(whole, provider, events):
    status, _, body = await whole("error_event", status=500, events=events, message="m")
    assert status == 200
    assert body.rstrip().endswith(b"}")
    assert ERRORS[provider] in body
    assert (b"two" in body) is (events == 2)
    assert body.partition(ERRORS[provider])[0].count(b"data:") >= events


async def test_ends_that_are_none(whole, provider):
    _, _, body = await whole("clean_cut")
    assert b"one" in body
    assert b"two" not in body
    _, _, body = await whole("no_terminator")
    assert b"three" in body
    assert ENDS[provider] not in body


async def test_no_terminator_keeps_the_finish_reason(sim, connect):
    for provider, finish in (
        ("openai", b'"finish_reason":"stop"'),
        ("anthropic", b'"stop_reason":"end_turn"'),
    ):
        sim.script(provider, Fault(kind="no_terminator", turn=TURN))
        raw = await connect()
        raw.send(request(provider, stream=True))
        assert finish in (await raw.response())[2]


IN_THE_MIDDLE = {
    "malformed_event": b'{"id": "broken", "choices": [}',
    "invalid_utf8": b"\xff\xfe",
    "oversized_event": b"x" * 70_000,
    "unknown_event": b"sparkle",
    "empty_data": b"data: \n",
}


@pytest.mark.parametrize("kind", IN_THE_MIDDLE)
async def test_strange_event_in_the_middle(whole, provider, kind):
    _, _, body = await whole(kind, size=70_000)
    mark = IN_THE_MIDDLE[kind]
    if provider == "gemini":
        mark = mark.replace(b"\n", b"\r\n")
    if provider == "qwen":
        mark = mark.replace(b": \n", b":\n")
    before, _, after = body.partition(mark)
    assert b"one" in before
    assert b"two" not in before
    assert b"three" in after
    assert ENDS[provider] in after


@pytest.mark.parametrize("kind", ["cut_json", "half_character"])
async def test_event_that_is_cut(whole, kind):
    _, _, body = await whole(kind)
    assert not body.endswith(b"\n")
    assert b"one" in body
    if kind == "half_character":
        with pytest.raises(UnicodeDecodeError):
            body.decode()


async def test_drips(whole, provider):
    _, _, body = await whole("drip_comments", count=3, every=0.001)
    ping = PINGS.get(provider, b": keep-alive")
    before = body.partition(b"one")[0]
    assert before.count(ping) >= 3
    assert ENDS[provider] in body
    for kind in ("drip_bytes", "one_byte"):
        _, _, body = await whole(kind, every=0.0)
        assert ENDS[provider] in body


async def test_drip_without_end_and_endless_stream(sim, play, provider):
    raw = await play("drip_comments", every=0.001)
    for _ in range(5):
        await raw.until(PINGS.get(provider, b"keep-alive"))
    raw.writer.close()
    raw = await play("endless")
    for _ in range(50):
        await raw.until(b"one ")
    raw.writer.close()
    call = await sim.wait_closed(provider)
    assert call.peer_closed_at


async def test_endless_stream_waits_for_a_slow_reader(sim, play, provider):
    """Backpressure: what was sent stays where the peer stopped reading."""
    raw = await play("endless")
    raw.writer.transport.pause_reading()
    call = (await sim.wait_calls(provider))[0]
    before = -1
    while before != call.bytes_sent:
        before = call.bytes_sent
        await asyncio.sleep(0.03)
    assert 0 < before < 64 * 2**20
    raw.writer.transport.abort()
    await sim.wait_closed(provider)


async def test_too_many_ends(whole, provider):
    _, _, body = await whole("double_terminator")
    assert body.count(ENDS[provider]) >= 2
    _, _, body = await whole("after_terminator")
    assert b"one" in body.rpartition(ENDS[provider])[2]


async def test_closing_an_idle_connection(play):
    raw = await play("close_idle", stream=False)
    status, headers, _ = await raw.response()
    assert status == 200
    assert headers.get("connection") != "close"
    assert await raw.rest() == b""


@pytest.mark.parametrize("kind", FAULTS)
async def test_every_kind_works_on_a_document(sim, play, provider, kind):
    """No fault needs a stream, and none outlives its peer."""
    raw = await play(kind, stream=False, every=0.0, size=70_000)
    await sim.wait_calls(provider)
    raw.writer.close()
    call = await sim.wait_closed(provider)
    assert call.finished_at or call.peer_closed_at


# --- steps ------------------------------------------------------------------------------------------------


async def test_steps_are_taken_one_a_call_and_not_by_refused_requests(sim, ask):
    sim.script("openai", Fault(status=503), Turn(text="second"))
    assert (await ask("openai", body={"model": "nope", "messages": []}))[0] == 404
    assert (await ask("openai"))[0] == 503
    assert b"second" in (await ask("openai"))[2]
    assert b"You said: Hello" in (await ask("openai"))[2]
    assert [bool(call.rejected) for call in sim.calls("openai")] == [True, False, False, False]


async def test_standing_step_and_other_operations(sim, connect):
    sim.always("gemini", Fault(status=500))
    sim.script("openai", Fault(status=500), on="models")
    raw = await connect()
    for _ in range(2):
        raw.send(request("gemini"))
        assert (await raw.response())[0] == 500
    for status in (500, 200):
        raw.send(b"GET /openai/v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sim-key\r\n\r\n")
        assert (await raw.response())[0] == status
    sim.always("gemini", None)
    raw.send(request("gemini"))
    assert (await raw.response())[0] == 200


async def test_delays_come_before_the_first_byte_and_between_events(sim, connect):
    sim.script("openai", Turn(text="a", delay_first=0.02), Fault(kind="close", turn=Turn(delay_first=0.02)))
    for _ in range(2):
        raw = await connect()
        raw.send(request("openai"))
        assert await raw.silent(0.005)
    sim.script("openai", *(Turn(text="a", delay_first=0.02, headers_first=True),) * 2)
    for stream in (False, True):
        raw = await connect()
        raw.send(request("openai", stream=stream))
        await raw.until(b"\r\n\r\n")
        assert await raw.silent(0.005)
        assert sim.connections >= 1
    sim.script("openai", Turn(text="ab", pieces=1, delay_between=0.02))
    raw = await connect()
    raw.send(request("openai", stream=True))
    await raw.until(b'"content":"a"')
    await raw.until(b"\r\n")
    assert await raw.silent(0.005)
