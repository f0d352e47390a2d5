"""Gemini's embedContent and batchEmbedContents: what they refuse, and their answers.

Rule of this file: everything about these two methods; the models are in `gemini_models.py`.
"""

from __future__ import annotations

from typing import Any

from .brain import tokens
from .gemini_models import EMBEDDERS, Embedder
from .gemini_rules import no_such_model, parsed, refuse
from .gemini_shapes import Content, Strict
from .vectors import vector

MOST = 100
TASKS = (
    "TASK_TYPE_UNSPECIFIED",
    "RETRIEVAL_QUERY",
    "RETRIEVAL_DOCUMENT",
    "SEMANTIC_SIMILARITY",
    "CLASSIFICATION",
    "CLUSTERING",
    "QUESTION_ANSWERING",
    "FACT_VERIFICATION",
    "CODE_RETRIEVAL_QUERY",
)


class EmbedBody(Strict):
    model: str = ""
    content: Content | None = None
    task_type: str | None = None
    title: str | None = None
    output_dimensionality: int | None = None


class BatchBody(Strict):
    requests: list[EmbedBody] | None = None


def answer(raw: bytes, model: str, method: str, version: str) -> dict[str, Any]:
    """The answer to a body. Raises Rejected as the real API would."""
    embedder = EMBEDDERS.get(model)
    if embedder is None:
        no_such_model(model, version, method)
    if method == "embedContent":
        body = parsed(raw, EmbedBody)
        if body.model and body.model != f"models/{model}":
            refuse(f"* EmbedContentRequest.model: expected models/{model}, got {body.model}\n")
        return {"embedding": {"values": embedded(body, embedder)}, **usage([body], embedder)}
    asked = parsed(raw, BatchBody).requests
    if not asked:
        refuse("* BatchEmbedContentsRequest.requests: requests is not specified\n")
    if len(asked) > MOST:
        refuse(f"* BatchEmbedContentsRequest.requests: at most {MOST} requests can be in one batch\n")
    for at, each in enumerate(asked):
        if each.model != f"models/{model}":
            where = f"BatchEmbedContentsRequest.requests[{at}].model"
            refuse(f"* {where}: expected models/{model}, got '{each.model}'\n")
    vectors = [{"values": embedded(each, embedder)} for each in asked]
    return {"embeddings": vectors, **usage(asked, embedder)}


def embedded(body: EmbedBody, embedder: Embedder) -> list[float]:
    """The first numbers of the whole vector: what is cut is not of length 1 any more."""
    parts = body.content.parts if body.content is not None else None
    if not parts:
        refuse("* EmbedContentRequest.content: contents is not specified\n")
    if body.task_type is not None and body.task_type not in TASKS:
        refuse(f"Invalid value at 'task_type' (type.googleapis.com/TaskType), \"{body.task_type}\"")
    if body.title is not None and body.task_type != "RETRIEVAL_DOCUMENT":
        refuse("* EmbedContentRequest.title: title is only supported with task type RETRIEVAL_DOCUMENT\n")
    size = embedder.size if body.output_dimensionality is None else body.output_dimensionality
    if not 1 <= size <= embedder.size:
        refuse(f"* EmbedContentRequest.output_dimensionality: must be between 1 and {embedder.size}\n")
    if not embedder.media and any(part.text is None for part in parts):
        refuse("This model embeds text only.")
    if all(part.text == "" for part in parts):
        refuse("The text content is empty.")
    return vector("\n".join(part.text or "" for part in parts), embedder.size)[:size]


def usage(bodies: list[EmbedBody], embedder: Embedder) -> dict[str, Any]:
    """Only newer models count."""
    if not embedder.counts:
        return {}
    parts = [part for body in bodies if body.content for part in body.content.parts or ()]
    return {"usageMetadata": {"promptTokenCount": sum(tokens(part.text or "") for part in parts)}}
