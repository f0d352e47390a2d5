"""Names to plans, and plans to answers: who is asked, in which order, and what is told when nobody can."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.chat import ChatRequest
from gateway.errors import POLICY, ErrorKind, GatewayError, RequestError, UpstreamError
from gateway.exchange import Preview, Target
from gateway.providers import PROVIDERS
from gateway.resilience.retry import RetryPolicy
from gateway.router import Member, Router

from .fakes import FakeOpen, chat


def unseen(_request: ChatRequest) -> Preview:
    raise AssertionError("opening looks at nothing")


def member(name: str, *failures: ErrorKind, off: str | None = None, default: str | None = None) -> Member:
    provider = PROVIDERS.get(name, PROVIDERS["openai"].compatible or PROVIDERS["openai"])
    return Member(
        name=name,
        provider=provider,
        open=FakeOpen(name, *failures),
        preview=unseen,
        capabilities=provider.capabilities,
        off=off,
        default_model=default,
    )


def opened(found: Member) -> FakeOpen:
    assert isinstance(found.open, FakeOpen)
    return found.open


A, B = Target("a", "m1"), Target("b", "m2")


def two(*failures: ErrorKind, second: tuple[ErrorKind, ...] = ()) -> Router:
    """Two targets, each asked once: how often one is asked again is the affair of `resilience.retry`."""
    members = [member("a", *failures), member("b", *second)]
    return Router(members, routes={"r": [A, B]}, retry=RetryPolicy(attempts=1))


async def ask(router: Router, request: ChatRequest) -> tuple[str, int]:
    async with router.open(request) as exchange:
        whole = await exchange.collect()
        return whole.text, exchange.attempts


async def refusal(router: Router, request: ChatRequest) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        await ask(router, request)
    return caught.value


NAMES = {
    "openai/gpt-x": "openai/gpt-x",
    "gpt-6-luna": "openai/gpt-6-luna",
    "o4-mini": "openai/o4-mini",
    "claude-sonnet-5-5": "anthropic/claude-sonnet-5-5",
    "gemini-3.8-flash": "gemini/gemini-3.8-flash",
    "google/gemini-3.8-flash": "gemini/gemini-3.8-flash",
    "local/org/model:8b": "local/org/model:8b",
    "demo/echo": "demo/echo",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_models(name: str):
    router = Router([member(n) for n in (*PROVIDERS, "local")])
    assert [str(t) for t in router.plan(name)] == [NAMES[name]]


@pytest.mark.parametrize(
    "name", ["zzz", "no/such", "/x", "openai/", "a b", "x\r\ny", "ä", "x" * 300, "../../etc/passwd?"]
)
def test_a_name_that_nobody_has(name: str):
    router = Router([member(n) for n in PROVIDERS])
    with pytest.raises(RequestError) as caught:
        router.plan(name)
    assert (caught.value.status, caught.value.code, caught.value.param) == (404, "model_not_found", "model")


def test_a_route_is_its_targets_and_failover_is_asked_for_by_name():
    router = Router([member("a"), member("b")], {"r": [A, B]}, {"a/m1": [B]})
    assert router.plan("r") == [A, B]
    assert router.plan("a/m1") == [A, B]
    assert router.plan("a/m9") == [Target("a", "m9")]


def test_auto_is_every_provider_that_is_on_and_has_a_default():
    router = Router(
        [
            member("a", default="x"),
            member("b"),
            member("c", off="no key", default="y"),
            member("d", default="z"),
        ]
    )
    assert [str(t) for t in router.plan("auto")] == ["a/x", "d/z"]


async def test_auto_without_any_key_says_what_to_set():
    error = await refusal(Router([member("openai", off="OPENAI_API_KEY is not set")]), chat("auto"))
    assert error.status == 503
    assert "OPENAI_API_KEY" in error.message


async def test_the_first_target_answers():
    router = two()
    assert await ask(router, chat("r")) == ("a", 1)
    assert opened(router.members["b"]).asked == []


@pytest.mark.parametrize("kind", [kind for kind in ErrorKind if POLICY[kind].failover])
async def test_a_failure_that_another_target_may_cure_fails_over(kind: ErrorKind):
    router = two(kind)
    assert await ask(router, chat("r")) == ("b", 2)
    first, second = opened(router.members["a"]), opened(router.members["b"])
    assert (first.asked[0].model, second.asked[0].model) == ("m1", "m2")  # each its own name of the model
    assert second.left == 1


@pytest.mark.parametrize("kind", [kind for kind in ErrorKind if not POLICY[kind].failover])
async def test_a_failure_that_no_other_target_cures_ends_it(kind: ErrorKind):
    router = two(kind)
    error = await refusal(router, chat("r"))
    assert (error.kind, error.hop) == (kind, "a")
    assert opened(router.members["b"]).asked == []


async def test_when_all_fail_the_last_one_speaks_and_names_the_others():
    """Pitfall 19: the provider's own status and words, not "nobody available"."""
    error = await refusal(two(ErrorKind.TIMEOUT, second=(ErrorKind.OVERLOADED,)), chat("r"))
    assert isinstance(error, UpstreamError)
    assert (error.hop, error.status, error.attempts) == ("b", 503, 2)
    assert error.message == "failed (tried before: a/m1: upstream_timeout)"


async def test_an_explicit_model_never_becomes_another():
    error = await refusal(two(ErrorKind.OVERLOADED), chat("a/m1"))
    assert error.hop == "a"


async def test_every_attempt_starts_from_the_clients_request():
    """Pitfall 30: nothing of a failed attempt is left in the next one."""
    router = two(ErrorKind.SERVER)
    request = chat("r", temperature=0.5)
    await ask(router, request)
    assert opened(router.members["b"]).asked[0].wire is request.wire
    assert request.model == "r"


async def test_targets_that_are_off_are_passed_over():
    router = Router([member("a", off="A_KEY is not set"), member("b")], {"r": [A, B]})
    assert await ask(router, chat("r")) == ("b", 1)
    error = await refusal(router, chat("a/m1"))
    assert (error.status, "A_KEY is not set" in error.message) == (404, True)


async def test_all_off_is_503_with_every_reason():
    router = Router([member("a", off="A_KEY is not set"), member("b", off="B_KEY is not set")], {"r": [A, B]})
    error = await refusal(router, chat("r"))
    assert (error.status, error.code) == (503, "no_provider")
    assert "A_KEY" in error.message
    assert "B_KEY" in error.message


LACKING: dict[str, tuple[dict[str, Any], str]] = {  # what demo models cannot do, and the field that asks
    "images": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "messages[0].content[0]",
    ),
    "n": ({"n": 2}, "n"),
    "schema": ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format"),
    "custom tool": ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
    "audio": ({"modalities": ["text", "audio"], "audio": {}}, "modalities"),
}


@pytest.mark.parametrize("name", LACKING)
async def test_a_target_that_lacks_what_is_needed_is_not_asked(name: str):
    """P112: failover keeps what the request means."""
    fields, param = LACKING[name]
    router = Router([member("demo"), member("b")], {"r": [Target("demo", "echo"), B]})
    assert await ask(router, chat("r", **fields)) == ("b", 1)
    error = await refusal(router, chat("demo/echo", **fields))
    assert (error.status, error.code, error.param) == (400, "unsupported_parameter", param)
    assert opened(router.members["demo"]).asked == []
