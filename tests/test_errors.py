"""The table of failures, and what a client may be told."""

from __future__ import annotations

from base64 import b64encode

import msgspec
import pytest

from gateway.errors import (
    MAX_MESSAGE,
    POLICY,
    ErrorKind,
    GatewayError,
    RequestError,
    UpstreamError,
    kind_of_status,
    redact,
)


def test_every_kind_has_its_row():
    assert set(POLICY) == set(ErrorKind)


@pytest.mark.parametrize("kind", ErrorKind)
def test_a_row_is_something_a_client_understands(kind: ErrorKind):
    policy = POLICY[kind]
    assert 400 <= policy.status < 600
    assert policy.type
    assert policy.status != 401  # 401 is for the gateway's own key


def test_the_body_is_openais_shape_with_the_hop_named():
    error = UpstreamError(ErrorKind.RATE_LIMIT, "slow down", hop="anthropic", param="p")
    assert error.body() == {
        "error": {
            "message": "anthropic: slow down",
            "type": "rate_limit_error",
            "param": "p",
            "code": "rate_limit_exceeded",
        }
    }
    assert RequestError(ErrorKind.BAD_REQUEST, "x").body()["error"]["message"] == "gateway: x"


def test_a_message_cannot_break_out_of_its_line():
    """P60: quotes and newlines of a provider stay inside the JSON string."""
    text = 'a"b\r\n\r\ndata: [DONE]\u2028\x00'
    encoded = GatewayError(ErrorKind.SERVER, text).encoded()
    assert b"\n" not in encoded
    assert b"\r" not in encoded
    assert msgspec.json.decode(encoded)["error"]["message"] == f"gateway: {text}"


def test_a_refused_request_keeps_the_upstreams_status():
    assert UpstreamError(ErrorKind.BAD_REQUEST, "x", upstream_status=422).status == 422
    assert UpstreamError(ErrorKind.AUTH, "x", upstream_status=401).status == 502
    assert UpstreamError(ErrorKind.OVERLOADED, "x", upstream_status=529).status == 503
    assert UpstreamError(ErrorKind.SERVER, "x", upstream_status=500).status == 502


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, ErrorKind.BAD_RESPONSE),
        (301, ErrorKind.BAD_RESPONSE),
        (400, ErrorKind.BAD_REQUEST),
        (401, ErrorKind.AUTH),
        (402, ErrorKind.QUOTA),
        (403, ErrorKind.AUTH),
        (404, ErrorKind.NOT_FOUND),
        (413, ErrorKind.TOO_LARGE),
        (418, ErrorKind.BAD_REQUEST),
        (422, ErrorKind.BAD_REQUEST),
        (429, ErrorKind.RATE_LIMIT),
        (500, ErrorKind.SERVER),
        (502, ErrorKind.SERVER),
        (503, ErrorKind.OVERLOADED),
        (504, ErrorKind.TIMEOUT),
        (522, ErrorKind.SERVER),
        (529, ErrorKind.OVERLOADED),
    ],
)
def test_a_status_alone_tells_a_kind(status: int, kind: ErrorKind):
    assert kind_of_status(status) is kind


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-proj-abcd****wxyz. See docs",
        "key sim-secret is bad",
        "Authorization: Bearer abcdefgh12345",
        "crsr_0123456789abcdef is disabled",
    ],
)
def test_what_looks_like_a_key_is_not_repeated(text: str):
    """P80: providers echo keys; nobody else does."""
    shown = redact(text, "sim-secret")
    assert "***" in shown
    for secret in ("sk-proj-abcd", "wxyz", "sim-secret", "abcdefgh12345", "0123456789abcdef"):
        assert secret not in shown


def test_a_secret_is_found_in_every_form_and_a_word_is_no_secret():
    key = "sim-canary/0123+45"
    for form in ("sim-canary%2F0123%2B45", "c2ltLWNhbmFyeS8wMTIzKzQ1", key):
        assert redact(f"got {form}!", key) == "got ***!"
    assert redact("broke off", "k") == "broke off"


def test_plain_words_stay_and_long_texts_are_cut():
    assert redact("the model gpt-6 is overloaded, ask-again") == "the model gpt-6 is overloaded, ask-again"
    assert len(redact("x" * 100_000)) == MAX_MESSAGE + 1


def test_an_error_says_what_it_says_now():
    """Log lines print the exception: what was taken out of its message must not be in them."""
    error = UpstreamError(ErrorKind.SERVER, "bad key sim-errors-key")
    error.message = redact(error.message, "sim-errors-key")
    assert str(error) == "bad key ***"
    assert "sim-errors-key" not in repr(error)


@pytest.mark.parametrize("length", [9, 10, 11, 12])
def test_a_key_inside_a_basic_header_is_taken_out(length: int):
    """There it is followed by a colon, which changes the last letters of its base64."""
    secret = "sim-key-0123456789"[:length]
    said = redact(f"bad: Basic {b64encode(f'{secret}:'.encode()).decode()}", secret)
    assert b64encode(secret[: length // 3 * 3].encode()).decode() not in said
    assert "***" in said
