"""TLS between a socket and a connection: to the one a protocol, to the other a transport.

The connection is told of the socket at once, so it is counted and has its deadline before the handshake
is over. What it writes until then waits. One read of the socket is one `data_received`, as without TLS.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from arriero.server.edge.refusal import bad_request, refusal

if TYPE_CHECKING:
    Buffer = bytes | bytearray | memoryview

logger = logging.getLogger(__name__)

RECORD_BYTES = 16 * 1024
MAX_REPLY_BYTES = 64 * 1024
"""Bytes that TLS itself answers after the handshake, such as to new keys: few, but from an attacker."""
WITHOUT_TLS = "HTTP_REQUEST"
"""How the library names a client that speaks HTTP without TLS."""
SPEAK_TLS = bad_request("this port speaks TLS; begin the address with https")


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """Owns the transport of the socket, and the state of TLS on it."""

    __slots__ = (
        "_early",
        "_incoming",
        "_is_closing",
        "_is_open",
        "_outgoing",
        "_protocol",
        "_reply_bytes",
        "_socket",
        "_tls",
    )

    def __init__(self, protocol: asyncio.Protocol, context: ssl.SSLContext) -> None:
        self._protocol = protocol
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._socket: asyncio.Transport
        self._is_open = False
        """Whether the handshake is over."""
        self._is_closing = False
        self._early: list[bytes] = []
        """What was written before that."""
        self._reply_bytes = 0

    # What the socket tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast("asyncio.Transport", transport)
        self._protocol.connection_made(self)

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        try:
            if not self._is_open:
                self._shake_hands()
            plain, is_over = self._decrypted() if self._is_open else (b"", False)
        except ssl.SSLError as exc:
            self._fail(exc)
            return
        self._send_replies()
        if plain:
            self._protocol.data_received(plain)
        if is_over and not self._is_closing:
            self._protocol.eof_received()
            self.close()

    def eof_received(self) -> None:
        self._protocol.eof_received()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closing = True
        self._protocol.connection_lost(exc)

    # TLS.

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        self._is_open = True
        for piece in self._early:
            self._encrypt(piece)
        self._early.clear()

    def _decrypted(self) -> tuple[bytes, bool]:
        """Return what has come, and whether the client has said that nothing more will."""
        pieces = []
        try:
            while piece := self._tls.read(RECORD_BYTES):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            return b"".join(pieces), False
        except ssl.SSLZeroReturnError:
            pass
        return b"".join(pieces), True

    def _encrypt(self, data: Buffer) -> None:
        with memoryview(data) as whole:
            sent = 0
            while sent < len(whole):
                sent += self._tls.write(whole[sent:])

    def _send(self) -> int:
        """Hand the socket what is encrypted; return how much it was."""
        data = self._outgoing.read()
        if data:
            self._socket.write(data)
        return len(data)

    def _send_replies(self) -> None:
        sent = self._send()
        if self._is_open:
            self._reply_bytes += sent
            if self._reply_bytes > MAX_REPLY_BYTES:
                self.abort()

    def _fail(self, cause: ssl.SSLError) -> None:
        """End a connection on which TLS is impossible. The alert that says why goes out first."""
        logger.debug("no TLS with %s: %s", self.get_extra_info("peername"), cause.reason)
        self._send()
        if cause.reason == WITHOUT_TLS:
            self._socket.write(refusal(SPEAK_TLS, b""))
        self._is_closing = True
        self._socket.close()

    # What the connection asks.

    def write(self, data: Buffer) -> None:
        if self._is_closing:
            return
        if not self._is_open:
            self._early.append(bytes(data))
            return
        self._encrypt(data)
        self._send()

    def close(self) -> None:
        """Say that nothing more comes, and close; one whose handshake is not over is cut."""
        if self._is_closing:
            return
        self._is_closing = True
        if not self._is_open:
            self._socket.abort()
            return
        with suppress(ssl.SSLError):  # the client's answer is not waited for
            self._tls.unwrap()
        self._send()
        self._socket.close()

    def abort(self) -> None:
        self._is_closing = True
        self._socket.abort()

    def is_closing(self) -> bool:
        return self._is_closing or self._socket.is_closing()

    def can_write_eof(self) -> bool:
        return False  # clients take the end of one direction for the end of both

    def pause_reading(self) -> None:
        self._socket.pause_reading()

    def resume_reading(self) -> None:
        self._socket.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._socket.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._tls if name == "ssl_object" else self._socket.get_extra_info(name, default)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast("asyncio.Protocol", protocol)
