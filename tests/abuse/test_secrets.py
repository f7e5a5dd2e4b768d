"""Secrets beside a server at work, and strangers who guess them."""

from __future__ import annotations

import asyncio
import os
import random
import re
import string
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.abuse.subject import KEY, Subject, scaled, staged_subject
from tests.abuse.test_parents import descendants
from tests.abuse.tiny import LONG_KEY, Engines, endless, tiny_engines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.abuse.figures import Figures

GUESSES = 100_000
AT_ONCE = 50
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n")
A_MINUTE = 20
CANARY = "canary-5f2c9d7e1b"
AT_DEBUG = '\n[telemetry]\nlog_level = "debug"\nlog_prompts = false\nmetrics = "public"\n'


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """A server that logs all it can, and that has a secret in its environment."""
    os.environ["ARRIERO_TEST_SECRET"] = CANARY
    try:
        with tiny_engines(tmp_path_factory.mktemp("secrets"), AT_DEBUG) as served:
            yield served
    finally:
        del os.environ["ARRIERO_TEST_SECRET"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes as Linux shows them")
async def test_secrets_stay_in_the_server(engines: Engines) -> None:
    """Keys and prompts are in no line of the log and no metric; no child is told a key or an environment."""
    marked = {**endless("left"), "prompt": CANARY, "max_tokens": 5, "user": CANARY}
    async with engines.subject.client(LONG_KEY) as client:
        told = ""
        for path, params in (
            ("/v1/completions", {}),
            ("/v1/nothing", {}),
            ("/v1/task", {"api_key": LONG_KEY}),
        ):
            told += (await client.post(path, json=marked, params=params)).text
        wrong = {"authorization": f"Bearer {CANARY}", "x-api-key": CANARY, "cookie": CANARY}
        for path in ("/v1/task", "/v1/chat/completions"):
            told += (await client.get(path, headers=wrong, params={"ticket": CANARY})).text
        told += (await client.get("/metrics")).text
        children = descendants(engines.subject.pid)
        told += "".join(
            (Path(f"/proc/{child}") / file).read_text(errors="replace")
            for child in children
            for file in ("cmdline", "environ")
        )
    told += engines.subject.log.read_text()

    assert len(children) >= 3
    assert [secret for secret in (CANARY, LONG_KEY) if secret in told] == []


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """A server that bounds wrong keys also where they come from its own machine."""
    limits = f"[limits]\nmax_auth_failures = {A_MINUTE}\n"
    with staged_subject(tmp_path_factory.mktemp("guarded"), limits) as served:
        yield served


async def guessing(subject: Subject, address: str, number: int) -> Counter[int]:
    """Guess keys from an address, many at once on one connection; return how often each status came."""
    rng = random.Random(address)
    seen: Counter[int] = Counter()
    reader, writer = await asyncio.open_connection(*subject.address, local_addr=(address, 0))
    while seen.total() < number:
        guesses = [request(rng) for _ in range(min(AT_ONCE, number - seen.total()))]
        writer.write(b"".join(guesses))
        for _ in guesses:
            seen[await status_of(reader)] += 1
    writer.close()
    return seen


def request(rng: random.Random) -> bytes:
    """Return a request with a key that nobody has."""
    guess = "".join(rng.choices(string.ascii_letters, k=20))
    return f"GET /v1/task HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {guess}\r\n\r\n".encode()


async def status_of(reader: asyncio.StreamReader) -> int:
    """Read an answer; return its status."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = LENGTH.search(head)
    assert length is not None, head
    await reader.readexactly(int(length[1]))
    return int(head[9:12])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs all of 127.0.0.0/8")
@pytest.mark.parametrize("count", [1, 200])
async def test_guessing_keys_is_bounded_and_hurts_nobody(
    guarded: Subject, figures: Figures, count: int
) -> None:
    """From one address or many: each gets some 401 a minute, then 429; who has a key is served meanwhile."""
    each = max(2 * A_MINUTE, scaled(GUESSES) // count)
    served: Counter[int] = Counter()
    longest_s = 0.0
    began_s, started = guarded.cpu_s(), time.monotonic()
    addresses = [f"127.1.{count}.{last}" for last in range(1, count + 1)]
    jobs = [asyncio.ensure_future(guessing(guarded, address, each)) for address in addresses]
    async with guarded.client(KEY) as client:
        while not all(job.done() for job in jobs):
            asked = time.monotonic()
            served[(await client.get("/v1/task")).status_code] += 1
            longest_s = max(longest_s, time.monotonic() - asked)
            await asyncio.sleep(0.01)
    seen = [await job for job in jobs]
    minutes = (time.monotonic() - started) / 60
    total = sum(seen, Counter[int]())

    figures.tell(
        f"keys guessed from {count} addresses",
        guesses=total.total(),
        refused_401=total[401],
        refused_429=total[429],
        cpu_ms_each=1e3 * (guarded.cpu_s() - began_s) / (total.total() + served.total()),
        served_meanwhile=served.total(),
        longest_s=longest_s,
    )
    assert set(total) == {401, 429}
    assert max(one[401] for one in seen) <= A_MINUTE * (1 + minutes) + 1
    assert set(served) == {200}
