"""The edge as a whole: how many connections it takes, and how it ends."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from tests.server.edge.raw import (
    PLAIN,
    answer_to,
    connected,
    direct_echo,
    echo,
    echoed,
    request,
    timed,
    turns,
)
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from arriero.server.edge.edge import Edge
from arriero.server.edge.limits import Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from arriero.server.edge.exchange import Exchange


@asynccontextmanager
async def started(edge: Edge) -> AsyncIterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await edge.start(listener)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            await edge.stop(0)


@pytest.mark.parametrize("limits", [Limits(max_connections=2), Limits(max_connections_per_address=2)])
async def test_connections_above_the_cap_are_refused(limits: Limits) -> None:
    """With 503; those that are open are served, and when one closes, another may come."""
    edge = Edge(echo, limits)
    async with started(edge) as url, connected(url) as (reader, writer):
        async with connected(url):
            writer.write(request("/a", last=False))
            await reader.readuntil(b"GET /a  ")
            for _ in range(2):  # one that was refused and has gone makes no room
                assert (await answer_to(url)).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
                while edge.num_connections > 2:
                    await turns(1)
        while edge.num_connections > 1:
            await turns(1)
        assert await answer_to(url, request("/b")) == echoed(b"GET /b  ")


async def test_a_refused_connection_waits_for_its_reader() -> None:
    """As long as others of its kind leave files for those that are served."""
    limits = Limits(max_connections=1)
    async with timed(echo, limits) as edge, asyncio.timeout(5), connected(edge.url):
        await edge.wait(0)
        async with connected(edge.url) as (reader, _):
            await reader.readuntil(b"HTTP/1.1 503 ")
            await edge.wait(0.9)
            assert edge.edge.num_connections == 2

            await edge.wait(0.2)
            assert edge.edge.num_connections == 1


async def test_the_first_look_at_the_deadlines_is_in_time() -> None:
    """How late the loop is, is reckoned from the start of the edge."""
    edge = Edge(echo)
    async with started(edge):
        assert edge.lag_s < 1


async def test_nothing_is_left_of_many_connections() -> None:
    """Whole requests, halves, and none: no connection, no job, no byte of a body is kept."""
    edge = Edge(echo, Limits(max_connections_per_address=1000), {b"/d": lambda exchange: True})
    ways = [
        b"",
        b"GET",
        request(),
        request(last=False),
        request("/a", "content-length: 9", method="POST") + b"x",
        request("/d", "content-length: 9", method="POST") + b"x",
        request("/d", method="POST", body=b"never answered"),
        b"nonsense\r\n\r\n",
    ]
    async with started(edge) as url, asyncio.timeout(10):
        for _ in range(25):
            for data in ways:
                async with connected(url) as (_, writer):
                    writer.write(data)
                    await turns(3)
        while edge.num_connections:
            await turns(1)
        await turns(5)

    assert (edge.held_body_bytes, len(edge._jobs), len(edge._addresses)) == (0, 0, 0)


class Slow:
    """Streams one piece, then ends when it is told to, or says that it was cut off."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": PLAIN})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        try:
            await self.go.wait()
            last = b"two"
        except asyncio.CancelledError:
            last = b"cut"
        await send({"type": "http.response.body", "body": last})


async def test_a_stop_lets_answers_end() -> None:
    """New connections are refused, idle ones closed, the running answer is whole, then all is closed."""
    app = Slow()
    edge = Edge(app)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await edge.start(listener)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with connected(url) as (reader, writer), connected(url) as (idle, _), asyncio.timeout(5):
            writer.write(request(last=False))
            await reader.readuntil(b"one\r\n")
            stopping = asyncio.create_task(edge.stop(5))
            assert await idle.read() == b""
            with pytest.raises(OSError):
                await answer_to(url, request())
            app.go.set()
            assert await reader.read() == b"3\r\ntwo\r\n0\r\n\r\n"
            await stopping

    assert edge.num_connections == 0


async def test_a_stop_ends_what_does_not_end() -> None:
    """After the time to drain, applications and direct handlers may say so; who says nothing is cut."""

    def telling(exchange: Exchange) -> bool:
        def stop() -> None:
            exchange.write(b"bye")
            exchange.finish()

        exchange.on_stop = stop
        return begin(exchange)

    def begin(exchange: Exchange) -> bool:
        exchange.start(200, PLAIN)
        exchange.write(b"one")
        return True

    edge = Edge(Slow(), direct={b"/telling": telling, b"/silent": begin})
    async with (
        started(edge) as url,
        connected(url) as (application, first),
        connected(url) as (telling_reader, second),
        connected(url) as (silent_reader, third),
        asyncio.timeout(5),
    ):
        first.write(request())
        second.write(request("/telling", method="POST"))
        third.write(request("/silent", method="POST"))
        readers = (application, telling_reader, silent_reader)
        for reader in readers:
            await reader.readuntil(b"one\r\n")
        await edge.stop(0.05)
        endings = [await reader.read() for reader in readers]

    assert endings == [b"3\r\ncut\r\n0\r\n\r\n", b"3\r\nbye\r\n0\r\n\r\n", b""]


async def test_what_is_said_at_the_end_may_be_read() -> None:
    """A client has a moment to take what was written for it when the server ended."""
    kept: asyncio.Queue[Exchange] = asyncio.Queue()
    body = bytes(2**23)

    def handler(exchange: Exchange) -> bool:
        exchange.on_stop = lambda: exchange.respond(200, PLAIN, body)
        kept.put_nowait(exchange)
        return True

    edge = Edge(echo, direct={b"/d": handler})
    async with started(edge) as url, connected(url) as (reader, writer), asyncio.timeout(5):
        writer.write(request("/d", method="POST"))
        await kept.get()
        reading = asyncio.create_task(reader.read())
        await edge.stop(0)

        assert (await reading).endswith(body)


async def test_a_stop_closes_websockets() -> None:
    """With the code of a restart; the application is told."""
    told: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        told.append(await receive())

    edge = Edge(app)
    async with started(edge) as url, connect(url.replace("http", "ws")) as client, asyncio.timeout(5):
        await asyncio.gather(edge.stop(5), client.wait_closed())
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == 1012

    assert told == [{"type": "websocket.disconnect", "code": 1012, "reason": ""}]


class Watching:
    """An observer that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def began(self, exchange: Exchange) -> None:
        self.told.append(("began", exchange.path, exchange.status))

    def ended(self, exchange: Exchange, scope: Any) -> None:
        self.told.append(("ended", exchange.path, exchange.status))

    def refused(self, status: int, code: str) -> None:
        self.told.append((code, status))


async def test_an_observer_is_told_what_becomes_of_requests() -> None:
    """Of all when they begin, of those that the application answered when they end, of refusals."""
    watching = Watching()
    edge = Edge(echo, direct={b"/direct": direct_echo}, observer=watching)
    async with started(edge) as url:
        for data in (request("/a"), request("/direct", method="POST"), b"nonsense\r\n\r\n"):
            await answer_to(url, data)

    assert watching.told == [
        ("began", b"/a", 0),
        ("ended", b"/a", 200),
        ("began", b"/direct", 0),
        ("bad_request", 400),
    ]


async def test_the_date_is_told() -> None:
    """In the form of RFC 9110, and no header that names a server."""
    async with started(Edge(echo)) as url, connected(url) as (reader, writer):
        writer.write(request())
        head = (await reader.read()).partition(b"\r\n\r\n")[0]

    assert b" GMT\r\n" in head.partition(b"\r\ndate: ")[2] + b"\r\n"
    assert b"server:" not in head
