"""Serves an ASGI application on a free port, in the event loop of the test, and makes clients of it."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2

from arriero.server.edge.edge import Edge

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Mapping

    from starlette.types import ASGIApp

    from arriero.server.edge.exchange import Exchange
    from arriero.server.edge.limits import Limits


@asynccontextmanager
async def served(
    app: ASGIApp,
    limits: Limits | None = None,
    direct: Mapping[bytes, Callable[[Exchange], bool]] | None = None,
    context: Callable[[], ssl.SSLContext] | None = None,
) -> AsyncIterator[str]:
    """Serve the application while the block runs; gives its URL. What still runs then is cut off."""
    edge = Edge(app, limits, direct)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await edge.start(listener, context)
        try:
            yield f"{'https' if context else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            await edge.stop(0)


def client_of(url: str, **options: Any) -> httpx2.AsyncClient:
    """Return a client of a server without TLS, with httpx2's options.

    It reads no certificate authorities: each client that does takes longer for that than most tests.
    """
    return httpx2.AsyncClient(base_url=url, verify=False, **{"timeout": 20, **options})
