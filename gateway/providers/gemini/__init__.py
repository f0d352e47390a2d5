"""Google's Gemini API in its own words: `generateContent` and `streamGenerateContent`.

Here is the provider's record: addresses, features, the list of models, and the one case that takes a
second call. What a request becomes stands in `requests`, and under it in `contents`,
`parts`, `tools` and `schema`; what models refuse in `models`; answers in `answers` and `errors`; embeddings
in `embeddings`. Follows the Gemini API reference, `v1beta` (November 2026).
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from urllib.parse import quote

import msgspec
from msgspec import Struct

from ...chat import ChatRequest
from ...errors import UpstreamError
from ..base import (
    ALL_FEATURES,
    Capabilities,
    Context,
    Conversation,
    HttpRequest,
    ModelInfo,
    ModelPage,
    Provider,
    dropped,
    json_body,
    unsupported,
)
from .answers import event_decoder, parse_response
from .embeddings import embedder
from .errors import parse_error
from .models import CONTEXT_WINDOW, MAINLINE, MAX_OUTPUT
from .paths import model_path
from .requests import Draft, GeminiOptions

IGNORES = frozenset(
    (
        "messages.name",
        "messages.cache_control",
        "messages.prompt_cache_breakpoint",
        "tools.cache_control",
        "logit_bias",
        "prediction",
        "verbosity",
        "user",
        "safety_identifier",
        "metadata",
        "store",  # has another meaning there
        "prompt_cache_key",
        "prompt_cache_retention",
        "prompt_cache_options",
        "moderation",
    )
)


# ── requests ───────────────────────────────────────────────────────────────────────────────────────────

_DEFAULTS = GeminiOptions()


def build_request(
    request: ChatRequest, options: GeminiOptions = _DEFAULTS, *, trusted: bool = True
) -> HttpRequest:
    """The native request. `trusted` off leaves out every thought signature that the client sent back."""
    model = request.model.removeprefix("models/")
    path = model_path(model)
    verb = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
    draft = Draft(request, model, options)
    try:
        body = json_body(draft.body(trusted=trusted))
    except RecursionError:
        raise unsupported("something in the request is nested too deeply", "messages") from None
    lost = (*dropped(request, IGNORES), *draft.lost)
    return HttpRequest(
        path=f"/{options.api_version}/{path}:{verb}",
        body=body,
        stream=bool(request.stream),
        dropped=tuple(name for name in dict.fromkeys(lost) if name not in draft.carried),
    )


# ── a second try without the client's signatures ───────────────────────────────────────────────────────


def conversation(
    options: GeminiOptions, provider: Provider, request: ChatRequest, _context: Context
) -> Conversation:
    """One call; a second one when the API refused a thought signature or missed one.

    A signature that is stale or another provider's would be refused in every turn from then on.
    """
    first = provider.build_request(request)
    try:
        yield first
    except UpstreamError as error:
        if not _is_about_signatures(error):
            raise
        second = build_request(request, options, trusted=False)
        if second.body == first.body:
            raise
    else:
        return
    yield second


def _is_about_signatures(error: UpstreamError) -> bool:
    if error.code == "missing_thought_signature":
        return True
    return error.upstream_status == 400 and "thought signature" in error.message.lower().replace("_", " ")


# ── models ─────────────────────────────────────────────────────────────────────────────────────────────

FEATURES = ALL_FEATURES - {"custom_tools", "audio_output", "n"}


def capabilities(model: str) -> Capabilities:
    """What a model can do, by its bare id. Sizes are known for the mainline only."""
    if MAINLINE.match(model.removeprefix("models/")):
        return Capabilities(FEATURES, CONTEXT_WINDOW, MAX_OUTPUT)
    return Capabilities(FEATURES)


class _Model(Struct, rename="camel"):
    name: str = ""
    input_token_limit: int | None = None
    output_token_limit: int | None = None
    supported_generation_methods: list[str] | None = None


class _Models(Struct, rename="camel"):
    models: list[_Model] | None = None
    next_page_token: str | None = None


_SERVED = frozenset(("generateContent", "embedContent", "batchEmbedContents"))


def _models_path(options: GeminiOptions) -> str:
    return f"/{options.api_version}/models?pageSize=1000"


def parse_models(body: bytes, options: GeminiOptions = _DEFAULTS) -> ModelPage:
    """A page of `GET /models`: the models that chat or embed."""
    page = msgspec.json.decode(body, type=_Models)
    token = page.next_page_token
    path = f"{_models_path(options)}&pageToken={quote(token, safe='')}" if token else None
    return ModelPage(
        [
            ModelInfo(
                id=model.name.removeprefix("models/"),
                owned_by="google",
                context_window=model.input_token_limit,
                max_output=model.output_token_limit,
            )
            for model in page.models or ()
            if not _SERVED.isdisjoint(model.supported_generation_methods or ())
        ],
        following=HttpRequest(method="GET", path=path) if path else None,
    )


# ── the record ─────────────────────────────────────────────────────────────────────────────────────────


def auth(key: str) -> dict[str, str]:
    """The key in a header: in a URL it would end in access logs."""
    return {"x-goog-api-key": key}


def configure(options: GeminiOptions) -> Provider:
    """The provider with these options."""
    return replace(
        PROVIDER,
        build_request=partial(build_request, options=options),
        conversation=partial(conversation, options),
        embeddings=embedder(options),
        models_request=HttpRequest(method="GET", path=_models_path(options)),
        parse_models=partial(parse_models, options=options),
    )


PROVIDER = Provider(
    name="gemini",
    aliases=("google",),
    base_url="https://generativelanguage.googleapis.com",
    auth=auth,
    build_request=build_request,
    parse_response=parse_response,
    event_decoder=event_decoder,
    parse_error=parse_error,
    conversation=partial(conversation, _DEFAULTS),
    models_request=HttpRequest(method="GET", path=_models_path(_DEFAULTS)),
    parse_models=parse_models,
    capabilities=capabilities,
    embeddings=embedder(_DEFAULTS),
    key_names=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    owns=re.compile(r"gemini-|gemma-"),
    models=(
        "gemini-3.8-flash",
        "gemini-4-carbon",
        "gemini-4-argon",
        "gemini-4-hydrogen",
        "gemini-4-neon",
        "gemini-3.7-flash",
        "gemini-3.5-flash-lite",
        "gemini-3.1-pro-preview",
        "gemini-2.5-pro",
        "gemini-2.5-flash",
        "gemini-2.5-flash-lite",
        "gemini-embedding-2",
        "gemini-embedding-001",
    ),
    default_model="gemini-3.8-flash",
    carries=frozenset(("signatures",)),
    options=GeminiOptions,
    configure=configure,
)
