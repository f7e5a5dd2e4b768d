"""A store on a server that may be away: opened when the memory is, or later, when the server is back.

Until then every method raises Unavailable, and the server is asked anew at most every PAUSE_S.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from arriero.errors import ConfigError, Unavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from arriero.memory.filters import Filter
    from arriero.memory.records import Chunk, Counts, Document, Hit, Identity
    from arriero.memory.store import Store

logger = logging.getLogger(__name__)

PAUSE_S = 3.0
"""Between two attempts: an address that does not answer costs a whole timeout."""


class LateStore:
    """Implements `Store` over one that `opening` makes. Owns it once it is open.

    opening: raises Unavailable while the server is away.
    """

    def __init__(
        self, identity: Identity, opening: Callable[[], Awaitable[Store]], *, pause_s: float = PAUSE_S
    ) -> None:
        self._identity = identity
        self._open = opening
        self._pause_s = pause_s
        self._lock = asyncio.Lock()
        self._store: Store | None = None
        self._problem = Unavailable("the store is not open")
        self._next_at = 0.0

    async def start(self, memory: str, place: str) -> None:
        """Open the store, or say in the log that it is away, and where. Raises ConfigError."""
        try:
            self._store = await self._open()
        except Unavailable as exc:
            self._postpone(exc)
            logger.warning(
                "memory %s is unavailable until its store at %s is back: %s", memory, place, exc.message
            )

    @property
    def identity(self) -> Identity:
        """Whose vectors are held."""
        return self._identity

    async def replace(
        self, document: Document, chunks: Sequence[Chunk], vectors: NDArray[np.float32]
    ) -> None:
        """Store a document in place of the one of its name; see `Store`."""
        await (await self._opened()).replace(document, chunks, vectors)

    async def delete(self, document_id: str) -> bool:
        """Delete a document; say whether there was one."""
        return await (await self._opened()).delete(document_id)

    async def clear(self) -> int:
        """Delete everything; return the number of documents."""
        return await (await self._opened()).clear()

    async def document(self, document_id: str) -> Document | None:
        """Return a document, if there is one of this id."""
        return await (await self._opened()).document(document_id)

    async def documents(
        self, *, after: str | None = None, limit: int = 100, where: Filter | None = None
    ) -> list[Document]:
        """Return documents in the order of their ids, beginning behind the id `after`."""
        return await (await self._opened()).documents(after=after, limit=limit, where=where)

    async def chunks(self, document_id: str, *, first: int = 0, last: int | None = None) -> list[Chunk]:
        """Return the chunks of a document from ordinal `first` up to and with `last`, in order."""
        return await (await self._opened()).chunks(document_id, first=first, last=last)

    async def nearest(
        self, vector: NDArray[np.float32], *, limit: int, where: Filter | None = None
    ) -> list[Hit]:
        """Return the chunks whose vectors are most alike, best first."""
        return await (await self._opened()).nearest(vector, limit=limit, where=where)

    async def matching(self, query: str, *, limit: int, where: Filter | None = None) -> list[Hit]:
        """Return the chunks whose words match best, best first."""
        return await (await self._opened()).matching(query, limit=limit, where=where)

    async def counts(self) -> Counts:
        """Return how much is held."""
        return await (await self._opened()).counts()

    async def close(self) -> None:
        """Let go of the store, if it is open."""
        async with self._lock:
            if self._store is not None:
                await self._store.close()

    async def _opened(self) -> Store:
        if self._store is None:
            async with self._lock:
                if self._store is None:
                    self._store = await self._attempted()
        return self._store

    async def _attempted(self) -> Store:
        if asyncio.get_running_loop().time() < self._next_at:
            raise self._problem.with_traceback(None)
        try:
            store = await self._open()
        except Unavailable as exc:
            self._postpone(exc)
            raise
        except ConfigError as exc:  # found out only now: the server was away at the start
            self._postpone(Unavailable(exc.message))
            raise self._problem from exc
        logger.info("a store that was away is back")
        return store

    def _postpone(self, problem: Unavailable) -> None:
        self._problem = problem
        self._next_at = asyncio.get_running_loop().time() + self._pause_s
