"""Whether a memory's file is whole, and how to make it small. Works on files that no process has open."""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from arriero.errors import ConfigError
from arriero.memory import sqlite_rows
from arriero.memory.embedded import held_bytes
from arriero.memory.records import Counts
from arriero.memory.sqlite_errors import translated
from arriero.memory.sqlite_pool import hold
from arriero.memory.sqlite_schema import check_file, connect, held_identity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from arriero.memory.records import Identity

_MAX_FAULTS = 20

_COUNTED = {
    "chunks without a document": "chunk where document not in (select number from document)",
    "chunks without a vector": "chunk where number not in (select number from vector)",
    "vectors without a chunk": "vector where number not in (select number from chunk)",
    "attributes without a document": "attribute where document not in (select number from document)",
    "documents with another number of chunks than they say": (
        "document d where num_chunks != (select count(*) from chunk c where c.document = d.number)"
    ),
}


class Report(msgspec.Struct, frozen=True):
    """What a check found; without faults the memory is whole."""

    identity: Identity
    documents: int
    chunks: int
    bytes: int
    faults: tuple[str, ...]


def check(path: Path) -> Report:
    """Read the whole file and report what is wrong with it.

    Raises ConfigError when it is not a memory, Unavailable when it is open elsewhere or cannot be read.
    """
    with alone(path) as connection:
        identity = held_identity(connection, path)
        faults = [*_broken_pages(connection), *_broken_words(connection)]
        if not faults:
            faults = [*_missing_rows(connection), *_broken_vectors(connection, identity)]
        documents, chunks = _sizes(connection)
        return Report(identity, documents, chunks, held_bytes(connection, path), tuple(faults))


def counts(path: Path) -> Counts | None:
    """Return how much a memory holds, even while a server has it open; None when there is no file."""
    if not path.is_file():
        return None
    with translated(path):
        connection = connect(path, read_only=True)
        try:
            check_file(connection, path)
            documents, chunks = _sizes(connection)
            return Counts(documents, chunks, held_bytes(connection, path))
        finally:
            connection.close()


def compact(path: Path) -> None:
    """Write the file anew without free pages, and merge the index of words; takes as much room again."""
    with alone(path) as connection:
        connection.execute("insert into words (words) values ('optimize')")
        connection.execute("vacuum")
        connection.execute("pragma wal_checkpoint(truncate)").fetchall()


def _sizes(connection: sqlite3.Connection) -> tuple[int, int]:
    row = connection.execute("select count(*), coalesce(sum(num_chunks), 0) from document").fetchone()
    return int(row[0]), int(row[1])


@contextmanager
def alone(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file of a memory that no other process writes."""
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such memory")
    lock = hold(path)
    try:
        with translated(path):
            connection = connect(path)
            try:
                check_file(connection, path)
                connection.execute("pragma synchronous = full")
                yield connection
            finally:
                connection.close()
    finally:
        os.close(lock)


def _broken_pages(connection: sqlite3.Connection) -> list[str]:
    try:
        rows = connection.execute(f"pragma integrity_check({_MAX_FAULTS})").fetchall()
    except sqlite3.DatabaseError as exc:
        return [str(exc)]
    return [str(row[0]) for row in rows if row[0] != "ok"]


def _broken_words(connection: sqlite3.Connection) -> list[str]:
    try:
        connection.execute("insert into words (words, rank) values ('integrity-check', 1)")
    except sqlite3.DatabaseError as exc:
        return [f"the index of words does not match the chunks ({exc})"]
    return []


def _missing_rows(connection: sqlite3.Connection) -> list[str]:
    counts = {
        fault: connection.execute(f"select count(*) from {rows}").fetchone()[0]
        for fault, rows in _COUNTED.items()
    }
    counts["rows that do not match their checksums"] = sqlite_rows.broken_rows(connection)
    return [f"{count} {fault}" for fault, count in counts.items() if count]


def _broken_vectors(connection: sqlite3.Connection, identity: Identity) -> list[str]:
    (wrong,) = connection.execute(
        "select count(*) from vector where length(value) != ?", (4 * identity.dimensions,)
    ).fetchone()
    if wrong:
        return [f"{wrong} vectors of another length than {identity.dimensions}"]
    broken = sum(
        int(np.count_nonzero(~(np.abs(np.einsum("ij,ij->i", vectors, vectors) - 1) < 0.02)))
        for _, vectors in sqlite_rows.vectors(connection, 0, 2**62)
    )
    return [f"{broken} vectors that are not of length 1"] if broken else []
