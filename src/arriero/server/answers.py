"""What Poly's routes and our own answer, as types for the OpenAPI document, whose test holds answers to them.

Routes write their answers as plain dictionaries; nothing is converted by way of these types.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from arriero.access.key_store import StoredKey
from arriero.core import Citation, Token
from arriero.memory.job import Job
from arriero.memory.passage import Passage
from arriero.memory.records import Attribute, Chunk, Counts


class Nothing(TypedDict):
    """It is done."""


class Liveness(TypedDict):
    """It is there."""

    status: str


class Readiness(TypedDict):
    """Whether every model can serve."""

    status: str
    unavailable_models: NotRequired[int]


class ServerStatus(TypedDict):
    """How things stand with all that the key may use."""

    status: str
    version: str
    uptime_s: float
    models: dict[str, dict[str, Any]]
    tasks: list[str]
    memories: dict[str, dict[str, Any]]


class ServerStats(TypedDict):
    """What each task has done, the counters of each engine, and how each local model is."""

    tasks: dict[str, dict[str, Any]]
    engine: dict[str, Any]
    models: dict[str, dict[str, Any]]


class Version(TypedDict):
    """The version of the server."""

    version: str


class ModelNames(TypedDict):
    """Names of models."""

    models: list[str]


class TaskNames(TypedDict):
    """Names of tasks."""

    tasks: list[str]


class MemoryNames(TypedDict):
    """Names of memories."""

    memories: list[str]


class Vector(TypedDict):
    """The vector of a prompt."""

    embedding: list[float]


class Tokenization(TypedDict):
    """The tokens of a prompt, the begin token first."""

    tokens: list[Token]


class TokenizedText(TypedDict):
    """The tokens of a text."""

    model: str
    count: int
    tokens: list[Token]


class TokenText(TypedDict):
    """The text of tokens."""

    model: str
    text: str


class TaskCompletion(TypedDict):
    """The whole completion of a task."""

    text: str
    citations: NotRequired[list[Citation]]


class ChunkTexts(TypedDict):
    """The texts of the best chunks."""

    chunks: list[str]


class Chunks(TypedDict):
    """Chunks of a document."""

    chunks: list[Chunk]


class Passages(TypedDict):
    """Recalled passages with their sources."""

    passages: list[Passage]


class MemoryDocument(TypedDict):
    """A document of a memory. digest: SHA-256 of its bytes. created_at: seconds since the epoch."""

    id: str
    name: str
    digest: str
    recipe: str
    title: str
    media_type: str
    size: int
    created_at: float
    num_chunks: int
    num_tokens: int
    attributes: dict[str, Attribute]


class MemoryDocuments(TypedDict):
    """A part of a memory's documents. after: what the next part begins behind; null = this is the last."""

    documents: list[MemoryDocument]
    after: str | None
    counts: Counts


class Jobs(TypedDict):
    """Jobs, the newest first."""

    jobs: list[Job]


class Stored(TypedDict):
    """It is stored; of several files there are the jobs, of which some may have failed."""

    jobs: NotRequired[list[Job]]


class TakenOn(TypedDict):
    """It is on the disk: the id of its job, or the jobs of several files."""

    job: NotRequired[str]
    jobs: NotRequired[list[Job]]


class Keys(TypedDict):
    """Keys without their secrets."""

    keys: list[StoredKey]


class Key(TypedDict):
    """A key without its secret."""

    key: StoredKey


class KeyAndSecret(TypedDict):
    """A key, and its secret for the only time."""

    key: StoredKey
    secret: str


class Ticket(TypedDict):
    """What opens one request as `?ticket=`, for so many seconds."""

    ticket: str
    expires_in: float
