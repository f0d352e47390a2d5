"""The stand-ins there are, by path prefix. To add one: its file, and its line here."""

from __future__ import annotations

from .anthropic import Anthropic
from .cursor import Cursor
from .deepseek import DeepSeek
from .gemini import Gemini
from .openai import OpenAI
from .qwen import Qwen
from .wire import StandIn

_ALL = (OpenAI(), Anthropic(), Gemini(), DeepSeek(), Qwen(), Cursor())
STAND_INS: dict[str, StandIn] = {stand_in.name: stand_in for stand_in in _ALL}


def own() -> dict[str, StandIn]:
    """The stand-ins of one simulator: one that keeps state is its alone, the others serve every simulator."""
    return {**STAND_INS, Cursor.name: Cursor()}
