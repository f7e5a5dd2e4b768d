"""Reads Markdown: headings, fenced code, lists, tables and paragraphs, line by line. Pure.

Marks inside a line stay as they are written. Marks of headings, fences and the outline of tables go:
the kinds of the blocks say what they are.
"""

from __future__ import annotations

import re

from arriero.extract.detect import Format
from arriero.extract.document import Document, Kind
from arriero.extract.limits import Limits
from arriero.extract.plain import decode
from arriero.extract.writer import Writer

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)", re.DOTALL)
_ITEM = re.compile(r"\s{0,9}(?:[-*+]|\d{1,9}[.)])\s")
_RULE = re.compile(r" {0,3}(?:-{3,}|\*{3,}|_{3,}|(?:- ){2,}-|(?:\* ){2,}\*)\s*")
_TABLE_RULE = re.compile(r"[\s|:-]{3,200}")
_TITLE = re.compile(r"title\s*:\s*(.{1,500})", re.IGNORECASE)
_LONGEST_MARKED = 2_000
"""Lines longer than this are text, whatever they begin with."""


def read(data: bytes, charset: str | None, limits: Limits) -> Document:
    """Return the document. Raises UnreadableDocument."""
    lines = decode(data, charset).split("\n")
    title, first = _front_matter(lines)
    reader = _Reader(Writer(limits))
    for line in lines[first:]:
        reader.line(line)
    return reader.finish(title)


def _front_matter(lines: list[str]) -> tuple[str | None, int]:
    """Return the title that stands before the text, and the number of the text's first line."""
    if lines[0].rstrip() != "---":
        return None, 0
    title = None
    for number, line in enumerate(lines[1:200], 1):
        if line.rstrip() in {"---", "..."}:
            return title, number + 1
        if found := _TITLE.match(line):
            title = found[1].strip().strip("\"'")
    return None, 0


class _Reader:
    """Takes the lines; holds those of the block that is not finished."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._kind = Kind.PARAGRAPH
        self._lines: list[str] = []
        self._fence: str | None = None
        self._after_blank = True

    def line(self, line: str) -> None:
        """Take the next line."""
        if self._fence:
            self._code_line(line)
        elif not line.strip():
            self._blank()
        else:
            self._text_line(line)
            self._after_blank = False

    def finish(self, title: str | None) -> Document:
        """Return what was read."""
        self._flush()
        return self._writer.document(title, Format.MARKDOWN.value)

    def _code_line(self, line: str) -> None:
        mark = line.strip()
        if self._fence and len(mark) >= len(self._fence) and not mark.strip(self._fence[0]):
            self._flush()
            self._fence = None
        else:
            self._lines.append(line)

    def _blank(self) -> None:
        # An empty line ends a paragraph or table; lists and indented code go on after it if they do.
        if self._kind in {Kind.LIST, Kind.CODE}:
            self._lines.append("")
        else:
            self._flush()
        self._after_blank = True

    def _text_line(self, line: str) -> None:
        if len(line) <= _LONGEST_MARKED and self._marked(line):
            return
        indented = line.startswith(("    ", "\t"))
        if self._kind is Kind.LIST and self._lines and (indented or line[0] == " " or not self._after_blank):
            self._lines.append(line)
        elif indented and (self._after_blank or self._kind is Kind.CODE):
            self._begin(Kind.CODE, line.removeprefix("\t") if line[0] == "\t" else line[4:])
        elif self._kind is Kind.CODE:
            self._flush()
            self._begin(Kind.PARAGRAPH, line)
        else:
            self._begin(self._kind if not self._after_blank else Kind.PARAGRAPH, line)

    def _marked(self, line: str) -> bool:
        """Take a line that begins something; say whether it was one."""
        if fence := _FENCE.fullmatch(line):
            if "`" in fence[2] and fence[1][0] == "`":
                return False
            self._flush()
            self._fence, self._kind = fence[1], Kind.CODE
            return True
        return self._heading(line) or self._underline(line) or self._item(line)

    def _heading(self, line: str) -> bool:
        text = line.lstrip(" ")
        level = len(text) - len(text.lstrip("#"))
        if not 1 <= level <= 6 or len(line) - len(text) > 3 or text[level : level + 1] not in {"", " ", "\t"}:
            return False
        self._flush()
        title = text[level:].strip()
        unclosed = title.rstrip("#")
        closed = not unclosed or unclosed[-1] in " \t"
        self._writer.heading(unclosed if closed else title, level)
        return True

    def _underline(self, line: str) -> bool:
        """Take a heading's underline, a table's, or a rule."""
        mark = line.strip()
        is_open = bool(self._lines) and self._kind is Kind.PARAGRAPH and not self._after_blank
        if is_open and not mark.strip("=" if mark[0] == "=" else "-") and line[:4].strip():
            title = " ".join(part.strip() for part in self._lines)
            self._lines.clear()
            self._writer.heading(title, 1 if mark[0] == "=" else 2)
            return True
        if is_open and "|" in self._lines[-1] and "-" in mark and _TABLE_RULE.fullmatch(mark):
            header = self._lines.pop()
            self._flush()
            self._begin(Kind.TABLE, header)
            return True
        if _RULE.fullmatch(line):
            self._flush()
            return True
        return False

    def _item(self, line: str) -> bool:
        if not _ITEM.match(line):
            return False
        if (
            self._kind is Kind.PARAGRAPH
            and self._lines
            and line.lstrip()[0].isdigit()
            and not self._after_blank
        ):
            return False  # "... in\n1984. It" goes on
        if self._kind is Kind.CODE and self._lines and line.startswith(("    ", "\t")):
            return False
        self._begin(Kind.LIST, line)
        return True

    def _begin(self, kind: Kind, line: str) -> None:
        if kind is not self._kind:
            self._flush()
        self._kind = kind
        self._lines.append(line)

    def _flush(self) -> None:
        if self._kind is Kind.TABLE:
            self._writer.table(line.strip().strip("|").split("|") for line in self._lines)
        else:
            self._writer.block(self._kind, "\n".join(line.rstrip() for line in self._lines))
        self._lines = []
        self._kind = Kind.PARAGRAPH
