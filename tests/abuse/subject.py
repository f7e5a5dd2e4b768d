"""The server under abuse as a process, looked at from outside; and plain sockets to abuse it with."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

KEY = "sesame"
OTHER_KEY = "other"
DEADLINE_S = 60.0
POLL_S = 0.05
ROOT = Path(__file__).resolve().parents[2]
PAGE = os.sysconf("SC_PAGE_SIZE")


def scaled(number: int) -> int:
    """Return a number of the plan times ARRIERO_ABUSE_SCALE, for machines that are smaller or busy."""
    return max(1, int(number * float(os.environ.get("ARRIERO_ABUSE_SCALE", "1"))))


def raise_open_files() -> int:
    """Let this process open as many files as it may; return how many that are."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


@dataclass(frozen=True)
class Subject:
    """A running server."""

    url: str
    pid: int
    log: Path

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 0

    def client(self, key: str = KEY, timeout_s: float = DEADLINE_S) -> httpx2.AsyncClient:
        """Return a client that bears a key."""
        headers = {"authorization": f"Bearer {key}"}
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        return httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=timeout_s, limits=limits)

    def connect(self, *, receive_buffer: int | None = None) -> socket.socket:
        """Return a connection, which gives up after DEADLINE_S."""
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(DEADLINE_S)
        connection.connect(self.address)
        return connection

    def resident_bytes(self) -> int:
        """Return how much memory the process holds."""
        return resident_bytes(self.pid)

    def peak_bytes(self) -> int:
        """Return the most memory that the process has held since `forget_peak`."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))

    def forget_peak(self) -> None:
        """Begin to look for the most memory anew."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def num_sockets(self) -> int:
        """Return how many sockets the process has open."""
        links = (link(file) for file in Path(f"/proc/{self.pid}/fd").iterdir())
        return sum(name.startswith("socket:") for name in links)

    def cpu_s(self) -> float:
        """Return the processor time that the process has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def is_alive(self) -> bool:
        """Say whether the process runs."""
        return Path(f"/proc/{self.pid}/exe").exists()


def link(file: Path) -> str:
    """Return what an open file is; nothing for one that was closed meanwhile."""
    try:
        return os.readlink(file)
    except OSError:
        return ""


def resident_bytes(pid: int) -> int:
    """Return how much memory a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


@contextmanager
def running(command: list[str], log: Path) -> Iterator[Subject]:
    """Run a server while the block does; it must end well, and its log must hold no traceback."""
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True)
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert ready.startswith("Arriero is ready at http://"), log.read_text()
        yield Subject(ready.split()[-1], process.pid, log)
        process.terminate()
        assert process.wait(DEADLINE_S) == 0, log.read_text()
        assert "Traceback" not in log.read_text(errors="replace"), log.read_text(errors="replace")[:4000]
    finally:
        process.kill()
        process.communicate()


@contextmanager
def staged_subject(folder: Path, extra: str = "") -> Iterator[Subject]:
    """Run the server of `stage`, with more configuration."""
    config = folder / "extra.toml"
    config.write_text(extra)
    with running([sys.executable, "-m", "tests.abuse.stage", str(config)], folder / "server.log") as subject:
        yield subject


def eventually(holds: Callable[[], bool], deadline_s: float = DEADLINE_S) -> float:
    """Wait until something outside of this process holds; return how long it took."""
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < deadline_s, "it does not come"
        time.sleep(POLL_S)
    return time.monotonic() - started


def post(path: str, body: bytes, key: str = KEY, *headers: str) -> bytes:
    """Return a request with a JSON body."""
    lines = [
        f"POST {path} HTTP/1.1",
        "host: abuse",
        f"authorization: Bearer {key}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def handshake(*headers: str, path: str = "/v1/task/t/chat", host: str = "127.0.0.1", key: str = KEY) -> bytes:
    """Return how a WebSocket begins."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"host: {host}",
        "upgrade: websocket",
        "connection: upgrade",
        "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        *([f"authorization: Bearer {key}"] if key else []),
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()
