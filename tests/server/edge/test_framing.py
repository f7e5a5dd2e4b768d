"""Where a request body ends."""

from __future__ import annotations

import pytest

from arriero.server.edge.framing import SMALL_CHUNK, SPARE_BYTES, ChunkedBody, SizedBody
from arriero.server.edge.refusal import Refused


def fed(body: ChunkedBody | SizedBody, *pieces: bytes) -> tuple[bytes, bytes, bool]:
    """Return the data of the body, what follows it, and whether it is complete."""
    data = rest = b""
    for piece in pieces:
        if body.is_complete:
            rest += piece
            continue
        taken, after = body.feed(piece)
        data += taken
        rest += after
    return data, rest, body.is_complete


CHUNKED = b'5\r\nhello\r\n00A;name="value"\r\n0123456789\r\n1 ;x\r\n\n\r\n0\r\n\r\nGET / HTTP'


def test_any_cut_gives_the_same_chunked_body() -> None:
    """One cut at every place, and every byte by itself."""
    expected = (b"hello0123456789\n", b"GET / HTTP", True)
    for cut in range(len(CHUNKED) + 1):
        assert fed(ChunkedBody(), CHUNKED[:cut], CHUNKED[cut:]) == expected
    assert fed(ChunkedBody(), *(CHUNKED[i : i + 1] for i in range(len(CHUNKED)))) == expected


def test_any_cut_gives_the_same_sized_body() -> None:
    """What follows the length belongs to the next request."""
    for cut in range(8):
        assert fed(SizedBody(5), b"helloGE"[:cut], b"helloGE"[cut:]) == (b"hello", b"GE", True)


@pytest.mark.parametrize(
    "data",
    [
        b"g\r\n",
        b"+5\r\nhello\r\n",
        b"-5\r\n",
        b"0x5\r\nhello\r\n",
        b"1_0\r\n",
        b" 5\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b"\r\n",
        b"5\nhello\r\n",
        b"5\r\nhello\n",
        b"5\r\nhelloo\r\n",
        b"5\r\nhell\r\n",
        b"5\rhello\r\n\n",
        b"5;a\x00b\r\nhello\r\n",
        b"5;a\rb\r\nhello\r\n",
        b"123456789\r\n",
        b"5;" + b"a" * 300,
        b"5;" + b"a" * 300 + b"\r\nhello\r\n",
        b"0\r\nX: y\r\n\r\n",
        b"0\r\n0\r\n\r\n",
        b"0\r\n\n",
    ],
    ids=repr,
)
def test_bad_chunks_are_refused_at_any_cut(data: bytes) -> None:
    """Whole, or byte by byte."""
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        with pytest.raises(Refused) as caught:
            fed(ChunkedBody(), *pieces)

        assert caught.value.status == 400


def test_many_tiny_chunks_are_refused() -> None:
    """As many as cost nothing pass, and any number of those that are large enough."""
    most = SPARE_BYTES // (SMALL_CHUNK - 1)
    assert len(fed(ChunkedBody(), b"1\r\n \r\n" * most)[0]) == most
    assert fed(ChunkedBody(), b"10\r\n0123456789abcdef\r\n" * 2 * most + b"0\r\n\r\n")[2]
    with pytest.raises(Refused, match="chunks of less than 16 bytes"):
        fed(ChunkedBody(), b"1\r\n \r\n" * (most + 1))
    with pytest.raises(Refused):  # what was large before does not pay for all that comes
        fed(ChunkedBody(), b"fffff\r\n" + b" " * 0xFFFFF + b"\r\n", b"1\r\n \r\n" * (most + 1))
