"""Puts a document together block by block, within the limits on its text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from arriero.errors import UnreadableDocument
from arriero.extract.document import Block, Document, Kind
from arriero.extract.limits import limit_hit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from arriero.extract.limits import Limits

_BETWEEN = "\n\n"
CELLS = " | "
LONGEST_HEADING = 300
_LONGEST_TITLE = 500

# Controls but tab and newline, surrogates, and what Unicode promises never to use.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_SPACES = re.compile(r"\s+")


class Writer:
    """Collects blocks; `document` joins them, each apart from the next by an empty line."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._texts: list[str] = []
        self._blocks: list[Block] = []
        self._length = 0

    def heading(self, text: str, level: int, *, page: int | None = None) -> None:
        """Add a heading. One too long to be a title is a paragraph."""
        text = one_line(text)
        if len(text) > LONGEST_HEADING:
            self.block(Kind.PARAGRAPH, text, page=page)
        else:
            self._add(Kind.HEADING, text, max(1, level), page)

    def block(self, kind: Kind, text: str, *, page: int | None = None) -> None:
        """Add a block that is no heading; one without text is left out."""
        self._add(kind, printable(text).strip("\n").rstrip(), 0, page)

    def table(self, rows: Iterable[Sequence[str]], *, page: int | None = None) -> None:
        """Add a table, a line for each row; rows without text are left out."""
        lines = (CELLS.join(one_line(cell) for cell in row) for row in rows)
        self.block(Kind.TABLE, "\n".join(line for line in lines if line.strip(CELLS)), page=page)

    def document(self, title: str | None, media_type: str) -> Document:
        """Return what was collected. Raises UnreadableDocument if there is no text at all."""
        if not self._blocks:
            raise UnreadableDocument("empty", "the document holds no text")
        title = one_line(title or "")[:_LONGEST_TITLE] or self._first_heading
        return Document(_BETWEEN.join(self._texts), title, media_type, tuple(self._blocks))

    @property
    def _first_heading(self) -> str | None:
        for block, text in zip(self._blocks, self._texts, strict=True):
            if block.kind is Kind.HEADING:
                return text
        return None

    def _add(self, kind: Kind, text: str, level: int, page: int | None) -> None:
        if not text.strip():
            return
        start = self._length + len(_BETWEEN) if self._blocks else 0
        self._length = start + len(text)
        if self._length > self._limits.text_chars:
            raise limit_hit("text_chars", f"the text is longer than {self._limits.text_chars} characters")
        if len(self._blocks) >= self._limits.blocks:
            raise limit_hit("blocks", f"the document has more than {self._limits.blocks} blocks")
        self._texts.append(text)
        self._blocks.append(Block(kind, start, self._length, level, page))


def printable(text: str) -> str:
    """Return the text without characters that nobody can read or store."""
    return _UNPRINTABLE.sub("", text) if not text.isprintable() else text


def one_line(text: str) -> str:
    """Return the printable text with single spaces, and none at its ends."""
    return _SPACES.sub(" ", printable(text)).strip()
