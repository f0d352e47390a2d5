"""Qwen at Alibaba's DashScope, in its own words: text and multimodal generation.

Here is the provider's record: its addresses, the list of models, and the one case that takes a second call.
What a request becomes stands in `requests` and `messages`, what models take in `models`; answers in
`answers`, under it `pieces` and `usage`, and in `errors`. By option the API's OpenAI dialect is spoken
instead. Follows the DashScope API reference of Alibaba Cloud Model Studio (November 2026).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import msgspec
from msgspec import Struct

from ...chat import ChatRequest
from ...errors import ErrorKind, UpstreamError
from ..base import Context, Conversation, HttpRequest, ModelInfo, ModelPage, Provider
from ..openai import PROVIDER as OPENAI
from .answers import event_decoder, parse_response
from .errors import is_wrong_path, parse_error
from .messages import has_media
from .models import MODELS, OTHER, capabilities
from .requests import DEFAULTS, QwenOptions, build_request, path_of

NATIVE_PATH, COMPATIBLE_PATH = "/api/v1", "/compatible-mode/v1"

# ── the other path ─────────────────────────────────────────────────────────────────────────────────────

MAX_LEARNED = 256
"""Most models of which the path is remembered: names come from clients."""


def conversation(
    options: QwenOptions, _provider: Provider, request: ChatRequest, context: Context
) -> Conversation:
    """One call; a second one on the API's other path when the model turns out to live there.

    Which one answered is remembered. A request with media has one path only.
    """
    learned = context.learned.get(request.model)
    path = path_of(request, options, learned)
    try:
        yield build_request(request, options, learned=learned)
        return
    except UpstreamError as error:
        if not is_wrong_path(error) or has_media(request):
            raise
    path = OTHER[path]
    elsewhere = msgspec.structs.replace(options, paths={request.model: path})
    try:
        yield build_request(request, elsewhere)
    except UpstreamError as error:
        raise _homeless(error, request.model) if is_wrong_path(error) else error from None
    while len(context.learned) >= MAX_LEARNED and request.model not in context.learned:
        del context.learned[next(iter(context.learned))]
    context.learned[request.model] = path


def _homeless(error: UpstreamError, model: str) -> UpstreamError:
    """The refusal of both paths, in words that tell what is wrong."""
    return UpstreamError(
        ErrorKind.BAD_REQUEST,
        f"neither text nor multimodal generation has the model {model!r}: {error.message}",
        upstream_status=400,
        code=error.code,
        param="model",
    )


# ── models ─────────────────────────────────────────────────────────────────────────────────────────────

PAGE_SIZE = 100


class _Model(Struct):
    model: str = ""
    provider: str | None = None


class _Page(Struct):
    models: list[_Model] | None = None
    total: int | None = None
    page_no: int | None = None
    page_size: int | None = None


class _Models(Struct):
    output: _Page | None = None


def _models_request(page: int = 1, size: int = PAGE_SIZE) -> HttpRequest:
    return HttpRequest(method="GET", path=f"/models?page_no={page}&page_size={size}")


def parse_models(body: bytes) -> ModelPage:
    """A page of `GET /models`. It is the whole catalog: models that do not chat are among them."""
    page = msgspec.json.decode(body, type=_Models).output or _Page()
    models = [
        ModelInfo(id=model.model, owned_by=model.provider or "qwen")
        for model in page.models or ()
        if model.model
    ]
    number = page.page_no or 1
    more = bool(page.models) and number * (page.page_size or PAGE_SIZE) < (page.total or 0)
    return ModelPage(models, _models_request(number + 1) if more else None)


# ── the record ─────────────────────────────────────────────────────────────────────────────────────────


def _auth(options: QwenOptions) -> Callable[[str], dict[str, str]]:
    extra = {"x-dashscope-workspace": options.workspace} if options.workspace else {}

    def auth(key: str) -> dict[str, str]:
        return {"authorization": f"Bearer {key}", **extra}

    return auth


def configure(options: QwenOptions) -> Provider:
    """The provider with these options."""
    native = replace(
        PROVIDER,
        base_url=options.host + NATIVE_PATH,
        auth=_auth(options),
        build_request=partial(build_request, options=options),
        conversation=partial(conversation, options),
    )
    return native if options.dialect == "native" else _compatible(native, options)


def _compatible(native: Provider, options: QwenOptions) -> Provider:
    """The same provider in its OpenAI dialect, in which requests and answers pass as they are."""
    assert OPENAI.compatible is not None
    dialect = OPENAI.compatible
    return replace(
        native,
        base_url=options.host + COMPATIBLE_PATH,
        build_request=dialect.build_request,
        parse_response=dialect.parse_response,
        event_decoder=dialect.event_decoder,
        conversation=dialect.conversation,
        models_request=dialect.models_request,
        parse_models=dialect.parse_models,
        health_request=None,
    )


PROVIDER = Provider(
    name="qwen",
    aliases=("dashscope",),
    base_url=DEFAULTS.host + NATIVE_PATH,
    auth=_auth(DEFAULTS),
    build_request=build_request,
    parse_response=parse_response,
    event_decoder=event_decoder,
    parse_error=parse_error,
    conversation=partial(conversation, DEFAULTS),
    models_request=_models_request(),
    parse_models=parse_models,
    health_request=_models_request(size=1),
    capabilities=capabilities,
    key_names=("DASHSCOPE_API_KEY", "QWEN_API_KEY"),
    owns=re.compile(r"(qwen|qwq|qvq)[^/:]*$"),
    models=MODELS,
    default_model="qwen3.7-plus",
    options=QwenOptions,
    configure=configure,
)
