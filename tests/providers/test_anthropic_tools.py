"""Anthropic: calls, their results and which tools may be called (7 to 12)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.providers.anthropic.messages import NO_RESULT

from .anthropic_helpers import (
    NEWEST,
    OLD,
    assistant,
    build,
    native,
    refusal,
    text,
    tool,
)
from .cases import CLOCK, WEATHER, call, user

GOLDEN = {
    7: ("test_golden_07_parallel_calls", "test_golden_07_results_stand_first_and_may_be_empty"),
    8: ("test_golden_08_ids", "test_golden_08_ids_stay_apart"),
    9: "test_golden_09_arguments",
    10: (
        "test_golden_10_missing_result",
        "test_golden_10_a_call_at_the_very_end",
        "test_golden_10_history_with_calls_but_no_tools",
    ),
    11: (
        "test_golden_11_forced",
        "test_golden_11_who_can_be_forced",
        "test_golden_11_parallel_without_a_choice",
        "test_golden_11_allowed_tools",
        "test_golden_11_allowed_tools_that_are_not_on_offer",
    ),
    12: "test_golden_12_none",
}


# ── 7 to 12: tools ─────────────────────────────────────────────────────────────────────────────────────


def test_golden_07_parallel_calls():
    body = native(
        NEWEST,
        messages=[
            user("?"),
            assistant(None, call("a", "get_weather", '{"city":"Rome"}'), call("b", "get_time", "{}")),
            tool("b", "12:00"),
            tool("a", [text("18"), text(" ")]),
            user("And?"),
        ],
        tools=[WEATHER, CLOCK],
    )
    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "a", "name": "get_weather", "input": {"city": "Rome"}},
                {"type": "tool_use", "id": "b", "name": "get_time", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "b", "content": "12:00"},
                {"type": "tool_result", "tool_use_id": "a", "content": [text("18")]},
                text("And?"),
            ],
        },
    ]


def test_golden_07_results_stand_first_and_may_be_empty():
    messages = [user("?"), assistant("Let me see", call("a", "f", "")), user("Hurry"), tool("a", "")]
    turn = native(NEWEST, messages=messages)["messages"][2]
    assert turn["content"] == [{"type": "tool_result", "tool_use_id": "a"}, text("Hurry")]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("call_1/fc_9", "call_1_fc_9"),
        ("a|b", "a_b"),
        ("functions.x:0", "functions_x_0"),
        ("", "call"),
        ("call_1__thought__c2ln+/==", "call_1"),
        ("__thought__c2ln", "call"),
    ],
)
def test_golden_08_ids(given: str, sent: str):
    messages = native(NEWEST, messages=[user("?"), assistant(None, call(given, "f", "")), tool(given)])[
        "messages"
    ]
    assert messages[1]["content"][0]["id"] == sent
    assert messages[2]["content"][0]["tool_use_id"] == sent


def test_golden_08_ids_stay_apart():
    """Ids that turn out the same, or that a server counts from 0 in each turn, are told apart in order."""
    messages = native(
        NEWEST,
        messages=[
            user("?"),
            assistant(None, call("a|b", "f", ""), call("a/b", "f", "")),
            tool("a/b", "second"),
            tool("a|b", "first"),
            assistant(None, call("a|b", "f", "")),
            tool("a|b", "third"),
            tool("a|b", "of no call"),
        ],
    )["messages"]
    assert [b["id"] for m in (1, 3) for b in messages[m]["content"]] == ["a_b", "a_b_2", "a_b_3"]
    results = [(b["tool_use_id"], b["content"]) for m in (2, 4) for b in messages[m]["content"]]
    assert results == [("a_b_2", "second"), ("a_b", "first"), ("a_b_3", "third")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [("", {}), ("[1]", {"value": [1]}), ('{"a"', {"_raw": '{"a"'}), ("null", {"value": None})],
)
def test_golden_09_arguments(arguments: str, said: Any):
    messages = [user("?"), assistant(None, call("a", "f", arguments)), tool("a")]
    assert native(NEWEST, messages=messages)["messages"][1]["content"][0]["input"] == said


def test_golden_10_missing_result():
    body = native(
        NEWEST,
        messages=[user("?"), assistant(None, call("a", "f", ""), call("b", "f", "")), tool("a"), tool("zzz")],
    )
    assert body["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": "ok"},
        {"type": "tool_result", "tool_use_id": "b", "is_error": True, "content": NO_RESULT},
    ]


def test_golden_10_a_call_at_the_very_end():
    messages = native(NEWEST, messages=[user("?"), assistant(None, call("a", "f", ""))])["messages"]
    assert messages[-1]["role"] == "user"
    assert messages[-1]["content"][0]["is_error"] is True


def test_golden_10_history_with_calls_but_no_tools():
    """Declared for the history only: the client takes no calls."""
    body = native(NEWEST, messages=[user("?"), assistant(None, call("a", "f.g", "")), tool("a")])
    assert body["tools"] == [{"name": "f_g", "input_schema": {"type": "object", "properties": {}}}]
    assert body["tool_choice"] == {"type": "none"}


def test_golden_11_forced():
    chosen = {"tools": [CLOCK], "tool_choice": "required", "parallel_tool_calls": False}
    body = native("claude-opus-5", **chosen)
    assert body["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
    assert "system" not in body
    http = build(NEWEST, **chosen)
    body = msgspec.json.decode(http.body)
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert body["system"] == [text("You must call one of the tools.")]
    assert http.dropped == ("tool_choice",)


@pytest.mark.parametrize(
    ("model", "is_forced"),
    [
        ("claude-fable-5-2", False),
        ("claude-mythos-5-1", False),
        ("claude-opus-5-5", False),
        ("claude-nova-7", False),
        ("claude-fable-5", True),
        ("claude-mythos-preview", True),
        ("claude-haiku-5-5", True),
        ("claude-sonnet-5", True),
        ("claude-opus-4-8", True),
        ("claude-opus-4-6", True),
        (OLD, True),
    ],
)
def test_golden_11_who_can_be_forced(model: str, is_forced: bool):
    named = {"type": "function", "function": {"name": "get_time"}}
    body = native(model, tools=[CLOCK], tool_choice=named)
    expected = {"type": "tool", "name": "get_time"} if is_forced else {"type": "auto"}
    assert body["tool_choice"] == expected
    assert ("`get_time`" in str(body.get("system"))) is not is_forced


def test_golden_11_parallel_without_a_choice():
    body = native(NEWEST, tools=[CLOCK], parallel_tool_calls=False)
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert "tool_choice" not in native(NEWEST, parallel_tool_calls=False)
    assert "tool_choice" not in native(NEWEST, tools=[CLOCK])
    assert build(NEWEST, tool_choice="required").dropped == ("tool_choice",)
    named = {"type": "function", "function": {"name": "get_time"}}
    assert build(NEWEST, tool_choice=named).dropped == ("tool_choice",)


ALARM = {"type": "function", "function": {"name": "set_alarm"}}
EVERYTHING = [WEATHER, CLOCK, ALARM]


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


@pytest.mark.parametrize(
    ("model", "choice", "declared", "said"),
    [
        ("claude-opus-5", allowed("required", "get_time", "set_alarm"), 2, {"type": "any"}),
        ("claude-opus-5", allowed("auto", "get_time"), 1, {"type": "auto"}),
        ("claude-opus-5", allowed("required", "get_time"), 3, {"type": "tool", "name": "get_time"}),
        (NEWEST, allowed("required", "get_time", "set_alarm"), 2, {"type": "auto"}),
        (NEWEST, allowed("required", "get_time"), 1, {"type": "auto"}),
        (NEWEST, {"type": "function", "function": {"name": "get_time"}}, 1, {"type": "auto"}),
    ],
)
def test_golden_11_allowed_tools(model: str, choice: Any, declared: int, said: Any):
    """What may not be called is not declared, unless the choice itself names the one that must be."""
    body = native(model, tools=EVERYTHING, tool_choice=choice)
    assert "get_time" in [t["name"] for t in body["tools"]]
    assert len(body["tools"]) == declared
    assert body["tool_choice"] == said


def test_golden_11_allowed_tools_that_are_not_on_offer():
    choice = allowed("required", "get_time")
    assert refusal(tools=[WEATHER], tool_choice=choice).param == "tool_choice.allowed_tools"
    named = {"type": "function", "function": {"name": "get_time"}}
    for model in ("claude-opus-5", NEWEST):
        assert refusal(model, tools=[WEATHER], tool_choice=named).param


def test_golden_12_none():
    body = native(NEWEST, tools=[CLOCK], tool_choice="none", parallel_tool_calls=False)
    assert body["tool_choice"] == {"type": "none"}
    assert body["tools"] == [{"name": "get_time", "input_schema": {"type": "object", "properties": {}}}]


def test_web_search():
    location = {"type": "approximate", "approximate": {"city": "Köln", "country": "DE"}}
    own = {"type": "function", "function": {"name": "web_search"}}
    body = native(NEWEST, web_search_options={"user_location": location}, tools=[own])
    assert body["tools"][1] == {
        "type": "web_search_20250305",
        "name": "web_search",
        "max_uses": 5,
        "user_location": {"type": "approximate", "city": "Köln", "country": "DE"},
    }
    assert body["tools"][0]["name"].startswith("web_search_")  # the client's own gets out of the way


@pytest.mark.parametrize(
    ("options", "is_lost"),
    [
        ({}, False),
        ({"user_location": None}, False),
        ({"user_location": {"type": "approximate", "approximate": {"city": "Rome"}}}, False),
        ({"search_context_size": "low"}, True),
        ({"user_location": "Rome"}, True),
        ({"max_uses": 9}, True),
    ],
)
def test_web_search_options_without_a_word(options: dict[str, Any], is_lost: bool):
    assert build(NEWEST, web_search_options=options).dropped == (("web_search_options",) if is_lost else ())
