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
from tests.abuse.bodies import FILE, GOOD, MORE, bodies
from tests.abuse.described import described
from tests.abuse.subject import KEY, Subject, post, scaled, staged_subject

from arriero.server.app import ROUTES
from arriero.server.openapi import document

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.abuse.figures import Figures

EACH_ROUTE = 10_000
EACH_OTHER_ROUTE = 4_000
REMOTE = {"/tokenize", "/v1/responses", "/v1/rerank"}
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


def endured(
    subject: Subject, route: str, wrong: Iterable[bytes], *, key: str = KEY, more: tuple[int, ...] = ()
) -> tuple[Counter[int], float]:
    """Send the bodies; return how often each status came, and the longest wait. more: what may come, too."""
    statuses: Counter[int] = Counter()
    longest_s = 0.0
    with closing(Asker(subject)) as asker:
        for body in wrong:
            started = time.monotonic()
            status, head, answer = asker.answer(post(route, body, key))
            longest_s = max(longest_s, time.monotonic() - started)
            statuses[status] += 1
            is_expected = status in {200, 201, *more} or 400 <= status < 500
            assert is_expected, (route, body[:2000], status, answer[:500])
            assert not TRACEBACK.search(answer), (body[:500], answer[:2000])
            if status >= 400 and b"application/json" in head:
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


def test_all_routes_with_json_are_abused() -> None:
    """Each that the OpenAPI document gives a JSON body has a good one to be changed."""
    paths = {
        path.replace("{model}", "m").replace("{task}", "t")
        for path, methods in document(ROUTES)["paths"].items()
        for said in methods.values()
        if "application/json" in said.get("requestBody", {}).get("content", {})
    }

    assert paths == {*GOOD, *MORE}


@pytest.mark.slow
def test_wrong_bodies_for_memories_stores_keys_and_the_guard(tmp_path: Path, figures: Figures) -> None:
    """The same for what changes things, and for what is sent on to an upstream, which is not there."""
    number = scaled(EACH_OTHER_ROUTE)
    total: Counter[int] = Counter()
    longest_s = 0.0
    with described(tmp_path) as server:
        for path in MORE:
            names = {
                parameter["name"]: parameter["schema"]["enum"][0]
                for parameter in server.document["paths"][path]["post"]["parameters"]
                if parameter["in"] == "path"
            }
            wrong = (body.replace(FILE.encode(), server.file.encode()) for body in bodies(path, number, SEED))
            statuses, route_longest_s = endured(
                server.subject,
                path.format(**names),
                wrong,
                key=server.secret,
                more=(502, 503) if path in REMOTE else (),
            )
            assert statuses[400] + statuses[422] > number / 4, (path, statuses)
            total += statuses
            longest_s = max(longest_s, route_longest_s)

    figures.tell(
        f"{number} wrong bodies for each of {len(MORE)} other routes",
        statuses={str(status): count for status, count in sorted(total.items())},
        longest_answer_s=longest_s,
    )
    assert longest_s < LONGEST_S
