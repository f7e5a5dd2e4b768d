"""The text of a generation does not depend on how it was cut into tokens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest

from arriero.engine.detokenizer import Detokenizer
from arriero.engine.text_filter import Emission


def run(
    pieces: Sequence[bytes], stops: Sequence[str] = (), privates: Sequence[str] = ()
) -> tuple[str, str | None, list[str]]:
    """Feed pieces until one stops; return all text, the stop sequence and the single emissions."""
    detokenizer = Detokenizer(lambda token: pieces[token], stops, privates)
    emissions: list[Emission] = []
    for token in range(len(pieces)):
        emissions.append(detokenizer.feed(token))
        if emissions[-1].stopped:
            break
    emissions.append(detokenizer.flush())
    texts = [emission.text for emission in emissions]
    return "".join(texts), emissions[-1].stop_sequence, texts


def shown(
    pieces: Sequence[bytes], stops: Sequence[str] = (), privates: Sequence[str] = ()
) -> tuple[str, str | None]:
    text, stop, _ = run(pieces, stops, privates)
    return text, stop


def cuts(data: bytes) -> list[list[bytes]]:
    """Return the data in one piece, in single bytes, and cut at every one and every two places."""
    size = len(data)
    places = [[first, second] for first in range(size + 1) for second in range(first, size + 1)]
    places.append(list(range(1, size)))
    return [[data[start:end] for start, end in pairwise([0, *place, size])] for place in places]


TEXTS: list[tuple[bytes, tuple[str, ...], tuple[str, ...], str, str | None]] = [
    (b"plain text", (), (), "plain text", None),
    ("grüße 😀 an alle 👩‍👩‍👧".encode(), (), (), "grüße 😀 an alle 👩‍👩‍👧", None),
    ("日本語 END 続き".encode(), ("END",), (), "日本語 ", "END"),
    ("a😀b".encode(), ("😀",), (), "a", "😀"),
    ("a😁b".encode(), ("😀",), (), "a😁b", None),
    (b"bad \xff byte \xc3( and \xe2\x82 cut", (), (), "bad � byte �( and � cut", None),
    (b"surrogate \xed\xa0\x80.", (), (), "surrogate ���.", None),
    (b"Hi\nUser: you", ("User:",), (), "Hi\n", "User:"),
    (b"aaab", ("aab",), (), "a", "aab"),
    (b"abcabcabd!", ("abcabd",), (), "abc", "abcabd"),
    (b"the end", ("ending", "xyz"), (), "the end", None),
    (b"say abcd now", ("abcd", "bc"), (), "say a", "bc"),
    (b"say abcd now", ("bcd", "abcd", "cd"), (), "say ", "abcd"),
    (b"xabx", ("ab", "abx"), (), "x", "ab"),
    (b"stop", ("stop",), (), "", "stop"),
    (b"one <p> two <p>", (), ("<p>",), "one  two ", None),
    (b"x<p<p>>y", (), ("<p>",), "xy", None),
    (b"ababcc.", (), ("abc",), ".", None),
    (b"a<p>b tail", ("ab",), ("<p>",), "", "ab"),
    (b"x <p> tail", ("<p>",), ("<p>",), "x ", "<p>"),
    (b"x<p>\ny<p>z\n", ("<p>\n",), ("<p>",), "x", "<p>\n"),
    (b"x\n<p>y", ("\n<p>",), ("<p>",), "x", "\n<p>"),
    (b"x<p>y", ("<p>\n",), ("<p>",), "xy", None),
    (b"left <p", (), ("<p>",), "left <p", None),
    (b"left <p>a <p", ("a <p>!",), ("<p>",), "left a <p", None),
    (b"x]y^z-\\w", ("]y^z-\\q", "^^"), ("-[",), "x]y^z-\\w", None),
]


@pytest.mark.parametrize(("data", "stops", "privates", "text", "stop"), TEXTS)
def test_every_cut_gives_the_same_text(
    data: bytes, stops: tuple[str, ...], privates: tuple[str, ...], text: str, stop: str | None
) -> None:
    """However the bytes are cut into tokens, the text and the stop sequence are the same."""
    assert {shown(pieces, stops, privates) for pieces in cuts(data)} == {(text, stop)}


@pytest.mark.parametrize(
    ("pieces", "stop"),
    [
        (["a"], "a"),
        (["d", "e", "f"], "def"),
        (["defq"], "def"),
        (["defde", "f"], "def"),
        (["defde", "def"], "def"),
        (["defde", "ef"], "def"),
        (["d", "e", "e", "f"], None),
        (["\nUser", ":"], "User:"),
        (["a", "a", "a", "b"], "aab"),
    ],
)
def test_sequences_of_poly(pieces: list[str], stop: str | None) -> None:
    """Poly's own cases stop, and so do those that it misses."""
    stops = {"a": ["def", "a"], "aab": ["aab"], "User:": ["User:"]}.get(stop or "", ["def"])

    assert shown([piece.encode() for piece in pieces], stops)[1] == stop


def test_nothing_of_a_stop_sequence_is_shown_early() -> None:
    """A possible beginning of a stop sequence waits, and comes out as soon as it is none."""
    _, _, texts = run([b"a<", b"e", b"n", b"x", b"<e", b"nd>", b"never"], ["<end>"])

    assert texts == ["a", "", "", "<enx", "", "", ""]


def test_held_text_comes_out_at_the_end() -> None:
    """What was held back for a stop sequence is text when the generation ends otherwise."""
    assert run([b"so <en"], ["<end>"]) == ("so <en", None, ["so ", "<en"])


def test_a_character_is_shown_whole() -> None:
    """A character that is spread over tokens comes with its last byte."""
    assert run([b"\xf0", b"\x9f", b"\x98", b"\x80!"])[2] == ["", "", "", "😀!", ""]


def test_an_incomplete_character_at_the_end_is_dropped() -> None:
    """A generation that ends within a character shows nothing of it."""
    assert run([b"ok \xf0\x9f"]) == ("ok ", None, ["ok ", ""])


def test_text_before_a_stop_in_the_same_piece_is_shown() -> None:
    """Only the stop sequence and what follows it are lost."""
    assert run([b"good bye STOP more"], ["STOP"]) == ("good bye ", "STOP", ["good bye ", ""])


def test_after_a_stop_there_is_no_text() -> None:
    """A token that is fed after the stop adds nothing."""
    detokenizer = Detokenizer(lambda _: b"x!", ["!"])

    assert [detokenizer.feed(0), detokenizer.feed(0)] == [Emission("x", "!"), Emission("", "!")]


@pytest.mark.parametrize("text", ["ab" * 400 + "c" * 400, "<p" * 300 + ">" * 300, "aab" * 100 + "bab" * 50])
@pytest.mark.parametrize("privates", [["abc"], ["<p>"], ["aab", "bb", "abc"]])
def test_private_tokens_never_appear(text: str, privates: list[str]) -> None:
    """Deeply nested private tokens are not shown either, and little is held back for them."""
    whole = shown([text.encode()], (), privates)[0]
    single = run([bytes([byte]) for byte in text.encode()], (), privates)

    assert not [private for private in privates if private in whole]
    assert single[0] == whole
    assert len(single[2][-1]) <= 8 * max(map(len, privates)) + 1


class TestControlTokens:
    """Token 0 is the text `so <|`, token 1 the control token `<|im_end|>`, token 2 ` on`."""

    def run(self, stops: list[str], tokens: list[int]) -> list[Emission]:
        pieces = [b"so <|", b"<|im_end|>", b" on"]
        names = {1: "<|im_end|>"}
        detokenizer = Detokenizer(lambda token: pieces[token], stops, (), names.get)
        return [*(detokenizer.feed(token) for token in tokens), detokenizer.flush()]

    def test_skipped(self) -> None:
        """A control token is not printed."""
        assert self.run([], [0, 1, 2]) == [Emission("so <|"), Emission(), Emission(" on"), Emission()]

    def test_stops(self) -> None:
        """A control token that is a stop sequence stops; what was held back is text."""
        name = "<|im_end|>"

        assert self.run([name], [0, 1]) == [Emission("so "), Emission("<|", name), Emission("", name)]

    def test_is_no_text(self) -> None:
        """The name of a control token is not part of the text in which stop sequences are sought."""
        assert self.run(["im_end"], [0, 1, 2])[2] == Emission(" on")


def test_empty_strings_are_no_stop_sequences() -> None:
    """An empty stop sequence or private token does nothing."""
    assert run([b"as ", b"is"], [""], [""]) == ("as is", None, ["as ", "is", ""])
