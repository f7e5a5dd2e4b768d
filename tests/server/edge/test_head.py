"""The head of a request: what is understood, what is refused, and with which status."""

from __future__ import annotations

import random
from contextlib import suppress
from itertools import product

import pytest

from arriero.server.edge.head import (
    MAX_FORMS,
    Head,
    Heads,
    any_head,
    head_end,
    is_allowed,
    parsed_head,
    usual_head,
)
from arriero.server.edge.limits import Limits
from arriero.server.edge.refusal import Refused

LIMITS = Limits()
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"


def parsed(data: bytes, limits: Limits = LIMITS) -> Head:
    end = head_end(data, limits)
    assert end == len(data)
    return parsed_head(data, limits)


def test_a_head_is_taken_apart() -> None:
    """Method, path, query and headers come as they were sent, names in small letters."""
    head = parsed(b"POST /a%20b?c=d?e HTTP/1.1\r\nHost: x:1\r\nX-Y:  z \t\r\nContent-Length: 12\r\n\r\n")

    assert (head.method, head.path, head.query) == (b"POST", b"/a%20b", b"c=d?e")
    assert head.headers == [(b"host", b"x:1"), (b"x-y", b"z"), (b"content-length", b"12")]
    assert (head.content_length, head.is_chunked, head.has_body) == (12, False, True)
    assert (head.is_http11, head.keeps_alive, head.is_upgrade, head.expects_continue) == (
        True,
        True,
        False,
        False,
    )


@pytest.mark.parametrize(
    ("lines", "member", "value"),
    [
        (b"Connection: close\r\n", "keeps_alive", False),
        (b"Connection: keep-alive, Close\r\n", "keeps_alive", False),
        (b"Connection: keep-alive\r\nConnection: close\r\n", "keeps_alive", False),
        (b"Connection: keep-alive\r\n", "keeps_alive", True),
        (b"Transfer-Encoding: Chunked\r\n", "is_chunked", True),
        (b"Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n", "is_upgrade", True),
        (b"Upgrade: websocket\r\n", "is_upgrade", False),
        (b"Upgrade: h2c\r\nConnection: upgrade\r\n", "is_upgrade", False),
        (b"Expect: 100-Continue\r\nContent-Length: 1\r\n", "expects_continue", True),
        (b"Expect: 100-continue\r\n", "expects_continue", False),
    ],
)
def test_headers_decide_on_the_connection(lines: bytes, member: str, value: bool) -> None:
    """Tokens are read in any letters and any place of their list; only a WebSocket is an upgrade."""
    assert getattr(parsed(GET + lines + b"\r\n"), member) is value


def test_http_1_0_is_served_once() -> None:
    """No host is needed, and the connection does not stay, whatever the client says."""
    head = parsed(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")

    assert (head.is_http11, head.keeps_alive) == (False, False)


REFUSED = [
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (GET + b"Host: a\r\n\r\n", 400),
    (b"CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /%0d%0aa:b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /a%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"POST /%7F?a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    (GET + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    (GET + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400),
    (GET + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 400),
    (GET + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
    (GET + b"Content-Length: 5, 5\r\n\r\n", 400),
    (GET + b"Content-Length: +5\r\n\r\n", 400),
    (GET + b"Content-Length: -5\r\n\r\n", 400),
    (GET + b"Content-Length: 0x5\r\n\r\n", 400),
    (GET + b"Content-Length: 1_0\r\n\r\n", 400),
    (GET + b"Content-Length: 5 5\r\n\r\n", 400),
    (GET + b"Content-Length:\r\n\r\n", 400),
    (GET + b"Content-Length: \xb2\r\n\r\n", 400),
    (GET + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", 400),
    (GET + b"Transfer-Encoding: gzip\r\n\r\n", 400),
    (GET + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 400),
    (GET + b"Transfer-Encoding: chunked, chunked\r\n\r\n", 400),
    (GET + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    (GET + b"Transfer-Encoding: xchunked\r\n\r\n", 400),
    (GET + b"Transfer-Encoding: identity\r\n\r\n", 400),
    (GET + b"Transfer-Encoding: \x0bchunked\r\n\r\n", 400),
    (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400),
    (GET + b"X: a\r\n b\r\n\r\n", 400),
    (GET + b"X: a\r\n\tb\r\n\r\n", 400),
    (GET + b" X: a\r\n\r\n", 400),
    (GET + b"X : a\r\n\r\n", 400),
    (GET + b"X\t: a\r\n\r\n", 400),
    (GET + b"X(: a\r\n\r\n", 400),
    (GET + b": a\r\n\r\n", 400),
    (GET + b"X\r\n\r\n", 400),
    (GET + b"X: a\x00b\r\n\r\n", 400),
    (GET + b"X: a\x01b\r\n\r\n", 400),
    (GET + b"X: a\x7fb\r\n\r\n", 400),
    (b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /a\x01b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /a\x7fb HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /a?\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GETT / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /\r\n\r\n", 400),
    (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 400),
    (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 400),
    (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400),
    (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
    (b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
    (b"PRI * HTTP/2.0\r\n\r\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", 400),
    (GET + b"Upgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 1\r\n\r\n", 400),
    (b"GET /" + b"a" * 32768 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    (b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    (GET + b"Expect: a miracle\r\n\r\n", 417),
    (GET + b"X: y\r\n" * 100 + b"\r\n", 431),
    (GET + b"X: " + b"y" * 66000 + b"\r\n\r\n", 431),
]


@pytest.mark.parametrize(("data", "status"), REFUSED, ids=[repr(data[:60]) for data, _ in REFUSED])
def test_what_is_not_one_clear_request_is_refused(data: bytes, status: int) -> None:
    """Nothing that two readers may take for two things is served; what is too large has its own status."""
    with pytest.raises(Refused) as caught:
        parsed(data)

    assert caught.value.status == status


@pytest.mark.parametrize("data", [data for data, _ in REFUSED], ids=[repr(data[:60]) for data, _ in REFUSED])
def test_half_a_bad_head_is_not_taken_for_a_good_one(data: bytes) -> None:
    """A head that is cut anywhere is refused, or waited for: it is never served."""
    ends = set()
    for cut in range(1, min(len(data), 300)):
        with suppress(Refused):
            ends.add(head_end(data[:cut], LIMITS))

    assert ends <= {0}


def test_limits_are_met_to_the_byte() -> None:
    """A head of the bound is served, one byte more is not; so with the target and the number of headers."""
    head = GET + b"X: y\r\n\r\n"
    assert parsed(head, Limits(max_header_bytes=len(head))).path == b"/"
    for limits, status in [
        (Limits(max_header_bytes=len(head) - 1), 431),
        (Limits(max_headers=1), 431),
        (Limits(max_target_bytes=0), 414),
    ]:
        with pytest.raises(Refused) as caught:
            parsed(head, limits)

        assert caught.value.status == status
    assert parsed(head, Limits(max_headers=2, max_target_bytes=1)).path == b"/"


def test_a_head_without_end_is_refused_at_the_bound() -> None:
    """Nothing is gathered beyond it: in the target 414, in the headers 431."""
    with pytest.raises(Refused, match="headers have more than 1000"):
        head_end(GET + b"X: " + b"y" * 1000, Limits(max_header_bytes=1000))
    with pytest.raises(Refused, match="target of the request has more than 100"):
        head_end(b"GET /" + b"y" * 1000, Limits(max_header_bytes=1000, max_target_bytes=100))


@pytest.mark.parametrize(
    ("host", "is_served"),
    [
        (b"a.example", True),
        (b"A.Example:3000", True),
        (b"b:3000", True),
        (b"b", False),
        (b"b:3001", False),
        (b"xa.example", False),
        (b"a.example.evil", False),
        (b"a.example.", False),
        (b"[::1]:80", True),
        (b"[::1]", True),
        (b"[::2]", False),
    ],
)
def test_only_listed_hosts_are_served(host: bytes, is_served: bool) -> None:
    """A listed host is served at any port, one that is listed with a port at that port; others get 421."""
    allowed = frozenset({b"a.example", b"b:3000", b"[::1]"})
    assert is_allowed(host, allowed) is is_served

    head = b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
    if is_served:
        assert parsed(head, Limits(allowed_hosts=allowed)).path == b"/"
    else:
        with pytest.raises(Refused) as caught:
            parsed(head, Limits(allowed_hosts=allowed))
        assert caught.value.status == 421


USUAL = [
    b"POST /v1/chat/completions?a=b HTTP/1.1\r\nHost: a:1\r\nContent-Type: application/json; charset=x\r\n"
    b"authorization:Bearer x\r\nContent-Length: 12\r\nConnection: keep-alive\r\n\r\n",
    b'GET / HTTP/1.1\r\nhost: [::1]:80\r\nuser-agent: x (y; z) "q"\r\naccept: */*\r\n\r\n',
]
PIECES = [
    b"", b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b",", b"\0", b"\x80", b"1", b"#", b"HTTP/1.0", b"close",
    b"\r\nhost: b\r\n", b"\r\ncontent-length: 1\r\n", b"\r\nTransfer-Encoding: chunked\r\n", b"\r\nx:\r\n",
    b"\r\nExpect: 100-continue\r\n", b"\r\nConnection: close\r\n", b"\r\nUpgrade: websocket\r\n",
    b"\r\n y\r\n", b"Upgrade",
]  # fmt: skip
ALLOWED = Limits(allowed_hosts=frozenset({b"a"}), max_headers=4, max_target_bytes=24)


def outcome(data: bytes, limits: Limits) -> object:
    """Return all that is understood of a head, or why it is refused."""
    try:
        head = any_head(data, limits)
    except Refused as refused:
        return refused.status, refused.code
    return understood(head)


def understood(head: Head) -> list[object]:
    """Return all that a head says."""
    return [getattr(head, name) for name in Head.__slots__ if name not in ("form", "length_at")]


def usual_outcome(data: bytes, limits: Limits) -> object:
    """Return the same of the pattern; None for what it leaves to the parser."""
    try:
        head = usual_head(data, limits)
    except Refused as refused:
        return refused.status, refused.code
    return head and understood(head)


def test_usual_heads_need_no_parser() -> None:
    """The heads of the usual clients are read by the pattern."""
    assert [usual_head(data, LIMITS) is not None for data in USUAL] == [True, True]


@pytest.mark.parametrize("limits", [LIMITS, ALLOWED], ids=["defaults", "tight"])
def test_the_pattern_reads_what_the_parser_reads(limits: Limits) -> None:
    """Whatever is changed in a head, the pattern finds the same in it as the parser, or leaves it alone."""
    dice = random.Random(5)
    taken = 0
    for _ in range(6000):
        data = dice.choice(USUAL)
        for _ in range(dice.randint(1, 3)):
            place = dice.randrange(len(data))
            data = data[:place] + dice.choice(PIECES) + data[place + dice.randint(0, 2) :]
        usual = usual_outcome(data, limits)
        taken += usual is not None

        assert usual is None or usual == outcome(data, limits), data
    assert taken > 200


def known_outcome(heads: Heads, data: bytes) -> object:
    """Return all that is understood of a head by one who has read others."""
    try:
        head = heads.parsed(data)
    except Refused as refused:
        return refused.status, refused.code
    return understood(head)


@pytest.mark.parametrize("limits", [LIMITS, ALLOWED], ids=["defaults", "tight"])
def test_a_known_head_is_read_as_an_unknown_one(limits: Limits) -> None:
    """Whatever is changed in a head, those that came before change nothing in what is understood."""
    dice = random.Random(6)
    heads = Heads(limits)
    for _ in range(2000):
        data = dice.choice(USUAL)
        for _ in range(dice.randint(0, 2)):
            place = dice.randrange(len(data))
            data = data[:place] + dice.choice(PIECES) + data[place + dice.randint(0, 2) :]

        assert known_outcome(heads, data) == known_outcome(Heads(limits), data), data
        assert known_outcome(heads, data) == outcome(data, limits), data


def test_heads_that_differ_in_the_length_are_known() -> None:
    """A head that came before is known by all but its length, which is its own; few are kept."""
    heads = Heads(LIMITS)
    one = b"POST /v1/x HTTP/1.1\r\nhost: a\r\nContent-Length: 5\r\nx: y\r\n\r\n"
    first = heads.parsed(one)
    second = heads.parsed(one.replace(b"5", b"1234"))

    assert first.form is not None
    assert first.form is second.form
    assert (first.content_length, second.content_length) == (5, 1234)
    assert second.headers == [(b"host", b"a"), (b"content-length", b"1234"), (b"x", b"y")]
    for number in range(MAX_FORMS):
        heads.parsed(one.replace(b"y", b"%d" % number))
    assert heads.parsed(one).form is not first.form


def test_the_pattern_takes_no_byte_that_the_parser_refuses() -> None:
    """Every byte at every place of a head is understood as the parser does."""
    taken = 0
    for data in USUAL:
        for place, byte in product(range(len(data)), range(256)):
            changed = data[:place] + bytes([byte]) + data[place + 1 :]
            usual = usual_outcome(changed, LIMITS)
            taken += usual is not None

            assert usual is None or usual == outcome(changed, LIMITS), changed
    assert taken > 10_000
