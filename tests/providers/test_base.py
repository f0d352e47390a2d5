"""What providers share: reading waits, choices, efforts and URLs, and what counts as dropped."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UpstreamError
from gateway.providers.base import (
    EFFORTS,
    ToolWish,
    data_url,
    dropped,
    nearest_effort,
    needs,
    parse_arguments,
    path_segment,
    retry_after,
    tool_wish,
    top_k,
)

from .cases import CLOCK, WEATHER, request, user

DATE = "Sun, 22 Nov 2026 10:00:00 GMT"
WAITS: list[tuple[dict[str, str], float | None]] = [
    ({}, None),
    ({"retry-after": "2"}, 2),
    ({"retry-after": "2.5"}, 2.5),
    ({"retry-after": "0"}, 0),
    ({"retry-after-ms": "50"}, 0.05),
    ({"retry-after": "9", "retry-after-ms": "50"}, 0.05),
    ({"retry-after": "9", "retry-after-ms": "soon"}, 9),
    ({"x-ms-retry-after-ms": "70", "retry-after": "9"}, 0.07),
    ({"retry-after": "Sun, 22 Nov 2026 10:00:07 GMT", "date": DATE}, 7),
    ({"retry-after": "Sun, 22 Nov 2026 09:00:00 GMT", "date": DATE}, None),
    ({"retry-after": "Sun, 22 Nov 2026 10:00:07 GMT"}, None),
    ({"retry-after": "Sun, 22 Nov 99999 10:00:07 GMT", "date": DATE}, None),
    ({"retry-after": "-1"}, None),
    ({"retry-after": "inf"}, None),
    ({"retry-after": "nan"}, None),
    ({"retry-after": "1e309"}, None),
    ({"retry-after": "garbage"}, None),
    ({"retry-after": ""}, None),
    ({"retry-after": "100000"}, None),
]


@pytest.mark.parametrize(("headers", "seconds"), WAITS)
def test_waits(headers: dict[str, str], seconds: float | None):
    assert retry_after(headers) == seconds


@given(st.text(), st.text())
def test_any_header_is_harmless(text: str, date: str):
    wait = retry_after({"retry-after": text, "date": date})
    assert wait is None or 0 <= wait <= 86_400


@pytest.mark.parametrize(
    ("effort", "allowed", "nearest"),
    [
        ("high", EFFORTS, "high"),
        ("minimal", ("none", "low", "medium"), "low"),  # less thinking is not none
        ("none", ("low", "high"), "low"),
        ("none", ("none", "low"), "none"),
        ("medium", ("low", "high"), "low"),
        ("max", ("low", "high"), "high"),
        ("enormous", EFFORTS, None),
    ],
)
def test_the_nearest_effort(effort: str, allowed: tuple[str, ...], nearest: str | None):
    assert nearest_effort(effort, allowed) == nearest


def choice(value: Any) -> ToolWish:
    return tool_wish(request({"messages": [user("x")], "tools": [WEATHER, CLOCK], "tool_choice": value}))


def allowed(mode: str, *tools: Any) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(tools)}}


def test_tool_choice_in_one_form():
    assert tool_wish(request({"messages": [user("x")]})) == ToolWish(None, None)
    for word in ("none", "auto", "required"):
        assert choice(word) == ToolWish(word)  # type: ignore[arg-type]
    named = {"type": "function", "function": {"name": "get_time"}}
    assert choice(named) == ToolWish("required", ("get_time",))
    flat, deep = (
        {"type": "function", "name": "get_time"},
        {"type": "function", "function": {"name": "get_weather"}},
    )
    assert choice(allowed("auto", flat, deep, {"name": "unknown"})) == ToolWish(
        "auto", ("get_time", "get_weather")
    )
    assert choice(allowed("required", flat)) == ToolWish("required", ("get_time",))


@pytest.mark.parametrize(
    "value",
    [
        "any",
        {"type": "custom", "custom": {"name": "c"}},
        {"type": "mystery"},
        {"type": "function", "function": {"name": "not_on_offer"}},
        allowed("auto"),
        allowed("auto", {"function": "f"}),
        allowed("auto", {"function": {"name": ["f"]}}),
        allowed("required", {"name": "unknown"}),
    ],
)
def test_a_tool_choice_that_is_none_is_refused_with_its_field(value: Any):
    with pytest.raises(UpstreamError) as caught:
        choice(value)
    assert (caught.value.param or "").startswith("tool_choice")


DROPPED: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"seed": 7}, ("seed",)),
    ({"seed": 0}, ("seed",)),
    ({"seed": None}, ()),
    ({"store": False, "presence_penalty": 0, "logit_bias": {}, "user": ""}, ()),
    ({"store": True}, ("store",)),
    ({"n": 1}, ()),
    ({"modalities": ["text"]}, ()),
    ({"enable_thinking": False}, ("enable_thinking",)),
    ({"mystery": None}, ()),
    ({"web_search_options": {}}, ("web_search_options",)),
    ({"parallel_tool_calls": False}, ("parallel_tool_calls",)),
]


@pytest.mark.parametrize(("fields", "names"), DROPPED)
def test_what_is_a_loss(fields: dict[str, Any], names: tuple[str, ...]):
    """What asks for nothing is none; a field that nobody knows may mean something even when it is false."""
    ignores = ("seed", "store", "presence_penalty", "logit_bias", "user", "n", "modalities")
    chat = request({"messages": [user("x")], **fields})
    assert dropped(chat, (*ignores, "web_search_options", "parallel_tool_calls")) == names


@pytest.mark.parametrize(
    ("value", "expected"), [(5, 5), (0, None), (-1, None), (True, None), ("5", None), (1.5, None)]
)
def test_top_k(value: Any, expected: int | None):
    assert top_k(request({"messages": [user("x")], "top_k": value})) == expected


def test_data_urls():
    found = data_url("data:image/JPG;name=a.jpg;base64,AA==")
    assert found is not None
    assert (found.media_type, found.data) == ("image/jpeg", "AA==")
    assert data_url("https://x/y.png") is None
    assert data_url("data:text/plain,hello") is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", {}),
        (" ", {}),
        ('{"a":1}', {"a": 1}),
        ("[1]", {"value": [1]}),
        ("{", {"_raw": "{"}),
        ("[" * 9999, {"_raw": "[" * 9999}),
    ],
)
def test_arguments_are_an_object_whatever_a_model_wrote(text: str, value: dict[str, Any]):
    assert parse_arguments(text) == value


def test_a_path_segment_stays_one():
    assert path_segment("a/b?c#d%2f") == "a%2Fb%3Fc%23d%252f"
    for bad in ("", ".", ".."):
        with pytest.raises(UpstreamError):
            path_segment(bad)


def test_needs_name_the_first_field_that_asks():
    image = {"type": "image_url", "image_url": {"url": "x"}}
    chat = request({"messages": [user("x"), user([image]), user([image])], "tools": [CLOCK], "n": 2})
    assert needs(chat) == {"tools": "tools", "n": "n", "images": "messages[1].content[0]"}
    assert needs(request({"messages": [user("x")], "tools": [CLOCK], "tool_choice": "none"})) == {}
