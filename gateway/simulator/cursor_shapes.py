"""The shapes of the bodies that Cursor's Cloud Agents API takes.

Rule of this file: strict structs only; what is wrong beyond the shape is in `cursor_rules.py`. Fields keep
their wire names. A field that the document lacks is an error, so that whoever leaks one hears of it.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field


class Strict(Struct, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    """Base of every known object: an unknown field is an error."""


class Dimension(Strict):
    width: int
    height: int


class Image(Strict):
    """`data` with `mime_type`, or `url`; which of them is looked at in the rules."""

    data: str | None = None
    mime_type: str | None = None
    url: str | None = None
    dimension: Dimension | None = None


class Prompt(Strict):
    text: str
    images: list[Image] = []


class Parameter(Strict):
    id: str
    value: str


class Chosen(Strict):
    """The chosen model."""

    id: str
    params: list[Parameter] = []


class Environment(Strict):
    type: Literal["cloud", "pool", "machine"]
    name: str | None = None


class Repository(Strict):
    url: str
    starting_ref: str | None = None
    pr_url: str | None = None


class RunBody(Strict):
    """The body of POST /v1/agents/{id}/runs, and what an agent's first run takes as well."""

    prompt: Prompt
    model: Chosen | None = None
    mode: Literal["agent", "plan"] = "agent"
    mcp_servers: list[dict[str, Any]] = []
    env_vars: dict[str, str] | None = None


class AgentBody(RunBody):
    """The body of POST /v1/agents."""

    agent_id: str | None = None
    name: str | None = None
    repos: list[Repository] = []
    env: Environment | None = None
    metadata: dict[str, str] = {}
    custom_subagents: list[dict[str, Any]] = []
    run_env_vars: dict[str, str] | None = None
    auto_create_pr: bool | None = field(name="autoCreatePR", default=None)
    work_on_current_branch: bool | None = None
    skip_reviewer_request: bool | None = None
    open_as_cursor_github_app: bool | None = None
