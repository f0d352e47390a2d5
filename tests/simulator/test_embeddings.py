"""Embeddings of the stand-ins: what they refuse, and vectors that only the text decides."""

from __future__ import annotations

import base64
import json
import math
import struct
from typing import Any

import pytest

from gateway.simulator import Fault
from gateway.simulator.vectors import in_base64, unit, vector

from .test_sdk_gemini import made

SMALL = "text-embedding-3-small"
NEW, OLD = "gemini-embedding-2", "gemini-embedding-001"
BATCH = f"/gemini/v1beta/models/{OLD}:batchEmbedContents"
SINGLE = f"/gemini/v1beta/models/{OLD}:embedContent"


def test_a_vector_is_its_texts_own():
    one = vector("a", 8)
    assert one == vector("a", 8) != vector("b", 8)
    assert math.isclose(sum(number * number for number in one), 1, rel_tol=1e-6)
    assert list(struct.unpack("<8f", base64.b64decode(in_base64(one)))) == one
    assert unit([0.0, 0.0]) == [0.0, 0.0]


# ── openai ─────────────────────────────────────────────────────────────────────────────────────────────

OPENAI: dict[str, tuple[dict[str, Any], tuple[int, str | None, str | None, str]]] = {
    # fields over {"model": SMALL, "input": "a"} → status, param, code, part of the message
    "unknown field": ({"foo": 1}, (400, None, None, "Unrecognized request argument supplied: foo")),
    "chat field": ({"stream": True}, (400, None, None, "Unrecognized request argument supplied: stream")),
    "number": ({"input": 1}, (400, None, None, "'$.input' is invalid")),
    "empty": ({"input": ""}, (400, None, None, "'$.input' is invalid")),
    "empty list": ({"input": []}, (400, None, None, "'$.input' is invalid")),
    "empty text": ({"input": ["a", ""]}, (400, None, None, "'$.input' is invalid")),
    "empty tokens": ({"input": [[]]}, (400, None, None, "'$.input' is invalid")),
    "mixed": ({"input": ["a", 1]}, (400, None, None, "'$.input' is invalid")),
    "too many": ({"input": ["a"] * 2049}, (400, "input", "array_above_max_length", "maximum length 2048")),
    "too long": ({"input": "x" * 40_000}, (400, None, None, "maximum context length is 8192 tokens")),
    "too long in tokens": ({"input": [1] * 8193}, (400, None, None, "you requested 8193 tokens")),
    "too much": (
        {"input": [[1] * 8000] * 38},
        (400, None, "max_tokens_per_request", "Requested 304000 tokens"),
    ),
    "format": ({"encoding_format": "hex"}, (400, "encoding_format", "invalid_value", "'float' and 'base64'")),
    "dimensions": ({"dimensions": 1537}, (400, None, None, "less than or equal to 1536")),
    "no dimensions": ({"dimensions": 0}, (400, None, None, "at least 1")),
    "fixed": ({"model": "text-embedding-ada-002", "dimensions": 8}, (400, None, None, "does not support")),
    "no model": ({"model": "text-embedding-9"}, (404, "model", "model_not_found", "does not exist")),
    "chat model": ({"model": "gpt-5.4"}, (403, None, None, "not allowed to generate embeddings")),
}


@pytest.mark.parametrize("name", OPENAI)
async def test_openai_refuses(ask, name: str):
    fields, expected = OPENAI[name]
    body = {"model": SMALL, "input": "a", **fields}
    status, _, answer = await ask("openai", path="/openai/v1/embeddings", body=body)
    error = json.loads(answer)["error"]
    assert (status, error["param"], error["code"]) == expected[:3]
    assert expected[3] in error["message"]


async def test_openai_wants_both(ask):
    for body, words in (({"input": "a"}, "model parameter"), ({"model": SMALL}, "'input'")):
        status, _, answer = await ask("openai", path="/openai/v1/embeddings", body=body)
        assert (status, words in json.loads(answer)["error"]["message"]) == (400, True)


@pytest.mark.parametrize("given", ["text", ["text"], [1, 2], [[1, 2]], ["x"] * 2048])
async def test_openai_takes(ask, given: Any):
    body = {"model": SMALL, "input": given, "dimensions": 2, "user": "u"}
    status, _, answer = await ask("openai", path="/openai/v1/embeddings", body=body)
    told = json.loads(answer)
    assert (status, told["object"], told["model"]) == (200, "list", SMALL)
    assert [item["index"] for item in told["data"]] == list(range(len(told["data"])))
    assert told["usage"]["prompt_tokens"] == told["usage"]["total_tokens"] > 0


async def test_openai_needs_a_key_with_money(ask):
    body = {"model": SMALL, "input": "a"}
    for key, status in (("wrong", 401), ("noquota", 429)):
        headers = {"authorization": f"Bearer sim-{key}"}
        found, _, _ = await ask("openai", path="/openai/v1/embeddings", body=body, headers=headers)
        assert found == status


# ── gemini ─────────────────────────────────────────────────────────────────────────────────────────────


def part(text: str = "a", **fields: Any) -> dict[str, Any]:
    return {"model": f"models/{OLD}", "content": {"parts": [{"text": text}]}, **fields}


GEMINI: dict[str, tuple[str, Any, int, str]] = {  # path, body → status, part of the message
    "no requests": (BATCH, {}, 400, "requests is not specified"),
    "unknown field": (BATCH, {"input": "a"}, 400, "Unknown name"),
    "unknown field inside": (BATCH, {"requests": [part(dimensions=3)]}, 400, "Unknown name"),
    "101": (BATCH, {"requests": [part()] * 101}, 400, "at most 100 requests can be in one batch"),
    "no model": (BATCH, {"requests": [{"content": {"parts": [{"text": "a"}]}}]}, 400, f"models/{OLD}"),
    "other model": (BATCH, {"requests": [part(model="models/x")]}, 400, "got 'models/x'"),
    "no content": (BATCH, {"requests": [{"model": f"models/{OLD}"}]}, 400, "contents is not specified"),
    "empty": (BATCH, {"requests": [part("")]}, 400, "text content is empty"),
    "size": (BATCH, {"requests": [part(outputDimensionality=3073)]}, 400, "between 1 and 3072"),
    "task": (BATCH, {"requests": [part(taskType="POEM")]}, 400, "POEM"),
    "title": (BATCH, {"requests": [part(title="x")]}, 400, "RETRIEVAL_DOCUMENT"),
    "picture": (
        BATCH,
        {"requests": [part() | {"content": {"parts": [{"inlineData": {"mimeType": "image/png"}}]}}]},
        400,
        "text only",
    ),
    "single, other model": (SINGLE, part(model="models/x"), 400, "got models/x"),
    "chat model": (BATCH.replace(OLD, "gemini-3.8-flash"), {}, 404, "not supported for batchEmbedContents"),
}  # fmt: skip


@pytest.mark.parametrize("name", GEMINI)
async def test_gemini_refuses(ask, name: str):
    path, body, status, words = GEMINI[name]
    found, _, answer = await ask("gemini", path=path, body=body)
    assert (found, words in json.loads(answer)["error"]["message"]) == (status, True)


async def test_gemini_needs_money_and_post(ask):
    body = {"requests": [part()]}
    found, _, _ = await ask("gemini", path=BATCH, body=body, headers={"x-goog-api-key": "sim-noquota"})
    assert found == 429


async def test_one_alone_is_the_same_vector(ask):
    _, _, many = await ask("gemini", path=BATCH, body={"requests": [part("b"), part("a", title=None)]})
    _, _, one = await ask("gemini", path=SINGLE, body=part("a"))
    assert json.loads(one)["embedding"] == json.loads(many)["embeddings"][1]


@pytest.mark.parametrize(("model", "tokens"), [(NEW, 1), (OLD, None)])
async def test_the_official_sdk_embeds(sim, model: str, tokens: int | None):
    with made(sim, "v1beta") as client:
        answer = await client.aio.models.embed_content(
            model=model,
            contents="some",
            config={"output_dimensionality": 4, "task_type": "RETRIEVAL_DOCUMENT", "title": "t"},
        )
        await client.aio.aclose()
    assert [each.values for each in answer.embeddings] == [vector("some", 3072)[:4]]
    assert (answer.usage_metadata and answer.usage_metadata.prompt_token_count) == tokens


async def test_faults_are_scripted_like_any_other(sim, ask):
    sim.script("openai", Fault(status=503), on="embeddings")
    body = {"model": SMALL, "input": "a", "dimensions": 1}
    statuses = [(await ask("openai", path="/openai/v1/embeddings", body=body))[0] for _ in range(2)]
    assert statuses == [503, 200]
