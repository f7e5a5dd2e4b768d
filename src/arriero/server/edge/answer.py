"""The head of an answer as bytes, and how its body is framed. Pure.

Framing is ours alone: what the application says of `transfer-encoding` is dropped, of `connection`
only `close` is heard.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from http import HTTPStatus
from typing import NamedTuple

STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}
BODYLESS_STATUSES = frozenset({204, 304})


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


class Opening(NamedTuple):
    """The head of an answer, and what follows it."""

    head: bytes
    framing: Framing
    length: int
    """Bytes of the body, where the framing is LENGTH."""
    stays_open: bool


def opening(
    status: int,
    headers: Iterable[tuple[bytes, bytes]],
    *,
    date: bytes,
    is_head: bool,
    is_http11: bool,
    stays_open: bool,
    length: int | None,
) -> Opening:
    """Return the head of an answer.

    length: of the body where it is known; `content-length` among the headers wins.
    Raises ValueError for a header that holds a control byte, or a length that is none.
    """
    lines = [STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
    for name, value in headers:
        name = name.lower()
        if name == b"content-length":
            if not value.isdigit():
                raise ValueError(f"content-length of an answer: {value[:40]!r} is no number")
            length = int(value)
        elif name == b"connection":
            stays_open = stays_open and value.lower() != b"close"
        elif name != b"transfer-encoding":
            lines.append(b"%b: %b\r\n" % (name, value))
    framing = _framing(status, is_head, is_http11, length)
    stays_open = stays_open and framing is not UNTIL_CLOSE
    if length is not None and status not in BODYLESS_STATUSES:
        lines.append(b"content-length: %d\r\n" % length)
    elif framing is CHUNKED:
        lines.append(b"transfer-encoding: chunked\r\n")
    if not stays_open:
        lines.append(b"connection: close\r\n")
    head = b"".join(lines)
    if not head.count(b"\n") == head.count(b"\r") == len(lines) or b"\0" in head:
        raise ValueError("a header of an answer holds a control byte")
    return Opening(head + date + b"\r\n", framing, length or 0, stays_open)


def _framing(status: int, is_head: bool, is_http11: bool, length: int | None) -> Framing:
    if is_head or status in BODYLESS_STATUSES:
        return BODYLESS
    if length is not None:
        return LENGTH
    return CHUNKED if is_http11 else UNTIL_CLOSE


def chunk(data: bytes) -> bytes:
    """Return data as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
