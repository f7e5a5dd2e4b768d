"""Streams over HTTP as raw ASGI: one event per send, back-pressure, keep-alive, and no orphan work.

`unless_disconnected` ends the work when the client goes, also for answers that do not stream.
`EventStream` sends its head with the first event, so that an error before it has a real status.
What each event says is the route's; here are only bytes.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar, cast

from starlette.responses import Response

from arriero import sse
from arriero.errors import ArrieroError, Unavailable
from arriero.server.edge.asgi import PIECE
from arriero.server.errors import Internal
from arriero.server.record import note_error, record_in

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from arriero.core import Delta

T = TypeVar("T")

logger = logging.getLogger(__name__)

KEEP_ALIVE = sse.comment("keep-alive-text")
STALL_S = 30.0
HEAD = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class ClientGone(Exception):
    """The client closed its connection; nobody is left to answer."""


async def unless_disconnected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Do the work; when the client goes first, cancel it, wait for its end and raise ClientGone.

    The request body must have been read before.
    """
    job = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait({job, watch}, return_when=asyncio.FIRST_COMPLETED)
        if job.done():
            return job.result()
        raise ClientGone
    finally:
        await _ended(job, watch)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _ended(*jobs: asyncio.Future[Any]) -> None:
    for job in jobs:
        job.cancel()
    await asyncio.gather(*jobs, return_exceptions=True)


async def answered(request: Request, work: Coroutine[Any, Any, Response]) -> Response:
    """Return the response of the work; ends the work when the client goes."""
    try:
        return await unless_disconnected(request.receive, work)
    except ClientGone:
        return Response(status_code=204)  # nobody reads it


def closing(deltas: AsyncIterator[Delta]) -> aclosing[AsyncGenerator[Delta, None]]:
    """Close a stream of deltas at the end of the block, which stops the work behind it."""
    return aclosing(cast("AsyncGenerator[Delta, None]", deltas))


class EventStream:
    """An ASGI response that sends the events of `work`.

    work: yields the bytes of one event at a time; closed at once when the client goes.
    failed: writes the event of an error that comes after the first byte; nothing follows it.
    keep_alive_s: after this much silence the head (if not yet sent) and `keep_alive` are sent.
    head: the headers.
    """

    def __init__(
        self,
        work: AsyncGenerator[bytes, None],
        *,
        failed: Callable[[ArrieroError], bytes],
        keep_alive_s: float,
        keep_alive: bytes = KEEP_ALIVE,
        head: Sequence[tuple[bytes, bytes]] = HEAD,
        stall_s: float = STALL_S,
    ) -> None:
        self._work = work
        self._failed = failed
        self._keep_alive_s = keep_alive_s
        self._comment = keep_alive
        self._head = head
        self._stall_s = stall_s
        self._started = False
        self._sending = False
        self._is_left = False
        self._moved_at = 0.0
        self._comments: tuple[asyncio.Future[None], ...] = ()
        """The job that sends the last comment."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._send = send
        record_in(scope).is_streamed = True
        self._piece = scope.get("extensions", {}).get(PIECE)
        self._clock = asyncio.get_running_loop().time
        self._moved_at = self._clock()
        # The work is done in this very job, and silence is a timer: of idle streams there are many, and a
        # job costs memory. A timeout without a time is what ends the work from outside.
        self._until = asyncio.timeout(None)
        watch = asyncio.ensure_future(_disconnect(receive))
        watch.add_done_callback(self._leave)
        self._look()
        try:
            async with self._until:
                await self._pump()
        except TimeoutError:
            if not self._until.expired():
                raise
        finally:
            # A callback that is on its way already comes all the same.
            self._is_left = True
            watch.remove_done_callback(self._leave)
            self._timer.cancel()
            await _ended(watch, *self._comments)

    def _leave(self, _: object = None) -> None:
        if not self._is_left:
            self._is_left = True
            self._until.reschedule(0)

    async def _pump(self) -> None:
        async with aclosing(self._work):
            try:
                async for event in self._work:
                    await self._write(event)
            except ArrieroError as failure:
                await self._fail(failure)
            except asyncio.CancelledError:
                # A send that hangs would hang again; a client that is gone reads nothing.
                if self._started and not (self._sending or self._is_left):
                    await self._fail(Unavailable("the server is shutting down"))
                    await self._write(b"", more=False)
                raise
            except Exception:
                if not self._started:
                    raise
                logger.exception("unexpected error in a stream")
                await self._fail(Internal("internal error"))
        await self._write(b"", more=False)

    async def _fail(self, failure: ArrieroError) -> None:
        if not self._started:
            raise failure
        note_error(self._scope, failure)
        await self._write(self._failed(failure))

    async def _write(self, event: bytes, *, more: bool = True) -> None:
        if not self._started:
            self._started = True
            await self._send({"type": "http.response.start", "status": 200, "headers": self._head})
        self._sending = True
        if more and self._piece is not None:
            await self._piece(event)
        else:
            await self._send({"type": "http.response.body", "body": event, "more_body": more})
        self._sending = False
        self._moved_at = self._clock()

    def _look(self) -> None:
        """Send a comment after silence, end the stream when one send has hung for `stall_s`; look again."""
        silence = self._clock() - self._moved_at
        if self._sending and silence >= self._stall_s:
            logger.warning("a client reads nothing any more; its stream is given up")
            self._leave()
        elif not self._sending and silence >= self._keep_alive_s:
            self._comments = (asyncio.ensure_future(self._write(self._comment)),)
            silence = 0.0
        wait_s = max(self._keep_alive_s - silence, self._keep_alive_s / 4)
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._look)
