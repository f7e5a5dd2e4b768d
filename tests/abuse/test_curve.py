"""The load curve, from half of what can be served to twenty times that, and the bound of the queue.

Requests come at moments of a Poisson process, whatever became of those before them: clients that wait for
their answer before they ask again would hide an overload.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from tests.abuse.stage import STEP_S
from tests.abuse.subject import KEY, Subject, post, scaled, staged_subject

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from tests.abuse.figures import Figures

PLACES = 4
MAX_TOKENS = 100
SERVICE_S = (MAX_TOKENS - 1) * STEP_S
CAPACITY = PLACES / SERVICE_S
MAX_WAIT_S = 2.0
MAX_WAITING = int(1.5 * MAX_WAIT_S * CAPACITY)
"""So long a queue is not served in time: its deadline bounds the wait, and not its length."""
TIMES = (0.5, 1, 2, 5, 10, 20)
LOAD_S = 11
LEAST_LOAD_S = 6
WARM_S = 2.0
SEED = 6
LEAST_GOODPUT = 0.9
ATTEMPTS = 3
"""At a level: other work on the machine takes from what is measured, and never adds to it."""
MOST_REFUSAL_CPU_MS = 1.0
MOST_CONNECTED_CPU_MS = 2.0
"""Of a refusal on a connection of its own, on a machine that has other work."""
REFUSALS = 200
ROUNDS = 8

BURST_PLACES = 8
BURST_QUEUE = 20
BURST_MORE = 50
BURST_TOKENS = 100
BURST_SERVICE_S = (BURST_TOKENS - 1) * STEP_S
CLOSE = "connection: close"
HOLDING = post("/v1/completions", b'{"model": "m", "prompt": "wait", "stream": true}')
LIMITS = "[server]\nmax_concurrent = {}\n[limits]\nmax_waiting = {}\nmax_wait_s = {}"


@dataclass(frozen=True)
class Answer:
    """status: 0 = the connection broke. at: when it was whole."""

    status: int
    at: float
    took_s: float
    has_retry_after: bool


@dataclass
class Level:
    """What came of one load. cpu_s: of the server, until the last answer."""

    offered: int = 0
    begin: float = 0.0
    end: float = 0.0
    cpu_s: float = 0.0
    answers: list[Answer] = field(default_factory=list)

    @property
    def statuses(self) -> Counter[int]:
        return Counter(answer.status for answer in self.answers)

    @property
    def goodput(self) -> float:
        """Whole answers for each second, once the load has stood for a while."""
        begin = self.begin + WARM_S
        good = sum(one.status == 200 and begin <= one.at < self.end for one in self.answers)
        return good / (self.end - begin)

    @property
    def p99_s(self) -> float:
        """The time of accepted requests."""
        took = sorted(one.took_s for one in self.answers if one.status == 200)
        return took[int(len(took) * 0.99)]

    def refusal_cpu_ms(self, answer_cpu_s: float) -> float:
        """Return the server's time for a refusal, when that for an answer is known."""
        refused = self.statuses[503]
        return 1000 * max(0.0, self.cpu_s - answer_cpu_s * self.statuses[200]) / refused if refused else 0.0

    def told(self, answer_cpu_s: float) -> dict[str, Any]:
        """Return the figures."""
        return {
            "offered_per_s": self.offered / (self.end - self.begin),
            "goodput_per_s": self.goodput,
            "p99_s": self.p99_s,
            "refused": self.statuses[503] / len(self.answers),
            "refusal_cpu_ms": self.refusal_cpu_ms(answer_cpu_s),
            "statuses": {str(status): count for status, count in self.statuses.items()},
        }


def asking(max_tokens: int, *headers: str) -> bytes:
    body = msgspec.json.encode({"model": "m", "prompt": "a", "max_tokens": max_tokens})
    return post("/v1/completions", body, KEY, *headers)


async def asked(subject: Subject, request: bytes) -> Answer:
    """Send a request on a connection of its own; return what came of it."""
    started = time.monotonic()
    try:
        reader, writer = await asyncio.open_connection(*subject.address)
        try:
            writer.write(request)
            answer = await reader.read()
        finally:
            writer.close()
    except OSError:
        answer = b""
    now = time.monotonic()
    status = int(answer.split(b" ", 2)[1]) if answer else 0
    return Answer(status, now, now - started, b"\r\nretry-after: " in answer)


async def loaded(subject: Subject, rate: float, seconds: float, rng: random.Random) -> Level:
    """Ask at a mean rate for some seconds; return what came of it, once all are answered."""
    level, request, cpu_s = Level(), asking(MAX_TOKENS, CLOSE), subject.cpu_s()

    async def one() -> None:
        level.answers.append(await asked(subject, request))

    level.begin = due = time.monotonic()
    level.end = level.begin + seconds
    async with asyncio.TaskGroup() as group:
        while (due := due + rng.expovariate(rate)) < level.end:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            group.create_task(one())
            level.offered += 1
    level.cpu_s = subject.cpu_s() - cpu_s
    return level


async def best(subject: Subject, times: float, seconds: float, peak: float, rng: random.Random) -> Level:
    """Return the best of some attempts at a load; one will do when it comes near the peak."""
    attempts: list[Level] = []
    while len(attempts) < ATTEMPTS:
        attempts.append(await loaded(subject, CAPACITY * times, seconds, rng))
        if attempts[-1].goodput >= LEAST_GOODPUT * peak:
            break
    return max(attempts, key=lambda level: level.goodput)


@pytest.mark.slow
async def test_the_load_curve_is_flat_beyond_its_knee(tmp_path: Path, figures: Figures) -> None:
    """What can be served is served at any load, in time; the rest is refused with a hint and costs little."""
    rng, seconds = random.Random(SEED), max(LEAST_LOAD_S, scaled(LOAD_S))
    with staged_subject(tmp_path, LIMITS.format(PLACES, MAX_WAITING, MAX_WAIT_S)) as subject:
        await loaded(subject, CAPACITY, 1.0, rng)
        curve: dict[float, Level] = {}
        for times in TIMES:
            peak = max((level.goodput for level in curve.values()), default=0.0)
            curve[times] = await best(subject, times, seconds, peak, rng)
    quiet = curve[TIMES[0]]
    answer_cpu_s = quiet.cpu_s / quiet.statuses[200]

    for times, level in curve.items():
        figures.tell(f"load curve, {times:g} times {CAPACITY:.3g} requests/s", **level.told(answer_cpu_s))
    peak = max(level.goodput for level in curve.values())
    assert curve[TIMES[-1]].goodput >= LEAST_GOODPUT * peak
    for level in curve.values():
        assert set(level.statuses) <= {200, 503}
        assert level.p99_s <= 2 * MAX_WAIT_S + SERVICE_S
        assert all(one.has_retry_after for one in level.answers if one.status == 503)
        assert level.refusal_cpu_ms(answer_cpu_s) <= MOST_CONNECTED_CPU_MS
    assert set(quiet.statuses) == {200}


@pytest.mark.slow
async def test_what_the_queue_cannot_hold_is_refused_at_once(tmp_path: Path, figures: Figures) -> None:
    """Of places, queue and 50 more, just the 50 are refused, before anyone is done; all others are served."""
    number = BURST_PLACES + BURST_QUEUE + BURST_MORE
    request = asking(BURST_TOKENS, CLOSE)
    with staged_subject(tmp_path, LIMITS.format(BURST_PLACES, BURST_QUEUE, 30)) as subject:
        answers = await asyncio.gather(*(asked(subject, request) for _ in range(number)))

    refused = [one for one in answers if one.status == 503]
    accepted = [one for one in answers if one.status == 200]
    figures.tell(
        f"{number} requests at once for {BURST_PLACES} places and a queue of {BURST_QUEUE}",
        refused=len(refused),
        accepted=len(accepted),
        slowest_refusal_s=max(one.took_s for one in refused),
        slowest_answer_s=max(one.took_s for one in accepted),
    )
    assert (len(refused), len(accepted)) == (BURST_MORE, BURST_PLACES + BURST_QUEUE)
    assert all(one.has_retry_after for one in refused)
    assert max(one.at for one in refused) < min(one.at for one in accepted)
    rounds = -(-(BURST_PLACES + BURST_QUEUE) // BURST_PLACES)
    assert max(one.took_s for one in accepted) < 2 * rounds * BURST_SERVICE_S


def refusal(connection: socket.socket, request: bytes) -> bytes:
    """Ask on an open connection; return an answer that comes in one write."""
    connection.sendall(request)
    return connection.recv(65536)


@pytest.mark.slow
def test_a_refusal_costs_little(tmp_path: Path, figures: Figures) -> None:
    """While the only place is held and there is no queue, one connection is refused again and again."""
    request, best_ms = asking(MAX_TOKENS), float("inf")
    staged = staged_subject(tmp_path, LIMITS.format(1, 0, 30))
    with staged as subject, subject.connect() as holder, subject.connect() as refused:
        holder.sendall(HOLDING)
        assert holder.recv(65536).startswith(b"HTTP/1.1 200 ")
        for _ in range(ROUNDS):
            cpu_s = subject.cpu_s()
            for _ in range(REFUSALS):
                answer = refusal(refused, request)
                assert answer.startswith(b"HTTP/1.1 503 ")
                assert b"\r\nretry-after: " in answer
            best_ms = min(best_ms, 1000 * (subject.cpu_s() - cpu_s) / REFUSALS)

    figures.tell("a refusal on an open connection", cpu_ms=best_ms)
    assert best_ms <= MOST_REFUSAL_CPU_MS
