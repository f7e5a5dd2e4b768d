"""How many requests generate at once: one gate for all generating routes, with a bounded, fair queue.

A place is held for the whole answer, streams included. Routes that do not generate never wait. `turns`
says who is next; here are only the waiting and its end.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from arriero.errors import Overloaded
from arriero.server.turns import Turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

MAX_WAIT_S = 30.0


class Outcome(Enum):
    """What has become of one who waits."""

    WAITING = auto()
    PLACED = auto()
    SENT_AWAY = auto()


class Waiter:
    """One who waits, and what has become of it: known at once, also when its job is cancelled meanwhile."""

    def __init__(self) -> None:
        self.outcome = Outcome.WAITING
        self._decided = asyncio.Event()

    def decide(self, outcome: Outcome) -> None:
        """Wake up whoever waits."""
        self.outcome = outcome
        self._decided.set()

    async def wait(self) -> None:
        """Return once it is decided."""
        await self._decided.wait()


class Gate:
    """Owns the turns, and those who wait."""

    def __init__(self, max_concurrent: int, *, max_waiting: int, max_wait_s: float = MAX_WAIT_S) -> None:
        self._turns: Turns[Waiter] = Turns(max_concurrent, max_waiting)
        self._max_wait_s = max_wait_s

    @property
    def waiting(self) -> int:
        """Number of requests in the queue."""
        return self._turns.waiting

    def of(self, tenant: str) -> Lane:
        """Return the gate as one tenant uses it."""
        return Lane(self, tenant)

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
        waiter = self._queued(tenant)
        try:
            async with asyncio.timeout(self._max_wait_s):
                await waiter.wait()
        except TimeoutError as exc:
            self._withdraw(tenant, waiter)
            raise Overloaded(f"no place was free within {self._max_wait_s:g} s; try again later") from exc
        except asyncio.CancelledError:
            self._withdraw(tenant, waiter)
            raise
        if waiter.outcome is Outcome.SENT_AWAY:
            raise Overloaded("the queue is full, and others have fewer requests in it; try again later")

    def _queued(self, tenant: str) -> Waiter:
        waiter = Waiter()
        sent_away = self._turns.wait(tenant, waiter)
        if sent_away is waiter:
            raise Overloaded(f"{self.waiting} requests are waiting already; try again later")
        if sent_away is not None:
            sent_away.decide(Outcome.SENT_AWAY)
        return waiter

    def _withdraw(self, tenant: str, waiter: Waiter) -> None:
        """Undo the waiting of one who has given up, whatever has become of it."""
        if waiter.outcome is Outcome.WAITING:
            self._turns.leave(tenant, waiter)
        elif waiter.outcome is Outcome.PLACED:
            self._give_back(tenant)

    def _give_back(self, tenant: str) -> None:
        waiter = self._turns.give_back(tenant)
        if waiter is not None:
            waiter.decide(Outcome.PLACED)


@dataclass(frozen=True, slots=True)
class Lane:
    """A gate as one tenant uses it."""

    gate: Gate
    tenant: str

    def place(self) -> AbstractAsyncContextManager[None]:
        """Hold a place. Raises Overloaded when the queue is full or the wait too long."""
        return self.gate.place(self.tenant)
