# ruff: noqa: E501  (tables: one case a line)
"""What the Cursor stand-in refuses and takes."""

from __future__ import annotations

import base64
import json
import random

import pytest

from gateway.simulator import Fault
from gateway.simulator.server import _act
from gateway.simulator.wire import Rejected, Request

from .cursor_client import AID, ANSWER, HELLO, KEY, PNG, Client, Desk
from .test_robust import mutated


@pytest.fixture
def cursor(connect):
    return Client(connect)


@pytest.fixture
def desk():
    return Desk()


# --- what is refused ----------------------------------------------------------------------------------------

IMAGE_URL = {"url": "https://example.org/a.png"}


def prompt(*images):
    return {"prompt": {"text": "x", "images": list(images)}}


def model(identity, *params):
    return {"model": {"id": identity, "params": [{"id": name, "value": value} for name, value in params]}}


# fields over HELLO → code, part of the message
REFUSED = [
    ({"prompt": None}, "validation_error", "prompt: expected object, received null"),
    ({"prompt": {}}, "validation_error", "prompt.text: required"),
    ({"prompt": {"text": 3}}, "validation_error", "prompt.text: expected str, received int"),
    ({"prompt": {"text": "x", "system": "y"}}, "validation_error", "prompt.system: unrecognized field"),
    ({"temperature": 1}, "validation_error", "temperature: unrecognized field"),
    ({"tools": []}, "validation_error", "tools: unrecognized field"),
    (b"{", "validation_error", "not valid JSON"),
    (b"[]", "validation_error", "expected object"),
    (prompt(*[IMAGE_URL] * 6), "validation_error", "at most 5 images"),
    (prompt({"data": "aGVsbG8=", "mimeType": "image/bmp"}), "validation_error", "prompt.images[0].mimeType: invalid value 'image/bmp'"),
    (prompt({"data": "aGVsbG8="}), "validation_error", "either url, or data with mimeType"),
    (prompt({"mimeType": "image/png"}), "validation_error", "either url, or data with mimeType"),
    (prompt(PNG, {**PNG, **IMAGE_URL}), "validation_error", "prompt.images[1]: either url, or data"),
    (prompt({**PNG, "data": "data:image/png;base64,aGVsbG8="}), "validation_error", "prompt.images[0].data: invalid base64"),
    (prompt({**PNG, "data": base64.b64encode(bytes(15 * 2**20 + 1)).decode()}), "validation_error", "at most 15728640 bytes"),
    (prompt({"url": "data:image/png;base64,aGVsbG8="}), "validation_error", "prompt.images[0].url: invalid URL"),
    (prompt({"image_url": {}}), "validation_error", "unrecognized field"),
    (model("gpt-99"), "invalid_model", "Model 'gpt-99' is not available"),
    (model("auto"), "invalid_model", "not available"),
    (model("composer"), "invalid_model", "not available"),
    (model("composer-2.5", ("effort", "high")), "validation_error", "model.params[0].id: 'effort' is no parameter of composer-2.5"),
    (model("composer-2.5", ("fast", "maybe")), "validation_error", "model.params[0].value: 'maybe' is no value of 'fast'"),
    (model("composer-2.5", ("fast", "true"), ("fast", "true")), "validation_error", "model.params[1].id"),
    ({"model": "composer-2.5"}, "validation_error", "model: expected"),
    ({"mode": "ask"}, "validation_error", "mode: invalid value 'ask'"),
    ({"agentId": "bc-1"}, "validation_error", "agentId: expected bc-<uuid>"),
    ({"agentId": AID[3:]}, "validation_error", "agentId: expected bc-<uuid>"),
    ({"agentId": AID, "envVars": {"A": "b"}}, "validation_error", "cannot be combined with envVars"),
    ({"metadata": {"a": 1}}, "validation_error", "metadata: expected str, received int"),
    ({"metadata": ["a"]}, "validation_error", "metadata: expected object"),
    ({"name": 3}, "validation_error", "name: expected"),
    ({"repos": [{"url": "x"}] * 21}, "validation_error", "repos: at most 20"),
    ({"repos": [{"repository": "x"}]}, "validation_error", "repos[0]"),
    ({"env": {"type": "local"}}, "validation_error", "env.type: invalid value 'local'"),
    ({"mcpServers": [{}] * 51}, "validation_error", "mcpServers: at most 50"),
    ({"customSubagents": [{}] * 21}, "validation_error", "customSubagents: at most 20"),
    ({"envVars": {str(n): "" for n in range(51)}}, "validation_error", "envVars: at most 50"),
    ({"runEnvVars": {str(n): "" for n in range(51)}}, "validation_error", "runEnvVars: at most 50"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "code", "words"), REFUSED, ids=lambda value: str(value)[:60])
def test_refused(desk, fields, code, words):
    with pytest.raises(Rejected) as caught:
        desk.call("POST", "/v1/agents", fields if isinstance(fields, bytes) else {**HELLO, **fields})
    assert (caught.value.status, caught.value.code) == (400, code)
    assert words in caught.value.message
    assert json.loads(desk.cursor.error(caught.value).body)["error"]["code"] == code
    assert list(desk.cursor.agents) == []


TAKEN = [
    {},
    {"agentId": AID, "name": "gw", "metadata": {"gateway_request": "1"}, "repos": [], "mode": "plan"},
    model("composer-2.5", ("fast", "true")),
    model("claude-opus-4-6", ("effort", "low"), ("thinking", "true")),
    {"model": {"id": "grok-4.6"}},
    prompt(PNG, IMAGE_URL, {**PNG, "mimeType": "image/webp"}, {**IMAGE_URL, "dimension": {"width": 1, "height": 2}}, PNG),
    {"repos": [{"url": "https://example.org/r", "startingRef": "main"}], "autoCreatePR": False, "workOnCurrentBranch": True},
    {"envVars": {"A": "b"}, "env": {"type": "pool", "name": "p"}, "mcpServers": [{"name": "m"}]},
]  # fmt: skip


@pytest.mark.parametrize("fields", TAKEN, ids=lambda value: str(value)[:60])
def test_taken(desk, fields):
    assert desk.call("POST", "/v1/agents", {**HELLO, **fields}, ANSWER).status == 201


@pytest.mark.parametrize(
    "fields",
    [{"agentId": AID}, {"name": "x"}, {"metadata": {}}, {"repos": []}, {"prompt": {}}, model("gpt-99")],
)
def test_refused_as_a_follow_up(desk, fields):
    agent = desk.create(ANSWER).partition("/runs")[0]
    with pytest.raises(Rejected) as caught:
        desk.call("POST", f"{agent}/runs", {**HELLO, **fields})
    assert caught.value.status == 400


NOWHERE = [
    ("GET", "/v1/agents/bc-nope", "agent_not_found"),
    ("POST", "/v1/agents/bc-nope/runs", "agent_not_found"),
    ("POST", "/v1/agents/bc-nope/archive", "agent_not_found"),
    ("DELETE", "/v1/agents/bc-nope", "agent_not_found"),
    ("GET", f"/v1/agents/{AID}/runs/run-nope", "run_not_found"),
    ("GET", f"/v1/agents/{AID}/runs/run-nope/stream", "run_not_found"),
    ("POST", f"/v1/agents/{AID}/runs/run-nope/cancel", "run_not_found"),
    ("GET", f"/v1/agents/{AID}/usage?runId=run-nope", "run_not_found"),
]


@pytest.mark.parametrize(("method", "path", "code"), NOWHERE)
async def test_what_is_not_there(cursor, method, path, code):
    await cursor.create({**HELLO, "agentId": AID})
    status, _, body = await cursor.call(method, path, HELLO)
    assert (status, body["error"]["code"]) == (404, code)


async def test_three_forms_of_errors(sim, cursor):
    """The document names three; each has its place."""
    for method, path in (("GET", "/v0/agents"), ("PUT", "/v1/agents"), ("GET", "/v1/agents/a/runs/b/cancel")):
        status, _, body = await cursor.call(method, path)
        assert (status, body) == (404, {"code": "not_found", "message": "Not found."})
    sim.script(
        "cursor",
        Fault(status=429, headers={"retry-after": "60"}),
        Fault(status=429, code="resource_exhausted"),
    )
    status, headers, body = await cursor.call("POST", "/v1/agents", HELLO)
    assert (status, headers["retry-after"]) == (429, "60")
    assert body == {"error": "Too Many Requests", "message": "Rate limit exceeded. Please try again later."}
    _, _, body = await cursor.call("POST", "/v1/agents", HELLO)
    assert body["error"]["code"] == "resource_exhausted"
    details = {"helpUrl": "https://example.org", "provider": "github"}
    sim.script("cursor", Fault(status=403, code="integration_not_connected", details=details), on="me")
    _, _, body = await cursor.call("GET", "/v1/me")
    assert body["error"] == {
        "code": "integration_not_connected",
        "message": "You may not do this.",
        **details,
    }


def basic(user: str) -> str:
    return "Basic " + base64.b64encode(user.encode()).decode()


@pytest.mark.parametrize("given", ["Bearer sim-cursor-key", basic("sim-cursor-key:"), "bearer k"])
async def test_keys(cursor, given):
    assert (await cursor.call("GET", "/v1/me", authorization=given))[0] == 200


NO_KEYS = ["Bearer ", basic(":k"), "Basic !", "Basic /w==", "Basic", "k", None]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        *((each, "unauthorized") for each in NO_KEYS),
        *((each, "api_key_not_found") for each in ("Bearer wrong", basic("wrong:"))),
    ],
)
async def test_keys_that_are_none(cursor, given, code):
    status, _, body = await cursor.call("GET", "/v1/me", authorization=given)
    assert (status, body["code"]) == (401, code)


async def test_no_money_left(cursor):
    status, headers, body = await cursor.call("POST", "/v1/agents", HELLO, authorization="Bearer noquota")
    assert (status, body["error"]["code"]) == (429, "usage_limit_exceeded")
    assert "retry-after" not in headers


def test_mutations_are_answered_or_refused():
    luck, answered = random.Random("cursor"), 0
    desk = Desk()
    for _ in range(1500):
        body = json.dumps(mutated({**HELLO, **luck.choice(TAKEN)}, luck)).encode()
        try:
            outcome, step = desk.cursor.handle(Request("POST", "/v1/agents", {}, KEY, body)).do(None)
            list(_act(desk.cursor, outcome, step))
            answered += 1
        except Rejected as problem:
            assert json.loads(desk.cursor.error(problem).body)
    assert answered > 10
