"""Batches of an embedding model."""

from __future__ import annotations

from pathlib import Path

from tests.engine.engines import opened


async def test_any_batch_size_is_taken(minilm: Path) -> None:
    """A batch size that the library cannot divide among its inputs does not end the engine."""
    inputs = [[101, 2000 + n, 102] for n in range(3)]
    async with opened(minilm, context_size=256, batch_size=257) as model:
        vectors = (await model.embed(inputs)).vectors

    assert len(set(vectors)) == len(inputs)


async def test_no_inputs_have_no_vectors(minilm: Path) -> None:
    """A request without inputs is answered, also between others."""
    async with opened(minilm, context_size=256) as model:
        nothing = await model.embed([])
        something = await model.embed(["hello"])

    assert nothing.vectors == ()
    assert len(something.vectors) == 1
