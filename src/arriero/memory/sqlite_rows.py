"""Documents, chunks and vectors as rows: functions over one connection, within the caller's transaction."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from arriero.memory.filter_sql import condition, typed
from arriero.memory.records import Chunk, Document, Hit
from arriero.memory.sqlite_errors import BrokenRow
from arriero.memory.sqlite_schema import stored_text
from arriero.memory.words import grams

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from arriero.memory.document_cache import DocumentCache
    from arriero.memory.filters import Filter

DOCUMENT = (
    "d.name, d.digest, d.recipe, d.title, d.media_type, d.size, d.created_at, d.num_chunks, d.num_tokens,"
    " d.attributes, d.checksum"
)
CHUNK = "c.ordinal, c.text, c.start, c.stop, c.num_tokens, c.page, c.section, c.checksum"
_TEXT = "cast(? as text)"


def next_number(connection: sqlite3.Connection) -> int:
    """Return the number of the next chunk. Numbers grow and never come twice."""
    row = connection.execute("select seq from sqlite_sequence where name = 'chunk'").fetchone()
    return int(row[0]) + 1 if row else 1


def insert(
    connection: sqlite3.Connection,
    document: Document,
    chunks: Sequence[Chunk],
    vectors: NDArray[np.float32],
    *,
    first: int,
) -> None:
    """Insert a document whose chunks get the numbers from `first`."""
    number = _insert_document(connection, document, len(chunks))
    numbers = range(first, first + len(chunks))
    connection.executemany(
        f"insert into chunk values (?, ?, ?, {_TEXT}, {_TEXT}, ?, ?, ?, ?, {_TEXT}, ?)",
        [
            _chunk_row(chunk_number, number, chunk)
            for chunk_number, chunk in zip(numbers, chunks, strict=True)
        ],
    )
    connection.executemany(
        "insert into vector values (?, ?)",
        zip(numbers, (vector.tobytes() for vector in vectors), strict=True),
    )
    connection.execute(
        "insert into words (rowid, text, grams) select number, text, grams from chunk where document = ?",
        (number,),
    )


def _chunk_row(number: int, document: int, chunk: Chunk) -> tuple[object, ...]:
    place = (int(chunk.start), int(chunk.end), int(chunk.num_tokens), chunk.page)
    section = json.dumps(chunk.section)
    return (
        number,
        document,
        int(chunk.ordinal),
        stored_text(chunk.text),
        stored_text(grams(chunk.text)),
        *place,
        stored_text(section),
        _checksum((int(chunk.ordinal), *place, section), chunk.text),
    )


def _insert_document(connection: sqlite3.Connection, document: Document, num_chunks: int) -> int:
    texts = (document.name, document.digest, document.recipe, document.title, document.media_type)
    facts = (
        int(document.size),
        float(document.created_at),
        num_chunks,
        int(document.num_tokens),
        json.dumps(dict(document.attributes)),
    )
    number = connection.execute(
        f"insert into document values (null, ?, {', '.join([_TEXT] * 5)}, ?, ?, ?, ?, ?, ?)",
        (document.id, *map(stored_text, texts), *facts, _checksum((*texts, *facts))),
    ).lastrowid
    assert number is not None
    for key, value in document.attributes.items():
        kind, bound = typed(value)
        connection.execute(
            f"insert into attribute values (?, {_TEXT}, ?, {_TEXT if kind == 'text' else '?'})",
            (number, stored_text(key), kind, bound),
        )
    return number


def remove(connection: sqlite3.Connection, document_id: str) -> list[int] | None:
    """Remove a document; return the numbers of its chunks, None when there is no such document."""
    row = connection.execute("select number from document where id = ?", (document_id,)).fetchone()
    if row is None:
        return None
    numbers = [n for (n,) in connection.execute("select number from chunk where document = ?", row)]
    connection.execute(
        "insert into words (words, rowid, text, grams)"
        " select 'delete', number, text, grams from chunk where document = ?",
        row,
    )
    connection.execute(
        "delete from vector where number in (select number from chunk where document = ?)", row
    )
    connection.execute("delete from chunk where document = ?", row)
    connection.execute("delete from attribute where document = ?", row)
    connection.execute("delete from document where number = ?", row)
    return numbers


def remove_all(connection: sqlite3.Connection) -> int:
    """Remove everything; return the number of documents."""
    (count,) = connection.execute("select count(*) from document").fetchone()
    connection.execute("insert into words (words) values ('delete-all')")
    for table in ("vector", "chunk", "attribute", "document"):
        connection.execute(f"delete from {table}")
    return int(count)


def document(connection: sqlite3.Connection, document_id: str) -> Document | None:
    """Return the document of this id."""
    row = connection.execute(f"select {DOCUMENT} from document d where id = ?", (document_id,)).fetchone()
    return _document(row) if row else None


def documents(
    connection: sqlite3.Connection, after: str | None, limit: int, where: Filter | None
) -> list[Document]:
    """Return documents in the order of their ids."""
    matches, values = condition(where)
    rows = connection.execute(
        f"select {DOCUMENT} from document d where d.id > ? and {matches} order by d.id limit ?",
        (after or "", *values, max(limit, 0)),
    )
    return [_document(row) for row in rows]


def chunks(connection: sqlite3.Connection, document_id: str, first: int, last: int | None) -> list[Chunk]:
    """Return the chunks of a document from one ordinal up to and with another."""
    rows = connection.execute(
        f"select {CHUNK} from chunk c join document d on d.number = c.document"
        " where d.id = ? and c.ordinal between ? and ? order by c.ordinal",
        (document_id, first, 2**62 if last is None else last),
    )
    return [_chunk(row) for row in rows]


def chunks_with_vectors(connection: sqlite3.Connection, document_id: str) -> Iterator[tuple[Chunk, bytes]]:
    """Yield the chunks of a document in order, with their float32 vectors."""
    rows = connection.execute(
        f"select v.value, {CHUNK} from document d join chunk c on c.document = d.number"
        " join vector v on v.number = c.number where d.id = ? order by c.ordinal",
        (document_id,),
    )
    return ((_chunk(row[1:]), row[0]) for row in rows)


def numbered_chunks(connection: sqlite3.Connection, *, after: int, limit: int) -> list[tuple[int, Chunk]]:
    """Return chunks with numbers above `after`, in the order of the numbers."""
    rows = connection.execute(
        f"select c.number, {CHUNK} from chunk c where c.number > ? order by c.number limit ?", (after, limit)
    )
    return [(row[0], _chunk(row[1:])) for row in rows]


def hits(connection: sqlite3.Connection, documents: DocumentCache, scores: Mapping[int, float]) -> list[Hit]:
    """Return the chunks of these numbers with their scores, best first; equal scores: oldest first."""
    rows = connection.execute(
        f"select c.number, c.document, {CHUNK} from json_each(?) j cross join chunk c on c.number = j.value",
        (json.dumps(sorted(scores, key=lambda number: (-scores[number], number))),),
    ).fetchall()
    named = documents.of(connection, [row[1] for row in rows])
    return [Hit(named[row[1]], _chunk(row[2:]), scores[row[0]]) for row in rows if row[1] in named]


def documents_of(connection: sqlite3.Connection, numbers: Collection[int]) -> dict[int, Document]:
    """Return the documents whose rows have these numbers, by number."""
    rows = connection.execute(
        f"select d.number, {DOCUMENT} from json_each(?) j cross join document d on d.number = j.value",
        (json.dumps(list(numbers)),),
    )
    return {row[0]: _document(row[1:]) for row in rows}


def broken_rows(connection: sqlite3.Connection) -> int:
    """Return how many documents and chunks do not match their checksums."""
    documents = connection.execute(f"select {DOCUMENT} from document d")
    chunks = connection.execute(f"select {CHUNK} from chunk c")
    hurt_documents: int = sum(_checksum(row[:-1]) != row[-1] for row in documents)
    hurt_chunks: int = sum(_chunk_checksum(row) != row[-1] for row in chunks)
    return hurt_documents + hurt_chunks


def vectors(
    connection: sqlite3.Connection, after: int, upto: int, *, block: int = 1000
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Yield numbers and vectors with after < number <= upto in blocks, in the order of the numbers."""
    cursor = connection.execute(
        "select number, value from vector where number > ? and number <= ? order by number", (after, upto)
    )
    while rows := cursor.fetchmany(block):
        yield matrix(rows)


def matrix(rows: Sequence[tuple[int, bytes]]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return rows of number and vector as two arrays."""
    numbers = np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows))
    values = np.frombuffer(b"".join(row[1] for row in rows), dtype=np.float32)
    return numbers, values.reshape(len(rows), -1)


def _document(row: Sequence[Any]) -> Document:
    _verify(_checksum(row[:-1]), row[-1])
    return Document(
        name=row[0],
        digest=row[1],
        recipe=row[2],
        title=row[3],
        media_type=row[4],
        size=row[5],
        created_at=row[6],
        num_chunks=row[7],
        num_tokens=row[8],
        attributes=json.loads(row[9]),
    )


def _chunk(row: Sequence[Any]) -> Chunk:
    _verify(_chunk_checksum(row), row[-1])
    return Chunk(
        ordinal=row[0],
        text=row[1],
        start=row[2],
        end=row[3],
        num_tokens=row[4],
        page=row[5],
        section=() if row[6] == "[]" else tuple(json.loads(row[6])),
    )


def _verify(found: int, stored: int) -> None:
    if found != stored:
        raise BrokenRow("a row does not match its checksum")


def _chunk_checksum(row: Sequence[Any]) -> int:
    return _checksum((row[0], *row[2:-1]), row[1])


def _checksum(values: Sequence[object], text: str = "") -> int:
    """Return the checksum of a row whose long text comes apart, since its repr is slow."""
    facts = repr(tuple(values)).encode("utf-8", "backslashreplace")
    return zlib.crc32(stored_text(text), zlib.crc32(facts))
