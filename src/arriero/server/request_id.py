"""Gives every answer an `x-request-id`: the caller's own if its form is harmless, else a new one."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HARMLESS = re.compile(r"[A-Za-z0-9._:-]{1,128}")
WITH_HEADERS = {"http.response.start", "websocket.accept", "websocket.http.response.start"}


class RequestIds:
    """Sets `x-request-id` on the head of each answer, also on errors and accepted sockets."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        id = request_id(Headers(scope=scope))
        scope.setdefault("state", {})["request_id"] = id
        header = (b"x-request-id", id.encode())

        async def send_with_id(message: Message) -> None:
            if message["type"] in WITH_HEADERS:
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        await self._app(scope, receive, send_with_id)


def request_id(headers: Headers) -> str:
    """Return the caller's id if its form is harmless, else a fresh one."""
    given = headers.get("x-request-id", "")
    return given if HARMLESS.fullmatch(given) else uuid.uuid4().hex
