"""API keys as texts."""

from __future__ import annotations

import pytest

from arriero.access.secret import digest_of, is_mistyped, new_secret


def test_a_new_key_is_long_random_and_has_its_checksum() -> None:
    """Ours by its prefix; two are never the same."""
    first, second = new_secret(), new_secret()

    assert first != second
    assert first.startswith("arriero_")
    assert len(first) == 54
    assert first.isascii()
    assert not is_mistyped(first)


def test_a_typing_error_is_seen_without_a_look_up() -> None:
    """Any single character behind the prefix that is changed, dropped or doubled."""
    secret = new_secret()
    for place in range(len("arriero_"), len(secret)):
        other = "a" if secret[place] != "a" else "b"
        assert is_mistyped(secret[:place] + other + secret[place + 1 :])
        assert is_mistyped(secret[:place] + secret[place + 1 :])
        assert is_mistyped(secret[:place] + secret[place] + secret[place:])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", False),
        ("sesame", False),
        ("arriero_", True),
        ("arriero_" + "é" * 46, True),
        ("\udc80" * 54, False),
    ],
)
def test_other_texts_have_digests_too(text: str, expected: bool) -> None:
    """Whatever a header holds; only what begins as a key of ours can be mistyped."""
    assert is_mistyped(text) is expected
    assert len(digest_of(text)) == 32
