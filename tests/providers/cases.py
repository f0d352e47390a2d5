"""The requests that every provider has to be able to say, and helpers to run a provider's pure side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from gateway.chat import REQUEST_FIELDS, ChatRequest, Chunk, decode_request, modern
from gateway.providers.base import Context, Provider
from gateway.sse import Decoder

FIXTURES = Path(__file__).parent / "fixtures"
CONTEXT = Context(nonce="00000000-0000-4000-8000-000000000000")

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF = "JVBERi0xLjQKJSVFT0YK"

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
            "required": ["city"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "get_time"}}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


CASES: dict[str, dict[str, Any]] = {
    "plain": {"messages": [user("Hi")]},
    "stream": {"messages": [user("Hi")], "stream": True, "stream_options": {"include_usage": True}},
    "system_developer": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [{"type": "text", "text": "Answer in French."}]},
            user("Hi"),
        ],
        "max_completion_tokens": 100,
    },
    "tools_parallel": {
        "messages": [
            user("Weather in Paris and Rome?"),
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    call("call_1", "get_weather", '{"city":"Paris"}'),
                    call("call_2", "get_weather", '{"city":"Rome"}'),
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "18 degrees"},
            {"role": "tool", "tool_call_id": "call_2", "content": '{"degrees":25}'},
            user("Which is warmer?"),
        ],
        "tools": [WEATHER, CLOCK],
        "tool_choice": "auto",
    },
    "image": {
        "messages": [
            user(
                [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                ]
            )
        ]
    },
    "pdf": {
        "messages": [
            user(
                [
                    {
                        "type": "file",
                        "file": {
                            "file_data": f"data:application/pdf;base64,{PDF}",
                            "filename": "a.pdf",
                        },
                    },
                    {"type": "text", "text": "Sum it up."},
                ]
            )
        ]
    },
    "json_schema": {
        "messages": [user("A person")],
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "person",
                "strict": True,
                "schema": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
                    "required": ["name", "age"],
                    "additionalProperties": False,
                },
            },
        },
    },
    "json_object": {"messages": [user("JSON, please")], "response_format": {"type": "json_object"}},
    "stop": {"messages": [user("Count")], "stop": ["5", "END"]},
    "reasoning": {"messages": [user("Think")], "reasoning_effort": "high"},
}

SAMPLES: dict[str, Any] = {  # a value for each request field, away from what asks for nothing
    "temperature": 0.3,
    "top_p": 0.4,
    "n": 2,
    "stop": ["END"],
    "max_tokens": 77,
    "max_completion_tokens": 78,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "top_logprobs": 2,
    "seed": 7,
    "tools": [CLOCK],
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "response_format": {"type": "json_object"},
    "reasoning_effort": "low",
    "verbosity": "low",
    "modalities": ["text", "audio"],
    "audio": {"format": "wav", "voice": "alloy"},
    "prediction": {"type": "content", "content": "x"},
    "store": True,
    "metadata": {"a": "b"},
    "service_tier": "flex",
    "user": "u1",
    "safety_identifier": "s1",
    "prompt_cache_key": "k1",
    "prompt_cache_retention": "24h",
    "prompt_cache_options": {"mode": "explicit"},
    "web_search_options": {},
    "moderation": {"model": "m"},
    "messages": [user("Other")],
    "model": "other-model",
}
GATEWAY_FIELDS = {  # answered by the gateway itself, whatever the upstream
    "stream": "an answer is folded or streamed for the client, however it came",
    "stream_options": "the usage chunk is made or hidden for the client",
    "functions": "said as tools before any provider sees it",
    "function_call": "said as tool_choice before any provider sees it",
}
assert set(SAMPLES) | set(GATEWAY_FIELDS) == set(REQUEST_FIELDS)


def request(body: dict[str, Any], model: str = "m") -> ChatRequest:
    """The request of a client's body, as a provider gets it."""
    return modern(decode_request(msgspec.json.encode({"model": model, **body})))


def decode(provider: Provider, chat: ChatRequest, pieces: list[bytes]) -> list[Chunk]:
    """The chunks of a stream that arrives in `pieces`, up to its end mark."""
    decoder, read = Decoder(), provider.event_decoder(chat)
    events = [event for piece in pieces for event in decoder.feed(piece)] + decoder.close()
    chunks: list[Chunk] = []
    for event in events:
        chunk = read(event)
        if chunk is not None:
            chunks.append(chunk)
            if chunk.last:
                break
    return chunks


MARK = {"type": "ephemeral"}
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
WISHES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # name → a request without the wish, and with it
    "messages.name": ({"messages": [user("Hi")]}, {"messages": [user("Hi") | {"name": "ann"}]}),
    "messages.image_url.detail": (
        {"messages": [user([PICTURE])]},
        {"messages": [user([{**PICTURE, "image_url": PICTURE["image_url"] | {"detail": "high"}}])]},
    ),
    "messages.cache_control": (
        {"messages": [user([{"type": "text", "text": "Hi"}])]},
        {"messages": [user([{"type": "text", "text": "Hi", "cache_control": MARK}])]},
    ),
    "messages.prompt_cache_breakpoint": (
        {"messages": [user([{"type": "text", "text": "Hi"}])]},
        {"messages": [user([{"type": "text", "text": "Hi", "prompt_cache_breakpoint": {"mode": "x"}}])]},
    ),
    "tools.cache_control": (
        {"messages": [user("Hi")], "tools": [WEATHER]},
        {"messages": [user("Hi")], "tools": [WEATHER | {"cache_control": MARK}]},
    ),
}
"""Wishes inside of messages and tools, as `base.INSIDE` names them."""
