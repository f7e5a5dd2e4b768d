"""What the file system refuses, in the operator's words."""

from __future__ import annotations

import errno
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from arriero.errors import ConfigError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FULL_DISK = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def storage_errors(path: Path, scratch: Path) -> Iterator[None]:
    """Translate an OSError of the work on `path`: Unavailable for a full disk, ConfigError for all else.

    scratch: what was fetched so far, a file or a folder. It is removed when the disk is full.
    """
    try:
        yield
    except OSError as exc:
        reason = exc.strerror or str(exc)
        if exc.errno not in _FULL_DISK:
            raise ConfigError(f"cannot write {path}: {reason}") from exc
        if scratch.is_dir():
            shutil.rmtree(scratch, ignore_errors=True)
        else:
            scratch.unlink(missing_ok=True)
        raise Unavailable(f"no room on the disk for {path}: {reason}") from exc
