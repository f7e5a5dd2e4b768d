"""Finds the line of every key in a TOML text. Pure.

The text has been accepted by `tomllib`; this scanner only walks over it, so it checks nothing. It
knows tables, arrays of tables, dotted and quoted keys, inline tables and elements of arrays.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping

KeyPath = tuple[str | int, ...]

BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
KEY = re.compile(r"""[ \t]*("(?:\\.|[^"\\\n])*"|'[^'\n]*'|[A-Za-z0-9_-]+)[ \t]*""")
STRING = re.compile(
    r'''"""(?:\\.|[^\\])*?"""(?:"{0,2})'''
    r"""|'''.*?'''(?:'{0,2})"""
    r'''|"(?:\\.|[^"\\\n])*"'''
    r"""|'[^'\n]*'""",
    re.DOTALL,
)
SCALAR = re.compile(r"[^,\]}#\n]*")


def lines_of(text: str) -> dict[KeyPath, int]:
    """Return the line, counted from 1, on which each key path of a valid TOML text begins."""
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int:
    """Return the line of the path, or of the nearest table around it; 0 when nothing of it is there."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 0


class _Scanner:
    """Walks once over the text. `position` is the next character to read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.lines: dict[KeyPath, int] = {}
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._elements: dict[KeyPath, int] = {}

    def document(self) -> None:
        table: KeyPath = ()
        while self._skip_blank():
            table = self._header() if self.text[self.position] == "[" else self._pair(table)

    def _header(self) -> KeyPath:
        start = self.position
        is_array = self.text.startswith("[[", start)
        self.position += 2 if is_array else 1
        keys = self._dotted_key()
        self.position += 2 if is_array else 1
        path = self._through_arrays(keys[:-1], start)
        return (
            self._array_element((*path, keys[-1]), start) if is_array else self._table(path, keys[-1], start)
        )

    def _table(self, parent: KeyPath, key: str, start: int) -> KeyPath:
        path = self._through_arrays((key,), start, parent)
        self._record(path, start)
        return path

    def _array_element(self, path: KeyPath, start: int) -> KeyPath:
        self._record(path, start)
        index = self._elements.get(path, -1) + 1
        self._elements[path] = index
        self._record((*path, index), start)
        return (*path, index)

    def _through_arrays(self, keys: tuple[str, ...], start: int, parent: KeyPath = ()) -> KeyPath:
        """Return the path of a header's keys: inside an array of tables its last element is meant."""
        path = parent
        for key in keys:
            path = (*path, key)
            self._record(path, start)
            if path in self._elements:
                path = (*path, self._elements[path])
        return path

    def _pair(self, table: KeyPath) -> KeyPath:
        start = self.position
        path = table
        for key in self._dotted_key():
            path = (*path, key)
            self._record(path, start)
        self.position += 1
        self._skip_blank()
        self._value(path)
        return table

    def _value(self, path: KeyPath) -> None:
        char = self.text[self.position : self.position + 1]
        if char == "[":
            self._array(path)
        elif char == "{":
            self._inline_table(path)
        else:
            match = STRING.match(self.text, self.position) or SCALAR.match(self.text, self.position)
            assert match is not None
            self.position = match.end()

    def _array(self, path: KeyPath) -> None:
        self.position += 1
        index = 0
        while self._skip_blank() and self.text[self.position] != "]":
            self._record((*path, index), self.position)
            self._value((*path, index))
            self._skip_comma()
            index += 1
        self.position += 1

    def _inline_table(self, path: KeyPath) -> None:
        self.position += 1
        while self._skip_blank() and self.text[self.position] != "}":
            self._pair(path)
            self._skip_comma()
        self.position += 1

    def _dotted_key(self) -> tuple[str, ...]:
        keys: list[str] = []
        while match := KEY.match(self.text, self.position):
            keys.append(_plain_key(match[1]))
            self.position = match.end()
            if not self.text.startswith(".", self.position):
                break
            self.position += 1
        return tuple(keys)

    def _skip_blank(self) -> bool:
        match = BLANK.match(self.text, self.position)
        assert match is not None
        self.position = match.end()
        return self.position < len(self.text)

    def _skip_comma(self) -> None:
        self._skip_blank()
        if self.text.startswith(",", self.position):
            self.position += 1

    def _record(self, path: KeyPath, position: int) -> None:
        self.lines.setdefault(path, bisect_right(self._starts, position))


def _plain_key(written: str) -> str:
    if written.startswith('"'):
        return str(tomllib.loads(f"key = {written}")["key"])
    return written.strip("'")
