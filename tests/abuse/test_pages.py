"""Pages of foreign origins, foreign hosts, tickets that come many times, and handshakes without a key."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from tests.abuse.subject import Subject, handshake, scaled, staged_subject

if TYPE_CHECKING:
    from tests.abuse.figures import Figures

AT_A_TIME = 200
SETTINGS = """
[server]
max_concurrent = 100
allowed_origins = ["https://app.example", "https://app.example:8443"]
allowed_hosts = ["good.example", "127.0.0.1"]
"""


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """A server of two hosts, for pages of two origins."""
    with staged_subject(tmp_path_factory.mktemp("pages"), SETTINGS) as subject:
        yield subject


ORIGINS = {
    None: True,
    "https://app.example": True,
    "https://app.example:8443": True,
    "null": False,
    "": False,
    "https://evil.example": False,
    "https://sub.app.example": False,
    "https://app.example.evil.example": False,
    "https://evilapp.example": False,
    "https://app.example:444": False,
    "http://app.example": False,
    "HTTPS://APP.EXAMPLE": False,
    "https://app.example.": False,
    "https://xn--pp-8ja.example": False,
    "https://app.example@evil.example": False,
    "https://app.example/": False,
    "file://": False,
}
HOSTS = {
    "good.example": True,
    "GOOD.example:80": True,
    "127.0.0.1": True,
    "evil.example": False,
    "good.example.evil.example": False,
    "good.example.": False,
    "127.0.0.2": False,
    "[::1]": False,
}
PAGE = "{page} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nauthorization: Bearer sesame\r\n{origin}\r\n"
PAGES = {
    "GET /v1/task/t/completion?prompt=a": b"200",
    "GET /v1/task/t/live?prompt=a": b"200",
    "DELETE /v1/memory/none": b"404",
}
"""What pages ask, and how it is answered where the host is ours."""


def said(subject: Subject, request: bytes) -> bytes:
    """Return the head of the answer."""
    with subject.connect() as connection:
        connection.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data:
            piece = connection.recv(65536)
            assert piece, data
            data += piece
    return data.partition(b"\r\n\r\n")[0]


@pytest.mark.slow
def test_only_listed_pages_and_hosts_are_served(chats: Subject, figures: Figures) -> None:
    """A foreign host gets 421 whatever the page; a foreign page no socket, and no leave to read an answer."""
    statuses: Counter[str] = Counter()
    for host, is_served in HOSTS.items():
        for origin, is_listed in ORIGINS.items():
            lines = [] if origin is None else [f"origin: {origin}"]
            head = said(chats, handshake(*lines, host=host))
            expected = (b"101" if is_listed else b"403") if is_served else b"421"
            assert head.split(b" ")[1] == expected, (host, origin, head)
            statuses[expected.decode()] += 1
            for page, answer in PAGES.items():
                text = "".join(f"{line}\r\n" for line in lines)
                head = said(chats, PAGE.format(page=page, host=host, origin=text).encode())
                expected = answer if is_served else b"421"
                assert head.split(b" ")[1] == expected, (host, origin, head)
                may_read = origin is not None and is_served and is_listed
                assert (b"\r\naccess-control-allow-origin: " in head) is may_read, (host, origin, head)
                statuses[expected.decode()] += 1

    figures.tell("pages of other origins and hosts", **statuses)


REDEMPTIONS = 10_000


@pytest.mark.slow
async def test_a_ticket_opens_one_socket_of_ten_thousand(chats: Subject, figures: Figures) -> None:
    """Of all that come with the same ticket at the same time one gets in."""
    headers = {"host": "127.0.0.1"}
    async with chats.client() as client:
        issued = await client.post("/v1/tickets", json={"path": "/v1/task/t/chat"}, headers=headers)
    path = "/v1/task/t/chat?ticket=" + issued.json()["ticket"]
    number = scaled(REDEMPTIONS)
    gate = asyncio.Semaphore(AT_A_TIME)
    statuses: Counter[str] = Counter()

    async def redeem() -> None:
        async with gate:
            reader, writer = await asyncio.open_connection(*chats.address)
            writer.write(handshake(path=path, key=""))
            head = await reader.readuntil(b"\r\n\r\n")
            statuses[head.split(b" ")[1].decode()] += 1
            writer.close()

    await asyncio.gather(*(redeem() for _ in range(number)))

    figures.tell("one ticket", **statuses)
    assert statuses == {"101": 1, "401": number - 1}


@pytest.mark.slow
def test_no_socket_opens_before_its_key_was_seen(chats: Subject) -> None:
    """A handshake without a key, or with a wrong one, is refused with a status, not after 101."""
    assert said(chats, handshake(key="")).startswith(b"HTTP/1.1 401 ")
    assert said(chats, handshake(key="wrong")).startswith(b"HTTP/1.1 401 ")
    assert said(chats, handshake(path=f"/v1/task/{os.urandom(4).hex()}/chat")).startswith(b"HTTP/1.1 404 ")
