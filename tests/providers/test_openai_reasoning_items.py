"""Reasoning items of the Responses API: asked for, handed out, taken back, and left out when refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.chat import Chunk
from gateway.errors import UpstreamError
from gateway.providers import openai
from gateway.providers.base import HttpRequest
from gateway.sse import Event

from .cases import CONTEXT, WEATHER, call, request, user

OPENAI = openai.PROVIDER
MODEL = "gpt-6-luna"


def detail(number: int = 0, **fields: Any) -> dict[str, Any]:
    return {
        "index": number,
        "type": "reasoning.encrypted",
        "data": f"ZW5j{number}",
        "id": f"rs_{number}",
        "format": "openai-responses-v1",
        **fields,
    }


def history(*details: Any, content: str | None = "Let me look.") -> dict[str, Any]:
    asked = {"role": "assistant", "content": content, "tool_calls": [call("call_1", "get_weather", "{}")]}
    return {
        "messages": [
            user("Weather?"),
            {**asked, "reasoning_details": [*details]},
            {"role": "tool", "tool_call_id": "call_1", "content": "18"},
        ],
        "tools": [WEATHER],
    }


def body(http: HttpRequest) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(http.body)
    return decoded


# ── asked for ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("model", "fields", "include"),
    [
        (MODEL, {"tools": [WEATHER]}, ["reasoning.encrypted_content"]),
        ("gpt-5.5-pro", {}, ["reasoning.encrypted_content"]),
        ("gpt-4.1", {"tools": [WEATHER]}, None),  # on Chat Completions, which has nothing of it
    ],
)
def test_reasoning_is_asked_for_where_the_model_reasons(model: str, fields: Any, include: list[str] | None):
    http = OPENAI.build_request(request({"messages": [user("Hi")], **fields}, model))
    assert body(http).get("include") == include
    assert body(http).get("store") is (None if include is None else False)


# ── handed out ─────────────────────────────────────────────────────────────────────────────────────────


def thought(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "type": "reasoning",
        "id": f"rs_{number}",
        "summary": [],
        "encrypted_content": f"ZW5j{number}",
        **fields,
    }


CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "get_weather", "arguments": "{}"}
ITEMS = [thought(0, summary=[{"type": "summary_text", "text": "Hm."}]), thought(1), CALL]
CHAT = request({"messages": [user("Weather?")], "tools": [WEATHER]}, MODEL)


def whole(*items: Any) -> Chunk:
    answer = {"object": "response", "id": "resp_1", "status": "completed", "output": [*items]}
    return OPENAI.parse_response(msgspec.json.encode(answer), CHAT)


def streamed(*items: Any) -> list[Chunk]:
    decode = OPENAI.event_decoder(CHAT)
    events = [
        {"type": f"response.output_item.{when}", "output_index": place, "item": item}
        for place, item in enumerate(items)
        for when in ("added", "done")
    ]
    events.append({"type": "response.completed", "response": {"status": "completed"}})
    read = (decode(Event(msgspec.json.encode(event))) for event in events)
    return [chunk for chunk in read if chunk is not None]


def test_an_answer_hands_out_its_reasoning():
    chunk = whole(*ITEMS)
    assert chunk.extra == {"reasoning_details": [detail(0), detail(1)]}
    assert chunk.reasoning == "Hm."
    assert [c.id for c in chunk.tool_calls] == ["call_1"]


def test_a_stream_hands_out_each_item_once_it_is_done():
    chunks = streamed(*ITEMS)
    assert [c.extra for c in chunks if c.extra] == [
        {"reasoning_details": [detail(0)]},
        {"reasoning_details": [detail(1)]},
    ]
    assert [bool(c.extra) for c in chunks] == [True, True, False, False, False]


@pytest.mark.parametrize("missing", ["id", "encrypted_content"])
def test_an_item_that_cannot_come_back_is_not_handed_out(missing: str):
    item = {name: value for name, value in thought(0).items() if name != missing}
    assert whole(item, CALL).extra is None
    assert all(c.extra is None for c in streamed(item, CALL))


# ── taken back ─────────────────────────────────────────────────────────────────────────────────────────


def test_reasoning_stands_before_what_it_led_to():
    http = OPENAI.build_request(request(history(detail(0), detail(1)), MODEL))
    assert [item["type"] for item in body(http)["input"]] == [
        "message",
        "reasoning",
        "reasoning",
        "message",
        "function_call",
        "function_call_output",
    ]
    assert body(http)["input"][1:3] == [thought(0), thought(1)]


def test_what_is_handed_out_is_what_is_taken_back():
    extra = whole(thought(0), CALL).extra
    assert extra is not None
    http = OPENAI.build_request(request(history(*extra["reasoning_details"]), MODEL))
    assert thought(0) in body(http)["input"]


@pytest.mark.parametrize(
    "foreign",
    [
        {"type": "reasoning.summary", "summary": "Hm."},
        detail(format="anthropic-claude-v1"),
        detail(data=None),
        detail(data=""),
        detail(id=None),
        {},
    ],
)
def test_details_of_others_are_left_out(foreign: dict[str, Any]):
    http = OPENAI.build_request(request(history(foreign), MODEL))
    assert all(item["type"] != "reasoning" for item in body(http)["input"])


def test_chat_completions_never_sees_them():
    http = OPENAI.build_request(request({**history(detail()), "reasoning_effort": "none"}, MODEL))
    assert http.path == "/chat/completions"
    assert b"reasoning_details" not in http.body


# ── refused ────────────────────────────────────────────────────────────────────────────────────────────


def refusal(message: str, code: str | None = None, status: int = 400) -> UpstreamError:
    told = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
    return OPENAI.parse_error(status, {}, msgspec.json.encode(told))


UNFIT = [
    refusal("The encrypted content for item rs_0 could not be verified.", "invalid_encrypted_content"),
    refusal("Item 'rs_0' of type 'reasoning' was provided without its required following item."),
    refusal("Could not be verified.", "invalid_encrypted_content"),
]
OTHERS = [
    refusal("Invalid value."),
    refusal("The encrypted content was too much.", status=500),
    refusal("The encrypted content came too fast.", "rate_limit_exceeded", 429),
]


@pytest.mark.parametrize("error", UNFIT, ids=str)
def test_unfit_reasoning_is_left_out_once(error: UpstreamError):
    chat = request(history(detail()), MODEL)
    talk = OPENAI.conversation(OPENAI, chat, CONTEXT)
    first = next(talk)
    again = talk.throw(error)
    assert isinstance(first, HttpRequest)
    assert isinstance(again, HttpRequest)
    assert body(again)["input"] == [i for i in body(first)["input"] if i["type"] != "reasoning"]
    with pytest.raises(UpstreamError) as caught:
        talk.throw(error)
    assert caught.value is error


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_other_refusals_are_the_clients(error: UpstreamError):
    talk = OPENAI.conversation(OPENAI, request(history(detail()), MODEL), CONTEXT)
    next(talk)
    with pytest.raises(UpstreamError):
        talk.throw(error)


def test_a_request_without_reasoning_is_not_sent_again():
    talk = OPENAI.conversation(OPENAI, request(history(), MODEL), CONTEXT)
    next(talk)
    with pytest.raises(UpstreamError):
        talk.throw(UNFIT[0])


def test_both_cures_may_be_needed():
    """A model that only turns out to want the Responses API may refuse the reasoning there."""
    talk = OPENAI.conversation(OPENAI, request(history(detail()), "o9-new"), CONTEXT)
    wants = refusal("Function tools with reasoning_effort are not supported for this model.")
    steps = [next(talk), talk.throw(wants), talk.throw(UNFIT[0])]
    assert [s.path for s in steps if isinstance(s, HttpRequest)] == [
        "/chat/completions",
        "/responses",
        "/responses",
    ]
    with pytest.raises(StopIteration):
        next(talk)
