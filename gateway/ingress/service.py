"""What every path that calls a provider for its client has in common, from the first byte to the log line.

How a body is read and refused, what a failure is told like, which headers an answer has: here. What is asked
for and how it is answered: with each path. Plain ASGI.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
import uuid
from abc import ABC, abstractmethod
from contextlib import suppress

from msgspec import Struct
from starlette.types import Receive, Scope, Send

from ..errors import ErrorKind, GatewayError, RequestError, UpstreamError
from ..exchange import Caller, Embedded, Exchange, Timings
from ..resilience.deadline import deadline_of, retry_count
from ..router import Router
from .client import Client, ClientGone, Header

log = logging.getLogger("gateway.ingress")
access_log = logging.getLogger("gateway.access")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
MAX_SHOWN = 256
"""Characters of a model's name that a log line shows."""
MAX_DROPPED = 40
"""Names of dropped fields that a header lists."""
_FIELD_NAME = re.compile(r"[A-Za-z0-9._\[\]-]{1,64}")


class Limits(Struct, frozen=True, kw_only=True):
    """What a client may take: sizes in bytes, times in seconds."""

    max_body: int = 20 << 20
    body_timeout: float = 30
    send_timeout: float = 60
    keepalive_after: float = 10
    keepalive_every: float = 15


class Call(Struct, kw_only=True):
    """One request on its way through: what headers and the log line are made of.

    `way` is how it is answered, in a word for the log.
    """

    request_id: str
    started: float
    model: str = "-"
    way: str = "whole"
    exchange: Exchange | Embedded | None = None
    error: GatewayError | None = None


class Service(ABC):
    """One path, asked of `router`. `in_flight` is how many requests are under way."""

    def __init__(self, router: Router, limits: Limits) -> None:
        self._router = router
        self._limits = limits
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = Client(scope, receive, send)
        call = Call(request_id=_request_id(client), started=time.monotonic())
        self.in_flight += 1
        try:
            await self._serve(client, call)
        except ClientGone:
            await asyncio.sleep(0)  # nobody is left to be told; the server notices that in its own turn
        except asyncio.CancelledError:  # the server ends; it does not want this back
            await refuse(client, call, shutting_down())
        except GatewayError as error:
            await refuse(client, call, error)
        except Exception:
            log.exception("request %s failed in the gateway itself", call.request_id)
            await refuse(client, call, own_fault())
        finally:
            self.in_flight -= 1
            _log(client, call)

    @abstractmethod
    async def _serve(self, client: Client, call: Call) -> None:
        """Answers one request. Raises `GatewayError` as long as nothing was sent, and `ClientGone`."""

    async def _body(self, client: Client) -> bytes:
        """The body, which has to be JSON by its headers. Raises `RequestError`, and `ClientGone`."""
        kind = client.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            sent = f"not {kind}" if kind else "which is missing"
            message = f"send the body with content-type: application/json, {sent}"
            raise RequestError(ErrorKind.BAD_REQUEST, message, status=415, code="unsupported_media_type")
        if client.headers.get("content-encoding", "identity") != "identity":
            message = "a compressed body is not read: send it without content-encoding"
            raise RequestError(ErrorKind.BAD_REQUEST, message, status=415, code="unsupported_media_type")
        return await client.body(self._limits.max_body, self._limits.body_timeout)


async def refuse(client: Client, call: Call, error: GatewayError) -> None:
    """Answers with `error`, as long as nothing else was answered."""
    call.error = error
    if not client.status:
        with suppress(ClientGone):
            await client.answer(error.status, error.encoded(), _error_headers(call, error))


def shutting_down() -> GatewayError:
    """What those are told who are still waiting when the server ends."""
    return GatewayError(ErrorKind.UNAVAILABLE, "is shutting down", code="shutting_down")


def own_fault() -> GatewayError:
    """What a bug of the gateway's is told like."""
    return GatewayError(ErrorKind.INTERNAL, "failed on its own account; its log says how")


def _request_id(client: Client) -> str:
    """The client's own id when it sends a plain one, else a new one."""
    given = client.headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else f"req_{uuid.uuid4().hex}"


def caller_of(client: Client, *, stream: bool) -> Caller:
    """Whose request it is: when it has to be over by its own words, and whether its SDK repeats it already.

    Raises `RequestError` for an `x-gateway-timeout` that is none.
    """
    now = asyncio.get_running_loop().time()
    try:
        deadline = deadline_of(client.headers, now=now, stream=stream, total=math.inf)
    except ValueError as error:
        raise RequestError(ErrorKind.BAD_REQUEST, str(error), param="x-gateway-timeout") from None
    is_hasty = deadline.at < math.inf
    return Caller(
        deadline=deadline.at if is_hasty else None,
        repeats=retry_count(client.headers) == 0,
        is_hasty=is_hasty,
    )


def answer_headers(call: Call, exchange: Exchange | Embedded) -> list[Header]:
    """The headers of an answer that is not streamed."""
    return [("x-request-id", call.request_id), *exchange_headers(exchange)]


def exchange_headers(exchange: Exchange | Embedded) -> list[Header]:
    """Who answered, after how many tries and in what time, and what that one could not take."""
    headers = [
        ("x-gateway-provider", exchange.target.provider),
        ("x-gateway-model", exchange.target.model),
        ("x-gateway-attempts", str(exchange.attempts)),
        ("server-timing", _server_timing(exchange.timings)),
    ]
    if exchange.timings.queued is not None:
        headers.append(("x-gateway-queued-ms", f"{exchange.timings.queued * 1000:.0f}"))
    if exchange.dropped:
        names = [name if _FIELD_NAME.fullmatch(name) else "?" for name in exchange.dropped[:MAX_DROPPED]]
        more = ["..."] if len(exchange.dropped) > MAX_DROPPED else []
        headers.append(("x-gateway-dropped-params", ", ".join(names + more)))
    return [header for header in headers if header[1]]


def _server_timing(timings: Timings) -> str:
    """The exchange's times in milliseconds, as `Server-Timing` wants them."""
    known = {name: getattr(timings, name) for name in timings.__struct_fields__}
    return ", ".join(f"{name};dur={value * 1000:.1f}" for name, value in known.items() if value is not None)


LONGEST_RETRY = 60
"""Seconds of `retry-after` that clients wait: SDKs take a longer one for none, and come back at once."""
_NEVER_RETRY = (ErrorKind.AUTH, ErrorKind.QUOTA, ErrorKind.UNAVAILABLE)


def _error_headers(call: Call, error: GatewayError) -> list[Header]:
    headers = [("x-request-id", call.request_id)]
    if isinstance(error, UpstreamError):
        headers += [("x-gateway-provider", error.hop), ("x-gateway-attempts", str(error.attempts))]
    gave_up = isinstance(error, UpstreamError) and error.status >= 500  # we tried again, and it did not help
    if gave_up or error.kind in _NEVER_RETRY or (error.retry_after or 0) > LONGEST_RETRY:
        headers.append(("x-should-retry", "false"))
    if error.kind not in (ErrorKind.AUTH, ErrorKind.QUOTA) and error.retry_after is not None:
        headers.append(("retry-after", str(math.ceil(error.retry_after))))
        headers.append(("retry-after-ms", str(math.ceil(error.retry_after * 1000))))
    if error.status in (408, 413):  # the rest of the body is still on its way
        headers.append(("connection", "close"))
    return headers


def _log(client: Client, call: Call) -> None:
    """One line for each request: what was asked, who answered, how long it took, how it ended."""
    exchange, error = call.exchange, call.error
    parts = [call.request_id, call.model[:MAX_SHOWN], call.way]
    if exchange is not None:
        parts.append(f"-> {exchange.target} attempts={exchange.attempts}")
        if exchange.timings.first_token is not None:
            parts.append(f"first_token={exchange.timings.first_token * 1000:.0f}ms")
        if exchange.usage is not None:
            parts.append(f"tokens={exchange.usage.prompt_tokens}+{exchange.usage.completion_tokens}")
    parts.append(f"total={(time.monotonic() - call.started) * 1000:.0f}ms")
    if error is not None:
        parts.append(f"error={error.kind} {error.hop}: {error.message}")
    elif client.gone:
        parts.append("client left")
    access_log.info("%s %s", client.status or "-", " ".join(parts))
