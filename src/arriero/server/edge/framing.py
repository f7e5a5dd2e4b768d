"""Where the body of a request ends: by its length, or in chunks, strictly, at any cut of the input. Pure.

Extensions of chunks are read over; trailers are refused, as nobody here would look at them.
"""

from __future__ import annotations

import re

from arriero.server.edge.refusal import bad_request

SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n")
MAX_SIZE_LINE = 256
CRLF = b"\r\n"
SMALL_CHUNK = 16
SPARE_BYTES = 64 << 10
"""How far the chunks of a body may stay below `SMALL_CHUNK` bytes each, in sum: each costs 2 µs."""


class SizedBody:
    """A body of a known length; `is_complete` once all of it was seen."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def is_complete(self) -> bool:
        return not self._left

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the body's bytes in the input, and what follows the whole body."""
        piece = data if len(data) <= self._left else data[: self._left]
        self._left -= len(piece)
        return piece, data[len(piece) :]


class ChunkedBody:
    """Takes bytes, gives the data in them; `is_complete` once the last chunk was seen."""

    __slots__ = ("_buffer", "_is_last", "_left", "_spare", "is_complete")

    def __init__(self) -> None:
        self._buffer = b""
        self._spare = SPARE_BYTES
        self._left = 0
        """Bytes of the current chunk that are still to come, with the CR LF after it."""
        self._is_last = False
        self.is_complete = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the body's bytes in the input, and what follows the whole body. Raises Refused."""
        data = self._buffer + data
        self._buffer = b""
        pieces: list[bytes] = []
        at = 0
        while at < len(data) and not self.is_complete:
            if self._left > len(CRLF):
                piece = data[at : at + self._left - len(CRLF)]
                pieces.append(piece)
                self._left -= len(piece)
                at += len(piece)
            elif self._left:
                at = self._after_ending(data, at)
            elif (end := _line_end(data, at)) > at:
                self._take_size(data[at:end])
                at = end
            else:
                self._buffer = data[at:]
                return b"".join(pieces), b""
        return b"".join(pieces), data[at:]

    def _after_ending(self, data: bytes, at: int) -> int:
        """Take what is there of the CR LF after a chunk; return where it ends."""
        ending = data[at : at + self._left]
        if not CRLF[-self._left :].startswith(ending):
            raise bad_request("a chunk is longer than its size, or a trailer follows the last one")
        self._left -= len(ending)
        self.is_complete = self._is_last and not self._left
        return at + len(ending)

    def _take_size(self, line: bytes) -> None:
        match = SIZE_LINE.fullmatch(line)
        if match is None:
            raise bad_request("the size of a chunk is not a hexadecimal number")
        size = int(match[1], 16)
        self._spare = min(self._spare + size - SMALL_CHUNK, SPARE_BYTES)
        if self._spare < 0:
            raise bad_request(f"too many chunks of less than {SMALL_CHUNK} bytes")
        self._is_last = size == 0
        self._left = size + len(CRLF)


def _line_end(data: bytes, at: int) -> int:
    """Return where a line ends; 0 = not yet."""
    end = data.find(b"\n", at, at + MAX_SIZE_LINE) + 1
    if not end and len(data) - at >= MAX_SIZE_LINE:
        raise bad_request("the line with the size of a chunk is too long")
    return end
