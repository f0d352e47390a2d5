"""Whatever a client's history looks like, the request obeys Anthropic's rules; bytes may come in any pieces.

The checkers here know nothing of the code that they check: they state the API's rules once more.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.providers.anthropic import PROVIDER

from .cases import CLOCK, request, user

# ── the order of a conversation ────────────────────────────────────────────────────────────────────────

TEXTS = st.sampled_from(["", " \n", "Hi", "Well \n"])
IDS = st.sampled_from(["a", "b", "a|b", "a/b", "a_b", "a_b_2", "", "é"])
PARTS = st.builds(lambda text: {"type": "text", "text": text}, TEXTS)
CONTENT = TEXTS | st.lists(PARTS, max_size=3)
CALLS = st.builds(
    lambda call_id, name, arguments: {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    },
    IDS,
    st.sampled_from(["f", "f.g", "f_g", "x" * 80]),
    st.sampled_from(["", "{}", '{"a":1}', "[1]", "{"]),
)
THOUGHTS = st.sampled_from(
    [
        {"type": "thinking", "thinking": "Hm", "signature": "S"},
        {"type": "thinking", "thinking": "Hm", "signature": ""},
        {"type": "redacted_thinking", "data": "X"},
        {"type": "thinking"},
    ]
)


def said(role: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"role": st.just(role), **fields})


MESSAGES = st.lists(
    st.one_of(
        said("system", content=CONTENT),
        said("developer", content=CONTENT),
        said("user", content=CONTENT),
        said("tool", content=CONTENT, tool_call_id=IDS),
        said(
            "assistant",
            content=st.none() | CONTENT,
            tool_calls=st.none() | st.lists(CALLS, max_size=3),
            thinking_blocks=st.none() | st.lists(THOUGHTS, max_size=3),
            refusal=st.none() | TEXTS,
        ),
    ),
    min_size=1,
    max_size=9,
)
MODELS = st.sampled_from(
    ["claude-sonnet-5-5", "claude-opus-5", "claude-opus-4-6", "claude-sonnet-4-5", "claude-nova-7"]
)
TAKES_PREFILL = ("claude-sonnet-4-5",)
VALID_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
VALID_ID = re.compile(r"[a-zA-Z0-9_-]+")


def check_conversation(body: dict[str, Any]) -> None:
    messages = body["messages"]
    roles = [message["role"] for message in messages]
    assert roles[0] == "user"
    assert all(one != next for one, next in pairwise(roles))
    assert roles[-1] == "user" or body["model"] in TAKES_PREFILL
    assert all(block["text"].strip() for block in body.get("system", ()))
    seen: set[str] = set()
    owed: list[str] = []
    for message in messages:
        kinds = [block["type"] for block in message["content"]]
        assert kinds
        check_blocks(message["content"])
        calls = [b["id"] for b in message["content"] if b["type"] == "tool_use"]
        answered = [b["tool_use_id"] for b in message["content"] if b["type"] == "tool_result"]
        assert sorted(answered) == sorted(owed)
        assert kinds[: len(answered)] == ["tool_result"] * len(answered)
        assert len(set(calls)) == len(calls)
        assert not seen & set(calls)
        seen |= set(calls)
        owed = calls
        if message["role"] == "assistant":
            assert set(kinds) <= {"text", "tool_use", "thinking", "redacted_thinking"}
            assert kinds[-1] in ("text", "tool_use")
        else:
            assert not calls
    assert not owed
    assert bool(seen) <= bool(body.get("tools"))


def check_blocks(blocks: list[dict[str, Any]]) -> None:
    for block in blocks:
        match block["type"]:
            case "text":
                assert block["text"].strip()
            case "tool_use":
                assert VALID_ID.fullmatch(block["id"])
                assert VALID_NAME.fullmatch(block["name"])
                assert isinstance(block["input"], dict)
            case "tool_result":
                content = block.get("content", "x")
                assert content
                if isinstance(content, list):
                    check_blocks(content)
            case "thinking":
                assert block.keys() == {"type", "thinking", "signature"}
                assert block["signature"]


def check_end(body: dict[str, Any]) -> None:
    last = body["messages"][-1]
    if last["role"] == "assistant":
        assert last["content"][-1]["text"] == last["content"][-1]["text"].rstrip()
        assert body.get("thinking", {}).get("type") != "enabled"


@given(
    MESSAGES,
    MODELS,
    st.sampled_from([None, "none", "low", "max"]),
    st.sampled_from([None, "none", "required"]),
    st.booleans(),
)
def test_any_history_is_sent_in_order(
    messages: list[Any], model: str, effort: str | None, choice: str | None, has_tools: bool
):
    chosen = {"tools": [CLOCK], "tool_choice": choice} if has_tools else {}
    chat = request({"messages": messages, "reasoning_effort": effort, **chosen}, model)
    first = PROVIDER.build_request(chat)
    body = msgspec.json.decode(first.body)
    check_conversation(body)
    check_end(body)
    if body.get("thinking", {}).get("type") == "enabled":
        assert 1024 <= body["thinking"]["budget_tokens"] < body["max_tokens"]
        assert body.get("tool_choice", {}).get("type") not in ("any", "tool")
    assert PROVIDER.build_request(chat) == first


@given(MESSAGES, st.lists(said("user", content=st.just("More")), max_size=2))
def test_a_longer_history_begins_like_the_shorter_one(messages: list[Any], more: list[Any]):
    """Caches and signed thinking hold only for an equal prefix: the past is said the same way each time."""
    grown = [*messages, user("Now"), {"role": "assistant", "content": "Yes"}, *more]
    before = sent([*messages, user("Now")])
    after = sent(grown)
    assert after[: len(before)] == before


def sent(messages: list[Any]) -> list[Any]:
    http = PROVIDER.build_request(request({"messages": messages}, "claude-sonnet-5-5"))
    said: list[Any] = msgspec.json.decode(http.body)["messages"]
    return said
