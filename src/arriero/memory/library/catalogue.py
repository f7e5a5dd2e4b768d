"""The rows of a library: one SQLite file, written durably. It knows neither bytes of files nor memories.

Each row has its record as JSON and beside it what is searched by. Rows are listed in the order in which
they came.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from arriero.errors import InvalidRequest
from arriero.memory.library.records import (
    Attachment,
    Batch,
    FileCounts,
    Page,
    Status,
    StoredFile,
    VectorStore,
    unknown,
)
from arriero.memory.sqlite_file import SqliteFile
from arriero.memory.sqlite_pool import hold

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Record = TypeVar("Record", bound=msgspec.Struct)

_TABLES = """
create table if not exists file (
    number integer primary key autoincrement, id text not null unique, tenant text not null,
    purpose text not null, size integer not null, expires_at real, about text not null
);
create index if not exists file_tenant on file (tenant);
create table if not exists store (
    number integer primary key autoincrement, id text not null unique, tenant text not null,
    about text not null
);
create table if not exists attachment (
    number integer primary key autoincrement, store text not null, id text not null,
    status text not null, about text not null, unique (store, id)
);
create index if not exists attachment_file on attachment (id);
create index if not exists attachment_status on attachment (store, status);
create table if not exists batch (id text primary key, store text not null, about text not null);
create table if not exists batch_file (
    batch text not null, file text not null, primary key (batch, file)
) without rowid;
"""


class Catalogue:
    """Owns the file and its lock. Every method blocks and raises Unavailable."""

    def __init__(self, path: Path) -> None:
        self._held = hold(path)
        try:
            self._file = SqliteFile(path, _TABLES)
        except BaseException:
            os.close(self._held)
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        os.close(self._held)

    def add_file(self, file: StoredFile) -> None:
        """Keep a file's row."""
        with self._file.transaction() as connection:
            connection.execute(
                "insert into file (id, tenant, purpose, size, expires_at, about) values (?, ?, ?, ?, ?, ?)",
                (file.id, file.tenant, file.purpose, file.size, file.expires_at, _json(file)),
            )

    def file(self, id: str) -> StoredFile:
        """Return a file. Raises UnknownName."""
        return self._one("select about from file where id = ?", (id,), StoredFile, ("file", id))

    def files(
        self, tenant: str | None, purpose: str | None, page: Page, *, now: float
    ) -> tuple[list[StoredFile], bool]:
        """Return files of a tenant, None = of all, that have not expired, and whether there are more.

        Raises InvalidRequest.
        """
        where, values = _all_of(tenant=tenant, purpose=purpose)
        where += " and coalesce(expires_at > ?, true)"
        return self._page("file", where, (*values, now), page, StoredFile)

    def file_ids(self) -> set[str]:
        """Return the ids of all files."""
        with self._file.transaction() as connection:
            return {id for (id,) in connection.execute("select id from file")}

    def expired_files(self, now: float) -> list[StoredFile]:
        """Return the files whose time is over."""
        return self._many("select about from file where expires_at <= ?", (now,), StoredFile)

    def held(self, tenant: str | None) -> tuple[int, int]:
        """Return number and bytes of the files of a tenant, None = of all."""
        where, values = _all_of(tenant=tenant)
        with self._file.transaction() as connection:
            found = connection.execute(f"select count(*), total(size) from file where {where}", values)
            count, size = found.fetchone()
        return int(count), int(size)

    def remove_file(self, id: str) -> None:
        """Forget a file."""
        with self._file.transaction() as connection:
            connection.execute("delete from file where id = ?", (id,))

    def add_store(self, store: VectorStore) -> None:
        """Keep a new vector store."""
        with self._file.transaction() as connection:
            connection.execute(
                "insert into store (id, tenant, about) values (?, ?, ?)",
                (store.id, store.tenant, _json(store)),
            )

    def change_store(self, id: str, changes: Mapping[str, object]) -> VectorStore:
        """Change members of a vector store and return it as it is then. Raises UnknownName."""
        with self._file.transaction() as connection:
            row = connection.execute("select about from store where id = ?", (id,)).fetchone()
            if row is None:
                raise unknown("vector store", id)
            changed = msgspec.structs.replace(msgspec.json.decode(row[0], type=VectorStore), **changes)
            connection.execute("update store set about = ? where id = ?", (_json(changed), id))
        return changed

    def store(self, id: str) -> VectorStore:
        """Return a vector store. Raises UnknownName."""
        return self._one("select about from store where id = ?", (id,), VectorStore, ("vector store", id))

    def stores(self, tenant: str | None) -> list[VectorStore]:
        """Return the vector stores of a tenant, None = of all, in the order in which they were made."""
        where, values = _all_of(tenant=tenant)
        return self._many(f"select about from store where {where} order by number", values, VectorStore)

    def remove_store(self, id: str) -> None:
        """Forget a vector store and what was attached to it."""
        with self._file.transaction() as connection:
            _forget_batches(connection, id)
            connection.execute("delete from attachment where store = ?", (id,))
            connection.execute("delete from store where id = ?", (id,))

    def attach(self, attachments: Sequence[Attachment], batch: Batch | None) -> None:
        """Keep attachments, each in place of the one of its file and store: all or none."""
        with self._file.transaction() as connection:
            connection.executemany(
                "insert into attachment (store, id, status, about) values (?, ?, ?, ?)"
                " on conflict (store, id) do update set status = excluded.status, about = excluded.about",
                [(one.store, one.file_id, one.status.value, _json(one)) for one in attachments],
            )
            if batch is not None:
                connection.execute(
                    "insert into batch values (?, ?, ?)", (batch.id, batch.store, _json(batch))
                )
                connection.executemany(
                    "insert or ignore into batch_file values (?, ?)",
                    [(batch.id, one.file_id) for one in attachments],
                )

    def update(self, attachment: Attachment) -> None:
        """Keep how an attachment is now, if it is still there."""
        with self._file.transaction() as connection:
            connection.execute(
                "update attachment set status = ?, about = ? where store = ? and id = ?",
                (attachment.status.value, _json(attachment), attachment.store, attachment.file_id),
            )

    def attachment(self, store: str, file_id: str) -> Attachment:
        """Return an attachment. Raises UnknownName."""
        statement = "select about from attachment where store = ? and id = ?"
        return self._one(statement, (store, file_id), Attachment, ("vector store file", file_id))

    def attachments(
        self, store: str, page: Page, *, status: Status | None = None, batch: str | None = None
    ) -> tuple[list[Attachment], bool]:
        """Return what is attached to a store, and whether there is more. Raises InvalidRequest."""
        where, values = _attached(store, status, batch)
        return self._page("attachment", where, values, page, Attachment)

    def attached(self, file_id: str) -> list[Attachment]:
        """Return where a file is attached."""
        return self._many("select about from attachment where id = ?", (file_id,), Attachment)

    def unfinished(self, store: str | None = None, batch: str | None = None) -> list[Attachment]:
        """Return what is on its way, oldest first: all of it, or that of a store, or of a batch."""
        where, values = _attached(store, Status.IN_PROGRESS, batch)
        statement = f"select about from attachment where {where} order by number"
        return self._many(statement, values, Attachment)

    def detach(self, store: str, file_id: str) -> None:
        """Forget an attachment."""
        with self._file.transaction() as connection:
            connection.execute("delete from attachment where store = ? and id = ?", (store, file_id))

    def forget_completed(self, attachments: Sequence[Attachment]) -> None:
        """Forget attachments that are still completed."""
        with self._file.transaction() as connection:
            connection.executemany(
                "delete from attachment where store = ? and id = ? and status = 'completed'",
                [(one.store, one.file_id) for one in attachments],
            )

    def counts(self, store: str, batch: str | None = None) -> FileCounts:
        """Return how many files of a store, or of one batch, are how far."""
        where, values = _attached(store, None, batch)
        with self._file.transaction() as connection:
            found = connection.execute(
                f"select status, count(*) from attachment where {where} group by status", values
            ).fetchall()
        return FileCounts(**dict(found))

    def batch(self, store: str, id: str) -> Batch:
        """Return a batch. Raises UnknownName."""
        statement = "select about from batch where store = ? and id = ?"
        return self._one(statement, (store, id), Batch, ("file batch", id))

    def put_batch(self, batch: Batch) -> None:
        """Keep a batch as it is now."""
        with self._file.transaction() as connection:
            connection.execute("update batch set about = ? where id = ?", (_json(batch), batch.id))

    def _page(
        self, table: str, where: str, values: tuple[object, ...], page: Page, kind: type[Record]
    ) -> tuple[list[Record], bool]:
        # Before an id alone, the rows next to it are meant: they are read in the other order.
        is_backward = page.before is not None and page.after is None
        with self._file.transaction() as connection:
            for param, id, beyond in (("after", page.after, "><"), ("before", page.before, "<>")):
                if id is not None:
                    where += f" and number {beyond[page.is_descending]} ?"
                    values = (*values, _number(connection, table, where, values, param=param, id=id))
            order = "desc" if page.is_descending != is_backward else "asc"
            rows = connection.execute(
                f"select about from {table} where {where} order by number {order} limit ?",
                (*values, page.limit + 1),
            ).fetchall()
        found = [msgspec.json.decode(about, type=kind) for (about,) in rows[: page.limit]]
        return found[::-1] if is_backward else found, len(rows) > page.limit

    def _many(self, statement: str, values: tuple[object, ...], kind: type[Record]) -> list[Record]:
        with self._file.transaction() as connection:
            rows = connection.execute(statement, values).fetchall()
        return [msgspec.json.decode(about, type=kind) for (about,) in rows]

    def _one(
        self, statement: str, values: tuple[object, ...], kind: type[Record], named: tuple[str, str]
    ) -> Record:
        found = self._many(statement, values, kind)
        if not found:
            raise unknown(*named)
        return found[0]


def _all_of(**wanted: str | None) -> tuple[str, tuple[object, ...]]:
    """Return a condition, and its values, on the columns that have a wanted value."""
    given = {column: value for column, value in wanted.items() if value is not None}
    return " and ".join([f"{column} = ?" for column in given] or ["true"]), tuple(given.values())


def _attached(store: str | None, status: Status | None, batch: str | None) -> tuple[str, tuple[object, ...]]:
    where, values = _all_of(store=store, status=None if status is None else status.value)
    if batch is None:
        return where, values
    return f"{where} and id in (select file from batch_file where batch = ?)", (*values, batch)


def _number(
    connection: sqlite3.Connection, table: str, where: str, values: Sequence[Any], *, param: str, id: str
) -> int:
    """Return the place of a row by which a list is cut; `where` ends with the condition that wants it."""
    own = where.rpartition(" and ")[0]
    row = connection.execute(f"select number from {table} where {own} and id = ?", (*values, id)).fetchone()
    if row is None:
        raise InvalidRequest(f"{param}: there is no {id[:80]} in this list", param=param)
    return int(row[0])


def _forget_batches(connection: sqlite3.Connection, store: str) -> None:
    connection.execute(
        "delete from batch_file where batch in (select id from batch where store = ?)", (store,)
    )
    connection.execute("delete from batch where store = ?", (store,))


def _json(record: msgspec.Struct) -> str:
    return msgspec.json.encode(record).decode()
