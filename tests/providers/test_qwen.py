"""Qwen: where requests go, options, errors and models; requests and answers have modules of their own."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.errors import POLICY, ErrorKind, SettingsError, UpstreamError
from gateway.providers.base import Context, HttpRequest
from gateway.providers.qwen import MAX_LEARNED, configure
from gateway.providers.qwen.errors import KIND_BY_CODE, parse_error
from gateway.providers.qwen.models import home
from gateway.providers.qwen.requests import HOSTS, QwenOptions
from gateway.settings import parse, plan_providers

from .cases import CASES, CONTEXT, request, user
from .qwen_helpers import (
    LISTS,
    MULTIMODAL,
    PICTURE,
    PLUS,
    QWEN,
    TEXT,
    build,
    messages,
    refusal,
    refused,
)

GOLDEN = {
    1: "test_golden_01_a_multimodal_model_has_its_content_in_lists",
    2: "test_golden_02_the_path_that_answers_is_remembered",
    3: "test_golden_03_the_reverse",
    4: "test_golden_04_no_path_at_all_is_one_error_of_the_caller",
    12: "tests/e2e/test_resilience.py::test_a_blip_is_not_noticed",
    14: (
        "test_golden_14_billing_is_told_from_throttling",
        "tests/e2e/test_resilience.py::test_an_account_without_money_is_left_alone",
    ),
    21: "test_golden_21_hosts_of_regions_and_workspaces",
    25: "test_golden_25_the_list_of_models_is_the_health_check",
}


# ── the two paths ──────────────────────────────────────────────────────────────────────────────────────

HOMES = {
    TEXT: """qwen-plus qwen-max qwen-flash qwen-turbo qwen-long qwen3-max qwen3.6-max-preview qwen3.7-max
        qwen3-coder-plus qwq-plus deepseek-v4-pro glm-5.2 qwen2.5-72b-instruct qwen-plus-latest""",
    MULTIMODAL: """qwen-vl-max qwen3-vl-plus qvq-max qwen3.5-omni-plus qwen-vl-ocr qwen3.5-plus qwen3.5-flash
        qwen3.6-plus qwen3.6-flash qwen3.7-plus qwen3.7-flash qwen3.8-max qwen3.8-flash qwen3.8-omni-flash
        qwen3.9-plus qwen4-max kimi-k2.5 kimi-k3""",
}
MODELS = [(path, model) for path, models in HOMES.items() for model in models.split()]


@pytest.mark.parametrize(("path", "model"), MODELS)
def test_where_models_live(path: str, model: str):
    built = build(model)
    assert built.path == path
    content = msgspec.json.decode(built.body)["input"]["messages"][0]["content"]
    assert content == ("Hi" if path == TEXT else [{"text": "Hi"}])


def test_golden_01_a_multimodal_model_has_its_content_in_lists():
    system = {"role": "system", "content": "Be brief"}
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    said = messages(LISTS, system, user("Hi"), {"role": "assistant", "content": "Yes"}, user(parts))
    assert [m["content"] for m in said] == [
        [{"text": "Be brief"}],
        [{"text": "Hi"}],
        [{"text": "Yes"}],
        [{"text": "a"}, {"text": "b"}],
    ]
    assert [m["content"] for m in messages(PLUS, system, user(parts))] == ["Be brief", "a\nb"]


def paths(context: Context, answers: list[UpstreamError | None], **fields: Any) -> list[str]:
    """The paths that a conversation takes, each call answered as said; None is success."""
    chat = request({"messages": [user("Hi")], **fields}, fields.pop("model", PLUS))
    talk = QWEN.conversation(QWEN, chat, context)
    step, taken = next(talk), []
    for answer in answers:
        assert isinstance(step, HttpRequest)
        taken.append(step.path)
        if answer is None:
            with pytest.raises(StopIteration):
                next(talk)
        else:
            step = talk.throw(answer)
    return taken


@pytest.mark.parametrize("code", ["InvalidParameter", "BadRequest", "ModelNotFound", ""])
def test_golden_02_the_path_that_answers_is_remembered(code: str):
    context = Context(nonce=CONTEXT.nonce, learned={})
    assert paths(context, [refused(code=code), None]) == [TEXT, MULTIMODAL]
    assert context.learned == {PLUS: "multimodal"}
    assert paths(context, [None]) == [MULTIMODAL]
    assert paths(context, [None], model="qwen-max") == [TEXT]
    # and when it moves back, it is found again
    assert paths(context, [refused(), None]) == [MULTIMODAL, TEXT]
    assert paths(context, [None]) == [TEXT]


def test_golden_03_the_reverse():
    context = Context(nonce=CONTEXT.nonce, learned={})
    assert paths(context, [refused(), None], model=LISTS) == [MULTIMODAL, TEXT]
    assert paths(context, [None], model=LISTS) == [TEXT]
    picture = [user([PICTURE])]
    assert paths(context, [None], model=LISTS, messages=picture) == [MULTIMODAL]


def test_golden_04_no_path_at_all_is_one_error_of_the_caller():
    context = Context(nonce=CONTEXT.nonce, learned={})
    with pytest.raises(UpstreamError) as caught:
        paths(context, [refused(), refused()])
    error = caught.value
    assert (error.kind, error.status, error.param) == (ErrorKind.BAD_REQUEST, 400, "model")
    assert f"neither text nor multimodal generation has the model '{PLUS}'" in error.message
    assert not POLICY[error.kind].failover
    assert context.learned == {}


def test_only_a_wrong_path_is_tried_elsewhere():
    others = (refused("Bad parameter."), refused(status=404, code="ModelNotFound"), refused(status=500))
    for error in others:
        context = Context(nonce=CONTEXT.nonce, learned={})
        with pytest.raises(UpstreamError) as caught:
            paths(context, [error])
        assert caught.value is error
    media = refused()
    with pytest.raises(UpstreamError) as caught:  # a picture has no other path
        paths(context, [media], messages=[user([PICTURE])])
    assert caught.value is media
    busy = refused("Slow down.", 429, "Throttling")
    with pytest.raises(UpstreamError) as caught:  # the second answer is an answer of its own
        paths(context, [refused(), busy])
    assert caught.value is busy
    assert context.learned == {}


def test_only_so_much_is_remembered():
    """Names come from clients: a list of them must not grow for ever."""
    context = Context(nonce=CONTEXT.nonce, learned={f"qwen-{i}": "text" for i in range(MAX_LEARNED)})
    assert paths(context, [refused(), None]) == [TEXT, MULTIMODAL]
    assert len(context.learned) == MAX_LEARNED
    assert context.learned[PLUS] == "multimodal"
    assert "qwen-0" not in context.learned


def test_a_path_may_be_set():
    options = QwenOptions(paths={PLUS: "multimodal", LISTS: "text"})
    assert build(PLUS, options).path == MULTIMODAL
    assert build(LISTS, options).path == TEXT
    assert refusal(LISTS, options, messages=[user([PICTURE])]).param == "messages[0].content[0]"
    assert build("qwen-max", options).path == TEXT


def test_every_answer_is_asked_for_as_a_stream():
    for fields in ({}, {"stream": False}, {"stream": True}):
        built = build(**fields)
        assert built.stream
        assert built.headers == {"x-dashscope-sse": "enable"}


# ── options ────────────────────────────────────────────────────────────────────────────────────────────


def test_golden_21_hosts_of_regions_and_workspaces():
    """The key's redaction is the driver's: see tests/test_driver.py."""
    urls = {region: configure(QwenOptions(region=region)).base_url for region in HOSTS}  # type: ignore[arg-type]
    assert urls == {
        "cn-beijing": "https://dashscope.aliyuncs.com/api/v1",
        "ap-southeast-1": "https://dashscope-intl.aliyuncs.com/api/v1",
        "us-east-1": "https://dashscope-us.aliyuncs.com/api/v1",
        "cn-hongkong": "https://cn-hongkong.dashscope.aliyuncs.com/api/v1",
    }
    assert QWEN.base_url == urls["cn-beijing"]
    working = configure(QwenOptions(region="eu-central-1", workspace="ws-1"))
    assert working.base_url == "https://ws-1.eu-central-1.maas.aliyuncs.com/api/v1"
    assert working.auth("sim-qwen-key") == {
        "authorization": "Bearer sim-qwen-key",
        "x-dashscope-workspace": "ws-1",
    }
    assert working.build_request(request(CASES["plain"], PLUS)).path == TEXT


def planned(text: str) -> str:
    settings = parse(f"[providers.dashscope]\n{text}", "gateway.toml")
    plans = plan_providers(settings, {"QWEN_API_KEY": "sim-qwen-key"})
    (plan,) = [plan for plan in plans if plan.name == "qwen"]
    assert plan.off is None
    return plan.base_url


def test_a_base_url_wins_over_a_region():
    assert planned('options = {region = "us-east-1"}') == "https://dashscope-us.aliyuncs.com/api/v1"
    assert planned('base_url = "https://x.test/v1"\noptions = {region = "us-east-1"}') == "https://x.test/v1"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ('region = "mars"', "options.region"),
        ('region = "eu-central-1"', "region eu-central-1 needs a workspace"),
        ('workspace = "evil.test/"', "options.workspace"),
        ('workspace = "-a"', "options.workspace"),
        ('dialect = "klingon"', "options.dialect"),
        ('paths = {"qwen-plus" = "up"}', "options.paths"),
    ],
)
def test_mistakes_in_options_are_told(options: str, complaint: str):
    with pytest.raises(SettingsError) as caught:
        planned(f"options = {{{options}}}")
    assert complaint in str(caught.value)


def test_the_other_dialect():
    provider = configure(QwenOptions(dialect="compatible", region="ap-southeast-1"))
    assert provider.base_url == "https://dashscope-intl.aliyuncs.com/compatible-mode/v1"
    assert provider.name == "qwen"
    built = provider.build_request(request({**CASES["plain"], "enable_thinking": False}, PLUS))
    assert built.path == "/chat/completions"
    assert msgspec.json.decode(built.body)["enable_thinking"] is False
    assert provider.models_request.path == "/models"
    body = {"error": {"code": "insufficient_quota", "message": "x", "type": "insufficient_quota"}}
    assert provider.parse_error(429, {}, msgspec.json.encode(body)).kind is ErrorKind.RATE_LIMIT
    talk = provider.conversation(provider, request(CASES["plain"], PLUS), CONTEXT)
    assert next(talk) == provider.build_request(request(CASES["plain"], PLUS))


OWNED = {"qwen3.8-max", "qwen-plus", "qwq-plus", "qvq-max", "qwen3-vl-plus"}
FOREIGN = {"deepseek-v4-pro", "glm-5.2", "gpt-6-luna", "qwen3:8b", "qwen/qwen3-8b", "gemini-3.8-flash"}


def test_bare_names():
    assert QWEN.owns is not None
    assert all(QWEN.owns.match(name) for name in OWNED)
    assert not any(QWEN.owns.match(name) for name in FOREIGN)
    assert all(QWEN.owns.match(name) for name in QWEN.models)
    assert all(home(name) for name in QWEN.models)


# ── errors and models ──────────────────────────────────────────────────────────────────────────────────


def test_golden_14_billing_is_told_from_throttling():
    """Twice a code says the opposite of what it does elsewhere: waiting cures the one, not the other."""
    arrears = refused("Overdue.", 400, "Arrearage")
    assert (arrears.kind, arrears.code, arrears.failover) == (ErrorKind.QUOTA, "insufficient_quota", True)
    for code in ("Throttling.AllocationQuota", "insufficient_quota"):
        throttled = refused("Wait.", 429, code)
        assert (throttled.kind, throttled.code) == (ErrorKind.RATE_LIMIT, "rate_limit_exceeded")
        assert (throttled.type, throttled.failover) == ("rate_limit_error", True)
    overdue = refused("Overdue.", 429, "PostpaidBillOverdue")
    assert (overdue.kind, overdue.type, overdue.failover) == (ErrorKind.QUOTA, "insufficient_quota", True)
    waiting = msgspec.json.encode({"code": "PostpaidBillOverdue", "message": "Overdue."})
    assert parse_error(429, {"retry-after": "1"}, waiting).retry_after is None


@pytest.mark.parametrize("code", KIND_BY_CODE)
def test_every_code_is_known_in_any_case_and_with_more_behind_it(code: str):
    for said in (code, code.upper(), f"{code}.More"):
        assert refused("x", 418, said).kind is KIND_BY_CODE[code]


def test_an_answer_that_conflicts_is_the_callers_matter():
    assert refused("x", 409, "Conflict").status == 400
    assert refused("x", 409, "").kind is ErrorKind.BAD_REQUEST


def listed(page: int, size: int, total: int, *models: str) -> bytes:
    shown = [{"model": m, "source": "aliyun", "provider": "qwen", "opensource": False} for m in models]
    output = {"models": shown, "total": total, "page_no": page, "page_size": size}
    return msgspec.json.encode({"output": output, "request_id": "r1"})


def test_golden_25_the_list_of_models_is_the_health_check():
    assert QWEN.health_request is not None
    assert (QWEN.health_request.method, QWEN.health_request.path) == ("GET", "/models?page_no=1&page_size=1")
    page = QWEN.parse_models(listed(1, 1, 300, "qwen3.8-max"))
    assert [(m.id, m.owned_by) for m in page.models] == [("qwen3.8-max", "qwen")]
    wrong = refused("Invalid API-key provided.", 401, "InvalidApiKey")
    assert (wrong.kind, wrong.status, wrong.code) == (ErrorKind.AUTH, 502, "provider_auth_error")
    assert "region" in wrong.message
    assert "region" not in refused("No.", 403, "AccessDenied").message


def test_models_stand_on_pages():
    assert QWEN.models_request.path == "/models?page_no=1&page_size=100"
    first = QWEN.parse_models(listed(1, 100, 150, "a", "b"))
    assert first.following is not None
    assert first.following.path == "/models?page_no=2&page_size=100"
    assert QWEN.parse_models(listed(2, 100, 150, "c")).following is None
    assert QWEN.parse_models(listed(3, 100, 900)).following is None  # an empty page is the last
    assert QWEN.parse_models(b'{"output":{"models":[{"model":"a"},{}]}}').models[0].owned_by == "qwen"
    assert QWEN.parse_models(b'{"request_id":"r"}').models == []
