"""A machine that sleeps: all processes of a server are stopped for a while, and go on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest
from tests.abuse.subject import scaled
from tests.abuse.test_engines import SHORT
from tests.abuse.test_parents import descendants
from tests.abuse.tiny import Engines, counts, endless, tiny_engines

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2
    from tests.abuse.figures import Figures

SLEEP_S = 60
STREAMS = 4
HANG_S = 5.0


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """A server that gives an engine up far sooner than it is stopped here."""
    with tiny_engines(tmp_path_factory.mktemp("suspended"), hang_s=HANG_S) as served:
        yield served


async def streamed(client: httpx2.AsyncClient, begun: asyncio.Event) -> str:
    """Ask for a long answer; return what comes of it."""
    said = ""
    async with client.stream("POST", "/v1/completions", json=endless("left")) as response:
        async for piece in response.aiter_text():
            begun.set()
            said += piece
    return said


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes as Linux shows them")
async def test_a_server_that_was_stopped_goes_on(engines: Engines, figures: Figures) -> None:
    """Its streams end whole, its engines are the same, and new requests are answered."""
    begun = [asyncio.Event() for _ in range(STREAMS)]
    async with engines.subject.client(timeout_s=300.0) as client:
        streams = [asyncio.ensure_future(streamed(client, event)) for event in begun]
        for event in begun:
            await event.wait()
        pids = [engines.subject.pid, *descendants(engines.subject.pid)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        asked = asyncio.ensure_future(client.post("/v1/completions", json=SHORT))
        await asyncio.sleep(scaled(SLEEP_S))
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)
        answer = await asked
        told = await asyncio.gather(*streams)
        stats = (await client.get("/v1/stats")).json()["models"]["left"]
        running = (await counts(client, "left"))["running"]

    whole = sum(text.endswith("data: [DONE]\n\n") for text in told)
    figures.tell("a server that was stopped", seconds=scaled(SLEEP_S), streams=len(told), whole=whole)
    assert (answer.status_code, whole) == (200, STREAMS)
    assert (stats["restarts"], running) == (0, 0)
