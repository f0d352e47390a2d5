"""The documents are true: tables are those of the code, snippets run, commands and settings are all there.

`python -m tests.test_docs` writes the tables anew.
"""

from __future__ import annotations

import re
import tomllib
import types
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from gateway import cli, settings
from gateway.app import PATHS
from gateway.errors import POLICY, Retry
from gateway.providers import PROVIDERS
from gateway.providers.base import Provider
from gateway.simulator import FAULTS
from gateway.upstream import Upstream

from .fakes import Reply, ScriptedTransport, chat

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
MARK = re.compile(r"(<!-- table: (\w+) -->\n)((?:\n?\|.*)*)")


def table(*rows: tuple[str, ...]) -> str:
    head, *rest = rows
    lines = [head, tuple("---" for _ in head), *rest]
    return "\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines)


ASKED_AGAIN = {
    Retry.NO: "no",
    Retry.QUICK: "once soon, then with pauses",
    Retry.LAST: "when nobody else is left",
    Retry.STATED: "when its wait is short, or nobody else is left",
}


def policy_table() -> str:
    rows = (
        (
            kind.value,
            str(p.status),
            p.type,
            p.code or "as the provider says",
            ASKED_AGAIN[p.retry],
            "yes" if p.failover else "no",
            "" if p.breaker == "none" else p.breaker,
        )
        for kind, p in POLICY.items()
    )
    return table(
        ("kind", "status", "type", "code", "the same target again", "next target of a route", "circuit"),
        *rows,
    )


def faults_table() -> str:
    return table(("kind", "what the peer sees"), *((f"`{name}`", what) for name, what in FAULTS.items()))


def options_table() -> str:
    rows = []
    for name, provider in PROVIDERS.items():
        for field in msgspec.structs.fields(provider.options):
            default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
            shown = "none" if default in (None, [], {}, ()) else f"`{msgspec.json.encode(default).decode()}`"
            rows.append((name, f"`{field.name}`", shown, meaning(provider, field.name)))
    return table(("provider", "option", "default", "what it is"), *rows)


def meaning(provider: Provider, option: str) -> str:
    """What the docstring of the options says of one, on its own line."""
    found = re.search(rf"`{option}`: (.*)", provider.options.__doc__ or "")
    assert found, f"{provider.options.__name__} does not say what {option} is"
    return found[1]


CARRIED = {
    "thinking_blocks": "thinking blocks, signed and redacted",
    "signatures": "thought signatures of calls and texts",
    "reasoning_content": "the text of its reasoning",
    "reasoning_details": "encrypted reasoning items, with Responses",
}


def carries_table() -> str:
    kept = {name: sorted(provider.carries) for name, provider in PROVIDERS.items() if provider.carries}
    rows = ((name, ", ".join(CARRIED[kind] for kind in kinds)) for name, kinds in kept.items())
    return table(("provider", "what is kept"), *rows)


TABLES = {"CARRIES": carries_table, "POLICY": policy_table, "FAULTS": faults_table, "OPTIONS": options_table}
DOCUMENTS = sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_tables_are_those_of_the_code(path: Path):
    for found in MARK.finditer(path.read_text()):
        assert found[3] == TABLES[found[2]](), "run: python -m tests.test_docs"


def test_every_table_is_somewhere():
    text = "".join(path.read_text() for path in DOCUMENTS)
    for name in TABLES:
        assert f"<!-- table: {name} -->" in text


@pytest.mark.parametrize("path", [*DOCUMENTS, *ROOT.glob("*.md")], ids=lambda p: p.name)
def test_links_lead_somewhere(path: Path):
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_readme_names_every_command_option_path_and_header():
    for name, command in cli.commands.commands.items():
        assert f"`gateway {name}`" in README
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert f"`{parameter.opts[-1]}`" in README
    for path in PATHS:
        assert path in README or path.replace("/ready", "") in README
    source = "".join(path.read_text() for path in (ROOT / "gateway" / "ingress").glob("*.py"))
    for header in set(re.findall(r'"(x-gateway-[a-z-]+)"', source)):
        assert header in README


def test_readmes_settings_are_settings():
    snippets = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    assert snippets
    for snippet in snippets:
        settings.parse(snippet, "README.md")


def test_the_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    from gateway import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert project["project"]["requires-python"] == ">=3.11"


def test_locks_have_hashes_and_no_addresses():
    for path in (ROOT / "config").glob("*.lock"):
        text = path.read_text()
        assert "://" not in text
        packages = re.findall(r"^[a-zA-Z0-9._-]+==", text, re.MULTILINE)
        entries = re.split(r"^(?=[a-zA-Z0-9._-]+==)", text, flags=re.MULTILINE)[1:]
        assert len(packages) == len(entries)
        assert all("--hash=sha256:" in entry for entry in entries)


def test_locks_hold_what_the_project_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = {"requirements.lock": project["project"]["dependencies"]}
    wanted["requirements-dev.lock"] = [
        *project["project"]["dependencies"],
        *project["dependency-groups"]["dev"],
    ]
    for name, dependencies in wanted.items():
        text = (ROOT / "config" / name).read_text()
        for dependency in dependencies:
            package = re.split(r"[>=<;\[ ]", dependency)[0]
            assert re.search(rf"^{package}==", text, re.MULTILINE), f"{package} in {name}: run .ci/lock"


def contributed() -> Provider:
    """The provider that CONTRIBUTING shows, as a module of the package."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    code = re.search(r"   ```python\n(.*?)   ```", text, re.DOTALL)
    assert code
    source = re.sub(r"^   ", "", code[1], flags=re.MULTILINE)
    module = types.ModuleType("gateway.providers.example")
    module.__package__ = "gateway.providers"
    exec(compile(source, "CONTRIBUTING.md", "exec"), module.__dict__)
    provider: Provider = module.__dict__["PROVIDER"]
    return provider


async def test_the_provider_of_contributing_works():
    """Ten minutes are enough: what is shown answers, streaming and not, and names what it drops."""
    stream = [b'data: {"t":"Hel"}\n\n', b'data: {"t":"lo","end":"stop","tokens":2}\n\n']
    whole = Reply([b'{"t":"Hello","end":"stop","tokens":2}'], headers={"content-type": "application/json"})
    up = Upstream("example", contributed(), ScriptedTransport(Reply(stream), whole), key="sim-key")
    for fields in ({"stream": True, "seed": 1}, {"seed": 1}):
        async with up.open(chat("example-1", **fields)) as exchange:
            answer = await exchange.collect()
            assert (answer.text, answer.finish_reason, exchange.dropped) == ("Hello", "stop", ("seed",))


def write() -> None:
    for path in DOCUMENTS:

        def fill(found: re.Match[str]) -> Any:
            return found[1] + TABLES[found[2]]()

        path.write_text(MARK.sub(fill, path.read_text()))


if __name__ == "__main__":
    write()
