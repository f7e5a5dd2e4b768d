"""All kinds of load for half an hour: memory and open files stay what they were."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression, mean
from typing import TYPE_CHECKING

import httpx2
import pytest
from tests.abuse.subject import KEY, OTHER_KEY, resident_bytes
from tests.abuse.tiny import Engines, endless, tiny_engines
from websockets.asyncio.client import connect

if TYPE_CHECKING:
    from tests.abuse.figures import Figures

SOAK_S = float(os.environ.get("ARRIERO_ABUSE_SOAK_S", "1800"))
WARM = 0.3
"""The part of the time after which memory must be flat."""
CLIENTS = 6
LOOK_S = 2.0
MIB = 2**20
MOST_PER_HOUR = 1.0
"""MiB by which a process may grow in an hour: by a line through all its sizes after the warm-up."""
NOISE = 1.0
"""MiB by which that line may rise in any time, however short."""
MANY_ACTS = 40_000
WARMING = 12.0
"""What NOISE is in a soak of fewer acts: caches fill, and heaps take thousands of acts to find their size."""
EXPECTED = {"200", "left", "turn"}
WORDS = ["quick", "brown", "fox", "jumps", "over", "lazy", "dog", "runs", "away", "into", "dark", "wood"]


@dataclass
class Looks:
    """Sizes of the server and its engines over time: for each process (hours, MiB)."""

    sizes: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def look(self, engines: Engines) -> None:
        """Note how large each process is now."""
        hours = time.monotonic() / 3600
        pids = {"server": engines.subject.pid, **{n: engines.pid(n) for n in ("left", "right", "embed")}}
        for name, pid in pids.items():
            if pid is not None:
                self.sizes.setdefault(name, []).append((hours, resident_bytes(pid) / MIB))

    def line(self, name: str) -> Line:
        """Return the line through the sizes after the warm-up, by least squares."""
        looks = self.sizes[name]
        hours, sizes = zip(*looks[int(len(looks) * WARM) :], strict=True)
        return Line(hours[-1] - hours[0], mean(sizes), linear_regression(hours, sizes).slope)


@dataclass(frozen=True)
class Line:
    """A size over some hours: its mean in MiB, and what it grows by in an hour."""

    hours: float
    size: float
    slope: float

    def is_flat(self, noise: float) -> bool:
        """Whether the size does not grow, as far as can be told in this time."""
        return self.slope * self.hours <= MOST_PER_HOUR * self.hours + noise

    def __str__(self) -> str:
        return f"{self.size:.1f} MiB {self.slope:+.1f} MiB/h"


def prompt(rng: random.Random) -> str:
    """Return some words; their letters fit the context of the model that embeds, 256 tokens."""
    return " ".join(rng.choices(WORDS, k=rng.randrange(1, 50)))


async def whole_chat(client: httpx2.AsyncClient, rng: random.Random) -> str:
    messages = [{"role": "user", "content": prompt(rng)}]
    body = {"model": "right", "messages": messages, "max_tokens": rng.randrange(1, 40)}
    return str((await client.post("/v1/chat/completions", json=body)).status_code)


async def whole_stream(client: httpx2.AsyncClient, rng: random.Random) -> str:
    body = {"model": "right", "prompt": prompt(rng), "max_tokens": rng.randrange(1, 80), "stream": True}
    async with client.stream("POST", "/v1/completions", json=body) as response:
        lines = [line async for line in response.aiter_lines() if line]
    return "200" if lines[-1] == "data: [DONE]" else lines[-1]


async def left_stream(client: httpx2.AsyncClient, rng: random.Random) -> str:
    async with client.stream("POST", "/v1/completions", json=endless("left")) as response:
        left = rng.randrange(1, 20)
        async for _ in response.aiter_raw():
            left -= 1
            if not left:
                break
    return "left"


async def embedding(client: httpx2.AsyncClient, rng: random.Random) -> str:
    body = {"model": "embed", "input": [prompt(rng) for _ in range(rng.randrange(1, 5))]}
    return str((await client.post("/v1/embeddings", json=body)).status_code)


async def task(client: httpx2.AsyncClient, rng: random.Random) -> str:
    return str((await client.get("/v1/task/talk/completion", params={"prompt": prompt(rng)})).status_code)


async def constrained(client: httpx2.AsyncClient, rng: random.Random) -> str:
    schema = {"type": "object", "properties": {"a": {"enum": rng.sample(WORDS, 5)}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    messages = [{"role": "user", "content": prompt(rng)}]
    body = {"model": "right", "messages": messages, "max_tokens": 60, "response_format": form}
    return str((await client.post("/v1/chat/completions", json=body)).status_code)


async def conversation(client: httpx2.AsyncClient, rng: random.Random) -> str:
    url = f"{client.base_url}".replace("http", "ws", 1).rstrip("/") + "/v1/task/talk/chat"
    headers = {"authorization": client.headers["authorization"]}
    async with connect(url, additional_headers=headers) as socket:
        for _ in range(rng.randrange(1, 4)):
            await socket.send(prompt(rng))
            while await socket.recv():
                pass
    return "turn"


ACTS = (whole_chat, whole_stream, left_stream, embedding, task, constrained, conversation)


async def user(engines: Engines, number: int, end: float, seen: Counter[str]) -> None:
    """Do one thing after the other, on fresh connections now and then."""
    rng = random.Random(number)
    while time.monotonic() < end:
        async with engines.subject.client((KEY, OTHER_KEY)[number % 2]) as client:
            for _ in range(20):
                if time.monotonic() < end:
                    seen[await rng.choice(ACTS)(client, rng)] += 1


@pytest.mark.slow
async def test_memory_and_files_stay_flat(tmp_path: Path, figures: Figures) -> None:
    """From the end of the warm-up to the end no process grows, no socket is left, nothing fails."""
    seen: Counter[str] = Counter()
    looks = Looks()
    with tiny_engines(tmp_path) as engines:
        sockets = engines.subject.num_sockets()
        end = time.monotonic() + SOAK_S
        users = [asyncio.ensure_future(user(engines, n, end, seen)) for n in range(CLIENTS)]
        while time.monotonic() < end:
            looks.look(engines)
            await asyncio.wait(users, timeout=LOOK_S)
        await asyncio.gather(*users)
        left = engines.subject.num_sockets() - sockets

    lines = {name: looks.line(name) for name in looks.sizes}
    noise = NOISE if seen.total() >= MANY_ACTS else WARMING
    figures.tell(
        f"soak of {SOAK_S:g} s",
        acts=seen.total(),
        seen=dict(seen),
        sockets_left=left,
        noise_MiB=noise,
        **{name: str(line) for name, line in lines.items()},
    )
    assert set(seen) <= EXPECTED, seen
    assert left <= 2
    assert [name for name, line in lines.items() if not line.is_flat(noise)] == [], lines
