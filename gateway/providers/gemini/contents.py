"""A conversation as Gemini's `contents`: who speaks when, what a turn may hold, where signatures go.

The API is strict about order: the first turn is the user's; the answer to a turn with function calls is
one content with exactly their responses, in the order of the calls, and nothing else in it; whatever
follows is a content of its own. `History` keeps these rules for any list of messages, however odd: a
missing response is filled in, a result whose call is not there becomes text.

Follows the Gemini API reference (`Content`, `Part`) and its guides to function calling and to thought
signatures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from ...chat import AssistantMessage, ChatRequest, Json, Message, ToolCall, ToolMessage, texts
from ..base import parse_arguments, unsupported
from .models import Traits
from .parts import fits_in_result, function_name, parts_of

SENTINEL = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
"""Base64 of `skip_thought_signature_validator`: what a call carries whose signature nobody has any more."""

MISSING_RESULT = {"error": "no result was given for this call"}
BLANK = " "
"""What a turn of the user without words says: an empty text is refused."""
CONTINUE = "Continue."
"""What follows a last turn of the model, on models that refuse to carry it on."""

# ── thought signatures ─────────────────────────────────────────────────────────────────────────────────

ID_MARK = "__thought__"  # LiteLLM's way of carrying a signature: in the id of the call
_SIGNATURE = re.compile(r"[A-Za-z0-9+/_-]+={0,2}\Z")


def is_signature(value: Any) -> bool:
    """Whether `value` can be a signature: base64, either alphabet, padding optional."""
    return isinstance(value, str) and _SIGNATURE.match(value) is not None and len(value.rstrip("=")) % 4 != 1


class _SignedFunction(Struct):
    thought_signature: Any = None
    provider_specific_fields: Any = None


class _SignedCall(Struct):
    id: Any = None
    function: _SignedFunction | None = None


class _SignedMessage(Struct):
    tool_calls: list[_SignedCall] | None = None


def signatures_in_functions(request: ChatRequest) -> dict[str, str]:
    """Call id → signature, for the conventions that put it inside `function`: only the wire has it."""
    raw = request.wire.get("messages")
    if raw is None or b"thought_signature" not in bytes(raw):
        return {}
    messages = msgspec.json.decode(raw, type=list[_SignedMessage])
    found: dict[str, str] = {}
    for call in (call for message in messages for call in message.tool_calls or ()):
        function = call.function or _SignedFunction()
        inside = (function.thought_signature, _at(function.provider_specific_fields, "thought_signature"))
        found |= {str(call.id): value for value in inside if is_signature(value)}
    return found


def _at(value: Any, *path: str) -> Any:
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value


# ── the history ────────────────────────────────────────────────────────────────────────────────────────


class _OpenCall:
    """A call that waits for its result."""

    def __init__(self, call_id: str, part: Json) -> None:
        self.id = call_id
        self.name: str = part["functionCall"]["name"]
        self.response: Json | None = None

    def answer(self, response: Json, traits: Traits, parts: list[Json]) -> None:
        self.response = {"name": self.name, "response": response}
        shown_id = self.id.partition(ID_MARK)[0]
        if traits.is_third_plus and shown_id:
            self.response = {"id": shown_id, **self.response}
        if parts:
            self.response["parts"] = parts


class History:
    """Messages in, `contents` out.

    `trusted` is off for the second try after the API refused a signature: no signature of the client is
    sent then, and the first call of every turn gets the sentinel.
    """

    def __init__(self, traits: Traits, side: Mapping[str, str], *, trusted: bool = True) -> None:
        self._traits = traits
        self._side = side
        self._trusted = trusted
        self._contents: list[Json] = []
        self._open: list[_OpenCall] = []  # the calls of the last model turn
        self._after: list[Json] = []  # what the user says after these calls: it waits for their results
        self._is_heard = False  # whether anybody spoke after these calls, be it without words

    def add(self, message: Message, path: str) -> None:
        """Takes one message that is not an instruction. Raises `UNSUPPORTED` for parts nobody can say."""
        if isinstance(message, AssistantMessage):
            self._model(message, path)
        elif isinstance(message, ToolMessage):
            self._result(message, path)
        else:
            self.say(list(parts_of(message.content, self._traits, path)))

    def say(self, parts: list[Json]) -> None:
        """Parts in the user's name. No parts are a turn all the same when the model spoke before."""
        if self._open:
            self._is_heard = True
            self._after += parts
        else:
            blank = [{"text": BLANK}] if self._ends_with_model() else []
            self._append("user", parts or blank)

    def contents(self) -> list[Json]:
        """The whole conversation. Nothing may be added any more."""
        self._settle()
        if not self._contents:
            return [{"role": "user", "parts": [{"text": BLANK}]}]
        if self._contents[0]["role"] == "model":
            self._contents.insert(0, {"role": "user", "parts": [{"text": ""}]})
        if self._ends_with_model() and not self._traits.takes_prefill:
            self._append("user", [{"text": CONTINUE}])
        if self._traits.is_third_plus or not self._trusted:
            self._add_sentinels()
        return self._contents

    def _ends_with_model(self) -> bool:
        return bool(self._contents) and self._contents[-1]["role"] == "model"

    def _append(self, role: str, parts: list[Json]) -> None:
        """Adds parts to the last content when it is of the same role and kind, else as a new one."""
        if not parts:
            return
        last = self._contents[-1] if self._contents else None
        if last is not None and last["role"] == role and not _is_results(last):
            last["parts"] += parts
        else:
            self._contents.append({"role": role, "parts": parts})

    # turns of the model

    def _model(self, message: AssistantMessage, path: str) -> None:
        parts = self._said(message, path)
        calls = list(self._calls(message, path))
        if not parts and not calls:
            return
        if self._is_heard:
            self._settle()
        self._append("model", parts + [part for _, part in calls])
        self._open += [_OpenCall(call_id, part) for call_id, part in calls]

    def _said(self, message: AssistantMessage, path: str) -> list[Json]:
        parts: list[Json] = [{"text": text} for text in _assistant_texts(message, path) if text]
        signature = _at(message.extra_content, "google", "thought_signature")
        if self._trusted and is_signature(signature):
            if not parts:
                parts = [{"text": ""}]
            parts[-1]["thoughtSignature"] = signature
        return parts

    def _calls(self, message: AssistantMessage, path: str) -> Iterator[tuple[str, Json]]:
        calls = message.tool_calls or []
        signatures = [self._signature(call) for call in calls]
        if calls and not any(signatures):
            signatures[0] = self._block_signature(message)
        for i, (call, signature) in enumerate(zip(calls, signatures, strict=True)):
            part: Json = {"functionCall": self._call(call, f"{path}.tool_calls[{i}]")}
            if signature:
                part["thoughtSignature"] = signature
            yield call.id, part

    def _call(self, call: ToolCall, path: str) -> Json:
        if call.function is not None:
            said: Json = {
                "name": function_name(call.function.name),
                "args": parse_arguments(call.function.arguments),
            }
        elif call.custom is not None:
            said = {"name": function_name(call.custom.name), "args": {"input": call.custom.input}}
        else:
            raise unsupported(f"this API has no tool calls of type {call.type!r}", path)
        shown_id = call.id.partition(ID_MARK)[0]
        return {"id": shown_id, **said} if self._traits.is_third_plus and shown_id else said

    def _signature(self, call: ToolCall) -> str | None:
        if not self._trusted:
            return None
        conventions = (
            _at(call.extra_content, "google", "thought_signature"),
            _at(call.provider_specific_fields, "thought_signature"),
            self._side.get(call.id),
            call.id.partition(ID_MARK)[2],
        )
        return next((value for value in conventions if is_signature(value)), None)

    def _block_signature(self, message: AssistantMessage) -> str | None:
        """The signature of a thinking block: of a whole turn, so the first call gets it.

        Only where one is required, and from no block of Anthropic's shape, which has its thought, even an
        empty one, under `thinking`: nothing else tells whose a block is, and after a failover Claude's
        signature would be refused in every turn.
        """
        if not (self._trusted and self._traits.is_third_plus):
            return None
        found = (b.get("signature") for b in message.thinking_blocks or () if "thinking" not in b)
        return next((value for value in found if is_signature(value)), None)

    # results

    def _result(self, message: ToolMessage, path: str) -> None:
        media = [part for part in parts_of(message.content, self._traits, path) if "text" not in part]
        text = "\n".join(texts(message.content))
        call = next((c for c in self._open if c.id == message.tool_call_id and c.response is None), None)
        if call is None:  # its call is not in the history any more, or has its result already
            self.say([*([{"text": text}] if text else ()), *media])
            return
        inside = [part for part in media if self._traits.is_third_plus and fits_in_result(part)]
        self._is_heard = True
        call.answer(_response(text), self._traits, inside)
        self._after += [part for part in media if part not in inside]

    def _settle(self) -> None:
        """Closes the last turn of calls: all their results, then what was said after them."""
        if not self._open:
            return
        for call in self._open:
            if call.response is None:
                call.answer(MISSING_RESULT, self._traits, [])
        results = [{"functionResponse": call.response} for call in self._open]
        self._contents.append({"role": "user", "parts": results})
        after, self._open, self._after, self._is_heard = self._after, [], [], False
        self._append("user", after)

    def _add_sentinels(self) -> None:
        """Signs the first call of each turn of the current tool loop, which is what the API checks.

        The loop begins after the last thing that the user said; sibling calls never carry a signature
        that was not theirs.
        """
        begin = 0
        if self._trusted:
            said = [i for i, c in enumerate(self._contents) if c["role"] == "user" and not _is_results(c)]
            begin = said[-1]
        for content in self._contents[begin:]:
            first = next((part for part in content["parts"] if "functionCall" in part), None)
            if first is not None:
                first.setdefault("thoughtSignature", SENTINEL)


def _is_results(content: Json) -> bool:
    return "functionResponse" in content["parts"][0]


def _assistant_texts(message: AssistantMessage, path: str) -> Iterator[str]:
    """What the model said, refusals included. Raises `UNSUPPORTED` for parts that are no words."""
    if isinstance(message.content, list):
        for i, part in enumerate(message.content):
            if part.type not in ("text", "refusal"):
                what = f"content of type {part.type!r} is not supported in a turn of the model"
                raise unsupported(what, f"{path}.content[{i}]")
            yield part.text or part.refusal or ""
    else:
        yield message.content or ""
    yield message.refusal or ""


def _response(text: str) -> Json:
    """A result as the object that the API wants.

    An object goes as it is, unless it has a `$ref` in it: the API would look for a part of that name.
    """
    try:
        value = msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, RecursionError):
        return {"output": text}
    return value if isinstance(value, dict) and not _has_ref(value) else {"output": text}


def _has_ref(value: Any) -> bool:
    if isinstance(value, dict):
        return "$ref" in value or any(_has_ref(item) for item in value.values())
    return isinstance(value, list) and any(_has_ref(item) for item in value)
