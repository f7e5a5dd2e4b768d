"""What keys have used, over a restart."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from time import monotonic

import pytest

from arriero.access.limits import DAY_S, Usage
from arriero.access.usage_store import UsageStore
from arriero.errors import ConfigError

NOW = 20_000 * DAY_S + 5.0
BOB = Usage(1.5, 20, 20_000, 30, NOW)


def test_counts_are_there_after_a_restart(tmp_path: Path) -> None:
    """The last state of each key, whatever number of changes; nothing is running after a restart."""
    path = tmp_path / "usage.sqlite"
    with closing(UsageStore(path, every_s=3600)) as store:
        for requests in range(100):
            store.note("bob", Usage(requests, updated_at=NOW))
        store.note("bob", BOB)
        store.note("eve", Usage(running=3, updated_at=NOW))

    with closing(UsageStore(path)) as store:
        assert store.load(NOW) == {"bob": BOB, "eve": Usage(updated_at=NOW)}


def test_old_counts_are_dropped(tmp_path: Path) -> None:
    """After two days no limit can see them."""
    path = tmp_path / "usage.sqlite"
    with closing(UsageStore(path)) as store:
        store.note("bob", BOB)

    with closing(UsageStore(path)) as store:
        assert store.load(NOW + 2 * DAY_S) == {"bob": BOB}
        assert store.load(NOW + 2 * DAY_S + 1) == {}


def written(path: Path) -> list[tuple[str, int]]:
    """Return what stands in the file."""
    with closing(sqlite3.connect(path, timeout=5)) as database:
        return database.execute("SELECT tenant, day_tokens FROM usage ORDER BY tenant").fetchall()


def test_counts_are_written_while_the_server_runs(tmp_path: Path) -> None:
    """A server that is killed loses what its last batch did not hold, no more."""
    path = tmp_path / "usage.sqlite"
    with closing(UsageStore(path, every_s=0.001)) as store:
        store.note("bob", BOB)
        end = monotonic() + 20
        while not (rows := written(path)) and monotonic() < end:
            pass

    assert rows == [("bob", 30)]


def test_a_batch_that_cannot_be_written_is_kept_for_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What changes meanwhile replaces what it held."""
    path = tmp_path / "usage.sqlite"
    store = UsageStore(path, every_s=0.001)
    with closing(store), closing(sqlite3.connect(path)) as database:
        database.execute("ALTER TABLE usage RENAME TO away")
        store.note("bob", BOB)
        store.note("eve", BOB)
        end = monotonic() + 20
        while not caplog.records and monotonic() < end:
            pass
        store.note("bob", Usage(day_tokens=99, updated_at=NOW))
        database.execute("ALTER TABLE away RENAME TO usage")

    assert "cannot be kept" in caplog.records[0].message
    assert written(path) == [("bob", 99), ("eve", 30)]


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    """The message names the key and the path."""
    path = tmp_path / "usage.sqlite"
    path.write_bytes(b"something else entirely, longer than a header of a database file" * 30)

    with pytest.raises(ConfigError, match=r"auth\.usage_store: .*usage\.sqlite"):
        UsageStore(path)
