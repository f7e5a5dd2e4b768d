"""Spans of requests, as a collector gets them: real sockets on both sides."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from tests.guard.remote import eventually
from tests.server.conftest import ScriptedModel, served, staged
from websockets.asyncio.client import connect

from arriero.config.telemetry import TelemetryConfig
from arriero.errors import EngineError
from arriero.server.otlp import MOST_SPANS, SpanExporter
from arriero.server.trace import Span, Trace
from arriero.server.tracing import tracer_of
from arriero.testing.collector import Collector, attributes_of
from arriero.testing.upstream import Upstream, chat, chat_stream, whole

CHAT = "/v1/chat/completions"
KEY = {"authorization": "Bearer sesame"}
PARENT = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
UNSAMPLED = PARENT[:-1] + "0"
CANARY = "canary-5b1f0a77"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
SPAN = Span(Trace(b"\x01" * 16, b"\x02" * 8), "GET /x", 1, 2, 0, is_failed=False, attributes={})


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as taking:
        yield taking


@asynccontextmanager
async def tracing(
    collector: Collector, model: ScriptedModel | None = None, *, keys: str = "", extra: str = ""
) -> AsyncIterator[httpx2.AsyncClient]:
    """Serve with traces; what was seen is with the collector when the block has ended."""
    telemetry = f'[telemetry]\nmetrics = "public"\notlp_endpoint = "{collector.url}"\n{keys}\n'
    stage = staged(model or ScriptedModel("Hello"), telemetry + extra)
    async with (
        served(stage) as url,
        httpx2.AsyncClient(base_url=url, headers=KEY, timeout=20, verify=False) as client,
    ):
        yield client
        for guard in stage.guards.values():
            await guard.stop()


def asking(**more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": CANARY}], **more}


async def test_a_chat_is_a_span(collector: Collector) -> None:
    """It is the child of the caller's, bears the semantic names, and nothing of the prompt."""
    async with tracing(collector, keys='otlp_service_name = "here"') as client:
        headers = {"traceparent": PARENT, "x-request-id": "r-1"}
        await client.post(CHAT, json=asking(stream=True), headers=headers)
    (span,) = collector.spans
    attributes = attributes_of(span)
    first_s = attributes.pop("gen_ai.latency.time_to_first_token")

    assert (span.name, span.kind, span.status.code) == (f"POST {CHAT}", span.SPAN_KIND_SERVER, 0)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == ("a" * 32, "b" * 16)
    assert len(span.span_id) == 8
    assert attributes.pop("gen_ai.usage.input_tokens") > 0
    assert attributes == {
        "http.request.method": "POST",
        "http.route": CHAT,
        "http.response.status_code": 200,
        "arriero.request_id": "r-1",
        "gen_ai.provider.name": "arriero",
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.response.finish_reasons": ["stop"],
    }
    (event,) = span.events
    assert span.start_time_unix_nano < event.time_unix_nano <= span.end_time_unix_nano
    assert (event.time_unix_nano - span.start_time_unix_nano) / 1e9 == pytest.approx(first_s, abs=1e-5)
    assert CANARY not in str(span)
    assert collector.resources[0]["service.name"] == "here"
    assert collector.requests[0][":path"] == "/v1/traces"
    assert collector.requests[0]["content-type"] == "application/x-protobuf"


@pytest.mark.parametrize("query", ["", "?x=1"], ids=["direct", "application"])
async def test_an_upstream_is_told_of_our_span(collector: Collector, query: str) -> None:
    """The `traceparent` that it gets names the span of the request, in the trace of the caller."""
    scripts = (whole(chat("Hi", model="x") | {"usage": USAGE}), chat_stream("a", "b", model="x"))
    async with Upstream.of(*scripts) as upstream:
        remote = f'[models.r.upstream]\nurls = ["{upstream.url}"]\nmodel = "x"\n'
        async with tracing(collector, extra=remote) as client:
            await client.post(CHAT + query, json=asking(model="r"), headers={"traceparent": PARENT})
            await client.post(CHAT + query, json=asking(model="r", stream=True))
        sent = [received.headers["traceparent"] for received in upstream.requests]
    child, root = collector.spans

    assert sent == [f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01" for span in (child, root)]
    assert (child.trace_id.hex(), child.parent_span_id.hex()) == ("a" * 32, "b" * 16)
    assert (root.trace_id.hex() != "a" * 32, root.parent_span_id) == (True, b"")
    told = attributes_of(child)
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (7, 3)
    assert told["gen_ai.request.model"] == "r"
    assert not child.events
    assert [event.name for event in root.events] == ["gen_ai.first_token"]


async def test_what_a_task_asks_of_an_upstream_is_our_spans_child(collector: Collector) -> None:
    """On every route: the span of the request is the parent of what the task on a remote model sends."""
    async with Upstream.of(chat_stream("a", "b", model="x")) as upstream:
        remote = f'[models.r.upstream]\nurls = ["{upstream.url}"]\nmodel = "x"\n[tasks.far]\nmodel = "r"\n'
        async with tracing(collector, extra=remote) as client:
            await client.post(CHAT, json=asking(model="task/far"), headers={"traceparent": PARENT})
            await client.post("/v1/completions", json={"model": "task/far", "prompt": "x"})
            for way in ("completion", "live"):
                await client.get(
                    f"/v1/task/far/{way}", params={"prompt": "x"}, headers={"traceparent": PARENT}
                )
            url = f"{client.base_url}/v1/task/far/chat".replace("http", "ws")
            async with connect(url, additional_headers=KEY) as socket:
                await socket.send("x")
                while await socket.recv():
                    pass
        sent = [received.headers["traceparent"] for received in upstream.requests]

    assert sent == [f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01" for span in collector.spans]
    assert [span.trace_id.hex() == "a" * 32 for span in collector.spans] == [True, False, True, True, False]


async def test_what_is_not_sampled_passes_as_it_came(collector: Collector) -> None:
    """No span, and an upstream sees the caller's own header, or none."""
    async with Upstream.of(whole(chat("Hi", model="x"))) as upstream:
        remote = f'[models.r.upstream]\nurls = ["{upstream.url}"]\nmodel = "x"\n'
        async with tracing(collector, keys="otlp_sample_ratio = 0.0", extra=remote) as client:
            for headers in ({"traceparent": UNSAMPLED}, {}):
                await client.post(CHAT, json=asking(model="r"), headers=headers)
        sent = [received.headers.get("traceparent") for received in upstream.requests]

    assert sent == [UNSAMPLED, None]
    assert not collector.spans


@pytest.mark.parametrize(
    ("model", "status", "error", "is_failed"),
    [("m", 200, "engine_error", True), ("nobody", 404, "not_found", False)],
)
async def test_an_error_is_told_by_its_code(
    collector: Collector, model: str, status: int, error: str, is_failed: bool
) -> None:
    """A stream that breaks has failed although its status was 200; a caller's fault is no failure of ours."""
    breaking = ScriptedModel("Hel", EngineError("boom"))
    async with tracing(collector, breaking) as client:
        if is_failed:
            await client.post(CHAT, json=asking())
        await client.post(CHAT, json=asking(model=model, stream=True))
    span = collector.spans[-1]
    attributes = attributes_of(span)

    assert (attributes["http.response.status_code"], attributes.get("error.type")) == (status, error)
    assert (span.status.code == 2) is is_failed


async def test_probes_have_no_span_and_tasks_are_named(collector: Collector) -> None:
    """Health checks would be most of all spans; a task's span says its name and not what was asked."""
    async with tracing(collector) as client:
        for path in ("/livez", "/readyz", "/metrics"):
            await client.get(path)
        await client.get("/v1/task/t/completion", params={"prompt": CANARY})
        await client.get(f"/{CANARY}")
    task, other = collector.spans

    assert (task.name, attributes_of(task)["arriero.task"]) == ("GET /v1/task/{task}/completion", "t")
    assert other.name == "GET other"
    assert CANARY not in str(collector.spans)


async def test_a_socket_is_one_span(collector: Collector) -> None:
    """It lasts as long as the socket and bears the tokens of all turns."""
    async with tracing(collector, ScriptedModel("Hello", "Hello")) as client:
        url = str(client.base_url).replace("http", "ws") + "/v1/task/t/chat"
        async with connect(url, additional_headers=KEY) as chatting:
            for _ in range(2):
                await chatting.send("hi")
                while await chatting.recv():
                    pass
        await asyncio.sleep(0)
    (span,) = collector.spans

    assert attributes_of(span)["gen_ai.usage.output_tokens"] == 10
    assert attributes_of(span)["http.response.status_code"] == 101


async def test_headers_for_the_collector_come_by_reference(collector: Collector) -> None:
    """They are written as in OTEL_EXPORTER_OTLP_HEADERS."""
    async with tracing(collector, keys='otlp_headers = "authorization=Bearer%20t, x-tenant=7"') as client:
        await client.get("/v1/models")

    sent = collector.requests[0]
    assert (sent["authorization"], sent["x-tenant"]) == ("Bearer t", "7")


async def test_a_collector_that_is_down_costs_spans_and_nothing_else(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    """Requests are answered, spans are dropped and counted, and the log says so once until it is back."""
    caplog.set_level(logging.INFO, "arriero.server.otlp")
    collector.status = 503
    exporter = SpanExporter(collector.url, [], "arriero", every_s=0.01)
    exporter.add(SPAN)
    await eventually(lambda: exporter.dropped == 1)
    exporter.add(SPAN)
    await eventually(lambda: exporter.dropped == 2)
    collector.status = 200
    exporter.add(SPAN)
    await eventually(lambda: exporter.exported == 1)
    exporter.close()

    told = [record.message for record in caplog.records if record.name == "arriero.server.otlp"]
    assert told == [
        "spans are dropped until the collector takes them: it answers 503",
        "the collector takes spans again; 2 were dropped until now",
    ]


async def test_nobody_waits_for_a_collector_that_is_not_there(collector: Collector) -> None:
    """Answers come as ever; the metrics tell what was lost."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        keys = f'otlp_endpoint = "http://127.0.0.1:{taken.getsockname()[1]}"'
    stage = staged(ScriptedModel("Hello"), f'[telemetry]\n{keys}\nmetrics = "public"\n')
    async with (
        served(stage) as url,
        httpx2.AsyncClient(base_url=url, headers=KEY, timeout=20, verify=False) as client,
    ):
        answer = await client.post(CHAT, json=asking())
        metrics = (await client.get("/metrics")).text

    assert answer.status_code == 200
    assert 'arriero_spans_total{outcome="exported"} 0.0' in metrics


def test_the_queue_is_bounded(collector: Collector) -> None:
    """What does not fit is dropped; the rest is sent at the end."""
    exporter = SpanExporter(collector.url, [], "arriero", every_s=60)
    for _ in range(MOST_SPANS + 3):
        exporter.add(SPAN)
    exporter.close()

    assert (exporter.exported, exporter.dropped, len(collector.spans)) == (MOST_SPANS, 3, MOST_SPANS)


def test_without_an_endpoint_there_is_nothing() -> None:
    """No thread, no tracer."""
    assert tracer_of(TelemetryConfig()) is None


@pytest.mark.slow
def test_without_the_extra_the_error_names_it() -> None:
    """The server does not start, and says what to install."""
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from arriero.config.telemetry import TelemetryConfig\n"
        "from arriero.server.tracing import tracer_of\n"
        "tracer_of(TelemetryConfig(otlp_endpoint='http://127.0.0.1:1'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stderr.splitlines()[-1] == (
        "arriero.errors.ConfigError: telemetry.otlp_endpoint: spans are written by the package"
        " opentelemetry-proto; install arriero[otel]"
    )
