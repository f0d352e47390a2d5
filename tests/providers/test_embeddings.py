"""How each API is asked for embeddings, and what its answers mean."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.embeddings import EmbeddingsRequest, decode_embeddings, from_base64, to_base64
from gateway.errors import ErrorKind, UpstreamError
from gateway.providers import PROVIDERS
from gateway.providers.base import Embedder, HttpRequest, Provider
from gateway.providers.gemini import GeminiOptions, configure

OPENAI, GEMINI = PROVIDERS["openai"], PROVIDERS["gemini"]
VECTOR = [0.5, -1.0]
WITHOUT = PROVIDERS.keys() - {"openai", "gemini"}


def request(given: Any = "a", model: str = "m", **fields: Any) -> EmbeddingsRequest:
    return decode_embeddings(msgspec.json.encode({"model": model, "input": given, **fields}))


def embedder(provider: Provider | None) -> Embedder:
    assert provider is not None
    assert provider.embeddings is not None
    return provider.embeddings


def sent(http: HttpRequest) -> Any:
    return msgspec.json.decode(http.body)


def test_who_has_none():
    assert {name for name, provider in PROVIDERS.items() if provider.embeddings is None} == WITHOUT


# ── openai ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", [None, "float", "base64"])
def test_openai_is_asked_for_base64(form: str | None):
    fields = {} if form is None else {"encoding_format": form}
    asked = request(["a", "b"], "openai-name", dimensions=2, user="u", new_field=[1], **fields)
    http = embedder(OPENAI).build_request(msgspec.structs.replace(asked, model="m"))
    assert (http.method, http.path, http.stream, http.dropped) == ("POST", "/embeddings", False, ())
    assert sent(http) == {
        "model": "m",
        "input": ["a", "b"],
        "dimensions": 2,
        "user": "u",
        "new_field": [1],
        "encoding_format": "base64",
    }


@pytest.mark.parametrize(
    "fields", [{}, {"encoding_format": "float"}, {"encoding_format": None, "x": {"y": 1}}]
)
def test_a_compatible_server_gets_it_as_it_came(fields: dict[str, Any]):
    asked = request([[1, 2]], **fields)
    http = embedder(OPENAI.compatible).build_request(msgspec.structs.replace(asked, model="theirs"))
    assert sent(http) == {"model": "theirs", "input": [[1, 2]], **fields}
    assert embedder(OPENAI.compatible).most is None


def answer(*items: dict[str, Any], **fields: Any) -> bytes:
    return msgspec.json.encode({"object": "list", "data": list(items), **fields})


def test_an_answer_in_any_order_and_either_form():
    """Servers that do not know `encoding_format` send numbers whatever they were asked."""
    body = answer(
        {"index": 1, "embedding": [3.0, 4.0]},
        {"index": 0, "embedding": to_base64(VECTOR)},
        model="said",
        usage={"prompt_tokens": 3, "total_tokens": 3},
        id="e-1",
    )
    numbers = embedder(OPENAI).parse(body, request(["a", "b"]))
    assert [list(vector) for vector in numbers.vectors] == [VECTOR, [3.0, 4.0]]
    assert (numbers.model, set(numbers.wire)) == ("said", {"id"})
    assert numbers.usage is not None
    assert numbers.usage.prompt_tokens == 3
    coded = embedder(OPENAI).parse(body, request(["a", "b"], encoding_format="base64"))
    assert [list(from_base64(str(vector))) for vector in coded.vectors] == [VECTOR, [3.0, 4.0]]


def test_items_without_an_index_are_in_order():
    body = answer({"embedding": [1]}, {"embedding": [2]})
    found = embedder(OPENAI).parse(body, request(["a", "b"]))
    assert ([list(vector) for vector in found.vectors], found.usage) == ([[1.0], [2.0]], None)


@pytest.mark.parametrize("indexes", [(0, 0), (1, 2), (0, None), (-1, 0)])
def test_indexes_that_are_not_those_of_the_inputs_are_refused(indexes: tuple[int | None, ...]):
    body = answer(*({"index": index, "embedding": [1.0]} for index in indexes))
    with pytest.raises(msgspec.ValidationError):
        embedder(OPENAI).parse(body, request(["a", "b"]))


def test_usage_that_nobody_can_read_is_none():
    found = embedder(OPENAI).parse(answer({"embedding": [1]}, usage={"prompt_tokens": "many"}), request())
    assert found.usage is None


def test_an_error_inside_a_good_answer_of_openais_dialect():
    body = b'{"error":{"message":"full","code":"server_is_overloaded"}}'
    with pytest.raises(UpstreamError) as caught:
        embedder(OPENAI).parse(body, request())
    assert caught.value.kind is ErrorKind.OVERLOADED


def test_a_model_that_does_not_embed_is_no_matter_of_the_key():
    body = b'{"error":{"message":"You are not allowed to generate embeddings from this model"}}'
    assert OPENAI.parse_error(403, {}, body).kind is ErrorKind.UNSUPPORTED
    assert OPENAI.parse_error(403, {}, b'{"error":{"message":"No"}}').kind is ErrorKind.AUTH


# ── gemini ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("model", ["gemini-embedding-001", "models/gemini-embedding-001"])
def test_gemini_is_asked_in_a_batch(model: str):
    """Golden case 30: `dimensions` is `outputDimensionality`, in every request of the batch."""
    http = embedder(GEMINI).build_request(request(["a", "b"], model, dimensions=8, encoding_format="base64"))
    assert (http.method, http.path) == ("POST", "/v1beta/models/gemini-embedding-001:batchEmbedContents")
    name = "models/gemini-embedding-001"
    assert sent(http) == {
        "requests": [
            {"model": name, "content": {"parts": [{"text": text}]}, "outputDimensionality": 8}
            for text in "ab"
        ]
    }
    assert (http.dropped, embedder(GEMINI).most) == ((), 100)


def test_gemini_is_asked_for_nothing_that_nobody_wants():
    http = embedder(GEMINI).build_request(request("a", user=None))
    assert sent(http) == {"requests": [{"model": "models/m", "content": {"parts": [{"text": "a"}]}}]}
    assert http.dropped == ()


def test_gemini_names_what_it_cannot_take():
    assert embedder(GEMINI).build_request(request(user="u", odd=1)).dropped == ("user", "odd")


@pytest.mark.parametrize("given", [[1, 2], [[1], [2]]])
def test_gemini_takes_no_tokens(given: Any):
    with pytest.raises(UpstreamError) as caught:
        embedder(GEMINI).build_request(request(given))
    assert (caught.value.kind, caught.value.param) == (ErrorKind.UNSUPPORTED, "input")


@pytest.mark.parametrize("model", ["../m", "a/b", "m:generateContent", "m?x=1", "."])
def test_gemini_names_that_leave_the_path_are_refused(model: str):
    with pytest.raises(UpstreamError) as caught:
        embedder(GEMINI).build_request(request(model=model))
    assert caught.value.kind is ErrorKind.NOT_FOUND


def test_geminis_version_is_an_option():
    provider = configure(GeminiOptions(api_version="v1"))
    assert embedder(provider).build_request(request()).path == "/v1/models/m:batchEmbedContents"


@pytest.mark.parametrize(
    ("metadata", "tokens"),
    [({}, None), ({"usageMetadata": {}}, None), ({"usageMetadata": {"promptTokenCount": 7}}, 7)],
)
def test_gemini_tells_the_tokens_or_does_not(metadata: dict[str, Any], tokens: int | None):
    body = msgspec.json.encode({"embeddings": [{"values": VECTOR}], **metadata})
    found = embedder(GEMINI).parse(body, request())
    assert [list(vector) for vector in found.vectors] == [VECTOR]
    assert (found.usage and found.usage.prompt_tokens) == tokens
