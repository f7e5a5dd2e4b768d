"""How many tokens the parts of a text have, by few and bounded calls of the model's own tokenizer.

Between the texts that are counted stands a special token: untrusted text never becomes it, so that it
tells in the flat answer where a text ends.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from arriero.core import Span

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from arriero.core import ModelInfo, Token

CALL_CHARS = 16_384
"""Text of one call; others are served between two."""
BYTES_PER_TOKEN = 3
"""Taken where the tokenizer is not to be had; fewer than most texts have."""


@runtime_checkable
class Tokenizing(Protocol):
    """A model that tells its tokens."""

    @property
    def info(self) -> ModelInfo: ...

    async def tokenize(self, prompt: Sequence[Span], *, add_bos: bool) -> list[Token]: ...


class TokenCounter:
    """Counts the tokens of texts as one model reads them, without begin and end tokens."""

    def __init__(self, model: object) -> None:
        self._model = model if isinstance(model, Tokenizing) and model.info.num_tokens else None
        self._mark: int | None = None

    async def counts(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text."""
        if self._model is None or (mark := await self._marker(self._model)) is None:
            return [-(-len(text.encode(errors="replace")) // BYTES_PER_TOKEN) for text in texts]
        counts: list[int] = []
        for call in _calls(texts):
            prompt = [span for text in call for span in (Span(text=text), Span(tokens=(mark,)))]
            ends = [
                index
                for index, token in enumerate(await self._model.tokenize(prompt, add_bos=False))
                if token.token == mark
            ]
            counts += [end - begin - 1 for begin, end in zip([-1, *ends], ends, strict=False)]
        return counts

    async def count(self, text: str) -> int:
        """Return the number of tokens of a text."""
        return sum(await self.counts(list(_cut(text))))

    async def _marker(self, model: Tokenizing) -> int | None:
        """Return a special token, None when the model has none."""
        info = model.info
        names = [info.eos, info.bos, *info.special_tokens]
        for name in names if self._mark is None else ():
            tokens = await model.tokenize([Span(text=name, special=True)], add_bos=False) if name else []
            if len(tokens) == 1:
                self._mark = tokens[0].token
                break
        return self._mark


def _calls(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield runs of texts, each of at most CALL_CHARS characters where one text is not longer."""
    begin, size = 0, 0
    for index, text in enumerate(texts):
        if size and size + len(text) > CALL_CHARS:
            yield texts[begin:index]
            begin, size = index, 0
        size += len(text)
    if begin < len(texts):
        yield texts[begin:]


def _cut(text: str) -> Iterator[str]:
    for begin in range(0, len(text), CALL_CHARS):
        yield text[begin : begin + CALL_CHARS]


class TokenMap:
    """How many tokens any part of one text has. Its atoms follow each other and have a count each."""

    def __init__(self, ends: Sequence[int], counts: Sequence[int]) -> None:
        self.ends = ends
        self._sums = [0, *accumulate(counts)]

    def count(self, start: int, end: int) -> int:
        """Return the tokens of the atoms that the range touches."""
        if start >= end:
            return 0
        return self._sums[bisect_left(self.ends, end) + 1] - self._sums[bisect_right(self.ends, start)]


async def measure(
    text: str,
    cutters: Sequence[Callable[[str, int, int], list[int]]],
    *,
    budget: int,
    counts: Callable[[Sequence[str]], Awaitable[list[int]]],
) -> TokenMap:
    """Count a text by the pieces of the first cutter, those over the budget by those of the next, and on."""
    atoms: list[Atom] = [(0, len(text), None)]
    for cutter in cutters:
        finer = await asyncio.to_thread(_finer, text, atoms, cutter, budget)
        if finer is None:
            break
        sizes = iter(await counts([text[start:end] for start, end, size in finer if size is None]))
        atoms = [(start, end, next(sizes) if size is None else size) for start, end, size in finer]
    return TokenMap([end for _, end, _ in atoms], [size or 0 for _, _, size in atoms])


Atom = tuple[int, int, int | None]
"""Start, end, and the tokens, once they are counted."""


def _finer(
    text: str, atoms: Sequence[Atom], cutter: Callable[[str, int, int], list[int]], budget: int
) -> list[Atom] | None:
    """Cut the atoms that are over the budget, or not counted; None when there are none."""
    if all(size is not None and size <= budget for _, _, size in atoms):
        return None
    finer: list[Atom] = []
    for start, end, size in atoms:
        if size is not None and size <= budget:
            finer.append((start, end, size))
            continue
        cuts = [start, *(place for place in cutter(text, start, end) if start < place < end), end]
        finer += [(*piece, None) for piece in pairwise(cuts)]
    return finer
