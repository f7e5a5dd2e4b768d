"""Connections that come and go in every way, and requests that come all at once."""

from __future__ import annotations

import asyncio
import random
import re
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.abuse.subject import Subject, eventually, post, scaled

if TYPE_CHECKING:
    from tests.abuse.figures import Figures

CONNECTIONS = 100_000
WARM = 2_000
MOST_BYTES_EACH = 20
"""Of memory that stays, for each connection: one object that leaks is larger."""
SLACK_BYTES = 2**19
PIPELINED = 1_000
RESET = struct.pack("ii", 1, 0)
COMPLETION = post("/v1/completions", msgspec.json.encode({"model": "m", "prompt": "a", "max_tokens": 1}))
STREAM = post(
    "/v1/completions",
    msgspec.json.encode({"model": "m", "prompt": "a", "max_tokens": 50, "stream": True}),
)
LIVEZ = b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n"
SENT = [b"", b"G", LIVEZ[:-2], LIVEZ, COMPLETION[:-5], COMPLETION, STREAM, LIVEZ + STREAM + COMPLETION[:9]]


def come_and_go(subject: Subject, number: int, rng: random.Random) -> None:
    """Open connections, say all or half of something, and leave in one of four ways."""
    for _ in range(number):
        connection = subject.connect()
        connection.sendall(rng.choice(SENT))
        match rng.randrange(4):
            case 0:  # the close tells the server at once, with what it has said unread
                pass
            case 1:
                connection.shutdown(socket.SHUT_WR)
            case 2:
                connection.settimeout(0.001)
                with suppress(TimeoutError):
                    connection.recv(100)
            case _:
                connection.shutdown(socket.SHUT_RD)
        # Without it the ports of this machine would be used up.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.close()


@pytest.mark.slow
async def test_connections_come_and_go(subject: Subject, figures: Figures) -> None:
    """Nothing is left of a hundred thousand: no socket, no answer that runs, hardly any memory."""
    rng = random.Random(13)
    number = scaled(CONNECTIONS)
    come_and_go(subject, WARM, rng)
    eventually(lambda: subject.num_sockets() < 100)
    sockets, before, cpu = subject.num_sockets(), subject.resident_bytes(), subject.cpu_s()
    come_and_go(subject, number // 2, rng)
    halfway = subject.resident_bytes()
    come_and_go(subject, number - number // 2, rng)
    closing_s = eventually(lambda: subject.num_sockets() <= sockets)
    grown = subject.resident_bytes() - before
    later = before + grown - halfway
    await wait_idle(subject)

    figures.tell(
        "connections that come and go",
        connections=number,
        closed_in_s=closing_s,
        KiB_grown=grown / 1024,
        KiB_of_it_in_the_second_half=later / 1024,
        server_cpu_ms_each=(subject.cpu_s() - cpu) / number * 1e3,
    )
    assert grown < MOST_BYTES_EACH * number + 2**20
    assert later < number // 2 + SLACK_BYTES, "more than 1 KiB for each thousand"


async def wait_idle(subject: Subject) -> None:
    """Look until the model does nothing for anybody."""
    async with subject.client() as client, asyncio.timeout(10):
        while (await client.get("/v1/stats")).json()["engine"]["m"]["running"]:
            pass


def asked(number: int) -> bytes:
    """Return one of three kinds of requests, with its number as its id."""
    kind = (LIVEZ, COMPLETION, b"GET /v1/models/nobody HTTP/1.1\r\nhost: a\r\n\r\n")[number % 3]
    line, _, rest = kind.partition(b"\r\n")
    return line + b"\r\nx-request-id: number-%d\r\n" % number + rest


@pytest.mark.slow
@pytest.mark.parametrize("piece", [7, 1400, 2**20])
async def test_a_thousand_requests_at_once(subject: Subject, figures: Figures, piece: int) -> None:
    """Sent without waiting, in whatever pieces, each is answered, in the order of the requests."""
    sockets = subject.num_sockets()
    reader, writer = await asyncio.open_connection(*subject.address)
    last = b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-request-id: last\r\n\r\n"
    requests = b"".join(asked(number) for number in range(PIPELINED)) + last

    async def send() -> None:
        for begin in range(0, len(requests), piece):
            writer.write(requests[begin : begin + piece])
            await writer.drain()

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(send())
        answers = await reader.read()
    writer.close()

    ids = re.findall(rb"\r\nx-request-id: ([\w-]+)\r\n", answers)
    figures.tell(f"pipelined in pieces of {piece} bytes", answers=len(ids))
    assert ids == [b"number-%d" % number for number in range(PIPELINED)] + [b"last"]
    assert answers.count(b"HTTP/1.1 200 ") + answers.count(b"HTTP/1.1 401 ") == len(ids)
    eventually(lambda: subject.num_sockets() <= sockets)
