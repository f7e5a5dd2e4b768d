"""Shuts a process in before it touches a document: resource limits, no files, no network, no children.

`limit` comes first; `shut` when all libraries are loaded. What a system has no means for is named, not
passed over in silence.
"""

from __future__ import annotations

import ctypes
import math
import resource
import signal
import sys
from typing import TYPE_CHECKING

from arriero.extract import landlock, seccomp

if TYPE_CHECKING:
    from collections.abc import Iterable

    from arriero.extract.limits import Limits

MAX_DESCRIPTORS = 64
_SYSTEM_PATHS = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache")
_SET_DEATH_SIGNAL, _SET_NO_NEW_PRIVILEGES = 1, 38


def limit(limits: Limits) -> None:
    """Set the limits on memory, processor time, files; end with the parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        _set(resource.RLIMIT_AS, limits.memory_bytes)
    cpu_s = max(1, math.ceil(limits.cpu_s))
    _set(resource.RLIMIT_CPU, cpu_s, cpu_s + 1)
    _set(resource.RLIMIT_FSIZE, 0)
    _set(resource.RLIMIT_NOFILE, MAX_DESCRIPTORS)
    _set(resource.RLIMIT_CORE, 0)


def shut(readable: Iterable[str]) -> tuple[str, ...]:
    """Leave nothing but reading under `readable` and the system's libraries; return what cannot be had."""
    if sys.platform != "linux":
        return ("landlock", "seccomp")
    ctypes.CDLL(None).prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    missing = []
    try:
        landlock.restrict((*readable, *_SYSTEM_PATHS))
    except OSError:
        missing.append("landlock")
    try:
        seccomp.deny()
    except OSError:
        missing.append("seccomp")
    return tuple(missing)


def _set(kind: int, soft: int, hard: int | None = None) -> None:
    """Set a limit, never above the one that already holds."""
    hard = soft if hard is None else hard
    _, most = resource.getrlimit(kind)
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(kind, (soft, hard))
