"""Clients that leave, at any point of a request, in any way: nothing goes on for them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import httpx2
import msgspec
import pytest
from tests.abuse.subject import KEY, Subject, eventually, post, running, scaled, staged_subject
from websockets.frames import Frame, Opcode

from arriero.testing.upstream import Answer, End, Upstream, chat_chunk, event

if TYPE_CHECKING:
    from pathlib import Path

    from tests.abuse.figures import Figures

TIMES = 20
LONGEST_S = 1.0
"""For a busy machine; the figure tells what it was."""
POLL_S = 0.002
QUEUED = re.compile(r"^\w*requests_queued (\S+)$", re.MULTILINE)
NARROW = """
[server]
max_concurrent = 1
[telemetry]
metrics = "public"
"""
LEAVER = """
import socket, sys, time
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
connection.sendall(bytes.fromhex(sys.argv[3]))
print("sent", flush=True)
time.sleep(600)
"""


def body(prompt: str, *, stream: bool) -> bytes:
    return msgspec.json.encode({"model": "m", "prompt": prompt, "max_tokens": 100, "stream": stream})


def chat_of(prompt: str) -> bytes:
    head = [
        "GET /v1/task/t/chat HTTP/1.1",
        "host: a",
        "upgrade: websocket",
        "connection: upgrade",
        "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        f"authorization: Bearer {KEY}",
    ]
    return "\r\n".join([*head, "", ""]).encode() + Frame(Opcode.TEXT, prompt.encode()).serialize(mask=True)


FORMS: dict[str, Callable[[str], bytes]] = {
    "whole": lambda prompt: post("/v1/completions", body(prompt, stream=False)),
    "stream": lambda prompt: post("/v1/completions", body(prompt, stream=True)),
    "Poly's": lambda prompt: post("/v1/task/t/completion", msgspec.json.encode({"prompt": prompt})),
    "Poly's stream": lambda prompt: (
        f"GET /v1/task/t/live?prompt={prompt} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n\r\n"
    ).encode(),
    "WebSocket": chat_of,
}


class Leaver:
    """A client that has sent its request."""

    def __init__(self, subject: Subject, request: bytes) -> None:
        self.connection = subject.connect()
        self.connection.sendall(request)

    def close(self) -> None:
        self.connection.close()

    def reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def half_close(self) -> None:
        """It reads on, and is taken for gone all the same."""
        self.connection.shutdown(socket.SHUT_WR)

    def say_close(self) -> None:
        """The close frame of a WebSocket; the connection stays."""
        self.connection.sendall(Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True))


WAYS: list[Callable[[Leaver], None]] = [Leaver.close, Leaver.reset, Leaver.half_close, Leaver.say_close]
CASES = [(form, way) for form in FORMS for way in WAYS if form == "WebSocket" or way is not Leaver.say_close]


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """A server that answers one request at a time."""
    with staged_subject(tmp_path_factory.mktemp("narrow"), NARROW) as subject:
        yield subject


class Books:
    """What the server says of its work, asked over one connection."""

    def __init__(self, client: httpx2.Client) -> None:
        self._client = client

    def running(self) -> int:
        """Return how many answers the model is making."""
        said = self._client.get("/v1/stats").json()
        return int(said["engine"]["m"].get("running", 0))

    def waiting(self) -> int:
        """Return how many requests wait for a place."""
        found = QUEUED.search(self._client.get("/metrics").text)
        assert found is not None
        return int(float(found[1]))


@pytest.fixture
def books(narrow: Subject) -> Iterator[Books]:
    with httpx2.Client(base_url=narrow.url, headers={"authorization": f"Bearer {KEY}"}) as client:
        yield Books(client)


def until(holds: Callable[[], bool]) -> float:
    """Look often until something holds; return how long it took."""
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < 30, "it does not come"
        time.sleep(POLL_S)
    return time.monotonic() - started


@pytest.mark.slow
@pytest.mark.parametrize(("form", "way"), CASES, ids=lambda one: getattr(one, "__name__", one))
def test_who_leaves_ends_the_work(
    narrow: Subject, books: Books, figures: Figures, form: str, way: Callable[[Leaver], None]
) -> None:
    """In the middle of an answer the place is free at once; in the queue nobody else notices."""
    answering: list[float] = []
    queued: list[float] = []
    for _ in range(scaled(TIMES)):
        leaver = Leaver(narrow, FORMS[form]("wait"))
        until(lambda: books.running() == 1)
        waiter = Leaver(narrow, FORMS[form]("wait"))
        until(lambda: books.waiting() == 1)
        way(waiter)
        queued.append(until(lambda: books.waiting() == 0))
        assert books.running() == 1
        way(leaver)
        answering.append(until(lambda: books.running() == 0))
        leaver.connection.close()
        waiter.connection.close()
    eventually(lambda: narrow.num_sockets() < 60)

    tell(figures, f"who leaves: {form}, {way.__name__}", answering, queued)


def tell(figures: Figures, test: str, answering: list[float], queued: list[float]) -> None:
    answering, queued = sorted(answering), sorted(queued)
    figures.tell(
        test,
        times=len(answering),
        freed_median_ms=answering[len(answering) // 2] * 1e3,
        freed_worst_ms=answering[-1] * 1e3,
        left_queue_median_ms=queued[len(queued) // 2] * 1e3 if queued else 0.0,
    )
    assert answering[len(answering) // 2] < LONGEST_S


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_a_client_that_is_killed_ends_the_work(
    narrow: Subject, books: Books, figures: Figures, form: str
) -> None:
    """A process that says nothing more: the kernel closes for it."""
    taken: list[float] = []
    for _ in range(scaled(5)):
        host, port = narrow.address
        request = FORMS[form]("wait").hex()
        command = [sys.executable, "-c", LEAVER, host, str(port), request]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            until(lambda: books.running() == 1)
            os.kill(process.pid, signal.SIGKILL)
            taken.append(until(lambda: books.running() == 0))
        finally:
            process.kill()
            process.communicate()

    tell(figures, f"who is killed: {form}", taken, [])


GUARDED = """
[auth]
allowed_keys = ["{key}"]
[server]
bind_address = "127.0.0.1:0"
[models.far.upstream]
urls = ["{url}"]
model = "secret-name"
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS[:3], ids=lambda way: way.__name__)
@pytest.mark.parametrize("point", ["before the answer", "in the answer"])
async def test_who_leaves_is_left_by_the_upstream(
    tmp_path: Path, figures: Figures, way: Callable[[Leaver], None], point: str
) -> None:
    """The guard closes its connection to the server behind it, so that this one ends its work too."""
    first = event(chat_chunk("a", model="secret-name"))
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    parts = (head, first) if point == "in the answer" else ()
    taken: list[float] = []
    asked = {"model": "far", "messages": [{"role": "user", "content": "a"}], "stream": True}
    request = post("/v1/chat/completions", msgspec.json.encode(asked))
    async with Upstream.of(Answer(parts, End.STALL)) as upstream:
        config = tmp_path / "arriero.toml"
        config.write_text(GUARDED.format(url=upstream.url, key=KEY))
        command = [sys.executable, "-m", "arriero", "serve", "--config", str(config)]
        with running(command, tmp_path / "server.log") as subject:
            for number in range(1, scaled(TIMES) + 1):
                upstream.gone.clear()
                leaver = await asyncio.to_thread(Leaver, subject, request)
                await asked_times(upstream, number)
                if point == "in the answer":
                    assert await asyncio.to_thread(leaver.connection.recv, 12) == b"HTTP/1.1 200"
                started = time.monotonic()
                way(leaver)
                async with asyncio.timeout(30):
                    await upstream.gone.wait()
                taken.append(time.monotonic() - started)
                leaver.connection.close()

    tell(figures, f"who leaves an upstream {point}: {way.__name__}", taken, [])


async def asked_times(upstream: Upstream, number: int) -> None:
    """Look until an upstream was asked so often."""
    for _ in range(int(30 / POLL_S)):
        if len(upstream.requests) >= number:
            return
        await asyncio.sleep(POLL_S)
    raise AssertionError("the upstream is not asked")
