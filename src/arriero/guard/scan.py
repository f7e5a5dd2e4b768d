"""The answers that nearly all upstreams send, read without a parser. Pure.

What these functions take is a strict part of what the parser takes, and they find the same in it. For
everything else they return None, and the parser decides (`connection.py`).
"""

from __future__ import annotations

import re
from typing import NamedTuple

Header = tuple[bytes, bytes]

MAX_HEADERS = 128
# Statuses that have a body, headers without odd bytes, values without blanks around them.
_HEAD = re.compile(
    rb"HTTP/1\.1 (200|[45][0-9]{2}) [A-Za-z -]*+\r\n"
    rb"(?:[A-Za-z0-9-]++: ?[!-~]++(?: ++[!-~]++)*\r\n)+\r\n"
)
_LINE = re.compile(rb"([A-Za-z0-9-]++): ?([!-~][ -~]*+)\r\n")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,14}")
_MAX_SIZE_DIGITS = 8


class Head(NamedTuple):
    """The head of an answer."""

    status: int
    headers: list[Header]

    def get(self, name: bytes) -> bytes:
        """Return the value of a header by its name in lower case; all values if there are several."""
        values = [value for known, value in self.headers if known == name]
        return values[0] if len(values) == 1 else b", ".join(values)


def whole_answer(data: bytes) -> tuple[Head, bytes] | None:
    """Return head and body of one whole answer of a known length, after which the connection is kept."""
    found = _HEAD.match(data)
    if found is None:
        return None
    end = found.end()
    headers = [(name.lower(), value) for name, value in _LINE.findall(data, 0, end)]
    known = dict(headers)
    length = known.get(b"content-length", b"")
    if (
        len(known) != len(headers)
        or len(headers) > MAX_HEADERS
        or b"transfer-encoding" in known
        or b"upgrade" in known
        or known.get(b"connection", b"keep-alive").lower() != b"keep-alive"
        or not _LENGTH.fullmatch(length)
        or end + int(length) != len(data)
    ):
        return None
    return Head(int(found[1]), headers), data[end:]


def whole_chunk(data: bytes) -> bytes | None:
    """Return what is in one whole chunk of a chunked body, which is not the last."""
    start = data.find(b"\r\n", 0, _MAX_SIZE_DIGITS + 2)
    size = len(data) - start - 4
    if start < 1 or size < 1 or data[:start] != b"%x" % size or data[-2:] != b"\r\n":
        return None
    return data[start + 2 : -2]
