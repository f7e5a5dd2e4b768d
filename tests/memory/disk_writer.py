"""A process that fills the disk of a memory, or is kept from growing its files, and checks what it sees.

python -m tests.memory.disk_writer disk FILE      FILE is on a small disk of its own
python -m tests.memory.disk_writer bound FILE     files may not grow above a bound
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sys
from pathlib import Path

from tests.memory.store_contract import IDENTITY, document, pieces, unit, units

from arriero.errors import DiskFull, Unavailable
from arriero.memory.embedded import EmbeddedStore
from arriero.memory.records import document_id

TEXT = ("x" * 500 + " ") * 20


async def put(store: EmbeddedStore, number: int) -> None:
    """Store a document of some 250 kB."""
    chunks = pieces(*[f"{TEXT} number{number}"] * 20)
    await store.replace(document(f"d{number}", 20), chunks, units(*[[1, 0, 0, 0]] * 20))


async def fill(store: EmbeddedStore) -> tuple[int, str]:
    """Store until it fails; return how many documents there are, and the error."""
    for number in range(10_000):
        try:
            await put(store, number)
        except Unavailable as exc:
            return number, f"{exc.code}: {exc.message}"
    raise AssertionError("the disk is never full")


async def still_serves(store: EmbeddedStore, count: int) -> None:
    """Check that all that was acknowledged is found."""
    assert (await store.counts()).documents == count
    assert len(await store.nearest(unit(1, 0, 0, 0), limit=5)) == 5
    assert (await store.matching("number0", limit=1))[0].document.name == "d0"


async def fill_disk(path: Path) -> None:
    """A disk that is full; also with all that others leave."""
    other = path.with_name("other")
    await asyncio.to_thread(other.write_bytes, bytes(20 * 2**20))
    store = await EmbeddedStore.open(path, IDENTITY)
    count, error = await fill(store)
    assert error.startswith(f"disk_full: {path}"), error
    filler = path.with_name("filler")
    await asyncio.to_thread(take_all_room, filler)
    await still_serves(store, count)
    await store.close()
    store = await EmbeddedStore.open(path, IDENTITY)
    await still_serves(store, count)
    for number in range(1, 4):
        assert await store.delete(document_id(f"d{number}"))
    await still_serves(store, count - 3)
    with contextlib.suppress(DiskFull):
        await put(store, 9999)
        raise AssertionError("the reserve is gone, but documents are stored")
    await asyncio.to_thread(filler.unlink)
    await asyncio.to_thread(other.unlink)
    await put(store, 9999)
    assert await store.document(document_id("d9999")) is not None
    await store.close()


def take_all_room(filler: Path) -> None:
    """Fill the disk to the last byte."""
    descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT)
    for size in (2**20, 4096, 1):
        try:
            while True:
                os.write(descriptor, bytes(size))
        except OSError:
            continue
    os.close(descriptor)


async def bound_files(path: Path) -> None:
    """Files that may not grow any further, and then may."""
    store = await EmbeddedStore.open(path, IDENTITY)
    await put(store, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (18 * 2**20, hard))
    count, error = await fill(store)
    assert str(path) in error, error
    await still_serves(store, count)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await put(store, 9999)
    await still_serves(store, count + 1)
    await store.close()


if __name__ == "__main__":
    act = {"disk": fill_disk, "bound": bound_files}[sys.argv[1]]
    asyncio.run(act(Path(sys.argv[2])))
    sys.stdout.write("recovered\n")
