"""The way to a server's library: opened when it is first wanted, or at the start where there is one.

So a server whose callers upload nothing makes no directory, and needs no rights to make one.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from arriero.errors import NotSupported, Unavailable
from arriero.memory.library.lending import unbroken
from arriero.memory.library.library import CATALOGUE_FILE, Library

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from arriero.config.schema import Config
    from arriero.core import Embedder
    from arriero.memory.memory import Memory
    from arriero.memory.rerank import Reranker

logger = logging.getLogger(__name__)


class Door:
    """Owns the library, once it is open."""

    def __init__(
        self,
        config: Config,
        embedders: Mapping[str, Embedder],
        memories: Mapping[str, Memory],
        rerankers: Mapping[str, Reranker] | None = None,
    ) -> None:
        self._config = config
        self._embedders = embedders
        self._memories = memories
        self._rerankers = rerankers
        self._opening = asyncio.Lock()
        self._library: Library | None = None
        self.directory = config.vector_stores.path or config.cache_path / "vector_stores"

    async def library(self) -> Library:
        """Return the library. Raises NotSupported where there shall be none, Unavailable."""
        if not self._config.serves_vector_stores:
            raise NotSupported(
                "files and vector stores are not served here; vector_stores.enabled = true turns them on"
            )
        async with self._opening:
            if self._library is None:
                await unbroken(self._open())
            assert self._library is not None
            return self._library

    async def _open(self) -> None:
        library = await asyncio.to_thread(
            Library,
            self.directory,
            self._config.vector_stores,
            self._embedders,
            self._memories,
            rerankers=self._rerankers,
        )
        await library.start()
        self._library = library

    async def stop(self) -> None:
        """Close the library, if it is open."""
        if self._library is not None:
            await self._library.stop()


@asynccontextmanager
async def open_door(
    config: Config,
    embedders: Mapping[str, Embedder],
    memories: Mapping[str, Memory],
    rerankers: Mapping[str, Reranker] | None = None,
) -> AsyncIterator[Door]:
    """Give access to the library while the block runs, and go on with what was on its way.

    embedders, rerankers: the models that run, by their names in the configuration.
    """
    door = Door(config, embedders, memories, rerankers)
    try:
        if config.serves_vector_stores and (door.directory / CATALOGUE_FILE).exists():
            try:
                await door.library()
            except Unavailable as exc:
                # It is tried again when somebody asks for it; models are served meanwhile.
                logger.warning("files and vector stores: %s", exc.message)
        yield door
    finally:
        await door.stop()
