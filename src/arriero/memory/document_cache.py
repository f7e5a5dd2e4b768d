"""Documents by the numbers of their rows, the latest that were read.

A row of a document never changes and its number is never given twice, so what is held here cannot be out of
date: a hit names the number that its chunk had in the moment of the search.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from arriero.memory import sqlite_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from arriero.memory.records import Document

MOST = 4096


class DocumentCache:
    """Documents that were read, so many at most. Every method may be called from any thread."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._held: dict[int, Document] = {}

    def __len__(self) -> int:
        return len(self._held)

    def of(self, connection: sqlite3.Connection, numbers: Iterable[int]) -> dict[int, Document]:
        """Return the documents of these numbers that the connection sees, or has seen."""
        wanted = set(numbers)
        with self._lock:
            found = {number: self._held[number] for number in wanted if number in self._held}
        if missing := wanted.difference(found):
            read = sqlite_rows.documents_of(connection, missing)
            found |= read
            self._keep(read)
        return found

    def _keep(self, read: dict[int, Document]) -> None:
        with self._lock:
            self._held |= read
            while len(self._held) > self._most:
                del self._held[next(iter(self._held))]
