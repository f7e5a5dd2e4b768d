"""Programs that tests run and Arriero does without.

They come from `.venv-tools`, which `scripts/test --all` fills, or from the path. What is nowhere is no
failure: the test is skipped, and says how to get it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / ".venv-tools" / "bin"
BY_SCRIPT = "scripts/install --tools installs it"


def programs(name: str) -> Iterator[str]:
    """Yield every program of that name, those of `.venv-tools` first."""
    for folder in (str(FOLDER), *os.get_exec_path()):
        if found := shutil.which(name, path=folder):
            yield found


def program(name: str, advice: str = BY_SCRIPT) -> str:
    """Return the path of a program, or skip the test."""
    found = next(programs(name), None)
    if found is None:
        pytest.skip(f"needs the program {name}; {advice}")
    return found


def python_with(package: str) -> str:
    """Return the Python of `.venv-tools`, if a package is there that is imported, or skip the test."""
    if not any(FOLDER.parent.glob(f"lib/python3.*/site-packages/{package}")):
        pytest.skip(f"needs the package {package}; {BY_SCRIPT}")
    return str(FOLDER / "python")
