"""The small pieces of a Gemini request: parts of messages, names of functions, instructions.

What one part of OpenAI's dialect is in Gemini's; nothing here knows about turns and their order.
Follows the Gemini API reference (`Part`, `FunctionDeclaration`) and its guides to images, audio and files.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from ...chat import (
    ChatRequest,
    Content,
    DeveloperMessage,
    File,
    ImageUrl,
    InputAudio,
    Json,
    Part,
    SystemMessage,
    texts,
)
from ..base import data_url, unsupported
from .models import Traits

# ── names of functions ─────────────────────────────────────────────────────────────────────────────────

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}\Z")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.:-]")


def function_name(name: str) -> str:
    """`name` as the API allows it. A changed one carries a hash, so that no two names become one."""
    if _NAME.match(name):
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"_{_NOT_IN_NAMES.sub('_', name)[:54]}_{digest}"


# ── parts of a message ─────────────────────────────────────────────────────────────────────────────────

RESULT_TYPES = frozenset(("image/png", "image/jpeg", "image/webp", "application/pdf", "text/plain"))

_TYPE_BY_SUFFIX = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "heic": "image/heic",
    "heif": "image/heif",
    "gif": "image/gif",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "html": "text/html",
    "json": "application/json",
}
_FILES_API = re.compile(r"https://generativelanguage\.googleapis\.com/[^?#]*files/")
_ADDRESS_ENDS = re.compile(r"[?#]")
_RESOLUTIONS = {"low": "LOW", "medium": "MEDIUM", "high": "HIGH"}


def fits_in_result(part: Json) -> bool:
    """Whether a part may stand inside a function response instead of beside it."""
    return "inlineData" in part and part["inlineData"]["mimeType"] in RESULT_TYPES


def parts_of(content: Content | None, traits: Traits, path: str) -> Iterator[Json]:
    """The parts of a message. Raises `UNSUPPORTED` with the path of one that cannot be said."""
    if isinstance(content, str):
        if content:
            yield {"text": content}
        return
    for i, part in enumerate(content or ()):
        if part.type == "text":
            if part.text:
                yield {"text": part.text}
        else:
            yield _media(part, traits, f"{path}.content[{i}]")


def _media(part: Part, traits: Traits, path: str) -> Json:
    if part.image_url is not None:
        return _image(part.image_url, traits, path)
    if part.input_audio is not None:
        return _audio(part.input_audio)
    if part.file is not None:
        return _file(part.file, traits, path)
    raise unsupported(f"this API has no content parts of type {part.type!r}", path)


def _image(image: ImageUrl, traits: Traits, path: str) -> Json:
    part = _at(image.url, "image/jpeg", traits, f"{path}.image_url.url")
    level = _RESOLUTIONS.get(image.detail or "")
    if level and traits.is_third_plus:
        part["mediaResolution"] = {"level": f"MEDIA_RESOLUTION_{level}"}
    return part


def _audio(audio: InputAudio) -> Json:
    return _inline(f"audio/{audio.format}", audio.data)


def _file(file: File, traits: Traits, path: str) -> Json:
    guess = _type_of(file.filename or "", "application/pdf")
    if file.file_data:
        return _at(file.file_data, guess, traits, f"{path}.file.file_data")
    if file.file_id and _FILES_API.match(file.file_id):
        return _remote(file.file_id, guess)
    raise unsupported("this API takes file data, or the URI of its own Files API as id", f"{path}.file")


def _at(url: str, guess: str, traits: Traits, path: str) -> Json:
    """What `url` holds or leads to; an address that does not tell the type is of the type `guess`."""
    if inline := data_url(url):
        return _inline(inline.media_type, inline.data)
    if url.startswith("https://") and traits.fetches_urls:
        return _remote(url, _type_of(_ADDRESS_ENDS.split(url)[0], guess))
    what = "https addresses or base64 data URLs" if traits.fetches_urls else "base64 data URLs"
    raise unsupported(f"this model takes {what}", path)


def _inline(media_type: str, data: str) -> Json:
    return {"inlineData": {"mimeType": media_type, "data": data}}


def _remote(uri: str, media_type: str) -> Json:
    return {"fileData": {"mimeType": media_type, "fileUri": uri}}


def _type_of(name: str, otherwise: str) -> str:
    return _TYPE_BY_SUFFIX.get(name.rpartition(".")[2].lower(), otherwise)


# ── instructions ───────────────────────────────────────────────────────────────────────────────────────


def instructions(request: ChatRequest) -> list[str]:
    """The texts of system and developer messages, one each, wherever in the conversation they stand."""
    found: list[str] = []
    for i, message in enumerate(request.messages):
        if isinstance(message, SystemMessage | DeveloperMessage):
            if isinstance(message.content, list) and any(part.type != "text" for part in message.content):
                raise unsupported("instructions can only be text here", f"messages[{i}].content")
            found.append("\n".join(texts(message.content)))
    return [text for text in found if text]
