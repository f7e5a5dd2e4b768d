"""One vector store in a process of its own, driven by lines of JSON on stdin; answers on stdout.

    {"do": "ingest", "vectors": "base.npy", "texts": "texts.txt", "batch": 100}
    {"do": "open"} {"do": "query", "vectors": "queries.npy", "first": 0, "count": 100, "limit": 10}
    {"do": "words", "queries": ["..."], "limit": 10} {"do": "close"}

Runs under the interpreter that has the store; imports nothing of the benchmark. Each hit brings its text.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import resource
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np


class Arriero:
    """The embedded store of this project."""

    package = "arriero"

    def __init__(self, folder: Path, dimensions: int) -> None:
        import uvloop

        from arriero.memory.embedded import EmbeddedStore
        from arriero.memory.records import Identity

        # The event loop of the server.
        self._loop = uvloop.new_event_loop()
        identity = Identity(embedder="benchmark", dimensions=dimensions)
        self._store = self._loop.run_until_complete(EmbeddedStore.open(folder / "memory.db", identity))

    def add(self, first: int, vectors: Any, texts: list[str]) -> None:
        from arriero.memory.records import Chunk, Document

        document = Document(
            name=f"{first:09d}", digest="", num_chunks=len(texts), attributes={"n": float(first)}
        )
        chunks = [Chunk(ordinal=place, text=text) for place, text in enumerate(texts)]
        self._loop.run_until_complete(self._store.replace(document, chunks, vectors))

    def finish(self) -> None:
        self._loop.run_until_complete(self._store.wait_settled())

    def answers(self, vectors: Any, limit: int) -> tuple[list[list[int]], list[float]]:
        return self._loop.run_until_complete(self._answers(vectors, limit))

    async def _answers(self, vectors: Any, limit: int) -> tuple[list[list[int]], list[float]]:
        found, times = [], []
        for vector in vectors:
            begin = time.perf_counter()
            hits = await self._store.nearest(vector, limit=limit)
            found.append([int(hit.document.name) + hit.chunk.ordinal for hit in hits])
            times.append(time.perf_counter() - begin)
        return found, times

    def words(self, query: str, limit: int) -> int:
        return len(self._loop.run_until_complete(self._store.matching(query, limit=limit)))

    def close(self) -> None:
        self._loop.run_until_complete(self._store.close())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())


class Blocking(ABC):
    """A store whose `query` blocks."""

    def answers(self, vectors: Any, limit: int) -> tuple[list[list[int]], list[float]]:
        found, times = [], []
        for vector in vectors:
            begin = time.perf_counter()
            found.append(self.query(vector, limit))
            times.append(time.perf_counter() - begin)
        return found, times

    @abstractmethod
    def query(self, vector: Any, limit: int) -> list[int]:
        """Return the ids of the nearest rows."""


class Lance(Blocking):
    """LanceDB with the index that its makers recommend for many rows; its defaults for searches."""

    package = "lancedb"

    def __init__(self, folder: Path, dimensions: int) -> None:
        import lancedb
        import pyarrow as pa

        schema = pa.schema(
            [("id", pa.int64()), ("text", pa.string()), ("vector", pa.list_(pa.float32(), dimensions))]
        )
        self._table = lancedb.connect(folder).create_table("t", schema=schema, exist_ok=True)

    def add(self, first: int, vectors: Any, texts: list[str]) -> None:
        rows = zip(texts, vectors, strict=True)
        self._table.add(
            [{"id": first + n, "text": text, "vector": row} for n, (text, row) in enumerate(rows)]
        )

    def finish(self) -> None:
        from lancedb.index import IvfHnswSq

        self._table.optimize()
        self._table.create_index("vector", config=IvfHnswSq(distance_type="cosine"))

    def query(self, vector: Any, limit: int) -> list[int]:
        found = (
            self._table.search(vector).distance_type("cosine").limit(limit).select(["id", "text"]).to_list()
        )
        return [row["id"] for row in found]

    def close(self) -> None:
        pass


class Chroma(Blocking):
    """Chroma in its own folder, with its defaults."""

    package = "chromadb"

    def __init__(self, folder: Path, dimensions: int) -> None:
        import chromadb
        from chromadb.config import Settings

        client = chromadb.PersistentClient(str(folder), settings=Settings(anonymized_telemetry=False))
        self._all = client.get_or_create_collection(
            "rows", metadata={"hnsw:space": "cosine"}, embedding_function=None
        )

    def add(self, first: int, vectors: Any, texts: list[str]) -> None:
        self._all.add(
            ids=[str(first + n) for n in range(len(texts))], embeddings=list(vectors), documents=texts
        )

    def finish(self) -> None:
        pass

    def query(self, vector: Any, limit: int) -> list[int]:
        found = self._all.query(query_embeddings=[vector], n_results=limit, include=["documents"])
        return [int(name) for name in found["ids"][0]]

    def close(self) -> None:
        pass


class QdrantLocal(Blocking):
    """The local mode of qdrant-client: exact, in Python."""

    package = "qdrant-client"

    def __init__(self, folder: Path, dimensions: int) -> None:
        from qdrant_client import QdrantClient, models

        self._models = models
        self._client = QdrantClient(path=str(folder))
        if not self._client.collection_exists("t"):
            self._client.create_collection(
                "t", vectors_config=models.VectorParams(size=dimensions, distance=models.Distance.COSINE)
            )

    def add(self, first: int, vectors: Any, texts: list[str]) -> None:
        rows = enumerate(zip(texts, vectors, strict=True))
        points = [
            self._models.PointStruct(id=first + n, vector=row.tolist(), payload={"text": text})
            for n, (text, row) in rows
        ]
        self._client.upsert("t", points=points)

    def finish(self) -> None:
        pass

    def query(self, vector: Any, limit: int) -> list[int]:
        found = self._client.query_points("t", query=vector.tolist(), limit=limit, with_payload=True)
        return [point.id for point in found.points]

    def close(self) -> None:
        self._client.close()


STORES: dict[str, Any] = {"arriero": Arriero, "lancedb": Lance, "chroma": Chroma, "qdrant-local": QdrantLocal}


def ingest(store: Any, command: dict[str, Any]) -> dict[str, Any]:
    """Store all rows in batches, and let the index be finished."""
    vectors = np.load(command["vectors"], mmap_mode="r")
    texts = Path(command["texts"]).read_text().splitlines()
    begin, begin_cpu = time.perf_counter(), cpu_s()
    for first in range(0, len(vectors), command["batch"]):
        rows = np.array(vectors[first : first + command["batch"]])
        store.add(first, rows, texts[first : first + len(rows)])
    stored, stored_cpu = time.perf_counter(), cpu_s()
    store.finish()
    return {
        "add_s": stored - begin,
        "add_cpu_s": stored_cpu - begin_cpu,
        "finish_s": time.perf_counter() - stored,
        "all_cpu_s": cpu_s() - begin_cpu,
    }


def query(store: Any, command: dict[str, Any]) -> dict[str, Any]:
    """Search by vectors, one after the other."""
    vectors = np.load(command["vectors"])[command["first"] : command["first"] + command["count"]]
    begin_cpu = cpu_s()
    found, times = store.answers(vectors, command["limit"])
    return {"found": found, "times_s": times, "cpu_s": cpu_s() - begin_cpu}


def words(store: Any, command: dict[str, Any]) -> dict[str, Any]:
    """Search by words, one after the other."""
    times, begin_cpu = [], cpu_s()
    for text in command["queries"]:
        begin = time.perf_counter()
        store.words(text, command["limit"])
        times.append(time.perf_counter() - begin)
    return {"times_s": times, "cpu_s": cpu_s() - begin_cpu}


def cpu_s() -> float:
    """Return the processor time of this process, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def memory_mb() -> dict[str, float]:
    """Return resident memory, all of it and what no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    values = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("VmRSS", "RssAnon"))}
    return {"rss_mb": int(values["VmRSS"]) / 1024, "anon_mb": int(values["RssAnon"]) / 1024}


def main() -> None:
    """Obey the lines of stdin until it ends."""
    kind, folder, dimensions = STORES[sys.argv[1]], Path(sys.argv[2]), int(sys.argv[3])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    store: Any = None
    for line in sys.stdin:
        command = json.loads(line)
        match command["do"]:
            case "open":
                begin = time.perf_counter()
                store = kind(folder, dimensions)
                answer = {
                    "open_s": time.perf_counter() - begin,
                    "version": importlib.metadata.version(kind.package),
                }
            case "ingest":
                answer = ingest(store, command)
            case "query":
                answer = query(store, command)
            case "words":
                answer = words(store, command)
            case _:
                store.close()
                answer = {}
        print(json.dumps(answer | memory_mb()), file=answers, flush=True)


if __name__ == "__main__":
    main()
