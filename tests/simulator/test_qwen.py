"""The Qwen stand-in's answers: frames to the letter on both paths, models in pages, scripted failures."""

from __future__ import annotations

import itertools
import json

import pytest

from gateway.simulator import Fault, ToolCall, Turn, Usage
from gateway.simulator.brain import answer
from gateway.simulator.qwen_models import MODELS
from gateway.simulator.qwen_rules import URL_ERROR
from gateway.simulator.wire import Rejected

from .test_rejects_qwen import (
    CALLED,
    HEADERS,
    LISTED,
    MESSAGE,
    PNG,
    RESULT,
    SCHEMA,
    STREAM,
    TOOL,
    body,
    handle,
    multi,
    say,
)

# --- models -----------------------------------------------------------------------------------------------


def listed(**query):
    made = handle(b"", path="/api/v1/models", method="GET", query=query)
    return json.loads(made.body)


def test_models_come_in_pages():
    first, second = listed(), listed(page_no="2", page_size="5")
    assert (first["output"]["page_no"], first["output"]["page_size"]) == (1, 10)
    assert first["output"]["total"] == second["output"]["total"] == len(MODELS)
    assert [each["model"] for each in second["output"]["models"]] == [*MODELS][5:10]
    assert set(first["output"]["models"][0]) == {"model", "source", "provider", "opensource"}
    assert first["request_id"]
    assert listed(page_no="99")["output"]["models"] == []
    assert [each["model"] for each in listed(model="qwen-max")["output"]["models"]] == ["qwen-max"]
    assert listed(model="nope")["output"]["total"] == 0
    assert {each["provider"] for each in listed(page_size="100")["output"]["models"]} == {
        "qwen",
        "qwq",
        "qvq",
        "deepseek",
        "glm",
        "kimi",
    }


@pytest.mark.parametrize(
    "query", [{"page_no": "0"}, {"page_size": "101"}, {"page_size": "x"}, {"page_no": "²"}]
)
def test_pages_that_are_none(query):
    with pytest.raises(Rejected, match="Required parameter"):
        listed(**query)


# --- answers ----------------------------------------------------------------------------------------------


def rendered(value, turn=None, *, headers=HEADERS, stand_in=None):
    made = handle(value, headers=headers, stand_in=stand_in)
    return made.render(turn or answer(made.ask), made.stream)


def document(value, turn=None):
    return json.loads(rendered(value, turn).body)


def frames(value, turn=None):
    """The payloads of a stream; the framing of every event is checked on the way."""
    reply = rendered(value, turn, headers=STREAM)
    payloads = []
    for number, frame in enumerate(reply.frames, 1):
        head, data, rest = frame.data.partition(b"data:")
        assert head == b"id:%d\nevent:result\n:HTTP_STATUS/200\n" % number
        assert data
        assert rest.endswith(b"\n\n")
        assert b"\n" not in rest[:-2]
        payloads.append(json.loads(rest))
    assert [frame.end for frame in reply.frames].count(True) == payloads[-1]["output"].get("choices", [{}])[
        0
    ].get("index", 0) + 1
    return payloads


def messages(payloads):
    return [each["output"]["choices"][0]["message"] for each in payloads]


TURN = Turn(text="Hello!", reasoning="Hm.", pieces=3, usage=Usage(input=12, cached=8, output=9, reasoning=1))


async def test_a_stream_to_the_letter(sim, ask):
    sim.script("qwen", Turn(text="Hey", pieces=2, usage=Usage(input=12, output=3)))
    status, headers, data = await ask("qwen", stream=True)
    assert status == 200
    assert headers["content-type"] == "text/event-stream;charset=UTF-8"
    assert headers["x-dashscope-call-gateway"] == headers["x-dashscope-finished"] == "true"
    assert headers["x-dashscope-timeout"] == "298"
    tail = (
        ',"prompt_tokens_details":{"cached_tokens":0},"output_tokens_details":{"reasoning_tokens":0}},"request_id":"'
        + headers["x-request-id"]
        + '"}'
    )
    pieces = [("He", "null", 1), ("y", "null", 1), ("", "stop", 3)]
    assert data.decode() == "".join(
        f"id:{number}\nevent:result\n:HTTP_STATUS/200\n"
        f'data:{{"output":{{"choices":[{{"message":{{"content":"{text}","role":"assistant","reasoning_content":""}},"finish_reason":"{finish}"}}]}},'
        f'"usage":{{"input_tokens":12,"output_tokens":{made},"total_tokens":{12 + made}{tail}\n\n'
        for number, (text, finish, made) in enumerate(pieces, 1)
    )


def test_text_on_one_path_and_lists_on_the_other():
    first = document(body(**MESSAGE), TURN)["output"]
    assert (first["text"], first["finish_reason"]) == (None, None)
    assert first["choices"] == [
        {
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "Hello!", "reasoning_content": "", "tool_calls": []},
        }
    ]
    second = document(multi(), TURN)["output"]
    assert second == {
        "choices": [
            {
                "finish_reason": "stop",
                "message": {
                    "role": "assistant",
                    "content": [{"text": "Hello!"}],
                    "reasoning_content": "Hm.",
                    "tool_calls": [],
                },
            }
        ]
    }
    contents = [each["content"] for each in messages(frames(multi(incremental_output=True), TURN))]
    assert contents == [[], [{"text": "Hel"}], [{"text": "lo!"}], []]


def test_without_thinking_there_is_no_thought():
    assert (
        "reasoning_content"
        not in document(body("qwen-max", **MESSAGE), TURN)["output"]["choices"][0]["message"]
    )
    assert (
        document(multi(enable_thinking=False), TURN)["output"]["choices"][0]["message"]["reasoning_content"]
        == ""
    )


def test_bare_text_is_the_default_of_older_models():
    assert document(body(), TURN)["output"] == {"finish_reason": "stop", "text": "Hello!"}
    assert [each["output"] for each in frames(body(incremental_output=True), TURN)] == [
        {"finish_reason": "null", "text": "Hel"},
        {"finish_reason": "null", "text": "lo!"},
        {"finish_reason": "stop", "text": ""},
    ]
    assert "choices" in document(body("qwen3-coder-plus"), TURN)["output"]


@pytest.mark.parametrize(
    ("value", "turn"),
    [
        (multi(), TURN),
        (multi(incremental_output=False), TURN),
        (multi(incremental_output=True), Turn(text="Hello!", reasoning="Hm.", pieces=3, cumulative=True)),
    ],
)
def test_without_increments_everything_is_repeated(value, turn):
    made = messages(frames(value, turn))
    assert [each["content"] for each in made] == [
        [],
        [{"text": "Hel"}],
        [{"text": "Hello!"}],
        [{"text": "Hello!"}],
    ]
    assert [each["reasoning_content"] for each in made] == ["Hm."] * 4


def test_usage_is_cumulative_in_every_event():
    payloads = frames(multi(incremental_output=True), TURN)
    assert [each["usage"]["output_tokens"] for each in payloads] == [1, 2, 3, 9]
    assert [each["usage"]["output_tokens_details"]["reasoning_tokens"] for each in payloads] == [1] * 4
    assert all(
        each["usage"]["input_tokens"] == 12 and each["usage"]["prompt_tokens_details"] == {"cached_tokens": 8}
        for each in payloads
    )
    assert not any("total_tokens" in each["usage"] for each in payloads)
    written = document(body(), Turn(text="x", usage=Usage(cache_write=5)))["usage"]
    assert written["prompt_tokens_details"] == {"cached_tokens": 0, "cache_creation_input_tokens": 5}


TWO = [
    ToolCall(name="f", arguments={"a": "bcdefghijklmnopqrstuvwxyz"}),
    ToolCall(name="g", arguments={}, id="call_g"),
]


def test_calls_come_in_fragments():
    payloads = frames(body(tools=[TOOL], incremental_output=True, **MESSAGE), Turn(tool_calls=TWO))
    fragments = [each["tool_calls"][0] for each in messages(payloads)[:-1]]
    start, *more, other = fragments
    assert start["index"] == 0
    assert start["id"].startswith("call_")
    assert start["function"] == {"name": "f", "arguments": '{"a":"bcdefg'}
    assert all(
        (each["index"], each["id"]) == (0, "") and set(each["function"]) == {"arguments"} for each in more
    )
    assert (
        "".join(each["function"]["arguments"] for each in (start, *more))
        == '{"a":"bcdefghijklmnopqrstuvwxyz"}'
    )
    assert other == {
        "index": 1,
        "id": "call_g",
        "type": "function",
        "function": {"name": "g", "arguments": "{}"},
    }
    assert "tool_calls" not in messages(payloads)[-1]
    finishes = [each["output"]["choices"][0]["finish_reason"] for each in payloads]
    assert finishes == ["null"] * len(fragments) + ["tool_calls"]


@pytest.mark.parametrize(
    "how", [{"incremental_output": False}, {"incremental_output": True, "cumulative": True}]
)
def test_cumulative_calls_have_no_index(how):
    turn = Turn(tool_calls=TWO, cumulative=how.pop("cumulative", False))
    made = [each["tool_calls"] for each in messages(frames(body(tools=[TOOL], **how, **MESSAGE), turn))]
    assert not any("index" in call for calls in made for call in calls)
    texts = [calls[0]["function"]["arguments"] for calls in made]
    assert all(late.startswith(early) for early, late in itertools.pairwise(texts))
    assert [call["function"]["name"] for call in made[-1]] == ["f", "g"]
    assert len({calls[0]["id"] for calls in made}) == 1
    assert json.loads(texts[-1]) == TWO[0].arguments


def test_nested_arguments_come_whole_unless_streamed():
    turn = Turn(tool_calls=[ToolCall(name="f", arguments={"a": {"b": "c" * 40}})])
    whole = frames(body(tools=[TOOL], incremental_output=True, **MESSAGE), turn)
    pieces = frames(body(tools=[TOOL], incremental_output=True, tool_stream=True, **MESSAGE), turn)
    assert len(whole) == 2
    assert len(pieces) > 4


def test_a_call_without_arguments_starts_with_null():
    turn = Turn(tool_calls=[ToolCall(name="f", arguments="")])
    start, _ = messages(frames(body(tools=[TOOL], incremental_output=True, **MESSAGE), turn))
    assert start["tool_calls"][0]["function"] == {"name": "f", "arguments": None}
    whole = document(body(tools=[TOOL], **MESSAGE), turn)["output"]["choices"][0]
    assert whole["message"]["tool_calls"][0]["function"]["arguments"] == ""
    assert whole["finish_reason"] == "tool_calls"


def test_several_choices_have_indexes_and_counts_of_their_own():
    turn = Turn(text="Hello!", pieces=3, usage=Usage(input=5, output=2))
    payloads = frames(body(n=2, incremental_output=True, **MESSAGE), turn)
    choices = [each["output"]["choices"][0] for each in payloads]
    assert [choice["index"] for choice in choices] == [0, 1] * 3
    assert [choice["finish_reason"] for choice in choices] == ["null"] * 4 + ["stop"] * 2
    assert [each["usage"]["output_tokens"] for each in payloads] == [1, 1, 2, 2, 2, 2]
    whole = document(body(n=2, **MESSAGE), turn)
    assert [choice["index"] for choice in whole["output"]["choices"]] == [0, 1]
    assert whole["usage"]["output_tokens"] == 4


def test_log_probabilities_stand_beside_the_message():
    choice = document(body(logprobs=True, top_logprobs=2, **MESSAGE), TURN)["output"]["choices"][0]
    assert len(choice["logprobs"]["content"][0]["top_logprobs"]) == 2
    payloads = frames(body(logprobs=True, incremental_output=True, **MESSAGE), TURN)
    assert [
        each["output"]["choices"][0].get("logprobs", {}).get("content", [{}])[0].get("token")
        for each in payloads
    ] == ["Hel", "lo!", None]


def test_what_a_request_asks_for():
    value = multi(say({"image": PNG}, {"video": ["https://x/1.png", PNG]}, {"text": "Look"}))
    made = handle(value)
    assert made.ask.media == [("image/png", 5), ("video/url", 0), ("image/png", 5)]
    counts = document(value)["usage"]
    assert counts["image_tokens"] == 4
    assert counts["input_tokens"] >= counts["image_tokens"] + counts["video_tokens"]
    assert "I see 2 images" in document(value)["output"]["choices"][0]["message"]["content"][0]["text"]
    sound = handle(
        multi(say({"audio": "data:audio/wav;base64,aGVsbG8="}), model="qwen3.5-omni-plus"), headers=STREAM
    )
    assert sound.ask.media == [("audio/wav", 5)]
    results = handle(multi(LISTED, CALLED, {**RESULT, "content": [{"text": "sunny"}]}, tools=[TOOL])).ask
    assert results.results == ["sunny"]
    both = say({"text": "both"})
    assert len(document(multi(both, tools=[TOOL]))["output"]["choices"][0]["message"]["tool_calls"]) == 1
    assert (
        len(
            document(multi(both, tools=[TOOL], parallel_tool_calls=True))["output"]["choices"][0]["message"][
                "tool_calls"
            ]
        )
        == 2
    )
    assert handle(body(tools=[TOOL], tool_choice="none", **MESSAGE)).ask.tools == []
    assert handle(body(stop="x")).ask.stops == ["x"]
    assert handle(body(stop=["", "y", 5])).ask.stops == ["y"]


def test_max_tokens_leaves_the_thoughts_out():
    made = document(multi(max_tokens=2))
    message = made["output"]["choices"][0]["message"]
    assert message["reasoning_content"].endswith("short.")
    assert 0 < len(message["content"][0]["text"]) < len("You said: Hi")
    assert made["output"]["choices"][0]["finish_reason"] == "length"
    cut = document(multi(max_completion_tokens=2))["output"]["choices"][0]["message"]
    assert (cut["content"], len(cut["reasoning_content"])) == ([], 8)
    assert document(body(max_tokens=1))["output"] == {"finish_reason": "length", "text": "You "}


def test_json_answers():
    asked = {"role": "user", "content": "json"}
    assert json.loads(
        document(body(messages=[asked], response_format={"type": "json_object"}))["output"]["text"]
    ) == {"echo": "json"}
    schema = {
        **SCHEMA,
        "json_schema": {"name": "x", "schema": {"type": "object", "properties": {"a": {"const": 7}}}},
    }
    assert json.loads(document(body(messages=[asked], response_format=schema))["output"]["text"]) == {"a": 7}


def test_extra_fields_go_inside():
    extra = {"output": {"search_info": {"search_results": []}}, "usage": {"plugins": 1}, "code": ""}
    for made in (
        document(body(), Turn(text="x", extra=extra)),
        frames(body(), Turn(text="x", extra=extra))[-1],
    ):
        assert made["output"]["search_info"] == {"search_results": []}
        assert made["output"]["text"] == "x"
        assert made["usage"]["plugins"] == 1
        assert made["code"] == ""


def test_a_filtered_answer_ends_in_an_error():
    """There is no finish reason for it."""
    turn = Turn(text="Bad", finish="content_filter")
    last = rendered(body(), turn, headers=STREAM).frames[-1]
    assert last.end
    assert last.data.startswith(b'id:1\nevent:error\n:HTTP_STATUS/400\ndata:{"code":"DataInspectionFailed"')
    reply = rendered(body(), turn)
    assert (reply.status, json.loads(reply.body)["code"]) == (400, "DataInspectionFailed")
    told = Turn(text="Bad", finish="content_filter", finish_native="sensitive")
    assert frames(body(), told)[-1]["output"]["finish_reason"] == "sensitive"


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        (Fault(status=429), "Throttling.RateQuota", "rate limit"),
        (
            Fault(status=429, code="Throttling.AllocationQuota"),
            "Throttling.AllocationQuota",
            "Allocated quota",
        ),
        (Fault(status=429, code="PostpaidBillOverdue"), "PostpaidBillOverdue", "overdue"),
        (Fault(status=400, code="Arrearage", type="Arrearage"), "Arrearage", "good standing"),
        (Fault(status=400, message=URL_ERROR), "InvalidParameter", "url error"),
        (Fault(status=500), "InternalError", "internal error"),
        (Fault(status=503), "ModelUnavailable", "unavailable"),
        (Fault(status=504), "ModelServingError", "Too many requests"),
        (Fault(status=418, details={"hint": 1}), "InternalError", "internal error"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_scripted_failures_have_the_native_form(sim, ask, fault, code, message):
    sim.script("qwen", fault)
    status, headers, data = await ask("qwen")
    made = json.loads(data)
    assert (status, made["code"]) == (fault.status, code)
    assert message in made["message"]
    assert made["request_id"] == headers["x-request-id"]
    assert made.get("type") == fault.type
    assert made.get("hint") == (fault.details or {}).get("hint")


async def test_an_error_inside_a_stream(sim, ask):
    sim.script("qwen", Fault(kind="error_event", status=429, events=1, turn=Turn(text="Hello!", pieces=3)))
    _, _, data = await ask("qwen", stream=True)
    before, event, after = data.partition(b"event:error\n:HTTP_STATUS/429\ndata:")
    assert before.count(b"event:result") == 1
    assert event
    assert json.loads(after)["code"] == "Throttling.RateQuota"
