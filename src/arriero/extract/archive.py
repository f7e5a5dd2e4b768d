"""The members of a zip archive, unpacked within limits."""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import TYPE_CHECKING

from arriero.errors import UnreadableDocument
from arriero.extract.limits import damaged, limit_hit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from arriero.extract.limits import Limits

_CHUNK_BYTES = 64 * 1024
RATIO = 250
"""A member may unpack to this many times its packed size ..."""
RATIO_FROM_BYTES = 8 * 1024 * 1024
"""... once it is larger than this."""
_END_BYTES = 65_535 + 22
_FEWEST_ENTRY_BYTES = 46
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Archive:
    """An open archive. Owns the count of what was unpacked of it."""

    def __init__(self, data: bytes, limits: Limits) -> None:
        self._limits = limits
        self._unpacked = 0
        _check_directory(data, limits)
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as exc:
            raise damaged("the archive is damaged: its list of members cannot be read") from exc
        if len(self._zip.infolist()) > limits.archive_members:
            raise _too_many_members(limits)
        self.names = frozenset(self._zip.namelist())

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield the content of a member piece by piece. Raises UnreadableDocument."""
        try:
            info = self._zip.getinfo(name)
            if info.compress_type not in _METHODS:
                raise damaged(f"{name} is packed in a way that documents are not")
            with self._zip.open(info) as member:
                size = 0
                while chunk := member.read(_CHUNK_BYTES):
                    size += len(chunk)
                    self._count(name, len(chunk), size=size, packed=info.compress_size)
                    yield chunk
        except RuntimeError as exc:  # how zipfile asks for a password
            raise UnreadableDocument("encrypted", f"{name} is encrypted; remove the password first") from exc
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OSError) as exc:
            raise damaged(f"{name} is damaged: it cannot be unpacked") from exc

    def _count(self, name: str, count: int, *, size: int, packed: int) -> None:
        self._unpacked += count
        most = self._limits.decompressed_bytes
        if self._unpacked > most:
            raise limit_hit("decompressed_bytes", f"the archive unpacks to more than {most} bytes")
        if size > RATIO_FROM_BYTES and size > RATIO * packed:
            raise limit_hit("decompressed_bytes", f"{name} unpacks to more than {RATIO} times its size")


def _check_directory(data: bytes, limits: Limits) -> None:
    """Refuse a list of members that is far too long, before it is read."""
    end = data.rfind(b"PK\x05\x06", max(0, len(data) - _END_BYTES))
    if end < 0 or len(data) < end + 22:
        raise damaged("the archive is damaged: its end is missing")
    size = int.from_bytes(data[end + 12 : end + 16], "little")
    if size > limits.archive_members * 4 * _FEWEST_ENTRY_BYTES:
        raise _too_many_members(limits)


def _too_many_members(limits: Limits) -> UnreadableDocument:
    return limit_hit("archive_members", f"the archive has more than {limits.archive_members} members")
