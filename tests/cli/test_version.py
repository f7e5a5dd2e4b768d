"""`arriero version`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from arriero.cli.main import run
from arriero.version import __version__

if TYPE_CHECKING:
    import pytest


def test_version_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The plain form is for people and for scripts that compare."""
    assert run(["version"]) == 0
    assert capsys.readouterr().out == f"arriero {__version__}\n"


def test_version_as_json_names_what_it_runs_on(capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON form holds what a report of a fault needs."""
    assert run(["version", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["arriero"] == __version__
    assert set(facts) == {"arriero", "python", "xllamacpp"}
