"""Loads files as engine processes do: `python -m tests.abuse.loader FILE...` prints what became of each.

One process with everything imported, llama.cpp too, forks a child for each file: a start costs two hundredths
of a second so, and no file meets what another has left behind.
"""

from __future__ import annotations

import gc
import os
import resource
import select
import signal
import socket
import sys
import time

from arriero.engine import wire, worker
from arriero.engine.capi import open_library, packaged_library

LOAD_S = 60.0
"""After that it hangs; a busy machine may take long."""
MOST_BYTES = 4 << 30


def main(files: list[str]) -> None:
    """Print a line for each file: the processor time that it took, and what became of it."""
    open_library(packaged_library())
    gc.freeze()  # what children share of this process stays shared
    for file in files:
        before = children_s()
        told = loaded(file)
        sys.stdout.write(f"{children_s() - before:.3f} {told}\n")
        sys.stdout.flush()  # before the next child is made of this process


def children_s() -> float:
    """Return the processor time of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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
    os.environ["GGML_NO_BACKTRACE"] = "1"  # as the supervisor does; a debugger takes seconds
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
