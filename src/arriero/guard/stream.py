"""A stream of an upstream, rewritten event by event; it ends well only if the upstream ended it well.

    1. A block that has a learnt form (`template.py`) is passed on by it: one of this stream's own, which
       differ in their text only, or one that all streams share.
    2. Any other event is parsed and rebuilt by its shape, and teaches its form.
    3. What is no event of the route, too long, not UTF-8, or an error of the upstream's, ends the stream
       with an error event. So does an end without the upstream's own. `[DONE]` is written only after all
       completions have finished.

The bytes that come out do not depend on where the bytes that went in were cut.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import msgspec

from arriero.guard import shapes
from arriero.guard.failure import UpstreamFailed, error_object, said_error, told_error
from arriero.guard.progress import progress_of
from arriero.guard.routes import Route
from arriero.guard.splitter import EventSplitter, LineSplitter, TooLong
from arriero.guard.template import Form, Forms, Template

if TYPE_CHECKING:
    from collections.abc import Iterator

    from arriero.errors import ArrieroError
    from arriero.guard.shapes import Telling
    from arriero.guard.splitter import Event

MAX_EVENT_BYTES = 1 << 20
_MAX_TEMPLATES = 8
_DONE = b"[DONE]"
_KEEP_ALIVE = b":\n\n"
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Framing(Enum):
    """How a stream is cut into payloads."""

    EVENTS = "text/event-stream"
    LINES = "application/x-ndjson"


class StreamRewriter:
    """One stream. `is_ended` and `is_failed` tell its owner to let the upstream go."""

    __slots__ = (
        "_at_start",
        "_closing",
        "_events",
        "_forms",
        "_max_event_bytes",
        "_opening",
        "_progress",
        "_route",
        "_shape",
        "_splitter",
        "_telling",
        "_templates",
        "is_ended",
        "is_failed",
    )

    def __init__(
        self,
        route: Route,
        telling: Telling,
        *,
        choices: int = 1,
        framing: Framing = Framing.EVENTS,
        max_event_bytes: int = MAX_EVENT_BYTES,
        forms: Forms | None = None,
    ) -> None:
        """Begin a stream. forms: those of such streams with this `telling`, which grow."""
        self.is_ended = False
        self.is_failed = False
        self._route = route
        self._telling = telling
        self._shape = shapes.RESPONSE_EVENT if route is Route.RESPONSES else shapes.COMPLETION
        self._events = framing is Framing.EVENTS
        self._opening, self._closing = (b"data: ", b"\n\n") if self._events else (b"", b"\n")
        self._splitter = (EventSplitter if self._events else LineSplitter)(max_event_bytes)
        self._max_event_bytes = max_event_bytes
        self._at_start = False  # whether the next byte begins an event, as only events can tell
        self._progress = progress_of(route, choices)
        self._templates: list[Template] = []
        self._forms = Forms(telling.names) if forms is None else forms

    def feed(self, data: bytes) -> bytes:
        """Return what the next bytes of the upstream let a client know."""
        if self.is_ended:
            return b""
        if self._at_start:
            # A template takes no more than one event, and only a whole one.
            for template in self._templates:
                if (event := template.told(data)) is not None:
                    return event
            if data.endswith(b"\n\n"):
                blocks = data[:-2].split(b"\n\n")
                told_all = self._all_by_template(data, blocks) if len(blocks) > 1 else None
                return self._joined(self._told_blocks(blocks)) if told_all is None else told_all
        told = self._joined(self._told(self._splitter.feed(data)))
        self._at_start = self._splitter.is_clean
        return told

    def close(self, error: ArrieroError | None = None) -> bytes:
        """End the stream: the upstream's connection ended, or failed with `error`."""
        if self.is_ended:
            return b""
        if error is not None:
            return self._fail(error)
        told = self._joined(self._told(self._splitter.flush()))
        return told if self.is_ended else told + self._end_of_input()

    def _joined(self, pieces: Iterator[bytes]) -> bytes:
        out: list[bytes] = []
        try:
            for piece in pieces:
                out.append(piece)  # noqa: PERF402 - what came before a failure is told
        except TooLong as exc:
            out.append(self._fail(UpstreamFailed(str(exc))))
        except (ValueError, msgspec.DecodeError, RecursionError):
            out.append(self._fail(UpstreamFailed("the upstream sent what is no event of this stream")))
        return b"".join(out)

    def _told_blocks(self, blocks: list[bytes]) -> Iterator[bytes]:
        for inner in blocks:
            block = inner + b"\n\n"
            told = self._by_template(block)
            if told is None:
                yield from self._told(self._splitter.feed(block))
            else:
                yield told
            if self.is_ended:
                return

    def _told(self, events: Iterator[Event]) -> Iterator[bytes]:
        for event in events:
            yield self._told_event(event)
            if self.is_ended:
                return

    def _by_template(self, block: bytes) -> bytes | None:
        for template in self._templates:
            if (told := template.told(block)) is not None:
                return told
        return None

    def _all_by_template(self, data: bytes, blocks: list[bytes]) -> bytes | None:
        if not self._templates or len(data) > self._max_event_bytes:
            return None
        return self._templates[-1].told_all(blocks)

    def _by_form(self, block: bytes) -> bytes | None:
        found = self._forms.find(block)
        if found is None:
            return None
        form, told = found
        # Another stream's event taught the form; what it says of progress is this stream's.
        self._progress.note(told[len(self._opening) : -len(self._closing)])
        self._narrow(form, block)
        return told

    def _told_event(self, event: Event) -> bytes:
        if event.data is None:
            return _KEEP_ALIVE
        if event.data == _DONE and self._events:
            return self._done()
        payload = event.data.replace(b"\n", b" ")  # several lines of data; no string holds a line end
        if event.name:
            told = self._rebuilt(payload)
            return told if self.is_failed else self._named(event.name) + told
        block = self._opening + payload + self._closing
        return self._by_template(block) or self._by_form(block) or self._rebuilt(payload)

    def _named(self, name: bytes) -> bytes:
        return b"event: " + self._telling.names.clean_text(name.decode()).encode() + b"\n"

    def _rebuilt(self, payload: bytes) -> bytes:
        payload.isascii() or payload.decode()
        members = _OBJECT.decode(payload)
        said = said_error(members)
        if said is not None:
            return self._fail(told_error(said, self._telling.names))
        told = bytes(self._shape.told(members, self._telling))
        is_plain = self._progress.note(told)
        told = self._opening + told + self._closing
        self._learn(self._opening + payload + self._closing, is_plain=is_plain)
        return told

    def _learn(self, block: bytes, *, is_plain: bool) -> None:
        form = self._forms.learn(block, self._framed)
        if form is not None:
            form.is_plain = is_plain
            self._narrow(form, block)

    def _narrow(self, form: Form, block: bytes) -> None:
        if not form.is_plain or len(self._templates) >= _MAX_TEMPLATES:
            return
        template = self._forms.narrowed(form, block, self._max_event_bytes)
        if template is not None:
            self._templates.append(template)

    def _framed(self, block: bytes) -> bytes:
        payload = msgspec.Raw(block[len(self._opening) :].removesuffix(self._closing))
        return self._opening + bytes(self._shape(payload, self._telling)) + self._closing

    def _done(self) -> bytes:
        if not self._progress.is_complete:
            return self._fail(_incomplete())
        self.is_ended = True
        return b"data: [DONE]\n\n"

    def _end_of_input(self) -> bytes:
        # Completions as events end with [DONE]; lines and responses have no such word.
        due = self._events and self._route is not Route.RESPONSES
        if due or not self._progress.is_complete:
            return self._fail(_incomplete())
        self.is_ended = True
        return b""

    def _fail(self, error: ArrieroError) -> bytes:
        self.is_ended = self.is_failed = True
        return error_event(self._route, error) if self._events else error_line(error)


def error_event(route: Route, error: ArrieroError) -> bytes:
    """Write the event that ends a failed stream, in the form that OpenAI's clients raise."""
    if route is Route.RESPONSES:
        return b"event: error\ndata: " + error_object(error, kind="error") + b"\n\n"
    return b'data: {"error":' + error_object(error) + b"}\n\n"


def error_line(error: ArrieroError) -> bytes:
    """Write the line that ends a failed stream of lines."""
    return b'{"error":' + error_object(error) + b"}\n"


def _incomplete() -> UpstreamFailed:
    return UpstreamFailed("the upstream ended the stream before the answer was complete")
