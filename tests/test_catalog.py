"""The list of models: whose word counts for what, and what happens when a provider does not answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway import catalog as module
from gateway.catalog import Catalog, Entry, Source
from gateway.errors import ErrorKind, UpstreamError
from gateway.providers.base import Capabilities, ModelInfo


class Lists:
    """A provider whose list is set by the test, and how often it was asked for."""

    def __init__(self, *models: ModelInfo) -> None:
        self.models = list(models)
        self.failure: Exception | None = None
        self.asked = 0

    async def __call__(self) -> list[ModelInfo]:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        return self.models


def table(model: str) -> Capabilities:
    return Capabilities(context_window=1000, max_output=100) if model == "known" else Capabilities()


def source(fetch: Lists, *known: str, fixed: bool = False) -> Source:
    return Source(name="p", known=known, fetch=fetch, capabilities=table, fixed=fixed)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def sizes(entries: list[Entry]) -> dict[str, tuple[int | None, int | None]]:
    return {entry.id: (entry.context_window, entry.max_output) for entry in entries}


async def test_sizes_are_the_lists_then_the_tables_then_none():
    lists = Lists(
        ModelInfo(id="told", context_window=5, max_output=3),
        ModelInfo(id="known"),
        ModelInfo(id="half", context_window=7),
        ModelInfo(id="new"),
    )
    found = await Catalog([source(lists)], ["route"]).models()
    assert sizes(found) == {
        "route": (None, None),
        "p/told": (5, 3),
        "p/known": (1000, 100),
        "p/half": (7, None),
        "p/new": (None, None),
    }


async def test_what_the_list_says_wins_over_the_table():
    lists = Lists(ModelInfo(id="known", context_window=2000))
    assert sizes(await Catalog([source(lists)]).models()) == {"p/known": (2000, 100)}


async def test_a_fixed_list_is_asked_of_nobody_and_has_the_tables_sizes():
    lists = Lists()
    found = await Catalog([source(lists, "known", "other", fixed=True)]).models()
    assert sizes(found) == {"p/known": (1000, 100), "p/other": (None, None)}
    assert lists.asked == 0


FAILURES: dict[str, Callable[[], Exception]] = {
    "of the provider": lambda: UpstreamError(ErrorKind.SERVER, "no"),
    "of ours": lambda: ValueError("a bug"),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_a_list_that_cannot_be_had_is_the_well_known_models_until_it_can(name: str):
    clock, lists = Clock(), Lists(ModelInfo(id="new"))
    lists.failure = FAILURES[name]()
    catalog = Catalog([source(lists, "known")], clock=clock)
    assert sizes(await catalog.models()) == {"p/known": (1000, 100)}
    lists.failure = None
    clock.now = module.RETRY - 1
    await catalog.models()
    assert lists.asked == 1
    clock.now = module.RETRY
    assert sizes(await catalog.models()) == {"p/new": (None, None)}
    clock.now += module.FRESH - 1
    await catalog.models()
    assert lists.asked == 2
