"""A server that is told to end while it is full: what can end whole does, all else is told."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.abuse.subject import KEY, Subject, eventually, post, staged_subject
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

if TYPE_CHECKING:
    from tests.abuse.figures import Figures

STREAMS, ENDLESS, QUEUED, CHATS = 160, 40, 50, 20
DRAIN_S, DELAY_S = 6, 2
TOKENS = 100
"""The model makes them in a second."""
LATE_S = 4.0
SETTINGS = f"""
[server]
max_concurrent = {STREAMS + ENDLESS + CHATS}
[limits]
drain_s = {DRAIN_S}
drain_delay_s = {DELAY_S}
"""
READYZ = b"GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"


def asking(prompt: str, key: str) -> bytes:
    said = {"model": "m", "prompt": prompt, "max_tokens": TOKENS, "stream": True}
    return post("/v1/completions", msgspec.json.encode(said), key, "connection: close")


class Clients:
    """Owns what clients have seen. begun: how many have got the first of an answer."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self.begun = asyncio.Semaphore(0)
        self.ends: dict[str, Counter[str]] = {}

    async def stream(self, kind: str, request: bytes) -> None:
        """Note how a stream ends."""
        reader, writer = await asyncio.open_connection(*self._subject.address, limit=2**20)
        writer.write(request)
        data = await reader.read(100)
        self.begun.release()
        with suppress(OSError):
            data += await reader.read()
        writer.close()
        self.ends.setdefault(kind, Counter())[ending(data)] += 1

    async def chat(self) -> None:
        """Note how a conversation ends in the middle of an answer."""
        url = self._subject.url.replace("http", "ws") + "/v1/task/t/chat"
        async with connect(url, additional_headers={"authorization": f"Bearer {KEY}"}) as socket:
            await socket.send("wait")
            await socket.recv()
            self.begun.release()
            try:
                while True:
                    await socket.recv()
            except ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd else 0
        self.ends.setdefault("chats", Counter())[str(code)] += 1


def ending(answer: bytes) -> str:
    """Say how a stream ended; a lie is an end that looks whole and is not."""
    is_framed = answer.endswith(b"0\r\n\r\n")
    if b"data: [DONE]" in answer or b'"finish_reason":"' in answer:
        is_all = b'"finish_reason":"length"' in answer and answer.count(b'"text":"b"') == TOKENS - 1
        return "whole" if is_framed and is_all and b'"error"' not in answer else "a lie"
    if answer.startswith(b"HTTP/1.1 503"):
        return "503"
    return "told" if b'"error"' in answer else "cut"


async def status(subject: Subject) -> str:
    """Return the status of readiness; "none" when nobody answers."""
    try:
        reader, writer = await asyncio.open_connection(*subject.address)
        writer.write(READYZ)
        answer = await reader.read()
        writer.close()
    except OSError:
        return "none"
    return answer.split(b" ", 2)[1].decode() if answer else "none"


@pytest.mark.slow
async def test_a_full_server_ends(tmp_path: Path, figures: Figures) -> None:
    """Streams, the queued ones too, end whole or with an error, sockets with 1012, all within the time."""
    readiness: Counter[str] = Counter()
    with staged_subject(tmp_path, SETTINGS) as subject:
        clients = Clients(subject)
        jobs = [clients.stream("endless", asking("wait", KEY)) for _ in range(ENDLESS)]
        jobs += [clients.chat() for _ in range(CHATS)]
        running = [asyncio.ensure_future(job) for job in jobs]
        for _ in jobs:
            await clients.begun.acquire()
        streams = [clients.stream("streams", asking("a", KEY)) for _ in range(STREAMS + QUEUED)]
        running += [asyncio.ensure_future(job) for job in streams]
        for _ in range(STREAMS):
            await clients.begun.acquire()
        assert await status(subject) == "200"

        os.kill(subject.pid, signal.SIGTERM)
        told_at = time.monotonic()
        while (now := await status(subject)) == "200":
            assert time.monotonic() - told_at < 1.0
        readiness_s = time.monotonic() - told_at
        while subject.is_alive() and now != "none":
            readiness[now] += 1
            await asyncio.sleep(0.1)
            now = await status(subject)
        await asyncio.gather(*running)
        eventually(lambda: not subject.is_alive())
        ended_s = time.monotonic() - told_at

    figures.tell(
        "a full server that is told to end",
        **{kind: dict(ends) for kind, ends in clients.ends.items()},
        readiness_said_no_after_s=readiness_s,
        ended_after_s=ended_s,
    )
    assert clients.ends == {
        "streams": {"whole": STREAMS + QUEUED},
        "endless": {"told": ENDLESS},
        "chats": {"1012": CHATS},
    }
    assert set(readiness) <= {"503"}
    assert ended_s < DELAY_S + DRAIN_S + LATE_S
