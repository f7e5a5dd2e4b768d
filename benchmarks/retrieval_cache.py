"""An embedder that remembers vectors in a file: the same texts are embedded once for many measurements."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from arriero.core import Embeddings, ModelInfo, Span, Token
from arriero.engine.local import LocalModel
from arriero.memory.embedding import identity_of


class CachedEmbedder:
    """`LocalModel` for memories, with a cache of unit vectors. Owns the cache; `save` writes it."""

    def __init__(self, model: LocalModel, path: Path | None) -> None:
        self._model = model
        self._path = path
        self._salt = identity_of(model).embedder.encode()
        self._vectors: dict[str, bytes] = {}
        if path and path.exists():
            with np.load(path) as held:
                rows = zip(held["keys"].tolist(), held["rows"], strict=True)
                self._vectors = {key: row.tobytes() for key, row in rows}

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def info(self) -> ModelInfo:
        return self._model.info

    async def tokenize(self, prompt: Sequence[Span], *, add_bos: bool) -> list[Token]:
        """Return the tokens of a prompt."""
        return await self._model.tokenize(prompt, add_bos=add_bos)

    async def embed(
        self, inputs: Sequence[str | Sequence[int]], *, normalize: bool | None = None
    ) -> Embeddings:
        """Embed what is not known yet."""
        keys = [hashlib.sha256(self._salt + repr(text).encode()).hexdigest() for text in inputs]
        new = {key: text for key, text in zip(keys, inputs, strict=True) if key not in self._vectors}
        if new:
            answer = await self._model.embed(list(new.values()), normalize=True)
            self._vectors.update(zip(new, answer.vectors, strict=True))
        return Embeddings(tuple(self._vectors[key] for key in keys), 0)

    def save(self) -> None:
        """Write the cache."""
        if self._path:
            rows = np.stack([np.frombuffer(row, "<f4") for row in self._vectors.values()])
            np.savez(self._path, keys=np.array(list(self._vectors)), rows=rows)
