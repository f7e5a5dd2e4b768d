"""Which terms of a query are looked up."""

from __future__ import annotations

import pytest

from arriero.memory.text_search import MAX_TERMS, ROW_BUDGET, match_expression
from arriero.memory.words import grams, terms


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, None),
        ({"a": 0}, None),
        ({"a": 5, "b": 0, "c": 1}, "c OR a"),
        ({"a": 3 * ROW_BUDGET}, "a"),
        ({"a": 10, "b": ROW_BUDGET, "c": ROW_BUDGET + 1}, "a OR b"),
        ({"a": 10, "b": 3 * ROW_BUDGET}, "a"),
        ({"a": 10, "b": ROW_BUDGET - 11, "c": 2000}, "a OR c"),
        ({str(n): 1 for n in range(99)}, " OR ".join(map(str, range(MAX_TERMS)))),
    ],
)
def test_the_rarest_terms_are_looked_up(counts: dict[str, int], expected: str | None) -> None:
    """As many as the budget of chunks allows, at most a bound; none that no chunk holds."""
    assert match_expression(counts) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("The llama's  WOOL", ['"llama"', '"s"', '"wool"']),
        ("to be or not to be", ['"not"']),
        ("the of", ['"the"', '"of"']),
        ("a_b-c a", ['"b"', '"c"']),
        ("猫", ['"猫" *']),
        ("東京都 wool", ['"wool"', '"東京"', '"京都"']),
        ("\0\"'*", []),
    ],
)
def test_any_text_has_terms(query: str, expected: list[str]) -> None:
    """Words apart, scripts without blanks in pairs, stop words only if there is nothing else."""
    assert terms(query) == expected


def test_each_character_of_an_unspaced_script_begins_a_gram() -> None:
    """So one or two characters are found by one look-up."""
    assert grams("ab 東京都 c 猫") == "東京 京都 都 猫"
    assert grams("only latin") == ""
