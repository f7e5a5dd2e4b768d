"""How many requests generate at once: one gate for all generating routes, with a bounded, fair queue.

A place is held for the whole answer, streams included. Routes that do not generate never wait. `turns`
says who is next; here are only the waiting and its end.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arriero.errors import Overloaded
from arriero.server.turns import Turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

MAX_WAIT_S = 30.0

Waiter = asyncio.Future[bool]
"""True = the place is yours, False = another tenant's request needs yours in the queue."""


class Gate:
    """Owns the turns, and the futures of those who wait."""

    def __init__(self, max_concurrent: int, *, max_waiting: int, max_wait_s: float = MAX_WAIT_S) -> None:
        self._turns: Turns[Waiter] = Turns(max_concurrent, max_waiting)
        self._max_wait_s = max_wait_s

    @property
    def waiting(self) -> int:
        """Number of requests in the queue."""
        return self._turns.waiting

    def of(self, tenant: str) -> Door:
        """Return the gate as one tenant uses it."""
        return Door(self, tenant)

    @asynccontextmanager
    async def place(self, tenant: str = "") -> AsyncIterator[None]:
        """Hold a place. Raises Overloaded when the queue is full or the wait too long."""
        if not self._turns.take(tenant):
            await self._wait(tenant)
        try:
            yield
        finally:
            self._give_back(tenant)

    async def _wait(self, tenant: str) -> None:
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._queue(tenant, waiter)
        try:
            async with asyncio.timeout(self._max_wait_s):
                has_place = await waiter
        except (TimeoutError, asyncio.CancelledError) as exc:
            self._withdraw(tenant, waiter)
            if isinstance(exc, TimeoutError):
                raise Overloaded(f"no place was free within {self._max_wait_s:g} s; try again later") from exc
            raise
        if not has_place:
            raise Overloaded("the queue is full, and others have fewer requests in it; try again later")

    def _queue(self, tenant: str, waiter: Waiter) -> None:
        sent_away = self._turns.wait(tenant, waiter)
        if sent_away is waiter:
            raise Overloaded(f"{self.waiting} requests are waiting already; try again later")
        if sent_away is not None:
            sent_away.set_result(False)

    def _withdraw(self, tenant: str, waiter: Waiter) -> None:
        """Undo the waiting of one who has given up, whatever has become of it meanwhile."""
        if waiter.cancelled() or not waiter.done():
            self._turns.leave(tenant, waiter)
        elif waiter.result():
            self._give_back(tenant)

    def _give_back(self, tenant: str) -> None:
        waiter = self._turns.give_back(tenant)
        if waiter is not None:
            waiter.set_result(True)


@dataclass(frozen=True, slots=True)
class Door:
    """A gate as one tenant uses it."""

    gate: Gate
    tenant: str

    def place(self) -> AbstractAsyncContextManager[None]:
        """Hold a place. Raises Overloaded when the queue is full or the wait too long."""
        return self.gate.place(self.tenant)
