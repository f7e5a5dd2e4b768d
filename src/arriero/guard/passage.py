"""One request through the guard without waiting: the answer is told as the upstream's bytes come.

Every call comes from a read of a socket, or from the outlet; a job is made only where something must be
awaited: a count, a new connection, another upstream. The rules are the same pure functions as in
`forward.py`. Whatever happens, the outlet gets one end, and the upstream is let go of.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

import msgspec

from arriero.errors import ArrieroError, ServiceError
from arriero.guard.body import LARGE_BYTES
from arriero.guard.connection import Unanswered
from arriero.guard.encoding import Inflater, is_identity
from arriero.guard.failure import UpstreamFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from arriero.guard.connection import Connection
    from arriero.guard.forward import Guard
    from arriero.guard.replicas import Place, Reply
    from arriero.guard.request import Checked
    from arriero.guard.scan import Head, Header
    from arriero.guard.stream import StreamRewriter

logger = logging.getLogger(__name__)

_OK = 200


class Outlet(Protocol):
    """Where an answer is told: `answer`, or `refuse`, or `start`, any number of `write`, and `finish`."""

    @property
    def is_writable(self) -> bool:
        """Whether there is room; else `Passage.resume` is called when there is again."""
        ...

    def answer(self, headers: tuple[Header, ...], body: bytes) -> None:
        """Tell a whole answer."""
        ...

    def refuse(self, error: Exception) -> None:
        """Tell why there is no answer."""
        ...

    def start(self, headers: tuple[Header, ...]) -> None:
        """Begin a stream."""
        ...

    def write(self, piece: bytes) -> bool:
        """Tell a piece of a stream; return whether there is room for more, as `is_writable`."""
        ...

    def finish(self, piece: bytes) -> None:
        """Tell the last piece of a stream, which may be empty."""
        ...


class Passage(msgspec.Struct, eq=False):
    """Made and begun by `Guard.pass_on`. `cut` it when nobody listens any more."""

    _guard: Guard
    _checked: Checked
    _headers: Sequence[Header]
    _outlet: Outlet
    _is_over: bool = False
    _job: asyncio.Task[None] | None = None
    _place: Place | None = None
    _connection: Connection | None = None
    _head: Head | None = None
    _inflater: Inflater | None = None
    _rewriter: StreamRewriter | None = None
    _body: list[bytes] = []
    _most_bytes: int = 0
    _backlog: Iterator[bytes] | None = None
    _has_ended: bool = False
    _failure: ServiceError | None = None

    def begin(self) -> None:
        """Send the request, now if nothing is to be awaited."""
        guard, checked = self._guard, self._checked
        if not checked.needs_prompt_count:
            request, affinity = guard.request(checked, self._headers), guard.affinity(checked)
            sent = guard.replicas.send_at_once(request, affinity, self)
            if sent is not None:
                self._place, self._connection = sent
                return
        self._await_reply()

    def resume(self) -> None:
        """There is room at the outlet again."""
        if self._backlog is not None:
            self._work_off()
        if self._backlog is None and self._connection is not None:
            self._connection.resume()

    def cut(self) -> None:
        """Let go of everything at once; the outlet hears nothing more."""
        if not self._is_over:
            self._release(is_cut=True)

    def fail(self, error: ArrieroError) -> None:
        """End the answer with an error, for a reason that is not the upstream's."""
        if not self._is_over:
            self._tell_failure(error)

    def _await_reply(self, *, refused_by: int | None = None, fresh: bool = False) -> None:
        self._job = asyncio.ensure_future(self._replied(refused_by, fresh))

    async def _replied(self, refused_by: int | None, fresh: bool) -> None:
        try:
            self._checked = await self._guard.fitted(self._checked)
            reply = await self._guard.reply(self._checked, self._headers, refused_by=refused_by, fresh=fresh)
            self._job = None
            self._take_reply(reply)
        except Exception as exc:
            self._fail_job(exc)

    def _fail_job(self, error: Exception) -> None:
        self._job = None
        if not isinstance(error, ArrieroError):
            logger.error("unexpected error on the way to an upstream", exc_info=error)
        self._refuse(error)

    def _take_reply(self, reply: Reply) -> None:
        self._place = reply.place
        if self._is_over:
            reply.close()
            return
        if not self._begin_answer(reply.head):
            reply.close()
            return
        self._connection = reply.detached(self)
        reply.drain(self)
        if self._connection is not None:
            self._connection.resume()
            if not self._outlet.is_writable:
                self._connection.pause()

    # The connection calls these.

    def take_whole(self, head: Head, body: bytes) -> None:
        self._connection = None
        if not self._is_taken(head):
            return
        if self._inflater is None and self._rewriter is None and len(body) <= self._most_bytes:
            self._tell_whole(head, body)
            return
        self._has_ended = True
        if body:
            self.take_piece(body)
        if self._backlog is None and not self._is_over:
            self._close()

    def take_head(self, head: Head) -> None:
        self._is_taken(head)

    def take_piece(self, piece: bytes) -> None:
        if self._is_over:
            return
        if self._inflater is not None:
            self._backlog = self._inflater.feed(piece)
            self._work_off()
        elif self._rewriter is not None:
            self._pass_on(self._rewriter, piece)
        else:
            self._keep(piece)

    def take_end(self) -> None:
        self._connection = None
        self._has_ended = True
        if self._backlog is None and not self._is_over:
            self._close()

    def take_failure(self, failure: ServiceError) -> None:
        self._connection = None
        if self._head is None and isinstance(failure, Unanswered):
            # A kept connection that the upstream had just closed: once more, over a fresh one.
            self._leave_upstream(is_cut=True)
            self._await_reply(fresh=True)
            return
        if self._place is not None:
            self._place.note_failure()
        self._failure = failure
        self._has_ended = True
        if self._backlog is None and not self._is_over:
            self._close()

    def _is_taken(self, head: Head) -> bool:
        """Say whether this is the answer that is told, not another upstream's or an error."""
        place = self._place
        assert place is not None
        place.note_status(head.status)
        if head.status != _OK and self._guard.replicas.is_better_elsewhere(head.status, place.index):
            self._leave_upstream(is_cut=True)
            self._await_reply(refused_by=place.index)
            return False
        return self._begin_answer(head)

    def _begin_answer(self, head: Head) -> bool:
        """Say whether the answer is one that can be read."""
        self._head = head
        try:
            encoding = head.headers.get(b"content-encoding")
            if encoding is not None and not is_identity(encoding):
                self._inflater = Inflater()
        except UpstreamFailed as exc:
            self._refuse(exc)
            return False
        opened = self._guard.opened(self._checked, head)
        if isinstance(opened, int):
            self._most_bytes = opened
        else:
            self._rewriter, headers = opened
            # Nothing is asked again from here on, and a stream may last: what was asked is let go of.
            del self._checked
            self._headers = ()
            self._outlet.start(headers)
        return True

    def _work_off(self) -> None:
        """Take what is left of an inflated piece, for as long as there is room."""
        assert self._backlog is not None
        try:
            for plain in self._backlog:
                if self._rewriter is None:
                    self._keep(plain)
                else:
                    self._pass_on(self._rewriter, plain)
                    if not self._outlet.is_writable:
                        self._pause()
                        return
                if self._is_over:
                    return
        except UpstreamFailed as exc:
            self._tell_failure(exc)
            return
        self._backlog = None
        if self._has_ended:
            self._close()

    def _keep(self, plain: bytes) -> None:
        """Take a piece of a whole answer."""
        self._body.append(plain)
        self._most_bytes -= len(plain)
        if self._most_bytes < 0:
            self._refuse(UpstreamFailed("the upstream's answer is too long"))

    def _pass_on(self, rewriter: StreamRewriter, plain: bytes) -> None:
        """Take a piece of a stream."""
        told = rewriter.feed(plain)
        if rewriter.is_ended:
            self._release(is_cut=rewriter.is_failed)
            self._outlet.finish(told)
        elif told and not self._outlet.write(told):
            self._pause()

    def _pause(self) -> None:
        if self._connection is not None:
            self._connection.pause()

    def _close(self) -> None:
        """The upstream has said all that it will say."""
        failure = self._failure
        if failure is None and self._inflater is not None:
            try:
                self._inflater.close()
            except UpstreamFailed as exc:
                failure = exc
        if failure is not None:
            self._tell_failure(failure)
        elif self._rewriter is not None:
            self._finish_stream(None)
        else:
            assert self._head is not None
            self._tell_whole(self._head, b"".join(self._body))

    def _tell_failure(self, failure: ArrieroError) -> None:
        if self._rewriter is not None:
            self._finish_stream(failure)
        else:
            self._refuse(failure)

    def _finish_stream(self, failure: ArrieroError | None) -> None:
        assert self._rewriter is not None
        told = self._rewriter.close(failure)
        self._release(is_cut=True)
        self._outlet.finish(told)

    def _tell_whole(self, head: Head, body: bytes) -> None:
        if len(body) >= LARGE_BYTES:
            self._job = asyncio.ensure_future(self._told_aside(head, body))
            return
        try:
            headers, told = self._guard.told_whole(self._checked, head, body)
        except ArrieroError as exc:
            self._refuse(exc)
            return
        self._answer(headers, told)

    async def _told_aside(self, head: Head, body: bytes) -> None:
        """Tell a large answer without holding up the event loop."""
        try:
            headers, told = await self._guard.told_aside(self._checked, head, body)
        except Exception as exc:
            self._fail_job(exc)
            return
        self._job = None
        self._answer(headers, told)

    def _answer(self, headers: tuple[Header, ...], told: bytes) -> None:
        self._release(is_cut=False)
        self._outlet.answer(headers, told)

    def _refuse(self, error: Exception) -> None:
        if not self._is_over:
            self._release(is_cut=True)
            self._outlet.refuse(error)

    def _release(self, *, is_cut: bool) -> None:
        self._is_over = True
        self._backlog = None
        self._body = []
        if self._job is not None:
            self._job.cancel()
            self._job = None
        self._leave_upstream(is_cut=is_cut)
        self._guard.leave()

    def _leave_upstream(self, *, is_cut: bool) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and is_cut:
            connection.abort()
        elif connection is not None:
            connection.linger()
        if self._place is not None:
            self._place.leave()
