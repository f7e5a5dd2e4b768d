"""One guard before one upstream, for the guard's benchmark: served from the edge, or as plain ASGI.

`python -m benchmarks.guard_server direct|asgi PORT UPSTREAM_PORT`
"""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import sys
from typing import TYPE_CHECKING

import uvloop

from arriero.config.load import parse_config
from arriero.runtime import open_runtime
from arriero.server.app import create_app
from arriero.server.direct import Direct
from arriero.server.edge.edge import Edge
from arriero.server.serve import YOUNG_OBJECTS
from benchmarks.guard_upstream import NAME

if TYPE_CHECKING:
    from starlette.applications import Starlette

CONFIG = """
[auth]
allowed_keys = ["sk-benchmark-0123456789", "sk-another-0123456789"]
[models.pocket_network]
max_tokens = 1024
max_context = 32768
max_concurrent = 100000
[models.pocket_network.upstream]
urls = ["http://127.0.0.1:{port}"]
model = "{model}"
api_key = "sk-upstream-0123456789"
health_path = ""
"""


async def serve(form: str, port: int, upstream_port: int) -> None:
    """Serve until the process is ended."""
    config = parse_config(CONFIG.format(port=upstream_port, model=NAME), {})
    async with open_runtime(config) as runtime:
        app = create_app(runtime)
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS)
        with socket.create_server(("127.0.0.1", port), backlog=4096) as listener:
            listener.setblocking(False)
            await (_edge(app, listener) if form == "direct" else _asgi(app, listener))


async def _edge(app: Starlette, listener: socket.socket) -> None:
    edge = Edge(app, direct=Direct(app.state.context).handlers)
    await edge.start(listener)
    await asyncio.Event().wait()


async def _asgi(app: Starlette, listener: socket.socket) -> None:
    import uvicorn  # a peer: pip install uvicorn

    config = uvicorn.Config(
        app, http="httptools", lifespan="off", log_config=None, access_log=False, server_header=False
    )
    await uvicorn.Server(config).serve([listener])


if __name__ == "__main__":
    # As a service runs: a line for each request goes to a file.
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    uvloop.run(serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
