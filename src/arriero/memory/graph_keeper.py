"""Keeps the graph of a memory in step with its rows: builds, grows, measures, saves and loads it.

The graph is derived. Its snapshot is a file named after its SHA-256, and the database says which one belongs
to it; any other, or a damaged one, is built anew. All work is done in one thread, while searches go on.
"""

from __future__ import annotations

import contextlib
import glob
import json
import logging
import random
import threading
from typing import TYPE_CHECKING

import numpy as np

from arriero.errors import Unavailable
from arriero.memory import graph as graphs
from arriero.memory import sqlite_rows
from arriero.memory.exact import best, cosines
from arriero.memory.graph import Graph
from arriero.memory.sqlite_errors import translated
from arriero.memory.sqlite_pool import beside, sync_folder
from arriero.memory.sqlite_schema import make_private
from arriero.memory.vector_index import SETTLE_AT

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from arriero.memory.sqlite_pool import Pool
    from arriero.memory.vector_index import VectorIndex

    Write = Callable[[Callable[[sqlite3.Connection], None]], None]

_log = logging.getLogger(__name__)

WANTED_RECALL = 0.99
"""Of the ten nearest, the share that a search shall find."""
_NEIGHBOURS = 10
_PROBES = 64
_NOISE = 0.8
"""Length of the noise on a stored vector that makes a probe: as far from the rows as questions are."""
_SAVE_EVERY = 20_000


class GraphKeeper:
    """Owns the graph's snapshot and the thread that works on the graph."""

    def __init__(
        self,
        path: Path | None,
        pool: Pool,
        index: VectorIndex,
        dimensions: int,
        write: Write,
        *,
        wanted_recall: float = WANTED_RECALL,
    ) -> None:
        self._path = path
        self._pool = pool
        self._index = index
        self._dimensions = dimensions
        self._write = write
        self._wanted_recall = wanted_recall
        self._has_hinted = False
        self._saved = 0
        self._fitted = 0
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._is_idle = threading.Event()
        self._is_idle.set()
        self._lock = threading.Lock()
        """Held to change `_wake` and `_is_idle` together."""
        self._thread: threading.Thread | None = None

    def begin(self, *, exact_limit: int) -> None:
        """Load what the index needs; what cannot be loaded is left to the thread."""
        with self._pool.reading() as connection:
            total, top = connection.execute("select count(*), coalesce(max(number), 0) from chunk").fetchone()
            graph, settled, dead = self._snapshot(connection)
            self._saved = settled
            if graph is None and graphs.is_available() and total > exact_limit:
                settled = top
            self._index.begin(settled, graph, dead)
            self._fitted = len(graph) if graph is not None else 0
            for numbers, vectors in sqlite_rows.vectors(connection, settled, top):
                self._index.add(numbers, vectors)
        self.nudge()

    def nudge(self) -> None:
        """Look for work; the thread is started when there is some for the first time."""
        if not self._has_hinted and self._index.lacks_graph():
            self._has_hinted = True
            _log.warning(
                "%s: every search compares %d vectors one by one; pip install 'arriero[index]' makes it fast",
                self._path or "a memory",
                self._index.num_young,
            )
        if self._stop.is_set() or not (self._index.wants_graph() or self._index.wants_settling()):
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="arriero-memory-graph", daemon=True)
            self._thread.start()
        with self._lock:
            self._is_idle.clear()
            self._wake.set()

    def wait_idle(self) -> None:
        """Block until there is no work left, or none that succeeds."""
        self._is_idle.wait()

    def stop(self) -> None:
        """End the thread and save what is worth it; blocks until both are done."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self._is_idle.set()
        with contextlib.suppress(Unavailable):
            self._save(every=SETTLE_AT)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait()
            self._wake.clear()
            try:
                self._work()
            except Exception:
                # The rows are as they were: compared one by one, and tried again with the next change.
                _log.exception("%s: the graph over the vectors could not be built", self._path)
            with self._lock:
                if not self._wake.is_set():
                    self._is_idle.set()

    def _work(self) -> None:
        while not self._stop.is_set():
            if self._index.wants_graph():
                self._build()
            elif self._index.wants_settling():
                self._index.settle()
                self._fit_again()
            else:
                return
            with contextlib.suppress(Unavailable):
                self._save(every=max(_SAVE_EVERY, self._index.settled // 10))

    def _build(self) -> None:
        """Build a graph over all rows of now, and measure how far a search must look in it."""
        graph = Graph(self._dimensions)
        with self._pool.reading() as connection:
            (end,) = connection.execute("select coalesce(max(number), 0) from chunk").fetchone()
            probes = Probes(_sample(connection, end))

        def see(numbers: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
            graph.add(numbers, vectors)
            probes.see(numbers, vectors)

        if not self._see_all(end, see):
            return
        with self._pool.reading() as connection:
            (live,) = connection.execute("select count(*) from chunk where number <= ?", (end,)).fetchone()
        self._fit(graph, probes)
        self._index.put_graph(graph, end, dead=len(graph) - live)

    def _fit_again(self) -> None:
        """Measure anew once the graph is twice as large as when it was measured."""
        graph, end = self._index.graph, self._index.settled
        if graph is None or len(graph) < 2 * self._fitted:
            return
        with self._pool.reading() as connection:
            probes = Probes(_sample(connection, end))
        if self._see_all(end, probes.see):
            self._fit(graph, probes)

    def _fit(self, graph: Graph, probes: Probes) -> None:
        recall = probes.fit(graph, self._wanted_recall)
        self._fitted = len(graph)
        _log.info(
            "%s: graph over %d vectors, recall %.3f at %d", self._path, len(graph), recall, graph.expansion
        )

    def _see_all(self, end: int, see: Callable[[NDArray[np.int64], NDArray[np.float32]], None]) -> bool:
        """Show the rows up to `end`; say whether that was not stopped."""
        after = 0
        while after < end and not self._stop.is_set():
            # The connection is lent for one block at a time, as others wait for it.
            with self._pool.reading() as connection:
                numbers, vectors = next(sqlite_rows.vectors(connection, after, end), _nothing())
            if len(numbers):
                see(numbers, vectors)
            after = int(numbers[-1]) if len(numbers) else end
        return not self._stop.is_set()

    def _snapshot(self, connection: sqlite3.Connection) -> tuple[Graph | None, int, int]:
        """Return the graph that belongs to the database, the last row in it, and how many are dead."""
        row = connection.execute("select value from meta where key = 'graph'").fetchone()
        if row is None:
            self._sweep(None)
        if self._path is None or row is None or not graphs.is_available():
            return None, 0, 0
        known = json.loads(row[0])
        try:
            file = self._file(known["digest"])
            if graphs.digest(file) != known["digest"]:
                raise ValueError("its checksum is wrong")
            graph = Graph(self._dimensions, expansion=known["expansion"])
            graph.load(file)
        except (OSError, ValueError, RuntimeError) as exc:
            _log.warning("%s: the graph over the vectors is built anew: %s", self._path, exc)
            return None, 0, 0
        (live,) = connection.execute(
            "select count(*) from chunk where number <= ?", (known["end"],)
        ).fetchone()
        return graph, known["end"], len(graph) - live

    def _save(self, *, every: int) -> None:
        graph, end = self._index.graph, self._index.settled
        if self._path is None or graph is None or end - self._saved < every:
            return
        unnamed = beside(self._path, "graph.new")
        with translated(self._path):
            make_private(unnamed)
            digest = graph.save(unnamed)
            unnamed.rename(self._file(digest))
            sync_folder(self._path.parent)
        known = json.dumps({"digest": digest, "end": end, "expansion": graph.expansion})
        self._write(lambda connection: _name_snapshot(connection, known, end))
        self._saved = end
        self._sweep(self._file(digest))

    def _sweep(self, kept: Path | None) -> None:
        """Delete the snapshots that no longer belong to the database."""
        if self._path is not None:
            for file in self._path.parent.glob(f"{glob.escape(self._path.name)}.*.graph"):
                if file != kept:
                    file.unlink(missing_ok=True)

    def _file(self, digest: str) -> Path:
        assert self._path is not None
        return beside(self._path, f"{digest[:16]}.graph")


class Probes:
    """Vectors that resemble questions, and their true neighbours among the rows that were seen."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self._vectors = vectors
        self._nearest = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)) for _ in vectors]

    def see(self, numbers: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Take rows into account."""
        for place, probe in enumerate(self._vectors):
            known, scores = self._nearest[place]
            self._nearest[place] = best(
                np.concatenate([known, numbers]),
                np.concatenate([scores, cosines(vectors, probe)]),
                _NEIGHBOURS,
            )

    def fit(self, graph: Graph, wanted: float) -> float:
        """Widen the searches of a graph until they find the wanted share; return the recall."""
        while (recall := self.recall(graph)) < wanted and graph.expansion < graphs.MAX_EXPANSION:
            graph.expansion = min(graph.expansion * 3 // 2, graphs.MAX_EXPANSION)
        return recall

    def recall(self, graph: Graph) -> float:
        """Return the share of the true neighbours that a graph finds."""
        found = wanted = 0
        for probe, (numbers, _) in zip(self._vectors, self._nearest, strict=True):
            found += len(np.intersect1d(numbers, graph.nearest(probe, _NEIGHBOURS)[0]))
            wanted += len(numbers)
        return found / wanted if wanted else 1.0


def _sample(connection: sqlite3.Connection, end: int) -> NDArray[np.float32]:
    """Return vectors like those that are held, but not among them."""
    seed = random.Random(end)
    rows = [
        row
        for _ in range(_PROBES)
        for row in connection.execute(
            "select number, value from vector where number >= ? order by number limit 1",
            (seed.randint(1, max(end, 1)),),
        )
    ]
    _, vectors = sqlite_rows.matrix(rows) if rows else _nothing()
    noise = np.random.default_rng(end).standard_normal(vectors.shape, dtype=np.float32)
    noise *= _NOISE / np.sqrt(max(1, vectors.shape[-1]))
    probes: NDArray[np.float32] = vectors + noise
    probes /= np.linalg.norm(probes, axis=1, keepdims=True)
    return probes


def _nothing() -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    return np.empty(0, dtype=np.int64), np.empty((0, 1), dtype=np.float32)


def _name_snapshot(connection: sqlite3.Connection, known: str, end: int) -> None:
    connection.execute("insert or replace into meta values ('graph', ?)", (known,))
    # A number in the graph is never given again, even if what it stood for was not committed.
    connection.execute("update sqlite_sequence set seq = max(seq, ?) where name = 'chunk'", (end,))
