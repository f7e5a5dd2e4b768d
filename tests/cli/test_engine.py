"""`arriero engine`; building itself is tested with the engine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from arriero.cli.main import run
from arriero.engine.build import VERSION

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_info_says_that_nothing_is_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty cache has no native library; the text says how to make one."""
    assert run(["engine", "info", "--cache", str(tmp_path)]) == 0
    assert "arriero engine build" in capsys.readouterr().out
    assert run(["engine", "info", "--json", "--cache", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == {"version": VERSION, "native": None}


def test_another_source_than_the_pinned_one_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything in it is run, with the status of a wrong configuration."""
    archive = tmp_path / "source.tar.gz"
    archive.write_bytes(b"not the source")

    assert run(["engine", "build", "--archive", str(archive), "--cache", str(tmp_path / "cache")]) == 2
    assert str(archive) in capsys.readouterr().err
