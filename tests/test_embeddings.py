"""Embeddings: what a request may be, how vectors are written, batches that come back whole or not at all."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat import InvalidRequest, Usage
from gateway.embeddings import (
    LARGE,
    MAX_INPUTS,
    Embeddings,
    EmbeddingsRequest,
    batches,
    decode_embeddings,
    from_base64,
    join,
    numbers,
    to_base64,
    vectors_for,
)
from gateway.errors import ErrorKind, GatewayError, UpstreamError
from gateway.exchange import Embedded, Target
from gateway.ingress import embeddings as ingress
from gateway.ingress.embeddings import PIECE, EmbeddingsService, render
from gateway.ingress.service import Limits
from gateway.providers import PROVIDERS
from gateway.providers.base import Embedder, HttpRequest
from gateway.router import Member, Router
from gateway.upstream import Timeouts, Upstream
from gateway.upstream.embed import AT_ONCE

from .fakes import FakeOpen, Reply, ScriptedTransport

JSON = {"content-type": "application/json"}
GEMINI = PROVIDERS["gemini"]


def request(given: Any = "a", model: str = "m", **fields: Any) -> EmbeddingsRequest:
    return decode_embeddings(msgspec.json.encode({"model": model, "input": given, **fields}))


# ── what a client sends ────────────────────────────────────────────────────────────────────────────────

INPUTS: dict[str, tuple[Any, list[Any]]] = {  # a form of `input`, and what is embedded
    "a text": ("a", ["a"]),
    "white space": (" ", [" "]),
    "texts": (["a", "b"], ["a", "b"]),
    "tokens": ([1, 2], [[1, 2]]),
    "lists of tokens": ([[1, 2], [3]], [[1, 2], [3]]),
    "more tokens than inputs": (list(range(MAX_INPUTS + 1)), [list(range(MAX_INPUTS + 1))]),
    "as many as may be": (["x"] * MAX_INPUTS, ["x"] * MAX_INPUTS),
}


@pytest.mark.parametrize("name", INPUTS)
def test_every_form_of_input_is_read(name: str):
    given, inputs = INPUTS[name]
    assert request(given).inputs == inputs


BAD: dict[str, tuple[Any, str | None, str | None]] = {  # body → param, code
    "no model": ({"input": "a"}, "model", "missing_required_parameter"),
    "empty model": ({"model": "", "input": "a"}, "model", "missing_required_parameter"),
    "no input": ({"model": "m"}, "input", "missing_required_parameter"),
    "null": ({"model": "m", "input": None}, "input", "invalid_type"),
    "a number": ({"model": "m", "input": 1}, "input", "invalid_type"),
    "empty text": ({"model": "m", "input": ""}, "input", "invalid_value"),
    "empty list": ({"model": "m", "input": []}, "input", "empty_array"),
    "an empty text": ({"model": "m", "input": ["a", ""]}, "input[1]", "invalid_value"),
    "an empty list": ({"model": "m", "input": [[1], []]}, "input[1]", "empty_array"),
    "mixed": ({"model": "m", "input": ["a", 1]}, "input[1]", "invalid_type"),
    "texts in lists": ({"model": "m", "input": [["a"]]}, "input[0][0]", "invalid_type"),
    "half a token": ({"model": "m", "input": [1.5]}, "input[0]", "invalid_type"),
    "true": ({"model": "m", "input": [True]}, "input[0]", "invalid_type"),
    "below zero": ({"model": "m", "input": [[-1]]}, "input[0][0]", "invalid_value"),
    "too many": ({"model": "m", "input": ["a"] * (MAX_INPUTS + 1)}, "input", "array_above_max_length"),
    "no dimensions": ({"model": "m", "input": "a", "dimensions": 0}, "dimensions", "invalid_value"),
    "a word": ({"model": "m", "input": "a", "dimensions": "8"}, "dimensions", "invalid_type"),
    "a format": ({"model": "m", "input": "a", "encoding_format": "hex"}, "encoding_format", "invalid_value"),
    "no object": ([], None, None),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_name_the_field(name: str):
    body, param, code = BAD[name]
    with pytest.raises(InvalidRequest) as caught:
        decode_embeddings(msgspec.json.encode(body))
    assert (caught.value.param, caught.value.code) == (param, code)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"model":"m","input":' + b"[" * 100_000])
def test_what_is_no_json_is_refused(body: bytes):
    with pytest.raises(InvalidRequest):
        decode_embeddings(body)


def test_the_gateways_own_fields_are_nobody_elses():
    told = request(**{"gateway:strict": True, "gateway:wire": {"model": 1}})
    assert not told.strict
    assert bytes(told.wire["model"]) == b'"m"'


@pytest.mark.parametrize(
    ("count", "most", "sizes"), [(1, 2, [1]), (4, 2, [2, 2]), (5, 2, [2, 2, 1]), (9, None, [9])]
)
def test_batches_keep_the_order(count: int, most: int | None, sizes: list[int]):
    asked = request([str(i) for i in range(count)], dimensions=3, other=1)
    pieces = batches(asked, most)
    assert [len(piece.inputs) for piece in pieces] == sizes
    assert [text for piece in pieces for text in piece.inputs] == asked.inputs
    for piece in pieces:
        assert msgspec.json.decode(piece.wire["input"]) == piece.inputs
        assert (piece.dimensions, bytes(piece.wire["other"])) == (3, b"1")


def test_one_list_of_tokens_is_one_input():
    assert batches(request([1, 2, 3]), 2)[0].inputs == [[1, 2, 3]]


# ── vectors ────────────────────────────────────────────────────────────────────────────────────────────

FLOATS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=50)


@given(FLOATS)
def test_vectors_survive_base64(values: list[float]):
    assert list(from_base64(to_base64(values))) == values


@given(FLOATS)
def test_base64_is_little_endian_32_bit_floats(values: list[float]):
    """Golden case 14: what the SDKs decode is the list of floats."""
    raw = base64.b64decode(to_base64(values), validate=True)
    assert list(struct.unpack(f"<{len(values)}f", raw)) == values


NAN = base64.b64encode(struct.pack("<2f", 1, float("nan"))).decode()
NO_VECTORS: dict[str, Any] = {
    "nothing": [],
    "no base64": "a",
    "not even ASCII": "é",
    "three bytes": "AAAA",
    "empty": "",
}


@pytest.mark.parametrize("form", ["float", "base64"])
@pytest.mark.parametrize("name", NO_VECTORS)
def test_what_is_no_vector_is_refused(name: str, form: str):
    with pytest.raises(msgspec.ValidationError):
        vectors_for(request(encoding_format=form), [NO_VECTORS[name]])


def test_numbers_that_cannot_be_said_are_refused():
    with pytest.raises(msgspec.ValidationError, match="number that is none"):
        vectors_for(request(), [NAN])
    with pytest.raises(msgspec.ValidationError, match="32 bits"):
        vectors_for(request(encoding_format="base64"), [numbers([1e300])])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_every_input_has_its_vector(count: int):
    with pytest.raises(msgspec.ValidationError, match=f"{count} vectors for 2 inputs"):
        vectors_for(request(["a", "b"]), [numbers([1.0])] * count)


@pytest.mark.parametrize("form", [None, "float", "base64"])
def test_a_vector_comes_in_the_form_that_was_asked_for(form: str | None):
    vector = numbers([0.5, -2.0])
    wanted = to_base64(vector) if form == "base64" else vector
    asked = request(["a", "b"], encoding_format=form)
    assert vectors_for(asked, [vector, to_base64(vector)]) == [wanted] * 2


def test_tokens_are_known_when_those_of_every_batch_are():
    known = Embeddings(vectors=["x"], usage=Usage(prompt_tokens=2))
    assert join([known, known]).usage == Usage(prompt_tokens=4)
    assert join([known, Embeddings(vectors=["y"])]).usage is None
    assert join([known, Embeddings(vectors=["y"])]).vectors == ["x", "y"]


async def test_an_answer_is_rendered_as_openai_does():
    """The wire of a same-dialect upstream stays, field by field; what is missing is filled in."""
    usage = Usage(prompt_tokens=3, wire=msgspec.Raw(b'{"prompt_tokens":3,"cost":0.1}'))
    answer = Embeddings(vectors=["AACAPw==", "AAAAQA=="], usage=usage, wire={"id": msgspec.Raw(b'"e-1"')})
    whole = Embedded(target=Target("p", "m"), embeddings=answer)
    assert msgspec.json.decode(b"".join(await render(whole))) == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": "AACAPw=="},
            {"object": "embedding", "index": 1, "embedding": "AAAAQA=="},
        ],
        "model": "m",
        "usage": {"prompt_tokens": 3, "total_tokens": 3, "cost": 0.1},
        "id": "e-1",
    }
    bare = Embedded(
        target=Target("p", "m"), embeddings=Embeddings(vectors=[numbers([1])] * 130, model="said")
    )
    rendered = msgspec.json.decode(b"".join(await render(bare)))
    assert [item["index"] for item in rendered["data"]] == list(range(130))
    assert (rendered["model"], rendered["usage"]) == ("said", {"prompt_tokens": 0, "total_tokens": 0})


# ── one provider, several batches ──────────────────────────────────────────────────────────────────────


class ByText:
    """A transport that answers `batchEmbedContents`: each text is a number, which is its vector.

    `failing` are batches, by their first number, that fail with this error; the others then wait for ever,
    else for `seconds`.
    """

    def __init__(self, failing: Mapping[int, UpstreamError] | None = None, seconds: float = 0) -> None:
        self.failing = dict(failing or {})
        self.seconds = seconds
        self.sent: list[int] = []
        self.under_way = self.most = self.given_up = 0

    async def send(self, http: HttpRequest, _url: str, _headers: Mapping[str, str]) -> Reply:
        texts = [r["content"]["parts"][0]["text"] for r in msgspec.json.decode(http.body)["requests"]]
        first = int(texts[0])
        self.sent.append(first)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if first in self.failing:
                raise self.failing[first]
            await (asyncio.Event().wait() if self.failing else asyncio.sleep(self.seconds))
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        finally:
            self.under_way -= 1
        body = {"embeddings": [{"values": [float(text)]} for text in texts]}
        return Reply([msgspec.json.encode(body)], headers=JSON)

    async def aclose(self) -> None:
        """Nothing is open."""


def numbered(count: int) -> EmbeddingsRequest:
    return request([str(i) for i in range(count)])


async def test_batches_are_a_few_at_a_time_and_in_order():
    transport = ByText()
    up = Upstream("up", GEMINI, transport)
    embedded = await up.embed(numbered(950))
    assert [list(vector) for vector in embedded.embeddings.vectors] == [[float(i)] for i in range(950)]
    assert sorted(transport.sent) == list(range(0, 950, 100))
    assert transport.most == AT_ONCE
    assert (str(embedded.target), embedded.usage, embedded.dropped) == ("up/m", None, ())
    assert (up.answered, up.failed, up.in_flight) == (1, 0, 0)


async def test_one_batch_that_fails_is_the_failure_and_gives_up_the_others():
    transport = ByText({100: UpstreamError(ErrorKind.OVERLOADED, "busy")})
    up = Upstream("up", GEMINI, transport)
    with pytest.raises(UpstreamError) as caught:
        await up.embed(numbered(950))
    assert (caught.value.kind, caught.value.hop, caught.value.message) == (ErrorKind.OVERLOADED, "up", "busy")
    assert transport.given_up == len(transport.sent) - 1
    assert (up.answered, up.failed, up.in_flight) == (0, 1, 0)
    assert up.last_failure is not None


async def test_nobody_is_blamed_when_the_client_leaves():
    transport = ByText({-1: UpstreamError(ErrorKind.RESET, "never")})
    up = Upstream("up", GEMINI, transport)
    task = asyncio.create_task(up.embed(numbered(250)))
    while len(transport.sent) < 3:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert transport.given_up == 3
    assert (up.answered, up.failed, up.in_flight) == (0, 0, 0)


async def test_the_whole_has_a_time():
    """Each batch alone would be in time."""
    transport = ByText(seconds=0.06)
    up = Upstream("up", GEMINI, transport, timeouts=Timeouts(first_byte=9, total=0.1))
    with pytest.raises(UpstreamError) as caught:
        await up.embed(numbered(950))
    assert (caught.value.kind, caught.value.hop) == (ErrorKind.TIMEOUT, "up")
    assert 0 < transport.given_up < len(transport.sent)
    assert (up.failed, up.in_flight) == (1, 0)


GARBAGE: dict[str, bytes] = {
    "html": b"<html>",
    "nothing": b"",
    "another API": b"{}",
    "no list": b'{"embeddings":{}}',
    "too few": b'{"embeddings":[]}',
    "too many": b'{"embeddings":[{"values":[1]},{"values":[1]}]}',
    "empty": b'{"embeddings":[{"values":[]}]}',
    "texts": b'{"embeddings":[{"values":["1"]}]}',
    "bad utf-8": b'{"embeddings":[{"values":[1],"\xff":1}]}',
    "deep": b'{"embeddings":' + b"[" * 100_000,
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_what_is_not_the_api_is_a_bad_response(name: str):
    up = Upstream("up", GEMINI, ScriptedTransport(Reply([GARBAGE[name]], headers=JSON)))
    with pytest.raises(UpstreamError) as caught:
        await up.embed(request())
    assert (caught.value.kind, caught.value.hop) == (ErrorKind.BAD_RESPONSE, "up")
    assert up.failed == 1


async def test_bytes_that_come_slowly_are_no_silence():
    """A large answer may take longer than the first byte may."""
    body = b'{"embeddings":[{"values":[1]}]}'
    pieces = [piece for i in range(len(body)) for piece in (0.01, body[i : i + 1])]
    times = Timeouts(first_byte=0.15, idle=0.15, content_idle=9, total=9)
    up = Upstream("up", GEMINI, ScriptedTransport(Reply(pieces, headers=JSON)), timeouts=times)
    assert (await up.embed(request())).embeddings.vectors == [numbers([1])]
    silent = Upstream("up", GEMINI, ScriptedTransport(Reply([body[:5], 9.0], headers=JSON)), timeouts=times)
    with pytest.raises(UpstreamError) as caught:
        await silent.embed(request())
    assert caught.value.kind is ErrorKind.TIMEOUT


async def test_an_error_inside_a_good_answer_is_read():
    body = b'{"error":{"code":429,"message":"slow down","status":"RESOURCE_EXHAUSTED"}}'
    up = Upstream("up", GEMINI, ScriptedTransport(Reply([body], headers=JSON)))
    with pytest.raises(UpstreamError) as caught:
        await up.embed(request())
    assert caught.value.kind is ErrorKind.RATE_LIMIT


async def test_what_cannot_be_said_is_refused_before_anything_is_sent():
    """All batches are built first: the last one's mistake costs nothing."""
    transport = ScriptedTransport()
    up = Upstream("up", GEMINI, transport)
    refused = [
        request([1, 2]),
        msgspec.structs.replace(request(user="u"), strict=True),
        request(model="../x"),
    ]
    for asked, param in zip(refused, ("input", "user", "model"), strict=True):
        with pytest.raises(UpstreamError) as caught:
            await up.embed(asked)
        assert (caught.value.hop, caught.value.param) == ("gateway", param)
    assert (transport.sent, up.failed, up.in_flight) == ([], 0, 0)


async def test_a_provider_without_embeddings_says_so():
    with pytest.raises(UpstreamError, match="up has no embeddings") as caught:
        await Upstream("up", PROVIDERS["anthropic"], ScriptedTransport()).embed(request())
    assert (caught.value.kind, caught.value.hop) == (ErrorKind.UNSUPPORTED, "gateway")


# ── large answers ──────────────────────────────────────────────────────────────────────────────────────


class Slow:
    """An `Embedder.parse` that goes on when the event loop lets it; `free` says that the loop ran."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.free: list[bool] = []
        self.most = self.inside = 0

    def __call__(self, body: bytes, asked: EmbeddingsRequest) -> Embeddings:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.begun.set()
        self.free.append(self.go_on.wait(2))
        self.inside -= 1
        return Embeddings(vectors=[numbers([float(str(given))]) for given in asked.inputs])


def large(slow: Slow, batches: int) -> Upstream:
    """A provider that embeds one input a call, and answers with more than is read at once."""
    assert GEMINI.embeddings is not None
    embedder = Embedder(build_request=GEMINI.embeddings.build_request, parse=slow, most=1)
    replies = [Reply([b" " * LARGE, b"{}"], headers=JSON) for _ in range(batches)]
    provider = dataclasses.replace(GEMINI, embeddings=embedder)
    return Upstream("up", provider, ScriptedTransport(*replies))


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not happened():
            await asyncio.sleep(0)


async def test_a_large_answer_is_read_while_others_have_their_turn():
    slow = Slow()
    asking = asyncio.create_task(large(slow, 3).embed(numbered(3)))
    await until(slow.begun.is_set)
    slow.go_on.set()
    embedded = await asking
    assert slow.free == [True] * 3
    assert [list(vector) for vector in embedded.embeddings.vectors] == [[0.0], [1.0], [2.0]]
    assert slow.most == 1


async def test_who_leaves_does_not_wait_for_what_is_being_read():
    slow = Slow()
    up = large(slow, 1)
    asking = asyncio.create_task(up.embed(numbered(1)))
    await until(slow.begun.is_set)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert (slow.free, up.in_flight, up.answered, up.failed) == ([], 0, 0, 0)
    slow.go_on.set()


@pytest.mark.parametrize("body", [b"[" * 2 * LARGE, b" " * 2 * LARGE, b'"\xff' + b" " * LARGE])
async def test_a_large_answer_that_is_not_the_api_is_a_bad_response(body: bytes):
    up = Upstream("up", GEMINI, ScriptedTransport(Reply([body], headers=JSON)))
    with pytest.raises(UpstreamError) as caught:
        await up.embed(request())
    assert (caught.value.kind, caught.value.hop, up.failed) == (ErrorKind.BAD_RESPONSE, "up", 1)


def of_size(count: int) -> Embedded:
    vectors = Embeddings(vectors=[numbers([i + 0.25] * 1000) for i in range(count)])
    return Embedded(target=Target("p", "m"), embeddings=vectors)


@pytest.mark.parametrize("count", [1, 400])
async def test_a_large_answer_is_written_in_pieces_by_a_thread(monkeypatch: pytest.MonkeyPatch, count: int):
    threads = []

    def spied(embedded: Embedded, write: Callable[[Embedded], Iterator[bytes]] = ingress._pieces) -> Any:
        threads.append(threading.current_thread())
        return write(embedded)

    monkeypatch.setattr(ingress, "_pieces", spied)
    pieces = await render(of_size(count))
    assert (threads[0] is threading.main_thread()) is (count == 1)
    assert (len(pieces) == 1) is (count == 1)
    assert all(len(piece) < PIECE + 30_000 for piece in pieces)
    data = msgspec.json.decode(b"".join(pieces))["data"]
    assert [item["embedding"][999] for item in data] == [i + 0.25 for i in range(count)]


class OneAnswer(Router):
    """A router that has the same answer to everything."""

    def __init__(self, embedded: Embedded) -> None:
        super().__init__([])
        self.embedded = embedded

    async def embed(self, _request: EmbeddingsRequest) -> Embedded:
        return self.embedded


@pytest.mark.parametrize("takes", [0, 3])
async def test_a_client_that_takes_nothing_of_a_large_answer_is_given_up(takes: int):
    said = [{"type": "http.request", "body": b'{"model":"p/m","input":"a"}'}]
    given: list[Any] = []
    cut_off: list[bool] = []

    async def receive() -> Any:
        return said.pop() if said else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body" and len(given) > takes:
            await asyncio.Event().wait()
        given.append(message)

    service = EmbeddingsService(OneAnswer(of_size(400)), Limits(send_timeout=0.02))
    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "headers": headers, "gateway.abort": lambda: cut_off.append(True)}
    async with asyncio.timeout(5):
        await service(scope, receive, send)
    assert (len(given), cut_off, service.in_flight) == (takes + 1, [True], 0)


# ── who is asked ───────────────────────────────────────────────────────────────────────────────────────


class FakeEmbed:
    """An `Embed` that fails with the kind it is given, or answers."""

    def __init__(self, name: str, failure: ErrorKind | None) -> None:
        self.name = name
        self.failure = failure
        self.asked: list[str] = []

    async def __call__(self, request: EmbeddingsRequest) -> Embedded:
        self.asked.append(request.model)
        if self.failure is not None:
            raise UpstreamError(self.failure, "failed", hop=self.name)
        return Embedded(
            target=Target(self.name, request.model), embeddings=Embeddings(vectors=[numbers([1])])
        )


def member(
    name: str, *, embeds: bool = True, off: str | None = None, failure: ErrorKind | None = None
) -> Member:
    provider = PROVIDERS.get(name, PROVIDERS["openai"])
    return Member(
        name=name,
        provider=provider,
        open=FakeOpen(name),
        preview=lambda _request: pytest.fail("nobody asked what would be sent"),
        capabilities=provider.capabilities,
        embed=FakeEmbed(name, failure) if embeds else None,
        off=off,
    )


def router(*, failure: ErrorKind | None = None, off: str | None = None) -> Router:
    """A route over two that embed, after one that does not."""
    members = [
        member("openai", failure=failure, off=off),
        member("gemini"),
        member("anthropic", embeds=False),
        member("demo", embeds=False),
    ]
    routes = {
        "r": [Target("anthropic", "x"), Target("openai", "m1"), Target("gemini", "m2")],
        "talkers": [Target("anthropic", "x"), Target("demo", "echo")],
    }
    return Router(members, routes, failover={"openai/m1": [Target("gemini", "m2")]})


NAMES = {
    "openai/m": "openai/m",
    "google/m": "gemini/m",
    "text-embedding-3-small": "openai/text-embedding-3-small",
    "text-embedding-ada-002": "openai/text-embedding-ada-002",
    "gemini-embedding-001": "gemini/gemini-embedding-001",
    "r": "openai/m1",
}


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_is_one_target(name: str):
    assert str((await router().embed(request(model=name))).target) == NAMES[name]


REFUSED: dict[str, tuple[int, str]] = {  # a name → status, and what is said
    "anthropic/claude": (400, "anthropic has no embeddings"),
    "claude-sonnet-5-5": (400, "anthropic has no embeddings"),
    "talkers": (400, "no target of 'talkers' has embeddings"),
    "auto": (400, "'auto' has no embeddings"),
    "text-embedding-004": (404, "there is no model"),
    "text-embedding-v4": (404, "there is no model"),
    "nobody/m": (404, "there is no model"),
    "a b": (404, "cannot be the name of a model"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_names_that_cannot_embed(name: str):
    status, words = REFUSED[name]
    with pytest.raises(GatewayError) as caught:
        await router().embed(request(model=name))
    assert (caught.value.status, caught.value.param, caught.value.hop) == (status, "model", "gateway")
    assert words in caught.value.message


@pytest.mark.parametrize("name", ["r", "openai/m1"])
async def test_vectors_never_fail_over(name: str):
    """Those of another model cannot be compared with the ones that a client has."""
    asked = router(failure=ErrorKind.OVERLOADED)
    with pytest.raises(UpstreamError) as caught:
        await asked.embed(request(model=name))
    assert (caught.value.hop, caught.value.attempts) == ("openai", 1)
    other = asked.members["gemini"].embed
    assert isinstance(other, FakeEmbed)
    assert other.asked == []


@pytest.mark.parametrize("name", ["r", "openai/m1"])
async def test_a_target_that_is_off_is_not_replaced(name: str):
    with pytest.raises(GatewayError, match="openai/m1 cannot be called: no key"):
        await router(off="no key").embed(request(model=name))


async def test_a_route_may_be_called_auto():
    members = [member("openai")]
    found = await Router(members, {"auto": [Target("openai", "m")]}).embed(request(model="auto"))
    assert str(found.target) == "openai/m"
