"""The main function of an engine process: a socket to the API process, an engine, and a loop.

The process may die at any time (native code); nothing that must survive lives here. It is started
by `supervisor.py`, gets no secrets, ignores Ctrl-C (its parent ends it by closing the socket) and
ends with its parent.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import math
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from arriero.config.weights import weights_fault
from arriero.engine import llama, wire
from arriero.engine.capi import open_library, packaged_library
from arriero.engine.engine import Engine
from arriero.engine.heap import keep_one_heap
from arriero.errors import ArrieroError, ConfigError

logger = logging.getLogger("arriero.engine")

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve one model over the inherited socket whose descriptor is the first argument."""
    _end_with_parent()
    keep_one_heap()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        try:
            _serve(connection)
        except (ConnectionError, EOFError):
            logger.debug("the parent is gone")
        except ArrieroError as exc:
            _say_last(connection, wire.Failed(exc.message, isinstance(exc, ConfigError)))
            sys.exit(1)
        except MemoryError:
            _say_last(connection, wire.Failed("the engine process is out of memory", False))
            sys.exit(1)


def _serve(connection: socket.socket) -> None:
    inbox = Inbox(connection)
    config = inbox.wait_load()
    send = _sender(connection)
    architecture = _checked_architecture(config)
    _check_files(config)
    model = llama.load(
        Path(config.path),
        library=_library(config),
        gpu_layers=config.gpu_layers,
        progress=_coarse(lambda fraction: send(wire.Loading(fraction))),
    )
    if architecture and model.architecture != architecture:
        raise ConfigError(
            f"architecture is {config.architecture!r}, but {config.path} holds"
            f" {model.architecture!r}; correct the key or leave it out"
        )
    engine = Engine(model, config, send)
    send(wire.Ready(engine.info))
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000)  # a step makes little garbage and no cycles
    work(engine, inbox)


def work(engine: Engine, inbox: Inbox) -> None:
    """Do what comes, until nothing can come any more: then EOFError is raised."""
    while True:
        for command in inbox.take(engine.rest() if engine.is_idle else 0):
            engine.handle(command)
        engine.step()


class Inbox:
    """Commands from the socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._frames = wire.Frames()
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)

    def take(self, wait_s: float | None) -> list[wire.Command]:
        """Return the commands that are there; wait for one so many seconds (None: ever). Raises EOFError."""
        commands: list[wire.Command] = []
        wait_ms = None if wait_s is None else math.ceil(1e3 * wait_s)
        while self._poll.poll(0 if commands else wait_ms):
            data = self._connection.recv(1 << 18)
            if not data:
                raise EOFError
            commands += map(wire.command_decoder.decode, self._frames.feed(data))
        return commands

    def wait_load(self) -> wire.EngineConfig:
        match self.take(None):
            case [wire.Load(config)]:
                return config
            case other:
                raise ConfigError(f"the first command must be Load, not {other!r}")


def _sender(connection: socket.socket) -> Callable[[wire.Report], None]:
    def send(report: wire.Report) -> None:
        connection.sendall(wire.encode(report))

    return send


def _say_last(connection: socket.socket, report: wire.Failed) -> None:
    try:
        connection.sendall(wire.encode(report))
    except OSError:
        logger.error("%s", report.message)


def _coarse(report: Callable[[float], None]) -> Callable[[float], None]:
    """Pass progress on in steps of a hundredth at least."""
    last = -1.0

    def progress(fraction: float) -> None:
        nonlocal last
        if fraction - last >= 0.01 or fraction >= 1.0 > last:
            last = fraction
            report(fraction)

    return progress


def _library(config: wire.EngineConfig) -> Path:
    """Return the library to use: the named one, else a native one that fits, else the packaged one."""
    if config.library:
        return Path(config.library)
    if config.native_library:
        try:
            open_library(Path(config.native_library))
        except ConfigError as exc:
            logger.warning("the native library is not used: %s", exc)
        else:
            return Path(config.native_library)
    return packaged_library()


def _check_files(config: wire.EngineConfig) -> None:
    """Refuse what cannot be weights: the files may have changed since the configuration was read."""
    for path in (config.path, *config.lora_adapters):
        if fault := weights_fault(Path(path)):
            raise ConfigError(fault)


def _checked_architecture(config: wire.EngineConfig) -> str | None:
    """Return the name that the file must bear; refuse what llama.cpp names but cannot load."""
    if config.architecture == "gptj":
        raise ConfigError(
            "llama.cpp knows the name gptj but cannot load such a model; take one of another architecture"
        )
    return config.architecture


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1:
            sys.exit(1)


if __name__ == "__main__":
    main()
