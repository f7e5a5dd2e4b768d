"""Poly's filters."""

from __future__ import annotations

import re

import pytest

from arriero.memory.cleaning import cleaned, without


@pytest.mark.parametrize(
    ("text", "patterns", "kept"),
    [
        ("a\tb", [], "a\tb"),
        ("a  b", [], "a  b"),
        ("a\tb", [r"\t"], "a b"),
        ("a \t b", [r"\t"], "a b"),
        ("abc", ["b*"], "a c"),
        ("", ["x"], ""),
        ("xx", ["x"], " "),
        ("a--b", ["-", " "], "a b"),
    ],
)
def test_each_match_becomes_a_blank(text: str, patterns: list[str], kept: str) -> None:
    """In order; blanks are not doubled, and an empty match changes nothing."""
    assert cleaned(text, [re.compile(pattern) for pattern in patterns])[0] == kept


def test_letters_know_where_they_were() -> None:
    """Through several filters."""
    text = "One ...  two\t\tthree"

    kept, origins = cleaned(text, [re.compile(r"\."), re.compile(r"\t")])

    assert kept == "One two three"
    assert all(kept[i] == text[origins[i]] for i in range(len(kept)) if kept[i] != " ")


@pytest.mark.parametrize(
    ("text", "filters", "kept"),
    [("a\nb", ["\n"], "a b"), ("a \n b", ["\n"], "a b"), ("a*b", ["*"], "ab"), ("a  b", [], "a  b")],
)
def test_taken_out_white_space_keeps_words_apart(text: str, filters: list[str], kept: str) -> None:
    """Other texts leave nothing behind."""
    assert without(text, filters) == kept
