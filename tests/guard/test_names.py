"""Names and places in metadata."""

from __future__ import annotations

import msgspec
import pytest

from arriero.guard.names import Names
from arriero.guard.policy import Policy

NAMES = Names(Policy(public_name="public", upstream_name="org/Zebra-42B", secrets=("gpu7:8000", "gpu7")))


@pytest.mark.parametrize(
    ("spelt", "clean"),
    [
        ('"org/Zebra-42B"', '"public"'),
        ('"org\\/Zebra-42B"', '"public"'),
        ('"\\u006frg/Zebra-42B"', '"public"'),
        ('"ORG/zebra-42b, Zebra-42B"', '"public, public"'),
        ('"at gpu7:8000 or gpu7"', '"at [upstream] or [upstream]"'),
        ('{"org/Zebra-42B":[{"a":"xorg/Zebra-42Bx"}]}', '{"public":[{"a":"xpublicx"}]}'),
        ('"my_gpu7-gpu7 gpu77"', '"my_[upstream]-[upstream] gpu77"'),
        ('{"a": 1.0, "b":"\\u00e9"}', '{"a": 1.0, "b":"\\u00e9"}'),
        ("1.50", "1.50"),
        ("null", "null"),
        ('"ſ"', '"ſ"'),
    ],
)
def test_metadata_is_cleaned(spelt: str, clean: str) -> None:
    """Names go in every spelling; a clean value keeps its own."""
    assert bytes(NAMES.clean(msgspec.Raw(spelt.encode()))).decode() == clean


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("see https://a.b/c?d=e.", "see [upstream]"),
        ("connect to 10.0.0.1:80 failed", "connect to [upstream] failed"),
        ("connect to [::1]:80 failed", "connect to [upstream] failed"),
        ("at localhost:9000", "at [upstream]"),
        ("at node-3.cluster.local:9000", "at [upstream]"),
        ("File /usr/lib/python3/x.py, line 3", "File [upstream], line 3"),
        ("max_tokens:100 and/or n=3.5 (a/b)", "max_tokens:100 and/or n=3.5 (a/b)"),
    ],
)
def test_messages_tell_no_places(said: str, told: str) -> None:
    """Addresses and files go from error texts; ordinary words stay."""
    assert NAMES.clean_message(said) == told


def test_same_names_need_no_cleaning() -> None:
    """A model that is public under its upstream's name keeps it."""
    names = Names(Policy(public_name="llama", upstream_name="llama"))

    assert names.clean_text("llama") == "llama"


@pytest.mark.parametrize(
    ("word", "text", "told"),
    [
        ("node1", "node1, xnode1 node1y", "[upstream], xnode1 node1y"),
        ("node12", "node12, xnode12 node12y", "[upstream], x[upstream] [upstream]y"),
    ],
)
def test_a_short_word_is_found_whole_and_a_long_one_anywhere(word: str, text: str, told: str) -> None:
    """Six characters are no accident in another word; five could be."""
    assert Names(Policy(public_name="p", upstream_name="m", secrets=(word,))).clean_text(text) == told


@pytest.mark.parametrize(
    ("upstream", "text", "told"),
    [
        ("org/ab-12", "ab-12", "ab-12"),
        ("org/abc-12", "abc-12", "public"),
        ("org/abc-12/", "abc-12", "public"),
        ("org/zebras", "zebras", "zebras"),
    ],
)
def test_the_last_part_of_a_name_is_a_name_where_it_tells(upstream: str, text: str, told: str) -> None:
    """A short part, or a plain word, could be any text's."""
    assert Names(Policy(public_name="public", upstream_name=upstream)).clean_text(text) == told


@pytest.mark.parametrize(
    ("spelt", "is_clean"),
    [
        (b'"cmpl-1"', True),
        (b'"ZEBRA-42b"', False),
        (b'"x-gpu7"', False),
        (b'"a\\u0062"', False),
        ('"\u017f"'.encode(), False),
    ],
)
def test_what_is_surely_clean_can_be_told_unread(spelt: bytes, is_clean: bool) -> None:
    """Never where a name could stand; an escape or a letter beyond ASCII may hide one."""
    assert NAMES.is_surely_clean(spelt) is is_clean


def test_a_message_has_a_bound() -> None:
    """2,000 characters are told, and no more."""
    assert [len(NAMES.clean_message("x" * length)) for length in (2000, 2001)] == [2000, 2000]


@pytest.mark.parametrize(
    ("plain_id", "is_clean"),
    [(b"chatcmpl-0a1B", True), (b"x-zEbRa-42b-1", False), (b"GPU7", False), (b"8000", True)],
)
def test_an_id_that_holds_a_word_is_not_clean(plain_id: bytes, is_clean: bool) -> None:
    """Ids are looked through for the words that one can hold, with the same result as any other value."""
    assert NAMES.is_clean_id(plain_id) is is_clean
    assert NAMES.is_surely_clean(plain_id) is is_clean
