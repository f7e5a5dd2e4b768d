"""Whichever write or sync of a memory's file fails, what was acknowledged is there."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from tests.memory import failing_disk
from tests.memory.crash_writer import Operation, copied, held, model, perform
from tests.memory.failing_disk import FULL, IOERR_FSYNC, IOERR_WRITE, FailingDisk
from tests.memory.store_contract import IDENTITY

from arriero.errors import Unavailable
from arriero.memory.embedded import EmbeddedStore
from arriero.memory.embedded_check import check

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.memory.failing_disk import Call

OPERATIONS = (
    Operation("put", "a", 1, 3),
    Operation("put", "b", 2, 40),
    Operation("put", "a", 3, 1),
    Operation("delete", "b", 4, 0),
    Operation("put", "c", 5, 3),
    Operation("clear", "", 6, 0),
    Operation("put", "d", 7, 3),
)
FAULTS: list[tuple[Call, int]] = [("write", FULL), ("write", IOERR_WRITE), ("sync", IOERR_FSYNC)]
FOREVER = sys.maxsize


@pytest.fixture
def disk() -> Iterator[FailingDisk]:
    """Return a disk on which all memories are from now on."""
    path = failing_disk.library()
    if path is None:
        pytest.skip("SQLite is built into this Python, and its disk cannot be made to fail")
    disk = FailingDisk(path)
    with disk.installed():
        yield disk


async def filled(path: Path) -> None:
    """Make a memory that holds something."""
    store = await EmbeddedStore.open(path, IDENTITY)
    await perform(store, Operation("put", "z", 0, 3))
    await store.close()


async def worked(path: Path, disk: FailingDisk) -> bool:
    """Do all operations while the disk fails, then one more when it does not; say whether it has failed.

    After each the memory holds what it held before, or what it shall hold, as it was told.
    """
    state = {"z": (0, 3)}
    has_failed = False
    try:
        store = await EmbeddedStore.open(path, IDENTITY)
    except Unavailable:
        disk.mend()
        store = await EmbeddedStore.open(path, IDENTITY)
        has_failed = True
    for operation in OPERATIONS:
        try:
            await perform(store, operation)
        except Unavailable:
            has_failed = True
            assert await held(store) == state
        else:
            state = model(state, [operation])
            assert await held(store) == state
    disk.mend()
    last = Operation("put", "last", 9, 1)
    await perform(store, last)
    state = model(state, [last])
    assert await held(store) == state
    await store.close()
    store = await EmbeddedStore.open(path, IDENTITY)
    assert await held(store) == state
    await store.close()
    assert check(path).faults == ()
    return has_failed


@pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "each"])
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize(("call", "code"), FAULTS, ids=["full", "write", "sync"])
async def test_a_failing_call_loses_nothing(
    tmp_path: Path, disk: FailingDisk, call: Call, code: int, lasting: bool, step: int
) -> None:
    """The operation is refused, or done; when the disk is well again, so is the memory, without a restart."""
    whole, path = tmp_path / "whole.db", tmp_path / "m.db"
    await filled(whole)
    place, failures, count = 0, 0, 1
    while place < count:
        copied(whole, path)
        disk.fail(call, code, range(place, FOREVER if lasting else place + 1))
        failures += await worked(path, disk)
        count = max(count, disk.count)
        place += step

    assert failures
