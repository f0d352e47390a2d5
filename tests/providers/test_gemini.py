"""Gemini: what requests become. The numbers are those of the golden cases in the notes on its API."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ErrorKind, UpstreamError
from gateway.providers import gemini
from gateway.providers.base import HttpRequest
from gateway.providers.gemini import PROVIDER, build_request
from gateway.providers.gemini.contents import MISSING_RESULT, SENTINEL
from gateway.providers.gemini.models import traits
from gateway.providers.gemini.parts import function_name
from gateway.providers.gemini.requests import GeminiOptions

from .cases import CLOCK, PDF, PNG, WEATHER, call, request, user

FLASH = "gemini-3.8-flash"

DRIVER_CASES = {  # parts of golden cases that no pure provider can show, and who shows them
    20: "the one retry of MALFORMED_FUNCTION_CALL: a repeat is the router's, with retries",
    22: "role chunk, usage chunk and [DONE]: the ingress renders them",
    26: "status 503 and failover, or an error frame after text: router and ingress",
    27: "a body that ends without finish reason: the driver, here only that no chunk says it finished",
    28: "own backoff, no retry, and the redaction of keys: router and driver",
    30: "embeddings are no chat: this provider has no words for them",
    31: "following a continuation token: not offered, CONTINUATION is `length`",
}


def test_every_golden_case_is_here_or_said_to_be_elsewhere():
    sources = "".join(path.read_text() for path in Path(__file__).parent.glob("test_gemini*.py"))
    here = {int(number) for number in re.findall(r"def test_golden_(\d\d)_", sources)}
    assert here | set(DRIVER_CASES) == set(range(1, 32))


def build(body: dict[str, Any], model: str = FLASH) -> HttpRequest:
    return build_request(request(body, model))


def sent(body: dict[str, Any], model: str = FLASH) -> dict[str, Any]:
    return msgspec.json.decode(build(body, model).body)


def contents(*messages: dict[str, Any], model: str = FLASH) -> list[Any]:
    return sent({"messages": list(messages)}, model)["contents"]


def config(body: dict[str, Any], model: str = FLASH) -> dict[str, Any]:
    return sent({"messages": [user("Hi")], **body}, model).get("generationConfig", {})


def refusal(body: dict[str, Any], model: str = FLASH) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        build(body, model)
    assert caught.value.kind is ErrorKind.UNSUPPORTED
    return caught.value


def system(text: str, role: str = "system") -> dict[str, Any]:
    return {"role": role, "content": text}


def assistant(content: Any = None, *calls: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **({"tool_calls": list(calls)} if calls else {}), **more}


def tool(call_id: str, content: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def says(role: str, *texts: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"text": text} for text in texts]}


# ── the frame ──────────────────────────────────────────────────────────────────────────────────────────


def test_golden_01_plain():
    http = build({"messages": [user("Hi")]}, "gemini-x")
    assert msgspec.json.decode(http.body) == {"contents": [says("user", "Hi")]}
    assert (http.method, http.path) == ("POST", "/v1beta/models/gemini-x:generateContent")
    streamed = build({"messages": [user("Hi")], "stream": True}, "gemini-x")
    assert streamed.path == "/v1beta/models/gemini-x:streamGenerateContent?alt=sse"
    assert streamed.stream
    assert PROVIDER.auth("secret") == {"x-goog-api-key": "secret"}


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-x", "models/gemini-x"),
        ("models/gemini-x", "models/gemini-x"),
        ("tunedModels/mine-1", "tunedModels/mine-1"),
        ("gemini x", "models/gemini%20x"),
    ],
)
def test_golden_15_model_paths(model: str, path: str):
    assert build({"messages": [user("Hi")]}, model).path == f"/v1beta/{path}:generateContent"


@pytest.mark.parametrize(
    "model",
    ["../evil", "a/b", "a?b", "a#b", "a:b", "a%2fb", "..", ".", "models/", "models/../x", "tunedModels/../x"],
)
def test_golden_15_models_that_leave_the_path_are_refused(model: str):
    with pytest.raises(UpstreamError) as caught:
        build({"messages": [user("Hi")]}, model)
    assert caught.value.kind is ErrorKind.NOT_FOUND


def test_golden_16_private_fields_stay_here():
    fields = {
        "user": "u-77",
        "metadata": {"m-77": "1"},
        "store": True,
        "logit_bias": {"7777": 1},
        "safety_identifier": "s-77",
        "prompt_cache_key": "k-77",
        "unheard_of": "x-77",
    }
    http = build({"messages": [user("Hi")], **fields})
    assert msgspec.json.decode(http.body) == {"contents": [says("user", "Hi")]}
    assert set(http.dropped) == set(fields)


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
    talk = PROVIDER.conversation(PROVIDER, request(body, FLASH))
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
        talk = PROVIDER.conversation(PROVIDER, request({"messages": messages}, FLASH))
        next(talk)
        with pytest.raises(UpstreamError) as caught:
            talk.throw(error)
        assert caught.value is error


def test_one_answered_call_ends_the_conversation():
    talk = PROVIDER.conversation(PROVIDER, request({"messages": [user("Hi")]}, FLASH))
    next(talk)
    with pytest.raises(StopIteration):
        next(talk)


# ── tools ──────────────────────────────────────────────────────────────────────────────────────────────


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


NAMED = {"type": "function", "function": {"name": "get_time"}}


@pytest.mark.parametrize(
    ("choice", "calling"),
    [
        (None, None),
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        (NAMED, {"mode": "ANY", "allowedFunctionNames": ["get_time"]}),
        (allowed("required", "get_time"), {"mode": "ANY", "allowedFunctionNames": ["get_time"]}),
        (allowed("auto", "get_time"), {"mode": "AUTO"}),
    ],
)
def test_golden_10_tool_choice(choice: Any, calling: Any):
    body = {"messages": [user("Hi")], "tools": [WEATHER, CLOCK], "tool_choice": choice}
    found = sent(body)
    assert found.get("toolConfig") == (calling and {"functionCallingConfig": calling})
    names = [declared["name"] for declared in found["tools"][0]["functionDeclarations"]]
    assert names == (["get_time"] if choice == allowed("auto", "get_time") else ["get_weather", "get_time"])


def test_golden_10_no_choice_without_tools():
    http = build({"messages": [user("Hi")], "tool_choice": "required"})
    assert msgspec.json.decode(http.body) == {"contents": [says("user", "Hi")]}
    assert http.dropped == ("tool_choice",)


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_golden_10_allowed_tools_have_to_name_a_tool(mode: str):
    base = {"messages": [user("Hi")], "tools": [CLOCK]}
    for tools in ([], [{"function": "get_time"}], [{"function": {"name": "gone"}}], [{"name": 3}]):
        choice = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}
        assert refusal({**base, "tool_choice": choice}).param == "tool_choice.allowed_tools"
    some = allowed("required", "gone", "get_time")
    calling = sent({**base, "tool_choice": some})["toolConfig"]["functionCallingConfig"]
    assert calling["allowedFunctionNames"] == ["get_time"]


def test_a_strange_choice_or_tool_is_refused():
    base = {"messages": [user("Hi")], "tools": [CLOCK]}
    assert refusal({**base, "tool_choice": {"type": "mcp"}}).param == "tool_choice.type"
    assert refusal({**base, "tool_choice": "perhaps"}).param == "tool_choice"
    assert refusal({**base, "tools": [CLOCK, {"type": "web_search"}]}).param == "tools[1].type"


@pytest.mark.parametrize(
    ("model", "choice", "mode"),
    [
        (FLASH, None, "VALIDATED"),
        (FLASH, "auto", "VALIDATED"),
        (FLASH, "required", "ANY"),
        ("gemini-2.5-flash", "auto", "VALIDATED"),
        ("gemini-2.0-flash", "auto", "AUTO"),
        ("gemini-3-pro-image", "auto", "AUTO"),
    ],
)
def test_strict_tools_are_validated_where_that_is_known(model: str, choice: str | None, mode: str):
    strict = {"type": "function", "function": {**WEATHER["function"], "strict": True}}
    body = {"messages": [user("Hi")], "tools": [strict, CLOCK], "tool_choice": choice}
    assert sent(body, model)["toolConfig"] == {"functionCallingConfig": {"mode": mode}}


def test_search_beside_functions_is_for_the_third_generation():
    body = {"messages": [user("Hi")], "tools": [CLOCK], "web_search_options": {}}
    found = sent(body)
    assert found["tools"] == [{"functionDeclarations": [{"name": "get_time"}]}, {"googleSearch": {}}]
    assert found["toolConfig"] == {"includeServerSideToolInvocations": True}
    old = build(body, "gemini-2.5-flash")
    assert b"googleSearch" not in old.body
    assert old.dropped == ("web_search_options",)
    alone = build({"messages": [user("Hi")], "web_search_options": {"search_context_size": "low"}})
    assert msgspec.json.decode(alone.body)["tools"] == [{"googleSearch": {}}]
    assert alone.dropped == ("web_search_options",)


def test_search_beside_a_response_format_is_for_the_third_generation():
    body = {
        "messages": [user("Hi")],
        "web_search_options": {},
        "response_format": {"type": "json_object"},
    }
    new = sent(body)
    assert new["tools"] == [{"googleSearch": {}}]
    assert new["generationConfig"] == {"responseMimeType": "application/json"}
    http = build(body, "gemini-2.5-flash")
    old = msgspec.json.decode(http.body)
    assert old["tools"] == [{"googleSearch": {}}]
    assert "generationConfig" not in old
    assert "JSON" in old["systemInstruction"]["parts"][0]["text"]
    assert http.dropped == ("response_format",)


@pytest.mark.parametrize("name", ["get_time", "_x", "a.b:c-d", "x" * 64])
def test_good_names_stay(name: str):
    assert function_name(name) == name


def test_changed_names_stay_apart():
    assert len({function_name(name) for name in ("a b", "a/b", "x" * 65, "x" * 66, "_a_b")}) == 5


@given(st.text(min_size=1, max_size=100), st.text(min_size=1, max_size=100))
def test_any_name_becomes_one_that_is_allowed_and_its_own(one: str, other: str):
    names = [function_name(name) for name in (one, other)]
    for name in names:
        assert 1 <= len(name) <= 64
        assert name[0].isascii()
        assert name[0].isalpha() or name[0] == "_"
        assert all(c.isascii() and (c.isalnum() or c in "_.:-") for c in name)
    assert (one == other) == (names[0] == names[1])


# ── generationConfig ───────────────────────────────────────────────────────────────────────────────────

PERSON = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Person",
    "type": "object",
    "$defs": {
        "Street": {"title": "Street", "type": "object", "properties": {"title": {"type": "string"}}},
        "Home": {"type": "object", "properties": {"street": {"$ref": "#/$defs/Street"}}},
    },
    "properties": {"kind": {"const": "person", "title": "Kind"}, "home": {"$ref": "#/$defs/Home"}},
    "required": ["kind"],
}
CLEAN_PERSON = {
    "type": "object",
    "properties": {"kind": {"type": "string", "enum": ["person"]}, "home": {"$ref": "#/$defs/Home"}},
    "required": ["kind"],
    "$defs": {
        "Street": {"type": "object", "properties": {"title": {"type": "string"}}},
        "Home": {"type": "object", "properties": {"street": {"$ref": "#/$defs/Street"}}},
    },
}


def form(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}


def test_golden_11_response_schema():
    assert config({"response_format": form(PERSON)}) == {
        "responseMimeType": "application/json",
        "responseJsonSchema": CLEAN_PERSON,
    }


def test_golden_11_schema_and_tools():
    body = {"messages": [system("Be kind."), user("Hi")], "tools": [CLOCK], "response_format": form(PERSON)}
    both = sent(body)
    assert both["generationConfig"]["responseJsonSchema"] == CLEAN_PERSON
    assert both["tools"]
    http = build(body, "gemini-2.5-flash")
    old = msgspec.json.decode(http.body)
    assert "generationConfig" not in old
    assert old["systemInstruction"]["parts"][0] == {"text": "Be kind."}
    assert '"const":"person"' in old["systemInstruction"]["parts"][1]["text"]
    assert http.dropped == ("response_format",)
    plain = {**body, "response_format": {"type": "json_object"}}
    assert "JSON" in sent(plain, "gemini-2.5-flash")["systemInstruction"]["parts"][1]["text"]


def test_older_models_have_the_other_schema_channel():
    schema = {"type": "object", "properties": {"b": {"type": ["string", "null"]}, "a": {"$ref": "#/$defs/A"}}}
    schema |= {"$defs": {"A": {"type": "array"}}, "additionalProperties": False}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}, CLOCK]
    expected = {
        "type": "object",
        "properties": {
            "b": {"type": "string", "nullable": True},
            "a": {"type": "array", "items": {"type": "string"}},
        },
        "propertyOrdering": ["b", "a"],
    }
    found = sent({"messages": [user("Hi")], "tools": tools}, "gemini-2.0-flash")
    declared = found["tools"][0]["functionDeclarations"]
    assert declared == [{"name": "f", "parameters": expected}, {"name": "get_time"}]
    assert config({"response_format": form(schema)}, "gemini-2.0-flash")["responseSchema"] == expected
    anything = config({"response_format": form({"type": "object"})}, "gemini-2.0-flash")
    assert anything == {"responseMimeType": "application/json"}
    word = config({"response_format": form({"type": "string"})}, "gemini-2.0-flash")
    assert word["responseSchema"] == {"type": "string"}


@pytest.mark.parametrize("parameters", [{}, {"type": "object"}, {"type": "object", "properties": {}}])
def test_a_function_without_parameters_has_no_schema(parameters: dict[str, Any]):
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    assert sent({"messages": [user("Hi")], "tools": tools})["tools"] == [
        {"functionDeclarations": [{"name": "f"}]}
    ]


EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")
LOW, MEDIUM, HIGH, XHIGH, MINIMAL = ("LOW", "MEDIUM", "HIGH", "XHIGH", "MINIMAL")
THINKING: dict[str, tuple[int | str | None, ...]] = {  # model → what each effort becomes
    "gemini-2.5-flash": (0, 512, 1024, 8192, 24576, 24576),
    "gemini-2.5-pro": (128, 512, 1024, 8192, 24576, 24576),
    "gemini-2.5-flash-lite": (0, 512, 1024, 8192, 24576, 24576),
    "gemini-3-pro-preview": (LOW, LOW, LOW, LOW, HIGH, HIGH),
    "gemini-3.1-flash-lite-image": (MINIMAL, MINIMAL, MINIMAL, HIGH, HIGH, HIGH),
    "gemini-3-flash-preview": (MINIMAL, MINIMAL, LOW, MEDIUM, HIGH, HIGH),
    "gemini-3.5-flash-lite": (MINIMAL, MINIMAL, LOW, MEDIUM, HIGH, HIGH),
    "gemini-3.1-pro-preview": (LOW, LOW, LOW, MEDIUM, HIGH, HIGH),
    "gemini-3.8-flash": (LOW, LOW, LOW, MEDIUM, HIGH, HIGH),
    "gemini-4-argon": (LOW, LOW, LOW, MEDIUM, HIGH, HIGH),
    "gemini-4-neon": (LOW, LOW, LOW, MEDIUM, HIGH, XHIGH),
    "gemini-9-x": (LOW, LOW, LOW, MEDIUM, HIGH, HIGH),
    "gemini-flash-latest": (LOW, LOW, LOW, MEDIUM, HIGH, HIGH),
    "gemini-2.0-flash": (None,) * 6,
    "gemini-2.5-flash-image": (None,) * 6,
    "gemma-4-27b-it": (None,) * 6,
}
SNAPPED = {  # efforts that the model has not, and which are therefore named to the client
    "gemini-2.5-flash": {"xhigh"},
    "gemini-2.5-pro": {"none", "xhigh"},
    "gemini-3-flash-preview": {"none", "xhigh"},
    "gemini-3.8-flash": {"none", "minimal", "xhigh"},
    "gemini-4-neon": {"none", "minimal"},
    "gemini-2.0-flash": {"minimal", "low", "medium", "high", "xhigh"},
}


@pytest.mark.parametrize("model", THINKING)
def test_golden_12_reasoning_effort(model: str):
    for effort, setting in zip(EFFORTS, THINKING[model], strict=True):
        http = build({"messages": [user("Hi")], "reasoning_effort": effort}, model)
        found = msgspec.json.decode(http.body).get("generationConfig")
        if setting is None:
            assert found is None
        else:
            name = "thinkingBudget" if isinstance(setting, int) else "thinkingLevel"
            shown = {} if effort == "none" else {"includeThoughts": True}
            assert found == {"thinkingConfig": {name: setting, **shown}}
        if model in SNAPPED:
            assert http.dropped == (("reasoning_effort",) if effort in SNAPPED[model] else ())


def test_an_unknown_effort_is_refused():
    assert refusal({"messages": [user("Hi")], "reasoning_effort": "warp"}).param == "reasoning_effort"


def test_golden_13_limits_and_sampling():
    assert config({"max_tokens": 5, "max_completion_tokens": 7}) == {"maxOutputTokens": 7}
    assert config({"max_tokens": 5}) == {"maxOutputTokens": 5}
    http = build({"messages": [user("Hi")], "stop": ["1", "", "2", "3", "4", "5", "6"]})
    stops = msgspec.json.decode(http.body)["generationConfig"]["stopSequences"]
    assert stops == ["1", "2", "3", "4", "5"]
    assert http.dropped == ("stop",)
    assert config({"stop": "END"}) == {"stopSequences": ["END"]}
    assert config({"n": 1, "presence_penalty": 0, "frequency_penalty": 0, "stop": ""}) == {}
    assert config({"temperature": 0, "top_p": 0.5, "top_k": 40, "seed": 7}) == {
        "temperature": 0,
        "topP": 0.5,
        "topK": 40,
        "seed": 7,
    }
    assert config({"logprobs": True, "top_logprobs": 3}) == {"responseLogprobs": True, "logprobs": 3}


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_golden_13_a_limit_over_the_models_is_the_models(field: str):
    """The API refuses it; for long decodes it is a budget, and others' limits nobody knows."""
    for model in (FLASH, "gemini-2.5-pro", "gemini-4-carbon"):
        http = build({"messages": [user("Hi")], field: 65_537}, model)
        assert msgspec.json.decode(http.body)["generationConfig"] == {"maxOutputTokens": 65_536}
        assert http.dropped == (field,)
        assert build({"messages": [user("Hi")], field: 65_536}, model).dropped == ()
    for model in ("gemini-4-argon", "gemini-4-neon", "gemini-9-flash", "gemini-2.0-flash"):
        http = build({"messages": [user("Hi")], field: 200_000}, model)
        assert msgspec.json.decode(http.body)["generationConfig"] == {"maxOutputTokens": 200_000}
        assert http.dropped == ()


def test_golden_13_what_cannot_be_said():
    assert refusal({"messages": [user("Hi")], "n": 2}).param == "n"
    big = build({"messages": [user("Hi")], "seed": 2**40})
    assert b"seed" not in big.body
    assert big.dropped == ("seed",)


def test_golden_13_penalties_by_generation():
    body = {"messages": [user("Hi")], "presence_penalty": 0.5, "frequency_penalty": -0.5}
    old = build(body, "gemini-2.0-flash")
    found = msgspec.json.decode(old.body)["generationConfig"]
    assert found == {"presencePenalty": 0.5, "frequencyPenalty": -0.5}
    for model in ("gemini-2.5-flash", FLASH, "gemini-4-neon", "gemini-9-x", "gemma-4-27b-it"):
        http = build(body, model)
        assert b"enalty" not in http.body
        assert http.dropped == ("presence_penalty", "frequency_penalty")


@pytest.mark.parametrize(
    ("tier", "native", "lost"),
    [
        ("auto", None, ()),
        ("default", "standard", ()),
        ("flex", "flex", ()),
        ("priority", "priority", ()),
        ("scale", None, ("service_tier",)),
    ],
)
def test_service_tiers(tier: str, native: str | None, lost: tuple[str, ...]):
    http = build({"messages": [user("Hi")], "service_tier": tier})
    assert msgspec.json.decode(http.body).get("serviceTier") == native
    assert http.dropped == lost


def test_pictures_as_answers_but_no_sound():
    assert config({"modalities": ["text", "image"]}, "gemini-3-pro-image") == {
        "responseModalities": ["TEXT", "IMAGE"]
    }
    assert config({"modalities": ["text"]}) == {}
    assert refusal({"messages": [user("Hi")], "modalities": ["text", "audio"]}).param == "modalities"


# ── parts ──────────────────────────────────────────────────────────────────────────────────────────────


def image(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def inline(media_type: str, data: str) -> dict[str, Any]:
    return {"inlineData": {"mimeType": media_type, "data": data}}


def remote(media_type: str, uri: str) -> dict[str, Any]:
    return {"fileData": {"mimeType": media_type, "fileUri": uri}}


FILES_API = "https://generativelanguage.googleapis.com/v1beta/files/abc"


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (image("data:image/png;charset=utf-8;base64,AAAA"), inline("image/png", "AAAA")),
        (image("data:image/jpg;base64,AAAA"), inline("image/jpeg", "AAAA")),
        (image("https://a.example/x.PNG?y=1"), remote("image/png", "https://a.example/x.PNG?y=1")),
        (image("https://a.example/x"), remote("image/jpeg", "https://a.example/x")),
        (image("https://a.example/x.pdf#y"), remote("application/pdf", "https://a.example/x.pdf#y")),
        (image("https://[bad"), remote("image/jpeg", "https://[bad")),
        (
            image("https://a.example/x.webp", detail="low"),
            {
                **remote("image/webp", "https://a.example/x.webp"),
                "mediaResolution": {"level": "MEDIA_RESOLUTION_LOW"},
            },
        ),
        (image("https://a.example/x.gif", detail="auto"), remote("image/gif", "https://a.example/x.gif")),
        (
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            inline("audio/wav", "AAAA"),
        ),
        (
            {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}"}},
            inline("application/pdf", PDF),
        ),
        (
            {"type": "file", "file": {"file_data": "https://a.example/x", "filename": "a.csv"}},
            remote("text/csv", "https://a.example/x"),
        ),
        ({"type": "file", "file": {"file_id": FILES_API}}, remote("application/pdf", FILES_API)),
    ],
)
def test_golden_14_media(part: dict[str, Any], expected: dict[str, Any]):
    assert contents(user([part, {"type": "text", "text": ""}])) == [{"role": "user", "parts": [expected]}]


@pytest.mark.parametrize(
    ("part", "path"),
    [
        (image("http://a.example/x.png"), "messages[0].content[0].image_url.url"),
        (image("data:image/png,plain"), "messages[0].content[0].image_url.url"),
        ({"type": "file", "file": {"file_id": "file-abc"}}, "messages[0].content[0].file"),
        ({"type": "file", "file": {"file_data": "data:x,y"}}, "messages[0].content[0].file.file_data"),
        ({"type": "file", "file": {"file_data": "AAAA"}}, "messages[0].content[0].file.file_data"),
        ({"type": "hologram"}, "messages[0].content[0]"),
    ],
)
def test_golden_14_media_that_cannot_be_said(part: dict[str, Any], path: str):
    assert refusal({"messages": [user([part])]}).param == path


def test_golden_14_oldest_models_fetch_nothing_and_have_one_resolution():
    body = {"messages": [user([image("https://a.example/x.png")])]}
    assert refusal(body, "gemini-2.0-flash").param == "messages[0].content[0].image_url.url"
    low = image("https://a.example/x.png", detail="low")
    assert "mediaResolution" not in contents(user([low]), model="gemini-2.5-flash")[0]["parts"][0]


def test_pictures_in_instructions_are_refused():
    picture = image(f"data:image/png;base64,{PNG}")
    body = {"messages": [{"role": "system", "content": [picture]}, user("Hi")]}
    assert refusal(body).param == "messages[0].content"


def test_parts_of_an_assistant_stay_apart():
    parts = [
        {"type": "text", "text": "A"},
        {"type": "refusal", "refusal": "No."},
        {"type": "text", "text": ""},
    ]
    assert contents(user("Go"), assistant(parts), user("?"))[1] == says("model", "A", "No.")
    assert contents(user("Go"), assistant(None, refusal="No."), user("?"))[1] == says("model", "No.")
    both = assistant("Well.", refusal="No.")
    assert contents(user("Go"), both, user("?"))[1] == says("model", "Well.", "No.")


def test_pictures_of_an_assistant_are_refused():
    parts = [{"type": "text", "text": "A"}, image(f"data:image/png;base64,{PNG}")]
    body = {"messages": [user("Go"), assistant(parts), user("?")]}
    assert refusal(body).param == "messages[1].content[1]"


def test_an_unknown_response_format_is_refused():
    body = {"messages": [user("Hi")], "response_format": {"type": "grammar"}}
    assert refusal(body).param == "response_format.type"
    assert config({"response_format": {"type": "text"}}) == {}


def test_custom_calls_of_another_providers_turn_are_said_as_functions():
    custom = {"id": "c", "type": "custom", "custom": {"name": "shell", "input": "ls"}}
    found = contents(user("Go"), assistant(None, custom), tool("c", "x"))
    assert found[1]["parts"][0]["functionCall"] == {"id": "c", "name": "shell", "args": {"input": "ls"}}
    strange = {"id": "c", "type": "mcp"}
    assert refusal({"messages": [assistant(None, strange)]}).param == "messages[0].tool_calls[0]"


def test_things_nested_too_deeply_are_refused_not_a_crash():
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(600):
        schema = {"type": "array", "items": schema}
    body = {"messages": [user("Hi")], "response_format": form(schema)}
    assert refusal(body).kind is ErrorKind.UNSUPPORTED


# ── options, Google's own fields, models ───────────────────────────────────────────────────────────────


def test_options_are_in_every_request():
    configured = PROVIDER.configure
    assert configured is not None
    options = GeminiOptions(
        api_version="v1",
        safety_settings={"HARM_CATEGORY_HARASSMENT": "BLOCK_NONE"},
        include_thoughts=True,
    )
    provider = configured(options)
    chat = request({"messages": [user("Hi")]}, FLASH)
    http = provider.build_request(chat)
    assert http.path == f"/v1/models/{FLASH}:generateContent"
    assert msgspec.json.decode(http.body) == {
        "contents": [says("user", "Hi")],
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "generationConfig": {"thinkingConfig": {"includeThoughts": True}},
    }
    assert next(provider.conversation(provider, chat)) == http
    assert b"thinking" not in provider.build_request(request({"messages": [user("Hi")]}, "gemma-4")).body
    assert provider.models_request.path == "/v1/models?pageSize=1000"
    following = provider.parse_models(b'{"models":[],"nextPageToken":"a b&c"}').following
    assert following is not None
    assert following.path == "/v1/models?pageSize=1000&pageToken=a%20b%26c"


@pytest.mark.parametrize("version", ["", "../v1", "v1/..", "beta", "v1\n"])
def test_only_versions_are_versions(version: str):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"api_version": version}, GeminiOptions)


@pytest.mark.parametrize("wrap", [lambda g: {"google": g}, lambda g: {"extra_body": {"google": g}}])
def test_googles_own_fields_under_a_whitelist(wrap: Any):
    own = {
        "thinking_config": {"thinking_budget": 99, "includeThoughts": False},
        "cached_content": "cachedContents/x",
        "safetySettings": [{"category": "c", "threshold": "t"}],
    }
    http = build({"messages": [user("Hi")], **wrap(own)})
    assert http.dropped == ()
    assert msgspec.json.decode(http.body) == {
        "contents": [says("user", "Hi")],
        "generationConfig": {"thinkingConfig": {"thinkingBudget": 99, "includeThoughts": False}},
        "cachedContent": "cachedContents/x",
        "safetySettings": [{"category": "c", "threshold": "t"}],
    }
    refused = build({"messages": [user("Hi")], **wrap({**own, "contents": []})})
    assert msgspec.json.decode(refused.body) == {"contents": [says("user", "Hi")]}
    assert len(refused.dropped) == 1
    effort = build({"messages": [user("Hi")], "reasoning_effort": "high", **wrap(own)})
    assert b'"thinkingConfig":{"thinkingBudget":99,"includeThoughts":false}' in effort.body
    assert effort.dropped == ("reasoning_effort",)


def test_other_extra_fields_are_named():
    http = build({"messages": [user("Hi")], "extra_body": {"google": {"cached_content": "c"}, "x": 1}})
    assert msgspec.json.decode(http.body) == {"contents": [says("user", "Hi")]}
    assert http.dropped == ("extra_body",)


def test_models_that_can_chat_are_listed():
    page = gemini.parse_models(
        msgspec.json.encode(
            {
                "models": [
                    {
                        "name": "models/gemini-3.8-flash",
                        "inputTokenLimit": 1048576,
                        "outputTokenLimit": 65536,
                        "supportedGenerationMethods": ["generateContent", "countTokens"],
                    },
                    {
                        "name": "models/gemini-embedding-001",
                        "supportedGenerationMethods": ["embedContent"],
                    },
                    {"name": "models/unsaid"},
                ]
            }
        )
    )
    assert [(m.id, m.owned_by, m.context_window, m.max_output) for m in page.models] == [
        ("gemini-3.8-flash", "google", 1048576, 65536)
    ]
    assert page.following is None
    assert PROVIDER.models_request.path == "/v1beta/models?pageSize=1000"


def test_capabilities():
    main = PROVIDER.capabilities(FLASH)
    assert (main.context_window, main.max_output) == (1_048_576, 65_536)
    assert "n" not in main.features
    assert {"tools", "images", "json_schema"} <= main.features
    assert PROVIDER.capabilities("gemini-2.5-flash-image").context_window is None


@pytest.mark.parametrize(
    ("model", "generation"),
    [
        ("gemini-2.5-flash", (2, 5)),
        ("gemini-3-flash-preview", (3, 0)),
        ("gemini-4-argon", (4, 0)),
        ("gemini-12.3-x", (12, 3)),
        ("gemini-flash-latest", (99, 0)),
        ("gemma-3-27b-it", (0, 0)),
        ("learnlm-3", (99, 0)),
    ],
)
def test_generations_are_read_from_the_id(model: str, generation: tuple[int, int]):
    """Not from a digit anywhere in the name."""
    assert traits(model).generation == generation


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
