"""The head of an answer as bytes, and how its body is framed. Pure.

Framing is ours alone: what the application says of `transfer-encoding` is dropped, of `connection`
only `close` is heard.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple

import msgspec

STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}
BODYLESS_STATUSES = frozenset({204, 304})
MAX_KNOWN = 64
"""Sets of headers whose bytes are kept."""


class Framing(Enum):
    """Where an answer stands, and what tells the client where its body ends."""

    UNSTARTED = auto()
    OPENING = auto()
    """Started; the head is not written yet."""
    CHUNKED = auto()
    LENGTH = auto()
    UNTIL_CLOSE = auto()
    BODYLESS = auto()
    ENDED = auto()


# Looked at for every piece of an answer, where the way through the class would show.
UNSTARTED, OPENING, CHUNKED, LENGTH, UNTIL_CLOSE, BODYLESS, ENDED = Framing


class Opening(msgspec.Struct, frozen=True, gc=False):
    """The head of an answer, and what follows it."""

    head: bytes
    framing: Framing
    length: int
    """Bytes of the body, where the framing is LENGTH."""
    stays_open: bool


class Lines(NamedTuple):
    """What the headers of an answer come to."""

    text: bytes
    length: int | None
    closes: bool


def opening(
    status: int,
    headers: Iterable[tuple[bytes, bytes]],
    *,
    common: bytes,
    is_head: bool,
    is_http11: bool,
    stays_open: bool,
    length: int | None,
    also: bytes = b"",
) -> Opening:
    """Return the head of an answer.

    headers: a tuple where they are the same for many answers; their bytes are kept then.
    common: the lines of every answer. also: lines of this one, added as they are.
    length: of the body where it is known; `content-length` among the headers wins.
    Raises ValueError for a header that holds a control byte, or a length that is none.
    """
    lines = _known_lines(status, headers) if isinstance(headers, tuple) else _lines(status, headers)
    text, told_length, closes = lines
    if told_length is not None:
        length = told_length
    is_bodyless = status in BODYLESS_STATUSES
    if is_head or is_bodyless:
        framing = BODYLESS
    elif length is not None:
        framing = LENGTH
    else:
        framing = CHUNKED if is_http11 else UNTIL_CLOSE
    stays_open = stays_open and not closes and framing is not UNTIL_CLOSE
    head = text + also
    if length is not None and not is_bodyless:
        head += b"content-length: %d\r\n" % length
    elif framing is CHUNKED:
        head += b"transfer-encoding: chunked\r\n"
    if not stays_open:
        head += b"connection: close\r\n"
    return Opening(head + common + b"\r\n", framing, length or 0, stays_open)


def _lines(status: int, headers: Iterable[tuple[bytes, bytes]]) -> Lines:
    lines = [STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
    length, closes = None, False
    for name, value in headers:
        name = name.lower()
        if name == b"content-length":
            if not value.isdigit():
                raise ValueError(f"content-length of an answer: {value[:40]!r} is no number")
            length = int(value)
        elif name == b"connection":
            closes = closes or value.lower() == b"close"
        elif name != b"transfer-encoding":
            lines.append(b"%b: %b\r\n" % (name, value))
    text = b"".join(lines)
    if not text.count(b"\n") == text.count(b"\r") == len(lines) or b"\0" in text:
        raise ValueError("a header of an answer holds a control byte")
    return Lines(text, length, closes)


_known_lines = lru_cache(maxsize=MAX_KNOWN)(_lines)


def chunk(data: bytes) -> bytes:
    """Return data as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
