"""What is read out of a document: its text, and where in it each part stands. Pure values.

The blocks of a document follow each other in its text and do not overlap. All offsets count
characters of `Document.text`.
"""

from __future__ import annotations

from bisect import bisect_right
from enum import Enum
from functools import cached_property

import msgspec


class Kind(str, Enum):
    """What a block is."""

    HEADING = "heading"
    PARAGRAPH = "paragraph"
    TABLE = "table"
    LIST = "list"
    CODE = "code"


class Block(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A part of the text. level: of a heading, from 1; else 0. page: from 1, where there are pages."""

    kind: Kind
    start: int
    end: int
    level: int = 0
    page: int | None = None


class Document(msgspec.Struct, frozen=True, dict=True):
    """The text of a document with its structure."""

    text: str
    title: str | None
    media_type: str
    blocks: tuple[Block, ...]

    def section_at(self, offset: int) -> tuple[str, ...]:
        """Return the titles of the headings that the place stands under, the outermost first."""
        starts, paths = self._sections
        position = bisect_right(starts, offset)
        return paths[position - 1] if position else ()

    def page_at(self, offset: int) -> int | None:
        """Return the page of the place, or None in a document without pages."""
        position = bisect_right(self._starts, offset)
        return self.blocks[max(0, position - 1)].page if self.blocks else None

    @cached_property
    def _starts(self) -> list[int]:
        return [block.start for block in self.blocks]

    @cached_property
    def _sections(self) -> tuple[list[int], list[tuple[str, ...]]]:
        starts: list[int] = []
        paths: list[tuple[str, ...]] = []
        open_headings: list[tuple[int, str]] = []
        for block in self.blocks:
            if block.kind is Kind.HEADING:
                open_headings = [heading for heading in open_headings if heading[0] < block.level]
                open_headings.append((block.level, self.text[block.start : block.end]))
                starts.append(block.start)
                paths.append(tuple(title for _, title in open_headings))
        return starts, paths
