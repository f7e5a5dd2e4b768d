"""The load client: what it makes of an answer, however the answer is cut."""

from __future__ import annotations

import asyncio
import json

import pytest

from benchmarks import stream

EVENTS = [
    {"choices": [{"text": "", "finish_reason": None}]},
    {"choices": [{"text": " one", "finish_reason": None}]},
    {"choices": [{"text": " two", "finish_reason": None}]},
    {"choices": [{"text": "", "finish_reason": "length"}]},
    {
        "choices": [],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 5}},
    },
]


def chunk(text: str) -> bytes:
    data = text.encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


def answer(*, status: str = "200 OK", done: bool = True) -> bytes:
    """Return a whole answer in chunked coding, one event a chunk."""
    head = f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    events = [chunk(f"data: {json.dumps(event)}\n\n") for event in EVENTS]
    end = [chunk("data: [DONE]\n\n")] if done else []
    return b"".join([head, *events, *end, b"0\r\n\r\n"])


def test_answer_cut_at_every_byte() -> None:
    """Any cut gives the same events, and times of the pieces that ended the first and last output."""
    data = answer()
    first_end, last_end = (data.index(b"\n\n", data.index(mark)) + 2 for mark in (b" one", b'"length"'))

    for cut in range(1, len(data)):
        outcome = stream.read(10.0, [(11.0, data[:cut]), (12.0, data[cut:])])

        assert (outcome.prompt_tokens, outcome.cached_tokens, outcome.completion_tokens) == (7, 5, 3)
        assert outcome.events == 3
        assert outcome.first_s == (1.0 if cut >= first_end else 2.0)
        assert outcome.last_s == (1.0 if cut >= last_end else 2.0)


@pytest.mark.parametrize("data", [b"", answer(done=False), answer(status="500 Oops")])
def test_incomplete_answer_is_an_error(data: bytes) -> None:
    """No answer, a stream without its end, and an error status are never counted as results."""
    with pytest.raises(stream.StreamError, match="status"):
        stream.read(0.0, [(1.0, data)])


def test_request_asks_for_exact_length() -> None:
    """The request is one HTTP message whose body asks for that many tokens, and closes."""
    head, _, body = stream.completion("é", max_tokens=5, seed=2).partition(b"\r\n\r\n")

    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Connection: close" in head
    asked = json.loads(body)
    assert (asked["prompt"], asked["max_tokens"], asked["ignore_eos"], asked["seed"]) == ("é", 5, True, 2)


async def test_streams_run_together() -> None:
    """All requests are sent before any is answered; the batch adds up their tokens."""
    waiting: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        waiting.append(writer)
        if len(waiting) == 3:
            for each in waiting:
                each.write(answer())
                each.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        batch = await stream.run_together(port, [stream.completion("x", max_tokens=3, seed=1)] * 3)

    assert batch.completion_tokens == 9
    assert batch.decode_s <= batch.wall_s
    assert batch.mean_first_s == pytest.approx(sum(outcome.first_s for outcome in batch.outcomes) / 3)
