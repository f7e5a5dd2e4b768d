"""A control group that fills up: caches go first, then new work is refused, and all comes back by itself."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.abuse.subject import eventually
from tests.abuse.tiny import Engines, counts, endless, tiny_engines

from arriero.server.cgroup import V1, V2, Files, memory_usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import httpx2
    from tests.abuse.figures import Figures

ROOT = Path("/")
LIMIT = 1 << 30
LEVEL = re.compile(r"^\w*memory_pressure_level (\S+)$", re.MULTILINE)
PUBLIC = '[telemetry]\nmetrics = "public"\n'
SHORT = {"model": "left", "prompt": "a", "max_tokens": 4}
LONG_PROMPT = "one two three and the world says hello to user. " * 40
FILLER = """
import sys
held = []
for line in sys.stdin:
    pages = bytearray(int(line))
    pages[::4096] = b"x" * len(pages[::4096])  # memory is given when it is touched
    held.append(pages)
    print("held", flush=True)
"""


class Group:
    """A control group."""

    def __init__(self, directory: Path, files: Files) -> None:
        self.directory = directory
        self._files = files

    def part(self) -> Group:
        """Make a group within, with a limit."""
        made = Group(self.directory / f"arriero-{os.getpid()}", self._files)
        made.directory.mkdir()
        try:
            (made.directory / self._files.limit).write_text(str(LIMIT))
        except OSError:
            made.directory.rmdir()
            raise
        return made

    def is_divided(self) -> bool:
        """Say whether there can be groups within."""
        try:
            self.part().directory.rmdir()
        except OSError:
            return False
        return True

    def take(self, pid: int) -> None:
        """Move a process here; its children follow, its memory stays where it is."""
        (self.directory / "cgroup.procs").write_text(str(pid))

    def pids(self) -> list[str]:
        return (self.directory / "cgroup.procs").read_text().split()


def used() -> int:
    """Return what counts as used of the group that this process is in."""
    usage = memory_usage(ROOT)
    assert usage is not None
    assert usage.limit == LIMIT
    return usage.used


@contextmanager
def group() -> Iterator[Group]:
    """Be in a control group of our own while the block runs; skip where that cannot be."""
    home = next((home for home in homes() if home.is_divided()), None)
    if home is None:
        pytest.skip("there is no control group for memory that this process may divide")
    own = home.part()
    own.take(os.getpid())
    try:
        yield own
    finally:
        home.take(os.getpid())
        eventually(lambda: not own.pids())
        own.directory.rmdir()


def homes() -> Iterator[Group]:
    """Yield the groups that this process is in, of either version."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        files = V1 if controllers else V2
        if not controllers or "memory" in controllers.split(","):
            yield Group(ROOT / files.mount / path.lstrip("/"), files)


class Filler:
    """A process that holds memory of the group."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", FILLER]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def hold(self, size: int) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(size, file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "held\n"

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


async def until_level(client: httpx2.AsyncClient, wanted: float) -> None:
    for _ in range(300):
        if await level(client) == wanted:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"the level {wanted:g} does not come")


async def level(client: httpx2.AsyncClient) -> float:
    found = LEVEL.search((await client.get("/metrics")).text)
    assert found is not None
    return float(found[1])


async def reading(lines: AsyncIterator[str]) -> str:
    return "\n".join([line async for line in lines])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
async def test_a_group_that_fills_up(tmp_path: Path, figures: Figures) -> None:
    """At 85 % the stored prefixes go, at 92 % new work is refused, a running stream ends whole."""
    with group(), tiny_engines(tmp_path, PUBLIC) as engines:
        filler = Filler()
        try:
            await fills_up(engines, filler, figures)
        finally:
            filler.end()


async def fills_up(engines: Engines, filler: Filler, figures: Figures) -> None:
    async with engines.subject.client(timeout_s=120.0) as client:
        for number in range(4):
            await client.post("/v1/completions", json={**SHORT, "prompt": f"{number} {LONG_PROMPT}"})
        await client.post("/v1/completions", json={**SHORT, "max_tokens": 200, "ignore_eos": True})
        stored = (await counts(client, "left"))["stored_bytes"]
        pids = [engines.pid(name) for name in ("left", "right", "embed")]
        assert (await level(client), stored > 0) == (0.0, True)

        filler.hold(int(0.88 * LIMIT) - used())
        await until_level(client, 1.0)
        kept = (await counts(client, "left"))["stored_bytes"]
        allowed = await client.post("/v1/completions", json=SHORT)

        async with client.stream("POST", "/v1/completions", json=endless("left")) as response:
            lines = response.aiter_lines()
            await anext(lines)
            filler.hold(int(0.94 * LIMIT) - used())
            await until_level(client, 2.0)
            refused = await client.post("/v1/completions", json=SHORT)
            ready = await client.get("/readyz")
            whole = (await reading(lines)).rstrip().endswith("data: [DONE]")

        filler.end()
        await until_level(client, 0.0)
        again = await client.post("/v1/completions", json=SHORT)

    assert (stored > 0, kept, allowed.status_code) == (True, 0, 200)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
    assert int(refused.headers["retry-after"]) > 0
    assert (ready.status_code, whole, again.status_code) == (200, True, 200)
    assert [engines.pid(name) for name in ("left", "right", "embed")] == pids
    figures.tell("a control group that fills up", limit=LIMIT, stored_before=stored, stored_at_85=kept)
