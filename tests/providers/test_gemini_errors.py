"""Gemini: what failures mean, as an answer, inside a stream and in place of one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.errors import ErrorKind, UpstreamError
from gateway.providers.gemini import parse_error
from gateway.sse import Decoder

from .gemini_helpers import answer, failure, text, whole

GOLDEN = {
    26: (
        "test_golden_26_errors_inside_a_stream",
        "test_golden_26_errors_as_plain_lines_in_a_stream",
        "test_golden_26_an_error_in_a_whole_answer",
        "tests/e2e/test_golden_cases.py::test_an_overloaded_first_event_is_503_or_the_next_target",
        "tests/e2e/test_golden_cases.py::test_a_break_in_mid_stream_has_no_end",
    ),
    28: (
        "test_golden_28_how_long_to_wait",
        "test_golden_28_a_status_by_name_is_enough",
        "test_golden_28_an_error_at_the_top_level",
        "test_golden_28_strange_details_are_no_crash",
        "test_contract.py::test_errors_are_recognised",
        "tests/e2e/test_adversary.py::test_a_key_is_in_no_field_of_an_error",
    ),
}


OVERLOADED = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
EXHAUSTED = {"error": {"message": "Slow down.", "status": "RESOURCE_EXHAUSTED"}}


@pytest.mark.parametrize("before", [[], [answer(text("Hel"))]], ids=["first", "after text"])
@pytest.mark.parametrize(
    ("event", "kind", "status"),
    [
        (OVERLOADED, ErrorKind.OVERLOADED, 503),
        ([OVERLOADED], ErrorKind.OVERLOADED, 503),
        (EXHAUSTED, ErrorKind.RATE_LIMIT, 429),
        ({"error": {"message": "?", "code": "odd"}}, ErrorKind.SERVER, 502),
    ],
)
def test_golden_26_errors_inside_a_stream(event: Any, kind: ErrorKind, status: int, before: list[Any]):
    error = failure(*before, event)
    assert error.kind is kind
    assert error.status == status
    assert error.message


@pytest.mark.parametrize("error", [OVERLOADED, [OVERLOADED], [{}, OVERLOADED]])
def test_golden_26_errors_as_plain_lines_in_a_stream(error: Any):
    lines = msgspec.json.format(msgspec.json.encode(error), indent=2)
    decoder = Decoder()
    assert decoder.feed(lines + b"\r\n") + decoder.close() == []
    found = parse_error(200, {}, decoder.stray)
    assert found.kind is ErrorKind.OVERLOADED
    assert found.upstream_status == 503
    assert found.message == "The model is overloaded."


def test_golden_26_an_error_in_a_whole_answer():
    with pytest.raises(UpstreamError) as caught:
        whole(OVERLOADED)
    assert caught.value.kind is ErrorKind.OVERLOADED


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [("0.5s", 0.5), ("38.863719904s", 38.863719904), ("7s", 7.0), ("abc", None), ("-1s", None), (7, None)],
)
def test_golden_28_how_long_to_wait(delay: Any, seconds: float | None):
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    body = {"error": {"code": 429, "message": "Slow down.", "details": [None, 3, info]}}
    error = parse_error(429, {}, msgspec.json.encode(body))
    assert error.kind is ErrorKind.RATE_LIMIT
    assert error.retry_after == seconds


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("INVALID_ARGUMENT", 400),
        ("FAILED_PRECONDITION", 400),
        ("OUT_OF_RANGE", 400),
        ("UNAUTHENTICATED", 401),
        ("PERMISSION_DENIED", 403),
        ("NOT_FOUND", 404),
        ("ABORTED", 409),
        ("ALREADY_EXISTS", 409),
        ("RESOURCE_EXHAUSTED", 429),
        ("CANCELLED", 499),
        ("UNKNOWN", 500),
        ("INTERNAL", 500),
        ("DATA_LOSS", 500),
        ("UNIMPLEMENTED", 501),
        ("UNAVAILABLE", 503),
        ("DEADLINE_EXCEEDED", 504),
        ("INVENTED_IN_2027", 500),
    ],
)
def test_golden_28_a_status_by_name_is_enough(name: str, status: int):
    """Also without `error` around it, as some answers have it."""
    for body in ({"error": {"status": name}}, {"status": name, "message": "Oh."}):
        error = parse_error(200, {}, msgspec.json.encode(body))
        assert error.upstream_status == status
        assert error.kind is parse_error(status, {}, msgspec.json.encode(body)).kind


@pytest.mark.parametrize("error", [{"message": "Slow down."}, {"message": "Slow down.", "status": "ODD"}])
def test_golden_28_an_error_at_the_top_level(error: dict[str, Any]):
    found = parse_error(429, {}, msgspec.json.encode(error))
    assert (found.kind, found.message) == (ErrorKind.RATE_LIMIT, "Slow down.")


@pytest.mark.parametrize("details", [None, 3, "x", [], [[]], [{"violations": 3}], [{"violations": [3, {}]}]])
def test_golden_28_strange_details_are_no_crash(details: Any):
    body = {"error": {"code": 429, "message": 3, "status": [], "details": details}}
    assert parse_error(429, {}, msgspec.json.encode(body)).kind is ErrorKind.RATE_LIMIT
