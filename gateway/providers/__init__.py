"""The providers by name. A new one is a module here that exports `PROVIDER`, and its name in this list."""

from importlib import import_module

from .base import Provider

_MODULES = ("openai", "anthropic", "gemini", "deepseek", "qwen", "cursor", "demo")

PROVIDERS: dict[str, Provider] = {name: import_module(f".{name}", __name__).PROVIDER for name in _MODULES}
"""In the order in which they are preferred when nothing else says so."""
