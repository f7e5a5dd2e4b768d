"""A log that cannot be written: a pipe that nobody reads, a broken one, a full disk, no file at all."""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest
from tests.abuse.subject import DEADLINE_S, KEY, ROOT, scaled

if TYPE_CHECKING:
    from tests.abuse.figures import Figures

REQUESTS = 1000
SMALL_PIPE = 4096
CONFIG = """
allowed_keys = ["{key}"]
[server]
bind_address = "127.0.0.1:0"
[telemetry]
metrics = "public"
"""


def blocked_pipe() -> int:
    """Return the end of a small pipe that is never read; its reading end stays open."""
    _, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, SMALL_PIPE)
    return writing


def broken_pipe() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


async def dropped_of(url: str, number: int, *, awaited: int) -> float:
    """Ask a server so often; return how many lines of its log it has not written, once they are `awaited`."""
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=DEADLINE_S) as client:
        for _ in range(number):
            assert (await client.get("/v1/task")).status_code == 200
        dropped = -1.0
        deadline = time.monotonic() + DEADLINE_S
        while dropped < awaited and time.monotonic() < deadline:
            metrics = (await client.get("/metrics")).text
            lines = [line.split() for line in metrics.splitlines()]
            dropped = next(float(line[1]) for line in lines if line[0] == "arriero_log_lines_dropped_total")
    return dropped


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the ways to spoil a file are Linux's")
@pytest.mark.parametrize(
    ("stderr", "counts"),
    [(blocked_pipe, False), (broken_pipe, True), (full_disk, True), (None, False)],
    ids=["a pipe that nobody reads", "a broken pipe", "a full disk", "closed"],
)
def test_serving_goes_on_without_a_log(
    stderr: Callable[[], int] | None, counts: bool, tmp_path: Path, figures: Figures
) -> None:
    """The server starts, answers all, counts what it could not write, and ends well."""
    config = tmp_path / "arriero.toml"
    config.write_text(CONFIG.format(key=KEY))
    command = f"exec {sys.executable} -m arriero serve --config {config}"
    file = None if stderr is None else stderr()
    process = subprocess.Popen(
        ["/bin/sh", "-c", command + (" 2>&-" if file is None else "")],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        stdout=subprocess.PIPE,
        stderr=file,
        text=True,
    )
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert ready.startswith("Arriero is ready at http://")
        number = scaled(REQUESTS)
        dropped = asyncio.run(dropped_of(ready.split()[-1], number, awaited=number if counts else 0))
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.communicate()

    figures.tell(
        f"no log, {'closed' if stderr is None else stderr.__name__}",
        requests=number,
        dropped=dropped,
    )
    assert dropped >= number or not counts
