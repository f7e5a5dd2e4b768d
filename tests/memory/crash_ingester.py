"""A process that hands documents to a memory until it is killed, and says which were acknowledged.

What it does follows from a seed. A document says its version in its attributes and in each of its chunks.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from arriero.config.memory import MemoryConfig, StoreConfig
from arriero.extract.document import Document as Extracted
from arriero.memory.embedded import EmbeddedStore
from arriero.memory.embedding import identity_of
from arriero.memory.job import Source
from arriero.memory.journal import Journal
from arriero.memory.memory import Memory
from arriero.memory.records import document_id
from arriero.testing.word_embedder import WordEmbedder

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

State = dict[str, int]
"""Names of documents, and their versions."""
CONFIG = MemoryConfig(store=StoreConfig(), embedding_model="words", chunk_max_tokens=8)


class Step(NamedTuple):
    """A document that is submitted, or deleted."""

    name: str
    version: int
    is_deletion: bool

    def after(self, state: State) -> State:
        """Return what is held once the step has had its effect."""
        rest = {name: version for name, version in state.items() if name != self.name}
        return rest if self.is_deletion else {**rest, self.name: self.version}


def step(seed: int, place: int) -> Step:
    """Return the step at a place of a run."""
    chance = random.Random(seed * 1_000_003 + place)
    return Step(f"d{chance.randrange(9)}", seed * 1000 + place, chance.random() < 0.1)


def parts(name: str, version: int) -> list[str]:
    """Return the chunks that a document becomes."""
    return [f"{name} version{version} part{part} of {version % 5 + 1}" for part in range(version % 5 + 1)]


async def extract(data: bytes, *, name: str, media_type: str | None) -> Extracted:
    """Read a text without a process of its own."""
    return Extracted(text=data.decode(), title=None, media_type="text/plain", blocks=())


async def opened(path: Path) -> Memory:
    """Open the memory of a file, and begin with what was taken on and is not stored."""
    embedder = WordEmbedder()
    store = await EmbeddedStore.open(path, identity_of(embedder))
    journal = await asyncio.to_thread(Journal, path.with_name(f"{path.name}.jobs"))
    memory = Memory("m", CONFIG, embedder, store, journal=journal, extract=extract)
    await memory.start()
    return memory


async def perform(memory: Memory, done: Step) -> None:
    """Do one step; it is acknowledged when this returns."""
    if done.is_deletion:
        await memory.delete(document_id(done.name))
        return
    text = "\n\n".join(parts(done.name, done.version))
    await memory.submit(
        Source(
            name=done.name,
            data=text.encode(),
            media_type="text/plain",
            attributes={"version": float(done.version)},
        )
    )


async def held(memory: Memory) -> State:
    """Return what a memory holds; every document must be whole, and of one version."""
    found = {}
    for document in await memory.store.documents(limit=1000):
        version = int(document.attributes["version"])
        chunks = await memory.store.chunks(document.id)
        assert [chunk.text for chunk in chunks] == parts(document.name, version)
        found[document.name] = version
    return found


def ingest(path: str, seed: int, log: Connection) -> None:
    """Submit and delete until killed; send -1 when the memory is open, then each step's place."""

    async def run() -> None:
        memory = await opened(Path(path))
        log.send(-1)
        for place in range(200):
            await perform(memory, step(seed, place))
            log.send(place)
        await asyncio.sleep(60)

    asyncio.run(run())
