"""Errors in OpenAI's dialect, and in what other servers make of it.

Follows "Error codes" of the OpenAI API reference.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ...errors import ErrorKind, UpstreamError, kind_of_status
from ..base import Headers, plain_error, retry_after

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
    return UpstreamError(
        _kind(status, code, error.get("type"), message),
        message or f"answered with status {status}",
        upstream_status=status,
        code=code if isinstance(code, str) else None,
        param=param if isinstance(param, str) else None,
        retry_after=retry_after(headers),
    )


def _kind(status: int, code: Any, type: Any, message: str) -> ErrorKind:
    kind = _KIND_BY_CODE.get(str(code))
    if kind is None and 400 <= status < 500 and any(p in message.lower() for p in _TOO_LONG):
        kind = ErrorKind.CONTEXT_LENGTH
    if kind is not None:
        return kind
    by_type = _KIND_BY_TYPE.get(str(type))
    if status < 400:
        return by_type or _KIND_BY_VAGUE_TYPE.get(str(type), ErrorKind.SERVER)
    return by_type if by_type is ErrorKind.QUOTA else kind_of_status(status)  # a status says the rest
