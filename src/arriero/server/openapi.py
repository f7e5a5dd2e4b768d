"""The OpenAPI document: what the routes of an application take and answer, for programs and their authors.

Made of the routes themselves, of the table `operations.py` and of the types that requests are decoded into,
so that it says what is so. Pure but for the route that answers it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

from arriero.errors import (
    ArrieroError,
    Forbidden,
    PayloadTooLarge,
    RateLimited,
    RequestError,
    Unauthorized,
    Unavailable,
    UnknownName,
)
from arriero.server.errors import (
    TABLE,
    Dialect,
    ErrorObject,
    Problem,
    UnsupportedMediaType,
    dialect_of,
)
from arriero.server.operations import EVENTS, JSON, OPERATIONS, Operation
from arriero.server.rates import is_free
from arriero.version import __version__

if TYPE_CHECKING:
    from starlette.requests import Request

SCHEMAS = "#/components/schemas/"
PLAIN = "text/plain"
PROBLEM = "application/problem+json"
CONVERTER = re.compile(r":\w+(?=\})")
PARAMETER = re.compile(r"\{(\w+)\}")
ABOUT = """\
Every route with GET answers HEAD too. A key stands in `Authorization: Bearer`, in `x-api-key`, or in
`?api_key=`; a ticket of `POST /v1/tickets` in `?ticket=` opens one request. A public server asks for none.

A request that is not HTTP as it should be, or comes too slowly, is answered before it reaches a route: with
400, 408, 413, 414, 417, 421, 431 or 503, and the error object of OpenAI's routes. A path that does not exist
is answered 404 and a method that a path does not have 405, once it is known who asks.
"""
SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key, or a JSON Web Token."},
    "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "key_in_query": {"type": "apiKey", "in": "query", "name": "api_key"},
    "ticket": {"type": "apiKey", "in": "query", "name": "ticket"},
}
SECURED: list[dict[str, list[str]]] = [{name: []} for name in SECURITY_SCHEMES]
PERHAPS_SECURED = frozenset({"/metrics"})
"""Paths that ask for a key when the configuration says so."""
STREAM = (
    "Server-sent events. OpenAI's routes send one JSON chunk each and `[DONE]` at the end; `live` sends a"
    " piece of text each. An error after the first piece is an event of its own."
)
SOCKET = {
    "subprotocols": ["arriero.v1", "arriero.text"],
    "arriero.v1": 'JSON text frames. The client sends {"prompt": "..."} or {"stop": true} and gets frames of'
    " type delta, hidden, citations, usage, stop and error.",
    "arriero.text": "Also without a subprotocol. A text frame is a prompt, each piece of the answer a text"
    " frame, an empty one ends the turn.",
}
DESCRIPTIONS = {
    "task": "The name of a task.",
    "model": "The name of a model.",
    "memory": "The name of a memory.",
    "store": "The id of a vector store, or the name of a memory.",
}


class Found(NamedTuple):
    """An operation of the application. endpoint: what serves it."""

    method: str
    path: str
    endpoint: Callable[..., Any]
    is_guarded: bool

    @property
    def key(self) -> str:
        """Its name in the table."""
        return f"{self.method} {self.path}"


def answering(routes: Callable[[], Iterable[BaseRoute]]) -> Callable[[Request], Awaitable[Response]]:
    """Return the route that answers the document of an application's routes; it is written once."""

    @cache
    def written() -> bytes:
        return msgspec.json.encode(document(routes()))

    async def openapi(request: Request) -> Response:
        """Answer this document."""
        return Response(written(), media_type=JSON)

    return openapi


def document(routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """Return the OpenAPI document of an application's routes."""
    found = list(operations(routes))
    schemas, components = _schemas([OPERATIONS[one.key] for one in found])
    writer = _Writer(schemas)
    paths: dict[str, dict[str, Any]] = {}
    for one in found:
        paths.setdefault(one.path, {})[one.method.lower()] = writer.operation(one, OPERATIONS[one.key])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Arriero",
            "version": __version__,
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": dict(sorted(writer.responses.items())),
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def operations(routes: Iterable[BaseRoute], *, is_guarded: bool = False) -> Iterator[Found]:
    """Yield the operations of routes; what lies behind a Mount is guarded. HEAD goes without saying."""
    for route in routes:
        match route:
            case Mount():
                yield from operations(route.routes, is_guarded=True)
            case Route():
                for method in sorted((route.methods or set()) - {"HEAD"}):
                    yield Found(method, CONVERTER.sub("", route.path), route.endpoint, is_guarded)
            case WebSocketRoute():
                yield Found("GET", CONVERTER.sub("", route.path), route.endpoint, is_guarded)


def _schemas(used: Iterable[Operation]) -> tuple[dict[Any, dict[str, Any]], dict[str, Any]]:
    """Return the schema of each type that operations name, and the components that these refer to."""
    types: dict[Any, None] = {ErrorObject: None, Problem: None}
    for one in used:
        types |= dict.fromkeys(
            kind for kind in (one.body, one.answer, *one.also.values()) if kind is not None
        )
    written, components = msgspec.json.schema_components(types, ref_template=SCHEMAS + "{name}")
    return dict(zip(types, written, strict=True)), components


class _Writer:
    """Writes operations. Owns the responses that they share."""

    def __init__(self, schemas: dict[Any, dict[str, Any]]) -> None:
        self._schemas = schemas
        self.responses: dict[str, dict[str, Any]] = {}

    def operation(self, found: Found, said: Operation) -> dict[str, Any]:
        """Return one operation object."""
        written: dict[str, Any] = {
            "operationId": re.sub(r"\W+", "_", f"{found.method.lower()}{found.path}").strip("_"),
            "summary": said.summary or (found.endpoint.__doc__ or "").partition("\n")[0],
            "tags": [found.path.removeprefix("/v1").split("/")[1]],
            "parameters": [*_path_parameters(found.path), *_query_parameters(said)],
            "responses": self._answers(said) | self._errors(found, said),
            "security": _security(found),
        }
        if said.body is not None or said.uploads:
            written["requestBody"] = self._body(said)
        if said.status == HTTPStatus.SWITCHING_PROTOCOLS:
            written["x-websocket"] = SOCKET
        return written

    def _body(self, said: Operation) -> dict[str, Any]:
        content: dict[str, Any] = {media: {"schema": schema} for media, schema in said.uploads.items()}
        if said.body is not None:
            content[JSON] = {"schema": self._schemas[said.body]}
            if said.example is not None:
                content[JSON]["example"] = said.example
        return {"required": said.is_body_needed, "content": content}

    def _answers(self, said: Operation) -> dict[str, Any]:
        content = {} if said.answer is None else {JSON: {"schema": self._schemas[said.answer]}}
        for media in said.others:
            content[media] = {"schema": {"description": STREAM} if media == EVENTS else {"type": "string"}}
        answers = {str(said.status): _response(said.status, content)}
        for status, kind in said.also.items():
            told = {} if kind is None else {JSON: {"schema": self._schemas[kind]}}
            answers[str(status)] = _response(status, told)
        return answers

    def _errors(self, found: Found, said: Operation) -> dict[str, Any]:
        dialect = dialect_of(found.path)
        statuses = sorted({_status(kind) for kind in _failures(found, said)} - {*said.also})
        return {str(status): self._error(dialect, status) for status in statuses}

    def _error(self, dialect: Dialect, status: int) -> dict[str, Any]:
        name = f"{dialect.value}_{status}"
        if name not in self.responses:
            self.responses[name] = _response(status, self._error_content(dialect, status))
        return {"$ref": f"#/components/responses/{name}"}

    def _error_content(self, dialect: Dialect, status: int) -> dict[str, Any]:
        error = {"type": "object", "properties": {"error": self._schemas[ErrorObject]}, "required": ["error"]}
        whole = {JSON: {"schema": error}}
        problem = {PROBLEM: {"schema": self._schemas[Problem]}}
        match dialect:
            case Dialect.OPENAI:
                return whole
            case Dialect.OWN:
                forms: dict[str, Any] = problem
            case Dialect.POLY:
                forms = {PLAIN: {"schema": {"type": "string"}}, **problem}
        return {**forms, **whole} if status in EDGE else forms


EDGE = frozenset({400, 413, 503})
"""Statuses with which a request may also be refused before it reaches a route, always in OpenAI's form."""


def _failures(found: Found, said: Operation) -> Iterator[type[ArrieroError]]:
    yield from said.fails
    yield from (RequestError, Unavailable)
    if found.is_guarded or found.path in PERHAPS_SECURED:
        yield from (Unauthorized, Forbidden)
    if found.path in PERHAPS_SECURED or "{" in found.path:
        yield UnknownName
    if found.is_guarded and not is_free(found.path):
        yield RateLimited
    if said.body is not None or said.uploads:
        yield PayloadTooLarge
    if said.body is not None and said.is_body_needed:
        yield UnsupportedMediaType


def _status(kind: type[ArrieroError]) -> int:
    return next(TABLE[one].status for one in kind.__mro__ if one in TABLE)


def _response(status: int, content: dict[str, Any]) -> dict[str, Any]:
    response: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if content:
        response["content"] = content
    if status in (429, 503):
        response["headers"] = {"retry-after": {"schema": {"type": "string"}, "description": "Seconds."}}
    return response


def _path_parameters(path: str) -> Iterator[dict[str, Any]]:
    for name in PARAMETER.findall(path):
        written = {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        yield {**written, "description": DESCRIPTIONS[name]} if name in DESCRIPTIONS else written


def _query_parameters(said: Operation) -> Iterator[dict[str, Any]]:
    if said.query is None:
        return
    _, components = msgspec.json.schema_components([said.query], ref_template=SCHEMAS + "{name}")
    struct = components[said.query.__name__]
    for name, schema in struct["properties"].items():
        yield {"name": name, "in": "query", "required": name in struct["required"], "schema": schema}


def _security(found: Found) -> list[dict[str, list[str]]]:
    if found.path in PERHAPS_SECURED:
        return [{}, *SECURED]
    return SECURED if found.is_guarded else []
