"""A file that only takes room, so that documents can be deleted when the disk is full.

Without it nothing may be added: the disk is then as good as full. It comes back as soon as there is room.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from arriero.memory.sqlite_errors import translated
from arriero.memory.sqlite_pool import beside

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 16 * 2**20


class Reserve:
    """The reserve of one memory; used by the thread that writes."""

    def __init__(self, path: Path | None) -> None:
        self._memory = path
        self._file = None if path is None else beside(path, "reserve")
        self._is_held = self._file is None or (self._file.exists() and self._file.stat().st_size == SIZE)

    def take(self) -> None:
        """Make sure that the reserve is there; raise DiskFull when there is no room for it."""
        if self._is_held:
            return
        assert self._file is not None
        with translated(self._memory):
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                _allocate(descriptor)
            except OSError:
                os.ftruncate(descriptor, 0)
                raise
            finally:
                os.close(descriptor)
        self._is_held = True

    def give(self) -> bool:
        """Free the room; say whether there was any."""
        if self._file is None or not self._file.exists():
            return False
        self._is_held = False
        with translated(self._memory):
            self._file.unlink()
        return True


def _allocate(descriptor: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, SIZE)
        return
    for offset in range(0, SIZE, 2**20):
        os.pwrite(descriptor, bytes(2**20), offset)
