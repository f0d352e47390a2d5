"""What a person or a supervisor asks of the gateway itself. Everything is answered from memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from .. import __version__
from ..router import Router
from ..upstream import Failure
from ..vault import Vault


class Provided(Protocol):
    """A provider as `/health` tells of it. `state` is what its layers know, as JSON."""

    @property
    def in_flight(self) -> int: ...
    @property
    def answered(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def last_failure(self) -> Failure | None: ...
    def state(self) -> dict[str, Any]: ...


class Health:
    """`GET /health` and `GET /health/ready`.

    `provided` are the providers with their counters and layers; `draining` tells whether the gateway is on
    its way down; `vault` is None where it is switched off. Details are shown to those who may use the gateway
    (`scope["gateway.authorized"]`).
    """

    def __init__(
        self,
        router: Router,
        provided: Mapping[str, Provided],
        in_flight: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
        *,
        vault: Vault | None = None,
    ) -> None:
        self.draining = False
        self._router = router
        self._provided = provided
        self._in_flight = in_flight
        self._vault = vault
        self._clock = clock
        self._started = clock()

    async def health(self, request: Request) -> Response:
        """200 as long as the process answers, with a summary of every provider."""
        body: dict[str, Any] = {"status": "draining" if self.draining else "ok"}
        if request.scope.get("gateway.authorized", True):
            body |= {
                "version": __version__,
                "uptime_seconds": round(self._clock() - self._started, 3),
                "in_flight": self._in_flight(),
                "providers": {name: self._provider(name) for name in self._router.members},
                "vault": self._vault and {"entries": self._vault.entries, "bytes": self._vault.bytes},
                "routes": {name: [str(t) for t in targets] for name, targets in self._router.routes.items()},
            }
        return json_response(body)

    async def ready(self, _request: Request) -> Response:
        """200, or 503 while draining or when no provider can be called."""
        usable = [name for name, member in self._router.members.items() if member.off is None]
        if self.draining or not usable:
            return json_response({"status": "draining" if self.draining else "no usable provider"}, 503)
        return json_response({"status": "ready"})

    def _provider(self, name: str) -> dict[str, Any]:
        off = self._router.members[name].off
        if off is not None:
            return {"on": False, "reason": off}
        provided = self._provided[name]
        failure = provided.last_failure
        return {
            "on": True,
            "in_flight": provided.in_flight,
            "answered": provided.answered,
            "failed": provided.failed,
            "last_failure": failure and {"kind": failure.kind, "message": failure.message, "at": failure.at},
            **provided.state(),
        }


class Index:
    """`GET /`: what this is and where things are, for somebody who looks with a browser."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = list(paths)

    async def __call__(self, _request: Request) -> Response:
        return json_response({"name": "local-llm-gateway", "version": __version__, "endpoints": self._paths})


def json_response(body: Any, status: int = 200) -> Response:
    """`body` as JSON."""
    return Response(msgspec.json.encode(body), status, media_type="application/json")
