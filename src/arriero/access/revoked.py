"""Tokens that are refused before their time, by `jti`: a file with one a line, read again when it changes.

What cannot be read leaves what was known, so that a mistake with the file opens nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from arriero.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

MAX_BYTES = 16 * 1024 * 1024
COMMENT = "#"

Stamp = tuple[int, int, int]


class RevokedTokens:
    """Owns what the file said when it was last read."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises ConfigError."""
        self._path = path
        self._stamp: Stamp | None = None
        try:
            self._read()
        except (OSError, ValueError) as exc:
            raise ConfigError(f"auth.jwt_revoked_file: {path}: {_words(exc)}") from exc

    def holds(self, jti: str | None) -> bool:
        """Say whether a token is revoked; one without a `jti` cannot be."""
        try:
            self._read()
        except (OSError, ValueError) as exc:
            if self._stamp is not None:  # once
                logger.warning("revoked tokens stay as they were: %s: %s", self._path, _words(exc))
            self._stamp = None
        return jti in self._revoked

    def _read(self) -> None:
        """Read the file if it is not as it was."""
        found = self._path.stat()
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        if stamp == self._stamp:
            return
        if found.st_size > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES} bytes")
        lines = [line.strip() for line in self._path.read_text(encoding="utf-8").splitlines()]
        self._revoked = frozenset(line for line in lines if line and not line.startswith(COMMENT))
        self._stamp = stamp


def _words(exc: OSError | ValueError) -> str:
    if isinstance(exc, UnicodeDecodeError):
        return "not UTF-8"
    return getattr(exc, "strerror", None) or str(exc)
