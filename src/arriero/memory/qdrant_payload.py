"""Documents and chunks as points of a Qdrant collection, and back.

A collection holds three kinds of points. A *chunk* has a vector, its words, and Poly's payload `text`
beside its own. A *document* has no vector; it says which version of its chunks counts, so that writing this
one point replaces a document in one step. An *intent* names a document whose points are being written.
Points of Poly hold a `text` and nothing else; each is a document of its own without a record.
"""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
from qdrant_client import models

from arriero.memory.records import Chunk, Document
from arriero.memory.terms import SparseTerms

POLY_NAMESPACE = uuid.UUID("067FB304-F9B1-4E74-8ACA-28051B8492AB")

KIND = "kind"
DOCUMENT, INTENT, META = "document", "intent", "meta"
DOCUMENT_ID = "document_id"
VERSION = "version"
ATTRIBUTES = "attributes"
META_ID = str(uuid.uuid5(POLY_NAMESPACE, "arriero"))

_RECORD = "record"


def poly_id(text: str) -> str:
    """Return the id that Poly gives to the point of a text."""
    return str(uuid.uuid5(POLY_NAMESPACE, text))


def chunk_id(version: str, ordinal: int) -> str:
    """Return the id of a chunk whose text has a point already."""
    return str(uuid.uuid5(POLY_NAMESPACE, f"{version}/{ordinal}"))


def point_id(document_id: str) -> str:
    """Return the id of the point of a document; points are in the order of their documents' ids."""
    return str(uuid.UUID(hex=document_id))


def is_document_id(text: str) -> bool:
    """Say whether a text can be the id of a document: 32 hex digits in lower case."""
    return len(text) == 32 and set(text) <= set("0123456789abcdef")


def document_payload(document: Document, version: str) -> dict[str, Any]:
    """Return the payload of a document's point."""
    return {
        KIND: DOCUMENT,
        DOCUMENT_ID: document.id,
        VERSION: version,
        ATTRIBUTES: dict(document.attributes),
        _RECORD: msgspec.to_builtins(document),
    }


def read_document(payload: dict[str, Any]) -> Document:
    """Return the document of such a payload."""
    record = payload[_RECORD]
    return msgspec.structs.replace(
        msgspec.convert({**record, ATTRIBUTES: {}}, Document), attributes=record.get(ATTRIBUTES, {})
    )


def chunk_payload(document: Document, version: str, chunk: Chunk) -> dict[str, Any]:
    """Return the payload of a chunk's point."""
    return {
        **msgspec.to_builtins(chunk),
        DOCUMENT_ID: document.id,
        VERSION: version,
        ATTRIBUTES: dict(document.attributes),
    }


def read_chunk(payload: dict[str, Any]) -> Chunk:
    """Return the chunk of such a payload, or of one of Poly's."""
    return msgspec.convert({"ordinal": 0, **payload}, Chunk)


def poly_document(point: str, text: str) -> Document:
    """Return the document that a point of Poly stands for."""
    return Document(name=f"qdrant:{point}", digest="", num_chunks=1, size=len(text.encode()))


def bare_point(id: str, payload: dict[str, Any]) -> models.PointStruct:
    """Return a point without vectors, which no search finds."""
    return models.PointStruct(id=id, vector={}, payload=payload)


def sparse_vector(terms: SparseTerms) -> models.SparseVector:
    """Return words as Qdrant takes them."""
    return models.SparseVector(indices=terms.indices, values=terms.values)
