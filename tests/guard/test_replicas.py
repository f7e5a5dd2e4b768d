"""Several upstreams as one: spreading, failing over, recovering."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing

import pytest
from tests.guard.remote import eventually

from arriero.config.remote import TimeoutsConfig, UpstreamAddress
from arriero.errors import ServiceError, Unavailable
from arriero.guard.balance import FAILURES
from arriero.guard.connection import Unanswered
from arriero.guard.failure import UpstreamFailed, UpstreamTimeout
from arriero.guard.replicas import Replicas
from arriero.guard.upstream import Request, Unreachable
from arriero.testing.upstream import Answer, End, Upstream, whole

ASK = Request(b"POST", b"/v1/x", body=b"{}")
GOOD = whole(b"good")
SILENT = Answer((), End.CLOSE)
STALLED = Answer((), End.STALL)


@asynccontextmanager
async def replicas_of(
    *upstreams: Upstream, health_path: str = "", **timeouts: float
) -> AsyncIterator[Replicas]:
    """Give the upstreams as one, while they serve."""
    async with AsyncExitStack() as stack:
        for upstream in upstreams:
            await stack.enter_async_context(upstream)
        addresses = [UpstreamAddress.parse(upstream.url) for upstream in upstreams]
        replicas = Replicas(addresses, TimeoutsConfig(**timeouts), health_path=health_path)
        stack.push_async_callback(replicas.stop)
        yield replicas


async def got(replicas: Replicas, affinity: bytes | None = None) -> bytes:
    """Return the body of the answer to a request."""
    with closing(await replicas.send(ASK, affinity)) as reply:
        body = b""
        while piece := await reply.piece():
            body += piece
        return body


def counts(*upstreams: Upstream) -> list[int]:
    """Return how many requests each has seen."""
    return [len(upstream.requests) for upstream in upstreams]


async def test_spread() -> None:
    """Requests are spread evenly."""
    ups = [Upstream.of(GOOD) for _ in range(3)]
    async with replicas_of(*ups) as replicas:
        for _ in range(9):
            await got(replicas)

    assert counts(*ups) == [3, 3, 3]


async def test_affinity() -> None:
    """Prompts that begin alike stay at one upstream."""
    ups = [Upstream.of(GOOD) for _ in range(3)]
    async with replicas_of(*ups) as replicas:
        for _ in range(6):
            await got(replicas, b"conversation")

    assert sorted(counts(*ups)) == [0, 0, 6]


@pytest.mark.parametrize(
    "fault", [SILENT, Answer((), End.RESET), whole(b"", 503), whole(b"", 502), whole(b"", 429)]
)
async def test_failover(fault: Answer) -> None:
    """A request whose upstream does not begin to answer goes to another."""
    bad, good = Upstream.of(fault), Upstream.of(GOOD)
    async with replicas_of(bad, good) as replicas:
        assert await got(replicas) == b"good"

    assert counts(bad, good) == [1, 1]


@pytest.mark.parametrize("status", [400, 401, 404, 500, 504])
async def test_answers_that_stay(status: int) -> None:
    """Other statuses are the answer: another upstream would say the same, or do the work twice."""
    bad, good = Upstream.of(whole(b"no", status)), Upstream.of(GOOD)
    async with replicas_of(bad, good) as replicas:
        with closing(await replicas.send(ASK)) as reply:
            assert reply.head.status == status

    assert counts(bad, good) == [1, 0]


async def test_no_failover_after_the_first_byte() -> None:
    """A request whose answer broke off is not asked of another."""
    bad, good = Upstream.of(GOOD.broken_off(9)), Upstream.of(GOOD)
    async with replicas_of(bad, good) as replicas:
        with pytest.raises(UpstreamFailed):
            await got(replicas)

    assert counts(bad, good) == [1, 0]


async def test_no_failover_after_a_wait() -> None:
    """A request that an upstream did not answer in time is not begun elsewhere too."""
    bad, good = Upstream.of(STALLED), Upstream.of(GOOD)
    async with replicas_of(bad, good, first_byte_s=0.05) as replicas:
        with pytest.raises(UpstreamTimeout):
            await got(replicas)

    assert counts(bad, good) == [1, 0]


async def test_all_fail() -> None:
    """When all fail, the last failure is told."""
    ups = [Upstream.of(SILENT) for _ in range(2)]
    async with replicas_of(*ups) as replicas:
        with pytest.raises(Unanswered):
            await got(replicas)

    assert counts(*ups) == [1, 1]


async def test_all_overloaded() -> None:
    """When all are overloaded, the last answer is the answer."""
    ups = [Upstream.of(whole(b"", 503)) for _ in range(2)]
    async with replicas_of(*ups) as replicas:
        with closing(await replicas.send(ASK)) as reply:
            assert reply.head.status == 503

    assert counts(*ups) == [1, 1]


async def test_circuit() -> None:
    """An upstream that fails again and again is left alone."""
    bad, good = Upstream.of(SILENT), Upstream.of(GOOD)
    async with replicas_of(bad, good) as replicas:
        for _ in range(20):
            await got(replicas)

    assert counts(bad, good) == [FAILURES, 20]


async def test_all_circuits_open() -> None:
    """When no upstream may be asked, requests are refused at once, to be tried again."""
    only = Upstream.of(SILENT)
    async with replicas_of(only) as replicas:
        for _ in range(FAILURES):
            with pytest.raises(Unanswered):
                await got(replicas)
        with pytest.raises(Unavailable):
            await got(replicas)

    assert counts(only) == [FAILURES]


async def test_recovery() -> None:
    """A good health check lets an upstream that failed be asked again."""
    only = Upstream.of(*[SILENT] * FAILURES, GOOD)
    async with replicas_of(only, health_path="/health") as replicas:
        for _ in range(FAILURES):
            with pytest.raises(ServiceError):
                await got(replicas)

        assert await replicas.is_well()
        assert await got(replicas) == b"good"


async def test_unreachable() -> None:
    """An upstream that is not there at all is passed over."""
    gone, good = Upstream.of(GOOD), Upstream.of(GOOD)
    async with good:
        async with gone:
            addresses = [UpstreamAddress.parse(upstream.url) for upstream in (gone, good)]
        replicas = Replicas(addresses, TimeoutsConfig(), health_path="")
        assert await got(replicas) == b"good"
        await replicas.stop()
    with pytest.raises(Unreachable):
        await got(Replicas(addresses[:1], TimeoutsConfig(), health_path=""))


async def test_load_is_given_back() -> None:
    """Whatever becomes of a request, it leaves its upstream."""
    up = Upstream.of(GOOD, SILENT, GOOD.broken_off(60), GOOD, STALLED)
    async with replicas_of(up) as replicas:
        await got(replicas)
        with pytest.raises(UpstreamFailed):
            await got(replicas)
        reply = await replicas.send(ASK)
        assert replicas.num_running == 1
        reply.close()
        reply.close()
        job = asyncio.create_task(got(replicas))
        await eventually(lambda: replicas.num_running == 1)
        job.cancel()
        await asyncio.wait([job])

        assert replicas.num_running == 0
        await eventually(lambda: replicas.num_connections == 0)
