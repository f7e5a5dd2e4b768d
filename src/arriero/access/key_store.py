"""The keys that `arriero keys` and the admin API make: one SQLite file, read by servers while it is written.

A server looks keys up in memory, by digest. Before each look-up it asks SQLite whether another connection has
written (no file is read for that) and reads all keys again if so: a key that is revoked is refused by
the next request, whoever revoked it. No presented key ever reaches SQL.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from arriero.access.principal import EVERYTHING, Grants
from arriero.access.secret import PREFIX, digest_of, new_secret
from arriero.config.auth import KeyLimits
from arriero.errors import ConfigError, InvalidRequest, Unavailable, UnknownName

if TYPE_CHECKING:
    from pathlib import Path

APPLICATION_ID = 0x41524B53
VERSION = 1
BUSY_TIMEOUT_S = 5.0
RETRY_S = 0.01
HINT_CHARS = 4
MAX_NAME_CHARS = 100
LATEST = 253_402_300_799

SCHEMA = (
    """CREATE TABLE keys (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, grants TEXT NOT NULL, limits TEXT,
        created_at REAL NOT NULL, expires_at REAL, revoked_at REAL
    ) STRICT""",
    """CREATE TABLE secrets (
        digest BLOB PRIMARY KEY, key_id TEXT NOT NULL REFERENCES keys, hint TEXT NOT NULL, expires_at REAL
    ) STRICT""",
    f"PRAGMA application_id = {APPLICATION_ID}",
)
SECRETS = "SELECT key_id, digest, expires_at, hint FROM secrets ORDER BY expires_at IS NOT NULL, expires_at"


class StoredKey(msgspec.Struct, frozen=True):
    """A key as lists show it: everything but the secret. Times are Unix times."""

    id: str
    name: str
    hint: str
    """How the secret begins, to tell keys apart."""
    grants: Grants
    limits: KeyLimits | None
    """None = the limits of the configuration."""
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None

    def is_valid(self, now: float) -> bool:
        """Say whether the key still opens anything."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class NewKey:
    """What a key is made with; `expires_at` None = never."""

    name: str
    grants: Grants = EVERYTHING
    limits: KeyLimits | None = None
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class _Secret:
    key: StoredKey
    expires_at: float | None


class KeyStore:
    """Owns one connection for reading, used by one thread. Writing methods open one of their own."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it, readable by its owner only. Raises ConfigError."""
        self._path = path
        try:
            _make(path)
            self._reader = _connected(path)
            self._version = -1
            self._secrets: Mapping[bytes, _Secret] = {}
        except (OSError, sqlite3.Error) as exc:
            raise ConfigError(f"auth.key_store: {path} cannot be used: {exc}") from exc

    def close(self) -> None:
        """Let go of the file."""
        self._reader.close()

    def find(self, digest: bytes, now: float) -> StoredKey | None:
        """Return the valid key of a secret's digest. Raises Unavailable when the file cannot be read."""
        try:
            self._refresh()
        except (sqlite3.Error, msgspec.MsgspecError) as exc:
            raise Unavailable("the key store cannot be read") from exc
        secret = self._secrets.get(digest)
        if secret is None or not secret.key.is_valid(now):
            return None
        return secret.key if secret.expires_at is None or now < secret.expires_at else None

    def _refresh(self) -> None:
        (version,) = self._reader.execute("PRAGMA data_version").fetchone()
        if version == self._version:
            return
        with self._reader:  # both lists as they are at one moment
            self._reader.execute("BEGIN")
            keys, found = _keys(self._reader), self._reader.execute(SECRETS).fetchall()
        self._secrets = {digest: _Secret(keys[id], expires_at) for id, digest, expires_at, _ in found}
        self._version = version

    def list(self) -> list[StoredKey]:
        """Return all keys, oldest first, revoked ones too."""
        with _writing(self._path) as database:
            return list(_keys(database).values())

    def create(self, new: NewKey, now: float) -> tuple[StoredKey, str]:
        """Make a key; return it and its secret, which is nowhere afterwards. Raises InvalidRequest."""
        if not 1 <= len(new.name) <= MAX_NAME_CHARS or not new.name.isprintable():
            raise InvalidRequest(f"a name has 1 to {MAX_NAME_CHARS} printable characters", param="name")
        if new.expires_at is not None and not now < new.expires_at <= LATEST:
            message = "the key would have expired already, or not before the year 10000"
            raise InvalidRequest(message, param="expires_at")
        id, secret = f"key_{secrets.token_hex(6)}", new_secret()
        limits = None if new.limits is None else msgspec.json.encode(new.limits).decode()
        row = (id, new.name, msgspec.json.encode(new.grants).decode(), limits, now, new.expires_at)
        with _writing(self._path) as database:
            database.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, NULL)", row)
            _add_secret(database, id, secret)
        key = StoredKey(id, new.name, _hint(secret), new.grants, new.limits, now, new.expires_at)
        return key, secret

    def revoke(self, id: str, now: float) -> StoredKey:
        """End a key for ever. Raises UnknownName."""
        with _writing(self._path) as database:
            key = _known(database, id)
            database.execute("UPDATE keys SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?", (now, id))
            database.execute("DELETE FROM secrets WHERE key_id = ?", (id,))
        return msgspec.structs.replace(key, revoked_at=key.revoked_at or now)

    def rotate(self, id: str, now: float, *, overlap_s: float = 0) -> tuple[StoredKey, str]:
        """Give a key another secret; the old one works for `overlap_s` more.

        Raises UnknownName, InvalidRequest.
        """
        secret = new_secret()
        with _writing(self._path) as database:
            key = _known(database, id)
            if not key.is_valid(now):
                raise InvalidRequest(f"{id} is revoked or has expired; make another key", param="id")
            database.execute(
                "UPDATE secrets SET expires_at = min(coalesce(expires_at, ?1), ?1) WHERE key_id = ?2",
                (now + overlap_s, id),
            )
            database.execute("DELETE FROM secrets WHERE expires_at <= ?", (now,))
            _add_secret(database, id, secret)
        return msgspec.structs.replace(key, hint=_hint(secret)), secret


def _make(path: Path) -> None:
    """Make the file and its tables where they are not there. Raises OSError, sqlite3.Error, ConfigError."""
    with suppress(FileExistsError):  # a file that is there is never opened: closing it would drop its locks
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    end = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            with closing(_connected(path)) as database:
                return _make_tables(path, database)
        except sqlite3.OperationalError as exc:  # SQLite waits for nobody while the journal's mode changes
            if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(RETRY_S)


def _make_tables(path: Path, database: sqlite3.Connection) -> None:
    database.execute("BEGIN")  # another process may be making them between two of the questions
    has_tables = _has_tables(path, database)
    database.execute("ROLLBACK")
    if has_tables:
        return
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("BEGIN IMMEDIATE")
    if not _has_tables(path, database):  # another process may have been faster
        for statement in (*SCHEMA, f"PRAGMA user_version = {VERSION}"):
            database.execute(statement)
    database.execute("COMMIT")


def _has_tables(path: Path, database: sqlite3.Connection) -> bool:
    """Say whether this is a key store; an empty file is none yet. Raises ConfigError for another file."""
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (num_tables,) = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if (application, version) == (APPLICATION_ID, VERSION):
        return True
    if num_tables or application or version:
        raise ConfigError(f"auth.key_store: {path} is not a key store of this version")
    return False


def _connected(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    database.execute("PRAGMA synchronous = FULL")
    return database


@contextmanager
def _writing(path: Path) -> Iterator[sqlite3.Connection]:
    """Hold the write lock; what the block does is kept as a whole or not at all. Raises Unavailable."""
    try:
        with closing(_connected(path)) as database:
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")
    except sqlite3.Error as exc:
        raise Unavailable(f"the key store cannot be written: {exc}") from exc


def _keys(database: sqlite3.Connection) -> dict[str, StoredKey]:
    hints = {id: hint for id, _, _, hint in reversed(database.execute(SECRETS).fetchall())}
    rows = database.execute("SELECT * FROM keys ORDER BY created_at, id").fetchall()
    return {row[0]: _key(row, hints.get(row[0], "")) for row in rows}


def _key(row: tuple[str, str, str, str | None, float, float | None, float | None], hint: str) -> StoredKey:
    id, name, grants, limits, created_at, expires_at, revoked_at = row
    return StoredKey(
        id,
        name,
        hint,
        msgspec.json.decode(grants, type=Grants),
        None if limits is None else msgspec.json.decode(limits, type=KeyLimits),
        created_at,
        expires_at,
        revoked_at,
    )


def _known(database: sqlite3.Connection, id: str) -> StoredKey:
    key = _keys(database).get(id)
    if key is None:
        raise UnknownName("key", id, param="id")
    return key


def _add_secret(database: sqlite3.Connection, id: str, secret: str) -> None:
    row = (digest_of(secret), id, _hint(secret))
    database.execute("INSERT INTO secrets VALUES (?, ?, ?, NULL)", row)


def _hint(secret: str) -> str:
    return secret[: len(PREFIX) + HINT_CHARS]
