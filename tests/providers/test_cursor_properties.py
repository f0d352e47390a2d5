"""Cursor: wherever a stream breaks, and however it is taken up again, the text is said exactly once."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.providers.base import HttpRequest

from .cursor_helpers import (
    ARCHIVE,
    CANCEL,
    CREATED,
    END,
    MADE,
    NO_USAGE,
    RUN,
    RUNNING,
    SILENCE,
    STATUS,
    STREAM,
    TURN_ENDED,
    Cut,
    Said,
    api,
    finished,
    lost,
    play,
    result,
    said,
    twin,
)


class Api:
    """An API that keeps a run's events, and breaks its streams as `cuts` say: after how many, and how."""

    def __init__(self, told: list[tuple[str, str]], cuts: list[tuple[int, str]], *, with_ids: bool) -> None:
        self.told = told
        self.cuts = list(cuts)
        self.with_ids = with_ids
        self.over = False
        self.whole = {kind: "".join(t for k, t in told if k == kind) for kind in ("assistant", "thinking")}
        self.missing = ""

    def __call__(self, step: str, http: HttpRequest) -> Any:
        if step == STREAM:
            return self.stream(http.headers.get("last-event-id", ""))
        if step == RUN:
            return finished(self.whole["assistant"]) if self.over else RUNNING
        return {"POST": CREATED}.get(step, NO_USAGE)

    def stream(self, after: str) -> Any:
        count, how = self.cuts.pop(0) if self.cuts else (99, "")
        if how == "bad id":
            return api(400, "invalid_last_event_id")
        self.over = how in ("expired", "over")
        if how == "expired":
            return api(410, "stream_expired")
        log = [event for event in self.log() if not after or not event[1] or event[1] > after]
        if not how:
            return [STATUS, *log, *result(text=self.whole["assistant"])]
        failure = {"over": SILENCE, "silent": SILENCE, "reset": lost(), "end": None}[how]
        return Cut([STATUS, *log[:count]], failure)

    def log(self) -> list[Said]:
        """All events with their mirrors, which come before or after them."""
        found = []
        for i, (kind, text) in enumerate(self.told):
            event = said("tool_call", i) if kind == "tool_call" else twin(kind, i, text)[0]
            mirror = said("interaction_update", i, type="text-delta", text=text)
            found += [mirror, event] if i % 2 else [event, mirror]
        return [
            (name, f"{int(id.split('-')[1]):03}" if self.with_ids else "", data) for name, id, data in found
        ]


TOLD = st.lists(
    st.tuples(
        st.sampled_from(["assistant", "thinking", "tool_call"]), st.text("ab €😀", min_size=1, max_size=4)
    ),
    max_size=8,
)
HOWS = st.sampled_from(["reset", "end", "silent", "bad id", "over", "expired"])
CUTS = st.lists(st.tuples(st.integers(0, 12), HOWS), max_size=8)


@given(TOLD, CUTS, st.booleans())
def test_whatever_breaks_everything_is_said_exactly_once(
    told: list[tuple[str, str]], cuts: list[tuple[int, str]], with_ids: bool
):
    server = Api(told, cuts, with_ids=with_ids)
    server.over = False
    asked: list[str] = []

    def answering(step: str, http: HttpRequest) -> Any:
        asked.append(step)
        if step == RUN and asked.count(RUN) > 20:
            server.over = True
        return server(step, http)

    played = play(answering)
    assert played.error is None
    assert played.text == server.whole["assistant"]
    assert server.whole["thinking"].startswith(played.reasoning)
    if RUN not in asked:
        assert played.reasoning == server.whole["thinking"]
    assert [step for step in asked if step in ("POST", ARCHIVE, CANCEL)] == ["POST", ARCHIVE]
    assert played.answer.finish_reason == "stop"


@given(TOLD, st.integers(0, 20))
def test_a_start_in_other_pieces_is_passed_over_by_its_length(first: list[tuple[str, str]], size: int):
    """Without ids a stream begins anew, and may be cut into other pieces than before."""
    texts = {kind: "".join(t for k, t in first if k == kind) for kind in ("assistant", "thinking")}
    once = [(kind, "", {"text": text}) for kind, text in first if kind != "tool_call"]
    again = [
        (kind, "", {"text": text[i : i + size % 3 + 1]})
        for kind, text in texts.items()
        for i in range(0, len(text), size % 3 + 1)
    ]
    cut = Cut([STATUS, *once[:size]], lost())
    played = play([MADE, (STREAM, cut), (STREAM, [STATUS, *again, TURN_ENDED, *result()]), *END])
    assert (played.text, played.reasoning) == (texts["assistant"], texts["thinking"])
