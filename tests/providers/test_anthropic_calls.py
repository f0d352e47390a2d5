"""The golden cases of Anthropic's dialect, by number: refusals, the second call and models (27 to 30)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.chat import ChatRequest
from gateway.errors import ErrorKind, UpstreamError
from gateway.providers.anthropic import PROVIDER
from gateway.upstream import Upstream
from tests.fakes import Reply, ScriptedTransport

from .anthropic_helpers import HI, NEWEST, OLD, SIGNED, assistant, configured, tool
from .cases import CONTEXT, FIXTURES, call, request, user

GOLDEN = {
    27: (
        "test_golden_27_errors",
        "test_golden_27_a_network_in_between_answers_with_html",
        "test_golden_27_a_wait_beside_a_good_answer_is_none",
        "test_contract.py::test_errors_are_recognised",
    ),
    28: (
        "test_golden_28_every_wording",
        "test_golden_28_one_more_call_without_thoughts",
        "test_golden_28_thinking_is_given_up_when_its_blocks_are_missing",
        "test_golden_28_other_refusals_stand",
        "test_golden_28_a_good_answer_is_the_end",
        "test_golden_28_with_options",
        "test_golden_28_the_second_call_is_made",
    ),
    30: (
        "test_golden_30_models",
        "test_golden_30_an_empty_page_is_the_last",
        "test_golden_30_a_page_that_does_not_say_where_it_ends",
        "test_golden_30_pages_are_joined",
    ),
}


# ── 27 to 30: errors, the second call, models ──────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "headers", "error", "kind", "wait"),
    [
        (
            400,
            {},
            {"message": "prompt is too long: 210000 tokens > 200000 maximum"},
            ErrorKind.CONTEXT_LENGTH,
            None,
        ),
        (429, {"retry-after": "7"}, {"message": "Slow down"}, ErrorKind.RATE_LIMIT, 7),
        (
            429,
            {},
            {"message": "Spent", "details": {"error_code": "enforced_spend_limit_reached"}},
            ErrorKind.QUOTA,
            None,
        ),
        (529, {}, {"message": "Overloaded", "details": None}, ErrorKind.OVERLOADED, None),
        (400, {}, {"message": "Strange", "details": {"error_code": ["x"]}}, ErrorKind.BAD_REQUEST, None),
    ],
)
def test_golden_27_errors(status: int, headers: Any, error: Any, kind: ErrorKind, wait: float | None):
    """The document's cases; all of its table runs from `errors.json` in the contract test."""
    found = PROVIDER.parse_error(status, headers, msgspec.json.encode({"type": "error", "error": error}))
    assert (found.kind, found.message, found.retry_after) == (kind, error["message"], wait)
    assert found.upstream_status == status


def test_golden_27_a_network_in_between_answers_with_html():
    found = PROVIDER.parse_error(413, {}, b"<html><h1>413 Request Entity Too Large</h1></html>")
    assert (found.kind, found.message) == (ErrorKind.TOO_LARGE, "answered with status 413")


JSON = {"content-type": "application/json"}
ANSWERED = (FIXTURES / "anthropic" / "text.json").read_bytes()


async def test_golden_27_a_wait_beside_a_good_answer_is_none():
    reply = Reply([ANSWERED], headers={**JSON, "retry-after": "7"})
    up = Upstream("anthropic", PROVIDER, ScriptedTransport(reply), key="sim-key")
    async with up.open(request({"messages": HI, "max_tokens": 100}, NEWEST)) as exchange:
        assert (await exchange.collect()).finish_reason == "stop"
    assert (up.answered, up.failed) == (1, 0)


STALE = (
    "messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a different"
    " conversation."
)
LACKING = "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`."


def refused(message: str, kind: ErrorKind = ErrorKind.BAD_REQUEST) -> UpstreamError:
    return UpstreamError(kind, message, upstream_status=400)


def replay(model: str = NEWEST, **more: Any) -> ChatRequest:
    said = assistant(None, call("a", "f", ""), thinking_blocks=[SIGNED])
    return request({"messages": [user("?"), said, tool("a")], **more}, model)


@pytest.mark.parametrize(
    "message",
    [
        "messages.3.content.0: Invalid `signature` in `thinking` block",
        "`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified.",
        LACKING,
    ],
)
def test_golden_28_every_wording(message: str):
    calls = PROVIDER.conversation(PROVIDER, replay(), CONTEXT)
    next(calls)
    assert b"SIG==" not in calls.throw(refused(message)).body


def test_golden_28_one_more_call_without_thoughts():
    chat = replay(reasoning_effort="high")
    calls = PROVIDER.conversation(PROVIDER, chat, CONTEXT)
    first = next(calls)
    assert b"SIG==" in first.body
    second = calls.throw(refused(STALE))
    assert msgspec.json.decode(second.body) == {
        **msgspec.json.decode(first.body),
        "messages": [
            msgspec.json.decode(first.body)["messages"][0],
            {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "ok"}]},
        ],
    }
    again = refused(STALE)
    with pytest.raises(UpstreamError) as caught:
        calls.throw(again)
    assert caught.value is again


def test_golden_28_thinking_is_given_up_when_its_blocks_are_missing():
    calls = PROVIDER.conversation(PROVIDER, replay(OLD, reasoning_effort="high"), CONTEXT)
    assert b'"budget_tokens"' in next(calls).body
    second = calls.throw(refused(LACKING))
    assert b'"thinking"' not in second.body
    assert second.dropped == ("reasoning_effort",)


@pytest.mark.parametrize(
    ("chat", "error"),
    [
        (replay(), refused("max_tokens: too large")),
        (replay(), refused(STALE, ErrorKind.SERVER)),
        (request({"messages": HI}, NEWEST), refused(STALE)),
        (request({"messages": HI}, NEWEST), refused(LACKING)),
    ],
)
def test_golden_28_other_refusals_stand(chat: ChatRequest, error: UpstreamError):
    calls = PROVIDER.conversation(PROVIDER, chat, CONTEXT)
    next(calls)
    with pytest.raises(UpstreamError) as caught:
        calls.throw(error)
    assert caught.value is error


def test_golden_28_a_good_answer_is_the_end():
    calls = PROVIDER.conversation(PROVIDER, replay(), CONTEXT)
    next(calls)
    with pytest.raises(StopIteration):
        next(calls)


def test_golden_28_with_options():
    chosen = configured(beta=["b-1"])
    calls = chosen.conversation(chosen, replay(), CONTEXT)
    assert next(calls).headers["anthropic-beta"] == "b-1"
    assert calls.throw(refused(STALE)).headers["anthropic-beta"] == "b-1"


async def test_golden_28_the_second_call_is_made():
    """By the driver: one more request, and its answer is the client's."""
    body = {"type": "error", "error": {"type": "invalid_request_error", "message": STALE}}
    stale = Reply([msgspec.json.encode(body)], status=400, headers=JSON)
    transport = ScriptedTransport(stale, Reply([ANSWERED], headers=JSON))
    up = Upstream("anthropic", PROVIDER, transport, key="sim-key")
    async with up.open(replay(max_tokens=100)) as exchange:
        assert (await exchange.collect()).text == "Grüße aus\u2028Köln 🎈!"
    assert [b"SIG==" in http.body for http, _, _ in transport.sent] == [True, False]
    assert (up.answered, up.failed) == (1, 0)


def test_golden_30_models():
    assert PROVIDER.models_request.path == "/v1/models?limit=1000"
    page = PROVIDER.parse_models(
        msgspec.json.encode(
            {
                "data": [
                    {
                        "type": "model",
                        "id": "claude-opus-5-5",
                        "display_name": "Claude Opus 5.5",
                        "created_at": "2026-09-01T00:00:00Z",
                        "max_input_tokens": 900_000,
                        "max_tokens": 100_000,
                        "capabilities": {"effort": {"supported": True}},
                    },
                    {"id": "claude-opus-4-5", "created_at": "1970-01-01T00:00:00Z"},
                ],
                "has_more": True,
                "first_id": "claude-opus-5-5",
                "last_id": "claude-opus-4-5&x",
            }
        )
    )
    first, second = page.models
    assert (first.id, first.created, first.owned_by) == ("claude-opus-5-5", 1_788_220_800, "anthropic")
    assert (first.context_window, first.max_output) == (900_000, 100_000)
    assert (second.created, second.context_window, second.max_output) == (0, 200_000, 64_000)
    assert page.following is not None
    assert page.following.path == "/v1/models?limit=1000&after_id=claude-opus-4-5%26x"
    assert page.following.method == "GET"
    last = PROVIDER.parse_models(b'{"data":[{"id":"claude-nova-7","created_at":"soon"}],"has_more":false}')
    assert last.following is None
    assert (last.models[0].created, last.models[0].context_window) == (0, None)


@pytest.mark.parametrize("body", [b"{}", b'{"data":null}', b'{"data":[],"has_more":true,"last_id":"x"}'])
def test_golden_30_an_empty_page_is_the_last(body: bytes):
    page = PROVIDER.parse_models(body)
    assert page.models == []
    assert page.following is None


def test_golden_30_a_page_that_does_not_say_where_it_ends():
    page = PROVIDER.parse_models(b'{"data":[{"id":"a"},{"id":"b"}],"has_more":true}')
    assert page.following is not None
    assert page.following.path == "/v1/models?limit=1000&after_id=b"


async def test_golden_30_pages_are_joined():
    first = b'{"data":[{"id":"a"},{"id":"b"}],"has_more":true,"last_id":"b"}'
    transport = ScriptedTransport(
        Reply([first], headers=JSON), Reply([b'{"data":[{"id":"c"}],"has_more":false}'], headers=JSON)
    )
    up = Upstream("anthropic", PROVIDER, transport, key="sim-key")
    assert [model.id for model in await up.models()] == ["a", "b", "c"]
    asked = [url.removeprefix("https://api.anthropic.com") for _, url, _ in transport.sent]
    assert asked == ["/v1/models?limit=1000", "/v1/models?limit=1000&after_id=b"]
