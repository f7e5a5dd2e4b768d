"""The chat socket in both of its forms, with a real client."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from arriero.errors import EngineError
from arriero.testing.echo import BOS, EOS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

JSON = Subprotocol("arriero.v1")


@asynccontextmanager
async def chatting(client: Any, task: str = "t", **options: Any) -> AsyncIterator[ClientConnection]:
    """Open the chat socket of a task."""
    url = str(client.base_url).replace("http", "ws").rstrip("/")
    async with connect(f"{url}/v1/task/{task}/chat?api_key=sesame", proxy=None, **options) as socket:
        yield socket


async def turn(socket: ClientConnection, prompt: str) -> list[str]:
    """Send a prompt and return the frames up to the empty one."""
    await socket.send(prompt)
    return await answer(socket)


async def answer(socket: ClientConnection) -> list[str]:
    frames = []
    while frame := str(await socket.recv()):
        frames.append(frame)
    return frames


async def json_turn(socket: ClientConnection) -> list[dict[str, Any]]:
    """Return the frames of one turn of the JSON form."""
    frames = [json.loads(await socket.recv())]
    while frames[-1]["type"] not in ("stop", "error"):
        frames.append(json.loads(await socket.recv()))
    return frames


async def test_a_text_frame_for_each_piece_then_an_empty_one(serving: Any, model_saying: Any) -> None:
    """Poly's form; the second turn sees the first."""
    model = model_saying("ab", "c")
    async with serving(model) as client, chatting(client) as socket:
        assert await turn(socket, "Hi") == ["a", "b"]
        assert await turn(socket, "x") == ["c"]
        assert socket.subprotocol is None

    assert model.fed[1] == (BOS, *b"<Hi>ab", EOS, *b"<x>")


async def test_conversations_do_not_see_each_other(serving: Any, model_saying: Any) -> None:
    """Each socket has a session of its own."""
    model = model_saying("a")
    async with serving(model) as client, chatting(client) as one, chatting(client) as two:
        await turn(one, "first")
        await turn(two, "second")

    assert model.fed == [(BOS, *b"<first>"), (BOS, *b"<second>")]


async def test_an_error_is_shown_and_the_conversation_goes_on(serving: Any, model_saying: Any) -> None:
    """Errors before and in the middle of an answer become a readable frame; the session stays usable."""
    model = model_saying(EngineError("the engine died"), ValueError("private"), "fine")
    async with serving(model) as client, chatting(client) as socket:
        assert await turn(socket, "|secret|") == ["[error: illegal token encountered]"]
        assert await turn(socket, "a") == ["?", "[error: the engine died]"]
        assert await turn(socket, "a") == ["?", "[error: internal error]"]
        assert await turn(socket, "b") == ["f", "i", "n", "e"]

    assert model.fed[-1] == (BOS, *b"<b>")


async def test_the_json_form_tells_usage_and_end(serving: Any, model_saying: Any) -> None:
    """`arriero.v1`: delta frames, the usage, the end with its reason."""
    async with serving(model_saying("ab")) as client, chatting(client, subprotocols=[JSON]) as socket:
        await socket.send('{"prompt":"Hi"}')
        frames = await json_turn(socket)

    assert socket.subprotocol == JSON
    assert frames == [
        {"type": "delta", "text": "a"},
        {"type": "delta", "text": "b"},
        {"type": "usage", "prompt_tokens": 5, "completion_tokens": 2, "cached_tokens": 0},
        {"type": "stop", "finish_reason": "stop", "stop_sequence": None},
    ]


@pytest.mark.parametrize("frame", ["Hi", "{}", "[]", '{"prompt":1}', "[" * 10_000])
async def test_the_json_form_refuses_other_frames(serving: Any, frame: str) -> None:
    """A frame that is no prompt is answered with an error, and the socket stays open."""
    async with serving() as client, chatting(client, subprotocols=[JSON]) as socket:
        await socket.send(frame)
        refused = await json_turn(socket)
        await socket.send('{"prompt":"|secret|"}')
        private = await json_turn(socket)

    assert refused[0]["code"] == "invalid_request"
    assert private == [
        {"type": "error", "code": "illegal_token", "message": "illegal token encountered", "param": None}
    ]


async def test_a_stop_frame_ends_the_answer_and_forgets_the_turn(serving: Any, model_saying: Any) -> None:
    """The model's iterator is closed, the frames end, and the next turn starts from the one before."""
    model = model_saying("abc", hold_at=1)
    async with serving(model) as client, chatting(client, subprotocols=[JSON]) as socket:
        await socket.send('{"prompt":"Hi"}')
        await model.held.wait()
        await socket.send('{"stop":true}')
        await client.get("/status")
        model.go.set()
        frames = await json_turn(socket)
        await model.closed.wait()
        await socket.send('{"prompt":"b"}')
        await json_turn(socket)

    assert frames[-1] == {"type": "stop", "finish_reason": "cancelled", "stop_sequence": None}
    assert model.fed[1] == (BOS, *b"<b>")


async def test_prompts_wait_for_the_answer_in_order(serving: Any, model_saying: Any) -> None:
    """Up to 16 prompts sent during an answer are answered after it, one by one."""
    model = model_saying("a", hold_at=0)
    async with serving(model) as client, chatting(client) as socket:
        await socket.send("0")
        await model.held.wait()
        for number in range(1, 17):
            await socket.send(str(number))
        model.go.set()
        for _ in range(17):
            assert await answer(socket) == ["a"]

    assert [bytes(tokens[-3:]) for tokens in model.fed][9:11] == [b"<9>", b"10>"]


async def test_the_seventeenth_waiting_prompt_is_too_much(serving: Any, model_saying: Any) -> None:
    """The socket is closed with 1013 and the running answer ends."""
    model = model_saying("a", hold_at=0)
    async with serving(model) as client, chatting(client) as socket:
        await socket.send("0")
        await model.held.wait()
        for number in range(17):
            await socket.send(str(number))
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        await model.closed.wait()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1013


async def test_a_binary_frame_closes_the_socket(serving: Any) -> None:
    """1003, as the form is text."""
    async with serving() as client, chatting(client) as socket:
        await socket.send(b"Hi")
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1003


@pytest.mark.parametrize(("size", "code"), [(256 * 1024, None), (256 * 1024 + 1, 1009)])
async def test_the_size_of_a_frame_is_bounded(
    serving: Any, model_saying: Any, size: int, code: int | None
) -> None:
    """A frame of 256 KiB is read, one byte more closes the socket."""
    model = model_saying("a", context_size=1 << 20)
    async with serving(model) as client, chatting(client) as socket:
        await socket.send("x" * size)
        if code is None:
            assert await answer(socket) == ["a"]
            return
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == code


@pytest.mark.parametrize("hold_at", [0, 2])
async def test_a_gone_client_ends_the_answer(serving: Any, model_saying: Any, hold_at: int) -> None:
    """Closing the socket closes the model's iterator."""
    model = model_saying("abc", hold_at=hold_at)
    async with serving(model) as client:
        async with chatting(client) as socket:
            await socket.send("Hi")
            await model.held.wait()
        async with asyncio.timeout(2):
            await model.closed.wait()

    assert model.running == 0


async def test_pings_are_answered_while_an_answer_runs(serving: Any, model_saying: Any) -> None:
    """A pong comes although the model is silent."""
    model = model_saying("a", hold_at=0)
    async with serving(model) as client, chatting(client) as socket:
        await socket.send("Hi")
        await model.held.wait()
        async with asyncio.timeout(2):
            await (await socket.ping())


async def test_a_silent_socket_is_closed(serving: Any) -> None:
    """After the configured idle time the server closes with 1001."""
    async with serving(None, "[limits]\nchat_idle_timeout_s = 1") as client, chatting(client) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001


@pytest.mark.parametrize(
    ("task", "query", "origin", "status", "text"),
    [
        ("t", "", None, 401, "no auth token provided"),
        ("t", "api_key=bad", None, 401, "no acceptable auth token"),
        ("nope", "api_key=sesame", None, 404, "task not found: nope"),
        ("t", "api_key=sesame", "http://evil", 403, "http://evil"),
    ],
)
async def test_a_handshake_is_refused_with_a_status(
    serving: Any, task: str, query: str, origin: Any, status: int, text: str
) -> None:
    """Keys, names and origins are looked at before the socket opens."""
    async with serving(None, '[server]\nallowed_origins = ["http://good"]') as client:
        url = str(client.base_url).replace("http", "ws").rstrip("/")
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"{url}/v1/task/{task}/chat?{query}", origin=origin, proxy=None):
                pass

    assert refused.value.response.status_code == status
    assert text in (refused.value.response.body or b"").decode()


async def test_listed_and_own_origins_may_use_the_socket(serving: Any) -> None:
    """A page of a listed origin, and one that this server itself shows, get in."""
    async with serving(None, '[server]\nallowed_origins = ["http://good"]') as client:
        own = str(client.base_url).rstrip("/")
        for origin in ("http://good", own):
            async with chatting(client, origin=origin) as socket:
                assert await turn(socket, "Hi") == list("Hello")


THINKING = '[tasks.thinking]\nmodel = "m"\nbias_prompt = "So:"\nshow_hidden = %s'


async def test_hidden_text_comes_in_frames_of_its_own(serving: Any, model_saying: Any) -> None:
    """A prompt of the JSON form may ask for it; one that does not gets the answer alone."""
    model = model_saying("hm", "y", "hm", "y")
    async with (
        serving(model, THINKING % "true") as client,
        chatting(client, "thinking", subprotocols=[JSON]) as socket,
    ):
        await socket.send('{"prompt": "Hi", "hidden": true}')
        shown = [(frame["type"], frame.get("text")) for frame in await json_turn(socket)]
        await socket.send('{"prompt": "Hi"}')
        plain = [(frame["type"], frame.get("text")) for frame in await json_turn(socket)]

    assert shown[:3] == [("hidden", "h"), ("hidden", "m"), ("delta", "y")]
    assert plain[0] == ("delta", "y")


async def test_hidden_text_of_a_closed_task_is_refused(serving: Any, model_saying: Any) -> None:
    """The prompt is refused by name of the reason, and the conversation goes on."""
    async with (
        serving(model_saying("hm", "y"), THINKING % "false") as client,
        chatting(client, "thinking", subprotocols=[JSON]) as socket,
    ):
        await socket.send('{"prompt": "Hi", "hidden": true}')
        (refused,) = await json_turn(socket)
        await socket.send('{"prompt": "Hi"}')
        answered = await json_turn(socket)

    assert (refused["type"], refused["message"]) == ("error", "this task does not show its hidden text")
    assert answered[0] == {"type": "delta", "text": "y"}
