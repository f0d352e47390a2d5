"""DeepSeek's own API: OpenAI's dialect, in which a model thinks unless it is told not to.

How the dialect is read stands in `openai`, whose functions are used as they are; here stands only what
DeepSeek does otherwise, decisions in tables. Whether to think is always said explicitly. A request carries
what DeepSeek's schema has and nothing else: the rest is named as dropped, or refused where it cannot be left
out. Follows the pages of api-docs.deepseek.com (thinking mode, tool calls, JSON output, error codes, October
2026).
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial

import msgspec

from ...errors import ErrorKind, UpstreamError
from ...limits import Metering
from ..base import Capabilities, Feature, Headers, HttpRequest, ModelInfo, ModelPage, Provider
from ..openai import errors
from ..openai import parse_models as parse_listed
from .answers import event_decoder, parse_response
from .requests import (
    CONTEXT_WINDOW,
    FEATURES,
    MAX_OUTPUT,
    MODELS,
    RETIRED,
    SEEING,
    DeepSeekOptions,
    build_request,
)

_DEFAULTS = DeepSeekOptions()

# ── errors and models ──────────────────────────────────────────────────────────────────────────────────


KIND_BY_WORDS = {  # in lower case: where the message tells more than the status
    "model not exist": ErrorKind.NOT_FOUND,
    "insufficient balance": ErrorKind.QUOTA,
    "content exists risk": ErrorKind.CONTENT_FILTER,
}
EMPTY_CODES = frozenset(("invalid_request_error", "unknown_error", "authentication_error"))
"""Codes that only repeat the type of an error, whatever happened."""


def parse_error(status: int, headers: Headers, body: bytes) -> UpstreamError:
    """The failure that an error answer tells: by its message where that is known, else as OpenAI's."""
    error = errors.parse_error(status, headers, body)
    message = error.message.lower()
    kind = next((kind for words, kind in KIND_BY_WORDS.items() if words in message), error.kind)
    return UpstreamError(
        kind,
        error.message,
        upstream_status=error.upstream_status,
        status=400 if kind is ErrorKind.BAD_REQUEST and status == 422 else None,
        code=None if error.code in EMPTY_CODES or kind is not error.kind else error.code,
        param=error.param,
        retry_after=error.retry_after,
    )


def capabilities(model: str, options: DeepSeekOptions = _DEFAULTS) -> Capabilities:
    """What a model can do. Sizes are known for DeepSeek's own names only."""
    name = RETIRED[model][0] if model in RETIRED else model
    seeing: frozenset[Feature] = frozenset(("images",)) if SEEING.match(name) else frozenset()
    schema: frozenset[Feature] = frozenset(("json_schema",)) if options.emulate_json_schema else frozenset()
    features = FEATURES | seeing | schema
    if not name.startswith("deepseek-"):
        return Capabilities(features)
    return Capabilities(features, CONTEXT_WINDOW, MAX_OUTPUT)


def parse_models(body: bytes) -> ModelPage:
    """The list of `GET /models`, which says no sizes."""
    return ModelPage([_sized(model) for model in parse_listed(body).models])


def _sized(model: ModelInfo) -> ModelInfo:
    known = capabilities(model.id)
    return msgspec.structs.replace(model, context_window=known.context_window, max_output=known.max_output)


def auth(key: str) -> dict[str, str]:
    """The key, as every server of the dialect takes it."""
    return {"authorization": f"Bearer {key}"}


def configure(options: DeepSeekOptions) -> Provider:
    """The provider with these options."""
    return replace(
        PROVIDER,
        build_request=partial(build_request, options=options),
        capabilities=partial(capabilities, options=options),
    )


PROVIDER = Provider(
    name="deepseek",
    base_url="https://api.deepseek.com",
    auth=auth,
    build_request=build_request,
    parse_response=parse_response,
    event_decoder=event_decoder,
    parse_error=parse_error,
    metering=Metering(adaptive=True),
    models_request=HttpRequest(method="GET", path="/models"),
    parse_models=parse_models,
    capabilities=capabilities,
    key_names=("DEEPSEEK_API_KEY",),
    owns=re.compile(r"deepseek-"),
    models=MODELS,
    default_model="deepseek-flash",
    carries=frozenset(("reasoning_content",)),
    options=DeepSeekOptions,
    configure=configure,
)
