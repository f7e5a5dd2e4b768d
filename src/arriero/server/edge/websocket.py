"""One WebSocket as an ASGI call; the protocol itself is `websockets`' ServerProtocol.

Until the application accepts, the socket is an exchange that it may also answer over HTTP. Then it
takes the transport over. Messages wait in a bounded queue: when it is full, or the client does not
read what we write, reading pauses.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from arriero.server.edge.asgi import http_scope
from arriero.server.edge.pace import Stall
from arriero.server.edge.refusal import answer, bad_request, fail
from arriero.server.edge.reset import reset

if TYPE_CHECKING:
    from starlette.types import Message

    from arriero.server.edge.connection import Connection
    from arriero.server.edge.edge import Edge
    from arriero.server.edge.exchange import Exchange

logger = logging.getLogger(__name__)
silent = logging.getLogger(__name__ + ".frames")
silent.disabled = True

MAX_WAITING = 32
"""Messages that the application has not read yet, above which reading pauses."""
MAX_WAITING_BYTES = 64 * 1024
PIECE = 8 * 1024
"""Bytes that are read in one turn of the loop: thousands of tiny frames take their time, and others wait."""
NORMAL, INVALID_DATA, INTERNAL_ERROR, SERVICE_RESTART = 1000, 1007, 1011, 1012
NO_STATUS, ABNORMAL = 1005, 1006
DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


class WebSocket(asyncio.Protocol):
    """Owns the transport from the application's `accept` on."""

    __slots__ = (
        "_connection",
        "_deadline",
        "_edge",
        "_events",
        "_exchange",
        "_fragments",
        "_is_due",
        "_is_open",
        "_is_ours",
        "_is_reading",
        "_is_text",
        "_is_writable",
        "_messages",
        "_next_ping",
        "_pong_deadline",
        "_protocol",
        "_response",
        "_room",
        "_stall",
        "_transport",
        "_unread",
        "_waiting_bytes",
    )

    def __init__(self, edge: Edge, connection: Connection, exchange: Exchange) -> None:
        self._edge = edge
        self._connection = connection
        self._exchange = exchange
        self._transport = connection.transport
        self._protocol = ServerProtocol(max_size=edge.limits.max_frame_bytes, logger=silent)
        self._response: Response
        self._is_open = False
        """Accepted, and not closed by either side."""
        self._is_ours = False
        """Whether the transport is."""
        self._is_text = False
        self._fragments = bytearray()
        self._unread = b""
        """What has come and was not looked at yet."""
        self._is_due = False
        """Whether a later turn of the loop looks at it."""
        self._messages: deque[tuple[Message, int]] = deque([({"type": "websocket.connect"}, 0)])
        self._waiting_bytes = 0
        self._events = asyncio.Event()
        self._room = asyncio.Event()
        self._is_reading = True
        self._is_writable = True
        self._stall = Stall(edge.limits.write_stall_s)
        self._deadline = math.inf
        self._next_ping = math.inf
        self._pong_deadline = math.inf

    def start(self, raw: bytes) -> None:
        """Check the handshake, given as it came, and call the application, or answer why not."""
        self._protocol.receive_data(raw)
        events = self._protocol.events_received()
        if not events or not isinstance(events[0], Request):
            answer(self._exchange, bad_request("this is not the handshake of a WebSocket"))
            return
        self._response = self._protocol.accept(events[0])
        if self._response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            self._exchange.on_gone = self._on_gone
            self._edge.spawn(self._run())
        else:
            answer(self._exchange, bad_request(f"{self._protocol.handshake_exc}"))

    async def _run(self) -> None:
        exchange = self._exchange
        code = INTERNAL_ERROR
        scope = self._scope()
        try:
            await self._edge.app(scope, self.receive, self.send)
            code = NORMAL
        except Exception:
            if self._is_open or not (exchange.is_ended or exchange.is_gone):
                logger.exception("unexpected error in the application")
        finally:
            if self._is_open:
                self._close(code, "")
            elif not exchange.is_ended:
                fail(exchange)
            if (finished := self._edge.finished) is not None:
                finished(exchange, scope)
            # Else the two would hold each other until the garbage collector comes.
            exchange.on_gone = None

    def _scope(self) -> dict[str, Any]:
        scope = http_scope(self._exchange, self._edge.address)
        del scope["method"]
        offered = [v.decode("latin-1") for n, v in scope["headers"] if n == b"sec-websocket-protocol"]
        protocols = [name.strip() for name in ",".join(offered).split(",") if name.strip()]
        extensions: dict[str, Any] = {"websocket.http.response": {}}
        return scope | {
            "type": "websocket",
            "scheme": "wss" if self._exchange.is_encrypted else "ws",
            "subprotocols": protocols,
            "extensions": extensions,
        }

    # What the application asks.

    async def receive(self) -> Message:
        """Return the next message of the client; wait for it."""
        while not self._messages:
            self._events.clear()
            await self._events.wait()
        message, size = self._messages[0]
        if message["type"] != "websocket.disconnect":
            self._messages.popleft()  # the disconnect may be asked for again
        self._waiting_bytes -= size
        self._flow()
        return message

    async def send(self, message: Message) -> None:
        """Write a message; wait while there is no room. After the end, raises OSError."""
        if self._is_open:
            await self._send_open(message)
        elif self._exchange.is_ended or self._exchange.is_gone:
            raise OSError("the WebSocket is closed")
        else:
            self._send_handshake(message)

    def _send_handshake(self, message: Message) -> None:
        exchange = self._exchange
        match message["type"]:
            case "websocket.accept":
                self._accept(message)
            case "websocket.close":
                exchange.respond(403, [], b"")
                self._disconnect(ABNORMAL)
            case "websocket.http.response.start":
                exchange.start(message["status"], list(message.get("headers", ())))
            case "websocket.http.response.body":
                if message.get("more_body", False):
                    exchange.write(message.get("body", b""))
                else:
                    exchange.finish(message.get("body", b""))
                    self._disconnect(ABNORMAL)
            case kind:
                raise RuntimeError(f"a WebSocket that is not accepted has no message {kind!r}")

    def _accept(self, message: Message) -> None:
        headers = self._response.headers
        if message.get("subprotocol"):
            headers["sec-websocket-protocol"] = message["subprotocol"]
        for name, value in message.get("headers", ()):
            headers[name.decode("latin-1")] = value.decode("latin-1")
        if any(set("\r\n\0") & {*name, *value} for name, value in headers.raw_items()):
            raise ValueError("a header of an answer holds a control byte")
        early = self._connection.switch(self)
        self._exchange.hand_over()
        self._is_ours = True
        self._is_open = True
        self._next_ping = self._edge.clock() + self._edge.limits.ping_interval_s
        self._protocol.send_response(self._response)
        self._write_out()
        if early:
            self.data_received(early)

    async def _send_open(self, message: Message) -> None:
        match message["type"]:
            case "websocket.send":
                text = message.get("text")
                if text is not None:
                    self._protocol.send_text(text.encode())
                else:
                    self._protocol.send_binary(message["bytes"])
                self._write_out()
            case "websocket.close":
                self._close(message.get("code", NORMAL), message.get("reason") or "")
            case kind:
                raise RuntimeError(f"an open WebSocket has no message {kind!r}")
        while self._is_open and not self._is_writable:
            self._room.clear()
            await self._room.wait()

    # What the transport tells.

    def connection_lost(self, exc: Exception | None) -> None:
        self._unread = b""
        self._disconnect(ABNORMAL)
        self._edge.forget(self, self._exchange.peer)

    def eof_received(self) -> None:
        self._disconnect(ABNORMAL)

    def pause_writing(self) -> None:
        self._is_writable = False
        self._flow()

    def resume_writing(self) -> None:
        self._is_writable = True
        self._room.set()
        self._flow()

    def data_received(self, data: bytes) -> None:
        self._unread = self._unread + data if self._unread else data
        if not self._is_due:
            self._read_on()

    def _read_on(self) -> None:
        """Take the frames of one piece, and leave the others to the next turn."""
        self._is_due = False
        data, self._unread = self._unread[:PIECE], self._unread[PIECE:]
        protocol = self._protocol
        if protocol.state is State.CLOSED or not data:
            self._unread = b""
            return
        protocol.receive_data(data)
        for frame in protocol.events_received():
            if self._is_open and isinstance(frame, Frame):
                self._take(frame)
        self._write_out()
        if protocol.parser_exc is not None or protocol.close_rcvd is not None:
            close = protocol.close_rcvd or protocol.close_sent
            self._disconnect(close.code if close else ABNORMAL, close.reason if close else "")
            self._unread = b""
            self._transport.close()
        if self._unread:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._read_on)
        self._flow()

    def _take(self, frame: Frame) -> None:
        if frame.opcode is Opcode.PONG:
            self._pong_deadline = math.inf
            self._next_ping = self._edge.clock() + self._edge.limits.ping_interval_s
        elif frame.opcode in DATA:
            if frame.opcode is not Opcode.CONT:
                self._is_text = frame.opcode is Opcode.TEXT
            self._fragments += frame.data
            if frame.fin:
                data, self._fragments = bytes(self._fragments), bytearray()
                self._take_message(data)

    def _take_message(self, data: bytes) -> None:
        if not self._is_text:
            self._queue({"type": "websocket.receive", "bytes": data}, len(data))
            return
        try:
            self._queue({"type": "websocket.receive", "text": data.decode()}, len(data))
        except UnicodeDecodeError:
            self._protocol.fail(INVALID_DATA, "this is not UTF-8")
            self._closing(INVALID_DATA, "this is not UTF-8")

    # What the edge tells.

    def sweep(self, now: float) -> None:
        """Look at the deadlines."""
        if self._stall.is_over(now, self._transport.get_write_buffer_size()):
            reset(self._transport)
        elif now >= self._deadline:
            self._transport.abort()
        elif not self._is_open:
            return
        elif now >= self._pong_deadline and self._is_reading:
            self._protocol.fail(INTERNAL_ERROR, "keepalive ping timeout")
            self._closing(INTERNAL_ERROR, "keepalive ping timeout")
        elif now >= self._next_ping:
            self._protocol.send_ping(os.urandom(4))
            self._write_out()
            self._pong_deadline = now + self._edge.limits.ping_timeout_s
            self._next_ping = math.inf

    def drain(self) -> None:
        """Close: the server ends."""
        if self._is_open:
            self._close(SERVICE_RESTART, "")

    def stop(self) -> None:
        """Nothing is left to end: `drain` has closed the socket."""

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    # Ends.

    def _close(self, code: int, reason: str) -> None:
        """Begin the closing handshake."""
        self._protocol.send_close(code, reason)
        self._closing(code, reason)

    def _closing(self, code: int, reason: str) -> None:
        """A close frame is written; the client has a moment to answer it."""
        self._write_out()
        self._disconnect(code, reason)
        self._deadline = self._edge.clock() + self._edge.limits.close_timeout_s
        self._flow()

    def _disconnect(self, code: int, reason: str = "") -> None:
        """Tell the application, once, that nothing more comes and nothing more goes."""
        self._is_open = False
        self._room.set()
        if not self._messages or self._messages[-1][0]["type"] != "websocket.disconnect":
            self._queue({"type": "websocket.disconnect", "code": code, "reason": reason}, 0)

    def _on_gone(self) -> None:
        self._disconnect(ABNORMAL)

    def _queue(self, message: Message, size: int) -> None:
        self._messages.append((message, size))
        self._waiting_bytes += size
        self._events.set()

    def _write_out(self) -> None:
        data = b"".join(self._protocol.data_to_send())
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def _flow(self) -> None:
        """Read as long as the application takes what comes, and the client what we answer."""
        if not self._is_ours or self._transport.is_closing():
            return
        is_full = len(self._messages) > MAX_WAITING or self._waiting_bytes > MAX_WAITING_BYTES
        has_room = not self._is_open or (self._is_writable and not is_full)
        wanted = has_room and not self._unread
        if wanted is not self._is_reading:
            self._is_reading = wanted
            (self._transport.resume_reading if wanted else self._transport.pause_reading)()
