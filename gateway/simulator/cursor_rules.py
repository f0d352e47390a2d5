"""What Cursor's Cloud Agents API refuses in a body or a query.

Rule of this file: checks over the shapes of `cursor_shapes.py` that raise Rejected; nothing is answered here,
and nothing is known of the agents there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sized
from typing import NoReturn, TypeVar

from .checks import Mistake, base64_size, decode
from .cursor_models import MODELS
from .cursor_shapes import AgentBody, Image, RunBody
from .wire import Rejected

MIME_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
MAX_IMAGES, MAX_IMAGE = 5, 15 * 2**20
MAX_REPOS, MAX_SERVERS, MAX_SUBAGENTS, MAX_VARIABLES = 20, 50, 20, 50
MAX_PAGE, PAGE = 100, 20
AGENT_ID = re.compile(r"bc-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

B = TypeVar("B", bound=RunBody)


def refuse(message: str, code: str = "validation_error") -> NoReturn:
    raise Rejected(400, message, code=code)


def misshapen(mistake: Mistake) -> NoReturn:
    where = mistake.indexed()
    if mistake.kind == "json":
        refuse(f"The request body is not valid JSON: {mistake.expected}")
    if mistake.kind == "unknown":
        refuse(f"{where}: unrecognized field")
    if mistake.kind == "missing":
        refuse(f"{where}: required")
    if mistake.kind == "value":
        refuse(f"{where}: invalid value '{mistake.got}'")
    refuse(f"{where}: expected {mistake.expected}, received {mistake.got}")


# --- what every run is checked for -------------------------------------------------------------------------


def model(body: RunBody) -> None:
    """A listed id, with its own parameters. An alias is no id: it is resolved by who asks."""
    if body.model is None:
        return
    known = MODELS.get(body.model.id)
    if known is None:
        refuse(f"Model '{body.model.id}' is not available", "invalid_model")
    seen: set[str] = set()
    for at, each in enumerate(body.model.params):
        if each.id not in known.parameters or each.id in seen:
            refuse(f"model.params[{at}].id: '{each.id}' is no parameter of {body.model.id}, or is twice")
        if each.value not in known.parameters[each.id]:
            refuse(f"model.params[{at}].value: '{each.value}' is no value of '{each.id}'")
        seen.add(each.id)


def images(body: RunBody) -> None:
    if len(body.prompt.images) > MAX_IMAGES:
        refuse(f"prompt.images: at most {MAX_IMAGES} images are allowed")
    for at, image in enumerate(body.prompt.images):
        _image(image, f"prompt.images[{at}]")


def _image(image: Image, where: str) -> None:
    if image.url is not None:
        if image.data is not None or image.mime_type is not None:
            refuse(f"{where}: either url, or data with mimeType")
        if not image.url.startswith(("http://", "https://")):
            refuse(f"{where}.url: invalid URL")
        return
    if image.data is None or image.mime_type is None:
        refuse(f"{where}: either url, or data with mimeType")
    if image.mime_type not in MIME_TYPES:
        refuse(f"{where}.mimeType: invalid value '{image.mime_type}'")
    size = base64_size(image.data)
    if size is None:
        refuse(f"{where}.data: invalid base64")
    if size > MAX_IMAGE:
        refuse(f"{where}.data: at most {MAX_IMAGE} bytes are allowed")


def run_lists(body: RunBody) -> None:
    _at_most(MAX_SERVERS, mcpServers=body.mcp_servers, envVars=body.env_vars)


def _at_most(limit: int, **fields: Sized | None) -> None:
    for name, value in fields.items():
        if value is not None and len(value) > limit:
            refuse(f"{name}: at most {limit} are allowed")


# --- what a new agent is checked for -----------------------------------------------------------------------


def agent_id(body: AgentBody) -> None:
    if body.agent_id is None:
        return
    if not AGENT_ID.fullmatch(body.agent_id):
        refuse("agentId: expected bc-<uuid>")
    if body.env_vars is not None:
        refuse("agentId: cannot be combined with envVars")


def agent_lists(body: AgentBody) -> None:
    _at_most(MAX_REPOS, repos=body.repos)
    _at_most(MAX_SUBAGENTS, customSubagents=body.custom_subagents)
    _at_most(MAX_VARIABLES, runEnvVars=body.run_env_vars)


OF_RUNS: tuple[Callable[[RunBody], None], ...] = (model, images, run_lists)
OF_AGENTS: tuple[Callable[[AgentBody], None], ...] = (agent_id, agent_lists)


def checked_run(raw: bytes) -> RunBody:
    """The body of a follow-up. Raises Rejected as Cursor would."""
    return _checked(raw, RunBody)


def checked_agent(raw: bytes) -> AgentBody:
    """The body of a new agent. Raises Rejected as Cursor would."""
    body = _checked(raw, AgentBody)
    for check in OF_AGENTS:
        check(body)
    return body


def _checked(raw: bytes, kind: type[B]) -> B:
    body = decode(raw, kind)
    if isinstance(body, Mistake):
        misshapen(body)
    for check in OF_RUNS:
        check(body)
    return body


def page_size(query: dict[str, str]) -> int:
    """How many items a page has. Raises Rejected for a limit that is none."""
    limit = query.get("limit", str(PAGE))
    if not limit.isascii() or not limit.isdigit() or len(limit) > 3 or not 1 <= int(limit) <= MAX_PAGE:
        refuse(f"limit: expected 1 to {MAX_PAGE}")
    return int(limit)


def flag(query: dict[str, str], name: str) -> bool:
    """A flag of a query, false when absent. Raises Rejected for anything but true and false."""
    value = query.get(name, "false")
    if value not in ("true", "false"):
        refuse(f"{name}: expected true or false")
    return value == "true"
