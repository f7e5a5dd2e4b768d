"""A memory: documents in, passages out. It alone sees vectors.

Ingesting is extract, cut, embed, store; nothing is stored before all of it is there. What is under
the same name, with the same bytes, recipe, title and attributes, is left alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from arriero.errors import InvalidRequest, PayloadTooLarge, UnreadableDocument
from arriero.extract.detect import detect
from arriero.memory.embedding import embedded
from arriero.memory.fusion import USUAL_WEIGHTS, WEAK_WEIGHTS, Ranked, by_text, by_vector, fused
from arriero.memory.ingest import Ingestion
from arriero.memory.job import Job, Outcome, Report, Source, State
from arriero.memory.journal import Journal
from arriero.memory.passage import Passage, Query, chosen, passages
from arriero.memory.reading import read
from arriero.memory.records import Document, document_id
from arriero.memory.rerank import Reranking
from arriero.memory.splitter import Splitter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arriero.config.memory import MemoryConfig
    from arriero.core import Embedder, ModelInfo
    from arriero.extract.document import Document as Extracted
    from arriero.memory.records import Hit
    from arriero.memory.rerank import Reranker
    from arriero.memory.store import Store

MAX_LIMIT = 1000
MIN_CANDIDATES = 50


class Extractor(Protocol):
    """Reads the text out of a document's bytes. Raises UnreadableDocument."""

    def __call__(self, data: bytes, *, name: str, media_type: str | None) -> Awaitable[Extracted]: ...


class Memory:
    """A named collection of chunks. Its state is in the store.

    Of two documents of one name that are ingested at once, either may be the one that stays.

    rerankers: by the names that `config.rerank.model` may be.
    """

    def __init__(
        self,
        name: str,
        config: MemoryConfig,
        embedder: Embedder,
        store: Store,
        *,
        journal: Journal | None = None,
        extract: Extractor = read,
        rerankers: Mapping[str, Reranker] | None = None,
    ) -> None:
        self.name = name
        self.config = config
        self.store = store
        self._embedder = embedder
        self._extract = extract
        self.reranking = Reranking(name, {} if rerankers is None else rerankers)
        self.jobs = Ingestion(
            name, self.ingest, journal or Journal(None), max_queued=config.max_queued_documents
        )
        self._splitter = Splitter(config, embedder)

    async def start(self) -> None:
        """Go on with the documents that the journal holds. Raises Unavailable."""
        await self.jobs.start()

    async def stop(self) -> None:
        """End the work and let go of the store; what was taken on is in the journal."""
        await self.jobs.stop()
        await self.store.close()

    def adopt(self, config: MemoryConfig) -> None:
        """Go by another configuration from now on. Its store and its model must be the same."""
        self.config = config
        self._splitter = Splitter(config, self._embedder)
        self.jobs.max_queued = config.max_queued_documents

    async def submit(self, source: Source) -> Job:
        """Take a document on, to be ingested; it survives a crash from now on.

        Raises InvalidRequest, PayloadTooLarge, UnreadableDocument for a format that is not read, QueueFull,
        Unavailable.
        """
        self.check(source)
        return await self.jobs.submit(source)

    async def ingest(self, source: Source, report: Report = lambda state, done, total: None) -> Outcome:
        """Store a document in place of the one of its name; nothing changes unless all of it is stored.

        Raises UnreadableDocument, PayloadTooLarge, InvalidRequest, Unavailable, EngineError, ServiceError.
        """
        self.check(source)
        digest = await asyncio.to_thread(_digest, source.data)
        splitter = self._splitter.cutting(source.cutting)
        recipe = await splitter.word()
        held = await self.store.document(document_id(source.name))
        if held is not None and _is_same(held, source, digest, recipe):
            return Outcome.UNCHANGED
        await self._check_room(held)
        report(State.EXTRACTING, 0, 0)
        extracted = await self._extract(source.data, name=source.name, media_type=source.media_type)
        chunks, texts = await splitter.split(extracted)
        if not chunks:
            raise UnreadableDocument("no_text", f"{source.name} has no text")
        report(State.EMBEDDING, 0, len(chunks))
        vectors = await embedded(
            self._embedder, texts, lambda done: report(State.EMBEDDING, done, len(chunks))
        )
        report(State.STORING, len(chunks), len(chunks))
        document = Document(
            name=source.name,
            digest=digest,
            recipe=recipe,
            title=source.title or extracted.title or "",
            media_type=extracted.media_type,
            size=len(source.data),
            created_at=time.time(),
            num_chunks=len(chunks),
            num_tokens=sum(chunk.num_tokens for chunk in chunks),
            attributes=source.attributes,
        )
        await self.store.replace(document, chunks, vectors)
        return Outcome.STORED if held is None else Outcome.REPLACED

    def check(self, source: Source) -> None:
        """Raise InvalidRequest, PayloadTooLarge or UnreadableDocument for what the first look refuses."""
        if not source.name or len(source.name) > 1024 or "\0" in source.name:
            raise InvalidRequest(
                "the name of a document has 1 to 1024 characters, none of them NUL", param="name"
            )
        if len(source.data) > self.config.max_document_bytes:
            raise PayloadTooLarge(
                f"{source.name} has {len(source.data)} bytes; memories.{self.name}.max_document_bytes allows"
                f" {self.config.max_document_bytes}"
            )
        detect(source.data, name=source.name, media_type=source.media_type)

    async def recall(self, query: Query) -> list[Passage]:
        """Return the passages that answer a query best, best first. Raises InvalidRequest, Unavailable."""
        if not 0 <= query.limit <= MAX_LIMIT:
            raise InvalidRequest(f"the number of passages is from 0 to {MAX_LIMIT}", param="limit")
        if not query.limit or not query.text.strip():
            return []
        min_score = self.config.min_score if query.min_score is None else query.min_score
        rerank = self.config.rerank if query.rerank else None
        wanted = query.limit if rerank is None else max(query.limit, rerank.candidates)
        ranked = await self._ranked(query, max(MIN_CANDIDATES, 2 * query.limit, wanted))
        best = chosen(ranked, limit=wanted, min_score=min_score)
        if rerank is not None:
            best = await self.reranking.ranking(rerank, query.text, best, min_score=query.min_rerank_score)
        return passages(best[: query.limit], merge_neighbours=query.merge_neighbours)

    async def _ranked(self, query: Query, limit: int) -> list[Ranked]:
        mode = query.mode or self.config.recall
        if mode == "text":
            return by_text(await self.store.matching(query.text, limit=limit, where=query.where))
        if mode == "vector":
            return by_vector(await self._nearest(query, limit))
        vector_hits, text_hits = await asyncio.gather(
            self._nearest(query, limit),
            self.store.matching(query.text, limit=limit, where=query.where),
        )
        vector_weight, text_weight = weights(self.config, self._embedder.info)
        return fused(vector_hits, text_hits, vector_weight=vector_weight, text_weight=text_weight)

    async def _nearest(self, query: Query, limit: int) -> list[Hit]:
        vector = await self._query_vector(query.text)
        return await self.store.nearest(vector, limit=limit, where=query.where)

    async def _query_vector(self, text: str) -> NDArray[np.float32]:
        """Return the vector of a query; of a long one, the mean of its parts'."""
        vectors = await embedded(self._embedder, await self._splitter.parts(text))
        mean: NDArray[np.float32] = vectors.mean(axis=0)
        length = np.float32(np.linalg.norm(mean))
        return mean / length if length > 0 else vectors[0]

    async def delete(self, id: str) -> bool:
        """Delete a document and end its jobs; say whether there was one, stored or on its way."""
        async with self.jobs.forgotten(id) as ended:
            return await self.store.delete(id) or ended > 0

    async def clear(self) -> int:
        """Delete everything and end all jobs; return the number of documents."""
        async with self.jobs.forgotten(None):
            return await self.store.clear()

    async def _check_room(self, held: Document | None) -> None:
        most = self.config.max_documents
        if most is None or held is not None:
            return
        if (await self.store.counts()).documents >= most:
            raise InvalidRequest(
                f"the memory {self.name} holds {most} documents, which is what its max_documents allows;"
                " delete some first"
            )


def weights(config: MemoryConfig, info: ModelInfo) -> tuple[float, float]:
    """Return what meaning and words weigh in a hybrid recall; absent keys follow the embedding model."""
    by_meaning, by_words = USUAL_WEIGHTS if info.embeds else WEAK_WEIGHTS
    return (
        by_meaning if config.vector_weight is None else config.vector_weight,
        by_words if config.text_weight is None else config.text_weight,
    )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _is_same(held: Document, source: Source, digest: str, recipe: str) -> bool:
    return (
        (held.digest, held.recipe) == (digest, recipe)
        and dict(held.attributes) == dict(source.attributes)
        and (not source.title or source.title == held.title)
    )
