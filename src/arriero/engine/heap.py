"""How glibc keeps the memory of this process: in one heap, and what is free goes back when we say so.

Other C libraries have no such calls, and need none.
"""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8


def keep_one_heap() -> None:
    """Let all threads that are to come share one heap; call it before they start.

    Else glibc gives a thread a heap of its own whenever all others are in use, up to eight for each core,
    and never takes one away. A constraint is compiled in a thread of its own: now and then one more heap
    would hold what the compiled constraints need.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Give back what is free to the kernel; takes milliseconds. glibc keeps most of it otherwise."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    trim(0)
