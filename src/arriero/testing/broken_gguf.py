"""Damages GGUF files in the ways that happen: cut short, not GGUF at all, tensors of the wrong size."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import gguf

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC_BYTES = 4


def truncate(path: Path, keep: float = 0.5) -> Path:
    """Cut the file to a part of its length; return `path`."""
    os.truncate(path, int(path.stat().st_size * keep))
    return path


def spoil_magic(path: Path, magic: bytes = b"GGML") -> Path:
    """Put other bytes in the place of the format's name; return `path`."""
    with path.open("r+b") as file:
        file.write(magic[:_MAGIC_BYTES])
    return path


def spoil_tensor_size(path: Path, tensor: str = "output_norm.weight", size: int = 60) -> Path:
    """Give a tensor another first dimension than its model has; return `path`.

    With the default the tensors still lie where they should, so that only the size is wrong.
    """
    place = _dimension_offset(path, tensor)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(struct.pack("<Q", size))
    return path


def _dimension_offset(path: Path, tensor: str) -> int:
    """Return where in the file the first dimension of a tensor stands."""
    reader = gguf.GGUFReader(path)
    found = next(entry for entry in reader.tensors if entry.name == tensor)
    name_length, name, dimension_count = found.field.parts[:3]
    return int(found.field.offset + name_length.nbytes + name.nbytes + dimension_count.nbytes)
