"""What the edge bears of one client and of all together. Values, and the few sums over them."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arriero.config.schema import Config

SHARE_OF_OPEN_FILES = 0.45
MOST_OF_OPEN_FILES = 0.9
PER_ADDRESS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of an edge; the defaults are those of the configuration."""

    max_header_bytes: int = 64 * 1024
    """Request line and headers together."""
    max_headers: int = 100
    max_target_bytes: int = 32 * 1024
    """Poly's GET routes bear prompts in the query."""
    max_body_bytes: int = 4 * 1024 * 1024
    """Largest body that is gathered for a direct handler. What applications read, they bound themselves."""
    max_held_body_bytes: int = 256 * 1024 * 1024
    """Bodies of all requests that are being served."""
    max_connections: int | None = None
    """None = as many as the open files of the process allow."""
    max_connections_per_address: int | None = None
    """None = PER_ADDRESS, and any number from this machine."""
    header_timeout_s: float = 10.0
    keep_alive_timeout_s: float = 30.0
    body_grace_s: float = 10.0
    """Bodies may take this long; after it they must have come with the least rate."""
    min_body_bytes_per_s: int = 1024
    write_stall_s: float = 30.0
    """A client that reads nothing for so long is cut."""
    allowed_hosts: frozenset[bytes] | None = None
    """Hosts that are served, in small letters, with or without a port; None = any."""
    max_frame_bytes: int = 256 * 1024
    """Largest message on a WebSocket."""
    ping_interval_s: float = 20.0
    ping_timeout_s: float = 20.0
    close_timeout_s: float = 10.0
    """For a WebSocket client's answer to our close."""
    linger_s: float = 1.0
    """How long the rest of a refused request is thrown away, so that the client gets to read the answer."""
    sweep_s: float = 1.0
    """How often all deadlines are looked at."""

    def connection_cap(self, open_files: int) -> int:
        """Return the most connections of a process that may have so many files open.

        A guarded answer needs a second file, for its upstream; who serves local models may ask for more.
        """
        if self.max_connections is None:
            return max(1, int(open_files * SHARE_OF_OPEN_FILES))
        return max(1, min(self.max_connections, int(open_files * MOST_OF_OPEN_FILES)))

    def address_cap(self, host: str) -> int | None:
        """Return the most connections from one address; None = any number."""
        if self.max_connections_per_address is not None:
            return self.max_connections_per_address
        return None if _is_loopback(host) else PER_ADDRESS


def limits_of(config: Config) -> Limits:
    """Return the limits that a configuration sets."""
    server, limits = config.server, config.limits
    hosts = server.allowed_hosts
    return Limits(
        max_header_bytes=limits.max_header_bytes,
        max_headers=limits.max_headers,
        max_target_bytes=limits.max_target_bytes,
        max_body_bytes=server.max_body_bytes,
        max_held_body_bytes=limits.max_held_body_bytes,
        max_connections=limits.max_connections,
        max_connections_per_address=limits.max_connections_per_address,
        header_timeout_s=limits.header_timeout_s,
        keep_alive_timeout_s=limits.keep_alive_timeout_s,
        body_grace_s=limits.body_grace_s,
        min_body_bytes_per_s=limits.min_body_bytes_per_s,
        write_stall_s=limits.write_stall_s,
        allowed_hosts=None if hosts is None else frozenset(host.lower().encode() for host in hosts),
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def max_open_files() -> int:
    """Return how many files this process may have open; where no such limit is told, the usual 1024."""
    try:
        import resource
    except ImportError:
        return 1024
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return soft if soft > 0 else 2**20
