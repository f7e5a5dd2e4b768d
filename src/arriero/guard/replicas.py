"""The upstreams of one model as one: chooses, sends, and turns to another before anything has come.

Owns the connections, circuits and health checks of the model. What is asked and answered is not known here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from arriero.errors import ServiceError, Unavailable
from arriero.guard.balance import Balancer
from arriero.guard.connection import Unanswered
from arriero.guard.health import Health
from arriero.guard.upstream import ConnectTimeout, Unreachable, Upstream

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from arriero.config.remote import TimeoutsConfig, UpstreamAddress
    from arriero.guard.balance import Circuit
    from arriero.guard.connection import Connection, Sink
    from arriero.guard.reading import Answer
    from arriero.guard.scan import Head
    from arriero.guard.upstream import Request

MAX_TRIES = 3
_NOT_WELL = (502, 503, 504)
_ELSEWHERE = (429, 502, 503)
"""Another upstream may answer at once what one of these statuses refused."""


class Place(msgspec.Struct, eq=False):
    """A begun request's place at its upstream. Owns the news of how that went; `leave` it once or more."""

    _balancer: Balancer
    index: int
    _is_left: bool = False

    def note_status(self, status: int) -> None:
        """Take note that an answer began."""
        circuit = self._balancer.circuits[self.index]
        if status in _NOT_WELL:
            circuit.fail()
        else:
            circuit.succeed()

    def note_failure(self) -> None:
        """Take note that there was no answer, or that it broke off."""
        self._balancer.circuits[self.index].fail()

    def leave(self) -> None:
        """The request has nothing more to do with the upstream."""
        if not self._is_left:
            self._is_left = True
            self._balancer.end(self.index)


class Reply:
    """An answer, and its place at the upstream. Its one reader must `close` it."""

    __slots__ = ("_answer", "head", "place")

    def __init__(self, answer: Answer, head: Head, place: Place) -> None:
        self.head = head
        self.place = place
        self._answer = answer

    async def piece(self) -> bytes:
        """As `Answer.piece`."""
        try:
            return await self._answer.piece()
        except ServiceError:
            self.place.note_failure()
            raise

    def detached(self, sink: Sink) -> Connection | None:
        """As `Answer.detached`; the place is the sink's to leave."""
        return self._answer.detached(sink)

    def drain(self, sink: Sink) -> None:
        """As `Answer.drain`."""
        self._answer.drain(sink)

    def close(self) -> None:
        """Cut an answer that has not ended."""
        self._answer.close()
        self.place.leave()

    def finish(self) -> None:
        """End an answer of which no more is awaited than the end of its framing."""
        self._answer.finish()
        self.place.leave()


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
        self.num_failovers = 0
        """Requests that were taken to another one."""
        self._upstreams = [Upstream(address, timeouts, tls=tls) for address in addresses]
        self._balancer = Balancer(names, asyncio.get_running_loop().time)
        self._health = Health(health_path, list(zip(self._upstreams, self._balancer.circuits, strict=True)))

    @property
    def num_upstreams(self) -> int:
        """How many there are."""
        return len(self._upstreams)

    @property
    def circuits(self) -> Sequence[Circuit]:
        """The circuit of each."""
        return self._balancer.circuits

    @property
    def is_passable(self) -> bool:
        """Whether any of them would be asked now."""
        return any(circuit.is_passable for circuit in self._balancer.circuits)

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

    def send_at_once(
        self, request: Request, affinity: bytes | None, sink: Sink
    ) -> tuple[Place, Connection] | None:
        """Send to the best upstream if a connection to it is free; the sink gets the answer.

        It tells the place of the status or of the failure, and leaves it.
        """
        index = self._balancer.choose(affinity)
        if index is None:
            return None
        connection = self._upstreams[index].send_at_once(request, sink)
        if connection is None:
            return None
        self._balancer.begin(index)
        return Place(self._balancer, index), connection

    def is_better_elsewhere(self, status: int, index: int) -> bool:
        """Say whether another upstream is to be asked what this one refused."""
        return status in _ELSEWHERE and self._balancer.choose(None, {index}) is not None

    async def send(
        self,
        request: Request,
        affinity: bytes | None = None,
        *,
        refused_by: int | None = None,
        fresh: bool = False,
    ) -> Reply:
        """Send a request to the best upstream, or to the next best while none has begun to answer it.

        refused_by: one that is not asked again. fresh: over a new connection, as kept ones may be stale.
        Raises Unavailable when none is to be asked, UpstreamFailed, UpstreamTimeout.
        """
        tried = set() if refused_by is None else {refused_by}
        self.num_failovers += len(tried)
        # In a list, as a name in this frame would make a circle with the trace of what is raised.
        failure: list[ServiceError] = [
            Unavailable("no upstream of this model can be reached; try again later")
        ]
        while True:
            index = self._balancer.choose(affinity, tried)
            if index is None:
                raise failure.pop()
            tried.add(index)
            is_last = len(tried) >= min(MAX_TRIES, self.num_upstreams)
            try:
                reply = await self._send_to(index, request, fresh=fresh)
            except (Unreachable, Unanswered, ConnectTimeout) as exc:
                if is_last:
                    raise
                failure[:] = [exc]
                self.num_failovers += 1
                continue
            if is_last or reply.head.status not in _ELSEWHERE or self._balancer.choose(None, tried) is None:
                return reply
            self.num_failovers += 1
            reply.close()

    async def _send_to(self, index: int, request: Request, *, fresh: bool) -> Reply:
        self._balancer.begin(index)
        place = Place(self._balancer, index)
        try:
            answer = await self._upstreams[index].send(request, fresh=fresh)
            head = await answer.wait_head()
        except BaseException as exc:
            if isinstance(exc, ServiceError):
                place.note_failure()
            place.leave()
            raise
        place.note_status(head.status)
        return Reply(answer, head, place)
