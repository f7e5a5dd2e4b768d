"""Which silence of an engine process is a hang, and what becomes of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest

from arriero.core import Delta, GenerateRequest, Span
from arriero.engine.hang import LOOKS, PATIENCE, Silence, activity_of
from arriero.engine.local import LocalModel
from arriero.engine.supervisor import Supervisor
from arriero.engine.wire import EngineConfig
from arriero.errors import EngineError
from arriero.sampling import SamplingParams, Temperature
from arriero.testing.tiny_gguf import write_tiny_gguf

GREEDY = SamplingParams(chain=(Temperature(0.0),))
Looks = list[tuple[bool, int, int | None]]
"""Each look: whether there is work, how many reports have come, what the process has done."""

STILL: Looks = [(True, 7, 100)] * (LOOKS + 1)


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        (STILL, LOOKS),
        (STILL[:-1], None),
        ([(False, 7, 100)] * 99, None),
        ([(True, number, 100) for number in range(99)], None),
        ([(True, 7, number) for number in range(LOOKS * PATIENCE)], None),
        ([(True, 7, number) for number in range(99)], LOOKS * PATIENCE),
        ([(True, 7, None)] * (LOOKS * PATIENCE), None),
        ([(True, 7, None)] * 99, LOOKS * PATIENCE),
        ([*STILL[:-1], (True, 8, 100), *STILL[:-1]], None),
        ([*STILL[:-1], (False, 7, 100), *STILL[:-2]], None),
        ([*STILL[:-1], (True, 7, 101), (True, 7, 101)], None),
    ],
)
def test_hang(looks: Looks, expected: int | None) -> None:
    """The look at which a process is given up: busy, silent, and still or silent for far longer."""
    silence = Silence()
    given_up = [
        number
        for number, (is_busy, heard, activity) in enumerate(looks)
        if silence.look(is_busy=is_busy, heard=heard, activity=activity)
    ]

    assert (given_up or [None])[0] == expected


def test_activity_grows_with_work() -> None:
    """This process has done something; one that is not there tells nothing."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("there is no /proc here")
    before = activity_of(os.getpid())
    sum(range(20_000_000))
    after = activity_of(os.getpid())

    assert before is not None
    assert after is not None
    assert after > before
    assert activity_of(2**22 + 1) is None


async def test_a_process_that_hangs_is_ended_and_started_again(tmp_path: Path) -> None:
    """Its answers get an error, the other model goes on, and the model comes back."""
    tiny = write_tiny_gguf(tmp_path / "tiny.gguf")
    config = EngineConfig(
        name="m",
        path=str(tiny),
        context_size=4096,
        cells=4096,
        batch_size=64,
        max_sequences=1,
        threads=1,
    )
    supervisors = [Supervisor(config, hang_s=1.0) for _ in range(2)]
    await asyncio.gather(*(supervisor.start() for supervisor in supervisors))
    victim, other = (LocalModel("m", supervisor) for supervisor in supervisors)
    ask = GenerateRequest((Span(text="a"),), GREEDY, max_tokens=20, ignore_eos=True)
    long = msgspec.structs.replace(ask, max_tokens=4000)
    try:
        async with aclosing(victim.generate(long)) as deltas:
            await anext(deltas)
            pid = victim.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            with pytest.raises(EngineError, match="did nothing for too long"):
                await drained(deltas)
        assert (victim.state, victim.is_ready) == ("restarting", False)
        assert victim.problem == "its engine did nothing for too long and was ended"
        await drained(other.generate(ask))
        async with asyncio.timeout(30):
            while not victim.is_ready:  # noqa: ASYNC110 - its restart is nobody's event
                await asyncio.sleep(0.05)
        await drained(victim.generate(ask))
        assert victim.pid != pid
        assert (victim.restarts, victim.state, victim.problem) == (1, "ready", None)
        assert other.restarts == 0
    finally:
        await asyncio.gather(*(supervisor.stop() for supervisor in supervisors))


async def drained(deltas: AsyncIterator[Delta]) -> None:
    async for _ in deltas:
        pass
