"""Where the time of ingesting goes: reading documents, cutting, embedding, storing.

    python -m benchmarks.ingest --documents DIR --model minilm.gguf [--count 50]

Documents go one after another through `Memory.ingest` into a store on the disk, as the server ingests them,
so that the shares of wall time add up. Processor time is that of this process (cutting, storing), of the
processes that read documents, and of the engine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from arriero.engine.local import LocalModel
from arriero.engine.supervisor import Supervisor
from arriero.errors import RequestError
from arriero.extract.document import Document
from arriero.memory.embedded import EmbeddedStore
from arriero.memory.embedding import identity_of
from arriero.memory.job import Source, State
from arriero.memory.memory import Memory
from arriero.memory.reading import read
from benchmarks.machine import tree_s
from benchmarks.report import number, table
from benchmarks.retrieval import CONFIG, engine_config


class Stopwatch:
    """Adds up the wall time of the parts of the work."""

    def __init__(self) -> None:
        self.spent_s: defaultdict[str, float] = defaultdict(float)
        self._part = "checking"
        self._since = time.perf_counter()

    def turn(self, part: str) -> None:
        """Begin a part, and so end the one before."""
        now = time.perf_counter()
        self.spent_s[self._part] += now - self._since
        self._part, self._since = part, now

    def note(self, state: State, done: int, total: int) -> None:
        """Take a report of `Memory.ingest`."""
        if state is State.EMBEDDING and not done:
            self.turn("embedding")
        elif state is State.STORING:
            self.turn("storing")

    async def read(self, data: bytes, *, name: str, media_type: str | None) -> Document:
        """Read a document as the server does."""
        self.turn("reading")
        try:
            return await read(data, name=name, media_type=media_type)
        finally:
            self.turn("cutting")


async def main() -> None:
    """Ingest and print the table."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.ingest", description="Where the time of ingesting goes."
    )
    parser.add_argument("--documents", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="weights of the embedding model")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    supervisor = Supervisor(engine_config(options.model, options.threads))
    await supervisor.start()
    try:
        with tempfile.TemporaryDirectory(prefix="arriero-ingest-") as folder:
            print(await ingested(options, supervisor, Path(folder)))
    finally:
        await supervisor.stop()


async def ingested(options: argparse.Namespace, supervisor: Supervisor, folder: Path) -> str:
    """Ingest the documents; return the table."""
    embedder = LocalModel("embed", supervisor)
    assert embedder.pid
    store = await EmbeddedStore.open(folder / "memory.db", identity_of(embedder))
    watch = Stopwatch()
    memory = Memory("bench", CONFIG, embedder, store, extract=watch.read)
    paths = sorted(path for path in options.documents.rglob("*") if path.is_file())[: options.count]
    engine_s, own_s, children_s = tree_s({embedder.pid}), time.process_time(), children_cpu_s()
    try:
        for path in paths:
            watch.turn("checking")
            try:
                await memory.ingest(Source(name=path.name, data=path.read_bytes()), watch.note)
            except RequestError as exc:
                print(f"{path.name}: {exc.message}")
            watch.turn("checking")
        counts = await store.counts()
        engine_s = tree_s({embedder.pid}) - engine_s
    finally:
        await memory.stop()
    total_s = sum(watch.spent_s.values())
    rows = [(part, number(spent_s), f"{spent_s / total_s:.1%}") for part, spent_s in watch.spent_s.items()]
    cpu = f"engine {engine_s:.1f}, this process {time.process_time() - own_s:.1f}"
    cpu += f", readers {children_cpu_s() - children_s:.1f}"
    head = f"{counts.documents} documents, {counts.chunks} chunks, {counts.chunks / total_s:.1f} chunks/s"
    return f"{head}; processor seconds: {cpu}\n\n{table(('part', 'seconds', 'share'), rows)}"


def children_cpu_s() -> float:
    """Return the processor time of processes that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    asyncio.run(main())
