"""What a library holds: uploaded files, memories made at run time, and which files went into which memory.

"Vector store" is OpenAI's word for a memory; here it is one that was made at run time.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Literal

import msgspec

from arriero.errors import UnknownName
from arriero.memory.job import Cutting
from arriero.memory.records import Attribute, document_id

DAY_S = 86400


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it was uploaded. Seconds count from the epoch; expires_at None = never."""

    id: str
    tenant: str
    name: str
    purpose: str
    size: int
    created_at: float
    media_type: str | None = None
    expires_at: float | None = None


class VectorStore(msgspec.Struct, frozen=True, kw_only=True):
    """A memory made at run time.

    embedding_model: by its name in the configuration. days: without use, after which its content is
    forgotten; None = never. is_emptied: that has happened.
    """

    id: str
    tenant: str
    embedding_model: str
    created_at: float
    last_active_at: float
    name: str = ""
    description: str | None = None
    metadata: Mapping[str, str] = {}
    days: int | None = None
    is_emptied: bool = False

    @property
    def expires_at(self) -> float | None:
        """When the content is forgotten, unless it is used before."""
        return None if self.days is None else self.last_active_at + self.days * DAY_S

    def is_expired(self, now: float) -> bool:
        """Whether the content is forgotten."""
        return self.is_emptied or (self.expires_at is not None and now >= self.expires_at)


class Status(str, Enum):
    """How far a file is on its way into a memory. All but the first are ends."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Failure(msgspec.Struct, frozen=True):
    """Why a file is not in the memory."""

    code: Literal["server_error", "unsupported_file", "invalid_file"]
    message: str


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """A file and a memory that it goes into.

    store: the id of a vector store, or the name of a configured memory. size: bytes that were ingested.
    """

    store: str
    file_id: str
    file_name: str
    created_at: float
    attributes: Mapping[str, Attribute] = {}
    cutting: Cutting | None = None
    media_type: str | None = None
    status: Status = Status.IN_PROGRESS
    failure: Failure | None = None
    size: int = 0

    @property
    def document_name(self) -> str:
        """The document's name: it tells the file's id and, by its ending, the format."""
        return f"{self.file_id}/{self.file_name}"

    @property
    def document_id(self) -> str:
        """The document's id in the memory."""
        return document_id(self.document_name)


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Files that were attached together."""

    id: str
    store: str
    created_at: float
    is_cancelled: bool = False


class FileCounts(msgspec.Struct, frozen=True):
    """How many files are how far."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.in_progress + self.completed + self.failed + self.cancelled


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of a list is asked for: beside the items of these ids."""

    limit: int
    after: str | None = None
    before: str | None = None
    is_descending: bool = True


_PARAMS = {"vector store": "vector_store_id", "file batch": "batch_id"}


def unknown(kind: str, id: str) -> UnknownName:
    """Return the error of an id that nothing has, or nothing that the caller may see."""
    return UnknownName(kind, id[:80], param=_PARAMS.get(kind, "file_id"))
