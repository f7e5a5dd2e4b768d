"""The answers that nearly all upstreams send, read without a parser. Pure.

What these functions take is a strict part of what the parser takes, and they find the same in it. For
everything else they return None, and the parser decides (`connection.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

Header = tuple[bytes, bytes]

MAX_HEADERS = 128
MAX_FORMS = 64
MAX_FORM_BYTES = 2048
_END = b"\r\n\r\n"
# Statuses that have a body, headers without odd bytes, values without blanks around them.
_HEAD = re.compile(
    rb"HTTP/1\.1 (200|[45][0-9]{2}) [A-Za-z -]*+\r\n"
    rb"(?:[A-Za-z0-9-]++: ?[!-~]++(?: ++[!-~]++)*\r\n)+\r\n"
)
_LINE = re.compile(rb"([A-Za-z0-9-]++): ?([!-~][ -~]*+)\r\n")
_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: ?(0|[1-9][0-9]{0,14})\r\n")
_MAX_SIZE_DIGITS = 8


class Head:
    """The head of an answer, less the length of its body."""

    __slots__ = ("headers", "status")

    def __init__(self, status: int, headers: Sequence[Header]) -> None:
        """Take the head as it came, names in small letters."""
        self.status = status
        self.headers: dict[bytes, bytes] = {}
        """All values of a name are joined."""
        for name, value in headers:
            if name != b"content-length":
                before = self.headers.get(name)
                self.headers[name] = value if before is None else before + b", " + value

    def get(self, name: bytes) -> bytes:
        """Return the value of a header by its name in small letters, empty if there is none."""
        return self.headers.get(name, b"")


class Heads:
    """Owns heads of answers that came before: those of one upstream differ in their length, and each second.

    What is kept was read in full once, with other digits in the one place where they stand.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def whole_answer(self, data: bytes) -> tuple[Head, bytes] | None:
        """Return head and body of one whole answer of a known length, after which the connection is kept."""
        end = data.find(_END) + 4
        found = _LENGTH.search(data, 0, end)
        if end < 4 or found is None or end + int(found[1]) != len(data):
            return None
        first, last = found.span(1)
        form = data[:first] + data[last:end]
        head = self._known.get(form) or _usual_head(data[:end])
        if head is None:
            return None
        if form not in self._known and len(form) <= MAX_FORM_BYTES:
            if len(self._known) >= MAX_FORMS:
                self._known.clear()
            self._known[form] = head
        return head, data[end:]


def _usual_head(data: bytes) -> Head | None:
    found = _HEAD.fullmatch(data)
    if found is None:
        return None
    headers = [(name.lower(), value) for name, value in _LINE.findall(data)]
    known = dict(headers)
    if (
        len(known) != len(headers)
        or len(headers) > MAX_HEADERS
        or b"transfer-encoding" in known
        or b"upgrade" in known
        or known.get(b"connection", b"keep-alive").lower() != b"keep-alive"
    ):
        return None
    return Head(int(found[1]), headers)


def whole_chunk(data: bytes) -> bytes | None:
    """Return what is in one whole chunk of a chunked body, which is not the last."""
    start = data.find(b"\r\n", 0, _MAX_SIZE_DIGITS + 2)
    size = len(data) - start - 4
    if start < 1 or size < 1 or data[:start] != b"%x" % size or data[-2:] != b"\r\n":
        return None
    return data[start + 2 : -2]
