"""WebSockets on the edge."""

from __future__ import annotations

import asyncio
import gc
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from tests.server.edge.raw import answer_to, connected, request, timed, turns
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from arriero.server.edge.connection import Connection
from arriero.server.edge.exchange import Exchange
from arriero.server.edge.limits import Limits
from arriero.server.edge.websocket import WebSocket
from arriero.testing.serving import served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HANDSHAKE = (
    "upgrade: websocket",
    "sec-websocket-version: 13",
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
)


def opening(*headers: str) -> bytes:
    return request("/ws", *HANDSHAKE, *headers, "connection: upgrade", last=False)


class Echo:
    """Accepts and says everything again; keeps the scope and the last message."""

    def __init__(self, **accept: Any) -> None:
        self.accept = accept
        self.scope: Any = None
        self.last: Any = None
        self.ended = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        assert await receive() == {"type": "websocket.connect"}
        await send({"type": "websocket.accept", **self.accept})
        while True:
            self.last = await receive()
            if self.last["type"] == "websocket.disconnect":
                self.ended.set()
                return
            await send({**self.last, "type": "websocket.send"})


@asynccontextmanager
async def client(url: str, **options: Any) -> AsyncIterator[ClientConnection]:
    async with asyncio.timeout(10), connect(url.replace("http", "ws") + "/ws?q", **options) as socket:
        yield socket


async def test_messages_come_back() -> None:
    """Text, bytes, the empty one, one in fragments, and a large one."""
    app = Echo()
    async with served(app) as url, client(url) as socket:
        for message in ("hello ä", b"bytes", "", "x" * 200_000):
            await socket.send(message)
            assert await socket.recv() == message
        await socket.send(["fra", "g", "", "ments"])
        assert await socket.recv() == "fragments"

    assert app.last == {"type": "websocket.disconnect", "code": 1000, "reason": ""}


async def test_the_handshake_agrees_on_a_protocol() -> None:
    """The application sees what is offered, and adds headers of its own."""
    app = Echo(subprotocol="b", headers=[(b"x-y", b"z")])
    async with served(app) as url, client(url, subprotocols=["a", "b"]) as socket:
        assert socket.subprotocol == "b"
        assert socket.response is not None
        assert socket.response.headers["x-y"] == "z"

    assert app.scope["type"] == "websocket"
    assert (app.scope["path"], app.scope["query_string"]) == ("/ws", b"q")
    assert app.scope["subprotocols"] == ["a", "b"]


@pytest.mark.parametrize("cut", ["every byte", "none"])
async def test_frames_may_come_with_the_handshake(cut: str) -> None:
    """Before the application accepts, at any cut; a ping is answered on the way."""
    data = opening() + bytes.fromhex("898200000000") + b"hi" + bytes.fromhex("818200000000") + b"ok"
    pieces = [data] if cut == "none" else [data[i : i + 1] for i in range(len(data))]
    async with served(Echo()) as url, connected(url) as (reader, writer), asyncio.timeout(10):
        for piece in pieces:
            writer.write(piece)
            await turns(3)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert await reader.readexactly(8) == b"\x8a\x02hi" + b"\x81\x02ok"


async def test_no_frame_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Not even where all else is: frames hold what people write."""
    with caplog.at_level(logging.DEBUG):
        async with served(Echo()) as url, connected(url) as (reader, writer), asyncio.timeout(5):
            writer.write(opening() + bytes.fromhex("818200000000") + b"ok")
            await reader.readuntil(b"\x81\x02ok")

    assert not [record for record in caplog.records if record.name.startswith("arriero")]


async def test_a_client_may_close_before_it_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    """Its close is answered; what the application still says goes nowhere, and is no error of ours."""
    app = Echo()
    close = bytes.fromhex("818200000000") + b"ok" + bytes.fromhex("888200000000") + b"\x03\xe8"
    async with served(app) as url:
        answer = await answer_to(url, opening() + close)

    assert answer.partition(b"\r\n\r\n")[2] == b"\x88\x02\x03\xe8"
    assert app.last["type"] == "websocket.receive"
    assert not caplog.records


async def test_an_application_may_refuse_over_http() -> None:
    """With any answer; a close before the accept is 403."""

    async def denying(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"x-y", b"z")]})
        await send({"type": "websocket.http.response.body", "body": b"no", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"pe"})
        assert (await receive())["type"] == "websocket.disconnect"

    async def closing(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.close"})

    async with served(denying) as url:
        with pytest.raises(InvalidStatus) as caught:
            await connect(url.replace("http", "ws"))
        response = caught.value.response
        assert (response.status_code, response.headers["x-y"], response.body) == (401, "z", b"nope")
    async with served(closing) as url:
        with pytest.raises(InvalidStatus) as caught:
            await connect(url.replace("http", "ws"))
        assert caught.value.response.status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        ("sec-websocket-version: 13",),
        ("sec-websocket-version: 12", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version: 13", "sec-websocket-key: short"),
    ],
)
async def test_a_bad_handshake_is_refused(headers: tuple[str, ...]) -> None:
    """The application is not asked, and the connection closes."""
    data = request("/ws", "upgrade: websocket", *headers, "connection: upgrade", last=False)
    async with served(raising) as url:
        answer = await answer_to(url, data + request())

    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert answer.count(b"HTTP/1.1") == 1
    assert b"connection: close\r\n" in answer


async def raising(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("no")


async def test_a_failure_before_the_accept_is_500(caplog: pytest.LogCaptureFixture) -> None:
    """And one after it closes with 1011; an application that just ends closes with 1000."""

    async def later(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        if scope["query_string"]:
            raise ValueError("no")

    with caplog.at_level(logging.CRITICAL):
        async with served(raising) as url:
            with pytest.raises(InvalidStatus) as caught:
                await connect(url.replace("http", "ws"))
            assert caught.value.response.status_code == 500
        async with served(later) as url:
            for target, code in (("/?x", 1011), ("/", 1000)):
                async with connect(url.replace("http", "ws") + target) as socket:
                    await socket.wait_closed()
                    assert socket.close_code == code


async def test_the_application_closes_with_its_code() -> None:
    """The client sees code and reason; sends afterwards are errors."""
    failed = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4001, "reason": "enough"})
        try:
            await send({"type": "websocket.send", "text": "more"})
        except OSError:
            failed.set()

    async with served(app) as url, client(url) as socket:
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert (socket.close_code, socket.close_reason) == (4001, "enough")
        await failed.wait()


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\xfe\x00\x65" + bytes(4) + b"x" * 101, 1009),
        (b"\x01\xbc" + bytes(4) + b"x" * 60 + b"\x80\xbc" + bytes(4) + b"x" * 60, 1009),
        (b"\x81\x82" + bytes(4) + b"\xff\xff", 1007),
        (b"\x81\x02hi", 1002),
        (b"\x83\x80" + bytes(4), 1002),
        (b"\xc1\x80" + bytes(4), 1002),
        (b"\x80\x80" + bytes(4), 1002),
        (b"\x09\x80" + bytes(4), 1002),
        (b"\x88\x81" + bytes(4) + b"x", 1002),
    ],
    ids=[
        "long",
        "long in parts",
        "no UTF-8",
        "no mask",
        "opcode",
        "reserved",
        "no start",
        "ping in parts",
        "close",
    ],
)
async def test_a_frame_against_the_rules_closes_with_its_code(frame: bytes, code: int) -> None:
    """Too large 1009, bad text 1007, a breach of the protocol 1002; the application learns the same."""
    app = Echo()
    async with (
        served(app, Limits(max_frame_bytes=100)) as url,
        connected(url) as (reader, writer),
        asyncio.timeout(10),
    ):
        writer.write(opening())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(frame)
        head = await reader.readexactly(4)
        await app.ended.wait()

    assert (head[0], int.from_bytes(head[2:4])) == (0x88, code)
    assert app.last["code"] == code


async def test_a_client_that_goes_without_a_word_is_told() -> None:
    """The code is that of an abnormal end."""
    app = Echo()
    async with served(app) as url, asyncio.timeout(5):
        async with connected(url) as (reader, writer):
            writer.write(opening())
            await reader.readuntil(b"\r\n\r\n")
        await app.ended.wait()

    assert app.last["code"] == 1006


async def test_a_silent_client_is_asked_and_then_closed() -> None:
    """A ping comes after the interval; who answers stays, who does not is closed with 1011."""
    limits = Limits(sweep_s=0.01, ping_interval_s=0.03, ping_timeout_s=0.1)
    app = Echo()
    async with served(app, limits) as url, client(url) as socket:
        async with connected(url) as (reader, writer):
            writer.write(opening())
            await reader.readuntil(b"\r\n\r\n")
            assert (await reader.readexactly(6))[:2] == b"\x89\x04"
            head = await reader.readexactly(4)
            assert (head[0], int.from_bytes(head[2:4])) == (0x88, 1011)
        await socket.send("still here")
        assert await socket.recv() == "still here"


async def test_pings_come_at_their_interval() -> None:
    """Reckoned from the last answer; the one that is not answered in time is the last."""
    async with timed(Echo()) as edge, connected(edge.url) as (reader, writer), asyncio.timeout(5):
        writer.write(opening())
        await reader.readuntil(b"\r\n\r\n")
        await edge.wait(20)
        ping = await reader.readexactly(6)
        writer.write(b"\x8a\x84" + bytes(4) + ping[2:])
        await edge.wait(19.9)
        writer.write(bytes.fromhex("818200000000") + b"ok")
        assert await reader.readexactly(4) == b"\x81\x02ok"

        await edge.wait(0.1)
        assert (await reader.readexactly(6))[:2] == b"\x89\x04"
        await edge.wait(20)
        head = await reader.readexactly(4)
        assert (head[0], int.from_bytes(head[2:4])) == (0x88, 1011)


async def test_nothing_is_kept_of_what_comes_after_our_close() -> None:
    """Until the client answers it, it may send what it likes."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})

    async with timed(app) as edge, connected(edge.url) as (reader, writer), asyncio.timeout(5):
        writer.write(opening())
        await reader.readuntil(b"\x88\x02\x03\xe8")
        writer.write((bytes.fromhex("818200000000") + b"ok") * 100)
        await edge.wait(0)
        (member,) = edge.edge._members

        assert isinstance(member, WebSocket)
        assert [message["type"] for message, _ in member._messages] == ["websocket.disconnect"]


async def test_a_socket_that_has_ended_does_not_wait_for_the_collector() -> None:
    """Neither it nor the connection and the exchange that it began as."""
    gc.collect()
    gc.disable()
    try:
        async with timed(Echo()) as edge:
            async with connected(edge.url) as (reader, writer):
                writer.write(opening())
                await reader.readuntil(b"\r\n\r\n")
            await edge.wait(0)
            assert edge.edge.num_connections == 0

        kinds = (WebSocket, Connection, Exchange)
        assert [type(one).__name__ for one in gc.get_objects() if type(one) in kinds] == []
    finally:
        gc.enable()


async def test_a_client_that_does_not_answer_our_close_is_cut() -> None:
    """After the close time-out, for all that it sends."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})

    limits = Limits(sweep_s=0.01, close_timeout_s=0.05)
    async with served(app, limits) as url, connected(url) as (reader, writer), asyncio.timeout(5):
        writer.write(opening())
        answer = await reader.read()

    assert answer.endswith(b"\x88\x02\x03\xe8")


async def test_messages_that_nobody_reads_hold_up_their_sender() -> None:
    """A bounded number waits; when the application reads on, none is lost."""
    go = asyncio.Event()
    received: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await go.wait()
        while (message := await receive())["type"] != "websocket.disconnect":
            received.append(message["text"])

    async with served(app) as url, client(url, write_limit=2**12) as socket:
        total = 12_000
        sender = asyncio.create_task(send_all(socket, total))
        before = -1
        while socket.transport.get_write_buffer_size() != before or not before:
            before = socket.transport.get_write_buffer_size()
            await turns(50)
        assert not sender.done()
        go.set()
        await sender

    assert len(received) == total
    assert received[-1] == f"{total - 1:1000}"


async def send_all(socket: ClientConnection, total: int) -> None:
    for number in range(total):
        await socket.send(f"{number:1000}")


async def test_a_flood_of_pings_from_a_client_that_does_not_read_is_held_up() -> None:
    """The answers that wait are bounded, as reading pauses."""
    ping = b"\x89\xfd" + bytes(4) + b"x" * 125
    async with (
        served(Echo()) as url,
        connected(url, limit=2**12) as (reader, writer),
        asyncio.timeout(20),
    ):
        writer.write(opening())
        await reader.readuntil(b"\r\n\r\n")
        sent = 0
        while writer.transport.get_write_buffer_size() < 2_000_000 and sent < 300_000_000:
            writer.write(ping * 2000)
            sent += 2000 * len(ping)
            await turns(2)

    assert sent < 300_000_000
