"""The OpenAI ingress: `POST /v1/chat/completions`, `GET /v1/models`.

It decodes, asks the router, and renders; it knows no provider. Follows the OpenAI API reference.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from .. import sse
from ..catalog import Catalog, Entry
from ..chat import ChatRequest
from ..errors import ErrorKind, GatewayError, RequestError, UpstreamError
from ..exchange import Exchange
from ..explain import explain
from ..intake import read_request
from ..router import Router
from . import render
from .client import Client, EventStream
from .operations import json_response
from .service import Call, Service, answer_headers, caller_of, exchange_headers, own_fault, shutting_down

log = logging.getLogger("gateway.ingress")


class ChatCompletions(Service):
    """`POST /v1/chat/completions`, streaming and not."""

    async def _serve(self, client: Client, call: Call) -> None:
        strict = client.headers.get("x-gateway-strict") == "1"
        request = read_request(await self._body(client), strict=strict)
        call.model, call.way = request.model, "stream" if request.stream else "whole"
        if client.headers.get("x-gateway-explain") == "1":
            call.way = "explained"
            body = msgspec.json.encode(explain(self._router, request))
            await client.answer(200, body, [("x-request-id", call.request_id)])
            return
        async with client.watched():
            if request.stream:
                await self._stream(client, call, request)
            else:
                await self._whole(client, call, request)

    async def _whole(self, client: Client, call: Call, request: ChatRequest) -> None:
        async with self._router.open(request, caller_of(client, stream=False)) as exchange:
            call.exchange = exchange
            chunk = await exchange.collect()
            body = render.response(request, chunk, **_names(call, exchange))
            await client.answer(200, body, answer_headers(call, exchange))

    async def _stream(self, client: Client, call: Call, request: ChatRequest) -> None:
        caller = caller_of(client, stream=True)
        with self._event_stream(client, call) as stream:
            caller = msgspec.structs.replace(caller, waiting=stream.waiting)
            try:
                async with self._router.open(request, caller) as exchange:
                    call.exchange = exchange
                    await self._relay(stream, call, request, exchange)
            except asyncio.CancelledError:
                if client.gone or not stream.started:
                    raise
                await _break_off(stream, call, shutting_down())
            except GatewayError as error:
                if not stream.started:
                    raise
                await _break_off(stream, call, error)
            except Exception:
                if not stream.started:
                    raise
                log.exception("request %s failed in the gateway itself", call.request_id)
                await _break_off(stream, call, own_fault())

    async def _relay(self, stream: EventStream, call: Call, request: ChatRequest, exchange: Exchange) -> None:
        if stream.started:  # the head is gone: say in a comment what its headers would have said
            told = [f"{name}={value}" for name, value in exchange_headers(exchange)]
            await stream.write(sse.comment("gateway " + " ".join(told)))
        else:
            stream.headers += exchange_headers(exchange)
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


async def _break_off(stream: EventStream, call: Call, error: GatewayError) -> None:
    """Ends a stream that has begun with an error in it, never as if it were whole."""
    if call.exchange is not None and isinstance(error, UpstreamError):  # in the middle of its answer
        error = UpstreamError(ErrorKind.INTERRUPTED, error.message, hop=error.hop)
    call.error = error
    await stream.finish(sse.encode(error.encoded()))


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
    sizes = {"context_window": entry.context_window, "max_output_tokens": entry.max_output}
    return {
        "id": entry.id,
        "object": "model",
        "created": entry.created,
        "owned_by": entry.owned_by,
        **{name: tokens for name, tokens in sizes.items() if tokens is not None},
    }
