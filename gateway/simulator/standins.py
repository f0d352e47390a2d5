"""The stand-ins there are, by path prefix. To add one: its file, and its line here."""

from __future__ import annotations

from .anthropic import Anthropic
from .deepseek import DeepSeek
from .gemini import Gemini
from .openai import OpenAI
from .wire import StandIn

_ALL = (OpenAI(), Anthropic(), Gemini(), DeepSeek())
STAND_INS: dict[str, StandIn] = {stand_in.name: stand_in for stand_in in _ALL}
