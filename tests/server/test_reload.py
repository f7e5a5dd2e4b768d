"""Configurations that follow one another while requests run, with the real runtime behind them."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.guard.remote import eventually
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from arriero.config.load import load_config
from arriero.runtime import Pieces, open_runtime
from arriero.server.reload import Serving, unchangeable
from arriero.server.standing import Standing
from arriero.testing.serving import client_of
from arriero.testing.tiny_gguf import write_reciting_gguf, write_tiny_gguf
from arriero.testing.upstream import Answer, Received, Upstream, chat, chat_stream, rerank, whole

CHAT = "/v1/chat/completions"
STREAM = chat_stream("a", "b", model="x")


class Site:
    """A server of one file, which a test writes anew."""

    def __init__(self, file: Path, serving: Serving, standing: Standing, url: str) -> None:
        self.file = file
        self.serving = serving
        self.standing = standing
        self.url = url

    async def become(self, text: str) -> bool:
        """Write the file and reload; say whether it was taken."""
        self.file.write_text(text)
        return await self.serving.reload(partial(load_config, self.file, {}))

    def client(self, key: str = "k") -> httpx2.AsyncClient:
        return client_of(self.url, headers={"authorization": f"Bearer {key}"})


@asynccontextmanager
async def site(tmp_path: Path, text: str) -> AsyncIterator[Site]:
    file = tmp_path / "arriero.toml"
    file.write_text(text)
    config = load_config(file, {})
    standing = Standing.of_config(config)
    serving = await Serving.begin(partial(open_runtime, pieces=Pieces()), standing, config)
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            await serving.edge.start(listener)
            yield Site(file, serving, standing, url)
            await serving.edge.stop(0)
    finally:
        await serving.stop()


def written(upstream: str, *, keys: str = '["k"]', more: str = "", model: str = "r") -> str:
    return (
        f'auth.allowed_keys = {keys}\n{more}\n[models.{model}.upstream]\nurls = ["{upstream}"]\n'
        f'model = "x"\n[tasks.t]\nform = "chat"\nmodel = "{model}"\n'
    )


def asking(**more: Any) -> dict[str, Any]:
    return {"model": "r", "messages": [{"role": "user", "content": "hi"}], **more}


async def test_what_the_new_file_says_is_served(tmp_path: Path) -> None:
    """Keys, models and origins of the new file count for the next request, those of the old no more."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(Upstream.of(whole(chat("Hi", model="x"))))
        served = await stack.enter_async_context(site(tmp_path, written(upstream.url)))
        async with served.client() as old:
            assert (await old.post(CHAT, json=asking())).status_code == 200
            changed = written(
                upstream.url, keys='["n"]', model="s", more='server.allowed_origins = ["https://a.example"]'
            )
            assert await served.become(changed)

            assert (await old.post(CHAT, json=asking())).status_code == 401
            async with served.client("n") as new:
                assert (await new.post(CHAT, json=asking())).status_code == 404
                answer = await new.post(CHAT, json=asking(model="s"), headers={"origin": "https://b.example"})
                assert answer.status_code == 200
                assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("auth.allowed_keys = [", "not valid TOML"),
        ("nonsense = 1", "nonsense"),
        ('auth.allowed_keys = ["k"]\n[models.m]\npath = "missing.gguf"', "missing.gguf"),
    ],
)
async def test_a_faulty_file_is_refused(
    text: str, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says why; the old configuration goes on as if nothing had been."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(Upstream.of(whole(chat("Hi", model="x"))))
        served = await stack.enter_async_context(site(tmp_path, written(upstream.url)))
        async with served.client() as client:
            before = served.serving.config
            assert not await served.become(text)

            assert served.serving.config is before
            assert served.standing.reloads == {"done": 0, "refused": 1}
            assert reason in caplog.text
            assert (await client.post(CHAT, json=asking())).status_code == 200


async def test_a_changed_model_is_loaded_before_the_old_one_goes(tmp_path: Path) -> None:
    """A running answer ends whole on the old engine process, which ends then; the new one serves."""
    path = write_reciting_gguf(tmp_path / "m.gguf")
    text = f'auth.allowed_keys = ["k"]\n[models.m]\npath = "{path}"\ncontext_size = '
    async with site(tmp_path, text + "2048") as served, served.client() as client:
        old = served.serving._newest
        model = served.standing.context.runtime.models["m"]  # type: ignore[union-attr]
        body = {"model": "m", "prompt": "a", "max_tokens": 1500, "stream": True, "ignore_eos": True}
        async with client.stream("POST", "/v1/completions", json=body) as answer:
            pieces = answer.aiter_bytes()
            told = [await anext(pieces)]
            assert await served.become(text + "1024")
            new = served.standing.context.runtime.models["m"]  # type: ignore[union-attr]
            assert new is not model
            told += [piece async for piece in pieces]
        await eventually(lambda: not served.serving._retiring)

        assert b"".join(told).endswith(b"data: [DONE]\n\n")
        assert old.num_running == 0
        assert (model.pid, new.is_ready) == (None, True)
        body = {"model": "m", "prompt": "a", "max_tokens": 3}
        assert (await client.post("/v1/completions", json=body)).status_code == 200


async def test_a_socket_goes_on_under_the_newest_keys(tmp_path: Path) -> None:
    """A chat outlives a reload; a turn after its key is gone is refused, and the socket closed."""
    async with Upstream.of(*[STREAM] * 3) as upstream:
        text = written(upstream.url)
        async with site(tmp_path, text) as served:
            url = served.url.replace("http", "ws") + "/v1/task/t/chat"
            async with connect(url, additional_headers={"authorization": "Bearer k"}) as chatting:
                assert await turn(chatting) == "ab"
                assert await served.become(text + "private_tokens = ['|']\n")
                assert await turn(chatting) == "ab"
                assert await served.become(text.replace('["k"]', '["n"]'))
                await chatting.send("hi")
                with pytest.raises(ConnectionClosed):
                    await until_closed(chatting)


async def until_closed(chatting: Any) -> None:
    while True:
        await chatting.recv()


async def turn(chatting: Any) -> str:
    await chatting.send("hi")
    said = ""
    while piece := await chatting.recv():
        said += piece
    return said


async def test_what_is_equal_stays(tmp_path: Path) -> None:
    """A reload that changes a limit leaves models, tasks and their statistics where they are."""
    async with Upstream.of(STREAM) as upstream:
        text = written(upstream.url)
        async with site(tmp_path, text) as served, served.client() as client:
            await client.get("/v1/task/t/live", params={"prompt": "a"})
            before = served.standing.context
            assert await served.become("limits.max_waiting = 3\n" + text)
            after = served.standing.context

            assert before is not None
            assert after is not None
            assert after is not before
            assert after.runtime.tasks["t"] is before.runtime.tasks["t"]
            assert after.runtime.guards["r"] is before.runtime.guards["r"]
            assert "t" in (await client.get("/v1/stats")).json()["tasks"]


async def reload_under_load(tmp_path: Path, times: int) -> tuple[int, list[int]]:
    """Reload while four clients ask on; return the number of answers and those that were not whole."""
    done = asyncio.Event()
    faults: list[int] = []
    count = 0

    async def ask(client: httpx2.AsyncClient, body: dict[str, Any]) -> None:
        nonlocal count
        while not done.is_set():
            answer = await client.post(CHAT, json=body)
            is_whole = "[DONE]" in answer.text or '"choices"' in answer.text
            if answer.status_code != 200 or not is_whole:
                faults.append(answer.status_code)
            count += 1

    def scripted(received: Any) -> Answer:
        return STREAM if json.loads(received.body).get("stream") else whole(chat("Hi", model="x"))

    async with Upstream.of(scripted) as upstream:
        text = written(upstream.url)
        async with site(tmp_path, text) as served, served.client() as client:
            async with asyncio.TaskGroup() as group:
                for body in (asking(), asking(stream=True), asking(model="task/t", stream=True)):
                    group.create_task(ask(client, body))
                for number in range(times):
                    # Every second one also replaces the remote model.
                    more = f"models.r.max_n = {1 + number // 2 % 4}\n"
                    assert await served.become(f"limits.max_waiting = {number + 1}\n{more}{text}")
                    seen = count
                    await eventually(lambda seen=seen: count > seen)  # type: ignore[misc]
                done.set()
            await eventually(lambda: not served.serving._retiring)
            assert served.standing.reloads["done"] == times
    return count, faults


async def test_reloads_drop_nothing(tmp_path: Path) -> None:
    """No request fails while the configuration changes under it, and no old one is left over."""
    count, faults = await reload_under_load(tmp_path, 30)

    assert faults == []
    assert count >= 30


@pytest.mark.slow
async def test_a_thousand_reloads_drop_nothing(tmp_path: Path) -> None:
    """The same for long."""
    count, faults = await reload_under_load(tmp_path, 1000)
    print(f"1000 reloads, {count} requests, {len(faults)} dropped")  # noqa: T201

    assert faults == []


def test_what_cannot_change_is_named(tmp_path: Path) -> None:
    """The address is bound once."""
    file = tmp_path / "a.toml"
    configs = []
    for port in (1, 2):
        file.write_text(f'public = true\nbind_address = "127.0.0.1:{port}"\n')
        configs.append(load_config(file, {}))

    assert unchangeable(*configs) == ["server.bind_address"]


async def test_a_memory_takes_new_settings_and_a_new_engine(tmp_path: Path) -> None:
    """It stays open with its documents and its jobs, while its limits and its model's process change."""
    path = write_tiny_gguf(tmp_path / "e.gguf", "bert")
    text = (
        'auth.allowed_keys = ["k"]\ncache_path = "cache"\n[models.e]\npath = "{path}"\n'
        "context_size = {size}\n[memories.n]\nstore.embedded = {{}}\n"
        'embedding_model = "e"\nmax_document_bytes = {most}\n'
    )
    async with (
        site(tmp_path, text.format(path=path, size=128, most=1000)) as served,
        served.client() as client,
    ):
        memory = served.standing.context.runtime.memories["n"]  # type: ignore[union-attr]
        assert (
            await client.put("/v1/memory/n", params={"name": "a.txt"}, content=b"some words")
        ).status_code == 200
        assert await served.become(text.format(path=path, size=64, most=20))
        await eventually(lambda: not served.serving._retiring)

        assert served.standing.context.runtime.memories["n"] is memory  # type: ignore[union-attr]
        assert (
            await client.put("/v1/memory/n", params={"name": "b.txt"}, content=b"other words")
        ).status_code == 200
        assert (
            await client.put("/v1/memory/n", params={"name": "c.txt"}, content=b"x" * 21)
        ).status_code == 413
        status = (await client.get("/v1/status")).json()
        assert status["memories"]["n"]["documents"] == 2


async def test_a_memory_asks_the_reranker_of_the_newest_configuration(tmp_path: Path) -> None:
    """It makes the order of a recall; one that is away leaves the memory's own order, and is counted."""
    path = write_tiny_gguf(tmp_path / "e.gguf", "bert")
    text = (
        f'auth.allowed_keys = ["k"]\ncache_path = "cache"\ntelemetry.metrics = "public"\n[models.e]\n'
        f'path = "{path}"\ncontext_size = 128\n[models.j]\npublic_name = "judge"\n'
        'upstream = {{ urls = ["{url}"], model = "secret" }}\n[memories.n]\nstore.embedded = {{}}\n'
        'embedding_model = "e"\nrecall = "text"\nrerank = {{ model = "j" }}\n'
    )
    asked = {"query": "some old cat", "limit": 2}

    async def recalled(client: httpx2.AsyncClient, **more: Any) -> list[tuple[str, float, float | None]]:
        passages = (await client.post("/v1/memory/n/recall", json=asked | more)).json()["passages"]
        return [(one["name"], one["score"], one["rerank_score"]) for one in passages]

    async with (
        Upstream.of(rerank) as first,
        Upstream.of(_backwards) as second,
        site(tmp_path, text.format(url=first.url)) as served,
        served.client() as client,
    ):
        for name, said in (("a", "cat cat cat"), ("b", "some cat"), ("c", "a dog")):
            await client.put("/v1/memory/n", params={"name": f"{name}.txt"}, content=said)
        judged = await recalled(client)
        some = await recalled(client, min_rerank_score=0.5)
        unjudged = await recalled(client, rerank=False)
        assert await served.become(text.format(url=second.url))
        backwards = await recalled(client)
        assert await served.become(text.format(url="http://127.0.0.1:1"))
        own = await recalled(client)
        metrics = (await client.get("/metrics")).text

    assert [(name, score) for name, _, score in judged] == [
        ("b.txt", pytest.approx(2 / 3)),
        ("a.txt", pytest.approx(1 / 3)),
    ]
    assert backwards == [(*one[:2], 1.0 - index) for index, one in enumerate(reversed(own))]
    assert [score for _, _, score in own] == [None, None]
    assert (some, unjudged) == (judged[:1], own)
    assert [len(first.requests), len(second.requests)] == [2, 1]
    assert first.requests[0].json["model"] == "secret"
    assert 'arriero_memory_reranks_total{memory="n",outcome="done"} 3.0' in metrics
    assert 'arriero_memory_reranks_total{memory="n",outcome="failed"} 1.0' in metrics


def _backwards(received: Received) -> Answer:
    """Judge the last candidate best."""
    count = len(received.json["documents"])
    results = [{"index": index, "relevance_score": index / (count - 1)} for index in range(count)]
    return whole({"results": results})
