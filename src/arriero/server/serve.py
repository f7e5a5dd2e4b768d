"""Runs the server: binds the address, opens the runtime, serves until told to stop.

The address is bound before anything is loaded, so that a port in use is an error at once; clients
that connect while models load wait for the first answer. The first SIGINT or SIGTERM lets running
answers end for a short while, the second ends the process at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from typing import TYPE_CHECKING

import uvicorn

from arriero.errors import ConfigError
from arriero.runtime import open_runtime
from arriero.server.app import create_app

if TYPE_CHECKING:
    from arriero.config.schema import Config, ServerConfig
    from arriero.server.context import Runtime

Opener = Callable[["Config"], AbstractAsyncContextManager["Runtime"]]

BACKLOG = 2048
DRAIN_S = 5
MAX_FRAME_BYTES = 256 * 1024
INTERRUPTED = 130


def tell(line: str) -> None:
    """Write a line for the operator."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def serve(
    config: Config,
    *,
    opener: Opener = open_runtime,
    announce: Callable[[str], None] = tell,
    drain_s: int = DRAIN_S,
) -> int:
    """Serve a configuration until a signal; return the exit status.

    opener: opens the runtime; hand in another to show progress.
    announce: gets the line with the address when requests are answered.
    drain_s: how long running answers may go on after the signal.
    Raises ConfigError when the address cannot be bound.
    """
    with bound_socket(config.server) as listener, asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(config, listener, opener, announce, drain_s))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    if sys.platform == "win32":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


def bound_socket(server: ServerConfig) -> socket.socket:
    """Return a listening socket on the configured address. Raises ConfigError."""
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((server.host, server.port))
        # Listening at once keeps a second server from the port while this one loads.
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        raise ConfigError(
            f"server.bind_address: cannot listen on {server.bind_address}: {exc.strerror}"
        ) from exc
    listener.setblocking(False)
    return listener


def address(listener: socket.socket) -> str:
    """Return the URL that reaches a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _serve(
    config: Config,
    listener: socket.socket,
    opener: Opener,
    announce: Callable[[str], None],
    drain_s: int,
) -> int:
    stop = Stop()
    with stop.on_signals(), suppress(asyncio.CancelledError):
        async with opener(config) as runtime:
            ready = f"Arriero is ready at {address(listener)}"
            stop.server = server = Server(runtime, lambda: announce(ready), drain_s=drain_s)
            await server.serve(sockets=[listener])
            await server.finish_jobs()
        return 0
    return INTERRUPTED


class Stop:
    """What signals do. Owns the count of them."""

    def __init__(self) -> None:
        self.server: uvicorn.Server | None = None
        self._main = asyncio.current_task()
        self._signals = 0

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM while in the block, where this thread may."""
        loop = asyncio.get_running_loop()
        taken = []
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, self._take)
                taken.append(number)
        try:
            yield
        finally:
            for number in taken:
                loop.remove_signal_handler(number)

    def _take(self) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(INTERRUPTED)
        if self.server is not None:
            self.server.should_exit = True
        elif self._main is not None:
            self._main.cancel()


class Server(uvicorn.Server):
    """Uvicorn with our settings, whose signals are taken by Stop."""

    def __init__(self, runtime: Runtime, started: Callable[[], None], *, drain_s: int = DRAIN_S) -> None:
        super().__init__(
            uvicorn.Config(
                create_app(runtime),
                http="httptools",
                ws="websockets-sansio",
                ws_max_size=MAX_FRAME_BYTES,
                ws_per_message_deflate=False,
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=drain_s,
            )
        )
        self._tell_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def finish_jobs(self) -> None:
        """Wait a moment for the requests that were cut off, so that they let go of the runtime first."""
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=1)
