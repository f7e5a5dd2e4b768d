"""Sends spans to an OpenTelemetry collector, many at a time, from a thread. Touches `opentelemetry.proto`.

Needs the extra `otel`. Nobody waits for the collector: what it does not take at once is dropped and counted.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING

import httpx2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2

from arriero.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from arriero.server.trace import Span, Value

logger = logging.getLogger(__name__)

MOST_SPANS = 4096
"""That wait to be sent."""
MOST_TOGETHER = 512
EVERY_S = 1.0
TIMEOUT_S = 5.0
CLOSE_S = 2.0
PATH = "/v1/traces"
FIRST_TOKEN = "gen_ai.first_token"


class SpanExporter:
    """Owns the spans that wait, and the thread that sends them."""

    def __init__(
        self,
        endpoint: str,
        headers: Iterable[tuple[str, str]],
        service_name: str,
        *,
        every_s: float = EVERY_S,
    ) -> None:
        """every_s: pause between two looks at what waits."""
        self.exported = 0
        self._url = endpoint.rstrip("/") + PATH
        self._headers = {**dict(headers), "content-type": "application/x-protobuf"}
        self._resource = Resource(
            attributes=_attributes({"service.name": service_name, "service.version": __version__})
        )
        self._every_s = every_s
        self._waiting: deque[Span] = deque()
        self._overflown = 0
        self._not_taken = 0
        self._is_down = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Spans that no collector will ever see."""
        return self._overflown + self._not_taken

    def add(self, span: Span) -> None:
        """Take a span, or drop it when too many wait. Does not block."""
        if len(self._waiting) >= MOST_SPANS:
            self._overflown += 1
        else:
            self._waiting.append(span)

    def close(self) -> None:
        """Send what waits, within a short time."""
        self._closing.set()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        # Reading the certificates that one trusts takes long, and is for nothing without TLS.
        is_tls = self._url.lower().startswith("https:")
        with httpx2.Client(headers=self._headers, timeout=TIMEOUT_S, verify=is_tls) as client:
            while not self._closing.wait(self._every_s):
                self._send_waiting(client)
            self._send_waiting(client)

    def _send_waiting(self, client: httpx2.Client) -> None:
        while self._waiting:
            spans = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_TOGETHER))]
            try:
                client.post(self._url, content=request_of(spans, self._resource)).raise_for_status()
            except Exception as exc:  # whatever it is, no request shall notice
                self._not_taken += len(spans)
                self._tell_down(exc)
                if self._closing.is_set():
                    return
            else:
                self.exported += len(spans)
                self._tell_up()

    def _tell_down(self, exc: Exception) -> None:
        if not self._is_down:
            logger.warning("spans are dropped until the collector takes them: %s", _words(exc))
        self._is_down = True

    def _tell_up(self) -> None:
        if self._is_down:
            logger.info("the collector takes spans again; %d were dropped until now", self.dropped)
        self._is_down = False


def request_of(spans: Sequence[Span], resource: Resource) -> bytes:
    """Return the body of a request to the collector."""
    scope = trace_pb2.ScopeSpans(
        scope=InstrumentationScope(name="arriero", version=__version__), spans=[_span(span) for span in spans]
    )
    sent = trace_pb2.ResourceSpans(resource=resource, scope_spans=[scope])
    body: bytes = ExportTraceServiceRequest(resource_spans=[sent]).SerializeToString()
    return body


def _span(span: Span) -> trace_pb2.Span:
    first = span.first_token_ns
    events = [trace_pb2.Span.Event(time_unix_nano=first, name=FIRST_TOKEN)] if first else []
    code = trace_pb2.Status.STATUS_CODE_ERROR if span.is_failed else trace_pb2.Status.STATUS_CODE_UNSET
    return trace_pb2.Span(
        trace_id=span.trace.trace_id,
        span_id=span.trace.span_id,
        parent_span_id=span.trace.parent_id,
        name=span.name,
        kind=trace_pb2.Span.SPAN_KIND_SERVER,
        start_time_unix_nano=span.began_ns,
        end_time_unix_nano=span.ended_ns,
        attributes=_attributes(span.attributes),
        events=events,
        status=trace_pb2.Status(code=code),
    )


def _attributes(attributes: Mapping[str, Value]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in attributes.items()]


def _value(value: Value) -> AnyValue:
    match value:
        case str():
            return AnyValue(string_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case tuple():
            return AnyValue(array_value=ArrayValue(values=[_value(one) for one in value]))


def _words(exc: Exception) -> str:
    if isinstance(exc, httpx2.HTTPStatusError):
        return f"it answers {exc.response.status_code}"
    return str(exc) or type(exc).__name__
