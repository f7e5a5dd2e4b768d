"""Configurations changed at random: each loads or is refused in words, never anything else."""

from __future__ import annotations

import random
import string
from collections import Counter
from pathlib import Path

import pytest
from tests.config.test_poly import POLY
from tests.config.test_poncho import SAMPLE as PONCHO

from arriero.cli.main import run
from arriero.config.load import parse_config
from arriero.errors import ConfigError

EXAMPLE = (Path(__file__).resolve().parents[2] / "arriero.example.toml").read_text()
FORMS = {"own": ("arriero.toml", EXAMPLE), "poly": ("poly.toml", POLY), "poncho": ("config.yaml", PONCHO)}
NUM_QUICK = 20
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


def checked(text: str, file: str) -> bool:
    """Load a configuration; say whether it was taken. Its refusal must be one that a human can read."""
    try:
        parse_config(text, {}, path=Path(file))
    except ConfigError as exc:
        refusal = exc.message
    else:
        return True
    assert_readable(refusal, text)
    return False


def assert_readable(refusal: str, text: str) -> None:
    """Fail if a message is long, or holds what a terminal obeys."""
    assert len(refusal) < 20_000, text
    assert all(char.isprintable() or char == "\n" for char in refusal), text


@pytest.mark.parametrize("form", FORMS)
def test_a_changed_configuration_is_loaded_or_refused(form: str) -> None:
    """With one message, whatever is changed in it."""
    file, text = FORMS[form]
    rng = random.Random(3)

    outcomes = {checked(mutant(text, rng), file) for _ in range(NUM_QUICK)}

    assert False in outcomes


@pytest.mark.slow
@pytest.mark.parametrize(("form", "number"), [("own", 300), ("poly", 400), ("poncho", 4300)])
def test_the_command_line_checks_any_configuration(
    form: str, number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`arriero config check` tells what it counted, or ends with 2 and a message; never as its own fault."""
    file, text = FORMS[form]
    path = tmp_path / file
    rng = random.Random(4)
    statuses: Counter[int] = Counter()
    for _ in range(number):
        changed = mutant(text, rng)
        path.write_text(changed, newline="")
        status = run(["config", "check", "--config", str(path)])
        told = capsys.readouterr()
        statuses[status] += 1
        assert_readable(told.err, changed)
        if status:
            assert told.err.startswith(f"arriero: {path}"), (told.err, changed)
            assert not told.out
        else:
            assert told.out.startswith(f"{path}: good, "), (told.out, changed)

    assert 2 in statuses
    assert set(statuses) <= {0, 2}, statuses
