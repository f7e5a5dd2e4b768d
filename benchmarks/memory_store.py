"""The embedded store of memories beside other embedded stores, in one run.

    python -m benchmarks.memory_store --sizes 10000,100000 --peers lancedb,chroma,qdrant-local \
        --peer-python VENV/bin/python --rounds 5 --out DIR

Each store lives in its own process. All ingest in turn, are opened anew, and then answer the same questions
in rounds, in an order that moves. Vectors are clustered and synthetic, or `--vectors FILE.npy`; questions are
held out of them. `finish` is the time after the last acknowledgement until the index is complete.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.machine import interpreter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

DRIVER = Path(__file__).with_name("memory_peer.py")
LIMIT = 10
QUERIES_A_ROUND = 100
BATCH = 100
"""Chunks of a document, and of an insert into a peer."""
LOCAL_MAX = 20_000
"""Rows above which the local mode of qdrant-client says that it is not meant for them."""


@dataclass
class Figures:
    """What was measured of one store."""

    name: str
    size: int
    version: str = ""
    ingest: dict[str, float] = field(default_factory=dict)
    open_s: float = 0.0
    disk_mb: float = 0.0
    rss_mb: float = 0.0
    anon_mb: float = 0.0
    recalls: list[float] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    word_times_s: list[float] = field(default_factory=list)


class Driver:
    """A store in its process."""

    def __init__(self, name: str, python: str, folder: Path, dimensions: int) -> None:
        command = [python, str(DRIVER), name, str(folder), str(dimensions)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def do(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """Have one command done; return its answer."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"do": verb, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended during {verb}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """End the process."""
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass(frozen=True)
class Data:
    """Files of one size, and the true neighbours of the questions."""

    base: Path
    queries: Path
    texts: Path
    truth: NDArray[np.int64]
    word_queries: list[str]
    dimensions: int


def main() -> None:
    """Measure, print the tables, and leave them in a folder."""
    options = arguments().parse_args()
    measured = []
    with tempfile.TemporaryDirectory(prefix="arriero-memory-", dir=options.work) as folder:
        for size in options.sizes:
            data = prepared(Path(folder), size, options)
            measured += measured_size(Path(folder) / str(size), size, data, options)
    text = markdown(measured)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "memory_store.md").write_text(text)
    (options.out / "memory_store.json").write_text(json.dumps([vars(one) for one in measured]))
    print(text)


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.memory_store", description="The embedded store and its peers."
    )
    add = parser.add_argument
    add("--sizes", type=lambda text: [int(word) for word in text.split(",")], default=[10_000, 100_000])
    add(
        "--all",
        action="store_const",
        dest="sizes",
        const=[10_000, 100_000, 1_000_000],
        help="up to 1,000,000",
    )
    add(
        "--peers",
        type=lambda text: text.split(",") if text else [],
        default=[],
        help="lancedb,chroma,qdrant-local",
    )
    add("--peer-python", default=sys.executable, help="the interpreter that has the peers")
    add("--rounds", type=int, default=5)
    add("--vectors", type=Path, help="real vectors (float32 .npy); the last 1,000 are the questions")
    add("--work", type=Path, help="folder of the stores while they are measured; default: the temporary one")
    add("--out", type=Path, default=Path(".work/benchmarks"), help="where the results go")
    return parser


def prepared(folder: Path, size: int, options: argparse.Namespace) -> Data:
    """Write the vectors, questions and texts of one size."""
    generator = np.random.default_rng(size)
    if options.vectors:
        given = normal(np.load(options.vectors).astype(np.float32))
        base, queries = given[:-1000][:size], given[-1000:]
    else:
        drawn = clustered(size + 1000, 384, generator)
        base, queries = drawn[:-1000], drawn[-1000:]
    queries = queries[: options.rounds * QUERIES_A_ROUND]
    np.save(folder / "base.npy", base)
    np.save(folder / "queries.npy", queries)
    lines = zipf_texts(len(base) + 200, 100, generator)
    (folder / "texts.txt").write_text("\n".join(lines[: len(base)]))
    word_queries = [" ".join(line.split()[:8]) for line in lines[len(base) :]]
    return Data(
        folder / "base.npy",
        folder / "queries.npy",
        folder / "texts.txt",
        neighbours(base, queries),
        word_queries,
        base.shape[1],
    )


def clustered(count: int, dimensions: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return vectors around many centres, spread in few directions, as embeddings are, and some noise."""
    latent = 48
    projection = generator.standard_normal((latent, dimensions), dtype=np.float32) / np.sqrt(latent)
    centres = generator.standard_normal((max(10, count // 200), latent), dtype=np.float32)
    places = generator.integers(0, len(centres), count)
    spread = generator.standard_normal((count, latent), dtype=np.float32)
    noise = generator.standard_normal((count, dimensions), dtype=np.float32)
    return normal((centres[places] + 0.8 * spread) @ projection + 0.25 * noise)


def normal(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the vectors with length 1."""
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def zipf_texts(count: int, words: int, generator: np.random.Generator) -> list[str]:
    """Return texts of made-up words, of which few are frequent and most are rare."""
    vocabulary = np.array([f"w{number:x}o{number * 7919 % 1000}" for number in range(50_000)])
    drawn = np.minimum(generator.zipf(1.15, (count, words)) - 1, len(vocabulary) - 1)
    return [" ".join(vocabulary[row]) for row in drawn]


def neighbours(base: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the true nearest rows of each question, in no order."""
    return np.array([np.argpartition(base @ query, -LIMIT)[-LIMIT:] for query in queries])


def measured_size(folder: Path, size: int, data: Data, options: argparse.Namespace) -> list[Figures]:
    """Measure every store at one size."""
    names = ["arriero", *[name for name in options.peers if name != "qdrant-local" or size <= LOCAL_MAX]]
    measured = {name: Figures(name, size) for name in names}
    for name in names:
        ingested(folder / name, data, measured[name], options)
    with contextlib.ExitStack() as stack:
        drivers = {name: stack.enter_context(driving(name, folder / name, data, options)) for name in names}
        for name, driver in drivers.items():
            answer = driver.do("open")
            measured[name].open_s, measured[name].version = answer["open_s"], answer["version"]
            driver.do("query", vectors=str(data.queries), first=0, count=10, limit=LIMIT)
        for number in range(options.rounds):
            for name in turned(names, number):
                one_round(drivers[name], number, data, measured[name])
        answer = drivers["arriero"].do("words", queries=data.word_queries, limit=50)
        measured["arriero"].word_times_s = answer["times_s"]
        for driver in drivers.values():
            driver.do("close")
    return list(measured.values())


@contextlib.contextmanager
def driving(name: str, folder: Path, data: Data, options: argparse.Namespace) -> Iterator[Driver]:
    """Run a store in its process while the block runs."""
    folder.mkdir(parents=True, exist_ok=True)
    python = sys.executable if name == "arriero" else options.peer_python
    driver = Driver(name, python, folder, data.dimensions)
    try:
        yield driver
    finally:
        driver.end()


def ingested(folder: Path, data: Data, figures: Figures, options: argparse.Namespace) -> None:
    """Fill a store, close it, and see what it takes on the disk."""
    with driving(figures.name, folder, data, options) as driver:
        driver.do("open")
        figures.ingest = driver.do("ingest", vectors=str(data.base), texts=str(data.texts), batch=BATCH)
        driver.do("close")
    figures.disk_mb = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def one_round(driver: Driver, number: int, data: Data, figures: Figures) -> None:
    """Ask the questions of one round."""
    first = number * QUERIES_A_ROUND
    answer = driver.do("query", vectors=str(data.queries), first=first, count=QUERIES_A_ROUND, limit=LIMIT)
    truth = data.truth[first : first + QUERIES_A_ROUND]
    hits = [len(set(found) & set(true.tolist())) for found, true in zip(answer["found"], truth, strict=True)]
    figures.recalls.append(sum(hits) / (LIMIT * max(1, len(hits))))
    figures.times_s += answer["times_s"]
    figures.cpu_s += answer["cpu_s"]
    figures.rss_mb, figures.anon_mb = answer["rss_mb"], answer["anon_mb"]


def turned(names: Sequence[str], number: int) -> list[str]:
    """Return the names in the order of a round."""
    first = number % len(names)
    return [*names[first:], *names[:first]]


def markdown(measured: Sequence[Figures]) -> str:
    """Return the tables."""
    lines = [f"{platform.processor() or platform.machine()}, {interpreter()}"]
    for size in sorted({one.size for one in measured}):
        lines += ["", f"### {size:,} chunks", "", HEAD, "|---" * HEAD.count(" | ") + "|---|"]
        lines += [row(one) for one in measured if one.size == size]
        lines += [
            f"\nText search (8 Zipf words, top 50): p50 {percentile(one.word_times_s, 50)}, "
            f"p99 {percentile(one.word_times_s, 99)} ms"
            for one in measured
            if one.size == size and one.word_times_s
        ]
    return "\n".join(lines) + "\n"


HEAD = (
    "| store | recall@10 | p50 ms | p99 ms | queries/s | CPU ms/query | acked chunks/s | CPU µs/chunk "
    "| finish s | CPU s in all | open s | RSS (anon) MB | disk MB |"
)


def row(one: Figures) -> str:
    """Return the line of one store."""
    ingest = one.ingest
    cells = [
        f"{one.name} {one.version}",
        f"{sum(one.recalls) / len(one.recalls):.4f}",
        percentile(one.times_s, 50),
        percentile(one.times_s, 99),
        f"{len(one.times_s) / sum(one.times_s):.0f}",
        f"{one.cpu_s / len(one.times_s) * 1e3:.2f}",
        f"{one.size / ingest['add_s']:.0f}",
        f"{ingest['add_cpu_s'] / one.size * 1e6:.0f}",
        f"{ingest['finish_s']:.1f}",
        f"{ingest['all_cpu_s']:.1f}",
        f"{one.open_s:.2f}",
        f"{one.rss_mb:.0f} ({one.anon_mb:.0f})",
        f"{one.disk_mb:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def percentile(times_s: Sequence[float], share: int) -> str:
    """Return a percentile in milliseconds."""
    return f"{np.percentile(times_s, share) * 1e3:.2f}" if times_s else ""


if __name__ == "__main__":
    main()
