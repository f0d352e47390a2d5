"""Anthropic: where cache marks go, and how many."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from .anthropic_helpers import (
    NEWEST,
    SIGNED,
    assistant,
    build,
    configured,
    image,
    native,
    text,
    tool,
)
from .cases import CLOCK, call, user

# ── cache marks ────────────────────────────────────────────────────────────────────────────────────────

MARK = {"type": "ephemeral"}
HOUR = {"type": "ephemeral", "ttl": "1h"}


def marks(body: dict[str, Any]) -> list[Any]:
    """The marks of all blocks outside of results, in the order of the prompt."""
    said = [block for message in body["messages"] for block in message["content"]]
    return [block.get("cache_control") for block in (*body.get("tools", ()), *body.get("system", ()), *said)]


@pytest.mark.parametrize("role", ["system", "developer", "user"])
def test_a_mark_on_a_message_is_one_on_its_last_block(role: str):
    marked = {"role": role, "content": [text("a"), text("b")], "cache_control": HOUR}
    last = [] if role == "user" else [None]
    said = [] if role == "user" else [user("Hi")]
    assert marks(native(NEWEST, messages=[marked, *said])) == [None, HOUR, *last]
    assert marks(native(NEWEST, messages=[{**marked, "content": "a"}, *said])) == [HOUR, *last]
    assert marks(native(NEWEST, messages=[user("Hi"), {**marked, "content": " "}])) == [None]


def test_cache_marks_in_a_conversation():
    part = {**text("Hi"), "cache_control": MARK}
    messages = [
        {**assistant("a"), "cache_control": HOUR},
        user("b"),
        {**assistant(None, call("a", "f", ""), thinking_blocks=[SIGNED]), "cache_control": MARK},
        {**tool("a", [part]), "cache_control": MARK},
    ]
    body = native(NEWEST, messages=messages)
    assert marks(body) == [None, None, HOUR, None, None, MARK, MARK]
    assert body["messages"][-1]["content"][0]["content"] == [part]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"prompt_cache_breakpoint": {"mode": "explicit"}}, MARK),
        ({"prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"}}, MARK),
        ({"prompt_cache_breakpoint": {"mode": "explicit", "ttl": "1h"}}, HOUR),
        ({"prompt_cache_breakpoint": {"ttl": ["1h"]}}, MARK),
        ({"prompt_cache_breakpoint": {"mode": "explicit"}, "cache_control": HOUR}, HOUR),
        ({"prompt_cache_breakpoint": None}, None),
    ],
)
def test_the_other_mark_on_parts(given: dict[str, Any], sent: Any):
    picture = image("https://example.org/a.png")[0]["content"][0]
    assert marks(native(NEWEST, messages=[user([{**picture, **given}, text("?")])])) == [sent, None]


def test_no_more_marks_than_the_api_takes():
    """Of six the last four stay; within a result comes before the result."""
    part = {**text("Hi"), "cache_control": MARK}
    messages = [
        {"role": "system", "content": [part]},
        user([part]),
        {**assistant(None, call("a", "f", "")), "cache_control": MARK},
        {**tool("a", [part]), "cache_control": HOUR},
    ]
    http = build(NEWEST, messages=messages, tools=[{**CLOCK, "cache_control": MARK}])
    body = msgspec.json.decode(http.body)
    assert marks(body) == [None, None, MARK, MARK, HOUR]
    assert body["messages"][-1]["content"][0]["content"] == [part]
    assert http.dropped == ("cache_control",)
    four = build(NEWEST, messages=messages[1:])
    assert marks(msgspec.json.decode(four.body)) == [None, MARK, MARK, HOUR]  # the declared tool has none
    assert four.dropped == ()


def test_the_automatic_mark_is_one_of_them():
    automatic = configured(automatic_cache=True)
    part = {**text("Hi"), "cache_control": MARK}
    assert native(NEWEST, automatic)["cache_control"] == MARK
    assert native(NEWEST, automatic, messages=[user([part] * 3)])["cache_control"] == MARK
    assert "cache_control" not in native(NEWEST, automatic, messages=[user([part] * 4)])
    assert "cache_control" not in native(NEWEST, automatic, messages=[user([part] * 5)])
