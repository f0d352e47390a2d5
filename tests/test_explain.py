"""What would be sent, without sending it: the plan, each provider's own request, what is lost, who refuses.

`python -m tests.test_explain` writes the explanations of docs/examples anew.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from gateway import __version__, app, cli, explain, settings
from gateway.chat import ChatRequest
from gateway.errors import ErrorKind, GatewayError, UpstreamError
from gateway.exchange import Open, Preview, Target
from gateway.intake import read_request
from gateway.providers import PROVIDERS
from gateway.providers.base import (
    Capabilities,
    Context,
    Conversation,
    Fetch,
    Follow,
    HttpRequest,
    Provider,
    Step,
    Wait,
)
from gateway.router import Member, Router
from gateway.upstream import Upstream

from .fakes import OPENAI, FakeOpen, ScriptedTransport, chat

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
NATIVE = [name for name, provider in PROVIDERS.items() if provider.local is None]
KEYS = {name: "sim-explain-key" for provider in PROVIDERS.values() for name in provider.key_names}


def router(text: str = "", environ: dict[str, str] | None = None) -> Router:
    return app.connect(settings.parse(text, "test"), environ or {}).router


# ── the examples of the documents ──────────────────────────────────────────────────────────────────────


def explained(name: str) -> str:
    """The explanation of an example, with the keys there and without the version of the gateway."""
    request = read_request((EXAMPLES / f"{name}.json").read_bytes())
    found = msgspec.json.encode(explain.explain(router(environ=KEYS), request))
    shown = msgspec.json.format(found).decode()
    return shown.replace(f"local-llm-gateway/{__version__}", "local-llm-gateway/*") + "\n"


@pytest.mark.parametrize("name", NATIVE)
def test_examples_are_explained_as_the_documents_show(name: str):
    shown = explained(name)
    assert (EXAMPLES / f"{name}.explained.json").read_text() == shown, "run: python -m tests.test_explain"
    (target,) = json.loads(shown)["targets"]
    assert target["target"].startswith(f"{name}/")
    assert target["outcome"] == "called"
    assert target["dropped"], "an example shows what its provider cannot take"
    assert "sim-explain-key" not in shown
    assert "***" in shown


def test_every_example_has_its_provider():
    names = {path.name.partition(".")[0] for path in EXAMPLES.glob("*.json")}
    assert names == set(NATIVE)


def says_it_at_once(name: str) -> bool:
    """Whether the first step of the provider's conversation is the call that brings the answer."""
    provider = PROVIDERS[name]
    step = next(provider.conversation(provider, chat(provider.default_model or "m"), Context("nonce")))
    return isinstance(step, HttpRequest)


@pytest.mark.parametrize("name", [name for name in NATIVE if says_it_at_once(name)])
async def test_what_is_shown_is_what_is_sent(name: str):
    """Through the same upstream: address, headers but for the key, and the body byte for byte."""
    request = read_request((EXAMPLES / f"{name}.json").read_bytes())
    attempt = msgspec.structs.replace(request, model=request.model.partition("/")[2])
    transport = ScriptedTransport(UpstreamError(ErrorKind.SERVER, "no"))
    up = Upstream(name, PROVIDERS[name], transport, key="sim-explain-key")
    seen = up.preview(attempt)
    assert transport.sent == []
    with pytest.raises(UpstreamError):
        async with up.open(attempt):
            pass
    http, url, headers = transport.sent[0]
    assert (seen.method, seen.url, seen.body, seen.dropped) == (http.method, url, http.body, http.dropped)
    assert seen.headers == {n: v.replace("sim-explain-key", "***") for n, v in headers.items()}
    assert seen.headers != headers


def test_the_document_names_every_field_and_every_word():
    document = (EXAMPLES.parent / "explain.md").read_text()
    structs = (explain.Explanation, explain.TargetPlan, explain.NativeRequest)
    words = [name for struct in structs for name in struct.__struct_fields__]
    for word in (*words, *get_args(explain.Kind), *get_args(explain.Outcome)):
        assert re.search(rf"[`.]{word}[`[]", document), word


# ── who is asked, and why not ──────────────────────────────────────────────────────────────────────────

ROUTES = """
[routes.second]
targets = ["openai/gpt-6-luna", "demo/echo", "demo/story"]
[routes.third]
targets = ["demo/nope", "demo/echo"]
[routes.none]
targets = ["demo/nope", "openai/gpt-6-luna"]
[providers.deepseek]
enabled = false
"""
SPONTANEOUS = [p for p in PROVIDERS.values() if p.spontaneous and p.default_model]
BAD_PACE = {"pace": "slow"}

CASES: dict[str, tuple[str, dict[str, Any], bool, list[str]]] = {  # name, fields, strict → outcomes
    "one model": ("demo/echo", {}, False, ["called"]),
    "no key": ("claude-sonnet-5-5", {}, False, ["skipped"]),
    "off": ("deepseek/deepseek-flash", {}, False, ["skipped"]),
    "route": ("second", {}, False, ["skipped", "called", "failover"]),
    "refused, then another": ("third", {}, False, ["refused", "called"]),
    "refused by each": ("none", {}, False, ["refused", "skipped"]),
    "lacks something": ("demo/echo", {"n": 2}, False, ["skipped"]),
    "each lacks something": ("second", {"n": 2}, False, ["skipped", "skipped", "skipped"]),
    "no such model there": ("demo/nope", {}, False, ["refused"]),
    "a refusal that ends it": ("second", BAD_PACE, False, ["skipped", "refused", "refused"]),
    "a loss": ("demo/echo", {"seed": 1}, False, ["called"]),
    "a strict loss": ("demo/echo", {"seed": 1}, True, ["refused"]),
    "a strict loss in a route": ("third", {"seed": 1}, True, ["refused", "refused"]),
    "a strict request without loss": ("demo/echo", {}, True, ["called"]),
    "auto without a key": ("auto", {}, False, ["skipped"] * len(SPONTANEOUS)),
}


@pytest.mark.parametrize("name", CASES)
async def test_the_plan_and_the_error_are_those_of_the_call(name: str):
    """Explained and done are the same: who answers, and what is told when nobody does."""
    model, fields, strict, outcomes = CASES[name]
    request = msgspec.structs.replace(chat(model, **fields), strict=strict)
    asked = router(ROUTES)
    found = explain.explain(asked, request)
    assert [plan.outcome for plan in found.targets] == outcomes
    try:
        async with asked.open(request) as exchange:
            served, error = str(exchange.target), None
            dropped = exchange.dropped
    except GatewayError as raised:
        served, error, dropped = "", raised.body()["error"], ()
    called = next((plan for plan in found.targets if plan.outcome == "called"), None)
    assert found.error == error
    assert (called.target if called else "") == served
    assert (called.dropped if called else ()) == dropped


def test_a_name_that_nobody_has_is_refused_as_ever():
    with pytest.raises(GatewayError) as caught:
        explain.explain(router(), chat("no-such-model"))
    assert (caught.value.status, caught.value.param) == (404, "model")


def fake(name: str, look: Callable[[ChatRequest], Preview]) -> Member:
    inner: Open = FakeOpen(name)
    return Member(
        name=name,
        provider=OPENAI,
        open=inner,
        preview=look,
        capabilities=lambda _model: Capabilities(context_window=1000, max_output=10),
    )


def test_nobody_is_called_and_each_target_sees_its_own_model():
    seen: list[str] = []

    def look(request: ChatRequest) -> Preview:
        seen.append(request.model)
        return Preview(method="POST", url="http://x/", headers={}, body=b'{"a":1.0}', dropped=("seed",))

    def refuse(request: ChatRequest) -> Preview:
        seen.append(request.model)
        raise UpstreamError(ErrorKind.BAD_REQUEST, "cannot be said", hop="gateway", param="messages")

    members = [fake("a", look), fake("b", refuse), fake("c", look)]
    plan = [Target("a", "m1"), Target("b", "m2"), Target("c", "m3")]
    first = explain.explain(Router(members, {"r": plan}), chat("r", stream=True))
    assert seen == ["m1", "m2", "m3"]
    assert all(member.open.asked == [] for member in members)  # type: ignore[attr-defined]
    assert [plan.outcome for plan in first.targets] == ["called", "refused", "failover"]
    assert (first.kind, first.stream, first.strict, first.error) == ("route", True, False, None)
    assert first.targets[1].error is not None
    assert first.targets[1].error["param"] == "messages"
    data = json.loads(msgspec.json.encode(first))
    assert data["targets"][0] == {
        "target": "a/m1",
        "outcome": "called",
        "context_window": 1000,
        "max_output_tokens": 10,
        "dropped": ["seed"],
        "request": {"method": "POST", "url": "http://x/", "headers": {}, "body": {"a": 1.0}},
    }
    ended = explain.explain(Router(members, {"r": plan[1:]}), chat("r"))
    assert [plan.outcome for plan in ended.targets] == ["refused", "unreached"]
    assert ended.error is not None
    assert ended.error["message"] == "gateway: cannot be said"


KINDS = {
    "second": "route",
    "auto": "auto",
    "demo/echo": "model",
    "google/gemini-3.8-flash": "model",
    "gpt-6-luna": "bare name",
}


@pytest.mark.parametrize("name", KINDS)
def test_what_a_name_stands_for(name: str):
    assert explain.explain(router(ROUTES), chat(name)).kind == KINDS[name]


def test_a_strict_refusal_names_all_that_would_be_lost():
    request = msgspec.structs.replace(chat("demo/echo", seed=1, top_p=0.5), strict=True)
    (plan,) = explain.explain(router(), request).targets
    assert (plan.outcome, plan.dropped, plan.request) == ("refused", ("seed", "top_p"), None)
    assert plan.error is not None
    assert plan.error["param"] == "seed"


@pytest.mark.parametrize("password", ["sim-password", "sim@password", "@", "%40%2F", ""])
def test_no_secret_is_shown(password: str):
    transport = ScriptedTransport()
    url = f"http://me:{password}@127.0.0.1:1/v1"
    up = Upstream("up", OPENAI, transport, key="sim-explain-key", base_url=url)
    seen = up.preview(chat("gpt-4.1"))
    assert seen.url == "http://***@127.0.0.1:1/v1/chat/completions"
    assert seen.headers["authorization"] == "Bearer ***"
    assert "sim-explain-key" not in repr(seen)


def test_a_key_is_shown_where_one_is_needed_and_only_there():
    """Without a key in the environment a person still sees which header it would go in."""
    without = Upstream("up", OPENAI, ScriptedTransport()).preview(chat("gpt-4.1"))
    assert without.headers["authorization"] == "Bearer ***"
    assert OPENAI.compatible is not None
    foreign = Upstream("up", OPENAI.compatible, ScriptedTransport(), base_url="http://x")
    assert "authorization" not in foreign.preview(chat("m")).headers


def test_a_request_that_is_too_deep_is_refused_as_when_it_is_called():
    def build(_request: ChatRequest) -> HttpRequest:
        raise RecursionError

    up = Upstream("up", replace(OPENAI, build_request=build), ScriptedTransport())
    with pytest.raises(UpstreamError) as caught:
        up.preview(chat("m"))
    error = caught.value
    assert (error.kind, error.hop, error.param) == (ErrorKind.BAD_REQUEST, "gateway", "messages")


FIRST_STEPS: dict[str, Callable[[HttpRequest], Step]] = {  # what a conversation may begin with
    "the call itself": lambda http: http,
    "a call that is fetched": Fetch,
    "a stream that is followed": lambda http: Follow(http, lambda _event: None),
    "a question before": lambda _http: Fetch(HttpRequest(method="GET", path="/models")),
    "a pause": lambda _http: Wait(1),
}


@pytest.mark.parametrize("name", FIRST_STEPS)
def test_the_call_that_carries_the_request_is_shown(name: str):
    def converse(provider: Provider, request: ChatRequest, _context: Context) -> Conversation:
        yield FIRST_STEPS[name](provider.build_request(request))
        raise AssertionError("nothing is answered when somebody only looks")

    up = Upstream("up", replace(OPENAI, conversation=converse), ScriptedTransport())
    assert up.preview(chat("gpt-4.1")).body == OPENAI.build_request(chat("gpt-4.1")).body


def test_a_refusal_that_a_conversation_begins_with_is_told():
    def converse(_provider: Provider, _request: ChatRequest, _context: Context) -> Conversation:
        yield UpstreamError(ErrorKind.UNSUPPORTED, "not like this", param="n")

    up = Upstream("up", replace(OPENAI, conversation=converse), ScriptedTransport())
    with pytest.raises(UpstreamError, match="not like this") as caught:
        up.preview(chat("m"))
    assert (caught.value.hop, caught.value.param) == ("gateway", "n")


# ── for people ─────────────────────────────────────────────────────────────────────────────────────────


def text(
    model: str, fields: dict[str, Any] | None = None, *, strict: bool = False, toml: str = ROUTES
) -> str:
    request = msgspec.structs.replace(chat(model, **(fields or {})), strict=strict)
    return explain.text(explain.explain(router(toml), request))


def test_the_text_of_a_route():
    shown = text("second", {"seed": 1})
    assert shown.startswith("second: a route of the settings (not streamed)\n\n")
    assert "  1. openai/gpt-6-luna  would need OPENAI_API_KEY\n" in shown
    assert "  2. demo/echo  called first\n     would lose or change: seed\n" in shown
    assert "  3. demo/story  called when those before it fail\n" in shown
    assert "\nWhat goes to demo/echo\n\nPOST local:/answer\n" in shown
    assert '\n  "model": "echo",\n' in shown
    assert shown.endswith("\nLost or changed on the way: seed")


def test_the_text_of_what_only_lacks_a_key_shows_its_request():
    shown = text("anthropic/claude-sonnet-5-5", {"stream": True})
    assert "would need ANTHROPIC_API_KEY\n" in shown
    assert "tokens: context 1,000,000, answer 128,000\n" in shown
    assert "POST https://api.anthropic.com/v1/messages\n" in shown
    assert "x-api-key: ***\n" in shown
    assert shown.endswith("Nothing is lost.")


def test_the_text_of_a_model_that_fails_over():
    shown = text("demo/echo", toml='[models."demo/echo"]\nfailover = ["demo/story"]\n')
    assert shown.startswith(
        "demo/echo: one model at one provider, then what it fails over to (not streamed)\n"
    )
    assert "  2. demo/story  called when those before it fail\n" in shown


def test_the_text_of_refusals():
    assert "skipped: switched off in the settings\n" in text("deepseek/deepseek-flash")
    both = text("anthropic/claude-sonnet-5-5", {"n": 2})
    assert "would need ANTHROPIC_API_KEY\n" in both
    assert "\n     and: gateway: anthropic/claude-sonnet-5-5 cannot take several choices ('n')" in both
    strict = text("demo/echo", {"seed": 1}, strict=True)
    assert "(not streamed, strict)" in strict
    assert "refused before anything is sent: 'seed' cannot be sent to demo/echo" in strict
    assert "POST" not in strict
    each = text("second", {"n": 2})
    assert "demo/echo  skipped: demo/echo cannot take several choices ('n')" in each
    assert "As things are, the answer is an error: gateway: no target can serve this:" in each


def test_long_base64_is_shortened_in_text_and_exact_in_json():
    data = "QUJD" * 100
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    words = {"type": "text", "text": "word " * 100}
    message = {"messages": [{"role": "user", "content": [image, words]}]}
    request = chat("openai/gpt-4.1", **message)
    found = explain.explain(router(), request)
    shown = explain.text(found)
    assert data not in shown
    assert '"data:image/png;base64,QUJDQUJDQUJDQUJDQUJDQUJD…" (422 characters)' in shown
    assert "word " * 100 in shown
    assert data in msgspec.json.encode(found).decode()


def test_nothing_of_a_request_controls_the_terminal():
    shown = text("demo/echo", {"\x1b[2J": 1, "user": "\x1b[31m\x9b31m"})
    assert "\x1b" not in shown
    assert "\x9b" not in shown
    assert "?[2J" in shown


# ── the command ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """Runs `gateway explain …` in an empty folder without any key: exit code, output, errors."""
    for name in (*KEYS, "GATEWAY_CONFIG", "GATEWAY_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gateway", "explain", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


BODY = b'{"model":"demo/echo","messages":[{"role":"user","content":"H\\u00e9"}],"seed":1}'


def test_the_command_shows_a_request_of_any_provider_without_keys(command: Any):
    for name in NATIVE:
        code, out, err = command(str(EXAMPLES / f"{name}.json"))
        assert (code, err) == (0, "")
        assert f"would need {' or '.join(PROVIDERS[name].key_names)}\n" in out
        assert "POST http" in out


def test_the_command_prints_json_that_is_exact(command: Any):
    code, out, _ = command("--json", "-", stdin=BODY)
    found = json.loads(out)
    assert code == 0
    assert found["targets"][0]["dropped"] == ["seed"]
    assert found["targets"][0]["request"]["body"]["messages"] == [{"role": "user", "content": "Hé"}]


def test_the_command_takes_another_model_and_is_strict(command: Any):
    code, out, _ = command(
        "-", "--model", "claude-sonnet-5-5", stdin=b'{"messages":[{"role":"user","content":"x"}]}'
    )
    assert code == 0
    assert "What goes to anthropic/claude-sonnet-5-5" in out
    code, out, _ = command("-", "--strict", stdin=BODY)
    assert code == 1
    assert "x-gateway-strict" in out


def test_the_command_reads_the_settings(command: Any, tmp_path: Path):
    (tmp_path / "own.toml").write_text(
        '[routes.r]\ntargets = ["demo/echo"]\n[providers.openai]\nenabled = false\n'
    )
    code, out, _ = command("-", "--model", "r", "--config", "own.toml", stdin=BODY)
    assert code == 0
    assert out.startswith("r: a route of the settings")
    assert command("-", "--model", "gpt-6-luna", "--config", "own.toml", stdin=BODY)[0] == 1  # it is off


MISTAKES = {
    "no such file": (["nope.json"], b"", "nope.json: No such file"),
    "a folder": (["."], b"", ".: Is a directory"),
    "no JSON": (["-"], b"{", "-: the body is not valid JSON"),
    "not text": (["-", "--model", "demo/echo"], b"\xff", "-: the body is not valid JSON"),
    "no request": (["-"], b"[]", "-: the body has to be a JSON object"),
    "a wrong field": (["-"], BODY.replace(b'"seed":1', b'"n":"x"'), "-: 'n': Expected int"),
    "bad settings": (["-", "--config", "nope.toml"], BODY, "nope.toml: no such file"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(command: Any, name: str):
    arguments, body, words = MISTAKES[name]
    code, out, err = command(*arguments, stdin=body)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"gateway: {words}")


def test_a_model_that_nobody_has_is_exit_code_1(command: Any):
    code, out, err = command("-", "--model", "nope", stdin=BODY)
    assert (code, out) == (1, "")
    assert "there is no model 'nope'" in err


def write() -> None:
    for name in NATIVE:
        (EXAMPLES / f"{name}.explained.json").write_text(explained(name))


if __name__ == "__main__":
    write()
