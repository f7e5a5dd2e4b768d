"""Keeps what each key has used over a restart: one SQLite file, written once a second by a thread.

A crash loses the last second; that is a few requests in somebody's favour, for no wait in any request.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING

from arriero.access.limits import DAY_S, Usage
from arriero.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

EVERY_S = 1.0
KEPT_DAYS = 2
BUSY_TIMEOUT_S = 5.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS usage (
    tenant TEXT PRIMARY KEY, requests REAL NOT NULL, tokens REAL NOT NULL,
    day INTEGER NOT NULL, day_tokens INTEGER NOT NULL, updated_at REAL NOT NULL
) STRICT
"""
Row = tuple[str, float, float, int, int, float]


class UsageStore:
    """Owns the file, and the thread that writes it. It writes in batches what changed."""

    def __init__(self, path: Path, *, every_s: float = EVERY_S) -> None:
        """Open the file, or make it. Raises ConfigError."""
        self._path = path
        self._every_s = every_s
        self._changed: dict[str, Row] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._write_on, name="usage", daemon=True)
        try:
            with closing(_connected(path)) as database:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute(SCHEMA)
        except sqlite3.Error as exc:
            raise ConfigError(f"auth.usage_store: {path} cannot be used: {exc}") from exc
        self._thread.start()

    def load(self, now: float) -> dict[str, Usage]:
        """Return what was kept; counts that no limit could see any more are dropped. Raises ConfigError."""
        try:
            with closing(_connected(self._path)) as database:
                database.execute("DELETE FROM usage WHERE updated_at < ?", (now - KEPT_DAYS * DAY_S,))
                rows: list[Row] = database.execute("SELECT * FROM usage").fetchall()
        except sqlite3.Error as exc:
            raise ConfigError(f"auth.usage_store: {self._path} cannot be used: {exc}") from exc
        return {row[0]: Usage(*row[1:]) for row in rows}

    def note(self, tenant: str, usage: Usage) -> None:
        """Remember counts for the next batch. Never blocks for a file."""
        row = (tenant, usage.requests, usage.tokens, usage.day, usage.day_tokens, usage.updated_at)
        with self._lock:
            self._changed[tenant] = row

    def close(self) -> None:
        """Write what is left and end the thread."""
        self._stopping.set()
        self._thread.join()

    def _write_on(self) -> None:
        while not self._stopping.wait(self._every_s):
            self._write()
        self._write()

    def _write(self) -> None:
        with self._lock:
            rows, self._changed = self._changed, {}
        if not rows:
            return
        try:
            with closing(_connected(self._path)) as database:
                database.execute("BEGIN IMMEDIATE")
                database.executemany("INSERT OR REPLACE INTO usage VALUES (?, ?, ?, ?, ?, ?)", rows.values())
                database.execute("COMMIT")
        except sqlite3.Error as exc:
            logger.warning("what keys have used cannot be kept: %s", exc)
            with self._lock:
                self._changed = rows | self._changed


def _connected(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    database.execute("PRAGMA synchronous = NORMAL")
    return database
