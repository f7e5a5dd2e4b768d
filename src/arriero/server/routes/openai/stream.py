"""How a generating route of OpenAI streams: the order of events, the same for chat and completions.

For each choice its pieces, the last with the finish reason; then the usage if it was asked for;
then `[DONE]`. A failure writes an error object instead, and no `[DONE]`.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol

import msgspec

from arriero import sse
from arriero.server.errors import error_object
from arriero.server.routes.openai.choices import interleaved, usage_object
from arriero.server.streaming import EventStream, closing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from arriero.core import Delta
    from arriero.errors import ArrieroError
    from arriero.server.gate import Lane
    from arriero.server.record import Meter

KEEP_ALIVE_S = 10.0
"""Before the first byte this is also how long an error may take to have a status of its own."""

DONE = sse.encode_json(b"[DONE]")


class Chunks(Protocol):
    """Writes one route's events."""

    def piece(self, index: int, delta: Delta) -> bytes:
        """Return the events of a delta; nothing when it says nothing."""
        ...

    def usage(self, total: dict[str, object]) -> bytes:
        """Return the event of the usage."""
        ...


def event_stream(
    lane: Lane,
    streams: Sequence[AsyncIterator[Delta]],
    chunks: Chunks,
    meter: Meter,
    *,
    include_usage: bool,
) -> EventStream:
    """Return the response that streams the deltas. meter: is told of each."""

    def event_of(index: int, delta: Delta) -> bytes:
        meter.add(index, delta)
        return chunks.piece(index, delta)

    async def events() -> AsyncGenerator[bytes, None]:
        async with lane.place():
            if len(streams) == 1:  # nearly always; each generator less is time for the model
                async with closing(streams[0]) as deltas:
                    async for delta in deltas:
                        if event := event_of(0, delta):
                            yield event
            else:
                async with aclosing(interleaved(streams)) as pairs:
                    async for index, delta in pairs:
                        if event := event_of(index, delta):
                            yield event
        if include_usage:
            yield chunks.usage(usage_object(meter.told()))
        yield DONE

    return EventStream(events(), failed=_failed, keep_alive_s=KEEP_ALIVE_S)


def _failed(failure: ArrieroError) -> bytes:
    return sse.encode_json(error_object(failure))


class ChunkTemplate:
    """The bytes of a chunk that are the same in all events of one answer."""

    def __init__(self, *, id: str, kind: str, created: int, model: str, include_usage: bool) -> None:
        said = {"id": id, "object": kind, "created": created, "model": model}
        self._head = b"data: " + msgspec.json.encode(said)[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"

    def chunk(self, choice: bytes) -> bytes:
        """Return the event with one choice."""
        return self._head + choice + self._tail

    def usage(self, total: dict[str, object]) -> bytes:
        """Return the event with no choice and the usage."""
        return self._head + b'],"usage":' + msgspec.json.encode(total) + b"}\n\n"
