"""Cursor's errors, decisions in a table: what its codes mean, wherever they stand.

A code comes in three shapes of body, in the `error` event of a stream, and in a run that failed. Follows the
page "Cloud Agents API" of Cursor's documentation (v1, public beta, November 2026).
"""

from __future__ import annotations

from typing import Any

import msgspec

from ...chat import Json
from ...errors import ErrorKind, UpstreamError, kind_of_status
from ..base import Headers, plain_error, retry_after

AGENT_EXISTS = "agent_id_conflict"
BAD_EVENT_ID = "invalid_last_event_id"
EXPIRED_STREAM = "stream_expired"
BAD_MODEL = "invalid_model"

KIND_BY_CODE = {
    "validation_error": ErrorKind.BAD_REQUEST,
    "invalid_branch_name": ErrorKind.BAD_REQUEST,
    BAD_EVENT_ID: ErrorKind.BAD_REQUEST,
    BAD_MODEL: ErrorKind.NOT_FOUND,
    "unauthorized": ErrorKind.AUTH,
    "api_key_not_found": ErrorKind.AUTH,
    "forbidden": ErrorKind.AUTH,
    "role_forbidden": ErrorKind.AUTH,
    "plan_required": ErrorKind.FORBIDDEN,
    "feature_unavailable": ErrorKind.FORBIDDEN,
    "repository_access": ErrorKind.FORBIDDEN,
    "repository_required": ErrorKind.FORBIDDEN,
    "integration_not_connected": ErrorKind.FORBIDDEN,
    "usage_limit_exceeded": ErrorKind.QUOTA,
    # a client asked for a model, not for an agent or a run: that one of these is gone is no 404 of its own
    "agent_not_found": ErrorKind.SERVER,
    "run_not_found": ErrorKind.SERVER,
    "not_found": ErrorKind.SERVER,
    AGENT_EXISTS: ErrorKind.CONFLICT,
    "agent_busy": ErrorKind.CONFLICT,
    "agent_archived": ErrorKind.CONFLICT,
    "run_not_cancellable": ErrorKind.CONFLICT,
    EXPIRED_STREAM: ErrorKind.SERVER,
    "stream_unavailable": ErrorKind.OVERLOADED,
    "rate_limit_exceeded": ErrorKind.RATE_LIMIT,
    "resource_exhausted": ErrorKind.RATE_LIMIT,
    "upstream_error": ErrorKind.SERVER,
    "internal_error": ErrorKind.SERVER,
}
NOT_PASSED_ON = frozenset((BAD_MODEL, "usage_limit_exceeded", "resource_exhausted"))
"""Codes for which OpenAI's clients know another word."""
HINTS = {
    "repository_required": "enable agents without a repository for this account, or set options.repository",
}
USUAL_WAIT = 60.0
"""Seconds to wait after a rate limit that says none: limits count by the minute."""
_KIND_BY_STATUS = {404: ErrorKind.SERVER, 410: ErrorKind.SERVER}


def parse_error(status: int, headers: Headers, body: bytes) -> UpstreamError:
    """The failure that an error answer tells: its code first, then its status."""
    error = _error_object(body)
    code, message = _text(error.get("code")), _text(error.get("message"))
    known = KIND_BY_CODE.get(code.lower())
    kind = known or _KIND_BY_STATUS.get(status) or kind_of_status(status)
    wait = retry_after(headers)
    if wait is None and kind is ErrorKind.RATE_LIMIT:
        wait = _wait(error.get("retryAfter"))
    said = message or code or plain_error(status, headers, body).message
    return failure(kind, code.lower(), said, status=status, wait=wait)


def error_of(code: str | None, message: str | None) -> UpstreamError:
    """The failure that a stream or a run tells by a `code`, which may be one that nobody here knows."""
    name = (code or "").lower()
    kind = KIND_BY_CODE.get(name, ErrorKind.SERVER)
    wait = USUAL_WAIT if kind is ErrorKind.RATE_LIMIT else None
    return failure(kind, name, message or name or "the run failed", wait=wait)


def failure(
    kind: ErrorKind, code: str, message: str, *, status: int | None = None, wait: float | None = None
) -> UpstreamError:
    """The error of a known kind, with what helps to mend it; `status` is the answer's, `wait` in seconds."""
    hint = HINTS.get(code)
    return UpstreamError(
        kind,
        f"{message} ({hint})" if hint else message,
        upstream_status=status,
        code=code if code and code not in NOT_PASSED_ON else None,
        param="model" if code == BAD_MODEL else None,
        retry_after=wait,
    )


def _error_object(body: bytes) -> Json:
    """What holds code and message: `error` when it is an object, else the whole; empty without either."""
    try:
        parsed: Any = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    if not isinstance(parsed, dict):
        return {}
    error = parsed.get("error")
    if isinstance(error, str):  # a title, such as "Too Many Requests"
        return {"message": error, **parsed}
    return error if isinstance(error, dict) else parsed


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _wait(said: Any) -> float:
    is_number = isinstance(said, int | float) and not isinstance(said, bool)
    return float(said) if is_number and 0 <= said <= 86_400 else USUAL_WAIT
