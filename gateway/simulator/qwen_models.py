"""Qwen's models as Model Studio serves them: data only.

Rule of this file: a table and its look-up; what follows from it is in `qwen_rules.py`. Where the document
says "some models" the choice is made here, and the older hybrid models are the strict ones.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

Path = Literal["text-generation", "multimodal-generation", ""]
Media = frozenset[str]

LEVELS = ("low", "medium", "high", "xhigh")
EYES: Media = frozenset({"image", "video"})
SENSES: Media = EYES | {"audio"}


class Family(Struct, frozen=True):
    """What the models of one kind take.

    path            the one native path that serves it; "": neither does
    thinking        "none" (the parameter is refused), "off" or "on" unless told, "always" (cannot be off)
    sees            kinds of media parts it takes
    levels          reasoning_effort is taken; budget: most thinking_budget tokens
    completion      max_completion_tokens is taken
    message         result_format is "message" unless told ("text" otherwise)
    stream_only     never answers without a stream
    stream_thoughts while thinking it only streams, and only in increments
    window, output  tokens read and produced at most
    """

    path: Path
    thinking: Literal["none", "off", "on", "always"] = "none"
    sees: Media = frozenset()
    levels: bool = False
    budget: int = 0
    completion: bool = False
    message: bool = True
    stream_only: bool = False
    stream_thoughts: bool = False
    window: int = 991_000
    output: int = 131_072


_SMALL = 129_024
_PLAIN = Family("text-generation", message=False, window=_SMALL, output=16_384)
_OLD_HYBRID = replace(_PLAIN, thinking="off", budget=81_920, stream_thoughts=True)
_TEXT = Family("text-generation", thinking="on", budget=131_072, completion=True)
_3_5 = Family(
    "multimodal-generation",
    thinking="on",
    sees=EYES,
    budget=131_072,
    completion=True,
    stream_thoughts=True,
)
_3_6 = replace(_3_5, stream_thoughts=False)
_3_8 = replace(_3_6, levels=True, budget=262_144)
_VL = replace(_3_5, thinking="off", budget=81_920, completion=False, window=_SMALL, output=32_768)
_HOSTED = Family("text-generation", thinking="off", levels=True, budget=131_072, completion=True)
_ALWAYS = replace(_OLD_HYBRID, thinking="always", message=True)

MODELS: dict[str, Family] = {
    "qwen3.8-max": _3_8,
    "qwen3.8-max-0902": _3_8,
    "qwen3.8-plus": _3_8,
    "qwen3.8-flash": _3_8,
    "qwen3.8-omni-flash": replace(_3_8, sees=SENSES, stream_only=True),
    "qwen3.7-max": _TEXT,
    "qwen3.7-plus": _3_6,
    "qwen3.7-flash": replace(_3_6, budget=262_144),
    "qwen3.6-max-preview": replace(_TEXT, completion=False),
    "qwen3.6-plus": _3_6,
    "qwen3.6-flash": _3_6,
    "qwen3.5-plus": _3_5,
    "qwen3.5-flash": _3_5,
    "qwen3.5-omni-plus": replace(_3_5, thinking="none", budget=0, sees=SENSES, stream_only=True),
    "qwen3-max": replace(_OLD_HYBRID, message=True, window=258_048, output=65_536),
    "qwen-plus": replace(_OLD_HYBRID, window=995_904, output=32_768),
    "qwen-flash": replace(_OLD_HYBRID, window=995_904, output=32_768),
    "qwen-turbo": _PLAIN,
    "qwen-max": _PLAIN,
    "qwen-long": replace(_PLAIN, window=10_000_000),
    "qwen3-coder-plus": replace(_PLAIN, message=True, window=997_952, output=65_536),
    "qwen3-coder-flash": replace(_PLAIN, message=True, window=997_952, output=65_536),
    "qwen3-235b-a22b-thinking-2507": _ALWAYS,
    "qwen3-vl-plus": _VL,
    "qwen3-vl-flash": _VL,
    "qwq-plus": replace(_ALWAYS, stream_only=True),
    "qvq-max": replace(_VL, thinking="always", stream_only=True),
    "deepseek-v4-pro": _HOSTED,
    "deepseek-v4.1-flash": _HOSTED,
    "glm-5.2": replace(_HOSTED, thinking="on"),
    "glm-5.3": replace(_HOSTED, thinking="on"),
    "kimi-k2.5": replace(_3_6, thinking="off"),
    "kimi-k3": replace(_3_6, thinking="off"),
    # no real models: they live where their names do not say, so that a client has to switch paths
    "qwen-sim-moved": replace(_PLAIN, path="multimodal-generation", message=True),
    "qwen4-sim-moved": _PLAIN,
    "qwen-sim-nowhere": replace(_PLAIN, path=""),
}


def card(model: str) -> dict[str, object]:
    """The entry of a model in the list."""
    maker = model.partition("-")[0].rstrip("0123456789.")
    return {"model": model, "source": "official", "provider": maker, "opensource": "-a22b" in model}
