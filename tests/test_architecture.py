"""The architecture, executable: import rules, types, style, and providers' names that stay in their room."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.providers import PROVIDERS
from gateway.providers.base import Provider

ROOT = Path(__file__).parent.parent
GATES = {
    "ruff": ["ruff", "check", "."],
    "format": ["ruff", "format", "--check", "."],
    "types": ["mypy"],
    "imports": [],
}
ROOMS = ("providers", "simulator", "bench")


@pytest.mark.parametrize("gate", GATES)
def test_gate(gate: str):
    """The checks of a careful reviewer, as they run from the command line."""
    command = [sys.executable, "-m", *GATES[gate]]
    if gate == "imports":
        command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def modules() -> Iterator[Path]:
    for path in sorted((ROOT / "gateway").rglob("*.py")):
        if path.relative_to(ROOT / "gateway").parts[0] not in ROOMS:
            yield path


@pytest.mark.parametrize("path", list(modules()), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_providers_name_outside_its_room(path: Path):
    """When code is about to ask "is it x?", the record gets a field instead."""
    names = {name for p in PROVIDERS.values() for name in (p.name, *p.aliases)}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant):
            assert node.value not in names, f"{path}:{node.lineno}"


def test_adding_a_provider_is_one_file_and_one_name():
    """The registry is a list of names; each is a module that exports its record."""
    registry = (ROOT / "gateway" / "providers" / "__init__.py").read_text()
    elsewhere = [p for p in (ROOT / "gateway").rglob("*.py") if "import_module" in p.read_text()]
    assert elsewhere == [ROOT / "gateway" / "providers" / "__init__.py"]
    for name, provider in PROVIDERS.items():
        assert isinstance(provider, Provider)
        assert provider.name == name
        assert registry.count(f'"{name}"') == 1
        place = ROOT / "gateway" / "providers" / name
        assert place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def test_no_file_and_no_function_gets_out_of_hand():
    """A reader holds a file in the head; where one grows, it is cut."""
    for path in (ROOT / "gateway").rglob("*.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= 600, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, f"{path}:{node.lineno} {node.name}"


def test_every_module_states_its_rule():
    for path in (ROOT / "gateway").rglob("*.py"):
        if path.name != "__init__.py" or path.read_text().strip():
            assert ast.get_docstring(ast.parse(path.read_text())), path
