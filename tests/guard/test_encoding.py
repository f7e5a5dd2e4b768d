"""Compressed answers, whole, cut and damaged."""

from __future__ import annotations

import gzip
import zlib

import pytest

from arriero.guard.encoding import Inflater, is_identity
from arriero.guard.failure import UpstreamFailed

PLAIN = b'{"choices":[]}' * 50


@pytest.mark.parametrize("packed", [gzip.compress(PLAIN, mtime=0), zlib.compress(PLAIN)])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_answers_are_unpacked_at_any_cut(packed: bytes, size: int) -> None:
    """Pieces of any size give the whole answer."""
    inflater = Inflater()

    pieces = [packed[start : start + size] for start in range(0, len(packed), size)]
    plain = b"".join(out for piece in pieces for out in inflater.feed(piece))
    inflater.close()

    assert plain == PLAIN


def test_bombs_come_in_small_pieces() -> None:
    """A small answer that holds a large one is unpacked piece by piece, so that its reader can stop."""
    bomb = gzip.compress(b"\0" * (8 << 20))

    pieces = Inflater().feed(bomb)

    assert max(map(len, (next(pieces) for _ in range(20)))) <= 64 << 10


@pytest.mark.parametrize("cut", [0, 1, 10, -9, -1])
def test_cut_answer_is_a_failure(cut: int) -> None:
    """An answer whose end is missing is not whole."""
    inflater = Inflater()
    list(inflater.feed(gzip.compress(PLAIN, mtime=0)[:cut]))

    with pytest.raises(UpstreamFailed):
        inflater.close()


@pytest.mark.parametrize(
    "data",
    [b"plain", gzip.compress(PLAIN, mtime=0) + b"more", gzip.compress(PLAIN, mtime=0)[:-8] + b"12345678"],
)
def test_damaged_answer_is_a_failure(data: bytes) -> None:
    """What is not compressed, goes on after its end, or fails its checksum is a failure."""
    with pytest.raises(UpstreamFailed):
        list(Inflater().feed(data))


@pytest.mark.parametrize(
    ("encoding", "identity"),
    [(b"", True), (b"Identity", True), (b"gzip", False), (b"x-gzip", False), (b"deflate", False)],
)
def test_encodings_are_known(encoding: bytes, identity: bool) -> None:
    """Plain and compressed answers are told apart by their header."""
    assert is_identity(encoding) is identity


@pytest.mark.parametrize("encoding", [b"br", b"zstd", b"gzip, gzip"])
def test_unknown_encoding_is_a_failure(encoding: bytes) -> None:
    """What cannot be unpacked is not passed on."""
    with pytest.raises(UpstreamFailed):
        is_identity(encoding)
