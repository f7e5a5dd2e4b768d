"""What keys have used, over a restart."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

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
        assert store.load(NOW + 3 * DAY_S) == {}


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    """The message names the key and the path."""
    path = tmp_path / "usage.sqlite"
    path.write_bytes(b"something else entirely, longer than a header of a database file" * 30)

    with pytest.raises(ConfigError, match=r"auth\.usage_store: .*usage\.sqlite"):
        UsageStore(path)
