"""The chunks whose vectors are most alike, under a filter: candidates of the index, judged by the database.

1. A filter that few chunks pass: these are compared one by one.
2. Else candidates of the index, more than asked for; what is deleted or does not pass falls out.
3. Too few are left, or most were deleted, so that they stood in the way: again with four times as many, until
   it is enough or there are no more.
Scores come from the stored float32 vectors alone.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from arriero.memory import sqlite_rows
from arriero.memory.exact import best, cosines
from arriero.memory.filter_sql import condition
from arriero.memory.sqlite_schema import snapshot

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from arriero.memory.document_cache import DocumentCache
    from arriero.memory.filters import Filter
    from arriero.memory.records import Hit
    from arriero.memory.vector_index import Candidates, VectorIndex

    Block = tuple[NDArray[np.int64], NDArray[np.float32]]

_FEW = 500
"""Chunks that are compared one by one without a thought: some 2 ms."""
_MORE = 4
"""Candidates above those wanted: for those that are rounded apart in the graph, and those that vanish."""
_RETRIES = 10
_SORTED = 64
"""Scores that Python sorts faster than numpy picks."""


class _Found(NamedTuple):
    hits: list[Hit]
    mostly_vanished: bool


def nearest(
    connection: sqlite3.Connection,
    index: VectorIndex,
    documents: DocumentCache,
    vector: NDArray[np.float32],
    *,
    limit: int,
    where: Filter | None,
) -> list[Hit]:
    """Return the most alike chunks of the documents that pass, best first."""
    passing, total = _sizes(connection, where)
    ask = (limit + _MORE) * max(1, total // max(1, passing))
    retries = _RETRIES
    while limit > 0 and passing:
        forgotten = index.forgotten
        # First the database's moment, then the index, which holds all that was alive in it.
        with snapshot(connection):
            candidates = index.candidates(vector, ask)
            if where is not None and (candidates.unread or passing <= max(_FEW, ask)):
                return _exact(connection, documents, vector, limit, where)
            found = _judged(connection, documents, candidates, vector, limit, where)
        if index.forgotten != forgotten and retries:
            retries -= 1
        elif candidates.is_all or (len(found.hits) >= limit and not found.mostly_vanished):
            return found.hits
        else:
            ask *= 4
    return []


def _sizes(connection: sqlite3.Connection, where: Filter | None) -> tuple[int, int]:
    """Return how many chunks pass the filter, and how many there are."""
    if where is None:
        return 1, 1
    passes, values = condition(where)
    row = connection.execute(
        f"select coalesce(sum(d.num_chunks) filter (where {passes}), 0), coalesce(sum(d.num_chunks), 0)"
        " from document d",
        values,
    ).fetchone()
    return int(row[0]), int(row[1])


def _judged(
    connection: sqlite3.Connection,
    documents: DocumentCache,
    candidates: Candidates,
    vector: NDArray[np.float32],
    limit: int,
    where: Filter | None,
) -> _Found:
    passes, values = condition(where)
    owners = "join chunk c on c.number = v.number join document d on d.number = c.document"
    rows = connection.execute(
        f"select v.number, v.value, {passes}"
        f" from json_each(?) j cross join vector v on v.number = j.value {owners if where else ''}",
        (*values, json.dumps(candidates.numbers)),
    ).fetchall()
    passing = [row[:2] for row in rows if row[2]]
    blocks = [sqlite_rows.matrix(passing)] if passing else []
    unread = sqlite_rows.vectors(connection, 0, candidates.unread) if candidates.unread else ()
    scores = _best(_chained(blocks, unread), vector, limit)
    hits = sqlite_rows.hits(connection, documents, scores)
    return _Found(hits, 2 * len(rows) < len(candidates.numbers))


def _exact(
    connection: sqlite3.Connection,
    documents: DocumentCache,
    vector: NDArray[np.float32],
    limit: int,
    where: Filter,
) -> list[Hit]:
    scores = _best(_passing_blocks(connection, where), vector, limit)
    return sqlite_rows.hits(connection, documents, scores)


def _passing_blocks(connection: sqlite3.Connection, where: Filter) -> Iterable[Block]:
    passes, values = condition(where)
    cursor = connection.execute(
        "select v.number, v.value from document d join chunk c on c.document = d.number"
        f" join vector v on v.number = c.number where {passes}",
        values,
    )
    while rows := cursor.fetchmany(1000):
        yield sqlite_rows.matrix(rows)


def _chained(first: Iterable[Block], second: Iterable[Block]) -> Iterable[Block]:
    yield from first
    yield from second


def _best(blocks: Iterable[Block], vector: NDArray[np.float32], limit: int) -> dict[int, float]:
    found: list[tuple[float, int]] = []
    for numbers, vectors in blocks:
        scores = cosines(vectors, vector)
        if len(scores) > _SORTED:
            numbers, scores = best(numbers, scores, limit)
        found = sorted([*found, *zip((-scores).tolist(), numbers.tolist(), strict=True)])[:limit]
    return {number: -distance for distance, number in found}
