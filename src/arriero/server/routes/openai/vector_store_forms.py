"""Vector stores on the wire: what requests may say, checked, and what is answered. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from arriero.errors import InvalidRequest
from arriero.memory.chunk import STRUCTURE_TOKENS
from arriero.memory.job import Cutting
from arriero.memory.library.records import Attachment, Batch, FileCounts, Status, VectorStore
from arriero.memory.records import Attribute, comparable

if TYPE_CHECKING:
    from arriero.memory.passage import Passage
    from arriero.memory.records import Document

MAX_PAIRS = 16
MAX_KEY_CHARS = 64
MAX_VALUE_CHARS = 512
MAX_BATCH = 2000
MAX_RESULTS = 50
MAX_QUERIES = 16
FILE_NAME = re.compile(r"(file-[0-9a-f]{24})/(.+)", re.DOTALL)
"""The names of documents that are attached files: `Attachment.document_name`."""

Name = Annotated[str, Meta(max_length=256)]
Attributes = dict[str, str | float | bool]


class ExpiresAfter(msgspec.Struct, forbid_unknown_fields=True):
    """After how many days without use the content is forgotten."""

    anchor: Literal["last_active_at"]
    days: Annotated[int, Meta(ge=1, le=365)]


class Auto(msgspec.Struct, tag="auto", tag_field="type", forbid_unknown_fields=True):
    """Cut as the memory does."""


class StaticSizes(msgspec.Struct, forbid_unknown_fields=True):
    """Tokens of a chunk, and of what it repeats of the one before it."""

    max_chunk_size_tokens: Annotated[int, Meta(ge=100, le=4096)]
    chunk_overlap_tokens: Annotated[int, Meta(ge=0)]


class Static(msgspec.Struct, tag="static", tag_field="type", forbid_unknown_fields=True):
    """Cut at a number of tokens."""

    static: StaticSizes


Chunking = Auto | Static | None


class NewStore(msgspec.Struct, forbid_unknown_fields=True):
    """The body that makes a vector store."""

    name: Name | None = None
    description: Annotated[str, Meta(max_length=2048)] | None = None
    metadata: dict[str, str] | None = None
    expires_after: ExpiresAfter | None = None
    file_ids: Annotated[tuple[str, ...], Meta(max_length=MAX_BATCH)] = ()
    chunking_strategy: Chunking = None


class StoreChange(msgspec.Struct, forbid_unknown_fields=True):
    """The body that changes a vector store; what is absent stays."""

    name: Name | msgspec.UnsetType | None = msgspec.UNSET
    metadata: dict[str, str] | msgspec.UnsetType | None = msgspec.UNSET
    expires_after: ExpiresAfter | msgspec.UnsetType | None = msgspec.UNSET


class NewFile(msgspec.Struct, forbid_unknown_fields=True):
    """A file to be attached."""

    file_id: str
    attributes: Attributes | None = None
    chunking_strategy: Chunking = None


class NewBatch(msgspec.Struct, forbid_unknown_fields=True):
    """Files to be attached together: by their ids, all in one way, or each in its own."""

    file_ids: Annotated[tuple[str, ...], Meta(max_length=MAX_BATCH)] | None = None
    files: Annotated[tuple[NewFile, ...], Meta(max_length=MAX_BATCH)] | None = None
    attributes: Attributes | None = None
    chunking_strategy: Chunking = None

    def all_files(self) -> tuple[NewFile, ...]:
        """Return the files, each as it is to be attached. Raises InvalidRequest."""
        if (self.file_ids is None) == (self.files is None):
            raise InvalidRequest("give either file_ids or files", param="file_ids")
        if self.files is not None:
            return _some(self.files, "files")
        return tuple(
            NewFile(id, self.attributes, self.chunking_strategy)
            for id in _some(self.file_ids or (), "file_ids")
        )


class FileChange(msgspec.Struct, forbid_unknown_fields=True):
    """The body that changes an attached file."""

    attributes: Attributes | None


class RankingOptions(msgspec.Struct, forbid_unknown_fields=True):
    """How results are ranked, and below which score there are none."""

    ranker: Literal["none", "auto", "default-2024-11-15"] = "auto"
    score_threshold: Annotated[float, Meta(ge=0, le=1)] = 0.0


class Search(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a search."""

    query: str | Annotated[tuple[str, ...], Meta(min_length=1, max_length=MAX_QUERIES)]
    filters: Any = None
    max_num_results: Annotated[int, Meta(ge=1, le=MAX_RESULTS)] = 10
    ranking_options: RankingOptions | None = None
    rewrite_query: bool = False

    @property
    def queries(self) -> tuple[str, ...]:
        """The queries, one or several."""
        return (self.query,) if isinstance(self.query, str) else self.query


def metadata_of(said: Mapping[str, str] | None) -> dict[str, str]:
    """Return checked metadata. Raises InvalidRequest."""
    pairs = dict(said or {})
    _check_pairs(pairs, "metadata")
    return pairs


def attributes_of(said: Mapping[str, Attribute] | None) -> dict[str, Attribute]:
    """Return checked attributes. Raises InvalidRequest."""
    try:
        pairs = comparable(said or {})
    except OverflowError as exc:
        raise InvalidRequest(f"attributes: {exc}", param="attributes") from exc
    _check_pairs(pairs, "attributes")
    return pairs


def cutting_of(strategy: Chunking) -> Cutting | None:
    """Return how a file is cut; None = as the memory does. Raises InvalidRequest."""
    if not isinstance(strategy, Static):
        return None
    sizes = strategy.static
    if sizes.chunk_overlap_tokens > sizes.max_chunk_size_tokens // 2:
        raise InvalidRequest(
            "chunk_overlap_tokens must not be more than half of max_chunk_size_tokens",
            param="chunking_strategy.static.chunk_overlap_tokens",
        )
    return Cutting(sizes.max_chunk_size_tokens, sizes.chunk_overlap_tokens)


def store_object(
    store: VectorStore, counts: FileCounts, *, used_bytes: int, is_expired: bool
) -> dict[str, object]:
    """Return a vector store that a caller made."""
    days = store.days
    return {
        "id": store.id,
        "object": "vector_store",
        "created_at": int(store.created_at),
        "name": store.name,
        "description": store.description,
        "usage_bytes": used_bytes,
        "file_counts": counts_object(counts),
        "status": _store_status(counts, is_expired=is_expired),
        "expires_after": None if days is None else {"anchor": "last_active_at", "days": days},
        "expires_at": None if store.expires_at is None else int(store.expires_at),
        "last_active_at": int(store.last_active_at),
        "metadata": dict(store.metadata),
    }


def memory_object(
    name: str, counts: FileCounts, *, used_bytes: int, created_at: int, last_active_at: int
) -> dict[str, object]:
    """Return a configured memory as a vector store."""
    return {
        "id": name,
        "object": "vector_store",
        "created_at": created_at,
        "name": name,
        "description": None,
        "usage_bytes": used_bytes,
        "file_counts": counts_object(counts),
        "status": _store_status(counts, is_expired=False),
        "expires_after": None,
        "expires_at": None,
        "last_active_at": last_active_at,
        "metadata": {},
    }


def attachment_object(one: Attachment, *, default: dict[str, object]) -> dict[str, object]:
    """Return an attached file. default: how the memory cuts what is cut in its way."""
    failure = one.failure
    return {
        "id": one.file_id,
        "object": "vector_store.file",
        "created_at": int(one.created_at),
        "usage_bytes": one.size,
        "vector_store_id": one.store,
        "status": one.status.value,
        "last_error": None if failure is None else {"code": failure.code, "message": failure.message},
        "chunking_strategy": default if one.cutting is None else static_object(one.cutting),
        "attributes": dict(one.attributes),
    }


def document_object(document: Document, *, store: str, default: dict[str, object]) -> dict[str, object]:
    """Return a document that came into a memory by another way, as an attached file."""
    return {
        "id": document.id,
        "object": "vector_store.file",
        "created_at": int(document.created_at),
        "usage_bytes": document.size,
        "vector_store_id": store,
        "status": Status.COMPLETED.value,
        "last_error": None,
        "chunking_strategy": default,
        "attributes": dict(document.attributes),
    }


def static_object(cutting: Cutting) -> dict[str, object]:
    """Return a way of cutting."""
    sizes = {"max_chunk_size_tokens": cutting.max_tokens, "chunk_overlap_tokens": cutting.overlap}
    return {"type": "static", "static": sizes}


def own_chunking(max_tokens: int | None, overlap: int, *, at_separators: bool) -> dict[str, object]:
    """Return how a memory cuts by itself."""
    if at_separators:
        return {"type": "other"}
    return static_object(Cutting(max_tokens or STRUCTURE_TOKENS, overlap))


def batch_object(batch: Batch, counts: FileCounts) -> dict[str, object]:
    """Return a batch of files."""
    if counts.in_progress:
        status = Status.IN_PROGRESS
    else:
        status = Status.CANCELLED if batch.is_cancelled else Status.COMPLETED
    return {
        "id": batch.id,
        "object": "vector_store.files_batch",
        "created_at": int(batch.created_at),
        "vector_store_id": batch.store,
        "status": status.value,
        "file_counts": counts_object(counts),
    }


def score_of(passage: Passage) -> float:
    """Return the score of a result, from 0 to 1: the reranker's, or that of the search."""
    score = passage.score if passage.rerank_score is None else passage.rerank_score
    return min(1.0, max(0.0, score))


def result_object(passage: Passage, *, file_id: str, file_name: str) -> dict[str, object]:
    """Return one result of a search."""
    return {
        "file_id": file_id,
        "filename": file_name,
        "score": score_of(passage),
        "attributes": dict(passage.attributes),
        "content": [{"type": "text", "text": passage.text}],
    }


def file_of(document_name: str, document_id: str) -> tuple[str, str]:
    """Return id and name of the file behind a document; one that is no file goes by the document's own."""
    found = FILE_NAME.fullmatch(document_name)
    return (found[1], found[2]) if found else (document_id, document_name)


def counts_object(counts: FileCounts) -> dict[str, int]:
    """Return counts of files."""
    return {**msgspec.structs.asdict(counts), "total": counts.total}


def _store_status(counts: FileCounts, *, is_expired: bool) -> str:
    if is_expired:
        return "expired"
    return "in_progress" if counts.in_progress else "completed"


def _some(values: tuple[Any, ...], param: str) -> tuple[Any, ...]:
    if not values:
        raise InvalidRequest(f"{param} is empty; name 1 to {MAX_BATCH} files", param=param)
    return values


def _check_pairs(pairs: Mapping[str, Attribute], param: str) -> None:
    if len(pairs) > MAX_PAIRS:
        raise InvalidRequest(f"{param}: at most {MAX_PAIRS} pairs", param=param)
    for key, value in pairs.items():
        if not 1 <= len(key) <= MAX_KEY_CHARS:
            raise InvalidRequest(f"{param}: a key has 1 to {MAX_KEY_CHARS} characters", param=param)
        place = f"{param}.{key}"
        if isinstance(value, str) and len(value) > MAX_VALUE_CHARS:
            raise InvalidRequest(f"{place}: a value has at most {MAX_VALUE_CHARS} characters", param=place)
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidRequest(f"{place}: a number must be finite", param=place)
