"""The servers that are compared: how each is started, asked for its counters, and ended.

A variant is one way to serve one model; `peer` ones are llama-server, the others Arriero.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import TYPE_CHECKING

import msgspec

from benchmarks import machine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

START_LIMIT_S = 120.0
SESSIONS = 16
CELLS = 16384


@dataclass(frozen=True)
class Variant:
    """One way to serve: the command, what is added to the environment, and the path that says ready."""

    name: str
    command: tuple[str, ...]
    port: int
    health: str
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_peer(self) -> bool:
        return self.name.startswith("peer")


@dataclass(frozen=True)
class Server:
    """A running variant. `ready_s`: from its start to the first good answer of its health path."""

    variant: Variant
    process: subprocess.Popen[bytes]
    ready_s: float
    idle_mb: float

    @property
    def port(self) -> int:
        return self.variant.port

    @property
    def pid(self) -> int:
        return self.process.pid

    def engine_counters(self) -> dict[str, float] | None:
        """Return the engine's own counters from /v1/stats; None for a peer."""
        if self.variant.is_peer:
            return None
        return engine_counters(msgspec.json.decode(get(self.port, "/v1/stats")))


def engine_counters(stats: dict[str, dict[str, dict[str, float]]]) -> dict[str, float]:
    """Return the counters of the one model that is served, out of the answer of /v1/stats."""
    (counters,) = stats["engine"].values()
    return counters


def peer(
    name: str,
    binary: Path,
    model: Path,
    *,
    threads: int,
    env: Mapping[str, str],
    extra: Sequence[str] = (),
) -> Variant:
    """Return llama-server as its documentation proposes for many sessions, otherwise default."""
    port = free_port()
    sizes = ("-t", str(threads), "-c", str(CELLS), "-np", str(SESSIONS), "-kvu", "--no-webui")
    command = (str(binary), "-m", str(model), *sizes, "--port", str(port), *extra)
    return Variant(name=name, command=command, port=port, health="/health", env=env)


def arriero(name: str, folder: Path, model: Path, *, threads: int, library: Path | None) -> Variant:
    """Return Arriero on the same weights; without `library` it takes the one of the wheel."""
    port = free_port()
    config = folder / f"{name}.toml"
    config.write_text(arriero_toml(model, port=port, cache=folder / name, threads=threads, library=library))
    command = (sys.executable, "-m", "arriero", "serve", "--config", str(config))
    return Variant(name=name, command=command, port=port, health="/status")


def arriero_toml(model: Path, *, port: int, cache: Path, threads: int, library: Path | None) -> str:
    """Return the configuration: the same threads, sessions and cells as the peer has."""
    lines = [
        f'bind_address = "127.0.0.1:{port}"',
        "public = true",
        "max_concurrent = 64",
        f'cache_path = "{cache}"',
        "[models.bench]",
        f'model_path = "{model}"',
        "context_size = 2048",
        f"threads_per_session = {threads}",
        f"max_sequences = {SESSIONS}",
        f"kv_cache_tokens = {CELLS}",
    ]
    if library is not None:
        lines.append(f'library = "{library}"')
    return "\n".join([*lines, ""])


@contextlib.contextmanager
def running(variant: Variant, folder: Path) -> Iterator[Server]:
    """Start the variant, wait until it is ready, and end it at last; `folder` keeps its output."""
    with (folder / f"{variant.name}.log").open("wb") as log:
        started = time.monotonic()
        process = subprocess.Popen(
            variant.command,
            env={**os.environ, **variant.env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_ready(variant, process)
            ready_s = time.monotonic() - started
            time.sleep(0.5)
            yield Server(variant, process, ready_s, machine.resident_mb(process.pid))
        finally:
            end(process)


def wait_ready(variant: Variant, process: subprocess.Popen[bytes]) -> None:
    """Ask for the health path until it is answered well."""
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"{variant.name} ended with status {process.returncode}; see its log")
        with contextlib.suppress(OSError, HTTPException):
            get(variant.port, variant.health)
            return
        time.sleep(0.02)
    raise SystemExit(f"{variant.name} was not ready within {START_LIMIT_S:.0f} s; see its log")


def get(port: int, path: str) -> bytes:
    """Return the body of a GET; raises OSError for any status but 2xx."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        body: bytes = answer.read()
    return body


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask the server to end, and make sure."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def wait_port(port: int, *, limit_s: float = 30.0) -> None:
    """Wait until somebody listens."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit(f"nobody listens on port {port} after {limit_s:.0f} s")


def version(binary: Path) -> str:
    """Return the first line of what the peer says about its version."""
    done = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True)
    return (done.stdout + done.stderr).strip().splitlines()[0]


def has_sliding_window(model: Path) -> bool:
    """Whether the head of a GGUF file names a sliding window."""
    with model.open("rb") as file:
        return b".attention.sliding_window" in file.read(1 << 20)
