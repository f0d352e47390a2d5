"""The official OpenAI SDK for Node, unmodified, streaming and not, against every provider."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gateway.simulator import Fault, Simulator, Turn

from .conftest import MODELS, NATIVE

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.node]
providers = pytest.mark.parametrize("provider", NATIVE)
FOLDER = Path(__file__).parent / "node"
BINARY = FOLDER / "node_modules" / ".bin" / "node"


@pytest.fixture(scope="module")
def node() -> str:
    """Node with the SDK installed at the exact versions of package.json, which brings its own Node."""
    if (npm := shutil.which("npm")) is None:
        reason = "npm is not installed: the Node SDK cannot be tried"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    wanted = json.loads((FOLDER / "package.json").read_text())["dependencies"]
    if not all(installed(name) == version for name, version in wanted.items()):
        command = [npm, "install", "--no-package-lock", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return str(BINARY)


def installed(name: str) -> str | None:
    manifest = FOLDER / "node_modules" / name / "package.json"
    return json.loads(manifest.read_text())["version"] if manifest.is_file() else None


async def run(node: str, script: str, url: str, model: str) -> Any:
    process = await asyncio.create_subprocess_exec(
        node,
        str(FOLDER / script),
        f"{url}/v1",
        model,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    return json.loads(out)


@providers
async def test_a_users_program(node: str, url: str, sim: Simulator, provider: str):
    said = await run(node, "client.mjs", url, MODELS[provider])
    assert said["whole"] == ["You said: Hi", "stop", True]
    assert said["stream"] == ["You said: Hi", 1]
    assert said["helper"] == ["You said: Hi", "stop"]
    assert said["calls"] == [["get_weather", "object"], ["get_time", "object"]]
    assert said["callsFinish"] == "tool_calls"
    assert "result of get_weather" in said["after"]
    assert "result of get_time" in said["after"]
    assert said["error"] == ["NotFoundError", 404, "model_not_found", "model"]
    assert said["models"] is True
    assert said["retrieved"] == MODELS[provider]


@pytest.mark.parametrize("kind", ["reset_after", "clean_cut", "error_event"])
@providers
async def test_a_stream_that_breaks_throws(node: str, url: str, sim: Simulator, provider: str, kind: str):
    """A cut answer never looks whole: the SDK itself would take a clean end for one."""
    sim.script(provider, Fault(kind=kind, events=2, turn=Turn(text="Hello there", pieces=3)))
    name, code, text = await run(node, "break.mjs", url, MODELS[provider])
    assert (name, code) == ("APIError", "stream_interrupted")
    assert "Hello there".startswith(text)
    assert text
