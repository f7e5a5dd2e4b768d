"""WebSockets: many that are idle, and some that are hostile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.abuse.subject import KEY, Subject, eventually, handshake, raise_open_files, scaled, staged_subject
from websockets.asyncio.client import connect
from websockets.frames import Frame, Opcode

if TYPE_CHECKING:
    from tests.abuse.figures import Figures

IDLE = 10_000
AT_A_TIME = 200
MOST_BYTES_EACH = 40 * 1024
MANY = 1_000_000
MIB = 2**20
MOST_GROWTH = 8 * MIB
IDLE_S, STALL_S = 6, 5
LONGEST_TURN_S = 5.0
"""Of another conversation, on a busy machine; the figure tells what it was."""
SETTINGS = f"""
[server]
max_concurrent = 100
[limits]
max_connections = 15000
chat_idle_timeout_s = {{idle_s}}
write_stall_s = {STALL_S}
"""


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """A server that soon closes silent chats."""
    with staged_subject(tmp_path_factory.mktemp("sockets"), SETTINGS.format(idle_s=IDLE_S)) as subject:
        yield subject


def opened(subject: Subject, number: int) -> list[socket]:
    """Open sockets that offer compression, which is not taken, and say nothing."""
    sockets: list[socket] = []
    request = handshake("sec-websocket-extensions: permessage-deflate; client_max_window_bits")
    while len(sockets) < number:
        batch = [subject.connect() for _ in range(min(AT_A_TIME, number - len(sockets)))]
        for one in batch:
            one.sendall(request)
        for one in batch:
            head = one.recv(4096)
            assert head.startswith(b"HTTP/1.1 101"), head
            assert b"deflate" not in head
        sockets += batch
    return sockets


@pytest.mark.slow
async def test_ten_thousand_idle_sockets(tmp_path: Path, figures: Figures) -> None:
    """Each costs at most 40 KiB; a conversation goes on meanwhile; all of it comes back."""
    number = min(scaled(IDLE), raise_open_files() - 500)
    with staged_subject(tmp_path, SETTINGS.format(idle_s=3600)) as subject:
        for one in opened(subject, AT_A_TIME):
            one.close()
        eventually(lambda: subject.num_sockets() < AT_A_TIME / 2)
        sockets, before = subject.num_sockets(), subject.resident_bytes()
        started = time.monotonic()
        idle = opened(subject, number)
        opening_s = time.monotonic() - started
        each = (subject.resident_bytes() - before) / number
        turn_s = await turn(subject)
        for one in idle:
            one.close()
        closing_s = eventually(lambda: subject.num_sockets() <= sockets)
        left = subject.resident_bytes() - before

    figures.tell(
        "idle WebSockets",
        connections=number,
        KiB_each=each / 1024,
        opened_in_s=opening_s,
        a_turn_meanwhile_s=turn_s,
        closed_in_s=closing_s,
        MiB_left=left / MIB,
    )
    assert each <= MOST_BYTES_EACH


async def turn(subject: Subject) -> float:
    """Return how long one turn of a conversation takes."""
    async with chatting(subject) as chat:
        started = time.monotonic()
        await chat.send("hello")
        while await chat.recv():
            pass
        return time.monotonic() - started


def chatting(subject: Subject, **options: object) -> connect:
    url = subject.url.replace("http", "ws") + "/v1/task/t/chat"
    headers = {"authorization": f"Bearer {KEY}"}
    return connect(url, additional_headers=headers, compression=None, **options)  # type: ignore[arg-type]


@dataclass
class Raw:
    """A WebSocket in frames that no library would send."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *frames: tuple[Opcode, bytes] | tuple[Opcode, bytes, bool]) -> None:
        for opcode, data, *fin in frames:
            self.writer.write(Frame(opcode, data, fin=not fin or fin[0]).serialize(mask=True))
        await self.writer.drain()

    async def flood(self, frame: bytes, number: int) -> None:
        """Send a frame again and again; stop when the server hangs up, or reads no more for a while."""
        at_once = 1000
        try:
            async with asyncio.timeout(20):
                for _ in range(number // at_once):
                    self.writer.write(frame * at_once)
                    await self.writer.drain()
        except (OSError, TimeoutError):
            return

    async def closed(self) -> int:
        """Read to the end; return the code of the close frame, 0 if there was none."""
        data = b""
        try:
            async with asyncio.timeout(60):
                while piece := await self.reader.read(2**20):
                    data = (data + piece)[-4096:]
        except OSError:
            pass
        at = data.rfind(b"\x88")
        return int.from_bytes(data[at + 2 : at + 4], "big") if at >= 0 else 0


@asynccontextmanager
async def raw(subject: Subject, *headers: str) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection(*subject.address)
    writer.write(handshake(*headers))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


def masked(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin=fin).serialize(mask=True)


async def too_large(chat: Raw) -> int:
    await chat.send((Opcode.TEXT, b"a" * (256 * 1024 + 1)))
    return await chat.closed()


async def too_large_in_fragments(chat: Raw) -> int:
    """Two bytes at a time, so that what the server notes of each weighs more than they do."""
    await chat.send((Opcode.TEXT, b"aa", False))
    await chat.flood(masked(Opcode.CONT, b"aa", fin=False), MANY)
    return await chat.closed()


async def empty_fragments(chat: Raw) -> int:
    await chat.send((Opcode.TEXT, b"a", False))
    await chat.flood(masked(Opcode.CONT, b"", fin=False), MANY)
    return 0


async def tiny_prompts(chat: Raw) -> int:
    await chat.flood(masked(Opcode.TEXT, b"a"), MANY)
    return await chat.closed()


async def prompts_while_an_answer_waits(chat: Raw) -> int:
    await chat.send((Opcode.TEXT, b"wait"), *((Opcode.TEXT, b"a" * 1000) for _ in range(100)))
    return await chat.closed()


async def pings(chat: Raw) -> int:
    """The pongs are not read."""
    await chat.flood(masked(Opcode.PING, b"p" * 125), MANY)
    return 0


async def never_read(chat: Raw) -> int:
    """The answer has no end; the server cuts the connection with a reset."""
    await chat.send((Opcode.TEXT, b"flood"))
    transport = chat.writer.transport
    transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.sleep(STALL_S + 5)
    transport.resume_reading()  # type: ignore[attr-defined]
    return await chat.closed()


async def binary(chat: Raw) -> int:
    await chat.send((Opcode.BINARY, b"a"))
    return await chat.closed()


async def not_text(chat: Raw) -> int:
    await chat.send((Opcode.TEXT, b"\xff\xfe"))
    return await chat.closed()


async def unmasked(chat: Raw) -> int:
    chat.writer.write(Frame(Opcode.TEXT, b"a").serialize(mask=False))
    return await chat.closed()


async def silent(chat: Raw) -> int:
    return await chat.closed()


WAYS: dict[Callable[[Raw], Awaitable[int]], int] = {
    too_large: 1009,
    too_large_in_fragments: 1009,
    empty_fragments: 0,
    tiny_prompts: 1013,
    prompts_while_an_answer_waits: 1013,
    pings: 0,
    never_read: 0,
    binary: 1003,
    not_text: 1007,
    unmasked: 1002,
    silent: 1001,
}


FLOODS = {too_large_in_fragments, tiny_prompts}
"""Who does not read while it sends may lose the code to the reset that ends it."""


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_hostile_sockets(
    chats: Subject, figures: Figures, way: Callable[[Raw], Awaitable[int]]
) -> None:
    """Each is closed with its code, or held up; little is kept of it; another conversation goes on."""
    async with raw(chats) as chat:  # what is loaded and kept at first does not count
        await binary(chat)
    sockets = chats.num_sockets()
    chats.forget_peak()
    before = chats.resident_bytes()
    turns: list[float] = []
    async with raw(chats) as chat:
        hostile = asyncio.ensure_future(way(chat))
        started = time.monotonic()
        while not hostile.done():
            turns.append(await turn(chats))
            await asyncio.sleep(0.05)
        code, took_s = hostile.result(), time.monotonic() - started
    eventually(lambda: chats.num_sockets() <= sockets)
    grown = chats.peak_bytes() - before

    figures.tell(
        f"a hostile WebSocket: {way.__name__}",
        code=code,
        took_s=took_s,
        MiB_grown_at_most=grown / MIB,
        turns_of_another=len(turns),
        slowest_turn_s=max(turns, default=0.0),
    )
    assert code in {WAYS[way], 0} if way in FLOODS else code == WAYS[way]
    assert grown < MOST_GROWTH
    assert max(turns) < LONGEST_TURN_S


@pytest.mark.slow
async def test_wrong_json_does_not_end_a_conversation(chats: Subject) -> None:
    """Levels without end, numbers without end, names twice: an error frame each, and then an answer."""
    bombs = [
        "[" * 100_000,
        '{"prompt":' * 20_000,
        '{"prompt":' + "1" * 100_000 + "}",
        "{}",
        "null",
        '"a"',
        "",
    ]
    async with chatting(chats, subprotocols=["arriero.v1"]) as chat:
        for bomb in bombs:
            await chat.send(bomb)
            assert msgspec.json.decode(await chat.recv())["type"] == "error", bomb[:40]
        await chat.send('{"prompt": "hello"}')
        assert msgspec.json.decode(await chat.recv())["type"] == "delta"


@pytest.mark.slow
async def test_who_answers_no_ping_is_closed(tmp_path: Path, figures: Figures) -> None:
    """After the interval, the time for the answer, and that for an answer to the close."""
    with staged_subject(tmp_path, SETTINGS.format(idle_s=3600)) as subject:
        async with raw(subject) as chat:
            started = time.monotonic()
            code = await chat.closed()
            took_s = time.monotonic() - started

    figures.tell("a WebSocket that answers no ping", code=code, closed_after_s=took_s)
    assert code == 1011
    assert 38 < took_s < 60
