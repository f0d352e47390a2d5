"""Anthropic: parameters, parts, thinking, history and what no request can say."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import msgspec
import pytest

from gateway.providers.anthropic import PROVIDER
from gateway.providers.anthropic.messages import CONTINUE
from gateway.providers.anthropic.requests import AnthropicOptions

from .anthropic_helpers import (
    NEWEST,
    OLD,
    SIGNED,
    assistant,
    build,
    configured,
    image,
    native,
    refusal,
    schema_form,
    text,
    tool,
)
from .cases import CLOCK, PDF, call, user

GOLDEN = {
    1: (
        "test_golden_01_minimal",
        "test_golden_01_every_model_has_a_default_limit",
    ),
    2: (
        "test_golden_02_system_and_developer",
        "test_golden_02_system_only",
    ),
    3: "test_golden_03_system_in_the_middle",
    4: (
        "test_golden_04_sampling",
        "test_golden_04_sampling_where_it_is_taken",
        "test_golden_04_thinking_and_the_newer_version_take_no_sampling",
        "test_golden_04_a_default_is_no_loss",
    ),
    5: "test_golden_05_clamped",
    6: "test_golden_06_stop",
    13: (
        "test_golden_13_images",
        "test_golden_13_what_cannot_be_said",
    ),
    14: "test_golden_14_files",
    16: (
        "test_golden_16_effort",
        "test_golden_16_a_budget_fits_into_the_limit",
        "test_golden_16_a_budget_gives_way",
        "test_golden_16_an_unknown_effort",
        "test_golden_16_effort_and_schema_share_a_place",
    ),
    17: (
        "test_golden_17_thoughts_come_back",
        "test_golden_17_a_turn_does_not_end_in_a_thought",
    ),
    18: (
        "test_golden_18_trailing_assistant",
        "test_golden_18_the_assistant_does_not_begin",
    ),
    "18b": (
        "test_golden_18b_blank_texts",
        "test_golden_18b_blank_assistant",
        "test_golden_18b_headers",
    ),
    19: (
        "test_golden_19_the_rest",
        "test_golden_19_service_tier",
        "test_golden_19_refused_by_name",
        "test_golden_19_custom_calls_in_the_history",
    ),
    26: (
        "tests/e2e/test_resilience.py::test_an_overloaded_first_event_is_repeated_and_counts",
        "tests/e2e/test_resilience.py::test_an_end_in_the_middle_is_not_repeated_and_counts",
    ),
    27: (
        "tests/e2e/test_resilience.py::test_a_short_stated_wait_is_waited_out",
        "tests/e2e/test_resilience.py::test_a_rate_limit_goes_elsewhere_and_closes_the_account",
    ),
    29: (
        "tests/providers/test_limits.py::test_anthropic_counts_from_the_answers_own_date",
        "tests/providers/test_limits.py::test_what_a_provider_tells_holds_back_the_next_call",
    ),
}


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


# ── 13 to 15: parts and schemas ────────────────────────────────────────────────────────────────────────


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
        {"file_data": f"data:text/plain;base64,{plain}"},
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
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Grüße"}},
        {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "document", "source": {"type": "url", "url": "https://example.org/b.pdf"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
    ]


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


def test_the_record():
    assert PROVIDER.owns is not None
    assert PROVIDER.owns.match("claude-nova-7")
    assert all(PROVIDER.owns.match(m) and PROVIDER.capabilities(m).context_window for m in PROVIDER.models)
    assert PROVIDER.options is AnthropicOptions
    assert PROVIDER.capabilities("claude-nova-7").context_window is None
