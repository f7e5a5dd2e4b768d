"""A lock between processes, so that two of them never fetch the same file at once.

The operating system frees it when its holder dies. The lock file is gone when nobody holds it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from arriero.catalogue.progress import Progress

_POLL_S = 0.1


@contextmanager
def locked(path: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock of `path` (`path` itself need not exist); blocks while another process holds it."""
    lock_path = path.with_name(path.name + ".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _acquire(lock_path)
    while descriptor is None:
        progress(f"waiting for another process that fetches {path.name}", 0, None)
        time.sleep(_POLL_S)
        descriptor = _acquire(lock_path)
    try:
        yield
    finally:
        # Removed while it is held: see `_acquire` for those who opened it in the meantime.
        with contextlib.suppress(OSError):
            lock_path.unlink()
        os.close(descriptor)


def _acquire(lock_path: Path) -> int | None:
    descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o644)
    if _try_lock(descriptor) and _is_current(descriptor, lock_path):
        return descriptor
    os.close(descriptor)
    return None


def _is_current(descriptor: int, lock_path: Path) -> bool:
    """Tell whether the locked file is still the one on disk; its last holder removes it."""
    try:
        return os.path.samestat(os.fstat(descriptor), lock_path.stat())
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
