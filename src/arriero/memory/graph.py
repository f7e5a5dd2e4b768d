"""An HNSW graph of usearch over many vectors (f16), and its file. The only file that knows usearch.

usearch is an optional dependency. A damaged graph file would crash the process in the first search, so it
is loaded only when its SHA-256 is the one that the database names.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

CONNECTIVITY = 16
EXPANSION_ADD = 128
EXPANSION_SEARCH = 32
"""Where the measuring begins."""
MAX_EXPANSION = 2048
WIDER = 2
"""How much further than what is wanted a search looks, at least."""

THREADS = max(1, (os.cpu_count() or 1) // 4)
"""Threads that build a graph; most cores stay with the models."""


def is_available() -> bool:
    """Tell whether usearch is installed."""
    try:
        import usearch.index  # noqa: F401
    except ImportError:
        return False
    return True


class Graph:
    """Numbers by vectors. One thread may add while others search; nothing is ever taken out."""

    def __init__(self, dimensions: int, *, expansion: int = EXPANSION_SEARCH) -> None:
        from usearch.index import Index

        self._index: Any = Index(
            ndim=dimensions,
            metric="ip",
            dtype="f16",
            connectivity=CONNECTIVITY,
            expansion_add=EXPANSION_ADD,
            expansion_search=expansion,
        )

    def __len__(self) -> int:
        return len(self._index)

    @property
    def expansion(self) -> int:
        """How many candidates a search keeps: more finds more and takes longer."""
        return int(self._index.expansion_search)

    @expansion.setter
    def expansion(self, value: int) -> None:
        self._index.expansion_search = value

    def add(self, numbers: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add vectors under their numbers."""
        self._index.add(numbers.astype(np.uint64), vectors, threads=THREADS)

    def nearest(
        self, vector: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return about `count` numbers whose vectors are most alike, and roughly their cosines."""
        # A search looks no further than what it returns or the expansion, whichever is more.
        wide = count if WIDER * count <= self.expansion else WIDER * count
        found = self._index.search(vector, min(wide, len(self)), threads=1)
        return found.keys[:count].astype(np.int64), np.float32(1) - found.distances[:count].astype(np.float32)

    def save(self, path: Path) -> str:
        """Write the graph to a new file, on the disk when this returns; return the file's SHA-256."""
        self._index.save(str(path))
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return digest(path)

    def load(self, path: Path) -> None:
        """Read a file whose digest has been compared. Raises RuntimeError when usearch cannot read it."""
        self._index.load(str(path))


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
