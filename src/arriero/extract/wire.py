"""What is said to the child that reads one document, and what it answers.

To the child: a length in four bytes (little-endian), a Job in MessagePack, the bytes of the document.
Back: one Answer in MessagePack. No pickle: a child that was taken over can say nothing else.
"""

from __future__ import annotations

import struct

import msgspec

from arriero.extract.detect import Format
from arriero.extract.document import Document
from arriero.extract.limits import Limits

LENGTH = struct.Struct("<I")
_BLOCK_BYTES = 48


class Job(msgspec.Struct, frozen=True):
    """What the child is to do. `by_pypdf`: read a PDF with the second reader."""

    format: Format
    charset: str | None
    size: int
    limits: Limits
    by_pypdf: bool = False


class _Answer(msgspec.Struct, frozen=True, tag=True):
    pass


class Read(_Answer, frozen=True):
    """The document was read. unconfined: the means of the sandbox that this system lacks."""

    document: Document
    unconfined: tuple[str, ...] = ()


class Refused(_Answer, frozen=True):
    """It was not; see UnreadableDocument."""

    reason: str
    message: str
    limit: str | None = None


Answer = Read | Refused


def max_answer_bytes(limits: Limits) -> int:
    """Return how long an answer within the limits can be."""
    return 4 * limits.text_chars + _BLOCK_BYTES * limits.blocks + 1024 * 1024


def head(job: Job) -> bytes:
    """Return what stands before the bytes of the document."""
    body = msgspec.msgpack.encode(job)
    return LENGTH.pack(len(body)) + body
