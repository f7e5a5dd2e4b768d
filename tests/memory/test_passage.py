"""Ranked chunks to passages."""

from __future__ import annotations

import pytest

from arriero.memory.fusion import Ranked
from arriero.memory.passage import chosen, passages
from arriero.memory.records import Chunk, Document, Hit


def ranked(name: str, ordinal: int, text: str, start: int, score: float) -> Ranked:
    """Return a ranked chunk."""
    chunk = Chunk(ordinal=ordinal, text=text, start=start, end=start + len(text), page=ordinal + 1)
    return Ranked(Hit(Document(name=name, digest=""), chunk, score), score)


def test_the_best_of_each_text_are_chosen() -> None:
    """Up to the limit and down to the score; white space makes no other text."""
    found = [
        ranked("a", 0, "same text", 0, 0.9),
        ranked("b", 0, "same\ntext", 0, 0.8),
        ranked("c", 0, "other", 0, 0.7),
        ranked("d", 0, "low", 0, 0.2),
    ]

    assert [one.hit.document.name for one in chosen(found, limit=5, min_score=0.5)] == ["a", "c"]
    assert [one.hit.document.name for one in chosen(found, limit=1, min_score=0.0)] == ["a"]


@pytest.mark.parametrize(
    ("first", "second", "start", "text"),
    [
        ("One.", "Two.", 4, "One.Two."),
        ("One.", "Two.", 5, "One.\nTwo."),
        ("One.", "Two.", 9, "One.\n\nTwo."),
        ("One two.", "two. Three.", 4, "One two. Three."),
        ("One two.", "2. Three.", 4, "One two.\n2. Three."),
    ],
)
def test_neighbours_become_one_passage(first: str, second: str, start: int, text: str) -> None:
    """With the white space that was between them, and what overlaps only once."""
    found = [ranked("a", 1, second, start, 0.9), ranked("b", 0, "x", 0, 0.8), ranked("a", 0, first, 0, 0.1)]

    joined, other = passages(found, merge_neighbours=True)

    assert (joined.text, joined.score, joined.page, joined.first, joined.last) == (text, 0.9, 1, 0, 1)
    assert (joined.start, joined.end) == (0, start + len(second))
    assert other.name == "b"


def test_chunks_apart_stay_apart() -> None:
    """Chunks of one document with others between them; and neighbours, where merging is not asked for."""
    found = [ranked("a", 0, "x", 0, 0.9), ranked("a", 2, "z", 4, 0.8)]

    assert [one.text for one in passages(found, merge_neighbours=True)] == ["x", "z"]
    found[1] = ranked("a", 1, "y", 2, 0.8)
    assert [one.text for one in passages(found, merge_neighbours=False)] == ["x", "y"]
