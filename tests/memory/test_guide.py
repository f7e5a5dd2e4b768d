"""The guide to memories."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

GUIDE = (Path(__file__).parents[2] / "docs" / "memory.md").read_text()


def test_the_example_of_the_guide_runs() -> None:
    """The program in docs/memory.md prints what the guide says."""
    (program,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    (printed,) = re.findall(r"It prints\n\n```\n(.*?)```", GUIDE, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == (printed, "")
