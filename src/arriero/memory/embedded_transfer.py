"""A memory as lines of JSON, to keep and to carry: documents, chunks and vectors.

{"arriero_memory": 1, "identity": {...}}
{"document": {...}}          then its chunks:
{"chunk": {...}, "vector": "base64 of float32, little-endian"}
{"end": {"documents": 2, "chunks": 31}}
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import IO, TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np

from arriero.errors import ConfigError, InvalidRequest
from arriero.memory import sqlite_rows
from arriero.memory.records import Chunk, Counts, Document, Identity
from arriero.memory.sqlite_errors import translated
from arriero.memory.sqlite_schema import check_file, connect, held_identity, snapshot

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from arriero.memory.store import Store

Kind = TypeVar("Kind")

FORMAT = 1
_MAX_LINE = 64 * 2**20


def exported(path: Path) -> Iterator[str]:
    """Yield the lines of a memory as it is at this moment; a server may have it open and write to it."""
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such memory")
    with translated(path):
        connection = connect(path, read_only=True)
        try:
            check_file(connection, path)
            with snapshot(connection):
                yield from _lines(connection, held_identity(connection, path))
        finally:
            connection.close()


def header(line: str) -> Identity:
    """Return whose vectors an export holds, from its first line."""
    value = _value(line, 1)
    if value.get("arriero_memory") != FORMAT:
        raise InvalidRequest('line 1: not an export of a memory (no "arriero_memory": 1)')
    return _converted(value.get("identity"), Identity, 1)


async def imported(lines: Iterable[str], store: Store) -> Counts:
    """Store the documents of an export, each in place of the one of its name; return how many there were.

    What comes before a faulty line is stored. Raises InvalidRequest that names the line.
    """
    reader = _Reader(store.identity)
    for number, line in enumerate(lines, start=1):
        if done := reader.feed(line, number):
            await _store(done, store, number)
    if not reader.has_ended:
        raise InvalidRequest(f"the export is cut off after {reader.documents} documents")
    return Counts(documents=reader.documents, chunks=reader.chunks, bytes=0)


def read_lines(file: IO[str]) -> Iterator[str]:
    """Yield the lines of a file; a line without an end is refused before it fills the memory."""
    while line := _read_line(file):
        if len(line) > _MAX_LINE:
            raise InvalidRequest(f"not an export of a memory: a line of more than {_MAX_LINE} characters")
        yield line


async def _store(done: _Gathered, store: Store, number: int) -> None:
    vectors = np.frombuffer(b"".join(done.vectors), dtype="<f4")
    try:
        await store.replace(
            done.document, done.chunks, vectors.reshape(len(done.chunks), store.identity.dimensions)
        )
    except ValueError as exc:
        raise InvalidRequest(f"line {number}: the document before it: {exc}") from exc


def _read_line(file: IO[str]) -> str:
    try:
        return file.readline(_MAX_LINE + 1)
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"not an export of a memory: {exc}") from exc


class _Gathered:
    """A document and the chunks of it that came."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.chunks: list[Chunk] = []
        self.vectors: list[bytes] = []


class _Reader:
    """Lines in, whole documents out."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._gathered: _Gathered | None = None
        self.documents = 0
        self.chunks = 0
        self.has_ended = False

    def feed(self, line: str, number: int) -> _Gathered | None:
        """Take a line; return the document that it completes."""
        if number == 1:
            self._begin(line)
            return None
        value = _value(line, number)
        if self.has_ended:
            raise InvalidRequest(f"line {number}: behind the end of the export")
        if "chunk" in value:
            self._take_chunk(value, number)
            return None
        if "document" in value:
            done = self._completed(number)
            self._gathered = _Gathered(_converted(value["document"], Document, number))
            return done
        if "end" in value:
            done = self._completed(number)
            self.has_ended = True
            return done
        raise InvalidRequest(f"line {number}: neither a document nor a chunk")

    def _begin(self, line: str) -> None:
        identity = header(line)
        if identity != self._identity:
            raise InvalidRequest(
                f"line 1: the export holds vectors of {identity.embedder} ({identity.dimensions}), "
                f"the memory those of {self._identity.embedder} ({self._identity.dimensions})"
            )

    def _take_chunk(self, value: dict[str, Any], number: int) -> None:
        if self._gathered is None:
            raise InvalidRequest(f"line {number}: a chunk before any document")
        try:
            vector = base64.b64decode(value.get("vector", ""), validate=True)
        except (binascii.Error, TypeError, ValueError) as exc:
            raise InvalidRequest(f"line {number}: vector: not base64") from exc
        if len(vector) != 4 * self._identity.dimensions:
            raise InvalidRequest(f"line {number}: vector: not of {self._identity.dimensions} dimensions")
        self._gathered.chunks.append(_converted(value["chunk"], Chunk, number))
        self._gathered.vectors.append(vector)

    def _completed(self, number: int) -> _Gathered | None:
        done = self._gathered
        if done is None:
            return None
        if len(done.chunks) != done.document.num_chunks:
            raise InvalidRequest(
                f"line {number}: the document before it has {len(done.chunks)} chunks, "
                f"but says {done.document.num_chunks}"
            )
        self.documents += 1
        self.chunks += len(done.chunks)
        self._gathered = None
        return done


def _lines(connection: sqlite3.Connection, identity: Identity) -> Iterator[str]:
    yield _line({"arriero_memory": FORMAT, "identity": identity})
    documents = chunks = 0
    after: str | None = None
    while page := sqlite_rows.documents(connection, after, 100, None):
        for document in page:
            yield _line({"document": document})
            for chunk, vector in sqlite_rows.chunks_with_vectors(connection, document.id):
                yield _line({"chunk": chunk, "vector": base64.b64encode(vector).decode()})
                chunks += 1
        documents += len(page)
        after = page[-1].id
    yield _line({"end": {"documents": documents, "chunks": chunks}})


def _line(value: dict[str, object]) -> str:
    # The json of the standard library also writes text that UTF-8 cannot, as names of files may be.
    return json.dumps(msgspec.to_builtins(value)) + "\n"


def _value(line: str, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise InvalidRequest(f"line {number}: not JSON") from exc
    if not isinstance(value, dict):
        raise InvalidRequest(f"line {number}: not an object")
    return value


def _converted(value: object, kind: type[Kind], number: int) -> Kind:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as exc:
        raise InvalidRequest(f"line {number}: {exc}") from exc
