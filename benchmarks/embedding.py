r"""How fast chunks become vectors: an embedding model in our engine beside onnxruntime, in one run.

    python -m benchmarks.embedding --model minilm.gguf[,other.gguf] \
        --peer model.onnx --peer-python VENV/bin/python

Chunks have 171 tokens, as those of a memory have on average; both get the same token ids, in calls of as
many chunks as the column says. Ours goes through `LocalModel.embed`, as ingest does. Rounds alternate;
reported are medians of chunks per second of wall time and milliseconds of processor time for each chunk,
of all processes that take part, and the least cosine between the vectors of a row and those of the first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from arriero.engine.local import LocalModel
from arriero.engine.supervisor import Supervisor
from arriero.engine.wire import EngineConfig
from benchmarks.report import number, table

TOKENS = 171
CLS, SEP, WORDS = 101, 102, (1000, 29_000)
"""Ids of BERT's vocabulary."""
PEER = """
import json, sys, time
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(sys.argv[2])
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
names = [one.name for one in session.get_inputs()]
for line in sys.stdin:
    wall, cpu = time.perf_counter(), time.process_time()
    ids = numpy.array(json.loads(line), numpy.int64)
    given = {"input_ids": ids, "attention_mask": ids ** 0, "token_type_ids": ids * 0}
    pooled = session.run(None, {name: given[name] for name in names})[0].mean(axis=1)
    spent = [time.perf_counter() - wall, time.process_time() - cpu]
    print(json.dumps([*spent, pooled.tolist()]), flush=True)
"""


class Contender(Protocol):
    """Turns chunks into vectors, and says what it took."""

    async def embed(self, chunks: list[list[int]]) -> tuple[float, float, Any]:
        """Return wall seconds, processor seconds and the vectors."""
        ...


class Ours:
    """A model in an engine process."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._model = LocalModel("embed", supervisor)

    async def embed(self, chunks: list[list[int]]) -> tuple[float, float, Any]:
        """Embed by one request."""
        wall, cpu = time.perf_counter(), self._cpu_s()
        answer = await self._model.embed(chunks)
        spent = time.perf_counter() - wall, self._cpu_s() - cpu
        return *spent, [np.frombuffer(vector, "<f4") for vector in answer.vectors]

    def _cpu_s(self) -> float:
        assert self._model.pid
        schedstat = Path(f"/proc/{self._model.pid}/task").glob("*/schedstat")
        return time.process_time() + sum(int(path.read_text().split()[0]) for path in schedstat) / 1e9


class Peer:
    """A model in onnxruntime, in a process of its own."""

    def __init__(self, python: str, model: Path, threads: int) -> None:
        command = [python, "-c", PEER, str(model), str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    async def embed(self, chunks: list[list[int]]) -> tuple[float, float, Any]:
        """Embed by one call; the way to the process and back does not count."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(chunks) + "\n")
        self.process.stdin.flush()
        wall, cpu, vectors = json.loads(await asyncio.to_thread(self.process.stdout.readline))
        return wall, cpu, vectors

    def end(self) -> None:
        """End the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(20)


@dataclass
class Cell:
    """What was measured of one contender with one size of calls."""

    rates: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)


async def main() -> None:
    """Measure and print the table."""
    options = arguments().parse_args()
    chunks = made_chunks(options.count)
    async with AsyncExitStack() as stack:
        contenders = await started(options, stack)
        cells, vectors = await measured(contenders, chunks, options.batches, options.rounds)
    print(markdown(cells, vectors, options.batches))


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.embedding", description="Chunks to vectors.")
    add = parser.add_argument
    add("--model", type=lambda text: [Path(word) for word in text.split(",")], required=True)
    add("--library", type=Path, help="libllama; default: that of the wheel")
    add("--peer", type=Path, help="the same model as ONNX")
    add("--peer-python", default=sys.executable, help="the interpreter that has onnxruntime")
    add("--batches", type=lambda text: [int(word) for word in text.split(",")], default=[1, 8, 32])
    add("--count", type=int, default=32, help="chunks of a round")
    add("--rounds", type=int, default=5)
    add("--threads", type=int, default=os.cpu_count() or 1)
    return parser


def made_chunks(count: int) -> list[list[int]]:
    """Return chunks of random words."""
    generator = np.random.default_rng(0)
    return [[CLS, *generator.integers(*WORDS, TOKENS - 2).tolist(), SEP] for _ in range(count)]


async def started(options: argparse.Namespace, stack: AsyncExitStack) -> dict[str, Contender]:
    """Start all contenders; the stack ends them."""
    contenders: dict[str, Contender] = {}
    for path in options.model:
        config = EngineConfig(
            name="embed",
            path=str(path),
            context_size=256,
            cells=256,
            batch_size=512,
            max_sequences=1,
            threads=options.threads,
            library=str(options.library) if options.library else None,
        )
        supervisor = Supervisor(config)
        await supervisor.start()
        stack.push_async_callback(supervisor.stop)
        contenders[f"arriero, {path.stem}"] = Ours(supervisor)
    if options.peer:
        peer = Peer(options.peer_python, options.peer, options.threads)
        stack.callback(peer.end)
        contenders[f"onnxruntime, {options.peer.stem}"] = peer
    return contenders


async def measured(
    contenders: dict[str, Contender], chunks: list[list[int]], batches: Sequence[int], rounds: int
) -> tuple[dict[tuple[str, int], Cell], dict[str, NDArray[np.float64]]]:
    """Run all cells in turn, in an order that moves; the first run of each does not count."""
    cells: dict[tuple[str, int], Cell] = {(name, size): Cell() for name in contenders for size in batches}
    vectors: dict[str, NDArray[np.float64]] = {}
    for name, contender in contenders.items():
        vectors[name] = np.array((await contender.embed(chunks[:4]))[2], float)
    order = list(cells)
    for turn in range(rounds):
        for name, size in order[turn % len(order) :] + order[: turn % len(order)]:
            spent = np.zeros(2)
            for begin in range(0, len(chunks), size):
                spent += (await contenders[name].embed(chunks[begin : begin + size]))[:2]
            cells[name, size].rates.append(len(chunks) / spent[0])
            cells[name, size].cpu_ms.append(1000 * spent[1] / len(chunks))
    return cells, vectors


def markdown(
    cells: dict[tuple[str, int], Cell], vectors: dict[str, NDArray[np.float64]], batches: Sequence[int]
) -> str:
    """Return the table."""
    reference = next(iter(vectors.values()))
    rows = []
    for name, found in vectors.items():
        cosines = (
            (found * reference).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(reference, axis=1)
        )
        for size in batches:
            cell = cells[name, size]
            figures = number(median(cell.rates)), number(median(cell.cpu_ms)), number(min(cell.cpu_ms))
            rows.append((name, str(size), *figures, f"{cosines.min():.4f}"))
    head = ("engine, model", "chunks a call", "chunks/s", "CPU ms/chunk", "least CPU ms/chunk", "cosine")
    return table(head, rows)


if __name__ == "__main__":
    asyncio.run(main())
