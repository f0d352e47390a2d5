"""Where a model is: its place in the paths of the API, which no name may leave."""

from __future__ import annotations

import re

from ...errors import ErrorKind, UpstreamError
from ..base import path_segment

_LEAVES_SEGMENT = re.compile(r"[/?#:%\\]|\.\.")


def model_path(model: str) -> str:
    """The path of a model; tuned ones have their own collection. Raises for an id that would leave it."""
    is_tuned = model.startswith("tunedModels/")
    name = model.removeprefix("tunedModels/")
    if _LEAVES_SEGMENT.search(name):
        raise UpstreamError(ErrorKind.NOT_FOUND, f"there is no model {model!r}", param="model")
    return f"{'tunedModels' if is_tuned else 'models'}/{path_segment(name)}"
