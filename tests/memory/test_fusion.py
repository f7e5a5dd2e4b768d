"""One ranking out of two."""

from __future__ import annotations

import pytest

from arriero.memory.fusion import by_text, by_vector, fused
from arriero.memory.records import Chunk, Document, Hit


def hits(*names: str) -> list[Hit]:
    """Return hits, best first: their documents are the letters, the scores fall from 0.9."""
    return [
        Hit(Document(name=name, digest=""), Chunk(ordinal=0, text=name), 0.9 - index / 10)
        for index, name in enumerate(names)
    ]


@pytest.mark.parametrize(
    ("vector", "text", "weights", "order"),
    [
        ("abc", "abc", (1, 1), "abc"),
        ("abc", "", (1, 1), "abc"),
        ("", "abc", (1, 1), "abc"),
        ("", "", (1, 1), ""),
        # What both lists have gets something from each; the last by meaning gets nothing for it.
        ("abz", "cb", (1, 1), "bcaz"),
        ("ab", "cb", (1, 1), "cab"),
        # Weights decide between what only one has; zero takes a list out.
        ("a", "b", (1, 0.5), "ab"),
        ("a", "b", (0.5, 1), "ba"),
        ("abc", "cba", (0, 1), "cba"),
        ("abc", "cba", (1, 0), "abc"),
        ("abc", "cba", (0, 0), "cba"),
    ],
)
def test_ranks_are_fused_by_weight(vector: str, text: str, weights: tuple[float, float], order: str) -> None:
    """A weighted sum of scores; equal ones in the order of the heavier list."""
    ranked = fused(hits(*vector), hits(*text), vector_weight=weights[0], text_weight=weights[1])

    assert "".join(one.hit.document.name for one in ranked) == order


def test_the_first_of_both_lists_scores_one() -> None:
    """Scores are between 0 and 1, and tell the ranks and the cosine."""
    first, second, third = fused(hits("a", "b", "c"), hits("a"), vector_weight=0.6, text_weight=0.4)

    assert (first.score, first.vector_rank, first.text_rank, first.similarity) == (1.0, 1, 1, 0.9)
    assert (second.vector_rank, second.text_rank, second.similarity) == (2, None, 0.8)
    assert (round(second.score, 6), third.score) == (0.3, 0.0)


def test_cosines_are_stretched_and_word_scores_are_shares() -> None:
    """Where cosines begin does not matter; a word score half as high counts half."""
    document = Document(name="x", digest="")
    chunks = [Chunk(ordinal=n, text=str(n)) for n in range(3)]
    by_meaning = [Hit(document, chunk, 0.5 - n / 100) for n, chunk in enumerate(chunks)]
    by_words = [Hit(document, chunks[2], 8.0), Hit(document, chunks[1], 4.0)]

    ranked = fused(by_meaning, by_words, vector_weight=0.6, text_weight=0.4)

    assert [(one.hit.chunk.ordinal, round(one.score, 6)) for one in ranked] == [(0, 0.6), (1, 0.5), (2, 0.4)]


def test_one_candidate_is_best() -> None:
    """A list whose scores are all alike gives its whole weight."""
    (only,) = fused(hits("a"), [], vector_weight=0.6, text_weight=0.4)

    assert only.score == 0.6


def test_one_list_alone_keeps_its_scale() -> None:
    """Cosines as they are, but not below 0; scores of words as shares of the best."""
    low = Hit(Document(name="x", digest=""), Chunk(ordinal=0, text="x"), -0.5)

    assert [one.score for one in by_vector([*hits("a"), low])] == [0.9, 0.0]
    assert [round(one.score, 3) for one in by_text(hits("a", "b"))] == [1.0, 0.889]
    assert by_text([]) == []
