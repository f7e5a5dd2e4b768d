"""The ingestion of one document as others see it: what came, how far it is, what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from enum import Enum

import msgspec

from arriero.memory.records import Attribute


class Cutting(msgspec.Struct, frozen=True):
    """How one document is cut, where that is not the memory's way: tokens of a chunk, and of an overlap."""

    max_tokens: int
    overlap: int


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A document as it comes.

    media_type: None = as the bytes and the name say. title: "" = the document's own. cutting: None = the
    memory's.
    """

    name: str
    data: bytes
    media_type: str | None = None
    title: str = ""
    attributes: Mapping[str, Attribute] = {}
    cutting: Cutting | None = None


class State(str, Enum):
    """How far a job is. The last three are ends."""

    QUEUED = "queued"
    EXTRACTING = "extracting"
    EMBEDDING = "embedding"
    STORING = "storing"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_end(self) -> bool:
        """Whether nothing more will happen."""
        return self in (State.DONE, State.FAILED, State.CANCELLED)


class Outcome(str, Enum):
    """What became of a document that is in the memory now."""

    STORED = "stored"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One ingestion, as it is at a moment.

    error: of a failed job; of a queued one, why its last attempt failed. Seconds count from the epoch.
    """

    id: str
    document_id: str
    name: str
    size: int
    created_at: float
    state: State = State.QUEUED
    chunks_done: int = 0
    chunks_total: int = 0
    attempts: int = 0
    outcome: Outcome | None = None
    error: str | None = None
    code: str | None = None
    finished_at: float | None = None


class Tally:
    """What has become of all jobs of a memory since the start."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.chunks = 0
        self.seconds = 0.0

    def add(self, job: Job) -> None:
        """Count a job that has ended."""
        self.outcomes[(job.outcome or job.state).value] += 1
        self.chunks += job.chunks_total if job.state is State.DONE else 0
        self.seconds += max(0.0, (job.finished_at or job.created_at) - job.created_at)


Report = Callable[[State, int, int], None]
"""Told the state, and how many of how many chunks are embedded; 0 of 0 while that is not known."""
