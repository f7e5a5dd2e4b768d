"""Search by words: BM25 over few enough rows to be quick, whatever the query.

1. Terms are ordered by the number of chunks that hold them, as far as they are counted.
2. The rarest are looked up, as many as stay below a budget of chunks; the second rarest in any case, unless
   it is common. A common word hardly moves a score, but costs most: each chunk that holds it is scored.
3. Only common words: chunks that hold two of them come first, then those with one.
4. In any case only so many chunks are scored; if there are more, the oldest.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from arriero.memory.filter_sql import condition
from arriero.memory.words import terms

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from arriero.memory.filters import Filter

ROW_BUDGET = 1500
"""Chunks that the terms of one query may have together; scoring one takes some 2 µs."""
COMMON = 2 * ROW_BUDGET
"""Chunks up to which a term's are counted, at 0.2 µs each; a term with as many is common."""
_MOST_SCORED = ROW_BUDGET + COMMON
MAX_TERMS = 48
_MAX_COUNTED = 256
_MAX_REMEMBERED = 50_000


class WordCounts:
    """How many chunks hold a term, up to a bound; remembered while the memory hardly grows."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._size = 0

    def of(self, connection: sqlite3.Connection, sought: Sequence[str]) -> dict[str, int]:
        """Return the counts of these terms."""
        (size,) = connection.execute("select coalesce(max(number), 0) from chunk").fetchone()
        with self._lock:
            if abs(size - self._size) > self._size // 10 or len(self._counts) > _MAX_REMEMBERED:
                self._counts, self._size = {}, size
            counts = self._counts
        return {term: _count(connection, term, counts) for term in sought}


def _count(connection: sqlite3.Connection, term: str, counts: dict[str, int]) -> int:
    if term not in counts:
        (counts[term],) = connection.execute(
            "select count(*) from (select 1 from words where words match ? limit ?)", (term, COMMON)
        ).fetchone()
    return counts[term]


def search(
    connection: sqlite3.Connection, counts: WordCounts, query: str, *, limit: int, where: Filter | None
) -> dict[int, float]:
    """Return the numbers of the best chunks and their scores; higher is better."""
    held = counts.of(connection, terms(query)[:_MAX_COUNTED])
    found: dict[int, float] = {}
    for expression in match_expressions(held):
        if len(found) < limit:
            found = _scored(connection, expression, limit, where) | found
    return dict(sorted(found.items(), key=lambda item: -item[1])[: max(limit, 0)])


def _scored(
    connection: sqlite3.Connection, expression: str, limit: int, where: Filter | None
) -> dict[int, float]:
    passes, values = condition(where)
    owners = "join chunk c on c.number = w.rowid join document d on d.number = c.document"
    # The bound is inside: bm25 is only called for what it lets through.
    rows = connection.execute(
        "select number, score from (select w.rowid as number, bm25(words) as score from words w"
        f" {owners if where else ''} where words match ? and {passes} limit ?) order by score limit ?",
        (expression, *values, _MOST_SCORED, limit),
    )
    return {number: -score for number, score in rows}


def match_expressions(counts: dict[str, int]) -> list[str]:
    """Return what FTS5 shall match, given how many chunks hold each term; the next if that is too little."""
    rising = sorted((term for term, count in counts.items() if count), key=lambda term: counts[term])
    rising = rising[:MAX_TERMS]
    if not rising:
        return []
    if counts[rising[0]] >= COMMON:
        return [" AND ".join(rising[:2]), rising[0]][len(rising) == 1 :]
    chosen, rows = [rising[0]], counts[rising[0]]
    for place, term in enumerate(rising[1:]):
        rows += counts[term]
        is_second = place == 0 and counts[term] < COMMON
        if rows > ROW_BUDGET and not is_second:
            break
        chosen.append(term)
    return [" OR ".join(chosen)]
