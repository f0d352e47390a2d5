"""Running the application under uvicorn: the listening socket, the start, the way down."""

from __future__ import annotations

import asyncio
import errno
import math
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from .app import Gateway
from .errors import SettingsError
from .protocol import Protocol

_REASONS = {
    errno.EADDRINUSE: "it is taken by another program: stop that one, or choose another with --port",
    errno.EACCES: "the system does not allow it: choose a port above 1023 with --port",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 is any free one. Raises `SettingsError` that says why, and what to do."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "that is no name of a machine"
        raise SettingsError(f"cannot listen on {host}: {reason}") from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        reason = _REASONS.get(error.errno or 0, error.strerror)
        raise SettingsError(f"cannot listen on {host} port {port}: {reason}") from None
    return sock


def url_of(sock: socket.socket) -> str:
    """The address that clients use."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """uvicorn, telling when it listens and when it is on its way down; a signal is no error of ours."""

    def __init__(
        self, config: uvicorn.Config, on_start: Callable[[], None], on_stop: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._on_start = on_start
        self._on_stop = on_stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.force_exit:  # uvicorn then leaves the application as it is
            tasks = list(self.server_state.tasks)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1) if tasks else None
            await self.lifespan.shutdown()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second one ends at once."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._on_stop()


def run(gateway: Gateway, sock: socket.socket, on_start: Callable[[], None]) -> None:
    """Serves on `sock` until a signal; then streams get the drain time to end. `on_start`: it listens now."""
    config = uvicorn_config(gateway)

    def stop() -> None:
        gateway.health.draining = True

    _Server(config, on_start, stop).run([sock])


def uvicorn_config(gateway: Gateway) -> uvicorn.Config:
    """How uvicorn runs the gateway: without an access log of its own, and trusting no proxy's headers."""
    return uvicorn.Config(
        gateway.app,
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=math.ceil(gateway.settings.server.drain_timeout),
    )
