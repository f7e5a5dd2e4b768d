"""Tells systemd how the server is, over the socket that it names; without one, nothing is told."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


class Notifier:
    """Owns nothing: each word is one datagram. What cannot be sent is not missed."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._watchdog_s = _watchdog_s(environment)

    def ready(self, status: str) -> None:
        """Requests are answered."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """The configuration is read again; `ready` follows."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Running answers are ended."""
        self._send("STOPPING=1")

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Give signs of life of the event loop while the block runs, if they are asked for."""
        if not (self._address and self._watchdog_s):
            yield
            return
        job = asyncio.create_task(self._beat(self._watchdog_s / 3))
        try:
            yield
        finally:
            job.cancel()
            await asyncio.wait([job])

    async def _beat(self, every_s: float) -> None:
        while True:
            self._send("WATCHDOG=1")
            await asyncio.sleep(every_s)

    def _send(self, state: str) -> None:
        if not self._address:
            return
        # An address that begins with @ is one of Linux's abstract ones.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(state.encode(), address)
        except OSError:
            return


def _watchdog_s(environment: Mapping[str, str]) -> float:
    """Return within how many seconds systemd wants a sign of life of this process; 0 = it wants none."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    microseconds = environment.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdigit() else 0.0
