"""Counting tokens by a model's own tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from arriero.core import Span, Token
from arriero.memory.tokens import CALL_CHARS, TokenCounter, TokenMap
from arriero.testing.echo import EchoModel
from arriero.testing.word_embedder import WordEmbedder


@pytest.mark.parametrize("texts", [[], [""], ["a b", "", "c."], ["<eos>", "x"]])
async def test_each_text_has_its_count(texts: list[str]) -> None:
    """Empty ones too, and names of special tokens in a text are no marks."""
    assert await TokenCounter(EchoModel()).counts(texts) == [len(text) for text in texts]


async def test_calls_are_bounded() -> None:
    """Many texts take several calls; others are served between them."""
    calls: list[int] = []

    class Counting(WordEmbedder):
        async def tokenize(self, prompt: Sequence[Span], *, add_bos: bool) -> list[Token]:
            calls.append(sum(len(span.text) for span in prompt))
            return await super().tokenize(prompt, add_bos=add_bos)

    counts = await TokenCounter(Counting()).counts(["word word "] * 5000)

    assert counts == [2] * 5000
    assert max(calls) <= CALL_CHARS
    assert sum(calls) == 50000 + len("<eos>")


async def test_a_model_without_a_tokenizer_is_estimated() -> None:
    """A third of the bytes, rounded up."""
    assert await TokenCounter(object()).counts(["", "a", "abc", "abcd", "éé"]) == [0, 1, 1, 2, 2]


def test_a_part_counts_the_atoms_that_it_touches() -> None:
    """Cut anywhere, a part is never counted too low."""
    tokens = TokenMap([3, 5, 9], [2, 1, 4])

    assert [tokens.count(*part) for part in ((0, 9), (0, 3), (0, 4), (3, 5), (4, 6), (8, 9), (5, 5))] == [
        7, 2, 3, 1, 5, 4, 0,
    ]  # fmt: skip
