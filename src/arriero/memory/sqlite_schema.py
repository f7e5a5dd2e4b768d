"""The tables of a memory's file, and the checks that a file is one of ours.

meta        key -> value: whose vectors, and which snapshot of the graph belongs to them
document    one row for each document
attribute   what documents are filtered by, one row for each attribute
chunk       text and place; numbers only grow and are never given twice
vector      float32, little-endian, under the chunk's number
words       FTS5 over chunk.text and chunk.grams (the latter for scripts without blanks)
"""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from arriero.errors import ConfigError
from arriero.memory.records import Identity
from arriero.memory.sqlite_errors import damaged

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APPLICATION_ID = 0x41525231
"""In the header of each file: "ARR1"."""
VERSION = 1

_TABLES = """
create table meta (key text primary key, value) without rowid;
create table document (
    number integer primary key autoincrement, id text not null unique, name text not null,
    digest text not null, recipe text not null, title text not null, media_type text not null,
    size integer not null, created_at real not null, num_chunks integer not null,
    num_tokens integer not null, attributes text not null, checksum integer not null
);
create table attribute (
    document integer not null, key text not null, kind text not null, value not null,
    primary key (document, key)
) without rowid;
create index attribute_value on attribute (key, kind, value);
create table chunk (
    number integer primary key autoincrement, document integer not null, ordinal integer not null,
    text text not null, grams text not null, start integer not null, stop integer not null,
    num_tokens integer not null, page integer, section text not null, checksum integer not null
);
create unique index chunk_place on chunk (document, ordinal);
create table vector (number integer primary key, value blob not null);
create virtual table words using fts5 (
    text, grams, content = 'chunk', content_rowid = 'number', tokenize = 'porter unicode61'
);
create virtual table word_counts using fts5vocab (words, 'row');
"""


def connect(path: Path | None, *, read_only: bool = False) -> sqlite3.Connection:
    """Return a connection that may be used from any thread, by one at a time."""
    if path is not None and not read_only:
        make_private(path)
    mode = "ro" if read_only else "rwc"
    target = ":memory:" if path is None else f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(target, uri=True, isolation_level=None, check_same_thread=False, timeout=30)
    connection.text_factory = _text
    connection.execute("pragma cache_size = -16000")
    connection.execute("pragma temp_store = memory")
    connection.execute("pragma secure_delete = fast")
    connection.execute("pragma cell_size_check = on")
    return connection


def make_private(path: Path) -> None:
    """Make a file for its owner alone, unless there is one. SQLite gives its log the same rights.

    A file that is there is never opened: closing it would let go of SQLite's locks on it.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))


def stored_text(text: str) -> bytes:
    """Return text for a `cast(? as text)`: names of files may hold what UTF-8 does not know."""
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        # The row's checksum will tell.
        return data.decode("utf-8", "replace")


def prepare(connection: sqlite3.Connection, path: Path | None, identity: Identity) -> None:
    """Make the tables in a new file; refuse a file that is not ours or holds other vectors."""
    if _is_empty(connection):
        _create(connection, identity)
    check_file(connection, path)
    held = held_identity(connection, path)
    if held != identity:
        raise ConfigError(
            f"{path or 'the memory'}: holds vectors of {_named(held)}, but the configuration says "
            f"{_named(identity)}; go back to the former, or run `arriero memory reindex`"
        )
    # FULL: a commit returns when its part of the log is on the disk.
    connection.execute("pragma synchronous = full")
    connection.execute("pragma journal_size_limit = 67108864")


def check_file(connection: sqlite3.Connection, path: Path | None) -> None:
    """Raise unless the file is a memory of a version that this program knows."""
    (application,) = connection.execute("pragma application_id").fetchone()
    (version,) = connection.execute("pragma user_version").fetchone()
    if application != APPLICATION_ID:
        raise ConfigError(f"{path}: an SQLite file, but not a memory; name another file")
    if version > VERSION:
        raise ConfigError(f"{path}: written by a newer version (format {version}); upgrade to open it")


def held_identity(connection: sqlite3.Connection, path: Path | None) -> Identity:
    """Return whose vectors the file holds."""
    values = dict(connection.execute("select key, value from meta where key in ('embedder', 'dimensions')"))
    try:
        return Identity(embedder=str(values["embedder"]), dimensions=int(values["dimensions"]))
    except (KeyError, ValueError) as exc:
        raise damaged(path, "it does not say whose vectors it holds") from exc


def _is_empty(connection: sqlite3.Connection) -> bool:
    (tables,) = connection.execute("select count(*) from sqlite_master").fetchone()
    (application,) = connection.execute("pragma application_id").fetchone()
    return bool(tables == 0 and application == 0)


def _create(connection: sqlite3.Connection, identity: Identity) -> None:
    connection.execute("pragma page_size = 8192")
    connection.execute("pragma auto_vacuum = incremental")
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")
    with transaction(connection):
        for statement in filter(str.strip, _TABLES.split(";\n")):
            connection.execute(statement)
        connection.executemany(
            "insert into meta values (?, ?)",
            [("embedder", identity.embedder), ("dimensions", identity.dimensions)],
        )
        connection.execute(f"pragma application_id = {APPLICATION_ID}")
        connection.execute(f"pragma user_version = {VERSION}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Keep all that the block writes, on the disk when this returns, or nothing of it."""
    connection.execute("begin immediate")
    try:
        yield
        connection.execute("commit")
    except BaseException:
        # After some errors SQLite has rolled back by itself.
        if connection.in_transaction:
            connection.execute("rollback")
        raise


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Let every statement of the block see the database of this moment."""
    connection.execute("begin")
    try:
        # SQLite chooses the moment with the first read.
        connection.execute("select 1 from meta limit 1").fetchone()
        yield
    finally:
        connection.execute("commit")


def _named(identity: Identity) -> str:
    return f'"{identity.embedder}" ({identity.dimensions} dimensions)'


assert sys.byteorder == "little", "vectors are stored little-endian"
