"""The composition root: settings and environment in, a Starlette application out.

The only file that knows everything. What a part needs, it is given here; nothing looks anything up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from msgspec import Struct
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from .catalog import Catalog, Source
from .errors import ErrorKind, GatewayError
from .exchange import Look, Open, Target
from .ingress.access import AccessGuard
from .ingress.embeddings import EmbeddingsService
from .ingress.openai import ChatCompletions, Models
from .ingress.operations import Health, Index
from .ingress.service import Limits
from .router import AUTO, Member, Router
from .settings import ProviderPlan, Settings, canonical, gateway_key, plan_providers
from .upstream import Upstream, transport_for
from .vault import Remembering, Vault

PATHS = ("/v1/chat/completions", "/v1/embeddings", "/v1/models", "/health", "/health/ready")


class Gateway(Struct):
    """A gateway, put together: `app` is what a server runs."""

    app: ASGIApp
    settings: Settings
    needs_key: bool
    plans: list[ProviderPlan]
    router: Router
    health: Health


class Core(Struct, frozen=True):
    """The providers of some settings, ready to be called: a gateway without its door."""

    plans: list[ProviderPlan]
    upstreams: dict[str, Upstream]
    router: Router
    vault: Vault | None


def connect(settings: Settings, environ: Mapping[str, str]) -> Core:
    """Everything between a request and the providers. Nobody is called, and no connection is open yet."""
    plans = plan_providers(settings, environ)
    upstreams = {plan.name: _upstream(plan) for plan in plans}
    kept = settings.vault
    vault = Vault(kept.max_bytes, kept.max_age) if kept.enabled else None
    router = Router(
        [_member(plan, upstreams[plan.name], vault) for plan in plans],
        routes={name: _targets(route.targets) for name, route in settings.routes.items()},
        failover={
            str(target): _targets(model.failover)
            for name, model in settings.models.items()
            for target in _targets([name])
        },
    )
    return Core(plans, upstreams, router, vault)


def build(settings: Settings, environ: Mapping[str, str]) -> Gateway:
    """The gateway of these settings. Raises `SettingsError`."""
    key = gateway_key(settings, environ)
    core = connect(settings, environ)
    plans, upstreams, router = core.plans, core.upstreams, core.router
    sources = [_source(plan, upstreams[plan.name]) for plan in plans if plan.off is None]
    catalog = Catalog(sources, _names(router))
    chat = ChatCompletions(router, _limits(settings))
    embeddings = EmbeddingsService(router, _limits(settings))
    health = Health(router, upstreams, lambda: chat.in_flight + embeddings.in_flight, vault=core.vault)
    models = Models(catalog, router)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.gather(*(upstream.aclose() for upstream in upstreams.values()))

    routes = [Route("/", Index(PATHS).__call__), Route("/health", health.health)]
    routes += [Route("/health/ready", health.ready)]
    for prefix in ("/v1", ""):
        routes += [
            Route(f"{prefix}/chat/completions", chat, methods=["POST"]),
            Route(f"{prefix}/embeddings", embeddings, methods=["POST"]),
            Route(f"{prefix}/models", models.list),
            Route(f"{prefix}/models/{{model_id:path}}", models.get),
        ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _http_error})
    app.router.redirect_slashes = False
    guarded = AccessGuard(app, key.reveal() if key else None)
    return Gateway(
        app=guarded,
        settings=settings,
        needs_key=key is not None,
        plans=plans,
        router=router,
        health=health,
    )


def _upstream(plan: ProviderPlan) -> Upstream:
    entry = plan.settings
    return Upstream(
        plan.name,
        plan.provider,
        transport_for(plan.provider, plan.timeouts, ca_file=entry.ca_file, tls_min=entry.tls_min),
        base_url=plan.base_url,
        key=plan.key.reveal() if plan.key else None,
        key_source=plan.key.source if plan.key else None,
        timeouts=plan.timeouts,
    )


def _member(plan: ProviderPlan, upstream: Upstream, vault: Vault | None) -> Member:
    """The provider as the router calls it: the policies of one target go around `upstream.open` here."""
    opening: Open = upstream.open
    look: Look = upstream.preview
    if vault is not None and plan.provider.carries:
        # Outside of everything that repeats a call: what is put back is the same for each attempt.
        layer = Remembering(opening, vault, plan.name, plan.provider.carries, plan.provider.binds)
        opening, look = layer, lambda request: upstream.preview(layer.restored(request))
    return Member(
        name=plan.name,
        provider=plan.provider,
        open=opening,
        preview=look,
        capabilities=upstream.capabilities,
        embed=upstream.embed if plan.provider.embeddings is not None else None,
        off=plan.off,
        default_model=plan.default_model if plan.provider.spontaneous else None,
    )


def _source(plan: ProviderPlan, upstream: Upstream) -> Source:
    chosen = plan.settings.models
    return Source(
        name=plan.name,
        known=chosen if chosen is not None else plan.provider.models,
        fetch=upstream.models,
        capabilities=upstream.capabilities,
        fixed=chosen is not None,
    )


def _targets(names: list[str]) -> list[Target]:
    split = (name.partition("/") for name in names)
    return [Target(canonical(provider), model) for provider, _, model in split]


def _names(router: Router) -> list[str]:
    """The names that the gateway itself answers to."""
    has_auto = any(m.off is None and m.default_model for m in router.members.values())
    return [*router.routes, *([AUTO] if has_auto else [])]


def _limits(settings: Settings) -> Limits:
    server = settings.server
    return Limits(**{name: getattr(server, name) for name in Limits.__struct_fields__})


_HTTP_ERRORS = {
    404: ("unknown_url", "there is nothing at {method} {path}; chat is at POST /v1/chat/completions"),
    405: ("method_not_allowed", "{path} does not take {method}"),
}


async def _http_error(request: Request, error: Exception) -> Response:
    """What Starlette refuses, in OpenAI's shape."""
    assert isinstance(error, HTTPException)
    code, text = _HTTP_ERRORS.get(error.status_code, (None, error.detail))
    message = text.format(method=request.method, path=request.scope["path"][:200])
    body = GatewayError(ErrorKind.BAD_REQUEST, message, status=error.status_code, code=code).encoded()
    return Response(body, error.status_code, error.headers, media_type="application/json")
