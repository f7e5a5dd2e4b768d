"""Checking, compacting, exporting, importing and reindexing a memory's file."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.memory.store_contract import IDENTITY, document, pieces, put, unit, units

from arriero.errors import ConfigError, InvalidRequest, Unavailable
from arriero.memory.embedded import EmbeddedStore
from arriero.memory.embedded_check import check, compact, counts
from arriero.memory.embedded_reindex import reindex
from arriero.memory.embedded_transfer import exported, header, imported, read_lines
from arriero.memory.records import Identity, document_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from arriero.memory.records import Chunk

NEW = Identity(embedder="new", dimensions=2)


async def filled(path: Path) -> None:
    """Make a memory of three documents and close it."""
    store = await EmbeddedStore.open(path, IDENTITY)
    vectors = units([1, 0, 0, 0], [0, 1, 0, 0])
    await store.replace(document("a", 2, {"lang": "de", "n": 1.0}), pieces("eins", "zwei"), vectors)
    await put(store, "broken \udcff name", "drei 東京")
    await store.replace(document("empty", 0), [], np.empty((0, 4), dtype=np.float32))
    await store.close()


async def contents(path: Path, identity: Identity = IDENTITY) -> list[object]:
    """Return all that a memory holds, and what it finds."""
    store = await EmbeddedStore.open(path, identity)
    held: list[object] = []
    for stored in await store.documents():
        held += [stored, await store.chunks(stored.id)]
    if identity == IDENTITY:
        hits = await store.nearest(unit(1, 0.5, 0, 0), limit=9)
        held.append(sorted(hits, key=lambda hit: (hit.document.name, hit.chunk.ordinal)))
    held.append(await store.matching("eins 東京", limit=9))
    await store.close()
    return held


async def test_a_whole_memory_has_no_faults(tmp_path: Path) -> None:
    """The report says what is held."""
    await filled(tmp_path / "m.db")

    report = check(tmp_path / "m.db")

    assert (report.identity, report.documents, report.chunks, report.faults) == (IDENTITY, 3, 3, ())
    assert report.bytes > 10_000


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        ("delete from vector where number = 1", "1 chunks without a vector"),
        ("delete from document where name = 'a'", "2 chunks without a document"),
        ("insert into vector values (99, zeroblob(16))", "1 vectors without a chunk"),
        ("update document set num_chunks = 7 where name = 'a'", "1 documents with another number of chunks"),
        ("update vector set value = zeroblob(16)", "3 vectors that are not of length 1"),
        ("update vector set value = zeroblob(12)", "3 vectors of another length than 4"),
        ("update chunk set text = 'vier' where number = 1", "the index of words does not match"),
        ("update chunk set start = 77 where number = 1", "1 rows that do not match their checksums"),
    ],
)
async def test_a_check_finds_what_is_wrong(tmp_path: Path, damage: str, fault: str) -> None:
    """Each kind of fault is named."""
    path = tmp_path / "m.db"
    await filled(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(damage)
        connection.commit()

    assert any(found.startswith(fault) for found in check(path).faults), check(path).faults


async def test_broken_pages_are_faults(tmp_path: Path) -> None:
    """A page that was overwritten is reported, not raised."""
    path = tmp_path / "m.db"
    await filled(path)
    content = bytearray(path.read_bytes())
    for page in range(4, len(content) // 8192):
        content[page * 8192 : page * 8192 + 16] = b"\xff" * 16
    path.write_bytes(content)

    assert check(path).faults


async def test_an_open_memory_is_not_checked(tmp_path: Path) -> None:
    """Checking needs the file alone; counting does not."""
    path = tmp_path / "m.db"
    store = await EmbeddedStore.open(path, IDENTITY)
    await put(store, "a")

    with pytest.raises(Unavailable, match="another process"):
        check(path)
    held = counts(path)
    assert held is not None
    assert (held.documents, held.chunks) == (1, 1)
    await store.close()


def test_what_is_not_there_is_not_made(tmp_path: Path) -> None:
    """No verb leaves a file behind for a wrong path."""
    with pytest.raises(ConfigError, match="no such memory"):
        check(tmp_path / "no.db")
    with pytest.raises(ConfigError, match="no such memory"):
        list(exported(tmp_path / "no.db"))

    assert counts(tmp_path / "no.db") is None
    assert list(tmp_path.iterdir()) == []


async def test_compacting_gives_room_back(tmp_path: Path) -> None:
    """After many deletions the file is written anew, smaller, and finds the same."""
    path = tmp_path / "m.db"
    store = await EmbeddedStore.open(path, IDENTITY)
    for number in range(20):
        await put(store, f"d{number}", f"number{number} " * 2000)
    for number in range(1, 20):
        await store.delete(document_id(f"d{number}"))
    await store.close()
    before = path.stat().st_size

    compact(path)

    assert path.stat().st_size < before / 2
    store = await EmbeddedStore.open(path, IDENTITY)
    assert [hit.document.name for hit in await store.matching("number0", limit=9)] == ["d0"]
    await store.close()


async def test_deleting_gives_room_back_by_itself(tmp_path: Path) -> None:
    """After much was deleted the file shrinks, a little behind each write."""
    path = tmp_path / "m.db"
    store = await EmbeddedStore.open(path, IDENTITY)
    await put(store, "big", "x" * 5_000_000)
    before = path.stat().st_size + path.with_name("m.db-wal").stat().st_size
    await store.clear()
    for _ in range(6):
        await store.delete(document_id("none"))
    await store.close()

    assert path.stat().st_size < before / 4


async def test_an_export_can_be_imported(tmp_path: Path) -> None:
    """Documents, chunks, vectors and odd names come through; the memory may be open meanwhile."""
    await filled(tmp_path / "m.db")
    store = await EmbeddedStore.open(tmp_path / "m.db", IDENTITY)
    lines = list(exported(tmp_path / "m.db"))
    await store.close()

    copy = await EmbeddedStore.open(tmp_path / "copy.db", header(lines[0]))
    stored = await imported(lines, copy)
    await copy.close()

    assert (stored.documents, stored.chunks) == (3, 3)
    assert await contents(tmp_path / "copy.db") == await contents(tmp_path / "m.db")
    assert all(line.isascii() for line in lines)


def cut(lines: list[str]) -> list[str]:
    return lines[:-1]


def without_a_chunk(lines: list[str]) -> list[str]:
    place = next(number for number, line in enumerate(lines) if '"chunk"' in line)
    return lines[:place] + lines[place + 1 :]


def changed(place: int, value: object) -> object:
    return lambda lines: [
        *lines[:place],
        value if isinstance(value, str) else json.dumps(value),
        *lines[place + 1 :],
    ]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (cut, "cut off after 2 documents"),
        (lambda lines: [], "cut off"),
        (without_a_chunk, "has . chunks, but says"),
        (changed(0, {"arriero_memory": 9}), "line 1: not an export"),
        (
            changed(0, {"arriero_memory": 1, "identity": {"embedder": "x", "dimensions": 4}}),
            "line 1: the export holds",
        ),
        (changed(1, "{"), "line 2: not JSON"),
        (changed(1, []), "line 2: not an object"),
        (changed(1, {"x": 1}), "line 2: neither"),
        (changed(1, {"document": {"name": 7}}), "line 2: "),
        (changed(1, {"chunk": {}}), "line 2: a chunk before any document"),
        (lambda lines: [*lines, lines[1]], "behind the end"),
        (lambda lines: [line.replace('"vector": "', '"vector": "!') for line in lines], "not base64"),
        (
            lambda lines: [line.replace('"vector": "', '"vector": "AAAA') for line in lines],
            "not of 4 dimensions",
        ),
    ],
)
async def test_a_faulty_export_is_refused(tmp_path: Path, change: object, error: str) -> None:
    """The error names the line."""
    assert callable(change)
    await filled(tmp_path / "m.db")
    lines = change(list(exported(tmp_path / "m.db")))
    store = await EmbeddedStore.open(None, IDENTITY)

    with pytest.raises(InvalidRequest, match=error):
        await imported(lines, store)

    await store.close()


def test_an_endless_line_is_refused() -> None:
    """A file that is no export does not fill the memory."""
    with Path("/dev/zero").open() as endless, pytest.raises(InvalidRequest, match="a line of more than"):
        next(read_lines(endless))


async def embed(chunks: Sequence[Chunk]) -> NDArray[np.float32]:
    """Return a vector that depends on the length of the text."""
    angles = np.array([len(chunk.text) for chunk in chunks], dtype=np.float32)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


async def test_reindexing_puts_new_vectors_in_place(tmp_path: Path) -> None:
    """Afterwards the memory opens with the new model and only with it; texts are as they were."""
    path = tmp_path / "m.db"
    await filled(path)
    before = await contents(path)
    steps: list[tuple[int, int]] = []

    done = await reindex(path, NEW, embed, lambda done, total: steps.append((done, total)))

    assert done == 3
    assert steps == [(0, 3), (3, 3)]
    assert check(path).faults == ()
    with pytest.raises(ConfigError, match='"new"'):
        await EmbeddedStore.open(path, IDENTITY)
    store = await EmbeddedStore.open(path, NEW)
    hits = await store.nearest((await embed(pieces("drei 東京")))[0], limit=1)
    assert hits[0].chunk.text == "drei 東京"
    await store.close()
    assert [*(await contents(path, NEW))[:6]] == before[:6]


async def test_an_interrupted_reindex_changes_nothing_and_goes_on(tmp_path: Path) -> None:
    """After a failure the memory serves as before; the next run embeds only what is left."""
    path = tmp_path / "m.db"
    store = await EmbeddedStore.open(path, IDENTITY)
    await store.replace(
        document("a", 300), pieces(*[f"text {n}" for n in range(300)]), units(*[[1, 0, 0, 0]] * 300)
    )
    await store.close()
    calls: list[int] = []

    async def failing(chunks: Sequence[Chunk]) -> NDArray[np.float32]:
        calls.append(len(chunks))
        if len(calls) == 2:
            raise Unavailable("the model is gone")
        return await embed(chunks)

    with pytest.raises(Unavailable, match="the model is gone"):
        await reindex(path, NEW, failing)
    store = await EmbeddedStore.open(path, IDENTITY)
    assert len(await store.nearest(unit(1, 0, 0, 0), limit=5)) == 5
    await put(store, "later")
    await store.delete(document_id("none"))
    await store.close()
    assert await reindex(path, NEW, failing) == 301

    assert sum(calls[2:]) == 301 - calls[0]
    assert check(path).faults == ()


async def test_what_is_no_vector_is_not_put_in_place(tmp_path: Path) -> None:
    """A model that gives other dimensions than it says leaves the memory as it was."""
    path = tmp_path / "m.db"
    await filled(path)

    with pytest.raises(ValueError, match="vectors"):
        await reindex(path, Identity(embedder="new", dimensions=3), embed)

    assert len(await contents(path)) == 8
