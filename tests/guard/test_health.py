"""What is found out about upstreams by asking them how they are."""

from __future__ import annotations

import asyncio

import pytest
from tests.guard.remote import client_of, eventually

from arriero.guard.balance import FAILURES, Circuit
from arriero.guard.health import Health
from arriero.testing.upstream import Answer, End, Upstream, whole

GOOD = whole(b"")


@pytest.mark.parametrize(
    ("answer", "is_well"),
    [
        (GOOD, True),
        (whole(b"no such path", 404), True),
        (whole(b"who are you", 401), True),
        (whole(b"x" * 100_000), True),
        (whole(b"", 503), False),
        (Answer((), End.CLOSE), False),
        (Answer((b"garbage",), End.CLOSE), False),
    ],
)
async def test_answers(answer: Answer, is_well: bool) -> None:
    """An upstream that answers is well, unless it says that it cannot serve."""
    async with Upstream.of(GOOD, health=answer) as upstream:
        client = client_of(upstream)
        found = Health("/health", [(client, Circuit(lambda: 0.0))])

        assert await found.is_well() is is_well
        client.close()


async def test_silence() -> None:
    """An upstream that says nothing is given up in time."""
    async with Upstream.of(GOOD, health=Answer((), End.STALL)) as upstream:
        client = client_of(upstream)
        found = Health("/health", [(client, Circuit(lambda: 0.0))], within_s=0.05)

        assert not await found.is_well()
        client.close()


async def test_one_is_enough() -> None:
    """A model is well while one of its upstreams is."""
    async with Upstream.of(GOOD, health=whole(b"", 503)) as bad, Upstream.of(GOOD) as good:
        clients = [client_of(bad), client_of(good)]
        found = Health("/health", [(client, Circuit(lambda: 0.0)) for client in clients])

        assert await found.is_well()
        for client in clients:
            client.close()


async def test_asked_at_once() -> None:
    """Whoever asks at the same time, or shortly after, shares one check."""
    async with Upstream.of(GOOD) as upstream:
        client = client_of(upstream)
        found = Health("/health", [(client, Circuit(lambda: 0.0))])
        await asyncio.gather(*(found.is_well() for _ in range(20)))
        await found.is_well()
        client.close()

        assert upstream.health_checks == 1


async def test_without_a_path() -> None:
    """Where there is nothing to ask, what requests have met decides."""
    async with Upstream.of(GOOD) as upstream:
        circuit = Circuit(lambda: 0.0)
        found = Health("", [(client_of(upstream), circuit)])
        assert await found.is_well()

        for _ in range(FAILURES):
            circuit.fail()

        assert not await found.is_well()
        assert upstream.health_checks == 0


async def test_background() -> None:
    """In the background upstreams are asked again and again, until that is stopped."""
    async with Upstream.of(GOOD, health=whole(b"", 503)) as upstream:
        client, circuit = client_of(upstream), Circuit(lambda: 0.0)
        watching = Health("/health", [(client, circuit)], every_s=0.01, fresh_s=0)
        watching.start()
        await eventually(lambda: not circuit.is_closed)
        await watching.stop()
        client.close()

        assert upstream.health_checks == FAILURES


async def test_the_operator_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """The log says why an upstream cannot serve when that begins, and that it serves when it does again."""
    async with Upstream.of(GOOD, health=whole(b"", 503)) as upstream:
        client = client_of(upstream)
        found = Health("/health", [(client, Circuit(lambda: 0.0))], fresh_s=-1)
        await found.is_well()
        await found.is_well()
        upstream.health = GOOD
        await found.is_well()
        client.close()

    assert caplog.messages == [
        f"the upstream {upstream.url} cannot serve: its health is status 503",
        f"the upstream {upstream.url} serves again",
    ]


async def test_the_operator_is_told_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    """Where nobody listens the log has the system's own words, which no caller sees."""
    async with Upstream.of(GOOD) as upstream:
        pass
    client = client_of(upstream)

    assert not await Health("/health", [(client, Circuit(lambda: 0.0))]).is_well()
    (message,) = caplog.messages
    assert message.startswith(f"the upstream {upstream.url} cannot serve: ")
    assert "refused" in message.lower() or "connect call failed" in message.lower()
