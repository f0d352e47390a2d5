"""Anthropic's Messages API: the record, its options, its list of models, and the one call that is resent.

Requests, answers, tools, messages, schemas and the table of models have modules of their own beside this one.
Follows "API overview", "Models" and "Extended thinking" of Anthropic's API reference.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from urllib.parse import quote

import msgspec
from msgspec import Struct

from ...chat import AssistantMessage, ChatRequest, Message
from ...errors import ErrorKind, UpstreamError
from ...limits import Metering
from ..base import Context, Conversation, HttpRequest, ModelInfo, ModelPage, Provider
from .answers import event_decoder, parse_response
from .errors import parse_error, parse_limits
from .models import binds, capabilities, family
from .requests import AnthropicOptions, build_request

# ── thoughts that the API does not take back ───────────────────────────────────────────────────────────

_UNFIT = re.compile(r"invalid `?signature|different conversation|thinking` blocks .* cannot be modified")
_MISSING = re.compile(r"expected `?thinking`? or `?redacted_thinking")


def conversation(provider: Provider, request: ChatRequest, _context: Context) -> Conversation:
    """One call, and a second one without replayed thoughts when the first is refused because of them.

    Signed thoughts hold for one model and for exactly the conversation before them; a client or a gateway
    that changed a word of it would otherwise never get an answer again.
    """
    try:
        yield provider.build_request(request)
    except UpstreamError as error:
        cured = _cured(request, error)
        if cured is None:
            raise
    else:
        return
    again = provider.build_request(cured)
    lost = ("reasoning_effort",) if cured.reasoning_effort != request.reasoning_effort else ()
    yield msgspec.structs.replace(again, dropped=tuple(dict.fromkeys([*again.dropped, *lost])))


def _cured(request: ChatRequest, error: UpstreamError) -> ChatRequest | None:
    """The request that this refusal does not hold for; None when thoughts are not what is wrong."""
    if error.kind is not ErrorKind.BAD_REQUEST:
        return None
    said, effort = error.message.lower(), request.reasoning_effort
    if _MISSING.search(said):
        effort = None
    elif not _UNFIT.search(said):
        return None
    if effort == request.reasoning_effort and not any(map(_thoughts, request.messages)):
        return None
    messages = [
        msgspec.structs.replace(m, thinking_blocks=None) if _thoughts(m) else m for m in request.messages
    ]
    return msgspec.structs.replace(request, messages=messages, reasoning_effort=effort)


def _thoughts(message: Message) -> bool:
    return isinstance(message, AssistantMessage) and bool(message.thinking_blocks)


# ── models ─────────────────────────────────────────────────────────────────────────────────────────────

_MODELS_PATH = "/v1/models?limit=1000"


class _Model(Struct):
    id: str
    created_at: str | None = None
    max_input_tokens: int | None = None
    max_tokens: int | None = None


class _Models(Struct):
    data: list[_Model] | None = None
    has_more: bool | None = None
    last_id: str | None = None


def _models_request(options: AnthropicOptions, after: str = "") -> HttpRequest:
    path = f"{_MODELS_PATH}&after_id={quote(after, safe='')}" if after else _MODELS_PATH
    return HttpRequest(method="GET", path=path, headers=options.headers())


def _parse_models(options: AnthropicOptions, body: bytes) -> ModelPage:
    page = msgspec.json.decode(body, type=_Models)
    models = page.data or []
    last = page.last_id or (models[-1].id if models else "")
    more = page.has_more and models and last
    return ModelPage([_info(model) for model in models], _models_request(options, last) if more else None)


def _info(model: _Model) -> ModelInfo:
    kin = family(model.id)
    return ModelInfo(
        id=model.id,
        created=_seconds(model.created_at),
        owned_by="anthropic",
        context_window=model.max_input_tokens or kin.context,
        max_output=model.max_tokens or kin.max_output,
    )


def _seconds(moment: str | None) -> int:
    try:
        known = datetime.fromisoformat(moment or "")
    except ValueError:
        return 0
    return int((known if known.tzinfo else known.replace(tzinfo=UTC)).timestamp())


# ── the record ─────────────────────────────────────────────────────────────────────────────────────────


def _auth(key: str) -> dict[str, str]:
    # The one header that compatible servers take too; together with a bearer token some refuse both.
    return {"x-api-key": key}


def configure(options: AnthropicOptions) -> Provider:
    """The provider with these options."""
    return replace(
        PROVIDER,
        build_request=partial(build_request, options=options),
        models_request=_models_request(options),
        parse_models=partial(_parse_models, options),
    )


PROVIDER = Provider(
    name="anthropic",
    base_url="https://api.anthropic.com",
    auth=_auth,
    build_request=build_request,
    parse_response=parse_response,
    event_decoder=event_decoder,
    parse_error=parse_error,
    parse_limits=parse_limits,
    metering=Metering(mirrors=True, cached=False),
    models_request=_models_request(AnthropicOptions()),
    parse_models=partial(_parse_models, AnthropicOptions()),
    capabilities=capabilities,
    conversation=conversation,
    key_names=("ANTHROPIC_API_KEY",),
    owns=re.compile(r"claude-"),
    models=(
        "claude-fable-5-2",
        "claude-opus-5-5",
        "claude-sonnet-5-5",
        "claude-haiku-5-5",
        "claude-opus-5",
        "claude-sonnet-5",
        "claude-opus-4-8",
        "claude-sonnet-4-6",
        "claude-haiku-4-5",
    ),
    default_model="claude-sonnet-5-5",
    carries=frozenset(("thinking_blocks",)),
    binds=binds,
    options=AnthropicOptions,
    configure=configure,
)
