"""What a direct handler may do with an exchange, and what it is told."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest
from tests.server.edge.raw import OWN, PLAIN, answer_to, connected, echo, joined, request, turns

from arriero.server.edge.edge import Edge
from arriero.server.edge.limits import Limits
from arriero.testing.serving import served

if TYPE_CHECKING:
    from collections.abc import Callable

    from arriero.server.edge.exchange import Exchange

POST = request("/d", method="POST")


class Kept:
    """A handler that keeps its exchange for the test."""

    def __init__(self) -> None:
        self.taken: asyncio.Queue[Exchange] = asyncio.Queue()

    def __call__(self, exchange: Exchange) -> bool:
        self.taken.put_nowait(exchange)
        return True


def streaming(exchange: Exchange) -> None:
    exchange.start(200, PLAIN)
    exchange.write(b"one")
    exchange.write(b"")
    exchange.write(b"two")
    exchange.finish()


def all_at_once(exchange: Exchange) -> None:
    exchange.start(200, PLAIN)
    exchange.finish(b"all")


def replaced(exchange: Exchange) -> None:
    exchange.start(200, PLAIN)
    exchange.respond(404, PLAIN, b"none")


def aborted(exchange: Exchange) -> None:
    exchange.start(200, PLAIN)
    exchange.write(b"half")
    exchange.abort()
    exchange.write(b"more")
    exchange.finish()


def failing(exchange: Exchange) -> None:
    raise ValueError("no")


def failing_later(exchange: Exchange) -> None:
    exchange.start(200, PLAIN)
    exchange.write(b"half")
    raise ValueError("no")


def too_long(exchange: Exchange) -> None:
    exchange.start(200, [(b"content-length", b"3")])
    exchange.write(b"four")


def too_short(exchange: Exchange) -> None:
    exchange.start(200, [(b"content-length", b"5")])
    exchange.write(b"four")
    exchange.finish()


def bad_header(exchange: Exchange) -> None:
    exchange.respond(200, [(b"x", b"a\r\nb: c")], b"")


TYPE = b"content-type: text/plain"
CHUNKS = b"transfer-encoding: chunked"
CLOSE = b"connection: close"
ERROR = b'{"error":{"message":"internal error","type":"server_error","param":null,"code":"internal"}}'
INTERNAL = joined(
    [b"content-type: application/json", b"content-length: %d" % len(ERROR), CLOSE],
    ERROR,
    b"500 Internal Server Error",
)


@pytest.mark.parametrize(
    ("work", "answer"),
    [
        (streaming, joined([TYPE, CHUNKS, CLOSE], b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")),
        (all_at_once, joined([TYPE, b"content-length: 3", CLOSE], b"all")),
        (replaced, joined([TYPE, b"content-length: 4", CLOSE], b"none", b"404 Not Found")),
        (aborted, joined([TYPE, CHUNKS, CLOSE], b"4\r\nhalf\r\n")),
        (failing, INTERNAL),
        (failing_later, joined([TYPE, CHUNKS, CLOSE], b"4\r\nhalf\r\n")),
        (bad_header, INTERNAL),
        (too_short, joined([b"content-length: 5", CLOSE], b"four")),
    ],
)
async def test_what_is_written(work: Callable[[Exchange], None], answer: bytes) -> None:
    """Pieces become chunks; a failure is 500 before the head, and a cut after it."""

    def handler(exchange: Exchange) -> bool:
        work(exchange)
        return True

    async with served(echo, direct={b"/d": handler}) as url:
        assert await answer_to(url, POST) == answer


async def test_more_than_announced_is_never_written() -> None:
    """Else it would be taken for the next answer."""
    kept = Kept()
    async with served(echo, direct={b"/d": kept}) as url, connected(url) as (_, writer):
        writer.write(POST)
        exchange = await kept.taken.get()
        with pytest.raises(ValueError, match="longer than its content-length"):
            too_long(exchange)


async def test_an_unframed_answer_that_is_cut_does_not_look_whole() -> None:
    """HTTP/1.0 has no chunks: the connection is reset."""

    def handler(exchange: Exchange) -> bool:
        aborted(exchange)
        return True

    async with served(echo, direct={b"/d": handler}) as url, connected(url) as (reader, writer):
        writer.write(b"POST /d HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await reader.read()


async def test_the_answer_may_come_later_and_the_connection_is_used_again() -> None:
    """Two exchanges on one connection, both answered after the handler has returned."""
    kept = Kept()
    async with served(echo, direct={b"/d": kept}) as url, connected(url) as (reader, writer):
        for body in (b"one", b"two"):
            writer.write(request("/d?q", "x: y", method="POST", body=body, last=False))
            exchange = await kept.taken.get()
            assert (exchange.method, exchange.path, exchange.query) == (b"POST", b"/d", b"q")
            assert (b"x", b"y") in exchange.headers
            assert exchange.peer == writer.get_extra_info("sockname")
            exchange.respond(200, PLAIN, exchange.body)
            answer = OWN.sub(b"", await reader.readuntil(body))
            assert answer == joined([TYPE, b"content-length: 3"], body)


async def test_an_answer_that_we_cut_says_so() -> None:
    """It is cut and gone, not ended, and nobody is told that the client left."""
    kept = Kept()
    async with served(echo, direct={b"/d": kept}) as url, connected(url) as (_, writer):
        writer.write(POST)
        exchange = await kept.taken.get()
        gone: list[int] = []
        exchange.on_gone = lambda: gone.append(1)
        aborted(exchange)

    assert (exchange.is_cut, exchange.is_gone, exchange.is_ended, gone) == (True, True, False, [])


async def test_a_client_that_goes_is_told_once() -> None:
    """Afterwards nothing is written and nothing fails."""
    kept = Kept()
    gone = asyncio.Event()
    async with served(echo, direct={b"/d": kept}) as url:
        async with connected(url) as (_, writer):
            writer.write(POST)
            exchange = await kept.taken.get()
            exchange.on_gone = gone.set
            exchange.start(200, [])
            exchange.write(b"x")
        async with asyncio.timeout(5):
            await gone.wait()
        gone.clear()
        exchange.write(b"y")
        exchange.finish()
        exchange.abort()

    assert exchange.is_gone
    assert not gone.is_set()


async def test_a_reader_that_stops_is_told_and_goes_on() -> None:
    """`is_writable` falls; memory is bounded by who heeds it; `on_writable` comes when there is room."""
    kept = Kept()
    async with (
        served(echo, direct={b"/d": kept}) as url,
        connected(url, limit=2**12) as (reader, writer),
        asyncio.timeout(10),
    ):
        writer.write(POST)
        exchange = await kept.taken.get()
        room = asyncio.Event()
        exchange.on_writable = room.set
        exchange.start(200, [])
        num_written = 0
        while exchange.is_writable:
            exchange.write(bytes(2**16))
            num_written += 1
            await asyncio.sleep(0)
        assert num_written < 1000

        received = 0
        while not room.is_set():
            received += len(await reader.read(2**20))
        exchange.finish()
        received += len(await reader.read())

    assert received > num_written * 2**16


async def test_a_later_answer_has_no_room_either() -> None:
    """While the client has not read the answer before it."""
    kept = Kept()
    async with (
        served(echo, direct={b"/d": kept}) as url,
        connected(url, limit=2**12) as (_, writer),
        asyncio.timeout(5),
    ):
        writer.write(request("/d", method="POST", last=False) * 2)
        first = await kept.taken.get()
        first.respond(200, [], bytes(2**25))

        assert not (await kept.taken.get()).is_writable


async def test_a_reader_that_never_goes_on_is_cut() -> None:
    """After the stall time it counts as gone."""
    kept = Kept()
    limits = Limits(sweep_s=0.01, write_stall_s=0.1)
    async with (
        served(echo, limits, {b"/d": kept}) as url,
        connected(url, limit=2**12) as (_, writer),
        asyncio.timeout(10),
    ):
        writer.write(POST)
        exchange = await kept.taken.get()
        gone = asyncio.Event()
        exchange.on_gone = gone.set
        exchange.start(200, [])
        while exchange.is_writable:
            exchange.write(bytes(2**20))
            await asyncio.sleep(0)
        await gone.wait()


async def test_an_answer_that_nobody_reads_does_not_hold_the_connection() -> None:
    """Also one that has ended for the server."""
    kept = Kept()
    edge = Edge(echo, Limits(sweep_s=0.01, write_stall_s=0.1), {b"/d": kept})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await edge.start(listener)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with connected(url, limit=2**12) as (_, writer), asyncio.timeout(10):
            writer.write(request("/d", method="POST", last=False))
            (await kept.taken.get()).respond(200, [], bytes(2**25))
            assert edge.num_connections == 1
            while edge.num_connections:
                await turns(1)
        await edge.stop(0)


async def test_other_headers_are_another_form() -> None:
    """A request that was given other headers is not taken for the one that came."""
    handler = Kept()
    async with served(echo, direct={b"/d": handler}) as url, connected(url) as (_, writer):
        writer.write(request("/d", method="POST", body=b"x", last=False))
        exchange = await handler.taken.get()
        assert exchange.form is not None

        exchange.headers = [*exchange.headers, (b"x", b"y")]

        assert exchange.form is None
        exchange.respond(200, PLAIN, b"")
