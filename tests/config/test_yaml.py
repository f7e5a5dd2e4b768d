"""YAML is read by the core schema of version 1.2, with lines, and without what can explode."""

from __future__ import annotations

import time
from typing import Any

import pytest

from arriero.config.yaml import YamlError, read_yaml

TEXT = """\
# comment
a: 1
b:
  c: text # not this
  "d e": [x, {y: 2}]
f:
  - 1
  -
    g: |
      two
      lines
"""


def fault(text: str) -> YamlError:
    with pytest.raises(YamlError) as caught:
        read_yaml(text)
    return caught.value


def test_values_and_lines() -> None:
    """Every key and every element has its line, counted from 1."""
    value, lines = read_yaml(TEXT)

    assert value == {"a": 1, "b": {"c": "text", "d e": ["x", {"y": 2}]}, "f": [1, {"g": "two\nlines\n"}]}
    assert lines == {
        ("a",): 2,
        ("b",): 3,
        ("b", "c"): 4,
        ("b", "d e"): 5,
        ("b", "d e", 0): 5,
        ("b", "d e", 1): 5,
        ("b", "d e", 1, "y"): 5,
        ("f",): 6,
        ("f", 0): 7,
        ("f", 1): 9,
        ("f", 1, "g"): 9,
    }


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("False", False),
        ("on", "on"),
        ("no", "no"),
        ("12", 12),
        ("-3", -3),
        ("010", 10),
        ("1_000", "1_000"),
        ("8:30", "8:30"),
        ("2020-01-01", "2020-01-01"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1.2.3", "1.2.3"),
        ("9" * 31, "9" * 31),
        ('"12"', "12"),
        ("'~'", "~"),
        ("plain text", "plain text"),
        ("<<", "<<"),
    ],
)
def test_scalars(written: str, value: Any) -> None:
    """Words and numbers as the core schema has them; quotes make a text of everything."""
    assert read_yaml(f"k: {written}\n")[0] == {"k": value}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: &x 2\n", 2, "anchors and aliases are not taken"),
        ("a: 1\nb: *x\n", 2, "anchors and aliases are not taken"),
        ("a: &x [1, 1]\nb: [*x, *x]\nc: [*x, *x]\n", 1, "anchors and aliases are not taken"),
        ("<<: *x\n", 1, "anchors and aliases are not taken"),
        (
            "a: !!python/object/apply:os.system [ls]\n",
            1,
            "tags such as tag:yaml.org,2002:python/object/apply",
        ),
        ("a: !!str 1\n", 1, "tags such as"),
        ("a: 1\nb: 2\na: 3\n", 3, "the key a is given twice"),
        ("? [1]\n: 2\n", 1, "a key is a plain text"),
        ("a: " + "[" * 9 + "]" * 9, 1, "nested more than 8 levels deep"),
        ("a: 1\n---\nb: 2\n", 2, "a second document begins here"),
        ("a: [1\nb: 2\n", 2, ""),
        ("a:\n\tb: 1\n", 2, "cannot start any token"),
        ("a: 1\nb: \x00\n", 2, "the character U+0000 is not allowed"),
        ('a: "\\UFFFFFFFF"\n', 1, ""),
        ('a: "\\ud800"\n', 1, "half of a surrogate pair"),
        ("a: " + "x" * 70000, 1, "longer than 65536 characters"),
    ],
)
def test_what_is_refused(text: str, line: int, message: str) -> None:
    """With the line and the reason."""
    error = fault(text)

    assert (error.line, message in error.message) == (line, True), error.message


@pytest.mark.parametrize(
    "text",
    [
        "[" * 60000,
        "{" * 60000,
        "- " * 30000,
        "? " * 30000,
        "a: " + "[" + "{a: 1}," * 8000,
        "".join(f"{' ' * depth}a:\n" for depth in range(300)),
        "&a " * 20000,
        "!!x " * 15000,
        "a: '" + "''" * 30000,
        'a: "' + "\\\n" * 30000,
        "a" * 60000 + ": 1",
        "%YAML 1." + "9" * 60000 + "\n---\na: 1\n",
    ],
    ids=range(12),
)
def test_hostile_texts_are_refused_soon(text: str) -> None:
    """No input within the bound takes long, or ends in another error."""
    begun = time.process_time()
    fault(text)

    assert time.process_time() - begun < 5
