"""OpenAI's own API: what its models refuse, what is taken out of a request, how its errors are read."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.ingress import render
from gateway.providers import PROVIDERS
from gateway.providers.openai import family
from gateway.sse import Decoder, Event
from tests.fakes import DONE, delta, sse

from .cases import CLOCK, PNG, decode, request, user

GOLDEN = {
    1: "tests/e2e/test_golden_cases.py::test_a_stream_through_the_python_sdks_helper",
    2: (
        "tests/e2e/test_sdk_node.py::test_a_users_program",
        "tests/e2e/test_golden_cases.py::test_the_node_sdk_puts_streams_together",
    ),
    3: (
        "test_golden_03_usage_is_asked_for_whether_or_not_the_client_did",
        "tests/test_render.py::test_usage_comes_once_at_the_end_and_only_when_asked_for",
        "tests/test_render.py::test_the_same_dialect_passes_byte_for_byte",
        "tests/test_render.py::test_usage_on_the_finish_chunk_becomes_its_own_event",
    ),
    4: (
        "tests/e2e/test_golden_cases.py::test_the_python_sdk_puts_calls_together",
        "tests/e2e/test_golden_cases.py::test_the_node_sdk_puts_streams_together",
    ),
    5: (
        "tests/e2e/test_golden_cases.py::test_the_python_sdk_puts_calls_together",
        "tests/e2e/test_golden_cases.py::test_the_node_sdk_puts_streams_together",
        "tests/test_render.py::test_tool_calls_come_together_however_they_were_cut",
    ),
    6: "test_golden_06_a_call_without_arguments_has_empty_ones",
    7: (
        "tests/test_render.py::test_the_first_choice_begins_when_there_are_several",
        "tests/e2e/test_golden_cases.py::test_two_choices_through_the_python_sdks_helper",
    ),
    8: (
        "tests/e2e/test_sdk_python.py::test_a_stream_that_breaks_raises_in_the_sdk",
        "tests/e2e/test_sdk_node.py::test_a_stream_that_breaks_throws",
        "tests/e2e/test_golden_cases.py::test_a_break_in_mid_stream_has_no_end",
    ),
    9: (
        "tests/e2e/test_sdk_python.py::test_a_stream_that_breaks_raises_in_the_sdk",
        "tests/e2e/test_sdk_node.py::test_a_stream_that_breaks_throws",
        "tests/e2e/test_golden_cases.py::test_a_break_in_mid_stream_has_no_end",
    ),
    10: (
        "tests/e2e/test_golden_cases.py::test_a_long_wait_is_told",
        "tests/e2e/test_golden_cases.py::test_a_long_wait_is_not_repeated",
    ),
    11: (
        "tests/e2e/test_golden_cases.py::test_billing_fails_over_and_is_never_repeated",
        "tests/e2e/test_resilience.py::test_an_account_without_money_is_left_alone",
    ),
    12: (
        "tests/e2e/test_golden_cases.py::test_a_refused_key_is_the_gateways_affair",
        "tests/e2e/test_adversary.py::test_a_key_is_in_no_field_of_an_error",
    ),
    13: "tests/e2e/test_http.py::test_models_are_served_from_what_providers_say",
    14: (
        "tests/test_embeddings.py::test_base64_is_little_endian_32_bit_floats",
        "tests/e2e/test_embeddings.py::test_base64_and_numbers_are_the_same_vectors",
    ),
    15: (
        "test_golden_15_what_others_add_to_messages_is_taken_out",
        "test_golden_15_openais_own_words_stay_with_openai",
    ),
    18: (
        "test_golden_18_sampling_goes_with_models_that_do_not_reason",
        "tests/e2e/test_golden_cases.py::test_a_temperature_that_is_dropped_is_named_or_refused",
    ),
    19: "test_golden_19_the_limit_has_its_current_name",
    23: "tests/e2e/test_http.py::test_a_client_that_leaves_cancels_the_call",
    24: (
        "tests/e2e/test_golden_cases.py::test_the_sdk_does_not_see_comments",
        "tests/e2e/test_http.py::test_silence_is_filled_with_comments_and_the_answer_follows",
    ),
    25: (
        "tests/test_chat.py::test_a_bad_body_is_refused_with_the_path_of_the_field",
        "tests/e2e/test_http.py::test_bad_input_gets_a_clear_answer_and_calls_nobody",
    ),
    26: (
        "tests/e2e/test_sdk_python.py::test_failures_are_the_sdks_own_errors",
        "tests/e2e/test_faults.py::test_a_stream",
    ),
    27: (
        "tests/test_chat.py::test_legacy_functions_are_said_as_tools",
        "tests/test_render.py::test_who_asked_with_functions_is_answered_so",
    ),
}


OPENAI = PROVIDERS["openai"]
COMPATIBLE = OPENAI.compatible
assert COMPATIBLE is not None


def built(model: str, **fields: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    http = OPENAI.build_request(request({"messages": [user("Hi")], **fields}, model))
    return msgspec.json.decode(http.body), http.dropped


@pytest.mark.parametrize("model", ["gpt-6-luna", "gpt-5.4", "o3", "gpt-4.1", "gpt-9", "ft:gpt-4.1:x"])
def test_golden_19_the_limit_has_its_current_name(model: str):
    alone = built(model, max_tokens=50)[0]
    assert alone["max_completion_tokens"] == 50
    assert "max_tokens" not in alone
    both = built(model, max_tokens=50, max_completion_tokens=60)[0]
    assert both["max_completion_tokens"] == 60
    assert "max_tokens" not in both


SAMPLING: list[tuple[str, str | None, bool]] = [  # model, effort → whether temperature is taken
    ("gpt-4.1", None, True),
    ("gpt-6-luna", None, False),
    ("gpt-6-luna", "none", True),
    ("gpt-6-luna", "low", False),
    ("gpt-5.4", None, True),
    ("gpt-5.4", "high", False),
    ("gpt-5.1", None, True),
    ("gpt-5", None, False),
    ("o4-mini", None, False),
    ("gpt-6-astra", "none", False),
    ("gpt-10-new", None, False),
]


@pytest.mark.parametrize(("model", "effort", "taken"), SAMPLING)
def test_golden_18_sampling_goes_with_models_that_do_not_reason(model: str, effort: str | None, taken: bool):
    fields = {"temperature": 0.7, "top_p": 0.5, **({"reasoning_effort": effort} if effort else {})}
    body, lost = built(model, **fields)
    assert ("temperature" in body, "top_p" in body) == (taken, taken)
    assert ("temperature" in lost) != taken


def test_defaults_are_left_out_without_a_word():
    body, lost = built("gpt-6-luna", temperature=1, top_p=1, logprobs=False, stop=None, modalities=["text"])
    assert set(body) == {"model", "messages"}
    assert lost == ()


@pytest.mark.parametrize(
    "field", ["presence_penalty", "frequency_penalty", "stop", "logit_bias", "prediction"]
)
def test_what_reasoning_models_refuse_at_any_effort(field: str):
    values: dict[str, Any] = {
        "stop": "x",
        "logit_bias": {"1": 1},
        "prediction": {"type": "content", "content": "x"},
    }
    for effort in ("none", "high"):
        body, lost = built("gpt-6-luna", reasoning_effort=effort, **{field: values.get(field, 0.5)})
        assert field not in body
        assert field in lost
    assert field in built("gpt-4.1", **{field: values.get(field, 0.5)})[0]


EFFORTS: list[tuple[str, str, str]] = [
    ("gpt-6-luna", "minimal", "low"),
    ("gpt-6-luna", "none", "none"),
    ("gpt-6-luna", "max", "max"),
    ("gpt-6-astra", "none", "low"),
    ("gpt-6-astra", "max", "xhigh"),
    ("gpt-6.1-sol", "none", "low"),
    ("gpt-5.1", "minimal", "low"),
    ("gpt-5.1", "xhigh", "high"),
    ("gpt-5", "none", "minimal"),
    ("gpt-5-mini", "xhigh", "high"),
    ("o3", "minimal", "low"),
    ("o3", "none", "low"),
    ("gpt-6-luna", "colossal", "colossal"),
]


@pytest.mark.parametrize(("model", "asked", "sent"), EFFORTS)
def test_an_effort_that_the_model_lacks_becomes_the_nearest(model: str, asked: str, sent: str):
    body, lost = built(model, reasoning_effort=asked)
    assert body["reasoning_effort"] == sent
    assert ("reasoning_effort" in lost) == (asked != sent)


def test_models_that_do_not_reason_are_left_alone():
    for model in ("gpt-4.1", "gpt-4o", "ft:gpt-4.1:org", "chatgpt-4o-latest"):
        assert family(model) is None


def test_golden_15_what_others_add_to_messages_is_taken_out():
    """OpenAI refuses fields that it does not know; its own stay, byte for byte where nothing had to go."""
    said = {
        "role": "assistant",
        "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}],
        "reasoning_content": "r",
        "reasoning_details": [{}],
        "thinking_blocks": [],
        "images": [],
        "extra_content": {},
        "provider_specific_fields": {},
        "annotations": [],
        "cache_control": {},
        "refusal": None,
        "tool_calls": [
            {
                "id": "call_1__thought__AB==",
                "index": 0,
                "type": "function",
                "extra_content": {},
                "function": {"name": "f", "arguments": "{}", "parsed_arguments": {}},
            }
        ],
    }
    result = {"role": "tool", "tool_call_id": "call_1__thought__AB==", "content": "ok"}
    picture = {"type": "image_url", "image_url": {"url": "https://x", "detail": "original"}}
    own = {"role": "user", "content": [{**picture, "prompt_cache_breakpoint": {"mode": "explicit"}}]}
    body, _ = built(
        "gpt-5.4", messages=[own, said, result], tools=[{**CLOCK, "cache_control": {"type": "ephemeral"}}]
    )
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert body["messages"] == [
        own,
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "x"}],
            "refusal": None,
            "tool_calls": [call],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "ok"},
    ]
    assert body["tools"] == [CLOCK]


MARKED = {
    "type": "image_url",
    "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "original"},
    "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"},
}
SEEING = [n for n, p in PROVIDERS.items() if "images" in p.capabilities(p.default_model or "").features]


@pytest.mark.parametrize("name", SEEING)
def test_golden_15_openais_own_words_stay_with_openai(name: str):
    """A client may use them whoever answers; only those hear them who have these words too."""
    provider = PROVIDERS[name]
    text = {"type": "text", "text": "What?", "prompt_cache_breakpoint": {"mode": "explicit"}}
    chat = request({"messages": [user([text, MARKED])]}, provider.default_model or "")
    said = provider.build_request(chat).body
    assert (b"prompt_cache_breakpoint" in said) == (name == "openai")
    assert (b'"original"' in said) == (name in ("openai", "deepseek"))
    assert PNG.encode() in said


CALLED = {"id": "call_1", "type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize("arguments", [{}, {"arguments": ""}, {"arguments": None}, {"arguments": {}}])
def test_golden_06_a_call_without_arguments_has_empty_ones(arguments: dict[str, Any]):
    """In a stream and whole: a client's `json.loads` must not fail."""
    call = {**CALLED, "function": {"name": "f", **arguments}}
    chat = request({"messages": [user("x")], "stream": True}, "gpt-5.4")
    events = sse(delta(role="assistant", tool_calls=[{"index": 0, **call}]), delta("tool_calls"), DONE)
    out = render.Stream(chat, id="c", model="m", created=1)
    data = b"".join(out.render(chunk) for chunk in decode(OPENAI, chat, events)) + out.end()
    pieces = [msgspec.json.decode(event.data) for event in Decoder().feed(data) if event.data != b"[DONE]"]
    calls = [c for p in pieces for c in p["choices"][0]["delta"].get("tool_calls", ())]
    assert "".join(c["function"]["arguments"] for c in calls) == "{}"
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    body = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    chunk = OPENAI.parse_response(msgspec.json.encode(body), chat)
    whole = msgspec.json.decode(render.response(chat, chunk, id="c", model="m", created=1))
    (sent,) = whole["choices"][0]["message"]["tool_calls"]
    assert sent == {**CALLED, "function": {"name": "f", "arguments": "{}"}}


def test_a_compatible_server_gets_everything_as_it_was_sent():
    fields = {"temperature": 0.7, "max_tokens": 5, "stop": "x", "reasoning_effort": "minimal", "top_k": 3}
    said = {"role": "assistant", "content": "x", "reasoning_content": "r"}
    chat = request({"messages": [user("x"), said, user("y")], **fields}, "gpt-6-luna")
    http = COMPATIBLE.build_request(chat)
    body = msgspec.json.decode(http.body)
    assert {name: body[name] for name in fields} == fields
    assert body["messages"][1] == said
    assert http.dropped == ()


@pytest.mark.parametrize("streaming", [True, False])
def test_golden_03_usage_is_asked_for_whether_or_not_the_client_did(streaming: bool):
    for options in ({}, {"stream_options": {"include_usage": False, "include_obfuscation": True}}):
        body, _ = built("gpt-4.1", stream=streaming, **options)
        if streaming:
            wanted = bool(options) and True
            assert body["stream_options"] == {"include_usage": True, "include_obfuscation": wanted}
        else:
            assert "stream_options" not in body


def test_a_stream_that_ends_before_all_choices_did_is_not_whole():
    """A finish reason for each choice, or the answer is broken off."""
    read = OPENAI.event_decoder(request({"messages": [user("x")], "n": 2, "stream": True}))

    def event(index: int, finish: str | None, **delta: Any) -> Event:
        choice = {"index": index, "delta": delta, "finish_reason": finish}
        return Event(msgspec.json.encode({"id": "c", "choices": [choice]}))

    seen = [
        read(event(0, None, role="assistant", content="a")),
        read(event(1, None, role="assistant", content="b")),
        read(event(0, "stop")),
    ]
    assert not any(chunk and chunk.finish_reason for chunk in seen)
    last = read(event(1, "length"))
    assert last is not None
    assert last.finish_reason == "stop"  # the first choice's
