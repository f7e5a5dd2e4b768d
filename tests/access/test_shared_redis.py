"""Counts in a real Redis, where there is one: users and their rights, TLS, lost connections."""

from __future__ import annotations

import secrets
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from tests.tools import program, programs

from arriero.access.principal import Principal
from arriero.config.auth import KeyLimits
from arriero.errors import RateLimited

pytest.importorskip("redis", reason="needs the extra redis")
pytest.importorskip("cryptography", reason="certificates need the extra jwt")

from redis.asyncio import Redis
from tests.server.certificates import Root

from arriero.access.shared import SharedCounts

PATIENT_S = 5.0
"""A busy machine is no slow Redis."""
RIGHTS = "~arriero:* +eval +time +hmget +hset +expire +zadd +zcard +zrem +zremrangebyscore +select"
"""What a user needs."""
DOCUMENT = Path(__file__).parents[2] / "docs" / "access.md"
READY = "eady to accept connections"
ADVICE = "scripts/install --tools installs one, Debian has one with TLS in redis-server"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def served(redis_server: str, folder: Path, *options: str) -> Iterator[int | None]:
    """Run a redis-server while the block does; yield its port, None if it does not know an option."""
    port = free_port()
    usual = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder))
    command = [redis_server, *usual, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        said = ""
        while READY not in said and (line := process.stdout.readline()):
            said += line
        assert READY in said or "Bad directive" in said, said
        yield port if READY in said else None
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A Redis with the user bob, who may do what the counts need, and eve, who may do nothing."""
    users = f"--user bob on >sesame {RIGHTS} --user eve on >sesame ~arriero:* +select"
    with served(program("redis-server", ADVICE), tmp_path_factory.mktemp("redis"), *users.split()) as port:
        assert port is not None
        yield port


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """The port at which a Redis speaks TLS, and the file of the root of its certificate."""
    folder = tmp_path_factory.mktemp("tls")
    root = Root(folder)
    pair, tls_port = root.pair("redis"), free_port()
    options = ("--tls-port", str(tls_port), "--tls-auth-clients", "no", "--requirepass", "sesame")
    files = ("--tls-cert-file", str(pair.certificate), "--tls-key-file", str(pair.key))
    for redis_server in programs("redis-server"):
        with served(redis_server, folder, *options, *files, "--tls-ca-cert-file", str(root.file)) as port:
            if port is not None:
                yield tls_port, root.file
                return
    pytest.skip(f"needs a redis-server with TLS; {ADVICE}")


def bearer(**limits: int) -> Principal:
    return Principal(secrets.token_hex(4), limits=KeyLimits(**limits))


@asynccontextmanager
async def counting(url: str, password: str | None = None) -> AsyncIterator[SharedCounts]:
    """Count as one server does."""
    counts = SharedCounts(url, password, timeout_s=PATIENT_S)
    try:
        yield counts
    finally:
        counts.close()
        await counts.wait_closed()


async def are_let_in(principal: Principal, *servers: SharedCounts) -> list[bool | None]:
    """Say for each server in turn whether it lets a request in; None where it counts alone."""
    said: list[bool | None] = []
    for counts in servers:
        try:
            share = await counts.admit(principal)
        except RateLimited:
            said.append(False)
        else:
            said.append(None if share is None else True)
    return said


def test_the_rights_are_told() -> None:
    """What is tried here stands in the document."""
    assert f"on >PASSWORD {RIGHTS}\n" in DOCUMENT.read_text()


async def test_a_user_with_few_rights_is_enough(port: int) -> None:
    """The name stands in the address, the password beside it; limits of each kind hold for both servers."""
    url = f"redis://bob@localhost:{port}/2"
    async with counting(url, "sesame") as one, counting(url, "sesame") as other:
        by_rate = await are_let_in(bearer(requests_per_minute=2), one, other, one, other)
        by_place = await are_let_in(bearer(concurrent_requests=1), one, other)
        one.charge(spender := bearer(tokens_per_day=5), 5)
        await are_let_in(bearer(tokens_per_day=5), one)  # what was told before is there now
        by_budget = await are_let_in(spender, other)

        assert (one.is_up, other.is_up) == (True, True)
    assert (by_rate, by_place, by_budget) == ([True, True, False, False], [True, False], [False])


@pytest.mark.parametrize(
    ("user", "password", "reason"),
    [
        ("eve@", "sesame", "NoPermission"),
        ("bob@", "wrong", "AuthenticationError"),
        ("nobody@", "sesame", "AuthenticationError"),
    ],
)
async def test_who_may_not_counts_alone(
    port: int, user: str, password: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says why, and tells neither the password nor the script."""
    async with counting(f"redis://{user}localhost:{port}/2", password) as counts:
        assert await are_let_in(bearer(requests_per_minute=1), counts) == [None]

    assert reason in caplog.text
    assert password not in caplog.text
    assert "redis.call" not in caplog.text


async def test_a_connection_that_was_closed_is_made_again(port: int) -> None:
    """A Redis, or what stands before it, that closes what was idle costs no outage."""
    url = f"redis://bob@localhost:{port}/2"
    async with counting(url, "sesame") as counts, Redis(port=port) as admin:
        bob = bearer(requests_per_minute=2)
        before = await are_let_in(bob, counts)
        await admin.client_kill_filter(_type="normal", skipme=True)
        after = await are_let_in(bob, counts, counts)

        assert (before, after, counts.outages) == ([True], [True, False], 0)


async def test_tls(tls: tuple[int, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """`rediss://` counts over TLS, by a root that SSL_CERT_FILE names."""
    tls_port, root = tls
    monkeypatch.setenv("SSL_CERT_FILE", str(root))
    async with counting(f"rediss://localhost:{tls_port}/2", "sesame") as counts:
        assert await are_let_in(bearer(requests_per_minute=1), counts, counts) == [True, False]


async def test_a_certificate_of_somebody_else_is_not_taken(
    tls: tuple[int, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Of a root that is not known: the server counts alone, and says why."""
    tls_port, _ = tls
    async with counting(f"rediss://localhost:{tls_port}/2", "sesame") as counts:
        assert await are_let_in(bearer(requests_per_minute=1), counts) == [None]

    assert "certificate verify failed" in caplog.text
