"""The settings file: strict, one clear line for a mistake, secrets that never show."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import trustme

from gateway import settings as module
from gateway.errors import SettingsError
from gateway.providers import PROVIDERS
from gateway.settings import (
    ProviderPlan,
    Secret,
    SecretRef,
    Settings,
    find,
    gateway_key,
    load,
    parse,
    plan_providers,
    resolve,
)

EXAMPLE = Path(__file__).parent.parent / "config" / "gateway.toml"

MISTAKES = {  # TOML → words of the one line
    "x = [": ["not valid TOML"],
    "[server]\nprt = 1": ["server.prt", "unknown key", "did you mean port?", "allowed: host, port"],
    "[server]\nport = 'x'": ["server.port", "expected a whole number, got text"],
    "[server]\nport = 70000": ["server.port", "65535"],
    "[server]\nmax_body = 'big'": ["server.max_body", '"20 MiB"'],
    "[server]\nmax_body = -1": ["server.max_body"],
    "[server]\nmax_body = true": ["server.max_body"],
    "[server]\nkeepalive_after = 0": ["server.keepalive_after"],
    "[server]\napi_key = 'hunter2'": ["server.api_key", "env:NAME", "file:PATH"],
    "[sever]": ["sever", "unknown key", "did you mean server?"],
    "[vault]\nmax_bytes = 'much'": ["vault.max_bytes", '"20 MiB"'],
    "[vault]\nmax_age = 0": ["vault.max_age"],
    "[vault]\nenabled = 'no'": ["vault.enabled", "true or false", "got text"],
    "[vault]\nsize = 1": ["vault.size", "unknown key", "enabled, max_bytes, max_age"],
    "[log]\nlevel = 'loud'": ["log.level", "debug, info, warning, error"],
    "[timeouts]\nidle = '1'": ["timeouts.idle", "a number", "got text"],
    "providers = 3": ["providers", "expected tables"],
    "[providers]\nopenai = 3": ["providers.openai", "expected a table"],
    "[providers.openai]\nurl = 'x'": ["providers.openai.url", "unknown key", "base_url"],
    "[providers.openai]\nbase_url = 'ftp://x'": ["providers.openai.base_url", "http://"],
    "[providers.openai]\ntls_min = '1.1'": ["providers.openai.tls_min", "1.2, 1.3"],
    "[providers.openai]\nca_file = '/no/such'": ["providers.openai.ca_file", "/no/such"],
    "[providers.openai.timeouts]\nfirst = 1": ["providers.openai.timeouts.first", "first_byte"],
    "[providers.openai.options]\nx = 1": ["providers.openai.options.x", "unknown key", "organization"],
    "[providers.demo.options]\npace = 'slow'": ["providers.demo.options.pace", "a number"],
    "[providers.demo]\ncompatible = true": ["providers.demo.compatible"],
    "[providers.openai]\ncompatible = true": ["providers.openai.base_url", "needs its address"],
    f"[providers.openai]\nca_file = '{__file__}'": ["providers.openai.ca_file", "no certificates"],
    "[providers.openai.options]\nproject = 'prüf'": ["providers.openai.options.project"],
    "[providers.gemini]\n[providers.google]": ["providers.google", "another name of gemini"],
    "[server]\nmax_body = '0 MiB'": ["server.max_body", "1 byte"],
    f"[server]\nmax_body = '{'9' * 400} MiB'": ["server.max_body"],
    "a = " + "[" * 5000: ["not valid TOML"],
    "[routes.'my route']\ntargets = ['openai/x']": ["routes.my route", "no client"],
    "[routes.'']\ntargets = ['openai/x']": ["routes.", "no client"],
    "[providers.mine]\nbase_url = 'http://x'": ["providers.mine.type", "openai"],
    "[providers.'a b']\ntype = 'openai'": ["a b", "letters"],
    "[routes.r]": ["routes.r", "targets", "required"],
    "[routes.r]\ntargets = []": ["routes.r.targets", "length >= 1"],
    "[routes.r]\ntargets = ['gpt']": ["routes.r.targets", "provider/model"],
    "[routes.r]\ntargets = ['opnai/gpt']": ["routes.r.targets", "did you mean openai?"],
    "[models.'gpt']": ["models.gpt", "provider/model"],
    "[models.'openai/g']\nfailover = 'x'": ["models.openai/g.failover", "a list"],
    "[models.'openai/g']\nfailover = ['x/y']": ["models.openai/g.failover", "no provider 'x'"],
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_one_line_with_file_key_and_what_is_allowed(text: str):
    with pytest.raises(SettingsError) as caught:
        parse(text, "gateway.toml")
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith("gateway.toml: ")
    for words in MISTAKES[text]:
        assert words in line
    assert "hunter2" not in line


ADDRESSES = {  # what cannot be a base URL → words of the one line
    "http://me:hunter2@x?y@host/v1": "no query",
    "http://me:hun/ter2@host/v1": "cannot be read",
    "http://me:123/ter2@host/v1": "cannot be read",
    "http://me:hun#ter2@host/v1": "no fragment",
    "http://me:hun@ter2@host/v1": "cannot be read",
    "http://me:hun[ter2@host/v1": "cannot be read",
    "http://me:hun ter2@host/v1": "no white space",
    "http://me:hun\\ter2@host/v1": "no backslashes",
    "http://me:hunter2@host:ter2/v1": "cannot be read",
    "http://me:hunter2@host:0/v1": "cannot be read",
    "http://me:hunter2@/v1": "cannot be read",
    "http://host/v1?key=hunter2": "no query",
    "http://host/v1?": "no query",
    "http://host/v1#hunter2": "no fragment",
    "http:///v1": "cannot be read",
    "me:hunter2@host": "http://",
}


@pytest.mark.parametrize("url", ADDRESSES)
def test_an_address_that_can_be_read_in_two_ways_is_refused_and_not_shown(url: str):
    with pytest.raises(SettingsError) as caught:
        parse(f"[providers.openai]\nbase_url = '{url}'\n", "gateway.toml")
    line = str(caught.value)
    assert line.startswith("gateway.toml: providers.openai.base_url: ")
    assert ADDRESSES[url] in line
    assert "ter2" not in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "url",
    [
        "http://me:a%40b%2Fc%3F@host:8080/v1",
        "https://[::1]:8080",
        "http://me@host/a%23b/",
        "http://prüf.example",
    ],
)
def test_addresses_that_are_taken(url: str):
    assert parse(f"[providers.openai]\nbase_url = '{url}'\n", "x").providers["openai"].base_url == url


def test_no_file_is_all_defaults():
    assert load(None) == parse("", "x") == Settings()


def test_values_are_read():
    chosen = parse(
        """
        [server]
        port = 1
        max_body = "1.5 MiB"
        [timeouts]
        idle = 7
        [providers.openai]
        api_key = "env:K"
        [providers.openai.timeouts]
        idle = 9
        [providers.local]
        type = "openai"
        base_url = "http://127.0.0.1:11434/v1"
        priority = 1
        [routes.smart]
        targets = ["openai/a", "local/b/c"]
        """,
        "x",
    )
    assert (chosen.server.port, chosen.server.max_body) == (1, 1_572_864)
    plans = {plan.name: plan for plan in plan_providers(chosen, {"K": " sim-key\n"})}
    assert next(iter(plans)) == "local"
    assert plans["openai"].timeouts.idle == 9
    assert plans["local"].timeouts.idle == 7
    assert plans["openai"].key is not None
    assert plans["openai"].key.reveal() == "sim-key"
    assert plans["local"].off is None


def plan(name: str, entry: str, environ: dict[str, str] | None = None) -> ProviderPlan:
    plans = plan_providers(parse(f"[providers.{name}]\n{entry}", "x"), environ or {})
    return next(p for p in plans if p.name == name)


def test_why_a_provider_is_off_names_the_variable():
    names = PROVIDERS["openai"].key_names[0]
    assert plan("openai", "").off == f"{names} is not set"
    assert plan("openai", "", {names: "  "}).off == f"{names} is not set"
    assert plan("openai", "api_key = 'env:MY_KEY'").off == "MY_KEY is not set"
    assert "cannot be read" in (plan("openai", "api_key = 'file:/no/such'").off or "")
    assert plan("openai", "enabled = false", {names: "k"}).off == "switched off in the settings"
    assert plan("openai", "", {names: "k"}).off is None
    assert plan("demo", "").off is None


def test_a_foreign_server_never_gets_the_providers_own_key():
    environ = {"OPENAI_API_KEY": "sim-key"}
    foreign = plan("local", "type = 'openai'\nbase_url = 'http://x/v1'", environ)
    assert (foreign.key, foreign.off, foreign.provider.name) == (None, None, "openai-compatible")
    second = plan("work", "type = 'openai'", environ)
    assert second.key is not None
    assert second.provider.name == "openai"
    moved = plan("openai", "base_url = 'http://x/v1'", environ)
    assert moved.provider.name == "openai"
    same = plan("local", "type = 'openai'\nbase_url = 'http://x/v1'\ncompatible = false", environ)
    assert same.provider.name == "openai"


def test_options_reach_the_provider():
    chosen = plan("openai", "options = { organization = 'org-x' }", {"OPENAI_API_KEY": "k"})
    assert chosen.provider.auth("k")["openai-organization"] == "org-x"


@pytest.mark.parametrize("value", ["a\nb", "a b", "schlüssel", "a\0b", "a\x7f"])
def test_a_dirty_key_is_refused_by_the_name_of_its_place(value: str, tmp_path: Path):
    """P79: what no header can carry ends here, and the value is not repeated."""
    path = tmp_path / "key"
    path.write_text(value)
    with pytest.raises(SettingsError):
        resolve(SecretRef("file", "a\0b"), {})
    for reference, environ in ((SecretRef("env", "K"), {"K": value}), (SecretRef("file", str(path)), {})):
        with pytest.raises(SettingsError) as caught:
            resolve(reference, environ)
        assert reference.place in str(caught.value)
        assert value not in str(caught.value)


def test_a_secret_never_shows(tmp_path: Path):
    """P81: whatever prints it prints stars; it is not pickled."""
    path = tmp_path / "key"
    path.write_text("sim-canary\n")
    secret = resolve(SecretRef("file", str(path)), {})
    assert secret.reveal() == "sim-canary"
    holder: Any = plan("openai", "", {"OPENAI_API_KEY": "sim-canary"})
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r:>50}", repr([secret]), repr(holder)):
        assert "sim-canary" not in shown
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        copy.deepcopy(secret)


def test_where_the_file_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    environ = {"HOME": str(tmp_path / "home")}
    assert find(None, environ) is None
    users = tmp_path / "home" / ".config" / "gateway" / "gateway.toml"
    users.parent.mkdir(parents=True)
    users.touch()
    assert find(None, environ) == users
    Path("gateway.toml").touch()
    assert find(None, environ) == Path("gateway.toml")
    named = tmp_path / "other.toml"
    named.touch()
    assert find(None, {**environ, "GATEWAY_CONFIG": str(named)}) == named
    assert find(str(users), {**environ, "GATEWAY_CONFIG": str(named)}) == users
    for explicit, names in ((str(tmp_path / "none"), {}), (None, {"GATEWAY_CONFIG": "none"})):
        with pytest.raises(SettingsError, match="no such file"):
            find(explicit, names)


def test_an_unreadable_file_is_one_line(tmp_path: Path):
    path = tmp_path / "g.toml"
    path.write_bytes(b"\xff\xfe")
    for bad in (path, tmp_path):
        with pytest.raises(SettingsError, match="cannot be read"):
            load(bad)


def test_the_gateways_own_key():
    assert gateway_key(Settings(), {}) is None
    secret = gateway_key(Settings(), {"GATEWAY_API_KEY": "abc"})
    assert isinstance(secret, Secret)
    assert secret.reveal() == "abc"
    named = parse("[server]\napi_key = 'env:OURS'", "x")
    with pytest.raises(SettingsError, match=r"server\.api_key: OURS is not set"):
        gateway_key(named, {"GATEWAY_API_KEY": "abc"})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_other_machines_need_a_key(host: str):
    """P75: a gateway that others can reach without a key does not start."""
    open_to_all = parse(f"[server]\nhost = '{host}'", "x")
    with pytest.raises(SettingsError, match="GATEWAY_API_KEY"):
        gateway_key(open_to_all, {})
    assert gateway_key(open_to_all, {"GATEWAY_API_KEY": "abc"}) is not None


def test_the_example_file_shows_every_setting_with_its_default(tmp_path: Path):
    """The comments of config/gateway.toml, uncommented, are the settings; nothing is missing."""
    text = EXAMPLE.read_text()
    assert parse(text, "example") == Settings()
    live = "\n".join(line.removeprefix("#:") for line in text.splitlines())
    authority = tmp_path / "own.pem"
    trustme.CA().cert_pem.write_to_path(str(authority))
    chosen = parse(live.replace("/etc/ssl/own.pem", str(authority)), "example")
    for part in (module.ServerSettings, module.LogSettings, module.TimeoutSettings):
        for field in part.__struct_fields__:
            assert f"{field} = " in live, f"{part.__name__}.{field}"
    for struct in (module.ProviderSettings, module.ModelSettings, module.RouteSettings):
        for field in struct.__struct_fields__:
            assert f"{field} = " in live or f".{field}]" in live, f"{struct.__name__}.{field}"
    assert chosen.server == module.ServerSettings(api_key=chosen.server.api_key)
    assert chosen.log == module.LogSettings()
    defaults = module.Timeouts()
    for field in module.TimeoutSettings.__struct_fields__:
        assert getattr(chosen.timeouts, field) == getattr(defaults, field)
