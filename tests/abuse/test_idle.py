"""Many connections on which nothing happens."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.abuse.subject import Subject, eventually, post, raise_open_files, scaled, staged_subject

if TYPE_CHECKING:
    from tests.abuse.figures import Figures

CONNECTIONS = 10_000
MOST_BYTES_EACH = 25 * 1024
AT_A_TIME = 200
IDLE_S = float(os.environ.get("ARRIERO_ABUSE_IDLE_S", "5"))
LOOK_S = 0.1
LIVEZ = b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n"
SETTINGS = """
[server]
max_concurrent = 20000
[limits]
max_connections = 15000
"""
WAITING = post(
    "/v1/completions",
    msgspec.json.encode({"model": "m", "prompt": "wait", "max_tokens": 9, "stream": True}),
)


def opened(subject: Subject, number: int) -> list[socket]:
    """Open streams that say one thing and then nothing."""
    streams: list[socket] = []
    while len(streams) < number:
        batch = [subject.connect() for _ in range(min(AT_A_TIME, number - len(streams)))]
        for stream in batch:
            stream.sendall(WAITING)
        for stream in batch:
            head = stream.recv(4096)
            assert head.startswith(b"HTTP/1.1 200"), head
        streams += batch
    return streams


async def whole_answer_s(subject: Subject) -> float:
    """Return how long an answer takes that needs the model."""
    async with subject.client() as client:
        await client.get("/livez")
        started = time.monotonic()
        answer = await client.post("/v1/completions", json={"model": "m", "prompt": "a", "max_tokens": 2})
        assert answer.status_code == 200
        return time.monotonic() - started


@dataclass(frozen=True)
class Idled:
    """What came of a time in which nothing was asked but how the server is."""

    cores: float
    health_s: list[float]
    """How long each look took, the shortest first."""


def idled(subject: Subject) -> Idled:
    """Look at the server's health now and then, on one connection."""
    took: list[float] = []
    cpu_before, since = subject.cpu_s(), time.monotonic()
    with subject.connect() as connection:
        while not took or time.monotonic() - since < IDLE_S:
            asked = time.monotonic()
            connection.sendall(LIVEZ)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            took.append(time.monotonic() - asked)
            time.sleep(LOOK_S)  # what idling costs is measured over a time
    return Idled((subject.cpu_s() - cpu_before) / (time.monotonic() - since), sorted(took))


def has_ended(stream: socket) -> bool:
    """Read what has come; say whether the server has closed."""
    stream.setblocking(False)
    try:
        while data := stream.recv(65536):
            assert b"error" not in data, data
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True


@pytest.mark.slow
def test_ten_thousand_idle_streams(tmp_path: Path, figures: Figures) -> None:
    """Each costs at most 25 KiB, none is dropped, others are answered meanwhile, and all of it comes back."""
    number = min(scaled(CONNECTIONS), raise_open_files() - 500)
    with staged_subject(tmp_path, SETTINGS) as subject:
        for stream in opened(subject, AT_A_TIME):
            stream.close()
        asyncio.run(whole_answer_s(subject))
        sockets = eventually_flat_sockets(subject)
        before = subject.resident_bytes()
        started = time.monotonic()
        streams = opened(subject, number)
        opening_s = time.monotonic() - started
        each = (subject.resident_bytes() - before) / number
        idle = idled(subject)
        answer_s = asyncio.run(whole_answer_s(subject))
        dropped = sum(map(has_ended, streams))
        for stream in streams:
            stream.close()
        closing_s = eventually(lambda: subject.num_sockets() <= sockets)
        left = subject.resident_bytes() - before
        again = opened(subject, number)
        grown = (subject.resident_bytes() - before) / number
        for stream in again:
            stream.close()
        eventually(lambda: subject.num_sockets() <= sockets)

    figures.tell(
        "idle streams",
        connections=number,
        KiB_each=each / 1024,
        KiB_each_the_second_time=grown / 1024,
        opened_in_s=opening_s,
        idle_s=IDLE_S,
        cores_while_idle=idle.cores,
        health_p99_ms=1e3 * idle.health_s[len(idle.health_s) * 99 // 100],
        health_worst_ms=1e3 * idle.health_s[-1],
        dropped=dropped,
        answer_meanwhile_s=answer_s,
        closed_in_s=closing_s,
        MiB_left=left / 2**20,
    )
    assert dropped == 0
    assert each <= MOST_BYTES_EACH
    assert grown <= MOST_BYTES_EACH * 1.1, "memory of closed streams is not used again"


def eventually_flat_sockets(subject: Subject) -> int:
    """Wait until the last connections are closed; return how many sockets the server itself has."""
    asyncio.run(asyncio.sleep(1))
    return subject.num_sockets()
