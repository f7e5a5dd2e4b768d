"""Makes words whole that the end of a line divided. Pure.

Whether a hyphen divided the word or belongs to it is told by the rest of the document: a word that is
written with it elsewhere keeps it, unless it is also written without.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

DIVIDED = "\ufffe"
"""Stands in a text where a word was divided; pdfium's own sign for it."""

_WORD = re.compile(r"\w+(?:-\w+)*")
_DIVISION = re.compile(rf"(\w*)[{DIVIDED}\x02]\s*(\w*)")


def joins(above: str, below: str) -> bool:
    """Say whether a word goes on from the end of a line to the next."""
    ending = above[-2:]
    return len(ending) == 2 and ending[1] in "-\u00ad\u2010" and ending[0].isalpha() and below[:1].islower()


class WordJoiner:
    """Knows the words of a document, given as its lines."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = lines

    def whole(self, text: str) -> str:
        """Return the text with its divided words whole, and without soft hyphens."""
        if DIVIDED in text or "\x02" in text:
            text = _DIVISION.sub(self._word, text)
        return text.replace("\u00ad", "")

    def _word(self, match: re.Match[str]) -> str:
        before, after = match.groups()
        joined, hyphened = f"{before}{after}", f"{before}-{after}"
        keeps = hyphened.casefold() in self._words and joined.casefold() not in self._words
        return hyphened if keeps else joined

    @cached_property
    def _words(self) -> set[str]:
        return {word for line in self._lines for word in _WORD.findall(line.casefold())}
