"""A local LLM gateway: OpenAI-compatible inside, every provider's native API outside.

As a library: `open_provider` and what it gives and raises (docs/library.md). Nothing of it is loaded before
it is used.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .library import (
        Answer,
        Capabilities,
        ChatRequest,
        Chunk,
        GatewayError,
        LLMProvider,
        ModelInfo,
        ProviderHealth,
        RequestError,
        SettingsError,
        UpstreamError,
        open_provider,
    )

__all__ = [
    "Answer",
    "Capabilities",
    "ChatRequest",
    "Chunk",
    "GatewayError",
    "LLMProvider",
    "ModelInfo",
    "ProviderHealth",
    "RequestError",
    "SettingsError",
    "UpstreamError",
    "open_provider",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import library

    return getattr(library, name)
