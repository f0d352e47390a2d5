"""The parts of a message as Anthropic's content blocks. Their order is the business of the messages.

Follows "Messages", "Vision" and "PDF support" of Anthropic's API reference.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable

from ...chat import Content, Json, Part
from ..base import data_url, unsupported

_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_PDF = "application/pdf"


def text_block(text: str) -> Json:
    """A text block."""
    return {"type": "text", "text": text}


def _text(part: Part, _path: str) -> Json | None:
    text = part.text if part.type == "text" else part.refusal
    return text_block(text) if text and text.strip() else None


def _image(part: Part, path: str) -> Json:
    url = part.image_url.url if part.image_url else ""
    held = data_url(url)
    if held is not None:
        if held.media_type not in _IMAGES:
            raise unsupported(f"images of type '{held.media_type}' are not supported", path)
        return {"type": "image", "source": _base64(held.media_type, held.data)}
    return {"type": "image", "source": {"type": "url", "url": _address(url, path)}}


def _base64(media_type: str, data: str) -> Json:
    return {"type": "base64", "media_type": media_type, "data": data}


def _address(url: str, path: str) -> str:
    if not url.lower().startswith("https://"):
        raise unsupported("neither an https:// address nor a base64 data URL", path)
    return url


def _file(part: Part, path: str) -> Json:
    file = part.file
    if file is None or (file.file_data is None and file.file_id is None):
        raise unsupported("a file needs 'file_data' or 'file_id'", path)
    if file.file_data is None:
        return {"type": "document", "source": {"type": "file", "file_id": file.file_id}}
    held = data_url(file.file_data)
    if held is not None and held.media_type in _IMAGES:
        return {"type": "image", "source": _base64(held.media_type, held.data)}
    if held is None:
        source: Json = {"type": "url", "url": _address(file.file_data, path)}
    elif held.media_type == _PDF:
        source = _base64(_PDF, held.data)
    elif held.media_type.startswith("text/"):
        source = {"type": "text", "media_type": "text/plain", "data": _decoded(held.data, path)}
    else:
        raise unsupported(f"files of type '{held.media_type}' are not supported", path)
    title = {"title": file.filename} if file.filename else {}
    return {"type": "document", "source": source, **title}


def _decoded(data: str, path: str) -> str:
    try:
        return base64.b64decode(data).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        raise unsupported("the file's data is not valid base64", path) from None


_PARTS: dict[str, Callable[[Part, str], Json | None]] = {
    "text": _text,
    "refusal": _text,
    "image_url": _image,
    "file": _file,
}
WORDS = ("text", "refusal")
_ANYTHING = tuple(_PARTS)


def blocks_of(content: Content | None, path: str, kinds: tuple[str, ...] = _ANYTHING) -> list[Json]:
    """The blocks of a message's content; blank texts are left out. Raises for parts that are not `kinds`."""
    if content is None or isinstance(content, str):
        return [text_block(content)] if content and content.strip() else []
    blocks = []
    for j, part in enumerate(content):
        place = f"{path}.content[{j}]"
        if part.type not in kinds:
            raise unsupported(f"content of type '{part.type}' is not supported here", place)
        block = _PARTS[part.type](part, place)
        if block is not None:
            blocks.append(cached(block, part.cache_control or _mark(part.prompt_cache_breakpoint)))
    return blocks


# ── cache marks ────────────────────────────────────────────────────────────────────────────────────────

EPHEMERAL: Json = {"type": "ephemeral"}
_LIFETIMES = ("5m", "1h")


def _mark(given: Json | None) -> Json | None:
    """OpenAI's mark as Anthropic's. Lifetimes that only OpenAI knows become the usual one."""
    if given is None:
        return None
    lifetime = given.get("ttl")
    return {**EPHEMERAL, "ttl": lifetime} if lifetime in _LIFETIMES else EPHEMERAL


def cached(block: Json, mark: Json | None) -> Json:
    """`block` with a client's mark that the prompt is to be cached up to here."""
    return {**block, "cache_control": mark} if mark else block


def cached_to_end(blocks: list[Json], mark: Json | None) -> list[Json]:
    """The blocks of a message with the client's mark for all of it."""
    return [*blocks[:-1], cached(blocks[-1], mark)] if blocks else blocks
