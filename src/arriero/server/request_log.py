"""A line for each request that was answered directly, written many at a time: a line costs more than a look.

Lines are at most `EVERY_S` late. The same logger, in the same form, is the place of any other access log.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

logger = logging.getLogger("arriero.requests")

EVERY_S = 0.5
MOST_LINES = 512


class RequestLog:
    """Owns the lines that are not yet written."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_on(self) -> bool:
        """Whether anybody wants the lines."""
        return logger.isEnabledFor(logging.INFO)

    def add(self, path: str, status: int, took_s: float, who: str, request_id: bytes) -> None:
        """Note one answer."""
        line = f"POST {path} {status} {took_s * 1e3:.1f} ms {who or '-'} {request_id.decode('latin-1')}"
        self._lines.append(line)
        if self._timer is None:
            self._since = datetime.now(UTC)
            self._timer = asyncio.get_running_loop().call_later(EVERY_S, self.write)
        elif len(self._lines) >= MOST_LINES:
            self.write()

    def write(self) -> None:
        """Write what there is, as one message with a line for each answer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if lines:
            logger.info(
                "%d since %s\n%s", len(lines), self._since.isoformat("T", "milliseconds"), "\n".join(lines)
            )
