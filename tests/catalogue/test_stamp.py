"""What is remembered of a fetched file, and when it no longer holds."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from arriero.catalogue.progress import silent
from arriero.catalogue.stamp import (
    Stamp,
    file_sha256,
    finished_stamp,
    is_fetched,
    read_stamp,
    stamp_path,
    write_stamp,
)

if TYPE_CHECKING:
    from pathlib import Path

DATA = b"GGUF weights"
SHA256 = hashlib.sha256(DATA).hexdigest()


def never(description: str, done: int, total: int | None) -> None:
    raise AssertionError("the file was hashed")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(DATA)
    return path


def test_stamp_round_trip(path: Path) -> None:
    """A stamp is read as it was written."""
    stamp = Stamp(source="here", validator='"v1"', sha256=SHA256, size_bytes=3, mtime_ns=4)
    write_stamp(path, stamp)

    assert read_stamp(path) == stamp


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"source": 1}', b"\xff"])
def test_spoiled_stamp_is_none(path: Path, content: bytes) -> None:
    """A stamp that cannot be read counts as none."""
    stamp_path(path).write_bytes(content)

    assert read_stamp(path) is None


def test_hash_is_computed_once(path: Path) -> None:
    """The first check hashes the file, the next one trusts the stamp."""
    assert is_fetched(path, source="here", sha256=SHA256, progress=silent)
    assert is_fetched(path, source="here", sha256=SHA256, progress=never)


def test_change_is_noticed(path: Path) -> None:
    """A file of the same size that was written again is hashed again."""
    write_stamp(path, finished_stamp(path, source="here", sha256=SHA256))
    path.write_bytes(DATA[::-1])

    assert not is_fetched(path, source="here", sha256=SHA256, progress=silent)


def test_other_hash_is_not_taken_from_the_stamp(path: Path) -> None:
    """A stamp with another hash than demanded proves nothing."""
    write_stamp(path, finished_stamp(path, source="here", sha256=SHA256))

    assert not is_fetched(path, source="here", sha256="0" * 64, progress=silent)


@pytest.mark.parametrize(("stamped", "fetched"), [(None, True), ("here", True), ("elsewhere", False)])
def test_source_decides_without_a_hash(path: Path, stamped: str | None, fetched: bool) -> None:
    """Without a hash, a file from another source does not count; one of unknown origin does."""
    if stamped is not None:
        write_stamp(path, finished_stamp(path, source=stamped, sha256=None))

    assert is_fetched(path, source="here", sha256=None, progress=never) is fetched


def test_missing_file_is_not_fetched(tmp_path: Path) -> None:
    """A stamp without its file is worth nothing."""
    path = tmp_path / "m.gguf"
    write_stamp(path, Stamp(source="here"))

    assert not is_fetched(path, source="here", sha256=None, progress=silent)


def test_file_sha256_of_an_empty_file(tmp_path: Path) -> None:
    """An empty file has the hash of nothing."""
    path = tmp_path / "empty"
    path.touch()

    assert file_sha256(path, silent) == hashlib.sha256(b"").hexdigest()
