"""Gemini: the frame of a request, the parts of its messages, options and models."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.errors import ErrorKind, UpstreamError
from gateway.providers import gemini
from gateway.providers.gemini import PROVIDER
from gateway.providers.gemini.models import traits
from gateway.providers.gemini.requests import GeminiOptions

from .cases import CONTEXT, PDF, PNG, request, user
from .gemini_helpers import (
    FLASH,
    assistant,
    build,
    config,
    contents,
    form,
    image,
    inline,
    refusal,
    remote,
    says,
    tool,
)

GOLDEN = {
    1: "test_golden_01_plain",
    14: (
        "test_golden_14_media",
        "test_golden_14_media_that_cannot_be_said",
        "test_golden_14_oldest_models_fetch_nothing_and_have_one_resolution",
    ),
    15: (
        "test_golden_15_model_paths",
        "test_golden_15_models_that_leave_the_path_are_refused",
    ),
    16: "test_golden_16_private_fields_stay_here",
    20: "tests/e2e/test_resilience.py::test_an_empty_answer_is_asked_for_again",
    27: "tests/e2e/test_resilience.py::test_an_end_in_the_middle_is_not_repeated_and_counts",
    28: "tests/e2e/test_resilience.py::test_a_rate_limit_goes_elsewhere_and_closes_the_account",
    30: (
        "tests/e2e/test_embeddings.py::test_250_inputs_are_three_batches_for_gemini",
        "tests/e2e/test_embeddings.py::test_base64_and_numbers_are_the_same_vectors",
        "tests/providers/test_embeddings.py::test_gemini_is_asked_in_a_batch",
        "tests/test_embeddings.py::test_vectors_survive_base64",
    ),
}


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


# ── parts ──────────────────────────────────────────────────────────────────────────────────────────────

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
    assert next(provider.conversation(provider, chat, CONTEXT)) == http
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


def test_models_that_chat_or_embed_are_listed():
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
        ("gemini-3.8-flash", "google", 1048576, 65536),
        ("gemini-embedding-001", "google", None, None),
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
