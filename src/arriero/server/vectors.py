"""Vectors on the wire: little-endian float32 as JSON numbers or as base64."""

from __future__ import annotations

import base64

import numpy as np


def floats(vector: bytes) -> list[float]:
    """Return the numbers of a vector."""
    numbers: list[float] = np.frombuffer(vector, dtype="<f4").astype(float).tolist()
    return numbers


def base64_text(vector: bytes) -> str:
    """Return a vector in the form that OpenAI's clients ask for by default."""
    return base64.b64encode(vector).decode()
