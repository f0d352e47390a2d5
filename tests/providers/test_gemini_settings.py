"""Gemini: what tools and generation settings become."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.providers.gemini.parts import function_name

from .cases import CLOCK, WEATHER, user
from .gemini_helpers import (
    FLASH,
    build,
    config,
    form,
    refusal,
    says,
    sent,
    system,
)

GOLDEN = {
    10: (
        "test_golden_10_tool_choice",
        "test_golden_10_no_choice_without_tools",
        "test_golden_10_allowed_tools_have_to_name_a_tool",
    ),
    11: ("test_golden_11_response_schema", "test_golden_11_schema_and_tools"),
    12: "test_golden_12_reasoning_effort",
    13: (
        "test_golden_13_limits_and_sampling",
        "test_golden_13_a_limit_over_the_models_is_the_models",
        "test_golden_13_what_cannot_be_said",
        "test_golden_13_penalties_by_generation",
    ),
}


# ── tools ──────────────────────────────────────────────────────────────────────────────────────────────


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


NAMED = {"type": "function", "function": {"name": "get_time"}}


@pytest.mark.parametrize(
    ("choice", "calling"),
    [
        (None, None),
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        (NAMED, {"mode": "ANY", "allowedFunctionNames": ["get_time"]}),
        (allowed("required", "get_time"), {"mode": "ANY", "allowedFunctionNames": ["get_time"]}),
        (allowed("auto", "get_time"), {"mode": "AUTO"}),
    ],
)
def test_golden_10_tool_choice(choice: Any, calling: Any):
    body = {"messages": [user("Hi")], "tools": [WEATHER, CLOCK], "tool_choice": choice}
    found = sent(body)
    assert found.get("toolConfig") == (calling and {"functionCallingConfig": calling})
    names = [declared["name"] for declared in found["tools"][0]["functionDeclarations"]]
    assert names == (["get_time"] if choice == allowed("auto", "get_time") else ["get_weather", "get_time"])


def test_golden_10_no_choice_without_tools():
    http = build({"messages": [user("Hi")], "tool_choice": "required"})
    assert msgspec.json.decode(http.body) == {"contents": [says("user", "Hi")]}
    assert http.dropped == ("tool_choice",)


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_golden_10_allowed_tools_have_to_name_a_tool(mode: str):
    base = {"messages": [user("Hi")], "tools": [CLOCK]}
    for tools in ([], [{"function": "get_time"}], [{"function": {"name": "gone"}}], [{"name": 3}]):
        choice = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}
        assert refusal({**base, "tool_choice": choice}).param == "tool_choice.allowed_tools"
    some = allowed("required", "gone", "get_time")
    calling = sent({**base, "tool_choice": some})["toolConfig"]["functionCallingConfig"]
    assert calling["allowedFunctionNames"] == ["get_time"]


def test_a_strange_choice_or_tool_is_refused():
    base = {"messages": [user("Hi")], "tools": [CLOCK]}
    assert refusal({**base, "tool_choice": {"type": "mcp"}}).param == "tool_choice.type"
    assert refusal({**base, "tool_choice": "perhaps"}).param == "tool_choice"
    assert refusal({**base, "tools": [CLOCK, {"type": "web_search"}]}).param == "tools[1].type"


@pytest.mark.parametrize(
    ("model", "choice", "mode"),
    [
        (FLASH, None, "VALIDATED"),
        (FLASH, "auto", "VALIDATED"),
        (FLASH, "required", "ANY"),
        ("gemini-2.5-flash", "auto", "VALIDATED"),
        ("gemini-2.0-flash", "auto", "AUTO"),
        ("gemini-3-pro-image", "auto", "AUTO"),
    ],
)
def test_strict_tools_are_validated_where_that_is_known(model: str, choice: str | None, mode: str):
    strict = {"type": "function", "function": {**WEATHER["function"], "strict": True}}
    body = {"messages": [user("Hi")], "tools": [strict, CLOCK], "tool_choice": choice}
    assert sent(body, model)["toolConfig"] == {"functionCallingConfig": {"mode": mode}}


def test_search_beside_functions_is_for_the_third_generation():
    body = {"messages": [user("Hi")], "tools": [CLOCK], "web_search_options": {}}
    found = sent(body)
    assert found["tools"] == [{"functionDeclarations": [{"name": "get_time"}]}, {"googleSearch": {}}]
    assert found["toolConfig"] == {"includeServerSideToolInvocations": True}
    old = build(body, "gemini-2.5-flash")
    assert b"googleSearch" not in old.body
    assert old.dropped == ("web_search_options",)
    alone = build({"messages": [user("Hi")], "web_search_options": {"search_context_size": "low"}})
    assert msgspec.json.decode(alone.body)["tools"] == [{"googleSearch": {}}]
    assert alone.dropped == ("web_search_options",)


def test_search_beside_a_response_format_is_for_the_third_generation():
    body = {
        "messages": [user("Hi")],
        "web_search_options": {},
        "response_format": {"type": "json_object"},
    }
    new = sent(body)
    assert new["tools"] == [{"googleSearch": {}}]
    assert new["generationConfig"] == {"responseMimeType": "application/json"}
    http = build(body, "gemini-2.5-flash")
    old = msgspec.json.decode(http.body)
    assert old["tools"] == [{"googleSearch": {}}]
    assert "generationConfig" not in old
    assert "JSON" in old["systemInstruction"]["parts"][0]["text"]
    assert http.dropped == ("response_format",)


@pytest.mark.parametrize("name", ["get_time", "_x", "a.b:c-d", "x" * 64])
def test_good_names_stay(name: str):
    assert function_name(name) == name


def test_changed_names_stay_apart():
    assert len({function_name(name) for name in ("a b", "a/b", "x" * 65, "x" * 66, "_a_b")}) == 5


@given(st.text(min_size=1, max_size=100), st.text(min_size=1, max_size=100))
def test_any_name_becomes_one_that_is_allowed_and_its_own(one: str, other: str):
    names = [function_name(name) for name in (one, other)]
    for name in names:
        assert 1 <= len(name) <= 64
        assert name[0].isascii()
        assert name[0].isalpha() or name[0] == "_"
        assert all(c.isascii() and (c.isalnum() or c in "_.:-") for c in name)
    assert (one == other) == (names[0] == names[1])


# ── generationConfig ───────────────────────────────────────────────────────────────────────────────────

PERSON = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Person",
    "type": "object",
    "$defs": {
        "Street": {"title": "Street", "type": "object", "properties": {"title": {"type": "string"}}},
        "Home": {"type": "object", "properties": {"street": {"$ref": "#/$defs/Street"}}},
    },
    "properties": {"kind": {"const": "person", "title": "Kind"}, "home": {"$ref": "#/$defs/Home"}},
    "required": ["kind"],
}
CLEAN_PERSON = {
    "type": "object",
    "properties": {"kind": {"type": "string", "enum": ["person"]}, "home": {"$ref": "#/$defs/Home"}},
    "required": ["kind"],
    "$defs": {
        "Street": {"type": "object", "properties": {"title": {"type": "string"}}},
        "Home": {"type": "object", "properties": {"street": {"$ref": "#/$defs/Street"}}},
    },
}


def test_golden_11_response_schema():
    assert config({"response_format": form(PERSON)}) == {
        "responseMimeType": "application/json",
        "responseJsonSchema": CLEAN_PERSON,
    }


def test_golden_11_schema_and_tools():
    body = {"messages": [system("Be kind."), user("Hi")], "tools": [CLOCK], "response_format": form(PERSON)}
    both = sent(body)
    assert both["generationConfig"]["responseJsonSchema"] == CLEAN_PERSON
    assert both["tools"]
    http = build(body, "gemini-2.5-flash")
    old = msgspec.json.decode(http.body)
    assert "generationConfig" not in old
    assert old["systemInstruction"]["parts"][0] == {"text": "Be kind."}
    assert '"const":"person"' in old["systemInstruction"]["parts"][1]["text"]
    assert http.dropped == ("response_format",)
    plain = {**body, "response_format": {"type": "json_object"}}
    assert "JSON" in sent(plain, "gemini-2.5-flash")["systemInstruction"]["parts"][1]["text"]


def test_older_models_have_the_other_schema_channel():
    schema = {"type": "object", "properties": {"b": {"type": ["string", "null"]}, "a": {"$ref": "#/$defs/A"}}}
    schema |= {"$defs": {"A": {"type": "array"}}, "additionalProperties": False}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}, CLOCK]
    expected = {
        "type": "object",
        "properties": {
            "b": {"type": "string", "nullable": True},
            "a": {"type": "array", "items": {"type": "string"}},
        },
        "propertyOrdering": ["b", "a"],
    }
    found = sent({"messages": [user("Hi")], "tools": tools}, "gemini-2.0-flash")
    declared = found["tools"][0]["functionDeclarations"]
    assert declared == [{"name": "f", "parameters": expected}, {"name": "get_time"}]
    assert config({"response_format": form(schema)}, "gemini-2.0-flash")["responseSchema"] == expected
    anything = config({"response_format": form({"type": "object"})}, "gemini-2.0-flash")
    assert anything == {"responseMimeType": "application/json"}
    word = config({"response_format": form({"type": "string"})}, "gemini-2.0-flash")
    assert word["responseSchema"] == {"type": "string"}


@pytest.mark.parametrize("parameters", [{}, {"type": "object"}, {"type": "object", "properties": {}}])
def test_a_function_without_parameters_has_no_schema(parameters: dict[str, Any]):
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    assert sent({"messages": [user("Hi")], "tools": tools})["tools"] == [
        {"functionDeclarations": [{"name": "f"}]}
    ]


EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")
LOW, MEDIUM, HIGH, XHIGH, MINIMAL = ("LOW", "MEDIUM", "HIGH", "XHIGH", "MINIMAL")
THINKING: dict[str, tuple[int | str | None, ...]] = {  # model → what each effort becomes
    "gemini-2.5-flash": (0, 512, 1024, 8192, 24576, 24576),
    "gemini-2.5-pro": (128, 512, 1024, 8192, 24576, 24576),
    "gemini-2.5-flash-lite": (0, 512, 1024, 8192, 24576, 24576),
    "gemini-3-pro-preview": (LOW, LOW, LOW, LOW, HIGH, HIGH),
    "gemini-3.1-flash-lite-image": (MINIMAL, MINIMAL, MINIMAL, HIGH, HIGH, HIGH),
    "gemini-3-flash-preview": (MINIMAL, MINIMAL, LOW, MEDIUM, HIGH, HIGH),
    "gemini-3.5-flash-lite": (MINIMAL, MINIMAL, LOW, MEDIUM, HIGH, HIGH),
    "gemini-3.1-pro-preview": (LOW, LOW, LOW, MEDIUM, HIGH, HIGH),
    "gemini-3.8-flash": (LOW, LOW, LOW, MEDIUM, HIGH, HIGH),
    "gemini-4-argon": (LOW, LOW, LOW, MEDIUM, HIGH, HIGH),
    "gemini-4-neon": (LOW, LOW, LOW, MEDIUM, HIGH, XHIGH),
    "gemini-9-x": (LOW, LOW, LOW, MEDIUM, HIGH, HIGH),
    "gemini-flash-latest": (LOW, LOW, LOW, MEDIUM, HIGH, HIGH),
    "gemini-2.0-flash": (None,) * 6,
    "gemini-2.5-flash-image": (None,) * 6,
    "gemma-4-27b-it": (None,) * 6,
}
SNAPPED = {  # efforts that the model has not, and which are therefore named to the client
    "gemini-2.5-flash": {"xhigh"},
    "gemini-2.5-pro": {"none", "xhigh"},
    "gemini-3-flash-preview": {"none", "xhigh"},
    "gemini-3.8-flash": {"none", "minimal", "xhigh"},
    "gemini-4-neon": {"none", "minimal"},
    "gemini-2.0-flash": {"minimal", "low", "medium", "high", "xhigh"},
}


@pytest.mark.parametrize("model", THINKING)
def test_golden_12_reasoning_effort(model: str):
    for effort, setting in zip(EFFORTS, THINKING[model], strict=True):
        http = build({"messages": [user("Hi")], "reasoning_effort": effort}, model)
        found = msgspec.json.decode(http.body).get("generationConfig")
        if setting is None:
            assert found is None
        else:
            name = "thinkingBudget" if isinstance(setting, int) else "thinkingLevel"
            shown = {} if effort == "none" else {"includeThoughts": True}
            assert found == {"thinkingConfig": {name: setting, **shown}}
        if model in SNAPPED:
            assert http.dropped == (("reasoning_effort",) if effort in SNAPPED[model] else ())


def test_an_unknown_effort_is_refused():
    assert refusal({"messages": [user("Hi")], "reasoning_effort": "warp"}).param == "reasoning_effort"


def test_golden_13_limits_and_sampling():
    assert config({"max_tokens": 5, "max_completion_tokens": 7}) == {"maxOutputTokens": 7}
    assert config({"max_tokens": 5}) == {"maxOutputTokens": 5}
    http = build({"messages": [user("Hi")], "stop": ["1", "", "2", "3", "4", "5", "6"]})
    stops = msgspec.json.decode(http.body)["generationConfig"]["stopSequences"]
    assert stops == ["1", "2", "3", "4", "5"]
    assert http.dropped == ("stop",)
    assert config({"stop": "END"}) == {"stopSequences": ["END"]}
    assert config({"n": 1, "presence_penalty": 0, "frequency_penalty": 0, "stop": ""}) == {}
    assert config({"temperature": 0, "top_p": 0.5, "top_k": 40, "seed": 7}) == {
        "temperature": 0,
        "topP": 0.5,
        "topK": 40,
        "seed": 7,
    }
    assert config({"logprobs": True, "top_logprobs": 3}) == {"responseLogprobs": True, "logprobs": 3}


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_golden_13_a_limit_over_the_models_is_the_models(field: str):
    """The API refuses it; for long decodes it is a budget, and others' limits nobody knows."""
    for model in (FLASH, "gemini-2.5-pro", "gemini-4-carbon"):
        http = build({"messages": [user("Hi")], field: 65_537}, model)
        assert msgspec.json.decode(http.body)["generationConfig"] == {"maxOutputTokens": 65_536}
        assert http.dropped == (field,)
        assert build({"messages": [user("Hi")], field: 65_536}, model).dropped == ()
    for model in ("gemini-4-argon", "gemini-4-neon", "gemini-9-flash", "gemini-2.0-flash"):
        http = build({"messages": [user("Hi")], field: 200_000}, model)
        assert msgspec.json.decode(http.body)["generationConfig"] == {"maxOutputTokens": 200_000}
        assert http.dropped == ()


def test_golden_13_what_cannot_be_said():
    assert refusal({"messages": [user("Hi")], "n": 2}).param == "n"
    big = build({"messages": [user("Hi")], "seed": 2**40})
    assert b"seed" not in big.body
    assert big.dropped == ("seed",)


def test_golden_13_penalties_by_generation():
    body = {"messages": [user("Hi")], "presence_penalty": 0.5, "frequency_penalty": -0.5}
    old = build(body, "gemini-2.0-flash")
    found = msgspec.json.decode(old.body)["generationConfig"]
    assert found == {"presencePenalty": 0.5, "frequencyPenalty": -0.5}
    for model in ("gemini-2.5-flash", FLASH, "gemini-4-neon", "gemini-9-x", "gemma-4-27b-it"):
        http = build(body, model)
        assert b"enalty" not in http.body
        assert http.dropped == ("presence_penalty", "frequency_penalty")


@pytest.mark.parametrize(
    ("tier", "native", "lost"),
    [
        ("auto", None, ()),
        ("default", "standard", ()),
        ("flex", "flex", ()),
        ("priority", "priority", ()),
        ("scale", None, ("service_tier",)),
    ],
)
def test_service_tiers(tier: str, native: str | None, lost: tuple[str, ...]):
    http = build({"messages": [user("Hi")], "service_tier": tier})
    assert msgspec.json.decode(http.body).get("serviceTier") == native
    assert http.dropped == lost


def test_pictures_as_answers_but_no_sound():
    assert config({"modalities": ["text", "image"]}, "gemini-3-pro-image") == {
        "responseModalities": ["TEXT", "IMAGE"]
    }
    assert config({"modalities": ["text"]}) == {}
    assert refusal({"messages": [user("Hi")], "modalities": ["text", "audio"]}).param == "modalities"
