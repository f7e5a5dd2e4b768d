"""What is read without the parser is what the parser would have read, and never more."""

from __future__ import annotations

import asyncio
import random
from typing import Any, cast

import pytest

from arriero.config.remote import TimeoutsConfig
from arriero.guard.connection import Connection
from arriero.guard.scan import Heads, whole_chunk

OK = b"HTTP/1.1 200 OK\r\n"
JSON = b"content-type: application/json\r\n"
LENGTH = b"content-length: 4\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
HEADS = [
    OK + JSON + LENGTH,
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\n" + LENGTH,
    b"HTTP/1.1 200 OK\r\nServer: uvicorn (a; b)\r\nContent-Length:4\r\nConnection: Keep-Alive\r\n",
    OK + b"connection: close\r\n" + LENGTH,
    OK + LENGTH + LENGTH,
    OK + LENGTH + CHUNKED,
    OK + b"content-length: 04\r\n",
    OK + b"content-length: +4\r\n",
    OK + b"content-length: 4 \r\n",
    OK + b"content-length : 4\r\n",
    OK + b"content-length: 4\r\n x\r\n",
    OK + b"content-length: 4\n",
    OK + b"x:\r\n" + LENGTH,
    OK + b"x: \x80\r\n" + LENGTH,
    OK + b"x: a\x00b\r\n" + LENGTH,
    OK + b"upgrade: x\r\nconnection: upgrade\r\n" + LENGTH,
    OK + JSON,
    OK,
    OK + b"x: a\r\n" * 130 + LENGTH,
    OK + b"".join(b"x-%d: a\r\n" % n for n in range(130)) + LENGTH,
    b"HTTP/1.0 200 OK\r\n" + LENGTH,
    b"HTTP/1.1 204 No Content\r\n" + LENGTH,
    b"HTTP/1.1 304 Not Modified\r\n" + LENGTH,
    b"HTTP/1.1 100 Continue\r\n" + LENGTH,
    b"HTTP/1.1 200\r\n" + LENGTH,
    b"HTTP/1.1  200 OK\r\n" + LENGTH,
    b"HTTP/1.2 200 OK\r\n" + LENGTH,
]
BODIES = [b"good", b"goo", b"good!", b""]
STREAM = (
    OK + CHUNKED + b"\r\n5\r\n12345\r\n3\r\nabc\r\n1a\r\n" + b"x" * 26 + b"\r\n6\r\n5\r\nabc\r\n0\r\n\r\n"
)
STREAMS = [
    STREAM,
    STREAM.replace(b"1a\r\n", b"1A\r\n"),
    STREAM.replace(b"3\r\n", b"3;x=y\r\n"),
    STREAM.replace(b"0\r\n\r\n", b"0\r\nx: y\r\n\r\n"),
    STREAM.replace(b"3\r\nabc\r\n", b"03\r\nabc\r\n"),
    STREAM.replace(b"3\r\nabc\r\n", b"3\r\nabcd\r\n"),
    STREAM.replace(b"3\r\nabc\r\n", b"+3\r\nabc\r\n"),
    STREAM + b"3\r\nabc\r\n",
]


class Transport(asyncio.Transport):
    """A transport without a socket."""

    is_cut = False

    def write(self, data: Any) -> None: ...
    def is_closing(self) -> bool:
        return self.is_cut

    def abort(self) -> None:
        self.is_cut = True


class Told:
    """A sink that writes down what it is told."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Any = None
        self.body = b""
        self.end = ""

    def take_whole(self, head: Any, body: bytes) -> None:
        self.take_head(head)
        self.take_piece(body)
        self.take_end()

    def take_head(self, head: Any) -> None:
        self.status, self.headers = head.status, head.headers

    def take_piece(self, piece: bytes) -> None:
        self.body += piece

    def take_end(self) -> None:
        self.end = "end"

    def take_failure(self, failure: Exception) -> None:
        self.end = "failure"

    def all(self) -> tuple[int, Any, bytes, str]:
        """Return all that was told."""
        return self.status, self.headers, self.body, self.end


async def told(*pieces: bytes, heads: Heads | None = None) -> tuple[Any, bool]:
    """Return what a connection tells of these reads, and whether it is kept."""
    kept: list[Connection] = []
    connection = Connection(TimeoutsConfig(), idle_s=1, freed=kept.append, lost=lambda _: None, heads=heads)
    transport, sink = Transport(), Told()
    connection.connection_made(transport)
    connection.request(b"", cast("Any", sink))
    for piece in pieces:
        connection.data_received(piece)
        if transport.is_cut or kept:
            break
    connection.connection_lost(None)
    return sink.all(), bool(kept)


def byte_by_byte(data: bytes) -> list[bytes]:
    """Return pieces that no fast form can take."""
    return [data[:1], data[1:]]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("body", BODIES)
async def test_whole_answers(head: bytes, body: bytes) -> None:
    """An answer in one read is told as one in two, which only the parser reads."""
    data = head + b"\r\n" + body

    assert await told(data) == await told(*byte_by_byte(data))


async def test_mutated_answers() -> None:
    """Whatever bytes of an answer are changed, both ways read the same, also after others like it."""
    random.seed(8)
    heads = Heads()
    for head in HEADS[:3]:
        heads.whole_answer(head.replace(b"4", b"2") + b"\r\nok")
    for _ in range(1500):
        data = bytearray(random.choice(HEADS[:3]) + b"\r\ngood")
        for _ in range(random.randint(1, 3)):
            place = random.randrange(len(data))
            data[place : place + random.randint(0, 2)] = random.choice(
                (b"", b"\r\n", b" ", b":", b"4", b"\t", b"\xff")
            )

        assert await told(bytes(data), heads=heads) == await told(*byte_by_byte(bytes(data))), bytes(data)


@pytest.mark.parametrize("stream", STREAMS)
async def test_chunks_at_any_cut(stream: bytes) -> None:
    """A chunked answer is told the same wherever reads cut it, also where one of them is a whole chunk."""
    expected = await told(*(stream[at : at + 1] for at in range(len(stream))))
    start = stream.index(b"\r\n\r\n") + 4
    for first in range(start - 1, len(stream)):
        for second in range(first, len(stream)):
            cut = (stream[:first], stream[first:second], stream[second:])
            result = await told(*filter(None, cut))

            assert (result[0][0], result[0][2:]) == (expected[0][0], expected[0][2:]), cut


def test_whole_chunk() -> None:
    """Only one whole chunk in the shortest spelling is taken."""
    assert whole_chunk(b"3\r\nabc\r\n") == b"abc"
    assert whole_chunk(b"1a\r\n" + b"x" * 26 + b"\r\n") == b"x" * 26
    refused = [
        b"", b"3\r\nabc", b"3\r\nab\r\n", b"3\r\nabcd\r\n", b"03\r\nabc\r\n", b"3;x\r\nabc\r\n", b"0\r\n\r\n",
        b"3\r\nabc\r\n0\r\n\r\n", b"\r\nabc\r\n", b" 3\r\nabc\r\n", b"1A\r\n" + b"x" * 26 + b"\r\n",
    ]  # fmt: skip
    assert [whole_chunk(data) for data in refused] == [None] * len(refused)


def test_usual_answers_are_taken() -> None:
    """The answers of the usual servers need no parser."""
    heads = Heads()

    taken = [heads.whole_answer(head + b"\r\ngood") is not None for head in HEADS[:4]]

    assert taken == [True, True, True, False]
