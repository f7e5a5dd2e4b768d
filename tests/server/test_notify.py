"""What systemd is told, on a socket of its kind."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from arriero.server.notify import Notifier


def test_words(tmp_path: Path) -> None:
    """Readiness, a reload with its time, and the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        notifier.ready("serving")
        notifier.reloading()
        notifier.stopping()
        words = [manager.recv(200).decode().split("\n") for _ in range(3)]

    assert words[0] == ["READY=1", "STATUS=serving"]
    assert words[1][0] == "RELOADING=1"
    assert words[1][1].startswith("MONOTONIC_USEC=")
    assert words[2] == ["STOPPING=1"]


@pytest.mark.parametrize(
    ("pid", "expected"), [("", 2), (str(os.getpid()), 2), ("1", 0)], ids=["any", "this", "other"]
)
async def test_signs_of_life(tmp_path: Path, pid: str, expected: int) -> None:
    """They come while the block runs, if this process is the one that is watched."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000"}
        notifier = Notifier(environment | ({"WATCHDOG_PID": pid} if pid else {}))
        async with notifier.watched():
            if expected:
                loop = asyncio.get_running_loop()
                words = [await loop.sock_recv(manager, 200) for _ in range(expected)]
                assert words == [b"WATCHDOG=1"] * expected
        if not expected:
            with pytest.raises(BlockingIOError):
                manager.recv(200)


def test_without_a_socket_nothing_is_told() -> None:
    """A server that systemd does not run says nothing, and one whose socket is gone does not fail."""
    Notifier({}).ready("serving")
    Notifier({"NOTIFY_SOCKET": "/nowhere/notify"}).stopping()
