"""A store on a Qdrant server, over its real API.

A document becomes visible, and its former version invisible, by the one write of its own point; what a crash
leaves behind is found through an intent that was written before, and taken away at the next start.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
import warnings
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

from arriero.errors import ConfigError, Unavailable
from arriero.memory.filters import OneOf, matches
from arriero.memory.qdrant_filter import NoCondition, condition, equals
from arriero.memory.qdrant_payload import (
    DOCUMENT,
    DOCUMENT_ID,
    INTENT,
    KIND,
    META,
    META_ID,
    VERSION,
    bare_point,
    chunk_id,
    chunk_payload,
    document_payload,
    is_document_id,
    point_id,
    poly_document,
    poly_id,
    read_chunk,
    read_document,
    sparse_vector,
)
from arriero.memory.qdrant_server import require_version, rest_url
from arriero.memory.records import Counts, Hit, Identity
from arriero.memory.terms import query_terms, text_terms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arriero.memory.filters import Filter
    from arriero.memory.records import Chunk, Document

logger = logging.getLogger(__name__)

TERMS = "text"
"""The name of the sparse vectors; the dense one has none, as in Poly's collections."""
BATCH = 256
"""Points of one request."""
TIMEOUT_S = 30
MOST_TRIES = 4
"""How often a search is widened when it found chunks of versions that do not count."""
EMBEDDER = "embedder"


class QdrantStore:
    """Implements `Store`. Owns its client; one writer at a time."""

    def __init__(self, client: AsyncQdrantClient, collection: str, identity: Identity) -> None:
        self._client = client
        self._collection = collection
        self._identity = identity
        self._writing = asyncio.Lock()
        self._has_terms = True

    @classmethod
    async def open(
        cls, url: str, collection: str, identity: Identity, *, api_key: str | None = None
    ) -> QdrantStore:
        """Connect to a server, make the collection if it is missing, and repair what a crash left.

        Raises ConfigError when the collection holds other vectors or the server is too old, Unavailable when
        the server cannot be reached or refuses.
        """
        if api_key is not None and not url.startswith("https:"):
            logger.warning("the key of the Qdrant server travels unencrypted")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has just been said
            client = AsyncQdrantClient(
                url=rest_url(url), api_key=api_key, timeout=TIMEOUT_S, check_compatibility=False
            )
        return await cls.on(client, collection, identity)

    @classmethod
    async def on(cls, client: AsyncQdrantClient, collection: str, identity: Identity) -> QdrantStore:
        """Do the same over a client, which the store closes."""
        store = cls(client, collection, identity)
        try:
            await store._prepare()
        except BaseException:
            await store.close()
            raise
        return store

    @property
    def identity(self) -> Identity:
        """Whose vectors are held."""
        return self._identity

    async def replace(
        self, document: Document, chunks: Sequence[Chunk], vectors: NDArray[np.float32]
    ) -> None:
        """Store a document in place of the one of its name; see `Store`."""
        if vectors.shape != (len(chunks), self._identity.dimensions) or not np.isfinite(vectors).all():
            raise ValueError(f"expected {len(chunks)} finite vectors of {self._identity.dimensions} numbers")
        version = uuid.uuid4().hex
        async with self._writing:
            with self._asking():
                await self._intend(document.id, version)
                for at in range(0, len(chunks), BATCH):
                    part = list(zip(chunks[at : at + BATCH], vectors[at : at + BATCH], strict=True))
                    await self._upsert(await self._chunk_points(document, version, part))
                await self._upsert([bare_point(point_id(document.id), document_payload(document, version))])
                await self._settle(document.id, version)

    async def delete(self, document_id: str) -> bool:
        """Delete a document; say whether there was one."""
        async with self._writing:
            if await self.document(document_id) is None:
                return False
            with self._asking():
                await self._intend(document_id, "")
                await self._delete(models.PointIdsList(points=[point_id(document_id)]))
                await self._settle(document_id, "")
        return True

    async def clear(self) -> int:
        """Delete everything; return the number of documents."""
        async with self._writing:
            with self._asking():
                num_documents = await self._count(models.Filter(must=[equals(KIND, DOCUMENT)]))
                everything = models.Filter(must_not=[models.HasIdCondition(has_id=[META_ID])])
                await self._delete(models.FilterSelector(filter=everything))
        return num_documents

    async def document(self, document_id: str) -> Document | None:
        """Return a document, if there is one of this id."""
        found = await self._current({document_id})
        return found[document_id][0] if document_id in found else None

    async def documents(
        self, *, after: str | None = None, limit: int = 100, where: Filter | None = None
    ) -> list[Document]:
        """Return documents in the order of their ids, beginning behind the id `after`."""
        found: list[Document] = []
        async for document in self._all_documents(after, where):
            if len(found) == limit:
                break
            found.append(document)
        return found

    async def chunks(self, document_id: str, *, first: int = 0, last: int | None = None) -> list[Chunk]:
        """Return the chunks of a document from ordinal `first` up to and with `last`, in order."""
        current = await self._current({document_id})
        if document_id not in current:
            return []
        wanted = models.FieldCondition(key="ordinal", range=models.Range(gte=first, lte=last))
        version = current[document_id][1]
        records = self._scroll(
            models.Filter(must=[equals(DOCUMENT_ID, document_id), equals(VERSION, version), wanted])
        )
        found = [read_chunk(payload) async for payload in records]
        return sorted(found, key=lambda chunk: chunk.ordinal)

    async def nearest(
        self, vector: NDArray[np.float32], *, limit: int, where: Filter | None = None
    ) -> list[Hit]:
        """Return the chunks whose vectors are most alike, best first; scores are cosines."""
        return await self._search(cast("list[float]", vector.tolist()), None, limit, where)

    async def matching(self, query: str, *, limit: int, where: Filter | None = None) -> list[Hit]:
        """Return the chunks whose words match best; none of a collection that was made without words."""
        terms = query_terms(query)
        if not self._has_terms or not terms.indices:
            return []
        return await self._search(sparse_vector(terms), TERMS, limit, where)

    async def counts(self) -> Counts:
        """Return how much is held; the server does not tell the bytes."""
        with self._asking():
            documents = await self._count(models.Filter(must=[equals(KIND, DOCUMENT)]))
            ours = models.FieldCondition(key=KIND, match=models.MatchAny(any=[DOCUMENT, INTENT, META]))
            chunks = await self._count(models.Filter(must_not=[ours]))
        return Counts(documents, chunks, 0)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.close()

    async def _prepare(self) -> None:
        with self._asking():
            await require_version(self._client)
            if not await self._client.collection_exists(self._collection):
                await self._create()
            await self._check_vectors()
            await self._check_embedder()
            async for payload in self._scroll(models.Filter(must=[equals(KIND, INTENT)])):
                current = await self._current({payload[DOCUMENT_ID]})
                _, version = current.get(payload[DOCUMENT_ID], (None, ""))
                await self._settle(payload[DOCUMENT_ID], version)

    async def _create(self) -> None:
        await self._client.create_collection(
            self._collection,
            vectors_config=models.VectorParams(
                size=self._identity.dimensions, distance=models.Distance.COSINE
            ),
            sparse_vectors_config={TERMS: models.SparseVectorParams(modifier=models.Modifier.IDF)},
        )
        for field in (DOCUMENT_ID, VERSION, KIND):
            await self._client.create_payload_index(
                self._collection, field, field_schema=models.PayloadSchemaType.KEYWORD
            )

    async def _check_vectors(self) -> None:
        params = (await self._client.get_collection(self._collection)).config.params
        self._has_terms = TERMS in (params.sparse_vectors or {})
        if not self._has_terms:
            logger.warning(
                "the Qdrant collection %s has no sparse vectors %r: it is searched by meaning only",
                self._collection,
                TERMS,
            )
        if not isinstance(params.vectors, models.VectorParams):
            raise ConfigError(f"the Qdrant collection {self._collection} has no unnamed vectors")
        if params.vectors.size != self._identity.dimensions:
            raise ConfigError(
                f"the Qdrant collection {self._collection} holds vectors of {params.vectors.size} numbers,"
                f" the model {self._identity.embedder} makes {self._identity.dimensions}: name another"
                " collection, or that model"
            )

    async def _check_embedder(self) -> None:
        known = await self._client.retrieve(self._collection, [META_ID])
        if not known:
            await self._upsert([bare_point(META_ID, {KIND: META, EMBEDDER: self._identity.embedder})])
            return
        embedder = (known[0].payload or {}).get(EMBEDDER)
        if embedder != self._identity.embedder:
            raise ConfigError(
                f"the Qdrant collection {self._collection} holds vectors of the model {embedder}, not of"
                f" {self._identity.embedder}: go back to the former, or name another collection and"
                " ingest the documents again"
            )

    async def _search(self, query: Any, using: str | None, limit: int, where: Filter | None) -> list[Hit]:
        query_filter = None if where is None else await self._condition(where)
        wanted = limit
        hits: list[Hit] = []
        for _ in range(MOST_TRIES):
            with self._asking():
                found = await self._client.query_points(
                    self._collection, query=query, using=using, query_filter=query_filter, limit=wanted
                )
            hits = await self._hits(found.points)
            if len(hits) >= limit or len(found.points) < wanted:
                break
            wanted *= 4
        return hits[:limit]

    async def _hits(self, points: Sequence[models.ScoredPoint]) -> list[Hit]:
        current = await self._current(
            {point.payload[DOCUMENT_ID] for point in points if point.payload and _is_ours(point)}
        )
        hits = []
        for point in points:
            payload = point.payload or {}
            if not _is_ours(point):
                document = poly_document(str(point.id), str(payload.get("text", "")))
            elif current.get(payload[DOCUMENT_ID], (None, None))[1] == payload[VERSION]:
                document = current[payload[DOCUMENT_ID]][0]
            else:
                continue
            hits.append(Hit(document, read_chunk(payload), point.score))
        return hits

    async def _current(self, document_ids: set[str]) -> dict[str, tuple[Document, str]]:
        """Return the documents of these ids, each with the version that counts."""
        ids = [point_id(document_id) for document_id in document_ids if is_document_id(document_id)]
        if not ids:
            return {}
        with self._asking():
            records = await self._client.retrieve(self._collection, ids)
        payloads = [record.payload for record in records if record.payload]
        return {payload[DOCUMENT_ID]: (read_document(payload), payload[VERSION]) for payload in payloads}

    async def _condition(self, where: Filter) -> models.Filter:
        try:
            return condition(where)
        except NoCondition:
            ids = [document.id async for document in self._all_documents(None, where)]
            return condition(OneOf(tuple(ids)))

    async def _all_documents(self, after: str | None, where: Filter | None) -> AsyncIterator[Document]:
        kind = equals(KIND, DOCUMENT)
        wanted = models.Filter(must=[kind])
        if where is not None:
            with suppress(NoCondition):  # checked below in any case
                wanted = models.Filter(must=[kind, condition(where)])
        async for payload in self._scroll(wanted, begin=after and point_id(after)):
            document = read_document(payload)
            if document.id != after and (where is None or matches(where, document)):
                yield document

    async def _scroll(
        self, wanted: models.Filter, *, begin: str | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        offset: Any = begin
        while True:
            with self._asking():
                records, offset = await self._client.scroll(
                    self._collection, scroll_filter=wanted, limit=BATCH, offset=offset
                )
            for record in records:
                yield record.payload or {}
            if offset is None:
                return

    async def _chunk_points(
        self, document: Document, version: str, part: Sequence[tuple[Chunk, NDArray[np.float32]]]
    ) -> list[models.PointStruct]:
        """Return the points of some chunks, under Poly's ids where no other chunk has them."""
        known = await self._client.retrieve(
            self._collection, [poly_id(chunk.text) for chunk, _ in part], with_payload=False
        )
        taken = {str(record.id) for record in known}
        points = []
        for chunk, vector in part:
            id = poly_id(chunk.text)
            if id in taken:
                id = chunk_id(version, chunk.ordinal)
            taken.add(id)
            named: dict[str, Any] = {"": vector.tolist()}
            if self._has_terms:
                named[TERMS] = sparse_vector(text_terms(chunk.text))
            payload = chunk_payload(document, version, chunk)
            points.append(models.PointStruct(id=id, vector=named, payload=payload))
        return points

    async def _intend(self, document_id: str, version: str) -> None:
        """Write down that points of a document are about to change."""
        payload = {KIND: INTENT, DOCUMENT_ID: document_id, VERSION: version}
        await self._upsert([bare_point(str(uuid.uuid4()), payload)])

    async def _settle(self, document_id: str, version: str) -> None:
        """Take away the chunks of all other versions, then the intents."""
        of_document = equals(DOCUMENT_ID, document_id)
        documents = models.FieldCondition(key=KIND, match=models.MatchAny(any=[DOCUMENT, INTENT]))
        stale = models.Filter(must=[of_document], must_not=[documents, equals(VERSION, version)])
        await self._delete(models.FilterSelector(filter=stale))
        intents = models.Filter(must=[of_document, equals(KIND, INTENT)])
        await self._delete(models.FilterSelector(filter=intents))

    async def _upsert(self, points: list[models.PointStruct]) -> None:
        await self._client.upsert(self._collection, points, wait=True)

    async def _delete(self, points: models.FilterSelector | models.PointIdsList) -> None:
        await self._client.delete(self._collection, points, wait=True)

    async def _count(self, wanted: models.Filter) -> int:
        return (await self._client.count(self._collection, count_filter=wanted)).count

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Tell failures of the server in the operator's words."""
        try:
            yield
        except UnexpectedResponse as exc:
            raise Unavailable(f"Qdrant refused with {exc.status_code}: {_reason(exc)}") from exc
        except QdrantException as exc:  # of a refusal that names a time to wait
            raise Unavailable(f"Qdrant refused with 429: {exc}") from exc
        except JSONDecodeError as exc:
            raise Unavailable("what answers at the address of Qdrant is no Qdrant server") from exc
        except (ApiException, OSError) as exc:
            raise Unavailable(f"Qdrant cannot be reached: {exc}") from exc


def _is_ours(point: models.ScoredPoint) -> bool:
    return DOCUMENT_ID in (point.payload or {})


def _reason(exc: UnexpectedResponse) -> str:
    """Return what the server said, in its JSON or as plain text, or else the name of the status."""
    text = exc.content.decode(errors="replace")
    with suppress(ValueError, LookupError, TypeError):
        text = str(exc.structured()["status"]["error"])
    return text[:300] or exc.reason_phrase
