"""An HTTP server on this machine that sends one file, well or badly, as it is told.

For tests of downloads. Real sockets; each answer closes its connection.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType


@dataclass(frozen=True)
class Answer:
    """How one request is answered.

    status, body: None = what was asked for, ranges included. cut_after: bytes of the body after
    which the connection is closed; with `stall` it falls silent instead, until the server closes.
    """

    status: int | None = None
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    stall: bool = False
    ranges: bool = True
    with_length: bool = True


class FileServer:
    """Serves `data` at every path. `answers` are used up in turn, the last one stays.

    requests: the headers of each request, in lower case, with the path as ":path".
    """

    def __init__(self, data: bytes, *answers: Answer, etag: str | None = '"v1"') -> None:
        self.data = data
        self.etag = etag
        self.answers = list(answers) or [Answer()]
        self.requests: list[dict[str, str]] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def url(self, path: str = "/model.gguf") -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self, request: dict[str, str]) -> Answer:
        """Note a request and return how to answer it."""
        with self._lock:
            self.requests.append(request)
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, address: tuple[str, int], owner: FileServer) -> None:
        super().__init__(address, _Handler)
        self.owner = owner

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that leave early are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        owner = self.server.owner
        request = {name.lower(): value for name, value in self.headers.items()}
        answer = owner.take(request | {":path": self.path})
        status, body, headers = self._plain(answer, request)
        self.send_response(status)
        for name, value in (headers | dict(answer.headers)).items():
            self.send_header(name, value)
        if answer.with_length:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: answer.cut_after])
        if answer.stall:
            owner.closing.wait()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - so named in the base class
        """Log nothing."""

    def _plain(self, answer: Answer, request: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        """Return status, body and headers as a good server would send them."""
        owner = self.server.owner
        headers = {"etag": owner.etag} if owner.etag else {}
        if answer.body is not None or answer.status is not None:
            return answer.status or 200, answer.body or b"", headers
        asked = re.fullmatch(r"bytes=(\d+)-", request.get("range", ""))
        if not asked or not answer.ranges or request.get("if-range") != owner.etag:
            return 200, owner.data, headers
        start, size = int(asked[1]), len(owner.data)
        if start >= size:
            return 416, b"", headers | {"content-range": f"bytes */{size}"}
        return 206, owner.data[start:], headers | {"content-range": f"bytes {start}-{size - 1}/{size}"}
