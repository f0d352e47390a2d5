"""Qwen: what becomes of a request, by the tables of messages, thinking, parameters and tools."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.providers.base import needs
from gateway.providers.qwen.models import BUDGETS, Thinking, thinking
from gateway.providers.qwen.requests import IGNORES, JSON_WORDS, OWN_FIELDS, QwenOptions

from .cases import CASES, CLOCK, PDF, PNG, SAMPLES, WEATHER, call, request, user
from .qwen_helpers import (
    ALWAYS,
    CODER,
    LEVELS,
    LISTS,
    MULTIMODAL,
    NAMED,
    PICTURE,
    PLUS,
    QWEN,
    body,
    build,
    messages,
    parameters,
    refusal,
)

GOLDEN = {
    11: "test_golden_11_a_call_without_arguments_goes_back_with_empty_ones",
    16: "test_golden_16_efforts_by_model",
    18: "test_golden_18_several_answers_are_for_models_that_do_not_think_or_call",
    19: "test_golden_19_a_forced_call_is_named_or_wished",
    20: "test_golden_20_what_the_api_refuses_is_clamped_or_dropped_and_named",
    22: "test_golden_22_pictures_and_recordings_go_and_files_do_not",
}


# ── messages ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("model", [PLUS, LISTS])
@pytest.mark.parametrize("arguments", ["", "  "])
def test_golden_11_a_call_without_arguments_goes_back_with_empty_ones(model: str, arguments: str):
    turn = {"role": "assistant", "content": None, "tool_calls": [call("c1", "get_time", arguments)]}
    result = {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "noon"}]}
    said = messages(model, user("Time?"), turn, result)
    assert said[1] == {"role": "assistant", "content": "", "tool_calls": [call("c1", "get_time", "{}")]}
    assert said[2] == {"role": "tool", "content": "noon", "tool_call_id": "c1"}


@pytest.mark.parametrize("content", [None, "", []])
def test_nothing_said_is_an_empty_text(content: Any):
    for model in (PLUS, LISTS):
        assert messages(model, {"role": "assistant", "content": content}, user("x"))[0]["content"] == ""
    no = {"role": "assistant", "content": content, "refusal": "No."}
    assert messages(PLUS, no, user("x"))[0]["content"] == "No."
    assert messages(LISTS, no, user("x"))[0]["content"] == [{"text": "No."}]


def test_thoughts_go_back_when_they_are_to_be_kept():
    turn = {"role": "assistant", "content": "Yes", "reasoning_content": "Hm."}
    assert "reasoning_content" not in messages(LISTS, turn, user("x"))[0]
    kept = body(messages=[turn, user("x")], preserve_thinking=True)
    assert kept["input"]["messages"][0]["reasoning_content"] == "Hm."
    assert kept["parameters"]["preserve_thinking"] is True


def test_golden_22_pictures_and_recordings_go_and_files_do_not():
    sound = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
    linked = {"type": "input_audio", "input_audio": {"data": "https://x.test/a.mp3", "format": "mp3"}}
    said = messages("qwen3.8-omni-flash", user([PICTURE, sound, linked, {"type": "text", "text": "?"}]))
    assert said[0]["content"] == [
        {"image": f"data:image/png;base64,{PNG}"},
        {"audio": "data:audio/wav;base64,UklGRg=="},
        {"audio": "https://x.test/a.mp3"},
        {"text": "?"},
    ]
    document = {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}"}}
    for model in (LISTS, PLUS):
        error = refusal(model, messages=[user("a"), user([document])])
        assert (error.status, error.param) == (400, "messages[1].content[0]")
    assert refusal(LISTS, messages=[user([{"type": "new", "text": "x"}])]).param == "messages[0].content[0]"


def test_media_take_any_model_to_the_path_that_has_them():
    assert build(PLUS, messages=[user([PICTURE])]).path == MULTIMODAL


def picture(**fields: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": "https://x.test/a.png", **fields}}


def test_what_belongs_to_a_picture():
    assert parameters(messages=[user([picture(detail="high")])]) == {"vl_high_resolution_images": True}
    assert parameters(messages=[user([picture(detail="auto")])]) == {}
    low = build(messages=[user([picture(detail="low")])])
    assert low.dropped == ("messages.content.image_url.detail",)
    sized = messages(LISTS, user([{**picture(), "min_pixels": 9, "max_pixels": 99}]))
    assert sized[0]["content"] == [{"image": "https://x.test/a.png", "min_pixels": 9, "max_pixels": 99}]
    stored = build(messages=[user([{"type": "image_url", "image_url": {"url": "oss://a/b.png"}}])])
    assert stored.headers["x-dashscope-ossresourceresolve"] == "enable"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "video", "video": "https://x.test/a.mp4", "fps": 2},
        {"type": "video_url", "video_url": {"url": "https://x.test/a.mp4"}, "fps": 2},
    ],
)
def test_videos_as_clients_of_the_api_send_them(part: dict[str, Any]):
    assert messages(LISTS, user([part]))[0]["content"] == [{"video": "https://x.test/a.mp4", "fps": 2}]
    assert build(PLUS, messages=[user([part])]).path == MULTIMODAL
    frames = {"type": "video", "video": ["oss://a/1.jpg", "oss://a/2.jpg"]}
    stored = build(messages=[user([frames])])
    assert stored.headers["x-dashscope-ossresourceresolve"] == "enable"
    for empty in ({"type": "video"}, {"type": "video_url", "video_url": {}}):
        assert refusal(messages=[user([empty])]).param == "messages[0].content[0]"


MARK = {"type": "ephemeral"}


def test_cache_marks_stand_beside_parts():
    marked = {"type": "text", "text": "a", "cache_control": MARK}
    other = {"type": "text", "text": "b", "prompt_cache_breakpoint": {"mode": "explicit"}}
    said = messages(LISTS, user([marked, other]), {**user("c"), "cache_control": MARK})
    assert said[0]["content"] == [{"text": "a", "cache_control": MARK}, {"text": "b", "cache_control": MARK}]
    assert said[1]["content"] == [{"text": "c", "cache_control": MARK}]
    for fields in (
        {"messages": [user([marked])]},
        {"messages": [{**user("c"), "cache_control": MARK}]},
        {"tools": [{**CLOCK, "cache_control": MARK}]},
    ):
        lost = build(PLUS, **fields)
        assert lost.dropped == (f"{next(iter(fields))}.cache_control",)
        assert b"ephemeral" not in lost.body


def test_a_switch_that_is_none_is_named():
    assert build(enable_thinking="yes").dropped == ("enable_thinking",)


def test_what_a_message_has_no_words_for_is_named_or_refused():
    assert build(messages=[{**user("x"), "name": "ann"}]).dropped == ("messages.name",)
    turn = {
        "role": "assistant",
        "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "f", "input": "x"}}],
    }
    assert refusal(messages=[turn, user("x")]).param == "messages[0].tool_calls[0]"
    result = {"role": "tool", "tool_call_id": "c", "content": [PICTURE]}
    assert refusal(messages=[result]).param == "messages[0].content[0]"
    function = {"role": "tool", "tool_call_id": "c", "content": "x", "name": "f", "cache_control": MARK}
    assert messages(LISTS, function)[0]["name"] == "f"


def test_a_turn_to_be_continued_excludes_thinking():
    turn = {"role": "assistant", "content": "Once", "partial": True}
    said = body(messages=[user("A story"), turn])
    assert said["input"]["messages"][1] == {
        "role": "assistant",
        "content": [{"text": "Once"}],
        "partial": True,
    }
    assert said["parameters"]["enable_thinking"] is False
    assert b'"partial"' not in build(messages=[{**user("x"), "partial": True}]).body


# ── thinking ───────────────────────────────────────────────────────────────────────────────────────────

ON, OFF = {"enable_thinking": True}, {"enable_thinking": False}
EFFORTS: list[tuple[str, str, dict[str, Any], bool]] = [  # model, effort → parameters, whether it is exact
    (LEVELS, "none", OFF, True),
    (LEVELS, "minimal", {**ON, "reasoning_effort": "low"}, False),
    *((LEVELS, e, {**ON, "reasoning_effort": e}, True) for e in ("low", "medium", "high", "xhigh")),
    (LEVELS, "max", {**ON, "reasoning_effort": "xhigh"}, False),
    (LEVELS, "colossal", {**ON, "reasoning_effort": "colossal"}, True),
    (LISTS, "none", OFF, True),
    *((LISTS, e, {**ON, "thinking_budget": n}, True) for e, n in BUDGETS.items()),
    (LISTS, "minimal", {**ON, "thinking_budget": BUDGETS["low"]}, False),
    (LISTS, "max", {**ON, "thinking_budget": BUDGETS["high"]}, False),
    (LISTS, "colossal", ON, False),
    ("qwen3-vl-plus", "none", OFF, True),
    ("qwen3-vl-plus", "high", ON, False),
    (CODER, "none", {}, True),
    (CODER, "high", {}, False),
    (ALWAYS, "none", {}, False),
    (ALWAYS, "high", {}, False),
]


@pytest.mark.parametrize(("model", "effort", "sent", "exact"), EFFORTS)
def test_golden_16_efforts_by_model(model: str, effort: str, sent: dict[str, Any], exact: bool):
    built = build(model, reasoning_effort=effort)
    assert parameters(model, reasoning_effort=effort) == sent
    assert built.dropped == (() if exact else ("reasoning_effort",))


CLASSES = {
    Thinking.LEVEL: "qwen3.8-max qwen3.8-omni-flash qwen4-max glm-5.2 deepseek-v4-pro",
    Thinking.BUDGET: "qwen3.5-plus qwen3.6-max-preview qwen3.7-flash qwen3-max qwen-plus qwen-flash",
    Thinking.SWITCH: "qwen3-32b qwen3-vl-plus",
    Thinking.ALWAYS: "qwq-plus qvq-max qwen3-235b-a22b-thinking-2507",
    Thinking.NEVER: "qwen-turbo qwen-max qwen-long qwen3-coder-plus qwen3-30b-a3b-instruct-2507 "
    "qwen3.5-omni-plus qwen-vl-ocr unknown",
}


@pytest.mark.parametrize("kind", Thinking)
def test_how_models_think(kind: Thinking):
    for model in CLASSES[kind].split():
        assert thinking(model) is kind, model


def test_nothing_is_said_about_thinking_unless_asked():
    for model in (LEVELS, LISTS, CODER, ALWAYS):
        assert parameters(model) == {}
    for told in (True, False):
        options = QwenOptions(default_thinking=told)
        for model in (LEVELS, LISTS, "qwen3-32b"):
            assert parameters(model, options) == {"enable_thinking": told}
            assert parameters(model, options, reasoning_effort="none") == OFF
        assert parameters(CODER, options) == parameters(ALWAYS, options) == {}


EFFORT = ("reasoning_effort",)
OWN: list[tuple[str, dict[str, Any], dict[str, Any], tuple[str, ...]]] = [
    (LISTS, {"enable_thinking": True}, ON, ()),
    (LISTS, {"enable_thinking": False}, OFF, ()),
    (LISTS, {"enable_thinking": None}, {}, ()),
    (LISTS, {"thinking_budget": 50}, {"thinking_budget": 50}, ()),
    (LISTS, {"enable_thinking": True, "thinking_budget": 50}, {**ON, "thinking_budget": 50}, ()),
    (LISTS, {"enable_thinking": False, "thinking_budget": 50}, OFF, ("thinking_budget",)),
    (LISTS, {"enable_thinking": False, "reasoning_effort": "high"}, OFF, EFFORT),
    (LISTS, {"enable_thinking": True, "reasoning_effort": "none"}, ON, EFFORT),
    (LISTS, {"thinking_budget": 5, "reasoning_effort": "low"}, {**ON, "thinking_budget": 5}, EFFORT),
    (LEVELS, {"enable_thinking": True, "reasoning_effort": "low"}, {**ON, "reasoning_effort": "low"}, ()),
    (CODER, {"enable_thinking": True}, ON, ()),
    (ALWAYS, {"enable_thinking": False}, {}, ("enable_thinking",)),
    (ALWAYS, {"enable_thinking": True, "thinking_budget": 9}, {**ON, "thinking_budget": 9}, ()),
]  # fmt: skip


@pytest.mark.parametrize(("model", "fields", "sent", "lost"), OWN)
def test_the_apis_own_words_win(model: str, fields: Any, sent: Any, lost: tuple[str, ...]):
    assert parameters(model, **fields) == sent
    assert build(model, **fields).dropped == lost


# ── answers in JSON, several answers, limits ───────────────────────────────────────────────────────────

OBJECT = {"type": "json_object"}


def test_json_is_answered_without_thinking():
    for model in (LEVELS, LISTS):
        sent = parameters(model, response_format=OBJECT, messages=[user("JSON!")], reasoning_effort="high")
        assert sent == {**OFF, "response_format": OBJECT}
    assert build(response_format=OBJECT, reasoning_effort="high").dropped == ("reasoning_effort",)
    assert parameters(CODER, response_format=OBJECT) == {"response_format": OBJECT}
    insisting = parameters(response_format=OBJECT, enable_thinking=True)
    assert insisting == {**ON, "response_format": OBJECT}
    assert parameters(response_format={"type": "text"}) == {}
    assert refusal(ALWAYS, response_format=OBJECT).param == "response_format"


def test_json_has_to_be_in_the_prompt():
    """Without the word the API refuses; other providers do not, so clients may well leave it out."""
    system = {"role": "system", "content": "Be kind."}
    for model, expected in ((PLUS, JSON_WORDS), (LISTS, [{"text": JSON_WORDS}])):
        said = body(model, response_format=OBJECT)["input"]["messages"]
        assert [m["role"] for m in said] == ["system", "user"]
        assert said[0]["content"] == expected
    text = body(PLUS, response_format=OBJECT, messages=[system, user("x")])["input"]["messages"]
    assert text[0]["content"] == f"Be kind.\n\n{JSON_WORDS}"
    lists = body(LISTS, response_format=OBJECT, messages=[system, user("x")])["input"]["messages"]
    assert lists[0]["content"] == [{"text": "Be kind."}, {"text": JSON_WORDS}]
    for model in (PLUS, LISTS):
        kept = body(model, response_format=OBJECT, messages=[user("as Json, please")])["input"]["messages"]
        assert len(kept) == 1


def test_golden_18_several_answers_are_for_models_that_do_not_think_or_call():
    assert refusal(n=2, tools=[CLOCK]).param == "n"
    assert refusal(n=2, tools=[CLOCK]).status == 400
    assert refusal(n=5).param == "n"
    assert refusal(ALWAYS, n=2).param == "n"
    assert refusal(n=2, enable_thinking=True).param == "n"
    assert parameters(n=4) == {"n": 4, **OFF}
    assert parameters(CODER, n=2) == {"n": 2}
    assert build(n=2, reasoning_effort="low").dropped == ("reasoning_effort",)
    assert parameters(n=1, tools=[CLOCK]).keys() == {"tools", "parallel_tool_calls"}


def test_golden_20_what_the_api_refuses_is_clamped_or_dropped_and_named():
    hot = build(temperature=2.0, frequency_penalty=0.5)
    assert msgspec.json.decode(hot.body)["parameters"]["temperature"] == 1.99
    assert set(hot.dropped) == {"temperature", "frequency_penalty"}
    assert b"penalty" not in hot.body
    assert parameters(temperature=0.0, top_p=1.0, presence_penalty=-2.0) == {
        "temperature": 0.0,
        "top_p": 1.0,
        "presence_penalty": -2.0,
    }
    assert parameters(top_p=0.0) == {"top_p": 0.01}
    assert build(top_p=0.0).dropped == ("top_p",)
    assert parameters(logprobs=True, top_logprobs=20) == {"logprobs": True, "top_logprobs": 5}
    assert build(logprobs=True, top_logprobs=20).dropped == ("top_logprobs",)


@pytest.mark.parametrize(("asked", "sent"), [(0, 0), (2**31 - 1, 2**31 - 1), (2**31, 0), (-1, 2**31 - 1)])
def test_seeds(asked: int, sent: int):
    assert parameters(seed=asked) == {"seed": sent}
    assert build(seed=asked).dropped == (() if asked == sent else ("seed",))


LIMITS: list[tuple[str, dict[str, int], dict[str, int], tuple[str, ...]]] = [
    (LISTS, {"max_tokens": 5}, {"max_tokens": 5}, ()),
    (LISTS, {"max_completion_tokens": 7}, {"max_completion_tokens": 7}, ()),
    (LISTS, {"max_tokens": 5, "max_completion_tokens": 7}, {"max_tokens": 5, "max_completion_tokens": 7}, ()),
    (PLUS, {"max_completion_tokens": 7}, {"max_tokens": 7}, ()),
    (PLUS, {"max_tokens": 5, "max_completion_tokens": 7}, {"max_tokens": 7}, ("max_tokens",)),
    ("qwen3.6-max-preview", {"max_completion_tokens": 7}, {"max_tokens": 7}, ()),
    ("qwen3.7-max", {"max_completion_tokens": 7}, {"max_completion_tokens": 7}, ()),
    ("deepseek-v4-pro", {"max_completion_tokens": 7}, {"max_completion_tokens": 7}, ()),
]


@pytest.mark.parametrize(("model", "fields", "sent", "lost"), LIMITS)
def test_limits(model: str, fields: Any, sent: Any, lost: tuple[str, ...]):
    assert parameters(model, **fields) == sent
    assert build(model, **fields).dropped == lost


@pytest.mark.parametrize("field", sorted(IGNORES))
def test_what_has_no_word_is_named(field: str):
    built = build(**{field: SAMPLES[field]})
    assert built.dropped == (field,)
    assert built.body == build().body


@pytest.mark.parametrize("field", OWN_FIELDS)
def test_the_apis_own_fields_pass(field: str):
    assert parameters(**{field: {"a": 1}}) == {field: {"a": 1}}
    assert parameters(**{field: None}) == {}
    assert build(**{field: 3}).dropped == ()


def test_a_wish_to_search():
    found = parameters(web_search_options={})
    assert found == {"enable_search": True, "search_options": {"enable_source": True}}
    assert build(web_search_options={"search_context_size": "low"}).dropped == ("web_search_options",)
    own = parameters(web_search_options={}, search_options={"forced_search": True})
    assert own["search_options"] == {"forced_search": True}


def test_spoken_answers_are_refused():
    assert refusal(modalities=["text", "audio"]).param == "modalities"
    assert parameters(modalities=["text"]) == {}


# ── tools ──────────────────────────────────────────────────────────────────────────────────────────────

BOTH = [CLOCK, WEATHER]


def test_golden_19_a_forced_call_is_named_or_wished():
    any_of = build(tools=BOTH, tool_choice="required")
    assert any_of.dropped == ("tool_choice",)
    assert msgspec.json.decode(any_of.body)["parameters"]["tool_choice"] == "auto"
    for fields in ({"tools": [CLOCK], "tool_choice": "required"}, {"tools": BOTH, "tool_choice": NAMED}):
        built = build(**fields)
        sent = msgspec.json.decode(built.body)["parameters"]
        assert (sent["tool_choice"], sent["enable_thinking"]) == (NAMED, False)
        assert built.dropped == ()
        assert parameters(CODER, **fields)["tool_choice"] == NAMED
        assert "enable_thinking" not in parameters(CODER, **fields)
        assert build(**fields, reasoning_effort="high").dropped == ("reasoning_effort",)
    for model, own in ((LISTS, {"enable_thinking": True}), (ALWAYS, {})):
        insisting = build(model, tools=BOTH, tool_choice=NAMED, **own)
        assert msgspec.json.decode(insisting.body)["parameters"]["tool_choice"] == "auto"
        assert insisting.dropped == ("tool_choice",)


def test_a_choice_is_limited_by_the_offer():
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}}
    sent = parameters(tools=BOTH, tool_choice=allowed)
    assert [t["function"]["name"] for t in sent["tools"]] == ["get_time"]
    assert sent["tool_choice"] == "auto"
    allowed["allowed_tools"]["mode"] = "required"  # type: ignore[index]
    assert parameters(tools=BOTH, tool_choice=allowed)["tool_choice"] == NAMED
    assert parameters(tools=BOTH, tool_choice="none")["tool_choice"] == "none"
    assert build(tool_choice="required").dropped == ("tool_choice",)


def test_tools_are_functions():
    custom = {"type": "custom", "custom": {"name": "f"}}
    assert refusal(tools=[CLOCK, custom]).param == "tools[1].type"
    strict = {"type": "function", "function": {**WEATHER["function"], "strict": True}}
    built = build(tools=[strict])
    assert b'"strict"' not in built.body
    assert built.dropped == ("tools.function.strict",)
    assert parameters(tools=[WEATHER])["tools"] == [WEATHER]


def test_calls_are_parallel_unless_somebody_says_otherwise():
    """OpenAI's default is yes, this API's is no."""
    assert parameters(tools=[CLOCK])["parallel_tool_calls"] is True
    assert parameters(tools=[CLOCK], parallel_tool_calls=False)["parallel_tool_calls"] is False
    one_by_one = QwenOptions(parallel_tool_calls=False)
    assert parameters(LISTS, one_by_one, tools=[CLOCK])["parallel_tool_calls"] is False
    assert parameters(LISTS, one_by_one, tools=[CLOCK], parallel_tool_calls=True)["parallel_tool_calls"]


def test_what_models_can_do():
    can = {model: QWEN.capabilities(model).features for model in (PLUS, LISTS, ALWAYS, "qwen3.8-omni-flash")}
    assert "images" in can[LISTS]
    assert "images" not in can[PLUS] | can[ALWAYS]
    assert "audio" in can["qwen3.8-omni-flash"]
    assert "audio" not in can[LISTS]
    assert not {"n", "json_schema"} & can[ALWAYS]
    assert {"n", "json_schema", "tools"} <= can[LISTS]
    assert not any({"files", "custom_tools", "audio_output"} & features for features in can.values())
    assert needs(request(CASES["image"], LISTS)).keys() <= can[LISTS]
