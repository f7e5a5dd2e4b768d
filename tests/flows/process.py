"""`arriero serve` as a process of its own, and what is needed to look at it from outside."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from arriero.testing.serving import client_of

KEY = "sesame"
HEADERS = {"authorization": f"Bearer {KEY}"}
DEADLINE_S = 30.0
POLL_S = 0.02

CONFIG = """
allowed_keys = ["{key}"]
max_concurrent = 9

[pokt]
model = "chat"

[models.chat]
model_path = "{smollm2}"
context_size = 512
kv_cache_tokens = 4608
max_sequences = 9
threads_per_session = 1
prefix_store_bytes = 0  # equal requests find their prompt in the same cells

[models.embed]
model_path = "{minilm}"
context_size = 256
threads_per_session = 1

[tasks.assistant]
model = "chat"
prelude = "<|im_start|>system\\nAnswer in one sentence.<|im_end|>"
prefix = "\\n<|im_start|>user\\n"
postfix = "<|im_end|>\\n<|im_start|>assistant\\n"
private_tokens = ["<|im_start|>", "<|im_end|>"]
max_tokens = 24
temperature = 0
repeat_penalty = 1.0

# Goes on for as long as the context lasts: the model repeats a line that it has seen many times.
[tasks.endless]
model = "chat"
prelude = "the cat sat on the mat\\nthe cat sat on the mat\\nthe cat sat on the mat\\n"
temperature = 0
repeat_penalty = 1.0

# Goes on with what it is given; what it has seen once it says again.
[tasks.copier]
model = "chat"
max_tokens = 4
temperature = 0
repeat_penalty = 1.0

[tasks.classifier]
model = "chat"
prelude = '''
Decide whether each review is positive or negative.

Review: It broke on the second day and the shop refused to take it back.
Label: negative

Review: Friendly staff, a clean room and a lovely breakfast.
Label: positive

Review: The soup was cold and nobody apologised.
Label: negative

Review: Easy to set up, and it has worked perfectly ever since.
Label: positive
'''
prefix = "\\nReview: "
postfix = "\\nLabel:"
stop_sequences = ["\\n"]
max_tokens = 3
temperature = 0
repeat_penalty = 1.0
"""


@dataclass(frozen=True)
class Served:
    """A running server. weights: the file of each model, by which its engine process is found."""

    url: str
    pid: int
    weights: dict[str, Path]

    def engine_pid(self, model: str) -> int:
        """Return the engine process of a model: the child that has mapped its weights."""
        for child in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
            if str(self.weights[model]) in Path(f"/proc/{child}/maps").read_text():
                return int(child)
        raise LookupError(f"no engine process of {model}")

    def client(self) -> httpx2.AsyncClient:
        """Return a client that bears the key."""
        return client_of(self.url, headers=HEADERS, timeout=DEADLINE_S)


def arriero(*arguments: str) -> list[str]:
    """Return the command line of a verb."""
    return [sys.executable, "-m", "arriero", *arguments]


@contextmanager
def started(
    config: Path, weights: dict[str, Path], ending: signal.Signals = signal.SIGINT
) -> Iterator[Served]:
    """Serve a configuration on a free port while the block runs; end it by a signal.

    The server must end well; only SIGKILL leaves it no choice.
    """
    log = config.with_suffix(".log")
    with log.open("wb") as stderr:
        command = arriero("serve", "--config", str(config), "--port", "0")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert ready.startswith("Arriero is ready at http://"), log.read_text()
        yield Served(ready.split()[-1], process.pid, weights)
        process.send_signal(ending)
        expected = -ending if ending is signal.SIGKILL else 0
        assert process.wait(DEADLINE_S) == expected, log.read_text()
    finally:
        process.kill()
        process.communicate()


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something outside of this process holds; fail when that takes too long."""
    deadline = time.monotonic() + DEADLINE_S
    while not await holds():
        assert time.monotonic() < deadline, "it does not come"
        await asyncio.sleep(POLL_S)


async def engine_counts(client: httpx2.AsyncClient, model: str = "chat") -> dict[str, Any]:
    """Return the counters of a model's engine."""
    response = await client.get("/v1/stats")
    counts: dict[str, Any] = response.json()["engine"][model]
    return counts


async def is_idle(client: httpx2.AsyncClient) -> bool:
    """Whether nothing runs or waits in the engine of `chat`."""
    counts = await engine_counts(client)
    return bool(counts["running"] == 0 == counts["waiting"])


async def is_running(client: httpx2.AsyncClient) -> bool:
    """Whether the engine of `chat` generates."""
    return bool((await engine_counts(client))["running"] > 0)


def alive(pid: int) -> bool:
    """Whether there is a process of this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
