"""The ways in which an engine process can end, and what it may find then in the place of its weights."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.abuse.subject import DEADLINE_S
from tests.abuse.test_engines import SHORT, ended
from tests.abuse.tiny import CONTEXT, Engines, endless, tiny_engines

from arriero.testing.tiny_gguf import write_tiny_gguf

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2
    from tests.abuse.figures import Figures

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes as Linux shows them")

PIDFD_GETFD = 438
"""The number of the system call, the same on all architectures."""


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """As those of all tests here, but a hang is noticed soon."""
    folder = tmp_path_factory.mktemp("ends")
    with tiny_engines(folder, hang_s=2.0) as served:
        yield served


def killed_by(number: signal.Signals) -> Callable[[int], None]:
    return lambda pid: os.kill(pid, number)


def hung_up_on(pid: int) -> None:
    """Close the socket of a process from outside, so that it ends with 0 in the middle of its work."""
    library = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    try:
        for number in map(int, os.listdir(f"/proc/{pid}/fd")):
            if os.readlink(f"/proc/{pid}/fd/{number}").startswith("socket:"):
                ours = library.syscall(PIDFD_GETFD, pidfd, number, 0)
                if ours < 0:
                    pytest.skip("the descriptors of another process cannot be had here")
                with socket.socket(fileno=ours) as connection:
                    connection.shutdown(socket.SHUT_RDWR)
    finally:
        os.close(pidfd)


ENDS = {
    **{
        name: killed_by(getattr(signal, name))
        for name in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGKILL", "SIGTERM", "SIGSTOP")
    },
    "exit": hung_up_on,
}


async def last_error(client: httpx2.AsyncClient, prompt: str, begun: asyncio.Event) -> str:
    """Ask `left` for an endless answer; return the last event of what comes."""
    asked = {**endless("left"), "prompt": prompt}
    async with client.stream("POST", "/v1/completions", json=asked) as response:
        assert response.status_code == 200
        said = ""
        async for piece in response.aiter_text():
            begun.set()
            said += piece
    return said.strip().rpartition("data: ")[2]


async def is_back(client: httpx2.AsyncClient) -> float:
    """Ask `left` until it answers; return how long that took."""
    started = time.monotonic()
    while time.monotonic() - started < DEADLINE_S:
        answer = await client.post("/v1/completions", json={**SHORT, "model": "left"})
        if answer.status_code == 200:
            return time.monotonic() - started
        assert answer.status_code == 503, answer.text
        await asyncio.sleep(0.05)
    raise AssertionError("the model does not come back")


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS, ids=list(ENDS))
async def test_an_engine_may_end_in_any_way(engines: Engines, figures: Figures, end: str) -> None:
    """Its stream gets an error, the other model answers as before, and the model comes back."""
    async with engines.subject.client() as client:
        # Each with a prompt of its own: one that has ended an engine three times is refused.
        expected = (await client.post("/v1/completions", json=SHORT)).json()["choices"]
        begun = asyncio.Event()
        stream = asyncio.ensure_future(last_error(client, end, begun))
        await begun.wait()
        pid = engines.pid("left")
        assert pid is not None
        ENDS[end](pid)
        meanwhile = [await client.post("/v1/completions", json=SHORT) for _ in range(10)]
        last = await stream
        await ended(engines, pid)
        back_s = await is_back(client)

    figures.tell(f"an engine that ends by {end}", back_s=back_s)
    assert '"error"' in last
    assert [answer.json()["choices"] for answer in meanwhile] == [expected] * 10


def fifo(file: Path) -> None:
    os.mkfifo(file)


def truncated(file: Path) -> None:
    write_tiny_gguf(file, seed=0, context_size=CONTEXT)
    os.truncate(file, file.stat().st_size // 2)


def short(file: Path) -> None:
    write_tiny_gguf(file, seed=0, context_size=CONTEXT)
    os.truncate(file, 4000)


def link_to_itself(file: Path) -> None:
    file.symlink_to(file)


FINDS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda file: None,
    "a directory": Path.mkdir,
    "a pipe": fifo,
    "a device": lambda file: file.symlink_to("/dev/zero"),
    "a link to itself": link_to_itself,
    "an empty file": Path.touch,
    "another format": lambda file: file.write_bytes(b"GGML" + bytes(1000)),
    "half of it": truncated,
    "its first 4000 bytes": short,
    "noise": lambda file: file.write_bytes(b"GGUF" + bytes(range(256)) * 100),
}


async def wait_state(client: httpx2.AsyncClient, state: str) -> dict[str, Any]:
    """Look until a model is in a state; return what is told of it."""
    started = time.monotonic()
    while time.monotonic() - started < DEADLINE_S:
        told: dict[str, Any] = (await client.get("/v1/stats")).json()["models"]["left"]
        if told["state"] == state:
            return told
        await asyncio.sleep(0.02)
    raise AssertionError(f"the model is never {state}")


def removed(file: Path) -> None:
    if file.is_dir() and not file.is_symlink():
        file.rmdir()
    else:
        file.unlink(missing_ok=True)


@pytest.mark.slow
@pytest.mark.parametrize("find", FINDS, ids=list(FINDS))
async def test_an_engine_may_find_anything_in_the_place_of_its_weights(engines: Engines, find: str) -> None:
    """The model fails and is refused, the other one serves; with the right file it comes back."""
    weights = engines.folder / "left.gguf"
    async with engines.subject.client() as client:
        await wait_state(client, "ready")
        pid = engines.pid("left")
        assert pid is not None
        weights.unlink()
        FINDS[find](weights)
        os.kill(pid, signal.SIGKILL)
        await wait_state(client, "failed")
        refused = await client.post("/v1/completions", json={**SHORT, "model": "left"})
        other = await client.post("/v1/completions", json=SHORT)
        removed(weights)
        write_tiny_gguf(weights, seed=0, context_size=CONTEXT)
        await is_back(client)

    assert (refused.status_code, other.status_code) == (503, 200)
    assert str(engines.folder) not in refused.text
