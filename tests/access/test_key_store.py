"""The file of keys: what it keeps, who sees it when, and what cannot be one."""

from __future__ import annotations

import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from arriero.access.key_store import KeyStore, NewKey
from arriero.access.principal import Grants
from arriero.access.secret import digest_of
from arriero.config.auth import KeyLimits
from arriero.errors import ArrieroError, ConfigError, InvalidRequest, Unavailable, UnknownName

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[KeyStore]:
    with closing(KeyStore(tmp_path / "keys.sqlite")) as opened:
        yield opened


def test_a_key_is_found_by_its_secret_as_it_was_made(store: KeyStore) -> None:
    """Grants, limits and times come back whole; the list has the same."""
    new = NewKey("bob", Grants(tasks=("a",), admin=True), KeyLimits(requests_per_minute=3), 200.0)
    key, secret = store.create(new, 100.0)

    found = store.find(digest_of(secret), 150.0)
    assert found == key
    assert (key.name, key.grants, key.limits, key.created_at) == ("bob", new.grants, new.limits, 100.0)
    assert store.list() == [key]


def test_the_file_holds_no_secret_and_is_its_owners_alone(tmp_path: Path) -> None:
    """Who reads the file can open nothing, and others cannot read it."""
    path = tmp_path / "keys.sqlite"
    with closing(KeyStore(path)) as store:
        key, secret = store.create(NewKey("bob"), 100.0)
        files = b"".join(file.read_bytes() for file in tmp_path.iterdir())

    assert secret.encode() not in files
    assert key.id.encode() in files
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(("now", "is_found"), [(199.9, True), (200.0, False), (1e9, False)])
def test_a_key_ends_when_it_expires(store: KeyStore, now: float, is_found: bool) -> None:
    """At the very moment, not after it."""
    _, secret = store.create(NewKey("bob", expires_at=200.0), 100.0)

    assert (store.find(digest_of(secret), now) is not None) is is_found


def test_another_process_sees_each_change_with_its_next_look_up(tmp_path: Path, store: KeyStore) -> None:
    """Made, rotated and revoked through one opening of the file, looked up through another."""
    with closing(KeyStore(tmp_path / "keys.sqlite")) as server:
        key, first = store.create(NewKey("bob"), 100.0)
        assert server.find(digest_of(first), 101.0) == key

        _, second = store.rotate(key.id, 102.0)
        assert server.find(digest_of(first), 102.0) is None
        assert server.find(digest_of(second), 102.0) is not None

        store.revoke(key.id, 103.0)
        assert server.find(digest_of(second), 103.0) is None


def test_a_rotated_key_may_keep_its_old_secret_for_a_while(store: KeyStore) -> None:
    """Both open the same key; a second rotation never makes the first secret live longer."""
    key, first = store.create(NewKey("bob"), 100.0)
    _, second = store.rotate(key.id, 100.0, overlap_s=10)
    store.rotate(key.id, 105.0, overlap_s=100)

    assert store.find(digest_of(first), 109.0) is not None
    assert store.find(digest_of(first), 110.0) is None
    assert store.find(digest_of(second), 204.0) is not None
    assert store.find(digest_of(second), 205.0) is None
    assert len(store.list()) == 1


def test_a_revoked_key_stays_in_the_list_and_cannot_come_back(store: KeyStore) -> None:
    """Who looks at the list later sees when it ended; rotation refuses."""
    key, secret = store.create(NewKey("bob"), 100.0)
    store.revoke(key.id, 110.0)
    again = store.revoke(key.id, 120.0)

    assert again.revoked_at == 110.0
    assert [listed.revoked_at for listed in store.list()] == [110.0]
    assert store.find(digest_of(secret), 111.0) is None
    with pytest.raises(InvalidRequest):
        store.rotate(key.id, 120.0)


@pytest.mark.parametrize("name", ["", "a" * 101, "a\nb", "\x1b[31m"])
def test_a_name_is_short_and_can_be_printed(store: KeyStore, name: str) -> None:
    """Names stand in tables and logs."""
    with pytest.raises(InvalidRequest) as refused:
        store.create(NewKey(name), 100.0)
    assert refused.value.param == "name"


@pytest.mark.parametrize("expires_at", [-1.0, 100.0, 253_402_300_800.0, 1e12, 1e300])
def test_no_key_is_made_that_ends_too_early_or_never(store: KeyStore, expires_at: float) -> None:
    """Somebody has mixed up the times, or their units."""
    with pytest.raises(InvalidRequest):
        store.create(NewKey("bob", expires_at=expires_at), 100.0)


@pytest.mark.parametrize(
    ("name", "expires_at"), [("b", None), ("b" * 100, 100.1), ("é b", 253_402_300_799.0)]
)
def test_names_and_ends_at_their_bounds_are_taken(
    store: KeyStore, name: str, expires_at: float | None
) -> None:
    """A hundred characters, and the last second of the year 9999; the hint is how the secret begins."""
    key, secret = store.create(NewKey(name, expires_at=expires_at), 100.0)

    assert (key.name, key.expires_at, key.hint) == (name, expires_at, secret[:12])
    assert store.list() == [key]


def test_several_processes_may_make_the_file_at_once(tmp_path: Path) -> None:
    """The server and the command line, started together: one makes it, all use it."""
    path = tmp_path / "keys.sqlite"
    with ThreadPoolExecutor(8) as threads:
        stores = list(threads.map(lambda _: Shared(path), range(8)))
    assert [len(store.list()) for store in stores] == [0] * 8


class Shared(KeyStore):
    """A store opened in another thread, which only lists."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.close()


def test_an_unknown_id_is_told(store: KeyStore) -> None:
    """Revoking the wrong thing must not look like success."""
    for change in (store.revoke, store.rotate):
        with pytest.raises(UnknownName, match="key not found: key_nope"):
            change("key_nope", 100.0)


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to look like a file of some kind" * 20]
)
def test_another_kind_of_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """A wrong path must not be overwritten."""
    path = tmp_path / "keys.sqlite"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=r"auth\.key_store"):
        KeyStore(path)
    assert path.read_bytes() == content


def test_another_database_is_refused(tmp_path: Path) -> None:
    """Tables of somebody else are left alone."""
    path = tmp_path / "keys.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE theirs (a)")

    with pytest.raises(ConfigError, match="is not a key store of this version"):
        KeyStore(path)


def test_a_missing_directory_is_told(tmp_path: Path) -> None:
    """The message names the path."""
    with pytest.raises(ConfigError, match="nowhere"):
        KeyStore(tmp_path / "nowhere" / "keys.sqlite")


def test_a_store_that_breaks_lets_nobody_in(tmp_path: Path) -> None:
    """Keys that cannot be looked up are refused as unavailable, never taken from an old copy."""
    path = tmp_path / "keys.sqlite"
    with closing(KeyStore(path)) as store:
        _, secret = store.create(NewKey("bob"), 100.0)
        assert store.find(digest_of(secret), 101.0) is not None
        with closing(sqlite3.connect(path)) as database:
            database.executescript("DROP TABLE secrets; DROP TABLE keys;")

        with pytest.raises(Unavailable):
            store.find(digest_of(secret), 102.0)
        with pytest.raises(ArrieroError):
            store.create(NewKey("eve"), 102.0)
