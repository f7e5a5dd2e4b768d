"""What is known of a fetched file: where it came from and which hash it was found to have.

Lies beside the file as `NAME.stamp`, so that gigabytes are not hashed again at every start. A
file that was changed since (size or time) loses what its stamp says.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

    from arriero.catalogue.progress import Progress

_BLOCK_BYTES = 4 << 20


class Stamp(msgspec.Struct, frozen=True, omit_defaults=True):
    """source: the URL or package. validator: strong ETag or date of an unfinished download."""

    source: str
    validator: str | None = None
    sha256: str | None = None
    size_bytes: int = 0
    mtime_ns: int = 0


def stamp_path(path: Path) -> Path:
    return path.with_name(path.name + ".stamp")


def read_stamp(path: Path) -> Stamp | None:
    """Return the stamp of a file, None if there is none that can be read."""
    try:
        return msgspec.json.decode(stamp_path(path).read_bytes(), type=Stamp)
    except (OSError, msgspec.DecodeError):
        return None


def write_stamp(path: Path, stamp: Stamp) -> None:
    stamp_path(path).write_bytes(msgspec.json.encode(stamp))


def finished_stamp(path: Path, *, source: str, sha256: str | None) -> Stamp:
    """Return the stamp of a complete file as it lies on disk now."""
    status = path.stat()
    return Stamp(source=source, sha256=sha256, size_bytes=status.st_size, mtime_ns=status.st_mtime_ns)


def is_fetched(path: Path, *, source: str, sha256: str | None, progress: Progress) -> bool:
    """Tell whether the file is there and is what we want; hashes it if it was not hashed before.

    Without `sha256` a file counts unless its stamp names another source: one that a person put
    there is taken as it is.
    """
    if not path.is_file():
        return False
    stamp = read_stamp(path)
    if sha256 is None:
        return stamp is None or stamp.source == source
    if stamp is not None and stamp == finished_stamp(path, source=stamp.source, sha256=sha256):
        return True
    if file_sha256(path, progress) != sha256:
        return False
    with contextlib.suppress(OSError):  # the folder may be read-only; then it is hashed again next time
        write_stamp(path, finished_stamp(path, source=source, sha256=sha256))
    return True


def file_sha256(path: Path, progress: Progress) -> str:
    """Return the SHA-256 of a file in lower-case hexadecimal digits."""
    digest = hashlib.sha256()
    total = path.stat().st_size
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            progress(f"checking {path.name}", file.tell(), total)
    return digest.hexdigest()
