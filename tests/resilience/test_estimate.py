"""Estimates: cheap, on the safe side at first, close once a model has answered a few times."""

from __future__ import annotations

import base64

import pytest

from gateway.chat import ChatRequest, Chunk, ToolCallDelta, Usage, UserMessage
from gateway.resilience.estimate import (
    BYTES_PER_TOKEN,
    ENOUGH,
    OUTPUT_TOKENS,
    RECENT,
    Counting,
    Estimates,
    size_of,
    tokens_in,
)
from gateway.resilience.limiter import Cost

from ..fakes import chat

IMAGE = "data:image/png;base64," + base64.b64encode(b"x" * 300_000).decode()


def with_text(text: str, **fields) -> ChatRequest:
    return chat(messages=[{"role": "user", "content": text}], **fields)


def with_part(part: dict) -> ChatRequest:
    return chat(messages=[{"role": "user", "content": [part]}])


def usage(prompt: int, completion: int = 10, cached: int = 0) -> Usage:
    return Usage(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached)


def test_a_text_is_a_third_of_its_bytes_and_rather_more():
    for text in ("a" * 3000, "ä" * 1500, "語" * 1000):
        assert 1000 <= Estimates().cost(with_text(text)).input_tokens <= 1020


def test_tools_and_schemas_are_read_by_the_model_too():
    tools = [{"type": "function", "function": {"name": "f", "description": "x" * 3000}}]
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"description": "x" * 3000}}}
    for field in ({"tools": tools}, {"response_format": schema}):
        assert Estimates().cost(with_text("Hi", **field)).input_tokens >= 1000


def test_what_is_not_for_the_model_costs_nothing():
    assert Estimates().cost(with_text("Hi", user="x" * 3000)) == Estimates().cost(with_text("Hi"))


@pytest.mark.parametrize(
    ("part", "flat"),
    [
        ({"type": "image_url", "image_url": {"url": IMAGE}}, Counting().image),
        ({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, Counting().image),
        ({"type": "input_audio", "input_audio": {"data": IMAGE, "format": "wav"}}, Counting().audio),
        ({"type": "file", "file": {"file_data": IMAGE}}, Counting().file),
        ({"type": "file", "file": {"file_id": "file-1"}}, Counting().file),
    ],
)
def test_pictures_recordings_and_documents_are_flat(part, flat):
    assert flat <= Estimates().cost(with_part(part)).input_tokens <= flat + 50


def test_parts_of_a_kind_that_is_not_known_count_as_text():
    part = {"type": "video_url", "video_url": {"url": "x" * 3000}}
    assert Estimates().cost(with_part(part)).input_tokens >= 1000


def test_a_request_that_never_was_bytes_has_a_size_too():
    request = ChatRequest(model="m", messages=[UserMessage(content="x" * 3000)])
    assert 1000 <= Estimates().cost(request).input_tokens <= 1020


@pytest.mark.parametrize(
    ("counts", "fields", "output"),
    [
        (False, {}, OUTPUT_TOKENS),
        (False, {"max_tokens": 20}, 20),
        (False, {"max_tokens": 90_000}, OUTPUT_TOKENS),
        (False, {"max_completion_tokens": 20, "max_tokens": 30}, 20),
        (False, {"max_tokens": 20, "n": 3}, 60),
        (True, {}, OUTPUT_TOKENS),
        (True, {"max_tokens": 90_000}, 90_000),
        (True, {"max_tokens": 0}, 0),
    ],
)
def test_the_answer_is_what_is_usual_or_all_that_is_allowed(counts, fields, output):
    estimates = Estimates(Counting(max_tokens=counts))
    assert estimates.cost(with_text("Hi", **fields)).output_tokens == output


def test_the_input_gets_close_to_what_was_counted():
    estimates, request = Estimates(), with_text("x" * 3000)
    for _ in range(50):
        estimates.learn(request, usage(500))
    assert estimates.cost(request).input_tokens == pytest.approx(500, rel=0.02)
    other = chat("other", messages=[{"role": "user", "content": "x" * 3000}])
    assert estimates.cost(other).input_tokens >= 1000


def test_one_strange_count_moves_little():
    estimates, request = Estimates(), with_text("x" * 3000)
    estimates.learn(request, usage(10**9))
    assert estimates.cost(request).input_tokens < 1500
    for _ in range(100):
        estimates.learn(request, usage(0))
    assert estimates.cost(request).input_tokens >= 1000


def test_nine_of_ten_answers_are_no_longer_than_the_usual_one():
    estimates, request = Estimates(), with_text("Hi")
    for length in range(1, ENOUGH):
        estimates.learn(request, usage(10, length))
    assert estimates.cost(request).output_tokens == OUTPUT_TOKENS
    for length in range(RECENT, 0, -1):
        estimates.learn(request, usage(10, length))
    assert estimates.cost(request).output_tokens == 0.9 * RECENT


def test_models_are_forgotten_when_they_are_too_many():
    estimates = Estimates(max_models=3)
    for number in range(10):
        estimates.learn(chat(f"m{number}"), usage(1000, 1))
        estimates.learn(chat("m0"), usage(1000, 1))
    assert len(estimates) == 3
    assert estimates.cost(chat("m0")).input_tokens > 2 * estimates.cost(chat("m9")).input_tokens


@pytest.mark.parametrize(("counts", "input_tokens"), [(True, 100), (False, 30)])
def test_what_was_cached_counts_where_the_provider_says_so(counts, input_tokens):
    spent = Estimates(Counting(cached=counts)).spent(usage(100, 10, cached=70))
    assert spent == Cost(1, input_tokens, 10)


def test_what_a_client_saw_is_text_thoughts_and_calls():
    call = ToolCallDelta(index=0, name="abc", arguments='{"a":1}')
    chunk = Chunk(text="ab", reasoning="語", refusal="no", tool_calls=(call,))
    assert size_of(chunk) == 2 + 3 + 2 + 10
    assert [tokens_in(size) for size in (0, 1, BYTES_PER_TOKEN, BYTES_PER_TOKEN + 1)] == [0, 1, 1, 2]
