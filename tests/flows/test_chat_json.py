"""The JSON form of the chat socket, `arriero.v1`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.flows.process import HEADERS
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.flows.process import Served
    from websockets.asyncio.client import ClientConnection

PROTOCOL = [Subprotocol("arriero.v1")]


async def frames(socket: ClientConnection) -> AsyncIterator[dict[str, Any]]:
    """Yield the frames of one answer, the last of type `stop` or `error`."""
    while True:
        frame = json.loads(await socket.recv())
        yield frame
        if frame["type"] in {"stop", "error"}:
            return


def socket(server: Served, task: str) -> connect:
    url = f"{server.url.replace('http', 'ws')}/v1/task/{task}/chat"
    return connect(url, additional_headers=HEADERS, subprotocols=PROTOCOL)


async def test_an_answer_comes_as_deltas_usage_and_stop(server: Served) -> None:
    """The frames of a turn have types, and the end tells why and what it took."""
    async with socket(server, "assistant") as chat:
        await chat.send('{"prompt": "Hi"}')
        said = [frame async for frame in frames(chat)]

    assert chat.subprotocol == "arriero.v1"
    assert {frame["type"] for frame in said[:-2]} == {"delta"}
    assert said[-2]["type"] == "usage"
    assert said[-2]["completion_tokens"] > 0
    assert said[-1]["finish_reason"] in {"stop", "length"}


async def test_an_answer_can_be_stopped(server: Served) -> None:
    """`{"stop": true}` ends an endless answer; the socket takes the next prompt."""
    async with socket(server, "endless") as chat:
        await chat.send('{"prompt": "the cat"}')
        num_deltas = 0
        async for frame in frames(chat):
            num_deltas += frame["type"] == "delta"
            if num_deltas == 3:
                await chat.send('{"stop": true}')
        await chat.send('{"prompt": 1}')
        wrong = [frame async for frame in frames(chat)]

    assert frame == {"type": "stop", "finish_reason": "cancelled", "stop_sequence": None}
    assert wrong[0]["type"] == "error"
    assert wrong[0]["code"] == "invalid_request"
