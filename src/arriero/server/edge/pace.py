"""Whether a client keeps up, with what it is sent and with what it sends. Pure but for its memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arriero.server.edge.limits import Limits


class Stall:
    """What was waiting to be sent at the last look, and since when."""

    __slots__ = ("_limit_s", "_since", "_waiting")

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._waiting = 0
        self._since = 0.0

    def is_over(self, now: float, waiting: int) -> bool:
        """Say whether `waiting` bytes have not become fewer for the limit; to be asked regularly."""
        if not waiting or waiting < self._waiting or not self._waiting:
            self._since = now
        self._waiting = waiting
        return bool(waiting) and now - self._since >= self._limit_s


class BodyPace:
    """How much of a body has come since when. Each byte buys time after the grace."""

    __slots__ = ("_grace_s", "_least", "_mark", "_since", "received")

    def __init__(self, limits: Limits, now: float) -> None:
        self._grace_s = limits.body_grace_s
        self._least = limits.min_body_bytes_per_s
        self._since = now
        self._mark = 0
        self.received = 0

    def restart(self, now: float) -> None:
        """Reckon anew from now: until now nobody took the body."""
        self._since = now
        self._mark = self.received

    @property
    def deadline(self) -> float:
        """Until when more must have come."""
        return self._since + self._grace_s + (self.received - self._mark) / self._least
