"""TLS to providers: verified always, 1.3 unless a provider's setting says 1.2 (P18, P97)."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
import trustme

from .conftest import plain_client, serving

ANSWER = json.dumps(
    {
        "id": "c1",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "safe"}, "finish_reason": "stop"}
        ],
    }
).encode()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@asynccontextmanager
async def provider(context: ssl.SSLContext | None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server on loopback that gives one answer to everything: its address, and what it was sent."""
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if context is None:  # as a plain server answers a greeting that it does not understand
                writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                return
            while head := await reader.readuntil(b"\r\n\r\n"):
                received.append(head)
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
                writer.write(f"content-length: {len(ANSWER)}\r\n\r\n".encode() + ANSWER)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", received


def context_of(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


async def ask(address: str, extra: str = "") -> httpx2.Response:
    text = f'[providers.local]\ntype = "openai"\nbase_url = "{address}/v1"\n{extra}'
    async with serving(text) as url, plain_client(url) as http:
        body = {"model": "local/m", "messages": [{"role": "user", "content": "Hi"}]}
        return await http.post("/v1/chat/completions", json=body)


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


async def test_an_authority_of_ones_own(authority: trustme.CA, ca_file: Path):
    async with provider(context_of(authority)) as (address, _):
        answer = await ask(address, f'ca_file = "{ca_file}"')
    assert answer.json()["choices"][0]["message"]["content"] == "safe"


@pytest.mark.parametrize("case", ["unknown authority", "wrong host", "only 1.2", "no TLS at all"])
async def test_what_cannot_be_trusted_gets_no_request(authority: trustme.CA, ca_file: Path, case: str):
    """One attempt, its own code, and not a byte of the request is sent."""
    context: ssl.SSLContext | None = context_of(
        authority, "other.example" if case == "wrong host" else "127.0.0.1"
    )
    if case == "only 1.2" and context is not None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with provider(None if case == "no TLS at all" else context) as (address, received):
        answer = await ask(address, "" if case == "unknown authority" else f'ca_file = "{ca_file}"')
    assert answer.status_code == 502
    error = answer.json()["error"]
    assert error["code"] == "upstream_tls"
    assert error["message"].startswith("local: TLS failed: ")
    assert not any(b"POST" in head for head in received)


async def test_1_2_when_the_setting_says_so(authority: trustme.CA, ca_file: Path):
    context = context_of(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with provider(context) as (address, _):
        answer = await ask(address, f'ca_file = "{ca_file}"\ntls_min = "1.2"')
    assert answer.status_code == 200
