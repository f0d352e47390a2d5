"""OpenAI's own API: what its models refuse, what is taken out of a request, how its errors are read."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.providers import PROVIDERS
from gateway.providers.openai import family
from gateway.sse import Event

from .cases import CLOCK, request, user

OPENAI = PROVIDERS["openai"]
COMPATIBLE = OPENAI.compatible
assert COMPATIBLE is not None


def built(model: str, **fields: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    http = OPENAI.build_request(request({"messages": [user("Hi")], **fields}, model))
    return msgspec.json.decode(http.body), http.dropped


@pytest.mark.parametrize("model", ["gpt-6-luna", "gpt-5.4", "o3", "gpt-4.1", "gpt-9", "ft:gpt-4.1:x"])
def test_golden_19_the_limit_has_its_current_name(model: str):
    assert built(model, max_tokens=50)[0]["max_completion_tokens"] == 50
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
def test_golden_3_usage_is_asked_for_whether_or_not_the_client_did(streaming: bool):
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
