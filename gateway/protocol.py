"""HTTP/1.1 at the door: uvicorn's protocol, with what a gateway cannot leave as it is.

- A second request on a connection whose first is still being answered is not taken up: reading would have to
  stop until then, and a client that leaves would not be noticed. The connection closes after the first.
- An upgrade (Java's client offers one with every request) is declined, and the body of the request is read.
- What is no HTTP is refused in OpenAI's shape.
- The application can cut a connection off: a client that takes nothing is not waited for.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from .errors import ErrorKind, RequestError

ABORT = "gateway.abort"
"""The key in the scope of the function that cuts the connection off."""


class Protocol(HttpToolsProtocol):
    """One connection of a client."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._deaf = False
        """Nothing that still arrives is taken up."""
        self._owed = 0
        """Bytes of a body that the parser leaves to us, since the request offered an upgrade."""

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._owed:
            self._take(data)
        elif not self._deaf:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                self._decline(data[upgrade.args[0] :])
            except httptools.HttpParserError:
                if not self._deaf:
                    self.send_400_response("Invalid HTTP request received.")

    def on_headers_complete(self) -> None:
        before: RequestResponseCycle | None = self.cycle
        if before is not None and not before.response_complete:
            before.keep_alive = False
            self._deaf = True
            return
        cast("dict[str, Any]", self.scope)[ABORT] = self.transport.abort
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._deaf:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._deaf:
            return
        if self.parser.should_upgrade():
            self._owed = self._content_length()
            self.cycle.keep_alive = False  # the parser is at its end
        if not self._owed:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuses what is no HTTP, in the shape of every other error."""
        body = RequestError(ErrorKind.BAD_REQUEST, "that is not HTTP/1.1 as it should be").encoded()
        head = (
            f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        )
        self.transport.write(f"{head}connection: close\r\n\r\n".encode() + body)
        self.transport.close()

    def _content_length(self) -> int:
        length = next((value for name, value in self.headers if name == b"content-length"), b"")
        return int(length) if length.isdigit() else 0

    def _decline(self, rest: bytes) -> None:
        """Goes on without the upgrade: what follows is the request's body."""
        if self._owed:
            self._take(rest)
        else:
            self._deaf = True

    def _take(self, data: bytes) -> None:
        data = data[: self._owed]
        self._owed -= len(data)
        if data:
            self.on_body(data)
        if not self._owed:
            self.cycle.more_body = False
            self.cycle.message_event.set()
            self._deaf = True
