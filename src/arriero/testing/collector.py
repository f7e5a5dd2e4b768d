"""An OpenTelemetry collector for tests: takes spans over OTLP/HTTP on a real socket, or refuses them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from arriero.testing.http_server import HttpServer, Reply

if TYPE_CHECKING:
    from collections.abc import Mapping


class Collector:
    """Takes what is sent to it.

    status: of the answers; what comes with another one than 200 is thrown away.
    requests: the headers of each request, in lower case, with the path as ":path".
    spans: every span, as protobuf has it; resources: of each request.
    """

    def __init__(self, *, status: int = 200) -> None:
        self.status = status
        self.requests: list[Mapping[str, str]] = []
        self.spans: list[Any] = []
        self.resources: list[dict[str, Any]] = []
        self._server = HttpServer(self._take)

    @property
    def url(self) -> str:
        """What `otlp_endpoint` is to be."""
        return self._server.url

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def _take(self, headers: dict[str, str], body: bytes) -> Reply:
        """Note a request."""
        self.requests.append(headers)
        if self.status == 200:
            request = ExportTraceServiceRequest.FromString(body)
            for resource_spans in request.resource_spans:
                self.resources.append(attributes_of(resource_spans.resource))
                for scope_spans in resource_spans.scope_spans:
                    self.spans.extend(scope_spans.spans)
        return Reply(self.status, {"content-length": "0"})


def attributes_of(bearer: Any) -> dict[str, Any]:
    """Return the attributes of a span or a resource as plain values."""
    return {pair.key: _plain(pair.value) for pair in bearer.attributes}


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(one) for one in value.array_value.values]
    return getattr(value, kind)
