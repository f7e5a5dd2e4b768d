"""Ends a connection with a reset, so that the other side knows that something was lost."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import Transport

LINGER_0 = struct.pack("ii", 1, 0)


def reset(transport: Transport) -> None:
    """Close at once; what waits to be sent is dropped."""
    with suppress(OSError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
    transport.abort()
