"""The store inside the server: one SQLite file per memory is the truth, all else is derived from it.

One thread writes, some read, one tends the graph over the vectors; none of them is the event loop's.
A search never waits for a write, nor a write for a search. The files:

    NAME            the database (and -wal, -shm while it is open)
    NAME.lock       held by the one process that writes
    NAME.reserve    room for deleting when the disk is full
    NAME.X.graph    a snapshot of the graph; may be deleted, it is built anew
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import math
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from arriero.errors import DiskFull, Unavailable, WriteFailed
from arriero.memory import graph as graphs
from arriero.memory import sqlite_rows, text_search, vector_search
from arriero.memory.document_cache import DocumentCache
from arriero.memory.graph_keeper import WANTED_RECALL, GraphKeeper
from arriero.memory.reader_threads import ReaderThreads
from arriero.memory.records import Counts
from arriero.memory.reserve import Reserve
from arriero.memory.sqlite_pool import Pool
from arriero.memory.sqlite_schema import snapshot, transaction
from arriero.memory.text_search import WordCounts
from arriero.memory.vector_index import VectorIndex

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from arriero.memory.filters import Filter
    from arriero.memory.records import Chunk, Document, Hit, Identity

Result = TypeVar("Result")

EXACT_LIMIT = 20_000
"""Chunks up to which every vector is compared: some 2 ms for 384 dimensions."""
READERS = 4
_ROOM_TIMEOUT_S = 60.0
_PAGES_AT_ONCE = 500


class EmbeddedStore:
    """A `Store` in a file, or in memory only."""

    def __init__(
        self, path: Path | None, identity: Identity, *, exact_limit: int, readers: int, wanted_recall: float
    ) -> None:
        """Open it; blocks. Use `open`."""
        self._path = path
        self._identity = identity
        self._reserve = Reserve(path)
        self._pool = self._opened_pool(readers)
        self._readers = ReaderThreads(readers if path else 1)
        self._writer = ThreadPoolExecutor(1, "arriero-memory-write")
        self._index = VectorIndex(
            identity.dimensions, exact_limit=exact_limit, can_build=graphs.is_available()
        )
        self._keeper = GraphKeeper(
            path,
            self._pool,
            self._index,
            identity.dimensions,
            self._write_and_wait,
            wanted_recall=wanted_recall,
        )
        self._counts = WordCounts()
        self._documents = DocumentCache()
        self._next_number = 1
        self._is_open = True
        try:
            self._keeper.begin(exact_limit=exact_limit)
            self._writer.submit(self._reclaim, True)  # the last process may have ended before it had done so
        except BaseException:
            self._close()
            raise

    @classmethod
    async def open(
        cls,
        path: Path | None,
        identity: Identity,
        *,
        exact_limit: int = EXACT_LIMIT,
        readers: int = READERS,
        wanted_recall: float = WANTED_RECALL,
    ) -> EmbeddedStore:
        """Open a memory's file, made when it is not there; None keeps everything in memory only.

        wanted_recall: of the ten nearest chunks, the share that searches of a large memory shall find.

        Raises ConfigError when the file is not a memory or holds vectors of another identity; Unavailable
        when another process has it open or it is damaged.
        """
        return await asyncio.to_thread(
            cls, path, identity, exact_limit=exact_limit, readers=readers, wanted_recall=wanted_recall
        )

    @property
    def identity(self) -> Identity:
        """Whose vectors are held."""
        return self._identity

    @property
    def graph_size(self) -> int:
        """How many vectors are in the graph; 0 while every vector is compared."""
        graph = self._index.graph
        return 0 if graph is None else len(graph)

    async def replace(
        self, document: Document, chunks: Sequence[Chunk], vectors: NDArray[np.float32]
    ) -> None:
        """Store a document in place of the one of its name, if any: all of it or nothing."""
        values = np.ascontiguousarray(vectors, dtype=np.float32)
        check_values(document, chunks, values, self._identity.dimensions)
        if not self._index.has_room():
            await asyncio.to_thread(self._index.wait_for_room, _ROOM_TIMEOUT_S)
        await self._in_writer(lambda: self._replace(document, chunks, values))

    async def delete(self, document_id: str) -> bool:
        """Delete a document; say whether there was one."""
        return await self._in_writer(lambda: self._delete(document_id))

    async def clear(self) -> int:
        """Delete everything; return the number of documents."""
        return await self._in_writer(self._clear)

    async def document(self, document_id: str) -> Document | None:
        """Return a document, if there is one of this id."""
        return await self._in_reader(lambda connection: sqlite_rows.document(connection, document_id))

    async def documents(
        self, *, after: str | None = None, limit: int = 100, where: Filter | None = None
    ) -> list[Document]:
        """Return documents in the order of their ids, beginning behind the id `after`."""
        return await self._in_reader(
            lambda connection: sqlite_rows.documents(connection, after, limit, where)
        )

    async def chunks(self, document_id: str, *, first: int = 0, last: int | None = None) -> list[Chunk]:
        """Return the chunks of a document from ordinal `first` up to and with `last`, in order."""
        return await self._in_reader(
            lambda connection: sqlite_rows.chunks(connection, document_id, first, last)
        )

    async def nearest(
        self, vector: NDArray[np.float32], *, limit: int, where: Filter | None = None
    ) -> list[Hit]:
        """Return the chunks whose vectors are most alike, best first; scores are cosines."""
        value = np.ascontiguousarray(vector, dtype=np.float32)
        if value.shape != (self._identity.dimensions,) or not np.isfinite(value).all():
            raise ValueError(f"vector: must be {self._identity.dimensions} finite numbers")
        return await self._in_reader(
            lambda connection: vector_search.nearest(
                connection, self._index, self._documents, value, limit=limit, where=where
            )
        )

    async def matching(self, query: str, *, limit: int, where: Filter | None = None) -> list[Hit]:
        """Return the chunks whose words match best, best first; scores are BM25."""

        def search(connection: sqlite3.Connection) -> list[Hit]:
            with snapshot(connection):
                scores = text_search.search(connection, self._counts, query, limit=limit, where=where)
                return sqlite_rows.hits(connection, self._documents, scores)

        return await self._in_reader(search)

    async def counts(self) -> Counts:
        """Return how much is held; `bytes` are those of its files."""

        def count(connection: sqlite3.Connection) -> Counts:
            documents, chunks = connection.execute(
                "select count(*), coalesce(sum(num_chunks), 0) from document"
            ).fetchone()
            return Counts(documents=documents, chunks=chunks, bytes=held_bytes(connection, self._path))

        return await self._in_reader(count)

    async def wait_settled(self) -> None:
        """Wait until the graph holds all that it should; searches need not wait for that."""
        await asyncio.to_thread(self._keeper.wait_idle)

    async def close(self) -> None:
        """Finish the writes that began, save the graph, and let go of every file."""
        if self._is_open:
            self._is_open = False
            await asyncio.to_thread(self._close)

    def _opened_pool(self, readers: int) -> Pool:
        try:
            return Pool(self._path, self._identity, readers=readers)
        except (DiskFull, WriteFailed):
            # Opening takes a little room beside the file.
            if not self._reserve.give():
                raise
            return Pool(self._path, self._identity, readers=readers)

    async def _in_reader(self, read: Callable[[sqlite3.Connection], Result]) -> Result:
        def job() -> Result:
            with self._pool.reading() as connection:
                return read(connection)

        self._check_open()
        return await self._readers.run(job)

    async def _in_writer(self, job: Callable[[], Result]) -> Result:
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._writer, job)

    def _check_open(self) -> None:
        if not self._is_open:
            raise Unavailable(f"{self._path or 'the memory'}: closed")

    def _replace(self, document: Document, chunks: Sequence[Chunk], vectors: NDArray[np.float32]) -> None:
        self._reserve.take()
        with self._pool.writing() as connection:
            numbers = self._taken_numbers(connection, len(chunks))
            try:
                with transaction(connection):
                    removed = sqlite_rows.remove(connection, document.id)
                    sqlite_rows.insert(connection, document, chunks, vectors, first=numbers.start)
                    # Before the commit, so that there is no moment in which neither version is found.
                    self._index.add(_array(numbers), vectors)
            except BaseException:
                self._index.discard(_array(numbers))
                raise
        self._forget(removed)

    def _taken_numbers(self, connection: sqlite3.Connection, count: int) -> range:
        """Return numbers for new chunks; those of a write that failed are not given again."""
        first = max(self._next_number, sqlite_rows.next_number(connection))
        self._next_number = first + count
        return range(first, self._next_number)

    def _delete(self, document_id: str) -> bool:
        removed = self._freeing(lambda connection: sqlite_rows.remove(connection, document_id))
        self._forget(removed)
        return removed is not None

    def _clear(self) -> int:
        count = self._freeing(sqlite_rows.remove_all)
        self._index.clear()
        self._forget(None)
        return count

    def _freeing(self, remove: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run a transaction that frees room, with the reserve's when there is no other."""
        try:
            return self._transact(remove)
        except (DiskFull, WriteFailed):
            if not self._reserve.give():
                raise
            return self._transact(remove)

    def _transact(self, write: Callable[[sqlite3.Connection], Result]) -> Result:
        with self._pool.writing() as connection, transaction(connection):
            return write(connection)

    def _write_and_wait(self, write: Callable[[sqlite3.Connection], None]) -> None:
        self._writer.submit(self._transact, write).result()

    def _forget(self, numbers: Sequence[int] | None) -> None:
        if numbers:
            self._index.discard(np.array(numbers, dtype=np.int64))
        self._keeper.nudge()
        if numbers != []:
            self._reclaim()

    def _reclaim(self, is_begun: bool = False) -> None:
        """Give pages back to the disk when many are free: a few now, the others after the next writes."""
        with contextlib.suppress(Unavailable, RuntimeError), self._pool.writing() as connection:
            (free,) = connection.execute("pragma freelist_count").fetchone()
            (pages,) = connection.execute("pragma page_count").fetchone()
            if free > max(_PAGES_AT_ONCE, pages // 4):
                # Each page is a step of the statement, and only `executescript` takes them all.
                connection.executescript(f"pragma incremental_vacuum({_PAGES_AT_ONCE})")
                self._writer.submit(self._reclaim, True)
            elif is_begun:  # the file becomes shorter when the log is moved into it
                connection.execute("pragma wal_checkpoint(passive)").fetchall()

    def _close(self) -> None:
        self._keeper.stop()
        self._readers.shutdown()
        self._writer.shutdown()
        self._pool.close()


def check_values(
    document: Document, chunks: Sequence[Chunk], vectors: NDArray[np.float32], dimensions: int
) -> None:
    """Raise ValueError for what must not be stored."""
    check_vectors(vectors, len(chunks), dimensions)
    if len({chunk.ordinal for chunk in chunks}) != len(chunks):
        raise ValueError("chunks: two have the same ordinal")
    for key, value in document.attributes.items():
        if isinstance(value, float | int) and not math.isfinite(value):
            raise ValueError(f"attributes: {key} must be finite")


def check_vectors(vectors: NDArray[np.float32], count: int, dimensions: int) -> None:
    """Raise ValueError unless there is a vector of length 1 for each chunk."""
    if vectors.shape != (count, dimensions):
        raise ValueError(f"vectors: {vectors.shape} for {count} chunks of {dimensions} dimensions")
    # One comparison refuses NaN and infinity, too.
    if not (np.abs(np.einsum("ij,ij->i", vectors, vectors) - 1) < 0.01).all():
        raise ValueError("vectors: each must be finite and of length 1")


def held_bytes(connection: sqlite3.Connection, path: Path | None) -> int:
    """Return what a memory takes on the disk, or in memory when it has no file."""
    if path is not None:
        files = [
            path,
            path.with_name(path.name + "-wal"),
            *path.parent.glob(f"{glob.escape(path.name)}.*.graph"),
        ]
        return sum(file.stat().st_size for file in files if file.exists())
    (pages,) = connection.execute("pragma page_count").fetchone()
    (size,) = connection.execute("pragma page_size").fetchone()
    return int(pages * size)


def _array(numbers: range) -> NDArray[np.int64]:
    return np.arange(numbers.start, numbers.stop, dtype=np.int64)
