"""How much a document may be and cost. Each limit is named in the error of the document that hits it."""

from __future__ import annotations

import msgspec

from arriero.errors import UnreadableDocument

MIB = 1024 * 1024


class Limits(msgspec.Struct, frozen=True):
    """The bounds of one document.

    archive_members: files inside a DOCX. decompressed_bytes: all that is unpacked of one. depth: of
    nested elements. wall_s: from the start of the child to its whole answer; cpu_s and memory_bytes
    (address space) are the child's. A PDF that makes one reader fail may use the times twice.
    """

    input_bytes: int = 50 * MIB
    pages: int = 5_000
    text_chars: int = 20_000_000
    blocks: int = 250_000
    archive_members: int = 5_000
    decompressed_bytes: int = 256 * MIB
    depth: int = 256
    wall_s: float = 60.0
    cpu_s: int = 20
    memory_bytes: int = 2048 * MIB


def limit_hit(limit: str, message: str) -> UnreadableDocument:
    """Return the error of a document that is over a limit."""
    return UnreadableDocument("limit", f"{message} (limit {limit})", limit=limit)


def damaged(message: str) -> UnreadableDocument:
    """Return the error of a document that breaks the rules of its own format."""
    return UnreadableDocument("damaged", message)
