"""The direct path of the guard: it answers what the application would, and lets go of what it holds."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx2
import pytest
from starlette.types import Receive, Scope, Send
from tests.guard.remote import eventually
from tests.server.conftest import ScriptedModel, staged

from arriero.guard.forward import Guard
from arriero.server.app import create_app
from arriero.server.direct import Direct
from arriero.server.edge.edge import Edge
from arriero.testing.serving import client_of
from arriero.testing.upstream import (
    Answer,
    End,
    Script,
    Upstream,
    chat,
    chat_chunk,
    chat_stream,
    chunked,
    event,
    whole,
)
from arriero.testing.upstream import chunk as chunk_of

SECRET = "org/Secret-Model-7B"
WHOLE = whole(chat("Grüße", model=SECRET))
STREAM = chat_stream("Grü", "ße", model=SECRET)
CHAT = "/v1/chat/completions"
PATIENCE_S = 5.0
KEY = {"authorization": "Bearer sesame"}


class Site:
    """A server before a scripted upstream. `left` counts the requests that came to the application."""

    def __init__(self, url: str, upstream: Upstream, guard: Guard, edge: Edge) -> None:
        self.url = url
        self.port = int(url.rpartition(":")[2])
        self.upstream = upstream
        self.guard = guard
        self.edge = edge
        self.left = 0

    async def post(self, content: bytes, path: str = CHAT, headers: Any = None) -> httpx2.Response:
        """Ask as a caller with a key does."""
        async with client_of(self.url) as client:
            return await client.post(path, content=content, headers=KEY if headers is None else headers)

    async def opened(self, content: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Send a request over a connection of one's own."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1024)
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\n{bearer()}content-length: {len(content)}\r\n\r\n"
        writer.write(head.encode() + content)
        return reader, writer


def bearer() -> str:
    """Return the line of the key."""
    return f"authorization: {KEY['authorization']}\r\n"


@asynccontextmanager
async def site(
    *scripts: Script,
    keys: str = "",
    more_urls: Upstream | None = None,
    is_direct: bool = True,
    beat_s: float = 10.0,
) -> AsyncIterator[Site]:
    """Serve the remote model `r`, from the edge or by the application."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(Upstream.of(*scripts))
        urls = [upstream.url] if more_urls is None else [upstream.url, more_urls.url]
        text = f'\n[models.r]\n{keys}\n[models.r.upstream]\nurls = {urls}\nmodel = "{SECRET}"\n'
        stage = staged(ScriptedModel("Hello"), text)
        app = create_app(stage)
        direct = Direct(app.state.context, keep_alive_s=beat_s)
        stack.callback(direct.close)

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            served.left += 1
            await app(scope, receive, send)

        edge = Edge(counted, direct=direct.handlers if is_direct else None)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        served = Site(f"http://127.0.0.1:{listener.getsockname()[1]}", upstream, stage.guards["r"], edge)
        await edge.start(listener)
        stack.push_async_callback(stage.guards["r"].stop)
        stack.push_async_callback(edge.stop, 0)
        yield served


def asking(**members: Any) -> bytes:
    """Return a chat's body."""
    body = {"model": "r", "messages": [{"role": "user", "content": "hi"}]} | members
    return json.dumps(body, separators=(",", ":")).encode()


LINE = json.dumps(chat_chunk("a", model=SECRET, finish="stop")).encode() + b"\n"
SAME: dict[str, tuple[Script, bytes, dict[str, str]]] = {
    "whole": (WHOLE, asking(), {}),
    "stream": (STREAM, asking(stream=True), {}),
    "gzip": (whole(chat("zipped", model=SECRET), gzipped=True), asking(), {}),
    "lines": (chunked(LINE, content_type="application/x-ndjson"), asking(stream=True), {}),
    "empty": (whole(b""), asking(), {}),
    "origin": (WHOLE, asking(), {"origin": "https://a.example"}),
    "no key": (WHOLE, asking(), {"authorization": ""}),
    "wrong key": (WHOLE, asking(), {"authorization": "Bearer wrong"}),
    "basic": (WHOLE, asking(), {"authorization": "Basic x"}),
    "unknown model": (WHOLE, asking(model="x"), {}),
    "local model": (WHOLE, asking(model="m"), {}),
    "logprobs": (WHOLE, asking(logprobs=True), {}),
    "not JSON": (WHOLE, b"{", {}),
    "too large": (WHOLE, asking(user="x" * 2000), {}),
    "caller's fault": (whole({"error": {"message": f"{SECRET}: no", "param": "n"}}, 400), asking(), {}),
    "overloaded": (whole(b"", 429, headers={"retry-after": "7"}), asking(), {}),
    "failed": (whole(b"Traceback", 500), asking(stream=True), {}),
    "reset": (Answer((), End.RESET), asking(), {}),
    "garbage": (whole(b"<html>"), asking(), {}),
    "unknown encoding": (whole(b"{}", headers={"content-encoding": "br"}), asking(), {}),
    "breaks": (STREAM.broken_off(len(STREAM.bytes) - 60), asking(stream=True), {}),
    "stalls": (STREAM.broken_off(len(STREAM.bytes) - 60, End.STALL), asking(stream=True), {}),
}


@pytest.mark.parametrize(("script", "content", "headers"), SAME.values(), ids=SAME.keys())
async def test_same_answer(script: Script, content: bytes, headers: dict[str, str]) -> None:
    """Status, headers and body are those of the application, for answers, refusals and failures."""
    answers = []
    for is_direct in (True, False):
        keys = "max_body_bytes = 1000\ntimeouts.idle_s = 0.1"
        async with site(script, keys=keys, is_direct=is_direct) as served:
            response = await served.post(content, headers=KEY | headers | {"x-request-id": "mine"})
            told = {name: value for name, value in response.headers.items() if name != "date"}
            body = json.loads(response.content) if "chatcmpl-" in response.text[:20] else response.content
            answers.append((response.status_code, told, body))
            await eventually(lambda: served.guard.num_running == 0)
    direct, applied = answers

    if b'"m"' in content:  # generated anew each time
        assert direct[0] == applied[0]
    else:
        assert direct == applied


async def test_application_is_not_asked() -> None:
    """An ordinary request never reaches the application, on a connection that is new or kept."""
    async with site(WHOLE) as served:
        answers = [await served.post(asking()) for _ in range(3)]

        assert [answer.status_code for answer in answers] == [200] * 3
        assert served.left == 0
        assert served.upstream.connections == 1


async def test_any_cut() -> None:
    """A stream is told the same wherever TCP cuts what the upstream sends."""
    cuts = [STREAM.cut(place) for place in range(1, len(STREAM.bytes), 29)]
    async with site(STREAM, *cuts) as served:
        expected = (await served.post(asking(stream=True))).content
        for _ in cuts:
            assert (await served.post(asking(stream=True))).content == expected

        assert expected.endswith(b"data: [DONE]\n\n")
        assert SECRET.encode() not in expected
        await eventually(lambda: served.guard.num_running == 0)
        assert served.upstream.connections == 1


@pytest.mark.parametrize("end", [End.CLOSE, End.RESET])
async def test_stale_connection(end: End) -> None:
    """A request that meets a kept connection just closed is sent once more, over a fresh one."""
    async with site(WHOLE, Answer((), end), WHOLE) as served:
        statuses = [(await served.post(asking())).status_code for _ in range(2)]

        assert statuses == [200, 200]
        assert (served.upstream.connections, len(served.upstream.requests)) == (2, 3)


async def test_failure_on_a_kept_connection() -> None:
    """After the first byte of an answer nothing is sent again."""
    async with site(WHOLE, WHOLE.broken_off(20), WHOLE) as served:
        statuses = [(await served.post(asking())).status_code for _ in range(2)]

        assert statuses == [200, 502]
        assert len(served.upstream.requests) == 2
        await eventually(lambda: served.guard.num_running == 0)


async def test_elsewhere() -> None:
    """What one upstream refuses for its load another answers, also over kept connections."""
    scripts = (WHOLE, whole(b"", 503), WHOLE)
    async with Upstream.of(*scripts) as other, site(*scripts, more_urls=other) as served:
        statuses = [(await served.post(asking())).status_code for _ in range(2)]

        assert statuses == [200, 200]
        assert sorted([len(served.upstream.requests), len(other.requests)]) == [1, 2]
        assert served.guard.replicas.num_running == served.guard.num_running == 0


async def test_counted_prompt() -> None:
    """A prompt whose count decides is counted before it is sent, and then served all the same."""

    def scripted(received: Any) -> Answer:
        return whole({"count": 90, "tokens": []}) if received.path == "/tokenize" else WHOLE

    async with site(scripted, keys="max_context = 100\nmax_tokens = 50") as served:
        answer = await served.post(asking(messages=[{"role": "user", "content": "x" * 500}]))

        assert answer.status_code == 200
        assert served.upstream.requests[-1].json["max_tokens"] == 10
        assert served.left == 0


@pytest.mark.parametrize("parts", [(), STREAM.parts[:2]], ids=["before the head", "in the stream"])
async def test_client_leaves(parts: tuple[Any, ...]) -> None:
    """A client that leaves ends the work at the upstream at once, whenever that is."""
    async with site(WHOLE, Answer(parts, End.STALL)) as served:
        await served.post(asking())
        _, writer = await served.opened(asking(stream=True))
        await eventually(lambda: len(served.upstream.requests) == 2)
        writer.close()

        await asyncio.wait_for(served.upstream.gone.wait(), PATIENCE_S)
        await eventually(lambda: served.guard.num_running == 0)


async def test_slow_client() -> None:
    """A client that does not read stops the upstream; what it reads later is whole."""
    events = [event(chat_chunk("x" * 10_000, model=SECRET)) for _ in range(2000)]
    end = [event(chat_chunk(None, model=SECRET, finish="stop")), event(b"[DONE]")]
    parts = (STREAM.parts[0], *[chunk_of(one) for one in (*events, *end)], chunk_of(b""))
    async with site(Answer(parts)) as served:
        reader, writer = await served.opened(asking(stream=True))
        await reader.readuntil(b"\r\n\r\n")
        await eventually(lambda: any(one._is_paused for one in connections(served.guard)))
        told = 0
        async with asyncio.timeout(PATIENCE_S * 2):
            last = b""
            while not last.endswith(b"0\r\n\r\n"):
                piece = await reader.read(1 << 16)
                told += piece.count(b"data: ")
                last = (last + piece)[-32:]
        writer.close()

        assert b"[DONE]" in last
        assert told >= 1900  # a word that a read cuts is not counted


def connections(guard: Guard) -> list[Any]:
    """Return the open connections to the upstreams."""
    return [one for upstream in guard.replicas._upstreams for one in upstream._open]


async def test_silence() -> None:
    """Silence is filled with comments, before the first event too."""
    async with site(Answer(STREAM.parts[:1], End.STALL), beat_s=0.05) as served:
        reader, writer = await served.opened(asking(stream=True))
        told = await asyncio.wait_for(reader.readuntil(b":keep-alive-text\n\n"), PATIENCE_S)
        writer.close()

        assert told.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_stop() -> None:
    """When the server ends, a stream ends in an error event, and a request without an answer in a 503."""
    stalled = Answer(STREAM.parts[:2], End.STALL)
    async with site(stalled, Answer((), End.STALL)) as served:
        streaming, first = await served.opened(asking(stream=True))
        await streaming.readuntil(b"\r\n\r\n")
        waiting, second = await served.opened(asking())
        await eventually(lambda: len(served.upstream.requests) == 2)
        await served.edge.stop(0)

        told = await asyncio.wait_for(streaming.read(), PATIENCE_S)
        assert b'data: {"error":{"message":"the server is shutting down"' in told
        assert b"[DONE]" not in told
        assert (await asyncio.wait_for(waiting.read(), PATIENCE_S)).startswith(b"HTTP/1.1 503 ")
        first.close()
        second.close()


async def test_bomb() -> None:
    """An answer that unpacks to far more than it is, is given up."""
    bomb = whole(gzip.compress(b" " * (80 << 20), 1), headers={"content-encoding": "gzip"})
    async with site(bomb) as served:
        assert (await served.post(asking())).status_code == 502
        await eventually(lambda: served.guard.num_running == 0)


async def test_max_concurrent() -> None:
    """One request over the bound is refused; a place that is left is free."""
    async with site(Answer(STREAM.parts[:2], End.STALL), WHOLE, keys="max_concurrent = 1") as served:
        reader, writer = await served.opened(asking(stream=True))
        await reader.readuntil(b"\r\n\r\n")
        assert (await served.post(asking())).status_code == 503
        writer.close()
        await eventually(lambda: served.guard.num_running == 0)

        assert (await served.post(asking())).status_code == 200


async def test_a_known_key_opens_nothing_for_others() -> None:
    """A key that was seen is taken at once; what only resembles its header is the application's to refuse."""
    bearer_twice = [("authorization", KEY["authorization"])] * 2
    others = [
        {"authorization": KEY["authorization"] + "x"},
        {"authorization": KEY["authorization"].lower()},
        {"authorization": ""},
        {},
        bearer_twice,
        KEY | {"x-api-key": "other"},
    ]
    async with site(*[WHOLE] * 8) as served:
        known = [(await served.post(asking())).status_code for _ in range(2)]
        assert (known, served.left) == ([200, 200], 0)

        for headers in others:
            await served.post(asking(), headers=headers)
        assert served.left == len(others)


async def test_requests_of_one_client() -> None:
    """Requests whose heads differ in their length only are told apart, and each gets an id of its own."""
    async with site(*[WHOLE] * 3) as served, httpx2.AsyncClient(base_url=served.url, headers=KEY) as client:
        answers = [await client.post(CHAT, content=asking(user="x" * size)) for size in (0, 100)]
        named = await client.post(CHAT, content=asking(), headers={"x-request-id": "mine"})

        assert [answer.status_code for answer in answers] == [200, 200]
        assert len({answer.headers["x-request-id"] for answer in (*answers, named)}) == 3
        assert named.headers["x-request-id"] == "mine"
        assert [seen.json.get("user") for seen in served.upstream.requests] == ["", "x" * 100, None]
