"""A local LLM gateway: OpenAI-compatible inside, every provider's native API outside."""

__version__ = "0.1.0"
