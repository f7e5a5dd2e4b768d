"""Servers that are killed at any moment: nothing of them stays, and the next one starts in the same place."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest
from tests.abuse.subject import DEADLINE_S, KEY, ROOT, eventually, scaled
from tests.abuse.test_engines import SHORT
from tests.abuse.tiny import CONTEXT, endless

from arriero.testing.tiny_gguf import write_tiny_gguf

if TYPE_CHECKING:
    from tests.abuse.figures import Figures

KILLS = 50
LONGEST_WORK_S = 1.0
ORPHANS_END_S = 3.0
CONFIG = """
cache_path = "{folder}/cache"
[auth]
allowed_keys = ["{key}"]
key_store = "{folder}/keys.db"
usage_store = "{folder}/usage.db"
[server]
bind_address = "127.0.0.1:{port}"
[models.left]
model_path = "{folder}/left.gguf"
context_size = {context}
threads_per_session = 1
[models.embed]
model_path = "{folder}/embed.gguf"
threads_per_session = 1
[memories.notes]
store = {{ embedded = {{}} }}
embedding_model = "embed"
"""


def descendants(pid: int) -> list[int]:
    """Return the children of a process, and theirs."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *descendants(child)]
    return found


def is_there(pid: int) -> bool:
    """Say whether a process runs; one that has ended and that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def serving(config: Path, log: Path) -> subprocess.Popen[str]:
    """Begin to serve."""
    command = [sys.executable, "-m", "arriero", "serve", "--config", str(config)]
    with log.open("ab") as stderr:
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True)


async def load(url: str) -> None:
    """Ask for answers, and send documents, until the server is gone."""
    headers = {"authorization": f"Bearer {KEY}"}
    document = "".join(f"<p>Line {number} of a document.</p>" for number in range(2000))

    async def asking(client: httpx2.AsyncClient) -> None:
        while True:
            async with client.stream("POST", "/v1/completions", json=endless("left")) as response:
                await response.aread()

    async def telling(client: httpx2.AsyncClient) -> None:
        while True:
            files = {"file": ("a.html", document, "text/html")}
            await client.post("/v1/memory/notes/ingest", files=files)

    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=DEADLINE_S) as client:
        jobs = [asyncio.ensure_future(job(client)) for job in (asking, asking, telling)]
        await asyncio.wait(jobs)
        for job in jobs:
            assert isinstance(job.exception(), httpx2.TransportError), job


async def loaded(url: str, process: subprocess.Popen[str], life_s: float) -> list[int]:
    """Put a server under load and kill it after a while; return the processes that it leaves."""
    under_load = asyncio.ensure_future(load(url))
    await asyncio.sleep(life_s)
    orphans = killed(process)
    await under_load
    return orphans


def killed(process: subprocess.Popen[str]) -> list[int]:
    """Kill a server; return the processes that it leaves. It is stopped before, so that none is missed."""
    os.kill(process.pid, signal.SIGSTOP)
    orphans = descendants(process.pid)
    process.kill()
    process.wait(DEADLINE_S)
    return orphans


def gone_after(pids: list[int]) -> float:
    """Wait until none of the processes runs; return how long that took."""
    return eventually(lambda: not any(map(is_there, pids)), ORPHANS_END_S)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def is_served(url: str) -> bool:
    async with httpx2.AsyncClient(base_url=url, headers={"authorization": f"Bearer {KEY}"}) as client:
        answer = await client.post("/v1/completions", json={**SHORT, "model": "left"}, timeout=DEADLINE_S)
    return answer.status_code == 200


def ready_again(config: Path, log: Path, url: str) -> float:
    """Start a server, have it answer and end it; return how long it took to be ready."""
    started = time.monotonic()
    process = serving(config, log)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Arriero is ready"), log.read_text()
        ready_s = time.monotonic() - started
        assert asyncio.run(is_served(url))
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.communicate()
    return ready_s


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes as Linux shows them")
def test_a_killed_server_leaves_nothing(tmp_path: Path, figures: Figures) -> None:
    """At any moment of its start and of its work; and the next one starts, on the same port and files."""
    rng = random.Random(7)
    config, log = tmp_path / "arriero.toml", tmp_path / "server.log"
    write_tiny_gguf(tmp_path / "left.gguf", context_size=CONTEXT)
    write_tiny_gguf(tmp_path / "embed.gguf", "bert")
    url = f"http://127.0.0.1:{(port := free_port())}"
    config.write_text(CONFIG.format(folder=tmp_path, key=KEY, context=CONTEXT, port=port))
    ends_s, num_orphans = [], 0
    start_s = ready_again(config, log, url)
    for number in range(scaled(KILLS)):
        process = serving(config, log)
        try:
            assert process.stdout is not None
            if number % 2:
                assert process.stdout.readline().startswith("Arriero is ready"), log.read_text()
                orphans = asyncio.run(loaded(url, process, rng.uniform(0.0, LONGEST_WORK_S)))
            else:
                time.sleep(rng.uniform(0.1, start_s))
                orphans = killed(process)
        finally:
            process.kill()
            process.communicate()
        num_orphans += len(orphans)
        ends_s.append(gone_after(orphans))
    next_start_s = ready_again(config, log, url)

    figures.tell(
        "killed servers",
        kills=len(ends_s),
        processes_left=num_orphans,
        gone_after_s=max(ends_s),
        next_start_s=next_start_s,
    )
    assert num_orphans > 0
    assert "Traceback" not in log.read_text(errors="replace"), log.read_text()[:4000]
