"""An answer of an upstream to be awaited: a sink that keeps what comes until its one reader asks for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from arriero.guard.failure import UpstreamFailed

if TYPE_CHECKING:
    from arriero.errors import ServiceError
    from arriero.guard.connection import Connection, Sink
    from arriero.guard.scan import Head

HIGH_WATER_BYTES = 256 << 10
"""Bytes that wait for their reader before the upstream is no longer read; all are taken at once."""


class Answer:
    """An answer as it comes. Its one reader must `close` it, at whatever point it stops reading."""

    __slots__ = ("_connection", "_failure", "_is_complete", "_pieces", "_size", "_waiter", "head")

    def __init__(self, connection: Connection, message: bytes) -> None:
        self.head: Head | None = None
        self._connection: Connection | None = connection
        self._pieces: list[bytes] = []
        self._size = 0
        self._is_complete = False
        self._failure: ServiceError | None = None
        self._waiter: asyncio.Future[None] | None = None
        connection.request(message, self)

    async def wait_head(self) -> Head:
        """Return the head once it is there. Raises UpstreamFailed, UpstreamTimeout."""
        while self.head is None:
            await self._wait()
        return self.head

    async def piece(self) -> bytes:
        """Return the bytes of the body that have come, no bytes at its end.

        What came before a failure is returned first. Raises UpstreamFailed, UpstreamTimeout.
        """
        while not self._pieces:
            if self._is_complete:
                return b""
            await self._wait()
        piece = self._taken()
        if self._connection is not None:
            self._connection.resume()
        return piece

    async def whole(self, max_bytes: int) -> bytes:
        """Return the rest of the body. Raises UpstreamFailed (also when it is longer), UpstreamTimeout."""
        body = bytearray()
        while piece := await self.piece():
            body += piece
            if len(body) > max_bytes:
                raise UpstreamFailed(f"the upstream's answer is longer than {max_bytes} bytes")
        return bytes(body)

    def detached(self, sink: Sink) -> Connection | None:
        """Let the sink take what still comes; return the connection, None if the answer has ended.

        The connection is the sink's to resume and to let go of. What has come already waits in `drain`.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.hand_over(sink)
        return connection

    def drain(self, sink: Sink) -> None:
        """Give the sink what came since the head, and the end if it has come."""
        if self._pieces:
            sink.take_piece(self._taken())
        if self._failure is not None:
            sink.take_failure(self._failure)
        elif self._is_complete:
            sink.take_end()

    def close(self) -> None:
        """Let go of the connection; one whose answer has not ended is cut at once."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    def finish(self) -> None:
        """Let go of an answer that has said its last word; its framing may end in a moment, unheard."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.linger()

    async def _wait(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _taken(self) -> bytes:
        piece = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        return piece

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # The connection calls these.

    def take_whole(self, head: Head, body: bytes) -> None:
        self.head = head
        if body:
            self._pieces.append(body)
        self.take_end()

    def take_head(self, head: Head) -> None:
        self.head = head
        self._wake()

    def take_piece(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > HIGH_WATER_BYTES and self._connection is not None:
            self._connection.pause()
        self._wake()

    def take_end(self) -> None:
        self._is_complete = True
        self._connection = None
        self._wake()

    def take_failure(self, failure: ServiceError) -> None:
        self._failure = failure
        self._connection = None
        self._wake()
