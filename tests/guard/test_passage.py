"""A passage and its outlet, where what the edge makes of them is too coarse to see it."""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from tests.guard.remote import SECRET, asked, chat_body, eventually, guarded

from arriero.errors import InvalidRequest
from arriero.guard.body import read_body
from arriero.guard.failure import UpstreamFailed
from arriero.guard.forward import MAX_ERROR_BYTES
from arriero.guard.routes import Route
from arriero.testing.upstream import Answer, End, chat, chat_chunk, chunk, chunked, event, whole

if TYPE_CHECKING:
    from arriero.guard.forward import Guard
    from arriero.guard.passage import Passage
    from arriero.guard.scan import Header


class Kept:
    """An outlet that keeps what it is told, and has room when the test says so."""

    def __init__(self) -> None:
        self.is_writable = True
        self.told = b""
        self.headers: tuple[Header, ...] = ()
        self.error: Exception | None = None
        self.ended = asyncio.Event()

    def answer(self, headers: tuple[Header, ...], body: bytes) -> None:
        self.start(headers)
        self.finish(body)

    def refuse(self, error: Exception) -> None:
        self.error = error
        self.ended.set()

    def start(self, headers: tuple[Header, ...]) -> None:
        self.headers = headers

    def write(self, piece: bytes) -> bool:
        self.told += piece
        return self.is_writable

    def finish(self, piece: bytes) -> None:
        self.told += piece
        self.ended.set()


def passage(guard: Guard, outlet: Kept) -> Passage:
    """Ask for a stream."""
    return guard.pass_on(Route.CHAT, read_body(chat_body(stream=True), max_bytes=1000), [], outlet)


FIRST = event(chat_chunk("first", model=SECRET))
LONG = event(chat_chunk("x" * 300_000, model=SECRET))
GZIP_HEAD = chunked(headers={"content-encoding": "gzip"}).parts[0]
END = event(chat_chunk(None, model=SECRET, finish="stop")) + event(b"[DONE]")


async def test_nothing_is_lost_while_there_is_no_room() -> None:
    """Room may vanish without a word from the passage, in the midst of a long compressed event."""
    first, rest = packed(FIRST, LONG + END)
    go_on, end = asyncio.Event(), asyncio.Event()
    parts = (GZIP_HEAD, chunk(first), go_on, chunk(rest[:-50]), end, chunk(rest[-50:]), chunk(b""))
    async with guarded(Answer(parts)) as (guard, _), asyncio.timeout(5):
        outlet = Kept()
        passing = passage(guard, outlet)
        await eventually(lambda: b"first" in outlet.told)
        outlet.is_writable = False  # as a comment into the silence fills a buffer
        go_on.set()
        await eventually(lambda: passing._backlog is not None)
        end.set()
        for _ in range(30):
            await asyncio.sleep(0)
        outlet.is_writable = True
        passing.resume()
        await outlet.ended.wait()

        assert guard.num_running == 0
    contents = [msgspec.json.decode(data)["choices"][0]["delta"] for data in payloads(outlet.told)[:-1]]
    assert contents == [{"content": "first"}, {"content": "x" * 300_000}, {}]
    assert outlet.told.endswith(b"data: [DONE]\n\n")


async def test_a_compressed_stream_that_is_damaged_ends_at_once() -> None:
    """In an error after what was good of it; the upstream is let go of."""
    parts = (GZIP_HEAD, chunk(packed(FIRST, b"")[0]), chunk(b"\xff" * 20))
    async with guarded(Answer(parts, End.STALL)) as (guard, (upstream,)), asyncio.timeout(5):
        outlet = Kept()
        passage(guard, outlet)
        await outlet.ended.wait()
        await upstream.gone.wait()

    first, error = payloads(outlet.told)
    assert b"first" in first
    assert msgspec.json.decode(error)["error"]["code"] == "upstream_failed"


async def test_what_cannot_be_begun_leaves_its_place() -> None:
    """Whatever went wrong."""
    headers: Any = [()]
    async with guarded(whole(b"")) as (guard, _):
        with pytest.raises(ValueError, match="required"):
            guard.pass_on(Route.CHAT, read_body(chat_body(), max_bytes=1000), headers, Kept())

        assert guard.num_running == 0


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize(("more", "error"), [(0, InvalidRequest), (1, UpstreamFailed)])
async def test_the_bound_of_an_error_is_exact(
    is_chunked: bool, more: int, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    """An upstream's refusal of so many bytes is read, one of a byte more is not."""
    body = b'{"message":"no"}'.ljust(MAX_ERROR_BYTES + more)
    head = b"HTTP/1.1 400 Bad\r\ntransfer-encoding: chunked\r\n\r\n"
    answer = Answer((head, chunk(body), chunk(b""))) if is_chunked else whole(body, 400)
    async with guarded(answer) as (guard, _), asyncio.timeout(5):
        outlets = Kept(), Kept()
        for outlet in outlets:  # over a new connection, then over one that is kept
            passage(guard, outlet)
            await outlet.ended.wait()
        with pytest.raises(error):
            await asked(guard)

        assert [type(outlet.error) for outlet in outlets] == [error, error]
    assert not caplog.records


def packed(*parts: bytes) -> list[bytes]:
    """Compress the parts of one answer, each so that it can be read without the next."""
    packer = zlib.compressobj(wbits=31)
    pieces = [packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH) for part in parts]
    return [*pieces[:-1], pieces[-1] + packer.flush()]


def payloads(told: bytes) -> list[bytes]:
    """Return the data of each event."""
    return [data.removeprefix(b"data: ") for data in told.split(b"\n\n")[:-1]]


LARGE = chat("x" * 400_000, model=SECRET)


def whole_passage(guard: Guard, outlet: Kept) -> Passage:
    """Ask for a whole answer."""
    return guard.pass_on(Route.CHAT, read_body(chat_body(), max_bytes=1000), [], outlet)


@pytest.mark.parametrize("gzipped", [False, True])
async def test_a_large_answer_is_told_whole(gzipped: bool) -> None:
    """It is rebuilt beside the event loop, to the same."""
    async with guarded(whole(LARGE, gzipped=gzipped)) as (guard, _), asyncio.timeout(5):
        outlet = Kept()
        whole_passage(guard, outlet)
        await outlet.ended.wait()

        assert guard.num_running == 0
    told = msgspec.json.decode(outlet.told)
    assert told["choices"] == LARGE["choices"]
    assert SECRET.encode() not in outlet.told


async def test_a_large_answer_that_is_none_is_refused() -> None:
    """As a small one is."""
    async with guarded(whole(b"[" * 400_000)) as (guard, _), asyncio.timeout(5):
        outlet = Kept()
        whole_passage(guard, outlet)
        await outlet.ended.wait()

        assert guard.num_running == 0
    assert isinstance(outlet.error, UpstreamFailed)


async def test_who_leaves_a_large_answer_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is rebuilt; the place is free at once."""
    is_begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(*_: object) -> tuple[tuple[Header, ...], bytes]:
        is_begun.set()
        await go_on.wait()
        return (), b"told"

    async with guarded(whole(LARGE)) as (guard, _), asyncio.timeout(5):
        monkeypatch.setattr(guard, "told_aside", slow)
        outlet = Kept()
        passing = whole_passage(guard, outlet)
        await is_begun.wait()
        passing.cut()

        assert guard.num_running == 0
        go_on.set()
        for _ in range(10):
            await asyncio.sleep(0)
        assert (outlet.told, outlet.error) == (b"", None)
