"""The memories of a configuration: opened over their stores and journals, and closed in reverse."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from arriero.errors import ConfigError
from arriero.memory.embedded_path import embedded_path
from arriero.memory.embedding import identity_of
from arriero.memory.journal import Journal
from arriero.memory.late_store import LateStore
from arriero.memory.memory import Memory
from arriero.memory.recall import check_template

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from arriero.config.memory import MemoryConfig
    from arriero.config.schema import Config
    from arriero.core import Embedder
    from arriero.memory.records import Identity
    from arriero.memory.rerank import Reranker
    from arriero.memory.store import Store


@asynccontextmanager
async def open_memories(
    config: Config, embedders: Mapping[str, Embedder], rerankers: Mapping[str, Reranker] | None = None
) -> AsyncIterator[Mapping[str, Memory]]:
    """Open every memory and go on with what waits in its journal, while the block runs.

    embedders, rerankers: the models that run, by their names in the configuration.

    Raises ConfigError when a store holds other vectors than the memory's model makes, or when a task's
    template is wrong; Unavailable when a file cannot be used. A server that is away is waited for later.
    """
    check_templates(config)
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(
                open_memory(name, settings, embedders, config.cache_path, rerankers)
            )
            for name, settings in config.memories.items()
        }


def check_templates(config: Config) -> None:
    """Raise ConfigError when a task's template is wrong."""
    for name, task in config.tasks.items():
        if task.memorization is not None and task.memorization.template is not None:
            check_template(task.memorization.template, f"tasks.{name}.memorization.template")


@asynccontextmanager
async def open_memory(
    name: str,
    config: MemoryConfig,
    embedders: Mapping[str, Embedder],
    cache_path: Path,
    rerankers: Mapping[str, Reranker] | None = None,
) -> AsyncIterator[Memory]:
    """Open one memory and go on with what waits in its journal, while the block runs.

    Raises as `open_memories`.
    """
    memory = await _opened(name, config, embedders, cache_path, rerankers)
    try:
        await memory.start()
        yield memory
    finally:
        await memory.stop()


def journal_file(name: str, config: MemoryConfig, cache_path: Path) -> Path | None:
    """Return the file of a memory's journal; None where the store has no file either."""
    if config.store.qdrant is not None:
        return cache_path / "memories" / f"{name}.jobs"
    file = embedded_path(name, config, cache_path)
    return None if file is None else file.with_name(f"{file.name}.jobs")


async def _opened(
    name: str,
    config: MemoryConfig,
    embedders: Mapping[str, Embedder],
    cache_path: Path,
    rerankers: Mapping[str, Reranker] | None,
) -> Memory:
    embedder = embedders.get(config.embedding_model)
    if embedder is None:
        raise ConfigError(
            f"memories.{name}.embedding_model: {config.embedding_model} makes no vectors in this version;"
            " name a model that runs here"
        )
    identity = identity_of(embedder)
    if config.dimensions not in (None, identity.dimensions):
        raise ConfigError(
            f"memories.{name}.dimensions: {config.dimensions}, but the vectors of {config.embedding_model}"
            f" have {identity.dimensions} numbers; correct the key or leave it out"
        )
    store = await _store(name, config, identity, cache_path)
    try:
        journal = await asyncio.to_thread(Journal, journal_file(name, config, cache_path))
    except BaseException:
        await store.close()
        raise
    return Memory(name, config, embedder, store, journal=journal, rerankers=rerankers)


async def _store(name: str, config: MemoryConfig, identity: Identity, cache_path: Path) -> Store:
    # Each kind is imported when it is wanted: the one needs a client library, the other SQLite with FTS5.
    if (qdrant := config.store.qdrant) is not None:
        try:
            from arriero.memory.qdrant import QdrantStore
        except ImportError as exc:
            raise ConfigError(
                f"memories.{name}.store.qdrant needs the client of Qdrant: pip install 'arriero[qdrant]'"
            ) from exc

        store = LateStore(
            identity,
            lambda: QdrantStore.open(qdrant.url, qdrant.collection, identity, api_key=qdrant.api_key),
        )
        await store.start(name, urlsplit(qdrant.url).netloc.rpartition("@")[2])
        return store
    from arriero.memory.embedded import EmbeddedStore

    return await EmbeddedStore.open(embedded_path(name, config, cache_path), identity)
