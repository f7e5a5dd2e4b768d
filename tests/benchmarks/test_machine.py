"""Whose CPU time it was."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks import machine


def test_busy_counts_all_but_idle() -> None:
    """User, nice, system, interrupts and stolen time are busy; idle and waiting for disks are not."""
    stat = "cpu  1 2 4 1000 1000 8 16 32 64 128\ncpu0 1 2 4 0 0 0 0 0 0 0\n"

    assert machine.busy_s(stat) == pytest.approx(63 / machine.TICK)


@pytest.mark.parametrize(("pid", "own"), [(5, True), (7, True), (9, False), (1, False)])
def test_descendants_are_own(pid: int, own: bool) -> None:
    """A child of a child of a root belongs to it; a sibling and an ancestor do not."""
    parents = {1: 0, 5: 1, 6: 5, 7: 6, 9: 1}

    assert machine.descends(pid, {5}, parents) is own


def test_work_of_ended_children_is_own() -> None:
    """CPU time of a child stays in our tree when the child has ended."""
    before = machine.tree_s({os.getpid()})
    spin = "import time\nwhile time.process_time() < 0.1: pass"
    subprocess.run([sys.executable, "-c", spin], check=True)

    assert machine.tree_s({os.getpid()}) >= before + 0.08
