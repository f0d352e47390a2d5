"""Vectors for texts: the same text has the same one, another text another one.

Rule of this file: numbers only; which model makes how many, and how they are written, is the stand-ins'.
"""

from __future__ import annotations

import base64
import hashlib
import math
import struct


def vector(text: str, size: int) -> list[float]:
    """`size` numbers of length 1 together, each of which 32 bits hold exactly."""
    seed = hashlib.shake_256(text.encode("utf-8", "replace")).digest(2 * size)
    return unit([float(number) for number in struct.unpack(f"<{size}h", seed)])


def unit(numbers: list[float]) -> list[float]:
    """The numbers scaled to length 1, rounded to 32 bits."""
    length = math.sqrt(sum(number * number for number in numbers)) or 1.0
    packed = struct.pack(f"<{len(numbers)}f", *(number / length for number in numbers))
    return list(struct.unpack(f"<{len(numbers)}f", packed))


def in_base64(numbers: list[float]) -> str:
    """The numbers as 32-bit floats, least significant byte first, in base64."""
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
