"""Requests to one upstream over real sockets: keeping, repeating, giving up."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from tests.guard.remote import client_of, eventually

from arriero.config.remote import TimeoutsConfig, UpstreamAddress
from arriero.guard.connection import Unanswered
from arriero.guard.failure import UpstreamFailed
from arriero.guard.upstream import ConnectTimeout, Request, Unreachable
from arriero.guard.upstream import Upstream as Client
from arriero.testing.upstream import Answer, End, Upstream, whole

ASK = Request(b"POST", b"/v1/x", b"x-mine: 1\r\n", b"{}")
GOOD = whole(b"good")
SILENT = Answer((), End.CLOSE)


async def got(client: Client) -> bytes:
    """Return the body of the answer to a request."""
    with closing(await client.send(ASK)) as answer:
        return await answer.whole(1 << 20)


async def test_request() -> None:
    """What is sent is one request with the given headers, our host and a length."""
    async with Upstream.of(GOOD) as upstream:
        with closing(client_of(upstream)) as client:
            assert await got(client) == b"good"

        received = upstream.requests[0]
        assert (received.method, received.path, received.body) == ("POST", "/v1/x", b"{}")
        assert received.headers == {
            "host": f"127.0.0.1:{upstream.port}",
            "x-mine": "1",
            "content-length": "2",
        }


async def test_prefix() -> None:
    """The path of the address stands before the path of the request."""
    async with Upstream.of(GOOD) as upstream:
        address = UpstreamAddress.parse(upstream.url + "/llm")
        with closing(Client(address, TimeoutsConfig())) as client:
            await got(client)

        assert upstream.requests[0].path == "/llm/v1/x"


async def test_connection_is_kept() -> None:
    """Requests one after the other use one connection."""
    async with Upstream.of(GOOD) as upstream:
        with closing(client_of(upstream)) as client:
            for _ in range(5):
                await got(client)

        assert (upstream.connections, len(upstream.requests)) == (1, 5)


async def test_connection_is_not_kept_long() -> None:
    """An unused connection is closed by us before servers close theirs."""
    async with Upstream.of(GOOD) as upstream:
        with closing(client_of(upstream, kept_s=0.02)) as client:
            await got(client)

            await eventually(lambda: client.num_connections == 0)


async def test_closing_answer_is_not_kept() -> None:
    """A connection that the upstream is about to close takes no other request."""
    async with Upstream.of(whole(b"good", headers={"connection": "close"})) as upstream:
        with closing(client_of(upstream)) as client:
            await got(client)
            await got(client)

        assert upstream.connections == 2


@pytest.mark.parametrize("end", [End.CLOSE, End.RESET])
async def test_stale_connection(end: End) -> None:
    """A request that meets a connection just closed is sent once more, over a fresh one."""
    async with Upstream.of(GOOD, Answer((), end), GOOD) as upstream:
        with closing(client_of(upstream)) as client:
            await got(client)
            assert await got(client) == b"good"

        assert (upstream.connections, len(upstream.requests)) == (2, 3)


async def test_repeated_once_only() -> None:
    """A fresh connection that is closed without an answer is no reason to send again."""
    async with Upstream.of(GOOD, SILENT) as upstream:
        with closing(client_of(upstream)) as client:
            await got(client)
            with pytest.raises(Unanswered):
                await got(client)

        assert len(upstream.requests) == 3


async def test_fresh_connection_is_not_repeated() -> None:
    """A request whose fresh connection is closed without an answer is not sent again."""
    async with Upstream.of(SILENT) as upstream:
        with closing(client_of(upstream)) as client, pytest.raises(Unanswered):
            await got(client)

        assert len(upstream.requests) == 1


async def test_begun_answer_is_not_repeated() -> None:
    """After the first byte of an answer nothing is sent again, whatever happens."""
    async with Upstream.of(GOOD, GOOD.broken_off(1), GOOD) as upstream:
        with closing(client_of(upstream)) as client:
            await got(client)
            with pytest.raises(UpstreamFailed, match="broke off"):
                await got(client)

        assert len(upstream.requests) == 2


async def test_redirect() -> None:
    """A redirect is an answer; where it points to is never asked."""
    async with (
        Upstream.of(GOOD) as other,
        Upstream.of(whole(b"", 307, headers={"location": other.url})) as one,
    ):
        with closing(client_of(one)) as client, closing(await client.send(ASK)) as answer:
            assert (await answer.wait_head()).status == 307

        assert other.connections == 0


async def test_refused() -> None:
    """Where nobody listens the upstream is unreachable, and no word tells where it was sought."""
    async with Upstream.of(GOOD) as upstream:
        pass
    with closing(client_of(upstream)) as client, pytest.raises(Unreachable) as caught:
        await got(client)

    assert str(upstream.port) not in caught.value.message
    assert "127" not in caught.value.message


async def test_connect_timeout() -> None:
    """A handshake that never ends is given up in time."""
    with socket_that_never_answers() as port:
        address = UpstreamAddress.parse(f"https://127.0.0.1:{port}")
        with (
            closing(Client(address, TimeoutsConfig(connect_s=0.05))) as client,
            pytest.raises(ConnectTimeout),
        ):
            await got(client)


async def test_tls_on_a_plain_port() -> None:
    """An upstream that does not speak TLS is unreachable by https."""
    garbage = Answer((b"HTTP/1.1 400 Bad\r\n\r\n",), End.CLOSE)
    async with Upstream.of(garbage) as upstream:
        address = UpstreamAddress.parse(upstream.url.replace("http:", "https:"))
        with (
            closing(Client(address, TimeoutsConfig(connect_s=0.2))) as client,
            pytest.raises((Unreachable, ConnectTimeout)),
        ):
            await got(client)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1, signed by itself, with its key."""
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=x"
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "both.pem", "-out", "cert.pem"]
    try:
        subprocess.run([*command.split(), *files], cwd=folder, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    both = folder / "both.pem"
    both.write_text(both.read_text() + (folder / "cert.pem").read_text())
    return both


async def test_tls(certificate: Path) -> None:
    """Over TLS a certificate that is trusted is accepted, and one that is not makes it unreachable."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with Upstream.of(GOOD, tls=server) as upstream:
        with closing(client_of(upstream, tls=trusting)) as client:
            assert await got(client) == b"good"
            assert await got(client) == b"good"
        with closing(client_of(upstream)) as client, pytest.raises(Unreachable):
            await got(client)

        assert len(upstream.requests) == 2


async def test_cancelled_before_the_head() -> None:
    """A request that is given up before its answer has begun leaves no connection."""
    async with Upstream.of(Answer((), End.STALL)) as upstream:
        with closing(client_of(upstream)) as client:
            job = asyncio.create_task(client.send(ASK))
            await eventually(lambda: bool(upstream.requests))
            job.cancel()
            await asyncio.wait([job])

            await asyncio.wait_for(upstream.gone.wait(), 1)
            await eventually(lambda: client.num_connections == 0)


class socket_that_never_answers:  # noqa: N801 - used as a function
    """Listens, and does nothing."""

    def __enter__(self) -> int:
        import socket

        self._socket = socket.create_server(("127.0.0.1", 0))
        port: int = self._socket.getsockname()[1]
        return port

    def __exit__(self, *_: object) -> None:
        self._socket.close()
