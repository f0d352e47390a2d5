"""The order of Gemini's contents and its thought signatures.

Rule of this file: what a conversation may look like, as checks that raise Rejected.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable

from .checks import base64_size, walk
from .gemini_rules import Situation, refuse, violation
from .gemini_shapes import DATA, Body, Content, Part, snake

COUNT = (
    "Please ensure that the number of function response parts is equal to the number of function call parts "
    "of the function call turn."
)
AFTER_USER = (
    "Please ensure that function call turn comes immediately after a user turn or after a function response "
    "turn."
)
AFTER_CALL = "Please ensure that function response turn comes immediately after a function call turn."
ROLES = (None, "", "user", "model", "function")
SENTINEL = "skip_thought_signature_validator"
"""Stands for a signature that was lost; taken as plain text and as base64."""


def shapes(contents: list[Content], here: Situation) -> None:
    if not contents:
        refuse("* GenerateContentRequest.contents: contents is not specified")
    for at, content in enumerate(contents):
        if content.role not in ROLES:
            refuse("Please use a valid role: user, model.")
        if not content.parts:
            refuse(f"* GenerateContentRequest.contents[{at}].parts: contents.parts must not be empty.")
        for number, part in enumerate(content.parts):
            one_part(part, f"contents[{at}].parts[{number}]", here)


def one_part(part: Part, where: str, here: Situation) -> None:
    data = [name for name in DATA if getattr(part, name) is not None]
    if len(data) > 1:
        violation(
            where,
            f"Invalid value at '{where}' (oneof), oneof field 'data' is already set. Cannot set '{data[1]}'",
        )
    if not data and part.thought_signature is None:
        refuse(
            f"* GenerateContentRequest.{where}.data: required oneof field 'data' must have one initialized "
            "field"
        )
    if part.inline_data is not None:
        if base64_size(part.inline_data.data) is None:
            violation(
                where, f"Invalid value at '{where}.inline_data.data' (TYPE_BYTES), Base64 decoding failed"
            )
        if not part.inline_data.mime_type:
            refuse(f"Unable to submit request because it must have a mimeType for {snake(where)}.inline_data")
    if part.file_data is not None and not part.file_data.file_uri:
        refuse(f"* GenerateContentRequest.{where}.file_data.file_uri: file_uri must not be empty.")
    function_parts(part, where, here)


def function_parts(part: Part, where: str, here: Situation) -> None:
    if part.function_call is not None and not part.function_call.name:
        refuse(f"* GenerateContentRequest.{where}.function_call.name: Name cannot be empty.")
    response = part.function_response
    if response is None:
        return
    if not response.name:
        refuse(f"* GenerateContentRequest.{where}.function_response.name: Name cannot be empty.")
    if response.parts and not here.family.response_parts:
        refuse("`function_response.parts` is not supported for this model")
    if any("$ref" in each for each in walk(response.response)):
        refuse(
            f"* GenerateContentRequest.{where}.function_response: $ref does not name a part of the response."
        )


def order(contents: list[Content], here: Situation) -> None:
    """Rules 1 to 4 and 7: who begins, calls after users, responses right after calls, in number and order."""
    if contents[0].role == "model":
        refuse("Please ensure that the first content has the role user.")
    before: Content | None = None
    for content in contents:
        follows(before, content)
        before = content
    if contents[-1].calls():
        refuse(COUNT)
    if contents[-1].role == "model" and not here.family.prefill:
        refuse("The last content must have the role user: this model does not continue a model turn.")


def follows(before: Content | None, content: Content) -> None:
    calls = before.calls() if before else []
    responses = content.responses()
    if responses and not calls:
        refuse(AFTER_CALL)
    if calls and (len(responses) != len(calls) or len(responses) != len(content.parts or ())):
        refuse(COUNT)
    if [call.name for call in calls] != [response.name for response in responses] and calls:
        refuse(COUNT)
    if content.calls() and before is not None and before.role == "model":
        refuse(AFTER_USER)


# --- signatures -----------------------------------------------------------------------------------------


def signatures(contents: list[Content], here: Situation) -> None:
    """Section 5: every signature is one of ours or the sentinel; the current tool loop has one a turn."""
    for at, content in enumerate(contents):
        for number, part in enumerate(content.parts or ()):
            if part.thought_signature:
                genuine(part.thought_signature, f"contents[{at}].parts[{number}].thought_signature", here)
    if not here.family.signatures:
        return
    for at in range(loop_start(contents), len(contents)):
        first = next((part for part in contents[at].parts or () if part.function_call is not None), None)
        if first is not None and first.function_call is not None and not first.thought_signature:
            refuse(
                "Function call is missing a thought_signature in functionCall parts. This is required for "
                "tools to work correctly, and missing thought_signature may lead to degraded model "
                f"performance. Additional data, function call `default_api:{first.function_call.name}`, "
                f"position {at + 1}."
            )


def loop_start(contents: list[Content]) -> int:
    """Where the current tool loop begins: after the last user content that is no function response."""
    for at in range(len(contents) - 1, -1, -1):
        if contents[at].role != "model" and not contents[at].responses():
            return at + 1
    return 0


def genuine(signature: str, where: str, here: Situation) -> None:
    if signature == SENTINEL:
        return
    padded = signature.replace("-", "+").replace("_", "/")
    try:
        decoded = base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True)
    except (binascii.Error, ValueError):
        violation(
            where, f"Invalid value at '{where}' (TYPE_BYTES), Base64 decoding failed for \"{signature[:40]}\""
        )
    if (
        here.family.thinking != "none"
        and decoded != SENTINEL.encode()
        and not decoded.startswith(b"sim-gemini|")
    ):
        refuse("Corrupted thought signature.")


def mint(model: str, number: int) -> str:
    """The signature that an answer's part carries."""
    return base64.b64encode(f"sim-gemini|{model}|{number}".encode()).decode()


CHECKS: tuple[Callable[[list[Content], Situation], None], ...] = (shapes, order, signatures)


def check_contents(body: Body, here: Situation) -> list[Content]:
    """The contents of a body, all checked. Raises Rejected."""
    contents = body.contents or []
    for check in CHECKS:
        check(contents, here)
    return contents
