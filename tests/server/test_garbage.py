"""What a request held is let go of when it ends, not when the garbage collector comes: bodies are large."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.server.garbage_probe import ASKED

ROOT = Path(__file__).resolve().parents[2]
CIRCLES = {"Budget", "GenerationBlock", "TemplateSandbox"}
"""Jinja's environment, one for each rendering, is a circle. It holds nothing of a request."""


def test_nothing_of_a_request_waits_for_the_collector() -> None:
    """No object of the server is in a circle when an answer has ended, whatever was asked."""
    command = [sys.executable, "-m", "tests.server.garbage_probe"]
    probed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert probed.returncode == 0, probed.stderr
    found = json.loads(probed.stdout)
    assert found.keys() == ASKED.keys()
    assert {kind: left for kind, left in found.items() if not left.keys() <= CIRCLES} == {}
