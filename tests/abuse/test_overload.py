"""Ten times what the server can do, from one key, while another key asks now and then."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.abuse.stage import STEP_S
from tests.abuse.subject import KEY, OTHER_KEY, Subject, post, staged_subject

if TYPE_CHECKING:
    from tests.abuse.figures import Figures

PLACES = 8
MAX_TOKENS = 50
SERVICE_S = MAX_TOKENS * STEP_S
CAPACITY = PLACES / SERVICE_S
LOAD_S = 12.0
WARM_S = 2.0
TIMES = 10
LEAST_GOODPUT = 0.8
LONGEST_HEALTH_S = 2.0
BODY = msgspec.json.encode({"model": "m", "prompt": "a", "max_tokens": MAX_TOKENS})


@dataclass
class Seen:
    """What clients of one kind have seen. answers: when each came, its status, and how long it took."""

    answers: list[tuple[float, int, float]] = field(default_factory=list)
    without_retry_after: int = 0

    def took(self, status: int) -> list[float]:
        return sorted(took for _, came, took in self.answers if came == status) or [0.0]

    @property
    def statuses(self) -> Counter[int]:
        return Counter(status for _, status, _ in self.answers)

    def goodput(self, begin: float, end: float) -> float:
        """Return whole answers for each second between two times."""
        return sum(begin <= at < end and status == 200 for at, status, _ in self.answers) / (end - begin)


async def ask(subject: Subject, request: bytes, seen: Seen) -> None:
    """Send one request on a connection of its own. A reset fails the test."""
    started = time.monotonic()
    reader, writer = await asyncio.open_connection(*subject.address)
    try:
        writer.write(request)
        answer = await reader.read()
    finally:
        writer.close()
    status = int(answer.split(b" ", 2)[1])
    seen.answers.append((time.monotonic(), status, time.monotonic() - started))
    seen.without_retry_after += status in {429, 503} and b"\r\nretry-after: " not in answer


def asking(key: str) -> bytes:
    return post("/v1/completions", BODY, key, "connection: close")


async def best(subject: Subject) -> float:
    """Return the goodput of as many clients as there are places, each asking again and again."""
    seen, end = Seen(), time.monotonic() + LOAD_S / 2

    async def client() -> None:
        while time.monotonic() < end:
            await ask(subject, asking(KEY), seen)

    begin = time.monotonic()
    await asyncio.gather(*(client() for _ in range(PLACES)))
    return seen.goodput(begin, end)


async def flood(subject: Subject, seen: Seen, end: float) -> None:
    """Ask at a rate that does not care for the answers."""
    async with asyncio.TaskGroup() as group:
        while time.monotonic() < end:
            group.create_task(ask(subject, asking(KEY), seen))
            await asyncio.sleep(1 / (CAPACITY * TIMES))


async def repeated(subject: Subject, request: bytes, seen: Seen, every_s: float, end: float) -> None:
    """Ask again and again, a while after each answer."""
    while time.monotonic() < end:
        await ask(subject, request, seen)
        await asyncio.sleep(every_s)


@pytest.mark.slow
async def test_overload_does_not_collapse_and_is_fair(tmp_path: Path, figures: Figures) -> None:
    """Nearly as much is served as at best; the rest is refused at once; another key is served as ever."""
    health = b"GET %b HTTP/1.1\r\nhost: abuse\r\nconnection: close\r\n\r\n"
    flooding, other, alone, livez, readyz = (Seen() for _ in range(5))
    with staged_subject(tmp_path, f"[server]\nmax_concurrent = {PLACES}") as subject:
        await repeated(subject, asking(OTHER_KEY), alone, 0.0, time.monotonic() + 3)
        peak = await best(subject)
        begin = time.monotonic()
        end = begin + LOAD_S
        async with asyncio.TaskGroup() as group:
            group.create_task(flood(subject, flooding, end))
            group.create_task(repeated(subject, asking(OTHER_KEY), other, 0.2, end))
            group.create_task(repeated(subject, health % b"/livez", livez, 0.1, end))
            group.create_task(repeated(subject, health % b"/readyz", readyz, 0.1, end))
        goodput = flooding.goodput(begin + WARM_S, end) + other.goodput(begin + WARM_S, end)

    figures.tell(
        f"overload, {TIMES} times {CAPACITY:g} requests/s",
        best_per_s=peak,
        goodput_per_s=goodput,
        statuses={str(status): count for status, count in flooding.statuses.items()},
        longest_refusal_s=flooding.took(503)[-1],
        other_key_statuses={str(status): count for status, count in other.statuses.items()},
        other_key_median_s=other.took(200)[len(other.took(200)) // 2],
        other_key_worst_s=other.took(200)[-1],
        other_key_alone_s=alone.took(200)[len(alone.took(200)) // 2],
        livez_worst_s=livez.took(200)[-1],
        readyz_worst_s=readyz.took(200)[-1],
    )
    assert goodput >= LEAST_GOODPUT * peak
    assert set(flooding.statuses) == {200, 503}
    assert flooding.without_retry_after == 0
    assert set(other.statuses) == set(livez.statuses) == set(readyz.statuses) == {200}
    assert other.took(200)[-1] <= 3 * max(alone.took(200)[-1], 2 * SERVICE_S)
    assert max(livez.took(200)[-1], readyz.took(200)[-1]) < LONGEST_HEALTH_S
