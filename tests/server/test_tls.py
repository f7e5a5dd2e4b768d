"""Certificates that are renewed while a server runs, and the server as a whole behind one."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import ssl
import sys
import textwrap
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import pytest
from tests.guard.remote import eventually
from tests.server.certificates import Root
from tests.server.conftest import ScriptedModel, staged

from arriero.client import Client
from arriero.config.tls import TlsConfig
from arriero.errors import ServiceError
from arriero.server.serve import edge_of
from arriero.server.tls import Certificate
from arriero.testing.serving import served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.server.certificates import Pair


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer the scheme."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["scheme"].encode()})


class Site:
    """A server whose files a test replaces."""

    def __init__(self, directory: Path) -> None:
        self.root = Root(directory)
        self.first, self.second = self.root.pair("first"), self.root.pair("second")
        self.live = directory / "live.pem"
        self.tls = TlsConfig(certificate=self.live, key=directory / "live.key")
        self.become(self.first)
        self.certificate = Certificate(self.tls)
        self.trusts = ssl.create_default_context(cafile=self.root.file)

    def become(self, pair: Pair, *, key: Path | None = None) -> None:
        """Put other files in the place of those that are served with."""
        shutil.copy(key or pair.key, self.tls.key)
        shutil.copy(pair.certificate, self.tls.certificate)

    def client(self, url: str) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=url, verify=self.trusts, timeout=20)


async def name_at(url: str, trusts: ssl.SSLContext) -> str:
    """Return the name in the certificate that a new connection is shown."""
    host, port = url.removeprefix("https://").split(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=trusts)
    subject = writer.get_extra_info("peercert")["subject"]
    writer.transport.abort()
    return str(subject[0][0][1])


async def name_becomes(name: str, url: str, site: Site) -> None:
    while await name_at(url, site.trusts) != name:  # noqa: ASYNC110 - another process renews it
        await asyncio.sleep(0.02)


async def test_a_renewed_certificate_is_shown_to_new_connections(tmp_path: Path) -> None:
    """Open connections go on with the one that they began with."""
    site = Site(tmp_path)
    async with served(app, context=site.certificate.context) as url, site.client(url) as client:
        assert (await client.get("/")).text == "https"
        assert await name_at(url, site.trusts) == "first"

        site.become(site.second)
        assert await site.certificate.renew(site.tls)

        assert await name_at(url, site.trusts) == "second"
        answer = await client.get("/")
        shown = answer.extensions["network_stream"].get_extra_info("ssl_object").getpeercert()["subject"]
        assert shown == ((("commonName", "first"),),)


async def test_the_configuration_may_name_other_files(tmp_path: Path) -> None:
    """They are served from then on; a configuration without any leaves all as it is."""
    site = Site(tmp_path)
    other = TlsConfig(certificate=site.second.certificate, key=site.second.key)
    async with served(app, context=site.certificate.context) as url:
        assert await site.certificate.renew(other)
        assert await name_at(url, site.trusts) == "second"

        assert await site.certificate.renew(None)
        assert await name_at(url, site.trusts) == "second"


async def test_what_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    """Sessions of clients would be lost with it."""
    site = Site(tmp_path)
    before = site.certificate.context()

    assert await site.certificate.renew(site.tls)
    assert site.certificate.context() is before


async def test_a_bad_pair_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log says why, and the old one stays."""
    site = Site(tmp_path)
    async with served(app, context=site.certificate.context) as url:
        site.become(site.second, key=site.first.key)

        assert not await site.certificate.renew(site.tls)
        assert "refused, the old one stays: server.tls.key: " in caplog.text
        assert await name_at(url, site.trusts) == "first"


async def test_an_expired_certificate_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is taken, as at the start."""
    site = Site(tmp_path)
    site.become(site.root.pair("old", days=-1))

    assert await site.certificate.renew(site.tls)
    assert "server.tls.certificate: clients will refuse it: certificate has expired" in caplog.text


@asynccontextmanager
async def watching(site: Site) -> AsyncIterator[None]:
    job = asyncio.create_task(site.certificate.watch(lambda: site.tls, every_s=0.01))
    try:
        yield
    finally:
        job.cancel()
        await asyncio.wait([job])
        assert job.cancelled()


async def test_files_that_change_are_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By themselves; while they are gone, or do not fit, the old one stays, and that is said once."""
    caplog.set_level(logging.INFO)
    site = Site(tmp_path)

    def refusals() -> int:
        return sum(record.levelno == logging.ERROR for record in caplog.records)

    async with served(app, context=site.certificate.context) as url, watching(site):
        site.tls.key.unlink()
        await eventually(lambda: refusals() == 1)
        shutil.copy(site.second.key, site.tls.key)
        await eventually(lambda: refusals() == 2)
        assert await name_at(url, site.trusts) == "first"

        shutil.copy(site.second.certificate, site.tls.certificate)
        await eventually(lambda: "new connections are served with" in caplog.text)
        assert await name_at(url, site.trusts) == "second"
        assert refusals() == 2


@asynccontextmanager
async def served_stage(site: Site) -> AsyncIterator[str]:
    """Serve all routes over a model that says Hello."""
    edge = edge_of(staged(ScriptedModel("Hello")))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await edge.start(listener, site.certificate.context)
        try:
            yield f"https://localhost:{listener.getsockname()[1]}"
        finally:
            await edge.stop(0)


async def test_the_official_client_speaks_with_it(tmp_path: Path) -> None:
    """An answer whole, and one in pieces."""
    site = Site(tmp_path)
    async with served_stage(site) as url:
        client = openai.AsyncOpenAI(
            base_url=f"{url}/v1", api_key="sesame", http_client=site.client(url), max_retries=0
        )
        async with client:
            asked: Any = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
            whole = await client.chat.completions.create(**asked)
            pieces = [piece async for piece in await client.chat.completions.create(stream=True, **asked)]

    assert whole.choices[0].message.content == "Hello"
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == "Hello"


async def test_our_own_client_speaks_with_it(tmp_path: Path) -> None:
    """Over HTTP and over the socket of a conversation; a root that is unknown is told of."""
    site = Site(tmp_path)
    async with served_stage(site) as url:
        async with Client(url, api_key="sesame", tls=site.trusts) as client:
            assert await client.tasks() == ["t"]
            async with client.chat("t") as chat:
                assert "".join([piece async for piece in chat.answer("hi")]) == "Hello"

        for stranger in (None, ssl.create_default_context(cafile=Root(tmp_path, "other").file)):
            async with Client(url, api_key="sesame", tls=stranger) as client:
                with pytest.raises(ServiceError, match=r"is not to be trusted: .*CERTIFICATE_VERIFY_FAILED"):
                    await client.tasks()
                with pytest.raises(ServiceError, match=r"is not to be trusted: .*CERTIFICATE_VERIFY_FAILED"):
                    async with client.chat("t"):
                        pass


PROGRAM = textwrap.dedent("""
    import sys
    from contextlib import asynccontextmanager
    from pathlib import Path
    from types import SimpleNamespace
    from arriero.config.load import load_config
    from arriero.server.serve import Source, serve

    @asynccontextmanager
    async def opened(config):
        yield SimpleNamespace(config=config, models={}, tasks={}, guards={})

    path = Path(sys.argv[1])
    config = load_config(path)
    sys.exit(serve(config, opener=opened, source=Source(path, lambda: load_config(path))))
""")


@pytest.mark.slow
@pytest.mark.parametrize("is_told", [True, False])
async def test_a_server_process_renews_its_certificate(tmp_path: Path, is_told: bool) -> None:
    """At a hangup, and by itself; the ready line says https, an open connection stays, the end is as ever."""
    site = Site(tmp_path)
    config = tmp_path / "arriero.toml"
    config.write_text(
        'auth.public = true\n[server]\nbind_address = "127.0.0.1:0"\n'
        'tls = { certificate = "live.pem", key = "live.key" }\n[limits]\ndrain_s = 1\n'
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, str(config)), stdout=asyncio.subprocess.PIPE, env={**os.environ}
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            ready = (await process.stdout.readline()).decode().strip()
            url = ready.removeprefix("Arriero is ready at ")
            assert url.startswith("https://127.0.0.1:")
            async with site.client(url) as client:
                assert (await client.get("/status")).json() == {"status": "ok"}
                site.become(site.second)
                if is_told:
                    process.send_signal(signal.SIGHUP)
                await name_becomes("second", url, site)
                answer = await client.get("/status")
                stream = answer.extensions["network_stream"].get_extra_info("ssl_object")
                assert stream.getpeercert()["subject"] == ((("commonName", "first"),),)
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
