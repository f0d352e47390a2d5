"""Chat requests in DashScope's own words: where they go, their parameters, and whether to think.

Every answer is asked for as a stream, whatever the client wants: some models give no other, and some none
while they think. Follows the page "DashScope API reference" of Alibaba Cloud Model Studio (November 2026).
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from ...chat import ChatRequest, Json, ToolChoice
from ..base import HttpRequest, Options, dropped, json_body, tool_wish, unsupported
from .messages import Messages, has_media
from .models import PATHS, SWITCHABLE, Path, Thinking, counts_thoughts, depth, home, thinking

# ── options ────────────────────────────────────────────────────────────────────────────────────────────

Region: TypeAlias = Literal[
    "cn-beijing", "ap-southeast-1", "us-east-1", "cn-hongkong", "eu-central-1", "ap-northeast-1"
]
HOSTS: dict[str, str] = {  # regions that have a host without a workspace
    "cn-beijing": "https://dashscope.aliyuncs.com",
    "ap-southeast-1": "https://dashscope-intl.aliyuncs.com",
    "us-east-1": "https://dashscope-us.aliyuncs.com",
    "cn-hongkong": "https://cn-hongkong.dashscope.aliyuncs.com",
}
WORKSPACE_HOST = "https://{workspace}.{region}.maas.aliyuncs.com"


class QwenOptions(Options, frozen=True, forbid_unknown_fields=True):
    """`region`: where the key is valid; `ap-southeast-1` is Singapore, `us-east-1` Virginia
    `workspace`: the id of a workspace, which has a host of its own; some regions have no other
    `dialect`: `native`, or `compatible` for the API's OpenAI dialect, at a base_url of its own
    `paths`: model → `text` or `multimodal`, for models that are on another path than their name tells
    `default_thinking`: whether to think when a request does not say; none leaves it to the model
    `parallel_tool_calls`: whether tools may be called in parallel when a request does not say
    """

    region: Region = "cn-beijing"
    workspace: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,62}$")] | None = None
    dialect: Literal["native", "compatible"] = "native"
    paths: dict[str, Path] = msgspec.field(default_factory=dict)
    default_thinking: bool | None = None
    parallel_tool_calls: bool = True

    def __post_init__(self) -> None:
        if self.workspace is None and self.region not in HOSTS:
            raise ValueError(f"region {self.region} needs a workspace")

    @property
    def host(self) -> str:
        """The origin of every call."""
        if self.workspace is not None:
            return WORKSPACE_HOST.format(workspace=self.workspace, region=self.region)
        return HOSTS[self.region]


DEFAULTS = QwenOptions()

# ── the tables ─────────────────────────────────────────────────────────────────────────────────────────

STREAMED = {"x-dashscope-sse": "enable"}
STORED = {"x-dashscope-ossresourceresolve": "enable"}
"""Without it an `oss://` address is not understood."""

OWN_FIELDS = (
    "top_k",
    "repetition_penalty",
    "enable_search",
    "search_options",
    "tool_stream",
    "preserve_thinking",
    "vl_high_resolution_images",
    "enable_code_interpreter",
)
"""Fields of the API's own, which a client may send as they are."""
THINKING_FIELDS = ("enable_thinking", "thinking_budget")
"""Two more, which have to agree with the rest of the request."""
PASSED = ("stop", "presence_penalty", "logprobs")
IGNORES = frozenset(
    (
        "frequency_penalty",
        "logit_bias",
        "user",
        "safety_identifier",
        "metadata",
        "store",
        "service_tier",
        "prediction",
        "verbosity",
        "prompt_cache_key",
        "prompt_cache_retention",
        "prompt_cache_options",
        "moderation",
    )
)
MAX_CHOICES, MAX_TOP_LOGPROBS, SEEDS = 4, 5, 2**31
MAX_TEMPERATURE, MIN_TOP_P = 1.99, 0.01  # 2 and 0 themselves are refused
JSON_WORDS = "Answer in JSON."
"""What is added to a prompt without the word "json": the API refuses to answer in JSON without it."""


def build_request(
    request: ChatRequest, options: QwenOptions = DEFAULTS, *, learned: Path | None = None
) -> HttpRequest:
    """The native request. `learned` is the path that was found to serve the model. Raises `UNSUPPORTED`."""
    return Draft(request, options, path_of(request, options, learned)).http()


def path_of(request: ChatRequest, options: QwenOptions = DEFAULTS, learned: Path | None = None) -> Path:
    """Where the request goes: as set, to where media can go, as learned, as the name tells."""
    if request.model in options.paths:
        return options.paths[request.model]
    return "multimodal" if has_media(request) else learned or home(request.model)


class Tools(Struct, frozen=True):
    """The functions on offer. `name` is the one that has to be called, `choice` what else is wished."""

    offered: list[Json] = []
    choice: str | None = None
    name: str | None = None


class Draft:
    """A request in the making. `lost` collects the names of what it does not carry."""

    def __init__(self, request: ChatRequest, options: QwenOptions, path: Path) -> None:
        self._request = request
        self._options = options
        self._path = path
        self._kind = thinking(request.model)
        known = (*OWN_FIELDS, *THINKING_FIELDS)
        self._own = {name: msgspec.json.decode(request.wire[name]) for name in known if name in request.wire}
        self.lost = [name for name in dropped(request, IGNORES) if name not in self._own]

    def http(self) -> HttpRequest:
        """The request as it is sent. Raises `UNSUPPORTED`."""
        request = self._request
        if request.audio or "audio" in (request.modalities or ()):
            raise unsupported("audio answers are not supported", "modalities")
        thoughts = self._own.get("preserve_thinking") is True
        messages = Messages(request, lists=self._path == "multimodal", thoughts=thoughts)
        self.lost += messages.lost
        tools = self._tools()
        self._check_choices(tools)
        form = self._form(messages)
        excluded = bool(form or messages.is_partial or (request.n or 1) > 1)
        parameters: Json = {"result_format": "message", "incremental_output": True}
        parameters |= self._limits() | self._sampling() | form | self._search()
        if messages.is_sharp:
            parameters["vl_high_resolution_images"] = True
        parameters |= {name: self._own[name] for name in OWN_FIELDS if self._own.get(name) is not None}
        thinks = self._thinking(excluded=excluded or tools.name is not None)
        parameters |= thinks | self._tool_fields(tools, thinks)
        body = {"model": request.model, "input": {"messages": messages.native}, "parameters": parameters}
        return HttpRequest(
            path=PATHS[self._path],
            headers=STREAMED | (STORED if messages.is_stored else {}),
            body=json_body(body),
            stream=True,
            dropped=tuple(dict.fromkeys(self.lost)),
        )

    # ── parameters ─────────────────────────────────────────────────────────────────────────────────────

    def _limits(self) -> Json:
        """`max_tokens` counts the visible answer only, the current field thoughts too, where it is known."""
        request = self._request
        old, new = request.max_tokens, request.max_completion_tokens
        if new is not None and not counts_thoughts(request.model):
            self.lost += ["max_tokens"] if old not in (None, new) else []
            old, new = new, None
        found = {"max_tokens": old, "max_completion_tokens": new}
        return {name: limit for name, limit in found.items() if limit is not None}

    def _sampling(self) -> Json:
        request = self._request
        found: Json = {
            "temperature": self._at_most("temperature", request.temperature, MAX_TEMPERATURE),
            "top_p": request.top_p,
            "seed": request.seed,
            "top_logprobs": self._at_most("top_logprobs", request.top_logprobs, MAX_TOP_LOGPROBS),
            "n": request.n if (request.n or 1) > 1 else None,
            **{name: getattr(request, name) for name in PASSED},
        }
        if request.top_p == 0:
            found["top_p"] = MIN_TOP_P
            self.lost.append("top_p")
        if request.seed is not None and not 0 <= request.seed < SEEDS:
            found["seed"] = request.seed % SEEDS
            self.lost.append("seed")
        return {name: value for name, value in found.items() if value is not None}

    def _at_most(self, name: str, value: float | None, most: float) -> float | None:
        if value is None or value <= most:
            return value
        self.lost.append(name)
        return most

    def _form(self, messages: Messages) -> Json:
        """`response_format`, and the word that the API wants to read in the prompt with it."""
        form = self._request.response_format
        if form is None or form.type == "text":
            return {}
        if self._kind is Thinking.ALWAYS:
            raise unsupported("an answer in JSON is not supported while thinking", "response_format")
        if not messages.says_json:
            messages.add_to_system(JSON_WORDS)
        return {"response_format": form}

    def _search(self) -> Json:
        """A wish to search the web is one switch here; its sources come back as annotations."""
        wish = self._request.web_search_options
        if wish is None:
            return {}
        if wish:
            self.lost.append("web_search_options")
        return {"enable_search": True, "search_options": {"enable_source": True}}

    def _check_choices(self, tools: Tools) -> None:
        """Raises `UNSUPPORTED` for more choices than there can be here."""
        n = self._request.n or 1
        if n > MAX_CHOICES:
            raise unsupported(f"more than {MAX_CHOICES} answers (n) are not supported", "n")
        if n > 1 and tools.offered:
            raise unsupported("more than one answer (n) is not supported together with tools", "n")
        if n > 1 and (self._kind is Thinking.ALWAYS or self._own.get("enable_thinking") is True):
            raise unsupported("more than one answer (n) is not supported while thinking", "n")

    # ── thinking ───────────────────────────────────────────────────────────────────────────────────────

    def _thinking(self, *, excluded: bool) -> Json:
        """Whether to think, and how much. A switch of the client's own wins; `excluded` is a request that
        the API takes from a model that does not think only.
        """
        effort, own = self._request.reasoning_effort, self._own.get("enable_thinking")
        if self._kind not in SWITCHABLE:
            return self._fixed_thinking()
        wanted = self._options.default_thinking if effort is None else effort != "none"
        if excluded:
            wanted = False
        if isinstance(own, bool):
            wanted = own
        elif own is not None:
            self.lost.append("enable_thinking")
        if wanted is False:
            self.lost += ["reasoning_effort"] if effort not in (None, "none") else []
            self.lost += ["thinking_budget"] if self._own.get("thinking_budget") is not None else []
            return {"enable_thinking": False}
        return self._depth(wanted)

    def _depth(self, wanted: bool | None) -> Json:
        effort, budget = self._request.reasoning_effort, self._own.get("thinking_budget")
        fields: Json = {} if wanted is None else {"enable_thinking": wanted}
        if effort is not None:
            said, exact = depth(self._kind, effort) if effort != "none" else ({}, False)
            fields |= said
            exact = exact and (budget is None or "thinking_budget" not in said)
            self.lost += [] if exact else ["reasoning_effort"]
        return fields if budget is None else {**fields, "thinking_budget": budget}

    def _fixed_thinking(self) -> Json:
        """For a model that always thinks or never does: only what the client says in the API's own words."""
        effort, own = self._request.reasoning_effort, dict(self._own)
        if effort is not None and not (effort == "none" and self._kind is Thinking.NEVER):
            self.lost.append("reasoning_effort")
        if self._kind is Thinking.ALWAYS and own.get("enable_thinking") is False:
            self.lost.append("enable_thinking")
            own["enable_thinking"] = None
        return {name: own[name] for name in THINKING_FIELDS if own.get(name) is not None}

    # ── tools ──────────────────────────────────────────────────────────────────────────────────────────

    def _tools(self) -> Tools:
        request, wish = self._request, tool_wish(self._request)
        offered: list[Json] = []
        for i, tool in enumerate(request.tools or ()):
            if tool.type != "function" or tool.function is None:
                raise unsupported(f"tools of type '{tool.type}' are not supported", f"tools[{i}].type")
            if tool.function.strict:
                self.lost.append("tools.function.strict")
            if tool.cache_control:
                self.lost.append("tools.cache_control")
            function = msgspec.structs.replace(tool.function, strict=None)
            offered.append({"type": "function", "function": function})
        if isinstance(request.tool_choice, ToolChoice) and request.tool_choice.allowed_tools is not None:
            offered = [tool for tool in offered if tool["function"].name in (wish.names or ())]
        if wish.mode != "required":
            return Tools(offered, wish.mode)
        if len(names := wish.names or [tool["function"].name for tool in offered]) == 1 and offered:
            return Tools(offered, name=names[0])
        self.lost.append("tool_choice")  # there is no word for "any of them"
        return Tools(offered, "auto")

    def _tool_fields(self, tools: Tools, thinks: Json) -> Json:
        """`tools` and what is wished of them: none can be forced while the model thinks."""
        if not tools.offered:
            return {}
        parallel = self._request.parallel_tool_calls
        fields: Json = {
            "tools": tools.offered,
            "parallel_tool_calls": self._options.parallel_tool_calls if parallel is None else parallel,
        }
        if tools.name is None:
            return fields if tools.choice is None else {**fields, "tool_choice": tools.choice}
        if self._kind is Thinking.ALWAYS or thinks.get("enable_thinking") is True:
            self.lost.append("tool_choice")
            return {**fields, "tool_choice": "auto"}
        return {**fields, "tool_choice": {"type": "function", "function": {"name": tools.name}}}
