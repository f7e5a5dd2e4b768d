"""An OpenTelemetry collector for tests: takes spans over OTLP/HTTP on a real socket, or refuses them."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType


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
        self._server = _Server(("127.0.0.1", 0), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        """What `otlp_endpoint` is to be."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self, headers: Mapping[str, str], body: bytes) -> int:
        """Note a request; return the status of its answer."""
        self.requests.append(headers)
        if self.status == 200:
            request = ExportTraceServiceRequest.FromString(body)
            for resource_spans in request.resource_spans:
                self.resources.append(attributes_of(resource_spans.resource))
                for scope_spans in resource_spans.scope_spans:
                    self.spans.extend(scope_spans.spans)
        return self.status


def attributes_of(bearer: Any) -> dict[str, Any]:
    """Return the attributes of a span or a resource as plain values."""
    return {pair.key: _plain(pair.value) for pair in bearer.attributes}


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(one) for one in value.array_value.values]
    return getattr(value, kind)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], collector: Collector) -> None:
        super().__init__(address, _Handler)
        self.collector = collector


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers["content-length"]))
        status = self.server.collector.take({**headers, ":path": self.path}, body)
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""
