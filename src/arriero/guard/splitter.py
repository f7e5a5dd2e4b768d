"""Bytes of a stream to the payloads of its events, or of its lines, at any cut of the input.

As `arriero.sse`, but in bytes: what a model generated is passed on byte for byte, and text that is not
UTF-8 must be found, not mended. Owns the unfinished event, which never grows over its bound.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_BOM = b"\xef\xbb\xbf"
_NAME = re.compile(rb"[a-z_.]{1,64}")


class TooLong(ValueError):
    """An event, or a line, is longer than its bound."""


class Event(NamedTuple):
    """One event. `data` is None for a comment, which only shows that the stream lives."""

    data: bytes | None
    name: bytes = b""


class EventSplitter:
    """Server-sent events. `id` and `retry` are not read: nobody can resume these streams."""

    __slots__ = ("_after_cr", "_commented", "_data", "_first", "_line", "_max_bytes", "_name", "_size")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._line: list[bytes] = []
        self._size = 0
        self._after_cr = False
        self._first = True
        self._reset()

    @property
    def is_clean(self) -> bool:
        """Whether the next byte begins an event."""
        return self._size == 0 and not self._first

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take the next bytes and yield the events that they complete. Raises TooLong in their midst."""
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        for piece in data.splitlines(keepends=True):
            self._line.append(piece)
            self._size += len(piece)
            if self._size > self._max_bytes:
                raise TooLong(f"the upstream sent an event of more than {self._max_bytes} bytes")
            self._after_cr = piece.endswith(b"\r")
            if piece.endswith((b"\n", b"\r")):
                yield from self._end_line()

    def flush(self) -> Iterator[Event]:
        """End the input: yield an event whose closing blank line, or last line end, is missing."""
        if self._line:
            yield from self._end_line()
        yield from self._end_event()

    def _end_line(self) -> Iterator[Event]:
        line = b"".join(self._line).rstrip(b"\r\n")
        self._line.clear()
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        if not line:
            yield from self._end_event()
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._name = value if _NAME.fullmatch(value) else b""
        elif not name:
            self._commented = True

    def _end_event(self) -> Iterator[Event]:
        data, name, commented = self._data, self._name, self._commented
        self._size = 0
        self._reset()
        if data:
            yield Event(b"\n".join(data), name)
        elif commented:
            yield Event(None)

    def _reset(self) -> None:
        self._data: list[bytes] = []
        self._name = b""
        self._commented = False


class LineSplitter:
    """NDJSON: one payload on each line that is not blank."""

    is_clean = False

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._line: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take the next bytes and yield the lines that they complete. Raises TooLong in their midst."""
        *ended, rest = data.split(b"\n")
        for piece in ended:
            self._add(piece)
            yield from self.flush()
        self._add(rest)

    def flush(self) -> Iterator[Event]:
        """End the line."""
        line = b"".join(self._line).strip(b"\r ")
        self._line.clear()
        self._size = 0
        if line:
            yield Event(line)

    def _add(self, piece: bytes) -> None:
        self._line.append(piece)
        self._size += len(piece)
        if self._size > self._max_bytes:
            raise TooLong(f"the upstream sent a line of more than {self._max_bytes} bytes")
