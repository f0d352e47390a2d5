"""What a request will cost in tokens, before anybody has counted them.

Pure: sizes in, numbers out. Nothing is encoded or tokenized here: a request's text is as long as the client
sent it, and a model's earlier answers say how much that is in its own tokens.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from math import ceil

import msgspec
from msgspec import Struct

from ..chat import ChatRequest, Chunk, Part, Usage
from .limiter import Cost

BYTES_PER_TOKEN = 3
"""Few enough that hardly any tokenizer makes more tokens of a text."""
TEXT_FIELDS = ("messages", "tools", "response_format")
"""Fields of a request that a model reads as text."""
OUTPUT_TOKENS = 1024
"""An answer of a model that has not given enough of them yet."""
ENOUGH = 5
RECENT = 50
"""Answers of a model that its usual length is taken from."""
MAX_MODELS = 256
_WEIGHT = 0.1
_LEAST, _MOST = 0.1, 5.0


class Counting(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a provider counts: tokens of a picture, a recording and a document, flat.

    `max_tokens` says that it counts the most a client allows for, not what is usual; `cached` that it also
    counts what it read from its cache.
    """

    image: int = 1600
    audio: int = 2000
    file: int = 5000
    max_tokens: bool = False
    cached: bool = True


class _Model:
    """What was learned of one model: real tokens for each estimated one, and the usual length of answers."""

    __slots__ = ("outputs", "ratio", "usual")

    def __init__(self) -> None:
        self.ratio = 1.0
        self.usual = OUTPUT_TOKENS
        self.outputs: deque[int] = deque(maxlen=RECENT)

    def learn(self, estimated: int, usage: Usage) -> None:
        if usage.prompt_tokens > 0:
            seen = min(_MOST, max(_LEAST, usage.prompt_tokens / estimated))
            self.ratio += _WEIGHT * (seen - self.ratio)
        self.outputs.append(usage.completion_tokens)
        if len(self.outputs) >= ENOUGH:
            self.usual = sorted(self.outputs)[ceil(0.9 * len(self.outputs)) - 1]


class Estimates:
    """Costs of requests to one provider, better with each answer. Models seldom asked are forgotten."""

    def __init__(self, counting: Counting | None = None, *, max_models: int = MAX_MODELS) -> None:
        self._counting = counting or Counting()
        self._max_models = max_models
        self._models: OrderedDict[str, _Model] = OrderedDict()
        self._media = {
            "image_url": self._counting.image,
            "input_audio": self._counting.audio,
            "file": self._counting.file,
        }

    def __len__(self) -> int:
        return len(self._models)

    def cost(self, request: ChatRequest) -> Cost:
        """One request, its input, and what its answer will probably be, in tokens."""
        model = self._models.get(request.model)
        ratio, usual = (1.0, OUTPUT_TOKENS) if model is None else (model.ratio, model.usual)
        most = request.max_output_tokens
        output = usual if most is None else min(most, usual)
        if self._counting.max_tokens and most is not None:
            output = most
        return Cost(1, ceil(self._input(request) * ratio), output * (request.n or 1))

    def learn(self, request: ChatRequest, usage: Usage) -> None:
        """Compares with what the provider counted."""
        model = self._models.get(request.model)
        if model is None:
            model = self._models[request.model] = _Model()
            if len(self._models) > self._max_models:
                self._models.popitem(last=False)
        self._models.move_to_end(request.model)
        model.learn(self._input(request), usage)

    def spent(self, usage: Usage) -> Cost:
        """What the provider counts of an answer with this usage."""
        cached = 0 if self._counting.cached else usage.cached_tokens
        return Cost(1, max(0, usage.prompt_tokens - cached), usage.completion_tokens)

    def _input(self, request: ChatRequest) -> int:
        wire = request.wire
        if wire:
            size = sum(len(wire[name]) for name in TEXT_FIELDS if name in wire)
        else:
            size = len(msgspec.json.encode((request.messages, request.tools)))
        flat = 0
        for message in request.messages:
            if isinstance(message.content, list):
                for part in message.content:
                    if part.type in self._media:
                        size -= _inline(part)
                        flat += self._media[part.type]
        return max(1, flat + tokens_in(size))


def size_of(chunk: Chunk) -> int:
    """Bytes of what the client sees of `chunk`."""
    size = 0
    for text in (chunk.text, chunk.reasoning, chunk.refusal):
        if text:
            size += len(text) if text.isascii() else len(text.encode())
    for delta in chunk.tool_calls:
        size += len(delta.name) + len(delta.arguments)
    return size


def tokens_in(size: int) -> int:
    """Tokens that a text of `size` bytes may be, rather too many than too few."""
    return -(-size // BYTES_PER_TOKEN)


def _inline(part: Part) -> int:
    """Bytes of what is in the request itself, and not text."""
    if part.image_url is not None:
        return len(part.image_url.url)
    if part.input_audio is not None:
        return len(part.input_audio.data)
    return len(part.file.file_data or "") if part.file is not None else 0
