"""An answer of the guard that is awaited: whole, or as it comes. `passage.py` tells one without waiting."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arriero.errors import ServiceError
from arriero.guard.encoding import Inflater, is_identity
from arriero.guard.failure import UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from arriero.guard.replicas import Reply
    from arriero.guard.routes import Route
    from arriero.guard.scan import Header
    from arriero.guard.stream import StreamRewriter


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole answer."""

    headers: tuple[Header, ...]
    body: bytes


class Stream:
    """An answer as it comes, rewritten. Its one reader must `close` it; it never raises for its upstream.

    route: tells in which form a failure of the server itself is written.
    left: called once, when the answer is closed.
    """

    __slots__ = ("_body", "_is_closed", "_left", "_reply", "_rewriter", "headers", "route")

    def __init__(
        self,
        route: Route,
        headers: tuple[Header, ...],
        *,
        reply: Reply,
        rewriter: StreamRewriter,
        left: Callable[[], None],
    ) -> None:
        self.route = route
        self.headers = headers
        self._reply = reply
        self._body = _PlainBody(reply)
        self._rewriter = rewriter
        self._left = left
        self._is_closed = False

    async def piece(self) -> bytes:
        """Return what can be told next; no bytes at the end. The last piece of a failed stream says so."""
        while not self._rewriter.is_ended:
            if told := await self._told():
                return told
        return b""

    def close(self) -> None:
        """Let the upstream go, at once if it is still sending."""
        if not self._is_closed:
            self._is_closed = True
            self._reply.close()
            self._left()

    async def _told(self) -> bytes:
        try:
            data = await self._body.piece()
            told = self._rewriter.feed(data) if data else self._rewriter.close()
        except ServiceError as exc:
            told = self._rewriter.close(exc)
        if self._rewriter.is_failed:
            self._reply.close()
        elif self._rewriter.is_ended:
            self._reply.finish()
        return told


class _PlainBody:
    """The body of a reply, decompressed if need be. Holds nothing: the reply is its reader's to close."""

    __slots__ = ("_inflater", "_plain", "_reply")

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._inflater = None if is_identity(reply.head.get(b"content-encoding")) else Inflater()
        self._plain: Iterator[bytes] = iter(())

    async def piece(self) -> bytes:
        """Return what has come; no bytes at the end. Raises UpstreamFailed, UpstreamTimeout."""
        if self._inflater is None:
            return await self._reply.piece()
        while not (plain := next(self._plain, b"")):
            piece = await self._reply.piece()
            if not piece:
                self._inflater.close()
                return b""
            self._plain = self._inflater.feed(piece)
        return plain


async def whole_body(reply: Reply, max_bytes: int) -> bytes:
    """Read a body to its end and let its connection go. Raises UpstreamFailed, UpstreamTimeout."""
    with closing(reply):
        plain, body = _PlainBody(reply), bytearray()
        while piece := await plain.piece():
            body += piece
            if len(body) > max_bytes:
                raise UpstreamFailed("the upstream's answer is too long")
        return bytes(body)
