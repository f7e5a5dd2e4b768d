"""What a memory holds: documents, their chunks, and how well a chunk answers a question."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

Attribute = str | int | float | bool
"""A value by which documents are filtered; 2024 and 2024.0 are equal."""

_MAX_INTEGER = 1 << 53


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """What was ingested under one name.

    digest: SHA-256 of the bytes that came, in hex.
    recipe: how the text became chunks and vectors (splitter, model); with an equal digest and recipe there
        is nothing to do.
    size: bytes that came.
    created_at: seconds since the epoch.
    """

    name: str
    digest: str
    recipe: str = ""
    title: str = ""
    media_type: str = "text/plain"
    size: int = 0
    created_at: float = 0.0
    num_chunks: int = 0
    num_tokens: int = 0
    attributes: Mapping[str, Attribute] = {}

    @property
    def id(self) -> str:
        """The document's id, which all versions of one name share."""
        return document_id(self.name)


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """A stored piece of a document.

    ordinal: its place among the chunks of its document, from 0.
    start, end: characters of the document's text.
    page: from 1; None where there are no pages.
    section: the headings above it, outermost first.
    """

    ordinal: int
    text: str
    start: int = 0
    end: int = 0
    num_tokens: int = 0
    page: int | None = None
    section: tuple[str, ...] = ()


class Hit(msgspec.Struct, frozen=True):
    """A chunk that was found. Higher scores are better; their scale is that of the search."""

    document: Document
    chunk: Chunk
    score: float


class Identity(msgspec.Struct, frozen=True):
    """Whose vectors a store holds. Vectors of two identities cannot be compared."""

    embedder: str
    dimensions: int


class Counts(msgspec.Struct, frozen=True):
    """How much a store holds."""

    documents: int
    chunks: int
    bytes: int


def comparable(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    """Return attributes whose integers are floats where they are too large to be compared as such exactly.

    Raises OverflowError when a float cannot be so large.
    """
    return {
        key: float(value) if type(value) is int and abs(value) > _MAX_INTEGER else value
        for key, value in attributes.items()
    }


def document_id(name: str) -> str:
    """Return the id of the documents of this name: 32 hex digits."""
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:32]
