"""From the lines of PDF pages to headings, paragraphs, tables, lists and listings. Pure.

1. Running heads and page numbers go: what stands at the same edge of many pages.
2. Lines that are headings: those that the outline names, else those in larger type.
3. Other lines are gathered into groups by distance, type size, indent and marks of lists; a paragraph
   that a page or column ends in the middle of a sentence goes on in the next.
4. Within a group a line that ended for want of room is joined to the next, and a divided word is made
   whole; other ends of lines stay.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from arriero.extract.document import Kind
from arriero.extract.pdf_margins import without_margins
from arriero.extract.words import DIVIDED, WordJoiner, joins

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from arriero.extract.writer import Writer


class Line(NamedTuple):
    """A line of text. Places in points, from the bottom left; `y` of its first, `last_y` of its last sign."""

    text: str
    x: float
    y: float
    right: float
    last_y: float
    height: float
    fixed: bool
    page: int


class Page(NamedTuple):
    """A page: its height, and its lines in reading order."""

    height: float
    lines: list[Line]


class Section(NamedTuple):
    """An entry of the outline."""

    title: str
    level: int
    page: int


class _Type(NamedTuple):
    """The usual type of the document: its height, its distance of lines (in heights)."""

    height: float
    leading: float
    is_fixed: bool


LARGER = 1.13
"""A heading's type is this much larger than the usual."""
TITLE_LARGER = 1.3
LONGEST_HEADING = 200
HEADING_LINES = 4
LEVELS = 6
SPARSE = 0.7
"""Width of a sign, in heights, from which a line is a row of a table: its words stand far apart."""
COLUMN = 36.0
"""Lines that begin this near to each other (points) belong to one column."""

LEADER = re.compile(r"(?: ?\.){5,}")
"""Dots that lead the eye to a page number."""
_ITEM = re.compile(r"(?:[•◦▪●‣∙·–—*-]|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)])\s+\S")
_BULLET = re.compile(r"^[•◦▪●‣∙·]\s*", re.MULTILINE)
_ENDED = re.compile(r"[.!?:;。！？][\"'”’)\]]*$")
_NO_LETTERS = re.compile(r"[\W\d_]+")


def write(pages: Sequence[Page], sections: Sequence[Section], writer: Writer) -> None:
    """Write the blocks of all pages."""
    kept = without_margins(pages)
    usual = _usual_type(kept)
    levels = _levels(kept, sections, usual)
    joiner = WordJoiner(line.text for page in kept for line in page.lines)
    edges = _edges(kept)
    for group in _groups(kept, levels, usual):
        first = group[0]
        if level := levels.get(id(first)):
            writer.heading(joiner.whole(" ".join(line.text for line in group)), level, page=first.page)
        else:
            kind, text = _block(group, edges, usual)
            writer.block(kind, LEADER.sub(" ", joiner.whole(text)), page=first.page)


def title(pages: Sequence[Page]) -> str | None:
    """Return the largest line of the first page, if it is larger than usual type."""
    lines = pages[0].lines if pages else []
    largest = max(lines, key=_size, default=None)
    if largest is None or largest.height < TITLE_LARGER * _usual_type(pages).height:
        return None
    return " ".join(line.text for line in lines if _size(line) == _size(largest))[:LONGEST_HEADING]


def _usual_type(pages: Sequence[Page]) -> _Type:
    heights: Counter[float] = Counter()
    leadings: Counter[float] = Counter()
    fixed = 0
    for page in pages:
        for line in page.lines:
            heights[_size(line)] += len(line.text)
            fixed += len(line.text) if line.fixed else 0
        for above, below in pairwise(page.lines):
            distance = (above.last_y - below.y) / below.height
            if 0.5 < distance < 4 and _size(above) == _size(below):
                leadings[round(distance, 1)] += 1
    height = heights.most_common(1)[0][0] if heights else 1.0
    leading = leadings.most_common(1)[0][0] if leadings else 1.2
    return _Type(height, leading, 2 * fixed > heights.total())


def _size(line: Line) -> float:
    return round(line.height * 2) / 2


# -- headings


def _levels(pages: Sequence[Page], sections: Sequence[Section], usual: _Type) -> dict[int, int]:
    """Return the levels of the lines that are headings, by the identity of the line."""
    found, named = _outlined(pages, sections)
    if named and 2 * named >= len(sections):
        return found
    return found | _larger(pages, usual, found)


def _outlined(pages: Sequence[Page], sections: Sequence[Section]) -> tuple[dict[int, int], int]:
    """Return the levels of lines that the outline names, and how many of its entries were found."""
    levels: dict[int, int] = {}
    named = 0
    for section in sections:
        wanted = _letters(section.title)
        lines = pages[section.page - 1].lines if section.page <= len(pages) else []
        match = _lines_of(wanted, [line for line in lines if id(line) not in levels]) if wanted else []
        named += bool(match)
        levels |= dict.fromkeys(map(id, match), section.level)
    return levels, named


def _lines_of(wanted: str, lines: Sequence[Line]) -> list[Line]:
    """Return the line, or the lines that follow each other, that say what is wanted and nothing more."""
    for position, line in enumerate(lines):
        if not wanted.startswith(_letters(line.text)):
            continue
        for count in range(1, HEADING_LINES + 1):
            if wanted == "".join(_letters(one.text) for one in lines[position : position + count]):
                return list(lines[position : position + count])
    # "Chapter 3. Title" for "Title"
    longest = len(wanted) + len("chapter")
    said = ((line, _letters(line.text)) for line in lines)
    return next(([line] for line, text in said if text.endswith(wanted) and len(text) <= longest), [])


def _letters(text: str) -> str:
    return _NO_LETTERS.sub("", text).casefold() or text.strip().casefold()


def _larger(pages: Sequence[Page], usual: _Type, known: dict[int, int]) -> dict[int, int]:
    """Return levels of lines in larger type: the largest is 1."""
    lines = [
        line
        for page in pages
        for line in page.lines
        if line.height >= LARGER * usual.height
        and len(line.text) <= LONGEST_HEADING
        and any(map(str.isalpha, line.text))
        and id(line) not in known
    ]
    sizes = sorted({_size(line) for line in lines}, reverse=True)
    return {id(line): min(sizes.index(_size(line)) + 1, LEVELS) for line in lines}


# -- groups


def _groups(pages: Sequence[Page], levels: dict[int, int], usual: _Type) -> Iterator[list[Line]]:
    group: list[Line] = []
    for page in pages:
        for line in page.lines:
            if group and not _belongs(group, line, levels, usual):
                yield group
                group = []
            group.append(line)
    if group:
        yield group


def _belongs(group: Sequence[Line], line: Line, levels: dict[int, int], usual: _Type) -> bool:
    """Say whether a line goes on with the group."""
    last = group[-1]
    if levels.get(id(last)) != levels.get(id(line)):
        return False
    distance = (last.last_y - line.y) / line.height
    if id(line) in levels:
        return last.page == line.page and 0 <= distance < 2 and len(group) < HEADING_LINES
    if abs(last.height - line.height) > 0.12 * line.height or last.fixed != line.fixed:
        return _same_row(last, line)
    if last.page != line.page or distance < -0.5:
        return not line.fixed and line.page <= group[0].page + 1 and _goes_on(last, line)
    if distance > usual.leading + 0.3:
        return False
    if line.fixed or _same_row(last, line):
        return True
    if _ITEM.match(line.text):
        return bool(_ITEM.match(group[0].text))
    indented = line.x - last.x > 0.8 * line.height
    return not (indented and _ENDED.search(last.text) and not _ITEM.match(group[0].text))


def _same_row(last: Line, line: Line) -> bool:
    return last.page == line.page and abs(last.last_y - line.y) < 0.3 * line.height and line.x > last.right


def _goes_on(last: Line, line: Line) -> bool:
    """Say whether a sentence goes on over the end of a column or page."""
    return not _ENDED.search(last.text) and line.text[0].islower()


# -- the text of a group


def _edges(pages: Sequence[Page]) -> dict[tuple[int, int], float]:
    """Return for each page and column where its lines end: what four in five do not go beyond."""
    rights: dict[tuple[int, int], list[float]] = defaultdict(list)
    for page in pages:
        for line in page.lines:
            rights[_column(line)].append(line.right)
    return {column: sorted(ends)[int(0.8 * (len(ends) - 1))] for column, ends in rights.items()}


def _column(line: Line) -> tuple[int, int]:
    return line.page, int(line.x // COLUMN)


def _block(group: Sequence[Line], edges: dict[tuple[int, int], float], usual: _Type) -> tuple[Kind, str]:
    if group[0].fixed and not usual.is_fixed:
        return Kind.CODE, "\n".join(line.text for line in group)
    rows = list(_rows(group))
    if len(rows) > 1 and 3 * sum(map(_is_sparse, rows)) >= 2 * len(rows):
        return Kind.TABLE, "\n".join(row.text for row in rows)
    kind = Kind.LIST if _ITEM.match(rows[0].text) else Kind.PARAGRAPH
    text = _joined(rows, max(*(row.right for row in rows), *(edges[_column(row)] for row in rows)))
    return kind, _BULLET.sub("- ", text)


def _rows(group: Iterable[Line]) -> Iterator[Line]:
    """Yield the lines with those that stand beside each other as one."""
    row: Line | None = None
    for line in group:
        if row and _same_row(row, line):
            row = row._replace(text=f"{row.text} {line.text}", right=line.right, last_y=line.last_y)
            continue
        if row:
            yield row
        row = line
    if row:
        yield row


def _joined(rows: Sequence[Line], edge: float) -> str:
    parts = [rows[0].text]
    is_list = bool(_ITEM.match(rows[0].text))
    for last, line in pairwise(rows):
        if is_list and _ITEM.match(line.text):
            parts.append("\n")
        elif joins(last.text, line.text):
            parts[-1] = parts[-1].rstrip("-\u00ad")
            parts.append(DIVIDED)
        else:
            parts.append(" " if _is_full(last, line, edge) else "\n")
        parts.append(line.text)
    return "".join(parts)


def _is_full(last: Line, line: Line, edge: float) -> bool:
    """Say whether the next line's first word had no room in this one."""
    if _is_sparse(last) or _is_sparse(line) or LEADER.search(last.text):
        return False
    if DIVIDED in last.text or last.page != line.page or line.y > last.last_y:
        return True
    word = len(line.text.split(None, 1)[0]) + 1
    width = word * (line.right - line.x) / len(line.text)
    return last.right + width >= edge - 0.3 * line.height


def _is_sparse(line: Line) -> bool:
    return line.right - line.x > SPARSE * line.height * max(len(line.text), 4)
