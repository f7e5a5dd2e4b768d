"""Poly's filters: what is taken out of a text before it is cut, and out of each chunk. Pure.

Keeps where each character came from, so that chunks know their place in the document.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

BLANKS = re.compile(" {2,}")


def cleaned(text: str, patterns: Sequence[re.Pattern[str]]) -> tuple[str, NDArray[np.int64]]:
    """Replace each match by a blank and runs of blanks by one; return also where the characters were."""
    origins = np.arange(len(text))
    for pattern in (*patterns, BLANKS) if patterns else ():
        text, origins = _blanked(text, origins, pattern)
    return text, origins


def _blanked(
    text: str, origins: NDArray[np.int64], pattern: re.Pattern[str]
) -> tuple[str, NDArray[np.int64]]:
    texts: list[str] = []
    kept: list[NDArray[np.int64]] = []
    place = 0
    for match in pattern.finditer(text):
        start, end = match.span()
        if start < end:
            texts += (text[place:start], " ")
            kept.append(origins[place : start + 1])
            place = end
    if not texts:
        return text, origins
    return "".join((*texts, text[place:])), np.concatenate((*kept, origins[place:]))


def without(text: str, filters: Sequence[str]) -> str:
    """Take the given texts out of a chunk. White space leaves a blank, so that words stay apart."""
    for taken in filters:
        text = text.replace(taken, " " if taken.isspace() else "")
    return (BLANKS.sub(" ", text) if filters else text).strip()
