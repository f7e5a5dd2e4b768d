"""Files on their way into memories. The catalogue holds what is wanted, so a restart goes on with it.

1. An attachment stands in the catalogue before anything is done for it.
2. A job reads the file, hands it to the memory and writes down the end; few at once for each memory.
3. While the memory takes nothing on (its queue, the disk), the job waits and tries again.
4. What stopped in the middle begins anew: a document that is there already is left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import msgspec

from arriero.errors import (
    ArrieroError,
    InvalidRequest,
    NotSupported,
    Overloaded,
    RequestError,
    Unavailable,
    UnknownName,
    UnreadableDocument,
)
from arriero.memory.job import Source, State
from arriero.memory.library.records import Failure, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from arriero.memory.library.catalogue import Catalogue
    from arriero.memory.library.files import Files
    from arriero.memory.library.records import Attachment
    from arriero.memory.memory import Memory

    Lend = Callable[[str], AbstractAsyncContextManager[Memory]]

logger = logging.getLogger(__name__)

AT_ONCE = 4
LONGEST_PAUSE_S = 30.0


class Attaching:
    """Owns the jobs that bring files into memories.

    lend: keeps the memory of a name or id open while a block runs.
    pause_s: before the second attempt; it doubles with each further one.
    """

    def __init__(self, catalogue: Catalogue, files: Files, lend: Lend, *, pause_s: float = 0.5) -> None:
        self._catalogue = catalogue
        self._files = files
        self._lend = lend
        self._pause_s = pause_s
        self._places: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))
        self._jobs: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def stop(self) -> None:
        """Stop working; what has no end is gone on with at the next start."""
        jobs = list(self._jobs.values())
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

    async def begin(self, attachments: Iterable[Attachment]) -> None:
        """Bring files into their memories; the catalogue has the attachments already."""
        for one in attachments:
            key = (one.store, one.file_id)
            while key in self._jobs:  # another may have begun one meanwhile
                await self._halt(key)
            self._jobs[key] = asyncio.create_task(self._run(one), name=f"attach {one.file_id}")

    async def cancel(self, attachments: Iterable[Attachment]) -> None:
        """End what is on its way. What its memory holds by then is completed."""
        for one in attachments:
            await self._halt((one.store, one.file_id))
            document = None
            with contextlib.suppress(UnknownName, InvalidRequest, NotSupported):
                async with self._lend(one.store) as memory, memory.jobs.forgotten(one.document_id):
                    document = await memory.store.document(one.document_id)
            status = Status.CANCELLED if document is None else Status.COMPLETED
            await self._end(one, status, size=0 if document is None else document.size)

    async def settled(self, one: Attachment) -> None:
        """Wait for the end of what is on its way."""
        job = self._jobs.get((one.store, one.file_id))
        if job is not None:
            await asyncio.wait([job])

    async def abandon(self, store: str) -> None:
        """End whatever is on its way into a store that is to be removed."""
        for key in [key for key in self._jobs if key[0] == store]:
            await self._halt(key)
        self._places.pop(store, None)

    async def detach(self, one: Attachment) -> None:
        """Take a file out of its memory, and end what is on its way."""
        await self._halt((one.store, one.file_id))
        async with self._lend(one.store) as memory:
            await memory.delete(one.document_id)
        await asyncio.to_thread(self._catalogue.detach, one.store, one.file_id)

    async def _halt(self, key: tuple[str, str]) -> None:
        job = self._jobs.get(key)
        if job is not None:
            job.cancel()
            await asyncio.wait([job])
            if self._jobs.get(key) is job:  # it was ended before it began
                del self._jobs[key]

    async def _run(self, one: Attachment) -> None:
        try:
            await self._until_ingested(one)
        except ArrieroError as exc:
            await self._end(one, Status.FAILED, failure=_failure(exc))
        except Exception:
            logger.exception("memory %s: %s", one.store, one.file_id)
            await self._end(one, Status.FAILED, failure=Failure("server_error", "internal error"))
        finally:
            self._jobs.pop((one.store, one.file_id), None)

    async def _until_ingested(self, one: Attachment) -> None:
        pause_s = self._pause_s
        while True:
            try:
                async with self._places[one.store], self._lend(one.store) as memory:
                    await self._ingest(one, memory)
                return
            except (Overloaded, Unavailable) as exc:
                logger.warning("memory %s takes nothing on: %s", one.store, exc.message)
            await asyncio.sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)

    async def _ingest(self, one: Attachment, memory: Memory) -> None:
        data = await self._files.read(one.file_id)
        source = Source(
            name=one.document_name,
            data=data,
            media_type=one.media_type,
            attributes=one.attributes,
            cutting=one.cutting,
        )
        job = await memory.submit(source)
        try:
            job = await memory.jobs.ended(job.id)
            if job.state is State.CANCELLED:
                await self._end(one, Status.CANCELLED)
                return
            await memory.jobs.finished(job.id)  # raises what it failed of
        except UnknownName:  # it ended so long ago that nobody remembers how
            if await memory.store.document(one.document_id) is None:
                raise
        await self._end(one, Status.COMPLETED, size=len(data))

    async def _end(
        self, one: Attachment, status: Status, *, failure: Failure | None = None, size: int = 0
    ) -> None:
        ended = msgspec.structs.replace(one, status=status, failure=failure, size=size)
        try:
            await asyncio.to_thread(self._catalogue.update, ended)
        except Unavailable as exc:  # it begins anew at the next start, and finds nothing to do
            logger.warning("%s: %s", one.file_id, exc.message)


def _failure(error: ArrieroError) -> Failure:
    if isinstance(error, UnreadableDocument) and error.reason == "unsupported":
        return Failure("unsupported_file", error.message)
    if isinstance(error, RequestError) and not isinstance(error, UnknownName):
        return Failure("invalid_file", error.message)
    return Failure("server_error", error.message)
