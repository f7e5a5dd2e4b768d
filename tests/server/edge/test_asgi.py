"""An ASGI application on the edge: what it is told, how its answer flows, what its failures look like."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from tests.server.edge.raw import PLAIN, answer_to, connected, echo, joined, request, turns

from arriero.server.edge.asgi import PIECE
from arriero.server.edge.limits import Limits
from arriero.testing.serving import served

START = {"type": "http.response.start", "status": 200, "headers": PLAIN}
TYPE = b"content-type: text/plain"
CLOSE = b"connection: close"
CHUNKS = b"transfer-encoding: chunked"


def piece(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def test_pieces_may_be_written_past_all_wrappers() -> None:
    """The extension writes what a message of the body would; the head and the end go as ever."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await scope["extensions"][PIECE](b"one,")
        await send(piece(b"two,"))
        await scope["extensions"][PIECE](b"three")
        await send(piece(b"", more=False))

    async with served(app) as url:
        answer = await answer_to(url, request("/"))

    assert [part for part in answer.split(b"\r\n") if part.endswith((b",", b"three"))] == [
        b"one,",
        b"two,",
        b"three",
    ]


async def test_the_scope_tells_the_request() -> None:
    """As ASGI names things; the path is decoded, its raw form and the query are not."""
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await echo(scope, receive, send)

    async with served(app) as url:
        await answer_to(url, request("/a%C3%A4%2f%ff?b=%20", "X-Y: z", "x-y: w"))
        host, port = url.removeprefix("http://").split(":")

    assert scopes[0].pop("client")[0] == "127.0.0.1"
    assert list(scopes[0].pop("extensions")) == [PIECE]
    assert scopes[0].pop("state") == {}
    assert scopes[0] == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/aä/�",
        "raw_path": b"/a%C3%A4%2f%ff",
        "query_string": b"b=%20",
        "root_path": "",
        "headers": [(b"host", b"test"), (b"x-y", b"z"), (b"x-y", b"w"), (b"connection", b"close")],
        "server": (host, int(port)),
    }


async def streaming(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    for body in (b"one", b"", b"two"):
        await send(piece(body))
    await send(piece(b"", more=False))


async def ending_in_a_piece(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    await send(piece(b"one"))
    await send(piece(b"two", more=False))


async def sized(scope: Any, receive: Any, send: Any) -> None:
    await send(START | {"headers": [(b"content-length", b"6")]})
    await send(piece(b"one"))
    await send(piece(b"two", more=False))


async def empty(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204})
    await send({"type": "http.response.body"})


@pytest.mark.parametrize(
    ("app", "data", "answer"),
    [
        (streaming, request(), joined([TYPE, CHUNKS, CLOSE], b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")),
        (ending_in_a_piece, request(), joined([TYPE, CHUNKS, CLOSE], b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")),
        (sized, request(), joined([b"content-length: 6", CLOSE], b"onetwo")),
        (empty, request(), joined([CLOSE], b"", b"204 No Content")),
        (streaming, b"GET / HTTP/1.0\r\n\r\n", joined([TYPE, CLOSE], b"onetwo")),
        (streaming, request(method="HEAD"), joined([TYPE, CLOSE], b"")),
        (echo, request(method="HEAD"), joined([TYPE, b"content-length: 8", CLOSE], b"")),
    ],
)
async def test_answers_on_the_wire(app: Any, data: bytes, answer: bytes) -> None:
    """One chunk for each piece; HEAD has the head only; HTTP/1.0 ends with the connection."""
    async with served(app) as url:
        assert await answer_to(url, data) == answer


async def raising(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("no")


async def raising_after_start(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    raise ValueError("no")


async def silent(scope: Any, receive: Any, send: Any) -> None:
    return


async def body_first(scope: Any, receive: Any, send: Any) -> None:
    await send(piece(b"x"))


async def bad_header(scope: Any, receive: Any, send: Any) -> None:
    await send(START | {"headers": [(b"x", b"a\r\nb: c")]})
    await send(piece(b"x", more=False))


@pytest.mark.parametrize("app", [raising, raising_after_start, silent, body_first, bad_header])
async def test_a_failure_before_the_head_is_500(app: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The answer tells nothing of the cause."""
    with caplog.at_level(logging.CRITICAL):
        async with served(app) as url:
            answer = await answer_to(url, request())

    assert answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert answer.endswith(
        b'"message":"internal error","type":"server_error","param":null,"code":"internal"}}'
    )


async def failing_in_midstream(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    await send(piece(b"one"))
    raise ValueError("no")


async def leaving_in_midstream(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    await send(piece(b"one"))


@pytest.mark.parametrize("app", [failing_in_midstream, leaving_in_midstream])
async def test_a_failure_after_the_head_is_no_whole_answer(
    app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The last chunk never comes."""
    with caplog.at_level(logging.CRITICAL):
        async with served(app) as url:
            assert await answer_to(url, request()) == joined([TYPE, CHUNKS, CLOSE], b"3\r\none\r\n")


class Watching:
    """Streams until the client goes, and tells when it knows."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(piece(b"one"))
        assert (await receive())["type"] == "http.request"
        assert await receive() == {"type": "http.disconnect"}
        self.gone.set()
        await send(piece(b"two", more=False))
        assert await receive() == {"type": "http.disconnect"}


@pytest.mark.parametrize("way", ["close", "reset", "half close"])
async def test_a_client_that_goes_is_told_at_once(way: str) -> None:
    """However it goes, also while nothing is being sent; later sends do nothing."""
    app = Watching()
    async with served(app) as url, connected(url) as (reader, writer), asyncio.timeout(5):
        writer.write(request())
        await reader.readuntil(b"one\r\n")
        match way:
            case "close":
                writer.close()
            case "reset":
                writer.transport.abort()
            case _:
                writer.write_eof()
        await app.gone.wait()


async def test_who_has_answered_has_nothing_more_to_receive() -> None:
    """The application is told so at once, though the client is still there."""
    told: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(START)
        await send(piece(b"x", more=False))
        told.append(await receive())

    async with served(app) as url, connected(url) as (reader, writer):
        writer.write(request(last=False))
        await reader.readuntil(b"x")
        await turns(5)

    assert told == [{"type": "http.disconnect"}]


async def test_a_client_that_goes_frees_a_sender_that_waits_for_room() -> None:
    """The send returns, and receive tells why."""
    ended = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(START)
        for _ in range(1000):
            await send(piece(bytes(2**16)))
        assert await receive() == {"type": "http.disconnect"}
        ended.set()

    async with served(app) as url, asyncio.timeout(10):
        async with connected(url, limit=2**12) as (reader, writer):
            writer.write(request())
            await reader.readuntil(b"\r\n\r\n")
        await ended.wait()


async def test_a_reader_that_stops_stops_the_sender() -> None:
    """What was sent stays bounded until the client reads on; then all of it comes."""
    sent = 0
    total = 400

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send(START)
        for _ in range(total):
            await send(piece(bytes(2**16)))
            sent += 1
        await send(piece(b"", more=False))

    async with served(app) as url, connected(url, limit=2**12) as (reader, writer), asyncio.timeout(20):
        writer.write(request())
        await reader.readuntil(b"\r\n\r\n")
        before = -1
        while sent != before:
            before = sent
            await turns(50)
        assert sent < total // 2

        received = len(await reader.read())
    assert received > total * 2**16
    assert sent == total


async def test_a_body_is_read_no_faster_than_the_application_takes_it() -> None:
    """The client is held up; the bytes arrive in order."""
    go = asyncio.Event()
    received: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        more = True
        while more:
            message = await receive()
            received.append(len(message["body"]))
            more = message["more_body"]
        await send(START)
        await send(piece(b"", more=False))

    size = 20_000_000
    async with served(app) as url, connected(url) as (reader, writer), asyncio.timeout(20):
        writer.write(request("/a", method="POST", body=bytes(size)))
        before = -1
        while writer.transport.get_write_buffer_size() != before:
            before = writer.transport.get_write_buffer_size()
            await turns(50)
        assert before > size // 2
        go.set()
        await reader.read()

    assert sum(received) == size
    assert max(received) < 2**20


async def test_a_slow_body_is_told_as_a_disconnect() -> None:
    """The client gets 408; the application learns that nothing more comes."""
    told: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        told.extend([(await receive())["type"], (await receive())["type"]])
        await send(START)

    limits = Limits(sweep_s=0.01, body_grace_s=0.2, linger_s=0.05)
    async with served(app, limits) as url:
        answer = await answer_to(url, request("/a", "content-length: 5", method="POST") + b"x")

    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert told == ["http.request", "http.disconnect"]
