"""`arriero keys`."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path

import pytest

from arriero.access.key_store import KeyStore, StoredKey
from arriero.access.principal import Grants
from arriero.access.secret import digest_of
from arriero.cli.main import run
from arriero.config.auth import KeyLimits


def found(store: Path, secret: str) -> StoredKey | None:
    with closing(KeyStore(store)) as keys:
        return keys.find(digest_of(secret), time.time())


def test_a_key_is_made_listed_rotated_and_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The secret stands alone on stdout, once; lists never show it."""
    store = tmp_path / "keys.sqlite"
    options = ["--store", str(store)]
    asked = ["--task", "a", "--task", "b", "--no-models", "--read-only", "--expires", "30d"]
    assert run(["keys", "create", "bob", *asked, "--tokens-per-day", "9", "--priority", "low", *options]) == 0
    first = capsys.readouterr().out.strip()
    key = found(store, first)

    assert key is not None
    assert key.grants == Grants(models=(), tasks=("a", "b"), writable_memories=())
    assert key.limits == KeyLimits(tokens_per_day=9, priority="low")
    assert 0 < (key.expires_at or 0) - time.time() <= 30 * 86400

    assert run(["keys", "list", *options]) == 0
    listing = capsys.readouterr().out
    assert key.id in listing
    assert "models: none; tasks: a, b; reads only" in listing
    assert first not in listing

    assert run(["keys", "rotate", key.id, "--overlap", "1h", *options]) == 0
    second = capsys.readouterr().out.strip()
    assert found(store, first) is not None
    assert found(store, second) is not None

    assert run(["keys", "revoke", key.id, *options]) == 0
    assert capsys.readouterr().out == f"{key.id} (bob): revoked\n"
    assert found(store, first) is found(store, second) is None
    assert run(["keys", "list", "--json", *options]) == 0
    assert json.loads(capsys.readouterr().out)[0]["revoked_at"] > 0


def test_the_store_is_that_of_the_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A path in the file belongs to the file's directory."""
    file = tmp_path / "a.toml"
    file.write_text('[auth]\nkey_store = "keys.sqlite"\n')

    assert run(["keys", "create", "root", "--admin", "--config", str(file)]) == 0
    key = found(tmp_path / "keys.sqlite", capsys.readouterr().out.strip())
    assert key is not None
    assert (key.grants, key.limits, key.expires_at) == (Grants(admin=True), None, None)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["create", "bob", "--task", "a", "--no-tasks"], 2, "--no-tasks excludes"),
        (["create", "bob", "--priority", "urgent"], 2, "'low', 'normal', 'high'"),
        (["create", "bob", "--expires", "soon"], 2, "is no duration; write 90, 15m, 12h or 30d"),
        (["create", "bob", "--expires", "9999999999d"], 2, "longer than 100 years"),
        (["create", "bob", "--expires", "0"], 1, "would have expired already"),
        (["create", ""], 1, "a name has 1 to 100 printable characters"),
        (["revoke", "key_x"], 1, "key not found: key_x"),
        (["rotate", "key_x"], 1, "key not found: key_x"),
    ],
)
def test_what_cannot_be_done_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, message: str
) -> None:
    """One message, and the usual exit status."""
    assert run(["keys", *arguments, "--store", str(tmp_path / "keys.sqlite")]) == status
    assert message in capsys.readouterr().err


def test_without_a_store_the_message_names_the_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the option that goes without a configuration."""
    (tmp_path / "a.toml").write_text("")

    assert run(["keys", "list", "--config", str(tmp_path / "a.toml")]) == 2
    error = capsys.readouterr().err
    assert "auth.key_store" in error
    assert "--store" in error
