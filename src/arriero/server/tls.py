"""What connections are served with, renewed while the server runs.

Connections that are open keep what they began with. Files that cannot be used are refused, and tried
again when they change once more.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

from arriero.config.tls_checks import TlsFault, server_context, tls_warnings

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from arriero.config.tls import TlsConfig

logger = logging.getLogger(__name__)

WATCH_S = 1.0
"""How often the files are looked at."""

Stamp = tuple[int, int, int] | None


class Found(NamedTuple):
    """What a configuration says, and how its files are."""

    tls: TlsConfig
    stamps: tuple[Stamp, ...]


class Certificate:
    """Owns the context of the next connection."""

    def __init__(self, tls: TlsConfig) -> None:
        """Read the files. Raises ConfigError."""
        self._served = self._tried = self._seen = found(tls)
        self._context = server_context(tls)

    def context(self) -> ssl.SSLContext:
        """Return what the next connection is served with."""
        return self._context

    async def watch(self, current: Callable[[], TlsConfig | None], every_s: float = WATCH_S) -> None:
        """Look at the files of the current configuration for as long as it runs.

        Those that changed are taken when they have stayed the same since the last look: certificate and
        key are seldom written in one moment.
        """
        while True:
            await asyncio.sleep(every_s)
            if (tls := current()) is None:
                continue
            now, before = found(tls), self._seen
            self._seen = now
            if now == before != self._tried:
                await self._take(now)

    async def renew(self, tls: TlsConfig | None) -> bool:
        """Take what has changed at once; return whether what is configured is served."""
        if tls is None:
            return True  # the edge speaks TLS until the next start
        now = found(tls)
        return now == self._served or await self._take(now)

    async def _take(self, now: Found) -> bool:
        self._tried = now
        try:
            self._context = await asyncio.to_thread(server_context, now.tls)
        except TlsFault as fault:
            logger.error("the new certificate is refused, the old one stays: %s", fault.message)
            return False
        self._served = now
        logger.info("new connections are served with the certificate %s", now.tls.certificate)
        for warning in await asyncio.to_thread(lambda: list(tls_warnings(now.tls))):
            logger.warning("%s: %s", ".".join(map(str, warning.path)), warning.message)
        return True


def found(tls: TlsConfig) -> Found:
    """Look at the files."""
    files = (tls.certificate, tls.key, tls.client_ca)
    return Found(tls, tuple(None if file is None else stamp(file) for file in files))


def stamp(file: Path) -> Stamp:
    """Return what changes when a file is written or replaced; None when there is none."""
    try:
        seen = file.stat()
    except OSError:
        return None
    return seen.st_ino, seen.st_mtime_ns, seen.st_size
