"""Stop sequences and private tokens against an obvious, slow reading of the rules."""

from __future__ import annotations

import random

import pytest

from arriero.engine.text_filter import TextFilter


def expected(text: str, stops: list[str], privates: list[str]) -> tuple[str, str]:
    """Build the visible text a character at a time and look at its end."""
    visible = ""
    for character in text:
        visible += character
        for stop in sorted(stops, key=len, reverse=True):
            if visible.endswith(stop):
                return visible.removesuffix(stop), stop
        for private in sorted(privates, key=len, reverse=True):
            if visible.endswith(private):
                visible = visible.removesuffix(private)
                break
    return visible, ""


def random_words(source: random.Random, count: int, longest: int) -> list[str]:
    return ["".join(source.choices("abc", k=source.randint(1, longest))) for _ in range(count)]


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize(("num_stops", "num_privates"), [(1, 0), (3, 0), (0, 1), (0, 3), (2, 2)])
def test_filter_follows_the_rules(seed: int, num_stops: int, num_privates: int) -> None:
    """Random strings over three letters, fed in random pieces, give what the rules say."""
    source = random.Random(f"{seed} {num_stops} {num_privates}")
    stops, privates = random_words(source, num_stops, 5), random_words(source, num_privates, 5)
    pieces = random_words(source, 12, 3)
    text_filter = TextFilter(stops, privates)

    text, stop = "", ""
    for piece in pieces:
        passed, stop = text_filter.feed(piece)
        text += passed
        if stop:
            break
    else:
        text += text_filter.flush()

    assert (text, stop) == expected("".join(pieces), stops, privates)


def test_nothing_waits_without_need() -> None:
    """Text that can be part of no match is passed on at once."""
    assert TextFilter(["<end>"], ["<p>"]).feed("plain text, 3 < 4") == ("plain text, 3 < 4", "")


def test_only_a_possible_beginning_waits() -> None:
    """Of a longer text only its end, which may be the beginning of a match, waits."""
    text_filter = TextFilter(["<end>"], ["<p>"])

    assert text_filter.feed("text <en") == ("text ", "")
    assert text_filter.flush() == "<en"
