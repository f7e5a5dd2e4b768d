"""One HTTP/1.1 connection: requests in, one after the other, each answered before the next is looked at.

1. HEAD: bytes are gathered until a head is whole, then it is checked.
2. BODY: the body goes to whoever answers: gathered for a direct handler, as it comes for the application.
3. BUSY: the request is whole, the answer is not. What comes meanwhile is kept, up to a bound.
4. DISCARD: nothing is served any more; what comes is thrown away until the connection closes.

Deadlines are looked at by the edge's sweep; there is no timer here.
"""

from __future__ import annotations

import asyncio
import logging
import math
from enum import Enum, auto
from typing import TYPE_CHECKING, cast

from arriero.server.edge.asgi import HttpCall
from arriero.server.edge.exchange import Exchange
from arriero.server.edge.framing import ChunkedBody, SizedBody
from arriero.server.edge.head import head_end
from arriero.server.edge.pace import BodyPace, Stall
from arriero.server.edge.refusal import Refused, fail, no_room, refusal, too_slow
from arriero.server.edge.reset import reset
from arriero.server.edge.websocket import WebSocket

if TYPE_CHECKING:
    from collections.abc import Callable

    from arriero.server.edge.edge import Edge
    from arriero.server.edge.head import Head

logger = logging.getLogger(__name__)

MAX_WAITING_BYTES = 64 * 1024
"""Bytes of later requests, or of a body that nobody reads yet, above which reading pauses."""
MAX_DISCARDED_BYTES = 64 * 1024 * 1024
"""Bytes after a refusal that are thrown away at most."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
NO_BODY = SizedBody(0)


class Phase(Enum):
    """Where a connection stands."""

    HEAD = auto()
    BODY = auto()
    BUSY = auto()
    DISCARD = auto()


HEAD, BODY, BUSY, DISCARD = Phase


class Connection(asyncio.Protocol):
    """Owns a transport and the request that is being served on it."""

    __slots__ = (
        "_body", "_buffer", "_call", "_deadline", "_discarded", "_edge", "_exchange", "_gathered",
        "_handler", "_has_skipped_line", "_head", "_held_bytes", "_is_advancing", "_is_idle",
        "_is_reading", "_pace", "_phase", "_stall", "is_writable", "peer", "transport",
    )  # fmt: skip

    def __init__(self, edge: Edge) -> None:
        self.transport: asyncio.Transport
        self.peer: tuple[str, int] | None = None
        self.is_writable = True
        self._edge = edge
        self._phase = HEAD
        self._buffer = b""
        self._deadline = math.inf
        self._stall = Stall(edge.limits.write_stall_s)
        self._is_advancing = False
        self._is_idle = False
        self._is_reading = True
        self._pace: BodyPace | None = None
        self._held_bytes = 0
        self._discarded = 0
        self._clear()

    def _clear(self) -> None:
        """Forget the request that was served."""
        self._edge.held_body_bytes -= self._held_bytes
        self._held_bytes = 0
        self._pace = None
        self._has_skipped_line = False
        self._head: Head | None = None
        self._exchange: Exchange | None = None
        self._handler: Callable[[Exchange], bool] | None = None
        self._gathered: list[bytes] = []
        self._call: HttpCall | None = None
        self._body: SizedBody | ChunkedBody = NO_BODY

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.peer = (peer[0], peer[1]) if isinstance(peer, tuple) else None
        self._deadline = self._edge.clock() + self._edge.limits.header_timeout_s
        refused = self._edge.admit(self)
        if refused is not None:
            self._refuse(refused)
            if self._edge.is_crowded:
                self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._edge.forget(self, self.peer)

    def eof_received(self) -> None:
        """A client that closes its side has gone: nothing tells it from one that closed both."""
        self._leave()

    def pause_writing(self) -> None:
        self.is_writable = False
        if self._exchange is not None:
            self._exchange.turn(is_writable=False)

    def resume_writing(self) -> None:
        self.is_writable = True
        if self._exchange is not None:
            self._exchange.turn(is_writable=True)

    def data_received(self, data: bytes) -> None:
        if self._phase is DISCARD:
            self._discarded += len(data)
            if self._discarded > MAX_DISCARDED_BYTES:
                self.transport.close()
            return
        self._buffer = self._buffer + data if self._buffer else data
        self._advance()

    # What the exchange tells.

    def stays_open(self) -> bool:
        may_stay = self._phase is BUSY and not self._edge.is_draining
        return may_stay and self._head is not None and self._head.keeps_alive

    def common_lines(self) -> bytes:
        return self._edge.common_lines

    def ended(self, *, stays_open: bool) -> None:
        is_read = self._phase is BUSY
        self._clear()
        if not is_read:
            self._linger()
        elif stays_open and not self._edge.is_draining:
            self._phase = HEAD
            self._is_idle = True
            self._deadline = self._edge.clock() + self._edge.limits.keep_alive_timeout_s
            if self._buffer or not self._is_reading:
                self._advance()
        else:
            self._close()

    def cut(self, *, is_unframed: bool) -> None:
        self._clear()
        if is_unframed:  # a plain close would look like the end of the answer
            reset(self.transport)
        self._close()

    # What the application's call tells.

    def want_body(self) -> None:
        """Take the news that the application has read what there was of the body and waits for more."""
        head = self._head
        exchange = self._exchange
        if head is not None and head.expects_continue and exchange is not None and not exchange.is_committed:
            head.expects_continue = False
            self.transport.write(CONTINUE)
        self._flow()

    def switch(self, websocket: WebSocket) -> bytes:
        """Hand the transport to a WebSocket; return what has come for it already."""
        early = self._buffer
        self._clear()
        self._phase = DISCARD
        self._flow()
        self._edge.replace(self, websocket)
        self.transport.set_protocol(websocket)
        return early

    # What the edge tells.

    def sweep(self, now: float) -> None:
        """Look at the deadlines."""
        if self._stall.is_over(now, self.transport.get_write_buffer_size()):
            reset(self.transport)  # else what waits would stay with the kernel, for minutes
        elif now >= self._deadline:
            self._on_deadline(now)

    def drain(self) -> None:
        """Close as soon as no request is being served."""
        if self._phase is HEAD:
            self._close()

    def stop(self) -> None:
        """End the answer of a direct handler now; applications are told by the end of their job."""
        exchange = self._exchange
        if self._call is None and exchange is not None:
            if exchange.on_stop is not None:
                exchange.on_stop()
            exchange.abort()

    def abort(self) -> None:
        """Close at once."""
        self.transport.abort()

    # Requests.

    def _advance(self) -> None:
        """Do all that the bytes at hand allow; an answer given meanwhile returns here, so nothing recurs."""
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            is_news = True
            while is_news and self._buffer:
                is_news = self._take_head() if self._phase is HEAD else self._take_body()
        except Refused as refused:
            self._refuse(refused)
        finally:
            self._is_advancing = False
        if self._buffer or self._call is not None or not self._is_reading:
            self._flow()

    def _take_head(self) -> bool:
        """Take one head; say whether there was one to take."""
        data = self._buffer
        if data.startswith(b"\r\n") and not self._has_skipped_line:
            self._has_skipped_line = True  # some clients end a body with an empty line
            self._buffer = data[2:]
            return True
        limits = self._edge.limits
        end = head_end(data, limits)
        if not end:
            if self._is_idle:
                self._is_idle = False
                self._deadline = self._edge.clock() + limits.header_timeout_s
            return False
        self._buffer = data[end:]
        raw = data[:end]
        self._begin(self._edge.heads.parsed(raw), raw)
        return True

    def _begin(self, head: Head, raw: bytes) -> None:
        """Give a request to whoever answers it."""
        self._head = head
        self._exchange = exchange = Exchange(self, head)
        if self._edge.began is not None:
            self._edge.began(exchange)
        self._phase = BODY
        if head.is_upgrade:
            self._phase, self._deadline = BUSY, math.inf
            WebSocket(self._edge, self, exchange).start(raw)
            return
        handler = self._edge.direct.get(head.path) if head.method == b"POST" else None
        if handler is not None and head.content_length <= self._edge.limits.max_body_bytes:
            self._handler = handler
        else:
            self._carry()
        if not head.has_body:
            self._complete()
            return
        is_sized = not (head.is_chunked or head.expects_continue)
        if self._handler is not None and is_sized and len(self._buffer) >= head.content_length:
            self._hold(self._buffer[: head.content_length])
            self._buffer = self._buffer[head.content_length :]
            self._complete()
            return
        self._body = ChunkedBody() if head.is_chunked else SizedBody(head.content_length)
        self._pace = BodyPace(self._edge.limits, self._edge.clock())
        self._deadline = self._pace.deadline
        if self._handler is not None:
            self.want_body()

    def _take_body(self) -> bool:
        """Take one piece of a body; say whether one was due."""
        if self._phase is not BODY:
            return False
        piece, self._buffer = self._body.feed(self._buffer)
        assert self._pace is not None
        self._pace.received += len(piece)
        if self._head is not None:
            self._head.expects_continue = False
        self._hold(piece)
        if self._call is None and self._pace.received > self._edge.limits.max_body_bytes:
            self._carry()
        if self._body.is_complete:
            self._complete()
        return True

    def _hold(self, piece: bytes) -> None:
        """Give a piece of the body to whoever takes it, if there is room."""
        self._held_bytes += len(piece)
        self._edge.held_body_bytes += len(piece)
        if self._edge.held_body_bytes > self._edge.limits.max_held_body_bytes:
            raise no_room("the server holds as many request bodies as it can; try again later")
        if self._call is not None:
            self._call.feed(piece)
        else:
            self._gathered.append(piece)

    def _complete(self) -> None:
        """The request is whole."""
        self._phase, self._deadline = BUSY, math.inf
        exchange, handler = self._exchange, self._handler
        if self._call is not None:
            self._call.complete()
        elif exchange is not None and handler is not None:
            exchange.body = b"".join(self._gathered)
            try:
                is_taken = handler(exchange)
            except Exception:
                logger.exception("unexpected error in a direct handler")
                fail(exchange)
                return
            if not is_taken:
                self._carry()
            self._gathered = []

    def _carry(self) -> None:
        """Give the request to the application, with what has come of its body."""
        assert self._exchange is not None
        self._handler = None
        self._exchange.body = b""
        self._call = HttpCall(self._edge.app, self._exchange, self, self._edge.address, self._edge.finished)
        self._edge.spawn(self._call.run())
        for piece in self._gathered:
            self._call.feed(piece)
        self._gathered = []
        if self._phase is BUSY:
            self._call.complete()

    # Ends.

    def _flow(self) -> None:
        """Read as long as somebody takes what comes."""
        waiting = 0
        if self._phase is BUSY:
            waiting = len(self._buffer)
        elif self._phase is BODY and self._call is not None:
            waiting = self._call.waiting_bytes
        if (waiting <= MAX_WAITING_BYTES) is not self._is_reading and not self.transport.is_closing():
            self._is_reading = not self._is_reading
            (self.transport.resume_reading if self._is_reading else self.transport.pause_reading)()

    def _on_deadline(self, now: float) -> None:
        if self._phase is HEAD and self._buffer:
            self._refuse(too_slow("the headers"))
        elif self._phase is BODY and self._pace is not None:
            if not self._is_reading:  # the application is slow, not the client
                self._pace.restart(now)
            self._deadline = self._pace.deadline
            if now >= self._deadline:
                self._refuse(too_slow("the body"))
        else:
            self._close()

    def _refuse(self, refused: Refused) -> None:
        """Answer an error and close; cut if the answer is on its way already."""
        exchange = self._exchange
        if exchange is not None:
            exchange.leave()
            if exchange.is_committed:
                self.cut(is_unframed=False)
                return
        self._clear()
        if self._edge.observer is not None:
            self._edge.observer.refused(refused.status, refused.code)
        self.transport.write(refusal(refused, self._edge.common_lines))
        self._linger()

    def _linger(self) -> None:
        """Close after the client had time to read: closing upon unread bytes would take the answer away."""
        self._discard()
        self._deadline = self._edge.clock() + self._edge.limits.linger_s
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
        self._flow()

    def _close(self) -> None:
        self._discard()
        self._deadline = math.inf
        self.transport.close()

    def _discard(self) -> None:
        self._phase = DISCARD
        self._buffer = b""

    def _leave(self) -> None:
        """The client has gone."""
        exchange = self._exchange
        self._discard()
        self._deadline = math.inf
        self._clear()
        if exchange is not None:
            exchange.leave()
