"""Asks upstreams how they are: now and then in the background, and at once when somebody wants to know.

A server that answers at all is alive, unless it says that it is not: many have no path for health. What
is learnt goes to the circuits of `balance.py`, and to the log when it changes. Owns the background job.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from arriero.errors import ServiceError
from arriero.guard.upstream import Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arriero.guard.balance import Circuit
    from arriero.guard.upstream import Upstream

logger = logging.getLogger(__name__)

EVERY_S = 5.0
WITHIN_S = 3.0
FRESH_S = 1.0
_LEAST_BAD_STATUS = 500


class Health:
    """The health of one model's upstreams. Without a path there is only what requests tell.

    every_s: how often they are asked in the background. within_s: how long they have to answer.
    fresh_s: whoever asks again within this time gets the last answer.
    """

    def __init__(
        self,
        path: str,
        upstreams: Sequence[tuple[Upstream, Circuit]],
        *,
        every_s: float = EVERY_S,
        within_s: float = WITHIN_S,
        fresh_s: float = FRESH_S,
    ) -> None:
        self._every_s = every_s
        self._within_s = within_s
        self._fresh_s = fresh_s
        self._request = Request(b"GET", path.encode()) if path else None
        self._upstreams = upstreams
        self._watch: asyncio.Task[None] | None = None
        self._check: asyncio.Task[bool] | None = None
        self._checked_at = float("-inf")
        self._faulty: set[Upstream] = set()
        """Of which the operator has been told."""

    def start(self) -> None:
        """Begin to ask in the background."""
        if self._request is not None:
            self._watch = asyncio.create_task(self._watched())

    async def stop(self) -> None:
        """End all that is under way."""
        jobs = [job for job in (self._watch, self._check) if job is not None]
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

    async def is_well(self) -> bool:
        """Ask all upstreams, side by side; say whether any can serve."""
        if self._request is None:
            return any(circuit.is_passable for _, circuit in self._upstreams)
        now = asyncio.get_running_loop().time()
        if self._check is None or (self._check.done() and now - self._checked_at > self._fresh_s):
            self._check = asyncio.create_task(self._ask_all())
        return await asyncio.shield(self._check)

    async def _watched(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.is_well()
            except Exception:
                logger.exception("a health check failed")

    async def _ask_all(self) -> bool:
        found = await asyncio.gather(*(self._ask(*one) for one in self._upstreams))
        self._checked_at = asyncio.get_running_loop().time()
        return any(found)

    async def _ask(self, upstream: Upstream, circuit: Circuit) -> bool:
        fault = await self._fault(upstream)
        if fault:
            circuit.fail()
        else:
            circuit.succeed()
        self._tell(upstream, fault)
        return not fault

    async def _fault(self, upstream: Upstream) -> str:
        """Return why an upstream cannot serve; nothing if it can."""
        assert self._request is not None
        try:
            async with asyncio.timeout(self._within_s):
                with closing(await upstream.send(self._request)) as answer:
                    status = (await answer.wait_head()).status
                    if status >= _LEAST_BAD_STATUS:
                        return f"its health is status {status}"
                    with suppress(ServiceError):
                        await answer.whole(1 << 16)
        except TimeoutError:
            return f"no answer within {self._within_s:g} s"
        except ServiceError as exc:
            return str(exc.__cause__ or exc.message)
        return ""

    def _tell(self, upstream: Upstream, fault: str) -> None:
        """Tell the operator, once for each change."""
        was_faulty = upstream in self._faulty
        if fault and not was_faulty:
            self._faulty.add(upstream)
            logger.warning("the upstream %s cannot serve: %s", upstream.place, fault)
        elif was_faulty and not fault:
            self._faulty.discard(upstream)
            logger.warning("the upstream %s serves again", upstream.place)
