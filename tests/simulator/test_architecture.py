"""The simulator stays an independent reading of the documents, in files and functions that can be read."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import gateway.simulator

FILES = sorted(Path(gateway.simulator.__file__).parent.glob("*.py"))
ALLOWED = {"msgspec", "httptools", *sys.stdlib_module_names}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_imports_and_sizes(path):
    text = path.read_text()
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= ALLOWED
        if isinstance(node, ast.ImportFrom):
            assert node.level == 1 or (node.module or "").split(".")[0] in ALLOWED
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 60
    assert len(text.splitlines()) <= 600
    assert ast.get_docstring(tree)
