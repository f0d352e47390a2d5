"""What DashScope's failures mean: error answers, errors inside a good answer or a stream, in every wrapping.

The code decides before the status: an empty account is a 400 here, a bill overdue a 429, and what its
OpenAI dialect calls `insufficient_quota` is a limit of tokens a minute, which passes.
Follows the page "Error messages" of Alibaba Cloud Model Studio.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ...chat import Json
from ...errors import ErrorKind, UpstreamError, kind_of_status
from ..base import Headers, plain_error, retry_after

KIND_BY_CODE = {  # in lower case; a code that is not here counts as what stands before its last point
    "invalidparameter": ErrorKind.BAD_REQUEST,
    "invalid_parameter_error": ErrorKind.BAD_REQUEST,
    "badrequest": ErrorKind.BAD_REQUEST,
    "badrequest.toolarge": ErrorKind.TOO_LARGE,
    "internalerror.algo.invalidparameter": ErrorKind.BAD_REQUEST,
    "conflict": ErrorKind.BAD_REQUEST,
    "datainspectionfailed": ErrorKind.CONTENT_FILTER,
    "data_inspection_failed": ErrorKind.CONTENT_FILTER,
    "arrearage": ErrorKind.QUOTA,
    "invalidapikey": ErrorKind.AUTH,
    "invalid_api_key": ErrorKind.AUTH,
    "not authorized": ErrorKind.AUTH,
    "accessdenied": ErrorKind.AUTH,
    "accessdenied.unpurchased": ErrorKind.QUOTA,
    "model.accessdenied": ErrorKind.NOT_FOUND,  # one model is closed to the account, the key is good
    "workspace.accessdenied": ErrorKind.AUTH,
    "allocationquota.freetieronly": ErrorKind.QUOTA,
    "modelnotfound": ErrorKind.NOT_FOUND,
    "model_not_found": ErrorKind.NOT_FOUND,
    "model_not_supported": ErrorKind.NOT_FOUND,
    "workspacenotfound": ErrorKind.NOT_FOUND,
    "throttling": ErrorKind.RATE_LIMIT,
    "limitrequests": ErrorKind.RATE_LIMIT,
    "limit_requests": ErrorKind.RATE_LIMIT,
    "limit_burst_rate": ErrorKind.RATE_LIMIT,
    "insufficient_quota": ErrorKind.RATE_LIMIT,
    "commoditynotpurchased": ErrorKind.QUOTA,
    "prepaidbilloverdue": ErrorKind.QUOTA,
    "postpaidbilloverdue": ErrorKind.QUOTA,
    "internalerror": ErrorKind.SERVER,
    "internalerror.timeout": ErrorKind.TIMEOUT,
    "systemerror": ErrorKind.SERVER,
    "modelservicefailed": ErrorKind.SERVER,
    "requesttimeout": ErrorKind.TIMEOUT,
    "modelservingerror": ErrorKind.OVERLOADED,
    "modelunavailable": ErrorKind.OVERLOADED,
}
_KIND_BY_STATUS = {409: ErrorKind.BAD_REQUEST}  # the request contradicts itself, and would again elsewhere

_TOO_LONG = re.compile(r"range of input length|input length|context length|context window", re.IGNORECASE)
_WRONG_PATH, _REFUSED = "url error", (200, 400)  # 200: as an event
_KEY_HINT = " (a key is only valid in its own region: see the option 'region')"
_IN_EVENT = re.compile(rb"^data:(.*)$", re.MULTILINE)


def parse_error(status: int, headers: Headers, body: bytes) -> UpstreamError:
    """The failure that an answer tells. `status` 200 means: the body knows better."""
    error = _error_in(body)
    if error is None:
        return plain_error(status, headers, body)
    code = error.get("code")
    native = code if isinstance(code, str) else ""
    message = str(error.get("message") or "")
    kind = _kind(status, native, message)
    if kind is ErrorKind.AUTH and "apikey" in native.lower().replace("_", ""):
        message += _KEY_HINT
    return UpstreamError(
        kind,
        message or native or f"answered with status {status}",
        upstream_status=status,
        status=400 if kind is ErrorKind.BAD_REQUEST and status == 409 else None,
        code=native if kind is ErrorKind.BAD_REQUEST else None,  # other codes mean something else to clients
        retry_after=None if kind is ErrorKind.QUOTA else retry_after(headers),
    )


def is_wrong_path(error: UpstreamError) -> bool:
    """Whether the model lives on the API's other path."""
    is_refusal = error.kind is ErrorKind.BAD_REQUEST and error.upstream_status in _REFUSED
    return is_refusal and error.message.lower().startswith(_WRONG_PATH)


def _error_in(body: bytes) -> Json | None:
    """The error object of a body: bare, under `error`, or as the data of an event."""
    data = _IN_EVENT.search(body)
    try:
        value: Any = msgspec.json.decode(data[1] if data else body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    error = value.get("error", value)
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) and (error.get("code") or error.get("message")) else None


def _kind(status: int, code: str, message: str) -> ErrorKind:
    if status in _REFUSED and message.lower().startswith(_WRONG_PATH):
        return ErrorKind.BAD_REQUEST
    kind = _kind_of_code(code.lower())
    if kind is None:
        kind = _KIND_BY_STATUS.get(status) or kind_of_status(status if status >= 400 else 500)
    if kind is ErrorKind.BAD_REQUEST and _TOO_LONG.search(message):
        return ErrorKind.CONTEXT_LENGTH
    return kind


def _kind_of_code(code: str) -> ErrorKind | None:
    while code:
        if (kind := KIND_BY_CODE.get(code)) is not None:
            return kind
        code = code.rpartition(".")[0]
    return None
