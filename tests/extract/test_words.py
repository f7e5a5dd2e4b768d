from __future__ import annotations

import pytest

from arriero.extract.words import DIVIDED, WordJoiner, joins


@pytest.mark.parametrize(
    ("lines", "text", "whole"),
    [
        ((), f"divi{DIVIDED}ded", "divided"),
        (("a well-known fact",), f"well{DIVIDED}known", "well-known"),
        (("a well-known or wellknown fact",), f"well{DIVIDED}known", "wellknown"),
        (("A Well-Known Fact",), f"well{DIVIDED}\nknown", "well-known"),
        ((), "soft\u00adly", "softly"),
        ((), "pdfium's \x02 other sign: a\x02b", "pdfium's other sign: ab"),
    ],
)
def test_divided_words_are_made_whole(lines: tuple[str, ...], text: str, whole: str) -> None:
    """A hyphen stays if the word is written with it elsewhere, and never without."""
    assert WordJoiner(lines).whole(text) == whole


@pytest.mark.parametrize(
    ("above", "below", "answer"),
    [
        ("para-", "graph", True),
        ("1-", "a", False),
        ("A-", "B", False),
        ("a -", "b", False),
        ("a", "b", False),
    ],
)
def test_which_lines_divide_a_word(above: str, below: str, answer: bool) -> None:
    """A hyphen after a letter, before a small letter."""
    assert joins(above, below) is answer
