"""The only package that talks to providers: a driver over transports, within limits of time and size."""

from __future__ import annotations

from ..providers.base import Provider
from . import tls
from .driver import Failure, Upstream
from .endpoint import shown
from .http import HttpTransport
from .local import LocalTransport
from .timers import Timeouts
from .transport import Transport


def transport_for(
    provider: Provider, timeouts: Timeouts, *, ca_file: str | None = None, tls_min: str = "1.3"
) -> Transport:
    """The way to `provider`: in the process when it answers there, else over the network."""
    if provider.local is not None:
        return LocalTransport(provider.local)
    return HttpTransport(lambda: tls.context(ca_file, tls_min), timeouts.connect)


__all__ = ["Failure", "Timeouts", "Transport", "Upstream", "shown", "transport_for"]
