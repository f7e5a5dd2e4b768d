"""Many requests at once to an upstream that fails at random: nothing leaks, nothing hangs, nothing grows."""

from __future__ import annotations

import asyncio
import gzip
import os
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.guard.remote import SECRET, asked, eventually, guard_of, streamed

from arriero.errors import ServiceError, Unavailable
from arriero.guard.forward import Guard
from arriero.testing.upstream import Answer, End, Received, Upstream, chat, chat_stream, chunk, whole

WORKERS = 32
REQUEST_S = 5.0
TEXT = "Grüße, 🫏! " * 3
KEYS = "timeouts.first_byte_s = 0.3\ntimeouts.idle_s = 0.1"
EARLY = 0.1
"""The part of faults before the answer has begun; more would keep the circuit open most of the time."""
DONE = b"data: [DONE]\n\n"


def scripted(received: Received) -> Answer:
    """Return the answer that the request's own number decides."""
    rng = random.Random(received.json["user"])
    answer = good(rng, stream=received.json.get("stream", False))
    match rng.choice(["none", "none", "reset", "close", "stall", "garbage", "flip", "segments"]):
        case "none":
            return answer
        case "segments":
            return answer.cut(*(rng.randrange(1, len(answer.bytes)) for _ in range(5)))
        case "garbage":
            place = where(rng, answer)
            broken = answer.bytes[:place] + rng.randbytes(40) + answer.bytes[place:]
            return replace(answer, parts=(broken,), end=End.CLOSE)
        case "flip":
            place = where(rng, answer)
            flipped = bytes([answer.bytes[place] ^ (1 << rng.randrange(8))])
            return replace(
                answer, parts=(answer.bytes[:place] + flipped + answer.bytes[place + 1 :],), end=End.CLOSE
            )
        case fault:
            return answer.broken_off(where(rng, answer), End[fault.upper()])


def good(rng: random.Random, *, stream: bool) -> Answer:
    """Return a good answer, compressed now and then."""
    zipped = rng.random() < 0.3
    if not stream:
        return whole(chat(TEXT, model=SECRET), gzipped=zipped)
    answer = chat_stream(*TEXT, model=SECRET)
    if not zipped:
        return answer
    head = answer.parts[0]
    assert isinstance(head, bytes)
    head = head[:-2] + b"content-encoding: gzip\r\n\r\n"
    body = b"".join(unchunked(part) for part in answer.parts[1:])
    return Answer((head, chunk(gzip.compress(body)), chunk(b"")))


def unchunked(part: Any) -> bytes:
    """Return what is in a chunk."""
    data: bytes = part.partition(b"\r\n")[2][:-2]
    return data


def where(rng: random.Random, answer: Answer) -> int:
    """Return a place in an answer, mostly behind its head."""
    head = answer.bytes.index(b"\r\n\r\n") + 4
    return rng.randrange(head) if rng.random() < EARLY else rng.randrange(head, len(answer.bytes))


async def outcome(guard: Guard, number: int) -> tuple[str, bytes]:
    """Ask once, again while the circuit is open; return how it went and all that was told."""
    stream = number % 2 == 0
    while True:
        try:
            async with asyncio.timeout(REQUEST_S):
                if stream:
                    told = await streamed(guard, user=str(number))
                    return ("done" if told.endswith(DONE) else "broken"), told
                return "whole", (await asked(guard, user=str(number))).body
        except Unavailable:
            await asyncio.sleep(0.02)
        except ServiceError as exc:
            return "refused", exc.message.encode()


async def run(count: int) -> Counter[str]:
    """Send so many requests; return how they went."""
    outcomes: Counter[str] = Counter()
    numbers = iter(range(count))
    async with Upstream.of(scripted) as upstream:
        guard = guard_of([upstream.url], KEYS)

        async def work() -> None:
            for number in numbers:
                how, told = await outcome(guard, number)
                check(how, told, upstream)
                outcomes[how] += 1

        await asyncio.gather(*(work() for _ in range(WORKERS)))
        assert guard.num_running == 0
        await eventually(lambda: guard.num_connections == 0)
        await eventually(lambda: not upstream.open)
        await guard.stop()
    return outcomes


def check(how: str, told: bytes, upstream: Upstream) -> None:
    """Find no name, no address, no false end."""
    for secret in (SECRET.encode(), b"Secret-Model", b"127.0.0.1", b"%d" % upstream.port, b"fp_upstream"):
        assert secret not in told
    if how == "done":
        assert told.count(b"[DONE]") == 1
        assert told.count(b'"finish_reason":"stop"') == 1
    if how == "broken":
        assert b"[DONE]" not in told
        assert told.split(b"\n\n")[-2].startswith(b'data: {"error"')


async def test_random_faults() -> None:
    """A few hundred requests with random faults leave nothing behind and tell nothing."""
    outcomes = await run(250)

    assert sum(outcomes.values()) == 250
    assert min(outcomes[how] for how in ("done", "whole", "broken", "refused")) > 5


@pytest.mark.slow
async def test_ten_thousand() -> None:
    """Ten thousand requests with random faults neither grow the memory nor leave a socket."""
    await run(1000)
    memory, files = resident_bytes(), len(os.listdir("/proc/self/fd"))

    outcomes = await run(10_000)

    assert sum(outcomes.values()) == 10_000
    assert resident_bytes() - memory < 16 << 20
    assert len(os.listdir("/proc/self/fd")) <= files


def resident_bytes() -> int:
    """Return the memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
