"""`arriero pull`; fetching itself is tested with the catalogue."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from arriero.catalogue.catalogue import STARTERS
from arriero.cli.main import run

if TYPE_CHECKING:
    from pathlib import Path


def test_the_list_shows_every_starter_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names stand first on their lines, for whoever wants to pull one."""
    assert run(["pull", "--list", "--cache", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", *(starter.name for starter in STARTERS)]


def test_the_list_knows_what_is_cached(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file in the cache is told as cached, the others are not."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / STARTERS[0].file_name).touch()

    assert run(["pull", "--list", "--json", "--cache", str(tmp_path)]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [entry["cached"] for entry in entries] == [True] + [False] * (len(STARTERS) - 1)


@pytest.mark.parametrize("before", [[], ["gemma-3-270m"]])
def test_an_unknown_name_is_refused_with_the_nearest_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], before: list[str]
) -> None:
    """Nothing is fetched, not even what stands before it; the cache stays empty; it is wrong usage."""
    assert run(["pull", *before, "smollm2-135m-instrukt", "--cache", str(tmp_path)]) == 2
    assert "smollm2-135m-instruct" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
