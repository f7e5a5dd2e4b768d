"""An engine process that dies in the middle of its work."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

from tests.flows.process import alive, eventually

from arriero.sse import Decoder

if TYPE_CHECKING:
    import httpx2
    from tests.flows.process import Served

ENDLESS = {"model": "task/endless", "prompt": "the cat", "max_tokens": 480, "stream": True}


async def test_a_crash_ends_its_own_streams_and_the_model_comes_back(
    server: Served, client: httpx2.AsyncClient
) -> None:
    """Each stream gets an error and no `[DONE]`, the other model answers, the dead one is back soon."""
    engine = server.engine_pid("chat")
    params = {"prompt": "the cat"}
    async with (
        client.stream("POST", "/v1/completions", json=ENDLESS) as official,
        client.stream("GET", "/v1/task/endless/live", params=params) as live,
    ):
        official_lines, live_bytes = official.aiter_lines(), live.aiter_bytes()
        await anext(official_lines)
        await anext(live_bytes)
        os.kill(engine, signal.SIGSEGV)
        lines = [line async for line in official_lines if line]
        events = [event async for data in live_bytes for event in Decoder().feed(data)]
        other = await client.post("/v1/model/embed/embedding", json={"prompt": "x"})

    error = json.loads(lines[-1].removeprefix("data: "))["error"]
    assert error["type"] == "server_error"
    assert "chat" in error["message"]
    assert "data: [DONE]" not in lines
    assert events[-1].event == "error"
    assert other.status_code == 200

    async def answers() -> bool:
        answer = await client.get("/v1/task/copier/completion", params={"prompt": "Hello"})
        assert answer.status_code in {200, 503}
        return answer.status_code == 200

    await eventually(answers)
    assert (await client.get("/readyz")).status_code == 200
    assert not alive(engine)
    assert server.engine_pid("chat") != engine


async def test_readiness_tells_of_a_dead_engine(server: Served, client: httpx2.AsyncClient) -> None:
    """Liveness stays, readiness goes and comes back; a request meanwhile is told to come again."""
    os.kill(server.engine_pid("embed"), signal.SIGSEGV)

    async def is_down() -> bool:
        return (await client.get("/readyz")).status_code == 503

    await eventually(is_down)
    refused = await client.post("/v1/embeddings", json={"model": "embed", "input": "x"})
    assert (await client.get("/status")).status_code == 200
    assert refused.status_code in {200, 503}
    assert refused.status_code == 200 or "retry-after" in refused.headers

    async def is_up() -> bool:
        return (await client.get("/readyz")).status_code == 200

    await eventually(is_up)
    assert (await client.post("/v1/embeddings", json={"model": "embed", "input": "x"})).status_code == 200
