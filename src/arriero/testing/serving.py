"""Serves an ASGI application on a free port of this machine, in the event loop of the test."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from arriero.server.edge.edge import Edge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from starlette.types import ASGIApp

    from arriero.server.edge.exchange import Exchange
    from arriero.server.edge.limits import Limits


@asynccontextmanager
async def served(
    app: ASGIApp,
    limits: Limits | None = None,
    direct: Mapping[bytes, Callable[[Exchange], bool]] | None = None,
) -> AsyncIterator[str]:
    """Serve the application while the block runs; gives its URL. What still runs then is cut off."""
    edge = Edge(app, limits, direct)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await edge.start(listener)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            await edge.stop(0)
