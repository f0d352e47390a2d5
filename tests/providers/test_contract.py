"""What every provider promises, looped over the registry: a new one is held to all of it by its name.

Fixtures of provider NAME stand in `fixtures/NAME/`: `requests/CASE.json` (golden native requests),
`CASE.sse` with `CASE.json` (one answer as a stream and whole), `errors.json`.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from gateway.chat import ChatRequest, Chunk, fold
from gateway.errors import ErrorKind, UpstreamError
from gateway.providers import PROVIDERS
from gateway.providers.base import INSIDE, HttpRequest, Provider, needs
from gateway.sse import Event

from .cases import CASES, FIXTURES, GATEWAY_FIELDS, SAMPLES, WISHES, decode, request, user

KEY = "sim-Key+with/odd=chars"
providers = pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)


def pairs() -> list[tuple[str, str]]:
    return [(name, path.stem) for name in PROVIDERS for path in sorted((FIXTURES / name).glob("*.sse"))]


def seen(http: HttpRequest) -> dict[str, Any]:
    return {
        "method": http.method,
        "path": http.path,
        "headers": http.headers,
        "stream": http.stream,
        "dropped": list(http.dropped),
        "body": msgspec.json.decode(http.body) if http.body else None,
    }


def chat_for(provider: Provider, body: dict[str, Any]) -> ChatRequest:
    return request(body, provider.default_model or next(iter(provider.models), "m"))


def can(provider: Provider, body: dict[str, Any]) -> bool:
    """Whether the router would send this request here."""
    chat = chat_for(provider, body)
    return needs(chat).keys() <= provider.capabilities(chat.model).features


GOLDEN = [(name, case) for name, p in PROVIDERS.items() for case, body in CASES.items() if can(p, body)]


@pytest.mark.parametrize(("name", "case"), GOLDEN)
def test_golden_request(name: str, case: str):
    """A reviewer reads the diff of the wire: each case is the exact native request."""
    provider = PROVIDERS[name]
    chat = chat_for(provider, CASES[case])
    expected = msgspec.json.decode((FIXTURES / provider.name / "requests" / f"{case}.json").read_bytes())
    try:
        found = seen(provider.build_request(chat))
    except UpstreamError as error:
        found = {"refused": error.param}
    assert found == expected


@pytest.mark.parametrize(("name", "case"), pairs())
@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_a_stream_may_be_cut_anywhere(name: str, case: str, newline: bytes):
    provider = PROVIDERS[name]
    chat = chat_for(provider, CASES["stream"])
    stream = (FIXTURES / name / f"{case}.sse").read_bytes().replace(b"\r\n", b"\n").replace(b"\n", newline)
    whole = decode(provider, chat, [stream])
    assert whole
    for cut in range(len(stream)):
        assert decode(provider, chat, [stream[:cut], stream[cut:]]) == whole
    assert decode(provider, chat, [stream[i : i + 1] for i in range(len(stream))]) == whole
    commented = stream.replace(newline * 2, newline * 2 + b": ping" + newline * 2)
    assert decode(provider, chat, [commented]) == whole


@pytest.mark.parametrize(("name", "case"), pairs())
def test_a_stream_folds_to_the_whole_answer(name: str, case: str):
    provider = PROVIDERS[name]
    chat = chat_for(provider, CASES["stream"])
    folded = fold(decode(provider, chat, [(FIXTURES / name / f"{case}.sse").read_bytes()]))
    whole = provider.parse_response((FIXTURES / name / f"{case}.json").read_bytes(), chat)
    assert bare(folded) == bare(whole)
    assert whole.finish_reason


def bare(chunk: Chunk) -> Chunk:
    """Without what belongs to the framing."""
    usage = chunk.usage and msgspec.structs.replace(chunk.usage, wire=None)
    return msgspec.structs.replace(chunk, wire=None, last=False, opaque=False, created=None, usage=usage)


def bodies(field: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A request without `field`, and the same with it."""
    base: dict[str, Any] = {"messages": [user("Hi")]}
    if field in ("tool_choice", "parallel_tool_calls"):
        base["tools"] = SAMPLES["tools"]
    if field == "top_logprobs":
        base["logprobs"] = True
    if field == "audio":
        base["modalities"] = SAMPLES["modalities"]
    return base, {**base, field: SAMPLES[field]}


FIELDS = [(n, f) for n, p in PROVIDERS.items() for f in SAMPLES if f != "model" and can(p, bodies(f)[1])]


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_no_field_is_dropped_in_silence(name: str, field: str):
    """A field changes the native request, or is named as dropped, or is refused by its name."""
    provider = PROVIDERS[name]
    plain, changed = (chat_for(provider, body) for body in bodies(field))
    try:
        before, after = provider.build_request(plain), provider.build_request(changed)
    except UpstreamError as error:
        assert error.kind is ErrorKind.UNSUPPORTED
        assert error.param
        return
    same = (before.path, before.body, before.headers) == (after.path, after.body, after.headers)
    assert not same or field in after.dropped
    assert field not in GATEWAY_FIELDS


INNER = [(n, w) for n, p in PROVIDERS.items() for w in WISHES if can(p, WISHES[w][1])]


def test_every_wish_inside_has_a_sample():
    assert WISHES.keys() == INSIDE.keys()


@pytest.mark.parametrize(("name", "wish"), INNER)
def test_no_wish_inside_is_dropped_in_silence(name: str, wish: str):
    """What a message or a tool asks for besides changes the native request, or is named as dropped."""
    provider = PROVIDERS[name]
    before, after = (provider.build_request(chat_for(provider, body)) for body in WISHES[wish])
    assert before.body != after.body or wish in after.dropped
    assert wish not in before.dropped


@providers
def test_an_unknown_field_is_passed_on_or_named(provider: Provider):
    http = provider.build_request(chat_for(provider, {"messages": [user("Hi")], "top_secret_knob": 3}))
    assert b'"top_secret_knob":3' in http.body or "top_secret_knob" in http.dropped


@providers
def test_errors_are_recognised(provider: Provider):
    cases = msgspec.json.decode((FIXTURES / provider.name / "errors.json").read_bytes())
    assert len(cases) >= (1 if provider.local else 8)
    for case in cases:
        body = case["body"] if isinstance(case["body"], str) else msgspec.json.encode(case["body"]).decode()
        error = provider.parse_error(case["status"], case.get("headers", {}), body.encode())
        assert error.kind == case["kind"], case
        assert error.message, case
        assert error.retry_after == case.get("retry_after"), case
        if "code" in case:
            assert error.code == case["code"], case


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>no</html>", b"null", b"[]", b"3", b'"x"', b"{", b"\xff\xfe", b'{"error":"x"}', b"[" * 9999],
)
@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 502, 503, 529])
@providers
def test_any_body_is_an_error_with_a_message(provider: Provider, status: int, body: bytes):
    error = provider.parse_error(status, {}, body)
    assert error.message
    assert "<" not in error.message
    assert error.upstream_status == status


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"3", b"null", b"\xff", b'{"choices":null}', b"{}"])
@providers
def test_a_strange_event_is_skipped_or_refused(provider: Provider, data: bytes):
    """A decoder may only raise what the driver maps: anything else would be a crash."""
    read = provider.event_decoder(chat_for(provider, CASES["stream"]))
    try:
        chunk = read(Event(data))
    except (msgspec.MsgspecError, UnicodeDecodeError, UpstreamError):
        return
    assert chunk is None or not chunk.has_content


@providers
def test_the_key_stands_in_headers_of_its_own(provider: Provider):
    """`auth` alone is given the key; what it makes of it are headers, and no other provider's."""
    headers = provider.auth(KEY)
    carrying = [name for name, value in headers.items() if KEY in value]
    assert len(carrying) == (0 if provider.local is not None else 1)
    assert all(name == name.lower() for name in headers)


@pytest.mark.parametrize("model", ["../admin", "a?b", "a/b", "a%2fb", ":streamGenerateContent", "a#b", ".."])
@providers
def test_a_model_name_cannot_leave_its_place_in_the_path(provider: Provider, model: str):
    """P87: whatever the name, the path stays the one of a chat call."""
    try:
        path = provider.build_request(request(CASES["plain"], model)).path
    except UpstreamError as error:
        assert error.kind in (ErrorKind.NOT_FOUND, ErrorKind.UNSUPPORTED)
        return
    usual = provider.build_request(request(CASES["plain"], "m")).path
    assert path == usual or path == usual.replace("/m:", f"/{quote(model, safe='')}:")
