"""How well a memory finds: nDCG@10, recall@10 and MRR of vector, text and hybrid recall.

    python -m benchmarks.retrieval --sets man=DIR,python=DIR,faq=DIR --embedder minilm.gguf --cache FILE

Everything goes through `arriero.memory.memory.Memory` with its embedded store and an engine process, as in
the server; only documents are read in this process. A question has one document; its rank is that among the
documents of the ten passages. `against the better` is the default weights against the better of its
two parts: the mean difference of nDCG@10 with the 95 % interval of a paired bootstrap over questions.
The sets are described in `retrieval_sets.py`. Vectors are kept in the cache from run to run.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from arriero.config.memory import EmbeddedStore as EmbeddedStoreConfig
from arriero.config.memory import MemoryConfig, StoreConfig
from arriero.core import Embedder
from arriero.engine.local import LocalModel
from arriero.engine.supervisor import Supervisor
from arriero.engine.wire import EngineConfig
from arriero.extract import plain
from arriero.extract.detect import Format
from arriero.extract.document import Document
from arriero.extract.limits import Limits
from arriero.memory.embedded import EmbeddedStore
from arriero.memory.embedding import identity_of
from arriero.memory.job import Source
from arriero.memory.memory import Memory, weights
from arriero.memory.passage import Mode, Query
from benchmarks.report import table
from benchmarks.retrieval_cache import CachedEmbedder
from benchmarks.retrieval_sets import READERS, Item, items

LIMIT = 10
DRAWS = 2000
CONFIG = MemoryConfig(store=StoreConfig(embedded=EmbeddedStoreConfig()), embedding_model="embed")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Way:
    """A way to recall. weights: of meaning and of words."""

    mode: Mode
    weights: tuple[float, float] = (0, 0)

    def __str__(self) -> str:
        return f"hybrid {self.weights[0]:g} : {self.weights[1]:g}" if self.mode == "hybrid" else self.mode


@dataclass(frozen=True)
class Found:
    """The ranks of the right documents of one set, question by question; 0 = not among the ten passages."""

    name: str
    num_chunks: int
    ranks: dict[Way, NDArray[np.int64]]


async def main() -> None:
    """Measure and print the tables."""
    options = arguments().parse_args()
    supervisor = Supervisor(engine_config(options.embedder, options.threads, options.pooling))
    await supervisor.start()
    try:
        embedder = CachedEmbedder(LocalModel("embed", supervisor), options.cache)
        pairs = dict.fromkeys([weights(CONFIG, embedder.info), *options.weights])
        ways = [Way("vector"), Way("text"), *(Way("hybrid", pair) for pair in pairs)]
        found = [
            await measured(name, items(name, source, options.count), embedder, ways)
            for name, source in options.sets.items()
        ]
        embedder.save()
    finally:
        await supervisor.stop()
    print(markdown(found, ways))


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.retrieval", description="Quality of recall.")
    add = parser.add_argument
    add("--sets", type=sets, required=True, help=f"NAME=PATH,...; names: {', '.join(READERS)}")
    add("--embedder", type=Path, required=True, help="weights of the embedding model")
    add(
        "--weights",
        type=pairs_of,
        default=pairs_of("0.5:0.5,0.7:0.3,0.8:0.2"),
        help="of meaning and words",
    )
    add("--count", type=int, default=1000, help="most questions of a set")
    add("--cache", type=Path, help="file for vectors; default: none are kept")
    add("--threads", type=int, default=2)
    add("--pooling", help="of a model whose file does not say it: mean, cls, last")
    return parser


def sets(text: str) -> dict[str, Path]:
    """Return the sets of the command line."""
    pairs = (pair.partition("=") for pair in text.split(","))
    return {name: Path(path) for name, _, path in pairs}


def pairs_of(text: str) -> list[tuple[float, float]]:
    """Return pairs of weights."""
    pairs = [pair.split(":") for pair in text.split(",")]
    return [(float(a), float(b)) for a, b in pairs]


def engine_config(path: Path, threads: int, pooling: str | None) -> EngineConfig:
    """Return the engine as the server configures it for an embedding model of 256 tokens."""
    return EngineConfig(
        name="embed",
        path=str(path),
        context_size=256,
        cells=256,
        batch_size=512,
        max_sequences=1,
        threads=threads,
        pooling=pooling,
    )


async def measured(name: str, set_: Sequence[Item], embedder: Embedder, ways: Sequence[Way]) -> Found:
    """Ingest a set and ask all of its questions in each way."""
    store = await EmbeddedStore.open(None, identity_of(embedder))
    memory = Memory(name, CONFIG, embedder, store, extract=read)
    try:
        for item in set_:
            await memory.ingest(Source(name=item.name, data=item.text.encode(), media_type="text/plain"))
        ranks = {}
        for way in ways:
            memory.config = msgspec.structs.replace(
                CONFIG, vector_weight=way.weights[0], text_weight=way.weights[1]
            )
            ranks[way] = np.array([await rank(memory, item, way.mode) for item in set_])
        counts = await store.counts()
    finally:
        await memory.stop()
    return Found(name, counts.chunks, ranks)


async def read(data: bytes, *, name: str, media_type: str | None) -> Document:
    """Read plain text here: a process for each document would take most of the time."""
    return plain.read(data, Format.PLAIN, None, Limits())


async def rank(memory: Memory, item: Item, mode: Mode) -> int:
    """Return the rank of the right document, 0 when it was not found."""
    passages = await memory.recall(Query(item.question, limit=LIMIT, mode=mode))
    names = list(dict.fromkeys(passage.name for passage in passages))
    return names.index(item.name) + 1 if item.name in names else 0


def gains(ranks: NDArray[np.int64]) -> Floats:
    """Return the nDCG of each question: with one right document it depends on its rank alone."""
    return np.where(ranks > 0, 1 / np.log2(np.maximum(ranks, 1) + 1), 0.0)


def interval(differences: Floats) -> tuple[float, float]:
    """Return the 95 % interval of a mean by a bootstrap over questions."""
    generator = np.random.default_rng(0)
    size = len(differences)
    means = [differences[generator.integers(0, size, size)].mean() for _ in range(DRAWS)]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def markdown(found: Sequence[Found], ways: Sequence[Way]) -> str:
    """Return the tables."""
    rows = []
    for one in found:
        for way in ways:
            ranks = one.ranks[way]
            reciprocal = np.where(ranks > 0, 1 / np.maximum(ranks, 1), 0)
            figures = (gains(ranks).mean(), (ranks > 0).mean(), reciprocal.mean())
            rows.append((one.name, str(way), *(f"{figure:.3f}" for figure in figures)))
    quality = table(("set", "recall", "nDCG@10", "recall@10", "MRR"), rows)
    return f"{quality}\n\n{table(SET_HEAD, [compared(one, ways) for one in found])}"


SET_HEAD = ("set", "questions", "chunks", "default against the better", "95 %")


def compared(one: Found, ways: Sequence[Way]) -> tuple[str, ...]:
    """Return the default, which is the first hybrid way, against the better of its two parts."""
    default = gains(one.ranks[next(way for way in ways if way.mode == "hybrid")])
    better = max((gains(one.ranks[Way(mode)]) for mode in ("vector", "text")), key=lambda part: part.mean())
    low, high = interval(default - better)
    difference = (default - better).mean()
    return (
        one.name,
        str(len(default)),
        str(one.num_chunks),
        f"{difference:+.3f}",
        f"{low:+.3f} to {high:+.3f}",
    )


if __name__ == "__main__":
    asyncio.run(main())
