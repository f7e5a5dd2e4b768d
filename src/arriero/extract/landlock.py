"""Takes a process's access to files and TCP away for good, with Landlock. Linux; needs no privilege."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1
_READ_FILE, _READ_DIR = 4, 8
_ALL_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""How many rights on files a version knows; later ones know 16."""
_ALL_TCP_RIGHTS = 3
_ALL_SCOPES = 3
_FIRST_WITH_TCP, _FIRST_WITH_SCOPES = 4, 6


def version() -> int:
    """Return the version that the kernel speaks, 0 where there is none."""
    answer: int = _libc().syscall(_CREATE_RULESET, None, 0, _VERSION)
    return max(0, answer)


def restrict(readable: Iterable[str]) -> None:
    """Leave this process nothing but reading what lies under `readable`.

    Its privileges must have been frozen (no_new_privs). Raises OSError.
    """
    ruleset = _ruleset(version())
    try:
        for path in readable:
            if os.path.exists(path):
                _allow_reading(ruleset, path)
        _check(_libc().syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _ruleset(abi: int) -> int:
    rights = (1 << _ALL_FILE_RIGHTS.get(abi, 16)) - 1
    attributes = struct.pack("Q", rights)
    if abi >= _FIRST_WITH_TCP:
        attributes += struct.pack("Q", _ALL_TCP_RIGHTS)
    if abi >= _FIRST_WITH_SCOPES:
        attributes += struct.pack("Q", _ALL_SCOPES)
    return _check(_libc().syscall(_CREATE_RULESET, attributes, len(attributes), 0))


def _allow_reading(ruleset: int, path: str) -> None:
    rights = _READ_FILE | (_READ_DIR if os.path.isdir(path) else 0)
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", rights, descriptor)
        _check(_libc().syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0))
    finally:
        os.close(descriptor)


def _check(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
