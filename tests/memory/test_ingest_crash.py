"""Documents that were taken on survive the death of the process, whatever was being done with them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.memory.crash_ingester import State, held, ingest, opened, step
from tests.memory.killing import killed_run, preloaded

from arriero.memory.embedded_check import check

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext


@pytest.fixture(scope="module")
def children() -> ForkServerContext:
    """Return what starts children that have imported everything."""
    return preloaded("tests.memory.crash_ingester")


async def state_of(path: Path) -> State:
    """Return what a memory holds that is opened now, once all that was taken on has its end."""
    memory = await opened(path)
    try:
        await asyncio.gather(*(memory.jobs.ended(job.id) for job in memory.jobs.jobs()))
        assert {job.state.value for job in memory.jobs.jobs()} <= {"done"}
        return await held(memory)
    finally:
        await memory.stop()


@pytest.mark.parametrize(
    "rounds", [3, pytest.param(500, marks=pytest.mark.slow)], ids=["some", "five hundred"]
)
async def test_what_was_taken_on_is_stored_after_a_kill(
    children: ForkServerContext, tmp_path: Path, rounds: int
) -> None:
    """Each time the memory opens, stores each acknowledged document whole, and brings no deleted one back."""
    path = tmp_path / "m.db"
    state: State = {}
    acknowledged = 0
    for seed in range(rounds):
        last = await asyncio.to_thread(killed_run, children, ingest, path, seed, within_s=0.3)
        last = -1 if last is None else last
        for place in range(last + 1):
            state = step(seed, place).after(state)
        found = await state_of(path)
        unanswered = step(seed, last + 1).after(state)
        assert found in (state, unanswered), f"round {seed}, after step {last}"
        state = found
        acknowledged += last + 1

    assert acknowledged > rounds
    assert check(path).faults == ()
