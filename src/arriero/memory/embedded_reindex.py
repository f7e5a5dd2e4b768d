"""Another embedding model for a memory that is full: every chunk is embedded anew.

New vectors gather beside the old ones, and one transaction puts them in place. Until then the memory is as it
was; what was gathered before an interruption is used again.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from arriero.memory import sqlite_rows
from arriero.memory.embedded import check_vectors
from arriero.memory.embedded_check import alone
from arriero.memory.sqlite_schema import transaction

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from arriero.memory.records import Chunk, Identity

    Embed = Callable[[Sequence[Chunk]], Awaitable[NDArray[np.float32]]]

_BATCH = 128


async def reindex(
    path: Path,
    identity: Identity,
    embed: Embed,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Give every chunk a vector of another model; return the number of chunks.

    embed: chunks to vectors of length 1. progress: chunks done, and of how many. Raises ValueError when
    `embed` returns what is no vector of the identity; what was done until then is kept for the next time.
    """
    with alone(path) as connection:
        await asyncio.to_thread(_begin, connection, identity)
        done, total = _progress(connection)
        progress(done, total)
        while rows := await asyncio.to_thread(_next, connection):
            vectors = np.ascontiguousarray(await embed([chunk for _, chunk in rows]), dtype=np.float32)
            check_vectors(vectors, len(rows), identity.dimensions)
            await asyncio.to_thread(_gather, connection, [number for number, _ in rows], vectors)
            done += len(rows)
            progress(done, total)
        await asyncio.to_thread(_finish, connection, identity)
    return total


def _begin(connection: sqlite3.Connection, identity: Identity) -> None:
    """Go on with what was gathered for the same model, else begin with nothing."""
    wanted = json.dumps(msgspec.to_builtins(identity))
    row = connection.execute("select value from meta where key = 'reindex'").fetchone()
    if row is not None and row[0] == wanted:
        return
    with transaction(connection):
        connection.execute("drop table if exists new_vector")
        connection.execute("create table new_vector (number integer primary key, value blob not null)")
        connection.execute("insert or replace into meta values ('reindex', ?)", (wanted,))


def _progress(connection: sqlite3.Connection) -> tuple[int, int]:
    (total,) = connection.execute("select count(*) from chunk").fetchone()
    (done,) = connection.execute(
        "select count(*) from new_vector where number in (select number from chunk)"
    ).fetchone()
    return done, total


def _next(connection: sqlite3.Connection) -> list[tuple[int, Chunk]]:
    (last,) = connection.execute("select coalesce(max(number), 0) from new_vector").fetchone()
    return sqlite_rows.numbered_chunks(connection, after=last, limit=_BATCH)


def _gather(connection: sqlite3.Connection, numbers: Sequence[int], vectors: NDArray[np.float32]) -> None:
    with transaction(connection):
        connection.executemany(
            "insert into new_vector values (?, ?)",
            zip(numbers, (vector.tobytes() for vector in vectors), strict=True),
        )


def _finish(connection: sqlite3.Connection, identity: Identity) -> None:
    with transaction(connection):
        connection.execute("delete from new_vector where number not in (select number from chunk)")
        connection.execute("drop table vector")
        connection.execute("alter table new_vector rename to vector")
        connection.execute("delete from meta where key in ('graph', 'reindex')")
        connection.executemany(
            "insert or replace into meta values (?, ?)",
            [("embedder", identity.embedder), ("dimensions", identity.dimensions)],
        )
