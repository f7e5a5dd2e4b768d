"""Reads the metadata of a GGUF file: sizes, vocabulary, template; never the weights.

Every length is checked against what is left of the file and against a bound before anything is
read, as the file may come from anywhere. Knows nothing of what the keys mean.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO

from arriero.config.weights import weights_fault
from arriero.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

Value = int | float | bool | str | list[int] | list[float] | list[bool] | list[str]
Metadata = dict[str, Value]

MAX_METADATA_BYTES = 256 * 1024 * 1024
MAX_KEYS = 4096
MAX_ELEMENTS = 8 * 1024 * 1024
"""Elements of one array. The largest vocabularies known have some 500,000 merges."""

_VERSIONS = (2, 3)
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


def read_metadata(path: Path) -> Metadata:
    """Return all key-value pairs of the file. Raises ConfigError naming the file and its fault."""
    if fault := weights_fault(path):
        raise ConfigError(fault)
    try:
        with path.open("rb") as file:
            return _Reader(file, min(path.stat().st_size, MAX_METADATA_BYTES)).metadata()
    except _Damaged as exc:
        raise ConfigError(f"{path} is damaged: {exc}; fetch the weights again") from exc
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror or exc}") from exc


class _Damaged(Exception):
    """What the bytes say cannot be."""


class _Reader:
    """Reads forward through one open file; `left` counts the bytes that may still be read."""

    def __init__(self, file: BinaryIO, left: int) -> None:
        self._file = file
        self._left = left

    def metadata(self) -> Metadata:
        self._bytes(4)
        version = self._number("I")
        if version not in _VERSIONS:
            raise _Damaged(
                f"it names version {version} of GGUF, and only 2 and 3 exist in little-endian form"
            )
        self._number("Q")  # of tensors
        count = self._number("Q")
        if count > MAX_KEYS:
            raise _Damaged(f"it names {count} keys, and more than {MAX_KEYS} cannot be right")
        found: Metadata = {}
        for _ in range(count):
            key = self._string()
            found[key] = self._value(self._number("I"))
        return found

    def _value(self, kind: int) -> Value:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array()
        form = f"<{self._form(kind)}"
        value: int | float | bool = struct.unpack(form, self._bytes(struct.calcsize(form)))[0]
        return value

    def _array(self) -> Value:
        kind, length = self._number("I"), self._number("Q")
        if length > MAX_ELEMENTS:
            raise _Damaged(f"it names an array of {length} elements, more than {MAX_ELEMENTS}")
        if kind == _STRING:
            return [self._string() for _ in range(length)]
        if kind == _ARRAY:
            raise _Damaged("it holds an array of arrays")
        form = f"<{length}{self._form(kind)}"
        return list(struct.unpack(form, self._bytes(struct.calcsize(form))))

    def _string(self) -> str:
        # Some vocabularies hold bytes that are no text; they must not hide the rest of the file.
        return self._bytes(self._number("Q")).decode("utf-8", "surrogateescape")

    def _form(self, kind: int) -> str:
        if kind not in _SCALARS:
            raise _Damaged(f"it holds a value of the unknown type {kind}")
        return _SCALARS[kind]

    def _number(self, form: str) -> int:
        number: int = struct.unpack(f"<{form}", self._bytes(struct.calcsize(f"<{form}")))[0]
        return number

    def _bytes(self, size: int) -> bytes:
        self._left -= size
        data = self._file.read(size) if self._left >= 0 else b""
        if self._left < 0 or len(data) < size:
            raise _Damaged("its metadata ends too early, or is too large")
        return data
