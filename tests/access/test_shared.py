"""Counts that several servers share: two of them, and a Redis that is well, slow or dead."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import pytest

from arriero.access.limits import DAY_S, Admission, Limiter, Share, quota_headers
from arriero.access.principal import Principal
from arriero.access.shared_scripts import LEASE_S
from arriero.config.auth import KeyLimits
from arriero.errors import RateLimited

pytest.importorskip("redis", reason="needs the extra redis")
pytest.importorskip("lupa", reason="the double runs the scripts with lupa")

from arriero.access.shared import CLUSTER_RETRY_S, SharedCounts
from arriero.testing.redis import FakeRedis

NOON = 20_000 * DAY_S + DAY_S / 2
PATIENT_S = 5.0
"""A busy machine is no slow Redis."""


class Clock:
    """A time that stands still until it is set."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


def bearer(tenant: str = "bob", **limits: int) -> Principal:
    return Principal(tenant, limits=KeyLimits(**limits))


@asynccontextmanager
async def counting(redis: FakeRedis, timeout_s: float = PATIENT_S) -> AsyncIterator[SharedCounts]:
    """Count as one server does."""
    counts = SharedCounts(redis.url, timeout_s=timeout_s)
    try:
        yield counts
    finally:
        counts.close()
        await counts.wait_closed()


@asynccontextmanager
async def two(clock: Clock) -> AsyncIterator[tuple[SharedCounts, SharedCounts]]:
    """Two servers and their Redis."""
    async with FakeRedis(clock=clock) as redis, counting(redis) as one, counting(redis) as other:
        yield one, other


async def admitted(counts: SharedCounts, principal: Principal) -> Share | None:
    """Return what was drawn, None if the request was refused; nothing else may come of it."""
    try:
        share = await counts.admit(principal)
    except RateLimited:
        return None
    assert share is not None
    return share


async def told(counts: SharedCounts) -> None:
    """Return when Redis knows what was told before."""
    assert await admitted(counts, bearer("somebody else", tokens_per_day=1))


async def test_two_servers_share_a_minutes_worth_of_requests() -> None:
    """Six a minute are six for both together; and one each ten seconds afterwards."""
    clock, bob = Clock(), bearer(requests_per_minute=6)
    async with two(clock) as servers:
        let_in = [await admitted(servers[turn % 2], bob) for turn in range(8)]
        clock.now += 10.1
        later = [await admitted(server, bob) for server in servers]
        clock.now += 10_000
        much_later = [await admitted(servers[turn % 2], bob) for turn in range(8)]

    assert [share is not None for share in let_in] == [True] * 6 + [False] * 2
    assert [share is not None for share in later] == [True, False]
    assert sum(share is not None for share in much_later) == 6


async def test_a_hundred_at_once_do_not_get_more_than_there_is() -> None:
    """Whoever comes first, in all it is the limit: deciding and drawing are one step."""
    bob = bearer(requests_per_minute=30)
    async with two(Clock()) as servers:
        shares = await asyncio.gather(*(admitted(servers[turn % 2], bob) for turn in range(100)))

    assert sum(share is not None for share in shares) == 30


async def test_tokens_that_one_server_counts_hold_at_the_other() -> None:
    """The minute may be overdrawn once; the day's budget lasts until midnight. The wait that is told fits."""
    clock, bob, eve = Clock(), bearer(tokens_per_minute=60), bearer("eve", tokens_per_day=100)
    async with two(clock) as (one, other):
        assert await admitted(one, bob)
        one.charge(bob, 100)
        one.charge(eve, 100)
        await told(one)
        with pytest.raises(RateLimited, match="60 tokens a minute") as minute:
            await other.admit(bob)
        with pytest.raises(RateLimited, match="100 tokens a day") as day:
            await other.admit(eve)
        clock.now += 41
        assert await admitted(other, bob)
        clock.now = NOON + DAY_S / 2
        assert await admitted(other, eve)

    assert (minute.value.retry_after_s, day.value.retry_after_s) == (41, DAY_S / 2)
    assert minute.value.quota["x-ratelimit-remaining-tokens"] == "0"


async def test_a_place_is_taken_for_both_and_given_back_once() -> None:
    """Two at a time in all; the end of one, told twice, frees one."""
    bob = bearer(concurrent_requests=2)
    async with two(Clock()) as (one, other):
        first, second = await admitted(one, bob), await admitted(other, bob)
        assert first
        assert second
        assert not await admitted(one, bob)
        first.end()
        first.end()
        assert await admitted(one, bob)
        assert not await admitted(other, bob)


async def test_the_places_of_a_server_that_died_come_back() -> None:
    """It renews its leases no more, so they end; those of a server that lives stay."""
    clock, bob = Clock(), bearer(concurrent_requests=2)
    async with two(clock) as (dead, alive):
        assert await admitted(dead, bob)
        assert await admitted(alive, bob)
        clock.now += LEASE_S - 1
        assert not await admitted(alive, bob)
        alive._renew_at = 0.0  # the time between two renewals has passed
        await told(alive)
        clock.now += 2
        assert await admitted(alive, bob)
        assert not await admitted(alive, bob)


async def test_who_leaves_while_it_waits_holds_no_place() -> None:
    """A request that is cancelled before Redis has answered gives its place back."""
    bob = bearer(concurrent_requests=1)
    async with FakeRedis(clock=Clock()) as redis, counting(redis) as counts:
        leaving = asyncio.create_task(counts.admit(bob))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])

        assert await admitted(counts, bob)
        assert leaving.cancelled()


async def test_the_script_decides_as_the_limiter_does() -> None:
    """Two hundred random steps of one server: the same are let in, and the same is told of what is left."""
    rng, clock = random.Random(6), Clock()
    bob = bearer(requests_per_minute=7, tokens_per_minute=60, concurrent_requests=3, tokens_per_day=5000)
    limiter, running = Limiter(), list[tuple[Share, Admission]]()
    async with FakeRedis(clock=clock) as redis, counting(redis) as counts:
        for _ in range(200):
            clock.now = round(clock.now + rng.choice([0.0, 0.5, 3.0, 20.0]), 6)
            local, share = admitted_here(limiter, bob, clock.now), await admitted(counts, bob)
            assert (local is None) == (share is None)
            if local and share:
                assert local.headers() == quota_headers(bob.limits, share.usage)
                running.append((share, local))
                tokens = rng.choice([0, 5, 90])
                counts.charge(bob, tokens)
                local.charge(tokens, clock.now)
            if running and rng.random() < 0.7:
                for one in running.pop(rng.randrange(len(running))):
                    one.end()
            await told(counts)


def admitted_here(limiter: Limiter, principal: Principal, now: float) -> Admission | None:
    try:
        return limiter.admit(principal, now)
    except RateLimited:
        return None


async def test_nothing_is_kept_for_ever() -> None:
    """Counts end after two days, leases with the last request."""
    clock = Clock()
    async with FakeRedis(clock=clock) as redis, counting(redis) as counts:
        assert await admitted(counts, bearer(requests_per_minute=1, concurrent_requests=1))
        assert sorted(redis.keys())[:2] == ["arriero:{bob}:counts", "arriero:{bob}:leases"]
        clock.now += 2 * DAY_S
        assert redis.keys() == []


async def test_a_dead_redis_is_asked_once_and_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever asks gets no share, which is no error; when it is back it counts again."""
    bob, redis = bearer(requests_per_minute=1), FakeRedis(clock=Clock())
    async with redis, counting(redis) as counts:
        assert await admitted(counts, bob)
        await redis.stop()
        with caplog.at_level(logging.WARNING, "arriero.access.shared"):
            assert [await counts.admit(bob) for _ in range(5)] == [None] * 5
        assert (counts.is_up, counts.outages, len(caplog.records)) == (False, 1, 1)
        assert "counts alone" in caplog.text

        await redis.start()
        counts._try_at = 0.0  # the second between two trials has passed
        await counts._send()
        assert counts.is_up
        assert not await admitted(counts, bob)


async def test_the_first_connection_may_take_longer() -> None:
    """Whoever asks meanwhile is counted here alone, and draws nothing later; it is no outage."""
    bob = bearer(requests_per_minute=1, concurrent_requests=1)
    async with FakeRedis(clock=Clock()) as redis, counting(redis, timeout_s=0.02) as counts:
        redis.delay_s = 0.05
        assert [await counts.admit(bob) for _ in range(2)] == [None] * 2
        redis.delay_s = 0.0
        counts._timeout_s = PATIENT_S

        assert await admitted(counts, bob)
        assert (counts.is_up, counts.outages) == (True, 0)


async def test_a_slow_redis_is_not_waited_for() -> None:
    """After the time-out the request goes on without it, and the next ones do not even ask."""
    bob = bearer(requests_per_minute=1)
    async with FakeRedis(clock=Clock()) as redis, counting(redis) as counts:
        await told(counts)  # connected
        redis.delay_s, counts._timeout_s = 0.4, 0.02
        began_at = asyncio.get_running_loop().time()
        assert [await counts.admit(bob) for _ in range(5)] == [None] * 5
        took_s = asyncio.get_running_loop().time() - began_at

    assert took_s < 0.4
    assert (counts.is_up, counts.outages) == (False, 1)


@pytest.mark.parametrize("error", ["READONLY You can't write against a read only replica.", "OOM no memory"])
async def test_a_redis_that_refuses_is_as_good_as_none(error: str) -> None:
    """An error of its own is no error of a request. It is asked again over a new connection."""
    async with FakeRedis(clock=Clock()) as redis, counting(redis) as counts:
        redis.refuse_with = error

        assert await counts.admit(bearer(requests_per_minute=1)) is None
        assert not counts.is_up
        redis.refuse_with = None
        before = redis.num_connections
        counts._try_at = 0.0  # the second between two trials has passed
        await counts._send()
        assert (counts.is_up, redis.num_connections) == (True, before + 1)


async def test_a_cluster_is_told_of_and_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """A server that leads to another one for a key is not asked for the others either."""
    async with FakeRedis(clock=Clock()) as redis, counting(redis) as counts:
        redis.refuse_with = "MOVED 4711 127.0.0.1:7001"

        assert await counts.admit(bearer(requests_per_minute=1)) is None
        assert counts._try_at > monotonic() + CLUSTER_RETRY_S - PATIENT_S
    assert "a Redis Cluster is not supported" in caplog.text


@pytest.mark.parametrize(("password", "is_up"), [("sesame", True), ("wrong", False), (None, False)])
async def test_the_password_opens_it(password: str | None, is_up: bool) -> None:
    """With a wrong one, or none, the server counts alone; the log does not tell what was tried."""
    async with FakeRedis(clock=Clock(), password="sesame") as redis:
        counts = SharedCounts(redis.url, password, timeout_s=PATIENT_S)
        share = await counts.admit(bearer(requests_per_minute=1))
        counts.close()
        await counts.wait_closed()

    assert (share is not None, counts.is_up) == (is_up, is_up)
