"""Clients that leave, and engine processes that die: the rest goes on."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

import httpx2
import pytest
from tests.abuse.subject import DEADLINE_S, scaled
from tests.abuse.tiny import Engines, counts, endless

if TYPE_CHECKING:
    from tests.abuse.figures import Figures

DISCONNECTS = 100
CRASHES = 100
POLL_S = 0.01
SHORT = {"model": "right", "prompt": "once", "max_tokens": 16, "ignore_eos": True, "temperature": 0}
RIGHT_CLIENTS = 4
LEFT_CLIENTS = 4
MOST_S = 0.01
"""Beside a few steps and looks, which take longer where the machine does other work."""
LATEST_S = 0.25
"""Each of the times, on a busy machine too; the figure tells what it was."""


async def is_idle(client: httpx2.AsyncClient, model: str) -> bool:
    said = await counts(client, model)
    return bool(said["running"] == 0 == said["waiting"])


async def wait_idle(client: httpx2.AsyncClient, model: str) -> tuple[float, float]:
    """Look until nothing runs on a model; return how long that took, and how long the last look of it."""
    started = looked = time.monotonic()
    while not await is_idle(client, model):
        looked = time.monotonic()
        assert looked - started < DEADLINE_S, "the slot is not freed"
    ended = time.monotonic()
    return ended - started, ended - looked


async def wait_running(client: httpx2.AsyncClient, model: str) -> None:
    """Look until something runs on a model; its counters come ten times a second."""
    started = time.monotonic()
    while await is_idle(client, model):
        assert time.monotonic() - started < DEADLINE_S, "nothing runs"


async def left_after(engines: Engines, client: httpx2.AsyncClient, pause_s: float) -> tuple[float, float]:
    """Begin an endless answer, go away after a while.

    Return how long its slot was held after that, and how much of it is the look that saw it free.
    """
    async with engines.subject.client() as leaving:
        request = leaving.build_request("POST", "/v1/completions", json=endless("left"))
        response = await leaving.send(request, stream=True)
        pieces = response.aiter_raw()
        await anext(pieces)
        await wait_running(client, "left")
        await asyncio.sleep(pause_s)
        await response.aclose()
        return await wait_idle(client, "left")


@pytest.mark.slow
async def test_a_client_that_leaves_frees_its_slot(engines: Engines, figures: Figures) -> None:
    """Within a step and a little more, at any time of the answer."""
    rng = random.Random(5)
    async with engines.subject.client() as client:
        await left_after(engines, client, 0.1)
        began = await counts(client, "left")
        gc.collect()
        gc.disable()  # what this process collects is no work of the server
        try:
            seen = [
                await left_after(engines, client, rng.uniform(0, 0.2)) for _ in range(scaled(DISCONNECTS))
            ]
        finally:
            gc.enable()
        ended = await counts(client, "left")

    taken, looks = sorted(one for one, _ in seen), sorted(look for _, look in seen)
    step_s = (ended["loop_s"] - began["loop_s"]) / (ended["steps"] - began["steps"])
    figures.tell(
        "slot freed after a disconnect",
        disconnects=len(taken),
        median_ms=taken[len(taken) // 2] * 1e3,
        p90_ms=taken[len(taken) * 9 // 10] * 1e3,
        worst_ms=taken[-1] * 1e3,
        of_which_the_last_look_median_ms=looks[len(looks) // 2] * 1e3,
        longest_last_look_ms=looks[-1] * 1e3,
        decode_step_ms=step_s * 1e3,
    )
    assert taken[len(taken) // 2] < MOST_S + 3 * (step_s + looks[len(looks) // 2])
    assert taken[-1] < LATEST_S


async def killed(engines: Engines, number: int) -> None:
    """End the engine of `left` again and again, each time once it is back and at work."""
    async with engines.subject.client() as client:
        for _ in range(number):
            pid = await at_work(engines, client)
            os.kill(pid, signal.SIGSEGV)
            await ended(engines, pid)


async def ended(engines: Engines, pid: int) -> None:
    """Wait until a process is none of the engines any more."""
    for _ in range(int(DEADLINE_S / POLL_S)):
        if engines.pid("left") != pid:
            return
        await asyncio.sleep(POLL_S)
    raise AssertionError("the engine does not end")


async def at_work(engines: Engines, client: httpx2.AsyncClient) -> int:
    """Wait until the engine of `left` generates; return its process."""
    started = time.monotonic()
    while time.monotonic() - started < DEADLINE_S:
        pid = engines.pid("left")
        if pid is not None and not await is_idle(client, "left"):
            return pid
        await asyncio.sleep(POLL_S)
    raise AssertionError("the engine does not come back")


async def left_clients(engines: Engines, seen: Counter[str]) -> None:
    """Ask `left` for endless answers again and again; count how each ends."""
    async with engines.subject.client() as client:
        while True:
            async with client.stream("POST", "/v1/completions", json=endless("left")) as response:
                body = (await response.aread()).decode()
            if response.status_code == 503:
                seen["refused"] += 1
                assert "retry-after" in response.headers
                await asyncio.sleep(0.05)
            elif body.endswith("data: [DONE]\n\n"):
                seen["whole"] += 1
            else:
                seen["ended by an error event"] += '"error"' in body.rpartition("data: ")[2]
                seen["cut silently"] += '"error"' not in body.rpartition("data: ")[2]


async def right_client(engines: Engines, seen: Counter[str]) -> None:
    """Ask `right` again and again for what is always the same."""
    async with engines.subject.client() as client:
        while True:
            answer = await client.post("/v1/completions", json=SHORT)
            seen[f"{answer.status_code} {answer.json()['choices'][0]['text']!r}"] += 1


async def survived(engines: Engines, number: int) -> tuple[Counter[str], Counter[str]]:
    """Kill an engine under load; return what the clients of it and of the other model have seen."""
    left: Counter[str] = Counter()
    right: Counter[str] = Counter()
    load = [asyncio.ensure_future(left_clients(engines, left)) for _ in range(LEFT_CLIENTS)]
    load += [asyncio.ensure_future(right_client(engines, right)) for _ in range(RIGHT_CLIENTS)]
    killing = asyncio.ensure_future(killed(engines, number))
    await asyncio.wait([killing, *load], return_when=asyncio.FIRST_COMPLETED)
    for job in load:
        job.cancel()
    await asyncio.gather(*load, return_exceptions=True)
    await killing
    return left, right


@pytest.mark.slow
async def test_a_hundred_crashes_do_not_touch_the_other_model(engines: Engines, figures: Figures) -> None:
    """Each answer of the dead engine ends with an error; those of the other are all whole and the same."""
    number = scaled(CRASHES)
    started = time.monotonic()
    left, right = await survived(engines, number)

    errors = sum(count for word, count in right.items() if not word.startswith("200 "))
    figures.tell(
        f"{number} times SIGSEGV",
        took_s=time.monotonic() - started,
        other_model_answers=right.total(),
        other_model_errors=errors,
        **dict(left),
    )
    assert len(right) == 1, right
    assert errors == 0
    assert left["ended by an error event"] >= number
    assert left["cut silently"] == 0
