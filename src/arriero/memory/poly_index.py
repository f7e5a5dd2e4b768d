"""Recognises the index files that Poly wrote under `store = { hora = { path } }`. Pure.

Hora writes its HNSW index as bincode: eight little-endian 64-bit numbers come first, of which Poly
chose four itself. Nothing is read of such a file but these.
"""

from __future__ import annotations

import struct

_HEAD = struct.Struct("<8Q")
_CHOSEN = (1_000_000, 32, 64, 20)
"""Most items, neighbours in a level and in the lowest one, and most levels."""


def is_poly_index(beginning: bytes) -> bool:
    """Tell whether a file that begins like this was written by Poly."""
    if len(beginning) < _HEAD.size:
        return False
    dimensions, items, built, *chosen, _level = _HEAD.unpack_from(beginning)
    return dimensions > 0 and built <= items and tuple(chosen) == _CHOSEN
