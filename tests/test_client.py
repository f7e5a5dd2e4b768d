"""The client against small servers that say what is to be understood."""

from __future__ import annotations

import socket
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute

from arriero.client import CHAT_PROTOCOL, Client, Duration, IngestJob, TaskStats, failure, socket_url
from arriero.core import Token
from arriero.errors import (
    ArrieroError,
    ContextOverflow,
    EngineError,
    Forbidden,
    InvalidRequest,
    Overloaded,
    PayloadTooLarge,
    PrivateTokenFound,
    ServiceError,
    Unauthorized,
    Unavailable,
    UnknownName,
)
from arriero.testing.serving import served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.websockets import WebSocket


def answering(path: str, response: Response, *, method: str = "GET") -> Starlette:
    """An application that answers one path always alike."""

    async def route(request: Request) -> Response:
        return response

    return Starlette(routes=[Route(path, route, methods=[method])])


async def test_lists_are_returned_in_the_servers_order() -> None:
    """Models, remote ones too, and tasks come as the server holds them."""
    states = {"b": {"kind": "remote"}, "a": {"kind": "local"}}
    app = Starlette(
        routes=[
            Route("/v1/status", lambda request: JSONResponse({"models": states})),
            Route("/v1/task", lambda request: JSONResponse({"tasks": []})),
        ]
    )
    async with served(app) as url, Client(url) as client:
        assert await client.models() == ["b", "a"]
        assert await client.tasks() == []


async def test_statistics_are_typed() -> None:
    """Durations and counts come as values; members that we do not know are skipped."""
    said = {
        "tasks": {
            "t": {"cycles": 2, "predict_tokens": 8, "predict_duration": {"secs": 1, "nanos": 5}, "x": 1}
        }
    }
    app = answering("/v1/stats", JSONResponse(said))
    async with served(app) as url, Client(url) as client:
        stats = await client.stats()

    assert stats == {"t": TaskStats(cycles=2, predict_tokens=8, predict_duration=Duration(1, 5))}
    assert stats["t"].predict_duration.seconds == pytest.approx(1.000000005)


async def test_prompts_travel_as_json_and_names_as_one_path_segment() -> None:
    """A name with a slash or a space reaches the server whole, and so does any prompt."""
    seen: list[tuple[str, Any]] = []

    async def route(request: Request) -> Response:
        seen.append((request.scope["raw_path"].decode(), await request.json()))
        return JSONResponse({"text": "ok", "embedding": [1.5, -2.0], "tokens": [{"text": "a", "token": 7}]})

    app = Starlette(routes=[Route("/{rest:path}", route, methods=["POST"])])
    async with served(app) as url, Client(url) as client:
        assert await client.completion("a/b c", "ä\n") == "ok"
        assert await client.embed("m", "x") == [1.5, -2.0]
        assert await client.tokenize("m", "x") == [Token("a", 7)]

    assert seen[0] == ("/v1/task/a%2Fb%20c/completion", {"prompt": "ä\n"})
    assert [path for path, _ in seen[1:]] == ["/v1/model/m/embedding", "/v1/model/m/tokenization"]


async def test_a_memory_is_read_and_written() -> None:
    """A document travels as it is under its name; a job is typed; unknown members are skipped."""
    seen: list[tuple[str, str, bytes]] = []
    job = {"id": "j", "name": "a/b.pdf", "state": "embedding", "chunks_done": 1, "chunks_total": 4, "size": 9}
    answers = {"GET": job, "PUT": {"job": "j"}, "POST": {"chunks": ["x", "y"]}}

    async def route(request: Request) -> Response:
        seen.append((request.url.path, request.url.query, await request.body()))
        return JSONResponse(answers[request.method])

    app = Starlette(routes=[Route("/{rest:path}", route, methods=list(answers))])
    async with served(app) as url, Client(url) as client:
        assert await client.ingest("n", "a/b.pdf", b"\x00\xff") == "j"
        told = await client.ingest_job("n", "j")
        assert await client.recall("n", "what", 2) == ["x", "y"]

    assert seen[0] == ("/v1/memory/n", "name=a%2Fb.pdf&wait=false", b"\x00\xff")
    assert told == IngestJob("j", "a/b.pdf", "embedding", 1, 4)
    assert not told.is_ended
    assert seen[2] == ("/v1/memory/n", "", b'{"prompt":"what","n":2}')


async def test_the_key_is_sent_as_a_bearer_token() -> None:
    """A client with a key sends it with every request, one without sends none."""

    async def route(request: Request) -> Response:
        return JSONResponse({"tasks": [request.headers.get("authorization", "none")]})

    async with served(Starlette(routes=[Route("/v1/task", route)])) as url:
        async with Client(url, api_key="k") as client:
            assert await client.tasks() == ["Bearer k"]
        async with Client(url) as client:
            assert await client.tasks() == ["none"]


async def test_a_stream_yields_pieces_as_they_were_sent() -> None:
    """Leading blanks and line ends in pieces survive, comments are skipped."""

    async def body() -> AsyncIterator[bytes]:
        for part in (b"id:token\nda", b"ta:  a\n\n:keep-alive\n\nid:token\ndata:\ndata:\n\n", b"data:b\n\n"):
            yield part

    async def route(request: Request) -> Response:
        return StreamingResponse(body(), media_type="text/event-stream")

    async with served(Starlette(routes=[Route("/v1/task/t/live", route)])) as url, Client(url) as client:
        pieces = [piece async for piece in client.stream("t", "hi")]

    assert pieces == [" a", "\n", "b"]


async def test_an_error_in_a_stream_is_raised_after_the_pieces_before_it() -> None:
    """What came before the error event is yielded; the error keeps its class and message."""
    problem = b'{"title":"x","status":500,"detail":"the engine died","code":"engine_error"}'
    app = answering("/v1/task/t/live", Response(b"data:a\n\nevent:error\ndata:" + problem + b"\n\n"))
    async with served(app) as url, Client(url) as client, aclosing(client.stream("t", "hi")) as pieces:
        assert await anext(pieces) == "a"
        with pytest.raises(EngineError, match="the engine died"):
            await anext(pieces)


async def test_a_refused_stream_raises_before_the_first_piece() -> None:
    """The status of a stream that never began becomes an error."""
    app = answering("/v1/task/t/live", PlainTextResponse("task not found: t", 404))
    async with served(app) as url, Client(url) as client:
        with pytest.raises(UnknownName, match="task not found: t"):
            await anext(client.stream("t", "hi"))


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (401, b"no auth token", Unauthorized, "no auth token"),
        (
            403,
            b'{"title":"Forbidden","status":403,"detail":"not you","code":"forbidden"}',
            Forbidden,
            "not you",
        ),
        (404, b"model not found: m", UnknownName, "model not found: m"),
        (404, b"", InvalidRequest, "the server answered with status 404"),
        (
            400,
            b'{"error":{"message":"too long","code":"context_length_exceeded"}}',
            ContextOverflow,
            "too long",
        ),
        (400, b'{"detail":"illegal","code":"illegal_token"}', PrivateTokenFound, "illegal"),
        (413, b"big", PayloadTooLarge, "big"),
        (422, b"[1]", InvalidRequest, "[1]"),
        (429, b"later", Overloaded, "later"),
        (503, b'{"detail":"full","code":"overloaded"}', Overloaded, "full"),
        (503, b"loading", Unavailable, "loading"),
        (500, b"oops", ServiceError, "oops"),
        (500, b"\xff", ServiceError, "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_a_refusal_becomes_the_error_it_stands_for(
    status: int, body: bytes, kind: type[ArrieroError], message: str
) -> None:
    """The code decides before the status; problem details, OpenAI's object and plain text are read."""
    error = failure(status, body)

    assert (type(error), error.message) == (kind, message)


async def test_an_answer_of_another_form_is_refused() -> None:
    """A server that is not Arriero is told as such."""
    app = answering("/v1/task", JSONResponse({"hello": "world"}))
    async with served(app) as url, Client(url) as client:
        with pytest.raises(ServiceError, match="does not answer like Arriero"):
            await client.tasks()


async def test_no_server_is_unavailable() -> None:
    """Every kind of call tells the address that was tried, and that nobody listens there."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        told = f"^no answer from {url}: no server listens there$"
        async with Client(url) as client:
            with pytest.raises(Unavailable, match=told):
                await client.models()
            with pytest.raises(Unavailable, match=told):
                await anext(client.stream("t", "hi"))
            with pytest.raises(Unavailable, match=told):
                async with client.chat("t"):
                    pass


class Script:
    """A chat server that follows a script: for each frame of the client the frames that it answers."""

    def __init__(self, *answers: list[dict[str, Any]] | None) -> None:
        self.answers = list(answers)
        self.heard: list[Any] = []

    def app(self) -> Starlette:
        return Starlette(routes=[WebSocketRoute("/v1/task/t/chat", self.talk)])

    async def talk(self, websocket: WebSocket) -> None:
        await websocket.accept(CHAT_PROTOCOL)
        for answer in self.answers:
            self.heard.append(await websocket.receive_json())
            if answer is None:
                await websocket.close(1001, "idle for too long")
                return
            for frame in answer:
                await websocket.send_json(frame)
        await websocket.receive()


def delta(text: str) -> dict[str, Any]:
    return {"type": "delta", "text": text}


STOP = {"type": "stop", "finish_reason": "stop", "stop_sequence": None}


async def test_a_chat_yields_each_answer_up_to_its_end() -> None:
    """Two turns go over one socket; usage is not taken for text."""
    script = Script(
        [delta("a"), delta(" b"), {"type": "usage", "prompt_tokens": 1}, STOP], [delta("c"), STOP]
    )
    async with served(script.app()) as url, Client(url) as client, client.chat("t") as chat:
        first = [piece async for piece in chat.answer("one")]
        second = [piece async for piece in chat.answer("two")]

    assert (first, second) == (["a", " b"], ["c"])
    assert script.heard == [{"prompt": "one"}, {"prompt": "two"}]


async def test_a_chat_goes_on_after_a_stopped_answer() -> None:
    """Closing an answer sends stop and skips the rest of it, so that the next answer is its own."""
    cancelled = {"type": "stop", "finish_reason": "cancelled", "stop_sequence": None}
    script = Script([delta("a")], [delta("late"), cancelled], [delta("b"), STOP])
    async with served(script.app()) as url, Client(url) as client, client.chat("t") as chat:
        async with aclosing(chat.answer("one")) as pieces:
            assert await anext(pieces) == "a"
        second = [piece async for piece in chat.answer("two")]

    assert second == ["b"]
    assert script.heard == [{"prompt": "one"}, {"stop": True}, {"prompt": "two"}]


async def test_a_chat_goes_on_after_an_error() -> None:
    """A refused prompt raises its class, and the next one is answered."""
    refused = {
        "type": "error",
        "code": "illegal_token",
        "message": "illegal token encountered",
        "param": None,
    }
    script = Script([refused], [delta("b"), STOP])
    async with served(script.app()) as url, Client(url) as client, client.chat("t") as chat:
        with pytest.raises(PrivateTokenFound, match="illegal token encountered"):
            await anext(chat.answer("one"))
        second = [piece async for piece in chat.answer("two")]

    assert second == ["b"]


async def test_a_chat_that_the_server_closes_is_unavailable() -> None:
    """The reason that the server gave is told."""
    script = Script(None)
    async with served(script.app()) as url, Client(url) as client, client.chat("t") as chat:
        with pytest.raises(Unavailable, match="idle for too long"):
            await anext(chat.answer("one"))


async def test_a_refused_handshake_becomes_an_error() -> None:
    """A chat with an unknown task fails before any prompt, with the server's words."""

    async def refuse(websocket: WebSocket) -> None:
        await websocket.send_denial_response(PlainTextResponse("task not found: t", 404))

    app = Starlette(routes=[WebSocketRoute("/v1/task/t/chat", refuse)])
    async with served(app) as url, Client(url) as client:
        with pytest.raises(UnknownName, match="task not found: t"):
            async with client.chat("t"):
                pass


async def test_a_socket_of_another_protocol_is_refused() -> None:
    """A server that does not take our form of the socket is not talked to."""

    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive()

    app = Starlette(routes=[WebSocketRoute("/v1/task/t/chat", talk)])
    async with served(app) as url, Client(url) as client:
        with pytest.raises(ServiceError, match="does not speak"):
            async with client.chat("t"):
                pass


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h:1", "ws://h:1/x"),
        ("https://h", "wss://h/x"),
        ("http://[::1]:2/base", "ws://[::1]:2/base/x"),
    ],
)
def test_the_socket_address_follows_the_url(url: str, expected: str) -> None:
    """Encryption, host, port and a path before ours are kept."""
    assert socket_url(url, "/x") == expected
