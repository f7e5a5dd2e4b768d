"""The framing of answers, their deadlines and their readers, over real sockets."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest
from tests.guard.remote import client_of, eventually

from arriero.guard.connection import MAX_HEADERS
from arriero.guard.failure import UpstreamFailed, UpstreamTimeout
from arriero.guard.reading import HIGH_WATER_BYTES
from arriero.guard.upstream import Request
from arriero.guard.upstream import Upstream as Client
from arriero.testing.upstream import Answer, End, Upstream, chunk, chunked, whole

ASK = Request(b"POST", b"/v1/x", body=b"{}")
GOOD = whole(b"good")
HEAD = b"HTTP/1.1 200 OK\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"


async def got(client: Client) -> bytes:
    """Return the body of the answer to a request."""
    with closing(await client.send(ASK)) as answer:
        return await answer.whole(1 << 24)


@pytest.mark.parametrize(
    "answer", [whole(b"one answer"), chunked(b"one", b" answer")], ids=["length", "chunked"]
)
async def test_any_cut(answer: Answer) -> None:
    """An answer is the same wherever TCP cuts it, and its connection is kept."""
    cuts = [answer.cut(place) for place in range(1, len(answer.bytes))]
    async with Upstream.of(*cuts) as upstream:
        with closing(client_of(upstream)) as client:
            for _ in cuts:
                assert await got(client) == b"one answer"

        assert upstream.connections == 1


async def test_byte_by_byte() -> None:
    """An answer may come in single bytes."""
    answer = chunked(b"one", b" answer")
    async with Upstream.of(answer.cut(*range(1, len(answer.bytes)))) as upstream:
        with closing(client_of(upstream)) as client:
            assert await got(client) == b"one answer"


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (Answer((HEAD + b"\r\nuntil the end",), End.CLOSE), b"until the end"),
        (Answer((INTERIM + GOOD.bytes,)), b"good"),
        (Answer((INTERIM, INTERIM, GOOD.bytes)), b"good"),
        (Answer((INTERIM.replace(b"100", b"199") + GOOD.bytes,)), b"good"),
        (whole(b"", 204), b""),
    ],
    ids=["no length", "interim", "interims", "unknown interim", "no content"],
)
async def test_framing(answer: Answer, body: bytes) -> None:
    """A body ends where its framing says, or with the connection if it says nothing."""
    async with Upstream.of(answer) as upstream:
        with closing(client_of(upstream)) as client:
            assert await got(client) == body


FAULTS = {
    "garbage": b"\x00\xff garbage\r\n\r\n",
    "another protocol": b"SSH-2.0-x\r\n",
    "both framings": HEAD + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": HEAD + b"content-length: 4\r\ncontent-length: 5\r\n\r\ngood!",
    "negative length": HEAD + b"content-length: -4\r\n\r\ngood",
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-length: 4\n\ngood",
    "blank before colon": HEAD + b"content-length : 4\r\n\r\ngood",
    "folded header": HEAD + b"x: a\r\n b\r\ncontent-length: 4\r\n\r\ngood",
    "no chunk size": HEAD + b"transfer-encoding: chunked\r\n\r\nx\r\n\r\n",
    "signed chunk size": HEAD + b"transfer-encoding: chunked\r\n\r\n+4\r\ngood\r\n0\r\n\r\n",
    "prefixed chunk size": HEAD + b"transfer-encoding: chunked\r\n\r\n0x4\r\ngood\r\n0\r\n\r\n",
    "huge chunk size": HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"f" * 17 + b"\r\n",
    "chunk too long": HEAD + b"transfer-encoding: chunked\r\n\r\n4\r\ngood!\r\n0\r\n\r\n",
    "switching": b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    "endless interims": INTERIM * 4000,
    "endless header": HEAD + b"x: " + b"a" * 400_000,
    "endless headers": HEAD + b"x: a\r\n" * 60_000,
    "too many headers": HEAD + b"x: a\r\n" * MAX_HEADERS + b"content-length: 4\r\n\r\ngood",
    "endless extension": HEAD + b"transfer-encoding: chunked\r\n\r\n4;" + b"x" * 600_000,
    "endless trailer": HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\nx: " + b"a" * 600_000,
    "cut in the head": HEAD + b"content-le",
    "cut in the body": HEAD + b"content-length: 5\r\n\r\ngood",
    "cut in a chunk": HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\ngood",
    "cut before the last chunk": HEAD + b"transfer-encoding: chunked\r\n\r\n4\r\ngood\r\n",
}


@pytest.mark.parametrize("data", FAULTS.values(), ids=FAULTS.keys())
async def test_fault(data: bytes) -> None:
    """An answer whose framing is wrong, endless or cut off is a failure, never an answer."""
    async with Upstream.of(Answer((data,), End.CLOSE)) as upstream:
        with closing(client_of(upstream)) as client:
            with pytest.raises(UpstreamFailed):
                await got(client)
            await eventually(lambda: client.num_connections == 0)


async def test_more_than_the_answer() -> None:
    """What follows an answer is never read as another's, not even a part of a head."""
    async with Upstream.of(Answer((GOOD.bytes + b"HTTP/1.1 2",)), whole(b"other")) as upstream:
        with closing(client_of(upstream)) as client:
            assert [await got(client), await got(client)] == [b"good", b"other"]

        assert upstream.connections == 2


async def test_what_comes_unasked() -> None:
    """Bytes on a connection that waits for its next request close it."""
    held = asyncio.Event()
    async with Upstream.of(Answer((GOOD.bytes, held, GOOD.bytes))) as upstream:
        with closing(client_of(upstream, kept_s=60)) as client:
            assert await got(client) == b"good"
            held.set()

            await eventually(lambda: client.num_connections == 0)


async def test_too_long() -> None:
    """A body over the reader's bound is a failure, and its connection is gone."""
    async with Upstream.of(whole(b"x" * 100)) as upstream:
        with closing(client_of(upstream)) as client:
            with closing(await client.send(ASK)) as answer, pytest.raises(UpstreamFailed, match="99 bytes"):
                await answer.whole(99)
            with closing(await client.send(ASK)) as answer:
                assert len(await answer.whole(100)) == 100


@pytest.mark.parametrize(
    ("answer", "timeouts"),
    [
        (Answer((), End.STALL), {"first_byte_s": 0.05}),
        (Answer((HEAD,), End.STALL), {"idle_s": 0.05}),
        (Answer((GOOD.bytes[:-1],), End.STALL), {"idle_s": 0.05}),
        (Answer((HEAD + b"\r\n",), flood=b"x"), {"total_s": 0.1}),
    ],
    ids=["first byte", "rest of the head", "idle", "total"],
)
async def test_timeout(answer: Answer, timeouts: dict[str, float]) -> None:
    """Silence is borne for as long as its time-out says, and the connection is cut then."""
    async with Upstream.of(answer) as upstream:
        with closing(client_of(upstream, **timeouts)) as client:
            with pytest.raises(UpstreamTimeout):
                await got(client)
            await eventually(lambda: client.num_connections == 0)


async def test_slow_head() -> None:
    """A head that comes byte by byte has one idle time in all."""
    head = HEAD + b"x: " + b"a" * 1000
    async with Upstream.of(Answer((head[:20],), flood=b"a")) as upstream:
        with closing(client_of(upstream, idle_s=0.05)) as client, pytest.raises(UpstreamTimeout):
            await got(client)


async def test_active_answer_is_not_cut() -> None:
    """An answer that flows goes on for far longer than the idle time."""
    loop = asyncio.get_running_loop()
    gates = [asyncio.Event() for _ in range(8)]
    parts = [part for index, gate in enumerate(gates) for part in (gate, chunk(b"%d" % index))]
    head = HEAD + b"transfer-encoding: chunked\r\n\r\n"
    async with Upstream.of(Answer((head, *parts, chunk(b"")))) as upstream:
        with closing(client_of(upstream, idle_s=0.15)) as client:
            for index, gate in enumerate(gates):
                loop.call_later(0.05 * (index + 1), gate.set)

            assert await got(client) == b"01234567"


async def test_slow_reader() -> None:
    """A reader that does not read stops the upstream; what waits for it is bounded; it may go on later."""
    piece = b"x" * 65536
    async with Upstream.of(Answer((HEAD + b"\r\n",), flood=piece)) as upstream:
        with closing(client_of(upstream, idle_s=0.2)) as client:
            with closing(await client.send(ASK)) as answer:
                await eventually(lambda: answer._size > HIGH_WATER_BYTES)
                waiting = answer._size
                await stands_still(upstream)

                assert answer._size == waiting < 3 * HIGH_WATER_BYTES
                before = upstream.sent_bytes
                for _ in range(200):
                    await answer.piece()
                assert upstream.sent_bytes > before
            await asyncio.wait_for(upstream.gone.wait(), 1)


async def stands_still(upstream: Upstream) -> None:
    """Wait until the sockets are full and the upstream has not sent for a while, longer than an idle time."""
    loop = asyncio.get_running_loop()
    seen, since = -1, loop.time()
    while loop.time() - since < 0.3:
        if upstream.sent_bytes != seen:
            seen, since = upstream.sent_bytes, loop.time()
        await asyncio.sleep(0.01)


async def test_pause_at_the_end() -> None:
    """A connection that was paused in the last read of an answer serves the next request."""
    big = whole(b"x" * (HIGH_WATER_BYTES + 100_000))
    async with Upstream.of(big, GOOD) as upstream:
        with closing(client_of(upstream)) as client:
            with closing(await client.send(ASK)) as answer:
                await eventually(lambda: answer._is_complete or client._open.copy().pop()._is_paused)
                assert len(await answer.whole(1 << 20)) == HIGH_WATER_BYTES + 100_000
            assert await asyncio.wait_for(got(client), 1) == b"good"

        assert upstream.connections == 1


async def test_silence_after_a_pause_is_noticed() -> None:
    """A reader that has caught up waits no longer than others for what comes next."""
    head = HEAD + b"content-length: 999999\r\n\r\n"
    async with Upstream.of(Answer((head, b"x" * (HIGH_WATER_BYTES + 1)), End.STALL)) as upstream:
        with closing(client_of(upstream, idle_s=0.05)) as client, closing(await client.send(ASK)) as answer:
            await eventually(lambda: client._open.copy().pop()._is_paused)
            assert len(await answer.piece()) == HIGH_WATER_BYTES + 1
            with pytest.raises(UpstreamTimeout):
                await asyncio.wait_for(answer.piece(), 3)


async def test_closed_in_the_middle() -> None:
    """An answer that is closed before its end closes the connection at once."""
    async with Upstream.of(Answer((GOOD.bytes[:-1],), End.STALL)) as upstream:
        with closing(client_of(upstream)) as client:
            with closing(await client.send(ASK)) as answer:
                await answer.piece()
            await asyncio.wait_for(upstream.gone.wait(), 1)


async def test_finished() -> None:
    """An answer that is let go of before its framing has ended gives its connection back all the same."""
    held = asyncio.Event()
    end = chunked(b"last word").parts
    async with Upstream.of(Answer((*end[:-1], held, end[-1])), GOOD) as upstream:
        with closing(client_of(upstream)) as client:
            answer = await client.send(ASK)
            assert await answer.piece() == b"last word"
            answer.finish()
            held.set()
            await eventually(lambda: bool(client._idle))

            assert await got(client) == b"good"
        assert upstream.connections == 1


async def test_finished_but_not_silent() -> None:
    """More of a body that was said to have ended closes the connection."""
    held = asyncio.Event()
    parts = chunked(b"last word", b"more").parts
    async with Upstream.of(Answer((*parts[:2], held, *parts[2:]), End.STALL)) as upstream:
        with closing(client_of(upstream)) as client:
            answer = await client.send(ASK)
            assert await answer.piece() == b"last word"
            answer.finish()
            held.set()

            await asyncio.wait_for(upstream.gone.wait(), 1)


async def test_what_came_before_a_failure() -> None:
    """The reader gets what came before a connection broke, then the failure."""
    head_and_first = chunked(b"first", b"second").parts[:2]
    async with Upstream.of(Answer(head_and_first, End.CLOSE)) as upstream:
        with closing(client_of(upstream)) as client, closing(await client.send(ASK)) as reading:
            await eventually(lambda: reading._failure is not None)

            assert await reading.piece() == b"first"
            with pytest.raises(UpstreamFailed, match="broke off"):
                await reading.piece()
