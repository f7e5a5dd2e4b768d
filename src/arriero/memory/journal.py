"""The documents that a memory has taken on and not yet stored, on the disk.

One SQLite file beside the store, or none for a memory without a file. What `add` has returned for is
there after a crash. Failed jobs are kept without their bytes, the newest FAILED_KEPT of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from arriero.memory.job import Job, Source
from arriero.memory.sqlite_errors import translated
from arriero.memory.sqlite_file import SqliteFile
from arriero.memory.sqlite_pool import make_folders

if TYPE_CHECKING:
    from pathlib import Path

FAILED_KEPT = 1000

_TABLES = """
create table if not exists job (
    number integer primary key autoincrement, id text not null unique, about text not null,
    source text not null, data blob not null
);
create table if not exists failed (
    number integer primary key autoincrement, id text not null unique, about text not null
);
"""


class Journal:
    """Owns the file. Every method blocks, raises Unavailable, and may be called from any thread."""

    def __init__(self, path: Path | None) -> None:
        if path is not None:
            with translated(path):
                make_folders(path.parent)
        self._file = SqliteFile(path, _TABLES)

    def add(self, job: Job, source: Source) -> None:
        """Take a job on."""
        about = msgspec.json.encode(msgspec.structs.replace(source, data=b"")).decode()
        with self._file.transaction() as connection:
            connection.execute(
                "insert into job (id, about, source, data) values (?, ?, ?, ?)",
                (job.id, _said(job), about, source.data),
            )

    def source(self, id: str) -> Source:
        """Return the document of a job."""
        with self._file.transaction() as connection:
            found = connection.execute("select source, data from job where id = ?", (id,))
            about, data = found.fetchone()
        return msgspec.structs.replace(msgspec.json.decode(about, type=Source), data=data)

    def remove(self, *ids: str) -> None:
        """Forget jobs that are done: all of them, or none."""
        with self._file.transaction() as connection:
            connection.executemany("delete from job where id = ?", [(id,) for id in ids])

    def fail(self, job: Job) -> None:
        """Keep how a job failed, and forget its document."""
        with self._file.transaction() as connection:
            connection.execute("delete from job where id = ?", (job.id,))
            connection.execute("insert into failed (id, about) values (?, ?)", (job.id, _said(job)))
            connection.execute(
                "delete from failed where number <= (select max(number) from failed) - ?", (FAILED_KEPT,)
            )

    def waiting(self) -> list[Job]:
        """Return the jobs that were taken on and have no end, oldest first."""
        return self._jobs("job")

    def failed(self) -> list[Job]:
        """Return the jobs that failed, oldest first."""
        return self._jobs("failed")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _jobs(self, table: str) -> list[Job]:
        with self._file.transaction() as connection:
            rows = connection.execute(f"select about from {table} order by number").fetchall()
        return [msgspec.json.decode(about, type=Job) for (about,) in rows]


def _said(job: Job) -> str:
    return msgspec.json.encode(job).decode()
