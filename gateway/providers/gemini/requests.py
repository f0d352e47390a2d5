"""A chat request as the body of `generateContent`: what stands beside the conversation, put together.

Only fields that the API knows are ever sent: an unknown one is an error there. What a model cannot take
is left out and named. Follows the Gemini API reference (`GenerateContentRequest`, `GenerationConfig`).
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from ...chat import ChatRequest, DeveloperMessage, Json, SystemMessage
from ..base import Options, as_text, refuse_several_and_audio, tool_wish, top_k, unsupported
from .contents import History, signatures_in_functions
from .models import can_think, max_output, thinking, traits
from .parts import instructions
from .schema import json_schema, openapi_schema
from .tools import declarations, tool_fields


class GeminiOptions(Options, frozen=True, forbid_unknown_fields=True):
    """`api_version`: the version in all paths
    `safety_settings`: harm category → threshold, for every request
    `include_thoughts`: whether to ask for the thoughts also when a request names no effort
    """

    api_version: Annotated[str, Meta(pattern=r"^v\d+[a-z0-9]*\Z")] = "v1beta"
    safety_settings: dict[str, str] = msgspec.field(default_factory=dict)
    include_thoughts: bool = False


MAX_STOPS = 5
SERVICE_TIERS = {"default": "standard", "flex": "flex", "priority": "priority", "auto": None}
PENALTIES = {"presence_penalty": "presencePenalty", "frequency_penalty": "frequencyPenalty"}

JSON_ONLY = "Answer with one JSON value and nothing else: no code fence, no explanation."
JSON_SCHEMA = "It has to conform to this JSON schema: "


class Draft:
    """One request in the making. `lost` are fields left out or changed for this model; `carried` are
    fields outside OpenAI's dialect that did find a place."""

    def __init__(self, request: ChatRequest, model: str, options: GeminiOptions) -> None:
        self.lost: list[str] = []
        self.carried: set[str] = set()
        self._request = request
        self._model = model
        self._traits = traits(model)
        self._options = options

    def body(self, *, trusted: bool) -> Json:
        """The body. `trusted` off leaves out every thought signature that the client sent back."""
        request = self._request
        refuse_several_and_audio(request)
        google = self._google()
        wish = tool_wish(request)
        functions = list(declarations(request, wish, self._traits))
        system = instructions(request)
        form = self._response_form()
        has_tools = functions or request.web_search_options is not None
        if form and has_tools and not self._traits.is_third_plus:
            # older models refuse JSON mode beside any tool: ask for it in words
            self.lost.append("response_format")
            system.append(_in_words(request))
            form = {}
        config = self._sampling() | self._limits() | form | self._thinking(google.pop("thinkingConfig", None))
        fields = {
            "contents": self._contents(system, trusted=trusted),
            "systemInstruction": self._instruction(system),
            **tool_fields(request, wish, self._traits, functions, self.lost),
            "safetySettings": [
                {"category": category, "threshold": threshold}
                for category, threshold in self._options.safety_settings.items()
            ],
            "generationConfig": config,
            "serviceTier": self._service_tier(),
            **google,
        }
        return {name: value for name, value in fields.items() if value}

    # the conversation

    def _contents(self, system: list[str], *, trusted: bool) -> list[Json]:
        history = History(self._traits, signatures_in_functions(self._request), trusted=trusted)
        if not self._traits.takes_system:
            history.say([{"text": text} for text in system])
        for i, message in enumerate(self._request.messages):
            if not isinstance(message, SystemMessage | DeveloperMessage):
                history.add(message, f"messages[{i}]")
        return history.contents()

    def _instruction(self, system: list[str]) -> Json | None:
        if not system or not self._traits.takes_system:
            return None
        return {"parts": [{"text": text} for text in system]}

    # generationConfig

    def _sampling(self) -> Json:
        request = self._request
        config: Json = {"temperature": request.temperature, "topP": request.top_p, "topK": top_k(request)}
        if config["topK"] is not None:
            self.carried.add("top_k")
        if request.logprobs:
            config |= {"responseLogprobs": True, "logprobs": request.top_logprobs or None}
        for name, native in PENALTIES.items():
            value = getattr(request, name)
            if value and not self._traits.takes_penalties:
                self.lost.append(name)
            else:
                config[native] = value or None
        if request.seed is not None:
            if -(2**31) <= request.seed < 2**31:
                config["seed"] = request.seed
            else:
                self.lost.append("seed")
        return {name: value for name, value in config.items() if value is not None}

    def _limits(self) -> Json:
        request = self._request
        config: Json = {}
        wanted, most = request.max_output_tokens, max_output(self._model)
        if wanted is not None:
            config["maxOutputTokens"] = wanted if most is None else min(wanted, most)
        if wanted is not None and wanted != config["maxOutputTokens"]:
            current = request.max_completion_tokens is not None
            self.lost.append("max_completion_tokens" if current else "max_tokens")
        if stops := [stop for stop in request.stop_list if stop]:
            config["stopSequences"] = stops[:MAX_STOPS]
            if len(stops) > MAX_STOPS:
                self.lost.append("stop")
        if request.modalities and request.modalities != ["text"]:
            config["responseModalities"] = [modality.upper() for modality in request.modalities]
        return config

    def _response_form(self) -> Json:
        form = self._request.response_format
        if form is None or form.type == "text":
            return {}
        if form.type not in ("json_object", "json_schema"):
            raise unsupported(f"this API has no response format {form.type!r}", "response_format.type")
        config: Json = {"responseMimeType": "application/json"}
        if form.json_schema is not None and form.json_schema.schema is not None:
            path = "response_format.json_schema.schema"
            if self._traits.takes_json_schema:
                config["responseJsonSchema"] = json_schema(form.json_schema.schema, path)
            elif (schema := openapi_schema(form.json_schema.schema, path)).keys() - {"description"}:
                config["responseSchema"] = schema  # else it says no more than that it is JSON
        return config

    def _thinking(self, own: Json | None) -> Json:
        """The configuration in Google's `own` words wins over the effort in OpenAI's."""
        effort, config = self._request.reasoning_effort, own
        if effort is not None:
            plan = thinking(self._model, effort)
            if plan is None:
                raise unsupported(f"{effort!r} is no reasoning effort", "reasoning_effort")
            if own or not plan.exact:
                self.lost.append("reasoning_effort")
            config = own or plan.config
        elif not own and self._options.include_thoughts and can_think(self._model):
            config = {"includeThoughts": True}
        return {"thinkingConfig": config} if config else {}

    def _service_tier(self) -> str | None:
        tier = self._request.service_tier
        if tier is not None and tier not in SERVICE_TIERS:
            self.lost.append("service_tier")
        return SERVICE_TIERS.get(tier or "auto")

    def _google(self) -> Json:
        name, fields = google_fields(self._request)
        self.carried.add(name)
        return fields


def _in_words(request: ChatRequest) -> str:
    """The response format as an instruction."""
    form = request.response_format
    schema = form.json_schema.schema if form is not None and form.json_schema is not None else None
    return JSON_ONLY if schema is None else f"{JSON_ONLY} {JSON_SCHEMA}{as_text(schema)}"


# ── Google's own fields in a request ───────────────────────────────────────────────────────────────────

GOOGLE_FIELDS = {
    "safety_settings": "safetySettings",
    "cached_content": "cachedContent",
    "thinking_config": "thinkingConfig",
}
THINKING_FIELDS = {
    "thinking_budget": "thinkingBudget",
    "thinking_level": "thinkingLevel",
    "include_thoughts": "includeThoughts",
}


class GoogleFields(NamedTuple):
    """The request's field that they came in, "" when there are none, and what goes into the body."""

    name: str
    fields: Json


def google_fields(request: ChatRequest) -> GoogleFields:
    """What a client says under `google` or `extra_body.google`, as Google's own OpenAI surface takes it.

    Both spellings of the listed fields are read. Anything else in there leaves the whole out, so that it
    is named as dropped.
    """
    for name in ("google", "extra_body"):
        if (raw := request.wire.get(name)) is None:
            continue
        value = msgspec.json.decode(raw)
        if name == "extra_body":
            value = value["google"] if isinstance(value, dict) and value.keys() == {"google"} else None
        fields = _renamed(value, GOOGLE_FIELDS)
        if "thinkingConfig" in fields:
            fields["thinkingConfig"] = _renamed(fields["thinkingConfig"], THINKING_FIELDS)
        if fields and fields.get("thinkingConfig") != {}:
            return GoogleFields(name, fields)
    return GoogleFields("", {})


def _renamed(value: Any, names: dict[str, str]) -> Json:
    """`value` under the API's names; nothing when one of its keys is not among them."""
    if not isinstance(value, dict) or not value.keys() <= {*names, *names.values()}:
        return {}
    return {names.get(str(key), str(key)): item for key, item in value.items()}
