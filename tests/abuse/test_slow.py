"""Clients that are slow on purpose: each is ended by its deadline, and others do not notice."""

from __future__ import annotations

import selectors
import socket
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.abuse.subject import (
    DEADLINE_S,
    Subject,
    eventually,
    post,
    raise_open_files,
    scaled,
    staged_subject,
)

if TYPE_CHECKING:
    from tests.abuse.figures import Figures

EACH_KIND = 2_000
AT_A_TIME = 100
DRIP_S = 0.5
EARLY_S = 1.5
HEALTHY_S = 5.0
LATE_S = 10.0
"""How much later than its deadline a socket may end: on a busy machine the looks are late too."""
ANSWER_SIZE = len(b"HTTP/1.1 408")
HEAD = b"POST /v1/completions HTTP/1.1\r\nhost: abuse\r\n"
FLOOD = post(
    "/v1/completions",
    msgspec.json.encode({"model": "m", "prompt": "flood", "stream": True, "max_tokens": 9}),
)
HEALTHY = post("/v1/completions", msgspec.json.encode({"model": "m", "prompt": "a", "max_tokens": 1}))
SETTINGS = """
[server]
max_concurrent = 3000
[limits]
max_connections = 15000
header_timeout_s = {deadline_s}
body_grace_s = {deadline_s}
write_stall_s = {deadline_s}
"""


@dataclass
class Kind:
    """One way to be slow. first: what is sent at once; drip: what is sent again and again."""

    name: str
    first: bytes = b""
    drip: bytes = b""
    reads: bool = True
    answer: bytes = b""
    """How the server's last words begin."""
    opened_at: dict[socket.socket, float] = field(default_factory=dict)
    lived_s: list[float] = field(default_factory=list)
    answers: Counter[bytes] = field(default_factory=Counter)


def kinds() -> list[Kind]:
    return [
        Kind("silent"),
        Kind("slow head", HEAD, b"x", answer=b"HTTP/1.1 408"),
        Kind("slow body", HEAD + b"content-length: 5000\r\n\r\n", b"x", answer=b"HTTP/1.1 408"),
        Kind("slow reader", FLOOD, reads=False),
    ]


def opened(subject: Subject, kind: Kind, number: int) -> None:
    """Open the sockets of a kind, and send what is sent first."""
    for _ in range(number):
        connection = subject.connect(receive_buffer=None if kind.reads else 4096)
        connection.sendall(kind.first)
        connection.setblocking(False)
        kind.opened_at[connection] = time.monotonic()


class Watch:
    """Owns the slow sockets that are still open."""

    def __init__(self, slow: list[Kind]) -> None:
        self.kind_of = {connection: kind for kind in slow for connection in kind.opened_at}
        self._selector = selectors.DefaultSelector()
        for connection, kind in self.kind_of.items():
            if kind.reads:
                self._selector.register(connection, selectors.EVENT_READ)

    def read(self, wait_s: float) -> None:
        """Take what the server says, and note the sockets that it closes."""
        for key, _ in self._selector.select(wait_s):
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            data = received(connection)
            if data:
                self.kind_of[connection].answers[data[:ANSWER_SIZE]] += 1
            elif data is not None:
                self._selector.unregister(connection)
                self._end(connection)

    def drip(self) -> None:
        """Send a byte where a kind does so; look which of those that nobody reads were cut."""
        for connection, kind in list(self.kind_of.items()):
            if kind.drip:
                with suppress(OSError):  # its end is read next
                    connection.send(kind.drip)
            elif not kind.reads and connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._end(connection)

    def _end(self, connection: socket.socket) -> None:
        kind = self.kind_of.pop(connection)
        kind.lived_s.append(time.monotonic() - kind.opened_at[connection])
        connection.close()


def received(connection: socket.socket) -> bytes | None:
    """Return what has come; nothing at the end, None when nothing is there yet."""
    try:
        return connection.recv(65536)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def outlived(subject: Subject, watch: Watch, give_up_s: float) -> list[float]:
    """Drip until the server has ended every socket; return how long a healthy client waited meanwhile."""
    healthy: list[float] = []
    started = last_drip = time.monotonic()
    while watch.kind_of:
        watch.read(0.1)
        now = time.monotonic()
        if now - last_drip >= DRIP_S:
            last_drip = now
            watch.drip()
            healthy.append(answer_s(subject))
        assert now - started < give_up_s, Counter(kind.name for kind in watch.kind_of.values())
    return healthy


def answer_s(subject: Subject) -> float:
    """Return how long a healthy client waits for a generated answer, on a connection of its own."""
    started = time.monotonic()
    with subject.connect() as connection:
        connection.sendall(HEALTHY)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    return time.monotonic() - started


def abused(folder: Path, each_kind: int, deadline_s: int, figures: Figures) -> None:
    with staged_subject(folder, SETTINGS.format(deadline_s=deadline_s)) as subject:
        alone = max(answer_s(subject) for _ in range(5))
        sockets, before = subject.num_sockets(), subject.resident_bytes()
        slow = kinds()
        healthy: list[float] = []
        for kind in slow:
            for begin in range(0, each_kind, AT_A_TIME):
                opened(subject, kind, min(AT_A_TIME, each_kind - begin))
                healthy.append(answer_s(subject))
        healthy = sorted(healthy + outlived(subject, Watch(slow), 3 * deadline_s + DEADLINE_S))
        eventually(lambda: subject.num_sockets() <= sockets)
        grown = subject.resident_bytes() - before

    figures.tell(
        f"slow sockets, {each_kind} of each of four kinds, deadline {deadline_s} s",
        **{f"{kind.name} ended after s": max(kind.lived_s) for kind in slow},
        healthy_alone_s=alone,
        healthy_median_s=healthy[len(healthy) // 2],
        healthy_worst_s=healthy[-1],
        MiB_grown=grown / 2**20,
    )
    for kind in slow:
        assert len(kind.lived_s) == each_kind
        assert min(kind.lived_s) > deadline_s - EARLY_S, kind.name
        assert max(kind.lived_s) < 2 * deadline_s + LATE_S, kind.name
        assert not kind.answer or kind.answers[kind.answer] == each_kind, kind.answers
    assert healthy[-1] < HEALTHY_S


@pytest.mark.slow
def test_thousands_of_slow_sockets(tmp_path: Path, figures: Figures) -> None:
    """Two thousand of each kind: all are ended in time, a healthy client is answered, nothing is left."""
    raise_open_files()
    abused(tmp_path, scaled(EACH_KIND), 10, figures)
