"""OpenAI's routes for remote models: which guard serves a request, and its answer as HTTP.

A path that also serves models here is decided by the `model` of the body. What a request may hold and an
answer may tell is the guard's.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from arriero.errors import InvalidRequest, UnknownName
from arriero.guard.headers import Media
from arriero.guard.routes import Route, route_of
from arriero.guard.stream import error_event, error_line
from arriero.guard.told import Stream
from arriero.server.body import beside, read_body
from arriero.server.context import context_of, principal_of
from arriero.server.errors import UnknownPath
from arriero.server.model_name import model_name
from arriero.server.record import GuardedMeter, note_model
from arriero.server.streaming import KEEP_ALIVE, ClientGone, EventStream, unless_disconnected

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from arriero.errors import ArrieroError
    from arriero.guard.forward import Guard

    Handler = Callable[[Request], Awaitable[Response | ASGIApp]]

KEEP_ALIVE_S = 10.0
MAX_NAME = 256


def or_remote(route: Route, local: Handler) -> Handler:
    """Return a handler that guards requests for remote models and leaves all others to `local`."""

    async def create(request: Request) -> Response | ASGIApp:
        context = context_of(request)
        if not context.runtime.guards:
            return await local(request)
        body = await read_body(request)
        name = await beside(len(body), partial(model_name, body))
        guard = context.guard(principal_of(request), name)
        if guard is None:
            return await local(_unread(request, body))
        return await _forwarded(request, guard, route, body)

    return create


def only_remote(route: Route) -> Handler:
    """Return the handler of a route that models here do not have."""

    async def create(request: Request) -> Response | ASGIApp:
        context = context_of(request)
        if not context.runtime.guards:
            raise UnknownPath(f"no such path: {request.url.path}")
        body = await read_body(request)
        name = await beside(len(body), partial(model_name, body))
        guard = context.guard(principal_of(request), name)
        if guard is not None:
            return await _forwarded(request, guard, route, body)
        if name is None:
            raise InvalidRequest("the request must name a model", param="model")
        context.check_model(principal_of(request), name)
        raise UnknownName("model", name[:MAX_NAME], param="model")

    return create


def _unread(request: Request, body: bytes) -> Request:
    """Return the request with its body still to be read."""
    is_read = False

    async def receive() -> Message:
        nonlocal is_read
        if is_read:
            return await request.receive()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(request.scope, receive)


async def _forwarded(request: Request, guard: Guard, route: Route, body: bytes) -> Response | ASGIApp:
    if route_of(request.scope["raw_path"]) is not route:  # another spelling of the path
        raise UnknownPath(f"no such path: {request.url.path}")
    record = note_model(request, guard.policy.public_name, body)
    record.guarded = meter = GuardedMeter(len(body))
    work = guard.forward(route, body, request.scope["headers"])
    try:
        answer = await unless_disconnected(request.receive, work)
    except ClientGone:
        return Response(status_code=204)  # nobody reads it
    if isinstance(answer, Stream):
        return Relay(answer, meter)
    meter.add(answer.body)
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in answer.headers}
    return Response(answer.body, headers=headers)


class Relay:
    """An ASGI response that sends a guard's stream and lets go of the upstream whatever happens."""

    def __init__(self, stream: Stream, meter: GuardedMeter) -> None:
        self._stream = stream
        self._meter = meter
        self._is_lines = (b"content-type", Media.LINES.value) in stream.headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Lines have no comments: silence stays silence.
        response = EventStream(
            self._pieces(),
            failed=self._failed,
            keep_alive_s=KEEP_ALIVE_S,
            keep_alive=b"" if self._is_lines else KEEP_ALIVE,
            head=self._stream.headers,
        )
        try:
            await response(scope, receive, send)
        finally:
            self._stream.close()

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        while piece := await self._stream.piece():
            self._meter.add(piece)
            yield piece

    def _failed(self, failure: ArrieroError) -> bytes:
        return error_line(failure) if self._is_lines else error_event(self._stream.route, failure)
