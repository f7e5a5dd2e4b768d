"""How many requests generate at once: one gate for all generating routes, with a bounded queue.

A place is held for the whole answer, streams included. Routes that do not generate never wait.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from arriero.errors import Overloaded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MAX_WAIT_S = 30.0


class Gate:
    """Owns the places and the number of those who wait for one; first come, first served."""

    def __init__(self, max_concurrent: int, *, max_waiting: int, max_wait_s: float = MAX_WAIT_S) -> None:
        self._places = asyncio.Semaphore(max_concurrent)
        self._waiting = 0
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s

    @property
    def waiting(self) -> int:
        """Number of requests in the queue."""
        return self._waiting

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place. Raises Overloaded when the queue is full or the wait too long."""
        await self._enter()
        try:
            yield
        finally:
            self._places.release()

    async def _enter(self) -> None:
        if self._places.locked() and self._waiting >= self._max_waiting:
            raise Overloaded(f"{self._waiting} requests are waiting already; try again later")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._max_wait_s):
                await self._places.acquire()
        except TimeoutError as exc:
            raise Overloaded(f"no place was free within {self._max_wait_s:g} s; try again later") from exc
        finally:
            self._waiting -= 1
