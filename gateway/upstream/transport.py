"""What the driver needs of a transport, and nothing more: open a call, read its body, let it go.

Everything that is known about HTTP clients stays behind these two protocols. A transport maps whatever
its library raises to `UpstreamError`: nobody above it sees a foreign exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ..providers.base import HttpRequest


class Response(Protocol):
    """An answer whose head has arrived. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    connect: float | None
    """Seconds spent on connecting, TLS included; None when a connection was there already."""

    async def read(self) -> bytes:
        """The next bytes of the body, decoded; empty at its end. Raises `UpstreamError`."""

    async def aclose(self) -> None:
        """Gives the connection back when the body was read to its end, else closes it. Idempotent."""


class Transport(Protocol):
    """Where calls leave the process."""

    async def send(self, http: HttpRequest, url: str, headers: Mapping[str, str], /) -> Response:
        """Sends `http` to `url` and returns at the head of the answer. Raises `UpstreamError`."""

    async def aclose(self) -> None:
        """Closes every connection."""
