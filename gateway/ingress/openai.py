"""The OpenAI ingress: `POST /v1/chat/completions`, `GET /v1/models`.

It decodes, asks the router, and renders; it knows no provider. Follows the OpenAI API reference.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
import uuid
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .. import sse
from ..catalog import Catalog, Entry
from ..chat import ChatRequest, InvalidRequest, decode_request, modern
from ..errors import ErrorKind, GatewayError, RequestError, UpstreamError
from ..exchange import Exchange, Timings
from ..router import Router
from . import render
from .client import Client, ClientGone, EventStream, Header
from .operations import json_response

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
    """One request on its way through: what headers and the log line are made of."""

    request_id: str
    started: float
    model: str = "-"
    stream: bool = False
    exchange: Exchange | None = None
    error: GatewayError | None = None


class ChatCompletions:
    """`POST /v1/chat/completions` as a plain ASGI application."""

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
            await _refuse(client, call, _shutting_down())
        except GatewayError as error:
            await _refuse(client, call, error)
        except Exception:
            log.exception("request %s failed in the gateway itself", call.request_id)
            await _refuse(client, call, _own_fault())
        finally:
            self.in_flight -= 1
            _log(client, call)

    async def _serve(self, client: Client, call: Call) -> None:
        request = await self._request(client)
        call.model, call.stream = request.model, bool(request.stream)
        async with client.watched():
            if request.stream:
                await self._stream(client, call, request)
            else:
                await self._whole(client, call, request)

    async def _request(self, client: Client) -> ChatRequest:
        """The decoded request. Raises `RequestError` with the field, and `ClientGone`."""
        kind = client.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            sent = f"not {kind}" if kind else "which is missing"
            message = f"send the body with content-type: application/json, {sent}"
            raise RequestError(ErrorKind.BAD_REQUEST, message, status=415, code="unsupported_media_type")
        if client.headers.get("content-encoding", "identity") != "identity":
            message = "a compressed body is not read: send it without content-encoding"
            raise RequestError(ErrorKind.BAD_REQUEST, message, status=415, code="unsupported_media_type")
        body = await client.body(self._limits.max_body, self._limits.body_timeout)
        try:
            request = modern(decode_request(body))
        except RecursionError:
            raise RequestError(ErrorKind.BAD_REQUEST, "the body is nested too deeply") from None
        except InvalidRequest as error:
            raise RequestError(
                ErrorKind.BAD_REQUEST, error.message, param=error.param, code=error.code
            ) from None
        if request.legacy and request.n is not None and request.n > 1:
            raise RequestError(ErrorKind.UNSUPPORTED, "'functions' go with one choice only", param="n")
        if client.headers.get("x-gateway-strict") == "1":
            request = msgspec.structs.replace(request, strict=True)
        return request

    async def _whole(self, client: Client, call: Call, request: ChatRequest) -> None:
        async with self._router.open(request) as exchange:
            call.exchange = exchange
            chunk = await exchange.collect()
            body = render.response(request, chunk, **_names(call, exchange))
            await client.answer(200, body, _headers(call, exchange))

    async def _stream(self, client: Client, call: Call, request: ChatRequest) -> None:
        with self._event_stream(client, call) as stream:
            try:
                async with self._router.open(request) as exchange:
                    call.exchange = exchange
                    await self._relay(stream, call, request, exchange)
            except asyncio.CancelledError:
                if client.gone or not stream.started:
                    raise
                await _break_off(stream, call, _shutting_down())
            except GatewayError as error:
                if not stream.started:
                    raise
                await _break_off(stream, call, error)
            except Exception:
                if not stream.started:
                    raise
                log.exception("request %s failed in the gateway itself", call.request_id)
                await _break_off(stream, call, _own_fault())

    async def _relay(self, stream: EventStream, call: Call, request: ChatRequest, exchange: Exchange) -> None:
        if stream.started:  # the head is gone: say in a comment what its headers would have said
            told = [f"{name}={value}" for name, value in _exchange_headers(exchange)]
            await stream.write(sse.comment("gateway " + " ".join(told)))
        else:
            stream.headers += _exchange_headers(exchange)
        rendered = render.Stream(request, **_names(call, exchange))
        while batch := await exchange.read():
            data = b"".join([rendered.render(chunk) for chunk in batch])
            if data:
                await stream.write(data)
        await stream.finish(rendered.end())

    def _event_stream(self, client: Client, call: Call) -> EventStream:
        return EventStream(
            client,
            [
                ("content-type", "text/event-stream; charset=utf-8"),
                ("cache-control", "no-cache"),
                ("x-accel-buffering", "no"),
                ("x-request-id", call.request_id),
            ],
            after=_commit_after(client, self._limits.keepalive_after),
            every=self._limits.keepalive_every,
            send_timeout=self._limits.send_timeout,
        )


async def _refuse(client: Client, call: Call, error: GatewayError) -> None:
    """Answers with `error`, as long as nothing else was answered."""
    call.error = error
    if not client.status:
        with suppress(ClientGone):
            await client.answer(error.status, error.encoded(), _error_headers(call, error))


async def _break_off(stream: EventStream, call: Call, error: GatewayError) -> None:
    """Ends a stream that has begun with an error in it, never as if it were whole."""
    if call.exchange is not None and isinstance(error, UpstreamError):  # in the middle of its answer
        error = UpstreamError(ErrorKind.INTERRUPTED, error.message, hop=error.hop)
    call.error = error
    await stream.finish(sse.encode(error.encoded()))


def _shutting_down() -> GatewayError:
    return GatewayError(ErrorKind.UNAVAILABLE, "is shutting down", code="shutting_down")


def _own_fault() -> GatewayError:
    return GatewayError(ErrorKind.INTERNAL, "failed on its own account; its log says how")


def _request_id(client: Client) -> str:
    """The client's own id when it sends a plain one, else a new one."""
    given = client.headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else f"req_{uuid.uuid4().hex}"


def _commit_after(client: Client, seconds: float) -> float:
    """Seconds of silence until the head of a stream goes out: at most half of what the client waits."""
    try:
        patience = float(client.headers.get("x-stainless-read-timeout", ""))
    except ValueError:
        return seconds
    return min(seconds, patience / 2) if patience > 0 else seconds


def _names(call: Call, exchange: Exchange) -> dict[str, Any]:
    """What stands in for the names that an upstream leaves out."""
    return {
        "id": f"chatcmpl-{call.request_id.removeprefix('req_')}",
        "model": exchange.target.model,
        "created": int(time.time()),
    }


def _headers(call: Call, exchange: Exchange) -> list[Header]:
    return [("x-request-id", call.request_id), *_exchange_headers(exchange)]


def _exchange_headers(exchange: Exchange) -> list[Header]:
    headers = [
        ("x-gateway-provider", exchange.target.provider),
        ("x-gateway-model", exchange.target.model),
        ("x-gateway-attempts", str(exchange.attempts)),
        ("server-timing", _server_timing(exchange.timings)),
    ]
    if exchange.dropped:
        names = [name if _FIELD_NAME.fullmatch(name) else "?" for name in exchange.dropped[:MAX_DROPPED]]
        more = ["..."] if len(exchange.dropped) > MAX_DROPPED else []
        headers.append(("x-gateway-dropped-params", ", ".join(names + more)))
    return [header for header in headers if header[1]]


def _server_timing(timings: Timings) -> str:
    """The exchange's times in milliseconds, as `Server-Timing` wants them."""
    known = {name: getattr(timings, name) for name in timings.__struct_fields__}
    return ", ".join(f"{name};dur={value * 1000:.1f}" for name, value in known.items() if value is not None)


_NEVER_RETRY = (ErrorKind.AUTH, ErrorKind.QUOTA, ErrorKind.UNAVAILABLE)


def _error_headers(call: Call, error: GatewayError) -> list[Header]:
    headers = [("x-request-id", call.request_id)]
    if isinstance(error, UpstreamError):
        headers += [("x-gateway-provider", error.hop), ("x-gateway-attempts", str(error.attempts))]
    if error.kind in _NEVER_RETRY:
        headers.append(("x-should-retry", "false"))
    elif error.retry_after is not None:
        headers.append(("retry-after", str(math.ceil(error.retry_after))))
        headers.append(("retry-after-ms", str(math.ceil(error.retry_after * 1000))))
    if error.status in (408, 413):  # the rest of the body is still on its way
        headers.append(("connection", "close"))
    return headers


def _log(client: Client, call: Call) -> None:
    """One line for each request: what was asked, who answered, how long it took, how it ended."""
    exchange, error = call.exchange, call.error
    parts = [call.request_id, call.model[:MAX_SHOWN], "stream" if call.stream else "whole"]
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


class Models:
    """`GET /v1/models` and `GET /v1/models/{id}`, ids with slashes included."""

    def __init__(self, catalog: Catalog, router: Router) -> None:
        self._catalog = catalog
        self._router = router

    async def list(self, _request: Request) -> Response:
        entries = [_model_json(entry) for entry in await self._catalog.models()]
        return json_response({"object": "list", "data": entries})

    async def get(self, request: Request) -> Response:
        """One model by its name, or by a bare name that has a home."""
        name: str = request.path_params["model_id"]
        if not name:
            return await self.list(request)
        known = {entry.id: entry for entry in await self._catalog.models()}
        entry = known.get(name) or known.get(self._full_name(name))
        if entry is None:
            error = RequestError(ErrorKind.NOT_FOUND, f"there is no model {name[:200]!r}", param="model")
            return json_response(error.body(), error.status)
        return json_response({**_model_json(entry), "id": name})

    def _full_name(self, name: str) -> str:
        try:
            return str(self._router.target(name))
        except RequestError:
            return ""


def _model_json(entry: Entry) -> dict[str, Any]:
    return {"id": entry.id, "object": "model", "created": entry.created, "owned_by": entry.owned_by}
