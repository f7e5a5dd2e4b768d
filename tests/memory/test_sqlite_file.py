"""A small durable file: all of a transaction or nothing, and nothing stays open after a failure."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from arriero.errors import DiskFull, Unavailable
from arriero.memory.sqlite_file import SqliteFile

TABLES = """
create table if not exists parent (id integer primary key);
create table if not exists child (parent integer references parent (id) deferrable initially deferred);
create table if not exists data (value blob);
"""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SqliteFile]:
    """An empty file."""
    file = SqliteFile(tmp_path / "a.db", TABLES)
    yield file
    file.close()


def count(file: SqliteFile) -> int:
    """Return the number of rows of data."""
    with file.transaction() as connection:
        return int(connection.execute("select count(*) from data").fetchone()[0])


def test_it_is_for_its_owner_alone(file: SqliteFile, tmp_path: Path) -> None:
    """Nobody else on the machine may read it, nor the log beside it."""
    count(file)

    assert {one.name: one.stat().st_mode & 0o077 for one in tmp_path.iterdir()} == {
        "a.db": 0,
        "a.db-shm": 0,
        "a.db-wal": 0,
    }


def test_nothing_of_a_failed_block_is_kept(file: SqliteFile) -> None:
    """What was written before the error goes, and the next transaction begins anew."""

    def fail() -> None:
        with file.transaction() as connection:
            connection.execute("insert into data values (x'00')")
            raise KeyError

    with pytest.raises(KeyError):
        fail()

    assert count(file) == 0


def test_a_full_disk_is_told_as_one(file: SqliteFile) -> None:
    """Although SQLite has ended the transaction by itself; what is small is written afterwards."""
    with file.transaction() as connection:
        connection.execute("pragma max_page_count = 20")

    with pytest.raises(DiskFull, match=r"a\.db: the disk is full"), file.transaction() as connection:
        connection.execute("insert into data values (zeroblob(1000000))")

    with file.transaction() as connection:
        connection.execute("insert into data values (x'00')")
    assert count(file) == 1


def test_a_failed_commit_leaves_no_transaction_open(file: SqliteFile) -> None:
    """The next one begins as ever."""
    with file.transaction() as connection:
        assert isinstance(connection, sqlite3.Connection)
    connection.execute("pragma foreign_keys = on")

    with pytest.raises((Unavailable, sqlite3.IntegrityError)), file.transaction() as connection:
        connection.execute("insert into child values (1)")

    assert count(file) == 0


def test_what_was_kept_is_on_the_disk(file: SqliteFile) -> None:
    """Each commit is synced, log and all: 2 is what SQLite calls full."""
    with file.transaction() as connection:
        settings = [
            connection.execute(f"pragma {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
        ]

    assert settings == ["wal", 2]


def test_a_closed_file_takes_nothing(file: SqliteFile) -> None:
    """Writing to it is a fault of ours; closing it twice is none."""
    file.close()

    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        count(file)
