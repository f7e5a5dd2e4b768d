"""A library: files that callers upload, the memories that they make, and what of the one is in the other.

A store is named by the id of a vector store, or by the name of a configured memory. Who may see a file or
a vector store is its tenant; a tenant of None sees all. Whether a caller may use a configured memory is
decided before a library is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from arriero.errors import ArrieroError, InvalidRequest, NotSupported, QueueFull, UnknownName
from arriero.memory.library.attaching import Attaching
from arriero.memory.library.catalogue import Catalogue
from arriero.memory.library.files import Files
from arriero.memory.library.lending import Lending
from arriero.memory.library.records import Attachment, Batch, Status, StoredFile, VectorStore, unknown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from arriero.config.memory import VectorStoresConfig
    from arriero.core import Embedder
    from arriero.memory.job import Cutting
    from arriero.memory.library.records import FileCounts, Page
    from arriero.memory.memory import Memory
    from arriero.memory.records import Attribute
    from arriero.memory.rerank import Reranker

logger = logging.getLogger(__name__)

CATALOGUE_FILE = "catalogue.db"
MAX_WAITING = 10_000
"""Files on their way into one memory; more are refused."""
SWEEP_S = 600.0
ACTIVITY_S = 60.0
"""How exactly the last use of a vector store is known: writing it down costs a disk write."""


class NewAttachment(msgspec.Struct, frozen=True):
    """A file to be attached, and how."""

    file: StoredFile
    attributes: Mapping[str, Attribute] = {}
    cutting: Cutting | None = None


class Library:
    """Owns the directory of a library. Use `opened`."""

    def __init__(
        self,
        directory: Path,
        config: VectorStoresConfig,
        embedders: Mapping[str, Embedder],
        memories: Mapping[str, Memory],
        clock: Callable[[], float] = time.time,
        rerankers: Mapping[str, Reranker] | None = None,
    ) -> None:
        """Open it; blocks. Raises Unavailable."""
        self.memories = memories
        self._config = config
        self._embedders = embedders
        self._clock = clock
        self._making = asyncio.Lock()
        self.catalogue = Catalogue(directory / CATALOGUE_FILE)
        try:
            self.files = Files(directory / "files", self.catalogue, config, clock)
            self.lending = Lending(
                directory / "stores",
                embedders,
                max_document_bytes=config.max_file_bytes,
                rerankers=rerankers,
                rerank=config.rerank,
            )
            self.lending.remove_all_but({store.id for store in self.catalogue.stores(None)})
        except BaseException:
            self.catalogue.close()
            raise
        self.attaching = Attaching(self.catalogue, self.files, self.memory)
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Go on with what was on its way, and forget what expires from now on."""
        await self.attaching.begin(await asyncio.to_thread(self.catalogue.unfinished))
        self._sweeping = asyncio.create_task(self._sweep_often())

    async def stop(self) -> None:
        """End the work and close everything."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait([self._sweeping])
        await self.attaching.stop()
        await self.lending.stop()
        await asyncio.to_thread(self.catalogue.close)

    async def make_store(
        self,
        tenant: str,
        *,
        name: str,
        description: str | None,
        metadata: Mapping[str, str],
        days: int | None,
    ) -> VectorStore:
        """Make an empty memory. Raises NotSupported when nothing makes vectors, InvalidRequest."""
        now = self._clock()
        store = VectorStore(
            id=f"vs_{secrets.token_hex(12)}",
            tenant=tenant,
            embedding_model=self._embedding_model(),
            created_at=now,
            last_active_at=now,
            name=name,
            description=description,
            metadata=metadata,
            days=days,
        )
        async with self._making:
            if len(await self.stores(tenant)) >= self._config.max_stores:
                raise InvalidRequest(
                    f"there are {self._config.max_stores} vector stores, which is what"
                    " vector_stores.max_stores allows; delete some first"
                )
            await asyncio.to_thread(self.catalogue.add_store, store)
        return store

    async def stores(self, tenant: str | None) -> list[VectorStore]:
        """Return the vector stores of a tenant, oldest first."""
        return await asyncio.to_thread(self.catalogue.stores, tenant)

    async def store(self, id: str, tenant: str | None) -> VectorStore:
        """Return a vector store. Raises UnknownName, also for one that is not the tenant's."""
        store = await asyncio.to_thread(self.catalogue.store, id)
        if tenant not in (None, store.tenant):
            raise unknown("vector store", id)
        return store

    async def change_store(self, id: str, changes: Mapping[str, object]) -> VectorStore:
        """Change members of a vector store and return it as it is then. Raises UnknownName."""
        return await asyncio.to_thread(self.catalogue.change_store, id, changes)

    async def remove_store(self, id: str) -> None:
        """Remove a vector store with all that was ingested; the files stay."""
        await asyncio.to_thread(self.catalogue.remove_store, id)
        await self.attaching.abandon(id)
        await self.lending.remove(id)

    def is_expired(self, store: VectorStore) -> bool:
        """Whether the content of a vector store is forgotten."""
        return store.is_expired(self._clock())

    @asynccontextmanager
    async def memory(self, store: str) -> AsyncIterator[Memory]:
        """Keep a memory open while the block runs.

        Raises UnknownName, InvalidRequest for one that has expired, NotSupported, Unavailable.
        """
        if store in self.memories:
            yield self.memories[store]
            return
        found = await asyncio.to_thread(self.catalogue.store, store)
        now = self._clock()
        if found.is_expired(now):
            raise InvalidRequest(f"the vector store {store} has expired", param="vector_store_id")
        if now - found.last_active_at > ACTIVITY_S:
            await self.change_store(store, {"last_active_at": now})
        async with self.lending.lent(found) as memory:
            yield memory

    async def attach(self, store: str, new: Sequence[NewAttachment]) -> list[Attachment]:
        """Take files on, to be brought into a memory. Raises QueueFull, Unavailable."""
        return await self._attach(store, new, None)

    async def attach_batch(self, store: str, new: Sequence[NewAttachment]) -> Batch:
        """Take files on as one batch. Raises QueueFull, Unavailable."""
        batch = Batch(id=f"vsfb_{secrets.token_hex(12)}", store=store, created_at=self._clock())
        await self._attach(store, new, batch)
        return batch

    async def _attach(
        self, store: str, new: Sequence[NewAttachment], batch: Batch | None
    ) -> list[Attachment]:
        waiting = (await self.counts(store)).in_progress
        if waiting + len(new) > MAX_WAITING:
            raise QueueFull(f"{waiting} files wait to be ingested into {store}; try again later")
        now = self._clock()
        attachments = [
            Attachment(
                store=store,
                file_id=one.file.id,
                file_name=one.file.name,
                created_at=now,
                attributes=one.attributes,
                cutting=one.cutting,
                media_type=one.file.media_type,
            )
            for one in new
        ]
        await asyncio.to_thread(self.catalogue.attach, attachments, batch)
        await self.attaching.begin(attachments)
        return attachments

    async def attachments(
        self, store: str, page: Page, *, status: Status | None = None, batch: str | None = None
    ) -> tuple[list[Attachment], bool]:
        """Return what is attached to a store, and whether there is more. Raises InvalidRequest."""
        while True:
            found, has_more = await asyncio.to_thread(
                self.catalogue.attachments, store, page, status=status, batch=batch
            )
            if not await self._forget_gone(found):
                return found, has_more

    async def attachment(self, store: str, file_id: str) -> Attachment:
        """Return an attachment. Raises UnknownName."""
        found = await asyncio.to_thread(self.catalogue.attachment, store, file_id)
        if await self._forget_gone([found]):
            raise unknown("vector store file", file_id)
        return found

    async def _forget_gone(self, attachments: Sequence[Attachment]) -> bool:
        """Forget files that a configured memory has lost by its other routes; say whether there were any."""
        gone = [
            one
            for one in attachments
            if one.store in self.memories
            and one.status is Status.COMPLETED
            and await self.memories[one.store].store.document(one.document_id) is None
        ]
        if gone:
            await asyncio.to_thread(self.catalogue.forget_completed, gone)
        return bool(gone)

    async def counts(self, store: str, batch: str | None = None) -> FileCounts:
        """Return how many of the attached files are how far."""
        return await asyncio.to_thread(self.catalogue.counts, store, batch)

    async def cancel_batch(self, batch: Batch) -> Batch:
        """End what of a batch is still on its way."""
        cancelled = msgspec.structs.replace(batch, is_cancelled=True)
        await asyncio.to_thread(self.catalogue.put_batch, cancelled)
        waiting = await asyncio.to_thread(self.catalogue.unfinished, batch.store, batch.id)
        await self.attaching.cancel(waiting)
        return cancelled

    async def relabel(self, one: Attachment, attributes: Mapping[str, Attribute]) -> Attachment:
        """Give an attached file other attributes; waits until a file that is in the memory has them.

        Raises Unavailable.
        """
        changed = msgspec.structs.replace(one, attributes=attributes)
        if one.status is Status.COMPLETED:
            # Only the memory's own way in keeps chunks, words and attributes together: it is ingested anew.
            changed = msgspec.structs.replace(changed, status=Status.IN_PROGRESS)
        await asyncio.to_thread(self.catalogue.update, changed)
        if changed.status is Status.IN_PROGRESS:
            await self.attaching.begin([changed])
        if one.status is Status.COMPLETED:
            await self.attaching.settled(changed)
        return await asyncio.to_thread(self.catalogue.attachment, one.store, one.file_id)

    async def remove_file(self, file: StoredFile) -> None:
        """Forget a file and take it out of every memory. Raises Unavailable."""
        for one in await asyncio.to_thread(self.catalogue.attached, file.id):
            # A memory that is gone or has expired holds nothing of it.
            with contextlib.suppress(UnknownName, InvalidRequest, NotSupported):
                await self.attaching.detach(one)
            await asyncio.to_thread(self.catalogue.detach, one.store, one.file_id)
        await self.files.remove(file.id)

    async def sweep(self) -> None:
        """Forget files and contents of vector stores whose time is over."""
        for file in await self.files.expired():
            await self.remove_file(file)
        for store in await self.stores(None):
            if not store.is_emptied and self.is_expired(store):
                await self.attaching.cancel(await asyncio.to_thread(self.catalogue.unfinished, store.id))
                await self.lending.remove(store.id)
                await self.change_store(store.id, {"is_emptied": True})

    async def _sweep_often(self) -> None:
        while True:
            try:
                await self.sweep()
            except ArrieroError as exc:
                logger.warning("expired files are not forgotten: %s", exc.message)
            await asyncio.sleep(SWEEP_S)

    def _embedding_model(self) -> str:
        """Return the name of the model that makes vectors here. Raises NotSupported."""
        if self._config.embedding_model is not None:
            return self._config.embedding_model
        names = [name for name, embedder in self._embedders.items() if not embedder.info.generates]
        if len(names) != 1:
            found = f"there are {', '.join(sorted(names))}" if names else "there is none"
            raise NotSupported(
                f"a vector store needs one model that makes embeddings, and {found}; set"
                " vector_stores.embedding_model"
            )
        return names[0]
