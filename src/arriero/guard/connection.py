"""One connection to an upstream: HTTP/1.1 by httptools on an asyncio protocol, one answer at a time.

The parser is passed by for what `scan.py` reads: a whole answer in one read, a whole chunk in one read. It
stands before an answer, or between two chunks, and does not notice.

Owns the framing of answers and their deadlines. Nothing that the framing does not prove is taken for the
end of an answer, and nothing that follows an answer is read. It must not know what answers say. Whoever
asks hands in a `Sink`; `answer.py` has one to be awaited. No job and no future is made here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, cast

import httptools

from arriero.guard.failure import UpstreamFailed, UpstreamTimeout
from arriero.guard.scan import MAX_HEADERS, Head, Header, Heads, whole_chunk

if TYPE_CHECKING:
    from collections.abc import Callable

    from arriero.config.remote import TimeoutsConfig
    from arriero.errors import ServiceError

MAX_HEAD_BYTES = 64 << 10
"""Of a head, of trailers, and of whatever else stands between two pieces of a body."""
TICK_S = 1.0
"""Deadlines move with each read; the one timer looks at most this much later, and so is seldom set."""
LINGER_S = 1.0
_FRAMING = (b"content-length", b"transfer-encoding")
_SWITCHING = 101
_FINAL = 200
_NEVER = float("inf")


class Unanswered(UpstreamFailed):
    """The connection ended before any byte of an answer came."""


class Sink(Protocol):
    """Takes an answer: whole, or its head, its pieces, then one of the last two. Not called in its calls."""

    def take_whole(self, head: Head, body: bytes) -> None:
        """Take an answer that came in one piece; its connection is another's already."""
        ...

    def take_head(self, head: Head) -> None:
        """Take the head; its pieces follow."""
        ...

    def take_piece(self, piece: bytes) -> None:
        """Take what one read brought of the body."""
        ...

    def take_end(self) -> None:
        """The answer is whole; its connection is another's already."""
        ...

    def take_failure(self, failure: ServiceError) -> None:
        """The answer ends here; its connection is closed."""
        ...


class Connection(asyncio.Protocol):
    """The asyncio protocol. `freed` is called when an answer is complete and another can be asked for."""

    __slots__ = (
        "_deadline",
        "_ends_at",
        "_first_byte_s",
        "_freed",
        "_head",
        "_headers",
        "_heads",
        "_idle_s",
        "_is_asked",
        "_is_begun",
        "_is_between_chunks",
        "_is_closed",
        "_is_complete",
        "_is_delimited",
        "_is_head_due",
        "_is_kept",
        "_is_lingering",
        "_is_paused",
        "_looks_at",
        "_loop",
        "_lost",
        "_now",
        "_parser",
        "_pieces",
        "_silence_s",
        "_sink",
        "_timer",
        "_total_s",
        "_transport",
        "_unused_bytes",
        "is_reused",
    )

    def __init__(
        self,
        timeouts: TimeoutsConfig,
        *,
        idle_s: float,
        freed: Callable[[Connection], None],
        lost: Callable[[Connection], None],
        heads: Heads | None = None,
    ) -> None:
        """Begin. heads: what the connections to one upstream share."""
        self._first_byte_s = timeouts.first_byte_s
        self._silence_s = timeouts.idle_s
        self._total_s = timeouts.total_s
        self._idle_s = idle_s
        self._freed = freed
        self._lost = lost
        self._heads = heads or Heads()
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time
        self._sink: Sink | None = None
        self._is_asked = self._is_closed = self._is_paused = False
        self._pieces: list[bytes] = []
        self._deadline = self._ends_at = self._looks_at = _NEVER
        self._timer: asyncio.TimerHandle | None = None
        self.is_reused = False
        """Whether an earlier request was answered here."""

    @property
    def is_usable(self) -> bool:
        """Whether a request may be sent: open, and not about to be closed for its age."""
        return not self._is_closed and not self._transport.is_closing() and self._now() < self._deadline

    def request(self, message: bytes, sink: Sink) -> None:
        """Send a whole request; its answer goes to the sink, which lets go by `abort` or `linger`."""
        self._sink = sink
        self._parser: httptools.HttpResponseParser | None = None
        self._head: Head | None = None
        self._headers: list[Header] = []
        self._is_asked = True
        self._is_delimited = self._is_begun = self._is_complete = self._is_kept = False
        self._is_lingering = self._is_head_due = self._is_between_chunks = False
        self._unused_bytes = 0
        now = self._now()
        self._ends_at = _NEVER if self._total_s is None else now + self._total_s
        self._watch(now + self._first_byte_s)
        self._transport.write(message)

    def hand_over(self, sink: Sink) -> None:
        """Let another take what follows."""
        self._sink = sink

    def pause(self) -> None:
        """Read no more until `resume`: the answer's reader has fallen behind."""
        if not self._is_paused and self._is_asked and not self._is_closed:
            self._is_paused = True
            self._watch(_NEVER)
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on: the answer's reader has caught up."""
        if self._is_paused:
            self._is_paused = False
            self._watch(self._now() + self._silence_s)
            self._transport.resume_reading()

    def linger(self) -> None:
        """Await the end of an answer whose reader is gone; what still comes of its body closes at once."""
        self._sink = None
        self._is_lingering = True
        self._ends_at = self._now() + LINGER_S
        self.resume()
        self._watch(self._ends_at)

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        self._sink = None
        self._is_asked = False
        self._is_closed = True
        self._transport.abort()

    # asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        if not self._is_asked:  # nobody asked
            self.abort()
            return
        if self._is_between_chunks and self._sink is not None and (piece := whole_chunk(data)) is not None:
            deadline = self._now() + self._silence_s
            if deadline < self._looks_at or deadline > self._ends_at:
                self._watch(deadline)
            else:
                self._deadline = deadline
            self._sink.take_piece(piece)
            return
        if not self._is_begun and (answer := self._heads.whole_answer(data)) is not None:
            sink = self._sink
            self._free()
            if sink is not None:
                sink.take_whole(*answer)
            return
        if not self._is_begun or self._head is not None:
            # After its first byte a head has one idle time to be complete, however slowly it comes.
            self._watch(self._now() + self._silence_s)
        self._is_begun = True
        self._unused_bytes += len(data)
        failure: ServiceError | None = None
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)
        try:
            self._parser.feed_data(data)
            if self._unused_bytes > MAX_HEAD_BYTES:
                raise UpstreamFailed("the upstream's answer has an endless head")
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, UpstreamFailed) as exc:
            failure = _failure(exc)
        # Where the last line end was not that of a chunk, the parser is in the midst of something.
        self._is_between_chunks = self._is_between_chunks and failure is None and data.endswith(b"\r\n")
        self._deliver(failure)

    def eof_received(self) -> None:
        """Close; `connection_lost` follows."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._lost(self)
        sink, self._sink = self._sink, None
        self._is_asked = False
        if sink is None:
            return
        if self._head is not None and not self._is_delimited and exc is None:
            sink.take_end()
        elif self._is_begun:
            sink.take_failure(UpstreamFailed("the upstream broke off its answer"))
        else:
            sink.take_failure(Unanswered("the upstream closed the connection without an answer"))

    # httptools calls these, and wraps what they raise.

    def on_message_begin(self) -> None:
        if self._is_complete:
            raise UpstreamFailed("the upstream sent more than its answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))
        if len(self._headers) > MAX_HEADERS:
            raise UpstreamFailed("the upstream's answer has too many headers")

    def on_headers_complete(self) -> None:
        if self._head is not None:
            return
        assert self._parser is not None
        status, headers = self._parser.get_status_code(), self._headers
        self._headers = []
        if status == _SWITCHING:
            raise UpstreamFailed("the upstream speaks another protocol")
        if status < _FINAL:
            return
        self._head = Head(status, headers)
        self._is_head_due = True
        self._unused_bytes = 0
        self._is_delimited = any(name in _FRAMING for name, _ in headers)

    def on_body(self, piece: bytes) -> None:
        self._unused_bytes = 0
        if self._is_lingering:
            raise UpstreamFailed("the upstream sent more than its last word")
        self._pieces.append(piece)

    def on_chunk_header(self) -> None:
        self._is_between_chunks = False

    def on_chunk_complete(self) -> None:
        self._is_between_chunks = True

    def on_message_complete(self) -> None:
        self._is_between_chunks = False
        if self._head is not None and self._parser is not None:
            self._is_complete = True
            self._is_kept = self._parser.should_keep_alive()

    def _deliver(self, failure: ServiceError | None) -> None:
        """Hand on what one read brought; the sink may let go at any point of it."""
        if self._is_head_due and self._head is not None:
            self._is_head_due = False
            if self._sink is not None:
                self._sink.take_head(self._head)
        if self._pieces:
            piece = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._pieces.clear()
            if self._sink is not None:
                self._sink.take_piece(piece)
        if self._is_complete and self._is_asked:
            self._end(is_kept=self._is_kept and failure is None)
        elif failure is not None and self._is_asked:
            self._fail(failure)

    def _end(self, *, is_kept: bool) -> None:
        sink = self._sink
        if is_kept:
            self._free()
        else:
            self.abort()
        if sink is not None:
            sink.take_end()

    def _free(self) -> None:
        """Let another ask: the answer has come in full."""
        self._sink = None
        self._is_asked = False
        self.is_reused = True
        self._ends_at = _NEVER
        # Paused by this answer, it would hang the next.
        if self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()
        self._watch(self._now() + self._idle_s)
        self._freed(self)

    def _fail(self, failure: ServiceError) -> None:
        sink = self._sink
        self.abort()
        if sink is not None:
            sink.take_failure(failure)

    def _watch(self, deadline: float) -> None:
        if deadline > self._ends_at:
            deadline = self._ends_at
        self._deadline = deadline
        if deadline < self._looks_at:
            if self._timer is not None:
                self._timer.cancel()
            self._looks_at = min(deadline, self._now() + TICK_S)
            self._timer = self._loop.call_at(self._looks_at, self._look)

    def _look(self) -> None:
        self._timer = None
        self._looks_at = _NEVER
        if self._is_closed:
            return
        if self._now() < self._deadline:
            self._watch(self._deadline)
        else:
            self._fail(UpstreamTimeout("the upstream did not answer in time"))


def _failure(exc: Exception) -> ServiceError:
    cause = exc if isinstance(exc, UpstreamFailed) else exc.__context__
    if isinstance(cause, UpstreamFailed):
        return cause
    return UpstreamFailed("the upstream's answer is not valid HTTP")
