"""What a memory asks of the place where its chunks are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from arriero.memory.filters import Filter
    from arriero.memory.records import Chunk, Counts, Document, Hit, Identity


class Store(Protocol):
    """Documents, their chunks and vectors. What has returned survives a crash.

    Vectors are float32 of length 1. Every method raises Unavailable while the store cannot be reached or
    cannot write (a full disk, a lost server); what was stored stays.
    """

    @property
    def identity(self) -> Identity:
        """Whose vectors are held."""
        ...

    async def replace(
        self, document: Document, chunks: Sequence[Chunk], vectors: NDArray[np.float32]
    ) -> None:
        """Store a document in place of the one of its name, if any: all of it or nothing.

        vectors: one row for each chunk. Raises ValueError when they are not of `identity.dimensions`, or
        not finite.
        """
        ...

    async def delete(self, document_id: str) -> bool:
        """Delete a document; say whether there was one."""
        ...

    async def clear(self) -> int:
        """Delete everything; return the number of documents."""
        ...

    async def document(self, document_id: str) -> Document | None:
        """Return a document, if there is one of this id."""
        ...

    async def documents(
        self, *, after: str | None = None, limit: int = 100, where: Filter | None = None
    ) -> list[Document]:
        """Return documents in the order of their ids, beginning behind the id `after`."""
        ...

    async def chunks(self, document_id: str, *, first: int = 0, last: int | None = None) -> list[Chunk]:
        """Return the chunks of a document from ordinal `first` up to and with `last`, in order."""
        ...

    async def nearest(
        self, vector: NDArray[np.float32], *, limit: int, where: Filter | None = None
    ) -> list[Hit]:
        """Return the chunks whose vectors are most alike, best first; scores are cosines."""
        ...

    async def matching(self, query: str, *, limit: int, where: Filter | None = None) -> list[Hit]:
        """Return the chunks whose words match best, best first; scores are comparable within one answer.

        Any text is a query: no character of it is syntax.
        """
        ...

    async def counts(self) -> Counts:
        """Return how much is held."""
        ...

    async def close(self) -> None:
        """Let go of files and connections."""
        ...
