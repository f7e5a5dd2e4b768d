"""Requests that are too large, too many-parted or compressed: refused early, and nothing of them is kept."""

from __future__ import annotations

import gzip
import select
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.abuse.subject import DEADLINE_S, KEY, Subject, eventually, scaled

if TYPE_CHECKING:
    from tests.abuse.figures import Figures

GIB = 2**30
MIB = 2**20
PIECE = 64 * 1024
EACH_WAY = 8
MOST_GROWTH = 24 * MIB
"""Half of it are bodies up to their limit, of 4 MiB, and what the allocator keeps of them."""
LONGEST_S = 10.0
PATHS = [b"/v1/completions", b"/v1/tokenize"]
"""A direct handler's, and one of the application."""
AUTH = f"authorization: Bearer {KEY}\r\ncontent-type: application/json\r\n".encode()
BOMB_SIZE = 64 * MIB
MOST_CPU_S_EACH_MIB = 1.0
"""A chunk for each byte takes half of it."""


@dataclass
class Poured:
    """What became of a flood. sent: bytes that the server's side took."""

    answer: bytes
    sent: int
    took_s: float

    @property
    def status(self) -> int:
        return int(self.answer.split(b" ", 2)[1]) if self.answer else 0


def poured(subject: Subject, pieces: Iterator[bytes]) -> Poured:
    """Send pieces, reading meanwhile, until there are none or the server closes; then read to the end."""
    started = time.monotonic()
    answer, sent, waiting, is_sending = b"", 0, b"", True
    with subject.connect() as connection:
        connection.setblocking(False)
        while True:
            if is_sending and not waiting:
                waiting = next((piece for piece in pieces if piece), b"")
                is_sending = bool(waiting)
            readable, writable, _ = select.select(
                [connection], [connection] if is_sending else [], [], DEADLINE_S
            )
            assert readable or writable, "neither answered nor closed"
            try:
                if readable:
                    data = connection.recv(PIECE)
                    if not data:
                        break
                    answer += data
                elif writable:
                    count = connection.send(waiting)
                    waiting, sent = waiting[count:], sent + count
            except OSError:
                break
    return Poured(answer, sent, time.monotonic() - started)


def zeros(size: int) -> Iterator[bytes]:
    piece = b"0" * PIECE
    for _ in range(size // PIECE):
        yield piece


def declared(path: bytes, length: int, *headers: bytes) -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"POST %b HTTP/1.1\r\nhost: a\r\n%b%bcontent-length: %d\r\n\r\n" % (path, AUTH, lines, length)


def whole_gib(path: bytes) -> Iterator[bytes]:
    """It is announced, and comes."""
    yield declared(path, GIB)
    yield from zeros(GIB)


def in_chunks(path: bytes) -> Iterator[bytes]:
    """Nobody says how much will come."""
    yield b"POST %b HTTP/1.1\r\nhost: a\r\n%btransfer-encoding: chunked\r\n\r\n" % (path, AUTH)
    for piece in zeros(GIB):
        yield b"%x\r\n%b\r\n" % (len(piece), piece)


def more_than_announced(path: bytes) -> Iterator[bytes]:
    """What follows the body is no request."""
    yield declared(path, 2)
    yield b"{}"
    yield from zeros(GIB)


def after_expect(path: bytes) -> Iterator[bytes]:
    """The client would wait for a word before it sends, and does not."""
    yield declared(path, GIB, b"expect: 100-continue")
    yield from zeros(GIB)


WAYS = {whole_gib: {413}, in_chunks: {413}, more_than_announced: {400, 422}, after_expect: {413}}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_body_of_a_gibibyte_is_refused(subject: Subject, figures: Figures, way: object) -> None:
    """The refusal comes before most of it was sent, the connection closes, and memory does not grow."""
    assert callable(way)
    poured(subject, way(PATHS[0]))
    sockets = subject.num_sockets()
    subject.forget_peak()
    before = subject.resident_bytes()
    seen = [poured(subject, way(path)) for path in PATHS for _ in range(scaled(EACH_WAY))]
    grown = subject.peak_bytes() - before

    figures.tell(
        f"a body of 1 GiB, {way.__name__}",
        requests=len(seen),
        MiB_sent_at_most=max(one.sent for one in seen) / MIB,
        longest_s=max(one.took_s for one in seen),
        MiB_grown_at_most=grown / MIB,
    )
    assert {one.status for one in seen} <= WAYS[way]
    assert not any(b" 100 Continue" in one.answer for one in seen)
    assert max(one.took_s for one in seen) < LONGEST_S
    assert max(one.sent for one in seen) < 128 * MIB
    assert grown < MOST_GROWTH
    eventually(lambda: subject.num_sockets() <= sockets)


HEAD = b"GET /livez HTTP/1.1\r\nhost: a\r\n"
CHUNKED = (
    b"POST /v1/tokenize HTTP/1.1\r\nhost: a\r\nconnection: close\r\n%btransfer-encoding: chunked\r\n\r\n"
    % AUTH
)
MANY = 1_000_000


def repeated(head: bytes, piece: bytes, times: int) -> Iterator[bytes]:
    """Yield the head, then a piece so many times."""
    at_once = max(1, PIECE // len(piece))
    yield head + piece * (times % at_once)
    for _ in range(times // at_once):
        yield piece * at_once


FLOODS = {
    "64 MB in one header": ((HEAD + b"x: ", b"a" * PIECE, 1000), {431}),
    "20,000 headers": ((HEAD, b"x: 1\r\n", 20_000), {431}),
    "1 MB of headers": ((HEAD, b"name: " + b"v" * 94 + b"\r\n", 10_000), {431}),
    "a target of 100 KB": ((b"GET /", b"a" * 1000, 100), {414}),
    "a target without end": ((b"GET /v1/task?", b"a=%20&", MANY), {414}),
    "empty lines": ((b"", b"\r\n", MANY), {400}),
    "extensions of one chunk": ((CHUNKED + b"1", b";a=b", MANY), {400}),
    "a chunk for each byte": ((CHUNKED, b"1\r\n \r\n", MANY), {200, 400, 408, 413}),
    "a chunk with an extension for each byte": (
        (CHUNKED, b"1;a=" + b"b" * 200 + b"\r\n \r\n", 100_000),
        {200, 400, 408, 413},
    ),
    "trailers": ((CHUNKED + b"0\r\n", b"x: 1\r\n", MANY), {400}),
    "a method without end": ((b"", b"A", 10 * MIB), {400, 414, 431}),
}


@pytest.mark.slow
@pytest.mark.parametrize("flood", FLOODS)
def test_floods_are_bounded(subject: Subject, figures: Figures, flood: str) -> None:
    """The status says what there was too much of; neither memory nor processor time runs away."""
    (head, piece, times), statuses = FLOODS[flood]
    subject.forget_peak()
    before, cpu, own = subject.resident_bytes(), subject.cpu_s(), time.process_time()
    end = [b"0\r\n\r\n"] if "for each byte" in flood else []
    seen = poured(subject, (part for parts in (repeated(head, piece, times), end) for part in parts))
    server_s, own_s = subject.cpu_s() - cpu, time.process_time() - own
    grown = subject.peak_bytes() - before

    figures.tell(
        f"flood: {flood}",
        status=seen.status,
        MiB_sent=seen.sent / MIB,
        MiB_grown_at_most=grown / MIB,
        server_cpu_s=server_s,
        client_cpu_s=own_s,
        took_s=seen.took_s,
    )
    assert seen.status in statuses, seen.answer[:500]
    assert grown < 8 * MIB + 10 * min(seen.sent, MIB)
    assert server_s <= MOST_CPU_S_EACH_MIB * seen.sent / MIB + 0.2


BODY = msgspec.json.encode({"model": "m", "prompt": "a", "text": "a", "max_tokens": 1})
BOMB = gzip.compress(b" " * BOMB_SIZE)
CODED = {
    "gzip": (b"gzip", gzip.compress(BODY)),
    "deflate": (b"deflate", zlib.compress(BODY)),
    "br": (b"br", BODY),
    "zstd": (b"zstd", BODY),
    "old name": (b"x-gzip", gzip.compress(BODY)),
    "capitals": (b"GZIP", gzip.compress(BODY)),
    "bomb": (b"gzip", BOMB),
    "two layers": (b"gzip, gzip", gzip.compress(BOMB)),
    "after identity": (b"identity, gzip", gzip.compress(BODY)),
    "two headers": (b"identity\r\ncontent-encoding: gzip", gzip.compress(BODY)),
    "garbage behind": (b"gzip", gzip.compress(BODY) + b"garbage"),
    "cut": (b"gzip", gzip.compress(BODY)[:-9]),
    "unknown": (b"rot13", BODY),
}


def sent(subject: Subject, request: bytes) -> bytes:
    """Send a request that asks for the close; return the answer."""
    with subject.connect() as connection:
        connection.sendall(request)
        data = b""
        while piece := connection.recv(PIECE):
            data += piece
    return data


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [*PATHS, b"/v1/chat/completions", b"/v1/task/t/completion"], ids=bytes.decode
)
def test_compressed_bodies_are_refused(subject: Subject, figures: Figures, path: bytes) -> None:
    """415 for each coding but `identity`, and nothing is unpacked; a plain request is served."""
    before, cpu = subject.resident_bytes(), subject.cpu_s()
    for name, (coding, body) in CODED.items():
        head = declared(path, len(body), b"connection: close", b"content-encoding: " + coding)
        assert sent(subject, head + body).startswith(b"HTTP/1.1 415 "), name
    plain = declared(path, len(BODY), b"connection: close", b"content-encoding: identity")
    answer = sent(subject, plain + BODY)

    figures.tell(
        f"compressed bodies, {path.decode()}",
        codings=len(CODED),
        cpu_s=subject.cpu_s() - cpu,
        MiB_grown=(subject.resident_bytes() - before) / MIB,
    )
    assert not answer.startswith((b"HTTP/1.1 415 ", b"HTTP/1.1 5")), answer
    assert subject.resident_bytes() - before < 8 * MIB
