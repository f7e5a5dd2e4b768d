"""A process that writes into a memory until it is killed, and says what it does.

Operations follow from a seed, so the reader of the log knows what each one means. `model` says what the
memory holds after some of them.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.memory.store_contract import IDENTITY, document, pieces, units

from arriero.memory.embedded import EmbeddedStore
from arriero.memory.records import document_id

if TYPE_CHECKING:
    from collections.abc import Iterable
    from multiprocessing.connection import Connection

    from arriero.memory.store import Store


class Operation(NamedTuple):
    """A write: `verb` is put, delete or clear."""

    verb: str
    name: str
    version: int
    chunks: int


def operation(seed: int, place: int) -> Operation:
    """Return the operation at a place of a run."""
    chance = random.Random(seed * 1_000_003 + place)
    verb = chance.choices(("put", "delete", "clear"), (20, 4, 0.3))[0]
    return Operation(verb, f"d{chance.randrange(12)}", place, chance.choice((1, 3, 40)))


def model(start: dict[str, tuple[int, int]], operations: Iterable[Operation]) -> dict[str, tuple[int, int]]:
    """Return names with version and number of chunks after some operations."""
    held = dict(start)
    for done in operations:
        match done.verb:
            case "put":
                held[done.name] = (done.version, done.chunks)
            case "delete":
                held.pop(done.name, None)
            case _:
                held.clear()
    return held


async def perform(store: Store, done: Operation) -> None:
    """Do one operation."""
    match done.verb:
        case "put":
            texts = [f"{done.name} version{done.version} place{place}" for place in range(done.chunks)]
            stored = document(done.name, done.chunks, {"version": float(done.version)})
            vectors = units(*[[1, place, done.version % 7, 1] for place in range(done.chunks)])
            await store.replace(stored, pieces(*texts), vectors)
        case "delete":
            await store.delete(document_id(done.name))
        case _:
            await store.clear()


async def held(store: Store) -> dict[str, tuple[int, int]]:
    """Return what a memory holds, as `model` does; every document must be whole."""
    found = {}
    for stored in await store.documents(limit=1000):
        version = int(stored.attributes["version"])
        chunks = await store.chunks(stored.id)
        assert [chunk.text for chunk in chunks] == [
            f"{stored.name} version{version} place{place}" for place in range(stored.num_chunks)
        ]
        found[stored.name] = (version, len(chunks))
    return found


def copied(whole: Path, path: Path) -> None:
    """Put a copy of a memory's file in place of another, and of what belonged to that."""
    for left in path.parent.glob(f"{path.name}*"):
        left.unlink()
    shutil.copy(whole, path)


def write(path: str, seed: int, log: Connection) -> None:
    """Write until killed; send True when the memory is open, then each operation that is acknowledged."""

    async def run() -> None:
        store = await EmbeddedStore.open(Path(path), IDENTITY)
        log.send(-1)
        place = 0
        while True:
            await perform(store, operation(seed, place))
            log.send(place)
            place += 1

    asyncio.run(run())


def clear(path: str, seed: int, log: Connection) -> None:
    """Clear until killed; send -1 when the memory is open, then how many documents there were."""

    async def run() -> None:
        store = await EmbeddedStore.open(Path(path), IDENTITY)
        log.send(-1)
        log.send(await store.clear())
        await asyncio.sleep(60)

    asyncio.run(run())
