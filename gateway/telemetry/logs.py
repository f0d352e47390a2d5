"""The log: lines on standard error, each on one line whatever a provider or a client wrote into it."""

from __future__ import annotations

import logging
import re
import sys

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_QUIET = ("httpx2", "httpcore2", "uvicorn", "asyncio")
"""Libraries whose own lines could show headers or prompts: only their warnings are kept."""


class OneLine(logging.Formatter):
    """Time, level, message: control characters are shown as escapes, so that nobody can forge a line."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = _CONTROL.sub(lambda m: m[0].encode("unicode_escape").decode(), record.message)
        return super().formatMessage(record)


def configure(level: str) -> None:
    """Sends everything from `level` ("debug", "info", "warning", "error") up to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("gateway").setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
