"""Gemini: the order of turns, and the signatures that go with calls."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UpstreamError
from gateway.providers import gemini
from gateway.providers.gemini import PROVIDER
from gateway.providers.gemini.contents import MISSING_RESULT, SENTINEL

from .cases import CONTEXT, PNG, call, request, user
from .gemini_helpers import (
    FLASH,
    assistant,
    build,
    contents,
    image,
    inline,
    remote,
    says,
    sent,
    system,
    tool,
)

GOLDEN = {
    2: "test_golden_02_instructions_from_anywhere",
    3: "test_golden_03_only_instructions",
    4: "test_golden_04_the_model_first",
    5: "test_golden_05_turns_of_one_role_are_merged",
    6: "test_golden_06_responses_in_the_order_of_the_calls",
    7: "test_golden_07_forms_of_results",
    8: "test_golden_08_a_missing_result_is_filled_in",
    9: (
        "test_golden_09_claudes_signatures_are_left_out",
        "test_golden_09_signatures_are_found",
        "test_golden_09_the_sentinel_where_a_signature_is_required",
        "test_golden_09_a_real_signature_on_a_sibling_stays_there",
        "test_golden_09_what_is_no_base64_counts_as_missing",
    ),
}


# ── the order of turns ─────────────────────────────────────────────────────────────────────────────────


def test_golden_02_instructions_from_anywhere():
    body = sent({"messages": [system("A"), user("Hi"), system("B"), system("C", "developer"), user("Ho")]})
    assert body["systemInstruction"] == {"parts": [{"text": "A"}, {"text": "B"}, {"text": "C"}]}
    assert body["contents"] == [says("user", "Hi", "Ho")]


def test_golden_03_only_instructions():
    body = sent({"messages": [system("A")]})
    assert body == {"contents": [says("user", " ")], "systemInstruction": {"parts": [{"text": "A"}]}}


def test_golden_04_the_model_first():
    expected = [says("user", ""), says("model", "Hello"), says("user", "Hi")]
    assert contents(assistant("Hello"), user("Hi")) == expected


def test_golden_05_turns_of_one_role_are_merged():
    assert contents(user("A"), user("B")) == [says("user", "A", "B")]
    history = (user("A"), assistant("B"), assistant("C"), user("D"))
    assert contents(*history)[1] == says("model", "B", "C")


A, B = call("a", "f", '{"x":1}'), call("b", "g", "")


def response(call_id: str, name: str, value: Any) -> dict[str, Any]:
    return {"functionResponse": {"id": call_id, "name": name, "response": value}}


def test_golden_06_responses_in_the_order_of_the_calls():
    found = contents(user("Go"), assistant("", A, B), tool("b", "2"), tool("a", "1"), user("Then?"))
    assert found == [
        says("user", "Go"),
        {
            "role": "model",
            "parts": [
                {"functionCall": {"id": "a", "name": "f", "args": {"x": 1}}},
                {"functionCall": {"id": "b", "name": "g", "args": {}}},
            ],
        },
        {"role": "user", "parts": [response("a", "f", {"output": "1"}), response("b", "g", {"output": "2"})]},
        says("user", "Then?"),
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[1,2]", {"output": "[1,2]"}),
        ("ok", {"output": "ok"}),
        ("", {"output": ""}),
        ('{"a":1}', {"a": 1}),
        ('{"$ref":"x"}', {"output": '{"$ref":"x"}'}),
        ('{"a":[{"$ref":1}]}', {"output": '{"a":[{"$ref":1}]}'}),
        ('{"a":"$ref"}', {"a": "$ref"}),
        ('{"a":1e999}', {"output": '{"a":1e999}'}),
        ([{"type": "text", "text": "x"}, {"type": "text", "text": "y"}], {"output": "x\ny"}),
    ],
)
def test_golden_07_forms_of_results(content: Any, expected: Any):
    found = contents(user("Go"), assistant(None, A), tool("a", content))
    assert found[-1]["parts"] == [response("a", "f", expected)]


def test_golden_08_a_missing_result_is_filled_in():
    found = contents(user("Go"), assistant(None, A, B), tool("a", "1"), user("Then?"))
    assert found[2]["parts"] == [response("a", "f", {"output": "1"}), response("b", "g", MISSING_RESULT)]
    assert found[3] == says("user", "Then?")


def test_what_the_user_says_between_calls_and_results_waits():
    found = contents(user("Go"), assistant(None, A), user("Quick!"), tool("a", "1"))
    assert [content["role"] for content in found] == ["user", "model", "user", "user"]
    assert found[2]["parts"] == [response("a", "f", {"output": "1"})]
    assert found[3] == says("user", "Quick!")


def test_calls_spread_over_messages_are_one_turn():
    found = contents(user("Go"), assistant(None, A), assistant(None, B), tool("b", "2"), tool("a", "1"))
    assert [next(iter(part)) for part in found[1]["parts"]] == ["functionCall", "functionCall"]
    assert found[2]["parts"] == [response("a", "f", {"output": "1"}), response("b", "g", {"output": "2"})]


def test_a_result_without_its_call_becomes_text():
    assert contents(tool("gone", "18 degrees"), user("And?")) == [says("user", "18 degrees", "And?")]
    twice = contents(user("Go"), assistant(None, A), tool("a", "1"), tool("a", "2"))
    assert twice[2]["parts"] == [response("a", "f", {"output": "1"})]
    assert twice[3] == says("user", "2")


def test_a_turn_of_the_model_at_the_end():
    """Older generations continue it; generation 4 refuses it, so it is asked to."""
    history = {"messages": [user("Go"), assistant("Once upon")]}
    assert sent(history, "gemini-3.8-flash")["contents"][-1] == says("model", "Once upon")
    for model in ("gemini-4-argon", "gemini-9-x"):
        found = sent(history, model)["contents"]
        assert found[1:] == [says("model", "Once upon"), says("user", "Continue.")]
    unanswered = {"messages": [user("Go"), assistant(None, A)]}
    assert sent(unanswered, "gemini-4-argon")["contents"][-1]["role"] == "user"


def test_a_blank_turn_of_the_user_stays_one():
    """Without it the model would be asked to go on with what it said itself."""
    said = (user("q"), assistant("c"))
    assert contents(*said, user("")) == [says("user", "q"), says("model", "c"), says("user", " ")]
    assert contents(*said, user([{"type": "text", "text": ""}]), assistant("d"))[2:] == [
        says("user", " "),
        says("model", "d"),
    ]
    assert contents(user(""), user("q")) == [says("user", "q")]
    interrupted = contents(user("Go"), assistant(None, A), user(""), assistant(None, B), tool("b", "2"))
    assert [content["role"] for content in interrupted] == ["user", "model", "user", "model", "user"]
    assert contents(user("Go"), assistant(None, A), tool("a", "1"), user(""))[2:] == [
        {"role": "user", "parts": [response("a", "f", {"output": "1"})]}
    ]


def test_what_does_not_fit_in_a_result_stands_after_it():
    """Addresses, and types that the API does not take there."""
    linked = image("https://a.example/x.png")
    moving = image("data:image/gif;base64,AAAA")
    found = contents(user("Go"), assistant(None, A), tool("a", [linked, moving]))
    assert found[2]["parts"] == [response("a", "f", {"output": ""})]
    parts = [remote("image/png", "https://a.example/x.png"), inline("image/gif", "AAAA")]
    assert found[3] == {"role": "user", "parts": parts}


def test_older_models_get_no_ids_and_no_pictures_inside_results():
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    history = (user("Go"), assistant(None, A), tool("a", [{"type": "text", "text": "look"}, picture]))
    inline = {"inlineData": {"mimeType": "image/png", "data": PNG}}
    old = contents(*history, model="gemini-2.5-flash")
    assert old[1]["parts"] == [{"functionCall": {"name": "f", "args": {"x": 1}}}]
    assert old[2]["parts"] == [{"functionResponse": {"name": "f", "response": {"output": "look"}}}]
    assert old[3] == {"role": "user", "parts": [inline]}
    new = contents(*history)
    assert new[2]["parts"][0]["functionResponse"]["parts"] == [inline]
    assert len(new) == 3


def test_gemma_reads_instructions_as_the_users_words():
    body = sent({"messages": [user("Hi"), system("Be brief.")]}, "gemma-4-27b-it")
    assert body == {"contents": [says("user", "Be brief.", "Hi")]}


# ── signatures ─────────────────────────────────────────────────────────────────────────────────────────

SIG = "U0lHTkFUVVJF"


def conventions() -> dict[str, dict[str, Any]]:
    inside = {"type": "function", "id": "a"}
    named = {"name": "f", "arguments": ""}
    plain = {**inside, "function": named}
    return {
        "extra_content": assistant(None, {**plain, "extra_content": {"google": {"thought_signature": SIG}}}),
        "provider_fields": assistant(None, {**plain, "provider_specific_fields": {"thought_signature": SIG}}),
        "provider_fields_of_the_function": assistant(
            None,
            {**inside, "function": {**named, "provider_specific_fields": {"thought_signature": SIG}}},
        ),
        "function": assistant(None, {**inside, "function": {**named, "thought_signature": SIG}}),
        "id": assistant(None, {**plain, "id": f"a__thought__{SIG}"}),
        "thinking_blocks": assistant(None, plain, thinking_blocks=[{"type": "thinking", "signature": SIG}]),
    }


@pytest.mark.parametrize("thought", ["I look.", ""])
def test_golden_09_claudes_signatures_are_left_out(thought: str):
    """They would cost a refused call in every turn after a failover."""
    block = {"type": "thinking", "thinking": thought, "signature": SIG}
    redacted = {"type": "redacted_thinking", "data": SIG}
    found = contents(user("Go"), assistant(None, A, thinking_blocks=[redacted, block]), tool("a", "1"))
    assert found[1]["parts"][0]["thoughtSignature"] == SENTINEL


@pytest.mark.parametrize("convention", conventions())
def test_golden_09_signatures_are_found(convention: str):
    message = conventions()[convention]
    call_id = message["tool_calls"][0]["id"]
    message["tool_calls"].append(call("b", "g", ""))
    found = contents(user("Go"), message, tool(call_id, "1"), tool("b", "2"))
    assert found[1]["parts"] == [
        {"functionCall": {"id": "a", "name": "f", "args": {}}, "thoughtSignature": SIG},
        {"functionCall": {"id": "b", "name": "g", "args": {}}},
    ]
    assert [part["functionResponse"]["id"] for part in found[2]["parts"]] == ["a", "b"]


def test_golden_09_the_sentinel_where_a_signature_is_required():
    """On the first call of each turn of the current tool loop, and on no sibling."""
    loop = (
        user("Before"),
        assistant(None, call("z", "f", "")),
        tool("z", "0"),
        user("Go"),
        assistant("I look.", A, B),
        tool("a", "1"),
        tool("b", "2"),
        assistant(None, call("c", "f", "")),
        tool("c", "3"),
    )
    signed = [
        [part.get("thoughtSignature") for part in content["parts"] if "functionCall" in part]
        for content in contents(*loop)
        if content["role"] == "model"
    ]
    assert signed == [[None], [SENTINEL, None], [SENTINEL]]
    assert b"thoughtSignature" not in build({"messages": list(loop)}, "gemini-2.5-flash").body


def test_golden_09_a_real_signature_on_a_sibling_stays_there():
    second = {**B, "extra_content": {"google": {"thought_signature": SIG}}}
    found = contents(user("Go"), assistant(None, A, second), tool("a", "1"), tool("b", "2"))
    assert [part["thoughtSignature"] for part in found[1]["parts"]] == [SENTINEL, SIG]


@pytest.mark.parametrize("bad", ["", "no base64!", "abcde", 7, None, "ab=c", {"a": 1}])
def test_golden_09_what_is_no_base64_counts_as_missing(bad: Any):
    signed = {**A, "extra_content": {"google": {"thought_signature": bad}}}
    found = contents(user("Go"), assistant(None, signed), tool("a", "1"))
    assert found[1]["parts"][0]["thoughtSignature"] == SENTINEL


def test_a_text_signature_stays_on_the_text():
    extra = {"google": {"thought_signature": SIG}}
    found = contents(user("Go"), assistant("Yes.", extra_content=extra), user("And?"))
    assert found[1]["parts"] == [{"text": "Yes.", "thoughtSignature": SIG}]
    found = contents(user("Go"), assistant("", extra_content=extra), user("And?"))
    assert found[1]["parts"] == [{"text": "", "thoughtSignature": SIG}]


REFUSED = (
    "Corrupted thought signature.",
    "Function call is missing a thought_signature in functionCall parts. This is required for tools.",
)


@pytest.mark.parametrize("message", REFUSED)
def test_refused_signatures_are_replaced_once(message: str):
    signed = {**A, "extra_content": {"google": {"thought_signature": SIG}}}
    text_signed = {"extra_content": {"google": {"thought_signature": SIG}}}
    history = [user("Go"), assistant("Well", signed, B, **text_signed), tool("a", "1"), user("So?")]
    body = {"messages": history}
    talk = PROVIDER.conversation(PROVIDER, request(body, FLASH), CONTEXT)
    assert SIG in next(talk).body.decode()
    again = msgspec.json.decode(talk.throw(refused(message)).body)
    assert again["contents"][1]["parts"] == [
        {"text": "Well"},
        {"functionCall": {"id": "a", "name": "f", "args": {"x": 1}}, "thoughtSignature": SENTINEL},
        {"functionCall": {"id": "b", "name": "g", "args": {}}},
    ]
    with pytest.raises(UpstreamError, match="thought"):
        talk.throw(refused(message))


def refused(message: str) -> UpstreamError:
    body = {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}
    return gemini.parse_error(400, {}, msgspec.json.encode(body))


def test_other_errors_and_nothing_to_replace_end_the_conversation():
    for messages, error in (
        ([user("Go"), assistant(None, A), tool("a", "1")], refused("Invalid value")),
        ([user("Go")], refused(REFUSED[0])),
    ):
        talk = PROVIDER.conversation(PROVIDER, request({"messages": messages}, FLASH), CONTEXT)
        next(talk)
        with pytest.raises(UpstreamError) as caught:
            talk.throw(error)
        assert caught.value is error


def test_one_answered_call_ends_the_conversation():
    talk = PROVIDER.conversation(PROVIDER, request({"messages": [user("Hi")]}, FLASH), CONTEXT)
    next(talk)
    with pytest.raises(StopIteration):
        next(talk)


# ── the rules of order, for any history ────────────────────────────────────────────────────────────────

IDS = st.sampled_from(["a", "b", "c", "d", ""])
TEXTS = st.sampled_from(["", "x", "é", "{}", '{"a":1}', '{"$ref":"a"}'])
PARTS = st.lists(
    st.one_of(
        TEXTS.map(lambda text: {"type": "text", "text": text}),
        st.just(image(f"data:image/png;base64,{PNG}")),
    ),
    max_size=3,
)
CALLS = st.lists(IDS.map(lambda i: call(i, f"f_{i}", "{}")), max_size=3)
MESSAGES = st.one_of(
    TEXTS.map(system),
    st.one_of(TEXTS, PARTS).map(user),
    st.tuples(st.none() | TEXTS, CALLS).map(lambda x: assistant(x[0], *x[1])),
    st.tuples(IDS, st.one_of(TEXTS, PARTS)).map(lambda x: tool(*x)),
)
MODELS = st.sampled_from(["gemini-2.0-flash", "gemini-2.5-pro", FLASH, "gemini-4-neon", "gemma-4-x"])


def check_order(found: list[dict[str, Any]], model: str) -> None:
    """The API's rules, written down a second time."""
    assert found
    assert found[0]["role"] == "user"
    previous: dict[str, Any] | None = None
    for position, content in enumerate(found):
        parts, role = content["parts"], content["role"]
        assert parts
        assert role in ("user", "model")
        kinds = {"response" if "functionResponse" in part else "other" for part in parts}
        assert len(kinds) == 1, "responses stand alone"
        is_response = kinds == {"response"}
        calls = calls_in(previous)
        assert is_response == bool(calls), "responses follow calls at once, and nothing else"
        if is_response:
            answers = [part["functionResponse"] for part in parts]
            assert [(a.get("id"), a["name"]) for a in answers] == [(c.get("id"), c["name"]) for c in calls]
            assert all(isinstance(a["response"], dict) for a in answers)
        elif previous is not None and previous["role"] == role:
            assert "functionResponse" in previous["parts"][0], "turns of one kind are merged"
        for part in parts:
            empty = part.get("text") == "" and "thoughtSignature" not in part
            assert not empty or position == 0
        previous = content
    assert not calls_in(previous), "every call is answered"
    check_signatures(found, model)


def calls_in(content: dict[str, Any] | None) -> list[dict[str, Any]]:
    return [part["functionCall"] for part in content["parts"] if "functionCall" in part] if content else []


def check_signatures(found: list[dict[str, Any]], model: str) -> None:
    loop = True
    for content in reversed(found):
        if content["role"] == "user" and "functionResponse" not in content["parts"][0]:
            loop = False
        signed = ["thoughtSignature" in part for part in content["parts"] if "functionCall" in part]
        needed = loop and model.startswith(("gemini-3", "gemini-4"))
        assert signed == [needed and i == 0 for i in range(len(signed))]


def check_speakers(found: list[dict[str, Any]], messages: list[dict[str, Any]], model: str) -> None:
    """Who spoke after whom, and last: no turn of the user's is lost, be it blank."""
    turns: list[tuple[str, bool]] = []  # the role, and whether calls wait for results
    for message in messages:
        if message["role"] == "assistant" and (message["content"] or message.get("tool_calls")):
            begun = turns.pop() if turns and turns[-1][0] == "model" else ("model", False)
            turns.append(("model", begun[1] or bool(message.get("tool_calls"))))
        elif message["role"] in ("user", "tool") and turns[-1:] != [("user", False)]:
            turns.append(("user", False))
    if not turns or turns[0][0] == "model":
        turns.insert(0, ("user", False))
    if turns[-1] == ("model", True) or (turns[-1][0] == "model" and model == "gemini-4-neon"):
        turns.append(("user", False))
    assert [role for role, _ in groupby(found, lambda content: content["role"])] == [r for r, _ in turns]


@given(st.lists(MESSAGES, min_size=1, max_size=12), MODELS)
def test_any_history_obeys_the_rules_of_order(messages: list[dict[str, Any]], model: str):
    found = sent({"messages": messages}, model)["contents"]
    check_order(found, model)
    check_speakers(found, messages, model)


@given(st.lists(MESSAGES, min_size=1, max_size=12))
def test_no_result_and_no_word_is_lost(messages: list[dict[str, Any]]):
    for i, message in enumerate(messages):
        if isinstance(message["content"], str):
            message["content"] = f"<{i}>"
    text = msgspec.json.encode(sent({"messages": messages})).decode()
    for i, message in enumerate(messages):
        if isinstance(message["content"], str):
            assert text.count(f"<{i}>") == 1
