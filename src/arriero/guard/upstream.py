"""Requests to one address of an upstream, over connections that are kept for a short while.

A request that met a connection which the upstream had just closed is sent once more, over a fresh one;
nothing else is ever repeated here. Redirects are answers like others.
"""

from __future__ import annotations

import asyncio
import ssl
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from arriero.guard.connection import Connection, Unanswered
from arriero.guard.failure import UpstreamFailed, UpstreamTimeout
from arriero.guard.reading import Answer
from arriero.guard.scan import Heads

if TYPE_CHECKING:
    from collections.abc import Iterable

    from arriero.config.remote import TimeoutsConfig, UpstreamAddress
    from arriero.guard.connection import Sink
    from arriero.guard.scan import Header

IDLE_S = 3.0
"""How long an unused connection is kept; servers close theirs after five seconds and more."""


class Unreachable(UpstreamFailed):
    """No connection could be had."""


class ConnectTimeout(UpstreamTimeout):
    """No connection was had in time."""


class Request(msgspec.Struct, frozen=True, gc=False):
    """What is sent: all of it, but the host and the length. lines: the headers, as `lines_of` writes them."""

    method: bytes
    path: bytes
    lines: bytes = b""
    body: bytes = b""


def lines_of(headers: Iterable[Header]) -> bytes:
    """Write headers as they are sent."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


class Upstream:
    """One address. Owns its connections; close it when no answer is read any more."""

    def __init__(
        self,
        address: UpstreamAddress,
        timeouts: TimeoutsConfig,
        *,
        tls: ssl.SSLContext | None = None,
        idle_s: float = IDLE_S,
    ) -> None:
        self._address = address
        self._timeouts = timeouts
        self._tls = (tls or _default_tls()) if address.scheme == "https" else None
        self._idle_s = idle_s
        self._prefix = address.prefix.encode()
        self._host = _host_header(address)
        self._answer_heads = Heads()
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()

    @property
    def place(self) -> str:
        """Where the upstream is, for the operator only."""
        return f"{self._address.scheme}://{self._host.decode()}{self._address.prefix}"

    @property
    def num_connections(self) -> int:
        """Open connections, in use or kept."""
        return len(self._open)

    async def send(self, request: Request, *, fresh: bool = False) -> Answer:
        """Send a request and return its answer, whose head has come. The caller closes it.

        fresh: over a new connection. Raises Unreachable, UpstreamFailed, UpstreamTimeout.
        """
        message = self._message(request)
        connection = (None if fresh else self._kept()) or await self._connect()
        is_reused = connection.is_reused
        try:
            return await _answer(connection, message)
        except Unanswered:
            if not is_reused:
                raise
        return await _answer(await self._connect(), message)

    def send_at_once(self, request: Request, sink: Sink) -> Connection | None:
        """Send a request if a kept connection is free; return that connection, which may turn out stale."""
        connection = self._kept()
        if connection is not None:
            connection.request(self._message(request), sink)
        return connection

    def close(self) -> None:
        """Cut all connections."""
        for connection in list(self._open):
            connection.abort()

    def _kept(self) -> Connection | None:
        # The one that was used last has the longest to live.
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable:
                return connection
            connection.abort()
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeouts.connect_s):
                _, connection = await loop.create_connection(
                    self._connection,
                    self._address.host,
                    self._address.port,
                    ssl=self._tls,
                    server_hostname=self._address.host if self._tls else None,
                )
        except TimeoutError as exc:
            raise ConnectTimeout("no connection to the upstream within the time that it has") from exc
        except (OSError, UnicodeError) as exc:  # refused, no such host, TLS
            raise Unreachable("no connection to the upstream can be had") from exc
        if not connection.is_usable:  # lost before this line was reached
            raise Unreachable("the upstream closed the connection at once")
        self._open.add(connection)
        return connection

    def _connection(self) -> Connection:
        return Connection(
            self._timeouts,
            idle_s=self._idle_s,
            freed=self._idle.append,
            lost=self._forget,
            heads=self._answer_heads,
        )

    def _forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _message(self, request: Request) -> bytes:
        method, path, lines, body = request.method, request.path, request.lines, request.body
        if method == b"GET":
            return b"GET %b%b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (self._prefix, path, self._host, lines)
        return b"%b %b%b HTTP/1.1\r\nhost: %b\r\n%bcontent-length: %d\r\n\r\n%b" % (
            method, self._prefix, path, self._host, lines, len(body), body
        )  # fmt: skip


async def _answer(connection: Connection, message: bytes) -> Answer:
    answer = Answer(connection, message)
    try:
        await answer.wait_head()
    except BaseException:
        answer.close()
        raise
    return answer


def _host_header(address: UpstreamAddress) -> bytes:
    host = f"[{address.host}]" if ":" in address.host else address.host
    default = 443 if address.scheme == "https" else 80
    return (host if address.port == default else f"{host}:{address.port}").encode()


@lru_cache(maxsize=1)
def _default_tls() -> ssl.SSLContext:
    return ssl.create_default_context()
