"""Server-sent events as values: written by `encode`, read by `Decoder`. Pure, no I/O.

The decoder follows the WHATWG standard: lines end in LF, CR or CRLF, a BOM at the start is skipped,
and an event counts only when its closing blank line has arrived. Any cut of the input gives the
same events.
"""

from __future__ import annotations

import re

import msgspec

LINE_END = re.compile("\r\n|\r|\n")
MAX_EVENT_BYTES = 1 << 20


class EventTooLong(ValueError):
    """An event, or a line, is longer than the decoder's bound."""


class ServerSentEvent(msgspec.Struct, frozen=True):
    """One event. Empty `event` and `id` mean that the field is not there."""

    data: str
    event: str = ""
    id: str = ""
    retry_ms: int | None = None


def encode(event: ServerSentEvent) -> bytes:
    """Write an event with no space after the colons, except where a value begins with one.

    Line ends in `data` (CRLF, CR or LF) become line ends of the event; a reader sees each as LF.
    """
    lines = []
    if event.event:
        lines.append(_field("event", event.event))
    if event.id:
        lines.append(_field("id", event.id))
    if event.retry_ms is not None:
        lines.append(_field("retry", str(event.retry_ms)))
    lines.extend(_field("data", line) for line in LINE_END.split(event.data))
    return "".join(lines).encode() + b"\n"


def encode_json(payload: bytes) -> bytes:
    """Write a one-line payload as `data: payload`, the form that OpenAI clients expect."""
    return b"data: " + payload + b"\n\n"


def comment(text: str) -> bytes:
    """Write a comment, which readers skip."""
    return b":" + text.encode() + b"\n\n"


def _field(name: str, value: str) -> str:
    # A reader strips one space after the colon; a value's own first space needs another before it.
    space = " " if value.startswith(" ") else ""
    return f"{name}:{space}{value}\n"


class Decoder:
    """Turns the bytes of one stream into events.

    Owns the unfinished line and the unfinished event; both together stay below `max_event_bytes`.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._line: list[bytes] = []
        self._size = 0
        self._after_cr = False
        self._first_line = True
        self._event = ""
        self._id = ""
        self._retry_ms: int | None = None
        self._data: list[str] = []

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Take the next bytes; return the events that they complete. Raises EventTooLong."""
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        events: list[ServerSentEvent] = []
        for piece in data.splitlines(keepends=True):
            self._line.append(piece)
            self._size += len(piece)
            if piece.endswith((b"\n", b"\r")):
                self._end_line(events)
            elif self._size > self._max_event_bytes:
                raise EventTooLong(f"event longer than {self._max_event_bytes} bytes")
        self._after_cr = data.endswith(b"\r") or (self._after_cr and not data)
        return events

    def flush(self) -> bool:
        """End the input and say whether an unfinished event was cut off (it is dropped)."""
        return bool(self._line or self._data)

    def _end_line(self, events: list[ServerSentEvent]) -> None:
        line = b"".join(self._line).rstrip(b"\r\n")
        self._line.clear()
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line:
            if self._size > self._max_event_bytes:
                raise EventTooLong(f"event longer than {self._max_event_bytes} bytes")
            self._take_field(line.decode(errors="replace"))
            return
        if self._data:
            events.append(self._finished_event())
        self._event, self._retry_ms, self._size = "", None, 0
        self._data.clear()

    def _finished_event(self) -> ServerSentEvent:
        return ServerSentEvent("\n".join(self._data), self._event, self._id, self._retry_ms)

    def _take_field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._data.append(value)
            case "event":
                self._event = value
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit() and len(value) < 10:
                self._retry_ms = int(value)
