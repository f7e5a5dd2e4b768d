"""An HTTP server on this machine that sends one file, well or badly, as it is told.

For tests of downloads. Real sockets; each answer closes its connection.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from arriero.testing.http_server import HttpServer, Reply

if TYPE_CHECKING:
    from collections.abc import Mapping


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
        self._lock = threading.Lock()
        self._server = HttpServer(self._reply)

    def url(self, path: str = "/model.gguf") -> str:
        return self._server.url + path

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def _reply(self, request: dict[str, str], _: bytes) -> Reply:
        answer = self._take(request)
        status, body, headers = self._plain(answer, request)
        headers |= dict(answer.headers)
        if answer.with_length:
            headers["content-length"] = str(len(body))
        return Reply(status, headers, body[: answer.cut_after], answer.stall)

    def _take(self, request: dict[str, str]) -> Answer:
        """Note a request and return how to answer it."""
        with self._lock:
            self.requests.append(request)
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def _plain(self, answer: Answer, request: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        """Return status, body and headers as a good server would send them."""
        headers = {"etag": self.etag} if self.etag else {}
        if answer.body is not None or answer.status is not None:
            return answer.status or 200, answer.body or b"", headers
        asked = re.fullmatch(r"bytes=(\d+)-", request.get("range", ""))
        if not asked or not answer.ranges or request.get("if-range") != self.etag:
            return 200, self.data, headers
        start, size = int(asked[1]), len(self.data)
        if start >= size:
            return 416, b"", headers | {"content-range": f"bytes */{size}"}
        return 206, self.data[start:], headers | {"content-range": f"bytes {start}-{size - 1}/{size}"}
