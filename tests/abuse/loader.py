"""Loads files as engine processes do: `python -m tests.abuse.loader FILE...` prints what became of each.

One process with everything imported forks a child for each file, which saves a second of start each time.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import sys
import time

from arriero.engine import wire, worker

LOAD_S = 10.0
MOST_BYTES = 4 << 30


def main(files: list[str]) -> None:
    """Print a line for each file: how long it took, and what became of it."""
    for file in files:
        started = time.monotonic()
        told = loaded(file)
        sys.stdout.write(f"{time.monotonic() - started:.3f} {told}\n")
        sys.stdout.flush()  # before the next child is made of this process


def loaded(file: str) -> str:
    """Return `ready`, `refused`, the signal, `traceback` or `hang`, with the reason of a refusal."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _be_worker(theirs)
    theirs.close()
    with ours:
        told = _asked(ours, file)
    if told == "hang":
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if told:
        return told
    code = os.waitstatus_to_exitcode(status)
    return signal.Signals(-code).name if code < 0 else "traceback"


def _be_worker(connection: socket.socket) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.argv = ["worker", str(connection.detach())]
    os.dup2(2, 1)  # what native code writes is no line of ours
    code = 1
    try:
        worker.main()
        code = 0
    except SystemExit as exc:
        code = 2 if exc.code else 0
    except BaseException as exc:
        sys.stderr.write(f"{exc!r}\n")
    finally:
        os._exit(code)


def _asked(connection: socket.socket, file: str) -> str:
    """Have a file loaded; return what is told of it, nothing if the process ends without a word."""
    sizes = {"context_size": 256, "cells": 256, "batch_size": 64}
    config = wire.EngineConfig(name="m", path=file, max_sequences=1, threads=1, **sizes)
    connection.sendall(wire.encode(wire.Load(config)))
    frames, deadline = wire.Frames(), time.monotonic() + LOAD_S
    while select.select([connection], [], [], max(0.0, deadline - time.monotonic()))[0]:
        try:
            data = connection.recv(1 << 18)
        except ConnectionError:
            return ""
        if not data:
            return ""
        for body in frames.feed(data):
            match wire.report_decoder.decode(body):
                case wire.Ready():
                    return "ready"
                case wire.Failed(message):
                    return f"refused {message!r}"
    return "hang"


if __name__ == "__main__":
    main(sys.argv[1:])
