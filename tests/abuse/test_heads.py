"""Heads that could be read in two ways, heads of random bytes, and control bytes in what is echoed."""

from __future__ import annotations

import random
import re
import socket
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.abuse.ambiguous import AMBIGUOUS
from tests.abuse.subject import KEY, Subject, scaled

if TYPE_CHECKING:
    from tests.abuse.figures import Figures

FUZZED = 5_000
ECHOED = 2_000
QUICK = 100
PATIENCE_S = 1.5
CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
MARK = "smuggledmark"
NAMED = [b"completions", b"chat/completions", b"embeddings", b"tokenize"]
SOCKET = [
    b"upgrade: websocket",
    b"connection: upgrade",
    b"sec-websocket-version: 13",
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
]
CONTROLS = ["\r\n", "\n", "\r", "\0", "\x85", "\u2028", "\x1b[31m", "\x7f"]


def said(subject: Subject, request: bytes) -> bytes:
    """Send bytes and nothing more; return all that the server says until it closes or has said its say."""
    with subject.connect() as connection:
        connection.settimeout(PATIENCE_S)
        data = b""
        try:
            connection.sendall(request)
            while piece := connection.recv(65536):
                data += piece
        except TimeoutError:
            pass
        except OSError:
            return data
        return data


@pytest.mark.parametrize("part", range(4))
def test_what_could_be_read_in_two_ways_is_refused(subject: Subject, part: int) -> None:
    """One answer of 4xx or 501, the connection closed, and the request behind it is never looked at."""
    for request in AMBIGUOUS[part::4]:
        answer = said(subject, request)
        assert re.match(rb"HTTP/1.1 (4\d\d|501) ", answer), (request, answer)
        assert answer.count(b"HTTP/1.1 ") == 1, (request, answer)
        assert b"connection: close" in answer, (request, answer)


GOOD = b"POST /v1/tokenize HTTP/1.1\r\nhost: a\r\nauthorization: Bearer sesame\r\ncontent-length: 2\r\n\r\n{}"


def fuzzed(rng: random.Random) -> bytes:
    """Return a head of random bytes, or a good one with some changed."""
    if rng.random() < 0.2:
        return rng.randbytes(rng.randrange(1, 400)) + b"\r\n\r\n"
    head = bytearray(GOOD)
    for _ in range(rng.randrange(1, 6)):
        place = rng.randrange(len(head))
        match rng.randrange(3):
            case 0:
                head[place] = rng.randrange(256)
            case 1:
                del head[place : place + rng.randrange(1, 12)]
            case _:
                head[place:place] = rng.choice(
                    [b"\r\n", b"\n", b"\r", b"\0", b":", b" ", b"\t", b"\x85", rng.randbytes(9)]
                )
    return bytes(head) + b"\r\n\r\n"


def endured(subject: Subject, number: int, seed: int) -> dict[str, int]:
    """Send fuzzed heads; return how many were answered in which way. The client closes its side at once."""
    rng = random.Random(seed)
    counts = {"answered": 0, "closed": 0}
    for _ in range(number):
        request = fuzzed(rng)
        with subject.connect() as connection:
            answer = b""
            try:
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
                while piece := connection.recv(65536):
                    answer += piece
            except OSError:
                pass
        counts["answered" if answer else "closed"] += 1
        assert not answer or re.match(rb"HTTP/1.1 (200|4\d\d|501) ", answer), (request, answer)
        assert not CONTROL.search(answer), (request, answer)
    return counts


def test_some_random_heads(subject: Subject) -> None:
    """Each is refused, answered or closed; the server lives."""
    counts = endured(subject, QUICK, 1)

    assert counts["answered"] > 0
    assert subject.is_alive()


@pytest.mark.slow
def test_thousands_of_random_heads(subject: Subject, figures: Figures) -> None:
    """The same, many times over, and no connection is left."""
    before = subject.num_sockets()
    counts = endured(subject, scaled(FUZZED), 2)

    figures.tell("random heads", **counts, refused_table=len(AMBIGUOUS))
    assert subject.num_sockets() <= before + 5


def echoed(control: str) -> list[bytes]:
    """Return requests that carry a control in each value that an answer or the log might repeat."""
    text = f"a{control}{MARK}: b"
    raw = text.encode()
    auth = f"authorization: Bearer {KEY}".encode()
    name = msgspec.json.encode(
        {"model": text, "prompt": "a", "input": "a", "text": "a", "messages": [{"role": text}]}
    )
    escaped = "".join(f"%{byte:02x}" for byte in raw).encode()

    def asked(line: bytes, *headers: bytes, body: bytes = b"") -> bytes:
        lines = [line + b" HTTP/1.1", b"host: a", auth, b"connection: close", *headers]
        lines += [b"content-type: application/json", b"content-length: %d" % len(body)] if body else []
        return b"\r\n".join([*lines, b"", b""]) + body

    return [
        *(asked(b"POST /v1/" + path, body=name) for path in NAMED),
        asked(b"GET /v1/task/" + escaped + b"/status"),
        asked(b"GET /v1/models/" + escaped),
        asked(b"GET /nothing/" + escaped),
        asked(b"GET /v1/task/t/completion?prompt=" + escaped),
        asked(b"GET /v1/task?" + escaped + b"=1"),
        asked(b"GET /livez", b"x-request-id: " + raw),
        asked(b"GET /livez", b"origin: http://" + raw),
        asked(b"GET /livez", b"accept: " + raw),
        asked(b"GET /v1/task", b"x-forwarded-for: " + raw),
        asked(b"GET /v1/task/t/chat", *SOCKET, b"sec-websocket-protocol: " + raw),
    ]


def assert_unbroken(subject: Subject, requests: list[bytes]) -> None:
    """No header and no line of the log is begun by a caller, and no raw control byte comes back."""
    logged = subject.log.stat().st_size
    for request in requests:
        answer = said(subject, request)
        head = answer.partition(b"\r\n\r\n")[0]
        assert MARK.encode() not in head or b"%" in head, (request, answer)
        assert not CONTROL.search(head), (request, answer)
        assert b"\x85" not in head, (request, answer)
        assert b"HTTP/1.1 5" not in answer, (request, answer)
    written = subject.log.read_bytes()[logged:]
    assert not CONTROL.search(written)
    assert b"\x85" not in written
    assert not any(line.startswith(MARK.encode()) for line in written.splitlines())


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
def test_nothing_echoed_breaks_a_head_or_a_line(subject: Subject, control: str) -> None:
    """Whatever value an answer or the log repeats, each control character stays where it is harmless."""
    assert_unbroken(subject, echoed(control))


@pytest.mark.slow
def test_nothing_echoed_at_random_breaks_a_head_or_a_line(subject: Subject, figures: Figures) -> None:
    """The same for several of them and any other characters together."""
    rng = random.Random(3)
    number = 0
    while number < scaled(ECHOED):
        parts = [
            *rng.choices(CONTROLS, k=2),
            *(chr(rng.randrange(1, 0xD800)) for _ in range(rng.randrange(4))),
        ]
        rng.shuffle(parts)
        requests = echoed("".join(parts))[:-1]  # the last one may open a WebSocket, which stays
        assert_unbroken(subject, requests)
        number += len(requests)

    figures.tell("control characters in what is echoed", requests=number)
