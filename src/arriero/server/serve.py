"""Runs the server: binds the address, opens the runtime, serves until told to stop.

The address is bound before anything is loaded, so that a port in use is an error at once; clients
that connect while models load wait for the first answer. The first SIGINT or SIGTERM lets running
answers end for a short while, the second ends the process at once.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from typing import TYPE_CHECKING

from arriero.errors import ConfigError
from arriero.runtime import open_runtime
from arriero.server.app import close_app, create_app
from arriero.server.direct import Direct
from arriero.server.edge.edge import Edge
from arriero.server.edge.limits import limits_of

if TYPE_CHECKING:
    from arriero.config.schema import Config, ServerConfig
    from arriero.server.context import Runtime

Opener = Callable[["Config"], AbstractAsyncContextManager["Runtime"]]

BACKLOG = 2048
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
) -> int:
    """Serve a configuration until a signal; return the exit status.

    opener: opens the runtime; hand in another to show progress.
    announce: gets the line with the address when requests are answered.
    Raises ConfigError when the address cannot be bound.
    """
    with bound_socket(config.server) as listener, asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(config, listener, opener, announce))


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
    config: Config, listener: socket.socket, opener: Opener, announce: Callable[[str], None]
) -> int:
    stop = Stop()
    with stop.on_signals(), suppress(asyncio.CancelledError):
        async with opener(config) as runtime:
            edge = edge_of(runtime)
            await edge.start(listener)
            gc.collect()
            gc.freeze()  # what is there now stays: later collections need not look at it
            announce(f"Arriero is ready at {address(listener)}")
            await stop.wait_told()
            await edge.stop(config.limits.drain_s)
        return 0
    return INTERRUPTED


def edge_of(runtime: Runtime) -> Edge:
    """Return the edge that serves a runtime, not started. Its stop lets go of what the routes hold."""
    app = create_app(runtime)
    direct = Direct(app.state.context)

    def close() -> None:
        direct.close()
        close_app(app)

    return Edge(app, limits_of(runtime.config), direct.handlers, on_stopped=close)


class Stop:
    """What signals do. Owns the count of them."""

    def __init__(self) -> None:
        self._main = asyncio.current_task()
        self._told = asyncio.Event()
        self._is_serving = False
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

    async def wait_told(self) -> None:
        """Return after the first signal, which cancels nothing from now on."""
        self._is_serving = True
        await self._told.wait()

    def _take(self) -> None:
        self._signals += 1
        if self._signals > 1:
            os._exit(INTERRUPTED)
        if self._is_serving:
            self._told.set()
        elif self._main is not None:
            self._main.cancel()
