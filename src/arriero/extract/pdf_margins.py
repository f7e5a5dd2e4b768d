"""Finds running heads, running feet and page numbers. Pure.

A line at the edge of its page is one of them

1. if, with its digits masked, it stands there on more than 60 % of all pages, of all left or all right
   ones, or on three pages in a row;
2. if it is the outermost, begins or ends with the number of its page, and so do those of most pages.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from arriero.extract.pdf_layout import Line, Page

SHARE = 0.6
FEWEST_PAGES = 3
EDGE_LINES = 2
"""How many rows at the top, and at the bottom, are looked at."""
SAME_ROW = 2.0
"""Points between lines that stand beside each other."""
EDGE = 0.15
"""Share of the height of a page, at its top and bottom, in which they stand."""

_DIGITS = re.compile(r"\d+")
_NUMBER = re.compile(r"(?:^|\s)(\d{1,4})$|^(\d{1,4})\s")
_SPACES = re.compile(r"\s+")
_ROMAN = re.compile(r"[ivxlcdm]+", re.IGNORECASE)


class _Mark(NamedTuple):
    """What may repeat: a text, or the distance of the number in it from that of its page."""

    is_top: bool
    text: str
    offset: int | None = None


def without_margins(pages: Sequence[Page]) -> list[Page]:
    """Return the pages without what repeats at their edges."""
    if len(pages) < FEWEST_PAGES:
        return list(pages)
    marked = [dict(_marks(page, number)) for number, page in enumerate(pages)]
    seen = [{mark for marks in lines.values() for mark in marks} for lines in marked]
    usual = _frequent(seen) | _frequent(seen[::2]) | _frequent(seen[1::2])

    def is_margin(line: Line, number: int) -> bool:
        marks = marked[number].get(id(line), ())
        return any(mark in usual or _is_repeated(mark, number, seen) for mark in marks)

    kept = [
        page._replace(lines=[line for line in page.lines if not is_margin(line, number)])
        for number, page in enumerate(pages)
    ]
    return kept if any(page.lines for page in kept) else list(pages)


def _marks(page: Page, number: int) -> Iterator[tuple[int, list[_Mark]]]:
    """Yield the marks of each line at an edge, under the line's identity."""
    outermost: dict[bool, float] = {}
    for line, is_top in _at_edges(page):
        marks = [_Mark(is_top, _masked(line.text))]
        is_outermost = abs(outermost.setdefault(is_top, line.y) - line.y) <= SAME_ROW
        if is_outermost and (found := _NUMBER.search(line.text)):
            marks.append(_Mark(is_top, "", int(found[1] or found[2]) - number))
        yield id(line), marks


def _at_edges(page: Page) -> Iterable[tuple[Line, bool]]:
    ordered = sorted(page.lines, key=lambda line: -line.y)
    top = [line for line in ordered if line.y > (1 - EDGE) * page.height]
    bottom = [line for line in reversed(ordered) if line.y < EDGE * page.height]
    yield from ((line, True) for line in top[: _count(top)])
    yield from ((line, False) for line in bottom[: _count(bottom)])


def _count(lines: Sequence[Line]) -> int:
    """Return how many of the lines, from the edge on, stand in the first rows."""
    rows = 0
    for position, line in enumerate(lines):
        rows += position == 0 or abs(line.y - lines[position - 1].y) > SAME_ROW
        if rows > EDGE_LINES:
            return position
    return len(lines)


def _masked(text: str) -> str:
    if _ROMAN.fullmatch(text):
        return "#"
    return _DIGITS.sub("#", _SPACES.sub(" ", text)).casefold()


def _frequent(seen: Sequence[set[_Mark]]) -> set[_Mark]:
    if len(seen) < FEWEST_PAGES:
        return set()
    counts = Counter(mark for marks in seen for mark in marks)
    return {mark for mark, count in counts.items() if count > SHARE * len(seen)}


def _is_repeated(mark: _Mark, number: int, seen: Sequence[set[_Mark]]) -> bool:
    """Say whether a text stands on three pages in a row, this one among them."""
    starts = range(max(0, number - FEWEST_PAGES + 1), min(number, len(seen) - FEWEST_PAGES) + 1)
    return mark.offset is None and any(
        all(mark in seen[page] for page in range(start, start + FEWEST_PAGES)) for start in starts
    )
