"""A library by itself: time, room, restarts and what a crash leaves."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from arriero.config.load import parse_config
from arriero.config.memory import VectorStoresConfig
from arriero.errors import ConfigError, InvalidRequest, NotSupported, QueueFull, Unavailable, UnknownName
from arriero.memory.library import library as libraries
from arriero.memory.library.door import open_door
from arriero.memory.library.library import Library, NewAttachment
from arriero.memory.library.records import DAY_S, Page, Status, StoredFile, VectorStore
from arriero.memory.passage import Query
from arriero.testing.word_embedder import WordEmbedder

CAT = b"The cat sat on the mat."


class Clock:
    """A time that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(
    path: Path, clock: Clock | None = None, embedders: Mapping[str, Any] | None = None
) -> AsyncIterator[Library]:
    """Open the library of a directory while the block runs."""
    given = {"w": WordEmbedder()} if embedders is None else embedders
    library = Library(path, VectorStoresConfig(), given, {}, clock or Clock())
    await library.start()
    try:
        yield library
    finally:
        await library.stop()


async def added(library: Library, data: bytes = CAT, lifetime_s: int | None = None) -> StoredFile:
    """Upload a file."""
    return await library.files.add(
        io.BytesIO(data), tenant="t", name="a.txt", purpose="batch", lifetime_s=lifetime_s
    )


async def made(library: Library, days: int | None = None) -> VectorStore:
    """Make a vector store."""
    return await library.make_store("t", name="", description=None, metadata={}, days=days)


async def attached(library: Library, store: str, file: StoredFile) -> Status:
    """Attach a file and wait for the end."""
    (one,) = await library.attach(store, [NewAttachment(file)])
    await library.attaching.settled(one)
    return library.catalogue.attachment(store, file.id).status


async def found(library: Library, store: str) -> list[str]:
    """Return what a search finds."""
    async with library.memory(store) as memory:
        return [passage.text for passage in await memory.recall(Query("cat"))]


async def test_an_unused_store_expires(tmp_path: Path) -> None:
    """Each use puts the end off; when it comes, the content is gone and stays gone."""
    clock = Clock()
    async with opened(tmp_path, clock) as library:
        store = await made(library, days=2)
        assert await attached(library, store.id, await added(library)) is Status.COMPLETED
        clock.now += 1.5 * DAY_S
        assert await found(library, store.id) == [CAT.decode()]
        clock.now += 1.5 * DAY_S
        assert await found(library, store.id) == [CAT.decode()]
        clock.now += 2 * DAY_S
        with pytest.raises(InvalidRequest, match="expired"):
            await found(library, store.id)
        await library.sweep()
        await library.change_store(store.id, {"days": None})
        with pytest.raises(InvalidRequest, match="expired"):
            await found(library, store.id)

    assert os.listdir(tmp_path / "stores") == []


async def test_a_file_expires(tmp_path: Path) -> None:
    """From that moment it is not there; a sweep takes its bytes, and takes it out of its stores."""
    clock = Clock()
    async with opened(tmp_path, clock) as library:
        store, file, other = (
            await made(library),
            await added(library, lifetime_s=3600),
            await added(library, b"x"),
        )
        await attached(library, store.id, file)
        clock.now += 3600
        with pytest.raises(UnknownName):
            await library.files.get(file.id, "t")
        listed, _ = await library.files.page("t", None, Page(limit=10))
        await library.sweep()
        remaining = await found(library, store.id)

    assert [one.id for one in listed] == [other.id]
    assert os.listdir(tmp_path / "files") == [other.id]
    assert remaining == []


async def test_few_memories_are_open_at_once(tmp_path: Path) -> None:
    """The longest unused is closed, and opened again when it is wanted."""
    async with opened(tmp_path) as library:
        library.lending._max_open = 2
        stores = [await made(library) for _ in range(4)]
        for store in stores:
            await attached(library, store.id, await added(library))
        texts = [await found(library, store.id) for store in stores]

        assert library.lending.num_open == 2
        assert texts == [[CAT.decode()]] * 4


async def test_a_memory_in_use_is_not_closed(tmp_path: Path) -> None:
    """While a search holds it, others may be opened beyond the bound."""
    async with opened(tmp_path) as library:
        library.lending._max_open = 1
        first, second = await made(library), await made(library)
        await attached(library, first.id, await added(library))
        async with library.memory(first.id) as memory:
            assert await found(library, second.id) == []
            assert await memory.recall(Query("cat"))


async def test_what_a_crash_left_is_cleared_up(tmp_path: Path) -> None:
    """Files of memories that nothing names are removed at the start; others stay."""
    async with opened(tmp_path) as library:
        store = await made(library)
        await attached(library, store.id, await added(library))
    for name in ("vs_gone.db", "vs_gone.db-wal"):
        (tmp_path / "stores" / name).write_bytes(b"x")
    async with opened(tmp_path) as library:
        names = {path.name.partition(".")[0] for path in (tmp_path / "stores").iterdir()}

    assert names == {store.id}


async def test_an_attachment_that_was_only_written_down_is_done_at_the_start(tmp_path: Path) -> None:
    """A crash right after a file was taken on loses nothing."""
    async with opened(tmp_path) as library:
        store, file = await made(library), await added(library)
        await attached(library, store.id, file)
        one = library.catalogue.attachment(store.id, file.id)
        async with library.memory(store.id) as memory:
            await memory.clear()
        library.catalogue.update(msgspec.structs.replace(one, status=Status.IN_PROGRESS, size=0))
    async with opened(tmp_path) as library:
        await library.attaching.settled(one)

        assert library.catalogue.attachment(store.id, file.id).status is Status.COMPLETED
        assert await found(library, store.id) == [CAT.decode()]


async def test_another_model_is_told(tmp_path: Path) -> None:
    """A store is refused with the reason when its model is gone, or makes other vectors now."""
    async with opened(tmp_path) as library:
        store = await made(library)
        await attached(library, store.id, await added(library))
    async with opened(tmp_path, embedders={"w": WordEmbedder(dimensions=8)}) as library:
        with pytest.raises(NotSupported, match="holds vectors of"):
            await found(library, store.id)
    async with opened(tmp_path, embedders={"v": WordEmbedder()}) as library:
        with pytest.raises(NotSupported, match="does not run here any more"):
            await found(library, store.id)


async def test_a_file_whose_bytes_are_lost_fails_alone(tmp_path: Path) -> None:
    """Its end is told; it is not tried for ever."""
    async with opened(tmp_path) as library:
        store, lost, file = await made(library), await added(library), await added(library)
        library.files.path(lost.id).unlink()
        ends = [await attached(library, store.id, one) for one in (lost, file)]
        failure = library.catalogue.attachment(store.id, lost.id).failure

    assert ends == [Status.FAILED, Status.COMPLETED]
    assert failure is not None
    assert failure.code == "server_error"


async def test_a_memory_that_is_just_being_opened_is_not_lost(tmp_path: Path) -> None:
    """Work that is cancelled while its memory is opened leaves it to those who come next."""
    async with opened(tmp_path) as library:
        for _ in range(5):
            store, file = await made(library), await added(library)
            batch = await library.attach_batch(store.id, [NewAttachment(file)])
            await asyncio.sleep(0)
            await library.cancel_batch(batch)
            assert await attached(library, store.id, file) is Status.COMPLETED
            assert await found(library, store.id) == [CAT.decode()]


async def test_a_removal_waits_for_those_who_search(tmp_path: Path) -> None:
    """A search that has begun has its answer; one that comes later finds no store."""
    async with opened(tmp_path) as library:
        store = await made(library)
        await attached(library, store.id, await added(library))
        async with library.memory(store.id) as memory:
            removal = asyncio.create_task(library.remove_store(store.id))
            while store in await library.stores("t"):
                pass
            assert [passage.text for passage in await memory.recall(Query("cat"))] == [CAT.decode()]
            with pytest.raises(UnknownName):
                await found(library, store.id)
        await removal

    assert os.listdir(tmp_path / "stores") == []


async def test_too_many_waiting_files_are_refused(tmp_path: Path) -> None:
    """The bound on files that are on their way into one memory is on those of a request, too."""
    async with opened(tmp_path) as library:
        store, file = await made(library), await added(library)
        with pytest.raises(QueueFull):
            await library.attach(store.id, [NewAttachment(file)] * (libraries.MAX_WAITING + 1))

        assert (await library.counts(store.id)).total == 0


async def test_one_process_has_a_library_open(tmp_path: Path) -> None:
    """A second one goes on without it, and has it once the first is gone."""
    config = parse_config(f'cache_path = "{tmp_path}"', {})
    async with opened(tmp_path / "vector_stores"), open_door(config, {}, {}) as door:
        with pytest.raises(Unavailable, match="another process"):
            await door.library()
    async with open_door(config, {}, {}) as door:
        assert await (await door.library()).stores(None) == []


async def test_nothing_is_made_before_it_is_wanted(tmp_path: Path) -> None:
    """A server whose callers upload nothing has no directory for it."""
    async with open_door(parse_config(f'cache_path = "{tmp_path}"', {}), {}, {}):
        pass

    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "is_served"),
    [
        ("", True),
        ("[auth]\npublic = true", False),
        ("[auth]\npublic = true\n[vector_stores]\nenabled = true", True),
        ("[vector_stores]\nenabled = false", False),
    ],
)
def test_strangers_upload_nothing_unless_told(text: str, is_served: bool) -> None:
    """A public server serves no files by itself."""
    assert parse_config(text, {}).serves_vector_stores is is_served


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[vector_stores]\nembedding_model = "w"', 'there is no model "w"'),
        (
            '[models.w]\nurl = "http://127.0.0.1:1/w.gguf"\n[memories.vector_stores]\nembedding_model = "w"\n'
            "store = { embedded = {} }",
            "grants use this name",
        ),
    ],
)
def test_a_wrong_configuration_is_refused(text: str, message: str) -> None:
    """The message says which key."""
    with pytest.raises(ConfigError, match=message):
        parse_config(text, {})
