"""A memory whose server is away at the start, and comes back."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from arriero.errors import ConfigError, Unavailable
from arriero.memory.embedded import EmbeddedStore
from arriero.memory.late_store import LateStore
from arriero.memory.records import Identity
from arriero.memory.store import Store

IDENTITY = Identity("minilm", 3)


@dataclass
class Server:
    """Opens stores, unless something is the matter."""

    problem: Exception | None = None
    num_asked: int = 0

    async def open(self) -> Store:
        """Open a store."""
        self.num_asked += 1
        if self.problem is not None:
            raise self.problem
        return await EmbeddedStore.open(None, IDENTITY)


async def test_a_store_that_is_back_is_used() -> None:
    """Calls fail until then, and succeed from then on."""
    server = Server(Unavailable("away"))
    store = LateStore(IDENTITY, server.open, pause_s=0)
    await store.start("notes", "here")
    with pytest.raises(Unavailable, match="away"):
        await store.counts()

    server.problem = None

    assert (await store.counts()).documents == 0
    assert await store.documents() == []
    assert server.num_asked == 3
    await store.close()


async def test_an_absent_server_is_not_asked_for_each_call() -> None:
    """Between two attempts calls fail at once, with the reason of the last one."""
    server = Server(Unavailable("away"))
    store = LateStore(IDENTITY, server.open, pause_s=60)
    await store.start("notes", "here")

    for _ in range(3):
        with pytest.raises(Unavailable, match="away"):
            await store.counts()

    assert server.num_asked == 1
    await store.close()


async def test_what_is_wrong_at_the_start_is_no_pause() -> None:
    """A collection of another model stops the start; found later, it makes the memory unavailable."""
    server = Server(ConfigError("other vectors"))
    with pytest.raises(ConfigError, match="other vectors"):
        await LateStore(IDENTITY, server.open).start("notes", "here")

    late = LateStore(IDENTITY, server.open)
    with pytest.raises(Unavailable, match="other vectors"):
        await late.counts()
