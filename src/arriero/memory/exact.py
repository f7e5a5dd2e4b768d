"""Vectors in memory, compared one by one: numbers that grow, rows that can go.

Not safe against two writers; a reader works on a `Snapshot`, which later changes do not disturb.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SMALLEST = 256


class Snapshot(NamedTuple):
    """The rows of one moment. `alive` may turn false later, never true again."""

    numbers: NDArray[np.int64]
    vectors: NDArray[np.float32]
    alive: NDArray[np.bool_]

    def first(self, count: int) -> Snapshot:
        """Return the oldest rows."""
        return Snapshot(self.numbers[:count], self.vectors[:count], self.alive[:count])

    def rest(self, first: int) -> Snapshot:
        """Return the rows from a place on."""
        return Snapshot(self.numbers[first:], self.vectors[first:], self.alive[first:])

    def best(
        self, vector: NDArray[np.float32], limit: int, *, above: float = -np.inf
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the numbers and cosines of the most alike rows, dead ones too, best first.

        above: rows whose cosine is not above this one are left out.
        """
        numbers, scores = self.numbers, cosines(self.vectors, vector)
        if above > -np.inf:
            chosen = np.flatnonzero(scores > above)
            numbers, scores = numbers[chosen], scores[chosen]
        return best(numbers, scores, limit) if len(numbers) else (numbers, scores)


class ExactVectors:
    """Rows of 4 bytes a dimension, and 9 bytes more. The arrays double when they are full."""

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._size = 0
        self._allocate(_SMALLEST)

    def __len__(self) -> int:
        return int(np.count_nonzero(self._alive[: self._size]))

    @property
    def rows(self) -> int:
        """The rows that are held, dead ones too."""
        return self._size

    def append(self, numbers: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add rows; their numbers are above all that are held."""
        end = self._size + len(numbers)
        if end > len(self._numbers):
            self._keep(self.snapshot(), max(2 * len(self._numbers), end))
            end = self._size + len(numbers)
        self._numbers[self._size : end] = numbers
        self._vectors[self._size : end] = vectors
        self._alive[self._size : end] = True
        self._size = end

    def discard(self, numbers: NDArray[np.int64]) -> int:
        """Mark the rows of these numbers dead; return how many there were."""
        held = self._numbers[: self._size]
        places = np.searchsorted(held, numbers)
        inside = places < self._size
        places = places[inside]
        places = places[held[places] == numbers[inside]]
        places = places[self._alive[places]]
        self._alive[places] = False
        return len(places)

    def drop_through(self, number: int) -> None:
        """Forget the rows up to and with this number, and the dead ones."""
        first = int(np.searchsorted(self._numbers[: self._size], number, side="right"))
        rest = self.snapshot().rest(first)
        self._keep(rest, max(_SMALLEST, len(rest.numbers)))

    def snapshot(self) -> Snapshot:
        """Return the rows of now."""
        return Snapshot(self._numbers[: self._size], self._vectors[: self._size], self._alive[: self._size])

    def _keep(self, rows: Snapshot, capacity: int) -> None:
        alive = rows.alive.copy()
        numbers, vectors = rows.numbers[alive], rows.vectors[alive]
        self._allocate(max(capacity, len(numbers)))
        self._size = len(numbers)
        self._numbers[: self._size] = numbers
        self._vectors[: self._size] = vectors
        self._alive[: self._size] = True

    def _allocate(self, capacity: int) -> None:
        self._numbers = np.empty(capacity, dtype=np.int64)
        self._vectors = np.empty((capacity, self._dimensions), dtype=np.float32)
        self._alive = np.zeros(capacity, dtype=np.bool_)


def cosines(vectors: NDArray[np.float32], vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the dot product of each row with a vector.

    einsum stays in the calling thread; BLAS would take every core from the models that decode.
    """
    found: NDArray[np.float32] = np.einsum("ij,j->i", vectors, vector)
    return found


def best(
    numbers: NDArray[np.int64], scores: NDArray[np.float32], limit: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the rows of the highest scores, best first; -inf is not a score. Equal scores: oldest first."""
    if len(scores) > limit:
        chosen = np.argpartition(scores, -limit)[-limit:]
        numbers, scores = numbers[chosen], scores[chosen]
    order = np.lexsort((numbers, -scores))
    order = order[scores[order] > -np.inf]
    return numbers[order], scores[order]
