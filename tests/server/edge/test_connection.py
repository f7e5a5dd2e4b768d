"""One connection, in bytes: order, framing, refusals, deadlines."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.server.edge.raw import (
    answer_to,
    connected,
    direct_echo,
    echo,
    echoed,
    request,
    timed,
    turns,
)

from arriero.server.edge.limits import Limits
from arriero.testing.serving import served

if TYPE_CHECKING:
    from arriero.server.edge.exchange import Exchange

CHUNKS = "transfer-encoding: chunked"
DIRECT = {b"/direct": direct_echo}
CHUNKED = request("/a", CHUNKS, method="POST") + b"2\r\nhi\r\n3;x\r\n ho\r\n0\r\n\r\n"
QUICK = Limits(sweep_s=0.01, header_timeout_s=0.2, keep_alive_timeout_s=0.2, body_grace_s=0.2, linger_s=0.05)

GOOD = [
    (request("/a%20b?c=d"), echoed(b"GET /a b c=d ")),
    (request("/a", method="POST", body=b"hello"), echoed(b"POST /a  hello")),
    (CHUNKED, echoed(b"POST /a  hi ho")),
    (request("/direct", method="POST", body=b"hello"), echoed(b"direct hello")),
    (request("/direct", method="POST"), echoed(b"direct ")),
    (CHUNKED.replace(b"/a", b"/direct"), echoed(b"direct hi ho")),
    (
        CHUNKED.replace(b"/a", b"/direct").replace(b"connection: close\r\n", b"") + request("/b"),
        echoed(b"direct hi ho", closes=False) + echoed(b"GET /b  "),
    ),
    (request("/direct"), echoed(b"GET /direct  ")),
    (b"\r\n" + request("/a"), echoed(b"GET /a  ")),
    (b"POST /a HTTP/1.0\r\ncontent-length: 2\r\n\r\nhi", echoed(b"POST /a  hi")),
    (
        request("/a", method="POST", body=b"1", last=False) + b"\r\n" + request("/b"),
        echoed(b"POST /a  1", closes=False) + echoed(b"GET /b  "),
    ),
]


@pytest.mark.parametrize(("data", "answer"), GOOD)
async def test_any_cut_of_a_request_gives_the_same_answer(data: bytes, answer: bytes) -> None:
    """Whole, in two pieces cut at every byte, and byte by byte."""
    async with served(echo, direct=DIRECT) as url:
        assert await answer_to(url, data) == answer
        assert await answer_to(url, *(data[i : i + 1] for i in range(len(data)))) == answer
        cuts = range(1, len(data))
        answers = await asyncio.gather(*(answer_to(url, data[:cut], data[cut:]) for cut in cuts))
        assert set(answers) == {answer}


BAD = [
    (b"GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
    (request("/", "content-length: 1", CHUNKS, method="POST") + b"0\r\n\r\n", 400, "bad_request"),
    (request("/", "content-length: 1", "content-length: 1", method="POST") + b"x", 400, "bad_request"),
    (b"GET / HTTP/1.1\nhost: a\n\n", 400, "bad_request"),
    (request("/", "transfer-encoding: gzip"), 400, "bad_request"),
    (request("/", "x: a\r\n b"), 400, "bad_request"),
    (request("http://test/"), 400, "bad_request"),
    (b"\x16\x03\x01\x02\x00", 400, "bad_request"),
    (request("/", CHUNKS, method="POST") + b"x\r\n", 400, "bad_request"),
    (request("/direct", CHUNKS, method="POST") + b"2\r\nhixx", 400, "bad_request"),
    (request("/" + "a" * 33000), 414, "target_too_long"),
    (request("/", "expect: more"), 417, "expectation_failed"),
    (request("/", *["a: b"] * 100), 431, "headers_too_large"),
    (request("/", "a: " + "b" * 70000), 431, "headers_too_large"),
    (b"GET / HTTP/1.1\r\na: " + b"b" * 70000, 431, "headers_too_large"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "status", "code"), BAD, ids=[repr(data[:50]) for data, *_ in BAD])
async def test_a_refusal_is_told_and_ends_the_connection(data: bytes, status: int, code: str) -> None:
    """The error object says why; what follows in the same bytes is not served."""
    async with served(echo, QUICK, DIRECT) as url:
        head, _, body = (await answer_to(url, data + request("/smuggled"))).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close" in head
    assert json.loads(body)["error"]["code"] == code


async def test_a_refusal_can_be_traced() -> None:
    """It bears a request id."""
    async with served(echo, QUICK) as url, connected(url) as (reader, writer):
        writer.write(b"nonsense\r\n\r\n")
        assert b"\r\nx-request-id: " in await reader.read()


async def test_pipelined_requests_are_answered_in_order() -> None:
    """Slow and quick, direct and not: no answer overtakes another, all bytes are there."""
    targets = ["/a", "/direct", "/b"] * 30
    data = b"".join(request(target, method="POST", body=b"x", last=False) for target in targets)
    expected = [b"direct x" if target == "/direct" else f"POST {target}  x".encode() for target in targets]
    async with served(echo, direct=DIRECT) as url:
        answer = await answer_to(url, data + request("/end"))

    assert answer == b"".join(echoed(body, closes=False) for body in expected) + echoed(b"GET /end  ")


async def test_a_client_that_pipelines_without_end_is_not_read_without_end() -> None:
    """While one request waits for its answer, only a bounded part of the later ones is taken."""
    go = asyncio.Event()

    async def waiting(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await echo(scope, receive, send)

    more = request("/direct", method="POST", body=b"x" * 1000, last=False)
    async with served(waiting, direct=DIRECT) as url, connected(url) as (reader, writer):
        writer.write(request("/slow", last=False))
        sent = 0
        async with asyncio.timeout(10):
            while writer.transport.get_write_buffer_size() < 1_000_000 and sent < 100_000_000:
                writer.write(more * 100)
                sent += 100 * len(more)
                await turns(1)
            assert sent < 100_000_000
            go.set()
            number = sent // len(more)
            await reader.readuntil(b"GET /slow  ")
            for _ in range(number):
                await reader.readuntil(b"direct " + b"x" * 1000)


async def test_many_direct_answers_in_one_read_do_not_recur() -> None:
    """A thousand small requests in one piece."""
    async with served(echo, direct=DIRECT) as url:
        answer = await answer_to(url, request("/direct", method="POST", last=False) * 1000 + request("/end"))

    assert answer.count(b"HTTP/1.1 200 OK") == 1001


async def test_a_direct_handler_may_hand_a_request_on() -> None:
    """The application gets it whole; so it does with bodies above the bound, however they are framed."""
    seen: list[bytes] = []

    def never(exchange: Exchange) -> bool:
        seen.append(exchange.body)
        return False

    big = b"x" * 11
    chunked = request("/d", CHUNKS, method="POST") + b"b\r\n" + big + b"\r\n0\r\n\r\n"
    async with served(echo, Limits(max_body_bytes=10), {b"/d": never}) as url:
        assert await answer_to(url, request("/d", method="POST", body=b"1234567890")) == echoed(
            b"POST /d  1234567890"
        )
        assert await answer_to(url, request("/d", method="POST", body=big)) == echoed(b"POST /d  " + big)
        assert await answer_to(url, chunked) == echoed(b"POST /d  " + big)
    assert seen == [b"1234567890"]


@pytest.mark.parametrize("target", ["/a", "/direct"])
async def test_expect_continue_is_met_when_the_body_is_wanted(target: str) -> None:
    """The client waits for the line before it sends."""
    head = request(target, "expect: 100-continue", "content-length: 2", method="POST")
    async with served(echo, direct=DIRECT) as url, connected(url) as (reader, writer), asyncio.timeout(10):
        writer.write(head)
        assert await reader.readexactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hi")
        assert (await reader.read()).endswith(b" hi")


async def test_an_answer_to_an_unread_body_is_read_all_the_same() -> None:
    """The client sends on without listening; the answer is not lost, and the connection closes."""

    async def refusing(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": []})
        await send({"type": "http.response.body", "body": b"too large"})

    async with served(refusing) as url, connected(url) as (reader, writer), asyncio.timeout(10):
        writer.write(request("/a", "content-length: 10000000", method="POST", last=False))
        for _ in range(100):
            writer.write(bytes(100_000))
            await writer.drain()
        answer = await reader.read()

    assert b"connection: close" in answer
    assert answer.endswith(b"too large")


async def test_what_follows_a_refusal_is_not_read_for_ever() -> None:
    """After the time to linger the connection closes, though the client sends on."""
    async with served(echo, QUICK) as url, connected(url) as (reader, writer), asyncio.timeout(10):
        writer.write(b"nonsense\r\n\r\n")
        await reader.read()
        with pytest.raises(OSError):
            await written_for_ever(writer)


async def written_for_ever(writer: Any) -> None:
    """Write until the other side does not take it."""
    while True:
        writer.write(b"x")
        await writer.drain()
        await turns(1)


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"", b""),
        (b"\r\n", b""),
        (b"GET / HTTP/1.1\r\nhost", b"HTTP/1.1 408 "),
        (request("/a", "content-length: 5", method="POST") + b"hell", b"HTTP/1.1 408 "),
        (request("/direct", "content-length: 5", method="POST") + b"hell", b"HTTP/1.1 408 "),
        (request("/direct", CHUNKS, method="POST") + b"5\r\nhell", b"HTTP/1.1 408 "),
    ],
)
async def test_what_does_not_come_in_time_ends_the_connection(data: bytes, answer: bytes) -> None:
    """A silent connection closes without a word, half a request with 408."""
    async with served(echo, QUICK, DIRECT) as url:
        assert (await answer_to(url, data))[:13] == answer


async def test_a_byte_now_and_then_does_not_extend_the_deadline() -> None:
    """The headers have one deadline, and a body must keep its rate."""
    for start in (b"GET / HTTP/1.1\r\nx: ", request("/a", "content-length: 99999", method="POST")):
        async with (
            served(echo, QUICK, DIRECT) as url,
            connected(url) as (reader, writer),
            asyncio.timeout(10),
        ):
            writer.write(start)
            answer = b""
            while not answer:
                writer.write(b"x")
                try:
                    answer = await asyncio.wait_for(reader.read(100), 0.01)
                except TimeoutError:
                    continue
            assert answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(("requests_before", "silent_s", "each_s"), [(0, 5, 2.4), (1, 29.9, 4.9)])
async def test_each_head_has_one_deadline(requests_before: int, silent_s: float, each_s: float) -> None:
    """The first from the connection's beginning on, others from their first byte on."""
    limits = Limits(header_timeout_s=10, keep_alive_timeout_s=30)
    async with timed(echo, limits) as edge, connected(edge.url) as (reader, writer), asyncio.timeout(5):
        for _ in range(requests_before):
            writer.write(request("/a", last=False))
            await reader.readuntil(b"GET /a  ")
        await edge.wait(silent_s)
        for piece in (b"GET", b" / HT"):
            writer.write(piece)
            await edge.wait(each_s)
        assert edge.edge.num_connections == 1

        writer.write(b"TP")
        await edge.wait(0.3)
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")


async def test_a_connection_without_a_request_has_its_time() -> None:
    """All of it after an answer, and no more."""
    async with timed(echo) as edge, connected(edge.url) as (reader, writer), asyncio.timeout(5):
        writer.write(request("/a", last=False))
        await reader.readuntil(b"GET /a  ")
        await edge.wait(29.9)
        assert edge.edge.num_connections == 1

        await edge.wait(0.2)
        assert await reader.read() == b""


async def test_a_refusal_waits_for_its_reader() -> None:
    """Until the time to linger is over, and no longer."""
    async with timed(echo) as edge, connected(edge.url) as (reader, writer), asyncio.timeout(5):
        writer.write(b"nonsense\r\n\r\n")
        await reader.readuntil(b"HTTP/1.1 400 ")
        await edge.wait(0.9)
        assert edge.edge.num_connections == 1

        await edge.wait(0.2)
        assert edge.edge.num_connections == 0


async def test_a_body_that_comes_unasked_is_not_asked_for() -> None:
    """Once a part of it has come, the line to go on would only confuse."""
    async with served(echo) as url:
        head = request("/a", "expect: 100-continue", "content-length: 4", method="POST")
        assert await answer_to(url, head + b"hi", b"ho") == echoed(b"POST /a  hiho")


async def test_an_application_that_reads_slowly_is_not_the_clients_fault() -> None:
    """The time in which nobody takes the body does not count against its rate."""
    go = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await echo(scope, receive, send)

    body = b"x" * 1_000_000
    async with served(slow, QUICK) as url, connected(url) as (reader, writer), asyncio.timeout(10):
        writer.write(request("/a", method="POST", body=body))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.5)
        go.set()
        answer = await reader.read()

    assert answer.endswith(body)


async def test_a_connection_without_a_request_is_closed() -> None:
    """It may be used again before."""
    async with served(echo, QUICK) as url, connected(url) as (reader, writer), asyncio.timeout(10):
        for _ in range(2):
            writer.write(request("/a", last=False))
            await reader.readuntil(b"GET /a  ")

        assert await reader.read() == b""


async def test_bodies_are_bounded_together() -> None:
    """A request above the sum is refused to be tried again; when others have ended, it is served."""
    limits = Limits(max_held_body_bytes=100, linger_s=0.05)
    async with served(echo, limits, DIRECT) as url, connected(url) as (_, writer):
        writer.write(request("/direct", "content-length: 90", method="POST") + b"x" * 80)
        await turns(10)
        refused = await answer_to(url, request("/a", method="POST", body=b"y" * 21))
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in refused
        writer.transport.abort()
        await turns(10)
        assert await answer_to(url, request("/a", method="POST", body=b"y" * 90)) == echoed(
            b"POST /a  " + b"y" * 90
        )
