"""Our WebSockets under Autobahn's cases, as the package `kosoku` drives them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from tests.abuse.subject import running
from tests.tools import program

if TYPE_CHECKING:
    from pathlib import Path

    from tests.abuse.figures import Figures

LEAST_CASES = 240
SUITE_S = 900
WITHOUT = ["9.*", "12.*", "13.*"]
"""Performance, and compression, which this server does not offer."""
KNOWN = {"7.1.5": "a close in the middle of a message is answered 1002; `websockets` does so knowingly"}
"""Cases that may fail, and why."""


@pytest.mark.slow
def test_the_cases_of_autobahn(tmp_path: Path, figures: Figures) -> None:
    """No case fails."""
    kosoku = program("kosoku")
    reports = tmp_path / "reports"
    with running([sys.executable, "-m", "tests.abuse.echo_stage"], tmp_path / "server.log") as subject:
        host, port = subject.address
        excluded = [word for case in WITHOUT for word in ("-x", case)]
        command = [kosoku, "-m", "fuzzingclient", *excluded, "-o", str(reports), f"ws://{host}:{port}/"]
        subprocess.run(command, check=False, timeout=SUITE_S, capture_output=True)  # 1: something failed
    behaviors = verdicts(reports)

    figures.tell("WebSocket conformance", cases=len(behaviors), **Counter(behaviors.values()))
    failed = {case for case, verdict in behaviors.items() if verdict in {"FAILED", "UNCLEAN", "WRONG CODE"}}
    assert failed == set(KNOWN), failed
    assert len(behaviors) >= LEAST_CASES


def verdicts(reports: Path) -> dict[str, str]:
    """Return what became of each case."""
    index = json.loads((reports / "index.json").read_text())
    (cases,) = index.values()
    return {case: said["behavior"] for case, said in cases.items()}
