"""How one provider's calls are put together: the layers around what sends, and why each is where it is.

    vault       outermost: what is put back into a request is the same for each attempt
    breaker     above the limits: an open circuit spends no quota, and sees every failure of every key
    keys        above the limits of each: a key that has no room, or is refused, is passed over
    limits      innermost: every attempt that leaves has to be counted

Retry and failover are the router's, since they choose among targets.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from .exchange import Look, Open
from .resilience.breaker import BreakerPolicy, CircuitBreaking, Circuits
from .resilience.clock import Clock
from .resilience.estimate import Counting, Estimates
from .resilience.keys import Key, Rotating
from .resilience.limiter import Accounts, Quota
from .resilience.limiting import RateLimiting
from .router import Member
from .settings import ProviderPlan, Secret
from .upstream import Failure, Upstream, transport_for
from .vault import Remembering, Vault


class Provided(Struct, frozen=True):
    """A provider as the gateway has it: `upstreams` are one a key, the first one stands for all."""

    plan: ProviderPlan
    member: Member
    upstreams: list[Upstream]
    breaking: CircuitBreaking
    rotating: Rotating
    accounts: list[Accounts]

    @property
    def upstream(self) -> Upstream:
        """The one that answers for what is not a matter of keys: models, sizes, previews."""
        return self.upstreams[0]

    @property
    def in_flight(self) -> int:
        return sum(upstream.in_flight for upstream in self.upstreams)

    @property
    def answered(self) -> int:
        return sum(upstream.answered for upstream in self.upstreams)

    @property
    def failed(self) -> int:
        return sum(upstream.failed for upstream in self.upstreams)

    @property
    def last_failure(self) -> Failure | None:
        """Of the last failures of all keys the latest."""
        known = [u.last_failure for u in self.upstreams if u.last_failure is not None]
        return max(known, key=lambda failure: failure.at, default=None)

    def state(self) -> dict[str, Any]:
        """What the layers know now, for `/health`: circuits, keys, accounts."""
        circuits = self.breaking.snapshot()
        return {
            "circuit": circuits.provider,
            "circuits": circuits.models,
            "keys": self.rotating.snapshot(),
            "accounts": {name: a for each in self.accounts for name, a in each.snapshot().items()},
        }


def provide(plan: ProviderPlan, breaker: BreakerPolicy, clock: Clock, vault: Vault | None) -> Provided:
    """The provider of `plan`. Nobody is called."""
    keys: list[Secret | None] = [*plan.keys] or [None]
    upstreams = [_upstream(plan, key) for key in keys]
    estimates = Estimates(_counting(plan))
    quota = _quota(plan)
    names = [plan.name] if len(upstreams) == 1 else [f"{plan.name}#{i + 1}" for i in range(len(upstreams))]
    accounts = [Accounts(name, quota, clock) for name in names]

    def over(opens: Iterable[Open]) -> Rotating:
        """The keys and their limits, over what sends."""
        parts = zip(plan.sources, opens, accounts, strict=True)
        keys = [Key(source, RateLimiting(send, own, estimates, own.close)) for source, send, own in parts]
        return Rotating(plan.name, keys, clock)

    usual = over([upstream.open for upstream in upstreams])
    probing = over([upstream.probe for upstream in upstreams])
    breaking = CircuitBreaking(usual, Circuits(plan.name, breaker, clock.random), clock, probing=probing)
    opening: Open = breaking
    look: Look = upstreams[0].preview
    if vault is not None and plan.provider.carries:
        layer = Remembering(breaking, vault, plan.name, plan.provider.carries, plan.provider.binds)
        opening, look = layer, lambda request: upstreams[0].preview(layer.restored(request))
    member = Member(
        name=plan.name,
        provider=plan.provider,
        open=opening,
        preview=look,
        capabilities=upstreams[0].capabilities,
        eta=usual.eta,
        embed=upstreams[0].embed if plan.provider.embeddings is not None else None,
        off=plan.off,
        default_model=plan.default_model if plan.provider.spontaneous else None,
    )
    return Provided(plan, member, upstreams, breaking, usual, accounts)


def _upstream(plan: ProviderPlan, key: Secret | None) -> Upstream:
    entry = plan.settings
    return Upstream(
        plan.name,
        plan.provider,
        transport_for(plan.provider, plan.timeouts, ca_file=entry.ca_file, tls_min=entry.tls_min),
        base_url=plan.base_url,
        key=key.reveal() if key else None,
        key_source=key.source if key else None,
        timeouts=plan.timeouts,
    )


def _quota(plan: ProviderPlan) -> Quota:
    """The limits that the settings give, in the way that the provider counts."""
    entry, metering = plan.settings, plan.provider.metering
    share = entry.burst / entry.rpm if entry.burst is not None and entry.rpm else None
    return Quota(
        rpm=entry.rpm,
        tpm=entry.tpm,
        input_tpm=entry.input_tpm,
        output_tpm=entry.output_tpm,
        concurrency=None if plan.provider.local is not None else entry.concurrency,
        burst=None if share is None else min(1.0, share),
        mirrors=metering.mirrors,
        adaptive=metering.adaptive,
        max_queue=plan.queue.max_length,
        max_wait=plan.queue.max_wait,
    )


def _counting(plan: ProviderPlan) -> Counting:
    metering = plan.provider.metering
    return Counting(max_tokens=metering.max_tokens, cached=metering.cached)
