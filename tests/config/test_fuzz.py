"""Configurations changed at random: each loads or is refused in words, never anything else."""

from __future__ import annotations

import random
import string
from pathlib import Path

import pytest

from arriero.config.load import parse_config
from arriero.errors import ConfigError

EXAMPLE = (Path(__file__).resolve().parents[2] / "arriero.example.toml").read_text()
WORDS = (
    "",
    "=",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    '"',
    "'",
    '"""',
    "\\",
    "\\u",
    "#",
    ".",
    ",",
    "\r",
    "\0",
    "\ud7ff",
)
VALUES = (
    "1",
    "-1",
    "0",
    "nan",
    "inf",
    "1e400",
    "true",
    '""',
    '"x"',
    "[]",
    "{}",
    "[[]]",
    "9" * 30,
    "2020-01-01",
)
VALUES += (
    '"${NOWHERE}"',
    '"\\u0000"',
    "{ a = { b = [1, { c = nan }] } }",
    '["x", 1]',
    '"' + "y" * 5000 + '"',
)


def mutant(text: str, rng: random.Random) -> str:
    """Return a configuration that is changed in one to three places."""
    lines = text.splitlines()
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(lines))
        line = lines[place]
        at = rng.randint(0, len(line))
        match rng.randrange(7):
            case 0:
                lines[place] = line[:at] + rng.choice(WORDS) + line[at:]
            case 1:
                lines[place] = line[:at] + line[at + 1 :]
            case 2:
                lines[place] = f"{line.partition('=')[0]}= {rng.choice(VALUES)}"
            case 3:
                lines.insert(place, rng.choice(lines))
            case 4:
                del lines[place : place + rng.randint(1, 3)]
            case 5:
                lines[place] = line[:at] + rng.choice(string.printable) + line[at + 1 :]
            case _:
                key = "".join(rng.sample(line.partition("=")[0], len(line.partition("=")[0])))
                lines[place] = f"{key}={line.partition('=')[2]}"
        lines = lines or [""]
    return "\n".join(lines)


def checked(text: str) -> bool:
    """Load a configuration; say whether it was taken. Its refusal must be one that a human can read."""
    try:
        parse_config(text, {})
    except ConfigError as exc:
        refusal = exc.message
    else:
        return True
    assert len(refusal) < 20_000, text
    assert all(char.isprintable() or char == "\n" for char in refusal), text
    return False


@pytest.mark.parametrize("number", [20, pytest.param(1500, marks=pytest.mark.slow)])
def test_a_changed_configuration_is_loaded_or_refused(number: int) -> None:
    """With one message, whatever is changed in it."""
    rng = random.Random(3)

    outcomes = {checked(mutant(EXAMPLE, rng)) for _ in range(number)}

    assert False in outcomes
