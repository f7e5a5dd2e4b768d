"""What a server counts by itself, and what it shares with others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from arriero.access.principal import Principal
from arriero.config.auth import AuthConfig, KeyLimits
from arriero.errors import RateLimited
from arriero.server.rates import Rates

pytest.importorskip("redis", reason="needs the extra redis")
pytest.importorskip("lupa", reason="the double runs the scripts with lupa")

from arriero.testing.redis import FakeRedis

PATIENT_S = 5.0


def bearer(**limits: int) -> Principal:
    return Principal("bob", limits=KeyLimits(**limits))


@asynccontextmanager
async def counting(redis: FakeRedis) -> AsyncIterator[Rates]:
    """Count as a server does that shares its counts."""
    rates = Rates(AuthConfig(shared_counters=redis.url), shared_timeout_s=PATIENT_S)
    try:
        yield rates
    finally:
        rates.close()
        await rates.wait_closed()


async def test_a_request_is_told_what_is_left_of_all_servers() -> None:
    """Requests and tokens of one server are in the headers of the other."""
    bob = bearer(requests_per_minute=600, tokens_per_minute=600_000)
    async with FakeRedis(clock=lambda: 1e9) as redis, counting(redis) as one, counting(redis) as other:
        first = await one.admit(bob)
        first.charge(1000, 1e9)
        first.end()
        await one.admit(bob)
        headers = (await other.admit(bob)).headers()

    assert headers["x-ratelimit-remaining-requests"] == "597"
    assert headers["x-ratelimit-remaining-tokens"] == "599000"


async def test_what_others_have_used_is_refused_here_and_costs_nothing_here() -> None:
    """A request that only the shared counts refuse leaves no trace in those of this server."""
    bob = bearer(requests_per_minute=2, concurrent_requests=1)
    async with FakeRedis(clock=lambda: 1e9) as redis, counting(redis) as one, counting(redis) as other:
        held = await one.admit(bob)
        for _ in range(3):
            with pytest.raises(RateLimited, match="requests running"):
                await other.admit(bob)
        held.end()
        (await one.admit(bob)).end()
        with pytest.raises(RateLimited, match="2 requests a minute") as refused:
            await other.admit(bob)
        await redis.stop()
        alone = await other.admit(bob)

    assert refused.value.retry_after_s == 30
    assert alone.headers()["x-ratelimit-remaining-requests"] == "1"


async def test_without_redis_each_server_counts_alone() -> None:
    """Nobody gets an error for it, and the limit holds at each server."""
    bob, redis = bearer(requests_per_minute=2), FakeRedis()
    await redis.start()
    await redis.stop()
    async with counting(redis) as one, counting(redis) as other:
        for rates in (one, other):
            for _ in range(2):
                (await rates.admit(bob)).end()
            with pytest.raises(RateLimited):
                await rates.admit(bob)
            assert rates.shared is not None
            assert (rates.shared.is_up, rates.shared.outages) == (False, 1)


async def test_who_has_no_limits_costs_no_look() -> None:
    """A priority is no limit either."""
    async with FakeRedis() as redis, counting(redis) as rates:
        admission = await rates.admit(Principal("bob", limits=KeyLimits(priority="high")))
        admission.charge(100, 0.0)
        admission.end()

    assert redis.commands == []
