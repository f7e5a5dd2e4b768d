"""Texts as sparse vectors of their words."""

from __future__ import annotations

import pytest

from arriero.memory.terms import query_terms, text_terms


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The fox, the FOX.", 2),
        ("", 0),
        ("?!- \x00", 0),
        ("año 2024 naïve_x", 4),
        ("狐狸跑", 2),
        ("狐", 1),
        ("mixed狐狸text", 3),
        ("\ud800", 0),
    ],
)
def test_words_are_found_in_any_script(text: str, words: int) -> None:
    """Case and punctuation do not matter; unspaced scripts count by pairs; no text is an error."""
    terms = text_terms(text)

    assert len(terms.indices) == len(terms.values) == words
    assert sorted(query_terms(text).indices) == sorted(terms.indices)


def test_a_word_counts_less_each_time_and_in_long_texts() -> None:
    """A second occurrence adds less than the first; the same count in a longer text weighs less."""
    once, twice = text_terms("fox hen").values[0], text_terms("fox fox hen").values[0]
    in_long = text_terms("fox " + " ".join(f"w{n}" for n in range(500))).values[0]

    assert once < twice < 2 * once
    assert in_long < once


def test_a_long_question_is_cut() -> None:
    """Only so many words are asked for."""
    assert len(query_terms(" ".join(f"w{n}" for n in range(5000))).indices) == 256
