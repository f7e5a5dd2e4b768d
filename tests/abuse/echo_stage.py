"""The edge with an application that echoes WebSocket messages: `python -m tests.abuse.echo_stage`."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from typing import Any

import uvloop

from arriero.server.edge.edge import Edge
from arriero.server.edge.limits import Limits

LARGEST = 16 * 1024 * 1024
"""The largest message of the suite."""


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Say back each message."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


async def main() -> None:
    """Serve until told to stop."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    edge = Edge(echo, Limits(max_frame_bytes=LARGEST))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await edge.start(listener)
        sys.stdout.write(f"Arriero is ready at http://127.0.0.1:{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        await told.wait()
        await edge.stop(0)


if __name__ == "__main__":
    uvloop.run(main())
