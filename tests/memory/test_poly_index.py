"""What an index file of Poly looks like."""

from __future__ import annotations

import struct

import pytest

from arriero.memory.poly_index import is_poly_index

WHOLE = struct.pack("<8Q", 384, 12, 12, 1_000_000, 32, 64, 20, 2)


@pytest.mark.parametrize(
    ("beginning", "expected"),
    [
        (WHOLE, True),
        (WHOLE + b"more", True),
        (WHOLE[:63], False),
        (b"", False),
        (bytes(64), False),
        (b"SQLite format 3\0" + bytes(84), False),
        (struct.pack("<8Q", 384, 12, 13, 1_000_000, 32, 64, 20, 2), False),
        (struct.pack("<8Q", 384, 12, 12, 1_000_000, 16, 64, 20, 2), False),
    ],
)
def test_the_first_numbers_tell(beginning: bytes, expected: bool) -> None:
    """Those that Poly chose itself must be there."""
    assert is_poly_index(beginning) == expected
