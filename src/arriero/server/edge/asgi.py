"""One HTTP request as an ASGI call: the body comes as it is read, the answer goes as there is room.

A send is one write; it waits only while the transport has no room. A client that goes is told to the
application at once, if it listens; sends to it do nothing.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote_to_bytes

from arriero.server.edge.refusal import fail

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Scope

    from arriero.server.edge.exchange import Exchange

    Finished = Callable[[Exchange, Scope], None]

logger = logging.getLogger(__name__)

ASGI = {"version": "3.0", "spec_version": "2.3"}
DISCONNECT: Message = {"type": "http.disconnect"}

PIECE = "arriero.piece"
"""The extension with which a stream writes its pieces. Each wrapper that a token does not pass is time that
the model has, where both share the cores."""


class BodySource(Protocol):
    """What a call asks of its connection."""

    def want_body(self) -> None:
        """Take the news that what there was of the body is read."""
        ...


def http_scope(exchange: Exchange, server: tuple[str, int] | None) -> dict[str, Any]:
    """Return what the application is told of a request."""
    return {
        "type": "http",
        "asgi": ASGI,
        "http_version": "1.1" if exchange.is_http11 else "1.0",
        "method": exchange.method.decode(),
        "scheme": "https" if exchange.is_encrypted else "http",
        "path": decoded_path(exchange.path),
        "raw_path": exchange.path,
        "query_string": exchange.query,
        "root_path": "",
        "headers": exchange.headers,
        "client": exchange.peer,
        "server": server,
        "extensions": {},
        "state": {},
    }


def decoded_path(path: bytes) -> str:
    """Return a path with its escapes taken for UTF-8."""
    return (unquote_to_bytes(path) if b"%" in path else path).decode("utf-8", "replace")


class HttpCall:
    """One call of the application. Owns the bytes of the body that it has not read yet."""

    __slots__ = (
        "_app",
        "_exchange",
        "_finished",
        "_is_complete",
        "_is_told",
        "_pieces",
        "_receivers",
        "_room",
        "_server",
        "_source",
        "waiting_bytes",
    )

    def __init__(
        self,
        app: ASGIApp,
        exchange: Exchange,
        source: BodySource,
        server: tuple[str, int] | None,
        finished: Finished | None = None,
    ) -> None:
        """Begin a call. finished: told when the application has returned, whatever became of the answer."""
        self._app = app
        self._finished = finished
        self._exchange = exchange
        self._source = source
        self._server = server
        self._pieces: list[bytes] = []
        self._is_complete = False
        self._is_told = False
        """Whether the application knows that the body is complete."""
        self._receivers: list[asyncio.Future[None]] = []
        """Those who wait for something to receive; an Event would take four times the memory."""
        self._room: asyncio.Event | None = None
        """Made when somebody waits for room to write."""
        self.waiting_bytes = 0
        exchange.on_gone = self._on_gone
        exchange.on_writable = self._on_writable

    async def run(self) -> None:
        """Call the application; whatever it does, the exchange has ended then."""
        exchange = self._exchange
        scope = http_scope(exchange, self._server)
        scope["extensions"][PIECE] = self.piece
        try:
            await self._app(scope, self.receive, self.send)
        except Exception:
            if not exchange.is_gone:
                logger.exception("unexpected error in the application")
        finally:
            if not exchange.is_ended:
                fail(exchange)
            if self._finished is not None:
                self._finished(exchange, scope)
            # Else the two would hold each other until the garbage collector comes.
            exchange.on_gone = exchange.on_writable = None

    # What the connection tells.

    def feed(self, piece: bytes) -> None:
        """Take a piece of the body."""
        self._pieces.append(piece)
        self.waiting_bytes += len(piece)
        self._wake()

    def complete(self) -> None:
        """Take the news that the body is whole."""
        self._is_complete = True
        self._wake()

    def _on_gone(self) -> None:
        self._wake()
        self._on_writable()

    def _on_writable(self) -> None:
        if self._room is not None:
            self._room.set()

    def _wake(self) -> None:
        receivers, self._receivers = self._receivers, []
        for receiver in receivers:
            if not receiver.done():
                receiver.set_result(None)

    # What the application asks.

    async def receive(self) -> Message:
        """Return the next piece of the body, or the end of it all; wait for it."""
        exchange = self._exchange
        while True:
            if exchange.is_gone or exchange.is_ended:
                return DISCONNECT
            if self._pieces or (self._is_complete and not self._is_told):
                return self._request()
            if not self._is_complete:
                self._source.want_body()
            receiver = asyncio.get_running_loop().create_future()
            self._receivers.append(receiver)
            await receiver

    def _request(self) -> Message:
        body = b"".join(self._pieces)
        self._pieces.clear()
        self.waiting_bytes = 0
        self._is_told = self._is_complete
        return {"type": "http.request", "body": body, "more_body": not self._is_complete}

    async def send(self, message: Message) -> None:
        """Write a part of the answer; wait while there is no room."""
        exchange = self._exchange
        if message["type"] == "http.response.body":
            if not exchange.is_started:
                raise RuntimeError("the answer is not started")
            if message.get("more_body", False):
                exchange.write(message.get("body", b""))
            else:
                exchange.finish(message.get("body", b""))
                self._wake()
        elif message["type"] == "http.response.start":
            exchange.start(message["status"], list(message.get("headers", ())))
        else:
            raise RuntimeError(f"an answer has no message {message['type']!r}")
        while not (exchange.is_writable or exchange.is_gone or exchange.is_ended):
            await self._wait_room()

    async def piece(self, data: bytes) -> None:
        """Write a piece of the body of an answer that is started; wait while there is no room.

        The same as a message to `send`, past whatever is wrapped around that.
        """
        exchange = self._exchange
        exchange.write(data)
        while not (exchange.is_writable or exchange.is_gone or exchange.is_ended):
            await self._wait_room()

    async def _wait_room(self) -> None:
        if self._room is None:
            self._room = asyncio.Event()
        self._room.clear()
        await self._room.wait()
