"""From the bytes of a body to a request that may be asked: the same for HTTP, command line and library.

What is wrong with a body ends here, as a `RequestError` that names the field. Nothing here knows who will
be asked.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from .chat import ChatRequest, InvalidRequest, decode_request, modern
from .embeddings import EmbeddingsRequest, decode_embeddings
from .errors import ErrorKind, RequestError


def read_request(body: bytes, *, strict: bool = False) -> ChatRequest:
    """The chat request in `body`; `strict` says that nothing of it may be dropped. Raises `RequestError`."""
    try:
        request = modern(decode_request(body))
    except RecursionError:
        raise RequestError(ErrorKind.BAD_REQUEST, "the body is nested too deeply") from None
    except InvalidRequest as error:
        raise _refused(error) from None
    if request.legacy and request.n is not None and request.n > 1:
        raise RequestError(ErrorKind.UNSUPPORTED, "'functions' go with one choice only", param="n")
    return msgspec.structs.replace(request, strict=True) if strict else request


def read_embeddings(body: bytes, *, strict: bool = False) -> EmbeddingsRequest:
    """The request for embeddings in `body`, as `read_request` reads one for chat. Raises `RequestError`."""
    try:
        request = decode_embeddings(body)
    except InvalidRequest as error:
        raise _refused(error) from None
    return msgspec.structs.replace(request, strict=True) if strict else request


def _refused(error: InvalidRequest) -> RequestError:
    return RequestError(ErrorKind.BAD_REQUEST, error.message, param=error.param, code=error.code)


def with_model(body: bytes, model: str) -> bytes:
    """`body` with another model. What is no JSON object stays as it is, to be refused when it is read."""
    try:
        fields = msgspec.json.decode(body, type=dict[str, Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return body
    return msgspec.json.encode({**fields, "model": model})
