"""What Gemini's failures mean: error answers, errors inside a stream, in every wrapping they come in.

The body decides before the status: a wrong key is a 400 here, and so is a prompt that is too long. There
are no rate limit headers; how long to wait stands in the details. Follows the troubleshooting and rate
limit pages of the Gemini API and google.rpc's error details.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from ...chat import Json
from ...errors import ErrorKind, UpstreamError, kind_of_status
from ..base import Headers, plain_error, retry_after

_STATUS_BY_NAME = {  # google.rpc.Code, for errors that carry no number
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INTERNAL": 500,
    "DATA_LOSS": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


class Rule(NamedTuple):
    """An error of `status` whose reason or message has `words` in it (any case) is of `kind`."""

    status: int
    words: str
    kind: ErrorKind


RULES = (  # the first that matches counts; then the status alone
    Rule(400, r"API_KEY_INVALID|api key (not valid|expired)", ErrorKind.AUTH),
    Rule(400, r"number of tokens allowed", ErrorKind.CONTEXT_LENGTH),
    Rule(400, r"location is not supported", ErrorKind.FORBIDDEN),
    Rule(400, r"FAILED_PRECONDITION(.|\n)*billing", ErrorKind.QUOTA),
    Rule(400, r"payload size exceeds", ErrorKind.TOO_LARGE),
    # a daily quota comes with a short retryDelay all the same, and a limit of 0 never ends
    Rule(429, r"PerDay|limit: 0(?![\d.])", ErrorKind.QUOTA),
    Rule(501, r"", ErrorKind.BAD_REQUEST),
)
_RULES = tuple((re.compile(rule.words, re.IGNORECASE), rule) for rule in RULES)


def parse_error(status: int, headers: Headers, body: bytes) -> UpstreamError:
    """The failure that an answer tells. `status` 200 means: the body knows better."""
    try:
        error = _error_in(msgspec.json.decode(body))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        error = None
    if error is None:
        return plain_error(status, headers, body)
    if status < 400:
        status = _status_of(error)
    message = str(error.get("message") or "")
    evidence = _evidence(error, message)
    kind = _kind(status, evidence)
    failure = UpstreamError(
        kind,
        message or f"answered with status {status}",
        upstream_status=status,
        retry_after=None if kind is ErrorKind.QUOTA else _wait(error, message, headers),
    )
    failure.is_models = "PerModel" in evidence
    return failure


def _error_in(value: Any) -> Json | None:
    """The error object, out of an array, with or without its `error` around it."""
    if isinstance(value, list):
        return next((error for item in value if (error := _error_in(item))), None)
    if not isinstance(value, dict):
        return None
    error = value.get("error")
    if isinstance(error, str):
        return {"message": error}
    if isinstance(error, dict):
        return error
    return value if "message" in value or "status" in value else None


def _status_of(error: Json) -> int:
    code = error.get("code")
    if isinstance(code, int) and 400 <= code < 600:
        return code
    return _STATUS_BY_NAME.get(str(error.get("status")), 500)


def _kind(status: int, evidence: str) -> ErrorKind:
    for pattern, rule in _RULES:
        if rule.status == status and pattern.search(evidence):
            return rule.kind
    return kind_of_status(status)


def _details(error: Json) -> Iterator[Json]:
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict):
            yield detail


def _evidence(error: Json, message: str) -> str:
    """Everything that rules look at: the status, reasons, ids of exceeded quotas, the message."""
    words = [str(error.get("status") or "")]
    for detail in _details(error):
        words.append(str(detail.get("reason") or ""))
        violations = detail.get("violations")
        if isinstance(violations, list):
            words += [str(v.get("quotaId") or "") for v in violations if isinstance(v, dict)]
    return "\n".join((*words, message))


_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,9})?)s\Z")
_IN_MESSAGE = re.compile(r"retry in (\d{1,6}(?:\.\d{1,9})?)s\b")


def _wait(error: Json, message: str, headers: Headers) -> float | None:
    """The seconds to wait: RetryInfo's duration, what the message repeats of it, or a header."""
    for detail in _details(error):
        if found := _DURATION.match(str(detail.get("retryDelay") or "")):
            return float(found[1])
    if found := _IN_MESSAGE.search(message):
        return float(found[1])
    return retry_after(headers)
