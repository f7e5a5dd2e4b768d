"""Which vectors are most alike: exact over the young rows, a graph over the settled ones.

Rows are numbered in the order they come. Rows above `settled` are young: they are in memory and compared one
by one. The others are in the graph; while there is none yet, the caller compares them from the disk.
This file decides nothing about disks and tables, and its answers may name rows that are deleted by now:
the caller looks each number up anyway.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from arriero.memory.exact import ExactVectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arriero.memory.graph import Graph

SETTLE_AT = 1024
"""Young rows beside a graph that are worth moving into it."""
_SETTLED_AT_ONCE = 2048
_MOST_DEAD = 4
"""Candidates for each that is wanted, at most, when many rows are dead."""


class Candidates(NamedTuple):
    """Numbers that may be the nearest, each once.

    unread: rows up to this number were not looked at; 0 = none.
    is_all: there is no other row.
    """

    numbers: list[int]
    unread: int
    is_all: bool


class VectorIndex:
    """Owns the young rows and the graph. Every method may be called from any thread."""

    def __init__(self, dimensions: int, *, exact_limit: int, can_build: bool) -> None:
        self._dimensions = dimensions
        self._exact_limit = exact_limit
        self._can_build = can_build
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._young = ExactVectors(dimensions)
        self._graph: Graph | None = None
        self._settled = 0
        self._dead = 0
        self.forgotten = 0
        """Grows when dead rows are let go of. Until then a search that began when they lived finds them."""

    @property
    def graph(self) -> Graph | None:
        """The graph over the settled rows, if there is one."""
        return self._graph

    @property
    def settled(self) -> int:
        """Rows up to this number are not among the young."""
        return self._settled

    @property
    def num_young(self) -> int:
        """How many rows are compared one by one."""
        return len(self._young)

    def begin(self, settled: int, graph: Graph | None, dead: int) -> None:
        """Set what covers the rows up to `settled`; to be called before any row is added."""
        with self._lock:
            self._settled, self._graph, self._dead = settled, graph, dead

    def add(self, numbers: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add rows whose numbers are above all others."""
        with self._lock:
            rows = self._young.rows + len(numbers)
            self._young.append(numbers, vectors)
            self.forgotten += self._young.rows < rows

    def discard(self, numbers: NDArray[np.int64]) -> None:
        """Forget rows."""
        with self._lock:
            self._dead += len(numbers) - self._young.discard(numbers)

    def clear(self) -> None:
        """Forget every row."""
        with self._lock:
            self._young = ExactVectors(self._dimensions)
            self._graph, self._settled, self._dead = None, 0, 0
            self.forgotten += 1
            self._room.notify_all()

    def candidates(self, vector: NDArray[np.float32], count: int) -> Candidates:
        """Return about `count` numbers that may be the nearest."""
        with self._lock:
            young, graph, settled = self._young.snapshot(), self._graph, self._settled
            alive = len(self._young) + (len(graph) - self._dead if graph is not None else 0)
        rows = len(young.numbers) + (len(graph) if graph is not None else 0)
        # As many more as are dead among so many.
        count = min(count * rows // max(1, alive), count * _MOST_DEAD)
        if graph is None:
            compared, _ = young.best(vector, count)
            return Candidates(compared.tolist(), settled, count >= len(young.numbers))
        settled_rows = graph.nearest(vector, min(count, len(graph)))
        numbers = settled_rows[0].tolist()
        worst = float(settled_rows[1][-1]) if len(numbers) == count else -np.inf
        nearer = young.best(vector, count, above=worst)
        if len(nearer[0]):
            # A row that settles just now is in both.
            scores = _scores(settled_rows) | _scores(nearer)
            numbers = sorted(scores, key=scores.__getitem__, reverse=True)[:count]
        return Candidates(numbers, 0, count >= rows)

    def wants_graph(self) -> bool:
        """Whether a graph over all rows should be built: there is none, or too much of it is dead."""
        with self._lock:
            if not self._can_build:
                return False
            if self._graph is None:
                return self._settled > 0 or len(self._young) > self._exact_limit
            return self._dead > max(1000, len(self._graph) // 4)

    def lacks_graph(self) -> bool:
        """Whether there are more rows than should be compared one by one, and no library for a graph."""
        return not self._can_build and self.num_young > self._exact_limit

    def wants_settling(self) -> bool:
        """Whether young rows should move into the graph."""
        with self._lock:
            return self._graph is not None and self._young.rows >= SETTLE_AT

    def put_graph(self, graph: Graph, end: int, *, dead: int) -> None:
        """Let a graph stand for the rows up to `end`: it holds all that are alive, and some dead ones."""
        with self._lock:
            if end < self._settled:
                return
            self._graph, self._settled, self._dead = graph, end, dead
            self._young.drop_through(end)
            self.forgotten += 1
            self._room.notify_all()

    def settle(self) -> None:
        """Move some young rows into the graph. One thread at a time."""
        with self._lock:
            young, graph = self._young.snapshot().first(_SETTLED_AT_ONCE), self._graph
        if graph is None or not len(young.numbers):
            return
        alive = young.alive.copy()
        graph.add(young.numbers[alive], young.vectors[alive])
        with self._lock:
            if self._graph is not graph:
                return
            self._settled = int(young.numbers[-1])
            self._dead += int(np.count_nonzero(alive & ~young.alive))
            self._young.drop_through(self._settled)
            self.forgotten += 1
            self._room.notify_all()

    def has_room(self) -> bool:
        """Whether there are not far more young rows than should be."""
        with self._lock:
            return self._has_room()

    def wait_for_room(self, timeout_s: float) -> None:
        """Block while far more rows are young than should be: their memory is bounded."""
        with self._room:
            self._room.wait_for(self._has_room, timeout_s)

    def _has_room(self) -> bool:
        return not self._can_build or self._young.rows < 4 * self._exact_limit + 4 * SETTLE_AT


def _scores(rows: tuple[NDArray[np.int64], NDArray[np.float32]]) -> dict[int, float]:
    return dict(zip(rows[0].tolist(), rows[1].tolist(), strict=True))
