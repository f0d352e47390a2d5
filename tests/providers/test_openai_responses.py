"""OpenAI's Responses API: when a request goes there, and what it becomes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from openai import AsyncOpenAI

from gateway.chat import ChatRequest
from gateway.errors import ErrorKind, UpstreamError
from gateway.providers import PROVIDERS
from gateway.providers.base import HttpRequest
from gateway.providers.openai import family
from gateway.providers.openai.responses import build_request
from gateway.simulator import Fault, Simulator, Turn
from gateway.simulator import ToolCall as Called
from gateway.simulator.openai_responses import generation

from ..e2e.conftest import pointed_at, serving
from .cases import CASES, CLOCK, CONTEXT, PDF, PNG, SAMPLES, WEATHER, call, request, user

GOLDEN = {
    16: (
        "test_golden_16_a_function_tool_and_reasoning",
        "test_golden_16_a_conversation_with_every_kind_of_part",
        "test_tools_round_trip_on_a_model_that_reasons",
    ),
    17: "test_golden_17_tools_without_reasoning_stay_on_chat",
}

OPENAI = PROVIDERS["openai"]
COMPATIBLE = OPENAI.compatible
assert COMPATIBLE is not None
CUSTOM = {"type": "custom", "custom": {"name": "shell"}}
TOOLS: dict[str, Any] = {"messages": [user("Weather?")], "tools": [WEATHER]}


def goes_to_responses(chat: ChatRequest) -> bool:
    return OPENAI.build_request(chat).path == "/responses"


def sent(model: str, **fields: Any) -> HttpRequest:
    """What the driver would send first."""
    chat = request({**TOOLS, **fields}, model)
    return next(OPENAI.conversation(OPENAI, chat, CONTEXT))


def body_of(http: HttpRequest) -> dict[str, Any]:
    assert http.path == "/responses"
    return msgspec.json.decode(http.body)


# ── when ───────────────────────────────────────────────────────────────────────────────────────────────

WHEN: list[tuple[str, dict[str, Any], bool]] = [
    ("gpt-6-luna", {}, True),
    ("gpt-5.6", {}, True),
    ("gpt-5.6-sol", {"tool_choice": "none"}, True),
    ("gpt-5.5-2026-04-23", {}, True),
    ("gpt-9", {}, True),
    ("gpt-10.1-new", {}, True),
    ("gpt-6-luna", {"reasoning_effort": "none"}, False),  # golden 17
    ("gpt-6-astra", {"reasoning_effort": "none"}, True),  # which this model does not have
    ("gpt-5.4", {}, False),
    ("gpt-5.4-mini", {"reasoning_effort": "low"}, True),
    ("gpt-5.4", {"reasoning_effort": "minimal"}, True),
    ("gpt-5.2", {"reasoning_effort": "high"}, False),
    ("gpt-5", {}, False),
    ("o3", {}, False),
    ("gpt-4.1", {}, False),
    ("gpt-4o", {}, False),
    ("gpt-6-luna", {"tools": None}, False),
    ("gpt-6-luna", {"tools": [CUSTOM]}, False),
    ("gpt-6-luna", {"tools": [WEATHER, CUSTOM]}, False),
    ("gpt-6-luna", {"n": 2}, False),
    ("gpt-5.4-pro", {}, True),
    ("gpt-5.5-pro-2026-04-23", {"tools": None}, True),
    ("gpt-5.4-pro", {"reasoning_effort": "none"}, True),
]


@pytest.mark.parametrize(("model", "fields", "expected"), WHEN)
def test_when_a_request_goes_to_responses(model: str, fields: dict[str, Any], expected: bool):
    assert goes_to_responses(request({**TOOLS, **fields}, model)) is expected
    assert (sent(model, **fields).path == "/responses") is expected


def test_golden_17_tools_without_reasoning_stay_on_chat():
    http = sent("gpt-5.6", reasoning_effort="none")
    assert http.path == "/chat/completions"
    assert msgspec.json.decode(http.body)["tools"] == [WEATHER]


def test_a_compatible_server_is_never_asked_there():
    chat = request(TOOLS, "gpt-6-luna")
    assert next(COMPATIBLE.conversation(COMPATIBLE, chat, CONTEXT)).path == "/chat/completions"


REFUSAL = (
    b'{"error":{"message":"Function tools with reasoning_effort are not supported for gpt-5.3 in '
    b"/v1/chat/completions. To use function tools, use /v1/responses or set reasoning_effort to 'none'.\","
    b'"type":"invalid_request_error","param":"reasoning_effort","code":null}}'
)


def test_the_refusal_of_chat_sends_a_request_there_once():
    """A model that the rule does not know is believed when it says so itself."""
    error = OPENAI.parse_error(400, {}, REFUSAL)
    talk = OPENAI.conversation(OPENAI, request(TOOLS, "gpt-5.3"), CONTEXT)
    assert next(talk).path == "/chat/completions"
    assert talk.throw(error).path == "/responses"
    with pytest.raises(UpstreamError):
        talk.throw(error)


@pytest.mark.parametrize("fields", [{"n": 2}, {"tools": [WEATHER, CUSTOM]}])
def test_a_refusal_passes_when_it_cannot_be_said_there(fields: dict[str, Any]):
    talk = OPENAI.conversation(OPENAI, request({**TOOLS, **fields}, "gpt-5.3"), CONTEXT)
    next(talk)
    with pytest.raises(UpstreamError, match="Function tools"):
        talk.throw(OPENAI.parse_error(400, {}, REFUSAL))


def test_another_error_passes():
    talk = OPENAI.conversation(OPENAI, request(TOOLS, "gpt-5.3"), CONTEXT)
    next(talk)
    with pytest.raises(UpstreamError, match="no"):
        talk.throw(OPENAI.parse_error(400, {}, b'{"error":{"message":"no"}}'))


# ── what ───────────────────────────────────────────────────────────────────────────────────────────────


def test_golden_16_a_function_tool_and_reasoning():
    """The whole request, as a reviewer reads it."""
    http = sent("gpt-5.6", max_tokens=100, stream=True, parallel_tool_calls=False, tool_choice="auto")
    function = WEATHER["function"]
    assert isinstance(function, dict)
    assert (http.method, http.stream, http.dropped) == ("POST", True, ())
    assert body_of(http) == {
        "parallel_tool_calls": False,
        "model": "gpt-5.6",
        "input": [{"type": "message", "role": "user", "content": "Weather?"}],
        "store": False,
        "max_output_tokens": 100,
        "tools": [{"type": "function", **function, "strict": False}],
        "tool_choice": "auto",
        "reasoning": {"summary": "auto"},
        "include": ["reasoning.encrypted_content"],
        "stream": True,
        "stream_options": {"include_obfuscation": False},
    }


def test_golden_16_a_conversation_with_every_kind_of_part():
    picture = f"data:image/png;base64,{PNG}"
    document = {"file_data": f"data:application/pdf;base64,{PDF}", "filename": "a.pdf"}
    marked = {"type": "text", "text": "What?", "prompt_cache_breakpoint": {"mode": "explicit"}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "In French."}]},
        user([marked, {"type": "image_url", "image_url": {"url": picture}}]),
        user(
            [
                {"type": "image_url", "image_url": {"url": "https://x", "detail": "low"}},
                {"type": "file", "file": document},
            ]
        ),
        {
            "role": "assistant",
            "content": "Let me see.",
            "reasoning_content": "r",
            "tool_calls": [
                call("call_1__thought__AB==", "get_weather", '{"city":"Paris"}'),
                call("call_2", "get_time", ""),
                {"id": "call_3", "type": "custom", "custom": {"name": "shell", "input": "ls"}},
            ],
        },
        {"role": "tool", "tool_call_id": "call_1__thought__AB==", "content": "18"},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "noon"}]},
        {"role": "tool", "tool_call_id": "call_3", "content": "a.txt"},
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
    ]
    assert body_of(sent("gpt-6-luna", messages=messages))["input"] == [
        {"type": "message", "role": "system", "content": "Be brief."},
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "In French."}]},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "What?", "prompt_cache_breakpoint": {"mode": "explicit"}},
                {"type": "input_image", "image_url": picture, "detail": "auto"},
            ],
        },
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_image", "image_url": "https://x", "detail": "low"},
                {"type": "input_file", "filename": "a.pdf", "file_data": document["file_data"]},
            ],
        },
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
        {
            "type": "function_call",
            "call_id": "call_1",
            "name": "get_weather",
            "arguments": '{"city":"Paris"}',
        },
        {"type": "function_call", "call_id": "call_2", "name": "get_time", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "call_3", "name": "shell", "input": "ls"},
        {"type": "function_call_output", "call_id": "call_1", "output": "18"},
        {
            "type": "function_call_output",
            "call_id": "call_2",
            "output": [{"type": "input_text", "text": "noon"}],
        },
        {"type": "custom_tool_call_output", "call_id": "call_3", "output": "a.txt"},
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
    ]


SCHEMA = {"name": "n", "description": "d", "schema": {"type": "object"}, "strict": True}
NAMED = {"type": "function", "function": {"name": "get_weather"}}
FLAT = {"type": "function", "name": "get_weather"}
SAID: list[tuple[dict[str, Any], dict[str, Any]]] = [  # of the request → in the body
    (
        {"response_format": {"type": "json_schema", "json_schema": SCHEMA}, "verbosity": "low"},
        {"text": {"format": {"type": "json_schema", **SCHEMA}, "verbosity": "low"}},
    ),
    ({"response_format": {"type": "json_object"}}, {"text": {"format": {"type": "json_object"}}}),
    ({"tool_choice": NAMED}, {"tool_choice": FLAT}),
    (
        {
            "tool_choice": {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [NAMED, FLAT]},
            }
        },
        {"tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [FLAT, FLAT]}},
    ),
    (
        {"tools": [CLOCK]},
        {
            "tools": [
                {
                    "type": "function",
                    "name": "get_time",
                    "parameters": {"type": "object", "properties": {}},
                    "strict": False,
                }
            ]
        },
    ),
    ({"reasoning_effort": "high"}, {"reasoning": {"effort": "high", "summary": "auto"}}),
    ({"max_completion_tokens": 60, "max_tokens": 50}, {"max_output_tokens": 60}),
    (
        {"stream": True, "stream_options": {"include_obfuscation": True}},
        {"stream": True, "stream_options": {"include_obfuscation": True}},
    ),
    *(
        ({name: SAMPLES[name]}, {name: SAMPLES[name]})
        for name in (
            "metadata",
            "service_tier",
            "user",
            "safety_identifier",
            "prompt_cache_key",
            "prompt_cache_retention",
            "prompt_cache_options",
            "moderation",
            "parallel_tool_calls",
        )
    ),
]


@pytest.mark.parametrize(("fields", "expected"), SAID)
def test_where_a_field_is_said(fields: dict[str, Any], expected: dict[str, Any]):
    http = sent("gpt-6-luna", **fields)
    assert expected.items() <= body_of(http).items()
    assert http.dropped == ()


DROPPED = (
    *("stop", "seed", "presence_penalty", "frequency_penalty", "logit_bias", "prediction"),
    *("modalities", "audio", "store", "web_search_options", "temperature", "top_p", "logprobs"),
)


@pytest.mark.parametrize("field", DROPPED)
def test_what_has_no_field_is_named(field: str):
    http = sent("gpt-6-luna", **{field: SAMPLES[field]})
    assert http.dropped == (field,)
    assert body_of(http) == {**body_of(sent("gpt-6-luna"))}


def test_no_field_is_dropped_in_silence():
    """A field changes the request, or is named."""
    for field in SAMPLES.keys() - {"model", "n", "tools"}:
        more = {"logprobs": True} if field == "top_logprobs" else {}
        before, after = sent("gpt-6-luna", **more), sent("gpt-6-luna", **more, **{field: SAMPLES[field]})
        assert before.body != after.body or field in after.dropped, field
    assert sent("gpt-6-luna", top_secret_knob=3).dropped == ("top_secret_knob",)


def test_what_asks_nothing_is_left_out_without_a_word():
    http = sent(
        "gpt-6-luna", temperature=1, top_p=1, logprobs=False, stop=None, n=1, metadata=None, seed=None
    )
    assert body_of(http) == body_of(sent("gpt-6-luna"))
    assert http.dropped == ()


@pytest.mark.parametrize(
    ("model", "asked", "effort"),
    [
        ("gpt-6-astra", "none", "low"),
        ("gpt-6-astra", "max", "xhigh"),
        ("gpt-6-luna", "minimal", "low"),
        ("gpt-5.5-pro", "none", "low"),
        ("gpt-5.5-pro", "max", "xhigh"),
    ],
)
def test_an_effort_that_the_model_lacks_becomes_the_nearest(model: str, asked: str, effort: str):
    http = sent(model, reasoning_effort=asked)
    assert body_of(http)["reasoning"]["effort"] == effort
    assert http.dropped == ("reasoning_effort",)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_limit_below_the_least_is_raised_and_named(name: str):
    http = sent("gpt-6-luna", **{name: 5})
    assert body_of(http)["max_output_tokens"] == 16
    assert http.dropped == (name,)


def test_a_model_that_does_not_reason_keeps_its_sampling():
    """Only the safety net gets here."""
    chat = request({**TOOLS, "temperature": 0.3, "logprobs": True, "top_logprobs": 2}, "gpt-4.1")
    http = build_request(chat, family(chat.model))
    assert http.dropped == ()
    body = body_of(http)
    assert (body["temperature"], body["top_logprobs"]) == (0.3, 2)
    assert body["include"] == ["message.output_text.logprobs"]
    assert "reasoning" not in body


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": [CUSTOM]}, "tools[0].type"),
        ({"tool_choice": {"type": "custom", "custom": {"name": "shell"}}}, "tool_choice.type"),
        (
            {"messages": [user([{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}])]},
            "messages[0].content[0]",
        ),
    ],
)
def test_what_cannot_be_said_is_refused_by_its_name(fields: dict[str, Any], param: str):
    with pytest.raises(UpstreamError) as caught:
        sent("gpt-5.5-pro", **fields)
    assert (caught.value.kind, caught.value.param) == (ErrorKind.UNSUPPORTED, param)


@pytest.mark.parametrize("case", CASES)
def test_the_simulator_takes_every_case(case: str):
    """Two readings of the documents agree: what is built here is what the strict stand-in accepts."""
    chat = request(CASES[case], "gpt-5.5-pro")
    http = next(OPENAI.conversation(OPENAI, chat, CONTEXT))
    assert generation(http.body, iter([1]), lambda _: ()).ask


# ── end to end ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator() as running:
        yield running


@pytest.fixture
async def client(sim: Simulator) -> AsyncIterator[AsyncOpenAI]:
    async with (
        serving(pointed_at(sim)) as url,
        AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as made,
    ):
        yield made


@pytest.mark.parametrize("streaming", [True, False])
async def test_tools_round_trip_on_a_model_that_reasons(sim: Simulator, client: AsyncOpenAI, streaming: bool):
    """The official SDK: two parallel calls, their results, the answer, on a model that Chat refuses them."""
    arguments = ({"city": "Paris"}, {"city": "Rome"})
    calls = [Called(name="get_weather", arguments=a) for a in arguments]
    sim.script("openai", Turn(reasoning="Two cities.", tool_calls=calls, pieces=3))
    messages: list[Any] = [user("Weather in Paris and Rome?")]
    tools: Any = [WEATHER, CLOCK]

    async def ask() -> Any:
        if not streaming:
            return await client.chat.completions.create(
                model="openai/gpt-6-luna", messages=messages, tools=tools
            )
        async with client.chat.completions.stream(
            model="openai/gpt-6-luna",
            messages=messages,
            tools=tools,
            stream_options={"include_usage": True},
        ) as stream:
            return await stream.get_final_completion()

    first = await ask()
    choice = first.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert [json.loads(c.function.arguments) for c in choice.message.tool_calls] == list(arguments)
    assert choice.message.reasoning_content == "Two cities."
    assert first.usage.completion_tokens_details.reasoning_tokens > 0
    messages.append(choice.message.model_dump(exclude_none=True, exclude={"parsed"}))
    for asked in messages[1]["tool_calls"]:
        asked["function"].pop("parsed_arguments", None)
        messages.append({"role": "tool", "tool_call_id": asked["id"], "content": f"sun in {asked['id']}"})
    second = await ask()
    assert second.choices[0].message.content.startswith("The tool said: sun in call_")
    assert second.choices[0].finish_reason == "stop"
    assert [c.path for c in sim.calls("openai")] == ["/openai/v1/responses"] * 2


@pytest.mark.parametrize("streaming", [True, False])
async def test_the_safety_net(sim: Simulator, client: AsyncOpenAI, streaming: bool):
    """A refusal that the rule did not foresee: the client gets its answer, and hears of what was lost."""
    refusal = json.loads(REFUSAL)["error"]["message"]
    sim.script("openai", Fault(status=400, message=refusal), Turn(text="Here."))
    raw = await client.chat.completions.with_raw_response.create(
        model="openai/gpt-5.2", messages=[user("x")], tools=[WEATHER], seed=7, stream=streaming
    )
    answer = raw.parse()
    text = (
        "".join([c.choices[0].delta.content or "" async for c in answer])
        if streaming
        else answer.choices[0].message.content
    )
    assert text == "Here."
    assert raw.headers["x-gateway-dropped-params"] == "seed"
    paths = ["/openai/v1/chat/completions", "/openai/v1/responses"]
    assert [c.path for c in sim.calls("openai")] == paths
