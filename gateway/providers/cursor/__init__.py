"""Cursor's Cloud Agents API, v1 (public beta): a chat completion is the one run of an agent made for it.

Cursor has no API for models as such. What stands here answers as a model would, with limits that lie in the
nature of an agent: it takes no sampling, tools or formats, it is slow to start, and few calls a minute are
allowed. So it never answers for `auto`, only where it is named. Here is the provider's record; what is sent
stands in `requests` and `prompt`, in which order in `conversation`, what comes back in `run` and `errors`.
Follows the pages of cursor.com/docs/cloud-agent/api (November 2026).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ..base import Capabilities, HttpRequest, Pace, Provider
from .conversation import conversation
from .errors import parse_error
from .models import MODELS_REQUEST, USUAL, parse_models
from .requests import CALLS_PER_MINUTE, DEFAULTS, CursorOptions, build_request
from .run import event_decoder, parse_response

TIMEOUTS = {  # seconds
    "connect": 10.0,
    "first_byte": 180.0,  # an agent is answered for when its machine is there
    "idle": 60.0,  # four heartbeats
    "content_idle": 600.0,  # an agent may work without a word
    "total": 600.0,
}


def capabilities(_model: str) -> Capabilities:
    """What every agent can do. Sizes are nowhere told."""
    return Capabilities(frozenset(("images",)))


def auth(key: str) -> dict[str, str]:
    """The key of a user or a service account."""
    return {"authorization": f"Bearer {key}"}


def _pace(calls: int) -> Pace:
    """Making the agent, its stream, cancelling and putting away; what else a run needs comes in turn."""
    return Pace(calls, per_answer=4, kept=2)


def configure(options: CursorOptions) -> Provider:
    """The provider with these options."""
    return replace(
        PROVIDER,
        build_request=partial(build_request, options=options),
        conversation=partial(conversation, options),
        pace=_pace(options.calls_per_minute),
    )


PROVIDER = Provider(
    name="cursor",
    base_url="https://api.cursor.com",
    auth=auth,
    build_request=build_request,
    parse_response=parse_response,
    event_decoder=event_decoder,
    parse_error=parse_error,
    models_request=MODELS_REQUEST,
    parse_models=parse_models,
    capabilities=capabilities,
    conversation=partial(conversation, DEFAULTS),
    key_names=("CURSOR_API_KEY",),
    models=(USUAL,),
    default_model=USUAL,
    spontaneous=False,
    timeouts=TIMEOUTS,
    pace=_pace(CALLS_PER_MINUTE),
    health_request=HttpRequest(method="GET", path="/v1/me"),
    options=CursorOptions,
    configure=configure,
)
