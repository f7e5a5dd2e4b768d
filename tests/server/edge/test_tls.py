"""An edge that speaks TLS behaves as one that does not, from the first byte to the last."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from tests.guard.remote import eventually
from tests.server.certificates import Root
from tests.server.edge.raw import PLAIN, answer_to, direct_echo, echo, request
from websockets.asyncio.client import connect

from arriero.config.tls import TlsConfig
from arriero.config.tls_checks import server_context
from arriero.server.edge.edge import Edge
from arriero.server.edge.limits import Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from arriero.server.edge.exchange import Exchange

ONLY_TLS = b"strict-transport-security: max-age=31536000"
BIG = b"x" * (4 * 1024 * 1024)
"""More than the buffers of both sockets hold."""


class Files(NamedTuple):
    """Who the server is, and whom clients trust."""

    root: Path
    server: ssl.SSLContext
    strict: ssl.SSLContext
    """Wants a certificate of each client."""
    client: ssl.SSLContext
    known: ssl.SSLContext
    """A client with a certificate that the strict server takes."""
    stranger: ssl.SSLContext
    """One whose certificate is of another root."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    directory = tmp_path_factory.mktemp("tls")
    root, other = Root(directory), Root(directory, "other")
    pair, friend, stranger = root.pair("server"), root.pair("friend"), other.pair("stranger")
    plain = TlsConfig(certificate=pair.certificate, key=pair.key)
    strict = TlsConfig(certificate=pair.certificate, key=pair.key, client_ca=root.file)
    clients = [ssl.create_default_context(cafile=root.file) for _ in range(3)]
    clients[1].load_cert_chain(friend.certificate, friend.key)
    clients[2].load_cert_chain(stranger.certificate, stranger.key)
    return Files(root.file, server_context(plain), server_context(strict), *clients)


@asynccontextmanager
async def started(edge: Edge, context: ssl.SSLContext) -> AsyncIterator[int]:
    """Serve with TLS while the block runs; gives the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await edge.start(listener, lambda: context)
        try:
            yield listener.getsockname()[1]
        finally:
            await edge.stop(0)


@asynccontextmanager
async def connected(port: int, context: ssl.SSLContext | None) -> AsyncIterator[Any]:
    """Give reader and writer of a connection that takes little at a time; the context is for TLS."""
    one = socket.socket()
    one.setblocking(False)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
    await asyncio.get_running_loop().sock_connect(one, ("127.0.0.1", port))
    host = None if context is None else "localhost"
    reader, writer = await asyncio.open_connection(sock=one, ssl=context, server_hostname=host)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def asked(port: int, context: ssl.SSLContext, *requests: bytes) -> bytes:
    """Send requests on one connection; return all that comes until the server closes."""
    async with asyncio.timeout(10), connected(port, context) as (reader, writer):
        for one in requests:
            writer.write(one)
        return bytes(await reader.read())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("path", ["/app", "/direct"])
async def test_requests_are_answered(files: Files, version: ssl.TLSVersion, path: str) -> None:
    """By the application and by direct handlers, one after the other, in both versions; browsers are told."""
    context = ssl.create_default_context(cafile=files.root)
    context.minimum_version = context.maximum_version = version
    body = b"b" * 100_000
    async with started(Edge(echo, direct={b"/direct": direct_echo}), files.server) as port:
        answers = await asked(
            port,
            context,
            request(path, method="POST", body=b"first", last=False),
            request(path, method="POST", body=body),
        )

    assert answers.count(b"HTTP/1.1 200 OK\r\n") == answers.count(ONLY_TLS) == 2
    assert answers.count(b"\r\nx-content-type-options: nosniff\r\n") == 2
    assert b"first" in answers
    assert answers.endswith(body)


async def test_without_tls_browsers_are_not_sent_to_it() -> None:
    """The header would lock them out."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        edge = Edge(echo)
        await edge.start(listener)
        async with connected(listener.getsockname()[1], None) as (reader, writer):
            writer.write(request())
            answer = await reader.read()
        await edge.stop(0)

    assert b"\r\nx-content-type-options: nosniff\r\n" in answer
    assert ONLY_TLS not in answer


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["h2", "http/1.1"], "http/1.1"), (["h2"], None), ([], None)]
)
async def test_the_protocol_is_http_1(files: Files, offered: list[str], chosen: str | None) -> None:
    """Whatever else a client offers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if offered:
        context.set_alpn_protocols(offered)
    async with started(Edge(echo), files.server) as port, connected(port, context) as (_, writer):
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == chosen


async def test_old_versions_are_refused(files: Files) -> None:
    """The handshake fails; the connection is forgotten."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    edge = Edge(echo)
    async with started(edge, files.server) as port:
        with pytest.raises(ssl.SSLError):
            await asked(port, context, request())

        await eventually(lambda: edge.num_connections == 0)


async def test_any_cut_of_the_bytes_is_understood(files: Files) -> None:
    """Each byte of handshake and request sent by itself."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = files.client.wrap_bio(incoming, outgoing, server_hostname="localhost")
    async with started(Edge(echo), files.server) as port, connected(port, None) as (reader, writer):
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        async def send_slowly() -> None:
            for byte in outgoing.read():
                writer.write(bytes([byte]))
                await asyncio.sleep(0)

        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                await send_slowly()
                incoming.write(await reader.read(2**16))
        client.write(request("/cut"))
        await send_slowly()
        incoming.write(await reader.read())

        answer = client.read(2**16)
        assert client.read() == b""  # the server has said that this is all
    assert answer.endswith(b"GET /cut  ")


async def test_http_without_tls_is_told_so(files: Files) -> None:
    """A person who forgot the s reads what to do."""
    async with started(Edge(echo), files.server) as port:
        answer = await answer_to(f"http://127.0.0.1:{port}", request())

    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"begin the address with https" in answer


@pytest.mark.parametrize(
    "said", [b"", b"\x16\x03\x01\x02\x00\x01", b"SSH-2.0-x\r\n" + b"x" * 100, b"\x80" * 9]
)
async def test_a_handshake_that_does_not_end_is_ended(files: Files, said: bytes) -> None:
    """Silence, the beginning of a hello, noise: the peer counts meanwhile, and has the time of a head."""
    edge = Edge(echo, Limits(header_timeout_s=0.05, sweep_s=0.01, max_connections=1))
    async with started(edge, files.server) as port, connected(port, None) as (reader, writer):
        await eventually(lambda: edge.num_connections == 1)
        writer.write(said)

        async with asyncio.timeout(5):
            assert len(await reader.read()) < 10  # an alert at most
        await eventually(lambda: edge.num_connections == 0)


async def test_connections_above_the_cap_are_told(files: Files) -> None:
    """A peer that is in the middle of its handshake has a place; who finds none reads 503."""
    edge = Edge(echo, Limits(max_connections=1, linger_s=0.1, sweep_s=0.02))
    async with started(edge, files.server) as port, connected(port, None):
        await eventually(lambda: edge.num_connections == 1)

        assert (await asked(port, files.client)).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")


async def test_the_end_does_not_wait_for_handshakes(files: Files) -> None:
    """Those that are open are cut at once; an answer that runs is let end."""
    go = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": PLAIN})
        await send({"type": "http.response.body", "body": b"begin ", "more_body": True})
        await go.wait()
        await send({"type": "http.response.body", "body": b"end"})

    edge = Edge(slow)
    async with (
        started(edge, files.server) as port,
        connected(port, None) as (halfway, _),
        connected(port, files.client) as (reader, writer),
    ):
        writer.write(request())
        await reader.readuntil(b"begin ")
        stopping = asyncio.create_task(edge.stop(10))
        async with asyncio.timeout(5):
            assert await halfway.read() == b""
            go.set()

            assert b"end" in await reader.read()
            await stopping


async def hang_up(writer: Any, how: str) -> None:
    transport = writer.transport
    if how == "reset":
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    if how == "said":
        writer.close()
    else:
        transport.abort()


@pytest.mark.parametrize("how", ["said", "silent", "reset"])
async def test_a_client_that_hangs_up_is_noticed(files: Files, how: str) -> None:
    """Whether it says so, closes without a word, or resets."""
    begun: list[Exchange] = []
    gone = asyncio.Event()

    def begin(exchange: Exchange) -> bool:
        exchange.on_gone = gone.set
        exchange.start(200, PLAIN)
        exchange.write(b"begin")
        begun.append(exchange)
        return True

    edge = Edge(echo, direct={b"/d": begin})
    async with started(edge, files.server) as port, connected(port, files.client) as (reader, writer):
        writer.write(request("/d", method="POST"))
        await reader.readuntil(b"begin")
        await hang_up(writer, how)

        async with asyncio.timeout(5):
            await gone.wait()
        await eventually(lambda: edge.num_connections == 0)


async def test_a_client_that_reads_nothing_is_cut(files: Files) -> None:
    """After the time for it, with a reset; what waited is dropped."""

    def much(exchange: Exchange) -> bool:
        exchange.respond(200, PLAIN, BIG)
        return True

    edge = Edge(echo, Limits(sweep_s=0.01, write_stall_s=0.1), {b"/d": much})
    async with started(edge, files.server) as port, connected(port, files.client) as (reader, writer):
        writer.transport.pause_reading()
        writer.write(request("/d", method="POST"))
        await eventually(lambda: edge.num_connections == 1)
        await eventually(lambda: edge.num_connections == 0)

        writer.transport.resume_reading()
        with pytest.raises(ConnectionResetError):
            await reader.read()


async def test_an_answer_waits_for_its_reader(files: Files) -> None:
    """The application's sends wait while there is no room, and all of it arrives."""
    sent = 0

    async def much(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": PLAIN})
        for _ in range(64):
            await send({"type": "http.response.body", "body": BIG[: 2**16], "more_body": True})
            sent += 2**16
        await send({"type": "http.response.body"})

    async with started(Edge(much), files.server) as port, connected(port, files.client) as (reader, writer):
        writer.write(request())
        await reader.readuntil(b"\r\n\r\n")
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.02)
        assert sent < len(BIG) // 2

        async with asyncio.timeout(20):
            assert len(await reader.read()) > len(BIG)


@pytest.mark.parametrize("head", [request(), b"GET / HTTP/1.0\r\n\r\n"])
async def test_an_answer_that_is_cut_does_not_look_whole(files: Files, head: bytes) -> None:
    """The last chunk is missing; where only the close would tell, the connection is reset."""

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": PLAIN})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("broken")

    async with started(Edge(broken), files.server) as port:
        try:
            answer = await asked(port, files.client, head)
        except ConnectionResetError:
            answer = b""

    assert not answer.endswith(b"0\r\n\r\n")
    assert (b"half" in answer) is (b"1.1" in head)


@pytest.mark.parametrize(("client", "is_served"), [("known", True), ("client", False), ("stranger", False)])
async def test_clients_show_their_certificate_where_it_is_wanted(
    files: Files, client: str, is_served: bool
) -> None:
    """One of the configured roots is served; none, or one of another root, is not."""
    edge = Edge(echo)
    async with started(edge, files.strict) as port:
        try:
            answer = await asked(port, getattr(files, client), request("/a"))
        except (ssl.SSLError, ConnectionResetError):
            answer = b""

        assert answer.endswith(b"GET /a  ") is is_served
        await eventually(lambda: edge.num_connections == 0)


async def test_websockets_are_served(files: Files) -> None:
    """Messages in both directions, large ones too, and the close; the application knows the scheme."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["scheme"] == "wss"
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})

    edge = Edge(app)
    async with started(edge, files.server) as port:
        async with connect(f"wss://localhost:{port}", ssl=files.client, proxy=None) as client:
            for text in ("a", "b" * 200_000):
                await client.send(text)
                assert await client.recv() == text
        await eventually(lambda: edge.num_connections == 0)
    assert client.close_code == 1000
