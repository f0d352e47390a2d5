"""The order of Anthropic's messages and blocks, and its thinking
signatures.

Rule of this file: what a conversation may look like, as checks that raise Rejected. Ordering looks at the
messages as they were sent: results split over two messages are refused although neighbours of one role are
merged later.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from .anthropic_rules import BINDING_BETA, NEW, Situation, misshapen, refuse
from .anthropic_shapes import (
    BLOCKS,
    PLACES,
    Adaptive,
    Base64,
    Block,
    Countable,
    Document,
    Enabled,
    Image,
    RedactedThinking,
    SearchResult,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
    Url,
)
from .checks import Mistake, base64_size, convert

ID = re.compile(r"[a-zA-Z0-9_-]+")
IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")


class Said(Struct, frozen=True):
    """One message with its blocks decoded. `at` is its number in the request."""

    at: int
    role: str
    blocks: list[Block]


# --- blocks ---------------------------------------------------------------------------------------------


def understood(body: Countable, here: Situation) -> list[Said]:
    """The messages of a body, all checked."""
    if not body.messages:
        refuse("messages: at least one message is required")
    if len(body.messages) > 100_000:
        refuse("messages: too many messages, at most 100000 are allowed")
    said = [message(body, at, here) for at in range(len(body.messages))]
    for check in CHECKS:
        check(said, body, here)
    return said


def message(body: Countable, at: int, here: Situation) -> Said:
    given = body.messages[at]
    if given.role not in ("user", "assistant", "system"):
        refuse(f"messages.{at}.role: Input should be 'user' or 'assistant'")
    if isinstance(given.content, str):
        blocks: list[Block] = [Text(type="text", text=given.content)] if given.content else []
        if given.content and not given.content.strip():
            refuse("messages: text content blocks must contain non-whitespace text")
    else:
        blocks = [block(each, given.role, (at, number)) for number, each in enumerate(given.content)]
    final = at == len(body.messages) - 1 and given.role == "assistant"
    if not blocks and not final:
        refuse(
            f"messages.{at}: all messages must have non-empty content except for the optional final "
            "assistant message"
        )
    return Said(at, given.role, blocks)


def block(given: dict[str, Any], place: str, at: tuple[int, int], inner: str = "") -> Block:
    where = f"messages.{at[0]}.content.{at[1]}{inner}"
    kind = str(given.get("type"))
    if kind not in BLOCKS:
        known = ", ".join(f"'{name}'" for name in sorted(BLOCKS))
        refuse(
            f"{where}: Input tag '{kind}' found using 'type' does not match any of the expected tags: {known}"
        )
    if kind not in PLACES[place]:
        refuse(f"{where}: `{kind}` blocks are not permitted in {place} messages")
    path = ("messages", at[0], "content", f"{at[1]}{inner}", kind)
    made = convert(given, BLOCKS[kind], path)
    if isinstance(made, Mistake):
        misshapen(made)
    check = BLOCK_CHECKS.get(type(made))
    if check is not None:
        check(made, at, where)
    return made


def text_block(made: Text, at: tuple[int, int], where: str) -> None:
    if not made.text:
        refuse("messages: text content blocks must be non-empty")
    if not made.text.strip():
        refuse("messages: text content blocks must contain non-whitespace text")


def image_block(made: Image, at: tuple[int, int], where: str) -> None:
    if isinstance(made.source, Base64):
        if made.source.media_type not in IMAGES:
            listed = ", ".join(f"'{kind}'" for kind in IMAGES[:-1])
            refuse(f"{where}.image.source.base64.media_type: Input should be {listed} or '{IMAGES[-1]}'")
        inline(made.source, f"{where}.image.source.base64")
    elif isinstance(made.source, Url):
        url(made.source, f"{where}.image.source.url")


def document_block(made: Document, at: tuple[int, int], where: str) -> None:
    if isinstance(made.source, Base64):
        if made.source.media_type != "application/pdf":
            refuse(f"{where}.document.source.base64.media_type: Input should be 'application/pdf'")
        inline(made.source, f"{where}.document.source.base64")
    elif isinstance(made.source, Url):
        url(made.source, f"{where}.document.source.url")


def inline(source: Base64, where: str) -> None:
    size = base64_size(source.data)
    if size is None:
        refuse(f"{where}.data: invalid base64 data")
    if size > 10 * 2**20 and source.media_type in IMAGES:
        refuse(f"{where}: image exceeds 10 MB maximum: {size} bytes > {10 * 2**20} bytes")


def url(source: Url, where: str) -> None:
    if not source.url.startswith("https://"):
        refuse(f"{where}.url: Only HTTPS URLs are supported.")


def use_block(made: ToolUse, at: tuple[int, int], where: str) -> None:
    if not ID.fullmatch(made.id):
        refuse(f"{where}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,200}", made.name):
        refuse(f"{where}.tool_use.name: String should match pattern '^[a-zA-Z0-9_-]{{1,200}}$'")


def result_block(made: ToolResult, at: tuple[int, int], where: str) -> None:
    if not ID.fullmatch(made.tool_use_id):
        refuse(f"{where}.tool_result.tool_use_id: String should match pattern '^[a-zA-Z0-9_-]+$'")
    if isinstance(made.content, list):
        for number, each in enumerate(made.content):
            block(each, "tool_result", at, f".tool_result.content.{number}")


BLOCK_CHECKS: dict[type[Any], Callable[[Any, tuple[int, int], str], None]] = {
    Text: text_block,
    Image: image_block,
    Document: document_block,
    ToolUse: use_block,
    ToolResult: result_block,
}


# --- order ----------------------------------------------------------------------------------------------


def begins(said: list[Said], body: Countable, here: Situation) -> None:
    if said[0].role != "user":
        refuse('messages: first message must use the "user" role')


def system_entries(said: list[Said], body: Countable, here: Situation) -> None:
    """Rule 8: a system entry stands after a user turn and before an assistant turn or at the end."""
    for one, other in zip(said, [*said[1:], None], strict=True):
        if one.role != "system":
            continue
        if here.family.system_role == "no":
            refuse("role 'system' is not supported on this model")
        before = said[one.at - 1].role
        if before != "user" or (other is not None and other.role != "assistant"):
            refuse(
                f"messages.{one.at}: role 'system' must follow a user message and precede an assistant "
                "message or end the conversation"
            )


def pairs(said: list[Said], body: Countable, here: Situation) -> None:
    """Rules 2, 3 and 5: each tool_use is answered in the very next message, results first, no orphans."""
    calls: list[str] = []
    for at, one in enumerate(said):
        results = [each for each in one.blocks if isinstance(each, ToolResult)]
        asked = uses(said[at - 1]) if at else []
        missing = [call for call in asked if call not in {each.tool_use_id for each in results}]
        if missing:
            refuse(
                f"messages.{at - 1}: `tool_use` ids were found without `tool_result` blocks immediately "
                f"after: {', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` "
                "block in the next message."
            )
        for number, each in enumerate(one.blocks):
            if isinstance(each, ToolResult):
                result(each, asked, f"messages.{at}.content.{number}")
        if any(isinstance(each, ToolResult) for each in one.blocks[len(results) :]):
            refuse(f"messages.{at}: `tool_result` blocks must come before all other blocks of the message.")
        if len({each.tool_use_id for each in results}) < len(results):
            refuse(
                f"messages.{at}: each tool_use must have a single result. Found multiple `tool_result` "
                "blocks."
            )
        calls += uses(one)
    if len(set(calls)) < len(calls):
        refuse("messages: `tool_use` ids must be unique")
    if uses(said[-1]):
        refuse(
            f"messages.{said[-1].at}: `tool_use` ids were found without `tool_result` blocks immediately "
            f"after: {', '.join(uses(said[-1]))}."
        )


def uses(one: Said) -> list[str]:
    return [each.id for each in one.blocks if isinstance(each, ToolUse)]


def result(each: ToolResult, asked: list[str], where: str) -> None:
    if each.tool_use_id not in asked:
        refuse(
            f"{where}: unexpected `tool_use_id` found in `tool_result` blocks: {each.tool_use_id}. Each "
            "`tool_result` block must have a corresponding `tool_use` block in the previous message."
        )


def ends(said: list[Said], body: Countable, here: Situation) -> None:
    """Rule 7: prefill."""
    last = said[-1]
    if last.role != "assistant":
        return
    if not here.family.prefill:
        refuse(
            "This model does not support assistant message prefill. The conversation must end with a user "
            "message."
        )
    if (
        last.blocks
        and isinstance(last.blocks[-1], Text)
        and last.blocks[-1].text != last.blocks[-1].text.rstrip()
    ):
        refuse("messages: final assistant content cannot end with trailing whitespace")


def new_version(said: list[Said], body: Countable, here: Situation) -> None:
    """What anthropic-version 2026-10-21 took away (section 1)."""
    if here.version != NEW:
        return
    for one in said:
        for number, each in enumerate(one.blocks):
            where = f"messages.{one.at}.content.{number}"
            if one.role == "assistant" and isinstance(each, Document):
                refuse(f"{where}: `document` blocks are not permitted in assistant messages")
            texts = each.content if isinstance(each, SearchResult) else [each] if one.role == "user" else []
            if any(isinstance(text, Text) and text.citations for text in texts):
                refuse(f"{where}: `citations` are not permitted on text blocks in user messages")


# --- thinking -------------------------------------------------------------------------------------------


def thinking_blocks(said: list[Said], body: Countable, here: Situation) -> None:
    """Rule 9: signatures are ours, unchanged, of this model, and on binding models of this very prefix."""
    for one in said:
        for number, each in enumerate(one.blocks):
            if isinstance(each, Thinking):
                signed(each, f"messages.{one.at}.content.{number}", body, one.at, here)
    if isinstance(body.thinking, Enabled):
        loop_begins_with_thinking(said)


def signed(each: Thinking, where: str, body: Countable, at: int, here: Situation) -> None:
    stated = parse_signature(each.signature)
    if stated is None or stated[0] != body.model:
        refuse(f"{where}: Invalid `signature` in `thinking` block")
    _, prefix, text = stated
    if text != digest(each.thinking):
        refuse(
            f"{where}: `thinking` or `redacted_thinking` blocks in the latest assistant message cannot be "
            "modified. These blocks must remain as they were in the original response."
        )
    drops = isinstance(body.thinking, Adaptive) and body.thinking.block_binding is not None
    if (
        here.family.binds
        and prefix
        and prefix != prefix_of(body, at)
        and not (drops and BINDING_BETA in here.betas)
    ):
        refuse(
            f"{where}: Invalid `signature` in `thinking` block. The block is bound to a different "
            "conversation: the system prompt, tools or messages before it have changed."
        )


def loop_begins_with_thinking(said: list[Said]) -> None:
    """Manual thinking: inside the current tool loop every assistant turn starts with a thinking block."""
    for one in reversed(said):
        if one.role == "user" and not any(isinstance(each, ToolResult) for each in one.blocks):
            return
        if (
            one.role == "assistant"
            and uses(one)
            and not isinstance(one.blocks[0], Thinking | RedactedThinking)
        ):
            refuse(
                f"messages.{one.at}.content.0.type: Expected `thinking` or `redacted_thinking`, but found "
                f"`{one.blocks[0].type}`. When `thinking` is enabled, a final `assistant` message must start "
                "with a thinking block (preceding the lastmost set of `tool_use` and `tool_result` blocks)."
            )


def signature(body: Countable, text: str, here: Situation) -> str:
    """Mint the signature of a thinking block that answers this body."""
    prefix = prefix_of(body, len(body.messages)) if here.family.binds else ""
    return base64.b64encode(f"sim-anthropic|{body.model}|{prefix}|{digest(text)}".encode()).decode()


def parse_signature(given: str) -> tuple[str, str, str] | None:
    """(model, prefix digest, text digest) of a minted signature; None when it is not one of ours."""
    try:
        maker, model, prefix, text = base64.b64decode(given, validate=True).decode().split("|")
    except ValueError:
        return None
    return (model, prefix, text) if maker == "sim-anthropic" else None


def prefix_of(body: Countable, at: int) -> str:
    """A digest of everything before message `at`, blind to cache marks and to the two ways to write a
    text.
    """
    before = [[each.role, plain(each.content)] for each in body.messages[:at]]
    return digest(msgspec.json.encode([plain(body.system), plain(body.tools), before]))


def plain(value: Any) -> Any:
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    if isinstance(value, list):
        return [{key: each[key] for key in sorted(each) if key != "cache_control"} for each in value]
    return value


def digest(text: str | bytes) -> str:
    return hashlib.blake2b(text.encode() if isinstance(text, str) else text, digest_size=6).hexdigest()


CHECKS: tuple[Callable[[list[Said], Countable, Situation], None], ...] = (
    begins,
    system_entries,
    pairs,
    ends,
    new_version,
    thinking_blocks,
)
