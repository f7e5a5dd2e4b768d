from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from tests.grammar.tables import ENDS, PIECES, SPECIAL, greedy, small_table

from arriero.grammar.vocabulary import TokenTable


def table(tokenize: Callable[[str], list[int]]) -> TokenTable:
    return TokenTable((*PIECES, b"<special>", b"<end>", b"<end2>"), [SPECIAL], ENDS, tokenize)


def fail(text: str) -> list[int]:
    raise RuntimeError(text)


def test_the_models_own_tokens_are_used() -> None:
    """Text becomes the tokens that the model's tokenizer gives, also where longer ones would fit."""
    spelled = table(lambda text: list(text.encode()))

    assert spelled.tokenize("name") == [110, 97, 109, 101]


@pytest.mark.parametrize(
    "tokenize",
    [
        fail,
        lambda text: [-1],
        lambda text: [10**9],
        lambda text: ["a"],
        lambda text: None,
        lambda text: greedy(" " + text),
        lambda text: [SPECIAL],
    ],
    ids=["raises", "negative", "too-large", "no-int", "none", "space-before", "special"],
)
def test_a_tokenizer_that_fails_is_replaced(tokenize: Callable[[str], list[int]]) -> None:
    """Where the tokenizer raises or does not give the text back, the longest pieces that fit are taken."""
    assert table(tokenize).tokenize("<special>") == list(b"<special>")
    assert table(tokenize).tokenize("nameé") == greedy("nameé")


@pytest.mark.parametrize(
    ("special", "ends", "named"),
    [([], [], "ends"), ([], [99999], "token ids"), ([-1], [0], "token ids")],
)
def test_ids_outside_the_vocabulary_are_refused(special: list[int], ends: list[int], named: str) -> None:
    """A table needs an end token, and all ids must be tokens of it."""
    with pytest.raises(ValueError, match=named):
        TokenTable(PIECES, special, ends, greedy)


def test_end_tokens_are_special() -> None:
    """End tokens need not be named twice; their order does not matter."""
    named = TokenTable((*PIECES, b"<end>", b"<end2>"), [], [SPECIAL + 1, SPECIAL], greedy)

    assert named.ends == (SPECIAL, SPECIAL + 1)
    assert named.special == {SPECIAL, SPECIAL + 1}


def test_it_is_built_once_from_any_thread() -> None:
    """Threads that ask at the same time get the same native table."""
    made = table(greedy)
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(made.native)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({id(native) for native in found}) == 1
    assert small_table().native.vocab_size == small_table().size
