"""An engine process that dies in the middle of its work."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest
from tests.flows.process import alive, eventually, started

from arriero.sse import Decoder
from arriero.testing.collector import Collector, attributes_of
from arriero.testing.tiny_gguf import write_tiny_gguf

if TYPE_CHECKING:
    from pathlib import Path

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
        decoder = Decoder()
        events = [event async for data in live_bytes for event in decoder.feed(data)]
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


CIRCUIT = """
allowed_keys = ["sesame"]
[limits]
engine_crashes = 1
[telemetry]
metrics = "public"
otlp_endpoint = "{collector}"
[models.tiny]
model_path = "{tiny}"
threads_per_session = 1
"""


@pytest.mark.slow
async def test_a_model_that_crashes_too_often_rests_and_everything_says_so(tmp_path: Path) -> None:
    """503 with the time to come again; readiness, statistics, metrics, log and traces; then it serves."""
    tiny = write_tiny_gguf(tmp_path / "tiny.gguf")
    config = tmp_path / "circuit.toml"
    ask = {"model": "tiny", "prompt": "a", "max_tokens": 3}
    with Collector() as collector:
        config.write_text(CIRCUIT.format(tiny=tiny, collector=collector.url))
        with started(config, {"tiny": tiny}) as served:
            async with served.client() as client:
                os.kill(served.engine_pid("tiny"), signal.SIGSEGV)

                async def is_open() -> bool:
                    stats = (await client.get("/v1/stats")).json()["models"]["tiny"]
                    return bool(stats["circuit"] == "open" and stats["state"] == "failed")

                await eventually(is_open)
                refused = await client.post("/v1/completions", json=ask)
                metrics = (await client.get("/metrics")).text
                readiness = (await client.get("/readyz")).status_code

                async def is_up() -> bool:
                    return (await client.get("/readyz")).status_code == 200

                await eventually(is_up)
                answers = [await client.post("/v1/completions", json=ask) for _ in range(2)]
                stats = (await client.get("/v1/stats")).json()["models"]["tiny"]

    assert (refused.status_code, readiness) == (503, 503)
    assert 1 < int(refused.headers["retry-after"]) <= 10
    assert 'arriero_engine_circuit_open{model="tiny"} 1.0' in metrics
    assert [answer.status_code for answer in answers] == [200, 200]
    assert stats == {"kind": "local", "circuit": "closed", "restarts": 1, "state": "ready"}
    log = config.with_suffix(".log").read_text()
    assert log.count("engine of model tiny has ended too often: it rests for 10 s") == 1
    assert "httpx2" not in log
    spans = [attributes_of(span) for span in collector.spans if span.name == "POST /v1/completions"]
    assert [span["http.response.status_code"] for span in spans] == [503, 200, 200]
    assert spans[0]["error.type"] == "unavailable"
    assert spans[1]["gen_ai.usage.output_tokens"] == 3
