"""The HTTP edge: accepts connections, bounds them, looks at their deadlines, and ends them in order.

Above it are direct handlers, called without a job for requests that are whole, and an ASGI
application for all others.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Protocol

from arriero.server.edge.connection import Connection
from arriero.server.edge.head import Heads
from arriero.server.edge.limits import Limits, max_open_files
from arriero.server.edge.refusal import Refused, no_room
from arriero.server.edge.tls import TlsTransport

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine, Mapping

    from starlette.types import ASGIApp, Scope

    from arriero.server.edge.exchange import Exchange

    Handlers = Mapping[bytes, Callable[[Exchange], bool]]

BACKLOG = 2048
SHARE_OF_REFUSED = 0.25
"""Of the files that connections leave: as many may be held by those that are read a refusal."""
ACCEPTORS = 16
"""uvloop accepts one connection for each listener in a turn of the loop; on a busy loop turns are long."""
SEND_BUFFER_BYTES = 256 * 1024
NO_SNIFFING = b"x-content-type-options: nosniff\r\n"
ONLY_TLS = b"strict-transport-security: max-age=31536000\r\n"
STOP_S = 1.0
"""How long jobs that were cancelled at the end may take to say so to their clients."""


class Member(Protocol):
    """A connection, in whatever protocol it speaks now."""

    def sweep(self, now: float) -> None: ...
    def drain(self) -> None: ...
    def stop(self) -> None: ...
    def abort(self) -> None: ...


class Observer(Protocol):
    """Told of every request that a direct handler has not taken."""

    @property
    def began(self) -> Callable[[Exchange], None] | None:
        """What is told of each request before anybody answers it, if anything is to be."""
        ...

    def ended(self, exchange: Exchange, scope: Scope) -> None:
        """Take the news that the application has done with a request."""
        ...

    def refused(self, status: int, code: str) -> None:
        """Take the news that the edge itself refused a request, or a connection."""
        ...


class Edge:
    """Owns the listening socket, all connections and the jobs of the application."""

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits | None = None,
        direct: Handlers | None = None,
        *,
        observer: Observer | None = None,
        on_sweep: Callable[[], None] | None = None,
        on_stopped: Callable[[], None] | None = None,
    ) -> None:
        """Serve an application.

        direct: handlers of POST requests by exact path. Each gets the whole request and answers it now
            or later; one that returns False leaves it, untouched, to the application. Bodies above
            `max_body_bytes` go to the application, which says so in its own words.
        observer: told of what becomes of requests.
        on_sweep: called at each look at the deadlines, once a second.
        on_stopped: called at the end of `stop`, when no connection and no job is left.
        """
        self.app = app
        self.limits = limits or Limits()
        self.heads = Heads(self.limits)
        self.direct = direct or {}
        self.observer = observer
        self.began = None if observer is None else observer.began
        self.finished = None if observer is None else observer.ended
        self.lag_s = 0.0
        """How much too late the event loop came to the last sweep."""
        self._on_sweep = on_sweep
        self._on_stopped = on_stopped
        self.address: tuple[str, int] | None = None
        self.common_lines = b""
        """Headers of every answer."""
        self.held_body_bytes = 0
        self.is_draining = False
        self.clock: Callable[[], float]
        self._loop: asyncio.AbstractEventLoop
        self._context: Callable[[], ssl.SSLContext] | None = None
        self._browser_lines = NO_SNIFFING
        self._servers: list[asyncio.Server] = []
        self._timer: asyncio.TimerHandle | None = None
        self._members: set[Member] = set()
        self._addresses: Counter[str] = Counter()
        self._jobs: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()
        self._sweep_due = 0.0
        self._cap = self.limits.connection_cap(max_open_files())

    @property
    def num_connections(self) -> int:
        """How many connections are open."""
        return len(self._members)

    @property
    def is_crowded(self) -> bool:
        """Whether a refused connection must go at once, as those before it hold too many files."""
        return len(self._members) > self._cap + SHARE_OF_REFUSED * (max_open_files() - self._cap)

    def serve(self, app: ASGIApp, limits: Limits, direct: Handlers) -> None:
        """Serve another application from now on; requests that have begun stay where they are."""
        self.app, self.limits, self.direct = app, limits, direct
        self.heads = Heads(limits)
        self._cap = limits.connection_cap(max_open_files())

    async def start(
        self, listener: socket.socket, context: Callable[[], ssl.SSLContext] | None = None
    ) -> None:
        """Serve on a bound socket from now on. The edge closes it.

        context: what the next connection speaks TLS with; None = none does.
        """
        if context is not None:
            self._context = context
            self._browser_lines = NO_SNIFFING + ONLY_TLS
        self._loop = asyncio.get_running_loop()
        self.clock = self._loop.time
        self._sweep_due = self.clock()
        name = listener.getsockname()
        self.address = (name[0], name[1]) if isinstance(name, tuple) else None
        self._sweep()
        # Accepted sockets inherit it. Left to the kernel, one that is not read takes up to 4 MiB.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        for one in (listener, *(listener.dup() for _ in range(ACCEPTORS - 1))):
            self._servers.append(await self._loop.create_server(self._protocol, sock=one, backlog=BACKLOG))

    def _protocol(self) -> asyncio.Protocol:
        connection = Connection(self)
        return connection if self._context is None else TlsTransport(connection, self._context())

    async def stop(self, drain_s: float) -> None:
        """Accept nothing more; let answers end for a while, then end them; return when all is closed."""
        self.is_draining = True
        for server in self._servers:
            server.close()
        for member in list(self._members):
            member.drain()
        await self._wait_empty(drain_s)
        for member in list(self._members):
            member.stop()
        for job in self._jobs:
            job.cancel()
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=STOP_S)
        await self._wait_empty(STOP_S)
        for member in list(self._members):
            member.abort()
        if self._timer is not None:
            self._timer.cancel()
        if self._on_stopped is not None:
            self._on_stopped()

    async def _wait_empty(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while self._members or self._jobs:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            return

    # What connections ask.

    def admit(self, connection: Connection) -> Refused | None:
        """Count a new connection; return why it is not served."""
        host = connection.peer[0] if connection.peer else ""
        self._members.add(connection)
        self._addresses[host] += 1
        cap = self.limits.address_cap(host)
        if len(self._members) > self._cap:
            return no_room("the server has as many connections as it can; try again later")
        if cap is not None and self._addresses[host] > cap:
            return no_room("there are too many connections from this address")
        return no_room("the server is shutting down") if self.is_draining else None

    def replace(self, connection: Connection, member: Member) -> None:
        """Look after a member in the place of a connection."""
        self._members.discard(connection)
        self._members.add(member)

    def forget(self, member: Member, peer: tuple[str, int] | None) -> None:
        """Take the news that a connection is closed."""
        host = peer[0] if peer else ""
        self._members.discard(member)
        self._addresses[host] -= 1
        if not self._addresses[host]:
            del self._addresses[host]
        self._empty.set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a call of the application."""
        job = self._loop.create_task(work)
        self._jobs.add(job)
        job.add_done_callback(self._done)

    def _done(self, job: asyncio.Task[None]) -> None:
        self._jobs.discard(job)
        self._empty.set()

    def _sweep(self) -> None:
        self.common_lines = b"date: %b\r\n%b" % (formatdate(usegmt=True).encode(), self._browser_lines)
        now = self.clock()
        self.lag_s = max(0.0, now - self._sweep_due)
        self._sweep_due = now + self.limits.sweep_s
        for member in list(self._members):
            member.sweep(now)
        self._timer = self._loop.call_later(self.limits.sweep_s, self._sweep)
        if self._on_sweep is not None:
            self._on_sweep()
