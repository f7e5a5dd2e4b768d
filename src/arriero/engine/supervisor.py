"""Starts the engine process of one model, talks to it, and starts it again when it dies.

Lives in the event loop of the API process. Each request registers a sink under its id; when the
process dies every sink gets an EngineError, and new requests get Unavailable until it is back. A
request is never sent twice: whether it may be is known to its caller alone.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from time import monotonic
from typing import Protocol, cast

from arriero.core import Delta, ModelInfo
from arriero.engine import wire
from arriero.engine.circuit import Circuit, Suspects
from arriero.engine.hang import LOOKS, Silence, activity_of
from arriero.errors import ArrieroError, ConfigError, EngineError, NotSupported, Unavailable

logger = logging.getLogger(__name__)

HANG_S = 60.0
LOAD_TIMEOUT_S = 600.0
"""A model that reports no progress for this long is given up."""

# No secrets for the child: only what programs and GPU drivers need to run.
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONPATH")
_ENVIRONMENT_PREFIXES = ("CUDA_", "NVIDIA_", "GGML_", "OMP_", "GOMP_", "HIP_", "ROCR_", "VK_")


class Sink(Protocol):
    """Takes the reports of one request, at last perhaps what ended it. Must not block."""

    def put(self, report: wire.Report | Delta | ArrieroError) -> None: ...


class Supervisor:
    """Owns the engine process of one model. Use `start`, then `request`, at the end `stop`."""

    def __init__(
        self,
        config: wire.EngineConfig,
        *,
        on_progress: Callable[[float], None] | None = None,
        hang_s: float = HANG_S,
        circuit: Circuit | None = None,
    ) -> None:
        """hang_s: how long the process may have work and give no sign of life.

        circuit: how often it may end before it is left to rest.
        """
        self.config = config
        self.stats = wire.EngineStats()
        self.restarts = 0
        self.hang_s = hang_s
        self.circuit = circuit or Circuit()
        self.problem: str | None = None
        """Why the model cannot serve; None while it can, and while it loads for the first time."""
        self._is_failing = False
        self._resting_until = 0.0
        self._suspects = Suspects()
        self._commands: dict[int, wire.Command] = {}
        self._heard = 0
        self._has_hung = False
        self._hang_watcher: asyncio.Task[None] | None = None
        self._on_progress = on_progress
        self._info: ModelInfo | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: _Connection | None = None
        self._sinks: dict[int, Sink] = {}
        self._next_id = 0
        self._watcher: asyncio.Task[None] | None = None
        self._is_ready = False

    @property
    def info(self) -> ModelInfo:
        """What the model is. Raises Unavailable before the first start has finished."""
        if self._info is None:
            raise Unavailable(f"model {self.config.name} is loading")
        return self._info

    @property
    def is_ready(self) -> bool:
        return self._is_ready

    @property
    def state(self) -> str:
        """`ready`, `loading`, `restarting`, or `failed`: it rests, or its last start did not succeed."""
        if self._is_ready:
            return "ready"
        if self.problem is None:
            return "loading"
        return "failed" if self._is_failing or self.circuit.is_open else "restarting"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start the process and wait until the model is loaded. Raises ConfigError if it cannot be."""
        connection = await self._launch()
        self._watcher = asyncio.create_task(self._watch(connection), name=f"watch {self.config.name}")
        self._hang_watcher = asyncio.create_task(self._watch_hang(), name=f"hang {self.config.name}")

    async def stop(self) -> None:
        """End the process and fail what is still running."""
        self._is_ready = False
        for watcher in (self._watcher, self._hang_watcher):
            if watcher:
                watcher.cancel()
                await asyncio.wait([watcher])
        await self._end_process()
        self._fail_all(Unavailable(f"model {self.config.name} is shutting down"))

    def request(self, make: Callable[[int], wire.Command], sink: Sink) -> int:
        """Send a command that is answered; return its id.

        Raises Unavailable while the process is away, NotSupported for what has ended it again and again.
        """
        if not self._is_ready or self._connection is None:
            raise self._away()
        id = self._next_id + 1
        command = make(id)
        if self._suspects.is_refused(command, monotonic()):
            raise NotSupported(
                f"this request has ended the engine of model {self.config.name} before;"
                " it is not served for some minutes"
            )
        self._next_id = id
        self._sinks[id], self._commands[id] = sink, command
        self._connection.send(command)
        return id

    def release(self, id: int) -> None:
        """Forget a request that was answered in full."""
        self._sinks.pop(id, None)
        self._commands.pop(id, None)
        if self.circuit.is_open:
            self.circuit.served()
            logger.warning("engine of model %s serves again", self.config.name)

    def abort(self, id: int) -> None:
        """Stop the work on a request that nobody waits for any more."""
        self._commands.pop(id, None)
        if self._sinks.pop(id, None) and self._connection:
            self._connection.send(wire.Abort(id))

    def tell(self, command: wire.Command) -> None:
        """Send a command that is not answered, if there is a process that serves."""
        if self._is_ready and self._connection:
            self._connection.send(command)

    # -- the process

    async def _launch(self) -> _Connection:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            self._process = _spawn(theirs.fileno())
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_unix_connection(lambda: _Connection(self._on_report), sock=ours)
        self._connection = connection
        connection.send(wire.Load(self.config))
        try:
            self._info = await self._wait_ready(connection)
        except BaseException:
            await self._end_process()
            raise
        self._is_ready, self._is_failing, self.problem = True, False, None
        return connection

    async def _wait_ready(self, connection: _Connection) -> ModelInfo:
        while True:
            try:
                report = await asyncio.wait_for(connection.loading.get(), LOAD_TIMEOUT_S)
            except TimeoutError:
                raise ConfigError(f"model {self.config.name} did not load: no progress") from None
            match report:
                case wire.Loading(fraction):
                    if self._on_progress:
                        self._on_progress(fraction)
                case wire.Ready(info):
                    return info
                case wire.Failed(message, is_config):
                    raise ConfigError(message) if is_config else EngineError(message)
                case _:
                    words = await self._exit_words()
                    raise ConfigError(
                        f"model {self.config.name} did not load: its engine process {words}"
                        f" while it read {self.config.path}; the file may be broken"
                    )

    async def _watch(self, connection: _Connection) -> None:
        """Wait for the end of the process; start it again, each time."""
        while True:
            await connection.closed.wait()
            self._is_ready = False
            words = await self._exit_words()
            self.problem = f"its engine {words}"
            logger.error("engine of model %s %s", self.config.name, words)
            self.stats = wire.EngineStats()
            self._suspects.crashed(list(self._commands.values()), monotonic())
            self._fail_all(
                EngineError(f"the engine of model {self.config.name} {words}; it is being restarted")
            )
            connection = await self._relaunched()
            self.circuit.started()
            self.restarts += 1
            logger.warning("engine of model %s is back", self.config.name)

    async def _relaunched(self) -> _Connection:
        """Start the process until it is there, after the pauses that the circuit says."""
        while True:
            await self._pause()
            try:
                return await self._launch()
            except ArrieroError as exc:
                self._is_failing, self.problem = True, exc.message
                logger.error("engine of model %s did not restart: %s", self.config.name, exc)

    async def _pause(self) -> None:
        pause_s = self.circuit.crashed(monotonic())
        self._resting_until = monotonic() + pause_s
        if self.circuit.is_open:
            logger.error(
                "engine of model %s has ended too often: it rests for %g s, and its requests are refused",
                self.config.name,
                pause_s,
            )
        await asyncio.sleep(pause_s)

    def _away(self) -> Unavailable:
        """Return what is said while there is no process that could serve."""
        name = self.config.name
        if not self.circuit.is_open:
            return Unavailable(f"model {name} is not ready; its engine is being restarted")
        left_s = max(1, math.ceil(self._resting_until - monotonic()))
        message = f"model {name} is not ready; its engine has ended too often and rests"
        return Unavailable(message, retry_after_s=left_s)

    async def _watch_hang(self) -> None:
        """End a process that hangs; `_watch` starts it again."""
        silence = Silence()
        while True:
            await asyncio.sleep(self.hang_s / LOOKS)
            process = self._process
            if process is None or not self._is_ready:
                silence = Silence()
                continue
            activity = activity_of(process.pid)
            if silence.look(is_busy=bool(self._sinks), heard=self._heard, activity=activity):
                logger.error("engine of model %s hangs and is ended", self.config.name)
                self._has_hung = True
                process.kill()

    async def _end_process(self) -> None:
        connection, process = self._connection, self._process
        self._connection = self._process = None
        if connection:
            connection.close()
        if process:
            await asyncio.to_thread(_end, process)

    async def _exit_words(self) -> str:
        process = self._process
        code = await asyncio.to_thread(process.wait) if process else 0
        if self._has_hung:
            self._has_hung = False
            return "did nothing for too long and was ended"
        if code < 0:
            return f"died of {signal.Signals(-code).name}"
        return f"ended with code {code}"

    # -- reports

    def _on_report(self, report: wire.Report) -> None:
        self._heard += 1
        if type(report) is wire.Step:  # nearly all are
            if report.stats is not None:
                self.stats = report.stats
            for id, delta in report.deltas:
                if sink := self._sinks.get(id):
                    sink.put(delta)
            return
        match report:
            case wire.Refused(id) | wire.Tokens(id) | wire.Text(id) | wire.Vectors(id):
                if sink := self._sinks.get(id):
                    sink.put(report)
            case wire.Failed(message):
                logger.error("engine of model %s: %s", self.config.name, message)
            case _:
                logger.debug("report %r is of no use now", report)

    def _fail_all(self, error: ArrieroError) -> None:
        self._commands.clear()
        sinks, self._sinks = self._sinks, {}
        for sink in sinks.values():
            sink.put(error)


class _Connection(asyncio.Protocol):
    """Frames in and out of one engine process."""

    def __init__(self, on_report: Callable[[wire.Report], None]) -> None:
        self.loading: asyncio.Queue[wire.Report | None] = asyncio.Queue()
        self.closed = asyncio.Event()
        self._on_report = on_report
        self._frames = wire.Frames()
        self._transport: asyncio.Transport | None = None
        self._is_loading = True

    def send(self, command: wire.Command) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.write(wire.encode(command))

    def close(self) -> None:
        if self._transport:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not of that class

    def data_received(self, data: bytes) -> None:
        for body in self._frames.feed(data):
            report = wire.report_decoder.decode(body)
            if self._is_loading:
                self._is_loading = not isinstance(report, wire.Ready)
                self.loading.put_nowait(report)
            else:
                self._on_report(report)

    def connection_lost(self, exc: Exception | None) -> None:
        self.loading.put_nowait(None)
        self.closed.set()


def _spawn(descriptor: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "arriero.engine.worker", str(descriptor)],
        pass_fds=[descriptor],
        stdin=subprocess.DEVNULL,
        env=_child_environment(),
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that has lost its socket: wait briefly, then kill."""
    try:
        process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _child_environment() -> dict[str, str]:
    kept = {
        key: value
        for key, value in os.environ.items()
        if key in _ENVIRONMENT or key.startswith(_ENVIRONMENT_PREFIXES)
    }
    # Compute threads that spin for long starve whoever shares the cores with them, the API process above
    # all; threads that sleep at once lose more in waking up. docs/engine.md has the figures.
    kept.setdefault("GGML_NO_BACKTRACE", "1")  # a debugger would hold up the news that the process has ended
    kept.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")  # a copy of a prefix would wait for huge pages to be made
    if "OMP_WAIT_POLICY" not in kept:
        kept.setdefault("GOMP_SPINCOUNT", "100000")
    return kept
