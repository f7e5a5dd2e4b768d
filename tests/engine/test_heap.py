"""Freed memory goes back to the kernel."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import sys
import numpy as np
from arriero.engine.heap import give_back

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20

np.ones(30 << 20, np.uint8)  # from now on glibc takes as much as this from its heap
held, others = [], []
for _ in range(20):
    held.append(np.ones(3 << 20, np.uint8))
    others.append(np.ones(3000, np.uint8))
held.clear()
before = resident()
give_back()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a call of glibc")
def test_what_is_free_is_given_back() -> None:
    """Of 60 MiB in pieces most are resident after they were freed, and not any more then."""
    told = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)

    assert int(told.stdout) > 40
