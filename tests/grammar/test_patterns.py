"""Regular expressions of JSON Schema in llguidance's syntax."""

from __future__ import annotations

import pytest

from arriero.grammar.patterns import translated


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("^[a-z]+$", "^[a-z]+$"),
        ("a.c", r"a[^\n\r\u{2028}\u{2029}]c"),
        (r"\d{2,3}$", "[0-9]{2,3}$"),
        (r"[\w-]", r"[[0-9A-Za-z_]\u{2d}]"),
        (r"[^\d]", "[^[0-9]]"),
        ("(?<year>a)|(?:b)", "(?:a)|(?:b)"),
        ("a{,3}", r"a\u{7b}\u{2c}3\u{7d}"),
        (r"\u0041\x42\u{43}\cJ\/", r"ABC\u{a}\u{2f}"),
        (r"\ud83d\ude00", r"\u{1f600}"),
        ("[[a&&b]", r"[\u{5b}a\u{26}\u{26}b]"),
        ("[^]", r"[\u{0}-\u{10ffff}]"),
        (r"\p{L}[\p{Lu}]", r"\p{L}[\p{Lu}]"),
        ("a{2,9}", "a{2}"),
        ("a{2,9}$", "a{2,9}$"),
        ("", ""),
    ],
)
def test_translated(pattern: str, expected: str) -> None:
    """What means something else to llguidance is written out."""
    assert translated(pattern) == expected


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(?=a)", "look-around"),
        ("(?<!a)b", "look-around"),
        ("(?i)a", "flags"),
        (r"(a)\1", "back references"),
        (r"(?<n>a)\k<n>", "back references"),
        (r"\bword", "word boundaries"),
        (r"a\Z", "not known"),
        (r"\u0000", r"U\+0000"),
        (r"\ud83d", r"U\+D83D"),
        ("(a", "not closed"),
        ("a)", "not opened"),
        ("[a", "ends too early"),
        ("a\\", "ends too early"),
        ("[]", "matches nothing"),
        ("[z-a]", "wrong way"),
        ("(" * 200, "more than 100 groups"),
        ("a" * 20_000, "longer than"),
    ],
)
def test_refused(pattern: str, reason: str) -> None:
    """What no automaton can decide, or is no pattern at all, is refused with the reason."""
    with pytest.raises(ValueError, match=reason):
        translated(pattern)
