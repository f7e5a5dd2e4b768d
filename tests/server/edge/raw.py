"""Talks to an edge in bytes, and the small applications that the tests serve."""

from __future__ import annotations

import asyncio
import re
import socket
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from arriero.server.edge.edge import Edge
from arriero.server.edge.limits import Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from arriero.server.edge.exchange import Exchange

OWN = re.compile(rb"(?:date|x-content-type-options|x-request-id): [^\r]*\r\n")
PLAIN = [(b"content-type", b"text/plain")]


@asynccontextmanager
async def connected(url: str, *, limit: int = 2**16) -> AsyncIterator[Any]:
    """Give reader and writer of a connection to the URL; what goes wrong at the end does not matter."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=limit)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def answer_to(url: str, *pieces: bytes) -> bytes:
    """Send each piece by itself; return all that comes until the server closes, without its own headers."""
    async with asyncio.timeout(10), connected(url) as (reader, writer):
        for piece in pieces:
            writer.write(piece)
            await turns(3)
        return OWN.sub(b"", await reader.read())


class Timed:
    """An edge whose time passes when the test says so, and only then."""

    def __init__(self, edge: Edge, url: str) -> None:
        self.edge = edge
        self.url = url
        self.now = 0.0

    async def wait(self, seconds: float) -> None:
        """Do all that is ready, let time pass, look at all deadlines, and do what that made ready."""
        await turns(20)
        self.now += seconds
        for member in list(self.edge._members):
            member.sweep(self.now)
        await turns(20)


@asynccontextmanager
async def timed(app: Any, limits: Limits | None = None, direct: Any = None) -> AsyncIterator[Timed]:
    """Serve with a clock that stands still."""
    edge = Edge(app, replace(limits or Limits(), sweep_s=3600), direct)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await edge.start(listener)
        given = Timed(edge, f"http://127.0.0.1:{listener.getsockname()[1]}")
        edge.clock = lambda: given.now
        try:
            yield given
        finally:
            await edge.stop(0)


async def turns(number: int) -> None:
    """Let the server, which runs in the same loop, do what is ready."""
    for _ in range(number):
        await asyncio.sleep(0)


def request(
    target: str = "/", *headers: str, method: str = "GET", body: bytes = b"", last: bool = True
) -> bytes:
    """Return a request; `last` asks the server to close after it."""
    lines = [f"{method} {target} HTTP/1.1", "host: test", *headers]
    if body:
        lines.append(f"content-length: {len(body)}")
    if last:
        lines.append("connection: close")
    return "\r\n".join([*lines, "", ""]).encode() + body


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with method, path, query and body."""
    body = b""
    more = True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        body += message["body"]
        more = message["more_body"]
    said = f"{scope['method']} {scope['path']} {scope['query_string'].decode()} ".encode() + body
    await send({"type": "http.response.start", "status": 200, "headers": PLAIN})
    await send({"type": "http.response.body", "body": said})


def direct_echo(exchange: Exchange) -> bool:
    """Answer at once with the body."""
    exchange.respond(200, PLAIN, b"direct " + exchange.body)
    return True


def joined(headers: Iterable[bytes], body: bytes, status: bytes = b"200 OK") -> bytes:
    """Return an answer as `answer_to` gives it."""
    return b"\r\n".join([b"HTTP/1.1 " + status, *headers, b"", body])


def echoed(body: bytes, *headers: bytes, closes: bool = True) -> bytes:
    """Return the answer of the small applications."""
    lines = [b"content-type: text/plain", b"content-length: %d" % len(body), *headers]
    return joined([*lines, b"connection: close"] if closes else lines, body)
