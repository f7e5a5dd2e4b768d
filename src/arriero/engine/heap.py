"""Gives freed memory back to the kernel; glibc keeps most of it, for a process that may want it again."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Give back what is free; takes milliseconds. Other C libraries have no such call, and need none."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    trim(0)
