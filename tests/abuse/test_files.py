"""A server that may open few files, and more clients than that."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.abuse.subject import Subject, eventually, post, running

if TYPE_CHECKING:
    from tests.abuse.figures import Figures

OPEN_FILES = 256
CLIENTS = 1_000
STREAMS = 20
SPARE_FILES = 32
"""That stay for upstreams, stores and logs while clients are refused."""
HOLD_S = 5.0
MOST_CORES = 0.2
RECOVERY_S = 4.0
STREAM = post(
    "/v1/completions",
    msgspec.json.encode({"model": "m", "prompt": "a", "max_tokens": 100, "stream": True}),
)
LIVEZ = b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n"


def command(folder: Path) -> list[str]:
    """Return how to run the stage with few files; it may not ask for more."""
    config = folder / "extra.toml"
    config.write_text(f"[server]\nmax_concurrent = {STREAMS}\n")
    line = f'ulimit -n {OPEN_FILES}; exec "$0" -m tests.abuse.stage "$1"'
    return ["bash", "-c", line, sys.executable, str(config)]


def first_words(connection: socket.socket) -> bytes:
    """Return what a client is told that asks for nothing: a refusal, the close, or nothing yet."""
    connection.setblocking(False)
    try:
        return connection.recv(4096)[:12] or b"closed"
    except BlockingIOError:
        return b"held"
    except OSError:
        return b"reset"


def whole(connection: socket.socket) -> bytes:
    """Return all that a stream says."""
    data = b""
    while not data.endswith(b"0\r\n\r\n"):
        piece = connection.recv(65536)
        assert piece, data
        data += piece
    return data


def num_files(subject: Subject) -> int:
    return len(os.listdir(f"/proc/{subject.pid}/fd"))


@pytest.mark.slow
def test_more_clients_than_files(tmp_path: Path, figures: Figures) -> None:
    """The others are refused, the streams that run end whole, the server neither spins nor dies."""
    with running(command(tmp_path), tmp_path / "server.log") as subject, ExitStack() as stack:
        known = stack.enter_context(subject.connect())
        streams = [stack.enter_context(subject.connect()) for _ in range(STREAMS)]
        for stream in streams:
            stream.sendall(STREAM)
            assert stream.recv(12) == b"HTTP/1.1 200"
        clients = [stack.enter_context(subject.connect()) for _ in range(CLIENTS)]
        most_files = num_files(subject)
        ended = [whole(stream) for stream in streams]
        cpu, since, answered = subject.cpu_s(), time.monotonic(), 0
        while time.monotonic() - since < HOLD_S:
            known.sendall(LIVEZ)
            assert known.recv(4096).startswith(b"HTTP/1.1 200")
            answered += 1
            time.sleep(0.25)
            most_files = max(most_files, num_files(subject))
        cores = (subject.cpu_s() - cpu) / (time.monotonic() - since)
        words = Counter(first_words(client) for client in clients)
        for client in clients:
            client.close()
        recovery_s = eventually(lambda: is_answered(subject))

    figures.tell(
        f"{CLIENTS} clients of a server with {OPEN_FILES} files",
        told={word.decode(): count for word, count in words.items()},
        streams_whole=len(ended),
        files_at_most=most_files,
        cores_meanwhile=cores,
        recovered_after_s=recovery_s,
    )
    assert all(b"[DONE]" in stream for stream in ended)
    assert words[b"HTTP/1.1 503"] + words[b"closed"] + words[b"reset"] > CLIENTS / 2
    assert words[b"held"] < OPEN_FILES / 2
    assert most_files < OPEN_FILES - SPARE_FILES
    assert cores < MOST_CORES
    assert recovery_s < RECOVERY_S


def is_answered(subject: Subject) -> bool:
    """Say whether a newcomer is served."""
    with subject.connect() as connection:
        try:
            connection.sendall(LIVEZ)
            return connection.recv(4096).startswith(b"HTTP/1.1 200")
        except OSError:
            return False
