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
from .exchange import Target
from .ingress.access import AccessGuard
from .ingress.embeddings import EmbeddingsService
from .ingress.openai import ChatCompletions, Models
from .ingress.operations import Health, Index
from .ingress.service import Limits
from .members import Provided, provide
from .resilience.clock import SystemClock
from .router import AUTO, TOTAL, Router
from .settings import ProviderPlan, Settings, canonical, gateway_key, plan_providers
from .vault import Vault

PATHS = ("/v1/chat/completions", "/v1/embeddings", "/v1/models", "/health", "/health/ready")


class Core(Struct, frozen=True):
    """The providers of some settings, ready to be called: a gateway without its door."""

    provided: dict[str, Provided]
    router: Router
    vault: Vault | None

    @property
    def plans(self) -> list[ProviderPlan]:
        """The providers as settings and environment have them."""
        return [each.plan for each in self.provided.values()]

    async def aclose(self) -> None:
        """Closes every connection."""
        upstreams = [upstream for each in self.provided.values() for upstream in each.upstreams]
        await asyncio.gather(*(upstream.aclose() for upstream in upstreams))


class Gateway(Struct):
    """A gateway, put together: `app` is what a server runs."""

    app: ASGIApp
    settings: Settings
    needs_key: bool
    core: Core
    health: Health

    @property
    def plans(self) -> list[ProviderPlan]:
        """The providers as settings and environment have them."""
        return self.core.plans

    @property
    def router(self) -> Router:
        """From a model's name to an answer."""
        return self.core.router


def connect(settings: Settings, environ: Mapping[str, str]) -> Core:
    """Everything between a request and the providers. Nobody is called, and no connection is open yet."""
    clock = SystemClock()
    kept = settings.vault
    vault = Vault(kept.max_bytes, kept.max_age) if kept.enabled else None
    plans = plan_providers(settings, environ)
    provided = {plan.name: provide(plan, settings.breaker, clock, vault) for plan in plans}
    router = Router(
        [each.member for each in provided.values()],
        routes={name: _targets(route.targets) for name, route in settings.routes.items()},
        failover={
            str(target): _targets(model.failover)
            for name, model in settings.models.items()
            for target in _targets([name])
        },
        retry=settings.retry,
        clock=clock,
        windows={
            str(target): model.context_window
            for name, model in settings.models.items()
            if model.context_window is not None
            for target in _targets([name])
        },
        total=max([TOTAL, *(plan.timeouts.total for plan in plans)]),
        past_auth=[name for name, route in settings.routes.items() if route.failover_on_auth],
    )
    return Core(provided, router, vault)


def build(settings: Settings, environ: Mapping[str, str]) -> Gateway:
    """The gateway of these settings. Raises `SettingsError`."""
    key = gateway_key(settings, environ)
    core = connect(settings, environ)
    router = core.router
    sources = [_source(each) for each in core.provided.values() if each.plan.off is None]
    catalog = Catalog(sources, _names(router))
    chat = ChatCompletions(router, _limits(settings))
    embeddings = EmbeddingsService(router, _limits(settings))
    health = Health(router, core.provided, lambda: chat.in_flight + embeddings.in_flight, vault=core.vault)
    models = Models(catalog, router)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await core.aclose()

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
        core=core,
        health=health,
    )


def _source(each: Provided) -> Source:
    plan, chosen = each.plan, each.plan.settings.models
    return Source(
        name=plan.name,
        known=chosen if chosen is not None else plan.provider.models,
        fetch=each.upstream.models,
        capabilities=each.upstream.capabilities,
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
