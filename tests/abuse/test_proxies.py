"""What could be read in two ways, through a real proxy: it and our edge must count the same requests.

The binaries are those of PATH, or of ARRIERO_NGINX and ARRIERO_HAPROXY; without one its tests are skipped.
Each proxy is asked as it is by itself, and as lenient as it can be made.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from tests.abuse.ambiguous import AMBIGUOUS
from tests.abuse.subject import DEADLINE_S, eventually

from arriero.server.edge.edge import Edge

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import Scope
    from tests.abuse.figures import Figures

    from arriero.server.edge.exchange import Exchange

SYSTEM = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
PATIENCE_S = 10.0
CANARY = "/smuggled"
AFTER = re.compile(r"/after-[0-9]+")

NGINX = """
daemon off;
master_process off;
pid %(folder)s/pid;
error_log %(folder)s/error.log;
events {}
http {
    log_format forwarded '$upstream_addr $request';
    access_log %(folder)s/access.log forwarded;
    client_body_temp_path %(folder)s/body;
    proxy_temp_path %(folder)s/proxy;
    fastcgi_temp_path %(folder)s/fastcgi;
    uwsgi_temp_path %(folder)s/uwsgi;
    scgi_temp_path %(folder)s/scgi;
    keepalive_timeout 50ms;
    client_header_timeout 2s;
    client_body_timeout 2s;
    lingering_close off;
    upstream edge { server %(edge)s; keepalive 4; }
    server {
        listen unix:%(folder)s/front;
        %(more)s
        location / {
            proxy_pass http://edge;
            proxy_http_version 1.1;
            proxy_set_header connection "";
            proxy_set_header host $http_host;
            proxy_next_upstream off;
        }
    }
}
"""
NGINX_LENIENT = (
    "ignore_invalid_headers off; underscores_in_headers on; merge_slashes off; proxy_request_buffering off;"
)
HAPROXY = """
global
    log stdout format raw local0
    nbthread 1
defaults
    mode http
    log global
    log-format "%%s %%r"
    timeout connect 5s
    timeout server 10s
    timeout client 2s
    timeout http-request 2s
    timeout http-keep-alive 50ms
    retries 0
    %(more)s
frontend front
    bind unix@%(folder)s/front
    default_backend behind
backend behind
    http-reuse always
    server edge %(edge)s
"""
HAPROXY_LENIENT = "option accept-invalid-http-request"


@dataclass(frozen=True)
class Proxy:
    """How one is run. log: the file with a line for each request; unforwarded: how others begin."""

    program: str
    config: str
    arguments: tuple[str, ...]
    log: str
    unforwarded: str
    more: str = ""

    @property
    def binary(self) -> str | None:
        return os.environ.get(f"ARRIERO_{self.program.upper()}") or shutil.which(self.program, path=SYSTEM)


NGINX_RUN = ("nginx", NGINX, ("-c",), "access.log", "- ")
HAPROXY_RUN = ("haproxy", HAPROXY, ("-db", "-f"), "said", "<NOSRV> ")
PROXIES = {
    "nginx": Proxy(*NGINX_RUN),
    "nginx, lenient": Proxy(*NGINX_RUN, NGINX_LENIENT),
    "haproxy": Proxy(*HAPROXY_RUN),
    "haproxy, lenient": Proxy(*HAPROXY_RUN, HAPROXY_LENIENT),
}


@dataclass
class Books:
    """The requests that the edge has seen: their paths, and `refused` for heads that it refused."""

    seen: list[str] = field(default_factory=list)
    _open: Exchange | None = None

    def began(self, exchange: Exchange) -> None:
        self.seen.append(exchange.path.decode("latin-1"))
        self._open = exchange

    def ended(self, exchange: Exchange, scope: Scope) -> None:
        self._open = None

    def refused(self, status: int, code: str) -> None:
        """Note a head; a body that is refused belongs to a request that has begun, and is left then."""
        if self._open is None or not self._open.is_gone:
            self.seen.append("refused")
        self._open = None


async def named(scope: Any, receive: Any, send: Any) -> None:
    """Read a request to its end, and answer with its path."""
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


@asynccontextmanager
async def served(books: Books) -> AsyncIterator[str]:
    """Run an edge; give its address."""
    edge = Edge(named, observer=books)
    listener = socket.create_server(("127.0.0.1", 0))
    host, port = listener.getsockname()
    await edge.start(listener)
    try:
        yield f"{host}:{port}"
    finally:
        await edge.stop(0)


@contextmanager
def proxied(proxy: Proxy, edge: str, folder: Path) -> Iterator[Path]:
    """Run a proxy before the edge; give the socket that it listens on."""
    assert proxy.binary is not None
    config, front = folder / "config", folder / "front"
    config.write_text(proxy.config % {"folder": folder, "edge": edge, "more": proxy.more})
    with (folder / "said").open("wb") as said:
        command = [proxy.binary, *proxy.arguments, str(config)]
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
    try:
        eventually(lambda: front.exists() or process.poll() is not None)
        assert process.poll() is None, (folder / "said").read_text()
        yield front
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


async def said_through(front: Path, request: bytes) -> bytes:
    """Send bytes to the proxy; return all that it says until it closes."""
    answer = b""
    reader, writer = await asyncio.open_unix_connection(str(front))
    with suppress(OSError, TimeoutError):
        writer.write(request)
        async with asyncio.timeout(PATIENCE_S):
            while piece := await reader.read(65536):
                answer += piece
    writer.transport.abort()
    return answer


def portions(seen: list[str]) -> list[list[str]]:
    """Return what was seen before each of the good requests that follow the ambiguous ones."""
    parts: list[list[str]] = [[]]
    for one in seen:
        if AFTER.search(one):
            parts.append([])
        else:
            parts[-1].append(one)
    return parts[:-1]


@pytest.mark.slow
@pytest.mark.parametrize("name", PROXIES)
async def test_no_proxy_sees_fewer_requests_than_we(name: str, tmp_path: Path, figures: Figures) -> None:
    """What stands behind an ambiguous request is served only if the proxy took it for a request, too."""
    proxy, books = PROXIES[name], Books()
    if proxy.binary is None:
        pytest.skip(f"there is no {proxy.program} on this machine; ARRIERO_{proxy.program.upper()} names one")
    good = b"GET /after-%d HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    async with served(books) as edge:
        with proxied(proxy, edge, tmp_path) as front:
            for number, request in enumerate(AMBIGUOUS):
                await said_through(front, request)
                after = await said_through(front, good % number)
                assert after.startswith(b"HTTP/1.1 200 "), (request, after)
                assert after.endswith(b"/after-%d" % number), (request, after)
    lines = (tmp_path / proxy.log).read_text(errors="replace").splitlines()
    forwarded = portions([line for line in lines if not line.startswith(proxy.unforwarded)])
    seen = portions(books.seen)

    figures.tell(
        f"ambiguous requests through {name}",
        requests=len(AMBIGUOUS),
        forwarded=sum(map(len, forwarded)),
        seen=sum(map(len, seen)),
        refused_by_us=books.seen.count("refused"),
        canaries=books.seen.count(CANARY),
    )
    assert len(forwarded) == len(seen) == len(AMBIGUOUS)
    for request, theirs, ours in zip(AMBIGUOUS, forwarded, seen, strict=True):
        assert len(ours) <= len(theirs), (request, theirs, ours)
        assert ours.count(CANARY) <= sum(CANARY in line for line in theirs), (request, theirs, ours)
