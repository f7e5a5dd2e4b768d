"""The one table from error classes to HTTP statuses, and how each dialect writes an error.

Poly's routes answer plain text (problem JSON when the client accepts JSON), OpenAI's routes the
OpenAI error object, all others RFC 9457 problem details. Statuses stand nowhere else.
"""

from __future__ import annotations

import asyncio
import logging
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Mount, Route
from starlette.websockets import WebSocket

from arriero import errors
from arriero.guard.failure import UpstreamFailed, UpstreamTimeout
from arriero.server.record import note_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)


class Unprocessable(errors.InvalidRequest):
    """Poly's word for a JSON body that parses but lacks a member, or has one of the wrong type."""


class UnsupportedMediaType(errors.InvalidRequest):
    """The body's type or encoding is not the one that this route reads."""

    code = "unsupported_media_type"


class UpgradeRequired(errors.InvalidRequest):
    """A WebSocket route was asked without an upgrade."""

    code = "upgrade_required"


class UnknownPath(errors.RequestError):
    """No route has this path."""

    code = "not_found"


class MethodNotAllowed(errors.RequestError):
    """The path is known, the method is not."""

    code = "method_not_allowed"


class Internal(errors.ServiceError):
    """Whatever nobody foresaw; the cause is in the log only."""


class Wire(NamedTuple):
    """How an error class looks outside. `code` overrides the class's own on OpenAI's routes."""

    status: int
    type: str
    code: str | None = None


# Looked up along the class's ancestors, so that the nearest class decides.
TABLE: dict[type[errors.ArrieroError], Wire] = {
    errors.RequestError: Wire(400, "invalid_request_error"),
    errors.Unauthorized: Wire(401, "authentication_error", "invalid_api_key"),
    errors.Forbidden: Wire(403, "permission_error"),
    errors.RateLimited: Wire(429, "rate_limit_error"),
    errors.UnknownName: Wire(404, "not_found_error", "model_not_found"),
    UnknownPath: Wire(404, "not_found_error"),
    MethodNotAllowed: Wire(405, "invalid_request_error"),
    errors.PayloadTooLarge: Wire(413, "invalid_request_error"),
    UnsupportedMediaType: Wire(415, "invalid_request_error"),
    Unprocessable: Wire(422, "invalid_request_error"),
    errors.UnreadableDocument: Wire(422, "invalid_request_error"),
    errors.ArrieroError: Wire(500, "server_error"),
    errors.NotSupported: Wire(501, "server_error"),
    UpstreamFailed: Wire(502, "server_error"),
    errors.Overloaded: Wire(503, "unavailable_error"),
    errors.QueueFull: Wire(429, "rate_limit_error"),
    errors.Unavailable: Wire(503, "unavailable_error"),
    UpstreamTimeout: Wire(504, "server_error"),
    errors.DiskFull: Wire(507, "server_error"),
}

CHAT_PATH = "/v1/chat/"
OPENAI_PATHS = (
    CHAT_PATH,
    "/v1/completions",
    "/v1/embeddings",
    "/v1/files",
    "/v1/models",
    "/v1/rerank",
    "/v1/responses",
    "/v1/vector_stores",
    "/tokenize",
)
POLY_PATHS = ("/status", "/v1/model", "/v1/task", "/v1/memory", "/v1/stats")


class Dialect(str, Enum):
    """How a route's errors are written."""

    POLY = "poly"
    OPENAI = "openai"
    OWN = "own"


class ErrorObject(msgspec.Struct):
    """OpenAI's error object; all four members are always there."""

    message: str
    type: str
    param: str | None
    code: str


class Problem(msgspec.Struct, omit_defaults=True):
    """RFC 9457 problem details, with the stable `code` and the offending `param`."""

    title: str
    status: int
    detail: str
    code: str
    param: str | None = None


def dialect_of(path: str) -> Dialect:
    """Return the dialect of a path, known or not."""
    if _under(path, POLY_PATHS):
        return Dialect.POLY
    if _under(path, OPENAI_PATHS):
        return Dialect.OPENAI
    return Dialect.OWN


def _under(path: str, roots: tuple[str, ...]) -> bool:
    return any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots)


def wire_of(error: errors.ArrieroError) -> Wire:
    """Return the nearest row of the table."""
    return next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)


def error_object(error: errors.ArrieroError, param: str | None = None) -> bytes:
    """Return the OpenAI form, `{"error": {...}}`; `param` overrides the error's own."""
    wire = wire_of(error)
    # OpenAI's clients know a code of their own for models; other names are just not found.
    is_other = isinstance(error, errors.UnknownName) and error.kind not in ("model", "task")
    code = error.code if is_other else wire.code or error.code
    said = ErrorObject(error.message, wire.type, param or param_of(error), code)
    return msgspec.json.encode({"error": said})


def problem(error: errors.ArrieroError) -> bytes:
    """Return the RFC 9457 form."""
    status = wire_of(error).status
    title = HTTPStatus(status).phrase
    return msgspec.json.encode(Problem(title, status, error.message, error.code, param_of(error)))


def param_of(error: errors.ArrieroError) -> str | None:
    """Return the offending member of the request, where the error knows it."""
    return error.param if isinstance(error, errors.RequestError) else None


def _param(connection: HTTPConnection, error: errors.ArrieroError) -> str | None:
    # Engines and tasks speak of the prompt; a chat's body has messages in its place.
    param = param_of(error)
    return "messages" if param == "prompt" and connection.url.path.startswith(CHAT_PATH) else param


def error_response(connection: HTTPConnection, error: errors.ArrieroError) -> Response:
    """Answer with an error, in the dialect of the path."""
    note_error(connection.scope, error)
    body, media_type = _written(connection, error)
    return Response(body, wire_of(error).status, headers_of(error), media_type)


def _written(connection: HTTPConnection, error: errors.ArrieroError) -> tuple[bytes, str]:
    match dialect_of(connection.url.path):
        case Dialect.OPENAI:
            return error_object(error, _param(connection, error)), "application/json"
        case Dialect.POLY if not accepts_json(connection):
            return error.message.encode(), "text/plain"
        case _:
            return problem(error), "application/problem+json"


def accepts_json(connection: HTTPConnection) -> bool:
    """Say whether the client asked for JSON by name, which Poly's clients do not."""
    return "json" in connection.headers.get("accept", "")


def headers_of(error: errors.ArrieroError) -> dict[str, str]:
    """Return the headers that an error bears beside its body."""
    match error:
        case errors.RateLimited():
            return {"retry-after": str(error.retry_after_s), **error.quota}
        case errors.Overloaded():
            return {"retry-after": str(error.retry_after_s)}
        case errors.NotSupported() | errors.DiskFull() | errors.Damaged():
            return {"x-should-retry": "false"}  # OpenAI's clients repeat every 5xx but this
        case errors.Unavailable():
            return {"retry-after": str(error.retry_after_s)}
        case errors.Unauthorized():
            return {"www-authenticate": "Bearer"}
        case _:
            return {}


async def answer_error(connection: HTTPConnection, exc: Exception) -> Response:
    """Answer what this table knows; Starlette's exception handler. A socket's handshake is denied."""
    if isinstance(exc, errors.ArrieroError):
        response = error_response(connection, exc)
    else:
        assert isinstance(exc, HTTPException)
        response = error_response(connection, _own_error(connection, exc))
        response.headers.update(exc.headers or {})
        if exc.status_code == 405:
            response.headers["allow"] = ", ".join(sorted(_methods(connection.app.routes, connection.scope)))
    if isinstance(connection, WebSocket):
        await connection.send_denial_response(response)
    return response


def _methods(routes: Iterable[BaseRoute], scope: Scope) -> Iterator[str]:
    """Yield the methods of a path; several routes may share it."""
    for route in routes:
        if route.matches(scope)[0] is Match.NONE:
            continue
        if isinstance(route, Mount):
            yield from _methods(route.routes, scope)
        elif isinstance(route, Route):
            yield from route.methods or ()


def _own_error(connection: HTTPConnection, exc: HTTPException) -> errors.ArrieroError:
    if exc.status_code == 404:
        return UnknownPath(f"no such path: {connection.url.path}")
    if exc.status_code == 405:
        return MethodNotAllowed(f"method not allowed: {connection.scope['method']}")
    return errors.InvalidRequest(exc.detail)


class Unexpected:
    """Middleware: answers what no handler foresaw, and requests that a shutdown cuts off."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except ClientDisconnect:  # in the middle of its body: nobody is left to answer
            return
        except asyncio.CancelledError:
            failure: errors.ArrieroError = errors.Unavailable("the server is shutting down")
        except Exception:
            logger.exception("unexpected error on %s", scope["path"])
            failure = Internal("internal error")
        else:
            return
        if not started:
            await error_response(HTTPConnection(scope), failure)(scope, receive, send)
