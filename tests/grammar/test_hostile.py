from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.grammar.hostile import cases

ROOT = Path(__file__).parents[2]

MOST_SECONDS = 1.0
"""Of processor time for one case."""
LONGEST_REASON = 400


def tried(step: int) -> list[dict[str, object]]:
    """Try every `step`-th case in a process of its own, which may not have more than 2 GiB."""
    command = [sys.executable, "-m", "tests.grammar.hostile", str(step)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    last = results[-1]["name"] if results else "the start"
    assert done.returncode == 0, (
        f"the process ended with {done.returncode} after {last}: {done.stderr[-2000:]}"
    )
    return results


def check(results: list[dict[str, object]], count: int) -> None:
    slow = {one["name"]: one["seconds"] for one in results if float(str(one["seconds"])) > MOST_SECONDS}
    long = [one for one in results if len(str(one["ended"])) > LONGEST_REASON]

    assert len(results) == count
    assert slow == {}
    assert long == []


def test_there_are_enough_cases() -> None:
    """At least three hundred, each with a name of its own."""
    names = [name for name, _ in cases()]

    assert len(names) >= 300
    assert len(set(names)) == len(names)


def test_a_sample_of_hostile_constraints() -> None:
    """Each ends soon, refused in a few words or usable; the process survives them all."""
    check(tried(6), len(cases()[::6]))


@pytest.mark.slow
def test_all_hostile_constraints() -> None:
    """The same for all of them."""
    check(tried(1), len(cases()))
