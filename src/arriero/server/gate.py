"""How many requests generate at once: one gate for all generating routes, with a bounded, fair queue.

A place is held for the whole answer, streams included. Routes that do not generate never wait. `turns`
says who is next; here are only the waiting and its end.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from arriero.config.auth import DEFAULT_PRIORITY
from arriero.errors import Overloaded
from arriero.server.turns import Turns

if TYPE_CHECKING:
    from arriero.config.auth import Priority

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

    def of(self, tenant: str, priority: Priority = DEFAULT_PRIORITY) -> Lane:
        """Return the gate as one tenant uses it."""
        return Lane(self, tenant, priority)

    def place(self, tenant: str = "", priority: Priority = DEFAULT_PRIORITY) -> Place:
        """Hold a place while in the block. Raises Overloaded when the queue is full or the wait too long."""
        return Place(self, tenant, priority)

    async def enter(self, tenant: str, priority: Priority) -> None:
        """Take a place, for `Place`."""
        if not self._turns.take(tenant):
            await self._wait(tenant, priority)

    def leave(self, tenant: str) -> None:
        """Give a place back, for `Place`."""
        waiter = self._turns.give_back(tenant)
        if waiter is not None:
            waiter.decide(Outcome.PLACED)

    async def _wait(self, tenant: str, priority: Priority) -> None:
        waiter = self._queued(tenant, priority)
        try:
            async with asyncio.timeout(self._max_wait_s):
                await waiter.wait()
        except TimeoutError as exc:
            self._withdraw(tenant, waiter, priority)
            raise Overloaded(f"no place was free within {self._max_wait_s:g} s; try again later") from exc
        except asyncio.CancelledError:
            self._withdraw(tenant, waiter, priority)
            raise
        if waiter.outcome is Outcome.SENT_AWAY:
            raise Overloaded("the queue is full, and others go first; try again later")

    def _queued(self, tenant: str, priority: Priority) -> Waiter:
        waiter = Waiter()
        sent_away = self._turns.wait(tenant, waiter, priority)
        if sent_away is waiter:
            raise Overloaded(f"{self.waiting} requests are waiting already; try again later")
        if sent_away is not None:
            sent_away.decide(Outcome.SENT_AWAY)
        return waiter

    def _withdraw(self, tenant: str, waiter: Waiter, priority: Priority) -> None:
        """Undo the waiting of one who has given up, whatever has become of it."""
        if waiter.outcome is Outcome.WAITING:
            self._turns.leave(tenant, waiter, priority)
        elif waiter.outcome is Outcome.PLACED:
            self.leave(tenant)


@dataclass(frozen=True, slots=True)
class Lane:
    """A gate as one tenant uses it."""

    gate: Gate
    tenant: str
    priority: Priority

    def place(self) -> Place:
        """Hold a place while in the block. Raises Overloaded when the queue is full or the wait too long."""
        return Place(self.gate, self.tenant, self.priority)


class Place:
    """A place while in the block. A class, as a generator for each stream would cost memory."""

    __slots__ = ("_gate", "_priority", "_tenant")

    def __init__(self, gate: Gate, tenant: str, priority: Priority) -> None:
        self._gate = gate
        self._tenant = tenant
        self._priority = priority

    async def __aenter__(self) -> None:
        await self._gate.enter(self._tenant, self._priority)

    async def __aexit__(self, *exc_info: object) -> None:
        self._gate.leave(self._tenant)
