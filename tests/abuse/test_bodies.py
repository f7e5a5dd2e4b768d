"""Ten thousand wrong bodies for each route: never a failure of ours, never a hang."""

from __future__ import annotations

import re
import socket
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.abuse.bodies import GOOD, bodies
from tests.abuse.subject import Subject, post, scaled, staged_subject

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.abuse.figures import Figures

EACH_ROUTE = 10_000
QUICK = 40
SEED = 6
LONGEST_S = 10.0
TRACEBACK = re.compile(rb'Traceback|File \\?"|\.py|0x[0-9a-f]{6}')
END = b"\r\n\r\n"


class Asker:
    """A client in bytes, on one connection as long as the server keeps it."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._socket: socket.socket | None = None

    def answer(self, request: bytes) -> tuple[int, bytes, bytes]:
        """Return status, head and body."""
        if self._socket is None:
            self._socket = self._subject.connect()
        self._socket.sendall(request)
        data = b""
        while END not in data:
            data += self._more()
        head, _, body = data.partition(END)
        while not is_whole(head, body):
            body += self._more()
        if b"connection: close" in head:
            self.close()
        return int(head.split(b" ", 2)[1]), head, body

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _more(self) -> bytes:
        assert self._socket is not None
        data = self._socket.recv(1 << 20)
        assert data, "the server has closed in the middle of an answer"
        return data


def is_whole(head: bytes, body: bytes) -> bool:
    if b"transfer-encoding: chunked" in head:
        return body.endswith(b"0" + END)
    length = re.search(rb"content-length: (\d+)", head)
    assert length is not None, head
    return len(body) >= int(length.group(1))


def endured(subject: Subject, route: str, wrong: Iterable[bytes]) -> tuple[Counter[int], float]:
    """Send the bodies; return how often each status came, and the longest wait."""
    statuses: Counter[int] = Counter()
    longest_s = 0.0
    with closing(Asker(subject)) as asker:
        for body in wrong:
            started = time.monotonic()
            status, head, answer = asker.answer(post(route, body))
            longest_s = max(longest_s, time.monotonic() - started)
            statuses[status] += 1
            assert status == 200 or 400 <= status < 500, (route, body[:2000], status, answer[:500])
            assert not TRACEBACK.search(answer), (body[:500], answer[:2000])
            if status != 200 and b"application/json" in head:
                assert msgspec.json.decode(answer)["error"]["code"], answer
    return statuses, longest_s


@pytest.mark.parametrize("route", GOOD)
def test_some_wrong_bodies(subject: Subject, route: str) -> None:
    """Each is refused in words, or answered; a good one is answered after them."""
    statuses, longest_s = endured(subject, route, bodies(route, QUICK, SEED))

    assert statuses[400] + statuses[422] > QUICK / 4
    assert longest_s < LONGEST_S
    assert subject.is_alive()


@pytest.mark.slow
def test_ten_thousand_wrong_bodies(tmp_path: Path, figures: Figures) -> None:
    """The same for each route, many times over; the memory of the server stays."""
    number = scaled(EACH_ROUTE)
    total: Counter[int] = Counter()
    longest_s = 0.0
    with staged_subject(tmp_path) as subject:
        for route in GOOD:
            endured(subject, route, bodies(route, 100, SEED))
        before = subject.resident_bytes()
        for route in GOOD:
            statuses, route_longest_s = endured(subject, route, bodies(route, number, SEED + 1))
            total += statuses
            longest_s = max(longest_s, route_longest_s)
        grown = subject.resident_bytes() - before

    figures.tell(
        f"{number} wrong bodies for each of {len(GOOD)} routes",
        statuses={str(status): count for status, count in sorted(total.items())},
        longest_answer_s=longest_s,
        MiB_grown=grown / 2**20,
    )
    assert longest_s < LONGEST_S
