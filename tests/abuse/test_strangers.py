"""Who has no key learns nothing: not which paths there are, which methods, nor which names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

from arriero.server.app import ROUTES

if TYPE_CHECKING:
    from tests.abuse.figures import Figures
    from tests.abuse.subject import Subject

OPEN = {"/status", "/livez", "/health", "/readyz"}
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"]
NAMES = ["t", "m", "nothing"]
UNKNOWN = [
    "/",
    "/admin",
    "/docs",
    "/v1",
    "/v1/",
    "/v2/task",
    "/.env",
    "/v1/nothing",
    "/v1/task/t/nothing",
    "/x" * 400,
]
BEARERS = ["", "authorization: Bearer wrong", "x-api-key: wrong", "authorization: Basic c2VzYW1lOg=="]
OWN = re.compile(rb"(?:date|x-request-id): [^\r]*\r\n")


def paths(routes: list[BaseRoute], above: str = "") -> Iterator[str]:
    """Yield every path of the application, with names in the place of parameters."""
    for route in routes:
        if isinstance(route, Mount):
            yield from paths(list(route.routes), above + route.path)
        else:
            assert isinstance(route, Route | WebSocketRoute)
            for name in NAMES:
                yield above + re.sub(r"\{[^}]*\}", name, route.path)


def spellings(path: str) -> Iterator[str]:
    """Yield a path as it is, and as somebody would write it who wants past a guard."""
    yield path
    yield path + "/"
    yield "/" + path
    yield path.upper()
    yield path.replace("/v1", "/%76%31")
    yield path.replace("/v1", "/./v1")
    yield path.replace("/v1", "/status/../v1")
    yield path + "?ticket=x"
    yield path + "?api_key="
    yield path + ";x=1"
    yield path + "%00"
    yield path + "%0d%0aset-cookie:%20a"


CLOSED = sorted({*paths(ROUTES)} - OPEN)


def answered(subject: Subject, target: str, method: str, *headers: str) -> bytes:
    """Return what a stranger gets."""
    lines = [f"{method} {target} HTTP/1.1", "host: abuse", "connection: close", *(h for h in headers if h)]
    with subject.connect() as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        data = b""
        while piece := connection.recv(65536):
            data += piece
    return OWN.sub(b"", data)


def upgrade(connection: str = "Upgrade") -> list[str]:
    return [
        f"connection: {connection}",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    ]


def test_all_closed_paths_answer_alike(subject: Subject, figures: Figures) -> None:
    """In each dialect every path, known or not, gets the same 401, byte for byte."""
    said: dict[tuple[str, bytes], str] = {}
    number = 0
    for path in [*CLOSED, *UNKNOWN]:
        for spelling in (path, path + "/", path + "x"):
            answer = answered(subject, spelling, "GET", "accept: application/json")
            assert answer.startswith(b"HTTP/1.1 401 "), (spelling, answer)
            said.setdefault((dialect(answer), answer), spelling)
            number += 1

    figures.tell("strangers: paths", asked=number, different_answers=len(said))
    assert len(said) == len({kind for kind, _ in said}), said


def dialect(answer: bytes) -> str:
    match = re.search(rb"content-type: ([^\r]*)", answer)
    return match.group(1).decode() if match else ""


ASKED = ["/v1/task/t/completion", "/v1/admin/keys", "/v1/chat/completions", "/version", "/nothing"]
REFUSED_FOR_ALL = {"BREW", "%00", "%0d"}
"""No method, and control bytes: 400 before anybody looks at the path."""


@pytest.mark.parametrize("bearer", BEARERS)
def test_methods_and_spellings_tell_nothing(subject: Subject, bearer: str) -> None:
    """Whatever the method and the spelling, the status is the same for all paths."""
    for path in ASKED:
        for method in METHODS:
            expected = b"400" if method in REFUSED_FOR_ALL else b"401"
            assert answered(subject, path, method, bearer)[9:12] == expected, (method, path)
        for spelling in spellings(path):
            expected = b"400" if any(mark in spelling for mark in REFUSED_FOR_ALL) else b"401"
            assert answered(subject, spelling, "GET", bearer)[9:12] == expected, spelling


@pytest.mark.parametrize(
    "path", ["/v1/task/t/chat", "/v1/task/nothing/chat", "/v1/task/t/live", "/nothing", "/v1/models"]
)
def test_sockets_tell_nothing(subject: Subject, path: str) -> None:
    """The handshake of a WebSocket is denied with 401 as well, on paths that have none too."""
    lines = [f"GET {path} HTTP/1.1", "host: abuse", *upgrade()]
    with subject.connect() as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("path", sorted(OPEN))
def test_open_paths_tell_only_that(subject: Subject, path: str) -> None:
    """What is open says whether all is well, and nothing of names or versions."""
    answer = answered(subject, path, "GET")

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b'{"status":"ok"}')
    assert b"server:" not in answer
