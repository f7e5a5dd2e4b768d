"""One SQLite file with a few tables, written durably by one thread at a time. Knows nothing of its rows."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

from arriero.memory.sqlite_errors import translated
from arriero.memory.sqlite_schema import make_private, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class SqliteFile:
    """Owns the connection. Every method blocks, raises Unavailable, and may be called from any thread."""

    def __init__(self, path: Path | None, tables: str) -> None:
        """Open the file, None = one in main memory, and make the tables that it lacks."""
        self._path = path
        self._lock = Lock()
        with translated(path):
            if path is not None:
                make_private(path)
            self._connection = sqlite3.connect(
                path or ":memory:", check_same_thread=False, isolation_level=None
            )
            try:
                self._connection.execute("pragma journal_mode = wal")
                self._connection.execute("pragma synchronous = full")
                self._connection.executescript(tables)
            except BaseException:
                self._connection.close()
                raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Keep all that the block writes, on the disk when this returns, or nothing of it."""
        with self._lock, translated(self._path), transaction(self._connection):
            yield self._connection

    def close(self) -> None:
        """Close the file."""
        with self._lock, translated(self._path):
            self._connection.close()
