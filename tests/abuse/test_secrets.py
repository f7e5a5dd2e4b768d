"""Secrets beside a server at work, and strangers who guess them."""

from __future__ import annotations

import asyncio
import os
import random
import string
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest
from tests.abuse.subject import DEADLINE_S, KEY, Subject, scaled, staged_subject
from tests.abuse.test_parents import descendants
from tests.abuse.tiny import LONG_KEY, Engines, endless, tiny_engines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.abuse.figures import Figures

GUESSES = 5000
ADDRESSES = 50
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


async def guessing(subject: Subject, address: str, number: int, seen: Counter[int]) -> None:
    """Guess keys from an address."""
    rng = random.Random(address)
    transport = httpx2.AsyncHTTPTransport(local_address=address)
    async with httpx2.AsyncClient(base_url=subject.url, transport=transport, timeout=DEADLINE_S) as client:
        for _ in range(number):
            guess = "".join(rng.choices(string.ascii_letters, k=20))
            answer = await client.get("/v1/task", headers={"authorization": f"Bearer {guess}"})
            seen[answer.status_code] += 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs all of 127.0.0.0/8")
async def test_guessing_keys_is_bounded_and_hurts_nobody(guarded: Subject, figures: Figures) -> None:
    """From many addresses: each gets some 401 a minute, then 429; who has a key is served all the while."""
    number = scaled(GUESSES) // ADDRESSES
    seen: Counter[int] = Counter()
    served: Counter[int] = Counter()
    began_s, started = guarded.cpu_s(), time.monotonic()
    addresses = [f"127.0.0.{last}" for last in range(10, 10 + ADDRESSES)]
    jobs = [asyncio.ensure_future(guessing(guarded, address, number, seen)) for address in addresses]
    async with guarded.client(KEY) as client:
        while not all(job.done() for job in jobs):
            served[(await client.get("/v1/task")).status_code] += 1
            await asyncio.sleep(0.01)
    await asyncio.gather(*jobs)
    minutes = (time.monotonic() - started) / 60

    figures.tell(
        "guessed keys",
        guesses=seen.total(),
        refused_401=seen[401],
        refused_429=seen[429],
        cpu_ms_each=1e3 * (guarded.cpu_s() - began_s) / (seen.total() + served.total()),
        served_meanwhile=served.total(),
    )
    assert set(seen) == {401, 429}
    assert seen[401] <= ADDRESSES * A_MINUTE * (1 + minutes) + ADDRESSES
    assert set(served) == {200}
