"""An OpenAI-compatible upstream on a real socket that answers as it is told, well or badly.

An answer is a script of bytes: written segment by segment, each in a TCP segment of its own, held up by
events, and ended in one of several ways. What reached it is kept.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self, cast

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

WORD = re.compile(r"\w+")
HEAD_END = b"\r\n\r\n"
TURNS = 3
"""Turns of the event loop after which a reader in the same loop has read what was written."""


class End(Enum):
    """What happens to the connection after an answer."""

    KEEP = "the next request is awaited"
    CLOSE = "it is closed in order"
    RESET = "it is reset"
    STALL = "nothing more is sent, until the client goes"


@dataclass(frozen=True)
class Answer:
    """One answer. An event among the parts holds up what follows it; `flood` is sent after them, for ever."""

    parts: tuple[bytes | asyncio.Event, ...]
    end: End = End.KEEP
    flood: bytes = b""

    @property
    def bytes(self) -> bytes:
        """All that is written."""
        return b"".join(part for part in self.parts if isinstance(part, bytes))

    def cut(self, *places: int) -> Answer:
        """Return the answer with its bytes cut into segments at these places."""
        data = self.bytes
        bounds = [0, *sorted(places), len(data)]
        parts = tuple(data[start:end] for start, end in pairwise(bounds) if start < end)
        return replace(self, parts=parts)

    def broken_off(self, after: int, end: End = End.CLOSE) -> Answer:
        """Return the answer with only so many of its bytes, and that end."""
        return replace(self, parts=(self.bytes[:after],), end=end)


@dataclass(frozen=True)
class Received:
    """A request as it came. Names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as a value."""
        return json.loads(self.body)


Script = Answer | Callable[[Received], Answer]


def whole(
    body: object,
    status: int = 200,
    *,
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
    gzipped: bool = False,
    end: End = End.KEEP,
) -> Answer:
    """Return an answer with a length; `body` is bytes, or a value to be written as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    said = {"content-type": content_type} | dict(headers or {})
    if gzipped:
        data = gzip.compress(data)
        said["content-encoding"] = "gzip"
    said["content-length"] = str(len(data))
    return Answer((_head(status, said) + data,), end)


def chunked(
    *pieces: bytes, content_type: str = "text/event-stream", headers: Mapping[str, str] | None = None
) -> Answer:
    """Return an answer in chunks, each in a segment of its own."""
    said = {"content-type": content_type, "transfer-encoding": "chunked"} | dict(headers or {})
    return Answer((_head(200, said), *map(chunk, pieces), chunk(b"")))


def events(*payloads: object, done: bool = True) -> Answer:
    """Return a stream of events; payloads are bytes, or values to be written as JSON."""
    texts = [event(payload) for payload in payloads]
    return chunked(*texts, *([b"data: [DONE]\n\n"] if done else []))


def event(payload: object) -> bytes:
    """Write one event."""
    return b"data: " + (payload if isinstance(payload, bytes) else json.dumps(payload).encode()) + b"\n\n"


def chunk(data: bytes) -> bytes:
    """Write one chunk; no data ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def chat_chunk(content: str | None, *, model: str, finish: str | None = None) -> dict[str, Any]:
    """Return a chunk of a chat completion as vLLM sends it."""
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": model,
        "system_fingerprint": "fp_upstream",
        "choices": [choice],
    }


def chat_stream(*contents: str, model: str) -> Answer:
    """Return a whole chat completion as a stream."""
    chunks = [chat_chunk(content, model=model) for content in contents]
    return events(*chunks, chat_chunk(None, model=model, finish="stop"))


def chat(content: str, *, model: str) -> dict[str, Any]:
    """Return a whole chat completion."""
    message = {"role": "assistant", "content": content}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "system_fingerprint": "fp_upstream",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


def rerank(received: Received) -> Answer:
    """Answer a request to rerank: a document scores the share of the query's words that it has."""
    asked = received.json
    words = set(WORD.findall(asked["query"].lower()))
    shares = [
        len(words & set(WORD.findall(text.lower()))) / max(1, len(words)) for text in asked["documents"]
    ]
    best = sorted(enumerate(shares), key=lambda pair: -pair[1])[: asked.get("top_n")]
    results = [{"index": index, "relevance_score": share} for index, share in best]
    return whole({"id": "rerank-1", "model": asked["model"], "results": results})


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Answer", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


@dataclass
class Upstream:
    """Serves while in its `async with`. `scripts` are used up in turn, the last one stays.

    health: the answer to GET /health, which is counted apart; None = such a request is like any other.
    requests: what came. connections: how many were accepted; `open` how many are there now.
    sent_bytes: what the sockets have taken of a flood. gone: set when a client leaves during an answer.
    """

    scripts: list[Script]
    health: Answer | None = field(default_factory=lambda: whole(b""))
    tls: ssl.SSLContext | None = None
    requests: list[Received] = field(default_factory=list)
    health_checks: int = 0
    connections: int = 0
    open: set[_Connection] = field(default_factory=set)
    sent_bytes: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def of(cls, *scripts: Script, **options: Any) -> Self:
        """Return an upstream with these scripts."""
        return cls(list(scripts), **options)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, ssl=self.tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        jobs = [connection.job for connection in self.open]
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

    def answer_to(self, received: Received) -> Answer:
        """Note a request and return what its script says."""
        if self.health is not None and received.path.endswith("/health"):
            self.health_checks += 1
            return self.health
        self.requests.append(received)
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        return script if isinstance(script, Answer) else script(received)


class _Connection(asyncio.Protocol):
    """One client. Its job reads a request, answers, and so on; it is cancelled when the client goes."""

    def __init__(self, owner: Upstream) -> None:
        self._owner = owner
        self._buffer = bytearray()
        self._came = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._is_answering = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._owner.connections += 1
        self._owner.open.add(self)
        self.job = asyncio.ensure_future(self._serve())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._came.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.open.discard(self)
        if self._is_answering:
            self._owner.gone.set()
        self.job.cancel()

    async def _serve(self) -> None:
        try:
            while True:
                received = await self._request()
                self._is_answering = True
                answer = self._owner.answer_to(received)
                await self._send(answer)
                self._is_answering = False
                if answer.end is not End.KEEP:
                    break
            if answer.end is End.RESET:
                self._reset()
        finally:
            self._is_answering = False
            self._transport.close()

    async def _request(self) -> Received:
        head = await self._read(
            lambda: self._buffer.find(HEAD_END) + len(HEAD_END) if HEAD_END in self._buffer else 0
        )
        method, path, headers = _read_head(head)
        length = int(headers.get("content-length", "0"))
        body = await self._read(lambda: length if len(self._buffer) >= length else 0) if length else b""
        return Received(method, path, headers, body)

    async def _read(self, size: Callable[[], int]) -> bytes:
        while not (count := size()):
            self._came.clear()
            await self._came.wait()
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    async def _send(self, answer: Answer) -> None:
        for part in answer.parts:
            if isinstance(part, asyncio.Event):
                await part.wait()
                continue
            await self._write(part)
            for _ in range(TURNS):
                await asyncio.sleep(0)
        while answer.flood:
            await self._write(answer.flood)
            self._owner.sent_bytes += len(answer.flood)
            await asyncio.sleep(0)
        if answer.end is End.STALL:
            await asyncio.Event().wait()

    async def _write(self, data: bytes) -> None:
        self._transport.write(data)
        await self._writable.wait()

    def _reset(self) -> None:
        connection: socket.socket = self._transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


def _read_head(head: bytes) -> tuple[str, str, dict[str, str]]:
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    method, path, _ = first.split(" ")
    return method, path, dict(map(_header, lines))


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.lower(), value.strip()
