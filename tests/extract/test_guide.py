from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import msgspec

from arriero.extract.limits import Limits

GUIDE = (Path(__file__).parents[2] / "docs" / "extract.md").read_text()


def test_the_example_of_the_guide_runs() -> None:
    """The program in docs/extract.md prints what the guide says."""
    (program,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    (printed,) = re.findall(r"It prints\n\n```\n(.*?)```", GUIDE, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == (printed, "")


def test_the_guide_names_every_limit() -> None:
    """A limit that is added is told."""
    named = re.findall(r"^\| `(\w+)` \| [\d]", GUIDE, re.MULTILINE)

    assert sorted(named) == sorted(field.name for field in msgspec.structs.fields(Limits))
