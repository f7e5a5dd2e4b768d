"""What one request through the guard costs in this process, without sockets or kernel.

The edge's connection and the upstream's stand on transports that throw away what is written, so that the
figures hold on a busy machine: the least CPU time of many short batches, and the number of calls.
`python -m benchmarks.guard_profile [--functions]`
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import logging
import os
import pstats
import time
from typing import TYPE_CHECKING, Any

import uvloop

from arriero.config.load import parse_config
from arriero.runtime import open_runtime
from arriero.server.app import create_app
from arriero.server.direct import Direct
from arriero.server.edge.connection import Connection
from arriero.server.edge.edge import Edge
from arriero.server.request_log import MOST_LINES
from benchmarks import guard_load, guard_upstream
from benchmarks.guard_server import CONFIG

if TYPE_CHECKING:
    from collections.abc import Callable

    from arriero.guard.connection import Connection as UpstreamConnection

BATCH = MOST_LINES
"""Each batch holds one writing of the log."""
BATCHES = 40
PROFILED = 2000
KEY = "sk-benchmark-0123456789"
TELEMETRY = '[telemetry]\nlog_format = "json"\n'


class Sink(asyncio.Transport):
    """A transport that notes how much was written, and the last of it."""

    def __init__(self) -> None:
        super().__init__()
        self.last = b""

    def write(self, data: Any) -> None:
        self.last = data

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 5) if name == "peername" else default

    def pause_reading(self) -> None:
        raise AssertionError("reading was paused")

    def abort(self) -> None:
        raise AssertionError("the connection was cut")

    close = abort


class Site:
    """One client's connection and one upstream's, kept, with all that stands between."""

    def __init__(self, edge: Edge, upstream: UpstreamConnection, client: Sink, server: Sink) -> None:
        self.client, self.server = client, server
        self._upstream = upstream
        self._connection = Connection(edge)
        self._connection.connection_made(client)

    def request(self, data: bytes, answer: bytes) -> None:
        """Pass one request on and its answer back."""
        self._connection.data_received(data)
        self._upstream.data_received(answer)

    def event(self, data: bytes) -> None:
        """Pass on what one read of the upstream brought."""
        self._upstream.data_received(data)


def measured(name: str, once: Callable[[], None], *, functions: bool) -> None:
    """Print the CPU time and the calls of one round, and by function if asked."""
    for _ in range(200):
        once()
    least = float("inf")
    for _ in range(BATCHES):
        began = time.process_time()
        for _ in range(BATCH):
            once()
        least = min(least, time.process_time() - began)
    profile = cProfile.Profile(time.process_time)
    profile.enable()
    for _ in range(PROFILED):
        once()
    profile.disable()
    stats = pstats.Stats(profile)
    calls = stats.total_calls / PROFILED  # type: ignore[attr-defined]
    print(f"{name:8} {1e6 * least / BATCH:7.1f} us {calls:7.1f} calls")
    if functions:
        _print_functions(stats)


def _print_functions(stats: pstats.Stats) -> None:
    print(f"{'calls':>7} {'own us':>7} {'all us':>7}")
    entries = stats.stats.items()  # type: ignore[attr-defined]
    for (path, line, name), (_, calls, own, whole, _) in sorted(entries, key=lambda entry: -entry[1][3]):
        if calls >= PROFILED / 2:
            where = f"{os.path.relpath(path)}:{line} {name}" if line else name
            each = 1e6 / PROFILED
            print(f"{calls / PROFILED:7.1f} {own * each:7.2f} {whole * each:7.2f}  {where}")


async def profiled(*, functions: bool) -> None:
    """Measure a request with a whole answer, then an event of a stream."""
    options = argparse.Namespace(mode="requests", model="pocket_network", port=1, key=KEY, count=1, gap_ms=1)
    config = parse_config(CONFIG.format(port=1, model=guard_upstream.NAME) + TELEMETRY, {})
    async with open_runtime(config) as runtime:
        app = create_app(runtime)
        edge = Edge(app, direct=Direct(app.state.context).handlers)
        edge.clock = asyncio.get_running_loop().time
        edge.common_lines = b"date: Sun, 22 Nov 2026 10:00:00 GMT\r\n"
        pool = runtime.guards["pocket_network"].replicas._upstreams[0]
        upstream, client, server = pool._connection(), Sink(), Sink()
        upstream.connection_made(server)
        pool._idle.append(upstream)
        site = Site(edge, upstream, client, server)

        asked = guard_load._request(options)
        site.request(asked, guard_upstream.WHOLE)
        assert client.last.startswith(b"HTTP/1.1 200 OK\r\n"), client.last
        assert b"Secret" not in client.last, client.last
        measured("request", lambda: site.request(asked, guard_upstream.WHOLE), functions=functions)

        options.mode = "streams"
        event = guard_upstream.stamped()
        site.request(guard_load._request(options), guard_upstream.HEAD + event)
        measured("event", lambda: site.event(event), functions=functions)
        assert b'"delta"' in client.last, client.last
        assert b"Secret" not in client.last, client.last
        os._exit(0)  # the connections have no sockets that could be closed


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--functions", action="store_true", help="print a table by function")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, filename=os.devnull)
    uvloop.run(profiled(functions=options.functions))


if __name__ == "__main__":
    main()
