"""The list of models: what the providers that are on say they have, kept for a while.

Nothing here is needed to answer a chat: a provider whose list cannot be had is shown with the models
that are well known, or set in the settings, and its newer models can be asked for all the same.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

from msgspec import Struct

from .errors import UpstreamError
from .providers.base import Capabilities, ModelInfo

log = logging.getLogger("gateway.catalog")

FRESH = 3600.0
"""Seconds that a list is used before it is asked for again."""
RETRY = 60.0
"""Seconds before a list that could not be had is asked for again."""
PATIENCE = 3.0
"""Seconds that somebody who asks for the list is kept waiting for a provider."""


class Entry(Struct, frozen=True):
    """A model under the name that clients use. Sizes in tokens, None when they are not known."""

    id: str
    owned_by: str
    created: int = 0
    context_window: int | None = None
    max_output: int | None = None


class Source(Struct, frozen=True, kw_only=True):
    """Where a provider's models come from. `known` stand in for a list that cannot be had.

    `fixed` says that `known` is the whole truth and nobody is asked. `capabilities` gives the sizes that a
    list does not.
    """

    name: str
    known: Sequence[str]
    fetch: Callable[[], Awaitable[list[ModelInfo]]]
    capabilities: Callable[[str], Capabilities]
    fixed: bool = False


class _List(Struct):
    models: list[ModelInfo]
    due: float  # on the clock, when it is to be asked for again


class Catalog:
    """The models of all `sources`, after `names` (routes) that the gateway itself gives."""

    def __init__(
        self,
        sources: Iterable[Source],
        names: Iterable[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sources = list(sources)
        self._names = list(names)
        self._clock = clock
        self._lists = {s.name: _List([ModelInfo(id=m) for m in s.known], 0.0) for s in self._sources}
        self._refreshing = asyncio.Lock()

    async def models(self) -> list[Entry]:
        """Every model, lists that are due asked for first. Never raises for a provider's failure."""
        async with self._refreshing:
            now = self._clock()
            due = [s for s in self._sources if not s.fixed and self._lists[s.name].due <= now]
            await asyncio.gather(*(self._refresh(source) for source in due))
        entries = [Entry(name, "gateway") for name in self._names]
        for source in self._sources:
            listed = self._lists[source.name].models
            entries += [_entry(source, model) for model in listed]
        return entries

    async def _refresh(self, source: Source) -> None:
        kept = self._lists[source.name]
        try:
            async with asyncio.timeout(PATIENCE):
                models = await source.fetch()
        except (UpstreamError, TimeoutError) as error:
            reason = str(error) or "no answer in time"
            log.warning("the models of %s cannot be listed: %s", source.name, reason)
            kept.due = self._clock() + RETRY
        except Exception:  # one provider's trouble must not take the list of the others
            log.exception("the models of %s cannot be listed", source.name)
            kept.due = self._clock() + RETRY
        else:
            self._lists[source.name] = _List(models, self._clock() + FRESH)


def _entry(source: Source, model: ModelInfo) -> Entry:
    usual = source.capabilities(model.id)
    return Entry(
        f"{source.name}/{model.id}",
        source.name,
        model.created,
        model.context_window or usual.context_window,
        model.max_output or usual.max_output,
    )
