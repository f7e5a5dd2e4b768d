"""A compressed answer to plain bytes, piece by piece and within a bound.

Upstreams are asked not to compress; some things between do it all the same.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from arriero.guard.failure import UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE_BYTES = 64 << 10
# 32 lets zlib find out whether it is gzip or zlib.
_ANY_HEADER = 32 + zlib.MAX_WBITS


def is_identity(content_encoding: bytes) -> bool:
    """Say whether the bytes are plain. Raises UpstreamFailed for an encoding that cannot be undone."""
    word = content_encoding.strip().lower()
    if word in (b"", b"identity"):
        return True
    if word in (b"gzip", b"x-gzip", b"deflate"):
        return False
    raise UpstreamFailed("the upstream's answer is in an unknown encoding")


class Inflater:
    """Undoes gzip and deflate for one answer."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(_ANY_HEADER)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what the next bytes hold, in pieces of at most 64 KiB. Raises UpstreamFailed."""
        while data:
            if self._has_ended():
                raise UpstreamFailed("the upstream sent more than its compressed answer")
            try:
                piece = self._inflate.decompress(data, _PIECE_BYTES)
            except zlib.error as exc:
                raise UpstreamFailed("the upstream's compressed answer is damaged") from exc
            data = self._inflate.unconsumed_tail or self._inflate.unused_data
            if piece:
                yield piece

    def close(self) -> None:
        """End the input. Raises UpstreamFailed if the answer was cut off."""
        if not self._has_ended():
            raise UpstreamFailed("the upstream's compressed answer was cut off")

    def _has_ended(self) -> bool:
        return self._inflate.eof
