"""Texts as an embedding model reads them: documents in chunks with their headings, queries in parts."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from arriero.extract.document import Document as Extracted
from arriero.memory.chunk import Recipe, chunked
from arriero.memory.tokens import TokenCounter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arriero.config.memory import MemoryConfig
    from arriero.core import Embedder
    from arriero.memory.job import Cutting
    from arriero.memory.records import Chunk

VERSION = 2
"""To be raised when the same recipe comes to read or cut otherwise: no document is unchanged then."""
SPECIAL_TOKENS = 2
"""Begin and end, which the model puts around a text."""
QUERY_PARTS = 8
"""A longer query is cut off behind these."""
LONGEST_WORD = 16
"""Characters; of a query at most this many for each token are looked at."""


class Splitter:
    """Cuts what one memory gets, for its embedding model."""

    def __init__(self, config: MemoryConfig, embedder: Embedder) -> None:
        self._config = config
        self._embedder = embedder
        self._counter = TokenCounter(embedder)
        self._sizes: dict[str, int] = {}

    def cutting(self, cutting: Cutting | None) -> Splitter:
        """Return the splitter of a document that is cut in its own way; None = in the memory's."""
        if cutting is None:
            return self
        config = msgspec.structs.replace(
            self._config, chunk_max_tokens=cutting.max_tokens, chunk_overlap=cutting.overlap
        )
        return Splitter(config, self._embedder)

    async def word(self) -> str:
        """Return the word by which a document knows how it was cut."""
        said = msgspec.json.encode([VERSION, await self._recipe(), self._config.chunk_prefix])
        return hashlib.sha256(said).hexdigest()[:16]

    async def split(self, document: Extracted) -> tuple[list[Chunk], list[str]]:
        """Return the chunks of a document, and what is embedded for each: prefix, headings, text."""
        chunks = await chunked(document, await self._recipe(), self._counter.counts)
        return chunks, await self._embedded_texts(chunks)

    async def embedded_again(self, chunks: Sequence[Chunk]) -> list[str]:
        """Return what is embedded for stored chunks, whose tokens another model may have counted."""
        counts = await self._counter.counts([chunk.text for chunk in chunks])
        return await self._embedded_texts(
            [
                msgspec.structs.replace(chunk, num_tokens=count)
                for chunk, count in zip(chunks, counts, strict=True)
            ]
        )

    async def parts(self, query: str) -> list[str]:
        """Return what is embedded for a query: one text, or several for a query that is too long."""
        prefix = self._config.query_prefix
        most = await self._room(prefix)
        if len(query) <= most:
            return [prefix + query]
        text = query[: QUERY_PARTS * LONGEST_WORD * most]
        whole = Extracted(text=text, title=None, media_type="text/plain", blocks=())
        chunks = await chunked(whole, Recipe(most), self._counter.counts)
        return [prefix + chunk.text for chunk in chunks[:QUERY_PARTS]]

    async def _recipe(self) -> Recipe:
        return Recipe.from_config(self._config, most=await self._room(self._config.chunk_prefix))

    async def _room(self, prefix: str) -> int:
        """Return how many tokens a text behind the prefix may have."""
        if prefix not in self._sizes:
            self._sizes[prefix] = await self._counter.count(prefix)
        return max(1, self._embedder.info.context_size - SPECIAL_TOKENS - self._sizes[prefix])

    async def _embedded_texts(self, chunks: Sequence[Chunk]) -> list[str]:
        prefix = self._config.chunk_prefix
        most = await self._room(prefix)
        paths = {headings(chunk) for chunk in chunks}
        inner = sorted({path[first:] for path in paths for first in range(len(path))})
        sizes = dict(zip(inner, await self._counter.counts([_line(path) for path in inner]), strict=True))

        def headed(chunk: Chunk) -> str:
            path = headings(chunk)
            while path and sizes[path] + chunk.num_tokens > most:
                path = path[1:]
            return prefix + (_line(path) if path else "") + chunk.text

        return [headed(chunk) for chunk in chunks]


def headings(chunk: Chunk) -> tuple[str, ...]:
    """Return the headings above a chunk, without those that it begins with itself."""
    path = chunk.section
    while path and chunk.text.startswith(path[-1]):
        path = path[:-1]
    return path


def with_headings(chunk: Chunk) -> str:
    """Return the text of a chunk behind the headings above it."""
    path = headings(chunk)
    return (_line(path) if path else "") + chunk.text


def _line(path: Sequence[str]) -> str:
    return " > ".join(" ".join(heading.split()) for heading in path) + "\n"
