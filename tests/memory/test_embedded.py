"""The embedded store: the contract of all stores, and what a file adds to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
import pytest_asyncio
from tests.memory.store_contract import IDENTITY, StoreContract, document, pieces, unit, units

from arriero.errors import ConfigError, Unavailable
from arriero.memory import graph
from arriero.memory.embedded import EmbeddedStore
from arriero.memory.embedded_check import check
from arriero.memory.filters import OneOf
from arriero.memory.graph_keeper import GraphKeeper
from arriero.memory.records import Identity, document_id
from arriero.memory.sqlite_pool import Pool
from arriero.memory.vector_index import VectorIndex

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from numpy.typing import NDArray

    from arriero.memory.store import Store

needs_graph = pytest.mark.skipif(not graph.is_available(), reason="usearch is not installed")


class TestInAFile(StoreContract):
    """A store with a file."""

    @pytest_asyncio.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        """An empty store."""
        opened = await EmbeddedStore.open(tmp_path / "deep" / "memory.db", IDENTITY)
        yield opened
        await opened.close()


class TestInMemoryOnly:
    """A store without a file: one connection for all, the tables and rules are the same."""

    test_empty = StoreContract.test_an_empty_memory_answers
    test_round_trip = StoreContract.test_a_document_comes_back_as_it_was_stored
    test_versions = StoreContract.test_a_new_version_takes_the_place_of_the_old_one
    test_deleting = StoreContract.test_what_is_deleted_is_gone
    test_clearing = StoreContract.test_a_cleared_memory_is_empty_and_usable
    test_words = StoreContract.test_words_find_their_chunks
    test_cosines = StoreContract.test_the_most_alike_come_first_with_their_cosines

    @pytest_asyncio.fixture
    async def store(self) -> AsyncIterator[Store]:
        """An empty store."""
        opened = await EmbeddedStore.open(None, IDENTITY)
        yield opened
        await opened.close()


OTHER = Identity(embedder="contract", dimensions=8)


def random_units(count: int, dimensions: int = 4, seed: int = 0) -> NDArray[np.float32]:
    """Return random vectors of length 1."""
    values = np.random.default_rng(seed).standard_normal((count, dimensions), dtype=np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values


async def fill(store: Store, count: int, *, dimensions: int = 4, seed: int = 0, name: str = "d") -> None:
    """Store one document of many chunks."""
    texts = [f"chunk {place} of {name}" for place in range(count)]
    await store.replace(document(name, count), pieces(*texts), random_units(count, dimensions, seed))


def snapshots(folder: Path) -> list[Path]:
    """Return the files of graphs."""
    return list(folder.glob("m.db.*.graph"))


def copy_files(folder: Path, to: Path) -> None:
    """Copy the files of an open memory that a crash leaves."""
    for file in folder.glob("m.db*"):
        if not file.name.endswith(("-shm", ".lock")):
            (to / file.name).write_bytes(file.read_bytes())


async def found(store: Store, vector: NDArray[np.float32], limit: int = 10) -> list[int]:
    """Return the ordinals of the nearest chunks."""
    return [hit.chunk.ordinal for hit in await store.nearest(vector, limit=limit)]


async def test_what_was_stored_is_there_after_closing(tmp_path: Path) -> None:
    """A file that is opened again holds what was acknowledged, and answers alike."""
    store = await EmbeddedStore.open(tmp_path / "m.db", IDENTITY)
    await fill(store, 50)
    query = random_units(1, seed=9)[0]
    before = await store.nearest(query, limit=5), await store.matching("chunk 7", limit=5)
    await store.close()

    store = await EmbeddedStore.open(tmp_path / "m.db", IDENTITY)

    assert (await store.nearest(query, limit=5), await store.matching("chunk 7", limit=5)) == before
    await store.close()


async def test_a_second_opener_is_refused(tmp_path: Path) -> None:
    """One writer per file; the error names it. When it is closed, the next may open it."""
    path = tmp_path / "m.db"
    first = await EmbeddedStore.open(path, IDENTITY)

    with pytest.raises(Unavailable, match=rf"{path}: another process has this memory open"):
        await EmbeddedStore.open(path, IDENTITY)

    await first.close()
    await (await EmbeddedStore.open(path, IDENTITY)).close()


@pytest.mark.parametrize(
    "identity",
    [Identity(embedder="other", dimensions=4), Identity(embedder="contract", dimensions=8)],
    ids=["embedder", "dimensions"],
)
async def test_vectors_of_another_model_are_refused(tmp_path: Path, identity: Identity) -> None:
    """The error says what the file holds, what was wanted, and the way out."""
    await (await EmbeddedStore.open(tmp_path / "m.db", IDENTITY)).close()

    with pytest.raises(ConfigError, match=r'"contract" \(4 dimensions\).*arriero memory reindex'):
        await EmbeddedStore.open(tmp_path / "m.db", identity)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"not a database at all" * 100, "damaged"),
        (b"x", "damaged"),
        (b"SQLite format 3\0" + bytes(84), "damaged"),
        (bytes(64), "damaged"),
    ],
    ids=["text", "short", "header", "zeros"],
)
async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, content: bytes, error: str) -> None:
    """The error names the file and the way out; not a byte of it changes."""
    path = tmp_path / "m.db"
    path.write_bytes(content)

    with pytest.raises(Unavailable, match=rf"{path}: {error}.*arriero memory import"):
        await EmbeddedStore.open(path, IDENTITY)

    assert path.read_bytes() == content


async def test_an_index_of_poly_is_left_alone(tmp_path: Path) -> None:
    """Old files cannot be read; the error says what it is and what to do, and the file stays."""
    path = tmp_path / "x.index"
    path.write_bytes(struct.pack("<8Q", 384, 12, 12, 1_000_000, 32, 64, 20, 2) + bytes(5000))
    before = path.read_bytes()

    with pytest.raises(ConfigError, match=r"x.index: an index file of Poly.*another path.*ingest"):
        await EmbeddedStore.open(path, IDENTITY)

    assert path.read_bytes() == before


async def test_a_foreign_database_is_left_alone(tmp_path: Path) -> None:
    """A database of another program is not taken for a memory."""
    path = tmp_path / "m.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("create table other (x)")

    with pytest.raises(ConfigError, match="not a memory"):
        await EmbeddedStore.open(path, IDENTITY)


async def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    """A file of a later version says so instead of being misread."""
    path = tmp_path / "m.db"
    await (await EmbeddedStore.open(path, IDENTITY)).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma user_version = 99")

    with pytest.raises(ConfigError, match="newer version"):
        await EmbeddedStore.open(path, IDENTITY)


async def test_an_empty_file_becomes_a_memory(tmp_path: Path) -> None:
    """What a crash while the file was made leaves is taken for new."""
    (tmp_path / "m.db").touch()

    store = await EmbeddedStore.open(tmp_path / "m.db", IDENTITY)

    assert (await store.counts()).documents == 0
    await store.close()


async def test_a_closed_store_says_so() -> None:
    """After closing, calls raise Unavailable; closing twice is harmless."""
    store = await EmbeddedStore.open(None, IDENTITY)
    await store.close()
    await store.close()

    with pytest.raises(Unavailable, match="closed"):
        await store.counts()


async def test_every_commit_is_brought_to_the_disk(tmp_path: Path) -> None:
    """The writing connection logs, and syncs the log with each commit."""
    pool = Pool(tmp_path / "m.db", IDENTITY, readers=1)
    with pool.writing() as connection:
        settings = [
            connection.execute(f"pragma {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
        ]
    pool.close()

    assert settings == ["wal", 2]


@needs_graph
async def test_many_vectors_are_found_by_a_graph(tmp_path: Path) -> None:
    """Above the limit a graph is built while searches go on; new, replaced and deleted rows are heeded."""
    wide = Identity(embedder="contract", dimensions=16)
    path = tmp_path / "m.db"
    store = await EmbeddedStore.open(path, wide, exact_limit=500)
    await fill(store, 1500, dimensions=16)
    await store.wait_settled()
    assert store.graph_size == 1500
    await fill(store, 1100, dimensions=16, seed=1, name="e")
    await store.wait_settled()
    assert store.graph_size == 2600
    vectors = np.concatenate([random_units(1500, 16), random_units(1100, 16, 1)])
    names = ["d"] * 1500 + ["e"] * 1100

    right = 0
    for query in random_units(20, 16, seed=5):
        hits = await store.nearest(query, limit=10)
        exact = np.argsort(-(vectors @ query))[:10]
        assert hits[0].score == pytest.approx(float(vectors[exact[0]] @ query), abs=1e-6)
        right += len(
            {(names[n], n % 1500) for n in exact} & {(h.document.name, h.chunk.ordinal) for h in hits}
        )
    assert right >= 196

    only_e = await store.nearest(vectors[3], limit=5, where=OneOf((document_id("e"),)))
    assert {hit.document.name for hit in only_e} == {"e"}
    await store.delete(document_id("d"))
    assert {hit.document.name for hit in await store.nearest(vectors[3], limit=10)} == {"e"}
    await store.close()


def rights_of_others(folder: Path) -> dict[str, int]:
    """Return what all but the owner may do with each kind of file."""
    return {file.suffix: file.stat().st_mode & 0o077 for file in folder.iterdir()}


@needs_graph
async def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    """Nobody else on the machine reads what documents say: neither the database nor the graph."""
    store = await EmbeddedStore.open(tmp_path / "m.db", IDENTITY, exact_limit=500)
    await fill(store, 1100)
    await store.wait_settled()
    rights = await asyncio.to_thread(rights_of_others, tmp_path)
    await store.close()
    rights |= await asyncio.to_thread(rights_of_others, tmp_path)

    assert rights == dict.fromkeys((".db", ".db-wal", ".db-shm", ".lock", ".reserve", ".graph"), 0)


@needs_graph
@pytest.mark.parametrize("fault", ["none", "flipped", "gone"])
async def test_a_graph_file_is_used_or_built_anew(tmp_path: Path, fault: str) -> None:
    """A whole snapshot serves at once; of a damaged one nothing is seen but the time to build another."""
    path = tmp_path / "m.db"
    store = await EmbeddedStore.open(path, OTHER, exact_limit=500)
    await fill(store, 1200, dimensions=8)
    await store.wait_settled()
    assert store.graph_size == 1200
    await store.close()
    (file,) = snapshots(tmp_path)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    if fault == "flipped":
        file.write_bytes(content)
    elif fault == "gone":
        file.unlink()
    query = random_units(1, 8)[0]

    store = await EmbeddedStore.open(path, OTHER, exact_limit=500)

    assert (store.graph_size == 1200) or fault != "none"
    assert (await found(store, query))[0] == 0
    await store.wait_settled()
    assert store.graph_size == 1200
    assert (await found(store, query))[0] == 0
    await store.close()
    assert len(snapshots(tmp_path)) == 1


@needs_graph
async def test_what_came_after_a_snapshot_is_found_after_a_crash(tmp_path: Path) -> None:
    """Rows that the saved graph lacks, and deletions that it missed, are read from the database."""
    path = tmp_path / "m.db"
    store = await EmbeddedStore.open(path, OTHER, exact_limit=500)
    await fill(store, 1200, dimensions=8)
    await store.wait_settled()
    assert store.graph_size == 1200
    await store.close()
    store = await EmbeddedStore.open(path, OTHER, exact_limit=500)
    await fill(store, 3, dimensions=8, seed=7, name="late")
    await store.delete(document_id("d"))
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    copy_files(tmp_path, crashed)
    await store.close()

    store = await EmbeddedStore.open(crashed / "m.db", OTHER, exact_limit=500)

    hits = await store.nearest(random_units(1, 8)[0], limit=10)
    assert sorted((hit.document.name, hit.chunk.ordinal) for hit in hits) == [("late", n) for n in range(3)]
    await store.close()


async def test_without_the_graph_library_every_vector_is_compared(tmp_path: Path) -> None:
    """The dependency is optional: above the limit answers stay exact."""
    index = VectorIndex(4, exact_limit=10, can_build=False)
    vectors = random_units(100)
    index.add(np.arange(1, 101, dtype=np.int64), vectors)

    assert not index.wants_graph()
    assert index.candidates(vectors[41], 1).numbers == [42]


def test_a_row_is_a_candidate_until_it_is_let_go_of() -> None:
    """A search that began before a row died finds it, or sees that rows were let go of meanwhile."""
    index = VectorIndex(4, exact_limit=10, can_build=False)
    vectors = random_units(300)
    index.add(np.arange(1, 101, dtype=np.int64), vectors[:100])

    index.discard(np.array([42], dtype=np.int64))

    assert index.forgotten == 0
    assert index.num_young == 99
    assert 42 in index.candidates(vectors[41], 1).numbers
    index.add(np.arange(101, 301, dtype=np.int64), vectors[100:])
    assert index.forgotten == 1
    assert 42 not in index.candidates(vectors[41], 1).numbers


def test_the_missing_library_is_hinted_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """A memory that has grown beyond exact search says what to install, one time."""
    index = VectorIndex(4, exact_limit=10, can_build=False)
    keeper = GraphKeeper(None, Pool(None, IDENTITY, readers=1), index, 4, lambda write: None)
    index.add(np.arange(1, 11, dtype=np.int64), random_units(10))
    keeper.nudge()
    assert caplog.messages == []

    index.add(np.arange(11, 12, dtype=np.int64), random_units(1))
    keeper.nudge()
    keeper.nudge()

    (message,) = caplog.messages
    assert "11 vectors" in message
    assert "pip install 'arriero[index]'" in message


async def test_readers_and_a_writer_do_not_disturb_each_other(tmp_path: Path) -> None:
    """A document that is replaced all the time is found whole by every search, in one version."""
    await together(tmp_path / "m.db", seconds=1.0)


@pytest.mark.slow
async def test_readers_and_a_writer_for_ten_minutes(tmp_path: Path) -> None:
    """The same, for long, with a graph that is built meanwhile; ARRIERO_READERS_S is another time."""
    await together(tmp_path / "m.db", seconds=float(os.environ.get("ARRIERO_READERS_S", "600")))


async def together(path: Path, *, seconds: float) -> None:
    """Let eight readers and one writer run at a time."""
    store = await EmbeddedStore.open(path, IDENTITY, exact_limit=400)
    begin = asyncio.get_running_loop().time()
    near = units([9, 1, 0, 0], [9, 0, 1, 0], [9, 0, 0, 1])
    searches = 0

    def is_over() -> bool:
        return asyncio.get_running_loop().time() - begin > seconds

    async def version(number: int) -> None:
        chunks = pieces(*[f"pinned v{number} w{place}" for place in range(3)])
        await store.replace(document("pinned", 3, {"v": float(number)}), chunks, near)

    async def write() -> None:
        number = 1
        while not is_over():
            await version(number)
            await store.replace(
                document(f"d{number % 40}", 20), pieces(*["far away"] * 20), -random_near(20, number)
            )
            if number % 7 == 0:
                await store.delete(document_id(f"d{number % 40}"))
            number += 1

    async def read() -> None:
        nonlocal searches
        while not is_over():
            hits = await store.nearest(unit(1, 0, 0, 0), limit=3)
            assert sorted(hit.chunk.ordinal for hit in hits) == [0, 1, 2]
            assert len({(hit.document.attributes["v"], hit.chunk.text.split()[1]) for hit in hits}) == 1
            words = await store.matching("pinned", limit=5)
            assert len({hit.document.attributes["v"] for hit in words}) == 1
            assert len(words) == 3
            searches += 1

    await version(0)
    async with asyncio.TaskGroup() as jobs:
        jobs.create_task(write())
        for _ in range(8):
            jobs.create_task(read())
    await store.close()

    assert searches > 10
    assert check(path).faults == ()


def random_near(count: int, seed: int) -> NDArray[np.float32]:
    """Return random vectors of length 1 on the side of the first axis."""
    values = random_units(count, 4, seed)
    values[:, 0] = np.abs(values[:, 0])
    return values
