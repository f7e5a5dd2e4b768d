"""Streams end with their clients, and never pretend to be complete."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from arriero.errors import EngineError
from arriero.server.streaming import EventStream
from arriero.testing.serving import served

CHAT = '{"model":"m","messages":[{"role":"user","content":"a"}],"n":%d,"stream":%s}'
LONG = "x" * 100


def posted(path: str, body: str) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sesame\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    ).encode()


REQUESTS = {
    "live": b"GET /v1/task/t/live?prompt=a&api_key=sesame HTTP/1.1\r\nhost: x\r\n\r\n",
    "completion": b"GET /v1/task/t/completion?prompt=a&api_key=sesame HTTP/1.1\r\nhost: x\r\n\r\n",
    "posted completion": posted("/v1/task/t/completion", '{"prompt":"a"}'),
    "chat stream": posted("/v1/chat/completions", CHAT % (1, "true")),
    "chat": posted("/v1/chat/completions", CHAT % (1, "false")),
    "three choices": posted("/v1/chat/completions", CHAT % (3, "true")),
    "completions": posted("/v1/completions", '{"model":"m","prompt":["a","b"],"max_tokens":100}'),
}


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("way", ["close", "reset"])
@pytest.mark.parametrize("hold_at", [0, 3])
async def test_a_gone_client_ends_the_work(
    serving: Any, model_saying: Any, address_of: Any, kind: str, way: str, hold_at: int
) -> None:
    """Before the first delta or later, streamed or not: the model's iterator is closed, the place is free."""
    model = model_saying(LONG, hold_at=hold_at)
    async with serving(model, "[server]\nmax_concurrent = 1") as client:
        _, writer = await asyncio.open_connection(*address_of(client))
        writer.write(REQUESTS[kind])
        await model.held.wait()
        if way == "reset":
            writer.transport.abort()
        else:
            writer.close()
        async with asyncio.timeout(2):
            await model.closed.wait()
        model.go.set()
        again = await client.get("/v1/task/t/completion?prompt=a")

    assert model.running == 0
    assert again.status_code == 200


async def test_a_client_that_leaves_the_queue_is_not_served(
    serving: Any, model_saying: Any, address_of: Any
) -> None:
    """Who goes while waiting for a place never reaches the model."""
    model = model_saying("xyz", hold_at=1)
    async with serving(model, "[server]\nmax_concurrent = 1") as client:
        running = asyncio.create_task(client.get("/v1/task/t/live?prompt=a"))
        await model.held.wait()
        _, writer = await asyncio.open_connection(*address_of(client))
        writer.write(REQUESTS["live"])
        await client.get("/status")
        writer.close()
        await client.get("/status")
        model.go.set()
        await running
        await client.get("/v1/task/t/completion?prompt=a")

    assert len(model.requests) == 2


async def test_a_reader_that_stops_stops_the_work() -> None:
    """What a stream produces for a reader that takes nothing is bounded by the sockets' buffers."""
    produced, closed = 0, asyncio.Event()

    async def work() -> AsyncGenerator[bytes, None]:
        nonlocal produced
        try:
            while produced < 4000:
                produced += 1
                await asyncio.sleep(0)
                yield bytes(65536)
        finally:
            closed.set()

    async with served(EventStream(work(), failed=failed, keep_alive_s=0.02, stall_s=0.1)) as url:
        port = int(url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(REQUESTS["live"])
        async with asyncio.timeout(5):
            await closed.wait()
        writer.transport.abort()

    assert 0 < produced < 1000


class Wire:
    """Stands where the server's socket is: keeps what is sent, and can refuse to take more."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.stuck = False

    async def send(self, message: Any) -> None:
        if self.stuck:
            await asyncio.Event().wait()
        self.sent.append(message.get("body", message["type"].encode()))

    async def receive(self) -> Any:
        await asyncio.Event().wait()


def failed(error: Any) -> bytes:
    return f"!{error.message}".encode()


async def test_a_stalled_reader_is_given_up() -> None:
    """A send that hangs ends the stream, closes the work and sends no end."""
    wire, closed = Wire(), asyncio.Event()

    async def work() -> AsyncGenerator[bytes, None]:
        try:
            yield b"one"
            wire.stuck = True
            yield b"two"
        finally:
            closed.set()

    stream = EventStream(work(), failed=failed, keep_alive_s=0.01, stall_s=0.02)
    async with asyncio.timeout(2):
        await stream({}, wire.receive, wire.send)

    assert closed.is_set()
    assert wire.sent == [b"http.response.start", b"one"]


async def test_a_shutdown_tells_the_streams() -> None:
    """A cut-off stream gets an error event, and its work is closed."""
    wire, begun, closed = Wire(), asyncio.Event(), asyncio.Event()

    async def work() -> AsyncGenerator[bytes, None]:
        try:
            yield b"one"
            begun.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    job = asyncio.ensure_future(
        EventStream(work(), failed=failed, keep_alive_s=9)({}, wire.receive, wire.send)
    )
    await begun.wait()
    job.cancel()
    await asyncio.wait([job])

    assert closed.is_set()
    assert wire.sent[1:] == [b"one", b"!the server is shutting down", b""]


async def test_a_client_that_goes_with_the_last_event_is_no_error() -> None:
    """The news of it comes when the stream has just ended, and nothing is made of it any more."""
    wire, last = Wire(), asyncio.get_running_loop().create_future()
    failures: list[dict[str, Any]] = []

    async def work() -> AsyncGenerator[bytes, None]:
        yield b"one"
        await last

    async def receive() -> dict[str, Any]:
        last.set_result(None)  # the stream goes on in the same turn of the loop in which this tells
        return {"type": "http.disconnect"}

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, failure: failures.append(failure))
    try:
        await EventStream(work(), failed=failed, keep_alive_s=9)({}, receive, wire.send)
        await asyncio.sleep(0)
    finally:
        loop.set_exception_handler(None)

    assert (failures, wire.sent) == ([], [b"http.response.start", b"one", b""])


async def test_an_error_before_the_first_event_is_raised() -> None:
    """Nothing has been sent, so the error can still have a status."""
    wire = Wire()

    async def work() -> AsyncGenerator[bytes, None]:
        for failure in (EngineError("no"),):
            raise failure
        yield b""

    with pytest.raises(EngineError):
        await EventStream(work(), failed=failed, keep_alive_s=9)({}, wire.receive, wire.send)
    assert wire.sent == []
