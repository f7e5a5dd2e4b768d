"""The memories made at run time, opened when they are wanted; the longest unused are closed again.

Each costs file handles and threads while it is open, so there may be many, but few are open at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from arriero.config.memory import EmbeddedStore as EmbeddedStoreConfig
from arriero.config.memory import MemoryConfig, StoreConfig
from arriero.errors import ConfigError, NotSupported
from arriero.memory.embedding import identity_of
from arriero.memory.journal import Journal
from arriero.memory.library.records import unknown
from arriero.memory.memory import Memory
from arriero.memory.sqlite_errors import translated
from arriero.memory.sqlite_pool import make_folders

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Mapping
    from pathlib import Path

    from arriero.config.memory import RerankConfig
    from arriero.core import Embedder
    from arriero.memory.library.records import VectorStore
    from arriero.memory.rerank import Reranker

Result = TypeVar("Result")

MAX_OPEN = 32
READERS = 2


class _Slot:
    """One memory, open or not. `lock`: held while that changes."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.memory: Memory | None = None
        self.num_users = 0
        self.is_unused = asyncio.Event()
        self.is_removed = False


class Lending:
    """Owns the memories made at run time, and their files."""

    def __init__(
        self,
        directory: Path,
        embedders: Mapping[str, Embedder],
        *,
        max_document_bytes: int,
        rerankers: Mapping[str, Reranker] | None = None,
        rerank: RerankConfig | None = None,
        max_open: int = MAX_OPEN,
    ) -> None:
        self._directory = directory
        self._embedders = embedders
        self._max_document_bytes = max_document_bytes
        self._rerankers = rerankers
        self._rerank = rerank
        self._max_open = max_open
        self._slots: dict[str, _Slot] = {}

    @property
    def num_open(self) -> int:
        """How many are open now."""
        return sum(slot.memory is not None for slot in self._slots.values())

    @asynccontextmanager
    async def lent(self, store: VectorStore) -> AsyncIterator[Memory]:
        """Keep a memory open while the block runs.

        Raises NotSupported when its embedding model is not there any more, Unavailable, UnknownName for one
        that is being removed.
        """
        slot = self._slots.get(store.id) or _Slot()
        if slot.is_removed:
            raise unknown("vector store", store.id)
        self._slots.pop(store.id, None)
        self._slots[store.id] = slot  # the last is the one used last
        slot.num_users += 1
        try:
            async with slot.lock:
                if slot.memory is None:
                    await unbroken(self._open(slot, store))
            assert slot.memory is not None
            yield slot.memory
        finally:
            slot.num_users -= 1
            if not slot.num_users:
                slot.is_unused.set()
                slot.is_unused.clear()
            await self._shrink()

    async def remove(self, id: str) -> None:
        """Close a memory once nobody uses it, and remove its files."""
        slot = self._slots.setdefault(id, _Slot())
        slot.is_removed = True
        while slot.num_users:
            await slot.is_unused.wait()
        await _close(slot)
        self._slots.pop(id, None)
        await asyncio.to_thread(self._unlink, id)

    async def stop(self) -> None:
        """Close every memory."""
        for slot in self._slots.values():
            await _close(slot)

    async def used_bytes(self, id: str) -> int:
        """Return what a memory takes on the disk."""

        def size() -> int:
            kept = [path for path in self._files(id) if path.suffix != ".reserve"]
            return sum(path.stat().st_size for path in kept)

        with contextlib.suppress(OSError):  # a file that has just gone
            return await asyncio.to_thread(size)
        return 0

    def remove_all_but(self, ids: set[str]) -> None:
        """Remove files that belong to no vector store; blocks. For the start, when none is open."""
        with translated(self._directory):
            make_folders(self._directory)
            for path in self._directory.iterdir():
                if path.name.partition(".")[0] not in ids:
                    path.unlink()

    async def _shrink(self) -> None:
        for slot in list(self._slots.values()):
            if self.num_open <= self._max_open:
                return
            async with slot.lock:
                if not slot.num_users:
                    await _close(slot)

    async def _open(self, slot: _Slot, store: VectorStore) -> None:
        slot.memory = await self._opened(store)

    async def _opened(self, store: VectorStore) -> Memory:
        embedder = self._embedders.get(store.embedding_model)
        if embedder is None:
            raise NotSupported(
                f"the vector store {store.id} was made with the model {store.embedding_model}, which does not"
                " run here any more"
            )
        path = self._directory / f"{store.id}.db"
        config = MemoryConfig(
            store=StoreConfig(embedded=EmbeddedStoreConfig(path=path)),
            embedding_model=store.embedding_model,
            max_document_bytes=self._max_document_bytes,
            rerank=self._rerank,
        )
        # Imported when it is wanted, as in `memory/open.py`: it needs SQLite with FTS5.
        from arriero.memory.embedded import EmbeddedStore

        try:
            opened = await EmbeddedStore.open(path, identity_of(embedder), readers=READERS)
        except ConfigError as exc:
            raise NotSupported(f"the vector store {store.id} cannot be used: {exc.message}") from exc
        # What is on its way stands in the library's catalogue, and the bytes in its files.
        memory = Memory(store.id, config, embedder, opened, journal=Journal(None), rerankers=self._rerankers)
        await memory.start()
        return memory

    def _unlink(self, id: str) -> None:
        with translated(self._directory):
            for path in self._files(id):
                path.unlink(missing_ok=True)

    def _files(self, id: str) -> list[Path]:
        return list(self._directory.glob(f"{glob.escape(id)}.*"))


async def _close(slot: _Slot) -> None:
    memory, slot.memory = slot.memory, None
    if memory is not None:
        await unbroken(memory.stop())


async def unbroken(work: Coroutine[Any, Any, Result]) -> Result:
    """Do work that must not stop in the middle, such as opening a file in a thread.

    A cancellation is raised once the work has its end.
    """
    job = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        while not job.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([job])
        if not job.cancelled():
            job.exception()  # looked at, so that nobody is told that it was not
        raise
