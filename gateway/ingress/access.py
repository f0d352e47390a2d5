"""Who may call: a pure ASGI layer in front of every route.

With a gateway key set, clients bring it as `Authorization: Bearer …` or `x-api-key`. Keys are compared in
constant time, as digests. The health routes answer everybody, with nothing but the status.
"""

from __future__ import annotations

import hashlib
import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import ErrorKind, RequestError
from .client import Client

OPEN_PATHS = frozenset(("/health", "/health/ready"))


class AccessGuard:
    """Lets through what brings `key`; without a key to bring, everything."""

    def __init__(self, app: ASGIApp, key: str | None) -> None:
        self._app = app
        self._digest = _digest(key.encode()) if key is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._digest is None or scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        authorized = hmac.compare_digest(_digest(_bearer(scope)), self._digest)
        if authorized or scope["path"] in OPEN_PATHS:
            scope["gateway.authorized"] = authorized
            await self._app(scope, receive, send)
            return
        error = RequestError(
            ErrorKind.BAD_REQUEST,
            "the API key is missing or wrong: send the gateway's own key as 'Authorization: Bearer …'",
            status=401,
            code="invalid_api_key",
        )
        headers = [("www-authenticate", "Bearer")]
        await Client(scope, receive, send).answer(error.status, error.encoded(), headers)


def _digest(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()


def _bearer(scope: Scope) -> bytes:
    headers = dict(scope["headers"])
    given: bytes = headers.get(b"authorization", b"")
    if given[:7].lower() == b"bearer ":
        return given[7:].strip()
    other: bytes = headers.get(b"x-api-key", b"")
    return other
