"""Anthropic's errors: the answers to refused requests, and events that end a stream.

A retry hint counts on an error only; good answers carry `retry-after` too. Follows "Errors" and "Rate
limits" of Anthropic's API reference.
"""

from __future__ import annotations

import re
from datetime import datetime
from email.utils import mktime_tz, parsedate_tz
from typing import Any

import msgspec

from ...chat import Json
from ...errors import ErrorKind, UpstreamError, kind_of_status
from ...limits import Limits
from ..base import Headers, limit_headers, limits_of, plain_error, retry_after

STATUS_BY_TYPE = {  # for errors in a stream, which have no status of their own
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_KIND_BY_CODE = {
    "enforced_spend_limit_reached": ErrorKind.QUOTA,
    "contract_spend_limit_reached": ErrorKind.QUOTA,
    "request_body_too_large_after_decoding": ErrorKind.TOO_LARGE,
}
_KIND_BY_MESSAGE = tuple(  # of refusals that have no type of their own
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        (r"prompt is too long|exceed context limit", ErrorKind.CONTEXT_LENGTH),
        (r"credit balance is too low", ErrorKind.QUOTA),
        (r"reached your specified API usage limits", ErrorKind.QUOTA),
        (r"blocked by content filtering policy", ErrorKind.CONTENT_FILTER),
    )
)


def parse_error(status: int, headers: Headers, body: bytes) -> UpstreamError:
    """The failure that an error answer tells: what its body says outright first, then its status."""
    return error_of(body, status, headers)


def error_of(body: bytes, status: int | None, headers: Headers | None = None) -> UpstreamError:
    """The failure in `body`; `status` is None for an error inside a good answer."""
    error = _error_object(body)
    kind = error.get("type")
    known = STATUS_BY_TYPE.get(kind, 500) if isinstance(kind, str) else 500
    status = known if status is None else status
    message = error.get("message")
    if not isinstance(message, str) or not message:
        return plain_error(status, headers or {}, body)
    return UpstreamError(
        _kind(status, error.get("details"), message),
        message,
        upstream_status=status,
        retry_after=retry_after(headers or {}),
    )


def _error_object(body: bytes) -> Json:
    """The error in `body`, empty when there is none: a network in between may answer with HTML."""
    try:
        parsed: Any = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    error = parsed.get("error") if isinstance(parsed, dict) else None
    return error if isinstance(error, dict) else {}


def _kind(status: int, details: Any, message: str) -> ErrorKind:
    code = details.get("error_code") if isinstance(details, dict) else None
    if isinstance(code, str) and code in _KIND_BY_CODE:
        return _KIND_BY_CODE[code]
    if 400 <= status < 500:
        for pattern, kind in _KIND_BY_MESSAGE:
            if pattern.search(message):
                return kind
    return kind_of_status(status)


# ── limits ─────────────────────────────────────────────────────────────────────────────────────────────

_LIMITS = limit_headers(
    {
        "requests": "anthropic-ratelimit-requests-{}",
        "tokens": "anthropic-ratelimit-tokens-{}",
        "input_tokens": "anthropic-ratelimit-input-tokens-{}",
        "output_tokens": "anthropic-ratelimit-output-tokens-{}",
    }
)


def parse_limits(headers: Headers) -> Limits | None:
    """What is left of the account's limits, by the headers of an answer; resets count from its own date."""
    answered = parsedate_tz(headers.get("date", ""))
    now = mktime_tz(answered) if answered else None

    def seconds(moment: str) -> float | None:
        try:
            then = datetime.fromisoformat(moment)
        except ValueError:
            return None
        if now is None or then.tzinfo is None:
            return None
        return max(0.0, then.timestamp() - now)

    return limits_of(headers, _LIMITS, seconds)
