"""A server with files and vector stores, over an embedding model without weights, for official clients."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from arriero.access.key_store import KeyStore, NewKey
from arriero.access.principal import Grants
from arriero.config.load import parse_config
from arriero.config.schema import Config
from arriero.memory.library.door import Door, open_door
from arriero.memory.memory import Memory
from arriero.memory.open import open_memories
from arriero.server.serve import edge_of
from arriero.testing.serving import client_of
from arriero.testing.word_embedder import WordEmbedder

CONFIG = """
cache_path = "{path}"
[auth]
allowed_keys = ["sesame", "other"]
key_store = "{path}/keys.db"
[models.w]
url = "http://127.0.0.1:1/w.gguf"
[memories.n]
embedding_model = "w"
store = {{ embedded = {{}} }}
{extra}
"""


@dataclass(frozen=True)
class Stage:
    """What the server under test serves."""

    config: Config
    memories: Mapping[str, Memory]
    door: Door
    models: Mapping[str, Any] = field(default_factory=dict)
    tasks: Mapping[str, Any] = field(default_factory=dict)
    guards: Mapping[str, Any] = field(default_factory=dict)
    pokt: None = None


class Shelf:
    """A server under test, and clients of it by their keys."""

    def __init__(
        self, url: str, embedder: WordEmbedder, path: Path, stage: Stage, stack: AsyncExitStack
    ) -> None:
        self.url = url
        self.embedder = embedder
        self.path = path
        self.stage = stage
        self._stack = stack

    async def client(self, key: str = "sesame") -> openai.AsyncOpenAI:
        """Return an official client that bears a key and repeats nothing."""
        client = openai.AsyncOpenAI(
            base_url=f"{self.url}/v1", api_key=key, max_retries=0, http_client=client_of(self.url)
        )
        return await self._stack.enter_async_context(client)

    async def plain(self) -> httpx2.AsyncClient:
        """Return a client that sends whatever it is told."""
        client = client_of(self.url, headers={"authorization": "Bearer sesame"})
        return await self._stack.enter_async_context(client)

    async def granted(self, **grants: Any) -> openai.AsyncOpenAI:
        """Return a client whose key opens just this."""
        store = KeyStore(self.path / "keys.db")
        try:
            _, secret = store.create(NewKey("test", Grants(**grants)), time.time())
        finally:
            store.close()
        return await self.client(secret)


OpenShelf = Callable[..., AbstractAsyncContextManager[Shelf]]


@pytest.fixture
def open_shelf(tmp_path: Path) -> OpenShelf:
    """Serve the same directory each time: `async with open_shelf() as shelf`."""

    @asynccontextmanager
    async def opened(
        extra: str = "",
        *,
        embedders: Mapping[str, Any] | None = None,
        rerankers: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[Shelf]:
        config = parse_config(CONFIG.format(path=tmp_path, extra=extra), {})
        embedder = WordEmbedder()
        given = {"w": embedder} if embedders is None else embedders
        async with (
            open_memories(config, {"w": embedder}, rerankers) as memories,
            open_door(config, given, memories, rerankers) as door,
        ):
            stage = Stage(config, memories, door)
            edge = edge_of(stage)  # type: ignore[arg-type]
            with socket.create_server(("127.0.0.1", 0)) as listener:
                await edge.start(listener)
                url = f"http://127.0.0.1:{listener.getsockname()[1]}"
                try:
                    async with AsyncExitStack() as stack:
                        yield Shelf(url, embedder, tmp_path, stage, stack)
                finally:
                    await edge.stop(0)

    return opened
