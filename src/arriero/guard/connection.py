"""One connection to an upstream: HTTP/1.1 by httptools on an asyncio protocol, one answer at a time.

Owns the framing of answers and their deadlines. Nothing that the framing does not prove is taken for the
end of an answer, and nothing that follows an answer is read. It must not know what answers say.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple, cast

import httptools

from arriero.guard.failure import UpstreamFailed, UpstreamTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from arriero.config.remote import TimeoutsConfig
    from arriero.errors import ServiceError

    Header = tuple[bytes, bytes]

MAX_HEAD_BYTES = 64 << 10
"""Of a head, of trailers, and of whatever else stands between two pieces of a body."""
MAX_HEADERS = 128
HIGH_WATER_BYTES = 256 << 10
"""Bytes that wait for their reader before the upstream is no longer read; all are taken at once."""
TICK_S = 1.0
"""Deadlines move with each read; the one timer looks at most this much later, and so is seldom set."""
LINGER_S = 1.0
_FRAMING = (b"content-length", b"transfer-encoding")


class Unanswered(UpstreamFailed):
    """The connection ended before any byte of an answer came."""


class Head(NamedTuple):
    """The head of an answer."""

    status: int
    headers: list[Header]

    def get(self, name: bytes) -> bytes:
        """Return the value of a header by its name in lower case; all values if there are several."""
        return b", ".join(value for known, value in self.headers if known == name)


class Answer:
    """An answer as it comes. Its one reader must `close` it, at whatever point it stops reading."""

    __slots__ = ("_connection", "_failure", "_headers", "_is_complete", "_pieces", "_size", "_waiter", "head")

    def __init__(self, connection: Connection) -> None:
        self.head: Head | None = None
        self._connection: Connection | None = connection
        self._headers: list[Header] = []
        self._pieces: list[bytes] = []
        self._size = 0
        self._is_complete = False
        self._failure: ServiceError | None = None
        self._waiter: asyncio.Future[None] | None = None

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
        piece = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
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

    # The connection calls these.

    def add_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))
        if len(self._headers) > MAX_HEADERS:
            raise UpstreamFailed("the upstream's answer has too many headers")

    def take_head(self, status: int) -> Head | None:
        """Return the head that is complete now; None for one that only announces another."""
        headers, self._headers = self._headers, []
        if status == 101:
            raise UpstreamFailed("the upstream speaks another protocol")
        if status < 200:
            return None
        self.head = Head(status, headers)
        return self.head

    def add(self, piece: bytes) -> bool:
        """Take bytes of the body; say whether the reader has fallen behind."""
        self._pieces.append(piece)
        self._size += len(piece)
        return self._size > HIGH_WATER_BYTES

    def complete(self) -> None:
        self._is_complete = True
        self._connection = None

    def fail(self, failure: ServiceError) -> None:
        self._failure = failure
        self._connection = None

    def wake(self) -> None:
        """Let the reader look again; once for each read of the socket."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class Connection(asyncio.Protocol):
    """The asyncio protocol. `freed` is called when an answer is complete and another can be asked for."""

    def __init__(
        self,
        timeouts: TimeoutsConfig,
        *,
        idle_s: float,
        freed: Callable[[Connection], None],
        lost: Callable[[Connection], None],
    ) -> None:
        self._timeouts = timeouts
        self._idle_s = idle_s
        self._freed = freed
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._answer: Answer | None = None
        self._is_closed = False
        self._is_paused = False
        self._deadline = self._ends_at = float("inf")
        self._timer: asyncio.TimerHandle | None = None
        self.is_reused = False
        """Whether an earlier request was answered here."""

    @property
    def is_usable(self) -> bool:
        """Whether a request may be sent: open, and not about to be closed for its age."""
        return not self._is_closed and not self._transport.is_closing() and self._loop.time() < self._deadline

    def request(self, message: bytes) -> Answer:
        """Send a whole request and return its answer, of which nothing has come yet."""
        self._answer = answer = Answer(self)
        self._parser = httptools.HttpResponseParser(self)
        self._is_delimited = self._is_begun = self._is_lingering = False
        self._unused_bytes = 0
        now, total_s = self._loop.time(), self._timeouts.total_s
        self._ends_at = float("inf") if total_s is None else now + total_s
        self._watch(now + self._timeouts.first_byte_s)
        self._transport.write(message)
        return answer

    def resume(self) -> None:
        """Read on: the answer's reader has caught up."""
        if self._is_paused:
            self._is_paused = False
            self._watch(self._loop.time() + self._timeouts.idle_s)
            self._transport.resume_reading()

    def linger(self) -> None:
        """Await the end of an answer whose reader is gone; what still comes of its body closes at once."""
        self._is_lingering = True
        self._ends_at = self._loop.time() + LINGER_S
        self.resume()
        self._watch(self._ends_at)

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        self._answer = None
        self._is_closed = True
        self._transport.abort()

    # asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:  # nobody asked
            self.abort()
            return
        if not self._is_begun or answer.head is not None:
            # After its first byte a head has one idle time to be complete, however slowly it comes.
            self._watch(self._loop.time() + self._timeouts.idle_s)
        self._is_begun = True
        self._unused_bytes += len(data)
        try:
            self._parser.feed_data(data)
            if self._unused_bytes > MAX_HEAD_BYTES:
                raise UpstreamFailed("the upstream's answer has an endless head")
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, UpstreamFailed) as exc:
            self._fail(_failure(exc))
        answer.wake()

    def eof_received(self) -> None:
        """Close; `connection_lost` follows."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        answer, self._answer = self._answer, None
        self._lost(self)
        if answer is None:
            return
        if answer.head is not None and not self._is_delimited and exc is None:
            answer.complete()
        elif self._is_begun:
            answer.fail(UpstreamFailed("the upstream broke off its answer"))
        else:
            answer.fail(Unanswered("the upstream closed the connection without an answer"))
        answer.wake()

    # httptools calls these, and wraps what they raise.

    def on_message_begin(self) -> None:
        if self._answer is None:
            raise UpstreamFailed("the upstream sent more than its answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._answer is not None:
            self._answer.add_header(name, value)

    def on_headers_complete(self) -> None:
        answer = self._answer
        if answer is None or answer.head is not None:
            return
        head = answer.take_head(self._parser.get_status_code())
        if head is not None:
            self._unused_bytes = 0
            self._is_delimited = any(name in _FRAMING for name, _ in head.headers)

    def on_body(self, piece: bytes) -> None:
        self._unused_bytes = 0
        if self._is_lingering:
            raise UpstreamFailed("the upstream sent more than its last word")
        if self._answer is not None and self._answer.add(piece) and not self._is_paused:
            self._is_paused = True
            self._watch(float("inf"))
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        answer = self._answer
        if answer is None or answer.head is None:
            return
        self._answer = None
        answer.complete()
        if not self._parser.should_keep_alive():
            self.abort()
            return
        self.is_reused = True
        self._ends_at = float("inf")
        # Paused by this answer, it would hang the next.
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()
        self._watch(self._loop.time() + self._idle_s)
        self._freed(self)

    def _fail(self, failure: ServiceError) -> None:
        answer = self._answer
        self.abort()
        if answer is not None:
            answer.fail(failure)
            answer.wake()

    def _watch(self, deadline: float) -> None:
        self._deadline = deadline = min(deadline, self._ends_at)
        if self._timer is None or deadline < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(min(deadline, self._loop.time() + TICK_S), self._look)

    def _look(self) -> None:
        self._timer = None
        if self._is_closed:
            return
        if self._loop.time() < self._deadline:
            self._watch(self._deadline)
        else:
            self._fail(UpstreamTimeout("the upstream did not answer in time"))


def _failure(exc: Exception) -> ServiceError:
    cause = exc if isinstance(exc, UpstreamFailed) else exc.__context__
    if isinstance(cause, UpstreamFailed):
        return cause
    return UpstreamFailed("the upstream's answer is not valid HTTP")
