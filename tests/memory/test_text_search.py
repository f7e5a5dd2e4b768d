"""Which terms of a query are looked up."""

from __future__ import annotations

import pytest
from tests.memory.store_contract import IDENTITY, document, pieces, units

from arriero.memory.embedded import EmbeddedStore
from arriero.memory.text_search import COMMON, MAX_TERMS, ROW_BUDGET, match_expressions
from arriero.memory.words import grams, terms


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, []),
        ({"a": 0}, []),
        ({"a": 5, "b": 0, "c": 1}, ["c OR a"]),
        ({"a": COMMON}, ["a"]),
        ({"a": COMMON, "b": COMMON, "c": COMMON}, ["a AND b", "a"]),
        ({"a": 10, "b": ROW_BUDGET, "c": ROW_BUDGET + 1}, ["a OR b"]),
        ({"a": 10, "b": COMMON}, ["a"]),
        ({"a": 10, "b": ROW_BUDGET - 11, "c": 1000}, ["a OR c"]),
        ({str(n): 1 for n in range(99)}, [" OR ".join(map(str, range(MAX_TERMS)))]),
    ],
)
def test_the_rarest_terms_are_looked_up(counts: dict[str, int], expected: list[str]) -> None:
    """As many as the budget of chunks allows, at most a bound; of only common ones two, then one."""
    assert match_expressions(counts) == expected


async def test_common_words_are_searched_within_bounds() -> None:
    """A word in every chunk still finds; chunks with both common words come before those with one."""
    store = await EmbeddedStore.open(None, IDENTITY)
    texts = ["llama"] * (COMMON + 10) + ["llama mule"] * 3 + ["mule"] * (COMMON + 10)
    vectors = units(*[[1, 0, 0, 0]] * len(texts))
    await store.replace(document("d", len(texts)), pieces(*texts), vectors)

    hits = await store.matching("llama mule", limit=5)

    assert [hit.chunk.text for hit in hits] == ["llama mule"] * 3 + ["llama"] * 2
    assert len(await store.matching("llama", limit=20)) == 20
    await store.close()


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
