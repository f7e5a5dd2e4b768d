"""The upstreams of one model as one: chooses, sends, and turns to another before anything has come.

Owns the connections, circuits and health checks of the model. What is asked and answered is not known here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from arriero.errors import ServiceError, Unavailable
from arriero.guard.balance import Balancer
from arriero.guard.connection import Unanswered
from arriero.guard.health import Health
from arriero.guard.upstream import ConnectTimeout, Unreachable, Upstream

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from arriero.config.remote import TimeoutsConfig, UpstreamAddress
    from arriero.guard.connection import Answer, Head
    from arriero.guard.upstream import Request

MAX_TRIES = 3
_NOT_WELL = (502, 503, 504)
_ELSEWHERE = (429, 502, 503)
"""Another upstream may answer at once what one of these statuses refused."""


class Reply:
    """An answer, and its place at the upstream. Its one reader must `close` it."""

    __slots__ = ("_answer", "_balancer", "_index", "_is_closed", "head")

    def __init__(self, answer: Answer, head: Head, balancer: Balancer, index: int) -> None:
        self.head = head
        self._answer = answer
        self._balancer = balancer
        self._index = index
        self._is_closed = False

    async def piece(self) -> bytes:
        """As `Answer.piece`."""
        try:
            return await self._answer.piece()
        except ServiceError:
            self._balancer.circuits[self._index].fail()
            raise

    def close(self) -> None:
        """Cut an answer that has not ended."""
        self._answer.close()
        self._leave()

    def finish(self) -> None:
        """End an answer of which no more is awaited than the end of its framing."""
        self._answer.finish()
        self._leave()

    def _leave(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._balancer.end(self._index)


class Replicas:
    """Use as `start`, many `send`, `stop`."""

    def __init__(
        self,
        addresses: Sequence[UpstreamAddress],
        timeouts: TimeoutsConfig,
        *,
        health_path: str,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        names = [f"{address.host}:{address.port}{address.prefix}" for address in addresses]
        self._upstreams = [Upstream(address, timeouts, tls=tls) for address in addresses]
        self._balancer = Balancer(names, asyncio.get_running_loop().time)
        self._health = Health(health_path, list(zip(self._upstreams, self._balancer.circuits, strict=True)))

    @property
    def num_upstreams(self) -> int:
        """How many there are."""
        return len(self._upstreams)

    @property
    def num_connections(self) -> int:
        """Open connections to all of them."""
        return sum(upstream.num_connections for upstream in self._upstreams)

    @property
    def num_running(self) -> int:
        """Requests that are at an upstream now."""
        return sum(self._balancer.loads)

    def start(self) -> None:
        """Begin to watch over their health."""
        self._health.start()

    async def stop(self) -> None:
        """End all that is under way."""
        await self._health.stop()
        for upstream in self._upstreams:
            upstream.close()

    async def is_well(self) -> bool:
        """Say, within 3 s, whether any of them can serve."""
        return await self._health.is_well()

    async def send(self, request: Request, affinity: bytes | None = None) -> Reply:
        """Send a request to the best upstream, or to the next best while none has begun to answer it.

        Raises Unavailable when none is to be asked, UpstreamFailed, UpstreamTimeout.
        """
        tried: set[int] = set()
        failure: ServiceError = Unavailable("no upstream of this model can be reached; try again later")
        while True:
            index = self._balancer.choose(affinity, tried)
            if index is None:
                raise failure
            tried.add(index)
            is_last = len(tried) >= min(MAX_TRIES, self.num_upstreams)
            try:
                reply = await self._send_to(index, request)
            except (Unreachable, Unanswered, ConnectTimeout) as exc:
                failure = exc
                if is_last:
                    raise
                continue
            if is_last or reply.head.status not in _ELSEWHERE or self._balancer.choose(None, tried) is None:
                return reply
            reply.close()

    async def _send_to(self, index: int, request: Request) -> Reply:
        circuit = self._balancer.circuits[index]
        self._balancer.begin(index)
        try:
            answer = await self._upstreams[index].send(request)
            head = await answer.wait_head()
        except BaseException as exc:
            if isinstance(exc, ServiceError):
                circuit.fail()
            self._balancer.end(index)
            raise
        if head.status in _NOT_WELL:
            circuit.fail()
        else:
            circuit.succeed()
        return Reply(answer, head, self._balancer, index)
