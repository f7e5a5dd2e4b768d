"""The table [telemetry]: what the server tells about itself, and whom it sends traces to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote

from msgspec import Meta

from arriero.config.problem import Problem
from arriero.config.table import Table, Text

Ratio = Annotated[float, Meta(ge=0, le=1)]


class TelemetryConfig(Table, frozen=True):
    """[telemetry]: what the server tells about itself."""

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Least severe log lines to write.")
    ] = "info"
    log_format: Annotated[
        Literal["logfmt", "json"], Meta(description="How each line of the log is written.")
    ] = "logfmt"
    log_prompts: Annotated[
        bool, Meta(description="Write what callers ask into the line of each request.")
    ] = False
    metrics: Annotated[
        Literal["admin", "public", "off"],
        Meta(description="Who may read /metrics: keys that may administrate, anybody, nobody."),
    ] = "admin"
    otlp_endpoint: Annotated[
        Text | None,
        Meta(description="Address of an OpenTelemetry collector (OTLP over HTTP), without /v1/traces."),
    ] = None
    otlp_service_name: Annotated[Text, Meta(description="`service.name` of the spans.")] = "arriero"
    otlp_sample_ratio: Annotated[
        Ratio, Meta(description="Share of the requests without a trace of their caller that get a span.")
    ] = 1.0
    otlp_headers: Annotated[
        Text | None,
        Meta(description="Headers for the collector, name=value,…; better one of the two below."),
    ] = None
    otlp_headers_env: Annotated[
        Text | None, Meta(description="Environment variable that holds the headers for the collector.")
    ] = None
    otlp_headers_file: Annotated[
        Path | None, Meta(description="File that holds the headers for the collector.")
    ] = None


ENDPOINT = re.compile(r"https?://[^\s/?#@]+(?:/[^\s?#]*)?", re.IGNORECASE)


def telemetry_faults(telemetry: TelemetryConfig) -> Iterator[Problem]:
    """Yield what is wrong with where traces are sent."""
    endpoint, headers = telemetry.otlp_endpoint, telemetry.otlp_headers
    if endpoint is not None and not has_extra():
        message = "spans are written by the package opentelemetry-proto; install arriero[otel]"
        yield Problem(("telemetry", "otlp_endpoint"), message)
    if endpoint is not None and not ENDPOINT.fullmatch(endpoint):
        yield Problem(("telemetry", "otlp_endpoint"), 'expected an address such as "http://127.0.0.1:4318"')
    try:
        header_pairs(headers or "")
    except ValueError as exc:
        yield Problem(("telemetry", "otlp_headers"), str(exc))


def has_extra() -> bool:
    """Say whether the package is there that spans take."""
    try:
        return find_spec("opentelemetry.proto") is not None
    except ModuleNotFoundError:
        return False


def header_pairs(text: str) -> list[tuple[str, str]]:
    """Return the headers of a list in the form of OTEL_EXPORTER_OTLP_HEADERS. Raises ValueError."""
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    headers = [(name.strip().lower(), unquote(value.strip())) for name, _, value in pairs]
    for name, value in headers:
        if not (name.isascii() and name.replace("-", "").replace("_", "").isalnum()):
            raise ValueError("expected name=value, with a comma between two")
        if not (value and value.isascii() and value.isprintable()):
            raise ValueError(f"the value of the header {name} cannot be sent")
    return headers
