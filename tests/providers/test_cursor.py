"""Cursor, what is sent and how it is refused: golden cases 17 to 23, 26 and 27 of its document.

What comes after what stands in `test_cursor_run.py`.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from gateway import settings
from gateway.chat import ChatRequest
from gateway.errors import ErrorKind, SettingsError, UpstreamError, redact
from gateway.providers.base import INSIDE, HttpRequest, Pace, Provider
from gateway.providers.cursor import configure
from gateway.providers.cursor.errors import KIND_BY_CODE
from gateway.providers.cursor.models import by_name, parameters, wants_parameters
from gateway.providers.cursor.prompt import MAX_IMAGE, PREAMBLE
from gateway.providers.cursor.requests import IGNORES, CursorOptions, build_request
from gateway.upstream import Upstream
from tests.fakes import ScriptedTransport

from .cases import CASES, CLOCK, FIXTURES, PNG, SAMPLES, WEATHER, call, request, user
from .cursor_helpers import CURSOR

GOLDEN = {
    11: (
        "tests/e2e/test_cursor.py::test_leaving_while_the_agent_is_made",
        "tests/test_conversation.py::test_leaving_while_a_call_is_under_way_lets_it_finish",
    ),
    12: "tests/e2e/test_cursor.py::test_leaving_in_the_middle_of_the_answer",
    15: "tests/e2e/test_cursor.py::test_a_quiet_run_keeps_the_client_company",
    16: "tests/e2e/test_cursor.py::test_silence_is_looked_into_and_the_stream_taken_up_again",
    17: (
        "test_golden_17_a_limit_told_as_plain_text",
        "tests/e2e/test_cursor.py::test_too_many_calls",
    ),
    18: "test_golden_18_tools_are_refused_and_no_choice_of_them_is_taken",
    19: "test_golden_19_what_would_be_another_answer_is_refused",
    20: (
        "test_golden_20_what_an_agent_has_no_words_for_is_named",
        "test_golden_20_a_strict_client_is_refused_before_any_call",
        "tests/e2e/test_cursor.py::test_what_it_cannot_take_is_named",
    ),
    21: (
        "test_golden_21_a_history_is_written_out",
        "test_golden_21_a_single_message_goes_as_it_is",
    ),
    22: (
        "test_golden_22_five_images_and_no_more",
        "test_golden_22_images_by_data_and_by_address",
    ),
    23: "test_golden_23_auto_names_no_model",
    26: (
        "test_golden_26_the_key_is_in_no_text",
        "tests/e2e/test_cursor.py::test_its_key_is_in_no_log",
    ),
    27: (
        "test_golden_27_it_is_never_chosen_by_itself",
        "tests/e2e/test_cursor.py::test_only_who_names_it_gets_it",
    ),
}


def chat(body: dict[str, Any], model: str = "auto") -> ChatRequest:
    return request({"messages": [user("Hi")], **body}, model)


def body_of(http: HttpRequest) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(http.body)
    return body


def prompt_of(messages: list[Any], **options: Any) -> dict[str, Any]:
    built = build_request(request({"messages": messages}, "auto"), CursorOptions(**options))
    prompt: dict[str, Any] = body_of(built)["prompt"]
    return prompt


def refused(body: dict[str, Any]) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        build_request(chat(body))
    assert caught.value.kind is ErrorKind.UNSUPPORTED
    assert caught.value.status == 400
    return caught.value


# ── errors ─────────────────────────────────────────────────────────────────────────────────────────────


def test_golden_17_a_limit_told_as_plain_text():
    body = b'{"error":"Too Many Requests","message":"Rate limit exceeded. Please try again later."}'
    for headers, wait in (({"retry-after": "7"}, 7), ({}, 60)):
        error = CURSOR.parse_error(429, headers, body)
        assert (error.kind, error.status, error.code) == (ErrorKind.RATE_LIMIT, 429, "rate_limit_exceeded")
        assert error.message == "Rate limit exceeded. Please try again later."
        assert error.retry_after == wait


def test_every_code_of_the_table_is_a_fixture():
    """The table is whole, and each row of it is seen once; what streams alone say has no status."""
    fixtures = msgspec.json.decode((FIXTURES / "cursor" / "errors.json").read_bytes())
    bodies = [case["body"] for case in fixtures if isinstance(case["body"], dict)]
    codes = {
        error["code"].lower()
        for body in bodies
        if isinstance(error := body.get("error", body), dict) and "code" in error
    }
    assert KIND_BY_CODE.keys() - codes == {"forbidden", "not_found", "stream_unavailable"}


def test_a_setting_that_mends_it_is_named():
    error = CURSOR.parse_error(400, {}, b'{"error":{"code":"repository_required","message":"Need one"}}')
    assert (error.status, error.failover) == (502, True)
    assert error.message == (
        "Need one (enable agents without a repository for this account, or set options.repository)"
    )


def test_a_body_with_a_code_alone_says_it():
    assert CURSOR.parse_error(500, {}, b'{"error":{"code":"internal_error"}}').message == "internal_error"
    assert CURSOR.parse_error(500, {}, b'{"error":{"code":3,"message":[]}}').message


# ── what is refused, and what is dropped ───────────────────────────────────────────────────────────────


def test_golden_18_tools_are_refused_and_no_choice_of_them_is_taken():
    assert refused({"tools": [WEATHER]}).param == "tools"
    assert refused({"tools": [WEATHER], "tool_choice": "auto"}).param == "tools"
    assert refused({"functions": [CLOCK["function"]]}).param == "tools"
    taken = build_request(chat({"tools": [WEATHER], "tool_choice": "none"}))
    assert (taken.body, taken.dropped) == (build_request(chat({})).body, ())


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        (CASES["json_schema"], "response_format"),
        (CASES["json_object"], "response_format"),
        ({"modalities": ["text", "audio"], "audio": {"format": "wav", "voice": "v"}}, "modalities"),
        ({"web_search_options": {}}, "web_search_options"),
        (
            {"messages": [user([{"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}])]},
            None,
        ),
        (CASES["pdf"], "messages[0].content[0]"),
    ],
)
def test_golden_19_what_would_be_another_answer_is_refused(body: dict[str, Any], param: str | None):
    assert refused(body).param == (param or "messages[0].content[0]")


@pytest.mark.parametrize(
    "body",
    [
        {"n": 1},
        {"logprobs": False},
        {"response_format": {"type": "text"}},
        {"modalities": ["text"]},
        {"tool_choice": "none"},
        {"tool_choice": "auto"},
        {"temperature": None, "web_search_options": None, "reasoning_effort": None},
    ],
)
def test_what_asks_for_nothing_is_no_loss(body: dict[str, Any]):
    assert build_request(chat(body)).dropped == ()


def test_a_tool_that_has_to_be_called_and_is_not_there_is_a_loss():
    assert build_request(chat({"tool_choice": "required"})).dropped == ("tool_choice",)


def test_golden_20_what_an_agent_has_no_words_for_is_named():
    body = {"temperature": 0.3, "stop": ["END"], "max_tokens": 9, "unheard_of": 1}
    http = build_request(chat(body))
    assert http.dropped == ("temperature", "stop", "max_tokens", "unheard_of")
    assert http.body == build_request(chat({})).body
    for name in IGNORES - INSIDE.keys():
        assert build_request(chat({name: SAMPLES[name]})).dropped == (name,)


async def test_golden_20_a_strict_client_is_refused_before_any_call():
    transport = ScriptedTransport()
    upstream = Upstream("cursor", CURSOR, transport, key="sim-cursor-key")
    strict = msgspec.structs.replace(chat({"temperature": 0.3}), strict=True)
    with pytest.raises(UpstreamError) as caught:
        async with upstream.open(strict):
            pass
    assert (caught.value.kind, caught.value.param) == (ErrorKind.UNSUPPORTED, "temperature")
    assert transport.sent == []


# ── the prompt ─────────────────────────────────────────────────────────────────────────────────────────

CALLED = {"role": "assistant", "content": None, "tool_calls": [call("c1", "get_weather", '{"city":"Paris"}')]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "18 degrees"}
HISTORY = [
    {"role": "system", "content": "Be brief."},
    user("Hello"),
    {"role": "assistant", "content": "Hi! What is it?"},
    {"role": "developer", "content": [{"type": "text", "text": "Answer in French."}]},
    user("Weather in Paris?"),
    CALLED,
    RESULT,
    {"role": "assistant", "content": "It is 18 degrees."},
    user([{"type": "text", "text": "And"}, {"type": "text", "text": "tomorrow?"}]),
]
WRITTEN = """\
[Instructions]
Answer directly in text. Do not create or edit files, run commands, or browse unless asked.
Be brief.
Answer in French.

[Conversation so far]
User: Hello
Assistant: Hi! What is it?
User: Weather in Paris?
Assistant called get_weather: {"city":"Paris"}
Tool result (get_weather): 18 degrees
Assistant: It is 18 degrees.

[Reply to this last message]
And
tomorrow?"""


def test_golden_21_a_history_is_written_out():
    assert prompt_of(HISTORY) == {"text": WRITTEN}
    assert prompt_of(HISTORY, preamble=False) == {"text": WRITTEN.replace(PREAMBLE + "\n", "")}


def test_golden_21_a_single_message_goes_as_it_is():
    for text in ("Hi", "", " [Instructions]\r\n", "日本語 😀"):
        assert prompt_of([user(text)]) == {"text": text}
    assert prompt_of([user([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])]) == {
        "text": "a\nb"
    }


@pytest.mark.parametrize(
    ("messages", "written"),
    [
        ([user("a"), user("b")], "[Conversation so far]\nUser: a\n\n[Reply to this last message]\nb"),
        (
            [user("a"), CALLED, RESULT],
            '[Conversation so far]\nUser: a\nAssistant called get_weather: {"city":"Paris"}\n\n'
            "[Reply to this last message]\nTool result (get_weather): 18 degrees",
        ),
        ([{"role": "system", "content": "a"}], "[Instructions]\na"),
        ([{"role": "system", "content": ""}, user("b")], "[Reply to this last message]\nb"),
        (
            [user("a"), {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, user("b")],
            "[Conversation so far]\nUser: a\nAssistant: No.\n\n[Reply to this last message]\nb",
        ),
        (
            [{"role": "assistant", "content": None, "refusal": "No."}, user("b")],
            "[Conversation so far]\nAssistant: No.\n\n[Reply to this last message]\nb",
        ),
        (
            [{"role": "assistant", "content": "I", "tool_calls": [call("c1", "now", "")]}, RESULT, user("b")],
            "[Conversation so far]\nAssistant: I\nAssistant called now: {}\nTool result (now): 18 degrees\n\n"
            "[Reply to this last message]\nb",
        ),
        (
            [{"role": "tool", "tool_call_id": "gone", "content": "1"}, user("b")],
            "[Conversation so far]\nTool result (gone): 1\n\n[Reply to this last message]\nb",
        ),
        (
            [
                {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
                {"role": "function", "name": "f", "content": "1"},
                user("b"),
            ],
            "[Conversation so far]\nAssistant called f: {}\nTool result (f): 1\n\n"
            "[Reply to this last message]\nb",
        ),
        (
            [
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "sh", "input": "ls"}}],
                },
                user("b"),
            ],
            "[Conversation so far]\nAssistant called sh: ls\n\n[Reply to this last message]\nb",
        ),
    ],
)
def test_every_turn_says_who_said_it(messages: list[Any], written: str):
    assert prompt_of(messages, preamble=False)["text"] == written


# ── pictures ───────────────────────────────────────────────────────────────────────────────────────────


def picture(url: str = f"data:image/png;base64,{PNG}") -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def test_golden_22_five_images_and_no_more():
    assert len(prompt_of([user([picture()] * 5)])["images"]) == 5
    error = refused({"messages": [user([picture()] * 6)]})
    assert error.param == "messages[0].content[5]"


def test_golden_22_images_by_data_and_by_address():
    shown = [picture(), picture("https://example.com/a.webp"), picture("data:image/jpg;base64,AAAA")]
    assert prompt_of([user([{"type": "text", "text": "What?"}, *shown])]) == {
        "text": "What?",
        "images": [
            {"data": PNG, "mimeType": "image/png"},
            {"url": "https://example.com/a.webp"},
            {"data": "AAAA", "mimeType": "image/jpeg"},
        ],
    }


@pytest.mark.parametrize(
    "url",
    [
        "data:image/svg+xml;base64,AAAA",
        "data:application/pdf;base64,AAAA",
        "data:image/png,plain",
        "file:///a.png",
        "ftp://example.com/a.png",
        "",
        "data:image/png;base64," + "A" * (MAX_IMAGE * 4 // 3 + 4),
    ],
    ids=["svg", "pdf", "no base64", "file", "ftp", "empty", "too large"],
)
def test_other_images_are_refused(url: str):
    assert refused({"messages": [user([picture(url)])]}).param == "messages[0].content[0]"


def test_images_of_earlier_messages_are_dropped_by_name():
    messages = [user([picture()]), user([{"type": "text", "text": "b"}, picture("http://example.com/b.png")])]
    http = build_request(request({"messages": messages}, "auto"))
    assert http.dropped == ("messages[0].content[0]",)
    assert body_of(http)["prompt"]["images"] == [{"url": "http://example.com/b.png"}]


def test_images_of_the_last_user_stay_when_a_tool_has_the_last_word():
    assert len(prompt_of([user([picture()]), CALLED, RESULT])["images"]) == 1


# ── models ─────────────────────────────────────────────────────────────────────────────────────────────

MODELS = {
    "items": [
        {
            "id": "composer-2.5",
            "displayName": "Composer",
            "aliases": ["composer", "gpt-5.6"],
            "parameters": [
                {"id": "fast", "displayName": "Fast", "values": [{"value": "true"}, {"value": "false"}]}
            ],
        },
        {
            "id": "gpt-5.6",
            "aliases": ["gpt"],
            "parameters": [
                {"id": "effort", "values": [{"value": v} for v in ("none", "low", "high", "turbo")]}
            ],
        },
        {"id": "grok-4.6", "parameters": [{"id": "thinking", "values": [{"value": "on"}, {}]}, {"id": "x"}]},
    ]
}
LISTED = by_name(msgspec.json.encode(MODELS))


def test_golden_23_auto_names_no_model():
    for name in ("auto", "default"):
        assert "model" not in body_of(build_request(chat({}, name)))
    assert body_of(build_request(chat({}, "composer-2.5")))["model"] == {"id": "composer-2.5"}
    assert body_of(build_request(chat({}, "composer"), model=LISTED["composer"]))["model"] == {
        "id": "composer-2.5"
    }


def test_the_list_is_auto_and_every_id_once():
    page = CURSOR.parse_models(msgspec.json.encode(MODELS))
    assert [model.id for model in page.models] == ["auto", "composer-2.5", "gpt-5.6", "grok-4.6"]
    assert {model.owned_by for model in page.models} == {"cursor"}
    assert page.following is None
    again = msgspec.json.encode({"items": [{"id": "auto"}, {"id": "a"}, {"id": "a"}]})
    assert [model.id for model in CURSOR.parse_models(again).models] == ["auto", "a"]


def test_an_id_wins_over_an_alias():
    assert LISTED["gpt-5.6"].id == "gpt-5.6"
    assert LISTED["gpt"].id == "gpt-5.6"
    assert LISTED["composer"].id == "composer-2.5"


def test_not_every_name_in_the_world_is_remembered():
    many = {"items": [{"id": f"m{i}", "aliases": [f"a{i}"]} for i in range(3000)]}
    assert len(by_name(msgspec.json.encode(many))) == 2000


@pytest.mark.parametrize(
    ("name", "fields", "params", "dropped"),
    [
        ("gpt-5.6", {"reasoning_effort": "high"}, [("effort", "high")], ()),
        ("gpt-5.6", {"reasoning_effort": "none"}, [("effort", "none")], ()),
        ("gpt-5.6", {"reasoning_effort": "minimal"}, [("effort", "low")], ("reasoning_effort",)),
        ("gpt-5.6", {"reasoning_effort": "turbo"}, [("effort", "turbo")], ()),
        ("gpt-5.6", {"reasoning_effort": "warp"}, [], ("reasoning_effort",)),
        ("grok-4.6", {"reasoning_effort": "high"}, [], ("reasoning_effort",)),
        ("composer-2.5", {"reasoning_effort": "high"}, [], ("reasoning_effort",)),
        ("composer-2.5", {"fast": True}, [("fast", "true")], ()),
        ("composer-2.5", {"fast": "false"}, [("fast", "false")], ()),
        ("composer-2.5", {"fast": 3}, [], ("fast",)),
        ("gpt-5.6", {"fast": True}, [], ("fast",)),
    ],
)
def test_an_effort_is_a_parameter_where_the_model_has_one(
    name: str, fields: dict[str, Any], params: list[tuple[str, str]], dropped: tuple[str, ...]
):
    asked = chat(fields, name)
    assert wants_parameters(asked)
    assert parameters(asked, None) == ([], set())
    http = build_request(asked, model=LISTED[name])
    model = body_of(http)["model"]
    assert [(p["id"], p["value"]) for p in model.get("params", [])] == params
    assert http.dropped == dropped
    assert "params" not in model or params


def test_without_a_name_or_a_wish_nobody_needs_the_list():
    assert not wants_parameters(chat({"reasoning_effort": "high"}, "auto"))
    assert not wants_parameters(chat({"reasoning_effort": None}, "gpt-5.6"))
    assert not wants_parameters(chat({}, "gpt-5.6"))


# ── the record and its options ─────────────────────────────────────────────────────────────────────────


def test_golden_26_the_key_is_in_no_text():
    key = "sim-cursor-key"
    assert CURSOR.auth(key) == {"authorization": f"Bearer {key}"}
    assert CURSOR.auth(key)["authorization"] != redact(CURSOR.auth(key)["authorization"], key)
    basic = base64.b64encode(f"{key}:".encode()).decode()
    for text in (key, f"Bearer {key}", f"Basic {basic}", "the key crsr_simsimsim"):
        shown = redact(f"refused: {text}", key)
        assert "***" in shown
        assert not any(secret in shown for secret in (key, basic[:-4], "simsimsim"))


def test_golden_27_it_is_never_chosen_by_itself():
    assert CURSOR.spontaneous is False
    assert CURSOR.owns is None


def test_limits_and_the_cheapest_call():
    assert CURSOR.pace == Pace(20, per_answer=4, kept=2)
    assert CURSOR.timeouts["first_byte"] == 180
    assert CURSOR.timeouts["idle"] >= 4 * 15  # heartbeats
    health = CURSOR.health_request
    assert health is not None
    assert (health.method, health.path) == ("GET", "/v1/me")


def configured(**options: Any) -> Provider:
    return configure(msgspec.convert(options, CursorOptions))


def test_options_do_what_they_say():
    assert configured(calls_per_minute=60).pace == Pace(60, per_answer=4, kept=2)
    assert body_of(configured(mode="plan").build_request(chat({})))["mode"] == "plan"
    bound = body_of(configured(repository="https://github.com/a/b").build_request(chat({})))
    assert (bound["repos"], bound["autoCreatePR"]) == ([{"url": "https://github.com/a/b"}], False)
    assert "repos" not in body_of(configured().build_request(chat({})))


@pytest.mark.parametrize("line", ['mode = "ask"', 'cleanup = "burn"', "calls_per_minute = 0", "preamble = 1"])
def test_bad_options_are_one_line(line: str):
    with pytest.raises(SettingsError, match=rf"providers\.cursor\.options\.{line.split()[0]}: "):
        settings.parse(f"[providers.cursor.options]\n{line}\n", "gateway.toml")


def test_its_own_limits_hold_unless_its_table_says_otherwise():
    text = "[timeouts]\nfirst_byte = 3\n[providers.cursor.timeouts]\nidle = 90\n"
    plans = settings.plan_providers(settings.parse(text, "gateway.toml"), {})
    cursor = next(plan for plan in plans if plan.name == "cursor")
    assert (cursor.timeouts.first_byte, cursor.timeouts.idle) == (180, 90)
