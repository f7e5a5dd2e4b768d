"""The head of an answer, and the framing of its body."""

from __future__ import annotations

from typing import Any

import pytest

from arriero.server.edge.answer import Framing, opening

EMPTY = b"content-length: 0"
CLOSE = b"connection: close"
USUAL: dict[str, Any] = {
    "common": b"date: now\r\n",
    "is_head": False,
    "is_http11": True,
    "stays_open": True,
    "length": None,
}


@pytest.mark.parametrize(
    ("status", "headers", "changes", "lines", "framing", "stays_open"),
    [
        (200, [], {}, [b"transfer-encoding: chunked"], Framing.CHUNKED, True),
        (200, [], {"length": 3}, [b"content-length: 3"], Framing.LENGTH, True),
        (200, [(b"content-length", b"7")], {"length": 3}, [b"content-length: 7"], Framing.LENGTH, True),
        (200, [], {"is_http11": False}, [b"connection: close"], Framing.UNTIL_CLOSE, False),
        (200, [], {"is_head": True}, [], Framing.BODYLESS, True),
        (200, [], {"is_head": True, "length": 5}, [b"content-length: 5"], Framing.BODYLESS, True),
        (204, [], {"length": 0}, [], Framing.BODYLESS, True),
        (304, [(b"content-length", b"9")], {}, [], Framing.BODYLESS, True),
        (200, [(b"Connection", b"Close")], {"length": 0}, [EMPTY, CLOSE], Framing.LENGTH, False),
        (200, [(b"connection", b"keep-alive")], {"length": 0}, [EMPTY], Framing.LENGTH, True),
        (200, [(b"transfer-encoding", b"gzip")], {"length": 0}, [EMPTY], Framing.LENGTH, True),
        (200, [(b"X-A", b"b")], {"length": 0}, [b"x-a: b", b"content-length: 0"], Framing.LENGTH, True),
    ],
)  # fmt: skip
def test_the_framing_is_ours(
    status: int, headers: Any, changes: Any, lines: list[bytes], framing: Framing, stays_open: bool
) -> None:
    """The body ends by its length, else in chunks, else with the connection; not by what the headers say."""
    opened = opening(status, headers, **(USUAL | changes))

    assert opened.head.split(b"\r\n")[1:] == [*lines, b"date: now", b"", b""]
    assert (opened.framing, opened.stays_open) == (framing, stays_open)


@pytest.mark.parametrize(
    "header",
    [
        (b"x", b"a\r\nb: c"),
        (b"x", b"a\nb"),
        (b"x", b"a\rb"),
        (b"x\r\ny", b"a"),
        (b"x", b"\0"),
        (b"content-length", b"-1"),
    ],
)
def test_a_header_cannot_begin_another(header: tuple[bytes, bytes]) -> None:
    """Control bytes in names and values are refused, and lengths that are none."""
    with pytest.raises(ValueError, match=r"control byte|no number"):
        opening(200, [header], **USUAL)


def test_unknown_statuses_have_no_phrase() -> None:
    """The line is well-formed all the same."""
    assert opening(299, [], **USUAL).head.startswith(b"HTTP/1.1 299 \r\n")


def test_headers_that_come_again_are_written_alike() -> None:
    """A tuple of headers, whose bytes are kept, makes the head that a list of them does."""
    headers = [(b"content-type", b"text/plain"), (b"connection", b"close"), (b"content-length", b"3")]
    usual = USUAL | {"also": b"x-request-id: r\r\n"}

    for _ in range(2):
        assert opening(200, tuple(headers), **usual) == opening(200, headers, **usual)
    assert opening(200, (), **usual).head.split(b"\r\n")[1] == b"x-request-id: r"
