"""The golden cases of Anthropic's dialect, by number: requests (1 to 19).

Schemas (12 and 15) stand in `test_anthropic_schema`, answers (20 to 26) in `test_anthropic_answers`, errors,
second calls and models (27 to 30) in `test_anthropic_calls`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.errors import ErrorKind, UpstreamError
from gateway.providers.anthropic import PROVIDER
from gateway.providers.anthropic.messages import CONTINUE, NO_RESULT
from gateway.providers.anthropic.requests import AnthropicOptions
from gateway.providers.base import HttpRequest, Provider

from .cases import CLOCK, PDF, WEATHER, call, request, user

DRIVER_CASES = {  # parts of golden cases that no pure provider can show, and who shows them
    23: "the role chunk, the usage chunk and [DONE] are written by the ingress",
    26: "the HTTP 503, the retry, the breaker and the error frame belong to router and ingress",
    27: "waiting and retrying belong to the router; a 200's retry-after is never handed to a provider",
    28: "the second call is made by the driver; which one it is, is tested here",
    29: "rate limit headers are read by the limiter",
    30: "pages are fetched and joined by the driver; each page and its following request are tested here",
}


def test_every_golden_case_is_here_or_said_to_be_elsewhere():
    sources = "".join(path.read_text() for path in Path(__file__).parent.glob("test_anthropic*.py"))
    here = {int(number) for number in re.findall(r"def test_golden_(\d\d)", sources)}
    assert here | set(DRIVER_CASES) == set(range(1, 31))


HI = [user("Hi")]
NEWEST = "claude-sonnet-5-5"
OLD = "claude-sonnet-4-5"
SIGNED = {"type": "thinking", "thinking": "Hm.", "signature": "SIG=="}


def build(model: str, provider: Provider = PROVIDER, **body: Any) -> HttpRequest:
    return provider.build_request(request({"messages": HI, **body}, model))


def native(model: str, provider: Provider = PROVIDER, **body: Any) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(build(model, provider, **body).body)
    return decoded


def refusal(model: str = NEWEST, **body: Any) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        build(model, **body)
    assert caught.value.kind is ErrorKind.UNSUPPORTED
    return caught.value


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def assistant(content: Any = None, *calls: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "role": "assistant",
        "content": content,
        **({"tool_calls": list(calls)} if calls else {}),
        **more,
    }


def tool(call_id: str, content: Any = "ok") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


# ── 1 to 6: parameters ─────────────────────────────────────────────────────────────────────────────────


def test_golden_01_minimal():
    """An absent limit is the model's maximum; an answer that may be so long is streamed in any case."""
    http = build("claude-haiku-4-5")
    assert msgspec.json.decode(http.body) == {
        "model": "claude-haiku-4-5",
        "max_tokens": 64_000,
        "stream": True,
        "messages": [{"role": "user", "content": [text("Hi")]}],
    }
    assert http.stream
    assert http.dropped == ()
    assert "stream" not in native("claude-haiku-4-5", max_tokens=21_333)
    assert not build("claude-haiku-4-5", max_tokens=21_333).stream


@pytest.mark.parametrize(
    ("model", "limit"),
    [
        ("claude-opus-5", 128_000),
        ("claude-opus-4-6", 128_000),
        ("claude-opus-4-1-20250805", 32_000),
        ("claude-opus-4-20250514", 32_000),
        ("claude-sonnet-4-20250514", 4096),
        ("claude-3-haiku-20240307", 4096),
        ("claude-nova-7", 16_384),
    ],
)
def test_golden_01_every_model_has_a_default_limit(model: str, limit: int):
    assert native(model)["max_tokens"] == limit


def test_golden_02_system_and_developer():
    body = native(
        NEWEST,
        messages=[
            {"role": "system", "content": "A"},
            {"role": "developer", "content": [{**text("B"), "cache_control": {"type": "ephemeral"}}]},
            user("Hi"),
        ],
    )
    assert body["system"] == [text("A"), {**text("B"), "cache_control": {"type": "ephemeral"}}]
    assert body["messages"] == [{"role": "user", "content": [text("Hi")]}]


def test_golden_02_system_only():
    """The API needs a turn of the user's: the last system text becomes it."""
    body = native(NEWEST, messages=[{"role": "system", "content": "A"}, {"role": "system", "content": "B"}])
    assert body["system"] == [text("A")]
    assert body["messages"] == [{"role": "user", "content": [text("B")]}]
    blank = native(NEWEST, messages=[{"role": "system", "content": " "}])
    assert blank["messages"] == [{"role": "user", "content": [text(".")]}]
    assert "system" not in blank


def test_golden_03_system_in_the_middle():
    body = native(
        NEWEST,
        messages=[
            {"role": "system", "content": "A"},
            user("1"),
            {"role": "system", "content": "B"},
            user("2"),
            assistant("3"),
            {"role": "developer", "content": "C"},
            user("4"),
        ],
    )
    assert body["system"] == [text("A"), text("B"), text("C")]
    assert [m["role"] for m in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][0]["content"] == [text("1"), text("2")]


def test_golden_04_sampling():
    http = build("claude-sonnet-4-6", temperature=1.7, top_p=0.9)
    body = msgspec.json.decode(http.body)
    assert body["temperature"] == 1.0
    assert "top_p" not in body
    assert set(http.dropped) == {"temperature", "top_p"}
    newer = build("claude-opus-5", temperature=1.7, top_p=0.9, top_k=5)
    assert not {"temperature", "top_p", "top_k"} & msgspec.json.decode(newer.body).keys()
    assert set(newer.dropped) == {"temperature", "top_p", "top_k"}


def test_golden_04_sampling_where_it_is_taken():
    assert native(OLD, temperature=0.3)["temperature"] == 0.3
    assert native(OLD, top_p=0.4)["top_p"] == 0.4
    http = build(OLD, top_k=5)
    assert msgspec.json.decode(http.body)["top_k"] == 5
    assert http.dropped == ()


def test_golden_04_thinking_and_the_newer_version_take_no_sampling():
    http = build(OLD, temperature=0.3, top_p=0.97, reasoning_effort="high", top_k=5)
    body = msgspec.json.decode(http.body)
    assert "temperature" not in body
    assert "top_k" not in body
    assert body["top_p"] == 0.97
    assert set(http.dropped) == {"temperature", "top_k"}
    assert "top_p" not in native(OLD, top_p=0.5, reasoning_effort="high")
    newer = configured(version="2026-10-21")
    assert not {"temperature", "top_p"} & native(OLD, newer, temperature=0.3, top_p=0.9).keys()


@pytest.mark.parametrize("value", [0, 1])
def test_golden_04_a_default_is_no_loss(value: int):
    dropped = build(NEWEST, temperature=value, top_p=1).dropped
    assert dropped == (("temperature",) if value == 0 else ())


def test_golden_05_clamped():
    http = build(OLD, max_completion_tokens=500_000)
    assert msgspec.json.decode(http.body)["max_tokens"] == 64_000
    assert http.dropped == ("max_completion_tokens",)
    assert build(OLD, max_tokens=500_000).dropped == ("max_tokens",)
    assert native("claude-nova-7", max_tokens=500_000)["max_tokens"] == 500_000


@pytest.mark.parametrize(
    ("stops", "said", "dropped"),
    [
        ("END", ["END"], ()),
        (["\n", "X"], ["X"], ("stop",)),
        ("\n", None, ("stop",)),
        ("", None, ()),
    ],
)
def test_golden_06_stop(stops: Any, said: list[str] | None, dropped: tuple[str, ...]):
    http = build(NEWEST, stop=stops)
    assert msgspec.json.decode(http.body).get("stop_sequences") == said
    assert http.dropped == dropped


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


# ── 13 to 15: parts and schemas ────────────────────────────────────────────────────────────────────────


def image(url: str) -> list[dict[str, Any]]:
    return [user([{"type": "image_url", "image_url": {"url": url, "detail": "low"}}])]


def test_golden_13_images():
    sent = native(NEWEST, messages=image("data:image/jpg;name=a.jpg;base64,AAAA"))["messages"][0]["content"]
    source = {"type": "base64", "media_type": "image/jpeg", "data": "AAAA"}
    assert sent == [{"type": "image", "source": source}]
    sent = native(NEWEST, messages=image("https://example.org/a.png"))["messages"][0]["content"]
    assert sent == [{"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "image_url", "image_url": {"url": "data:image/bmp;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "ftp://example.org/a.png"}},
        {"type": "image_url", "image_url": {"url": "http://example.org/a.png"}},
        {"type": "file", "file": {"file_data": "http://example.org/a.pdf"}},
        {"type": "file", "file": {"file_data": "data:application/zip;base64,AAAA"}},
        {"type": "file", "file": {"file_data": "data:text/plain;base64,A"}},
        {"type": "file", "file": {}},
        {"type": "hologram"},
    ],
)
def test_golden_13_what_cannot_be_said(part: dict[str, Any]):
    assert refusal(messages=[user([text("?"), part])]).param == "messages[0].content[1]"


def test_golden_14_files():
    plain = base64.b64encode("Grüße".encode()).decode()
    files = [
        {"file_data": f"data:application/pdf;base64,{PDF}", "filename": "a.pdf"},
        {"file_data": f"data:text/markdown;base64,{plain}"},
        {"file_id": "file_1"},
        {"file_data": "https://example.org/b.pdf"},
        {"file_data": "data:image/png;base64,AAAA"},
    ]
    content = native(NEWEST, messages=[user([{"type": "file", "file": f} for f in files])])["messages"][0]
    assert content["content"] == [
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
            "title": "a.pdf",
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Grüße"}},
        {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "document", "source": {"type": "url", "url": "https://example.org/b.pdf"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
    ]


def schema_form(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}


# ── 16 to 19: thinking, history, the rest ──────────────────────────────────────────────────────────────

SHOWN = {"type": "adaptive", "display": "summarized"}


@pytest.mark.parametrize(
    ("model", "effort", "thinking", "said"),
    [
        ("claude-fable-5-2", "none", None, "low"),
        ("claude-fable-5-2", "xhigh", SHOWN, "xhigh"),
        ("claude-opus-5-5", "none", None, "low"),
        ("claude-mythos-preview", "max", SHOWN, "max"),
        ("claude-nova-7", "medium", SHOWN, "medium"),
        ("claude-sonnet-5-5", "none", {"type": "between_tools"}, None),
        ("claude-sonnet-5-5", "minimal", SHOWN, "low"),
        ("claude-haiku-5-5", "none", {"type": "disabled"}, None),
        ("claude-opus-5", "none", {"type": "disabled"}, None),
        ("claude-opus-5", "max", SHOWN, "max"),
        ("claude-sonnet-5", "low", SHOWN, "low"),
        ("claude-opus-4-8", "none", None, None),
        ("claude-opus-4-7", "xhigh", SHOWN, "xhigh"),
        ("claude-opus-4-6", "none", None, None),
        ("claude-opus-4-6", "high", {"type": "adaptive"}, "high"),
        ("claude-opus-4-6", "xhigh", {"type": "adaptive"}, "max"),
        ("claude-opus-4-5", "xhigh", {"type": "enabled", "budget_tokens": 32_768}, "high"),
        ("claude-opus-4-5", "low", {"type": "enabled", "budget_tokens": 2048}, "low"),
        ("claude-sonnet-4-5", "none", None, None),
        ("claude-sonnet-4-5", "minimal", {"type": "enabled", "budget_tokens": 1024}, None),
        ("claude-haiku-4-5-20251001", "medium", {"type": "enabled", "budget_tokens": 10_000}, None),
        ("claude-3-haiku-20240307", "high", None, None),
    ],
)
def test_golden_16_effort(model: str, effort: str, thinking: Any, said: str | None):
    http = build(model, reasoning_effort=effort)
    body = msgspec.json.decode(http.body)
    assert body.get("thinking") == thinking
    assert body.get("output_config", {}).get("effort") == said
    assert not {"thinking", "output_config"} & native(model).keys()
    unheard = effort == "none" and said is not None
    changed = said not in (None, effort) or "claude-3" in model
    assert http.dropped == (("reasoning_effort",) if unheard or changed else ())


def test_golden_16_a_budget_fits_into_the_limit():
    for limit, budget in ((60_000, 16_384), (16_384, 12_288), (2000, 1500), (1200, 1024), (1025, 1024)):
        thinking = native(OLD, reasoning_effort="high", max_tokens=limit)["thinking"]
        assert thinking["budget_tokens"] == budget
    http = build(OLD, reasoning_effort="high", max_tokens=1024)
    assert b"thinking" not in http.body
    assert http.dropped == ("reasoning_effort",)


@pytest.mark.parametrize(
    "conflict",
    [
        {"tools": [CLOCK], "tool_choice": "required"},
        {"messages": [user("?"), assistant("It is")]},
        {"messages": [user("?"), assistant(None, call("a", "f", "")), tool("a")]},
        {
            "messages": [
                user("?"),
                assistant(None, call("a", "f", "")),
                tool("a"),
                assistant(None, call("b", "f", ""), thinking_blocks=[SIGNED]),
                tool("b"),
            ]
        },
    ],
)
def test_golden_16_a_budget_gives_way(conflict: dict[str, Any]):
    """Forced calls, prefill and a tool loop without its thoughts cannot go with a budget."""
    http = build(OLD, reasoning_effort="high", **conflict)
    assert "thinking" not in msgspec.json.decode(http.body)
    assert http.dropped == ("reasoning_effort",)


def test_golden_16_an_unknown_effort():
    http = build(NEWEST, reasoning_effort="colossal")
    assert b"effort" not in http.body
    assert http.dropped == ("reasoning_effort",)


def test_golden_16_effort_and_schema_share_a_place():
    form = schema_form({"type": "string"})
    config = native(NEWEST, reasoning_effort="low", response_format=form)["output_config"]
    assert config["effort"] == "low"
    assert config["format"]["schema"] == {"type": "string"}


def test_golden_17_thoughts_come_back():
    blocks = [
        {"type": "thinking", "thinking": "No.", "signature": ""},
        {**SIGNED, "index": 0},
        {"type": "redacted_thinking", "data": "X=="},
        {"type": "thinking", "thinking": "", "signature": "HIDDEN=="},
        {"type": "thinking", "thinking": "No."},
        {"type": "redacted_thinking"},
        {"type": "other"},
    ]
    said = assistant("Well", call("a", "f", ""), thinking_blocks=blocks, reasoning_content="never sent")
    body = native(OLD, messages=[user("?"), said, tool("a")], reasoning_effort="low")
    assert body["messages"][1]["content"] == [
        SIGNED,
        {"type": "redacted_thinking", "data": "X=="},
        {"type": "thinking", "thinking": "", "signature": "HIDDEN=="},
        text("Well"),
        {"type": "tool_use", "id": "a", "name": "f", "input": {}},
    ]
    assert body["thinking"]["type"] == "enabled"


def test_golden_17_a_turn_does_not_end_in_a_thought():
    messages = [user("1"), assistant("", thinking_blocks=[SIGNED]), user("2")]
    assert native(NEWEST, messages=messages)["messages"] == [
        {"role": "user", "content": [text("1"), text("2")]}
    ]


def test_golden_18_trailing_assistant():
    messages = [user("?"), assistant("It is \n")]
    assert native(OLD, messages=messages)["messages"][-1] == {"role": "assistant", "content": [text("It is")]}
    newer = native("claude-opus-5", messages=messages)["messages"]
    assert newer[1:] == [
        {"role": "assistant", "content": [text("It is \n")]},
        {"role": "user", "content": [text(CONTINUE)]},
    ]
    assert native("claude-opus-4-6", messages=messages)["messages"][-1]["role"] == "user"


def test_golden_18_the_assistant_does_not_begin():
    messages = native(NEWEST, messages=[assistant("Hello"), user("Hi")])["messages"]
    assert messages[0] == {"role": "user", "content": [text(".")]}


@pytest.mark.parametrize(
    ("content", "sent"),
    [
        ("", [text(".")]),
        (" \n", [text(".")]),
        ([], [text(".")]),
        (
            [text(""), *image("https://example.org/a.png")[0]["content"]],
            [{"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}],
        ),
    ],
)
def test_golden_18b_blank_texts(content: Any, sent: Any):
    assert native(NEWEST, messages=[user(content)])["messages"] == [{"role": "user", "content": sent}]


def test_golden_18b_blank_assistant():
    body = native(
        NEWEST, messages=[user("1"), assistant("\n"), user("2"), assistant(refusal="No."), user("3")]
    )
    assert body["messages"] == [
        {"role": "user", "content": [text("1"), text("2")]},
        {"role": "assistant", "content": [text("No.")]},
        {"role": "user", "content": [text("3")]},
    ]


def configured(**options: Any) -> Provider:
    assert PROVIDER.configure is not None
    return PROVIDER.configure(msgspec.convert(options, PROVIDER.options))


def test_golden_18b_headers():
    plain = {"anthropic-version": "2023-06-01"}
    assert build(NEWEST).headers == plain
    assert build(NEWEST, configured(beta=["", " "])).headers == plain
    chosen = configured(version="2026-10-21", beta=["a-1", " b-2", "a-1"])
    headers = {"anthropic-version": "2026-10-21", "anthropic-beta": "a-1,b-2"}
    assert build(NEWEST, chosen).headers == chosen.models_request.headers == headers
    page = chosen.parse_models(b'{"data":[{"id":"a"}],"has_more":true,"last_id":"a"}')
    assert page.following is not None
    assert page.following.headers == headers
    assert PROVIDER.auth("k") == {"x-api-key": "k"}


def test_golden_19_the_rest():
    assert refusal(n=2).param == "n"
    assert build(NEWEST, n=1).dropped == ()
    assert refusal(modalities=["text", "audio"], audio={"voice": "alloy"}).param == "modalities"
    assert refusal(modalities=["text", "audio"]).param == "modalities"
    assert refusal(audio={"voice": "alloy"}).param == "modalities"
    assert build(NEWEST, modalities=["text"]).dropped == ()
    http = build(NEWEST, seed=7, logit_bias={"1": 2}, user="me@example.org", metadata={"a": "b"}, knob=[1])
    body = msgspec.json.decode(http.body)
    assert set(http.dropped) == {"seed", "logit_bias", "metadata", "knob"}
    assert body["metadata"] == {"user_id": hashlib.sha256(b"me@example.org").hexdigest()}
    assert body.keys() == {"model", "max_tokens", "stream", "metadata", "messages"}


@pytest.mark.parametrize(
    ("tier", "sent", "dropped"),
    [
        ("auto", "auto", ()),
        ("default", "standard_only", ()),
        ("flex", None, ("service_tier",)),
        ("priority", None, ("service_tier",)),
    ],
)
def test_golden_19_service_tier(tier: str, sent: str | None, dropped: tuple[str, ...]):
    http = build(NEWEST, service_tier=tier)
    assert msgspec.json.decode(http.body).get("service_tier") == sent
    assert http.dropped == dropped


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [CLOCK], "tool_choice": "perhaps"}, "tool_choice"),
        (
            {"tools": [CLOCK], "tool_choice": {"type": "custom", "custom": {"name": "x"}}},
            "tool_choice.type",
        ),
    ],
)
def test_golden_19_refused_by_name(body: dict[str, Any], param: str):
    assert refusal(**body).param == param


def test_golden_19_custom_calls_in_the_history():
    """Another provider's call must not end the conversation."""
    custom = {"id": "a", "type": "custom", "custom": {"name": "x", "input": "free text"}}
    sent = native(NEWEST, messages=[user("?"), assistant(None, custom), tool("a")])["messages"][1]
    assert sent["content"][0]["input"] == {"input": "free text"}


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


def test_the_record():
    assert PROVIDER.owns is not None
    assert PROVIDER.owns.match("claude-nova-7")
    assert all(PROVIDER.owns.match(m) and PROVIDER.capabilities(m).context_window for m in PROVIDER.models)
    assert PROVIDER.options is AnthropicOptions
    assert PROVIDER.capabilities("claude-nova-7").context_window is None
