"""What is seen of requests over real sockets: metrics, the log's lines, what keys are charged."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from tests.guard.remote import eventually
from tests.server.conftest import ScriptedModel, staged
from websockets.asyncio.client import connect

from arriero.access.secret import digest_of
from arriero.errors import EngineError
from arriero.server.serve import edge_of
from arriero.testing.serving import client_of
from arriero.testing.upstream import End, Upstream, chat, chat_stream, whole

CHAT = "/v1/chat/completions"
KEY = {"authorization": "Bearer sesame"}
CANARY = "canary-8f3a55d1c0ffee"


class Site:
    """A server whose metrics anybody may read, and whose lines are kept as JSON."""

    def __init__(self, client: httpx2.AsyncClient, app: Starlette, lines: list[str]) -> None:
        self.client = client
        self.app = app
        self._lines = lines

    async def metrics(self) -> dict[str, float]:
        """Return all samples of ours."""
        told = (await self.client.get("/metrics")).text
        samples = [line.rpartition(" ") for line in told.splitlines() if line.startswith("arriero_")]
        return {name.removeprefix("arriero_"): float(value) for name, _, value in samples}

    async def lines(self, count: int) -> list[dict[str, Any]]:
        """Return the lines of requests, once there are so many: they come after the answers."""
        await eventually(lambda: len(self._read()) >= count)
        return self._read()[:count]

    def _read(self) -> list[dict[str, Any]]:
        self.app.state.observer.log.write()
        return [json.loads(line) for text in self._lines for line in text.splitlines()]


class _Kept(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())


@asynccontextmanager
async def site(
    model: ScriptedModel | None = None, extra: str = "", *, telemetry: str = ""
) -> AsyncIterator[Site]:
    stage = staged(
        model or ScriptedModel("Hello"),
        f'[telemetry]\nmetrics = "public"\nlog_format = "json"\n{telemetry}\n{extra}',
    )
    edge = edge_of(stage)
    lines: list[str] = []
    handler = _Kept(lines)
    logger = logging.getLogger("arriero.requests")
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            await edge.start(listener)
            try:
                async with client_of(url, headers=KEY) as client:
                    yield Site(client, edge.app.app, lines)  # type: ignore[attr-defined]
            finally:
                await edge.stop(0)
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
        for guard in stage.guards.values():
            await guard.stop()


def asking(**more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}


async def test_a_chat_is_counted_logged_and_timed() -> None:
    """One stream leaves its tokens, times and finish reason, under the model's public name."""
    async with site() as served:
        await served.client.post(CHAT, json=asking(stream=True), headers={"x-request-id": "r-1"})
        line = (await served.lines(1))[0]
        metrics = await served.metrics()

    assert metrics['http_requests_total{method="POST",route="/v1/chat/completions",status="200"}'] == 1
    assert metrics['generation_tokens_total{model="m"}'] == line["completion_tokens"] == 5
    assert metrics['prompt_tokens_total{model="m"}'] == line["prompt_tokens"] > 0
    assert metrics['request_success_total{finished_reason="stop",model="m"}'] == 1
    assert metrics['time_to_first_token_seconds_count{model="m"}'] == 1
    assert metrics['inter_token_latency_seconds_count{model="m"}'] == 5
    assert metrics['e2e_request_latency_seconds_count{model="m"}'] == 1
    expected = {"id": "r-1", "method": "POST", "route": CHAT, "status": 200, "model": "m", "outcome": "ok"}
    assert {name: line[name] for name in expected} == expected
    assert 0 <= line["ttfb_ms"] <= line["ms"]
    assert line["bytes"] > 100
    assert "prompt" not in line


@pytest.mark.parametrize("path", ["live", "completion"])
async def test_a_task_is_logged_by_its_name(path: str) -> None:
    """The line names task and model, and the route without what the caller wrote."""
    async with site() as served:
        await served.client.get(f"/v1/task/t/{path}", params={"prompt": CANARY})
        line = (await served.lines(1))[0]

    assert (line["task"], line["model"], line["completion_tokens"]) == ("t", "m", 5)
    assert line["route"] == f"/v1/task/{{task}}/{path}"
    assert CANARY not in str(line)


async def test_prompts_are_logged_only_if_that_is_wanted() -> None:
    """With `log_prompts` the line holds what was asked."""
    async with site(telemetry="log_prompts = true") as served:
        await served.client.post(CHAT, json=asking())
        line = (await served.lines(1))[0]

    assert line["prompt"] == [{"role": "user", "content": "hi"}]


async def test_a_client_that_leaves_has_used_what_came() -> None:
    """The line says so, the tokens up to then are counted, and the key is charged with them."""
    model = ScriptedModel("Hello", hold_at=2)
    async with site(model) as served:
        reading = asyncio.create_task(served.client.get("/v1/task/t/live", params={"prompt": "abcd"}))
        await model.held.wait()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        line = (await served.lines(1))[0]
        usages = list(served.app.state.rates._limiter._usages.values())

    assert (line["outcome"], line["completion_tokens"], line["prompt_tokens"]) == ("gone", 2, 1)
    assert [usage.day_tokens for usage in usages] == [3]


async def test_a_failure_in_the_middle_is_no_success() -> None:
    """The status was 200; the line tells the error all the same."""
    async with site(ScriptedModel(EngineError("died"))) as served:
        await served.client.post(CHAT, json=asking(stream=True))
        await served.client.get("/v1/nothing")
        await served.client.get("/v1/task", headers={"authorization": "Bearer wrong"})
        outcomes = [(line["outcome"], line["error"]) for line in await served.lines(3)]
        metrics = await served.metrics()

    assert outcomes == [("error", "engine_error"), ("error", "not_found"), ("error", "unauthorized")]
    assert metrics["auth_failures_total"] == 1


async def test_a_socket_charges_each_turn() -> None:
    """The turns are in the metrics while the socket is open; its line has their sum."""
    async with site(ScriptedModel("Hello", "Hello")) as served:
        url = str(served.client.base_url).replace("http", "ws").rstrip("/")
        async with connect(f"{url}/v1/task/t/chat", additional_headers=KEY) as chat_socket:
            for _ in range(2):
                await chat_socket.send("hi")
                while await chat_socket.recv():
                    pass
            metrics = await served.metrics()
        line = (await served.lines(2))[-1]

    assert metrics['generation_tokens_total{model="m"}'] == 10
    assert metrics['request_success_total{finished_reason="stop",model="m"}'] == 2
    assert (line["status"], line["task"], line["completion_tokens"]) == (101, "t", 10)


async def test_embeddings_are_charged() -> None:
    """Their tokens count as those of a prompt."""
    async with site() as served:
        await served.client.post("/v1/embeddings", json={"model": "m", "input": ["abc", "de"]})
        await served.client.get("/v1/model/m/embedding", params={"prompt": "abcd"})
        tokens = [line["prompt_tokens"] for line in await served.lines(2)]
        usages = list(served.app.state.rates._limiter._usages.values())

    assert tokens == [5, 4]
    assert sum(usage.day_tokens for usage in usages) == 9


@pytest.mark.parametrize("query", ["", "?x=1"], ids=["direct", "application"])
async def test_an_upstream_is_counted_on_both_ways(query: str) -> None:
    """The usage that it tells is taken, whole and streamed; its failures are counted."""
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    stream = chat_stream("a", "b", model="x")
    scripts = (whole(chat("Hi", model="x") | {"usage": usage}), stream, whole(b"", 500))
    async with Upstream.of(*scripts) as upstream:
        remote = f'[models.r]\nmax_tokens = 9\n[models.r.upstream]\nurls = ["{upstream.url}"]\nmodel = "x"\n'
        async with site(extra=remote) as served:
            bodies = (asking(model="r"), asking(model="r", stream=True, max_tokens=99), asking(model="r"))
            answers = [await served.client.post(CHAT + query, json=body) for body in bodies]
            await served.client.post(CHAT + query, json=asking(model="r", n=99))
            lines = await served.lines(4)
            metrics = await served.metrics()

    assert [line["status"] for line in lines] == [200, 200, 502, 400]
    assert [answer.headers.get("x-cropped") for answer in answers] == [None, "max_tokens=9", None]
    assert (lines[0]["prompt_tokens"], lines[0]["completion_tokens"]) == (7, 3)
    assert lines[1]["completion_tokens"] > 0
    assert metrics['time_to_first_token_seconds_count{model="r"}'] == 1
    assert metrics['upstream_circuit_open{model="r",upstream="0"}'] == 0
    assert metrics['guard_actions_total{action="cropped",model="r"}'] == 1
    assert metrics['guard_actions_total{action="refused",model="r"}'] == 1
    assert metrics['errors_total{code="upstream_failed"}'] == 1


async def test_a_stream_that_breaks_off_at_its_upstream_is_an_error() -> None:
    """The status was 200; the line tells the truth."""
    stream = chat_stream("a", "b", model="x")
    async with Upstream.of(stream.broken_off(len(stream.bytes) - 60, End.RESET)) as upstream:
        remote = f'[models.r]\n[models.r.upstream]\nurls = ["{upstream.url}"]\nmodel = "x"\n'
        async with site(extra=remote) as served:
            await served.client.post(CHAT, json=asking(model="r", stream=True))
            line = (await served.lines(1))[0]

    assert (line["status"], line["outcome"], line["error"]) == (200, "error", "upstream_failed")


async def test_labels_are_bounded() -> None:
    """Paths, methods and models that callers make up add no label of their own."""
    async with site() as served:
        for number in range(50):
            await served.client.get(f"/v1/nothing-{number}")
            await served.client.get(f"/v1/task/nothing-{number}/status")
            await served.client.request(f"M{number}", "/v1/models")
            await served.client.post(CHAT, json=asking(model=f"nothing-{number}"))
        metrics = await served.metrics()

    assert not [name for name in metrics if "nothing" in name or 'method="M' in name]
    assert len([name for name in metrics if name.startswith("http_requests_total")]) < 10


async def test_the_edge_refuses_and_counts() -> None:
    """What no application sees is counted and logged too."""
    async with site() as served:
        base = served.client.base_url
        reader, writer = await asyncio.open_connection(base.host, base.port)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n")
        await reader.read()
        writer.close()
        metrics = await served.metrics()
        line = (await served.lines(1))[0]

    assert metrics['edge_refusals_total{code="bad_request"}'] == 1
    assert (line["status"], line["error"]) == (400, "bad_request")


PLACES = [
    {"headers": {"authorization": f"Bearer {CANARY}"}},
    {"headers": {"authorization": f"Basic {CANARY}"}},
    {"headers": {"x-api-key": CANARY}},
    {"headers": {"cookie": f"session={CANARY}"}},
    {"headers": {"x-anything": CANARY}},
    {"params": {"api_key": CANARY}},
    {"params": {"ticket": CANARY}},
    {"params": {"api_key": CANARY, "ticket": CANARY}},
    {"headers": {"authorization": f"Bearer {CANARY}", "x-api-key": CANARY + "2"}},
]


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("is_key", [False, True], ids=["unknown", "known"])
async def test_secrets_are_told_nowhere(
    place: dict[str, Any], is_key: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A key in any place of a request is in no line, no metric and no answer, whether it is good or not."""
    caplog.set_level(logging.DEBUG)
    model = ScriptedModel(RuntimeError("unforeseen"), "Hello", "Hello", "Hello")
    async with site(model, telemetry="log_prompts = true") as served:
        if is_key:
            served.app.state.context.keyring._digests += (digest_of(CANARY), digest_of(CANARY + "2"))
        plain = client_of(served.client.base_url)
        async with plain as client:
            told = [
                (await client.request(method, path, **place, json=body)).text
                for method, path, body in (
                    ("GET", "/v1/task/t/live", None),
                    ("GET", "/v1/nothing", None),
                    ("GET", "/v1/task/t/chat", None),
                    ("POST", CHAT, {"model": "nothing"}),
                    ("POST", CHAT, asking()),
                    ("GET", "/v1/status", None),
                )
            ]
        told += [(await served.client.get("/metrics")).text, *map(str, await served.lines(6))]

    assert CANARY not in "\n".join(told)
    ours = [record for record in caplog.records if record.name.startswith("arriero")]
    assert CANARY not in "\n".join(f"{record.getMessage()}{record.exc_text or ''}" for record in ours)
