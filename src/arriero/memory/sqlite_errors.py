"""What went wrong in SQLite, in the words of a store: which file, what it means, what to do.

Tells a full disk and a failed write, after which the connection must not be used again, from a damaged
file. Knows no tables.
"""

from __future__ import annotations

import errno
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from arriero.errors import Damaged, DiskFull, Unavailable, WriteFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PRIMARY = 0xFF
"""The low byte of an extended result code is its kind."""


class BrokenRow(Exception):
    """What was read is not what was written."""


@contextmanager
def translated(path: Path | None) -> Iterator[None]:
    """Turn errors of SQLite and of the file system into Unavailable."""
    name = str(path or "the memory")
    try:
        yield
    except sqlite3.Error as exc:
        raise _translation(exc, name) from exc
    except BrokenRow as exc:
        raise damaged(name, exc) from exc
    except UnicodeDecodeError as exc:  # SQLite names what is wrong in the words of the file
        raise damaged(name, "its tables are not readable") from exc
    except OSError as exc:
        if exc.errno in _FULL:
            raise full(name) from exc
        raise Unavailable(f"{name}: {exc.strerror or exc}") from exc


def full(name: object) -> DiskFull:
    """Return the error of a disk without room."""
    return DiskFull(f"{name}: the disk is full; nothing can be stored until there is room, searching goes on")


def damaged(name: object, detail: object) -> Damaged:
    """Return the error of a file that cannot be trusted."""
    return Damaged(
        f"{name}: damaged ({detail}); `arriero memory check` shows what is hurt. Move the file away and "
        "restore it with `arriero memory import`, or ingest its documents again"
    )


def _translation(exc: sqlite3.Error, name: str) -> Exception:
    extended = getattr(exc, "sqlite_errorcode", None)
    if extended is None:
        return exc  # A misuse by our own code.
    match extended & _PRIMARY:
        case sqlite3.SQLITE_FULL:
            return full(name)
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_ERROR:
            return damaged(name, exc)  # The last: tables that are not ours, or a header that says so.
        case sqlite3.SQLITE_IOERR:
            return WriteFailed(f"{name}: the disk failed ({exc.sqlite_errorname}); try again")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return Unavailable(f"{name}: another process keeps it locked; try again")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return Unavailable(f"{name}: cannot be opened for writing; check the rights of file and folder")
        case sqlite3.SQLITE_NOMEM:
            return Unavailable(f"{name}: out of memory")
        case sqlite3.SQLITE_TOOBIG:
            return ValueError(f"{name}: a value is over SQLite's limit on length")
        case _:
            return exc
