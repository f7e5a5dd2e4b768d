"""A span for each request: begun before anybody answers it, so that an upstream is told of it; ended as the
log's line is written, from the same record. No prompt, path or header of a caller is in a span.
"""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

from arriero.config.telemetry import header_pairs
from arriero.errors import ConfigError
from arriero.server.trace import TRACEPARENT, Span, parent_of, trace_of

if TYPE_CHECKING:
    from arriero.config.telemetry import TelemetryConfig
    from arriero.core import Usage
    from arriero.server.edge.exchange import Exchange
    from arriero.server.otlp import SpanExporter
    from arriero.server.record import Record
    from arriero.server.trace import Value

PROBES = frozenset({"/status", "/livez", "/health", "/readyz", "/metrics"})
"""Routes without spans: they would be most of all."""
OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/task/{task}/chat": "chat",
    "/v1/completions": "text_completion",
    "/v1/task/{task}/completion": "text_completion",
    "/v1/task/{task}/live": "text_completion",
    "/v1/embeddings": "embeddings",
    "/v1/model/{model}/embedding": "embeddings",
}
LEAST_FAILURE = 500
LEAST_ERROR = 400


class Tracer:
    """Begins and ends spans."""

    def __init__(self, exporter: SpanExporter, sample_ratio: float) -> None:
        self.exporter = exporter
        self._sample_ratio = sample_ratio
        self._random = random.Random(os.urandom(32))  # names, no secrets

    def begin(self, exchange: Exchange) -> None:
        """Give a request its place in a trace; what is forwarded of it is the span's child."""
        parent = parent_of(exchange.headers)
        exchange.trace = trace = trace_of(parent, is_chosen=self._is_chosen, bits=self._random.getrandbits)
        if trace is not None:
            headers = [header for header in exchange.headers if header[0] != TRACEPARENT]
            exchange.headers = [*headers, (TRACEPARENT, trace.header)]

    def end(
        self,
        exchange: Exchange,
        route: str,
        record: Record,
        *,
        method: str,
        status: int,
        used: Usage,
        request_id: str,
        ended_at: float,
    ) -> None:
        """Hand a span to the exporter. ended_at: on the monotonic clock."""
        if exchange.trace is None or route in PROBES:
            return
        offset_s = time.time() - ended_at
        first = record.first_token_at or (exchange.first_byte_at if record.has_streamed_upstream else 0.0)
        attributes: dict[str, Value] = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
            "arriero.request_id": request_id,
        }
        if record.error:
            attributes["error.type"] = record.error
        if record.model:
            attributes |= _generated(route, record, used)
        if first:
            attributes["gen_ai.latency.time_to_first_token"] = first - exchange.began_at
        self.exporter.add(
            Span(
                exchange.trace,
                f"{method} {route}",
                _ns(exchange.began_at + offset_s),
                _ns(ended_at + offset_s),
                _ns(first + offset_s) if first else 0,
                status >= LEAST_FAILURE or bool(record.error and status < LEAST_ERROR),
                attributes,
            )
        )

    def close(self) -> None:
        """Send what waits, within a short time."""
        self.exporter.close()

    def _is_chosen(self) -> bool:
        return self._random.random() < self._sample_ratio


def tracer_of(telemetry: TelemetryConfig) -> Tracer | None:
    """Return what makes spans, if anybody wants them. Raises ConfigError without the extra that it takes."""
    if telemetry.otlp_endpoint is None:
        return None
    try:
        from arriero.server.otlp import SpanExporter
    except ImportError as exc:
        raise ConfigError(
            "telemetry.otlp_endpoint: spans are written by the package opentelemetry-proto;"
            " install arriero[otel]"
        ) from exc
    headers = header_pairs(telemetry.otlp_headers or "")
    exporter = SpanExporter(telemetry.otlp_endpoint, headers, telemetry.otlp_service_name)
    return Tracer(exporter, telemetry.otlp_sample_ratio)


def _generated(route: str, record: Record, used: Usage) -> dict[str, Value]:
    """Return what is told of an answer of a model."""
    told: dict[str, Value] = {"gen_ai.provider.name": "arriero", "gen_ai.request.model": record.model}
    if route in OPERATIONS:
        told["gen_ai.operation.name"] = OPERATIONS[route]
    if record.task:
        told["arriero.task"] = record.task
    if used.prompt_tokens or used.completion_tokens:
        told["gen_ai.usage.input_tokens"] = used.prompt_tokens
        told["gen_ai.usage.output_tokens"] = used.completion_tokens
    if reasons := record.finish_reasons:
        told["gen_ai.response.finish_reasons"] = reasons
    return told


def _ns(time_s: float) -> int:
    return int(time_s * 1e9)
