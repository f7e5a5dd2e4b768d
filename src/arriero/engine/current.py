"""The model of a name as it is now: what outlives configurations holds this one, and not a process."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arriero.core import Embeddings, ModelInfo, Span, Token
    from arriero.engine.local import LocalModel


class Current:
    """A local model as those see it who make vectors. `model` may be replaced by one of equal vectors."""

    def __init__(self, model: LocalModel) -> None:
        self.model = model

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def info(self) -> ModelInfo:
        return self.model.info

    async def tokenize(self, prompt: Sequence[Span], *, add_bos: bool) -> list[Token]:
        return await self.model.tokenize(prompt, add_bos=add_bos)

    async def embed(
        self, inputs: Sequence[str | Sequence[int]], *, normalize: bool | None = None
    ) -> Embeddings:
        return await self.model.embed(inputs, normalize=normalize)
