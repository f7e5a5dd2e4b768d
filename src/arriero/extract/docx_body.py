"""The events of a DOCX part to blocks: paragraphs, headings, lists, tables, notes, text boxes.

1. Elements whose content is no text of the document (deleted text, old properties, the second copy of a
   text box) are skipped as a whole.
2. A paragraph collects its runs; what it is, is told by its style and its own properties.
3. Within a table paragraphs go to the open cell; tables within cells become part of the cell's text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arriero.extract.document import Kind
from arriero.extract.docx_names import LEVELS, value, word

if TYPE_CHECKING:
    from arriero.extract.docx_styles import Styles
    from arriero.extract.writer import Writer

_SKIPPED = frozenset(
    {"del", "moveFrom", "pPrChange", "rPrChange", "tblPrChange", "sectPrChange", "numberingChange"}
    | {"rt", "sectPr", "tabs"}
)
_FALLBACK = "http://schemas.openxmlformats.org/markup-compatibility/2006 Fallback"
_MATH_TEXT = "http://schemas.openxmlformats.org/officeDocument/2006/math t"
_SIGNS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
_OFF = frozenset({"0", "false", "off"})
_DEEPEST_LIST = 8

_Cell = list[str]
"""The paragraphs of a cell."""


class _Paragraph:
    """What is known of an open paragraph. depth: of the list item that it is, from 0; -1: it is none."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.style = ""
        self.level: int | None = None
        self.depth = -1
        self.is_numbered: bool | None = None


class Body:
    """Takes the events of one part after the other. Owns the open paragraphs and tables."""

    def __init__(self, styles: Styles, writer: Writer) -> None:
        self.title: str | None = None
        self._styles = styles
        self._writer = writer
        self._paragraphs: list[_Paragraph] = []
        self._tables: list[list[list[_Cell]]] = []
        self._boxes: list[int] = []  # tables open outside of each open text box
        self._items: list[str] = []
        self._skipped = 0
        self._in_text = False
        self._in_run = False
        self._is_hidden = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Take the start of an element."""
        tag = word(name)
        if self._skipped or tag in _SKIPPED or name == _FALLBACK:
            self._skipped += 1
        elif tag == "t" or name == _MATH_TEXT:
            self._in_text = not self._is_hidden
        elif tag == "p":
            self._paragraphs.append(_Paragraph())
        elif tag == "r":
            self._in_run, self._is_hidden = True, False
        elif tag == "vanish":
            self._is_hidden = self._in_run and value(attributes) not in _OFF
        elif tag in _SIGNS:
            self._add(_SIGNS[tag])
        elif tag in {"tbl", "tr", "tc", "txbxContent"}:
            self._open(tag)
        elif self._paragraphs:
            self._property(tag, attributes)

    def end(self, name: str) -> None:
        """Take the end of an element."""
        tag = word(name)
        if self._skipped:
            self._skipped -= 1
        elif tag == "t" or name == _MATH_TEXT:
            self._in_text = False
        elif tag == "p" and self._paragraphs:
            self._end_paragraph(self._paragraphs.pop())
        elif tag == "r":
            self._in_run = self._is_hidden = False
        elif tag == "tbl" and self._tables:
            self._end_table(self._tables.pop())
        elif tag == "txbxContent" and self._boxes:
            self._boxes.pop()

    def text(self, text: str) -> None:
        """Take text."""
        if self._in_text and not self._skipped:
            self._add(text)

    def finish(self) -> None:
        """Write what is still held, at the end of a part."""
        self._end_items()

    def _add(self, text: str) -> None:
        if self._paragraphs and not self._is_hidden:
            self._paragraphs[-1].parts.append(text)

    def _property(self, tag: str, attributes: dict[str, str]) -> None:
        paragraph = self._paragraphs[-1]
        said = value(attributes)
        if tag == "pStyle":
            paragraph.style = said
        elif tag == "outlineLvl" and said.isdecimal():
            level = int(said[:3]) + 1
            paragraph.level = level if level <= LEVELS else 0
        elif tag == "ilvl" and said.isdecimal():
            paragraph.depth = min(int(said[:3]), _DEEPEST_LIST)
        elif tag == "numId":
            paragraph.is_numbered = said != "0"

    def _open(self, tag: str) -> None:
        if tag == "tbl":
            if not self._in_cell:
                self._end_items()
            self._tables.append([])
        elif tag == "txbxContent":
            self._boxes.append(len(self._tables))
        elif self._tables and tag == "tr":
            self._tables[-1].append([])
        elif self._tables and self._tables[-1]:
            self._tables[-1][-1].append([])

    @property
    def _in_cell(self) -> bool:
        outside = self._boxes[-1] if self._boxes else 0
        return len(self._tables) > outside

    def _end_paragraph(self, paragraph: _Paragraph) -> None:
        text = "".join(paragraph.parts).strip()
        if not text:
            return
        if self._in_cell:
            self._add_to_cell(text)
            return
        style = self._styles.style(paragraph.style)
        level = style.level if paragraph.level is None else paragraph.level
        if level or style.is_title:
            self._end_items()
            self.title = self.title or (text if style.is_title else None)
            self._writer.heading(text, level or 1)
        elif style.is_list if paragraph.is_numbered is None else paragraph.is_numbered:
            self._items.append("  " * max(paragraph.depth, 0) + "- " + text)
        else:
            self._end_items()
            self._writer.block(Kind.PARAGRAPH, text)

    def _add_to_cell(self, text: str) -> None:
        rows = self._tables[-1]
        if rows and rows[-1]:
            rows[-1][-1].append(text)
        else:
            rows.append([[text]])

    def _end_table(self, rows: list[list[_Cell]]) -> None:
        if self._in_cell:
            self._add_to_cell(" ".join(text for row in rows for cell in row for text in cell))
        else:
            self._end_items()
            self._writer.table([" ".join(cell) for cell in row] for row in rows)

    def _end_items(self) -> None:
        self._writer.block(Kind.LIST, "\n".join(self._items))
        self._items = []
