"""Texts to checked vectors, in bounded batches, so that others are served by the same model in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arriero.errors import ContextOverflow, ServiceError
from arriero.memory.records import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from arriero.core import Embedder

    Floats = NDArray[np.float32]

BATCH_CHARS = 16_384
BATCH_INPUTS = 32


def identity_of(embedder: Embedder) -> Identity:
    """Return whose vectors an embedder makes: a word for the model that another file changes."""
    info = embedder.info
    words = (info.architecture, info.description, info.num_parameters, info.size_bytes, info.pooling)
    return Identity("/".join(map(str, words)), info.embedding_size)


async def embedded(
    embedder: Embedder, texts: Sequence[str], report: Callable[[int], None] = lambda done: None
) -> Floats:
    """Return a vector of length 1 for each text; `report` is told how many are done.

    Raises ServiceError when the model gives what is no vector of its size, Unavailable, EngineError.
    """
    rows: list[Floats] = []
    done = 0
    for batch in _batches(texts):
        rows.append(_checked(await _vectors(embedder, batch), embedder, batch))
        done += len(batch)
        report(done)
    return np.concatenate(rows) if rows else np.empty((0, embedder.info.embedding_size), np.float32)


async def _vectors(embedder: Embedder, batch: Sequence[str]) -> tuple[bytes, ...]:
    try:
        return (await embedder.embed(batch, normalize=True)).vectors
    except ContextOverflow:
        if len(batch) > 1:
            return tuple([vector for text in batch for vector in await _vectors(embedder, [text])])
        # Counts of parts need not add up to that of the whole; the beginning stands for such a text.
        shorter = batch[0][: len(batch[0]) // 2]
        if not shorter:
            raise
        return await _vectors(embedder, [shorter])


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    begin, size = 0, 0
    for index, text in enumerate(texts):
        if index > begin and (size + len(text) > BATCH_CHARS or index - begin == BATCH_INPUTS):
            yield texts[begin:index]
            begin, size = index, 0
        size += len(text)
    if begin < len(texts):
        yield texts[begin:]


def _checked(vectors: Sequence[bytes], embedder: Embedder, batch: Sequence[str]) -> Floats:
    size = embedder.info.embedding_size
    sizes = {len(vector) for vector in vectors}
    if len(vectors) != len(batch) or sizes != {4 * size}:
        raise ServiceError(
            f"the embedding model {embedder.name} gave {len(vectors)} vectors for {len(batch)} texts, or not"
            f" of {size} numbers"
        )
    rows = np.frombuffer(b"".join(vectors), "<f4").reshape(len(batch), size).astype(np.float32)
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if bad.size:
        raise ServiceError(
            f'the embedding model {embedder.name} has no vector for the text "{batch[bad[0]][:60]}"'
        )
    unit: Floats = (rows / lengths).astype(np.float32)
    return unit
