"""One heap for all threads, and freed memory goes back to the kernel."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="calls of glibc")

THREADS = """
import ctypes
import sys
import tempfile
import threading
import arriero.engine.heap as heap

def hold():
    held.append(bytearray(100_000))
    together.wait()

getattr(heap, sys.argv[1])()
held, together = [], threading.Barrier(4)
threads = [threading.Thread(target=hold) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
with tempfile.NamedTemporaryFile() as told:
    file = ctypes.c_void_p(libc.fopen(told.name.encode(), b"w"))
    libc.malloc_info(0, file)
    libc.fclose(file)
    print(told.read().count(b"<heap "))
"""

FREED = """
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


@pytest.mark.parametrize(("call", "least", "most"), [("keep_one_heap", 1, 1), ("give_back", 2, 5)])
def test_threads_share_one_heap(call: str, least: int, most: int) -> None:
    """Four threads that hold memory at once take it from one heap; without our word, from several."""
    assert least <= told_by(THREADS, call) <= most


def test_what_is_free_is_given_back() -> None:
    """Of 60 MiB in pieces most are resident after they were freed, and not any more then."""
    assert told_by(FREED) > 40


def told_by(program: str, *arguments: str) -> int:
    """Return the number that a program prints in a process of its own."""
    command = [sys.executable, "-c", program, *arguments]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
