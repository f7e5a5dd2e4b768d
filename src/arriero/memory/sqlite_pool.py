"""The connections of one memory's file: one that writes, some that read, and the lock of the file.

A file has one writing process; the operating system frees the lock when its holder dies. Without a file
there is one connection for all, since such a database cannot be shared.
"""

from __future__ import annotations

import fcntl
import os
import queue
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from arriero.errors import ConfigError, Unavailable, WriteFailed
from arriero.memory.poly_index import is_poly_index
from arriero.memory.sqlite_errors import damaged, translated
from arriero.memory.sqlite_schema import connect, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from arriero.memory.records import Identity

_SMALLEST = 512
"""Bytes of the smallest page, so of the smallest database."""


class Pool:
    """Owns the connections; lends each to one thread at a time."""

    def __init__(self, path: Path | None, identity: Identity, *, readers: int) -> None:
        self._path = path
        self._identity = identity
        # The last that came back is lent first: its pages and statements are warm.
        self._idle: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._readers = readers
        self._lock = None if path is None else hold(path)
        try:
            with translated(path):
                if path is not None:
                    _check_beginning(path)
                self._writer = self._opened()
                for _ in range(readers if path else 0):
                    self._idle.put(self._reader())
                if path is None:
                    self._idle.put(self._writer)
        except BaseException:
            self._release()
            raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Borrow a connection to read with; blocks while all are lent."""
        connection = self._idle.get()
        try:
            with translated(self._path):
                yield connection
        finally:
            self._idle.put(connection)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Borrow the connection that writes; for the one thread that does."""
        if self._path is None:
            with self.reading() as connection:
                yield connection
            return
        try:
            with translated(self._path):
                yield self._writer
        except WriteFailed:
            # What a failed fsync left is unknown: nothing of this connection is trusted again.
            self._reopen()
            raise

    def close(self) -> None:
        """Close every connection; the log is merged into the file and removed. Blocks while one is lent."""
        with translated(self._path):
            for _ in range(self._readers if self._path else 0):
                self._idle.get().close()
            self._writer.close()
        self._release()

    def _opened(self) -> sqlite3.Connection:
        connection = connect(self._path)
        try:
            prepare(connection, self._path, self._identity)
        except BaseException:
            connection.close()
            raise
        return connection

    def _reader(self) -> sqlite3.Connection:
        connection = connect(self._path)
        connection.execute("pragma query_only = on")
        return connection

    def _reopen(self) -> None:
        self._writer.close()
        with translated(self._path):
            self._writer = self._opened()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _check_beginning(path: Path) -> None:
    """Raise ConfigError for an index of Poly, Damaged for what SQLite would take for an empty database.

    To be called before this process opens the file as a database: closing a file lets go of its locks.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        beginning = file.read(_SMALLEST)
    if is_poly_index(beginning):
        raise ConfigError(
            f"{path}: an index file of Poly (Hora), and its vectors cannot be read here; name another path, "
            "and ingest the documents again. The file is left as it is"
        )
    if 0 < len(beginning) < _SMALLEST:
        raise damaged(path, "not an SQLite database")


def hold(path: Path) -> int:
    """Take the lock of a memory's file, whose folders are made; return what holds it until it is closed."""
    with translated(path):
        make_folders(path.parent)
        descriptor = os.open(beside(path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(descriptor)
        raise Unavailable(f"{path}: another process has this memory open; stop it first") from exc
    return descriptor


def beside(path: Path, kind: str) -> Path:
    """Return the file of a kind that belongs to a memory's file."""
    return path.with_name(f"{path.name}.{kind}")


def make_folders(folder: Path) -> None:
    """Make a folder and those above it, on the disk when this returns."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
