"""`arriero serve` with engine processes over tiny models, which decode in about a millisecond."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.abuse.subject import KEY, OTHER_KEY, Subject, running

from arriero.testing.tiny_gguf import write_tiny_gguf

if TYPE_CHECKING:
    import httpx2

CONTEXT = 4096
LONG_KEY = "static-0123456789abcdef0123456789abcdef0123456789abcdef"
CONFIG = """
cache_path = "{folder}/cache"
[auth]
allowed_keys = ["{key}", "{other}", "{long}"]
key_store = "{folder}/keys.db"
[server]
bind_address = "127.0.0.1:0"
max_concurrent = 16
[limits]
engine_crashes = 1000000
engine_hang_s = {hang_s}
[models.left]
model_path = "{folder}/left.gguf"
context_size = {context}
prefix_store_bytes = 4194304
max_sequences = 8
{limit}threads_per_session = 1
[models.right]
model_path = "{folder}/right.gguf"
context_size = {context}
prefix_store_bytes = 4194304
max_sequences = 8
{limit}threads_per_session = 1
[models.embed]
model_path = "{folder}/embed.gguf"
threads_per_session = 1
[tasks.talk]
model = "right"
prelude = "You are a help. You are a help. You are a help. You are a help. "
max_tokens = 8
"""


@dataclass(frozen=True)
class Engines:
    """A server with two models that generate, `left` and `right`, one that embeds, and the task `talk`.

    It takes KEY, OTHER_KEY, LONG_KEY and those of the store `keys.db` in its folder.
    """

    subject: Subject
    folder: Path

    def pid(self, model: str) -> int | None:
        """Return the engine process of a model; None while there is none that has mapped the weights."""
        children = Path(f"/proc/{self.subject.pid}/task/{self.subject.pid}/children").read_text().split()
        for child in children:
            try:
                maps = Path(f"/proc/{child}/maps").read_text()
            except OSError:
                continue
            if str(self.folder / f"{model}.gguf") in maps:
                return int(child)
        return None


@contextmanager
def tiny_engines(
    folder: Path, extra: str = "", *, hang_s: float = 60.0, max_tokens: int | None = None
) -> Iterator[Engines]:
    """Serve tiny models while the block runs, and what more configuration tells of.

    hang_s: after how long an engine that does nothing is ended. max_tokens: of any answer.
    """
    for seed, name in enumerate(("left", "right")):
        write_tiny_gguf(folder / f"{name}.gguf", seed=seed, context_size=CONTEXT)
    write_tiny_gguf(folder / "embed.gguf", "bert")
    config = folder / "arriero.toml"
    keys = {"key": KEY, "other": OTHER_KEY, "long": LONG_KEY}
    limit = f"max_tokens = {max_tokens}\n" if max_tokens else ""
    text = CONFIG.format(**keys, folder=folder, context=CONTEXT, hang_s=hang_s, limit=limit)
    config.write_text(text + extra)
    command = [sys.executable, "-m", "arriero", "serve", "--config", str(config)]
    with running(command, folder / "server.log") as subject:
        yield Engines(subject, folder)


def endless(model: str) -> dict[str, Any]:
    """Return a request that goes on for as long as the context lasts."""
    said = {"model": model, "prompt": "once", "max_tokens": CONTEXT - 100, "ignore_eos": True}
    return {**said, "stream": True, "temperature": 1.0}


async def counts(client: httpx2.AsyncClient, model: str) -> dict[str, Any]:
    """Return the counters of an engine."""
    said: dict[str, Any] = (await client.get("/v1/stats")).json()["engine"][model]
    return said
