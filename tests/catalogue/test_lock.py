"""The lock between processes that fetch the same file."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from arriero.catalogue.lock import locked
from arriero.catalogue.progress import silent

if TYPE_CHECKING:
    from pathlib import Path

HOLDER = """
import sys
from pathlib import Path
from arriero.catalogue.lock import locked
from arriero.catalogue.progress import silent
with locked(Path(sys.argv[1]), silent):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_at_a_time(tmp_path: Path) -> None:
    """The second waits until the first is out, and nothing is left behind."""
    path = tmp_path / "sub" / "m.gguf"
    second_waits = threading.Event()
    order: list[str] = []

    def second() -> None:
        with locked(path, lambda description, done, total: second_waits.set()):
            order.append("second in")

    with ThreadPoolExecutor(1) as pool:
        with locked(path, silent):
            future = pool.submit(second)
            assert second_waits.wait(5)
            order.append("first out")
        future.result()

    assert order == ["first out", "second in"]
    assert list(path.parent.iterdir()) == []


def test_waits_for_another_process_and_survives_its_death(tmp_path: Path) -> None:
    """Who waits says so; a holder that is killed sets the lock free."""
    path = tmp_path / "m.gguf"
    waited: list[str] = []
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"

        def kill_when_waiting(description: str, done: int, total: int | None) -> None:
            waited.append(description)
            holder.kill()

        with locked(path, kill_when_waiting):
            pass

    assert waited[0] == "waiting for another process that fetches m.gguf"


def test_error_inside_frees_the_lock(tmp_path: Path) -> None:
    """A failure of the work inside does not keep others out."""
    path = tmp_path / "m.gguf"

    with pytest.raises(ZeroDivisionError), locked(path, silent):
        raise ZeroDivisionError
    with locked(path, silent):
        assert path.with_name("m.gguf.lock").exists()
