"""A disk whose n-th write or sync fails: a file system of SQLite before the one it uses.

Reaches the library that Python's `sqlite3` is linked with; where it is built in, there is no way to it.
"""

from __future__ import annotations

import ctypes
import re
import sqlite3
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

Call = Literal["write", "sync"]
FULL, IOERR_WRITE, IOERR_FSYNC = 13, 778, 1034
"""Result codes of SQLite: sqlite.org/rescode.html."""

_POINTERS = 18
_PLACES: dict[Call, int] = {"write": 2, "sync": 4}
_TYPES = {
    "write": ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64),
    "sync": ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int),
}
_OPEN = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p
)


class _Methods(ctypes.Structure):
    """`sqlite3_io_methods`: what can be done to an open file."""

    _fields_ = (("version", ctypes.c_int), ("calls", ctypes.c_void_p * _POINTERS))


class _Vfs(ctypes.Structure):
    """`sqlite3_vfs`: what opens files."""

    _fields_ = (
        ("version", ctypes.c_int), ("file_size", ctypes.c_int), ("longest_path", ctypes.c_int),
        ("next", ctypes.c_void_p), ("name", ctypes.c_char_p), ("own", ctypes.c_void_p),
        ("open", ctypes.c_void_p), ("others", ctypes.c_void_p * 14),
    )  # fmt: skip


def library() -> str | None:
    """Return the SQLite library of this process, None when it is built into Python."""
    assert sqlite3.sqlite_version
    found = re.search(r"/\S*libsqlite3\S*", Path("/proc/self/maps").read_text(encoding="utf-8"))
    return found[0] if found else None


class FailingDisk:
    """Counts the calls, and lets some fail. Files that were opened through it are closed before it goes."""

    def __init__(self, path: str) -> None:
        self._sqlite = ctypes.CDLL(path)
        self._sqlite.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
        self._usual = self._sqlite.sqlite3_vfs_find(None)
        self._kept: list[Any] = []
        self._methods: dict[int, _Methods] = {}
        self._open = _OPEN(self._usual.contents.open)
        self._vfs = _Vfs.from_buffer_copy(self._usual.contents)
        self._vfs.name = b"failing"
        self._own_open = _OPEN(self._opened)
        self._vfs.open = ctypes.cast(self._own_open, ctypes.c_void_p).value
        self.count = 0
        self._call: Call | None = None
        self._failing = range(0)
        self._code = 0

    def fail(self, call: Call, code: int, which: range) -> None:
        """Let these calls of a kind, counted from now and from 0, fail with a result code."""
        self._call, self._code, self._failing, self.count = call, code, which, 0

    def mend(self) -> None:
        """Let nothing fail any more."""
        self._call = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Have every file that SQLite opens be on this disk while the block runs."""
        self._sqlite.sqlite3_vfs_register(ctypes.byref(self._vfs), 1)
        try:
            yield
        finally:
            self._sqlite.sqlite3_vfs_register(self._usual, 1)
            self._sqlite.sqlite3_vfs_unregister(ctypes.byref(self._vfs))

    def _opened(self, vfs: int, name: int | None, file: int, flags: int, told: int) -> int:
        result = self._open(vfs, name, file, flags, told)
        methods = ctypes.c_void_p.from_address(file)
        if result == 0 and methods.value:
            methods.value = ctypes.addressof(self._wrapped(methods.value))
        return result

    def _wrapped(self, address: int) -> _Methods:
        if address not in self._methods:
            wrapped = _Methods.from_buffer_copy(_Methods.from_address(address))
            for call, place in _PLACES.items():
                usual = _TYPES[call](wrapped.calls[place])
                own = _TYPES[call](self._counted(call, usual))
                self._kept.append((usual, own))
                wrapped.calls[place] = ctypes.cast(own, ctypes.c_void_p).value
            self._methods[address] = wrapped
        return self._methods[address]

    def _counted(self, call: Call, usual: Any) -> Any:
        def counted(*arguments: Any) -> int:
            if call == self._call:
                place, self.count = self.count, self.count + 1
                if place in self._failing:
                    return self._code
            result: int = usual(*arguments)
            return result

        return counted
