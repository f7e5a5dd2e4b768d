"""One request and its answer on one connection: what direct handlers and the ASGI carrier write through.

No job, no future, no timer: calls become bytes for the transport at once, and what happens to the
client comes back through the callbacks. Nothing here knows what a request means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from arriero.server.edge.answer import (
    BODYLESS,
    CHUNKED,
    ENDED,
    LAST_CHUNK,
    LENGTH,
    OPENING,
    UNSTARTED,
    UNTIL_CLOSE,
    chunk,
    opening,
)

if TYPE_CHECKING:
    from asyncio import Transport

    from arriero.server.edge.head import Head
    from arriero.server.trace import Trace

Headers = Iterable[tuple[bytes, bytes]]

SWITCHING_PROTOCOLS = 101


class Carrier(Protocol):
    """What an exchange asks of its connection."""

    transport: Transport
    peer: tuple[str, int] | None
    is_writable: bool

    def stays_open(self) -> bool:
        """Say whether another request may follow on the connection, as far as is known now."""
        ...

    def common_lines(self) -> bytes:
        """Return the headers of every answer, such as `date`."""
        ...

    def ended(self, *, stays_open: bool) -> None:
        """Take the news that the answer is written whole."""
        ...

    def cut(self, *, is_unframed: bool) -> None:
        """Close so that the client cannot take the answer for a whole one."""
        ...


class Exchange:
    """One request and its answer.

    Answer with `respond`, or with `start`, any number of `write`, and `finish`; `abort` cuts a started
    answer. Call from the event loop only. Once `is_gone`, nothing is written and nothing fails. Stop
    writing while `is_writable` is false: `on_writable` is called when there is room again. A client
    that reads nothing for long is cut, which counts as gone.

    on_gone: called once if the client leaves, or the connection is cut, before the answer ended.
    on_writable: called each time that there is room again.
    on_stop: called when the server ends and can wait no longer; what is written in the call still goes
        out. Without it, or when it does not end the answer, the exchange is aborted.
    form: the head but for the length of the body, where a known one came again or may; see `head.Heads`.
    request_id: is told in the head of the answer; no control bytes. Empty = not told.
    began_at, first_byte_at: on the monotonic clock, 0 = not yet. sent_bytes: of the answer's body. is_cut:
        the answer was begun, and broken off by us. trace: which span tells of it, if one does.
    """

    __slots__ = (
        "_carrier",
        "_framing",
        "_headers",
        "_left",
        "_start",
        "_stays_open",
        "_transport",
        "began_at",
        "body",
        "first_byte_at",
        "form",
        "is_cut",
        "is_gone",
        "is_http11",
        "is_writable",
        "method",
        "on_gone",
        "on_stop",
        "on_writable",
        "path",
        "peer",
        "query",
        "request_id",
        "sent_bytes",
        "status",
        "trace",
    )

    def __init__(self, carrier: Carrier, head: Head) -> None:
        self.method: bytes = head.method
        self.path: bytes = head.path
        self.query: bytes = head.query
        self._headers = head.headers
        self.form: bytes | None = head.form
        self.request_id: bytes = b""
        self.is_http11: bool = head.is_http11
        self.body: bytes = b""
        self.peer: tuple[str, int] | None = carrier.peer
        self.is_gone: bool = False
        self.is_writable: bool = carrier.is_writable
        self.on_gone: Callable[[], None] | None = None
        self.on_writable: Callable[[], None] | None = None
        self.on_stop: Callable[[], None] | None = None
        self.began_at: float = monotonic()
        self.first_byte_at: float = 0.0
        self.status: int = 0
        self.sent_bytes: int = 0
        self.is_cut: bool = False
        self.trace: Trace | None = None
        self._carrier = carrier
        self._transport = carrier.transport
        self._framing = UNSTARTED
        self._start: tuple[int, Headers] = (0, ())
        self._left = 0
        self._stays_open = False

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Of the request, names in small letters. Who sets others takes away its `form`."""
        return self._headers

    @headers.setter
    def headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        self._headers = headers
        self.form = None

    @property
    def is_encrypted(self) -> bool:
        """Whether the client speaks TLS with us."""
        return self._transport.get_extra_info("ssl_object") is not None

    @property
    def is_started(self) -> bool:
        """Whether `start` or `respond` was called."""
        return self._framing is not UNSTARTED

    @property
    def is_committed(self) -> bool:
        """Whether the head of the answer has been written."""
        return self._framing not in (UNSTARTED, OPENING)

    @property
    def is_ended(self) -> bool:
        """Whether the answer is complete."""
        return self._framing is ENDED

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer at once, in one write; `content-length` is added.

        Raises ValueError for a header that would break the head; nothing has been written then.
        """
        self.start(status, headers)
        self.finish(body)

    def start(self, status: int, headers: Headers) -> None:
        """Begin an answer; its head leaves with the first `write`, or with `finish`.

        Without `content-length` among the headers the body goes out in chunks. Until then a second
        call takes the place of the first.
        """
        if self._framing is not UNSTARTED and self._framing is not OPENING:
            raise RuntimeError("the answer has been started already")
        self._start = (status, headers)
        self._framing = OPENING

    def write(self, data: bytes) -> None:
        """Send one piece of the body. Raises ValueError for a bad head or more than the announced length."""
        if self.is_gone or not data:
            return
        if self._framing is CHUNKED:
            self.sent_bytes += len(data)
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))  # `chunk`, for each event
            return
        head = self._open(None) if self._framing is OPENING else b""
        self._transport.write(head + self._framed(data))

    def finish(self, data: bytes = b"") -> None:
        """End the answer, with a last piece if there is one, in one write. May raise as `write`."""
        if self.is_gone or self._framing is ENDED:
            return
        if self._framing is UNSTARTED:
            raise RuntimeError("the answer is not started")
        head = b""
        if self._framing is OPENING:
            head = self._open(len(data))
            if self._framing is LENGTH and self._left == len(data):  # all of it, as nearly always
                self.sent_bytes = len(data)
                self._framing = ENDED
                self._transport.write(head + data)
                self._carrier.ended(stays_open=self._stays_open)
                return
        last = self._framed(data) if data else b""
        if self._framing is LENGTH and self._left:
            self.abort()  # shorter than announced
            return
        if self._framing is CHUNKED:
            last += LAST_CHUNK
        self._framing = ENDED
        if head or last:
            self._transport.write(head + last)
        self._carrier.ended(stays_open=self._stays_open)

    def abort(self) -> None:
        """Cut the answer: the client sees that it is not whole."""
        if self.is_gone or self._framing is ENDED:
            return
        self.is_gone = self.is_cut = True
        self._carrier.cut(is_unframed=self._framing is UNTIL_CLOSE)

    def hand_over(self) -> None:
        """Take the news that the connection is a WebSocket now. For the socket."""
        self._framing = ENDED
        self.status = SWITCHING_PROTOCOLS
        self.first_byte_at = monotonic()

    def leave(self) -> None:
        """Take the news that the client has gone. For the connection."""
        if self.is_gone or self._framing is ENDED:
            return
        self.is_gone = True
        if self.on_gone is not None:
            self.on_gone()

    def turn(self, *, is_writable: bool) -> None:
        """Take the news of whether there is room to write. For the connection."""
        self.is_writable = is_writable
        if is_writable and self.on_writable is not None:
            self.on_writable()

    def _open(self, length: int | None) -> bytes:
        """Return the head; from here on the framing of the body is settled."""
        status, headers = self._start
        opened = opening(
            status,
            headers,
            common=self._carrier.common_lines(),
            is_head=self.method == b"HEAD",
            is_http11=self.is_http11,
            stays_open=self._carrier.stays_open(),
            length=length,
            also=b"x-request-id: %b\r\n" % self.request_id if self.request_id else b"",
        )
        self.status = status
        self.first_byte_at = monotonic()
        self._framing = opened.framing
        self._left = opened.length
        self._stays_open = opened.stays_open
        self._start = (status, ())
        return opened.head

    def _framed(self, data: bytes) -> bytes:
        framing = self._framing
        self.sent_bytes += len(data)
        if framing is CHUNKED:
            return chunk(data)
        if framing is LENGTH:
            if len(data) > self._left:
                raise ValueError("the body of an answer is longer than its content-length")
            self._left -= len(data)
            return data
        if framing is UNTIL_CLOSE:
            return data
        if framing is BODYLESS:
            return b""
        raise RuntimeError("the answer is not started, or has ended already")
