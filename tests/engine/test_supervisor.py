"""An engine process that ends again and again: it rests, and what ended it is not asked again."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from arriero.core import GenerateRequest, Span
from arriero.engine.circuit import Circuit, Pauses
from arriero.engine.local import LocalModel
from arriero.engine.supervisor import Supervisor
from arriero.engine.wire import EngineConfig
from arriero.errors import EngineError, NotSupported, Unavailable
from arriero.sampling import SamplingParams, Temperature
from arriero.testing.tiny_gguf import write_tiny_gguf

GREEDY = SamplingParams(chain=(Temperature(0.0),))
SHORT = GenerateRequest((Span(text="a"),), GREEDY, max_tokens=3, ignore_eos=True)
POISON = GenerateRequest((Span(text="b"),), GREEDY, max_tokens=4000, ignore_eos=True)


@asynccontextmanager
async def crashing(path: Path, circuit: Circuit) -> AsyncIterator[LocalModel]:
    """A tiny model whose engine process may end as often as the circuit says."""
    config = EngineConfig(
        name="m",
        path=str(write_tiny_gguf(path / "tiny.gguf")),
        context_size=4096,
        cells=4096,
        batch_size=64,
        max_sequences=4,
        threads=1,
    )
    supervisor = Supervisor(config, circuit=circuit)
    await supervisor.start()
    try:
        yield LocalModel("m", supervisor)
    finally:
        await supervisor.stop()


async def poisoned(model: LocalModel) -> None:
    """Ask for what ends the engine process, and see it end."""
    async with aclosing(model.generate(POISON)) as deltas:
        await anext(deltas)
        assert model.pid is not None
        os.kill(model.pid, signal.SIGSEGV)
        with pytest.raises(EngineError, match="SIGSEGV"):
            async for _ in deltas:
                pass


async def served(model: LocalModel) -> int:
    async with aclosing(model.generate(SHORT)) as deltas:
        return len([delta async for delta in deltas])


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - its restart is nobody's event
            await asyncio.sleep(0.01)


async def test_an_engine_that_ends_too_often_rests(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Requests are refused at once, with the time to come again; one that is answered closes the circuit."""
    caplog.set_level(logging.WARNING, "arriero.engine.supervisor")
    circuit = Circuit(1, pauses=Pauses(first_rest_s=1.1))
    async with crashing(tmp_path, circuit) as model:
        await poisoned(model)
        await until(lambda: model.has_open_circuit)
        assert (model.state, model.problem) == ("failed", "its engine died of SIGSEGV")
        with pytest.raises(Unavailable, match="ended too often") as refused:
            await served(model)
        assert refused.value.retry_after_s == 2
        await until(lambda: model.is_ready)
        assert model.has_open_circuit
        assert model.stats.completion_tokens == 0, "nothing is sent a second time"
        assert await served(model) > 0
        assert not model.has_open_circuit

    lines = [record.message for record in caplog.records]
    assert (
        lines.count("engine of model m has ended too often: it rests for 1.1 s, and its requests are refused")
        == 1
    )
    assert lines[-1] == "engine of model m serves again"


@pytest.mark.slow
async def test_a_request_that_ends_the_engine_each_time_is_refused(tmp_path: Path) -> None:
    """Alone under way at three ends in a row, it is told so; other requests are served."""
    async with crashing(tmp_path, Circuit(pauses=Pauses(first_s=0.01))) as model:
        for _ in range(3):
            await poisoned(model)
            await until(lambda: model.is_ready)
        with pytest.raises(NotSupported, match="ended the engine of model m before"):
            await anext(model.generate(POISON))
        assert await served(model) > 0
        assert model.restarts == 3
