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
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from arriero.errors import ConfigError
from arriero.runtime import Pieces, open_runtime
from arriero.server.app import close_app
from arriero.server.edge.edge import Edge
from arriero.server.edge.limits import limits_of
from arriero.server.notify import Notifier
from arriero.server.reload import Generation, Serving
from arriero.server.standing import Standing
from arriero.server.tls import Certificate, stamp

if TYPE_CHECKING:
    from pathlib import Path

    from arriero.config.schema import Config, ServerConfig
    from arriero.server.context import Runtime
    from arriero.server.log import LogWriter
    from arriero.server.pressure import Pressure
    from arriero.server.reload import Opener

BACKLOG = 2048
WATCH_S = 1.0
"""How often the file of the configuration is looked at, if that is wanted."""
INTERRUPTED = 130
YOUNG_OBJECTS = 20_000
"""More new objects than old ones went before the collector looks. Requests under way are no garbage: with
its 700 each wave of them would be looked over many times."""


class Source(NamedTuple):
    """Where a configuration is from."""

    path: Path
    reread: Callable[[], Config]
    """Reads it again. Raises ConfigError."""


def tell(line: str) -> None:
    """Write a line for the operator."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def serve(
    config: Config,
    *,
    opener: Opener | None = None,
    announce: Callable[[str], None] = tell,
    source: Source | None = None,
    log_writer: LogWriter | None = None,
) -> int:
    """Serve a configuration until a signal; return the exit status.

    opener: opens the runtime; hand in another to show progress. Called again at each reload.
    announce: gets the line with the address when requests are answered.
    source: where the configuration is from; None = it is never read again.
    log_writer: writes the log, and knows what it could not write.
    Raises ConfigError when the address cannot be bound.
    """
    opener = opener or partial(open_runtime, pieces=Pieces())
    with bound_socket(config.server) as listener, asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(config, listener, opener, announce, source, log_writer))


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


def address(listener: socket.socket, scheme: str = "http") -> str:
    """Return the URL that reaches a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


async def _serve(
    config: Config,
    listener: socket.socket,
    opener: Opener,
    announce: Callable[[str], None],
    source: Source | None,
    log_writer: LogWriter | None,
) -> int:
    stop = Stop()
    notifier = Notifier()
    wanted = asyncio.Event()
    on_hangup = None if source is None else wanted.set
    with stop.on_signals(on_hangup), suppress(asyncio.CancelledError):
        standing = Standing.of_config(config)
        standing.log_writer = log_writer
        tls = config.server.tls
        try:
            certificate = None if tls is None else Certificate(tls)
            serving = await Serving.begin(opener, standing, config)
        except BaseException:
            standing.close()
            raise
        try:
            await serving.edge.start(listener, None if certificate is None else certificate.context)
            gc.collect()
            gc.freeze()  # what is there now stays: later collections need not look at it
            gc.set_threshold(YOUNG_OBJECTS)
            announce(f"Arriero is ready at {address(listener, config.server.scheme)}")
            notifier.ready("serving")
            async with notifier.watched(), reloading(serving, notifier, source, wanted, certificate):
                await stop.wait_told()
            notifier.stopping()
            await _drained(serving, standing)
        finally:
            await serving.stop()
        return 0
    return INTERRUPTED


async def _drained(serving: Serving, standing: Standing) -> None:
    """Let balancers see that no more is wanted, then let answers end."""
    limits = serving.config.limits
    standing.is_draining = True
    await asyncio.sleep(limits.drain_delay_s)
    await serving.edge.stop(limits.drain_s)


@asynccontextmanager
async def reloading(
    serving: Serving,
    notifier: Notifier,
    source: Source | None,
    wanted: asyncio.Event,
    certificate: Certificate | None,
) -> AsyncIterator[None]:
    """Read the configuration again when it is wanted, or when its file has changed, while the block runs.

    A certificate is renewed then too, and when only its own files have changed.
    """
    work: list[Coroutine[Any, Any, None]] = []
    if source is not None:
        work.append(_reload_often(serving, notifier, source.reread, wanted, certificate))
        work.append(_watch(serving, source.path, wanted))
    if certificate is not None:
        work.append(certificate.watch(lambda: serving.config.server.tls))
    jobs = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)


async def _watch(serving: Serving, path: Path, wanted: asyncio.Event) -> None:
    """Look at the file now and then, for as long as its configuration says so."""
    seen = stamp(path)
    while True:
        await asyncio.sleep(WATCH_S)
        now = stamp(path)
        if now != seen and now is not None and serving.config.server.reload:
            wanted.set()
        seen = now or seen


async def _reload_often(
    serving: Serving,
    notifier: Notifier,
    reread: Callable[[], Config],
    wanted: asyncio.Event,
    certificate: Certificate | None,
) -> None:
    while True:
        await wanted.wait()
        wanted.clear()
        notifier.reloading()
        is_done = await serving.reload(reread)
        if certificate is not None:
            is_done = await certificate.renew(serving.config.server.tls) and is_done
        notifier.ready("serving" if is_done else "serving; the last configuration was refused")


def edge_of(runtime: Runtime, pressure: Pressure | None = None) -> Edge:
    """Return the edge that serves one runtime, not started. Its stop lets go of what the routes hold."""
    standing = Standing.of_config(runtime.config)
    standing.pressure = pressure or standing.pressure
    generation = Generation(runtime, standing)
    standing.context = generation.app.state.context

    def close() -> None:
        generation.direct.close()
        close_app(generation.app)
        standing.close()

    standing.edge = Edge(
        generation,
        limits_of(runtime.config),
        generation.direct.handlers,
        observer=standing.observer,
        on_sweep=standing.look,
        on_stopped=close,
    )
    return standing.edge


class Stop:
    """What signals do. Owns the count of them."""

    def __init__(self) -> None:
        self._main = asyncio.current_task()
        self._told = asyncio.Event()
        self._is_serving = False
        self._signals = 0

    @contextmanager
    def on_signals(self, on_hangup: Callable[[], None] | None = None) -> Iterator[None]:
        """Take SIGINT and SIGTERM, and SIGHUP if there is something to do, while in the block.

        Where this thread may take none, none is taken.
        """
        loop = asyncio.get_running_loop()
        handlers = {signal.SIGINT: self._take, signal.SIGTERM: self._take}
        if on_hangup is not None and hasattr(signal, "SIGHUP"):
            handlers[signal.SIGHUP] = on_hangup
        taken = []
        for number, handler in handlers.items():
            with suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, handler)
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
