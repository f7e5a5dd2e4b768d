"""Memories: where chunks are kept, how texts become chunks, how they are found; and what a task recalls."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from arriero.config.table import Count, CountOrZero, Seconds, Table, Text

Weight = Annotated[float, Meta(ge=0, le=1000)]
ByteCount = Annotated[int, Meta(ge=1, le=2**62)]


class MemorizationConfig(Table, frozen=True):
    """tasks.NAME.memorization: what a task reads from and writes to a memory."""

    memory: Annotated[Text, Meta(description="Name of the memory.")]
    store_prompts: Annotated[bool, Meta(description="Store each prompt after its completion.")] = False
    retrieve: Annotated[
        CountOrZero | None, Meta(description="Chunks recalled for each prompt. Absent or 0 = none.")
    ] = None
    max_tokens: Annotated[
        Count | None,
        Meta(
            description="Most tokens of what is recalled for one prompt. Absent = a quarter of the context."
        ),
    ] = None
    template: Annotated[
        Text | None,
        Meta(
            description="How a recalled chunk is written: {text}, {title}, {name}, {section}, {page},"
            " {number}. Absent = its text alone; chunks are joined by a newline."
        ),
    ] = None


class HoraStore(Table, frozen=True):
    """memories.NAME.store.hora: Poly's word for a local store."""

    path: Annotated[Path | None, Meta(description="File of the store. Absent = in memory only.")] = None


class EmbeddedStore(Table, frozen=True):
    """memories.NAME.store.embedded: a store inside the server."""

    path: Annotated[Path | None, Meta(description="File of the store. Absent = under cache_path.")] = None


class QdrantStore(Table, frozen=True):
    """memories.NAME.store.qdrant: a collection on a Qdrant server."""

    collection: Annotated[Text, Meta(description="Name of the collection.")]
    url: Annotated[Text, Meta(description="Address of the server.")] = "http://localhost:6333"
    api_key: Annotated[
        Text | None, Meta(description="The server's key. Better by `api_key_env` or `api_key_file`.")
    ] = None
    api_key_env: Annotated[
        Text | None, Meta(description="Environment variable that holds the server's key.")
    ] = None
    api_key_file: Annotated[Path | None, Meta(description="File that holds the server's key.")] = None


class StoreConfig(Table, frozen=True):
    """memories.NAME.store: where chunks are kept; exactly one."""

    embedded: Annotated[EmbeddedStore | None, Meta(description="A store inside the server.")] = None
    hora: Annotated[HoraStore | None, Meta(description="Poly's word for a local store.")] = None
    qdrant: Annotated[QdrantStore | None, Meta(description="A collection on a Qdrant server.")] = None


class RerankConfig(Table, frozen=True):
    """memories.NAME.rerank: a model that judges what was found, reading query and passage together."""

    model: Annotated[Text, Meta(description="Name of a remote model whose upstream answers /v1/rerank.")]
    candidates: Annotated[
        Annotated[int, Meta(ge=1, le=1000)], Meta(description="Most chunks that are judged for one recall.")
    ] = 50
    timeout_s: Annotated[
        Seconds, Meta(description="Seconds for the judgement; a recall that got none goes on without.")
    ] = 10
    min_score: Annotated[
        float | None, Meta(description="The model's score below which nothing is recalled. Absent = none.")
    ] = None
    logits: Annotated[
        bool,
        Meta(description="The upstream answers logits, not scores from 0 to 1; they are brought there."),
    ] = False


class MemoryConfig(Table, frozen=True):
    """[memories.NAME]: a collection of chunks and how texts become chunks."""

    store: Annotated[StoreConfig, Meta(description="Where chunks are kept.")]
    embedding_model: Annotated[Text, Meta(description="Name of the model that makes the vectors.")]
    dimensions: Annotated[
        Count | None, Meta(description="Length of the vectors; must be the model's. Absent = the model's.")
    ] = None
    chunking: Annotated[
        Literal["structure", "separators"] | None,
        Meta(
            description="Cut at headings, paragraphs and sentences, or at `chunk_separators` after the"
            " filters, as Poly does. Absent = structure, but separators with `hora` or when one of"
            " their keys is given."
        ),
    ] = None
    chunk_max_tokens: Annotated[
        Count | None,
        Meta(description="Most tokens of a chunk. Absent = 200 with structure, 255 with separators."),
    ] = None
    chunk_overlap: Annotated[
        CountOrZero, Meta(description="Most tokens that a chunk repeats of the one before it.")
    ] = 0
    chunk_separators: Annotated[
        tuple[Text, ...], Meta(description="Where texts may be cut, coarse to fine.")
    ] = (" ",)
    pre_filter: Annotated[
        tuple[Text, ...],
        Meta(description="Regular expressions; each match becomes a blank before chunking."),
    ] = ("[\\r\\t]", "[ \\n_|-]{2,}", "(?: ?\\.){2,} ?", "^[\\n ._|-]+")
    post_filter: Annotated[tuple[Text, ...], Meta(description="Texts taken out of each chunk.")] = ("\n",)
    chunk_prefix: Annotated[
        str, Meta(description='Put before a chunk when it is embedded, such as "passage: ".')
    ] = ""
    query_prefix: Annotated[
        str, Meta(description='Put before a query when it is embedded, such as "query: ".')
    ] = ""
    recall: Annotated[
        Literal["hybrid", "vector", "text"],
        Meta(description="Find chunks by meaning and words together, by meaning, or by words."),
    ] = "hybrid"
    vector_weight: Annotated[
        Weight | None,
        Meta(
            description="Weight of the scores by meaning in a hybrid recall."
            " Absent = 0.6; 0.2 with a model that was not made for embeddings."
        ),
    ] = None
    text_weight: Annotated[
        Weight | None,
        Meta(
            description="Weight of the scores by words in a hybrid recall."
            " Absent = 0.4; 0.8 with a model that was not made for embeddings."
        ),
    ] = None
    min_score: Annotated[
        Annotated[float, Meta(ge=0, le=1)], Meta(description="Score below which nothing is recalled.")
    ] = 0.0
    rerank: Annotated[
        RerankConfig | None, Meta(description="A model that judges what was found. Absent = none.")
    ] = None
    max_document_bytes: Annotated[Count, Meta(description="Largest document.")] = 32 * 1024 * 1024
    max_documents: Annotated[Count | None, Meta(description="Most documents. Absent = no bound.")] = None
    max_queued_documents: Annotated[
        Count, Meta(description="Documents that wait to be ingested; more are refused.")
    ] = 1000

    @property
    def cuts_at_separators(self) -> bool:
        """Whether texts are filtered and cut as Poly's keys say."""
        if self.chunking is not None:
            return self.chunking == "separators"
        keys = ("chunk_separators", "pre_filter", "post_filter")
        defaults = {field.name: field.default for field in msgspec.structs.fields(MemoryConfig)}
        return self.store.hora is not None or any(getattr(self, key) != defaults[key] for key in keys)


class VectorStoresConfig(Table, frozen=True):
    """[vector_stores]: files that callers upload, and the memories that they make of them."""

    enabled: Annotated[
        bool | None,
        Meta(description="Serve /v1/files and /v1/vector_stores. Absent = unless the server is public."),
    ] = None
    path: Annotated[
        Path | None, Meta(description="Directory of files and memories. Absent = under cache_path.")
    ] = None
    embedding_model: Annotated[
        Text | None,
        Meta(description="Name of the model that makes the vectors. Absent = the only one that just embeds."),
    ] = None
    rerank: Annotated[
        RerankConfig | None, Meta(description="A model that judges what was found. Absent = none.")
    ] = None
    max_file_bytes: Annotated[Count, Meta(description="Largest file.")] = 32 * 1024 * 1024
    max_files: Annotated[Count, Meta(description="Most files of one caller.")] = 10_000
    max_stores: Annotated[Count, Meta(description="Most vector stores of one caller.")] = 100
    max_tenant_bytes: Annotated[ByteCount, Meta(description="Bytes of all files of one caller.")] = 2**30
    max_bytes: Annotated[ByteCount, Meta(description="Bytes of all files.")] = 10 * 2**30
