"""What can go wrong, and what each kind of failure may do.

    GatewayError                 carries kind, hop, message: everything a client is told
      RequestError               the caller's mistake, found here: nobody upstream was called
      UpstreamError              a provider failed, refused, or could not be reached
    SettingsError                a mistake in the settings file: one line for the person who wrote it

Decisions stand in `POLICY`, one row a kind; router, client status and message derive from it.
Follows "Error codes" of the OpenAI API reference for shapes; docs/errors.md shows the table.
"""

from __future__ import annotations

import re
from base64 import b64encode
from enum import StrEnum
from typing import Any, Literal, NamedTuple, TypeAlias
from urllib.parse import quote

import msgspec


class ErrorKind(StrEnum):
    """What happened, whoever says it and however they word it."""

    BAD_REQUEST = "bad_request"
    UNSUPPORTED = "unsupported"
    CONTENT_FILTER = "content_filter"
    CONTEXT_LENGTH = "context_length"
    TOO_LARGE = "too_large"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    FORBIDDEN = "forbidden"
    AUTH = "auth"
    RATE_LIMIT = "rate_limit"
    QUOTA = "quota"
    UNREACHABLE = "unreachable"
    TLS = "tls"
    RESET = "reset"
    TIMEOUT = "timeout"
    SERVER = "server"
    OVERLOADED = "overloaded"
    BAD_RESPONSE = "bad_response"
    INTERRUPTED = "interrupted"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


class Retry(StrEnum):
    """How a failure may be repeated on the target that had it."""

    NO = "no"
    QUICK = "quick"
    """Once at once while others could be asked; with backoff when nobody is left."""
    LAST = "last"
    """Only when nobody else is left: tokens may have been burnt. With others, once a request."""
    STATED = "stated"
    """A short stated wait is waited out once; else the next candidate, and back only when nobody is left."""


Level: TypeAlias = Literal["none", "model", "provider"]
"""Whose circuit breaker a failure counts for: the whole provider's, the one model's there, nobody's."""


class Policy(NamedTuple):
    """What one kind of failure may do, and what the client is told."""

    status: int
    """HTTP status for the client when this failure is the last word."""
    type: str
    code: str | None
    failover: bool
    """Whether the next target of a route is tried."""
    retry: Retry = Retry.NO
    """Whether the same target is asked again."""
    breaker: Level = "none"
    keep_status: bool = False
    """Whether an upstream's own 4xx status goes to the client."""
    keep_code: bool = True
    """Whether an upstream's own code does, when it has one."""


POLICY: dict[ErrorKind, Policy] = {
    ErrorKind.BAD_REQUEST: Policy(400, "invalid_request_error", None, False, keep_status=True),
    ErrorKind.UNSUPPORTED: Policy(400, "invalid_request_error", "unsupported_parameter", True),
    ErrorKind.CONTENT_FILTER: Policy(400, "invalid_request_error", "content_policy_violation", False),
    ErrorKind.CONTEXT_LENGTH: Policy(400, "invalid_request_error", "context_length_exceeded", False),
    ErrorKind.TOO_LARGE: Policy(413, "invalid_request_error", "request_too_large", False),
    ErrorKind.NOT_FOUND: Policy(404, "invalid_request_error", "model_not_found", True),
    ErrorKind.CONFLICT: Policy(502, "upstream_error", "upstream_error", True, Retry.QUICK),
    # the key is good, but its account, plan or place is not served: another provider may
    ErrorKind.FORBIDDEN: Policy(502, "upstream_error", "upstream_forbidden", True),
    # 401 and its codes are for the gateway's own key; a wrong key is not cured by another's answer
    ErrorKind.AUTH: Policy(502, "upstream_error", "provider_auth_error", False, keep_code=False),
    ErrorKind.RATE_LIMIT: Policy(429, "rate_limit_error", "rate_limit_exceeded", True, Retry.STATED),
    ErrorKind.QUOTA: Policy(429, "insufficient_quota", "insufficient_quota", True),
    ErrorKind.UNREACHABLE: Policy(
        502, "upstream_error", "upstream_unreachable", True, Retry.QUICK, "provider"
    ),
    ErrorKind.TLS: Policy(502, "upstream_error", "upstream_tls", True, Retry.NO, "provider"),
    ErrorKind.RESET: Policy(502, "upstream_error", "upstream_reset", True, Retry.QUICK, "model"),
    ErrorKind.TIMEOUT: Policy(504, "upstream_error", "upstream_timeout", True, Retry.LAST, "model"),
    ErrorKind.SERVER: Policy(502, "upstream_error", "upstream_error", True, Retry.QUICK, "model"),
    ErrorKind.OVERLOADED: Policy(503, "upstream_error", "upstream_overloaded", True, Retry.QUICK, "model"),
    ErrorKind.BAD_RESPONSE: Policy(
        502, "upstream_error", "bad_upstream_response", True, Retry.QUICK, "model"
    ),
    ErrorKind.INTERRUPTED: Policy(502, "upstream_error", "stream_interrupted", True, Retry.QUICK, "model"),
    ErrorKind.UNAVAILABLE: Policy(503, "service_unavailable_error", "no_provider", False),
    ErrorKind.INTERNAL: Policy(500, "server_error", "internal_error", False),
}

_KIND_BY_STATUS = {
    401: ErrorKind.AUTH,
    402: ErrorKind.QUOTA,
    403: ErrorKind.AUTH,
    404: ErrorKind.NOT_FOUND,
    408: ErrorKind.CONFLICT,
    409: ErrorKind.CONFLICT,
    413: ErrorKind.TOO_LARGE,
    425: ErrorKind.CONFLICT,
    429: ErrorKind.RATE_LIMIT,
    503: ErrorKind.OVERLOADED,
    504: ErrorKind.TIMEOUT,
    524: ErrorKind.TIMEOUT,
    529: ErrorKind.OVERLOADED,
}


def kind_of_status(status: int) -> ErrorKind:
    """The kind of failure that an HTTP status alone tells; bodies may know better."""
    if kind := _KIND_BY_STATUS.get(status):
        return kind
    if 400 <= status < 500:
        return ErrorKind.BAD_REQUEST
    return ErrorKind.SERVER if status >= 500 else ErrorKind.BAD_RESPONSE


class GatewayError(Exception):
    """A failure as the client will see it. `hop` says who spoke: "gateway" or a provider's name.

    `status` is HTTP's; `retry_after` is in seconds, None when nobody said one.
    """

    def __init__(
        self,
        kind: ErrorKind,
        message: str,
        *,
        hop: str = "gateway",
        status: int | None = None,
        type: str | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__()
        policy = POLICY[kind]
        self.kind = kind
        self.message = message
        self.hop = hop
        self.status = status or policy.status
        self.type = type or policy.type
        self.code = (policy.keep_code and code) or policy.code
        self.param = param
        self.retry_after = retry_after

    def __str__(self) -> str:
        return self.message  # as it is now: a key may have been taken out of it since

    def body(self) -> dict[str, Any]:
        """The error in OpenAI's shape, with the hop named."""
        return {
            "error": {
                "message": f"{self.hop}: {self.message}",
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }

    def encoded(self) -> bytes:
        """`body` as JSON on one line, whatever characters a provider's message had."""
        return msgspec.json.encode(self.body())


class RequestError(GatewayError):
    """The caller's mistake, found before anyone was called."""


class UpstreamError(GatewayError):
    """A provider's failure. `upstream_status` is what it answered, None when it did not.

    `attempts` is how many targets had been tried when this became the last word; `conclusive` says that the
    provider's own conversation tried what there is to try, and that another one would begin from nothing;
    `is_callers`, that it is the caller's haste alone; `is_models`, that a spent quota is one model's own.
    """

    def __init__(
        self,
        kind: ErrorKind,
        message: str,
        *,
        upstream_status: int | None = None,
        hop: str = "upstream",
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        if POLICY[kind].keep_status and upstream_status and 400 <= upstream_status < 500:
            status = status or upstream_status
        super().__init__(
            kind,
            message or kind.replace("_", " "),
            hop=hop,
            status=status,
            code=code,
            param=param,
            retry_after=retry_after,
        )
        self.upstream_status = upstream_status
        self.attempts = 0
        self.conclusive = False
        self.is_callers = False
        self.is_models = False

    @property
    def failover(self) -> bool:
        """Whether the next target may be tried after this."""
        return POLICY[self.kind].failover

    @property
    def retry(self) -> Retry:
        """How this may be repeated. A timeout that somebody answered with (504) is an answer, not a hang."""
        if self.conclusive:
            return Retry.NO
        if self.kind is ErrorKind.TIMEOUT and self.upstream_status is not None:
            return Retry.QUICK
        return POLICY[self.kind].retry

    @property
    def level(self) -> Level:
        """Whose circuit breaker it counts for."""
        if self.is_callers:
            return "none"
        return "model" if self.upstream_status == 408 else POLICY[self.kind].breaker


class SettingsError(Exception):
    """One line that names the file, the key and what is allowed."""


_KEY_SHAPES = re.compile(r"\b(sk-|sk_|crsr_|AIza|ya29\.|Bearer\s+)[A-Za-z0-9_*.…-]{4,}")
MAX_MESSAGE = 2000
"""Longest message of a provider that is passed on, in characters."""


SHORTEST_SECRET = 8
"""Shorter ones are no secrets, but words that a message may well have in it."""


def redact(text: str, secret: str | None = None) -> str:
    """`text` cut to a fair length, without the secret in any of its forms or anything shaped like a key."""
    if secret and len(secret) >= SHORTEST_SECRET:
        raw = secret.encode()
        fixed = raw[: len(raw) // 3 * 3]  # what stands in base64 whatever follows the secret in there
        for form in (secret, quote(secret, safe=""), b64encode(fixed).decode()):
            text = text.replace(form, "***")
    text = _KEY_SHAPES.sub(r"\1***", text)
    return text if len(text) <= MAX_MESSAGE else text[:MAX_MESSAGE] + "…"
