"""The load client: streaming completions over raw sockets, timed from the first byte sent.

While a batch runs, a connection only notes when which bytes came (a microsecond or two for each
read); they are taken apart afterwards. The client is the same for every server.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import httptools
import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLING = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "repeat_penalty": 1.0}
TIMEOUT_S = 180.0


class StreamError(Exception):
    """The server did not answer with a complete stream."""


@dataclass(frozen=True)
class Outcome:
    """One stream. `first_s` and `last_s`: from its first byte sent to its first and last text."""

    first_s: float
    last_s: float
    events: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    text: str


@dataclass(frozen=True)
class Batch:
    """Streams that ran together.

    `wall_s`: from the first byte sent to the last text of all; `decode_s`: from the first text of
    all to the last.
    """

    outcomes: tuple[Outcome, ...]
    wall_s: float
    decode_s: float
    client_cpu_s: float

    @property
    def completion_tokens(self) -> int:
        return sum(outcome.completion_tokens for outcome in self.outcomes)

    @property
    def decode_rate(self) -> float:
        """Tokens per second after the first token of each stream."""
        return (self.completion_tokens - len(self.outcomes)) / self.decode_s

    @property
    def mean_first_s(self) -> float:
        return sum(outcome.first_s for outcome in self.outcomes) / len(self.outcomes)


def completion(
    prompt: str, *, max_tokens: int, seed: int, ignore_eos: bool = True, **constraint: object
) -> bytes:
    """Return the HTTP request of one streaming completion, of exactly `max_tokens` tokens if `ignore_eos`."""
    body = msgspec.json.encode(
        {
            "model": "bench",
            "prompt": prompt,
            "max_tokens": max_tokens,
            "ignore_eos": ignore_eos,
            "seed": seed,
            "stream": True,
            "stream_options": {"include_usage": True},
            **SAMPLING,
            **constraint,
        }
    )
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def run_together(port: int, requests: Sequence[bytes]) -> Batch:
    """Connect all, then send all at once, and return when the last stream has ended."""
    connections = [await connected(port) for _ in requests]
    cpu = time.process_time()
    started = time.perf_counter()
    for connection, request in zip(connections, requests, strict=True):
        connection.send(request)
    async with asyncio.timeout(TIMEOUT_S):
        await asyncio.gather(*(connection.closed for connection in connections))
    cpu = time.process_time() - cpu
    outcomes = tuple(read(connection.sent, connection.arrivals) for connection in connections)
    pairs = list(zip(connections, outcomes, strict=True))
    first = min(connection.sent + outcome.first_s for connection, outcome in pairs)
    last = max(connection.sent + outcome.last_s for connection, outcome in pairs)
    return Batch(outcomes=outcomes, wall_s=last - started, decode_s=last - first, client_cpu_s=cpu)


async def connected(port: int) -> Connection:
    """Open one connection."""
    _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    return connection


class Connection(asyncio.Protocol):
    """Sends one request and notes when bytes arrive. `arrivals` are (time, bytes)."""

    def __init__(self) -> None:
        self.sent = 0.0
        self.arrivals: list[tuple[float, bytes]] = []
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes) -> None:
        self.sent = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.arrivals.append((time.perf_counter(), data))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


def read(sent: float, arrivals: Sequence[tuple[float, bytes]]) -> Outcome:
    """Take a whole answer apart; raises StreamError unless it is a complete stream with usage."""
    answer = Answer()
    first = last = 0.0
    events = 0
    texts: list[str] = []
    usage: dict[str, Any] | None = None
    for when, data in arrivals:
        for event in answer.feed(data):
            usage = event.get("usage") or usage
            if not has_output(event):
                continue
            events += 1
            texts += [choice.get("text") or "" for choice in event["choices"]]
            first = first or when
            last = when
    if answer.status != 200 or not answer.done or usage is None or not first:
        raise StreamError(f"status {answer.status}, body {bytes(answer.body[:500])!r}")
    return Outcome(
        first_s=first - sent,
        last_s=last - sent,
        events=events,
        prompt_tokens=usage["prompt_tokens"],
        cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
        completion_tokens=usage["completion_tokens"],
        text="".join(texts),
    )


def has_output(event: dict[str, Any]) -> bool:
    """Whether the event carries text, or says that there will be no more."""
    return any(choice.get("text") or choice.get("finish_reason") for choice in event.get("choices", ()))


class Answer:
    """An HTTP answer with server-sent events, fed as it came, cut anywhere."""

    def __init__(self) -> None:
        self.status = 0
        self.done = False
        self.body = bytearray()
        self._read = 0
        self._parser = httptools.HttpResponseParser(self)

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        self.body += data

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Return the JSON of the events that are complete now."""
        self._parser.feed_data(data)
        events = []
        while (end := self.body.find(b"\n\n", self._read)) >= 0:
            line = bytes(self.body[self._read : end]).strip()
            self._read = end + 2
            if line == b"data: [DONE]":
                self.done = True
            elif line.startswith(b"data:"):
                events.append(msgspec.json.decode(line[5:], type=dict[str, Any]))
        return events
