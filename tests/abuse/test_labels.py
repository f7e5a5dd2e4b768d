"""Metrics stay small whatever is asked, and by whom."""

from __future__ import annotations

import asyncio
import random
import string
import time
from typing import TYPE_CHECKING

import pytest
from tests.abuse.subject import KEY, scaled, staged_subject

if TYPE_CHECKING:
    from pathlib import Path

    import httpx2
    from tests.abuse.figures import Figures

REQUESTS = 10_000
AT_ONCE = 8
MOST_BYTES = 200_000
PREFIXES = ["/", "/v1/", "/v1/task/", "/v1/model/", "/v1/models/", "/v1/memory/", "/pokt/"]
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"]
MARK = "zq"
"""All that is made up begins with it, so that it would be found."""


def word(rng: random.Random) -> str:
    return MARK + "".join(rng.choices(string.ascii_lowercase, k=8))


async def ask(client: httpx2.AsyncClient, rng: random.Random) -> int:
    """Make a request with a path, a model or a key that nobody knows; return the status."""
    name = word(rng)
    match rng.randrange(4):
        case 0:
            path = rng.choice(PREFIXES) + name + rng.choice(["", "/chat", f"/{word(rng)}", "/status"])
            answer = await client.request(rng.choice(METHODS), path)
        case 1:
            answer = await client.post("/v1/completions", json={"model": name, "prompt": name})
        case 2:
            answer = await client.get("/v1/task", headers={"authorization": f"Bearer {name}"})
        case _:
            headers = {"x-request-id": name, "user-agent": name, "origin": f"http://{name}.example"}
            answer = await client.get(f"/v1/task/{name}/status", params={name: name}, headers=headers)
    return answer.status_code


@pytest.mark.slow
async def test_metrics_are_bounded(tmp_path: Path, figures: Figures) -> None:
    """Nothing that a caller makes up becomes a label; the page is small and made quickly."""
    with staged_subject(tmp_path, '\n[telemetry]\nmetrics = "public"\n') as subject:
        async with subject.client(KEY) as client:

            async def some(seed: int) -> set[int]:
                rng = random.Random(seed)
                return {await ask(client, rng) for _ in range(scaled(REQUESTS) // AT_ONCE)}

            statuses = set().union(*await asyncio.gather(*(some(seed) for seed in range(AT_ONCE))))
            cpu, started = subject.cpu_s(), time.monotonic()
            told = [(await client.get("/metrics")).text for _ in range(50)][-1]
            each_s = (time.monotonic() - started) / 50
            each_cpu_s = (subject.cpu_s() - cpu) / 50

    figures.tell(
        "metrics after requests at random",
        requests=scaled(REQUESTS),
        bytes=len(told),
        ms=each_s * 1000,
        cpu_ms=each_cpu_s * 1000,
    )
    assert statuses <= {401, 404, 405, 200, 204, 400, 403}
    assert {401, 404} <= statuses
    assert len(told) <= MOST_BYTES
    assert MARK not in told
