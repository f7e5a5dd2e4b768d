"""Remote models over HTTP: who is served by whom, answers, streams, failures, and clients that leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import openai
import pytest
from tests.server.conftest import official_client

from arriero.testing.upstream import (
    Answer,
    End,
    Script,
    Upstream,
    chat,
    chat_chunk,
    chat_stream,
    chunk,
    chunked,
    event,
    whole,
)

SECRET = "org/Secret-Model-7B"
WHOLE = whole(chat("Hello", model=SECRET))
STREAM = chat_stream("Hel", "lo", model=SECRET)
MESSAGES = [{"role": "user", "content": "hi"}]
CHAT = "/v1/chat/completions"
PATIENCE_S = 5.0


@pytest.fixture
def remote(serving: Any) -> Callable[..., Any]:
    """Serve the model `r` before a scripted upstream: `async with remote(answer) as (client, upstream)`."""

    @asynccontextmanager
    async def serve(
        *scripts: Script, keys: str = "", **options: Any
    ) -> AsyncIterator[tuple[httpx2.AsyncClient, Upstream]]:
        async with Upstream.of(*scripts, **options) as upstream:
            text = (
                f'\n[models.r]\n{keys}\n[models.r.upstream]\nurls = ["{upstream.url}"]\nmodel = "{SECRET}"\n'
            )
            async with serving(extra=text) as client:
                yield client, upstream

    return serve


def body(**members: Any) -> dict[str, Any]:
    """Return a chat's body."""
    return {"model": "r", "messages": MESSAGES} | members


async def test_whole_answer(remote: Any) -> None:
    """An answer bears the public name and our own headers."""
    async with remote(whole(chat("Hello", model=SECRET), headers={"server": "vllm", "x-y": "z"})) as (
        client,
        _,
    ):
        response = await client.post(CHAT, json=body())

    assert response.status_code == 200
    assert response.json()["model"] == "r"
    assert SECRET not in response.text
    own = {"date", "vary", "x-content-type-options", "x-request-id"}
    assert set(response.headers) == {"content-length", "content-type", *own}


async def test_stream(remote: Any, events_of: Any) -> None:
    """A stream bears the public name in every event and ends with [DONE]."""
    async with remote(STREAM) as (client, _):
        response = await client.post(CHAT, json=body(stream=True))

    assert response.headers["content-type"] == "text/event-stream"
    *chunks, last = events_of(response.text)
    assert [chunk["model"] for chunk in chunks] == ["r"] * 3
    assert last == "[DONE]"


async def test_lines(remote: Any) -> None:
    """A stream of JSON lines keeps its type, by which others know it for a stream."""
    line = json.dumps(chat_chunk("a", model=SECRET, finish="stop")).encode() + b"\n"
    async with remote(chunked(line, content_type="application/x-ndjson; charset=utf-8")) as (client, _):
        response = await client.post(CHAT, json=body(stream=True))

    assert response.headers["content-type"] == "application/x-ndjson"
    assert json.loads(response.text)["model"] == "r"


async def test_official_client(remote: Any) -> None:
    """OpenAI's client reads answers, streams and errors."""
    refusal = whole({"error": {"message": f"{SECRET} says no"}}, 400)
    async with remote(WHOLE, STREAM, refusal) as (client, _), official_client(client) as official:
        answer = await official.chat.completions.create(model="r", messages=MESSAGES)
        stream = await official.chat.completions.create(model="r", messages=MESSAGES, stream=True)
        said = [piece.choices[0].delta.content or "" async for piece in stream]
        with pytest.raises(openai.BadRequestError) as caught:
            await official.chat.completions.create(model="r", messages=MESSAGES)

    assert (answer.model, answer.choices[0].message.content) == ("r", "Hello")
    assert "".join(said) == "Hello"
    assert "r says no" in caught.value.message


async def test_local_and_remote(remote: Any) -> None:
    """The body's model decides who answers; models here see the body as it came."""
    async with remote(WHOLE) as (client, upstream):
        here = await client.post(CHAT, json=body(model="m"))
        task = await client.post(CHAT, json=body(model="task/t"))
        vector = await client.post("/v1/embeddings", json={"model": "m", "input": "x"})
        there = await client.post(CHAT, json=body(model="r"))
        nowhere = await client.post(CHAT, json=body(model="x"))

        assert [here.status_code, task.status_code, vector.status_code] == [200, 200, 200]
        assert (there.status_code, nowhere.status_code) == (200, 404)
        assert len(upstream.requests) == 1


async def test_listing(remote: Any) -> None:
    """The list of models has the public names, and each can be asked for."""
    async with remote(WHOLE, keys='public_name = "org/public"') as (client, upstream):
        ids = [model["id"] for model in (await client.get("/v1/models")).json()["data"]]
        one = await client.get("/v1/models/org/public")

        assert "org/public" in ids
        assert "r" not in ids
        assert one.json()["id"] == "org/public"
        assert upstream.connections == 0


async def test_catch_all(remote: Any) -> None:
    """A model that catches all serves bodies without a known name, but takes nothing from models here."""
    async with remote(WHOLE, keys="catch_all = true") as (client, upstream):
        for name in ("nobody's", None, 7):
            assert (await client.post(CHAT, json=body(model=name))).status_code == 200
        assert (await client.post(CHAT, json={"messages": MESSAGES})).status_code == 200
        assert (await client.post(CHAT, json=body(model="m"))).status_code == 200

        assert [received.json["model"] for received in upstream.requests] == [SECRET] * 4


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_any_content_type(remote: Any, media_type: str) -> None:
    """A body is checked whatever its content type says."""
    async with remote(WHOLE) as (client, upstream):
        refused = await client.post(
            CHAT, content=json.dumps(body(logprobs=True)), headers={"content-type": media_type}
        )
        served = await client.post(CHAT, content=json.dumps(body()), headers={"content-type": media_type})

        assert (refused.status_code, served.status_code) == (400, 200)
        assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("path", "members", "answer"),
    [
        ("/v1/completions", {"prompt": "x"}, {"object": "text_completion", "choices": [], "model": SECRET}),
        ("/v1/embeddings", {"input": "x"}, {"object": "list", "data": [], "model": SECRET}),
        ("/v1/rerank", {"query": "x", "documents": ["y"]}, {"results": [], "model": SECRET}),
        ("/v1/responses", {"input": "x"}, {"object": "response", "output": [], "model": SECRET}),
        ("/tokenize", {"prompt": "x"}, {"count": 1, "tokens": [1], "max_model_len": 9}),
    ],
)
async def test_routes(remote: Any, path: str, members: dict[str, Any], answer: dict[str, Any]) -> None:
    """Every route of the guard reaches the upstream under the same path."""
    routes = f'routes = ["{path}"]'
    async with remote(whole(answer), keys=routes) as (client, upstream):
        response = await client.post(path, json={"model": "r"} | members)

        assert response.status_code == 200, response.text
        assert response.json().get("model", "r") == "r"
        assert [received.path for received in upstream.requests] == [path]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat%2Fcompletions",
        "/v1/chat/completion%73",
        "/v1/./chat/completions",
        "/v1/x/../chat/completions",
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/v1/chat/completions/",
        "/V1/chat/completions",
        "/v1/chat/completions%00",
        "/v1/chat/completions;x",
        "/%761/chat/completions",
        "/v1/audio/speech",
        "/v1/load_lora_adapter",
        "/metrics",
        "/tokenize",
        "/detokenize",
        "/v1/rerank",
    ],
)
async def test_other_paths(remote: Any, address_of: Any, path: str) -> None:
    """A path in another spelling, or none of the model's, is not found, and the upstream is not touched."""
    async with remote(WHOLE, keys=f'routes = ["{CHAT}"]') as (client, upstream):
        reader, writer = await asyncio.open_connection(*address_of(client))
        content = json.dumps(body()).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sesame\r\nconnection: close\r\n"
        writer.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
        answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
        writer.close()

        status = b"400" if "%00" in path else b"404"  # control characters do not reach the routes
        assert answer.startswith(b"HTTP/1.1 %b " % status), answer
        assert upstream.connections == 0


@pytest.mark.parametrize("path", [CHAT, "/v1/responses", "/v1/rerank", "/tokenize"])
async def test_key(remote: Any, path: str) -> None:
    """Without a key nothing is read or sent."""
    async with remote(WHOLE) as (client, upstream):
        response = await client.post(path, json=body(), headers={"authorization": "Bearer wrong"})

        assert response.status_code == 401
        assert upstream.connections == 0


@pytest.mark.parametrize(
    ("members", "status"), [({"model": "x"}, 404), ({"model": "m"}, 404), ({"model": None}, 400), ({}, 200)]
)
async def test_remote_only_route(remote: Any, members: dict[str, Any], status: int) -> None:
    """On a route that only remote models have, every other name is unknown."""
    answer = whole({"object": "response", "output": [], "model": SECRET})
    async with remote(answer) as (client, _):
        response = await client.post("/v1/responses", json={"model": "r", "input": "x"} | members)

    assert response.status_code == status
    assert (response.json()["error"]["param"] if status != 200 else "model") == "model"


async def test_no_remote_model(serving: Any) -> None:
    """Without remote models their routes do not exist."""
    async with serving() as client:
        responses = [
            await client.post(path, json=body()) for path in ("/v1/responses", "/v1/rerank", "/tokenize")
        ]

    assert [response.status_code for response in responses] == [404] * 3
    assert {response.json()["error"]["code"] for response in responses} == {"not_found"}


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (whole({"error": {"message": "bad n", "param": "n"}}, 400), 400, "invalid_request"),
        (whole(b"", 500), 502, "upstream_failed"),
        (Answer((), End.RESET), 502, "upstream_failed"),
        (whole(b"<html>"), 502, "upstream_failed"),
        (whole(b"", 429), 503, "overloaded"),
        (whole(b"", 503), 503, "overloaded"),
        (Answer((), End.STALL), 504, "upstream_timeout"),
    ],
)
async def test_statuses(remote: Any, answer: Answer, status: int, code: str) -> None:
    """Failures have statuses of their own, in OpenAI's form, and nothing else in them."""
    async with remote(answer, keys="timeouts.first_byte_s = 0.1") as (client, upstream):
        response = await client.post(CHAT, json=body(stream=True))

        assert response.status_code == status
        assert response.json()["error"]["code"] == code
        assert ("retry-after" in response.headers) == (status == 503)
        assert str(upstream.port) not in response.text


async def test_payload_limit(remote: Any) -> None:
    """A body of exactly the model's limit is served; one byte more is too large."""
    content = json.dumps(body())
    limit = len(content)
    async with remote(WHOLE, keys=f"max_body_bytes = {limit}") as (client, upstream):
        served = await client.post(CHAT, content=content)
        refused = await client.post(CHAT, content=content + " ")

        assert (served.status_code, refused.status_code) == (200, 413)
        assert len(upstream.requests) == 1


async def test_stream_that_breaks(remote: Any) -> None:
    """A stream that breaks ends in an error event, without [DONE]."""
    async with remote(Answer(STREAM.parts[:3], End.RESET)) as (client, _):
        response = await client.post(CHAT, json=body(stream=True))

    assert response.text.split("\n\n")[-2].startswith('data: {"error":')
    assert "[DONE]" not in response.text


async def test_client_leaves_a_stream(remote: Any) -> None:
    """A client that leaves in the middle of a stream ends it at the upstream."""
    async with remote(Answer(STREAM.parts[:2], End.STALL)) as (client, upstream):
        async with client.stream("POST", CHAT, json=body(stream=True)) as response:
            await anext(response.aiter_raw())

        await asyncio.wait_for(upstream.gone.wait(), PATIENCE_S)


async def test_client_leaves_before_the_answer(remote: Any, address_of: Any) -> None:
    """A client that leaves while the upstream still thinks ends that too."""
    held = asyncio.Event()

    def hold(_: object) -> Answer:
        held.set()
        return Answer((), End.STALL)

    async with remote(hold) as (client, upstream):
        _, writer = await asyncio.open_connection(*address_of(client))
        content = json.dumps(body()).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sesame\r\n"
        writer.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
        await asyncio.wait_for(held.wait(), PATIENCE_S)
        writer.close()

        await asyncio.wait_for(upstream.gone.wait(), PATIENCE_S)


async def test_slow_client(remote: Any, address_of: Any) -> None:
    """A client that does not read stops the upstream."""
    flood = chunk(event(chat_chunk("x" * 10_000, model=SECRET)))
    head = STREAM.parts[0]
    async with remote(Answer((head,), flood=flood)) as (client, upstream):
        reader, writer = await asyncio.open_connection(*address_of(client), limit=1024)
        content = json.dumps(body(stream=True)).encode()
        request = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sesame\r\n"
        writer.write(f"{request}content-length: {len(content)}\r\n\r\n".encode() + content)
        await reader.readuntil(b"\r\n\r\n")
        loop = asyncio.get_running_loop()
        seen, since = -1, loop.time()
        async with asyncio.timeout(PATIENCE_S):
            while loop.time() - since < 0.3:
                if upstream.sent_bytes != seen:
                    seen, since = upstream.sent_bytes, loop.time()
                await asyncio.sleep(0.01)
        writer.close()

        assert seen < 32 << 20
        await asyncio.wait_for(upstream.gone.wait(), PATIENCE_S)


@pytest.mark.parametrize(("health", "status"), [(whole(b""), 200), (whole(b"", 503), 503)])
async def test_health(remote: Any, health: Answer, status: int) -> None:
    """The server is well when its upstreams are."""
    async with remote(WHOLE, health=health) as (client, upstream):
        response = await client.get("/health")

        assert response.status_code == status
        assert upstream.health_checks == 1
