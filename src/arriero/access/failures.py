"""How often each address may come with a wrong key, or with none: a bucket of a minute's worth each. Pure.

It bounds the noise that strangers make, in logs and in work. It guards no key: one that is good is taken from
whatever address, and secrets are too long to be guessed. Addresses of one IPv6 network (/64) are one.
"""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass

from arriero.errors import RateLimited

PER_MINUTE = 60
MAX_ADDRESSES = 10_000
NETWORK_BITS = 64


@dataclass(slots=True)
class _Bucket:
    used: float
    updated_at: float


class AuthFailures:
    """Owns the buckets, of `MAX_ADDRESSES` at most: who was seen longest ago is forgotten first."""

    def __init__(self) -> None:
        self._buckets: dict[str, _Bucket] = {}  # who failed last stands last

    def note(self, host: str, per_minute: int | None, now: float) -> None:
        """Count a failure of an address. Raises RateLimited when it has had too many.

        per_minute: None = `PER_MINUTE`, and any number from this machine. now: on the monotonic clock.
        """
        address = _address(host)
        if per_minute is None:
            if address is not None and address.is_loopback:
                return
            per_minute = PER_MINUTE
        name = host if address is None else _network(address)
        used = self._used(name, per_minute, now)
        is_over = used + 1 > per_minute
        self._keep(name, _Bucket(used if is_over else used + 1, now))
        if is_over:
            wait_s = (used + 1 - per_minute) * 60 / per_minute
            message = "too many wrong or missing keys from this address"
            raise RateLimited(message, retry_after_s=math.ceil(wait_s))

    def _used(self, name: str, per_minute: int, now: float) -> float:
        bucket = self._buckets.get(name)
        return 0.0 if bucket is None else max(0.0, bucket.used - (now - bucket.updated_at) * per_minute / 60)

    def _keep(self, name: str, bucket: _Bucket) -> None:
        self._buckets.pop(name, None)
        if len(self._buckets) >= MAX_ADDRESSES:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[name] = bucket


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _network(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, NETWORK_BITS), strict=False))
