"""Files of memories that earlier versions wrote open in this one.

`formats/N.db.gz` was written by `write` when N was the format; it is never written anew.
"""

from __future__ import annotations

import contextlib
import gzip
import sqlite3
from pathlib import Path

import pytest
from tests.memory.store_contract import IDENTITY, document, names, pieces, unit, units

from arriero.memory.embedded import EmbeddedStore
from arriero.memory.embedded_check import check
from arriero.memory.filters import Comparison
from arriero.memory.records import document_id
from arriero.memory.sqlite_schema import VERSION

FORMATS = sorted((Path(__file__).parent / "formats").glob("*.db.gz"))
TEXTS = ("The llama carries salt.", "Ünïcödé 🦙 and 日本語の文章", "A letter with \0 in it.")


async def write(path: Path) -> None:
    """Write what the files hold: three documents, one of them replaced, one deleted."""
    store = await EmbeddedStore.open(path, IDENTITY)
    directions = units([1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0])
    await store.replace(document("one", 3, {"year": 2023.0}), pieces("old", "old", "old"), directions)
    await store.replace(
        document("one", 3, {"year": 2024.0, "kind": "pet", "tame": True}), pieces(*TEXTS), directions
    )
    await store.replace(document("two", 1), pieces("Ships sail."), units([0, 0, 0, 1]))
    await store.replace(document("three", 1), pieces("gone"), units([0, 0, 0, 1]))
    await store.delete(document_id("three"))
    await store.close()


def unpacked(written: Path, path: Path) -> Path:
    """Write an earlier version's file; return its path."""
    path.write_bytes(gzip.decompress(written.read_bytes()))
    return path


@pytest.mark.parametrize("written", FORMATS, ids=lambda path: path.name)
async def test_a_file_of_an_earlier_version_opens(tmp_path: Path, written: Path) -> None:
    """With its documents, attributes, chunks and vectors; it is searched, and written, as any."""
    path = unpacked(written, tmp_path / "m.db")

    store = await EmbeddedStore.open(path, IDENTITY)
    one = await store.document(document_id("one"))
    assert one is not None
    assert one.attributes == {"year": 2024, "kind": "pet", "tame": True}
    assert (one.title, one.created_at) == ("Title of one", 1_700_000_000.5)
    assert [chunk.text for chunk in await store.chunks(one.id)] == list(TEXTS)
    assert (await store.counts()).documents == 2
    near = await store.nearest(unit(0, 0, 0, 1), limit=1)
    assert [(hit.chunk.text, hit.document.name) for hit in near] == [("Ships sail.", "two")]
    where = Comparison(key="year", operator="gte", value=2024)
    assert names(await store.nearest(unit(0, 0, 0, 1), limit=9, where=where)) == ["one"] * 3
    assert names(await store.matching("llamas", limit=9)) == ["one"]
    await store.replace(document("four", 1), pieces("new"), units([1, 1, 0, 0]))
    await store.close()
    assert check(path).faults == ()


def test_every_format_has_its_file() -> None:
    """A format that is new has one too: write it with `write`."""
    assert [path.name for path in FORMATS] == [f"{version}.db.gz" for version in range(1, VERSION + 1)]


async def test_the_tables_are_those_of_the_format(tmp_path: Path) -> None:
    """Tables that change are another format, with a way to it from this one."""
    held, made = unpacked(FORMATS[-1], tmp_path / "held.db"), tmp_path / "made.db"
    await write(made)

    def tables(path: Path) -> list[tuple[str, str]]:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            return connection.execute("select name, sql from sqlite_master order by name").fetchall()

    assert tables(made) == tables(held)
