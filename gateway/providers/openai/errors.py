"""Errors in OpenAI's dialect, and in what other servers make of it.

Follows "Error codes" of the OpenAI API reference.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ...errors import ErrorKind, UpstreamError, kind_of_status
from ...limits import Limits
from ..base import Headers, limit_headers, limits_of, plain_error, retry_after

_KIND_BY_CODE = {
    "context_length_exceeded": ErrorKind.CONTEXT_LENGTH,
    "content_policy_violation": ErrorKind.CONTENT_FILTER,
    "content_filter": ErrorKind.CONTENT_FILTER,
    "invalid_prompt": ErrorKind.CONTENT_FILTER,
    "invalid_api_key": ErrorKind.AUTH,
    "model_not_found": ErrorKind.NOT_FOUND,
    "rate_limit_exceeded": ErrorKind.RATE_LIMIT,
    "slow_down": ErrorKind.RATE_LIMIT,
    "insufficient_quota": ErrorKind.QUOTA,
    "credit_balance_exhausted": ErrorKind.QUOTA,
    "organization_spend_limit_exceeded": ErrorKind.QUOTA,
    "project_spend_limit_exceeded": ErrorKind.QUOTA,
    "organization_usage_limit_exceeded": ErrorKind.QUOTA,
    "server_is_overloaded": ErrorKind.OVERLOADED,
    "server_error": ErrorKind.SERVER,
    "request_too_large": ErrorKind.TOO_LARGE,
}
_KIND_BY_TYPE = {
    "insufficient_quota": ErrorKind.QUOTA,
    "rate_limit_error": ErrorKind.RATE_LIMIT,
    "authentication_error": ErrorKind.AUTH,
    "permission_error": ErrorKind.AUTH,
    "not_found_error": ErrorKind.NOT_FOUND,
    "service_unavailable_error": ErrorKind.OVERLOADED,
    "overloaded_error": ErrorKind.OVERLOADED,
}
_KIND_BY_VAGUE_TYPE = {  # these say less than a status does, and more than none
    "invalid_request_error": ErrorKind.BAD_REQUEST,
    "server_error": ErrorKind.SERVER,
}
_TOO_LONG = ("maximum context length", "context length", "context window", "prompt is too long")


def parse_error(status: int, headers: Headers, body: bytes) -> UpstreamError:
    """The failure that an error answer tells: its code first, then its type, then the status."""
    return error_of(body, hint=status, headers=headers)


def error_of(body: bytes, *, hint: int, headers: Headers | None = None) -> UpstreamError:
    """The failure in `body`; `hint` is the HTTP status, 200 for an error inside a good answer."""
    headers = headers or {}
    try:
        parsed = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return plain_error(hint, headers, body)
    error: Any = parsed.get("error", parsed) if isinstance(parsed, dict) else parsed
    if not isinstance(error, dict) or (hint < 400 and error is parsed):
        return plain_error(hint, headers, body, error if isinstance(error, str) else "")
    message = str(error.get("message") or error.get("detail") or "")
    code, param = error.get("code"), error.get("param")
    status = code if isinstance(code, int) and 400 <= code < 600 and hint == 200 else hint
    kind = _kind(status, code, error.get("type"), message)
    wait = retry_after(headers)
    if wait is None and kind is ErrorKind.RATE_LIMIT:
        wait = _wait(message, error.get("type"), headers)
    return UpstreamError(
        kind,
        message or f"answered with status {status}",
        upstream_status=status,
        code=code if isinstance(code, str) else None,
        param=param if isinstance(param, str) else None,
        retry_after=wait,
    )


_LONGEST_WAIT = 86_400.0
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_STEP = r"(\d{1,9}(?:\.\d{1,9})?)(ms|us|µs|ns|h|m|s)"
_DURATION = re.compile(f"(?:{_STEP})+")
_AGAIN = re.compile(rf"try again in ((?:{_STEP})+)")


def duration(text: str) -> float | None:
    """Seconds of a duration as Go writes it ("6m0s", "12ms") or of a plain number; None for anything else."""
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text):
        return float(text)
    if _DURATION.fullmatch(text) is None:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(_STEP, text))


_LIMITS = limit_headers({"requests": "x-ratelimit-{}-requests", "tokens": "x-ratelimit-{}-tokens"})


def parse_limits(headers: Headers) -> Limits | None:
    """What is left of the account's limits, by the headers of an answer."""
    return limits_of(headers, _LIMITS, duration)


def _wait(message: str, type: Any, headers: Headers) -> float | None:
    """The wait in seconds that a rate limit tells where no header of its own does: in its words, else by the
    time until the limit that was hit is all free again, which is the longest that the wait can be.
    """
    again = _AGAIN.search(message)
    told = (
        [again[1]]
        if again
        else [headers.get(f"x-ratelimit-reset-{name}", "") for name in _hit(type, headers)]
    )
    waits = [wait for text in told if (wait := duration(text)) is not None and wait <= _LONGEST_WAIT]
    return max(waits, default=None)


def _hit(type: Any, headers: Headers) -> list[str]:
    """The limits that a request ran into: the one that the error names, and those with nothing left."""
    limits = ("requests", "tokens")
    return [n for n in limits if type == n or headers.get(f"x-ratelimit-remaining-{n}") == "0"]


def _kind(status: int, code: Any, type: Any, message: str) -> ErrorKind:
    kind = _KIND_BY_CODE.get(str(code))
    if kind is None and 400 <= status < 500 and any(p in message.lower() for p in _TOO_LONG):
        kind = ErrorKind.CONTEXT_LENGTH
    if status == 403 and "generate embeddings from this model" in message:
        kind = ErrorKind.UNSUPPORTED  # it is no embedding model: nothing is wrong with the key
    if kind is not None:
        return kind
    by_type = _KIND_BY_TYPE.get(str(type))
    if status < 400:
        return by_type or _KIND_BY_VAGUE_TYPE.get(str(type), ErrorKind.SERVER)
    return by_type if by_type is ErrorKind.QUOTA else kind_of_status(status)  # a status says the rest
