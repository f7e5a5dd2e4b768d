"""The clients of the guard's benchmark: many connections in one cheap process; prints its counts as JSON.

python -m benchmarks.guard_load requests --port P --model M --connections 64 --seconds 2
python -m benchmarks.guard_load rate     ... --rate 200
python -m benchmarks.guard_load streams  ... --count 200 --gap-ms 20
python -m benchmarks.guard_load hold     ... (until its input ends; each line of it asks for the count so far)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from typing import Any, cast

import uvloop

from benchmarks.guard_upstream import NAME

WARM_UP = 0.2
"""The part of the time whose answers are not counted."""
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_STAMP = re.compile(rb'"content":"(\d{9,})"')
_LEAK = NAME.encode()


class Load:
    """What all connections share: the request, and what was seen."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.begins = self.ends = 0.0
        self.answers = self.events = self.bad = self.leaks = 0
        self.all_answers = self.all_events = 0
        self.latencies_us: list[float] = []
        self.first_us: list[float] = []
        self.free: list[Client] = []
        self.request = _request(options)
        self.started = 0

    @property
    def is_counted(self) -> bool:
        """Whether what comes now is counted."""
        return self.begins <= time.monotonic() < self.ends


def _request(options: argparse.Namespace) -> bytes:
    is_stream = options.mode in ("streams", "hold")
    system = "You are a helpful assistant. Answer in as few words as you can. " * 4
    messages = [
        {"role": "system", "content": system},
        {"role": "user", "content": "What is the capital of Spain, and how far is it from the sea? " * 8},
    ]
    body: dict[str, Any] = {
        "model": options.model,
        "messages": messages,
        "temperature": 0.7,
        "max_tokens": 256,
    }
    if is_stream:
        body |= {"stream": True, "user": f"count={options.count},gap_ms={options.gap_ms}"}
    data = json.dumps(body, separators=(",", ":")).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{options.port}\r\n"
        f"authorization: Bearer {options.key}\r\nuser-agent: benchmark\r\naccept: */*\r\n"
        f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


class Client(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._data = b""
        self._is_stream = load.options.mode in ("streams", "hold")
        self._is_first = True
        self._is_gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._load.options.mode == "rate":
            self._load.free.append(self)
        else:
            self.ask(time.monotonic())

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_gone = True
        if time.monotonic() < self._load.ends:
            self._load.bad += 1

    def ask(self, since: float) -> None:
        """Send the request; `since` is when its latency begins."""
        self._since = since
        self._is_first = True
        self._data = b""
        self._load.started += 1
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        load = self._load
        if _LEAK in data and load.options.model != NAME:
            load.leaks += 1
        if self._is_first and not data.startswith(b"HTTP/1.1 200"):
            load.bad += 1
        if self._is_stream:
            self._take_events(data)
        else:
            self._take_whole(data)
        self._is_first = False

    def _take_whole(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        length = _LENGTH.search(self._data, 0, end)
        if length is not None:
            if len(self._data) < end + int(length[1]):
                return
        elif not self._data.endswith(b"0\r\n\r\n"):
            return
        self._done()

    def _take_events(self, data: bytes) -> None:
        load = self._load
        count = data.count(b"data: ")
        load.all_events += count
        if count and load.is_counted:
            load.events += count
            now = time.monotonic_ns()
            stamp = _STAMP.search(data)
            if stamp is not None:
                load.latencies_us.append((now - int(stamp[1])) / 1e3)
        if count and self._since:
            load.first_us.append((time.monotonic() - self._since) * 1e6)
            self._since = 0.0
        tail = (self._data + data)[-64:]
        self._data = tail
        if b"[DONE]" in tail and tail.endswith(b"0\r\n\r\n"):
            self._done()

    def _done(self) -> None:
        load = self._load
        load.all_answers += 1
        if load.is_counted:
            load.answers += 1
            if not self._is_stream:
                load.latencies_us.append((time.monotonic() - self._since) * 1e6)
        if load.options.mode == "rate":
            load.free.append(self)
        elif time.monotonic() < load.ends:
            self.ask(time.monotonic())


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """Load the server and return what was seen."""
    load = Load(options)
    started = time.monotonic()
    load.begins = started + WARM_UP * options.seconds
    load.ends = started + options.seconds
    loop = asyncio.get_running_loop()
    for _ in range(options.connections):
        await loop.create_connection(lambda: Client(load), "127.0.0.1", options.port)
    if options.mode == "hold":
        print("held", flush=True)
        load.ends = float("inf")
        while await loop.run_in_executor(None, sys.stdin.readline):
            print(load.all_events, flush=True)
        return {"events": load.events, "streams": options.connections}
    missed = 0
    if options.mode == "rate":
        missed = await _at_rate(load)
    else:
        await asyncio.sleep(load.ends - time.monotonic())
    seconds = load.ends - load.begins
    return {
        "answers_per_s": load.answers / seconds,
        "events_per_s": load.events / seconds,
        "p50_us": quantile(load.latencies_us, 0.5),
        "p99_us": quantile(load.latencies_us, 0.99),
        "first_p50_us": quantile(load.first_us, 0.5),
        "all_answers": load.all_answers,
        "all_events": load.all_events,
        "bad": load.bad + missed,
        "leaks": load.leaks,
    }


async def _at_rate(load: Load) -> int:
    """Send at the rate whatever the answers do; return how often no connection was free."""
    missed, due = 0, time.monotonic()
    while due < load.ends:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        if load.free:
            load.free.pop().ask(due)
        else:
            missed += 1
        due += 1 / load.options.rate
    return missed


def quantile(values: list[float], share: float) -> float:
    """Return a quantile; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def main() -> None:
    """Read the arguments, load, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=["requests", "rate", "streams", "hold"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--key", default="sk-benchmark-0123456789")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--gap-ms", type=int, default=0)
    print(json.dumps(uvloop.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
