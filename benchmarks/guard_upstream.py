"""The upstream of the guard's benchmark: answers chats from bytes made beforehand, at a given pace.

The member `user` of a request says how: `count=EVENTS,gap_ms=GAP`; no gap means as fast as is read. Each
event bears the monotonic time of its writing as its text. `python -m benchmarks.guard_upstream PORT`.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import cast

import uvloop

NAME = "org/Secret-Model-7B"
BATCH = 16
"""Events that are written at once where there is no gap."""
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_PLAN = re.compile(rb'"user":\s*"count=(\d+),gap_ms=(\d+)"')
_STREAM = re.compile(rb'"stream":\s*true')


def _chunk(content: str | None, finish: str | None) -> bytes:
    delta = {} if content is None else {"content": content}
    event = {
        "id": "chatcmpl-0123456789abcdef0123456789abcdef",
        "object": "chat.completion.chunk",
        "created": 1790000000,
        "model": NAME,
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
    }
    return b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _whole() -> bytes:
    message = {"role": "assistant", "content": "All work and no play makes a dull answer. " * 18}
    answer = {
        "id": "chatcmpl-0123456789abcdef0123456789abcdef",
        "object": "chat.completion",
        "created": 1790000000,
        "model": NAME,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 200, "total_tokens": 300},
    }
    body = json.dumps(answer, separators=(",", ":")).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


WHOLE = _whole()
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
BEFORE, AFTER = _chunk("@", None).split(b"@")
END = _framed(_chunk(None, "stop")) + _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def stamped() -> bytes:
    """Return an event with the time, in the framing of a chunk."""
    return _framed(BEFORE + b"%d" % time.monotonic_ns() + AFTER)


class Connection(asyncio.Protocol):
    """One client; one request at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._data = b""
        self._is_writable = True
        self._left = 0
        self._gap_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._left = 0
        if self._timer is not None:
            self._timer.cancel()

    def pause_writing(self) -> None:
        self._is_writable = False

    def resume_writing(self) -> None:
        self._is_writable = True
        self._burst()

    def data_received(self, data: bytes) -> None:
        self._data = data = self._data + data
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        length = _LENGTH.search(data, 0, end)
        end += int(length[1]) if length else 0
        if len(data) < end:
            return
        self._data = data[end:]
        self._answer(data)

    def _answer(self, request: bytes) -> None:
        plan = _PLAN.search(request)
        if plan is None or not _STREAM.search(request):
            self._transport.write(WHOLE)
            return
        self._left, self._gap_s = int(plan[1]), int(plan[2]) / 1000
        if self._gap_s:
            self._transport.write(HEAD + stamped())
            self._left -= 1
            self._due = self._loop.time() + self._gap_s
            self._timer = self._loop.call_at(self._due, self._pace)
        else:
            self._transport.write(HEAD)
            self._burst()

    def _pace(self) -> None:
        if self._left <= 0:
            self._transport.write(END)
            return
        self._transport.write(stamped())
        self._left -= 1
        self._due += self._gap_s
        self._timer = self._loop.call_at(self._due, self._pace)

    def _burst(self) -> None:
        if self._gap_s or not self._left:
            return
        if not self._is_writable:
            return
        count = min(BATCH, self._left)
        self._left -= count
        data = stamped() * count
        if self._left:
            self._transport.write(data)
            self._loop.call_soon(self._burst)
        else:
            self._transport.write(data + END)


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
