"""Documents that are kept for the next hits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.memory.store_contract import IDENTITY, put

from arriero.memory.document_cache import DocumentCache
from arriero.memory.embedded import EmbeddedStore
from arriero.memory.sqlite_schema import connect

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_document_is_read_once(tmp_path: Path) -> None:
    """The second time no row is read, and an unknown number is no document."""
    store = await EmbeddedStore.open(tmp_path / "m.db", IDENTITY)
    first, second = await put(store, "a"), await put(store, "b")
    await store.close()
    connection = connect(tmp_path / "m.db", read_only=True)
    cache = DocumentCache()
    read: list[str] = []
    assert cache.of(connection, [1, 2, 2, 99]) == {1: first, 2: second}

    connection.set_trace_callback(read.append)

    assert cache.of(connection, [2, 1]) == {1: first, 2: second}
    assert read == []
    connection.close()


async def test_what_is_kept_is_bounded(tmp_path: Path) -> None:
    """The oldest go first; they are read again when they are wanted."""
    store = await EmbeddedStore.open(tmp_path / "m.db", IDENTITY)
    documents = {1: await put(store, "a"), 2: await put(store, "b")}
    await store.close()
    connection = connect(tmp_path / "m.db", read_only=True)
    cache = DocumentCache(most=1)

    assert cache.of(connection, [1, 2]) == documents
    assert len(cache) == 1
    assert cache.of(connection, [1, 2]) == documents
    connection.close()
