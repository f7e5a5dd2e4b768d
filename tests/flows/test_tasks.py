"""Poly's routes on tasks, over a socket, with a real model."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from tests.flows.process import HEADERS
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from arriero.sse import Decoder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx2
    from tests.flows.process import Served
    from websockets.asyncio.client import ClientConnection

QUESTION = "Name a river in Europe."
MANY_WORDS = "word " * 2000
SECRET = "The password is pineapple. " * 2 + "The password is pineapple."


def socket_url(server: Served, task: str = "assistant") -> str:
    return f"{server.url.replace('http', 'ws')}/v1/task/{task}/chat"


async def answer(socket: ClientConnection, prompt: str) -> list[str]:
    """Send a prompt and return the frames of the answer, without the empty one that ends it."""
    await socket.send(prompt)
    frames = []
    while frame := await socket.recv(decode=True):
        frames.append(frame)
    return frames


async def pieces(client: httpx2.AsyncClient, task: str, prompt: str) -> list[str]:
    """Return the data of all events of a live stream."""
    events = []
    decoder = Decoder()
    async with client.stream("GET", f"/v1/task/{task}/live", params={"prompt": prompt}) as response:
        assert response.headers["content-type"] == "text/event-stream"
        async for data in response.aiter_bytes():
            events += decoder.feed(data)
    assert {(event.event, event.id) for event in events} == {("", "token")}
    return [event.data for event in events]


async def data_lines(client: httpx2.AsyncClient, body: dict[str, object]) -> AsyncIterator[str]:
    """Yield the data lines of a stream of completions, up to its end."""
    async with client.stream("POST", "/v1/completions", json=body) as response:
        async for line in response.aiter_lines():
            if line == "data: [DONE]":
                return
            if line.startswith("data: "):
                yield line


async def test_the_lists_name_everything(client: httpx2.AsyncClient) -> None:
    """Liveness needs no key; the lists hold every configured name."""
    assert (await client.get("/status", headers={"authorization": ""})).json() == {"status": "ok"}
    assert (await client.get("/v1/model")).json() == {"models": ["chat", "embed"]}
    assert (await client.get("/v1/task")).json() == {
        "tasks": ["assistant", "classifier", "copier", "endless"]
    }
    assert (await client.get("/v1/task/assistant/status")).json() == {"status": "ok"}


async def test_a_live_stream_comes_in_pieces(client: httpx2.AsyncClient) -> None:
    """An answer of many tokens comes in many pieces, without the marks of the chat."""
    streamed = await pieces(client, "assistant", QUESTION)

    assert len(streamed) > 3
    assert "<|im_" not in "".join(streamed)


async def test_a_completion_keeps_to_max_tokens(client: httpx2.AsyncClient) -> None:
    """The text of a task with a limit has no more tokens than that."""
    text = (await client.get("/v1/task/assistant/completion", params={"prompt": "Tell a story."})).json()
    tokens = (await client.post("/v1/model/chat/tokenization", json={"prompt": text["text"]})).json()

    assert 1 <= len(tokens["tokens"]) <= 24


@pytest.mark.parametrize(
    ("review", "label"), [("What a waste of money.", "negative"), ("I loved every minute.", "positive")]
)
async def test_a_classifier_answers_one_word(client: httpx2.AsyncClient, review: str, label: str) -> None:
    """In every form the prelude says what is wanted, and the stop sequence ends the answer unshown."""
    path = "/v1/task/classifier/completion"
    got = (await client.get(path, params={"prompt": review})).json()["text"]
    posted = (await client.post(path, json={"prompt": review})).json()["text"]
    streamed = "".join(await pieces(client, "classifier", review))

    assert got == posted == streamed
    assert got.strip() == label


async def test_live_ends_with_what_was_asked_for(client: httpx2.AsyncClient) -> None:
    """With `end=true` the last event tells why the answer ended and what it took."""
    params = {"prompt": QUESTION, "end": "true"}
    text = (await client.get("/v1/task/assistant/live", params=params)).text
    (last,) = Decoder().feed(text.rstrip().rpartition("\n\n")[2].encode() + b"\n\n")

    assert last.event == "end"
    assert '"finish_reason":"stop"' in last.data or '"finish_reason":"length"' in last.data
    assert '"prompt_tokens":' in last.data


async def test_text_is_whole_whatever_its_bytes(client: httpx2.AsyncClient) -> None:
    """Characters of several tokens arrive whole, each in one piece of a stream."""
    limited = {"prompt": "😀🎉é中 " * 12, "model": "task/endless", "max_tokens": 24, "temperature": 0}
    await client.post("/v1/completions", json=limited)
    text = (await client.post("/v1/completions", json=limited)).json()["choices"][0]["text"]
    streamed = [json.loads(line[6:]) async for line in data_lines(client, {**limited, "stream": True})]

    for shown in (text, "".join(chunk["choices"][0]["text"] for chunk in streamed)):
        assert {"😀", "🎉"} & set(shown)
        assert "\N{REPLACEMENT CHARACTER}" not in shown


async def test_a_completion_that_fills_the_context_ends_with_length(client: httpx2.AsyncClient) -> None:
    """What fits is answered, with the reason; nothing is cut from the prompt."""
    prompt = "the cat sat on the mat\n" * 66
    params = {"prompt": prompt, "end": "true"}
    text = (await client.get("/v1/task/endless/live", params=params)).text

    assert '"finish_reason":"length"' in text.rpartition("event:end")[2]


async def test_a_chat_remembers_its_turns(server: Served) -> None:
    """The second answer over a socket knows the first turn; another socket does not."""
    async with connect(socket_url(server, "copier"), additional_headers=HEADERS) as socket:
        await answer(socket, SECRET)
        second = await answer(socket, " The password is")
    async with connect(f"{socket_url(server, 'copier')}?api_key=sesame") as other:
        stranger = await answer(other, " The password is")

    assert "".join(second).startswith(" pineapple")
    assert "pineapple" not in "".join(stranger)


async def test_a_chat_answers_prompts_in_their_order(server: Served) -> None:
    """Prompts that come during an answer wait for it; pings are answered meanwhile."""
    async with connect(socket_url(server), additional_headers=HEADERS) as socket:
        await socket.send("One.")
        await socket.send("Two.")
        await asyncio.wait_for(await socket.ping(), 10)
        ends = 0
        while ends < 2:
            ends += await socket.recv(decode=True) == ""

    assert ends == 2


async def test_an_error_in_a_chat_is_told_and_the_chat_goes_on(server: Served) -> None:
    """A private token and a prompt without end each get an error frame; the next prompt an answer."""
    async with connect(socket_url(server), additional_headers=HEADERS) as socket:
        private = await answer(socket, "Hello<|im_end|>")
        too_long = await answer(socket, MANY_WORDS)
        good = await answer(socket, QUESTION)

    assert private == ["[error: illegal token encountered]"]
    assert len(too_long) == 1
    assert "context" in too_long[0]
    assert len(good) > 1
    assert not good[0].startswith("[error")


async def test_a_binary_frame_closes_the_chat(server: Served) -> None:
    """Only text frames are prompts."""
    async with connect(socket_url(server), additional_headers=HEADERS) as socket:
        await socket.send(b"\x00\x01")
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1003


@pytest.mark.parametrize(
    ("task", "headers", "status"),
    [("nope", HEADERS, 404), ("assistant", {}, 401), ("assistant", {"authorization": "Bearer no"}, 401)],
)
async def test_a_handshake_is_refused_with_a_status(
    server: Served, task: str, headers: dict[str, str], status: int
) -> None:
    """An unknown task and a missing or wrong key are told before the socket opens."""
    with pytest.raises(InvalidStatus) as refused:
        async with connect(socket_url(server, task), additional_headers=headers):
            raise AssertionError("the socket is open")

    assert refused.value.response.status_code == status
