"""Serving as a process: the ready line, ports in use, signals, settings of the protocol."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import textwrap
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from arriero.config.load import parse_config
from arriero.errors import ConfigError
from arriero.server.serve import address, bound_socket
from arriero.testing.serving import client_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PROGRAM = textwrap.dedent("""
    import asyncio, sys
    from contextlib import asynccontextmanager
    from pathlib import Path
    from types import SimpleNamespace
    from arriero.config.load import parse_config
    from arriero.server.serve import Source, serve
    from arriero.tasks.task import Task
    from arriero.testing.echo import EchoModel

    class Endless(EchoModel):
        async def generate(self, request):
            async for delta in super().generate(request):
                yield delta
                await asyncio.Event().wait()

    @asynccontextmanager
    async def opened(config):
        print("loading", flush=True)
        try:
            if "slow" in sys.argv:
                await asyncio.Event().wait()
            model = Endless()
            tasks = {name: Task(name, task, model) for name, task in config.tasks.items()}
            yield SimpleNamespace(config=config, models={"m": model}, tasks=tasks, guards={})
        finally:
            print("closed", flush=True)

    text = f'''
    [limits]
    drain_s = {0 if "hurry" in sys.argv else 5}
    [server]
    bind_address = "127.0.0.1:0"
    [auth]
    public = true
    [models.m]
    url = "http://127.0.0.1:1/m.gguf"
    [tasks.t]
    model = "m"
    '''
    config = parse_config(text, {})
    texts = iter([text + 'prefix = "new"', "nonsense = 1"])
    source = Source(Path("nowhere"), lambda: parse_config(next(texts), {}))
    sys.exit(serve(config, opener=opened, source=source))
""")


@asynccontextmanager
async def serving_process(*arguments: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, *arguments),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def line_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(20):
        return (await process.stdout.readline()).decode().strip()


async def test_an_interrupt_ends_cleanly() -> None:
    """After the ready line requests are answered; SIGINT closes the runtime and the status is 0."""
    async with serving_process() as process:
        assert await line_of(process) == "loading"
        ready = await line_of(process)
        url = ready.removeprefix("Arriero is ready at ")
        async with client_of(url) as client:
            assert (await client.get("/status")).json() == {"status": "ok"}
        process.send_signal(signal.SIGINT)

        assert await line_of(process) == "closed"
        assert await process.wait() == 0


async def test_a_stream_that_outlives_the_patience_is_told() -> None:
    """A running stream gets an error event and its end, then the runtime is closed."""
    async with serving_process("hurry") as process:
        await line_of(process)
        url = (await line_of(process)).removeprefix("Arriero is ready at ")
        async with (
            client_of(url) as client,
            client.stream("GET", "/v1/task/t/live?prompt=a") as response,
        ):
            pieces = response.aiter_raw()
            assert await anext(pieces) == b"id:token\ndata:o\n\n"
            process.send_signal(signal.SIGTERM)
            rest = b"".join([piece async for piece in pieces])

        assert rest.endswith(b"event:error\ndata:the server is shutting down\n\n")
        assert await line_of(process) == "closed"
        assert await process.wait() == 0


async def test_a_second_signal_ends_at_once() -> None:
    """While a stream holds up the end, another signal does not wait for it."""
    async with serving_process() as process:
        await line_of(process)
        url = (await line_of(process)).removeprefix("Arriero is ready at ")
        async with (
            client_of(url) as client,
            client.stream("GET", "/v1/task/t/live?prompt=a") as response,
        ):
            pieces = response.aiter_raw()
            await anext(pieces)
            process.send_signal(signal.SIGINT)
            with pytest.raises(httpx2.TransportError):
                await asked_until_refused(client)
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(2):
                assert await process.wait() == 130


async def asked_until_refused(client: Any) -> None:
    """Ask on new connections; raises once the server listens no more."""
    while True:
        await client.get("/status", headers={"connection": "close"})


async def test_a_signal_while_loading_ends_too() -> None:
    """Loading is given up, what was opened is closed, and the status is that of an interruption."""
    async with serving_process("slow") as process:
        await line_of(process)
        process.send_signal(signal.SIGINT)

        assert await line_of(process) == "closed"
        assert await process.wait() == 130


def test_a_port_in_use_is_an_error_before_anything_loads() -> None:
    """The message names the key and the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = parse_config(f'bind_address = "127.0.0.1:{port}"', {})
        with pytest.raises(
            ConfigError, match=rf"server\.bind_address: cannot listen on 127\.0\.0\.1:{port}: "
        ):
            bound_socket(config.server)


def test_two_servers_cannot_wait_for_one_port() -> None:
    """The first holds the port from the start, also while it loads."""
    with bound_socket(parse_config('bind_address = "127.0.0.1:0"', {}).server) as first:
        port = first.getsockname()[1]
        assert address(first) == f"http://127.0.0.1:{port}"
        with pytest.raises(ConfigError):
            bound_socket(parse_config(f'bind_address = "127.0.0.1:{port}"', {}).server)


def test_an_ipv6_address_is_written_with_brackets() -> None:
    """The URL can be pasted."""
    with bound_socket(parse_config('bind_address = "[::1]:0"', {}).server) as listener:
        assert address(listener) == f"http://[::1]:{listener.getsockname()[1]}"


async def test_a_hangup_reads_the_configuration_again(tmp_path: Path) -> None:
    """systemd hears of it; the first new one is served and the old one closed, a faulty one is refused."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        async with serving_process(NOTIFY_SOCKET=str(tmp_path / "notify")) as process:
            assert await line_of(process) == "loading"
            await line_of(process)
            assert await said(manager) == "READY=1"
            process.send_signal(signal.SIGHUP)
            assert [await said(manager) for _ in range(2)] == ["RELOADING=1", "READY=1"]
            assert [await line_of(process) for _ in range(2)] == ["loading", "closed"]
            process.send_signal(signal.SIGHUP)
            assert [await said(manager) for _ in range(2)] == ["RELOADING=1", "READY=1"]
            process.send_signal(signal.SIGTERM)

            assert await said(manager) == "STOPPING=1"
            assert await line_of(process) == "closed"
            assert await process.wait() == 0


async def said(manager: socket.socket) -> str:
    """Return the first line of the next word that systemd hears."""
    async with asyncio.timeout(20):
        return (await asyncio.get_running_loop().sock_recv(manager, 200)).decode().partition("\n")[0]
