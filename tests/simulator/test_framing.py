"""Native framing to the letter: line ends, event names, order, terminators, usage, headers."""

from __future__ import annotations

import json

import pytest

from gateway.simulator import ToolCall, Turn, Usage

TOOLS = [ToolCall(name="f", arguments={"a": 1}), ToolCall(name="g", arguments="{}")]


def data_of(body: bytes, end: bytes = b"\n\n") -> list:
    payloads = [event.rpartition(b"data: ")[2] for event in body.split(end) if event]
    return [each if each == b"[DONE]" else json.loads(each) for each in payloads]


@pytest.fixture
def stream(sim, ask):
    async def one(provider, turn=None, **how):
        if turn is not None:
            sim.script(provider, turn)
        status, headers, body = await ask(provider, stream=True, **how)
        assert status == 200, body
        return headers, body

    return one


# --- OpenAI -----------------------------------------------------------------------------------------------


async def test_openai_order(stream):
    headers, body = await stream("openai", Turn(text="ab", pieces=1, usage=Usage(input=5, output=2)))
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["x-ratelimit-limit-tokens"]
    assert b"\r" not in body
    assert b"event:" not in body
    *chunks, done = data_of(body)
    assert done == b"[DONE]"
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "a"},
        {"content": "b"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    assert all(chunk["obfuscation"] and "usage" not in chunk for chunk in chunks)


async def test_openai_stream_options(stream):
    body = {
        "model": "gpt-4.1",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream_options": {"include_usage": True, "include_obfuscation": False},
    }
    _, answer = await stream(
        "openai", Turn(text="a", usage=Usage(input=9, cached=4, output=3, reasoning=1)), body=body
    )
    *chunks, last, _ = data_of(answer)
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"]["prompt_tokens_details"]["cached_tokens"] == 4
    assert last["usage"]["completion_tokens_details"]["reasoning_tokens"] == 1
    assert (last["usage"]["prompt_tokens"], last["usage"]["total_tokens"]) == (9, 12)
    assert "obfuscation" not in last


async def test_openai_tool_calls(stream):
    _, body = await stream("openai", Turn(tool_calls=TOOLS, pieces=3))
    deltas = [chunk["choices"][0]["delta"] for chunk in data_of(body)[:-1]]
    assert deltas[0]["content"] is None
    calls = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    heads = [call for call in calls if "id" in call]
    assert [(call["index"], call["function"]) for call in heads] == [
        (0, {"name": "f", "arguments": ""}),
        (1, {"name": "g", "arguments": ""}),
    ]
    assert "".join(call["function"]["arguments"] for call in calls if call["index"] == 0) == '{"a":1}'
    _, body = await stream("openai", Turn(tool_calls=TOOLS[:1]))
    assert {"role", "content", "tool_calls"} <= data_of(body)[0]["choices"][0]["delta"].keys()


async def test_openai_refusal_reasoning_and_legacy_call(stream, sim, ask):
    _, body = await stream("openai", Turn(refusal="no", finish="content_filter"))
    assert b'"refusal":"no"' in body
    _, body = await stream("openai", Turn(text="a", reasoning="hm", show_reasoning=True))
    assert b'"reasoning_content":"hm"' in body
    legacy = {
        "model": "gpt-4.1",
        "messages": [{"role": "user", "content": "Hi"}],
        "functions": [{"name": "f"}],
    }
    _, _, body = await ask("openai", body=legacy)
    choice = json.loads(body)["choices"][0]
    assert choice["message"]["function_call"] == {"name": "f", "arguments": "{}"}
    assert choice["finish_reason"] == "function_call"
    _, body = await stream("openai", body=legacy)
    assert b'"function_call":{"name":"f"' in body


# --- Anthropic --------------------------------------------------------------------------------------------


async def test_anthropic_order(stream):
    turn = Turn(
        reasoning="Check.",
        text="ok",
        tool_calls=TOOLS,
        pieces=4,
        usage=Usage(input=112, cached=100, output=20),
    )
    headers, body = await stream("anthropic", turn)
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert b"[DONE]" not in body
    assert b"\r" not in body
    for event in body.decode().strip().split("\n\n"):
        name, data = event.split("\n")
        assert name == f"event: {json.loads(data[6:])['type']}"
    events = data_of(body)
    assert [event["type"] for event in events[:4]] == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
    ]
    assert [event["type"] for event in events[-2:]] == ["message_delta", "message_stop"]
    started = events[0]["message"]["usage"]
    assert (started["input_tokens"], started["cache_read_input_tokens"], started["output_tokens"]) == (
        12,
        100,
        1,
    )
    starts = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    assert starts[0] == {"type": "thinking", "thinking": "", "signature": ""}
    assert starts[1] == {"type": "text", "text": ""}
    assert starts[2]["input"] == {}
    assert starts[2]["caller"] == {"type": "direct"}
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    pieces = [delta["partial_json"] for delta in deltas if delta["type"] == "input_json_delta"]
    assert pieces == ["", '{"a"', ":1}", ""]
    assert events[-2]["delta"]["stop_reason"] == "tool_use"
    assert events[-2]["usage"]["output_tokens"] == 20


async def test_anthropic_empty_answers(stream, sim, ask):
    _, body = await stream("anthropic", Turn())
    assert [event["type"] for event in data_of(body)] == [
        "message_start",
        "ping",
        "message_delta",
        "message_stop",
    ]
    sim.script("anthropic", Turn())
    made = json.loads((await ask("anthropic"))[2])
    assert (made["content"], made["stop_reason"]) == ([], "end_turn")


async def test_anthropic_broken_arguments_stay_broken_in_a_stream(stream, sim, ask):
    turn = Turn(tool_calls=[ToolCall(name="f", arguments='{"a": ')], finish="length")
    _, body = await stream("anthropic", turn)
    assert b'"partial_json":"{\\"a\\": "' in body
    assert b'"stop_reason":"max_tokens"' in body
    sim.script("anthropic", turn)
    assert json.loads((await ask("anthropic"))[2])["content"][0]["input"] == {}


# --- Gemini -----------------------------------------------------------------------------------------------


async def test_gemini_order(stream):
    turn = Turn(text="ab", pieces=1, tool_calls=TOOLS, usage=Usage(input=55, output=12, reasoning=7))
    headers, body = await stream("gemini", turn)
    assert headers["content-type"] == "text/event-stream"
    assert not any("ratelimit" in name for name in headers)
    assert b"[DONE]" not in body
    assert body.replace(b"\r\n", b"").count(b"\n") == 0
    chunks = data_of(body, b"\r\n\r\n")
    parts = [chunk["candidates"][0]["content"]["parts"][0] for chunk in chunks]
    assert parts[0] == {"text": "a"}
    assert parts[2]["functionCall"] == {"name": "f", "args": {"a": 1}}
    assert parts[2]["thoughtSignature"]
    assert "thoughtSignature" not in parts[3]
    assert parts[-1] == {"text": ""}
    finishes = [chunk["candidates"][0].get("finishReason") for chunk in chunks]
    assert finishes == [None] * 4 + ["STOP"]
    counts = [chunk["usageMetadata"].get("candidatesTokenCount", 0) for chunk in chunks]
    assert counts == sorted(counts)
    assert chunks[-1]["usageMetadata"]["totalTokenCount"] == 67
    assert chunks[-1]["usageMetadata"]["candidatesTokenCount"] == 5


async def test_gemini_without_sse_is_an_array(ask):
    path = "/gemini/v1beta/models/gemini-3.8-flash:streamGenerateContent"
    _, headers, body = await ask("gemini", path=path)
    assert headers["content-type"] == "application/json; charset=UTF-8"
    assert headers["transfer-encoding"] == "chunked"
    assert json.loads(body)[-1]["candidates"][0]["finishReason"] == "STOP"


async def test_gemini_empty_answers(sim, ask):
    sim.script(
        "gemini", Turn(finish="length"), Turn(finish="content_filter"), Turn(signature="U0lH", text="a")
    )
    made = [json.loads((await ask("gemini"))[2])["candidates"][0] for _ in range(3)]
    assert (made[0]["content"], made[0]["finishReason"]) == ({"role": "model"}, "MAX_TOKENS")
    assert (made[1]["content"], made[1]["safetyRatings"][0]["blocked"]) == ({}, True)
    assert made[2]["content"]["parts"] == [{"text": "a", "thoughtSignature": "U0lH"}]


async def test_gemini_logprobs_and_candidates(ask):
    path = "/gemini/v1/models/gemini-2.5-flash:generateContent"
    body = {
        "contents": [{"parts": [{"text": "Hi"}]}],
        "generationConfig": {"responseLogprobs": True, "candidateCount": 2},
    }
    _, _, answer = await ask("gemini", path=path, body=body)
    made = json.loads(answer)["candidates"]
    assert [each["index"] for each in made] == [0, 1]
    assert made[0]["logprobsResult"]["chosenCandidates"]


# --- all --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini", "qwen"])
async def test_raw_headers_model_and_extra(sim, ask, provider):
    sim.script(
        provider,
        Turn(raw={"any": "thing"}),
        Turn(raw="not json"),
        Turn(raw=b"\xff"),
        Turn(text="a", model="other", headers={"X-Extra": "1"}, extra={"more": 1}),
    )
    assert [(await ask(provider))[2] for _ in range(3)] == [b'{"any":"thing"}', b"not json", b"\xff"]
    _, headers, body = await ask(provider)
    assert headers["x-extra"] == "1"
    assert json.loads(body)["more"] == 1
    assert b'"other"' in body
    sim.script(
        provider, Turn(raw=[{"type": "ping"}, "half", b": comment\n\n"]), Turn(text="a", extra={"more": 1})
    )
    _, _, body = await ask(provider, stream=True)
    space = b"" if provider == "qwen" else b" "
    assert b'data:%b{"type":"ping"}' % space in body
    assert b"data:%bhalf" % space in body
    assert body.endswith(b": comment\n\n")
    assert b'"more":1' in (await ask(provider, stream=True))[2]


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini", "qwen"])
async def test_minted_ids_are_never_the_same(sim, ask, provider):
    sim.always(provider, Turn(tool_calls=TOOLS))
    bodies = [json.loads((await ask(provider))[2]) for _ in range(2)]
    if provider == "openai":
        ids = [call["id"] for body in bodies for call in body["choices"][0]["message"]["tool_calls"]]
    elif provider == "anthropic":
        ids = [block["id"] for body in bodies for block in body["content"]]
    elif provider == "qwen":
        messages = [body["output"]["choices"][0]["message"] for body in bodies]
        ids = [body["request_id"] for body in bodies]
        ids += [call["id"] for message in messages for call in message["tool_calls"]]
    else:
        ids = [body["responseId"] for body in bodies]
        calls = [
            part["functionCall"] for body in bodies for part in body["candidates"][0]["content"]["parts"]
        ]
        assert all("id" not in call for call in calls)
    assert len(ids) == len(set(ids)) > 1
