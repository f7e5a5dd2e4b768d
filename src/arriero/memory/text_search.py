"""Search by words: BM25 over few enough rows to be quick, whatever the query.

1. Terms are ordered by the number of chunks that hold them.
2. The rarest are looked up, as many as stay below a budget of chunks; the second rarest in any case, unless
   it is far above. A common word hardly moves a score, but costs most: FTS5 walks through all its chunks.
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

ROW_BUDGET = 2500
"""Chunks that are scored for one query; under 1 µs each."""
_MOST_COUNTED = 3 * ROW_BUDGET
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
            "select count(*) from (select 1 from words where words match ? limit ?)", (term, _MOST_COUNTED)
        ).fetchone()
    return counts[term]


def search(
    connection: sqlite3.Connection, counts: WordCounts, query: str, *, limit: int, where: Filter | None
) -> dict[int, float]:
    """Return the numbers of the best chunks and their scores; higher is better."""
    held = counts.of(connection, terms(query)[:_MAX_COUNTED])
    expression = match_expression(held)
    if expression is None or limit < 1:
        return {}
    if where is None:
        rows = connection.execute(
            "select rowid, rank from words where words match ? order by rank limit ?", (expression, limit)
        )
    else:
        passes, values = condition(where)
        rows = connection.execute(
            "select w.rowid, bm25(words) as score from words w"
            " join chunk c on c.number = w.rowid join document d on d.number = c.document"
            f" where words match ? and {passes} order by score limit ?",
            (expression, *values, limit),
        )
    return {number: -score for number, score in rows}


def match_expression(counts: dict[str, int]) -> str | None:
    """Return what FTS5 shall match, given how many chunks hold each term; None for nothing."""
    rising = sorted((term for term, count in counts.items() if count), key=lambda term: counts[term])
    rising = rising[:MAX_TERMS]
    if not rising:
        return None
    chosen, rows = [rising[0]], counts[rising[0]]
    for place, term in enumerate(rising[1:]):
        rows += counts[term]
        is_second = place == 0 and counts[term] < _MOST_COUNTED
        if rows > ROW_BUDGET and not is_second:
            break
        chosen.append(term)
    return " OR ".join(chosen)
