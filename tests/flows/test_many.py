"""Many clients at once, and clients that go away."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx2
import pytest
from tests.flows.process import HEADERS, eventually, is_idle, is_running
from websockets.asyncio.client import connect

if TYPE_CHECKING:
    from tests.flows.process import Served

CLIENTS = 8
LIVE = "/v1/task/endless/live"
ENDLESS = {"prompt": "the cat"}


async def test_eight_clients_stream_side_by_side(client: httpx2.AsyncClient) -> None:
    """Each of eight streams gets its first piece before any of them has ended."""
    body = {"model": "task/endless", "prompt": "the cat", "max_tokens": 20, "stream": True}

    async def stream(number: int) -> tuple[float, float, int]:
        async with client.stream("POST", "/v1/completions", json={**body, "seed": number}) as response:
            lines = response.aiter_lines()
            times = [time.monotonic() async for line in lines if line.startswith("data: {")]
        return times[0], times[-1], len(times)

    streams = await asyncio.gather(*map(stream, range(CLIENTS)))

    assert max(first for first, _, _ in streams) < min(last for _, last, _ in streams)
    assert all(num_pieces >= 20 for _, _, num_pieces in streams)


async def test_status_answers_while_all_are_busy(client: httpx2.AsyncClient) -> None:
    """Streams that run do not hold up the routes that do not generate."""
    async with client.stream("GET", LIVE, params=ENDLESS) as response:
        lines = response.aiter_lines()  # Kept: one that is let go of closes the connection.
        await anext(lines)
        started = time.monotonic()
        status = await client.get("/status")

    assert status.json() == {"status": "ok"}
    assert time.monotonic() - started < 5
    await eventually(lambda: is_idle(client))


async def test_a_client_that_leaves_its_stream_frees_the_engine(
    server: Served, client: httpx2.AsyncClient
) -> None:
    """After a few pieces the connection is dropped; the endless generation ends."""
    async with server.client() as leaving, leaving.stream("GET", LIVE, params=ENDLESS) as response:
        lines = response.aiter_lines()
        for _ in range(9):
            await anext(lines)

        await eventually(lambda: is_running(client))
    await eventually(lambda: is_idle(client))


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/completions"), ("GET", "/v1/task/endless/completion")]
)
async def test_a_client_that_leaves_before_its_answer_frees_the_engine(
    client: httpx2.AsyncClient, method: str, path: str
) -> None:
    """The same for an answer that does not stream, on both dialects."""
    body = {"model": "task/endless", **ENDLESS, "max_tokens": 480} if method == "POST" else None
    job = asyncio.ensure_future(client.request(method, path, params=ENDLESS, json=body))
    await eventually(lambda: is_running(client))
    job.cancel()
    with suppress(asyncio.CancelledError):
        await job

    await eventually(lambda: is_idle(client))


async def test_a_client_that_leaves_its_chat_frees_the_engine(
    server: Served, client: httpx2.AsyncClient
) -> None:
    """A socket that closes in the middle of an answer ends the generation."""
    url = f"{server.url.replace('http', 'ws')}/v1/task/endless/chat"
    async with connect(url, additional_headers=HEADERS) as socket:
        await socket.send("the cat")
        await socket.recv()
        await eventually(lambda: is_running(client))
    await eventually(lambda: is_idle(client))
