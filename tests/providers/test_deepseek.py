"""DeepSeek: the golden cases 1 to 24 of its document by their number, and what its tables decide."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from gateway.chat import ChatRequest, Chunk, fold
from gateway.errors import ErrorKind, UpstreamError
from gateway.ingress import render
from gateway.providers import PROVIDERS
from gateway.providers.base import INSIDE, HttpRequest
from gateway.providers.deepseek import configure
from gateway.providers.deepseek.requests import IGNORES, DeepSeekOptions
from gateway.sse import Decoder
from gateway.upstream import Upstream
from tests.fakes import DONE, Reply, ScriptedTransport, delta, sse

from .cases import CASES, CLOCK, PNG, SAMPLES, WEATHER, call, decode, request, user

GOLDEN = {
    1: "test_golden_01_blank_lines_before_an_answer_are_no_answer",
    2: "test_golden_02_comments_then_thoughts_then_text",
    3: (
        "test_golden_03_usage_on_the_last_chunk_says_what_was_cached",
        "test_golden_03_a_client_gets_usage_in_an_event_of_its_own",
    ),
    4: (
        "test_golden_04_usage_in_a_chunk_of_its_own_says_the_same",
        "test_golden_03_a_client_gets_usage_in_an_event_of_its_own",
    ),
    5: (
        "test_golden_05_an_answer_given_up_before_any_content_goes_to_the_next",
        "tests/test_router.py::test_a_failure_that_another_target_may_cure_fails_over",
    ),
    6: (
        "test_golden_06_an_answer_given_up_after_content_is_an_error_and_no_stop",
        "tests/e2e/test_golden_cases.py::test_a_break_in_mid_stream_has_no_end",
    ),
    7: "test_golden_07_every_turn_of_the_model_gets_a_thought_with_tools",
    8: "test_golden_08_without_tools_or_thinking_history_stays_as_it_is",
    9: "test_golden_09_no_effort_is_no_thinking",
    10: "test_golden_10_efforts",
    11: "test_golden_11_a_forced_call_ends_thinking",
    12: "test_golden_12_strict_tools_go_to_beta_when_all_are_strict",
    13: "test_golden_13_a_schema_is_refused_or_said_in_words",
    14: "test_golden_14_there_is_one_answer",
    15: "test_golden_15_a_developer_is_the_system_and_parts_are_one_text",
    16: (
        "test_golden_16_an_empty_account_is_a_matter_for_the_next_provider",
        "tests/test_router.py::test_a_failure_that_another_target_may_cure_fails_over",
        "tests/e2e/test_resilience.py::test_an_account_without_money_is_left_alone",
    ),
    17: (
        "test_golden_17_too_many_at_once_says_no_wait",
        "tests/e2e/test_resilience.py::test_a_refusal_without_a_wait_leaves_fewer_in_flight",
    ),
    18: "test_golden_18_pictures_stand_in_messages_of_a_user_to_flash",
    19: "test_golden_19_further_pieces_of_a_call_have_neither_id_nor_name",
    20: "test_golden_20_a_close_after_keep_alives_only_is_a_failure",
    21: "test_golden_21_retired_names_are_an_option",
    22: "test_golden_22_there_are_sixteen_stop_sequences",
    23: "test_golden_23_the_current_limit_wins_over_the_old_one",
    24: (
        "test_golden_24_an_end_without_its_mark_is_no_end",
        "tests/e2e/test_golden_cases.py::test_a_break_in_mid_stream_has_no_end",
    ),
}


DEEPSEEK = PROVIDERS["deepseek"]
FLASH, PRO = "deepseek-flash", "deepseek-v4-pro"
ON, OFF = {"type": "enabled"}, {"type": "disabled"}
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}}
USAGE = {
    "prompt_tokens": 30,
    "completion_tokens": 12,
    "total_tokens": 42,
    "completion_tokens_details": {"reasoning_tokens": 7},
    "prompt_cache_hit_tokens": 20,
    "prompt_cache_miss_tokens": 10,
}
JSON = {"content-type": "application/json"}


def build(model: str = FLASH, options: DeepSeekOptions | None = None, **fields: Any) -> HttpRequest:
    provider = configure(options) if options else DEEPSEEK
    return provider.build_request(request({"messages": [user("Hi")], **fields}, model))


def body(model: str = FLASH, **fields: Any) -> dict[str, Any]:
    return msgspec.json.decode(build(model, **fields).body)


def refusal(model: str = FLASH, **fields: Any) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        build(model, **fields)
    return caught.value


# ── through the driver ─────────────────────────────────────────────────────────────────────────────────


async def answered(reply: Reply, **fields: Any) -> list[Chunk]:
    chat = request({"messages": [user("Hi")], **fields}, FLASH)
    async with Upstream("deepseek", DEEPSEEK, ScriptedTransport(reply), key="sim-key").open(chat) as exchange:
        return [chunk async for chunk in exchange]


def whole(**fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    return {"id": "c1", "created": 1, "model": FLASH, "choices": [choice], "usage": USAGE, **fields}


def read(*events: Any) -> list[Chunk]:
    return decode(DEEPSEEK, request(CASES["stream"], FLASH), sse(*events))


async def test_golden_01_blank_lines_before_an_answer_are_no_answer():
    pieces = [b"\n", 0.02, b"\n\n", 0.02, b"\n\n", msgspec.json.encode(whole())]
    up = Upstream("deepseek", DEEPSEEK, ScriptedTransport(Reply(pieces, headers=JSON)), key="sim-key")
    async with up.open(request({"messages": [user("Hi")]}, FLASH)) as exchange:
        (chunk,) = [chunk async for chunk in exchange]
    assert exchange.timings.first_byte is not None
    assert exchange.timings.first_token is not None
    assert exchange.timings.first_token >= exchange.timings.first_byte + 0.03  # the wait is counted
    assert (chunk.text, chunk.finish_reason) == ("Hi", "stop")
    assert chunk.wire is not None
    assert chunk.wire.startswith(b'{"id"')


async def test_golden_02_comments_then_thoughts_then_text():
    events = [
        delta(role="assistant", content=None, reasoning_content=""),
        delta(role=None, content=None, reasoning_content="Hm."),
        delta(content="Hi", reasoning_content=None),
        delta("stop", content=""),
        DONE,
    ]
    pieces = [b": keep-alive\n\n", 0.001, b": keep-alive\n\n" * 3, *sse(*events)]
    chunks = await answered(Reply(pieces), stream=True)
    assert [(c.reasoning, c.text) for c in chunks if c.reasoning or c.text] == [("Hm.", ""), ("", "Hi")]
    assert all(b"keep-alive" not in (c.wire or b"") for c in chunks)
    assert sum(b'"role"' in (c.wire or b"") for c in chunks) == 1


def test_golden_03_usage_on_the_last_chunk_says_what_was_cached():
    chunks = read(delta(role="assistant", content="Hi"), {**delta("stop"), "usage": USAGE}, DONE)
    usage = fold(chunks).usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.cached_tokens, usage.reasoning_tokens) == (30, 20, 7)
    assert msgspec.json.decode(usage.wire or b"") == {
        **USAGE,
        "prompt_tokens_details": {"cached_tokens": 20},
    }


def rendered(*events: Any) -> list[Any]:
    """What a client gets that asked for usage."""
    chat = request(CASES["stream"], FLASH)
    out = render.Stream(chat, id="c", model="m", created=1)
    data = b"".join(out.render(chunk) for chunk in decode(DEEPSEEK, chat, sse(*events))) + out.end()
    return [e.data if e.data == b"[DONE]" else msgspec.json.decode(e.data) for e in Decoder().feed(data)]


def test_golden_03_a_client_gets_usage_in_an_event_of_its_own():
    begin, end = delta(role="assistant", content="Hi"), delta("stop")
    together = rendered(begin, {**end, "usage": USAGE}, DONE)
    apart = rendered(begin, end, {**delta(), "choices": [], "usage": USAGE}, DONE)
    for got in (together, apart):
        assert [event.get("usage") for event in got[:-2]] == [None, None]
        assert got[-2]["choices"] == []
        assert got[-2]["usage"]["prompt_tokens_details"] == {"cached_tokens": 20}
        assert got[-1] == b"[DONE]"
    assert together[-2]["usage"] == apart[-2]["usage"]


def test_golden_04_usage_in_a_chunk_of_its_own_says_the_same():
    apart = {**delta(), "choices": [], "usage": USAGE}
    chunks = read(delta(role="assistant", content="Hi"), delta("stop"), apart, DONE)
    same = read(delta(role="assistant", content="Hi"), {**delta("stop"), "usage": USAGE}, DONE)
    assert fold(chunks).usage == fold(same).usage
    (reported,) = [c for c in chunks if c.is_usage]
    assert b'"prompt_tokens_details":{"cached_tokens":20}' in (reported.wire or b"")


@pytest.mark.parametrize("reason", ["insufficient_system_resource", "aborted"])
@pytest.mark.parametrize("stream", [False, True])
async def test_golden_05_an_answer_given_up_before_any_content_goes_to_the_next(reason: str, stream: bool):
    choice = {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": reason}
    given_up = Reply(sse(delta(role="assistant", content=""), delta(reason), DONE))
    if not stream:
        given_up = Reply([msgspec.json.encode(whole(choices=[choice]))], headers=JSON)
    with pytest.raises(UpstreamError) as caught:
        await answered(given_up, stream=stream)
    assert (caught.value.kind, caught.value.status) == (ErrorKind.OVERLOADED, 503)
    assert caught.value.code == "insufficient_system_resource"
    assert caught.value.failover


async def test_golden_06_an_answer_given_up_after_content_is_an_error_and_no_stop():
    events = sse(delta(role="assistant", content="Hi"), delta("insufficient_system_resource"), DONE)
    chunks: list[Chunk] = []
    chat = request(CASES["stream"], FLASH)
    up = Upstream("deepseek", DEEPSEEK, ScriptedTransport(Reply(events)), key="sim-key")
    with pytest.raises(UpstreamError) as caught:
        async with up.open(chat) as exchange:
            while batch := await exchange.read():
                chunks += batch
    assert [c.text for c in chunks] == ["Hi"]
    assert all(c.finish_reason is None for c in chunks)
    assert caught.value.code == "insufficient_system_resource"


def test_a_text_about_giving_up_is_only_a_text():
    chunks = read(delta(role="assistant", content='say "aborted"'), delta("stop"), DONE)
    assert fold(chunks).text == 'say "aborted"'
    parsed = DEEPSEEK.parse_response(
        msgspec.json.encode(whole(model='"aborted"')), request(CASES["plain"], FLASH)
    )
    assert parsed.finish_reason == "stop"


# ── thinking ───────────────────────────────────────────────────────────────────────────────────────────

CALLED = {"role": "assistant", "content": None, "tool_calls": [call("c1", "get_time", "{}")]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "noon"}
SPOKEN = {"role": "assistant", "content": "It is noon.", "reasoning_content": "mine"}
HISTORY = [user("Time?"), CALLED, RESULT, SPOKEN, user("Sure?")]


def thoughts(**fields: Any) -> list[str | None]:
    said = body(messages=HISTORY, **fields)["messages"]
    return [m.get("reasoning_content") for m in said if m["role"] == "assistant"]


def test_golden_07_every_turn_of_the_model_gets_a_thought_with_tools():
    assert thoughts(tools=[CLOCK]) == [" ", "mine"]
    empty = {**SPOKEN, "reasoning_content": ""}
    assert body(messages=[empty, user("x")], tools=[CLOCK])["messages"][0]["reasoning_content"] == " "


def test_golden_08_without_tools_or_thinking_history_stays_as_it_is():
    assert thoughts() == [None, "mine"]
    assert thoughts(tools=[CLOCK], reasoning_effort="none") == [None, "mine"]
    assert thoughts(tools=[CLOCK], thinking=OFF) == [None, "mine"]


def test_golden_09_no_effort_is_no_thinking():
    built = body(reasoning_effort="none")
    assert built["thinking"] == OFF
    assert "reasoning_effort" not in built


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("minimal", "low"),
        ("low", "low"),
        ("medium", "high"),
        ("high", "high"),
        ("xhigh", "high"),
        ("max", "max"),
        ("colossal", "colossal"),
    ],
)
def test_golden_10_efforts(asked: str, sent: str):
    built = build(reasoning_effort=asked)
    native = msgspec.json.decode(built.body)
    assert (native["thinking"], native["reasoning_effort"]) == (ON, sent)
    assert ("reasoning_effort" in built.dropped) == (asked != sent)


NAMED = {"type": "function", "function": {"name": "get_time"}}


@pytest.mark.parametrize("choice", ["required", NAMED])
@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, ("thinking",)),
        ({"reasoning_effort": "low"}, ("reasoning_effort",)),
        ({"reasoning_effort": "none"}, ()),
    ],
)
def test_golden_11_a_forced_call_ends_thinking(choice: Any, fields: Any, named: tuple[str, ...]):
    built = build(tools=[CLOCK, WEATHER], tool_choice=choice, **fields)
    native = msgspec.json.decode(built.body)
    assert (native["thinking"], native["tool_choice"]) == (OFF, choice)
    assert "reasoning_effort" not in native
    assert built.dropped == named


def test_a_client_that_insists_on_thinking_has_its_call_not_forced():
    built = build(tools=[CLOCK], tool_choice="required", thinking=ON)
    native = msgspec.json.decode(built.body)
    assert (native["thinking"], native["tool_choice"]) == (ON, "auto")
    assert built.dropped == ("tool_choice",)


@pytest.mark.parametrize("own", [ON, OFF, {"type": "new", "depth": 3}])
def test_a_thinking_object_of_the_client_wins(own: Any):
    assert body(thinking=own)["thinking"] == own
    assert body(thinking=None)["thinking"] == ON
    contradicted = build(thinking=OFF, reasoning_effort="high")
    assert contradicted.dropped == ("reasoning_effort",)
    assert b"reasoning_effort" not in contradicted.body
    assert build(thinking=ON, reasoning_effort="none").dropped == ("reasoning_effort",)


SAMPLING: list[tuple[str, str, float, bool]] = [  # model, effort, top_p → whether it counts
    (FLASH, "high", 0.5, False),
    (FLASH, "high", 0.97, True),
    (FLASH, "none", 0.5, False),
    (PRO, "high", 0.5, False),
    (PRO, "none", 0.5, True),
]


@pytest.mark.parametrize(("model", "effort", "top_p", "counts"), SAMPLING)
def test_what_has_no_effect_is_sent_and_named(model: str, effort: str, top_p: float, counts: bool):
    built = build(model, reasoning_effort=effort, top_p=top_p, temperature=0.2)
    assert msgspec.json.decode(built.body)["top_p"] == top_p
    assert ("top_p" in built.dropped) != counts
    assert ("temperature" in built.dropped) == (effort != "none")
    assert build(model, top_p=1, temperature=1).dropped == ()


# ── tools and formats ──────────────────────────────────────────────────────────────────────────────────


def strict(tool: dict[str, Any], value: bool = True) -> dict[str, Any]:
    return {**tool, "function": {**tool["function"], "strict": value}}


def test_golden_12_strict_tools_go_to_beta_when_all_are_strict():
    both = build(tools=[strict(CLOCK), strict(WEATHER)])
    assert both.path == "/beta/chat/completions"
    assert both.body.count(b'"strict":true') == 2
    one = build(tools=[strict(CLOCK), strict(WEATHER, False)])
    assert one.path == "/chat/completions"
    assert b'"strict"' not in one.body
    assert one.dropped == ("tools.function.strict",)


FORM = CASES["json_schema"]["response_format"]


def test_golden_13_a_schema_is_refused_or_said_in_words():
    error = refusal(response_format=FORM)
    assert (error.kind, error.code, error.param) == (
        ErrorKind.UNSUPPORTED,
        "unsupported_parameter",
        "response_format",
    )
    emulating = DeepSeekOptions(emulate_json_schema=True)
    assert "json_schema" in configure(emulating).capabilities(FLASH).features
    assert "json_schema" not in DEEPSEEK.capabilities(FLASH).features
    for messages in ([user("Who?")], [{"role": "system", "content": "Be kind."}, user("Who?")]):
        built = build(options=emulating, response_format=FORM, messages=messages)
        native = msgspec.json.decode(built.body)
        assert native["response_format"] == {"type": "json_object"}
        assert [m["role"] for m in native["messages"]] == ["system", "user"]
        assert "JSON schema" in native["messages"][0]["content"]
        assert '"required":["name","age"]' in native["messages"][0]["content"]
        assert built.dropped == ("response_format",)
    assert native["messages"][0]["content"].startswith("Be kind.\n\n")


def test_golden_14_there_is_one_answer():
    error = refusal(n=2)
    assert (error.status, error.param) == (400, "n")
    one = build(n=1)
    assert b'"n"' not in one.body
    assert one.dropped == ()


def test_golden_15_a_developer_is_the_system_and_parts_are_one_text():
    text = [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control": {}}]
    refused = [{"type": "refusal", "refusal": "no"}]
    said = body(
        messages=[
            {"role": "developer", "content": text},
            {"role": "system", "content": "s", "name": "n"},
            user(text),
            {"role": "assistant", "content": refused},
            {"role": "assistant", "content": None, "refusal": "never"},
            {**CALLED, "content": text},
            {**RESULT, "content": text},
        ]
    )["messages"]
    assert [m["role"] for m in said] == ["system", "system", "user", *["assistant"] * 3, "tool"]
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert [m["content"] for m in said] == ["a\nb", "s", parts, "no", "never", "a\nb", "a\nb"]
    assert said[1]["name"] == "n"


async def test_golden_16_an_empty_account_is_a_matter_for_the_next_provider():
    error = {"message": "Insufficient Balance", "type": "unknown_error", "code": "invalid_request_error"}
    reply = Reply([msgspec.json.encode({"error": error})], status=402, headers=JSON)
    with pytest.raises(UpstreamError) as caught:
        await answered(reply)
    assert (caught.value.kind, caught.value.code) == (ErrorKind.QUOTA, "insufficient_quota")
    assert caught.value.failover


def test_golden_17_too_many_at_once_says_no_wait():
    error = DEEPSEEK.parse_error(429, {}, b'{"error":{"message":"Rate limit reached"}}')
    assert (error.kind, error.retry_after) == (ErrorKind.RATE_LIMIT, None)


SPEECH = {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}
PLACES: list[tuple[str, dict[str, Any], str]] = [
    (FLASH, {"role": "system", "content": [PICTURE]}, "messages[0].content[0]"),
    (FLASH, {"role": "assistant", "content": [PICTURE]}, "messages[0].content[0]"),
    (FLASH, {**RESULT, "content": [{"type": "text", "text": "x"}, PICTURE]}, "messages[0].content[1]"),
    (PRO, user([PICTURE]), "messages[0].content[0]"),
    (FLASH, user([{"type": "file", "file": {"file_id": "f"}}]), "messages[0].content[0]"),
    (FLASH, user([SPEECH]), "messages[0].content[0]"),
]


@pytest.mark.parametrize(("model", "message", "param"), PLACES)
def test_golden_18_pictures_stand_in_messages_of_a_user_to_flash(model: str, message: Any, param: str):
    error = refusal(model, messages=[message])
    assert (error.kind, error.param) == (ErrorKind.UNSUPPORTED, param)


def test_a_picture_for_flash_goes_as_it_is():
    assert body(messages=[user([PICTURE])])["messages"][0]["content"] == [PICTURE]


def test_golden_19_further_pieces_of_a_call_have_neither_id_nor_name():
    def piece(call_id: str, name: str, arguments: str) -> dict[str, Any]:
        return delta(role=None, content=None, tool_calls=[{"index": 0, **call(call_id, name, arguments)}])

    begin = delta(role="assistant", content=None)
    chunks = read(begin, piece("c1", "f", ""), piece("", "", "{}"), delta("tool_calls"), DONE)
    (sent,) = msgspec.json.decode(chunks[2].wire or b"")["choices"]
    assert sent["delta"]["tool_calls"] == [{"index": 0, "function": {"arguments": "{}"}}]
    (made,) = fold(chunks).tool_calls
    assert (made.id, made.name, made.arguments) == ("c1", "f", "{}")


@pytest.mark.parametrize("stream", [True, False])
async def test_golden_20_a_close_after_keep_alives_only_is_a_failure(stream: bool):
    reply = Reply([b": keep-alive\n\n"] * 3) if stream else Reply([b"\n"] * 3, headers=JSON)
    with pytest.raises(UpstreamError) as caught:
        await answered(reply, stream=stream)
    assert caught.value.failover
    assert caught.value.kind is (ErrorKind.INTERRUPTED if stream else ErrorKind.BAD_RESPONSE)


# ── models, limits, people ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("retired", "thinks"), [("deepseek-chat", OFF), ("deepseek-reasoner", ON)])
def test_golden_21_retired_names_are_an_option(retired: str, thinks: Any):
    error = refusal(retired)
    assert (error.kind, error.code, error.status) == (ErrorKind.NOT_FOUND, "model_not_found", 404)
    built = build(retired, options=DeepSeekOptions(aliases=True))
    native = msgspec.json.decode(built.body)
    assert (native["model"], native["thinking"]) == (FLASH, thinks)
    assert built.dropped == ("model",)
    asked = build(retired, options=DeepSeekOptions(aliases=True), reasoning_effort="high")
    assert msgspec.json.decode(asked.body)["thinking"] == ON


def test_golden_22_there_are_sixteen_stop_sequences():
    error = refusal(stop=["x"] * 17)
    assert (error.status, error.param) == (400, "stop")
    assert body(stop=["x"] * 16)["stop"] == ["x"] * 16
    assert body(stop="x")["stop"] == "x"
    assert "stop" not in body(stop=None)


def test_golden_23_the_current_limit_wins_over_the_old_one():
    built = body(max_tokens=50, max_completion_tokens=60)
    assert built["max_tokens"] == 60
    assert "max_completion_tokens" not in built
    assert body(max_tokens=50)["max_tokens"] == 50


async def test_golden_24_an_end_without_its_mark_is_no_end():
    chat = request(CASES["stream"], FLASH)
    reply = Reply(sse(delta(role="assistant", content="Hi")))
    with pytest.raises(UpstreamError) as caught:
        async with Upstream("deepseek", DEEPSEEK, ScriptedTransport(reply)).open(chat) as exchange:
            async for _ in exchange:
                pass
    assert caught.value.kind is ErrorKind.INTERRUPTED


def test_a_name_is_hashed_and_an_own_id_is_not():
    first, second = body(user="ann@example.org"), body(safety_identifier="ann@example.org")
    assert first["user_id"] == second["user_id"]
    assert re.fullmatch(r"gw-[0-9a-f]{32}", first["user_id"])
    assert body(user="bob")["user_id"] != first["user_id"]
    assert build(user="a", safety_identifier="b").dropped == ("user",)
    assert build(user="a", safety_identifier="a").dropped == ()
    own = build(user="a", user_id="team-7")
    assert msgspec.json.decode(own.body)["user_id"] == "team-7"
    assert own.dropped == ("user",)


@pytest.mark.parametrize("field", sorted(IGNORES - INSIDE.keys()))
def test_what_the_schema_lacks_is_named_and_not_sent(field: str):
    built = build(**{field: SAMPLES[field]})
    assert field not in msgspec.json.decode(built.body)
    assert built.dropped == (field,)


def test_a_prefix_goes_to_beta():
    last = {"role": "assistant", "content": "```python\n", "prefix": True, "reasoning_content": "Hm"}
    built = build(messages=[user("Code"), last], stop=["```"])
    assert built.path == "/beta/chat/completions"
    assert msgspec.json.decode(built.body)["messages"][1] == last
    for other in ([{**last, "prefix": "yes"}], [last, user("x")], [{**user("x"), "prefix": True}]):
        plain = build(messages=other)
        assert plain.path == "/chat/completions"
        assert b'"prefix"' not in plain.body


CUSTOM = {"type": "custom", "custom": {"name": "f"}}
CUSTOM_CALL = {"id": "c", "type": "custom", "custom": {"name": "f", "input": "x"}}


def test_what_is_no_function_is_refused():
    assert refusal(tools=[CLOCK, CUSTOM]).param == "tools[1].type"
    error = refusal(messages=[user("x"), {"role": "assistant", "tool_calls": [CUSTOM_CALL]}])
    assert error.param == "messages[1].tool_calls[0]"
    assert refusal(tools=[CLOCK] * 129).param == "tools"
    assert refusal(tools=[CLOCK], tool_choice="any").param == "tool_choice"
    assert refusal(modalities=["text", "audio"]).param == "modalities"


def test_allowed_tools_are_those_on_offer():
    limited = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}}
    native = body(tools=[WEATHER, CLOCK], tool_choice=limited)
    assert native["tools"] == [CLOCK]
    assert native["tool_choice"] == "auto"


def test_a_choice_without_tools_is_left_out():
    assert build(tool_choice="required").dropped == ("tool_choice",)
    assert build(tool_choice="none", tools=[]).dropped == ()
    assert b"tool" not in build(tool_choice="none", tools=[]).body


def test_usage_is_asked_for_whether_or_not_the_client_did():
    assert body(stream=True)["stream_options"] == {"include_usage": True}
    asked = body(stream=True, stream_options={"include_usage": False, "include_obfuscation": True})
    assert asked["stream_options"] == {"include_usage": True}
    assert "stream_options" not in body()


def test_usage_that_is_complete_or_strange_stays_as_it_is():
    details = {"cached_tokens": 5, "audio_tokens": 0}
    for usage in ({**USAGE, "prompt_tokens_details": details}, {"prompt_cache_hit_tokens": None}, [1]):
        data = msgspec.json.encode(whole(usage=usage, note='"prompt_cache_hit_tokens"'))
        chunk = DEEPSEEK.parse_response(data, request(CASES["plain"], FLASH))
        assert msgspec.json.decode(chunk.wire or b"")["usage"] == usage


def test_log_probabilities_of_thoughts_keep_their_own_name():
    thought = {"content": None, "reasoning_content": [{"token": "Hm", "logprob": -1}]}
    said = {"content": [{"token": "Hi", "logprob": -1}]}
    first, second = delta(role="assistant", reasoning_content="Hm"), delta(content="Hi")
    first["choices"][0]["logprobs"], second["choices"][0]["logprobs"] = thought, said
    logprobs = fold(read(first, second, delta("stop"), DONE)).logprobs
    assert logprobs == {**thought, **said}


def test_models_have_the_sizes_that_the_list_does_not_say():
    listed = b'{"object":"list","data":[{"id":"deepseek-flash","object":"model","owned_by":"deepseek"}]}'
    (model,) = DEEPSEEK.parse_models(listed).models
    assert (model.id, model.created, model.owned_by) == (FLASH, 0, "deepseek")
    assert (model.context_window, model.max_output) == (1_048_576, 393_216)
    assert "images" in DEEPSEEK.capabilities("deepseek-v4-flash").features
    assert "images" in DEEPSEEK.capabilities("deepseek-chat").features
    assert DEEPSEEK.capabilities(PRO).features == {"tools"}
    assert DEEPSEEK.capabilities("other").context_window is None


def test_wrong_parameters_are_the_clients_mistake_in_the_usual_status():
    error = DEEPSEEK.parse_error(422, {}, b'{"error":{"message":"Invalid temperature value"}}')
    assert (error.kind, error.status, error.upstream_status) == (ErrorKind.BAD_REQUEST, 400, 422)


def test_the_request_is_not_changed_by_asking():
    chat: ChatRequest = request({"messages": HISTORY, "tools": [CLOCK]}, FLASH)
    assert DEEPSEEK.build_request(chat) == DEEPSEEK.build_request(chat)
